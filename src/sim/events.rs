//! What happens to the machine without anybody asking: writes of applications, failing drives,
//! pulled and plugged drives, reboots.

use lun_core::facts::{Level, Metadata, Slot};
use lun_core::id::{DevNo, DriveId};
use lun_kernel::Hint;
use uuid::Uuid;

use crate::world::{Array, Mode, Superblock, World, errno};

impl World {
    /// Counts one more change of the array's metadata and writes it to all working members.
    pub(crate) fn bump(&mut self, name: &str) {
        if let Some(array) = self.arrays.get_mut(name) {
            array.events += 1;
        }
        self.write_superblocks(name);
    }

    /// Writes the superblocks of all working members.
    pub(crate) fn write_superblocks(&mut self, name: &str) {
        let Some(array) = self.arrays.get(name) else {
            return;
        };
        if array.dm.is_some() {
            return self.write_raid_superblocks(name);
        }
        for member in array.members.iter().filter(|m| !m.faulty) {
            let Some(device) = self.devices.get_mut(&member.dev).filter(|d| d.present) else {
                continue;
            };
            let old = device
                .superblock
                .as_ref()
                .filter(|sb| sb.array == array.uuid);
            let own = old.map_or_else(
                || Uuid::new_v5(&array.uuid, device.serial.as_bytes()),
                |sb| sb.device,
            );
            device.superblock = Some(Superblock {
                array: array.uuid,
                device: own,
                events: array.events,
                role: match member.slot {
                    Slot::At(slot) => Some(slot),
                    Slot::None | Slot::Journal => None,
                },
                recovery_offset: member.recovery_offset,
            });
        }
    }

    /// An application writes `sectors` to the array.
    ///
    /// # Errors
    /// The error number that the application would see.
    pub fn write(&mut self, name: &str, sectors: u64) -> Result<(), i32> {
        let array = self.arrays.get_mut(name).ok_or(errno::ENODEV)?;
        match array.mode {
            Mode::Inactive => return Err(errno::ENODEV),
            Mode::Readonly => return Err(errno::EROFS),
            Mode::ReadAuto => {
                array.mode = Mode::Running;
                array.needed = true;
            }
            Mode::Running => {}
        }
        let was_broken = array.broken;
        // Writes go to members that are being filled as well.
        let written: Vec<DevNo> = array
            .members
            .iter()
            .filter(|m| !m.faulty && m.slot != Slot::None)
            .map(|m| m.dev)
            .collect();
        for dev in written {
            if self.devices.get(&dev).is_some_and(|d| !d.present || d.dead) {
                self.fault(name, dev);
            }
        }
        let array = self.arrays.get_mut(name).ok_or(errno::ENODEV)?;
        array.stuck |= array.broken && !was_broken;
        if array.broken || !array.enough() {
            return Err(errno::EIO);
        }
        array.generation += 1;
        let (uuid, generation) = (array.uuid, array.generation);
        for device in self.devices.values_mut() {
            if array.member(device.dev).is_some_and(|m| m.good()) {
                device.content = Some((uuid, generation));
            } else if device.content.is_some_and(|(owner, _)| owner == uuid) {
                device.missed_sectors = device.missed_sectors.saturating_add(sectors);
            }
        }
        self.bump(name);
        self.settle();
        Ok(())
    }

    /// The personality learns of an error of a member (`drivers/md/md.c:md_error`).
    pub(crate) fn fault(&mut self, name: &str, dev: DevNo) {
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        if array.member(dev).is_none_or(|m| m.faulty) {
            return;
        }
        let before = array.enough();
        if matches!(array.level, Level::Raid1 | Level::Raid10) && !enough_without(array, dev) {
            // The last copy is not marked faulty, and nothing can be written any more.
            array.broken = true;
            self.hint_array(name);
            return;
        }
        if !array.has_sync() {
            array.broken = true;
            self.hint_array(name);
            return;
        }
        let ran = array.sync.is_some();
        self.interrupt(name);
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        mark_faulty(array, dev);
        array.broken |= before && !array.enough();
        // Nobody wakes the thread of an array that broke, but for the sync that ends.
        array.needed = ran || !array.broken;
        // The target writes what it lost also where that is too much.
        if !array.broken || array.dm.is_some() {
            self.bump(name);
        }
        self.hint_array(name);
    }

    /// A member gives an error that its array cannot but notice.
    pub fn fail_device(&mut self, device: &str) {
        let Some(dev) = self.dev(device) else { return };
        if let Some(name) = self.array_of(dev).map(|a| a.name.clone()) {
            self.fault(&name, dev);
        }
        self.fail_legs(device);
        self.settle();
    }

    /// A write error that the member's bad block log swallows: the member stays, and wants to be
    /// replaced.
    pub fn write_error(&mut self, device: &str) {
        let Some(dev) = self.dev(device) else { return };
        let Some(name) = self.array_of(dev).map(|a| a.name.clone()) else {
            return;
        };
        if self.arrays.get(&name).is_some_and(|a| a.dm.is_some()) {
            // The target keeps no list of bad blocks.
            self.fault(&name, dev);
            return self.settle();
        }
        if let Some(array) = self.arrays.get_mut(&name) {
            array.needed = true;
            if let Some(member) = array.member_mut(dev) {
                member.write_error = true;
                member.want_replacement = true;
                member.bad_blocks += 1;
            }
        }
        self.hint_array(&name);
        self.settle();
    }

    /// A drive is unplugged, and udev's rule fails and removes it from its array.
    pub fn vanish(&mut self, device: &str) {
        let device = &self.drive_name(device);
        self.pull(device);
        self.fail_legs(device);
        self.settle();
        let Some(dev) = self.dev(device) else { return };
        let Some(name) = self.array_of(dev).map(|a| a.name.clone()) else {
            return;
        };
        self.fault(&name, dev);
        self.settle();
        if let Some(array) = self.arrays.get_mut(&name) {
            array.members.retain(|m| m.dev != dev || !m.faulty);
        }
        self.hint_array(&name);
    }

    /// A drive is unplugged; its array notices at the next write.
    pub fn pull(&mut self, device: &str) {
        let device = &self.drive_name(device);
        self.lose_legs(device);
        if let Some(device) = self.device_mut(device) {
            device.present = false;
        }
        self.hint(Hint::Devices);
    }

    /// Every read and write of a drive fails from now on; its array notices at the next.
    pub fn kill(&mut self, device: &str) {
        let device = &self.drive_name(device);
        self.lose_legs(device);
        if let Some(device) = self.device_mut(device) {
            device.dead = true;
            device.fails_at = Some(0);
        }
    }

    /// A drive is plugged in (again), with all that is written on it.
    pub fn plug(&mut self, device: &str) {
        let device = &self.drive_name(device);
        if let Some(device) = self.device_mut(device) {
            device.present = true;
        }
        self.hint(Hint::Devices);
    }

    /// The number and name of a drive now lead to another, blank one.
    pub fn swap_drive(&mut self, device: &str, serial: &str) {
        if let Some(device) = self.device_mut(device) {
            device.id = DriveId::derive("serial", serial);
            serial.clone_into(&mut device.serial);
            device.superblock = None;
            device.content = None;
            device.missed_sectors = 0;
            device.signatures.clear();
        }
        self.hint(Hint::Devices);
    }

    /// A drive's input and output hang: sync threads of its array stand still.
    pub fn hang(&mut self, device: &str) {
        self.rebase();
        let device = &self.drive_name(device);
        self.hang_legs(device, true);
        if let Some(device) = self.device_mut(device) {
            device.hung = true;
        }
    }

    /// A hanging drive goes on.
    pub fn unhang(&mut self, device: &str) {
        self.rebase();
        let device = &self.drive_name(device);
        self.hang_legs(device, false);
        if let Some(device) = self.device_mut(device) {
            device.hung = false;
        }
        self.settle();
    }

    /// Sync threads do so many bytes a second from now on; 0 stops them all.
    pub fn set_rate(&mut self, bytes_per_s: u64) {
        self.rebase();
        self.rate = bytes_per_s;
    }

    /// Makes every position count from this moment, before a rate changes.
    pub(crate) fn rebase(&mut self) {
        let now = self.now_ms;
        let places: Vec<(String, u64)> = self
            .arrays
            .values()
            .map(|a| (a.name.clone(), self.position(a)))
            .collect();
        for (name, position) in places {
            if let Some(sync) = self.arrays.get_mut(&name).and_then(|a| a.sync.as_mut()) {
                sync.base = position;
                sync.base_ms = now;
            }
        }
    }

    /// The array is stopped; its members keep what they have.
    pub fn stop(&mut self, name: &str) {
        self.interrupt(name);
        let Some(mut array) = self.arrays.remove(name) else {
            return;
        };
        if array.dm.is_some() {
            return self.put_down_set(array);
        }
        array.frozen = false;
        array.broken = false;
        array.last_action = None;
        array.sync_min = 0;
        array.sync_max = None;
        array.stuck = false;
        if array.metadata == Metadata::V0_90 {
            // It has no place for a checkpoint, nor for a slot that is not filled.
            for member in array.members.iter_mut().filter(|m| m.rebuilding()) {
                member.slot = Slot::None;
                member.recovery_offset = Some(0);
            }
        }
        array.requested = None;
        array.members.retain(|m| !m.faulty);
        array.mode = Mode::Running;
        self.stopped.insert(name.to_owned(), array);
        self.hint(Hint::Arrays);
    }

    /// A stopped array is assembled from the members that are there; what was interrupted goes on
    /// by itself unless the array begins auto-read-only.
    pub fn assemble(&mut self, name: &str, auto_read_only: bool) {
        if self.stopped.get(name).is_some_and(|a| a.dm.is_some()) {
            return self.activate_set(name);
        }
        let Some(mut array) = self.stopped.remove(name) else {
            return;
        };
        array.mode = if auto_read_only {
            Mode::ReadAuto
        } else {
            Mode::Running
        };
        array.needed = true;
        (array.speed_min, array.speed_max) = (None, None);
        array
            .members
            .retain(|m| self.devices.get(&m.dev).is_some_and(|d| d.present));
        self.arrays.insert(name.to_owned(), array);
        self.bump(name);
        self.hint(Hint::Arrays);
        self.settle();
    }

    /// A stopped array is assembled from those of these drives that belong to it, as
    /// `mdadm --assemble --run` does it; with `dirty` as if by `--update=resync`.
    pub fn assemble_from(&mut self, name: &str, drives: &[String], auto: bool, dirty: bool) {
        if let Some(array) = self.stopped.get_mut(name) {
            array.members.retain(|m| drives.contains(&m.name));
            if dirty {
                array.resync_start = Some(0);
            }
        }
        self.assemble(name, auto);
    }

    /// Every array is stopped and assembled again. Nothing of `frozen` survives.
    pub fn reboot(&mut self, auto_read_only: bool) {
        let names: Vec<String> = self.arrays.keys().cloned().collect();
        for name in &names {
            self.stop(name);
        }
        for name in &names {
            self.assemble(name, auto_read_only);
        }
    }
}

/// Whether the array could still be read without this member.
pub(crate) fn enough_without(array: &Array, dev: DevNo) -> bool {
    let mut rest = array.clone();
    mark_faulty(&mut rest, dev);
    rest.enough()
}

/// Sets the flags of a failed member. It stays in its slot until the array's thread drops it.
fn mark_faulty(array: &mut Array, dev: DevNo) {
    if let Some(member) = array.member_mut(dev) {
        if let Slot::At(slot) = member.slot {
            member.saved_slot = Some(slot);
        }
        if !member.in_sync {
            member.recovery_offset = Some(0);
        }
        member.faulty = true;
        member.in_sync = false;
    }
}
