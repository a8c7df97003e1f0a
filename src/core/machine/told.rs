//! What the ledger was told and has not answered yet. Nobody is shown or answered anything that a
//! crash could still take back: a number that was given would be given again, an end that was seen
//! would be no end. (A ledger that hangs is answered for by the driver, in bounded time.)

use std::collections::BTreeSet;

use super::{Effect, Machine, PersistId, Record, Reply, Token};
use crate::Error;

/// Records on their way, and answers that wait for them.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Not answered yet, well or ill.
    pub(super) unanswered: BTreeSet<PersistId>,
    /// Answers for clients, in order.
    replies: Vec<(Token, Result<Reply, Error>)>,
}

impl Machine {
    pub(super) fn persist(&mut self, record: Record) -> PersistId {
        let id = PersistId(self.fresh_id());
        self.told.unanswered.insert(id);
        self.out.push(Effect::Persist { id, record });
        id
    }

    /// Answers a call once all that the answer rests on is in the ledger, or cannot be.
    pub(super) fn reply(&mut self, token: Token, result: Result<Reply, Error>) {
        self.told.replies.push((token, result));
    }

    /// Shows and answers what waited for the ledger.
    pub(super) fn let_out(&mut self) {
        if !self.told.unanswered.is_empty() {
            return;
        }
        for (token, result) in std::mem::take(&mut self.told.replies) {
            self.out.push(Effect::Reply { token, result });
        }
        if std::mem::take(&mut self.changed) {
            self.out.push(Effect::Publish);
        }
    }
}
