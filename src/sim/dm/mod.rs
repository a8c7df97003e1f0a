//! Raid sets of device-mapper, and the volume groups of LVM in which most of them live.
//!
//! What works in a set is md, so a set is an [`Array`] that has a [`DmSet`] beside it: its table, its
//! superblocks, its owner. Its members are its legs, devices of their own, each on a drive; what befalls
//! the drive befalls them. What the port reads is projected by `lun_kernel::raid_set`, so that the status
//! line may lie here as the kernel's does (`drivers/md/dm-raid.c`).

mod bare;
mod build;
mod facts;
mod laid;
mod life;
mod lvm;
mod reload;

use std::collections::BTreeSet;

use lun_core::facts::{DmOwner, RaidSuperblock};
use lun_core::id::{DevNo, DriveId};

pub use bare::Reached;
pub use laid::Laid;

use crate::world::{Array, Device, World};

/// What a raid set has beyond the md beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmSet {
    /// Name in device-mapper.
    pub name: String,
    /// UUID in device-mapper.
    pub uuid: String,
    /// Who made it.
    pub owner: DmOwner,
    /// Legs by slot, as the live table has them.
    pub legs: Vec<Leg>,
    /// `rebuild` in the live table. What loads it again starts these from 0.
    pub rebuild: BTreeSet<u32>,
    /// The live table has the lowest recovery rate.
    pub slowed: bool,
    /// The owner's metadata has the lowest recovery rate: the next table will.
    pub slowed_by_owner: bool,
    /// Number of events.
    pub event: u32,
    /// A second table is loaded and not resumed.
    pub inactive_table: bool,
    /// Devices that lund has laid for legs of it, in the table or left over.
    pub laid: Vec<Laid>,
    /// Legs that others have taken the place of; what is written on them stays.
    pub former: Vec<Leg>,
}

/// A leg of a raid set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leg {
    /// Device with the data.
    pub data: DevNo,
    /// Device with superblock and bitmap.
    pub meta: DevNo,
    /// Drive that both lie on.
    pub drive: DriveId,
    /// Superblock as it was last written.
    pub superblock: Option<RaidSuperblock>,
    /// The table has a `- -` in its place.
    pub left_out: bool,
}

/// A volume group of LVM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Extent, bytes.
    pub extent_bytes: u64,
    /// Physical volumes.
    pub physical: Vec<Physical>,
    /// dmeventd replaces failed legs itself (`raid_fault_policy` is `allocate`).
    pub allocate: bool,
}

/// A physical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Physical {
    /// Drive.
    pub drive: DriveId,
    /// Extents.
    pub extents: u64,
    /// The group's metadata was written while it was away: LVM calls it missing until
    /// `vgextend --restoremissing`.
    pub flagged: bool,
}

impl DmSet {
    /// The slot of the leg with its data on this device.
    #[must_use]
    pub fn slot_of(&self, data: DevNo) -> Option<u32> {
        let slot = self.legs.iter().position(|leg| leg.data == data)?;
        u32::try_from(slot).ok()
    }

    /// The leg in this slot.
    #[must_use]
    pub fn leg(&self, slot: u32) -> Option<&Leg> {
        self.legs.get(usize::try_from(slot).ok()?)
    }

    fn leg_mut(&mut self, slot: u32) -> Option<&mut Leg> {
        self.legs.get_mut(usize::try_from(slot).ok()?)
    }

    /// The group that it lives in; [`None`] for a set made with dmsetup.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        match &self.owner {
            DmOwner::Lvm { vg, .. } => Some(vg),
            DmOwner::Bare => None,
        }
    }
}

impl World {
    /// The drive with this identity, plugged in or not.
    #[must_use]
    pub fn drive(&self, id: DriveId) -> Option<&Device> {
        let mut drives = self.devices.values();
        drives.find(|d| d.id == id && d.under.is_none())
    }

    /// Whether a drive can be read and written.
    #[must_use]
    pub fn is_there(&self, id: DriveId) -> bool {
        self.drive(id).is_some_and(|d| d.present && !d.dead)
    }

    /// Every array, also those that are stopped.
    pub(crate) fn all_arrays(&self) -> impl Iterator<Item = &Array> {
        self.arrays.values().chain(self.stopped.values())
    }

    /// Legs that lie on this drive.
    #[must_use]
    pub fn legs_on(&self, id: DriveId) -> Vec<DevNo> {
        let legs = self.devices.values().filter(|d| d.under == Some(id));
        legs.map(|d| d.dev).collect()
    }

    /// The group that this drive is a physical volume of.
    #[must_use]
    pub fn group_of(&self, id: DriveId) -> Option<&str> {
        let mut groups = self.groups.iter();
        let (name, _) = groups.find(|(_, group)| group.physical.iter().any(|p| p.drive == id))?;
        Some(name)
    }

    /// Whether LVM has no device for a physical volume, or does not use the one that came back.
    #[must_use]
    pub fn is_missing(&self, physical: &Physical) -> bool {
        physical.flagged || !self.is_there(physical.drive)
    }

    /// Extents of a physical volume that no leg takes.
    #[must_use]
    pub fn free_extents(&self, group: &str, physical: &Physical) -> u64 {
        let extent = self.groups.get(group).map_or(1, |g| g.extent_bytes.max(1));
        let sets = self.all_arrays().filter_map(|array| {
            let set = array.dm.as_ref().filter(|set| set.group() == Some(group))?;
            let here = set.legs.iter().filter(|leg| leg.drive == physical.drive);
            let here = u64::try_from(here.count()).unwrap_or(u64::MAX);
            Some(here.saturating_mul(leg_extents(array, extent)))
        });
        physical.extents.saturating_sub(sets.sum())
    }

    /// Whether what an action on the raid set does waits for a drive that hangs: LVM reads every physical
    /// volume of the group, and a suspend waits for every leg.
    pub(crate) fn set_blocked(&self, name: &str) -> bool {
        let Some(set) = self.arrays.get(name).and_then(|a| a.dm.as_ref()) else {
            return false;
        };
        let hangs = |id: DriveId| self.drive(id).is_some_and(|d| d.present && d.hung);
        let group = set.group().and_then(|group| self.groups.get(group));
        set.legs.iter().any(|leg| hangs(leg.drive))
            || group.is_some_and(|group| group.physical.iter().any(|p| hangs(p.drive)))
    }
}

/// Extents of a leg: its data, and one for its metadata.
pub(crate) const fn leg_extents(array: &Array, extent_bytes: u64) -> u64 {
    let bytes = array.component.saturating_mul(crate::world::SECTOR);
    bytes.div_ceil(extent_bytes) + 1
}
