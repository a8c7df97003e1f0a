//! What a table that is loaded does to the legs (`drivers/md/dm-raid.c:raid_ctr`,
//! `attempt_restore_of_faulty_devices`).

use std::collections::BTreeSet;

use lun_core::facts::{DmOwner, Level, Slot};
use lun_core::id::DevNo;

use super::DmSet;
use super::Leg;
use crate::world::{Array, World, errno};

impl World {
    /// Whether a leg could be read if its device were made anew: the drive is there, and LVM uses it.
    pub(super) fn leg_works(&self, group: Option<&str>, leg: &Leg) -> bool {
        let group = group.and_then(|name| self.groups.get(name));
        let flagged = group.is_some_and(|group| {
            let mut physical = group.physical.iter();
            physical.any(|p| p.drive == leg.drive && p.flagged)
        });
        self.is_there(leg.drive) && !flagged
    }

    /// Data devices of the legs that could not.
    pub(super) fn dead_legs(&self, set: &DmSet) -> BTreeSet<DevNo> {
        let group = set.group().map(str::to_owned);
        let legs = set.legs.iter();
        legs.filter(|leg| !self.leg_works(group.as_deref(), leg))
            .map(|leg| leg.data)
            .collect()
    }

    /// Data devices that cannot be read as they are: nobody makes them anew.
    fn dead_devices(&self, set: &DmSet) -> BTreeSet<DevNo> {
        let dead = |dev: &DevNo| self.devices.get(dev).is_none_or(|d| d.dead || !d.present);
        let legs = set.legs.iter().map(|leg| leg.data);
        legs.filter(dead).collect()
    }

    /// Loads the set's table anew and resumes it. What was being filled goes on from the superblocks,
    /// what `rebuild` names from 0; failed legs that can be read again are taken back.
    ///
    /// # Errors
    /// `EINVAL` or `EIO` where too few legs could be read, `EIO` where parity is out of step and a leg misses:
    /// the live table stays.
    pub(super) fn reload(&mut self, name: &str) -> Result<(), i32> {
        let dead = self.loads_again(name)?;
        self.interrupt(name);
        self.load(name, &dead);
        Ok(())
    }

    /// Whether the set's table could be loaded anew; then the legs that would be left out.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub(crate) fn loads_again(&self, name: &str) -> Result<BTreeSet<DevNo>, i32> {
        let array = self.arrays.get(name).ok_or(errno::ENXIO)?;
        let set = array.dm.as_ref().ok_or(errno::ENXIO)?;
        let dead = match set.owner {
            DmOwner::Lvm { .. } => self.dead_legs(set),
            DmOwner::Bare => self.dead_devices(set),
        };
        // The target counts what the table leaves out or fills; what else misses md finds when it is to run.
        // A leg that was never written to is not counted (`dm-raid.c:validate_raid_redundancy`).
        let counted = (0_u32..).zip(&set.legs).filter(|(slot, leg)| {
            leg.left_out || set.rebuild.contains(slot) && leg.superblock.is_some()
        });
        let counted: BTreeSet<DevNo> = counted.map(|(_, leg)| leg.data).collect();
        let rebuilt = |slot: &u32| set.leg(*slot).map(|leg| leg.data);
        let unfit = dead
            .iter()
            .copied()
            .chain(set.rebuild.iter().filter_map(rebuilt));
        if !enough_with(array, &unfit.collect()) {
            let by_target = array.level == Level::Raid1 || !bears_without(array, &counted);
            return Err(if by_target { errno::EINVAL } else { errno::EIO });
        }
        if starts_dirty_degraded(array, &dead) {
            return Err(errno::EIO);
        }
        Ok(dead)
    }

    /// What the constructor makes of the legs, of which those in `dead` cannot be read.
    pub(super) fn load(&mut self, name: &str, dead: &BTreeSet<DevNo>) {
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        let Some(set) = &mut array.dm else { return };
        set.slowed = set.slowed_by_owner;
        let rebuild = set.rebuild.clone();
        let legs: Vec<(u32, DevNo)> = (0_u32..)
            .zip(&set.legs)
            .map(|(slot, leg)| (slot, leg.data))
            .collect();
        for (slot, dev) in legs {
            let Some(device) = self.devices.get_mut(&dev) else {
                continue;
            };
            device.dead = dead.contains(&dev);
            let missed = device.missed_sectors;
            let known = device.content.is_some_and(|(owner, _)| owner == array.uuid);
            let component = array.component;
            let Some(member) = array.member_mut(dev) else {
                continue;
            };
            if dead.contains(&dev) {
                member.faulty = true;
                member.in_sync = false;
            } else if member.faulty {
                member.faulty = false;
                member.in_sync = false;
                member.slot = Slot::At(slot);
                // The bitmap tells what it missed, if it ever had all of the rest.
                let from = if known {
                    component.saturating_sub(missed)
                } else {
                    0
                };
                member.recovery_offset = Some(from);
            }
            if rebuild.contains(&slot) && !member.faulty {
                member.in_sync = false;
                member.recovery_offset = Some(0);
            }
        }
        array.frozen = false;
        array.requested = None;
        array.sync_min = 0;
        array.needed = true;
        self.bump(name);
        self.hint_array(name);
        self.hint(lun_kernel::Hint::Devices);
    }

    /// `dmsetup suspend` and `dmsetup resume`, without a new table: failed legs whose metadata can be read are
    /// taken back.
    ///
    /// # Errors
    /// `ENXIO` where there is no such set.
    pub fn suspend_and_resume(&mut self, name: &str) -> Result<(), i32> {
        let array = self.arrays.get(name).ok_or(errno::ENXIO)?;
        let set = array.dm.as_ref().ok_or(errno::ENXIO)?;
        let dead = self.dead_devices(set);
        let (rebuild, slowed) = (set.rebuild.clone(), set.slowed);
        self.interrupt(name);
        // The live table stays as it is, and its `rebuild` has been obeyed.
        self.with_set(name, |set| {
            set.rebuild.clear();
            set.slowed_by_owner = slowed;
        });
        self.load(name, &dead);
        self.with_set(name, |set| set.rebuild = rebuild);
        Ok(())
    }

    pub(super) fn with_set(&mut self, name: &str, change: impl FnOnce(&mut super::DmSet)) {
        if let Some(set) = self.arrays.get_mut(name).and_then(|a| a.dm.as_mut()) {
            change(set);
        }
    }
}

/// Whether md would refuse to run it (`drivers/md/raid5.c:raid5_run`, "cannot start dirty degraded array";
/// seen with 6.12): what a lost leg had cannot be told from parity that may be wrong.
pub(super) fn starts_dirty_degraded(array: &Array, dead: &BTreeSet<DevNo>) -> bool {
    let parity = matches!(array.level, Level::Raid4 | Level::Raid5 | Level::Raid6);
    let out = |dev: DevNo| array.member(dev).is_none_or(|m| !m.good());
    let mut legs = array.dm.iter().flat_map(|set| &set.legs);
    let degraded = legs.any(|leg| dead.contains(&leg.data) || out(leg.data));
    parity && degraded && array.resync_start.is_some()
}

/// Whether a set of which nothing else misses could be read without these legs.
fn bears_without(array: &Array, legs: &BTreeSet<DevNo>) -> bool {
    let mut whole = array.clone();
    for member in &mut whole.members {
        member.faulty = false;
        member.in_sync = true;
    }
    enough_with(&whole, legs)
}

/// Whether the set could be read without these legs.
pub(super) fn enough_with(array: &Array, dead: &BTreeSet<DevNo>) -> bool {
    let mut rest = array.clone();
    for member in &mut rest.members {
        member.faulty |= dead.contains(&member.dev);
    }
    rest.enough()
}
