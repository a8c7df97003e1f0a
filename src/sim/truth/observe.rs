//! Facts reduced to what the simulator and every kernel must agree on: words and classes, no
//! times, no figures that depend on them.

use lun_core::Error;
use lun_core::facts::{
    ArrayFacts, ArrayState, DmRaidFacts, Fact, LegHealth, MdstatProgress, MemberFacts, MemberState,
    Position, ProbeFacts, Slot, SyncAction, SyncCompleted,
};

/// One array in one line; `letter` names its drives.
pub fn array(facts: &ArrayFacts, letter: impl Fn(&str) -> String) -> String {
    match facts.dm() {
        Some(dm) => set(facts, dm, letter),
        None => md(facts, letter),
    }
}

fn md(facts: &ArrayFacts, letter: impl Fn(&str) -> String) -> String {
    let mut words = vec![state(&facts.state)];
    match &facts.sync {
        None => words.push("no-sync".to_owned()),
        Some(sync) => {
            words.push(format!("degraded={}", figure(&sync.degraded)));
            words.push(known(&sync.action, word));
            words.push(known(&sync.completed, completed));
            let last = |last: &Option<SyncAction>| {
                last.map_or_else(|| "none".to_owned(), |action| word(&action))
            };
            words.push(format!("last={}", known(&sync.last_action, last)));
            if sync.sync_min != Fact::Known(0) {
                words.push(known(&sync.sync_min, |_| "min".to_owned()));
            }
            if sync.sync_max != Fact::Known(None) {
                words.push(known(&sync.sync_max, |_| "max".to_owned()));
            }
            if sync.mismatch_sectors != Fact::Known(0) {
                words.push(known(&sync.mismatch_sectors, |_| "mismatch".to_owned()));
            }
        }
    }
    if facts.resync_start != Fact::Known(Position::Done) {
        words.push(format!("resync={}", known(&facts.resync_start, position)));
    }
    if facts.bitmap != Fact::Known(false) {
        words.push(known(&facts.bitmap, |_| "bitmap".to_owned()));
    }
    words.extend(mdstat(facts));
    // Nobody wakes the thread of an array that broke: whether it still dropped the failed member
    // from its slot is chance, unless it is frozen.
    let chance = facts
        .state
        .is_known_and(|state| matches!(state, ArrayState::Broken | ArrayState::WritePending))
        && shown_action(facts) != Some(SyncAction::Frozen);
    let mut members: Vec<String> = facts
        .members
        .iter()
        .map(|m| format!("{} {}", letter(&m.name), member(m, chance)))
        .collect();
    members.sort();
    format!("{} | {}", words.join(" "), members.join(" | "))
}

/// One raid set in one line.
fn set(facts: &ArrayFacts, set: &DmRaidFacts, letter: impl Fn(&str) -> String) -> String {
    let mut words = vec![state(&facts.state)];
    let action = shown_action(facts);
    if let Some(sync) = &facts.sync {
        words.push(format!("degraded={}", figure(&sync.degraded)));
        words.push(known(&sync.action, word));
        if sync.mismatch_sectors != Fact::Known(0) {
            words.push(known(&sync.mismatch_sectors, |_| "mismatch".to_owned()));
        }
    }
    if facts.resync_start != Fact::Known(Position::Done) {
        words.push(format!("resync={}", known(&facts.resync_start, position)));
    }
    // Amid a recovery that stands still a kernel may say either.
    if action == Some(SyncAction::Idle) {
        words.push(known(&set.status, |status| letters(&status.legs)));
    }
    let superblocks = set.superblocks.iter();
    let written = superblocks.filter_map(|superblock| superblock.known()?.as_ref());
    if let Some(freshest) = written.max_by_key(|superblock| superblock.events) {
        words.push(slots("failed", freshest.failed.iter().copied()));
    }
    if let Some(table) = set.table.known() {
        let left_out = (0_u32..).zip(&table.legs);
        let left_out = left_out.filter(|(_, leg)| leg.data.is_none());
        words.push(slots("rebuild", table.rebuild.iter().copied()));
        words.push(slots("left-out", left_out.map(|(slot, _)| slot)));
    }
    words.push(slots("unreadable", set.unreadable.iter().copied()));
    if !set.laid.is_empty() {
        let used = set.laid.iter().filter(|laid| laid.in_use).count();
        words.push(format!("laid={used}/{}", set.laid.len()));
    }
    if set.inactive_table {
        words.push("second-table".to_owned());
    }
    words.retain(|word| !word.is_empty());
    let legs = facts.members.iter();
    let mut legs: Vec<String> = legs
        .map(|member| format!("{} {}", letter(&member.name), leg(member, set)))
        .collect();
    legs.sort();
    format!("{} | {}", words.join(" "), legs.join(" | "))
}

/// A list of slots, where there are any.
fn slots(what: &str, slots: impl Iterator<Item = u32>) -> String {
    let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
    if slots.is_empty() {
        return String::new();
    }
    format!("{what}={}", slots.join(","))
}

/// One leg, and whether its superblock can be read and has been written.
fn leg(member: &MemberFacts, set: &DmRaidFacts) -> String {
    let mut words = Vec::new();
    let mut superblock = None;
    if let Fact::Known(Slot::At(slot)) = member.slot {
        words.push(slot.to_string());
        superblock = set
            .superblocks
            .get(usize::try_from(slot).unwrap_or(usize::MAX));
    }
    words.push(known(&member.state, flags));
    if member.state.is_known_and(|state| state.spare) {
        words.push(known(&member.recovery_start, position));
    }
    match superblock {
        Some(Fact::Known(Some(_))) => {}
        Some(Fact::Known(None)) => words.push("blank".to_owned()),
        Some(Fact::Unknown(_)) | None => words.push("no-superblock".to_owned()),
    }
    words.join(" ")
}

fn letters(legs: &[LegHealth]) -> String {
    let letter = |leg: &LegHealth| match leg {
        LegHealth::InSync => 'A',
        LegHealth::Alive => 'a',
        LegHealth::Failed => 'D',
        LegHealth::Absent => '-',
    };
    legs.iter().map(letter).collect()
}

/// The kernel's word for a sync action.
#[must_use]
pub fn word(action: &SyncAction) -> String {
    format!("{action:?}").to_lowercase()
}

/// The sync action that runs. None runs while `recover` is shown though no drive is there to be
/// filled: every kernel shows it for a moment when its thread looks for work
/// (`docs/kernel-notes.md`); nor between an action that was ordered and its begin.
#[must_use]
pub fn running(facts: &ArrayFacts) -> Option<SyncAction> {
    let filled = |m: &MemberFacts| {
        m.state.is_known_and(|s| !s.in_sync && !s.faulty)
            && m.slot.is_known_and(|slot| *slot != Slot::None)
    };
    match *facts.sync.as_ref()?.action.known()? {
        SyncAction::Idle | SyncAction::Frozen => None,
        SyncAction::Recover if !facts.members.iter().any(filled) => None,
        action => Some(action),
    }
}

/// `active` and `clean` come and go with each write.
fn state(fact: &Fact<ArrayState>) -> String {
    known(fact, |state| match state {
        ArrayState::Clean | ArrayState::Active | ArrayState::ActiveIdle => "rw".to_owned(),
        ArrayState::Clear => "clear".to_owned(),
        ArrayState::Inactive => "inactive".to_owned(),
        ArrayState::Suspended => "suspended".to_owned(),
        ArrayState::Readonly => "readonly".to_owned(),
        ArrayState::ReadAuto => "read-auto".to_owned(),
        ArrayState::WritePending => "write-pending".to_owned(),
        ArrayState::Broken => "broken".to_owned(),
    })
}

fn completed(completed: &SyncCompleted) -> String {
    match completed {
        SyncCompleted::None => "stopped".to_owned(),
        SyncCompleted::Delayed => "delayed".to_owned(),
        SyncCompleted::At { done: 0, .. } => "at-0".to_owned(),
        SyncCompleted::At { done, total } if done == total => "at-end".to_owned(),
        SyncCompleted::At { .. } => "at-part".to_owned(),
    }
}

fn position(position: &Position) -> String {
    match position {
        Position::Done => "done".to_owned(),
        Position::At(0) => "0".to_owned(),
        Position::At(_) => "part".to_owned(),
    }
}

/// What only `/proc/mdstat` tells.
fn mdstat(facts: &ArrayFacts) -> Vec<String> {
    let Some(entry) = &facts.mdstat else {
        return vec!["not-in-mdstat".to_owned()];
    };
    let mut words = Vec::new();
    if entry.broken {
        words.push("mdstat:broken".to_owned());
    }
    match entry.progress {
        MdstatProgress::None | MdstatProgress::At { .. } => {}
        MdstatProgress::Delayed => words.push("mdstat:delayed".to_owned()),
        MdstatProgress::Pending => words.push("mdstat:pending".to_owned()),
        MdstatProgress::Remote => words.push("mdstat:remote".to_owned()),
    }
    words
}

fn shown_action(facts: &ArrayFacts) -> Option<SyncAction> {
    facts.sync.as_ref()?.action.known().copied()
}

/// One member. `chance`: whether a faulty one still has its slot is left open.
fn member(facts: &MemberFacts, chance: bool) -> String {
    let faulty = facts.state.is_known_and(|state| state.faulty);
    let mut words = vec![known(&facts.slot, |slot| match slot {
        _ if chance && faulty => "?".to_owned(),
        Slot::None => "-".to_owned(),
        Slot::At(slot) => slot.to_string(),
        Slot::Journal => "journal".to_owned(),
    })];
    words.push(known(&facts.state, flags));
    // Of a faulty member, and of one without a slot, it is noise.
    let filled = facts
        .state
        .is_known_and(|state| !state.faulty && !state.in_sync)
        && facts.slot.is_known_and(|slot| *slot != Slot::None);
    if filled {
        words.push(known(&facts.recovery_start, position));
    }
    if facts.bad_blocks != Fact::Known(0) {
        words.push(known(&facts.bad_blocks, |_| "bad-blocks".to_owned()));
    }
    if facts.dev.known().is_none() {
        words.push("gone".to_owned());
    }
    words.join(" ")
}

/// `blocked` tells the same as `write-pending`, of which `run.rs` says that it is chance.
fn flags(state: &MemberState) -> String {
    let words = [
        (state.faulty, "faulty"),
        (state.in_sync, "in_sync"),
        (state.spare, "spare"),
        (state.write_error, "write_error"),
        (state.want_replacement, "want_replacement"),
        (state.replacement, "replacement"),
    ];
    let shown: Vec<&str> = words
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, w)| *w)
        .collect();
    shown.join(",")
}

/// One drive that is in no array. `array` is the UUID and event count to compare with.
pub fn probe(facts: &ProbeFacts, array: Option<(uuid::Uuid, u64)>) -> String {
    let free = known(&facts.exclusive, |free| {
        if *free { "free" } else { "busy" }.to_owned()
    });
    let md = known(&facts.md, |md| {
        let Some(superblock) = md else {
            return "no superblock".to_owned();
        };
        let whose = match array {
            Some((uuid, events)) if uuid == superblock.array_uuid => {
                if superblock.events < events {
                    "of this array, older"
                } else {
                    "of this array, as new"
                }
            }
            _ => "of another array",
        };
        let role = superblock
            .role
            .map_or_else(|| "spare".to_owned(), |role| format!("slot {role}"));
        format!("superblock {whose}, {role}")
    });
    let signatures = known(&facts.signatures, |found| found.join(","));
    format!("{free}, {md}, signatures [{signatures}]")
}

/// How an action ended, without the words that differ from tool to tool.
pub fn answer(result: &Result<(), Error>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(Error::Kernel { errno, .. }) => errno_name(*errno),
        Err(other) => serde_json::to_value(other)
            .ok()
            .and_then(|value| {
                let kind = value.get("error")?.as_str()?.to_owned();
                let reason = value.pointer("/unfit/reason").and_then(|r| r.as_str());
                Some(reason.map_or_else(|| kind.clone(), |reason| format!("{kind} ({reason})")))
            })
            .unwrap_or_else(|| format!("unnameable error {other:?}")),
    }
}

/// An error number by its name.
#[must_use]
pub fn errno_name(errno: i32) -> String {
    match errno {
        0 => "ignored".to_owned(),
        2 => "ENOENT".to_owned(),
        5 => "EIO".to_owned(),
        6 => "ENXIO".to_owned(),
        16 => "EBUSY".to_owned(),
        17 => "EEXIST".to_owned(),
        19 => "ENODEV".to_owned(),
        22 => "EINVAL".to_owned(),
        28 => "ENOSPC".to_owned(),
        30 => "EROFS".to_owned(),
        other => format!("errno {other}"),
    }
}

fn figure(fact: &Fact<u32>) -> String {
    known(fact, ToString::to_string)
}

fn known<T>(fact: &Fact<T>, show: impl FnOnce(&T) -> String) -> String {
    match fact {
        Fact::Known(value) => show(value),
        Fact::Unknown(_) => "unknown".to_owned(),
    }
}
