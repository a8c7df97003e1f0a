//! The tables, and what is done when they cannot be had.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lun_core::Error;
use lun_core::id::{LunId, NAMESPACE, OpId, Wall};
use lun_core::machine::{LedgerState, Record, SeenDrive, SeenLun};
use lun_core::op::Op;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// File in the state directory.
pub(super) const FILE: &str = "lund.db";
/// Finished operations that the ledger keeps; older ones are forgotten.
const KEEP_IN_LEDGER: u32 = 10_000;
/// Operation records between two looks for operations to forget.
const PRUNE_EVERY: u32 = 256;
/// A new UUID for each boot of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long after a failed try to open the ledger the next one is made.
const REOPEN_AFTER: Duration = Duration::from_secs(30);

/// Each entry takes the schema one version up; `user_version` says how many were applied.
/// Entries are never changed once released, only added.
const MIGRATIONS: [&str; 2] = ["
    CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE ops(
        id INTEGER PRIMARY KEY, lun TEXT NOT NULL, state TEXT NOT NULL, json TEXT NOT NULL,
        started INTEGER NOT NULL, ended INTEGER);
    CREATE INDEX ops_by_lun ON ops(lun, id);
    CREATE TABLE steps(
        op INTEGER NOT NULL, seq INTEGER NOT NULL, action TEXT NOT NULL, intent_at INTEGER NOT NULL,
        outcome TEXT, outcome_at INTEGER, PRIMARY KEY(op, seq)) WITHOUT ROWID;
    CREATE TABLE pool(id TEXT PRIMARY KEY, place INTEGER NOT NULL, json TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE holds(lun TEXT PRIMARY KEY, name TEXT NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE luns(id TEXT PRIMARY KEY, json TEXT NOT NULL, last_seen INTEGER NOT NULL,
        gone INTEGER NOT NULL) WITHOUT ROWID;
", "
    CREATE TABLE drives(id TEXT PRIMARY KEY, json TEXT NOT NULL, last_seen INTEGER NOT NULL,
        gone INTEGER NOT NULL) WITHOUT ROWID;
"];

/// An open database, or the reason why there is none.
pub(super) struct Store {
    path: PathBuf,
    database: Result<Connection, (String, Instant)>,
    until_prune: u32,
}

/// What went wrong, and whether the file itself is to blame.
struct Failure {
    corrupt: bool,
    detail: String,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let corrupt = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        );
        Self {
            corrupt,
            detail: error.to_string(),
        }
    }
}

impl Store {
    /// Opens the database of `folder` and reads back what it remembers.
    pub(super) fn open(folder: &Path, keep_finished: usize) -> (Self, LedgerState, Uuid) {
        let path = folder.join(FILE);
        let mut set_aside = None;
        let mut opened = open_and_load(&path, keep_finished);
        if let Err(failure) = &opened
            && failure.corrupt
        {
            set_aside = Some(set_file_aside(&path, &failure.detail));
            opened = open_and_load(&path, keep_finished);
        }
        let (database, mut state, provider) = match opened {
            Ok((connection, state, provider)) => (Ok(connection), state, provider),
            Err(failure) => {
                let (state, provider) = load_read_only(&path, keep_finished);
                let state = LedgerState {
                    degraded: Some(failure.detail.clone()),
                    ..state
                };
                (Err((failure.detail, Instant::now())), state, provider)
            }
        };
        if let Some(told) = set_aside {
            state.degraded.get_or_insert(told);
        }
        if state.degraded.is_some() {
            // Numbers given from here on may not be remembered, and those given before may not
            // be known. Seconds since 1970 exceed any number counted up from one.
            state.last_op = state.last_op.max(unix_seconds());
        }
        let store = Self {
            path,
            database,
            until_prune: 0,
        };
        (store, state, provider)
    }

    /// Writes one record.
    pub(super) fn write(&mut self, record: &Record) -> Result<(), Error> {
        if let Err((_, tried_at)) = &self.database
            && tried_at.elapsed() >= REOPEN_AFTER
        {
            self.database =
                open_database(&self.path).map_err(|failure| (failure.detail, Instant::now()));
        }
        let connection = match &self.database {
            Ok(connection) => connection,
            Err((why, _)) => return Err(ledger_error("open", why)),
        };
        write_record(connection, record)
            .map_err(|error| ledger_error("write", &error.to_string()))?;
        if matches!(record, Record::Op(_)) {
            if self.until_prune == 0 {
                self.until_prune = PRUNE_EVERY;
                prune(connection).map_err(|error| ledger_error("prune", &error.to_string()))?;
            }
            self.until_prune -= 1;
        }
        Ok(())
    }
}

fn ledger_error(what: &str, detail: &str) -> Error {
    Error::Ledger {
        what: what.to_owned(),
        detail: detail.to_owned(),
    }
}

fn open_and_load(path: &Path, keep: usize) -> Result<(Connection, LedgerState, Uuid), Failure> {
    let connection = open_database(path)?;
    let mut state = load(&connection, keep)?;
    state.rebooted = new_boot(&connection)?;
    let provider = provider_id(&connection)?;
    Ok((connection, state, provider))
}

/// Opens for writing, checks the file, and brings the schema up to date.
fn open_database(path: &Path) -> Result<Connection, Failure> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // Read by root alone, and small: the daemon's memory is bounded.
    if let Err(error) = std::fs::set_permissions(path, Permissions::from_mode(0o600)) {
        tracing::warn!("the mode of {} cannot be set: {error}", path.display());
    }
    connection.execute_batch(
        "PRAGMA cache_size = -256; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = 1048576;",
    )?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Failure {
            corrupt: true,
            detail: verdict,
        });
    }
    migrate(&mut connection)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    let version: usize = connection
        .query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))
        .map(|version| usize::try_from(version).unwrap_or(usize::MAX))?;
    if version > MIGRATIONS.len() {
        let detail = format!("its schema {version} is newer than this program");
        return Err(Failure {
            corrupt: false,
            detail,
        });
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        let change = connection.transaction()?;
        change.execute_batch(sql)?;
        change.execute_batch(&format!("PRAGMA user_version = {}", index + 1))?;
        change.commit()?;
    }
    Ok(())
}

/// Gives a corrupt file and its companions a new name; nothing is ever deleted.
fn set_file_aside(path: &Path, why: &str) -> String {
    let suffix = format!("corrupt-{}", unix_seconds());
    for companion in ["", "-wal", "-shm"] {
        let from = PathBuf::from(format!("{}{companion}", path.display()));
        let to = PathBuf::from(format!("{}.{suffix}{companion}", path.display()));
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!("{} cannot be set aside: {error}", from.display()),
        }
    }
    let told = format!(
        "{} was corrupt ({why}) and is set aside as {FILE}.{suffix}",
        path.display()
    );
    tracing::error!("{told}");
    told
}

/// What can still be read of a ledger that cannot be written.
fn load_read_only(path: &Path, keep: usize) -> (LedgerState, Uuid) {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
    // `immutable` lets SQLite read where it may not create its companion files.
    let uri = format!("file:{}?immutable=1", path.display());
    let read = Connection::open_with_flags(uri, flags)
        .map_err(Failure::from)
        .and_then(|connection| Ok((load(&connection, keep)?, stored_provider(&connection)?)));
    match read {
        Ok((state, provider)) => (state, provider.unwrap_or_else(fallback_provider)),
        Err(_) => (LedgerState::default(), fallback_provider()),
    }
}

fn stored_provider(connection: &Connection) -> Result<Option<Uuid>, Failure> {
    let text: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE key = 'provider'", [], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(text.and_then(|text| Uuid::try_parse(&text).ok()))
}

fn provider_id(connection: &Connection) -> Result<Uuid, Failure> {
    if let Some(id) = stored_provider(connection)? {
        return Ok(id);
    }
    let id = Uuid::new_v4();
    connection.execute(
        "INSERT OR REPLACE INTO meta(key, value) VALUES('provider', ?1)",
        params![id.to_string()],
    )?;
    Ok(id)
}

/// Whether this is another boot of the host than the one that the ledger was opened in last, or
/// that cannot be told. The new boot is remembered.
fn new_boot(connection: &Connection) -> Result<bool, Failure> {
    let now = match std::fs::read_to_string(BOOT_ID) {
        Ok(text) => text.trim().to_owned(),
        Err(error) => {
            tracing::warn!("{BOOT_ID} cannot be read: {error}");
            return Ok(true);
        }
    };
    let then: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE key = 'boot'", [], |row| {
            row.get(0)
        })
        .optional()?;
    if then.as_ref() == Some(&now) {
        return Ok(false);
    }
    connection.execute(
        "INSERT OR REPLACE INTO meta(key, value) VALUES('boot', ?1)",
        params![now],
    )?;
    Ok(true)
}

/// Without a ledger the provider's GUID is derived from the machine's, so that it lasts at least
/// as long as the failure.
fn fallback_provider() -> Uuid {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    Uuid::new_v5(
        &NAMESPACE,
        format!("provider:{}", machine.trim()).as_bytes(),
    )
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// SQLite's integers are signed; no number of ours reaches the last bit.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn load(connection: &Connection, keep: usize) -> Result<LedgerState, Failure> {
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    let mut ops: Vec<Op> = rows(connection, "SELECT json FROM ops WHERE ended IS NULL", [])?;
    let finished = "SELECT json FROM ops WHERE ended IS NOT NULL ORDER BY id DESC LIMIT ?1";
    ops.extend(rows::<Op, _>(connection, finished, [keep])?);
    ops.sort_by_key(|op| op.id);
    let highest = "SELECT MAX(COALESCE((SELECT MAX(id) FROM ops), 0),
        COALESCE((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'last_op'), 0))";
    let last_op: i64 = connection.query_row(highest, [], |row| row.get(0))?;
    let pool = rows(connection, "SELECT json FROM pool ORDER BY place, id", [])?;
    let luns: Vec<SeenLun> = rows(connection, "SELECT json FROM luns ORDER BY id", [])?;
    let drives: Vec<SeenDrive> = rows(connection, "SELECT json FROM drives ORDER BY id", [])?;
    let mut holds = std::collections::BTreeMap::new();
    let mut statement = connection.prepare("SELECT lun, name, at FROM holds")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let (lun, name, at): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Ok(id) = Uuid::try_parse(&lun) {
            holds.insert(LunId(id), (name, Wall(unsigned(at))));
        }
    }
    Ok(LedgerState {
        ops,
        last_op: unsigned(last_op),
        pool,
        holds,
        luns,
        drives,
        degraded: None,
        rebooted: true,
    })
}

/// Rows of one JSON column. A row that this version cannot understand is passed over, loudly:
/// one bad row must not cost all the others.
fn rows<T: DeserializeOwned, P: rusqlite::Params>(
    connection: &Connection,
    sql: &str,
    parameters: P,
) -> Result<Vec<T>, Failure> {
    let mut statement = connection.prepare(sql)?;
    let mut found = statement.query(parameters)?;
    let mut items = Vec::new();
    while let Some(row) = found.next()? {
        let json: String = row.get(0)?;
        match serde_json::from_str(&json) {
            Ok(item) => items.push(item),
            Err(error) => tracing::error!("a ledger row cannot be understood ({error}): {json}"),
        }
    }
    Ok(items)
}

fn write_record(connection: &Connection, record: &Record) -> Result<(), WriteError> {
    match record {
        Record::Op(op) => write_op(connection, op)?,
        Record::Intent {
            op,
            seq,
            action,
            at,
        } => {
            connection
                .prepare_cached(
                    "INSERT INTO steps(op, seq, action, intent_at) VALUES(?1, ?2, ?3, ?4)
                 ON CONFLICT(op, seq) DO UPDATE SET action = ?3, intent_at = ?4",
                )?
                .execute(params![
                    int(op.0),
                    seq,
                    serde_json::to_string(action)?,
                    int(at.0)
                ])?;
        }
        Record::Outcome { op, seq, error, at } => {
            let outcome = match error {
                Some(error) => serde_json::to_string(error)?,
                None => "null".to_owned(),
            };
            connection
                .prepare_cached(
                    "UPDATE steps SET outcome = ?3, outcome_at = ?4 WHERE op = ?1 AND seq = ?2",
                )?
                .execute(params![int(op.0), seq, outcome, int(at.0)])?;
        }
        Record::Pool(entry) => {
            connection.execute(
                "INSERT INTO pool(id, place, json)
                 VALUES(?1, (SELECT COALESCE(MAX(place), 0) + 1 FROM pool), ?2)
                 ON CONFLICT(id) DO UPDATE SET json = ?2",
                params![entry.id.to_string(), serde_json::to_string(entry)?],
            )?;
        }
        Record::PoolRemoved(id) => {
            connection.execute("DELETE FROM pool WHERE id = ?1", params![id.to_string()])?;
        }
        Record::Hold { lun, name, at } => {
            connection.execute(
                "INSERT OR REPLACE INTO holds(lun, name, at) VALUES(?1, ?2, ?3)",
                params![lun.to_string(), name, int(at.0)],
            )?;
        }
        Record::HoldReleased(lun) => {
            connection.execute("DELETE FROM holds WHERE lun = ?1", params![lun.to_string()])?;
        }
        Record::Drive(seen) => {
            let row = (seen.id.to_string(), serde_json::to_string(seen)?);
            write_seen(connection, "drives", row, int(seen.last_seen.0), seen.gone)?;
        }
        Record::Lun(seen) => {
            let row = (seen.id.to_string(), serde_json::to_string(seen)?);
            write_seen(connection, "luns", row, int(seen.last_seen.0), seen.gone)?;
        }
    }
    Ok(())
}

/// A LUN or a drive as last seen: its id and its JSON.
fn write_seen(
    connection: &Connection,
    table: &str,
    (id, json): (String, String),
    last_seen: i64,
    gone: bool,
) -> Result<(), rusqlite::Error> {
    let sql =
        format!("INSERT OR REPLACE INTO {table}(id, json, last_seen, gone) VALUES(?1, ?2, ?3, ?4)");
    connection
        .prepare_cached(&sql)?
        .execute(params![id, json, last_seen, gone])?;
    Ok(())
}

/// The number is remembered apart from the operation, which may be forgotten one day.
fn write_op(connection: &Connection, op: &Op) -> Result<(), WriteError> {
    let change = connection.unchecked_transaction()?;
    change
        .prepare_cached(
            "INSERT OR REPLACE INTO ops(id, lun, state, json, started, ended)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            int(op.id.0),
            op.lun.to_string(),
            op.state.as_str(),
            serde_json::to_string(op)?,
            int(op.started_at.0),
            op.ended_at.map(|at| int(at.0)),
        ])?;
    change
        .prepare_cached(
            "INSERT INTO meta(key, value) VALUES('last_op', ?1)
             ON CONFLICT(key) DO UPDATE SET value = ?1 WHERE CAST(value AS INTEGER) < ?1",
        )?
        .execute(params![int(op.id.0)])?;
    change.commit()?;
    Ok(())
}

fn prune(connection: &Connection) -> Result<(), rusqlite::Error> {
    let oldest: Option<i64> = connection
        .query_row(
            "SELECT id FROM ops WHERE ended IS NOT NULL ORDER BY id DESC LIMIT 1 OFFSET ?1",
            [KEEP_IN_LEDGER],
            |row| row.get(0),
        )
        .optional()?;
    let Some(oldest) = oldest else {
        return Ok(());
    };
    tracing::info!("operations up to {} are forgotten", OpId(unsigned(oldest)));
    let change = connection.unchecked_transaction()?;
    change.execute(
        "DELETE FROM ops WHERE ended IS NOT NULL AND id <= ?1",
        [oldest],
    )?;
    change.execute("DELETE FROM steps WHERE op NOT IN (SELECT id FROM ops)", [])?;
    change.commit()
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    #[error("a record cannot be put into words: {0}")]
    Json(#[from] serde_json::Error),
}
