//! Operations: the asynchronous objects behind `IVdsAsync`.

mod state;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::action::Target;
use crate::id::{DriveId, LunId, Mono, OpId, Wall};
use crate::model::{Health, Lun, LunStatus, OpKind, Origin, Phase};
use crate::plan::Request;

pub use state::{OpEvent, OpState};

/// An operation. What must survive the daemon is all here; it is what the ledger stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// Number.
    pub id: OpId,
    /// Kind of work.
    pub kind: OpKind,
    /// LUN.
    pub lun: LunId,
    /// Its name when the operation began.
    pub lun_name: String,
    /// What was asked for; [`None`] for an adopted operation of the kernel.
    pub request: Option<Request>,
    /// Who began it.
    pub origin: Origin,
    /// Who asked, for the record.
    pub asked_by: String,
    /// User id of who asked; [`None`]: no user did, or an older version wrote this down. Whose
    /// operation it is decides who may cancel it.
    #[serde(default)]
    pub asked_uid: Option<u32>,
    /// Where it stands.
    pub state: OpState,
    /// How it ended; [`None`] while it runs or when it ended well.
    pub error: Option<Error>,
    /// What is being done.
    pub phase: Phase,
    /// Drives being filled.
    pub targets: Vec<Target>,
    /// Drives that it has attached, so that a cancel with `--release-spare` can give them back.
    pub added: BTreeSet<DriveId>,
    /// Members that it has copied in order to retire them.
    #[serde(default)]
    pub retiring: BTreeSet<DriveId>,
    /// Spares of other arrays that it has taken out of them, or was about to. Until they are attached
    /// nobody else has them.
    #[serde(default)]
    pub moved: BTreeSet<DriveId>,
    /// Drives that failed it.
    pub tried: BTreeSet<DriveId>,
    /// Highest percentage shown so far.
    pub percent: u32,
    /// When it began.
    pub started_at: Wall,
    /// When it ended.
    pub ended_at: Option<Wall>,
    /// One sentence for people.
    pub message: String,
    /// How the LUN stood when it began.
    #[serde(default)]
    pub before: Option<Standing>,
    /// How the LUN stood when it ended.
    #[serde(default)]
    pub after: Option<Standing>,
    /// The states that it was in, each with the moment at which it began; at most
    /// [`Op::STATES_KEPT`], the first one and the newest.
    #[serde(default)]
    pub states: Vec<StateChange>,
    /// How far its steps have come.
    #[serde(default)]
    pub work: Work,
    /// What runs only in memory.
    #[serde(skip)]
    pub live: Live,
}

impl Op {
    /// Changes of state that are remembered.
    pub const STATES_KEPT: usize = 64;

    /// Moves on to a state, and remembers when.
    pub(crate) fn enter(&mut self, state: OpState, at: Wall) {
        self.state = state;
        if self.states.len() >= Self::STATES_KEPT {
            self.states.remove(1);
        }
        self.states.push(StateChange { state, at });
    }
}

/// Who asks for something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// In words, for the record.
    pub name: String,
    /// User id, as the bus vouches for it; [`None`] when no user asks.
    pub uid: Option<u32>,
}

impl From<&str> for Caller {
    fn from(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            uid: None,
        }
    }
}

/// A state and the moment at which an operation entered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// State.
    pub state: OpState,
    /// Since when.
    pub at: Wall,
}

/// What the next start of the daemon has to know of an operation's steps in order to go on: the
/// array's own files do not tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// Steps written down so far; numbers them.
    pub steps: u32,
    /// Phases finished.
    pub phases_done: u32,
    /// Phases expected in all, for the percentage; 0 counts as 1.
    pub phases_expected: u32,
    /// The kernel accepted `check` or `repair`.
    pub scrub_started: bool,
    /// It was `repair`.
    pub rewrites: bool,
    /// That check or repair was seen beyond its first sixteenth: until there, kernels before 6.11
    /// leave no trace of its having been stopped.
    pub scrub_seen: bool,
    /// So often it ended without being seen beyond its first sixteenth.
    pub scrub_unseen: u32,
    /// It froze the array, or was about to, and has not lifted that again.
    pub froze: bool,
    /// A tool is at work that freezes the array for as long as it needs, and leaves it so when it is
    /// killed.
    #[serde(default)]
    pub tool_freezes: bool,
    /// The cancel that is under way gives back the drives that it has attached.
    pub release_spare: bool,
}

/// How a LUN stood at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Availability.
    pub status: LunStatus,
    /// Fault state.
    pub health: Health,
    /// Slots with an in-sync occupant; [`None`]: unknown.
    pub members_in_sync: Option<u32>,
    /// Slots; [`None`]: unknown.
    pub members_wanted: Option<u32>,
}

impl Standing {
    /// How this LUN stands.
    #[must_use]
    pub const fn of(lun: &Lun) -> Self {
        Self {
            status: lun.status,
            health: lun.health,
            members_in_sync: lun.redundancy.members_in_sync,
            members_wanted: lun.redundancy.members_wanted,
        }
    }
}

/// The part of an operation that need not outlive the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    /// Smoothed bytes per second.
    pub rate_bytes_per_s: Option<u64>,
    /// Seconds left.
    pub eta_s: Option<u64>,
    /// When the kernel was first seen to work on it.
    pub running_since: Option<Mono>,
    /// Steps performed since the daemon started; bounded.
    pub steps_done: u32,
}
