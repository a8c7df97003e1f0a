//! What befalls raid sets without lund: their drives, reboots, people who send them messages.

use lun_core::action::SyncWord;
use lun_core::facts::DmOwner;
use lun_core::id::{DevNo, DriveId};
use lun_kernel::Hint;

use super::reload::{enough_with, starts_dirty_degraded};
use crate::world::{Array, KernelStyle, World, errno};

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
    /// on both are answered with an error and hold nothing, and whether the kernel begins again is a race.
    ///
    /// # Errors
    /// The kernel's error number.
    pub fn message(&mut self, name: &str, word: SyncWord, restarts: bool) -> Result<(), i32> {
        let old = self.style == KernelStyle::V6_1;
        let array = self.arrays.get_mut(name).ok_or(errno::ENXIO)?;
        array.frozen = false;
        match word {
            SyncWord::Frozen | SyncWord::Idle => {
                self.interrupt(name);
                let array = self.arrays.get_mut(name).ok_or(errno::ENXIO)?;
                array.frozen = old && word == SyncWord::Frozen;
                array.needed = old || restarts;
                self.settle();
                if old { Ok(()) } else { Err(errno::EINVAL) }
            }
            _ if array.sync.is_some() => Err(errno::EBUSY),
            _ => {
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
        }
        for member in &array.members {
            if let Some(device) = self.devices.get_mut(&member.dev) {
                device.present = false;
            }
        }
        self.stopped.insert(array.name.clone(), array);
        self.hint(Hint::Arrays);
        self.hint(Hint::Devices);
    }

    /// A set is made again: by LVM with the table that its metadata tells, by somebody's script with the one
    /// that it knows, which has no hold in it. Where the legs in sync are not there it stays away: that LVM
    /// would start it from stale legs alone is nothing that lund could help.
    pub(crate) fn activate_set(&mut self, name: &str) {
        let Some(mut array) = self.stopped.remove(name) else {
            return;
        };
        let Some(set) = &mut array.dm else { return };
        if set.owner == DmOwner::Bare {
            set.slowed_by_owner = false;
            set.rebuild.clear();
        }
        let dead = self.dead_legs(set);
        if !enough_with(&array, &dead) || starts_dirty_degraded(&array, &dead) {
            self.stopped.insert(name.to_owned(), array);
            return;
        }
        let legs: Vec<DevNo> = array.members.iter().map(|m| m.dev).collect();
        self.arrays.insert(name.to_owned(), array);
        for dev in legs {
            let hung = self
                .devices
                .get(&dev)
                .and_then(|d| d.under)
                .and_then(|id| self.drive(id))
                .is_some_and(|d| d.hung);
            if let Some(device) = self.devices.get_mut(&dev) {
                device.present = true;
                device.hung = hung;
            }
        }
        self.load(name, &dead);
        self.with_set(name, |set| set.rebuild.clear());
        self.hint(Hint::Arrays);
        self.settle();
    }
}
