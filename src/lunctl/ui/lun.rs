//! LUNs as text.

use lun_core::model::{Health, Lun, Plex, VdsEnum as _};

use super::drive::{of_lun, short};
use super::op;
use super::table::{field, indented, render};
use super::units::{bytes, maybe_bytes, moment};

/// All LUNs, a line each.
pub(crate) fn table(luns: &[Lun]) -> String {
    if luns.is_empty() {
        return "No LUNs: this host has no md array.\n".to_owned();
    }
    let rows = luns.iter().map(|lun| {
        vec![
            lun.name.clone(),
            lun.level.clone(),
            short(lun.status.name()),
            short(lun.health.name()),
            members(lun),
            survives(lun),
            doing(lun),
        ]
    });
    render(
        &[
            "NAME",
            "LEVEL",
            "STATUS",
            "HEALTH",
            "MEMBERS",
            "SURVIVES",
            "OPERATION",
        ],
        rows.collect(),
    )
}

/// Members in sync of members wanted, `2/3`.
fn members(lun: &Lun) -> String {
    format!(
        "{}/{}",
        known(lun.redundancy.members_in_sync),
        known(lun.redundancy.members_wanted)
    )
}

/// A count; `?` when it is unknown.
fn known(count: Option<u32>) -> String {
    count.map_or_else(|| "?".to_owned(), |count| count.to_string())
}

/// How many further losses are survivable; `?` when that is unknown.
fn survives(lun: &Lun) -> String {
    lun.redundancy
        .losses_survivable
        .map_or_else(|| "?".to_owned(), |losses| losses.to_string())
}

/// What is going on, in a few words.
fn doing(lun: &Lun) -> String {
    let mut words = Vec::new();
    if lun.held {
        words.push("held".to_owned());
    }
    if let Some(op) = &lun.operation {
        let what = op::phase(op.phase).unwrap_or(&op.state);
        words.push(format!("{} {what} {}%", op.id, op.percent));
    } else if !matches!(lun.sync.action.as_str(), "idle" | "none" | "frozen") {
        words.push(lun.sync.action.clone());
    } else if lun.sync.action == "frozen" && !lun.held {
        words.push("frozen".to_owned());
    }
    if lun.sync.queued {
        words.push("queued".to_owned());
    }
    if lun.unsupported.is_some() {
        words.push("shown only".to_owned());
    }
    if lun.auto_read_only {
        words.push("auto-read-only".to_owned());
    }
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(" ")
    }
}

/// A health in words; [`None`] where the name says it all.
fn meaning(health: Health) -> Option<&'static str> {
    match health {
        Health::Unknown => Some("it cannot be determined"),
        Health::Rebuilding => Some("copies or parity are being brought in step"),
        Health::Failing => Some("it works, and a member reports errors"),
        Health::FailingRedundancy => Some("all members are there, and one reports errors"),
        Health::FailedRedundancy => Some("the data is there, with less redundancy than wanted"),
        Health::FailedRedundancyFailing => Some("the last good copy reports errors"),
        Health::Failed => Some("more members are gone than the level survives"),
        Health::Healthy
        | Health::Stale
        | Health::Replaced
        | Health::PendingFailure
        | Health::Degraded => None,
    }
}

/// Everything about one LUN.
pub(crate) fn details(lun: &Lun) -> String {
    let mut text = format!("{} {} {}\n", lun.name, lun.level, lun.kind.name());
    identity(lun, &mut text);
    state(lun, &mut text);
    activity(lun, &mut text);
    for fact in &lun.unknown {
        text.push_str(&field("unknown", fact));
    }
    text.push_str(&field("observed", &moment(lun.observed_at_ms.0)));
    if !lun.drives.is_empty() {
        text.push_str("\nDrives\n");
        text.push_str(&of_lun(&lun.drives));
    }
    if !lun.plexes.is_empty() {
        text.push_str("\nPlexes\n");
        text.push_str(&plexes(&lun.plexes));
    }
    if !lun.recreate.is_empty() {
        text.push_str("\nMade again after a reboot, in place of the old table, by\n");
        for command in &lun.recreate {
            text.push_str("  ");
            text.push_str(command);
            text.push('\n');
        }
    }
    text
}

/// State, redundancy and what goes on.
pub(crate) fn standing(lun: &Lun) -> String {
    let mut text = String::new();
    state(lun, &mut text);
    activity(lun, &mut text);
    for fact in &lun.unknown {
        text.push_str(&field("unknown", fact));
    }
    text
}

fn identity(lun: &Lun, text: &mut String) {
    let names: Vec<&str> = std::iter::once(&lun.device)
        .chain(&lun.links)
        .map(String::as_str)
        .collect();
    text.push_str(&field("device", &names.join(", ")));
    text.push_str(&field("id", &lun.id.to_string()));
    let owner = format!("{:?}", lun.managed_by).to_lowercase();
    let driver = match lun.driver {
        lun_core::model::Driver::Md => "md",
        lun_core::model::Driver::DmRaid => "dm-raid",
    };
    text.push_str(&field("driver", &format!("{driver}, metadata of {owner}")));
    let size = lun.size_bytes.map_or_else(
        || "unknown".to_owned(),
        |size| format!("{} ({size} bytes)", bytes(size)),
    );
    text.push_str(&field("size", &size));
    if let Some(why) = &lun.unsupported {
        text.push_str(&field("recovery", &format!("not supported: {why}")));
    }
}

fn state(lun: &Lun, text: &mut String) {
    text.push_str(&field("status", &short(lun.status.name())));
    let health = short(lun.health.name());
    text.push_str(&field(
        "health",
        &meaning(lun.health).map_or_else(|| health.clone(), |words| format!("{health} - {words}")),
    ));
    text.push_str(&field("transition", &short(lun.transition.name())));
    let redundancy = &lun.redundancy;
    text.push_str(&field(
        "members",
        &format!(
            "{} of {} in sync",
            known(redundancy.members_in_sync),
            known(redundancy.members_wanted)
        ),
    ));
    let survives = match redundancy.losses_survivable {
        None => "unknown how many further losses".to_owned(),
        Some(0) => "no further loss of a member".to_owned(),
        Some(1) => "the loss of any one more member".to_owned(),
        Some(losses) => format!("the loss of any {losses} more members"),
    };
    text.push_str(&field("survives", &survives));
    if !redundancy.fatal_next.is_empty() {
        let fatal = redundancy.fatal_next.join(", ");
        text.push_str(&field("fatal next", &format!("losing any of: {fatal}")));
    }
    if !lun.fault_tolerant {
        text.push_str(&field("redundancy", "none: nothing could be recovered"));
    }
}

fn activity(lun: &Lun, text: &mut String) {
    if lun.held {
        let name = &lun.name;
        text.push_str(&field(
            "held",
            &format!(
                "yes, by a cancel: `lunctl recover {name}` continues, `lunctl release {name}` \
                 leaves it to automatic recovery"
            ),
        ));
    }
    if lun.rebuild_priority > 0 {
        let priority = format!("{} of 15 (`lunctl hints`)", lun.rebuild_priority);
        text.push_str(&field("priority", &priority));
    }
    if lun.auto_read_only {
        text.push_str(&field(
            "read-only",
            "until the first write (auto-read-only)",
        ));
    } else if lun.read_only {
        text.push_str(&field("read-only", "by choice"));
    }
    let mut kernel = lun.sync.action.clone();
    if lun.sync.queued {
        kernel.push_str(", queued");
    }
    if let Some(reason) = &lun.sync.queued_reason {
        kernel.push_str(&format!(": {reason}"));
    }
    text.push_str(&field("kernel", &kernel));
    let mismatches = lun.sync.mismatch_sectors.map_or_else(
        || "unknown".to_owned(),
        |sectors| format!("{sectors} sectors differed at the last check"),
    );
    text.push_str(&field("mismatches", &mismatches));
    if let Some(operation) = &lun.operation {
        text.push_str(&field(
            "operation",
            &format!(
                "{} {} {}",
                operation.id,
                operation.state,
                op::progress(operation)
            ),
        ));
    }
}

fn plexes(plexes: &[Plex]) -> String {
    let rows = plexes.iter().map(|plex| {
        vec![
            plex.number.to_string(),
            short(plex.kind.name()),
            short(plex.status.name()),
            short(plex.health.name()),
            maybe_bytes(plex.size_bytes),
            if plex.stripe_bytes == 0 {
                "-".to_owned()
            } else {
                bytes(plex.stripe_bytes)
            },
            plex.drives.join(" "),
        ]
    });
    indented(
        &[
            "PLEX", "TYPE", "STATUS", "HEALTH", "SIZE", "STRIPE", "DRIVES",
        ],
        rows.collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn a_lun_is_one_line() {
        let text = table(&[samples::degraded()]);
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words,
            [
                vec![
                    "NAME",
                    "LEVEL",
                    "STATUS",
                    "HEALTH",
                    "MEMBERS",
                    "SURVIVES",
                    "OPERATION"
                ],
                vec![
                    "md0",
                    "raid1",
                    "ONLINE",
                    "REBUILDING",
                    "1/2",
                    "0",
                    "7",
                    "rebuild",
                    "42%"
                ],
            ]
        );
    }

    #[test]
    fn the_longest_health_fits() {
        let mut lun = samples::degraded();
        lun.health = Health::FailedRedundancyFailing;
        lun.held = true;
        lun.name = "md127".to_owned();
        lun.level = "raid10".to_owned();
        lun.redundancy.losses_survivable = None;
        let text = table(&[lun]);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(text.contains("FAILED_REDUNDANCY_FAILING"), "{text}");
        assert!(text.contains('?') && text.contains("held"), "{text}");
    }

    #[test]
    fn what_goes_on_is_never_hidden() {
        let mut lun = samples::degraded();
        lun.operation = None;
        lun.sync.action = "resync".to_owned();
        lun.sync.queued = true;
        assert_eq!(doing(&lun), "resync queued");
        lun.sync.queued = false;
        lun.sync.action = "frozen".to_owned();
        assert_eq!(doing(&lun), "frozen");
        lun.held = true;
        assert_eq!(doing(&lun), "held");
        lun.held = false;
        lun.sync.action = "idle".to_owned();
        assert_eq!(doing(&lun), "-");
        lun.auto_read_only = true;
        assert_eq!(doing(&lun), "auto-read-only");
    }

    #[test]
    fn details_hold_everything() {
        let mut lun = samples::degraded();
        lun.held = true;
        lun.unknown = vec!["size of slot 1: Input/output error".to_owned()];
        lun.sync.queued = true;
        lun.sync.queued_reason = Some("md1 shares a drive and goes first".to_owned());
        let text = details(&lun);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "md0 raid1 VDS_LT_MIRROR device",
            "/dev/md0, /dev/md/root",
            "256 MiB (268435456 bytes)",
            "REBUILDING - copies",
            "1 of 2 in sync",
            "no further loss",
            "losing any of: /dev/loop0",
            "lunctl release md0",
            "recover, queued: md1 shares",
            "Input/output error",
            "7 running rebuild 42%",
            "2026-11-23T04:12:17Z",
            "Drives SLOT",
            "/dev/loop2",
            "Plexes PLEX",
            "SIMPLE",
        ] {
            assert!(words.contains(part), "no {part:?} in\n{text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }

    #[test]
    fn no_luns_is_said_in_words() {
        assert!(table(&[]).starts_with("No LUNs"));
    }
}
