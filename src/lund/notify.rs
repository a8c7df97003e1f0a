//! The service manager: readiness, reloads, a status line in human words, and the watchdog.

use std::time::Duration;

use lun_core::machine::Snapshot;
use lun_core::model::{Health, Lun, LunStatus};
use tokio::time::Instant;

pub use sd_notify::NotifyState;

/// No more often than this, whatever the unit says.
const FEED_AT_MOST_EVERY: Duration = Duration::from_secs(30);
/// LUNs that are named in the status line.
const NAMED: usize = 4;

/// Where messages to the service manager go.
type Tell = Box<dyn Fn(&[NotifyState<'_>]) + Send>;

/// What the service manager was told last.
pub struct Notifier {
    /// Half of the watchdog's time; [`None`] without a watchdog.
    interval: Option<Duration>,
    fed_at: Instant,
    status: String,
    tell: Tell,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Notifier {
    /// Looks whether the service manager watches.
    #[must_use]
    pub fn new() -> Self {
        Self::to(Box::new(tell), sd_notify::watchdog_enabled())
    }

    /// Tells somebody else, who watches with this much patience.
    #[must_use]
    pub fn to(tell: Tell, watchdog: Option<Duration>) -> Self {
        Self {
            interval: watchdog.map(|whole| whole / 2),
            fed_at: Instant::now(),
            status: String::new(),
            tell,
        }
    }

    /// The service answers calls from now on, or again after [`reloading`].
    pub fn ready(&self) {
        (self.tell)(&[NotifyState::Ready]);
    }

    /// The service is on its way out.
    pub fn stopping(&self) {
        (self.tell)(&[NotifyState::Stopping]);
    }

    /// When the loop has to turn at the latest for the watchdog's sake.
    #[must_use]
    pub fn feed_by(&self) -> Option<Instant> {
        self.interval.map(|interval| self.fed_at + interval)
    }

    /// Called after a turn of the loop, and only then: a stuck loop starves the watchdog.
    pub fn turned(&mut self) {
        let Some(interval) = self.interval else {
            return;
        };
        let now = Instant::now();
        if now.duration_since(self.fed_at) >= interval.min(FEED_AT_MOST_EVERY) {
            self.fed_at = now;
            (self.tell)(&[NotifyState::Watchdog]);
        }
    }

    /// Tells the status line, if it is another than before.
    pub fn status(&mut self, snapshot: &Snapshot, config_error: &str) {
        let text = status_text(snapshot, config_error);
        if text != self.status {
            (self.tell)(&[NotifyState::Status(&text)]);
            self.status = text;
        }
    }
}

impl Default for Notifier {
    fn default() -> Self {
        Self::new()
    }
}

/// The configuration is about to be read anew; [`Notifier::ready`] ends it. The time lets systemd
/// from 253 on (`Type=notify-reload`) tell this from a message that was on its way.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("the service manager is not told of the reload: {error}"),
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}

/// One line about everything, the worst first.
#[must_use]
pub fn status_text(snapshot: &Snapshot, config_error: &str) -> String {
    let luns = &snapshot.luns;
    let failed = |lun: &&Lun| lun.status == LunStatus::Failed || lun.health == Health::Failed;
    let mut parts = Vec::new();
    if !config_error.is_empty() {
        parts.push(format!("configuration not in force ({config_error})"));
    }
    if let Some(reason) = &snapshot.ledger_degraded {
        parts.push(format!("ledger degraded ({reason})"));
    }
    parts.extend(named("failed", luns.iter().filter(failed)));
    let unwell = luns
        .iter()
        .filter(|lun| !failed(lun) && lun.health != Health::Healthy);
    parts.extend(named("not healthy", unwell));
    parts.extend(named("held", luns.iter().filter(|lun| lun.held)));
    let well = luns.iter().all(|lun| lun.health == Health::Healthy);
    parts.push(match (luns.len(), well) {
        (0, _) => "no LUNs".to_owned(),
        (1, true) => "1 LUN, healthy".to_owned(),
        (1, false) => "1 LUN".to_owned(),
        (many, true) => format!("{many} LUNs, all healthy"),
        (many, false) => format!("{many} LUNs"),
    });
    let running = snapshot.ops.iter().filter(|op| op.ended_at_ms.is_none());
    for op in running.take(NAMED) {
        let left = op.eta_s.map_or_else(String::new, |s| match s {
            0..120 => format!(", {s} s left"),
            _ => format!(", {} min left", s.div_ceil(60)),
        });
        parts.push(format!(
            "operation {} on {} {} {} %{left}",
            op.id, op.lun_name, op.state, op.percent
        ));
    }
    parts.join("; ")
}

/// `failed: md0, md1 and 3 more`, or nothing.
fn named<'a>(what: &str, luns: impl Iterator<Item = &'a Lun>) -> Option<String> {
    let names: Vec<&str> = luns.map(|lun| lun.name.as_str()).collect();
    let shown = names.get(..NAMED).unwrap_or(&names).join(", ");
    let rest = names.len().saturating_sub(NAMED);
    match (names.len(), rest) {
        (0, _) => None,
        (_, 0) => Some(format!("{what}: {shown}")),
        _ => Some(format!("{what}: {shown} and {rest} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_begins_with_the_worst() {
        let snapshot = Snapshot {
            ledger_degraded: Some("read-only file system".to_owned()),
            ..Snapshot::default()
        };
        assert_eq!(
            status_text(&snapshot, "lund.toml:2: no"),
            "configuration not in force (lund.toml:2: no); ledger degraded (read-only file \
             system); no LUNs"
        );
    }
}
