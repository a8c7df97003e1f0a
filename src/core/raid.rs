//! Redundancy arithmetic: what a level and its layout make of a map of good and bad slots.
//!
//! The tests for failure are those of the kernel (`raid1_error`, `raid5.c:has_failed`,
//! `raid10.c:_enough`). An answer of [`None`] means that the level or the layout is not one whose
//! arithmetic is known, or that there are no slots.

use std::collections::BTreeSet;

use crate::facts::Level;

/// Near and far copies of a raid10 layout word: bits 0 to 7 and 8 to 15 (bit 16, offset, moves
/// the far copies without adding any). [`None`] for a word without copies.
fn raid10_copies(layout: u32) -> Option<(usize, usize)> {
    let near = usize::try_from(layout & 0xff).ok()?;
    let far = usize::try_from((layout >> 8) & 0xff).ok()?;
    (near > 0 && far > 0).then(|| (near, near.saturating_mul(far)))
}

/// The groups of slots of which each must keep one good member, for a level that works so.
///
/// For raid10 these are the windows that the kernel tests: `copies` neighbours (cyclic), starting
/// at every multiple of the near copies. With an odd number of slots, or far or offset copies,
/// the windows overlap.
fn copy_groups(level: &Level, layout: u32, slots: usize) -> Option<Vec<BTreeSet<usize>>> {
    match level {
        Level::Raid1 => Some(vec![(0..slots).collect()]),
        Level::Raid10 => {
            let (near, copies) = raid10_copies(layout)?;
            let width = copies.min(slots);
            let mut groups = Vec::new();
            let mut first = 0;
            loop {
                groups.push((first..first + width).map(|slot| slot % slots).collect());
                first = (first + near) % slots;
                if first == 0 {
                    return Some(groups);
                }
            }
        }
        _ => None,
    }
}

/// Bad slots that the level bears wherever they are; [`None`] for levels of copies and unknown
/// levels.
const fn parity(level: &Level) -> Option<usize> {
    match level {
        Level::Linear | Level::Raid0 => Some(0),
        Level::Raid4 | Level::Raid5 => Some(1),
        Level::Raid6 => Some(2),
        Level::Raid1 | Level::Raid10 | Level::Container | Level::Other(_) => None,
    }
}

/// Number of slots for which `good` holds in each group, the least of them.
fn least_good(groups: &[BTreeSet<usize>], slots: &[bool]) -> Option<usize> {
    groups
        .iter()
        .map(|group| {
            group
                .iter()
                .filter(|&&slot| slots.get(slot) == Some(&true))
                .count()
        })
        .min()
}

/// Whether an array of `level` with these slots (true: good) has lost data.
#[must_use]
pub fn failed(level: &Level, layout: u32, slots: &[bool]) -> Option<bool> {
    margin(level, layout, slots).map(|margin| margin.is_none())
}

/// How many further losses, of whichever members, are surely survived. 0 for a failed array.
#[must_use]
pub fn losses_survivable(level: &Level, layout: u32, slots: &[bool]) -> Option<u32> {
    margin(level, layout, slots).map(|left| u32::try_from(left.unwrap_or(0)).unwrap_or(u32::MAX))
}

/// Losses left; the inner [`None`] for a failed array.
fn margin(level: &Level, layout: u32, slots: &[bool]) -> Option<Option<usize>> {
    if slots.is_empty() {
        return None;
    }
    if let Some(bearable) = parity(level) {
        let bad = slots.iter().filter(|good| !**good).count();
        // A parity array cannot lose more members than it has.
        return Some(
            bearable
                .checked_sub(bad)
                .map(|left| left.min(slots.len() - bad)),
        );
    }
    let groups = copy_groups(level, layout, slots.len())?;
    Some(least_good(&groups, slots)?.checked_sub(1))
}

/// Good slots of which the loss of any one, next, fails the array; empty for a failed array.
#[must_use]
pub fn fatal_next(level: &Level, layout: u32, slots: &[bool]) -> Option<BTreeSet<u32>> {
    if failed(level, layout, slots)? {
        return Some(BTreeSet::new());
    }
    let mut fatal = BTreeSet::new();
    for (slot, _) in slots.iter().enumerate().filter(|(_, good)| **good) {
        let without: Vec<bool> = slots
            .iter()
            .enumerate()
            .map(|(other, good)| *good && other != slot)
            .collect();
        if failed(level, layout, &without)? {
            fatal.extend(u32::try_from(slot));
        }
    }
    Some(fatal)
}

/// Whether an array of `level` with so many slots has any redundancy at all.
#[must_use]
pub fn is_fault_tolerant(level: &Level, layout: u32, raid_disks: u32) -> Option<bool> {
    match level {
        Level::Linear | Level::Raid0 | Level::Container | Level::Other(_) => Some(false),
        Level::Raid1 => Some(raid_disks > 1),
        Level::Raid4 | Level::Raid5 | Level::Raid6 => Some(true),
        Level::Raid10 => raid10_copies(layout).map(|(_, copies)| copies > 1),
    }
}

/// The fewest good members with which an array of `level` could run, were they in the best slots.
#[must_use]
pub fn least_members(level: &Level, layout: u32, raid_disks: u32) -> Option<u32> {
    match level {
        Level::Linear | Level::Raid0 => Some(raid_disks),
        Level::Raid1 => Some(raid_disks.min(1)),
        Level::Raid4 | Level::Raid5 => Some(raid_disks.saturating_sub(1)),
        Level::Raid6 => Some(raid_disks.saturating_sub(2)),
        Level::Raid10 => {
            let (_, copies) = raid10_copies(layout)?;
            Some(raid_disks.div_ceil(u32::try_from(copies).ok()?))
        }
        Level::Container | Level::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const N2: u32 = 0x102;
    const N3: u32 = 0x103;
    const F2: u32 = 0x201;
    const O2: u32 = 0x1_0201;

    fn map(text: &str) -> Vec<bool> {
        text.bytes().map(|b| b == b'U').collect()
    }

    fn fatal(level: &Level, layout: u32, slots: &str) -> Vec<u32> {
        fatal_next(level, layout, &map(slots))
            .unwrap()
            .into_iter()
            .collect()
    }

    /// The kernel's loop, written down once more without the groups.
    fn kernel_enough(near: usize, copies: usize, slots: &[bool]) -> bool {
        let mut first = 0;
        loop {
            if (0..copies).all(|i| !slots[(first + i) % slots.len()]) {
                return false;
            }
            first = (first + near) % slots.len();
            if first == 0 {
                return true;
            }
        }
    }

    fn brute_failed(level: &Level, layout: u32, slots: &[bool]) -> bool {
        let bad = slots.iter().filter(|good| !**good).count();
        match level {
            Level::Linear | Level::Raid0 => bad > 0,
            Level::Raid1 => bad == slots.len(),
            Level::Raid4 | Level::Raid5 => bad > 1,
            Level::Raid6 => bad > 2,
            _ => {
                let near = (layout & 0xff) as usize;
                !kernel_enough(near, near * ((layout >> 8) & 0xff) as usize, slots)
            }
        }
    }

    /// Every map that is left after `count` of the good slots were lost.
    fn after_losses(slots: &[bool], count: u32) -> Vec<Vec<bool>> {
        (0_u32..1 << slots.len())
            .filter(|lost| lost.count_ones() == count)
            .filter(|lost| (0..slots.len()).all(|i| lost >> i & 1 == 0 || slots[i]))
            .map(|lost| {
                (0..slots.len())
                    .map(|i| slots[i] && lost >> i & 1 == 0)
                    .collect()
            })
            .collect()
    }

    fn arrays() -> impl Strategy<Value = (Level, u32, Vec<bool>)> {
        let level = proptest::sample::select(vec![
            Level::Linear,
            Level::Raid0,
            Level::Raid1,
            Level::Raid4,
            Level::Raid5,
            Level::Raid6,
            Level::Raid10,
        ]);
        let layout = proptest::sample::select(vec![N2, N3, F2, O2, 0x301, 0x202, 0x1_0301]);
        (
            level,
            layout,
            proptest::collection::vec(proptest::bool::weighted(0.8), 1..9),
        )
    }

    proptest! {
        #[test]
        fn failure_is_what_the_kernel_says((level, layout, slots) in arrays()) {
            prop_assert_eq!(
                failed(&level, layout, &slots),
                Some(brute_failed(&level, layout, &slots))
            );
        }

        #[test]
        fn survivable_losses_are_exact((level, layout, slots) in arrays()) {
            let survivable = losses_survivable(&level, layout, &slots).unwrap();
            if brute_failed(&level, layout, &slots) {
                prop_assert_eq!(survivable, 0);
            } else {
                for left in after_losses(&slots, survivable) {
                    prop_assert!(!brute_failed(&level, layout, &left), "{left:?}");
                }
                let more = after_losses(&slots, survivable + 1);
                prop_assert!(
                    more.is_empty() || more.iter().any(|left| brute_failed(&level, layout, left))
                );
            }
        }

        #[test]
        fn fatal_slots_are_exact((level, layout, slots) in arrays()) {
            let fatal = fatal_next(&level, layout, &slots).unwrap();
            if brute_failed(&level, layout, &slots) {
                prop_assert!(fatal.is_empty());
            } else {
                for slot in 0..slots.len() {
                    let mut left = slots.clone();
                    left[slot] = false;
                    let is_fatal = slots[slot] && brute_failed(&level, layout, &left);
                    prop_assert_eq!(fatal.contains(&u32::try_from(slot).unwrap()), is_fatal);
                }
                let some = losses_survivable(&level, layout, &slots) == Some(0);
                prop_assert!(some || fatal.is_empty());
            }
        }

        #[test]
        fn fewer_than_the_least_members_never_suffice((level, layout, slots) in arrays()) {
            let wanted = u32::try_from(slots.len()).unwrap();
            let good = u32::try_from(slots.iter().filter(|good| **good).count()).unwrap();
            if good < least_members(&level, layout, wanted).unwrap() {
                prop_assert_eq!(failed(&level, layout, &slots), Some(true));
            }
        }

        #[test]
        fn no_input_panics(layout: u32, slots in proptest::collection::vec(any::<bool>(), 0..64)) {
            for level in [Level::Raid1, Level::Raid6, Level::Raid10, Level::Container] {
                let _ = failed(&level, layout, &slots);
                let _ = losses_survivable(&level, layout, &slots);
                let _ = fatal_next(&level, layout, &slots);
                let _ = is_fault_tolerant(&level, layout, 0);
                let _ = least_members(&level, layout, u32::MAX);
            }
        }
    }

    #[test]
    fn raid10_near_with_even_slots_is_made_of_pairs() {
        assert!(fatal(&Level::Raid10, N2, "UUUU").is_empty());
        assert_eq!(fatal(&Level::Raid10, N2, "_UUU"), [1]);
        assert_eq!(fatal(&Level::Raid10, N2, "_U_U"), [1, 3]);
        assert_eq!(failed(&Level::Raid10, N2, &map("__UU")), Some(true));
        assert_eq!(failed(&Level::Raid10, N2, &map("U__U")), Some(false));
    }

    #[test]
    fn raid10_near_with_odd_slots_has_overlapping_pairs() {
        assert_eq!(fatal(&Level::Raid10, N2, "_UUUU"), [1, 4]);
        assert_eq!(failed(&Level::Raid10, N2, &map("_UUU_")), Some(true));
        assert_eq!(failed(&Level::Raid10, N2, &map("U__UU")), Some(true));
    }

    #[test]
    fn raid10_far_and_offset_pair_every_neighbour() {
        for layout in [F2, O2] {
            assert_eq!(fatal(&Level::Raid10, layout, "U_UU"), [0, 2]);
            assert_eq!(failed(&Level::Raid10, layout, &map("_U_U")), Some(false));
            assert_eq!(failed(&Level::Raid10, layout, &map("_UU_")), Some(true));
        }
    }

    #[test]
    fn mirrors_and_parity() {
        assert_eq!(losses_survivable(&Level::Raid1, 0, &map("UUU")), Some(2));
        assert_eq!(fatal(&Level::Raid1, 0, "_U"), [1]);
        assert_eq!(fatal(&Level::Raid5, 2, "UU_"), [0, 1]);
        assert_eq!(losses_survivable(&Level::Raid6, 2, &map("UUU_")), Some(1));
        assert_eq!(failed(&Level::Raid6, 2, &map("_U__U")), Some(true));
        assert_eq!(fatal(&Level::Raid0, 0, "UU"), [0, 1]);
    }

    #[test]
    fn what_is_not_known_has_no_answer() {
        assert_eq!(failed(&Level::Raid1, 0, &[]), None);
        assert_eq!(failed(&Level::Raid10, 0, &[true]), None);
        assert_eq!(failed(&Level::Other("faulty".into()), 0, &[true]), None);
        assert_eq!(is_fault_tolerant(&Level::Raid1, 0, 1), Some(false));
    }
}
