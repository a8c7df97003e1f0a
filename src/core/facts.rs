//! What was observed of the kernel, in the kernel's own words and without any judgement.
//!
//! A fact that could not be read is [`Fact::Unknown`] with the reason, never a default. Sectors
//! are 512 bytes; sizes are converted to bytes by the reader. Sources: `/sys/block/mdX/md/*`
//! (`drivers/md/md.c`), `/proc/mdstat`, udev's database and `mdadm --examine`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{DevNo, DriveId};

mod dm;
mod lvm;

pub use dm::{
    DmOwner, DmRaidFacts, LAID_PREFIX, LaidDevice, LegHealth, LegPart, LegRoom, RaidLeg,
    RaidStatus, RaidSuperblock, RaidTable, RaidType,
};
pub use lvm::{LogicalVolume, PhysicalVolume, VolumeGroup};

/// One observed value, or why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact<T> {
    /// Read and understood.
    Known(T),
    /// Not readable or not understood; the text says what was tried.
    Unknown(String),
}

impl<T> Fact<T> {
    /// The value, if it is known.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// Whether the value is known and satisfies `test`.
    pub fn is_known_and(&self, test: impl FnOnce(&T) -> bool) -> bool {
        self.known().is_some_and(test)
    }
}

/// Everything that one scan saw.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// Arrays by kernel name (`md0`, `md127`, `md_home`); of device-mapper, by `mapper/NAME`.
    pub arrays: BTreeMap<String, ArrayFacts>,
    /// Every block device that could be a member or a spare, by number.
    pub devices: BTreeMap<DevNo, DeviceFacts>,
    /// Deep looks at devices, made on request ([`ProbeFacts`]).
    pub probes: BTreeMap<DevNo, ProbeFacts>,
    /// What LVM says of its volume groups, asked on request.
    #[serde(default)]
    pub groups: BTreeMap<String, Fact<VolumeGroup>>,
    /// Whether the md driver is loaded (`/proc/mdstat` exists).
    pub md_loaded: bool,
}

/// Personality of an array (`md/level`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Concatenation.
    Linear,
    /// Striping.
    Raid0,
    /// Mirroring.
    Raid1,
    /// Striping with one parity disk.
    Raid4,
    /// Striping with rotating parity.
    Raid5,
    /// Striping with two rotating syndromes.
    Raid6,
    /// Striped mirrors.
    Raid10,
    /// A container of external metadata; not an array itself.
    Container,
    /// Any other word the kernel printed (`faulty`, `multipath`, or empty before assembly).
    Other(String),
}

/// `md/metadata_version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metadata {
    /// `0.90`.
    V0_90,
    /// `1.0`, `1.1`, `1.2`; the number is the minor one.
    V1(u8),
    /// `external:TYPE` (IMSM, DDF containers and their members).
    External(String),
    /// `none`: an array without superblocks.
    None,
    /// Superblocks of device-mapper's target `raid`, on devices of their own.
    DmRaid,
}

/// `md/array_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the kernel's words, one for one")]
pub enum ArrayState {
    Clear,
    Inactive,
    Suspended,
    Readonly,
    ReadAuto,
    Clean,
    Active,
    WritePending,
    ActiveIdle,
    Broken,
}

/// `md/sync_action` when read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the kernel's words, one for one")]
pub enum SyncAction {
    Idle,
    Frozen,
    Resync,
    Recover,
    Check,
    Repair,
    Reshape,
}

/// `md/sync_completed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncCompleted {
    /// `none`: no sync thread runs.
    None,
    /// `delayed`: it waits for another array on the same disks.
    Delayed,
    /// `done / total`, sectors; coarse (steps of 1/16).
    At {
        /// Sectors done.
        done: u64,
        /// Sectors in all.
        total: u64,
    },
}

/// A position that can be `none` (`md/resync_start`, `dev-X/recovery_start`): `none` means done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// `none`: nothing left to do.
    Done,
    /// Sectors done so far.
    At(u64),
}

/// `sync_speed_min` or `sync_speed_max`: a bound on how fast the kernel syncs an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeedLimit {
    /// What is in force, KiB/s.
    pub kib_s: u32,
    /// It is the array's own; otherwise it is the system's (`/proc/sys/dev/raid/speed_limit_*`).
    pub local: bool,
}

impl SpeedLimit {
    /// One of the system's, KiB/s.
    #[must_use]
    pub const fn system(kib_s: u32) -> Self {
        let local = false;
        Self { kib_s, local }
    }

    /// The array's own, KiB/s; [`None`] where it goes by the system's.
    #[must_use]
    pub fn own(self) -> Option<u32> {
        self.local.then_some(self.kib_s)
    }
}

/// The attributes that exist only while a personality with redundancy runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncFacts {
    /// `sync_action`.
    pub action: Fact<SyncAction>,
    /// `sync_completed`.
    pub completed: Fact<SyncCompleted>,
    /// `degraded`: slots without an in-sync device.
    pub degraded: Fact<u32>,
    /// `mismatch_cnt`, sectors; meaningful after check or repair.
    pub mismatch_sectors: Fact<u64>,
    /// `last_sync_action`: what ran last, or runs; [`None`] before anything did.
    pub last_action: Fact<Option<SyncAction>>,
    /// `sync_min`, sectors: where the next check begins. A check that was stopped leaves the place
    /// here, one that came to its end leaves 0.
    pub sync_min: Fact<u64>,
    /// `sync_max`, sectors: where a check stands still; [`None`] for `max`.
    pub sync_max: Fact<Option<u64>>,
    /// `sync_speed_min`: a sync is slowed for other I/O down to this and no further.
    pub speed_min: Fact<SpeedLimit>,
    /// `sync_speed_max`: a sync is never faster.
    pub speed_max: Fact<SpeedLimit>,
}

/// `/proc/mdstat`'s entry of an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MdstatFacts {
    /// The first word was `broken` (kernels from 6.12).
    pub broken: bool,
    /// The first word was `inactive`.
    pub inactive: bool,
    /// `(read-only)`.
    pub read_only: bool,
    /// `(auto-read-only)`.
    pub auto_read_only: bool,
    /// What the progress line says.
    pub progress: MdstatProgress,
}

/// Progress as `/proc/mdstat` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MdstatProgress {
    /// No progress line.
    None,
    /// `resync=DELAYED`, `recovery=DELAYED`, ...: queued behind another array.
    Delayed,
    /// `resync=PENDING`: needed, not running (read-auto, read-only or frozen).
    Pending,
    /// `resync=REMOTE`: another node of a cluster does it.
    Remote,
    /// Running.
    At {
        /// KiB done.
        done_kib: u64,
        /// KiB in all.
        total_kib: u64,
        /// KiB per second over the kernel's window.
        speed_kib: u64,
    },
}

/// The kernel driver that carries an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Driver {
    /// Multiple devices driver.
    Md,
    /// Device-mapper target `raid`, and what only it has.
    DmRaid(Box<DmRaidFacts>),
}

/// One md array, or one device-mapper device of the target `raid`: md is what works in it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayFacts {
    /// Kernel name: `md0`. Device-mapper: `mapper/NAME`, which no name of md can be.
    pub name: String,
    /// Driver.
    pub driver: Driver,
    /// Device number.
    pub dev: DevNo,
    /// Names under `/dev/md/`, without the folder.
    pub md_names: Vec<String>,
    /// `md/uuid`, or what `mdadm --detail --export` says where the kernel has no such file.
    pub uuid: Fact<Option<Uuid>>,
    /// `md/level`.
    pub level: Fact<Level>,
    /// `md/layout`, as the personality encodes it.
    pub layout: Fact<u32>,
    /// `md/raid_disks`: slots wanted.
    pub raid_disks: Fact<u32>,
    /// `md/chunk_size`, bytes; 0 where the level has none.
    pub chunk_bytes: Fact<u64>,
    /// `md/component_size`, bytes used of each member.
    pub component_bytes: Fact<u64>,
    /// Size of the array, bytes.
    pub size_bytes: Fact<u64>,
    /// `queue/logical_block_size` of the array, bytes.
    pub logical_block_bytes: Fact<u32>,
    /// `md/metadata_version`.
    pub metadata: Fact<Metadata>,
    /// `md/array_state`.
    pub state: Fact<ArrayState>,
    /// The redundancy attributes; [`None`] when the kernel shows none (raid0, linear, inactive).
    pub sync: Option<SyncFacts>,
    /// `md/resync_start`.
    pub resync_start: Fact<Position>,
    /// `md/reshape_position` is not `none`.
    pub reshaping: Fact<bool>,
    /// A write-intent bitmap (or lockless bitmap) is active. Re-add is unsafe without one.
    pub bitmap: Fact<bool>,
    /// The array is a clustered one (`mdstat` or bitmap says so).
    pub clustered: bool,
    /// The entry in `/proc/mdstat`; [`None`] when it has none.
    pub mdstat: Option<MdstatFacts>,
    /// Members in the order of their `dev-*` names.
    pub members: Vec<MemberFacts>,
    /// Event count of an in-sync member's superblock, read only where a former member is about.
    pub events: Fact<u64>,
}

impl ArrayFacts {
    /// What only a device-mapper array has; [`None`] for one of md.
    #[must_use]
    pub const fn dm(&self) -> Option<&DmRaidFacts> {
        match &self.driver {
            Driver::Md => None,
            Driver::DmRaid(facts) => Some(facts),
        }
    }
}

/// `dev-X/slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Slot {
    /// `none`: an idle spare, or a faulty member that was dropped from its slot.
    None,
    /// A slot of the array. A replacement shares the slot of the member it replaces.
    At(u32),
    /// `journal`.
    Journal,
}

/// The words of `dev-X/state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the kernel's words, one for one")]
#[allow(
    clippy::struct_excessive_bools,
    reason = "the kernel prints a set of words"
)]
pub struct MemberState {
    pub faulty: bool,
    pub in_sync: bool,
    pub journal: bool,
    pub write_mostly: bool,
    pub blocked: bool,
    pub spare: bool,
    pub write_error: bool,
    pub want_replacement: bool,
    pub replacement: bool,
    pub external_bbl: bool,
    pub failfast: bool,
}

/// One `dev-X` folder of an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFacts {
    /// Kernel name of the device: `sda1`.
    pub name: String,
    /// Its number; unknown when the device behind it vanished.
    pub dev: Fact<DevNo>,
    /// `slot`.
    pub slot: Fact<Slot>,
    /// `state`.
    pub state: Fact<MemberState>,
    /// `recovery_start`.
    pub recovery_start: Fact<Position>,
    /// `errors`: corrected read errors.
    pub errors: Fact<u64>,
    /// Lines in `bad_blocks` (the kernel cuts at one page).
    pub bad_blocks: Fact<u32>,
    /// `size`, bytes usable on this member.
    pub size_bytes: Fact<u64>,
}

/// How sure an identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityKind {
    /// World-wide name.
    Wwn,
    /// Serial number (with model and, for a partition, its number).
    Serial,
    /// By-path link: the plug, not the drive.
    Path,
    /// Backing file of a loop device.
    Backing,
    /// Device number only.
    DevNo,
}

impl IdentityKind {
    /// Whether another drive could bear this identity tomorrow.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(self, Self::Path | Self::Backing | Self::DevNo)
    }
}

/// One block device, as sysfs and udev describe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// Device number.
    pub dev: DevNo,
    /// Kernel name: `sda1`, `loop3`.
    pub name: String,
    /// Lasting identity.
    pub id: DriveId,
    /// What the identity rests on.
    pub id_kind: IdentityKind,
    /// A lasting name for people and for the ledger: a `/dev/disk/by-id` link, else by-path, else
    /// the backing file, else the node.
    pub stable_name: String,
    /// Every name under `/dev` that leads here (node and links).
    pub names: Vec<String>,
    /// Size, bytes.
    pub size_bytes: u64,
    /// `queue/logical_block_size`, bytes.
    pub logical_block_bytes: Fact<u32>,
    /// `queue/rotational`.
    pub rotational: Fact<bool>,
    /// Transport as udev or sysfs name it (`ata`, `nvme`, `scsi`, `loop`, ...).
    pub transport: Fact<String>,
    /// `ro` is 1.
    pub read_only: bool,
    /// Kernel names in `holders/` (md arrays and dm devices on top).
    pub holders: BTreeSet<String>,
    /// Mount points, swap (`[swap]`) or other use by the host of the device itself or, for a
    /// whole disk, of its partitions.
    pub used_by: Vec<String>,
    /// Whole disk that this device lives on: its own name for a whole disk.
    pub whole_disk: String,
    /// Sysfs path of the controller (the first PCI or platform ancestor), for failure domains.
    pub controller: Option<String>,
    /// Sysfs path of the enclosure, expander, dock or host adapter between the two, for failure
    /// domains; [`None`] where there is none.
    #[serde(default)]
    pub enclosure: Option<String>,
    /// `ID_FS_TYPE` or `ID_PART_TABLE_TYPE` of udev's database: a hint, a probe is the truth.
    pub udev_signature: Option<String>,
}

/// A deep look at a device: what is written on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeFacts {
    /// Signatures found (file systems, partition tables, RAID and LVM members, ...), by name.
    pub signatures: Fact<Vec<String>>,
    /// Whether an exclusive open succeeded; the text says who has it otherwise.
    pub exclusive: Fact<bool>,
    /// The md superblock, if it bears one.
    pub md: Fact<Option<SuperblockFacts>>,
}

/// An md superblock as `mdadm --examine` reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuperblockFacts {
    /// UUID of the array it was written for.
    pub array_uuid: Uuid,
    /// UUID of the member.
    pub device_uuid: Option<Uuid>,
    /// Event count.
    pub events: u64,
    /// Role on disk: a slot, or [`None`] for a spare or a faulty member.
    pub role: Option<u32>,
}
