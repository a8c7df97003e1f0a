//! What the ledger was told and has not answered yet. Nobody is shown or answered anything that a
//! crash could still take back: a number that was given would be given again, an end that was seen
//! would be no end. (A ledger that hangs is answered for by the driver, in bounded time.)

use std::collections::BTreeSet;

use super::task::ActOwner;
use super::{Effect, Machine, PersistId, Record, Reply, Token};
use crate::Error;
use crate::action::Action;

/// Records on their way, and answers that wait for them.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Not answered yet, well or ill.
    pub(super) unanswered: BTreeSet<PersistId>,
    /// Actions outside of operations, each with the records that must be answered before.
    waiting: Vec<(BTreeSet<PersistId>, Effect)>,
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

    /// The ledger has answered for a record, well or ill: what waited for it goes on.
    pub(super) fn answered(&mut self, id: PersistId) {
        self.told.unanswered.remove(&id);
        for (records, action) in std::mem::take(&mut self.told.waiting) {
            self.once_told(
                records.into_iter().filter(|record| *record != id).collect(),
                action,
            );
        }
    }

    /// Lets an action out when no record is left that must be answered before.
    fn once_told(&mut self, records: BTreeSet<PersistId>, action: Effect) {
        if records.is_empty() {
            self.out.push(action);
        } else {
            self.told.waiting.push((records, action));
        }
    }

    /// Acts when the ledger has answered for all that it was told so far.
    pub(super) fn act_once_told(&mut self, owner: ActOwner, action: Action) {
        let (_, action) = self.prepared(owner, action);
        self.once_told(self.told.unanswered.clone(), action);
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
