//! Metrics for Prometheus, as a file that the textfile collector of node_exporter reads:
//! `metrics.prom` in `/run/lund`. Names and meanings: `docs/metrics.md`.
//!
//! Own code, because the crates for it write OpenMetrics, whose counters that collector reads as
//! untyped, and what is left to do is one line for each figure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lun_core::id::OpId;
use lun_core::machine::Snapshot;
use lun_core::model::{Drive, Health, Lun, OpView, VdsEnum};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::handle::Published;

/// Name of the file.
pub const FILE: &str = "metrics.prom";
/// The file is written no more often than this.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// A family of metrics: its name and what it tells.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

/// Every family, in the order of the file.
const FAMILIES: &[Family] = &[
    gauge("lund_info", "Version of the service; always 1."),
    gauge(
        "lund_config_error",
        "1 when the configuration on the disk has a mistake and is not in force.",
    ),
    gauge(
        "lund_ledger_degraded",
        "1 when the ledger cannot be written.",
    ),
    gauge(
        "lund_spares_registered",
        "Drives registered in the spare pool.",
    ),
    gauge(
        "lund_spares_ready",
        "Drives of the spare pool that are there, sound, and not taken by an operation.",
    ),
    gauge("lund_lun_info", "Identity of a LUN; always 1."),
    gauge(
        "lund_lun_status",
        "Availability of a LUN, the VDS value as a label; always 1.",
    ),
    gauge(
        "lund_lun_health",
        "Fault state of a LUN, the VDS value as a label; always 1.",
    ),
    gauge(
        "lund_lun_healthy",
        "1 when the health of a LUN is VDS_H_HEALTHY.",
    ),
    gauge(
        "lund_lun_held",
        "1 when recovery of a LUN is held by an administrator's cancel.",
    ),
    gauge(
        "lund_lun_members_wanted",
        "Members that a LUN is made of. Absent when unknown.",
    ),
    gauge(
        "lund_lun_members_in_sync",
        "Members that bear valid data. Absent when unknown.",
    ),
    gauge(
        "lund_lun_losses_survivable",
        "Further losses of any members that are surely survived. Absent when unknown.",
    ),
    gauge(
        "lund_lun_mismatch_sectors",
        "Sectors found different by the last check or repair. Absent when unknown.",
    ),
    gauge(
        "lund_operation_percent",
        "Progress of an operation that runs, 0 to 99.",
    ),
    gauge(
        "lund_operation_rate_bytes_per_second",
        "Smoothed rate of an operation that runs. Absent when unknown.",
    ),
    gauge(
        "lund_operation_eta_seconds",
        "Time left of an operation that runs, by its rate. Absent when unknown.",
    ),
    Family {
        name: "lund_operations_total",
        kind: "counter",
        help: "Operations that ended since the service was started.",
    },
];

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        kind: "gauge",
        help,
    }
}

/// Operations that have ended, by kind and result.
#[derive(Debug, Default)]
struct Ended {
    /// Those counted, or found ended at the start, as long as they are remembered.
    known: Option<BTreeSet<OpId>>,
    counts: BTreeMap<(String, String), u64>,
}

impl Ended {
    fn look(&mut self, snapshot: &Snapshot) {
        let ended = snapshot.ops.iter().filter(|op| op.ended_at_ms.is_some());
        let now: BTreeSet<OpId> = ended.clone().map(|op| op.id).collect();
        // What had ended before the service was started counts for an earlier one.
        let known = self.known.get_or_insert_with(|| now.clone());
        for op in ended.filter(|op| !known.contains(&op.id)) {
            let key = (word(&op.kind), op.state.clone());
            *self.counts.entry(key).or_default() += 1;
        }
        *known = now;
    }
}

/// Writes the file of `folder` whenever what it tells has changed; ends with the service.
pub async fn keep(folder: PathBuf, mut snapshots: watch::Receiver<Arc<Published>>) {
    let mut ended = Ended::default();
    let mut written = String::new();
    let mut failing = false;
    while snapshots.changed().await.is_ok() {
        let published = Arc::clone(&snapshots.borrow_and_update());
        ended.look(&published.snapshot);
        let text = text(&published, &ended);
        if text == written {
            continue;
        }
        let until = Instant::now() + AT_MOST_EVERY;
        let (path, bytes) = (folder.join(FILE), text.clone());
        let outcome = tokio::task::spawn_blocking(move || write(&path, &bytes)).await;
        match outcome {
            Ok(Ok(())) => {
                written = text;
                failing = false;
            }
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::warn!("{} cannot be written: {error}", folder.join(FILE).display());
            }
            Ok(Err(_)) => {}
            // Only a panic or the end of the runtime ends a thread so.
            Err(error) => return tracing::error!("metrics are written no more: {error}"),
        }
        tokio::time::sleep_until(until).await;
    }
}

/// A reader sees the old file or the new one, never a part. Nothing is flushed: the folder is in memory.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("prom.new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&new)?;
    // The unit's umask keeps others out; these figures are for everybody, as `lunctl list` is.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.set_permissions(everybody)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&new, path)
}

/// The whole file.
fn text(published: &Published, ended: &Ended) -> String {
    let mut samples = Samples::default();
    let snapshot = &published.snapshot;
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    samples.add("lund_info", &version, 1);
    samples.flag("lund_config_error", &[], !published.config_error.is_empty());
    samples.flag(
        "lund_ledger_degraded",
        &[],
        snapshot.ledger_degraded.is_some(),
    );
    samples.add("lund_spares_registered", &[], count(snapshot.pool.len()));
    let ready = snapshot.pool.iter().filter(|entry| {
        let drive = snapshot
            .drives
            .iter()
            .find(|drive| drive.id == Some(entry.id));
        entry.claimed_by.is_none() && drive.is_some_and(is_ready)
    });
    samples.add("lund_spares_ready", &[], count(ready.count()));
    for lun in &snapshot.luns {
        samples.lun(lun);
    }
    for op in snapshot.ops.iter().filter(|op| op.is_running()) {
        samples.operation(op);
    }
    for ((kind, result), count) in &ended.counts {
        let labels = [("kind", kind.as_str()), ("result", result.as_str())];
        samples.add("lund_operations_total", &labels, *count);
    }
    samples.text()
}

fn is_ready(drive: &Drive) -> bool {
    use lun_core::model::Role;
    matches!(drive.role, Role::Pool | Role::Spare) && drive.health == Health::Healthy
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn word(kind: &impl serde::Serialize) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

type Labels<'a> = &'a [(&'a str, &'a str)];

/// Lines of the file by the name of their family.
#[derive(Default)]
struct Samples(BTreeMap<&'static str, String>);

impl Samples {
    fn add(&mut self, name: &'static str, labels: Labels<'_>, value: u64) {
        let lines = self.0.entry(name).or_default();
        lines.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            lines.push(if number == 0 { '{' } else { ',' });
            let _ = write!(lines, "{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            lines.push('}');
        }
        let _ = writeln!(lines, " {value}");
    }

    fn flag(&mut self, name: &'static str, labels: Labels<'_>, on: bool) {
        self.add(name, labels, u64::from(on));
    }

    fn known(&mut self, name: &'static str, labels: Labels<'_>, value: Option<u64>) {
        if let Some(value) = value {
            self.add(name, labels, value);
        }
    }

    fn lun(&mut self, lun: &Lun) {
        let name = ("lun", lun.name.as_str());
        let (id, driver) = (lun.id.to_string(), word(&lun.driver));
        let info = [
            name,
            ("id", &id),
            ("level", &lun.level),
            ("driver", &driver),
        ];
        self.add("lund_lun_info", &info, 1);
        self.add("lund_lun_status", &[name, ("status", lun.status.name())], 1);
        self.add("lund_lun_health", &[name, ("health", lun.health.name())], 1);
        self.flag("lund_lun_healthy", &[name], lun.health == Health::Healthy);
        self.flag("lund_lun_held", &[name], lun.held);
        let redundancy = &lun.redundancy;
        let wanted = redundancy.members_wanted.map(u64::from);
        let in_sync = redundancy.members_in_sync.map(u64::from);
        let survivable = redundancy.losses_survivable.map(u64::from);
        self.known("lund_lun_members_wanted", &[name], wanted);
        self.known("lund_lun_members_in_sync", &[name], in_sync);
        self.known("lund_lun_losses_survivable", &[name], survivable);
        self.known(
            "lund_lun_mismatch_sectors",
            &[name],
            lun.sync.mismatch_sectors,
        );
    }

    fn operation(&mut self, op: &OpView) {
        let (id, kind) = (op.id.to_string(), word(&op.kind));
        let labels = [("lun", op.lun_name.as_str()), ("op", &id), ("kind", &kind)];
        self.add("lund_operation_percent", &labels, u64::from(op.percent));
        let rate = op.rate_bytes_per_s;
        self.known("lund_operation_rate_bytes_per_second", &labels, rate);
        self.known("lund_operation_eta_seconds", &labels, op.eta_s);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for family in FAMILIES {
            if let Some(lines) = self.0.get(family.name) {
                let Family { name, kind, help } = family;
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}");
            }
        }
        text
    }
}

/// A label's value as the text format wants it.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
