//! The state of the simulated machine: drives, arrays, members, and a clock.

use std::collections::{BTreeMap, BTreeSet};

use lun_core::action::Action;
use lun_core::facts::{IdentityKind, Level, Metadata, Slot, SyncAction};
use lun_core::id::{DevNo, DriveId};
use lun_kernel::Hint;
use uuid::Uuid;

use crate::dm::{DmSet, Group};

/// Bytes that a superblock, its bitmap and the data offset take on every simulated member.
pub const OVERHEAD_BYTES: u64 = 1 << 20;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// Error numbers of the kernel that the simulation answers with.
pub mod errno {
    /// No such file: the attribute does not exist.
    pub const ENOENT: i32 = 2;
    /// Input or output error.
    pub const EIO: i32 = 5;
    /// No such device or address: not a member.
    pub const ENXIO: i32 = 6;
    /// Busy.
    pub const EBUSY: i32 = 16;
    /// Exists already: the slot is taken.
    pub const EEXIST: i32 = 17;
    /// No such device.
    pub const ENODEV: i32 = 19;
    /// Invalid argument.
    pub const EINVAL: i32 = 22;
    /// No space: a slot beyond the last, or a drive too small.
    pub const ENOSPC: i32 = 28;
    /// Read-only.
    pub const EROFS: i32 = 30;
}

/// Which kernel's habits are followed where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum KernelStyle {
    /// 6.1: recovery goes before resync, a spare may go to a replacement while a slot is empty.
    V6_1,
    /// 6.12: resync goes before recovery, `frozen` of an idle array says nothing.
    #[default]
    V6_12,
    /// 7.x: as 6.12, and an interrupted repair leaves a resync behind.
    V7,
}

/// How an array runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Read and write.
    Running,
    /// `read-auto`: becomes writable at the first write or kick.
    ReadAuto,
    /// `readonly`, by choice.
    Readonly,
    /// Not running.
    Inactive,
}

/// The superblock on a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Array it was written for.
    pub array: Uuid,
    /// The member's own UUID.
    pub device: Uuid,
    /// Event count when it was last written.
    pub events: u64,
    /// Slot; [`None`] for a spare or a faulty member.
    pub role: Option<u32>,
    /// Sectors rebuilt when it was last written; [`None`] when in sync.
    pub recovery_offset: Option<u64>,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent properties of a drive"
)]
pub struct Device {
    /// Number.
    pub dev: DevNo,
    /// Kernel name.
    pub name: String,
    /// Identity, from its serial number.
    pub id: DriveId,
    /// What the identity rests on.
    pub id_kind: IdentityKind,
    /// Serial number.
    pub serial: String,
    /// Bytes.
    pub size_bytes: u64,
    /// Logical block, bytes.
    pub block_bytes: u32,
    /// Spins.
    pub rotational: bool,
    /// `ata`, `nvme`, ...
    pub transport: String,
    /// Controller's sysfs path.
    pub controller: Option<String>,
    /// Whole disk that it lies on.
    pub whole_disk: String,
    /// Cannot be written.
    pub read_only: bool,
    /// Mount points and other use.
    pub used_by: Vec<String>,
    /// Devices on top other than the simulated arrays.
    pub holders: BTreeSet<String>,
    /// Somebody has it open exclusively without a trace elsewhere.
    pub opened: bool,
    /// Signatures other than that of md.
    pub signatures: BTreeSet<String>,
    /// md superblock.
    pub superblock: Option<Superblock>,
    /// The light of its bay is on.
    pub lit: bool,
    /// Plugged in.
    pub present: bool,
    /// Its input and output hang.
    pub hung: bool,
    /// Every read and write of it fails.
    pub dead: bool,
    /// Nobody allowed this drive to be overwritten: doing so is a violation.
    pub precious: bool,
    /// It fails when a rebuild has filled it up to this sector.
    pub fails_at: Option<u64>,
    /// Ranges that cannot be read.
    pub unreadable: u32,
    /// What its data area holds: array and generation of that array's content.
    pub content: Option<(Uuid, u64)>,
    /// Sectors written to its array since it was last a member in sync.
    pub missed_sectors: u64,
    /// Leg of a raid set of device-mapper: the drive that it lies on.
    pub under: Option<DriveId>,
}

impl Device {
    /// Sectors that it offers to an array.
    #[must_use]
    pub const fn usable_sectors(&self) -> u64 {
        self.size_bytes.saturating_sub(OVERHEAD_BYTES) / SECTOR
    }
}

/// One device in an array.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "the kernel's flags, one for one"
)]
pub struct Member {
    /// Device.
    pub dev: DevNo,
    /// Kernel name when it was bound.
    pub name: String,
    /// Slot.
    pub slot: Slot,
    /// Failed.
    pub faulty: bool,
    /// Carries valid data, says the kernel.
    pub in_sync: bool,
    /// Saw a write error that the bad block log swallowed.
    pub write_error: bool,
    /// To be replaced.
    pub want_replacement: bool,
    /// Is the replacement of the member in the same slot.
    pub replacement: bool,
    /// Sectors rebuilt; [`None`] when done.
    pub recovery_offset: Option<u64>,
    /// Slot that it had when it failed.
    pub saved_slot: Option<u32>,
    /// Corrected read errors.
    pub errors: u64,
    /// Lines of `bad_blocks`.
    pub bad_blocks: u32,
    /// It was being filled when the power went, and what was written then may have missed it.
    pub torn: bool,
}

impl Member {
    /// A spare just bound.
    #[must_use]
    pub const fn spare(dev: DevNo, name: String) -> Self {
        Self {
            dev,
            name,
            slot: Slot::None,
            faulty: false,
            in_sync: false,
            write_error: false,
            want_replacement: false,
            replacement: false,
            recovery_offset: Some(0),
            saved_slot: None,
            errors: 0,
            bad_blocks: 0,
            torn: false,
        }
    }

    /// Carries valid data and works.
    #[must_use]
    pub const fn good(&self) -> bool {
        self.in_sync && !self.faulty && matches!(self.slot, Slot::At(_))
    }

    /// In a slot, still to be filled.
    #[must_use]
    pub const fn rebuilding(&self) -> bool {
        !self.in_sync && !self.faulty && matches!(self.slot, Slot::At(_))
    }

    /// Attached, idle.
    #[must_use]
    pub const fn idle_spare(&self) -> bool {
        !self.in_sync && !self.faulty && matches!(self.slot, Slot::None)
    }
}

/// A sync thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// What it does.
    pub action: SyncAction,
    /// Position at which it began, sectors.
    pub start: u64,
    /// Position at `base_ms`, sectors.
    pub base: u64,
    /// Moment of `base`.
    pub base_ms: u64,
    /// Sectors in all.
    pub total: u64,
    /// Waits for another array on the same disk.
    pub delayed: bool,
    /// Devices being filled.
    pub targets: Vec<DevNo>,
    /// Sixteenths that were told to the watchers.
    pub told: u64,
    /// It waits at [`Array::sync_max`], and told the watchers so.
    pub parked: bool,
}

/// An md array.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "the kernel's flags, one for one"
)]
pub struct Array {
    /// Kernel name.
    pub name: String,
    /// Number.
    pub dev: DevNo,
    /// UUID.
    pub uuid: Uuid,
    /// Names under `/dev/md/`.
    pub md_names: Vec<String>,
    /// Personality.
    pub level: Level,
    /// Layout word.
    pub layout: u32,
    /// Slots.
    pub raid_disks: u32,
    /// Bytes.
    pub chunk_bytes: u64,
    /// Sectors used of each member.
    pub component: u64,
    /// Logical block of the array, bytes.
    pub block_bytes: u32,
    /// Superblock format.
    pub metadata: Metadata,
    /// How it runs.
    pub mode: Mode,
    /// Sticky: writes fail until it is stopped.
    pub broken: bool,
    /// It broke under a write: a change of its superblocks waits for ever to be written.
    pub stuck: bool,
    /// Write-intent bitmap.
    pub bitmap: bool,
    /// Clustered.
    pub clustered: bool,
    /// A reshape is under way (it never ends here).
    pub reshaping: bool,
    /// Event count.
    pub events: u64,
    /// Out of step from here on; [`None`] when in step.
    pub resync_start: Option<u64>,
    /// The copies really were out of step and no resync has ended since.
    pub really_dirty: bool,
    /// Members.
    pub members: Vec<Member>,
    /// Nothing may start.
    pub frozen: bool,
    /// The kernel is to look for work.
    pub needed: bool,
    /// A check or repair asked for.
    pub requested: Option<SyncAction>,
    /// Where the next check or repair starts.
    pub sync_min: u64,
    /// Where syncs wait, sectors; [`None`] is `max`.
    pub sync_max: Option<u64>,
    /// Its own least and greatest speed of a sync, KiB/s; [`None`] is the system's. They are kept and shown,
    /// and slow nothing here.
    pub speed_min: Option<u32>,
    /// The greatest.
    pub speed_max: Option<u32>,
    /// What ran last, or runs.
    pub last_action: Option<SyncAction>,
    /// Running sync thread.
    pub sync: Option<Sync>,
    /// Sectors that differ in truth.
    pub mismatch_real: u64,
    /// Sectors that the last check or repair found.
    pub mismatch_shown: u64,
    /// Counts what applications wrote.
    pub generation: u64,
    /// Shown in place of the true `degraded`: a kernel that contradicts itself.
    pub degraded_lie: Option<u32>,
    /// What a raid set of device-mapper has beyond the md beneath it.
    pub dm: Option<Box<DmSet>>,
}

impl Array {
    /// Whether the personality has redundancy attributes and they are there.
    #[must_use]
    pub const fn has_sync(&self) -> bool {
        !matches!(self.mode, Mode::Inactive)
            && matches!(
                self.level,
                Level::Raid1 | Level::Raid4 | Level::Raid5 | Level::Raid6 | Level::Raid10
            )
    }

    /// Its table slows everything to a standstill.
    #[must_use]
    pub fn is_slowed(&self) -> bool {
        self.dm.as_ref().is_some_and(|set| set.slowed)
    }

    /// Nothing is filled or brought in step, because somebody wants it so.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.frozen || self.is_slowed()
    }

    /// A resync would write what a half-filled copy has over the good ones.
    #[must_use]
    pub fn half_filled_source(&self) -> bool {
        let good_in = |slot| self.members.iter().any(|m| m.good() && m.slot == slot);
        let half = |m: &Member| m.rebuilding() && !(m.replacement && good_in(m.slot));
        self.level == Level::Raid10 && self.members.iter().any(half)
    }

    /// The member on this device.
    #[must_use]
    pub fn member(&self, dev: DevNo) -> Option<&Member> {
        self.members.iter().find(|m| m.dev == dev)
    }

    /// The member on this device, to be changed.
    pub fn member_mut(&mut self, dev: DevNo) -> Option<&mut Member> {
        self.members.iter_mut().find(|m| m.dev == dev)
    }

    /// Whether the slot has an occupant with valid data.
    #[must_use]
    pub fn slot_good(&self, slot: u32) -> bool {
        self.members
            .iter()
            .any(|m| m.slot == Slot::At(slot) && m.good())
    }

    /// Slots without valid data.
    #[must_use]
    pub fn degraded(&self) -> u32 {
        (0..self.raid_disks)
            .map(|slot| u32::from(!self.slot_good(slot)))
            .sum()
    }

    /// Whether the slots with valid data suffice to read everything.
    #[must_use]
    pub fn enough(&self) -> bool {
        let bad = self.degraded();
        match self.level {
            Level::Raid1 => bad < self.raid_disks,
            Level::Raid4 | Level::Raid5 => bad <= 1,
            Level::Raid6 => bad <= 2,
            Level::Raid10 => self.enough_raid10(),
            _ => bad == 0,
        }
    }

    /// Every group of slots that hold the same data must have a good one
    /// (`drivers/md/raid10.c:_enough`).
    fn enough_raid10(&self) -> bool {
        let near = (self.layout & 0xff).max(1);
        let far = ((self.layout >> 8) & 0xff).max(1);
        let disks = self.raid_disks.max(1);
        let mut first = 0;
        loop {
            if !(0..near * far).any(|copy| self.slot_good((first + copy) % disks)) {
                return false;
            }
            first = (first + near) % disks;
            if first == 0 {
                return true;
            }
        }
    }

    /// Sectors that a sync of this kind goes through.
    #[must_use]
    pub fn sync_total(&self, action: SyncAction) -> u64 {
        if self.level == Level::Raid10 && action != SyncAction::Recover {
            let copies = u64::from(((self.layout & 0xff) * ((self.layout >> 8) & 0xff)).max(1));
            return self.component * u64::from(self.raid_disks) / copies;
        }
        self.component
    }

    /// Sectors that the array offers.
    #[must_use]
    pub fn size_sectors(&self) -> u64 {
        let disks = u64::from(self.raid_disks);
        match self.level {
            Level::Raid1 => self.component,
            Level::Raid4 | Level::Raid5 => self.component * disks.saturating_sub(1),
            Level::Raid6 => self.component * disks.saturating_sub(2),
            Level::Raid10 => self.sync_total(SyncAction::Resync),
            _ => self.component * disks,
        }
    }
}

/// The whole simulated machine.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Drives by number, plugged in or not.
    pub devices: BTreeMap<DevNo, Device>,
    /// Arrays by kernel name.
    pub arrays: BTreeMap<String, Array>,
    /// Arrays that were stopped, as [`World::assemble`] will start them again.
    pub stopped: BTreeMap<String, Array>,
    /// Whose habits.
    pub style: KernelStyle,
    /// Clock, milliseconds.
    pub now_ms: u64,
    /// Bytes per second that a sync thread does.
    pub rate: u64,
    /// Every action that was asked for, in order.
    pub log: Vec<Action>,
    /// What went wrong beyond repair, in words; see [`World::check_invariants`].
    pub violations: Vec<String>,
    /// The next so many actions are answered EBUSY without effect.
    pub busy_next: u32,
    /// Actions block until this is false again.
    pub hold_actions: bool,
    /// Hints are lost.
    pub lose_hints: bool,
    /// Hints not yet delivered.
    pub(crate) hints: Vec<Hint>,
    /// Volume groups of LVM by name.
    pub groups: BTreeMap<String, Group>,
    /// Sets whose replacement of legs was half done and goes on.
    pub(crate) half_repaired: BTreeSet<String>,
    /// Last minor number of device-mapper that was given away.
    pub(crate) minors: u32,
    /// Actions on raid sets that wait for a drive that hangs, each with the set's name.
    pub(crate) waiting: Vec<(String, Action)>,
}

impl World {
    /// An empty machine whose sync threads do 64 MiB a second.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rate: 64 << 20,
            ..Self::default()
        }
    }

    /// The drive of this name that is plugged in.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.values().find(|d| d.name == name && d.present)
    }

    /// The number of the drive of this name, plugged in or not.
    #[must_use]
    pub fn dev(&self, name: &str) -> Option<DevNo> {
        self.devices
            .values()
            .find(|d| d.name == name)
            .map(|d| d.dev)
    }

    /// The drive of this name, plugged in or not, to be changed.
    pub fn device_mut(&mut self, name: &str) -> Option<&mut Device> {
        self.devices.values_mut().find(|d| d.name == name)
    }

    /// The array of this name.
    #[must_use]
    pub fn array(&self, name: &str) -> Option<&Array> {
        self.arrays.get(name)
    }

    /// The array that this drive is a member of.
    #[must_use]
    pub fn array_of(&self, dev: DevNo) -> Option<&Array> {
        self.arrays.values().find(|a| a.member(dev).is_some())
    }

    /// Tells the watchers that the array may have changed.
    pub(crate) fn hint_array(&mut self, name: &str) {
        match self.arrays.get_mut(name).and_then(|a| a.dm.as_mut()) {
            // An event of device-mapper does not say whose it is.
            Some(set) => {
                set.event += 1;
                self.hint(Hint::Arrays);
            }
            None => self.hint(Hint::Array(name.to_owned())),
        }
    }

    /// The same of a start or of progress: device-mapper tells of ends and of failures only.
    pub(crate) fn hint_progress(&mut self, name: &str) {
        if self.arrays.get(name).is_some_and(|a| a.dm.is_none()) {
            self.hint_array(name);
        }
    }

    /// Tells the watchers, unless hints are lost or this one waits already.
    pub(crate) fn hint(&mut self, hint: Hint) {
        if !self.lose_hints && !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
    }

    /// Position of the array's sync thread now, sectors; 0 when none runs.
    #[must_use]
    pub fn position(&self, array: &Array) -> u64 {
        let Some(sync) = &array.sync else { return 0 };
        if sync.delayed || self.stalled(array) || array.is_slowed() {
            return sync.base;
        }
        let ms = self.now_ms.saturating_sub(sync.base_ms);
        let done = ms.saturating_mul(self.rate) / SECTOR / 1000;
        let end = array.sync_max.map_or(sync.total, |max| max.max(sync.base));
        sync.base.saturating_add(done).min(end).min(sync.total)
    }

    /// Whether a member of the array hangs, so that its sync thread stands still.
    #[must_use]
    pub fn stalled(&self, array: &Array) -> bool {
        array.members.iter().any(|m| {
            !m.faulty && m.slot != Slot::None && self.devices.get(&m.dev).is_some_and(|d| d.hung)
        })
    }
}
