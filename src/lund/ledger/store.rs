//! The database, and what is done when it cannot be had, or not any more.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lun_core::Error;
use lun_core::machine::{LedgerState, Record};
use lun_ipc::Event;
use rusqlite::Connection;
use uuid::Uuid;

use super::prune::{self, Retention};
use super::{load, schema, write};

/// File in the state directory.
pub(super) const FILE: &str = "lund.db";
/// Remark that the last daemon wrote all that it had to.
const CLEAN: &str = "clean";
/// A database that cannot be opened is tried again after this, however much is to be written.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// Records that could not be written are kept up to this number, the newest.
const OWED: usize = 4096;

/// What went wrong, and whether the file itself is to blame.
#[derive(Debug)]
pub(super) struct Failure {
    corrupt: bool,
    detail: String,
}

impl Failure {
    pub(super) const fn corrupt(detail: String) -> Self {
        Self {
            corrupt: true,
            detail,
        }
    }

    pub(super) const fn other(detail: String) -> Self {
        Self {
            corrupt: false,
            detail,
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self {
            corrupt: schema::is_corrupt(&error),
            detail: error.to_string(),
        }
    }
}

/// What opening gave.
pub(super) struct Start {
    pub(super) state: LedgerState,
    pub(super) provider: Uuid,
    /// Number of the newest notification that was ever told.
    pub(super) last_event: u64,
    /// The file should be looked through, beside the work.
    pub(super) check: bool,
}

/// What a look into the database gave.
struct Loaded {
    state: LedgerState,
    provider: Option<Uuid>,
    last_event: u64,
    /// The last daemon wrote all that it had to.
    clean: bool,
}

/// An open database, or the reason why there is none.
pub(super) struct Store {
    path: PathBuf,
    provider: Uuid,
    retention: Retention,
    database: Result<Connection, (String, Instant)>,
    /// The last write went well.
    well: bool,
    /// What could not be written and is told to nobody else: what was taken away, and steps.
    owed: VecDeque<Record>,
    owed_events: VecDeque<Event>,
    lost: u64,
}

impl Store {
    /// Opens the database of `folder` and reads back what it remembers.
    pub(super) fn open(folder: &Path, keep: usize, retention: Retention) -> (Self, Start) {
        let path = folder.join(FILE);
        let mut aside = set_strange_wal_aside(&path);
        let mut opened = open_and_load(&path, keep);
        if let Err(failure) = &opened
            && failure.corrupt
        {
            aside = Some(set_aside(&path, &failure.detail));
            opened = open_and_load(&path, keep);
        }
        let (database, mut loaded, check) = match opened {
            Ok((connection, loaded, check)) => (Ok(connection), loaded, check),
            Err(failure) => {
                let mut loaded = load_read_only(&path, keep);
                loaded.state.degraded = Some(failure.detail.clone());
                (Err((failure.detail, Instant::now())), loaded, false)
            }
        };
        if let Some(told) = aside {
            loaded.state.degraded.get_or_insert(told);
        }
        if loaded.state.degraded.is_some() {
            // Numbers given from here on may not be remembered, and those given before may not
            // be known. Seconds since 1970 exceed any number counted up from one.
            loaded.state.last_op = loaded.state.last_op.max(since_1970().as_secs());
        }
        if loaded.state.degraded.is_some() || !loaded.clean {
            // The same for notifications, of which there may be several in a second.
            let millis = u64::try_from(since_1970().as_millis()).unwrap_or(0);
            loaded.last_event = loaded.last_event.max(millis);
        }
        let provider = loaded.provider.unwrap_or_else(load::fallback_provider);
        let store = Self {
            path,
            provider,
            retention,
            well: database.is_ok(),
            database,
            owed: VecDeque::new(),
            owed_events: VecDeque::new(),
            lost: 0,
        };
        let start = Start {
            state: loaded.state,
            provider,
            last_event: loaded.last_event,
            check: check && !loaded.clean,
        };
        (store, start)
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        self.database.as_ref().ok().unwrap()
    }

    /// Whether the last write went well.
    pub(super) const fn is_well(&self) -> bool {
        self.well
    }

    /// Writes all or nothing, in one transaction. `durable`: on the medium when this answers.
    ///
    /// # Errors
    /// [`Error::Ledger`]; what is told to nobody else is kept and written with the next that can.
    pub(super) fn commit(
        &mut self,
        records: Vec<Record>,
        events: Vec<Event>,
        durable: bool,
    ) -> Result<(), Error> {
        match self.try_commit(&records, &events, durable) {
            Ok(()) => {
                self.well = true;
                self.owed.clear();
                self.owed_events.clear();
                self.tell_lost();
                Ok(())
            }
            Err(failure) => {
                self.owe(records, events);
                Err(self.failed("write", failure))
            }
        }
    }

    /// Tries whether the database can be written again.
    ///
    /// # Errors
    /// [`Error::Ledger`]: it cannot.
    pub(super) fn retry(&mut self) -> Result<(), Error> {
        self.commit(Vec::new(), Vec::new(), true)
    }

    /// The file was found to be corrupt by somebody who looked through it.
    pub(super) fn condemn(&mut self, why: String) -> Error {
        self.failed("check", Failure::corrupt(why))
    }

    /// Keeps so much from now on.
    pub(super) fn retain(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Forgets a little of what is too old or too much; `true` when there is more.
    pub(super) fn prune(&mut self) -> bool {
        let Ok(connection) = &self.database else {
            return false;
        };
        match prune::step(connection, &self.retention) {
            Ok(more) => more,
            Err(error) => {
                tracing::warn!("the ledger cannot forget what is old: {error}");
                false
            }
        }
    }

    /// Notes that everything was written, and closes the database: the write-ahead log is carried
    /// over into it. Left to the end of the process, that might never happen.
    pub(super) fn close(&mut self) {
        let closed = Err(("it is closed".to_owned(), Instant::now()));
        if let (Ok(connection), true) = (std::mem::replace(&mut self.database, closed), self.well)
            && let Err(error) = load::set_meta(&connection, CLEAN, "1")
        {
            tracing::warn!("the ledger's end cannot be noted: {error}");
        }
    }

    fn try_commit(
        &mut self,
        records: &[Record],
        events: &[Event],
        durable: bool,
    ) -> Result<(), Failure> {
        self.reopen();
        let connection = match &self.database {
            Ok(connection) => connection,
            Err((why, _)) => return Err(Failure::other(why.clone())),
        };
        // Waiting for somebody's lock once is enough.
        let patience = if self.well {
            schema::BUSY
        } else {
            Duration::ZERO
        };
        connection.busy_timeout(patience)?;
        let mode = if durable { "FULL" } else { "NORMAL" };
        connection.execute_batch(&format!("PRAGMA synchronous = {mode}; BEGIN IMMEDIATE"))?;
        let written = self
            .write_all(connection, records, events)
            .and_then(|()| Ok(connection.execute_batch("COMMIT")?));
        if written.is_err() && !connection.is_autocommit() {
            // SQLite has already undone what it could; a failure here changes nothing.
            let _ = connection.execute_batch("ROLLBACK");
        }
        written
    }

    fn write_all(
        &self,
        connection: &Connection,
        records: &[Record],
        events: &[Event],
    ) -> Result<(), Failure> {
        if !self.well {
            // Something is written in any case, so that success means that writing works.
            load::set_meta(connection, "provider", &self.provider.to_string())?;
            load::set_meta(connection, CLEAN, "0")?;
        }
        for record in self.owed.iter().chain(records) {
            write::record(connection, record)?;
        }
        for event in self.owed_events.iter().chain(events) {
            write::event(connection, event)?;
        }
        Ok(())
    }

    fn reopen(&mut self) {
        let Err((_, tried_at)) = &self.database else {
            return;
        };
        if tried_at.elapsed() < REOPEN_AFTER {
            return;
        }
        let opened = schema::open(&self.path);
        if let Err(failure) = &opened
            && failure.corrupt
        {
            set_aside(&self.path, &failure.detail);
        }
        self.database = opened
            .map(|opening| opening.connection)
            .map_err(|failure| (failure.detail, Instant::now()));
    }

    /// Takes note of a failure; a corrupt file is set aside, and the next write begins a new one.
    fn failed(&mut self, what: &str, failure: Failure) -> Error {
        self.well = false;
        let mut detail = failure.detail;
        if failure.corrupt {
            let never = Instant::now()
                .checked_sub(REOPEN_AFTER)
                .unwrap_or_else(Instant::now);
            // Closed before it is renamed.
            self.database = Err((detail.clone(), never));
            detail = set_aside(&self.path, &detail);
        }
        Error::Ledger {
            what: what.to_owned(),
            detail,
        }
    }

    /// Keeps what the machine does not tell again by itself.
    fn owe(&mut self, records: Vec<Record>, events: Vec<Event>) {
        let untold = records.into_iter().filter(|record| {
            matches!(
                record,
                Record::PoolRemoved(_)
                    | Record::HoldReleased(_)
                    | Record::Intent { .. }
                    | Record::Outcome { .. }
            )
        });
        self.owed.extend(untold);
        self.owed_events.extend(events);
        while self.owed.len() > OWED {
            // Of steps the oldest are forgotten first; what was taken away must not come back.
            let step = self.owed.iter().position(|record| {
                matches!(record, Record::Intent { .. } | Record::Outcome { .. })
            });
            self.owed.remove(step.unwrap_or(0));
            self.lost += 1;
        }
        while self.owed_events.len() > OWED {
            self.owed_events.pop_front();
            self.lost += 1;
        }
    }

    fn tell_lost(&mut self) {
        if self.lost > 0 {
            tracing::error!(
                "{} steps and notifications are not in the ledger: there were too many while it \
                 could not be written",
                self.lost
            );
            self.lost = 0;
        }
    }
}

fn open_and_load(path: &Path, keep: usize) -> Result<(Connection, Loaded, bool), Failure> {
    let opening = schema::open(path)?;
    let connection = opening.connection;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut loaded = load_all(&connection, keep)?;
    loaded.clean |= opening.fresh;
    loaded.state.rebooted = load::new_boot(&connection)?;
    let provider = loaded.provider.unwrap_or_else(Uuid::new_v4);
    loaded.provider = Some(provider);
    load::set_meta(&connection, "provider", &provider.to_string())?;
    load::set_meta(&connection, CLEAN, "0")?;
    connection.execute_batch("COMMIT")?;
    Ok((connection, loaded, opening.unchecked))
}

fn load_all(connection: &Connection, keep: usize) -> Result<Loaded, Failure> {
    Ok(Loaded {
        state: load::state(connection, keep)?,
        provider: load::provider(connection)?,
        last_event: load::last_event(connection)?,
        clean: load::meta(connection, CLEAN)?.as_deref() == Some("1"),
    })
}

/// What can still be read of a ledger that cannot be written.
fn load_read_only(path: &Path, keep: usize) -> Loaded {
    for locked in [true, false] {
        let opened = if locked {
            schema::open_to_read(path)
        } else {
            schema::open_read_only_medium(path)
        };
        let read = opened
            .map_err(Failure::from)
            .and_then(|connection| load_all(&connection, keep));
        match read {
            Ok(loaded) => return loaded,
            Err(failure) => tracing::warn!(
                "{} cannot be read either: {}",
                path.display(),
                failure.detail
            ),
        }
    }
    Loaded {
        state: LedgerState::default(),
        provider: None,
        last_event: 0,
        clean: false,
    }
}

/// Gives a corrupt file and its companions new names; nothing is ever deleted.
fn set_aside(path: &Path, why: &str) -> String {
    let suffix = move_aside(path, &["", "-wal", "-shm"]);
    let told = format!(
        "{} was corrupt ({why}) and is set aside as {FILE}.{suffix}",
        path.display()
    );
    tracing::error!("{told}");
    told
}

/// A write-ahead log that is none is set aside alone: the database is what it was when the log was
/// last carried over into it.
fn set_strange_wal_aside(path: &Path) -> Option<String> {
    let why = schema::strange_wal(path)?;
    let suffix = move_aside(path, &["-wal", "-shm"]);
    let told = format!(
        "the write-ahead log of {} was corrupt ({why}) and is set aside as {FILE}.{suffix}-wal; \
         the latest records are lost",
        path.display()
    );
    tracing::error!("{told}");
    Some(told)
}

/// Renames a file's companions; answers with the suffix that they got.
fn move_aside(path: &Path, companions: &[&str]) -> String {
    let base = format!("corrupt-{}", since_1970().as_secs());
    let taken = |suffix: &str| {
        companions.iter().any(|companion| {
            schema::companion(path, &format!(".{suffix}{companion}"))
                .symlink_metadata()
                .is_ok()
        })
    };
    let mut suffix = base.clone();
    let mut number = 1;
    while taken(&suffix) {
        number += 1;
        suffix = format!("{base}.{number}");
    }
    for companion in companions {
        let from = schema::companion(path, companion);
        let to = schema::companion(path, &format!(".{suffix}{companion}"));
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!("{} cannot be set aside: {error}", from.display()),
        }
    }
    suffix
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
