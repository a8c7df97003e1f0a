//! The service manager: readiness, a status line in human words, and the watchdog.

use std::time::Duration;

use lun_core::machine::Snapshot;
use lun_core::model::{Health, LunStatus};
use sd_notify::NotifyState;
use tokio::time::Instant;

/// No more often than this, whatever the unit says.
const FEED_AT_MOST_EVERY: Duration = Duration::from_secs(30);

/// What the service manager was told last.
#[derive(Debug)]
pub struct Notifier {
    /// Half of the watchdog's time; [`None`] without a watchdog.
    interval: Option<Duration>,
    fed_at: Instant,
    status: String,
}

impl Notifier {
    /// Looks whether the service manager watches.
    #[must_use]
    pub fn new() -> Self {
        Self {
            interval: sd_notify::watchdog_enabled().map(|whole| whole / 2),
            fed_at: Instant::now(),
            status: String::new(),
        }
    }

    /// The service answers calls from now on.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The service is on its way out.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
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
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// Tells the status line, if it is another than before.
    pub fn status(&mut self, snapshot: &Snapshot, config_error: Option<&str>) {
        let text = status_text(snapshot, config_error);
        if text != self.status {
            tell(&[NotifyState::Status(&text)]);
            self.status = text;
        }
    }
}

impl Default for Notifier {
    fn default() -> Self {
        Self::new()
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}

/// One line about everything, the worst first.
#[must_use]
pub fn status_text(snapshot: &Snapshot, config_error: Option<&str>) -> String {
    let luns = &snapshot.luns;
    let failed = luns
        .iter()
        .filter(|lun| lun.status == LunStatus::Failed)
        .count();
    let unwell = luns
        .iter()
        .filter(|lun| lun.status != LunStatus::Failed && lun.health != Health::Healthy)
        .count();
    let mut parts = Vec::new();
    if let Some(error) = config_error {
        parts.push(format!("configuration not in force ({error})"));
    }
    if let Some(reason) = &snapshot.ledger_degraded {
        parts.push(format!("ledger degraded ({reason})"));
    }
    parts.push(match luns.len() {
        0 => "no LUNs".to_owned(),
        1 => "1 LUN".to_owned(),
        many => format!("{many} LUNs"),
    });
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    if unwell > 0 {
        parts.push(format!("{unwell} not healthy"));
    }
    for op in snapshot
        .ops
        .iter()
        .filter(|op| op.ended_at_ms.is_none())
        .take(4)
    {
        parts.push(format!("{} {} {} %", op.lun_name, op.state, op.percent));
    }
    parts.join(", ")
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
            status_text(&snapshot, Some("lund.toml:2: no")),
            "configuration not in force (lund.toml:2: no), ledger degraded (read-only file \
             system), no LUNs"
        );
    }
}
