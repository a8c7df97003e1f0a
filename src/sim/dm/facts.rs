//! Raid sets and volume groups as the real port would read them.

use std::collections::{BTreeMap, BTreeSet};

use lun_core::facts::{
    ArrayFacts, DmOwner, DmRaidFacts, Fact, LegHealth, Level, LogicalVolume, MdstatFacts,
    MdstatProgress, PhysicalVolume, RaidLeg, RaidStatus, RaidSuperblock, RaidTable, RaidType, Slot,
    SyncAction, VolumeGroup,
};
use lun_core::id::DevNo;
use lun_kernel::raid_set::{self, Disk, HOLD_RATE};

use super::build::leg_name;
use super::{DmSet, Group, Leg, Physical, leg_extents};
use crate::world::{Array, Mode, SECTOR, World};

impl World {
    /// What a raid set looks like.
    pub(crate) fn set_facts(&self, array: &Array, set: &DmSet) -> ArrayFacts {
        let facts = DmRaidFacts {
            name: set.name.clone(),
            uuid: Some(set.uuid.clone()),
            kernel_name: format!("dm-{}", array.dev.minor),
            owner: set.owner.clone(),
            table: Fact::Known(table(array, set)),
            status: Fact::Known(status(array, set)),
            suspended: false,
            read_only: array.mode == Mode::Readonly,
            inactive_table: set.inactive_table,
            laid: set.laid_facts(),
            unreadable: self.unreadable_legs(array, set),
            event: set.event,
            open_count: 0,
            superblocks: set.legs.iter().map(|leg| self.superblock_of(leg)).collect(),
        };
        let disk = Disk {
            dev: array.dev,
            size_bytes: Fact::Known(array.size_sectors() * SECTOR),
            logical_block_bytes: Fact::Known(array.block_bytes),
        };
        raid_set::array_facts(facts, disk, &|dev| {
            let device = self.devices.get(&dev).filter(|d| d.present)?;
            Some((device.name.clone(), device.size_bytes))
        })
    }

    /// Legs of a set that has lost one which are called good and answer a read with an error.
    fn unreadable_legs(&self, array: &Array, set: &DmSet) -> BTreeSet<u32> {
        let lost = |leg: &Leg| array.member(leg.data).is_none_or(|m| m.faulty);
        if !set.legs.iter().any(lost) {
            return BTreeSet::new();
        }
        let errs = |leg: &Leg| {
            let device = self.devices.get(&leg.data);
            device.is_none_or(|d| !d.present || d.dead && !d.hung)
        };
        (0_u32..)
            .zip(&set.legs)
            .filter(|(_, leg)| !lost(leg) && errs(leg))
            .map(|(slot, _)| slot)
            .collect()
    }

    /// The superblock of a leg, read past the page cache.
    fn superblock_of(&self, leg: &Leg) -> Fact<Option<RaidSuperblock>> {
        match self.devices.get(&leg.data) {
            _ if leg.left_out => Fact::Known(None),
            Some(device) if device.hung => Fact::Unknown(format!(
                "the superblock of {} was not read within 3 s",
                leg.meta
            )),
            Some(device) if device.present && !device.dead => Fact::Known(leg.superblock.clone()),
            _ => Fact::Unknown(format!("reading {}: Input/output error", leg.meta)),
        }
    }

    /// Writes the superblocks of all working legs (`dm-raid.c:super_sync`).
    pub(crate) fn write_raid_superblocks(&mut self, name: &str) {
        let Some(array) = self.arrays.get(name) else {
            return;
        };
        let Some(set) = &array.dm else { return };
        let failed: BTreeSet<u32> = (0_u32..)
            .zip(&set.legs)
            .filter(|(_, leg)| array.member(leg.data).is_none_or(|m| m.faulty))
            .map(|(slot, _)| slot)
            .collect();
        let count = u32::try_from(set.legs.len()).unwrap_or(u32::MAX);
        let written: BTreeMap<u32, RaidSuperblock> = array
            .members
            .iter()
            .filter(|m| !m.faulty)
            .filter(|m| {
                let device = self.devices.get(&m.dev);
                device.is_some_and(|d| d.present && !d.dead)
            })
            .filter_map(|m| {
                let slot = set.slot_of(m.dev)?;
                let superblock = RaidSuperblock {
                    num_devices: count,
                    array_position: slot,
                    events: array.events,
                    failed: failed.clone(),
                    disk_recovery_offset: m.recovery_offset,
                    array_resync_offset: array.resync_start,
                    reshaping: false,
                };
                Some((slot, superblock))
            })
            .collect();
        let Some(set) = self.arrays.get_mut(name).and_then(|a| a.dm.as_mut()) else {
            return;
        };
        for (slot, superblock) in written {
            if let Some(leg) = set.leg_mut(slot) {
                leg.superblock = Some(superblock);
            }
        }
    }

    /// How far the arrays are: an entry for each of md, and for each raid set that is at work.
    #[must_use]
    pub fn progress_facts(&self) -> Vec<(String, MdstatFacts)> {
        let entries = self.arrays.values().filter_map(|array| {
            let facts = match &array.dm {
                None => self.mdstat_facts(array),
                Some(set) => set_progress(&status(array, set), set.slowed)?,
            };
            Some((array.name.clone(), facts))
        });
        entries.collect()
    }

    /// What LVM says of a group. It reads every physical volume, and waits for one that hangs.
    pub(crate) fn group_facts(&self, name: &str) -> Fact<VolumeGroup> {
        let Some(group) = self.groups.get(name) else {
            return Fact::Unknown(format!("vgs: Volume group \"{name}\" not found"));
        };
        let hangs = |p: &Physical| self.drive(p.drive).is_some_and(|d| d.present && d.hung);
        if group.physical.iter().any(hangs) {
            return Fact::Unknown("vgs did not end in time".to_owned());
        }
        Fact::Known(VolumeGroup {
            name: name.to_owned(),
            extent_bytes: group.extent_bytes,
            physical: group
                .physical
                .iter()
                .map(|physical| self.physical_facts(name, group, physical))
                .collect(),
            logical: self
                .all_arrays()
                .filter_map(|array| Some((array, array.dm.as_deref()?)))
                .filter(|(_, set)| set.group() == Some(name))
                .flat_map(|(array, set)| self.logical_facts(group, array, set))
                .collect(),
            fault_policy: if group.allocate { "allocate" } else { "warn" }.to_owned(),
        })
    }

    fn node_of(&self, id: lun_core::id::DriveId) -> String {
        match self.drive(id).filter(|_| self.is_there(id)) {
            Some(device) => format!("/dev/{}", device.name),
            None => "[unknown]".to_owned(),
        }
    }

    fn physical_facts(&self, name: &str, group: &Group, physical: &Physical) -> PhysicalVolume {
        let there = self.is_there(physical.drive);
        PhysicalVolume {
            node: self.node_of(physical.drive),
            uuid: physical.drive.to_string(),
            dev: self
                .drive(physical.drive)
                .filter(|_| there)
                .map(|device| device.dev),
            size_bytes: physical.extents * group.extent_bytes,
            free_bytes: self.free_extents(name, physical) * group.extent_bytes,
            missing: self.is_missing(physical),
            allocatable: true,
        }
    }

    fn logical_facts(&self, group: &Group, array: &Array, set: &DmSet) -> Vec<LogicalVolume> {
        let DmOwner::Lvm { lv, .. } = &set.owner else {
            return Vec::new();
        };
        let part = |name: String, parent: Option<&String>, size_bytes, nodes| LogicalVolume {
            name,
            parent: parent.cloned(),
            size_bytes,
            nodes,
            health: String::new(),
            monitored: group.allocate,
        };
        let data = (leg_extents(array, group.extent_bytes) - 1) * group.extent_bytes;
        let slots = || (0_u32..).zip(&set.legs);
        let images = slots().map(|(slot, _)| leg_name(lv, slot)).collect();
        let mut parts = vec![part(
            lv.clone(),
            None,
            array.size_sectors() * SECTOR,
            images,
        )];
        for (slot, leg) in slots() {
            let nodes = vec![self.node_of(leg.drive)];
            let image = leg_name(lv, slot);
            let meta = format!("{lv}_rmeta_{slot}");
            parts.push(part(image, Some(lv), data, nodes.clone()));
            parts.push(part(meta, Some(lv), group.extent_bytes, nodes));
        }
        parts
    }
}

/// The entry that the real port makes of a status line.
fn set_progress(status: &RaidStatus, slowed: bool) -> Option<MdstatFacts> {
    let idle = slowed || matches!(status.action, SyncAction::Idle | SyncAction::Frozen);
    let progress = MdstatProgress::At {
        done_kib: status.done / 2,
        total_kib: status.total / 2,
        speed_kib: 0,
    };
    (!idle).then_some(MdstatFacts {
        broken: false,
        inactive: false,
        read_only: false,
        auto_read_only: false,
        progress,
    })
}

fn table(array: &Array, set: &DmSet) -> RaidTable {
    let word = match array.level {
        Level::Raid1 => "raid1",
        Level::Raid4 => "raid4",
        Level::Raid5 => "raid5_ls",
        Level::Raid6 => "raid6_ls_6",
        _ => "raid10",
    };
    let raid10 = array.level == Level::Raid10;
    let rate = set.slowed.then_some(HOLD_RATE);
    let leg = |leg: &Leg| RaidLeg {
        meta: (!leg.left_out).then_some(leg.meta),
        data: (!leg.left_out).then_some(leg.data),
    };
    let kind = RaidType {
        word: word.to_owned(),
        level: array.level.clone(),
        layout: array.layout,
    };
    let legs = set.legs.iter().map(leg).collect();
    RaidTable {
        rebuild: set.rebuild.clone(),
        min_recovery_rate: rate,
        max_recovery_rate: rate,
        region_size: Some(1024),
        raid10_copies: raid10.then_some(2),
        raid10_format: raid10.then(|| "near".to_owned()),
        ..RaidTable::new(array.size_sectors(), kind, array.chunk_bytes / SECTOR, legs)
    }
}

/// The status line (`dm-raid.c:raid_status`, `rs_get_progress`).
pub(super) fn status(array: &Array, set: &DmSet) -> RaidStatus {
    let action = match &array.sync {
        _ if array.frozen => SyncAction::Frozen,
        Some(sync) => sync.action,
        None => SyncAction::Idle,
    };
    let total = array.sync_total(match action {
        SyncAction::Recover => action,
        _ => SyncAction::Resync,
    });
    let told = |told: u64| told.saturating_mul(total) / 16;
    // While nothing runs the ratio is that of the resync, whatever is to be filled.
    let done = match (&array.sync, array.resync_start) {
        (Some(sync), _) => told(sync.told).min(total),
        (None, _) if array.frozen => 0,
        (None, Some(at)) => at.min(total),
        (None, None) => total,
    };
    let by_letter = match action {
        SyncAction::Resync | SyncAction::Reshape => Some(LegHealth::Alive),
        SyncAction::Idle if array.resync_start.is_some() => Some(LegHealth::Alive),
        // A recovery that was interrupted is passed over: the line says `A`.
        SyncAction::Idle | SyncAction::Check | SyncAction::Repair => Some(LegHealth::InSync),
        SyncAction::Recover | SyncAction::Frozen => None,
    };
    let letter = |dev: DevNo| match array.member(dev) {
        None => LegHealth::Absent,
        Some(member) if member.faulty => LegHealth::Failed,
        Some(member) => by_letter.unwrap_or(if member.in_sync && member.slot != Slot::None {
            LegHealth::InSync
        } else {
            LegHealth::Alive
        }),
    };
    let checked = array.last_action == Some(SyncAction::Check);
    RaidStatus {
        kind: table(array, set).kind.word,
        legs: set.legs.iter().map(|leg| letter(leg.data)).collect(),
        done,
        total,
        action,
        mismatch_sectors: if checked { array.mismatch_shown } else { 0 },
        journal: None,
    }
}
