//! Records and notifications on their way into the tables.

use lun_core::machine::Record;
use lun_core::model::Decision;
use lun_core::op::Op;
use lun_ipc::Event;
use rusqlite::{Connection, params};

use super::load::{self, int};
use super::store::Failure;

/// Writes one record; within a transaction of the caller.
pub(super) fn record(connection: &Connection, record: &Record) -> Result<(), Failure> {
    match record {
        Record::Op(op) => write_op(connection, op)?,
        Record::Intent {
            op,
            seq,
            action,
            at,
        } => {
            let action = json(action)?;
            connection
                .prepare_cached(
                    "INSERT INTO steps(op, seq, action, intent_at) VALUES(?1, ?2, ?3, ?4)
                     ON CONFLICT(op, seq) DO UPDATE SET action = ?3, intent_at = ?4",
                )?
                .execute(params![int(op.0), seq, action, int(at.0)])?;
        }
        Record::Outcome { op, seq, error, at } => {
            let outcome = json(error)?;
            connection
                .prepare_cached(
                    "UPDATE steps SET outcome = ?3, outcome_at = ?4 WHERE op = ?1 AND seq = ?2",
                )?
                .execute(params![int(op.0), seq, outcome, int(at.0)])?;
        }
        Record::Pool(entry) => {
            connection
                .prepare_cached(
                    "INSERT INTO pool(id, place, json)
                     VALUES(?1, (SELECT COALESCE(MAX(place), 0) + 1 FROM pool), ?2)
                     ON CONFLICT(id) DO UPDATE SET json = ?2",
                )?
                .execute(params![entry.id.to_string(), json(entry)?])?;
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
            let row = (seen.id.to_string(), json(seen)?);
            write_seen(connection, "drives", row, int(seen.last_seen.0), seen.gone)?;
        }
        Record::Decision(decision) => write_decision(connection, decision)?,
        Record::Booted => load::boot_is_known(connection)?,
        Record::Lun(seen) => {
            let row = (seen.id.to_string(), json(seen)?);
            write_seen(connection, "luns", row, int(seen.last_seen.0), seen.gone)?;
        }
    }
    Ok(())
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::other(format!("a record cannot be put into words: {error}")))
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
        .execute(params![id, json, last_seen, gone])
        .map(drop)
}

/// The number is remembered apart from the operation, which may be forgotten one day.
fn write_op(connection: &Connection, op: &Op) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO ops(id, lun, state, json, started, ended) VALUES(?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT(id) DO UPDATE SET lun = ?2, state = ?3, json = ?4, started = ?5, ended = ?6",
        )?
        .execute(params![
            int(op.id.0),
            op.lun.to_string(),
            op.state.as_str(),
            json(op)?,
            int(op.started_at.0),
            op.ended_at.map(|at| int(at.0)),
        ])?;
    connection
        .prepare_cached(
            "INSERT INTO meta(key, value) VALUES('last_op', ?1)
             ON CONFLICT(key) DO UPDATE SET value = ?1 WHERE CAST(value AS INTEGER) < ?1",
        )?
        .execute(params![int(op.id.0)])?;
    Ok(())
}

/// A decision that is told twice is the same row.
fn write_decision(connection: &Connection, decision: &Decision) -> Result<(), Failure> {
    let json = json(decision)?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO decisions(at, lun, rule, verdict, op, json)
             VALUES(?1, ?2, json_extract(?4, '$.rule'), json_extract(?4, '$.verdict'), ?3, ?4)",
        )?
        .execute(params![
            int(decision.decided_at_ms.0),
            decision.lun.to_string(),
            decision.op.map(|op| int(op.0)),
            json,
        ])?;
    Ok(())
}

/// Writes one notification.
pub(super) fn event(connection: &Connection, event: &Event) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO events(seq, at, code, name, lun, op, text)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            int(event.seq),
            int(event.at_ms.0),
            event.event,
            event.event_name,
            event.lun.map(|id| id.to_string()),
            event.op.map(|op| int(op.0)),
            event.text,
        ])
        .map(drop)
}
