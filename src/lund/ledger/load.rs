//! What the ledger remembers, read back at the start.

use lun_core::id::{LunId, NAMESPACE, Wall};
use lun_core::machine::{LedgerState, SeenDrive, SeenLun};
use lun_core::op::Op;
use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::store::Failure;

/// A new UUID for each boot of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// SQLite's integers are signed; no number of ours reaches the last bit.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// All that the machine wants to know. `keep` bounds the finished operations.
pub(super) fn state(connection: &Connection, keep: usize) -> Result<LedgerState, Failure> {
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
        match Uuid::try_parse(&lun) {
            Ok(id) => drop(holds.insert(LunId(id), (name, Wall(unsigned(at))))),
            Err(error) => not_understood("holds", &lun, &error),
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

fn not_understood(what: &str, row: &str, why: &dyn std::fmt::Display) {
    tracing::error!("a row of the ledger ({what}) cannot be understood ({why}): {row}");
}

/// Rows of one JSON column. A row that this version cannot understand is passed over, loudly:
/// one bad row must not cost all the others.
pub(super) fn rows<T: DeserializeOwned, P: rusqlite::Params>(
    connection: &Connection,
    sql: &str,
    parameters: P,
) -> Result<Vec<T>, rusqlite::Error> {
    let mut statement = connection.prepare(sql)?;
    let mut found = statement.query(parameters)?;
    let mut items = Vec::new();
    while let Some(row) = found.next()? {
        let value = row.get_ref(0)?;
        let Ok(json) = value.as_str() else {
            not_understood(sql, &format!("{value:?}"), &"no text");
            continue;
        };
        match serde_json::from_str(json) {
            Ok(item) => items.push(item),
            Err(error) => not_understood(sql, json, &error),
        }
    }
    Ok(items)
}

/// Number of the newest notification; 0 before the first.
pub(super) fn last_event(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let newest: Option<i64> =
        connection.query_row("SELECT MAX(seq) FROM events", [], |row| row.get(0))?;
    Ok(newest.map_or(0, unsigned))
}

/// A remark that the ledger keeps about itself.
pub(super) fn meta(connection: &Connection, key: &str) -> Result<Option<String>, rusqlite::Error> {
    connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
            row.get(0)
        })
        .optional()
}

pub(super) fn set_meta(
    connection: &Connection,
    key: &str,
    value: &str,
) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES(?1, ?2)")?
        .execute(params![key, value])
        .map(drop)
}

/// The provider's GUID, if the ledger has one.
pub(super) fn provider(connection: &Connection) -> Result<Option<Uuid>, rusqlite::Error> {
    let text = meta(connection, "provider")?;
    Ok(text.and_then(|text| Uuid::try_parse(&text).ok()))
}

/// Without a ledger the provider's GUID is derived from the machine's, so that it lasts at least
/// as long as the failure.
pub(super) fn fallback_provider() -> Uuid {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    Uuid::new_v5(
        &NAMESPACE,
        format!("provider:{}", machine.trim()).as_bytes(),
    )
}

/// Whether this is another boot of the host than the one that the ledger was told of last, or
/// that cannot be told.
pub(super) fn new_boot(connection: &Connection) -> Result<bool, rusqlite::Error> {
    Ok(match boot_id() {
        Some(now) => meta(connection, "boot")? != Some(now),
        None => true,
    })
}

/// Remembers that what this boot of the host has left behind is known.
pub(super) fn boot_is_known(connection: &Connection) -> Result<(), rusqlite::Error> {
    match boot_id() {
        Some(now) => set_meta(connection, "boot", &now),
        None => Ok(()),
    }
}

fn boot_id() -> Option<String> {
    match std::fs::read_to_string(BOOT_ID) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) => {
            tracing::warn!("{BOOT_ID} cannot be read: {error}");
            None
        }
    }
}
