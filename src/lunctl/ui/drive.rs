//! Drives as text.

use lun_core::id::LunId;
use lun_core::model::{Drive, Lun, Role, VdsEnum as _};

use super::table::{indented, render};
use super::units::maybe_bytes;

/// What a drive is called: its node, its lasting name, or that it is not there.
pub(crate) fn name(drive: &Drive) -> String {
    [&drive.device, &drive.stable_name]
        .into_iter()
        .find(|name| !name.is_empty())
        .cloned()
        .unwrap_or_else(|| "(none)".to_owned())
}

/// A role in words.
fn role(role: Role) -> &'static str {
    match role {
        Role::InSync => "in sync",
        Role::Rebuilding => "rebuilding",
        Role::Replacing => "replacing",
        Role::Spare => "spare",
        Role::Faulty => "faulty",
        Role::Journal => "journal",
        Role::Pool => "pool",
        Role::Missing => "missing",
        Role::Unknown => "unknown",
    }
}

/// All drives.
pub(crate) fn table(drives: &[Drive], luns: &[Lun]) -> String {
    if drives.is_empty() {
        return "No drives: no LUN has members and the spare pool is empty.\n".to_owned();
    }
    let rows = drives.iter().map(|drive| {
        vec![
            name(drive),
            lun_name(drive.lun, luns),
            slot(drive),
            role(drive.role).to_owned(),
            short(drive.status.name()),
            short(drive.health.name()),
            maybe_bytes(drive.size_bytes),
            notes(drive),
        ]
    });
    render(
        &[
            "DRIVE", "LUN", "SLOT", "ROLE", "STATUS", "HEALTH", "SIZE", "NOTES",
        ],
        rows.collect(),
    )
}

/// The drives of the spare pool.
pub(crate) fn pool_table(pool: &[Drive], luns: &[Lun]) -> String {
    if pool.is_empty() {
        return "The spare pool is empty; `lunctl spare add DRIVE` registers a drive.\n".to_owned();
    }
    let rows = pool.iter().map(|drive| {
        vec![
            name(drive),
            role(drive.role).to_owned(),
            lun_name(drive.lun, luns),
            short(drive.health.name()),
            maybe_bytes(drive.size_bytes),
            drive.stable_name.clone(),
        ]
    });
    render(
        &["DRIVE", "ROLE", "LUN", "HEALTH", "SIZE", "LASTING NAME"],
        rows.collect(),
    )
}

/// The drives of one LUN.
pub(super) fn of_lun(drives: &[Drive]) -> String {
    let rows = drives.iter().map(|drive| {
        vec![
            slot(drive),
            name(drive),
            role(drive.role).to_owned(),
            short(drive.status.name()),
            short(drive.health.name()),
            maybe_bytes(drive.size_bytes),
            notes(drive),
        ]
    });
    indented(
        &["SLOT", "DRIVE", "ROLE", "STATUS", "HEALTH", "SIZE", "NOTES"],
        rows.collect(),
    )
}

/// A VDS name without the prefix of its enumeration: `VDS_DRS_ONLINE` is `ONLINE` to people.
pub(crate) fn short(name: &str) -> String {
    name.splitn(3, '_').nth(2).unwrap_or(name).to_owned()
}

fn slot(drive: &Drive) -> String {
    drive
        .slot
        .map_or_else(|| "-".to_owned(), |slot| slot.to_string())
}

fn lun_name(id: Option<LunId>, luns: &[Lun]) -> String {
    id.map_or_else(
        || "-".to_owned(),
        |id| {
            luns.iter()
                .find(|lun| lun.id == id)
                .map_or_else(|| id.to_string(), |lun| lun.name.clone())
        },
    )
}

fn notes(drive: &Drive) -> String {
    let mut notes = drive.notes.clone();
    if drive.in_pool && drive.role != Role::Pool {
        notes.push("from the pool".to_owned());
    }
    if drive.weak_identity && drive.role != Role::Missing {
        notes.push("weak identity".to_owned());
    }
    notes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn a_drive_is_one_line() {
        let lun = samples::degraded();
        let text = table(&lun.drives, std::slice::from_ref(&lun));
        let line = text
            .lines()
            .find(|line| line.starts_with("/dev/loop0"))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(
            words,
            [
                "/dev/loop0",
                "md0",
                "0",
                "in",
                "sync",
                "ONLINE",
                "HEALTHY",
                "256",
                "MiB"
            ]
        );
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_said_in_words() {
        assert!(table(&[], &[]).starts_with("No drives"));
        assert!(pool_table(&[], &[]).contains("spare add"));
    }

    #[test]
    fn names_lose_the_prefix_of_their_enumeration() {
        assert_eq!(short("VDS_H_FAILED_REDUNDANCY"), "FAILED_REDUNDANCY");
        assert_eq!(short("VDS_DRS_NOT_READY"), "NOT_READY");
        assert_eq!(short("odd"), "odd");
    }
}
