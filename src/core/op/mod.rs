//! Operations: the asynchronous objects behind `IVdsAsync`.

mod state;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::action::Target;
use crate::id::{DriveId, LunId, Mono, OpId, Wall};
use crate::model::{OpKind, Origin, Phase};
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
    /// What runs only in memory.
    #[serde(skip)]
    pub live: Live,
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
    /// Steps performed so far; bounded.
    pub steps_done: u32,
}
