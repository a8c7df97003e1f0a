//! Forgetting: the ledger keeps so many operations and notifications, and forgets the oldest in
//! small steps, so that no write waits long.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lun_core::id::OpId;
use rusqlite::{Connection, params};

use super::load::{int, unsigned};

/// Operations, or notifications, forgotten in one step.
const STEP: u64 = 256;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How much the ledger keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Finished operations.
    pub operations: u64,
    /// Notifications.
    pub events: u64,
    /// Days; older ones are forgotten even when there are few. [`None`]: no matter how old.
    pub days: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            operations: 100_000,
            events: 100_000,
            days: None,
        }
    }
}

impl Retention {
    /// Milliseconds since 1970 before which everything is too old.
    fn cutoff(&self) -> Option<i64> {
        let age = DAY.saturating_mul(u32::try_from(self.days?).unwrap_or(u32::MAX));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.checked_sub(age)?.as_millis()).ok()
    }
}

/// Operations that are never forgotten, however old: those that a drive of the pool is claimed by,
/// and the last one of each held LUN, which tells why it is held.
const KEPT: &str = "SELECT json_extract(json, '$.claimed_by') FROM pool
        WHERE json_valid(json) AND json_extract(json, '$.claimed_by') IS NOT NULL
    UNION SELECT (SELECT MAX(id) FROM ops WHERE ops.lun = holds.lun) FROM holds
        WHERE EXISTS (SELECT 1 FROM ops WHERE ops.lun = holds.lun)";

/// Forgets one step's worth; `true` when there is more to forget.
pub(super) fn step(connection: &Connection, keep: &Retention) -> Result<bool, rusqlite::Error> {
    let ops = prune_ops(connection, keep)?;
    let events = prune_events(connection, keep)?;
    let decisions = prune_decisions(connection, keep)?;
    Ok(ops || events || decisions)
}

/// How many of `count` are to go in this step.
fn surplus(count: i64, keep: u64) -> i64 {
    int(unsigned(count).saturating_sub(keep).min(STEP))
}

fn prune_ops(connection: &Connection, keep: &Retention) -> Result<bool, rusqlite::Error> {
    let count = "SELECT COUNT(*) FROM ops WHERE ended IS NOT NULL";
    let count: i64 = connection.query_row(count, [], |row| row.get(0))?;
    let mut doomed = ids(
        connection,
        &format!(
            "SELECT id FROM ops WHERE ended IS NOT NULL AND id NOT IN ({KEPT})
             ORDER BY ended, id LIMIT ?1"
        ),
        params![surplus(count, keep.operations)],
    )?;
    if let Some(cutoff) = keep.cutoff() {
        let sql = format!(
            "SELECT id FROM ops WHERE ended IS NOT NULL AND ended < ?1 AND id NOT IN ({KEPT})
             ORDER BY ended, id LIMIT ?2"
        );
        let old = ids(connection, &sql, params![cutoff, int(STEP)])?;
        doomed.extend(old);
        doomed.sort_unstable();
        doomed.dedup();
    }
    let (Some(first), Some(last)) = (doomed.iter().min(), doomed.iter().max()) else {
        return Ok(false);
    };
    tracing::info!(
        "{} operations between {} and {} are forgotten",
        doomed.len(),
        OpId(unsigned(*first)),
        OpId(unsigned(*last))
    );
    let change = connection.unchecked_transaction()?;
    for id in &doomed {
        change
            .prepare_cached("DELETE FROM steps WHERE op = ?1")?
            .execute([id])?;
        change
            .prepare_cached("DELETE FROM ops WHERE id = ?1")?
            .execute([id])?;
    }
    change.commit()?;
    Ok(unsigned(count).saturating_sub(keep.operations) > STEP
        || u64::try_from(doomed.len()).unwrap_or(0) >= STEP)
}

fn prune_events(connection: &Connection, keep: &Retention) -> Result<bool, rusqlite::Error> {
    let count: i64 = connection.query_row("SELECT COUNT(*) FROM events", [], |row| row.get(0))?;
    // The newest stays whatever its age: the numbers go on from it.
    let newest = "(SELECT MAX(seq) FROM events)";
    let many = connection.execute(
        &format!(
            "DELETE FROM events WHERE seq IN
                 (SELECT seq FROM events WHERE seq < {newest} ORDER BY seq LIMIT ?1)"
        ),
        [surplus(count, keep.events)],
    )?;
    let old = match keep.cutoff() {
        None => 0,
        Some(cutoff) => connection.execute(
            &format!(
                "DELETE FROM events WHERE seq IN
                     (SELECT seq FROM events WHERE at < ?1 AND seq < {newest} LIMIT ?2)"
            ),
            params![cutoff, int(STEP)],
        )?,
    };
    Ok(u64::try_from(many.max(old)).unwrap_or(0) >= STEP)
}

/// Decisions are kept as notifications are: each of them was one too.
fn prune_decisions(connection: &Connection, keep: &Retention) -> Result<bool, rusqlite::Error> {
    let count: i64 =
        connection.query_row("SELECT COUNT(*) FROM decisions", [], |row| row.get(0))?;
    let oldest = "DELETE FROM decisions WHERE (at, lun, rule) IN
        (SELECT at, lun, rule FROM decisions ORDER BY at, lun, rule LIMIT ?1)";
    let many = connection.execute(oldest, [surplus(count, keep.events)])?;
    let old = match keep.cutoff() {
        None => 0,
        Some(cutoff) => connection.execute(
            "DELETE FROM decisions WHERE (at, lun, rule) IN
                 (SELECT at, lun, rule FROM decisions WHERE at < ?1 ORDER BY at LIMIT ?2)",
            params![cutoff, int(STEP)],
        )?,
    };
    Ok(u64::try_from(many.max(old)).unwrap_or(0) >= STEP)
}

fn ids<P: rusqlite::Params>(
    connection: &Connection,
    sql: &str,
    parameters: P,
) -> Result<Vec<i64>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(parameters, |row| row.get(0))?;
    found.collect()
}
