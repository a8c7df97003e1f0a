//! What goes into the machine and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::hints::HintWish;
use crate::Error;
use crate::action::Action;
use crate::facts::{ArrayFacts, Inventory, MdstatFacts};
use crate::id::{DevNo, DriveId, LunId, OpId, Wall};
use crate::model::{
    Coverage, Decision, Drive, Health, Lun, NotificationEvent, OpView, PassedOver, Retired,
    RetiredDrive, Role,
};
use crate::op::{Caller, Op};
use crate::plan::{Explanation, Hints, Plan, PoolEntry};
use crate::policy::Policy;

/// Ties a reply to the call that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Ties an action's result to the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActId(pub u64);

/// Ties the ledger's answer to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PersistId(pub u64);

impl PersistId {
    /// No record: the ledger speaks of itself. It has found that it cannot be written any more, or
    /// that it can again.
    pub const OWN: Self = Self(0);
}

/// A call of a client, already authorised.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "drives are named as the client named them")]
pub enum Command {
    /// `IVdsLun::Recover`; answers with an operation, with `dry_run` with a plan.
    Recover {
        lun: LunId,
        spare: Option<String>,
        repair: bool,
        dry_run: bool,
    },
    /// `IVdsSubSystem::ReplaceDrive`, asynchronous; `dry_run` answers with a plan.
    Replace {
        lun: LunId,
        drive: String,
        with: Option<String>,
        dry_run: bool,
    },
    /// Compare all copies.
    Verify { lun: LunId },
    /// Why the LUN is as it is, and what would be done about it; changes nothing.
    Explain { lun: LunId },
    /// `IVdsAsync::Cancel`.
    Cancel { op: OpId, release_spare: bool },
    /// Ends a hold without a recovery of ours.
    Release { lun: LunId },
    /// `IVdsLun::ApplyHints`.
    ApplyHints { lun: LunId, wish: HintWish },
    /// `SetFlags(HOTSPARE)`: registers a drive in the pool.
    SpareAdd { drive: String, force: bool },
    /// `ClearFlags(HOTSPARE)`.
    SpareRemove { drive: String },
    /// `IVdsMaintenance` with `BlinkLight`: switches the light of a drive's bay.
    Light { drive: String, on: bool },
    /// `IVdsHwProvider::Refresh`: re-read everything, accept what the kernel says.
    Refresh,
    /// `Reenumerate`: look for arrays and drives that came or went.
    Reenumerate,
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// An operation was begun (or had nothing to do and is finished).
    Op(Box<OpView>),
    /// What would be done.
    Plan(Box<Plan>),
    /// The reasoning.
    Explanation(Box<Explanation>),
    /// A drive of the pool.
    Drive(Box<Drive>),
    /// Done.
    Done,
}

/// A LUN as the ledger remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLun {
    /// Identity.
    pub id: LunId,
    /// Kernel name when last seen.
    pub name: String,
    /// Other names when last seen (`/dev/md/NAME`).
    pub links: Vec<String>,
    /// Level when last seen.
    pub level: String,
    /// When it was last seen.
    pub last_seen: Wall,
    /// It was seen to go.
    pub gone: bool,
    /// Fault state when last seen; [`None`]: written by a version that did not keep it.
    #[serde(default)]
    pub health: Option<Health>,
    /// When it was last seen healthy; [`None`]: never.
    #[serde(default)]
    pub healthy_at: Option<Wall>,
    /// A copy was being filled when the host went down, and what was written in that moment may differ
    /// between the copies until a repair has gone over all of them.
    #[serde(default)]
    pub unproven: bool,
    /// Commands that make it again, of a raid set with legs that lund has laid.
    #[serde(default)]
    pub recreate: Vec<String>,
    /// What clients wish of it, and what of that is to be undone.
    #[serde(default)]
    pub hints: Hints,
}

/// A drive as the ledger remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenDrive {
    /// Identity.
    pub id: DriveId,
    /// Lasting name.
    pub stable_name: String,
    /// Node when last seen, `/dev/sda1`.
    pub device: String,
    /// LUN that it belonged to; [`None`] in the pool.
    pub lun: Option<LunId>,
    /// Its slot there.
    pub slot: Option<u32>,
    /// What it was to its LUN.
    pub role: Role,
    /// When it was last seen so.
    pub last_seen: Wall,
    /// It is no drive of ours any more: unplugged, or taken out of its LUN or of the pool.
    pub gone: bool,
    /// It is out of use.
    #[serde(default)]
    pub retired: Option<Retired>,
    /// When LUNs lost it, the oldest first; only the newest few are kept.
    #[serde(default)]
    pub lost: Vec<Loss>,
}

/// A member in sync was lost to its LUN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// When it was seen.
    pub at: Wall,
    /// LUN.
    pub lun: LunId,
    /// How, as far as it could be seen.
    pub kind: LossKind,
    /// Whole disk that it lay on.
    pub disk: String,
    /// Controller that it lay behind.
    pub controller: Option<String>,
    /// It came back in sync there.
    pub regained: bool,
}

/// How a member was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// It is there, and the LUN lists it as failed.
    Failed,
    /// Its device went.
    Vanished,
    /// Its device is there and the LUN does not list it any more: somebody took it out.
    TakenOut,
    /// Nobody looked when it happened.
    Unseen,
}

/// What the ledger is told. Every record is complete in itself (an upsert), so that one told
/// twice does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Record {
    /// An operation as it stands.
    Op(Box<Op>),
    /// About to do this.
    Intent {
        op: OpId,
        seq: u32,
        action: Action,
        at: Wall,
    },
    /// Did it, with this outcome.
    Outcome {
        op: OpId,
        seq: u32,
        error: Option<Error>,
        at: Wall,
    },
    /// A drive of the pool, as it stands.
    Pool(PoolEntry),
    /// No longer in the pool.
    PoolRemoved(DriveId),
    /// This LUN's recovery is held.
    Hold { lun: LunId, name: String, at: Wall },
    /// No longer held.
    HoldReleased(LunId),
    /// A LUN as last seen.
    Lun(SeenLun),
    /// A drive as last seen.
    Drive(SeenDrive),
    /// What was decided about a LUN, and why; told when it differs from the last one.
    Decision(Box<Decision>),
    /// What the last start of the host has left behind is known, and written before this.
    Booted,
}

/// What the ledger remembers at start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerState {
    /// Unfinished operations and the newest finished ones, oldest first.
    pub ops: Vec<Op>,
    /// Highest operation number ever given.
    pub last_op: u64,
    /// The pool in order of registration.
    pub pool: Vec<PoolEntry>,
    /// Held LUNs, with the name they had.
    pub holds: BTreeMap<LunId, (String, Wall)>,
    /// LUNs seen before.
    pub luns: Vec<SeenLun>,
    /// Drives seen before.
    pub drives: Vec<SeenDrive>,
    /// Why the ledger does not work, if it does not.
    pub degraded: Option<String>,
    /// The host was started anew since [`Record::Booted`] was written last, or that cannot be told:
    /// arrays that are not there yet may still be assembled.
    pub rebooted: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    missing_docs,
    reason = "the fields are described by the input that has them"
)]
pub enum Input {
    /// First of all: what the ledger remembers.
    Start(Box<LedgerState>),
    /// A client calls. `caller` is for the record.
    Call {
        token: Token,
        caller: Caller,
        command: Command,
    },
    /// Events told that this array may have changed.
    DirtyArray(String),
    /// Events told that anything may have changed.
    DirtyAll,
    /// The answer to [`Effect::Scan`].
    Scanned(Result<Box<Inventory>, Error>),
    /// The answer to [`Effect::ReadArray`].
    ArrayRead {
        name: String,
        result: Result<Option<Box<ArrayFacts>>, Error>,
    },
    /// The answer to [`Effect::ReadProgress`].
    Progress(Result<Vec<(String, MdstatFacts)>, Error>),
    /// The answer to [`Effect::Act`].
    Acted {
        id: ActId,
        result: Result<(), Error>,
    },
    /// The deadline of an action has passed; its answer may still come, or never.
    ActLate { id: ActId },
    /// The answer to [`Effect::Persist`].
    Persisted {
        id: PersistId,
        result: Result<(), Error>,
    },
    /// The moment of [`Machine::next_wake`](super::Machine) has come.
    Timer,
    /// The configuration was read anew.
    Policy(Policy),
    /// The daemon is about to end in good order: what is known goes into the ledger.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    missing_docs,
    reason = "the fields are described by the effect that has them"
)]
pub enum Effect {
    /// Read everything; probe these devices, read the event counts of these arrays.
    Scan {
        probe: BTreeSet<DevNo>,
        events_of: BTreeSet<String>,
        /// Volume groups that LVM is to be asked about.
        groups: BTreeSet<String>,
    },
    /// Read one array.
    ReadArray { name: String },
    /// Read `/proc/mdstat`.
    ReadProgress,
    /// Do this off the loop; report [`Input::ActLate`] once when `deadline_ms` pass first.
    Act {
        id: ActId,
        action: Action,
        deadline_ms: u64,
    },
    /// Tell the ledger; records are written in the order in which they are told.
    Persist { id: PersistId, record: Record },
    /// Answer a call.
    Reply {
        token: Token,
        result: Result<Reply, Error>,
    },
    /// What clients see has changed: publish [`Snapshot`] anew.
    Publish,
    /// A decision, for the same places as a notification: it is the text of one with more to it.
    Decided(Box<Decision>),
    /// Something for the journal and for the `Notification` signal.
    Notify {
        event: Option<NotificationEvent>,
        lun: Option<LunId>,
        op: Option<OpId>,
        text: String,
    },
}

/// All that clients may see, at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// LUNs by kernel name.
    pub luns: Vec<Lun>,
    /// Every drive once: members, spares and pool.
    pub drives: Vec<Drive>,
    /// Operations, running and remembered, by number.
    pub ops: Vec<OpView>,
    /// The pool.
    pub pool: Vec<PoolEntry>,
    /// Drives that failed or were replaced, and are not used again unasked.
    #[serde(default)]
    pub retired: Vec<RetiredDrive>,
    /// Which LUNs the spares at hand could serve.
    #[serde(default)]
    pub coverage: Vec<Coverage>,
    /// Drives that a rule of the pool speaks of, and that may not join it.
    #[serde(default)]
    pub passed_over: Vec<PassedOver>,
    /// LUNs that existed and are gone.
    pub gone: Vec<SeenLun>,
    /// Why the ledger does not work, if it does not.
    pub ledger_degraded: Option<String>,
    /// Whether the md driver is loaded.
    pub md_loaded: bool,
}
