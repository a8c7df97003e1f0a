//! Values of sysfs attributes, one function for each format. `source` names the file in errors.

use lun_core::Error;
use lun_core::facts::{
    ArrayState, Level, MemberState, Metadata, Position, Slot, SpeedLimit, SyncAction, SyncCompleted,
};
use lun_core::id::DevNo;

use super::bad;

/// Reads a decimal number; of `new (old)`, which `raid_disks`, `layout` and `chunk_size` print
/// during a reshape, the new one.
///
/// # Errors
/// When the first word is no number that fits.
pub fn number<T: std::str::FromStr>(source: &str, text: &str) -> Result<T, Error> {
    let wrong = || bad(source, text, "a number, or `new (old)`");
    let mut words = text.split_whitespace();
    let value = words
        .next()
        .ok_or_else(wrong)?
        .parse()
        .map_err(|_| wrong())?;
    match (words.next(), words.next()) {
        (None, _) => Ok(value),
        (Some(old), None) if old.starts_with('(') && old.ends_with(')') => Ok(value),
        _ => Err(wrong()),
    }
}

/// `md/layout`; of `new (old)`, which it prints during a reshape, the new one. The kernel's number
/// is signed and a raid0 has -1: no layout, which other levels print as 0 and which 0 stands for
/// here too.
///
/// # Errors
/// When the first word is no number that fits.
pub fn layout(source: &str, text: &str) -> Result<u32, Error> {
    if text.trim() == "-1" {
        return Ok(0);
    }
    number(source, text)
}

/// `md/array_state`.
///
/// # Errors
/// When the word is unknown.
pub fn array_state(source: &str, text: &str) -> Result<ArrayState, Error> {
    Ok(match text.trim() {
        "clear" => ArrayState::Clear,
        "inactive" => ArrayState::Inactive,
        "suspended" => ArrayState::Suspended,
        "readonly" => ArrayState::Readonly,
        "read-auto" => ArrayState::ReadAuto,
        "clean" => ArrayState::Clean,
        "active" => ArrayState::Active,
        "write-pending" => ArrayState::WritePending,
        "active-idle" => ArrayState::ActiveIdle,
        "broken" => ArrayState::Broken,
        other => return Err(bad(source, other, "an array state such as `clean`")),
    })
}

/// `md/sync_action`.
///
/// # Errors
/// When the word is unknown.
pub fn sync_action(source: &str, text: &str) -> Result<SyncAction, Error> {
    Ok(match text.trim() {
        "idle" => SyncAction::Idle,
        "frozen" => SyncAction::Frozen,
        "resync" => SyncAction::Resync,
        "recover" => SyncAction::Recover,
        "check" => SyncAction::Check,
        "repair" => SyncAction::Repair,
        "reshape" => SyncAction::Reshape,
        other => return Err(bad(source, other, "a sync action such as `idle`")),
    })
}

/// `md/last_sync_action`: the words of [`sync_action`], and those of kernels before 6.11, `none`
/// and `recovery`. [`None`] before anything ran.
///
/// # Errors
/// When the word is unknown.
pub fn last_sync_action(source: &str, text: &str) -> Result<Option<SyncAction>, Error> {
    match text.trim() {
        "none" | "idle" => Ok(None),
        "recovery" => Ok(Some(SyncAction::Recover)),
        word => sync_action(source, word).map(Some),
    }
}

/// `md/sync_max`: sectors, or `max`, which is [`None`].
///
/// # Errors
/// On any other text.
pub fn sync_max(source: &str, text: &str) -> Result<Option<u64>, Error> {
    match text.trim() {
        "max" => Ok(None),
        other => number(source, other).map(Some),
    }
}

/// `md/sync_speed_min` and `md/sync_speed_max`: `N (local)` or `N (system)`, KiB/s.
///
/// # Errors
/// On any other text.
pub fn speed_limit(source: &str, text: &str) -> Result<SpeedLimit, Error> {
    let wrong = || bad(source, text, "`N (local)` or `N (system)`");
    let (kib_s, whose) = text.trim().split_once(' ').ok_or_else(wrong)?;
    let local = match whose {
        "(local)" => true,
        "(system)" => false,
        _ => return Err(wrong()),
    };
    let kib_s = kib_s.parse().map_err(|_| wrong())?;
    Ok(SpeedLimit { kib_s, local })
}

/// `md/sync_completed`: `none`, `delayed`, or `done / total` in sectors.
///
/// # Errors
/// On any other text.
pub fn sync_completed(source: &str, text: &str) -> Result<SyncCompleted, Error> {
    let wrong = || bad(source, text, "`none`, `delayed` or `done / total`");
    match text.trim() {
        "none" => Ok(SyncCompleted::None),
        "delayed" => Ok(SyncCompleted::Delayed),
        pair => {
            let (done, total) = pair.split_once('/').ok_or_else(wrong)?;
            Ok(SyncCompleted::At {
                done: done.trim().parse().map_err(|_| wrong())?,
                total: total.trim().parse().map_err(|_| wrong())?,
            })
        }
    }
}

/// `md/level`. The kernel prints nothing for a container: that needs [`Metadata`] too. Until an array
/// runs it prints the number that its superblock has (`drivers/md/md.c:level_show`).
#[must_use]
pub fn level(text: &str, metadata: Option<&Metadata>) -> Level {
    match text.trim() {
        "linear" | "-1" => Level::Linear,
        "raid0" | "0" => Level::Raid0,
        "raid1" | "1" => Level::Raid1,
        "raid4" | "4" => Level::Raid4,
        "raid5" | "5" => Level::Raid5,
        "raid6" | "6" => Level::Raid6,
        "raid10" | "10" => Level::Raid10,
        // Members of a container carry its name after a slash, the container only the format's.
        "" if matches!(metadata, Some(Metadata::External(kind)) if !is_inside_container(kind)) => {
            Level::Container
        }
        other => Level::Other(other.to_owned()),
    }
}

fn is_inside_container(kind: &str) -> bool {
    kind.starts_with('/') || kind.starts_with('-')
}

/// `md/metadata_version`.
///
/// # Errors
/// On a version that no kernel prints.
pub fn metadata(source: &str, text: &str) -> Result<Metadata, Error> {
    match text.trim() {
        "none" => Ok(Metadata::None),
        "0.90" => Ok(Metadata::V0_90),
        other => {
            if let Some(kind) = other.strip_prefix("external:") {
                return Ok(Metadata::External(kind.to_owned()));
            }
            other
                .strip_prefix("1.")
                .and_then(|minor| minor.parse().ok())
                .map(Metadata::V1)
                .ok_or_else(|| bad(source, other, "`0.90`, `1.x`, `external:TYPE` or `none`"))
        }
    }
}

/// A position in sectors that may be `none` (`resync_start`, `recovery_start`).
///
/// # Errors
/// When it is neither `none` nor a number.
pub fn position(source: &str, text: &str) -> Result<Position, Error> {
    match text.trim() {
        "none" => Ok(Position::Done),
        other => number(source, other).map(Position::At),
    }
}

/// `dev-X/slot`.
///
/// # Errors
/// When it is neither `none`, `journal` nor a number.
pub fn slot(source: &str, text: &str) -> Result<Slot, Error> {
    match text.trim() {
        "none" => Ok(Slot::None),
        "journal" => Ok(Slot::Journal),
        other => other
            .parse()
            .map(Slot::At)
            .map_err(|_| bad(source, other, "`none`, `journal` or a slot number")),
    }
}

/// `dev-X/state`: a list of words; unknown ones, which a later kernel may add, are passed over.
#[must_use]
pub fn member_state(text: &str) -> MemberState {
    let mut state = MemberState::default();
    for word in text.trim().split(',') {
        match word.trim() {
            "faulty" => state.faulty = true,
            "in_sync" => state.in_sync = true,
            "journal" => state.journal = true,
            "write_mostly" => state.write_mostly = true,
            "blocked" => state.blocked = true,
            "spare" => state.spare = true,
            "write_error" => state.write_error = true,
            "want_replacement" => state.want_replacement = true,
            "replacement" => state.replacement = true,
            "external_bbl" => state.external_bbl = true,
            "failfast" => state.failfast = true,
            _ => {}
        }
    }
    state
}

/// Counts the ranges in `dev-X/bad_blocks`, lines of `sector length`. The kernel cuts at one
/// page, so the last line may be half a line; it counts too.
///
/// # Errors
/// When a line begins with something else than a number.
pub fn bad_block_lines(source: &str, text: &str) -> Result<u32, Error> {
    let mut lines = 0_u32;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let first = line.split_whitespace().next().unwrap_or_default();
        if first.parse::<u64>().is_err() {
            return Err(bad(source, line, "`sector length`"));
        }
        lines = lines.saturating_add(1);
    }
    Ok(lines)
}

/// `bitmap/location`: whether there is a bitmap at all.
///
/// # Errors
/// When it is neither `none`, `file` nor an offset.
pub fn bitmap_location(source: &str, text: &str) -> Result<bool, Error> {
    match text.trim() {
        "none" => Ok(false),
        "file" => Ok(true),
        other if other.parse::<i64>().is_ok() => Ok(true),
        other => Err(bad(
            source,
            other,
            "`none`, `file` or an offset such as `+8`",
        )),
    }
}

/// A device number as `dev` files print it: `major:minor`.
///
/// # Errors
/// On any other text.
pub fn dev_number(source: &str, text: &str) -> Result<DevNo, Error> {
    let wrong = || bad(source, text, "`major:minor`");
    let (major, minor) = text.trim().split_once(':').ok_or_else(wrong)?;
    Ok(DevNo {
        major: major.parse().map_err(|_| wrong())?,
        minor: minor.parse().map_err(|_| wrong())?,
    })
}
