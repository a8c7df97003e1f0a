//! What was observed of a device-mapper device with the target `raid` (`drivers/md/dm-raid.c`).
//!
//! The status line alone does not tell which legs are in sync: kernels from 6.9 print `A` and
//! `idle` for a leg whose recovery was interrupted. The superblocks of the legs tell.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Fact, Level, SyncAction};
use crate::id::DevNo;

/// A device-mapper device whose table is one target `raid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DmRaidFacts {
    /// Name in device-mapper, as the kernel has it.
    pub name: String,
    /// UUID in device-mapper; [`None`] where it was made without one.
    pub uuid: Option<String>,
    /// Kernel name of the device, `dm-3`.
    pub kernel_name: String,
    /// Who made it.
    pub owner: DmOwner,
    /// The live table.
    pub table: Fact<RaidTable>,
    /// The status line.
    pub status: Fact<RaidStatus>,
    /// It is suspended: to open it may block.
    pub suspended: bool,
    /// It was made read-only.
    pub read_only: bool,
    /// A second table is loaded and waits for a resume.
    pub inactive_table: bool,
    /// Number of events so far.
    pub event: u32,
    /// How often it is open.
    pub open_count: u32,
    /// Superblock of each leg of the table, in its order. [`None`]: the leg has no metadata device, or
    /// nothing is written there yet.
    pub superblocks: Vec<Fact<Option<RaidSuperblock>>>,
}

/// Who made a device-mapper device, and so owns its metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DmOwner {
    /// LVM.
    Lvm {
        /// Volume group.
        vg: String,
        /// Logical volume.
        lv: String,
    },
    /// Nobody known: made by hand.
    Bare,
}

/// The type word of a table: level, layout as md encodes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaidType {
    /// The word, `raid5_ls`.
    pub word: String,
    /// Level.
    pub level: Level,
    /// Layout as md encodes it.
    pub layout: u32,
}

/// One leg of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaidLeg {
    /// Device with superblock and bitmap; [`None`] for `-`.
    pub meta: Option<DevNo>,
    /// Device with the data; [`None`] for `-`: the leg is missing.
    pub data: Option<DevNo>,
}

/// A table line of the target `raid`. Sectors are 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaidTable {
    /// First sector in the device.
    pub start: u64,
    /// Sectors.
    pub len: u64,
    /// Type word, with the layout that the raid10 options make of it.
    pub kind: RaidType,
    /// Chunk, sectors; 0 where the level has none.
    pub chunk_sectors: u64,
    /// `sync` is true, `nosync` is false.
    pub sync: Option<bool>,
    /// `rebuild`: stays in the table for as long as that is loaded.
    pub rebuild: BTreeSet<u32>,
    /// `write_mostly`.
    pub write_mostly: BTreeSet<u32>,
    /// `daemon_sleep`, milliseconds.
    pub daemon_sleep: Option<u64>,
    /// `min_recovery_rate`, KiB/s for each drive.
    pub min_recovery_rate: Option<u64>,
    /// `max_recovery_rate`, KiB/s for each drive.
    pub max_recovery_rate: Option<u64>,
    /// `max_write_behind`, sectors.
    pub max_write_behind: Option<u64>,
    /// `stripe_cache`, sectors.
    pub stripe_cache: Option<u64>,
    /// `region_size` of the bitmap, sectors.
    pub region_size: Option<u64>,
    /// `journal_dev`.
    pub journal_dev: Option<DevNo>,
    /// `journal_mode`, `writethrough` or `writeback`.
    pub journal_mode: Option<String>,
    /// `raid10_copies`.
    pub raid10_copies: Option<u32>,
    /// `raid10_format`: `near`, `far` or `offset`.
    pub raid10_format: Option<String>,
    /// `raid10_use_near_sets`.
    pub raid10_use_near_sets: bool,
    /// `delta_disks`: it is being reshaped.
    pub delta_disks: Option<i64>,
    /// `data_offset`, sectors.
    pub data_offset: Option<u64>,
    /// Legs by position.
    pub legs: Vec<RaidLeg>,
}

/// A letter of the status line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegHealth {
    /// `A`.
    InSync,
    /// `a`: alive, not in sync; every leg while a resync or a reshape runs or is needed.
    Alive,
    /// `D`.
    Failed,
    /// `-`.
    Absent,
}

/// The status line of the target `raid`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaidStatus {
    /// Type word as the target has it now.
    pub kind: String,
    /// A letter for each leg.
    pub legs: Vec<LegHealth>,
    /// Sectors done; never a sign of redundancy.
    pub done: u64,
    /// Sectors in all.
    pub total: u64,
    /// What runs.
    pub action: SyncAction,
    /// Sectors that differed; counted by `check` only, 0 after anything else.
    pub mismatch_sectors: u64,
    /// Health of the journal device; [`None`] where there is none.
    pub journal: Option<LegHealth>,
}

/// Superblock of a leg (`DmRd`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaidSuperblock {
    /// Number of legs.
    pub num_devices: u32,
    /// Position of this leg.
    pub array_position: u32,
    /// Event count: the highest is the freshest.
    pub events: u64,
    /// Positions of the legs that had failed when it was written.
    pub failed: BTreeSet<u32>,
    /// How far this leg has been filled, sectors; [`None`]: it is in sync.
    pub disk_recovery_offset: Option<u64>,
    /// How far the legs have been brought in step, sectors; [`None`]: they are.
    pub array_resync_offset: Option<u64>,
    /// A reshape is under way.
    pub reshaping: bool,
}
