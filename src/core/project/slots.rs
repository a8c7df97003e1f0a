//! Small questions about an array's facts, each answered in one place. Planner and machine ask
//! them too.

use crate::facts::{
    ArrayFacts, ArrayState, Fact, Level, MdstatProgress, MemberFacts, MemberState, Position, Slot,
    SyncAction, SyncCompleted,
};
use crate::id::LunId;

/// Identity of the LUN that an array is: its own UUID, or one derived from its name where the
/// metadata has none or it could not be read.
#[must_use]
pub fn lun_id(array: &ArrayFacts) -> LunId {
    match &array.uuid {
        Fact::Known(Some(uuid)) => LunId(*uuid),
        Fact::Known(None) | Fact::Unknown(_) => LunId::weak(&array.name),
    }
}

/// Whether this occupant of a slot carries valid data.
pub(super) const fn is_good(state: &MemberState) -> bool {
    state.in_sync && !state.faulty && !state.journal
}

/// Members whose slot is `slot`; a replacement shares the slot of the member it replaces.
pub(super) fn occupants(array: &ArrayFacts, slot: u32) -> impl Iterator<Item = &MemberFacts> {
    array
        .members
        .iter()
        .filter(move |member| member.slot == Fact::Known(Slot::At(slot)))
}

/// Number of slots as an index.
fn slot_count(array: &ArrayFacts) -> Option<usize> {
    usize::try_from(*array.raid_disks.known()?).ok()
}

/// By slot: whether some occupant is in sync and not faulty. [`None`] when the number of slots
/// or a member's slot or state is not known, or the array is not running (its members then show
/// neither).
#[must_use]
pub fn good_slots(array: &ArrayFacts) -> Option<Vec<bool>> {
    if !is_running(array)? {
        return None;
    }
    by_slot(array, is_good)
}

/// By slot: whether some occupant satisfies `test`. [`None`] when that is not known.
fn by_slot(array: &ArrayFacts, test: impl Fn(&MemberState) -> bool) -> Option<Vec<bool>> {
    let mut slots = vec![false; slot_count(array)?];
    for member in &array.members {
        let Slot::At(number) = *member.slot.known()? else {
            continue;
        };
        let holds = test(member.state.known()?);
        // A slot past the end belongs to a reshape that shrinks the array.
        if let Some(slot) = usize::try_from(number)
            .ok()
            .and_then(|number| slots.get_mut(number))
        {
            *slot |= holds;
        }
    }
    Some(slots)
}

/// Slots that have neither a good member nor one that is being filled: each wants a drive. Empty
/// when that is not known ([`good_slots`]).
#[must_use]
pub fn missing_slots(array: &ArrayFacts) -> Vec<u32> {
    if is_running(array) != Some(true) {
        return Vec::new();
    }
    let alive = by_slot(array, |state| !state.faulty && !state.journal).unwrap_or_default();
    (0_u32..)
        .zip(alive)
        .filter(|(_, alive)| !alive)
        .map(|(slot, _)| slot)
        .collect()
}

/// Whether redundancy is known to be less than whole: a slot lacks a good member, or the kernel
/// counts one as degraded.
#[must_use]
pub fn is_degraded(array: &ArrayFacts) -> bool {
    let counted = array
        .sync
        .as_ref()
        .is_some_and(|sync| sync.degraded.is_known_and(|degraded| *degraded > 0));
    counted || good_slots(array).is_some_and(|slots| slots.contains(&false))
}

/// Whether the array runs (a personality is active). [`None`]: not known.
///
/// `/proc/mdstat` is read before sysfs: an array that `mdadm` starts in between is inactive there and
/// runs here. It is heard only where sysfs says nothing.
#[must_use]
pub fn is_running(array: &ArrayFacts) -> Option<bool> {
    let Some(state) = array.state.known() else {
        let inactive = array.mdstat.as_ref().is_some_and(|mdstat| mdstat.inactive);
        return inactive.then_some(false);
    };
    Some(match state {
        ArrayState::Clear | ArrayState::Inactive => false,
        ArrayState::Suspended
        | ArrayState::Readonly
        | ArrayState::ReadAuto
        | ArrayState::Clean
        | ArrayState::Active
        | ArrayState::WritePending
        | ArrayState::ActiveIdle
        | ArrayState::Broken => true,
    })
}

/// Progress line of `/proc/mdstat`; `None` where the array has no entry.
pub(super) fn progress(array: &ArrayFacts) -> MdstatProgress {
    array
        .mdstat
        .as_ref()
        .map_or(MdstatProgress::None, |mdstat| mdstat.progress)
}

/// The sync action that runs or is queued behind another array. [`None`] when nothing does.
///
/// The word of `sync_action` alone is not enough: `recover` is also shown while the kernel only
/// looks whether there is something to do (`drivers/md/md.c:md_check_recovery`), and `frozen` is
/// shown while a thread still stops. Where nothing is being filled and `/proc/mdstat`
/// shows no progress, `recover` is such a look, whatever `sync_completed` says: seen on 6.1 after a
/// member failed.
#[must_use]
pub fn syncing(array: &ArrayFacts) -> Option<SyncAction> {
    let sync = array.sync.as_ref()?;
    let action = *sync.action.known()?;
    if matches!(action, SyncAction::Idle | SyncAction::Frozen) {
        return None;
    }
    let live = matches!(
        progress(array),
        MdstatProgress::At { .. } | MdstatProgress::Delayed | MdstatProgress::Remote
    );
    let looks = action == SyncAction::Recover && !array.members.iter().any(may_be_filled);
    let thread = match sync.completed {
        Fact::Known(SyncCompleted::None) => false,
        Fact::Known(SyncCompleted::Delayed | SyncCompleted::At { .. }) => true,
        // Not known: better one refusal too many than two controllers at work.
        Fact::Unknown(_) => true,
    };
    (live || thread && !looks).then_some(action)
}

/// Whether a member sits in a slot and is not in sync yet, as far as can be told.
fn may_be_filled(member: &MemberFacts) -> bool {
    let in_slot = match &member.slot {
        Fact::Known(slot) => matches!(slot, Slot::At(_)),
        Fact::Unknown(_) => true,
    };
    let filled = match &member.state {
        Fact::Known(state) => !state.in_sync && !state.faulty && !state.journal,
        Fact::Unknown(_) => true,
    };
    in_slot && filled
}

/// Whether what [`syncing`] reports is queued behind another array on the same disks.
#[must_use]
pub fn is_delayed(array: &ArrayFacts) -> bool {
    progress(array) == MdstatProgress::Delayed
        || array
            .sync
            .as_ref()
            .is_some_and(|sync| sync.completed == Fact::Known(SyncCompleted::Delayed))
}

/// Whether mirrors or parity are out of step and nothing brings them in step (`resync_start` is
/// not `none`, or `resync=PENDING`). [`None`]: not known.
#[must_use]
pub fn is_dirty(array: &ArrayFacts) -> Option<bool> {
    let pending = progress(array) == MdstatProgress::Pending && !is_degraded(array);
    if pending {
        return Some(true);
    }
    array
        .resync_start
        .known()
        .map(|start| matches!(start, Position::At(_)))
}

/// Whether the kernel may take a half-filled copy for a source: it brings a RAID10 in step before it fills
/// what is missing (6.12, 7.2: `drivers/md/md.c:md_choose_sync_action`), reads every member that is in a slot
/// (`drivers/md/raid10.c:raid10_sync_request`), and writes what the lowest slot has over the other copies.
#[must_use]
pub fn half_filled_source(array: &ArrayFacts) -> bool {
    let good_in = |slot: &Slot| {
        array.members.iter().any(|member| {
            let good = member.state.is_known_and(|s| s.in_sync && !s.faulty);
            good && member.slot.known() == Some(slot)
        })
    };
    // What replaces a member that failed meanwhile takes its place before anything is begun.
    let half = |member: &MemberFacts| match (member.slot.known(), member.state.known()) {
        (Some(slot @ Slot::At(_)), Some(state)) => {
            let alone = !state.replacement || !good_in(slot);
            !state.in_sync && !state.faulty && alone
        }
        _ => false,
    };
    // A resync of device-mapper cannot be put off: nothing writes its `resync_start`.
    array.dm().is_none()
        && array.level.known() == Some(&Level::Raid10)
        && is_dirty(array) != Some(false)
        && array.members.iter().any(half)
}

/// Whether a member that still works shows signs of failing: write errors, a wish to be replaced,
/// recorded bad blocks.
#[must_use]
pub fn is_failing(member: &MemberFacts) -> bool {
    member.bad_blocks.is_known_and(|lines| *lines > 0)
        || member
            .state
            .is_known_and(|state| state.write_error || state.want_replacement)
}

/// Errors that a member has made so far: corrected reads, places it could not read or write, and a failed
/// write. [`None`]: not known, or of no use, as of a member that carries no data.
#[must_use]
pub fn errors(member: &MemberFacts) -> Option<u64> {
    let state = member.state.known().filter(|state| is_good(state))?;
    let corrected = *member.errors.known()?;
    let places = member.bad_blocks.known().copied().map_or(0, u64::from);
    Some(
        corrected
            .saturating_add(places)
            .saturating_add(u64::from(state.write_error)),
    )
}

/// Whether copies of an array may differ by what was written when the host went down. Parity is
/// brought in step by the resync that a dirty array begins with, unless a replacement takes over
/// later that had a part of the data by then. `filled`: it is known
/// that a member was being filled, and whether that was a replacement.
#[must_use]
pub fn may_differ(array: &ArrayFacts, filled: Option<bool>) -> bool {
    let mirror = matches!(array.level.known(), Some(Level::Raid1 | Level::Raid10));
    let partly = |member: &&MemberFacts| {
        let in_slot = matches!(member.slot.known(), Some(Slot::At(_)));
        let begun = |at: &Position| matches!(at, Position::At(sectors) if *sectors > 0);
        in_slot && member.recovery_start.is_known_and(begun)
    };
    let without_data = |member: &&MemberFacts| {
        let state = member.state.known();
        state.is_some_and(|state| !state.in_sync && !state.faulty && (mirror || state.replacement))
    };
    let half = array
        .members
        .iter()
        .filter(without_data)
        .any(|m| partly(&m));
    half || filled.is_some_and(|replacement| mirror || replacement)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{array, member};
    use super::is_running;
    use crate::facts::{ArrayFacts, ArrayState, Fact, Level, MdstatFacts};

    /// `mdadm --create` started it between the reading of `/proc/mdstat` and that of sysfs.
    #[test]
    fn what_sysfs_says_outweighs_an_older_mdstat() {
        let inactive = |facts: ArrayFacts| ArrayFacts {
            mdstat: facts.mdstat.map(|entry| MdstatFacts {
                inactive: true,
                ..entry
            }),
            ..facts
        };
        let started = inactive(array(Level::Raid1, 1, vec![member(0, Some(0), "U")]));
        assert_eq!(is_running(&started), Some(true));
        let stopped = ArrayFacts {
            state: Fact::Known(ArrayState::Inactive),
            ..started.clone()
        };
        assert_eq!(is_running(&stopped), Some(false));
        let unread = ArrayFacts {
            state: Fact::Unknown("it went".to_owned()),
            ..started
        };
        assert_eq!(is_running(&unread), Some(false));
    }
}
