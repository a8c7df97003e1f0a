//! Faults beyond those of a single drive: tools that are killed in the middle, power cuts, drives
//! and arrays that come back under other names.

use std::collections::BTreeMap;

use lun_core::action::{Action, Target};
use lun_core::facts::Level;
use lun_core::id::DevNo;
use lun_kernel::Hint;

use crate::dm::Reached;
use crate::world::{Array, KernelStyle, Mode, Superblock, World};

/// What the first half of an action has left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The tool froze the array for the time of its work.
    pub froze: bool,
}

impl World {
    /// Performs the first half of an action that a tool performs in several steps
    /// (`Manage.c:Manage_subdevs` freezes the array around an add, and writes the superblock before
    /// the kernel is told; `wipefs --all` erases one signature after the other). [`None`] when the
    /// action has no middle, or would be refused.
    pub fn begin_part(&mut self, action: &Action) -> Option<Part> {
        match action {
            Action::AddSpare { array, drive } => {
                self.would_add(array, drive)?;
                let froze = self.freeze_for_tool(array);
                let (uuid, events) = self.arrays.get(array).map(|a| (a.uuid, a.events))?;
                self.guard_overwrite(drive.dev, &format!("added to {array}"));
                let device = self.devices.get_mut(&drive.dev)?;
                device.content = None;
                device.missed_sectors = 0;
                device.superblock = Some(Superblock {
                    array: uuid,
                    device: uuid::Uuid::new_v5(&uuid, device.serial.as_bytes()),
                    events,
                    role: None,
                    recovery_offset: Some(0),
                });
                self.hint(Hint::Devices);
                Some(Part { froze })
            }
            Action::SetSync { .. } | Action::RepairVolume { .. } if self.busy_next == 0 => {
                self.begin_on_set(action).then_some(Part { froze: false })
            }
            Action::ReplaceLeg { .. } if self.busy_next == 0 => {
                let stages = Reached::ALL.len();
                let at = usize::try_from(self.now_ms).unwrap_or(0) % stages;
                let reached = Reached::ALL.get(at).copied()?;
                self.begin_replacement(action, reached)
                    .then_some(Part { froze: false })
            }
            Action::ReAdd { array, drive } => {
                let there = self.is_drive(drive) && self.exclusive_user(drive.dev).is_none();
                let froze = there && self.freeze_for_tool(array);
                froze.then_some(Part { froze })
            }
            Action::Wipe { drive, former } => {
                let needed = former.as_ref().is_some_and(|of| self.needs(of).is_some());
                if !self.is_drive(drive) || self.exclusive_user(drive.dev).is_some() || needed {
                    return None;
                }
                self.guard_overwrite(drive.dev, "wiped");
                let device = self.devices.get_mut(&drive.dev)?;
                if device.signatures.pop_first().is_none() {
                    device.superblock = None;
                    device.content = None;
                }
                Some(Part { froze: false })
            }
            _ => None,
        }
    }

    /// The tool goes on: the array is as it was before its work began.
    pub fn end_part(&mut self, action: &Action, part: Part) {
        if matches!(
            action,
            Action::RepairVolume { .. } | Action::ReplaceLeg { .. }
        ) {
            self.end_on_set(action);
            self.end_replacement(action);
        }
        if let Some(array) = action.array().and_then(|name| self.arrays.get_mut(name))
            && part.froze
        {
            array.frozen = false;
            array.needed = true;
        }
    }

    fn is_drive(&self, drive: &Target) -> bool {
        let device = self.devices.get(&drive.dev);
        device.is_some_and(|d| d.present && d.id == drive.id && !d.read_only)
    }

    /// Whether `mdadm --add-spare` would come as far as writing the superblock.
    fn would_add(&self, name: &str, drive: &Target) -> Option<()> {
        let array = self.arrays.get(name)?;
        let device = self.devices.get(&drive.dev)?;
        let runs = matches!(array.mode, Mode::Running | Mode::ReadAuto) && !array.broken;
        let blocks = device.block_bytes <= array.block_bytes || self.style != KernelStyle::V7;
        let fits = device.usable_sectors() >= array.component && blocks;
        let free = self.is_drive(drive) && self.exclusive_user(drive.dev).is_none();
        (runs && array.enough() && fits && free && self.busy_next == 0).then_some(())
    }

    fn freeze_for_tool(&mut self, name: &str) -> bool {
        let running = self
            .arrays
            .get(name)
            .is_some_and(|a| a.has_sync() && !a.frozen && a.mode == Mode::Running);
        if !running || self.stop_blocked(name) {
            return false;
        }
        self.interrupt(name);
        if let Some(array) = self.arrays.get_mut(name) {
            array.frozen = true;
        }
        self.hint_array(name);
        true
    }

    /// The power is cut: every array stops where its last superblocks say that it was. What was
    /// being written may differ between the copies unless a bitmap remembers where.
    pub fn power_cut(&mut self, writing: bool) {
        let names: Vec<String> = self.arrays.keys().cloned().collect();
        for name in names {
            let Some(mut array) = self.arrays.remove(&name) else {
                continue;
            };
            array.sync = None;
            let mirror = matches!(array.level, Level::Raid1 | Level::Raid10);
            for member in &mut array.members {
                let device = self.devices.get(&member.dev);
                let stored = device.and_then(|d| d.superblock.as_ref());
                let stored = stored.map(|stored| stored.recovery_offset);
                // What a leg's superblock says moves with what is known of it.
                let stored = stored.or(array.dm.is_some().then_some(member.recovery_offset));
                if let Some(stored) = stored.filter(|_| !member.in_sync) {
                    let offset = stored.unwrap_or(0);
                    member.recovery_offset = Some(offset);
                    let takes_part = mirror || member.replacement;
                    member.torn |= writing && offset > 0 && takes_part;
                }
            }
            // A raid set that would not be started again is nothing that lund could help, and whether the
            // target marks it as dirty at all is not known.
            let parity = matches!(array.level, Level::Raid4 | Level::Raid5 | Level::Raid6);
            let lost = array.dm.is_some() && parity && array.degraded() > 0;
            let runs = array.has_sync() && array.mode == Mode::Running && array.enough();
            if writing && runs && !lost {
                // A bitmap makes it short, not needless.
                let total = array.sync_total(lun_core::facts::SyncAction::Resync);
                let from = if array.bitmap { total * 15 / 16 } else { 0 };
                let start = array.resync_start.map_or(from, |old| old.min(from));
                array.resync_start = Some(start);
                array.really_dirty = true;
            }
            self.put_down(array);
        }
    }

    /// Every array is stopped in an orderly way, as at a shutdown.
    pub fn shut_down(&mut self) {
        let names: Vec<String> = self.arrays.keys().cloned().collect();
        for name in names {
            self.interrupt(&name);
            if let Some(array) = self.arrays.remove(&name) {
                self.put_down(array);
            }
        }
    }

    /// What of an array outlives its stopping.
    fn put_down(&mut self, mut array: Array) {
        if array.dm.is_some() {
            return self.put_down_set(array);
        }
        array.frozen = false;
        array.broken = false;
        array.requested = None;
        array.sync_min = 0;
        (array.speed_min, array.speed_max) = (None, None);
        array.members.retain(|m| !m.faulty);
        if array.mode != Mode::Inactive {
            array.mode = Mode::Running;
        }
        self.stopped.insert(array.name.clone(), array);
        self.hint(Hint::Arrays);
    }

    /// A stopped array is assembled from the members that are there and that are not out of date
    /// (`Assemble.c`: one event of difference is forgiven). Without enough of them it stays
    /// inactive.
    pub fn assemble_found(&mut self, name: &str, auto_read_only: bool) {
        if self.stopped.get(name).is_some_and(|a| a.dm.is_some()) {
            return self.activate_set(name);
        }
        let Some(mut array) = self.stopped.remove(name) else {
            return;
        };
        let events = |dev: DevNo| {
            let device = self.devices.get(&dev).filter(|d| d.present)?;
            let stored = device.superblock.as_ref()?;
            (stored.array == array.uuid).then_some(stored.events)
        };
        let newest = array.members.iter().filter_map(|m| events(m.dev)).max();
        let newest = newest.unwrap_or(array.events);
        let fresh: Vec<DevNo> = array
            .members
            .iter()
            .map(|m| m.dev)
            .filter(|dev| events(*dev).is_some_and(|seen| seen + 1 >= newest))
            .collect();
        array.members.retain(|m| fresh.contains(&m.dev));
        array.needed = true;
        array.mode = match (array.enough(), auto_read_only) {
            (false, _) => Mode::Inactive,
            (true, true) => Mode::ReadAuto,
            (true, false) => Mode::Running,
        };
        self.arrays.insert(name.to_owned(), array);
        self.bump(name);
        self.hint(Hint::Arrays);
        self.settle();
    }

    /// After a reboot numbers and names are dealt anew: drives take each other's. Only while every
    /// array is stopped.
    pub fn deal_names(&mut self, order: &[DevNo]) {
        let mut places: Vec<(DevNo, String)> = order
            .iter()
            .filter_map(|dev| Some((*dev, self.devices.get(dev)?.name.clone())))
            .collect();
        places.sort_by_key(|(dev, _)| *dev);
        let mut moved = BTreeMap::new();
        let mut dealt = BTreeMap::new();
        for (old, (dev, name)) in order.iter().zip(places) {
            let Some(mut device) = self.devices.remove(old) else {
                continue;
            };
            if device.whole_disk == device.name {
                device.whole_disk.clone_from(&name);
            }
            device.dev = dev;
            device.name = name;
            moved.insert(*old, dev);
            dealt.insert(dev, device);
        }
        self.devices.extend(dealt);
        for array in self.stopped.values_mut() {
            for member in &mut array.members {
                if let Some(device) = moved.get(&member.dev).and_then(|d| self.devices.get(d)) {
                    member.dev = device.dev;
                    member.name.clone_from(&device.name);
                }
            }
        }
    }

    /// A drive that was pulled comes back under another number and name. Its array has noticed its
    /// loss by then, and udev has removed it.
    pub fn plug_as(&mut self, device: &str, name: &str, dev: DevNo) {
        self.vanish(device);
        let Some(old) = self.dev(device) else { return };
        if self.devices.contains_key(&dev) || self.array_of(old).is_some() {
            return;
        }
        if let Some(mut moved) = self.devices.remove(&old) {
            moved.dev = dev;
            name.clone_into(&mut moved.name);
            name.clone_into(&mut moved.whole_disk);
            moved.present = true;
            self.devices.insert(dev, moved);
        }
        self.hint(Hint::Devices);
    }
}
