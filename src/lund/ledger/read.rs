//! Questions about the past. They are put to a connection of their own, beside the writer, and never
//! wait for it.

use std::path::{Path, PathBuf};

use lun_core::Error;
use lun_core::action::Action;
use lun_core::id::{LunId, OpId, Wall};
use lun_core::op::Op;
use lun_ipc::{Event, StepView};
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::load::{int, rows, unsigned};
use super::schema;

/// Which operations are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// Of this LUN alone.
    pub lun: Option<LunId>,
    /// Only those with a smaller number.
    pub before: Option<OpId>,
    /// So many.
    pub limit: u32,
}

/// Reads the ledger. Its calls block.
#[derive(Debug, Clone)]
pub struct Reader {
    path: PathBuf,
}

impl Reader {
    /// Reads the ledger in `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(super::store::FILE),
        }
    }

    fn ask<T>(
        &self,
        question: impl Fn(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, Error> {
        let first = schema::open_to_read(&self.path).and_then(|connection| question(&connection));
        let answer = first.or_else(|first| {
            // Where nothing can be written, not even a reader's companion files can.
            schema::open_read_only_medium(&self.path)
                .and_then(|connection| question(&connection))
                .map_err(|_| first)
        });
        answer.map_err(|error| Error::Ledger {
            what: "read".to_owned(),
            detail: error.to_string(),
        })
    }

    /// Operations, newest first.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub fn operations(&self, filter: &Filter) -> Result<Vec<Op>, Error> {
        let before = filter.before.map_or(i64::MAX, |id| int(id.0));
        let limit = filter.limit;
        self.ask(|connection| match filter.lun {
            Some(lun) => rows(connection, OF_LUN, params![lun.to_string(), before, limit]),
            None => rows(connection, OF_ALL, params![before, limit]),
        })
    }

    /// One operation of any age and its steps; [`None`]: not in the ledger.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub fn operation(&self, id: OpId) -> Result<Option<(Op, Vec<StepView>)>, Error> {
        self.ask(|connection| {
            let found = rows(
                connection,
                "SELECT json FROM ops WHERE id = ?1",
                [int(id.0)],
            )?;
            match found.into_iter().next() {
                None => Ok(None),
                Some(op) => Ok(Some((op, steps(connection, id)?))),
            }
        })
    }

    /// The steps of an operation.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub fn steps(&self, id: OpId) -> Result<Vec<StepView>, Error> {
        self.ask(|connection| steps(connection, id))
    }

    /// Notifications with a number above `since`, oldest first.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub fn events_since(&self, since: u64, limit: u32) -> Result<Vec<Event>, Error> {
        self.ask(|connection| events(connection, EVENTS_SINCE, int(since), limit))
    }

    /// The newest notifications below `before`, oldest first.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub fn events_before(&self, before: u64, limit: u32) -> Result<Vec<Event>, Error> {
        let mut found =
            self.ask(|connection| events(connection, EVENTS_BEFORE, int(before), limit))?;
        found.reverse();
        Ok(found)
    }

    /// Looks through the whole file; [`Some`]: what is wrong with it.
    pub(super) fn fault(&self) -> Option<String> {
        let found = self.ask(|connection| {
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
        });
        match found {
            Ok(verdict) if verdict == "ok" => None,
            Ok(verdict) => Some(verdict),
            Err(error) => {
                // That it cannot be read now says nothing about what is in it.
                tracing::warn!("the ledger cannot be looked through: {error}");
                None
            }
        }
    }
}

pub(super) const OF_LUN: &str =
    "SELECT json FROM ops WHERE lun = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3";
pub(super) const OF_ALL: &str = "SELECT json FROM ops WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
pub(super) const EVENTS_SINCE: &str = "SELECT seq, at, code, name, lun, op, text FROM events
    WHERE seq > ?1 ORDER BY seq LIMIT ?2";
pub(super) const EVENTS_BEFORE: &str = "SELECT seq, at, code, name, lun, op, text FROM events
    WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";

fn events(
    connection: &Connection,
    sql: &str,
    bound: i64,
    limit: u32,
) -> Result<Vec<Event>, rusqlite::Error> {
    let mut statement = connection.prepare(sql)?;
    let found = statement.query_map(params![bound, limit], event)?;
    found.collect()
}

fn event(row: &Row<'_>) -> Result<Event, rusqlite::Error> {
    let lun: Option<String> = row.get(4)?;
    Ok(Event {
        seq: unsigned(row.get(0)?),
        at_ms: Wall(unsigned(row.get(1)?)),
        event: row.get(2)?,
        event_name: row.get(3)?,
        lun: lun.and_then(|text| Uuid::try_parse(&text).ok()).map(LunId),
        op: row.get::<_, Option<i64>>(5)?.map(|id| OpId(unsigned(id))),
        text: row.get(6)?,
    })
}

fn steps(connection: &Connection, id: OpId) -> Result<Vec<StepView>, rusqlite::Error> {
    let mut statement = connection.prepare(
        "SELECT seq, action, intent_at, outcome, outcome_at FROM steps WHERE op = ?1 ORDER BY seq",
    )?;
    let found = statement.query_map([int(id.0)], |row| {
        let action: String = row.get(1)?;
        let outcome: Option<String> = row.get(3)?;
        let ended: Option<i64> = row.get(4)?;
        let (error, hresult) = outcome_of(outcome.as_deref());
        Ok(StepView {
            number: row.get(0)?,
            action: serde_json::from_str::<Action>(&action).ok(),
            begun_at_ms: Wall(unsigned(row.get(2)?)),
            ended_at_ms: ended.map(|at| Wall(unsigned(at))),
            error,
            hresult,
        })
    })?;
    found.collect()
}

/// How a step ended: why it failed, and its HRESULT; nothing while it is not known.
fn outcome_of(outcome: Option<&str>) -> (Option<String>, Option<lun_core::Hresult>) {
    match outcome.map(serde_json::from_str::<Option<Error>>) {
        None => (None, None),
        Some(Ok(None)) => (None, Some(lun_core::Hresult::S_OK)),
        Some(Ok(Some(error))) => (Some(error.to_string()), Some(error.hresult())),
        // Of another version: that it failed is known at least.
        Some(Err(_)) => (outcome.map(str::to_owned), Some(lun_core::Hresult::E_FAIL)),
    }
}
