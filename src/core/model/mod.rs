//! The VDS object model: what clients see. Field names of the serialised forms are the JSON that
//! `lunctl --json` promises (`docs/json.md`).

mod decision;
mod pool;
mod vds;

use serde::{Deserialize, Serialize};

use crate::facts::SyncAction;
use crate::id::{DevNo, DriveId, LunId, OpId, Wall};

pub use decision::{Alternative, AutoRule, AutoVerdict, Decision};
pub use pool::{Coverage, DriveWanted, PassedOver, PoolEntry, Retired, RetiredDrive, RetiredWhy};
pub use vds::{
    AsyncOutput, DriveFlag, DriveStatus, Health, LunStatus, LunType, NotificationEvent, ObjectType,
    Transition, VdsEnum,
};

/// Which kernel driver carries a LUN; also the name of the VDS controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Driver {
    /// Multiple devices driver.
    #[serde(rename = "md")]
    Md,
    /// Device-mapper target `raid`.
    #[serde(rename = "dm-raid")]
    DmRaid,
}

/// Which tool owns a LUN's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names of the tools")]
pub enum ManagedBy {
    Mdadm,
    Lvm,
    Dmsetup,
}

/// How far a LUN is from losing data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redundancy {
    /// Slots of the array. [`None`]: unknown.
    pub members_wanted: Option<u32>,
    /// Slots with an in-sync occupant. [`None`]: unknown, as of an array that does not run.
    pub members_in_sync: Option<u32>,
    /// How many further losses, of any members, are surely survivable. [`None`]: unknown.
    pub losses_survivable: Option<u32>,
    /// Devices (`/dev/...`) of which the loss of any one, next, would fail the LUN.
    pub fatal_next: Vec<String>,
}

/// What the kernel does with a LUN right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncView {
    /// Kernel word of `sync_action`; `none` on a LUN without one, `unknown` when unreadable.
    pub action: String,
    /// The kernel wants to run it, and waits (`DELAYED`, `PENDING`).
    pub queued: bool,
    /// Why it waits, in words; [`None`] when nothing waits.
    pub queued_reason: Option<String>,
    /// Sectors found different by the last check or repair.
    pub mismatch_sectors: Option<u64>,
}

/// A LUN: one md array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "the JSON that scripts rely on"
)]
pub struct Lun {
    /// Identity.
    pub id: LunId,
    /// Kernel name, `md0`.
    pub name: String,
    /// Node, `/dev/md0`.
    pub device: String,
    /// Other names, `/dev/md/NAME`.
    pub links: Vec<String>,
    /// Kernel driver.
    pub driver: Driver,
    /// Owner of the metadata.
    pub managed_by: ManagedBy,
    /// Level in the kernel's words, `raid5`.
    pub level: String,
    /// VDS type.
    #[serde(rename = "type")]
    pub kind: LunType,
    /// Bytes; [`None`] when unknown.
    pub size_bytes: Option<u64>,
    /// Availability.
    pub status: LunStatus,
    /// Fault state.
    pub health: Health,
    /// Configuration change in flight.
    pub transition: Transition,
    /// The level has redundancy.
    pub fault_tolerant: bool,
    /// Losses that can still be survived.
    pub redundancy: Redundancy,
    /// Recovery is held by an administrator's cancel.
    pub held: bool,
    /// `sRebuildPriority`, 0 to 15; 0: nobody has asked for one.
    #[serde(default)]
    pub rebuild_priority: u8,
    /// It has a write-intent bitmap (`bFastCrashRecoveryRequired`); [`None`] when that is not known.
    #[serde(default)]
    pub fast_crash_recovery: Option<bool>,
    /// The array waits for its first write to become writable.
    pub auto_read_only: bool,
    /// The array is read-only by choice.
    pub read_only: bool,
    /// What the kernel does.
    pub sync: SyncView,
    /// Running operation; the driver of the model fills it in.
    pub operation: Option<OpView>,
    /// Plexes: one per mirror leg, one for any other level.
    pub plexes: Vec<Plex>,
    /// Members and spares attached to it, and one `missing` entry per empty slot.
    pub drives: Vec<Drive>,
    /// Facts that could not be read, each with the reason.
    pub unknown: Vec<String>,
    /// Why recovery is not supported on this LUN at all (external metadata, cluster).
    pub unsupported: Option<String>,
    /// Commands that make it again after a start of the host, where lund has changed the table that its
    /// owner's script knows; empty for any other LUN.
    #[serde(default)]
    pub recreate: Vec<String>,
    /// When its facts were read, wall clock, milliseconds since 1970.
    pub observed_at_ms: Wall,
}

/// One full copy of a LUN's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plex {
    /// Identity: version 5 of the LUN's id and the plex number.
    pub id: uuid::Uuid,
    /// 0 for the only plex, the slot for a mirror leg.
    pub number: u32,
    /// VDS plex type (numbers of [`LunType`], a mirror leg is `SIMPLE`).
    #[serde(rename = "type")]
    pub kind: LunType,
    /// Availability.
    pub status: LunStatus,
    /// Fault state.
    pub health: Health,
    /// Configuration change in flight.
    pub transition: Transition,
    /// Bytes; [`None`] when unknown.
    pub size_bytes: Option<u64>,
    /// Stripe size, bytes, 0 where there is none.
    pub stripe_bytes: u64,
    /// Nodes of the drives that carry it.
    pub drives: Vec<String>,
}

/// What a drive is to its LUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Carries valid data.
    InSync,
    /// In a slot, being rebuilt (or waiting for it).
    Rebuilding,
    /// Being filled as the replacement of a member that still works.
    Replacing,
    /// Attached, idle.
    Spare,
    /// Failed, still listed.
    Faulty,
    /// Write journal.
    Journal,
    /// In the spare pool, attached to nothing.
    Pool,
    /// An empty slot, or a registered drive that is not there.
    Missing,
    /// State not readable.
    Unknown,
}

/// A drive: a member, a spare, or a drive registered in the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    /// Identity; [`None`] for an empty slot.
    pub id: Option<DriveId>,
    /// The identity rests on a plug, a file or a number, not on the drive.
    pub weak_identity: bool,
    /// Node, `/dev/sda1`; empty for an empty slot.
    pub device: String,
    /// A lasting name (by-id link, backing file).
    pub stable_name: String,
    /// Device number; [`None`] when it is not there.
    #[serde(skip)]
    pub dev: Option<DevNo>,
    /// Slot in its LUN.
    pub slot: Option<u32>,
    /// What it is to its LUN.
    pub role: Role,
    /// Names of the VDS flags set.
    pub flags: Vec<DriveFlag>,
    /// Availability.
    pub status: DriveStatus,
    /// Fault state.
    pub health: Health,
    /// LUN it belongs to; [`None`] in the pool.
    pub lun: Option<LunId>,
    /// Bytes; [`None`] when unknown.
    pub size_bytes: Option<u64>,
    /// Bytes of it that carry its LUN's data; 0 for a drive that carries none, [`None`] when unknown.
    #[serde(default)]
    pub used_bytes: Option<u64>,
    /// Registered in the spare pool.
    pub in_pool: bool,
    /// The kernel's words of `state`, or what else is to be known (bad blocks, errors).
    pub notes: Vec<String>,
}

/// What kind of work an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpKind {
    /// `IVdsLun::Recover`.
    Recover,
    /// `IVdsSubSystem::ReplaceDrive`.
    Replace,
    /// Reads and compares all copies.
    Verify,
    /// Rewrites parity or copies that differ.
    Repair,
}

/// What is being done to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// A former member catches up by the bitmap.
    ReAdd,
    /// A spare is filled for an empty slot.
    Rebuild,
    /// A spare is filled for a member that still works.
    Replace,
    /// Mirrors or parity are brought in step.
    Resync,
    /// Copies are compared.
    Check,
    /// Differences are rewritten.
    Repair,
    /// Nothing had to be done.
    None,
}

impl Phase {
    /// The phase that a running kernel action amounts to.
    #[must_use]
    pub const fn of_action(action: SyncAction) -> Option<Self> {
        match action {
            SyncAction::Resync => Some(Self::Resync),
            SyncAction::Recover => Some(Self::Rebuild),
            SyncAction::Check => Some(Self::Check),
            SyncAction::Repair => Some(Self::Repair),
            SyncAction::Idle | SyncAction::Frozen | SyncAction::Reshape => None,
        }
    }
}

/// Who began an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A client of the service.
    Client,
    /// The service's own policy.
    Policy,
    /// The kernel by itself, `mdadm`, or somebody at a shell.
    Kernel,
}

/// An operation as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpView {
    /// Number.
    pub id: OpId,
    /// Kind of work.
    pub kind: OpKind,
    /// VDS output type.
    pub async_output: AsyncOutput,
    /// LUN.
    pub lun: LunId,
    /// LUN's name when the operation began.
    pub lun_name: String,
    /// `queued`, `preparing`, `running`, `verifying`, `cancelling`, `succeeded`, `failed`,
    /// `cancelled`, `interrupted`.
    pub state: String,
    /// `VDS_E_OPERATION_PENDING` while it runs, the task's own afterwards.
    pub hresult: crate::Hresult,
    /// Name of `hresult`.
    pub hresult_name: String,
    /// 0..=99 while it runs, 100 when finished.
    pub percent: u32,
    /// What is being done.
    pub phase: Phase,
    /// Who began it.
    pub origin: Origin,
    /// Node of the drive that takes over, if one does.
    pub spare: Option<String>,
    /// RFC 3339 is made of it by the command line; milliseconds since 1970.
    pub started_at_ms: Wall,
    /// When it ended.
    pub ended_at_ms: Option<Wall>,
    /// Smoothed rate.
    pub rate_bytes_per_s: Option<u64>,
    /// Seconds left by that rate; [`None`] while it cannot be told.
    pub eta_s: Option<u64>,
    /// One sentence: what happens, or how it ended.
    pub message: String,
    /// Unique bus name and user id of who asked, `kernel`, or `policy`.
    pub asked_by: String,
    /// User id of who asked; [`None`] when no user did.
    #[serde(default)]
    pub asked_uid: Option<u32>,
}

impl OpView {
    /// Whether it is unfinished: judged by its HRESULT, never by its percentage.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.hresult == crate::Hresult::VDS_E_OPERATION_PENDING
    }
}
