//! The tables, and how a database is opened: checked, brought up to date, or refused.

use std::fs::Permissions;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::store::Failure;

/// Each entry takes the schema one version up; `user_version` says how many were applied.
/// Entries are never changed once released, only added.
pub(super) const MIGRATIONS: [&str; 4] = ["
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
", "
    CREATE TABLE events(
        seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, code INTEGER NOT NULL, name TEXT, lun TEXT,
        op INTEGER, text TEXT NOT NULL);
    CREATE INDEX events_by_time ON events(at);
    CREATE INDEX ops_unfinished ON ops(id) WHERE ended IS NULL;
    CREATE INDEX ops_ended ON ops(ended) WHERE ended IS NOT NULL;
", "
    CREATE TABLE decisions(
        at INTEGER NOT NULL, lun TEXT NOT NULL, rule TEXT NOT NULL, verdict TEXT NOT NULL, op INTEGER,
        json TEXT NOT NULL, PRIMARY KEY(at, lun, rule)) WITHOUT ROWID;
"];

/// A file up to this size is looked through at each start; it takes some milliseconds.
const SMALL_BYTES: u64 = 4 << 20;

/// How long a write waits for somebody else's lock on the database.
pub(super) const BUSY: Duration = Duration::from_secs(2);

/// First bytes of a write-ahead log, but for the last bit, which tells its byte order.
const WAL_MAGIC: u32 = 0x377f_0682;
/// Bytes of the header of a write-ahead log.
const WAL_HEADER: usize = 32;

/// The file and a companion of it.
pub(super) fn companion(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// An open database.
pub(super) struct Opening {
    /// To it.
    pub(super) connection: Connection,
    /// It was empty.
    pub(super) fresh: bool,
    /// It is too large to have been looked through.
    pub(super) unchecked: bool,
}

/// Opens for writing, checks the file, and brings the schema up to date.
pub(super) fn open(path: &Path) -> Result<Opening, Failure> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    // Read by root alone, and small: the daemon's memory is bounded.
    if let Err(error) = std::fs::set_permissions(path, Permissions::from_mode(0o600)) {
        tracing::warn!("the mode of {} cannot be set: {error}", path.display());
    }
    connection.execute_batch(
        "PRAGMA cache_size = -256; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA journal_size_limit = 1048576;",
    )?;
    let unchecked = std::fs::metadata(path).is_ok_and(|data| data.len() > SMALL_BYTES);
    if !unchecked {
        quick_check(&connection)?;
    }
    let fresh = version(&connection)? == 0;
    migrate(&mut connection)?;
    Ok(Opening {
        connection,
        fresh,
        unchecked,
    })
}

/// Looks through the whole file.
pub(super) fn quick_check(connection: &Connection) -> Result<(), Failure> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(Failure::corrupt(verdict))
    }
}

/// Opens for reading, beside the writer.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA cache_size = -256;")?;
    Ok(connection)
}

/// Opens for reading where nothing can be written, not even the companion files: without locks, and
/// with the index of the write-ahead log in memory.
pub(super) fn open_read_only_medium(path: &Path) -> Result<Connection, rusqlite::Error> {
    let uri = format!("file:{}?vfs=unix-none", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags)?;
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -256;")?;
    Ok(connection)
}

fn version(connection: &Connection) -> Result<usize, Failure> {
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    let version = version(connection)?;
    if version > MIGRATIONS.len() {
        return Err(Failure::other(format!(
            "its schema {version} is newer than this program"
        )));
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        let change = connection.transaction()?;
        change.execute_batch(sql)?;
        change.execute_batch(&format!("PRAGMA user_version = {}", index + 1))?;
        change.commit()?;
    }
    Ok(())
}

/// Why the write-ahead log beside the database is none, when it is none. SQLite would take it for
/// an empty one and overwrite it; what an interrupted write leaves behind is not meant here.
pub(super) fn strange_wal(path: &Path) -> Option<String> {
    let mut header = [0; WAL_HEADER];
    let mut file = std::fs::File::open(companion(path, "-wal")).ok()?;
    // Shorter than a header: it was only just begun.
    file.read_exact(&mut header).ok()?;
    let [a, b, c, d, ..] = header;
    let magic = u32::from_be_bytes([a, b, c, d]);
    if header.iter().all(|byte| *byte == 0) {
        return None;
    }
    if magic & !1 != WAL_MAGIC {
        return Some(format!("it begins with {magic:#010x}"));
    }
    (!sound_header(&header, magic & 1 == 1)).then(|| "its header has a wrong checksum".to_owned())
}

/// The header's own checksum (<https://www.sqlite.org/fileformat2.html#walformat>).
fn sound_header(header: &[u8; WAL_HEADER], big_endian: bool) -> bool {
    let words: Vec<u32> = header
        .chunks_exact(4)
        .filter_map(|chunk| chunk.try_into().ok())
        .enumerate()
        .map(|(at, word)| match (at < 6 && !big_endian, word) {
            (true, word) => u32::from_le_bytes(word),
            (false, word) => u32::from_be_bytes(word),
        })
        .collect();
    let [w0, w1, w2, w3, w4, w5, want0, want1] = words[..] else {
        return false;
    };
    let (mut s0, mut s1) = (0_u32, 0_u32);
    for (even, odd) in [(w0, w1), (w2, w3), (w4, w5)] {
        s0 = s0.wrapping_add(even).wrapping_add(s1);
        s1 = s1.wrapping_add(odd).wrapping_add(s0);
    }
    (s0, s1) == (want0, want1)
}

/// Whether a failure says that the file itself is to blame.
pub(super) fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}
