//! What was: operations and notifications of any age, out of memory and out of the ledger. What is
//! in memory is newer and wins; the ledger is read off the loop.

use std::collections::BTreeMap;
use std::sync::Arc;

use lun_core::Error;
use lun_core::error::ObjectKind;
use lun_core::id::{LunId, OpId};
use lun_core::machine::op_view;
use lun_core::model::OpView;
use lun_ipc::{Event, HistoryPage, OpHistory};

use crate::handle::{Handle, Published};
use crate::ledger::{Filter, Reader};

/// The way to the past.
#[derive(Debug, Clone)]
pub struct Past {
    handle: Handle,
    reader: Reader,
}

impl Past {
    /// Memory is reached through `handle`, the ledger through `reader`.
    #[must_use]
    pub const fn new(handle: Handle, reader: Reader) -> Self {
        Self { handle, reader }
    }

    /// Runs a question to the ledger on one of the threads for readings.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let reader = self.reader.clone();
        let answer = tokio::task::spawn_blocking(move || question(&reader)).await;
        answer.map_err(|error| Error::Internal {
            what: format!("a question to the ledger was broken off: {error}"),
        })?
    }

    /// The same, for notifications: those in memory are told even when the ledger is silent.
    async fn old_events(
        &self,
        question: impl FnOnce(&Reader) -> Result<Vec<Event>, Error> + Send + 'static,
    ) -> Vec<Event> {
        match self.ask(question).await {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!("older notifications are not known: {error}");
                Vec::new()
            }
        }
    }

    /// Notifications with a number above `since`, oldest first, `limit` at most.
    pub async fn events_since(&self, since: u64, limit: u32) -> Vec<Event> {
        let log = self.handle.events();
        let oldest = log.oldest();
        let mut found = if oldest.is_some_and(|oldest| since.saturating_add(1) >= oldest) {
            Vec::new()
        } else {
            self.old_events(move |reader| reader.events_since(since, limit))
                .await
        };
        found.retain(|event| oldest.is_none_or(|oldest| event.seq < oldest));
        let known = found.last().map_or(since, |event| event.seq);
        found.extend(log.since(known));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        found
    }

    /// The newest notifications, oldest first.
    pub async fn recent_events(&self, limit: u32) -> Vec<Event> {
        let count = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut newest = self.handle.events().since(0);
        let surplus = newest.len().saturating_sub(count);
        newest.drain(..surplus);
        let missing = u32::try_from(count - newest.len()).unwrap_or(0);
        if missing == 0 {
            return newest;
        }
        let before = newest.first().map_or(u64::MAX, |event| event.seq);
        let mut found = self
            .old_events(move |reader| reader.events_before(before, missing))
            .await;
        found.extend(newest);
        found
    }

    /// Operations, newest first.
    pub async fn operations(&self, filter: Filter) -> HistoryPage {
        let one_more = Filter {
            limit: filter.limit.saturating_add(1),
            ..filter
        };
        let stored = self.ask(move |reader| reader.operations(&one_more)).await;
        let (stored, ledger_error) = match stored {
            Ok(ops) => (ops, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let wanted = |view: &OpView| {
            filter.lun.is_none_or(|lun| view.lun == lun)
                && filter.before.is_none_or(|before| view.id < before)
        };
        let published = self.handle.current();
        let in_memory = published.snapshot.ops.iter().filter(|view| wanted(view));
        let mut all: BTreeMap<OpId, OpView> =
            stored.iter().map(|op| (op.id, op_view(op))).collect();
        all.extend(in_memory.map(|view| (view.id, view.clone())));
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let more = all.len() > limit;
        let operations: Vec<OpView> = all.into_values().rev().take(limit).collect();
        let next_before = operations.last().filter(|_| more).map(|view| view.id);
        HistoryPage {
            operations,
            next_before,
            ledger_error,
        }
    }

    /// An operation of any age with its steps.
    ///
    /// # Errors
    /// Deleted, not found; [`Error::Ledger`] when it is not in memory and the ledger is silent.
    pub async fn operation(&self, id: OpId) -> Result<OpHistory, Error> {
        let published = self.handle.current();
        let known = published.snapshot.ops.iter().find(|view| view.id == id);
        let stored = self.ask(move |reader| reader.operation(id)).await;
        match (known, stored) {
            (None, Err(error)) => Err(error),
            (None, Ok(None)) => Err(unknown(id, &published)),
            (known, Ok(Some((op, steps)))) => Ok(OpHistory {
                op: known.cloned().unwrap_or_else(|| op_view(&op)),
                before: op.before,
                after: op.after,
                states: op.states,
                steps,
                ledger_error: None,
            }),
            (Some(view), stored) => Ok(OpHistory {
                op: view.clone(),
                before: None,
                after: None,
                states: Vec::new(),
                steps: Vec::new(),
                ledger_error: stored.err().map(|error| error.to_string()),
            }),
        }
    }

    /// Which LUN a name means, or meant: one that is gone has a history too.
    ///
    /// # Errors
    /// Not found, ambiguous; [`Error::Exiting`].
    pub async fn lun(&self, name: &str) -> Result<LunId, Error> {
        let there = self.handle.resolve_lun(name).await;
        let published = self.handle.current();
        let gone = &published.snapshot.gone;
        there.or_else(|error| {
            gone.iter()
                .filter(|seen| seen.is_called(name))
                .max_by_key(|seen| seen.last_seen)
                .map(|seen| seen.id)
                .ok_or(error)
        })
    }
}

fn unknown(id: OpId, published: &Arc<Published>) -> Error {
    let ops = &published.snapshot.ops;
    if ops.iter().any(|view| view.id > id) && id.0 > 0 {
        return Error::ObjectDeleted {
            kind: ObjectKind::Operation,
            again: Vec::new(),
            name: id.to_string(),
        };
    }
    let newest = ops.iter().rev().take(8);
    Error::ObjectNotFound {
        kind: ObjectKind::Operation,
        name: id.to_string(),
        known: newest.map(|view| view.id.to_string()).collect(),
    }
}
