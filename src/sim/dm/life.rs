//! What befalls raid sets without lund: their drives, reboots, people who send them messages.

use lun_core::action::SyncWord;
use lun_core::facts::{DmOwner, Slot, SyncAction};
use lun_core::id::{DevNo, DriveId};
use lun_kernel::Hint;

use super::laid::Laid;
use super::reload::{enough_with, starts_dirty_degraded};
use crate::world::{Array, KernelStyle, Member, World, errno};

impl World {
    /// The drive to which something happens that is said of a device: that of a leg, else itself.
    pub(crate) fn drive_name(&self, device: &str) -> String {
        let under = self.devices.values().find(|d| d.name == device);
        under
            .and_then(|d| d.under)
            .and_then(|id| self.drive(id))
            .map_or_else(|| device.to_owned(), |d| d.name.clone())
    }

    fn id_of(&self, device: &str) -> Option<DriveId> {
        let found = self.devices.values().find(|d| d.name == device)?;
        Some(found.under.unwrap_or(found.id))
    }

    /// The legs on a drive can be read no more: their devices hold on to what is gone, until they are made
    /// anew.
    pub(crate) fn lose_legs(&mut self, device: &str) {
        let Some(id) = self.id_of(device) else { return };
        for dev in self.legs_on(id) {
            if let Some(leg) = self.devices.get_mut(&dev) {
                leg.dead = true;
            }
        }
    }

    /// The legs on a drive hang, or go on.
    pub(crate) fn hang_legs(&mut self, device: &str, hung: bool) {
        let Some(id) = self.id_of(device) else { return };
        for dev in self.legs_on(id) {
            if let Some(leg) = self.devices.get_mut(&dev) {
                leg.hung = hung;
            }
        }
    }

    /// The sets that have a leg on this drive notice an error of it.
    pub(crate) fn fail_legs(&mut self, device: &str) {
        let Some(id) = self.id_of(device) else { return };
        for dev in self.legs_on(id) {
            if let Some(name) = self.array_of(dev).map(|a| a.name.clone()) {
                self.fault(&name, dev);
            }
        }
    }

    /// `dmsetup message NAME 0 WORD`, from a second administrator. `frozen` and `idle` stop what runs; from 6.9
    /// on both are answered with an error and hold nothing, and whether the kernel begins again is a race;
    /// `idle` is answered as what begins again would have it (`dm-raid.c:raid_message`).
    ///
    /// # Errors
    /// The kernel's error number.
    pub fn message(&mut self, name: &str, word: SyncWord, restarts: bool) -> Result<(), i32> {
        let old = self.style == KernelStyle::V6_1;
        let array = self.arrays.get_mut(name).ok_or(errno::ENXIO)?;
        array.frozen = false;
        match word {
            SyncWord::Frozen | SyncWord::Idle => {
                let again = array.sync.is_some() && word == SyncWord::Idle;
                self.interrupt(name);
                let array = self.arrays.get_mut(name).ok_or(errno::ENXIO)?;
                array.frozen = old && word == SyncWord::Frozen;
                array.needed = old || restarts;
                self.settle();
                match (old, again) {
                    (true, _) => Ok(()),
                    (false, true) => Err(errno::EBUSY),
                    (false, false) => Err(errno::EINVAL),
                }
            }
            _ if array.sync.is_some() => Err(errno::EBUSY),
            _ => {
                match word {
                    SyncWord::Check => array.requested = Some(SyncAction::Check),
                    SyncWord::Repair => array.requested = Some(SyncAction::Repair),
                    _ => {}
                }
                array.needed = true;
                self.settle();
                Ok(())
            }
        }
    }

    /// What of a set outlives its end: its devices go, its owner's metadata and its superblocks stay.
    pub(crate) fn put_down_set(&mut self, mut array: Array) {
        array.sync = None;
        array.frozen = false;
        array.broken = false;
        array.stuck = false;
        array.requested = None;
        array.last_action = None;
        array.sync_min = 0;
        if let Some(set) = &mut array.dm {
            set.inactive_table = false;
            let litter = set.laid.iter().filter(|laid| !set.uses(laid.dev));
            let litter: Vec<DevNo> = litter.map(|laid| laid.dev).collect();
            set.laid.retain(|laid| !litter.contains(&laid.dev));
            for dev in litter {
                self.devices.remove(&dev);
            }
            for dev in set.legs.iter().flat_map(|leg| [leg.data, leg.meta]) {
                if let Some(device) = self.devices.get_mut(&dev) {
                    device.present = false;
                }
            }
        }
        // Nothing but the superblock at its beginning says now whose a drive is.
        for laid in laid_metadata(&array) {
            if let Some(device) = self.devices.get_mut(&laid.on) {
                device.signatures.insert(RAID_SET.to_owned());
                device.precious = true;
            }
        }
        self.stopped.insert(array.name.clone(), array);
        self.hint(Hint::Arrays);
        self.hint(Hint::Devices);
    }

    /// The owner of a drive has said that a leg on it may be lost, and it was taken for something else.
    fn is_overwritten(&self, array: &Array) -> bool {
        laid_metadata(array).into_iter().any(|laid| {
            let on = self.devices.get(&laid.dev).and_then(|device| device.under);
            let drive = on.and_then(|id| self.drive(id));
            drive.is_some_and(|drive| !drive.signatures.contains(RAID_SET))
        })
    }

    /// A set is made again: by LVM with the table that its metadata tells, by somebody's script with the one
    /// that it knows, which has no hold in it. One with legs that lund has laid is made with the commands that
    /// the LUN shows. Where the legs in sync are not there it stays away: that LVM
    /// would start it from stale legs alone is nothing that lund could help.
    pub(crate) fn activate_set(&mut self, name: &str) {
        let Some(mut array) = self.stopped.remove(name) else {
            return;
        };
        let put_down = array.clone();
        let Some(set) = &mut array.dm else { return };
        if set.owner == DmOwner::Bare {
            set.rebuild.clear();
            if set.laid.is_empty() {
                set.slowed_by_owner = false;
                put_back(&mut array);
            } else {
                set.slowed_by_owner = set.slowed;
            }
        }
        let Some(set) = &mut array.dm else { return };
        let dead = self.dead_legs(set);
        let taken = self.is_overwritten(&array);
        if taken || !enough_with(&array, &dead) || starts_dirty_degraded(&array, &dead) {
            self.stopped.insert(name.to_owned(), put_down);
            return;
        }
        let legs = array.dm.iter().flat_map(|set| &set.legs);
        let legs: Vec<DevNo> = legs.flat_map(|leg| [leg.data, leg.meta]).collect();
        self.arrays.insert(name.to_owned(), array);
        for dev in legs {
            let on = self.devices.get(&dev).and_then(|d| d.under);
            let gone = on.is_some_and(|id| !self.is_there(id));
            let drive = on.and_then(|id| self.drive(id));
            let (hung, number) = (drive.is_some_and(|d| d.hung), drive.map(|d| d.dev));
            if let Some(drive) = number.and_then(|dev| self.devices.get_mut(&dev)) {
                // It has users of its own again, unless it is a leg itself.
                if drive.signatures.remove(RAID_SET) {
                    drive.precious = false;
                }
            }
            if let Some(device) = self.devices.get_mut(&dev) {
                device.present = true;
                device.hung = hung;
                device.dead = gone;
            }
            self.with_set(name, |set| {
                let laid = set.laid.iter_mut().filter(|laid| laid.dev == dev);
                laid.for_each(|laid| laid.on = number.unwrap_or(laid.on));
            });
        }
        self.load(name, &dead);
        self.with_set(name, |set| set.rebuild.clear());
        self.hint(Hint::Arrays);
        self.settle();
    }
}

/// As the probe calls the superblock of a raid set.
const RAID_SET: &str = "dm_raid_member";

/// What lund has laid for the metadata of legs, and the kernel has written to.
fn laid_metadata(array: &Array) -> Vec<&Laid> {
    let Some(set) = array.dm.as_deref() else {
        return Vec::new();
    };
    let written = |laid: &&Laid| {
        let mut legs = set.legs.iter();
        legs.any(|leg| leg.meta == laid.dev && leg.superblock.is_some() && !leg.left_out)
    };
    set.laid.iter().filter(written).collect()
}

/// The script knows nothing of legs that were left out: its table has them.
fn put_back(array: &mut Array) {
    let Some(set) = &mut array.dm else { return };
    for (slot, leg) in (0_u32..).zip(&mut set.legs) {
        if leg.left_out {
            leg.left_out = false;
            set.former.retain(|former| former.data != leg.data);
            array.members.push(Member {
                slot: Slot::At(slot),
                faulty: true,
                saved_slot: Some(slot),
                ..Member::spare(leg.data, format!("dm-{}", leg.data.minor))
            });
        }
    }
}
