//! What was observed of a device-mapper device with the target `raid` (`drivers/md/dm-raid.c`).
//!
//! The status line alone does not tell which legs are in sync: kernels from 6.9 print `A` and
//! `idle` for a leg whose recovery was interrupted. The superblocks of the legs tell.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

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
    /// Legs of a set that has lost one which answer a read of their data with an error. The kernel does not
    /// fail the last leg that a part of the data is on, whatever has become of it.
    #[serde(default)]
    pub unreadable: BTreeSet<u32>,
    /// Devices that lund has laid for legs of it, in the table or left over.
    #[serde(default)]
    pub laid: Vec<LaidDevice>,
}

impl DmRaidFacts {
    /// Whether its table has the word `rebuild` for a leg that lund has laid. Once that is filled, the word
    /// would have it filled anew should anybody copy the line.
    #[must_use]
    pub fn has_idle_rebuild(&self) -> bool {
        let Some(table) = self.table.known() else {
            return false;
        };
        table.has_rebuild_of(&self.laid)
    }
}

/// Which half of a leg a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LegPart {
    /// Superblock and bitmap.
    Meta,
    /// The data.
    Data,
}

/// A linear device that lund has laid on a drive: a leg in place of a lost one is two of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaidDevice {
    /// Its half.
    pub part: LegPart,
    /// Name in device-mapper.
    pub name: String,
    /// UUID in device-mapper; begins with [`LAID_PREFIX`].
    pub uuid: String,
    /// Its number.
    pub dev: DevNo,
    /// Number of the drive that it lies on.
    pub on: DevNo,
    /// Where on the drive it begins, sectors.
    pub at_sectors: u64,
    /// Its length, sectors.
    pub sectors: u64,
    /// Something has it open; the set does when it is one of its legs.
    pub in_use: bool,
}

/// What the UUIDs of the devices that lund lays begin with.
pub const LAID_PREFIX: &str = "LUND-";

impl LaidDevice {
    /// The `dmsetup` command that makes it again on the drive called so.
    #[must_use]
    pub fn command(&self, drive: &str) -> String {
        let (name, uuid, sectors, at) = (&self.name, &self.uuid, self.sectors, self.at_sectors);
        format!("dmsetup create {name} --uuid {uuid} --table '0 {sectors} linear {drive} {at}'")
    }
}

/// How a leg is laid on a drive: metadata first, data behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegRoom {
    /// Length of the metadata device, sectors.
    pub meta_sectors: u64,
    /// Where the data begins, sectors.
    pub data_at: u64,
    /// Length of the data device, sectors.
    pub data_sectors: u64,
}

impl LegRoom {
    /// Bytes of a sector.
    const SECTOR: u64 = 512;
    /// Where data begins is a multiple of this, sectors: 1 MiB suits every disk's blocks.
    const ALIGNED: u64 = 2048;
    /// A bitmap has 2^21 bits at most (`dm-raid.c:validate_region_size`), which take 256 KiB behind a
    /// superblock of 4 KiB; a metadata device that was made larger need not be so again. Sectors.
    const META_MOST: u64 = 8192;

    /// For a leg whose metadata lay on a device of this size, and whose data takes so much.
    #[must_use]
    pub fn new(meta_bytes: u64, data_bytes: u64) -> Self {
        let meta_sectors = (meta_bytes / Self::SECTOR).min(Self::META_MOST);
        Self {
            meta_sectors,
            data_at: meta_sectors.next_multiple_of(Self::ALIGNED),
            data_sectors: data_bytes.div_ceil(Self::SECTOR),
        }
    }

    /// What it takes of a drive, bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.data_at
            .saturating_add(self.data_sectors)
            .saturating_mul(Self::SECTOR)
    }
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

impl RaidTable {
    /// A table that begins at the first sector and has no options.
    #[must_use]
    pub const fn new(len: u64, kind: RaidType, chunk_sectors: u64, legs: Vec<RaidLeg>) -> Self {
        Self {
            start: 0,
            len,
            kind,
            chunk_sectors,
            sync: None,
            rebuild: BTreeSet::new(),
            write_mostly: BTreeSet::new(),
            daemon_sleep: None,
            min_recovery_rate: None,
            max_recovery_rate: None,
            max_write_behind: None,
            stripe_cache: None,
            region_size: None,
            journal_dev: None,
            journal_mode: None,
            raid10_copies: None,
            raid10_format: None,
            raid10_use_near_sets: false,
            delta_disks: None,
            data_offset: None,
            legs,
        }
    }

    /// As it may be loaded again. `rebuild` would begin anew what has been filled, and the superblocks know
    /// better than `sync` and `nosync` what is in step (`dm-raid.c:super_init_validation`).
    #[must_use]
    pub fn reloaded(&self) -> Self {
        Self {
            sync: None,
            rebuild: BTreeSet::new(),
            ..self.clone()
        }
    }

    /// Whether it has the word `rebuild` for a leg of these.
    #[must_use]
    pub fn has_rebuild_of(&self, laid: &[LaidDevice]) -> bool {
        (0_u32..).zip(&self.legs).any(|(slot, leg)| {
            let ours = |laid: &LaidDevice| Some(laid.dev) == leg.data;
            self.rebuild.contains(&slot) && laid.iter().any(ours)
        })
    }

    /// At this rate and no other, KiB/s for each drive; [`None`]: at that of the host.
    #[must_use]
    pub fn at_rate(self, rate: Option<u64>) -> Self {
        Self {
            min_recovery_rate: rate,
            max_recovery_rate: rate,
            ..self
        }
    }

    /// The line, with devices by number.
    #[must_use]
    pub fn line(&self) -> String {
        let (start, len, params) = (self.start, self.len, self.params(&|dev| dev.to_string()));
        format!("{start} {len} raid {params}")
    }

    /// What follows the target's name, with devices called as `device` says. The second word counts those
    /// up to the legs (`dm-raid.c:parse_raid_params`).
    #[must_use]
    pub fn params(&self, device: &dyn Fn(DevNo) -> String) -> String {
        let options = self.options(device);
        let count = options.split_whitespace().count() + 1;
        let mut text = format!(
            "{} {count} {}{options} {}",
            self.kind.word,
            self.chunk_sectors,
            self.legs.len()
        );
        for half in self.legs.iter().flat_map(|leg| [leg.meta, leg.data]) {
            text.push(' ');
            text.push_str(&half.map_or_else(|| "-".to_owned(), device));
        }
        text
    }

    /// Options, each with a blank before it.
    fn options(&self, device: &dyn Fn(DevNo) -> String) -> String {
        let mut text = String::new();
        let mut say = |word: &str, value: Option<&dyn fmt::Display>| {
            // To write to a string cannot fail.
            let _ = write!(text, " {word}");
            if let Some(value) = value {
                let _ = write!(text, " {value}");
            }
        };
        match self.sync {
            Some(true) => say("sync", None),
            Some(false) => say("nosync", None),
            None => {}
        }
        for slot in &self.rebuild {
            say("rebuild", Some(slot));
        }
        for slot in &self.write_mostly {
            say("write_mostly", Some(slot));
        }
        for (word, value) in [
            ("daemon_sleep", self.daemon_sleep),
            ("min_recovery_rate", self.min_recovery_rate),
            ("max_recovery_rate", self.max_recovery_rate),
            ("max_write_behind", self.max_write_behind),
            ("stripe_cache", self.stripe_cache),
            ("region_size", self.region_size),
            ("data_offset", self.data_offset),
            ("raid10_copies", self.raid10_copies.map(u64::from)),
        ] {
            if let Some(value) = value {
                say(word, Some(&value));
            }
        }
        if let Some(dev) = self.journal_dev {
            say("journal_dev", Some(&device(dev)));
        }
        if let Some(mode) = &self.journal_mode {
            say("journal_mode", Some(mode));
        }
        if let Some(format) = &self.raid10_format {
            say("raid10_format", Some(format));
        }
        if self.raid10_use_near_sets {
            say("raid10_use_near_sets", None);
        }
        if let Some(delta) = self.delta_disks {
            say("delta_disks", Some(&delta));
        }
        text
    }
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
