//! From a LUN's facts to what should be done about it, or to the reason why nothing can be.
//!
//! Planning is pure and convergent: it is asked again after every step with fresh facts, so a
//! plan that was half carried out when the daemon died is simply planned to its end.

mod check;
mod coverage;
mod dm;
mod draft;
mod explain;
mod fit;
mod hints;
mod mend;
#[cfg(test)]
mod properties;
mod recover;
mod register;
mod replace;
mod spare;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::action::{Action, Target};
use crate::facts::{ArrayFacts, Inventory};
use crate::id::{DriveId, LunId, OpId};
use crate::model::{Lun, Phase, Retired};

pub use crate::model::PoolEntry;

pub use check::check;
pub use coverage::coverage;
pub use dm::{outlived, refuse_cancel};
pub use draft::whole_range;
pub use explain::{Bystander, Explained, Explanation, Refusal, explain};
pub(crate) use fit::SPARE_SIGNATURE;
pub use hints::{
    Hints, Limits, PRIORITY_MAX, Pace, Throttle, bitmap_step, limits, limits_of, pace,
    refuse_priority,
};
pub use recover::plan;
pub use register::refuse_registration;
pub use spare::{
    Candidate, Loan, Method, Need, Rejection, Reservation, Source, Verdict, judge_spares,
    probes_wanted, reservation,
};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// `Recover`, with what `lunctl recover` may add.
    Recover {
        /// `--spare`: this drive and no other.
        spare: Option<DriveId>,
        /// `--repair`: rewrite what differs even when nothing else is wrong.
        repair: bool,
    },
    /// `ReplaceDrive`: move the data off `drive`.
    Replace {
        /// Member to be retired.
        drive: DriveId,
        /// `--with`: onto this drive and no other.
        with: Option<DriveId>,
    },
    /// `verify`: compare all copies.
    Verify,
}

impl Request {
    /// The drive that was insisted on.
    #[must_use]
    pub const fn chosen(&self) -> Option<DriveId> {
        match self {
            Self::Recover { spare: drive, .. } | Self::Replace { with: drive, .. } => *drive,
            Self::Verify => None,
        }
    }
}

/// All that planning for one LUN looks at.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Everything observed; probes of the candidates included.
    pub inventory: &'a Inventory,
    /// This LUN's facts, an entry of `inventory`.
    pub array: &'a ArrayFacts,
    /// The same LUN in VDS words.
    pub lun: &'a Lun,
    /// A copy was being filled when the host went down, and no repair has gone over all copies since.
    pub unproven: bool,
    /// The pool, in the order of registration.
    pub pool: &'a [PoolEntry],
    /// Drives that are out of use.
    pub retired: &'a BTreeMap<DriveId, Retired>,
    /// Drives of the pool may become physical volumes ([`Policy::extend_groups`](crate::policy::Policy)).
    pub extend_groups: bool,
    /// The policy asks, and nobody else: only missing members are made good, no former member is erased
    /// that nobody has registered, and these drives are left out, each for its reason.
    pub aside: Option<&'a BTreeMap<DriveId, String>>,
    /// What this LUN has to leave to others, unless a drive is named.
    pub reserved: &'a [Reservation],
    /// Spares of other arrays of its spare group that this LUN may have.
    pub loans: &'a [Loan],
    /// Spares that operations have taken out of other arrays, or were about to: nobody else takes them.
    pub promised: &'a BTreeMap<DriveId, OpId>,
    /// Spares that this operation has taken out of such arrays, or was about to.
    pub moved: &'a BTreeSet<DriveId>,
    /// Operation that plans; [`None`] for a dry run.
    pub op: Option<OpId>,
    /// Drives that this operation has already tried in vain: never taken again by it.
    pub tried: &'a BTreeSet<DriveId>,
    /// Drives that this operation has itself attached to the array.
    pub added: &'a BTreeSet<DriveId>,
    /// Members that this operation has had copied in order to retire them. When the copy is done the
    /// kernel fails such a member and forgets that it was to be replaced.
    pub retiring: &'a BTreeSet<DriveId>,
}

/// One step: what to do, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Why, in a clause that can follow a comma.
    pub why: String,
}

/// What to do next about a LUN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// LUN.
    pub lun: LunId,
    /// Which rule applied, in words.
    pub rule: String,
    /// What will be done to the data; [`Phase::None`] when nothing is wrong.
    pub phase: Phase,
    /// Kernel actions in order; those whose effect is already observed are left out. Empty with a
    /// phase other than `None` means: it is already under way, wait for it.
    pub steps: Vec<Step>,
    /// Drives that will be filled.
    pub targets: Vec<Target>,
    /// Member that will be retired, for a replacement.
    pub retires: Option<Target>,
    /// Slots that stay empty although this plan succeeds, for want of spares.
    pub leaves_missing: u32,
    /// Every drive considered, with the verdict.
    pub candidates: Vec<Candidate>,
    /// What is at risk while it runs, in a sentence.
    pub risk: String,
    /// Bytes to be copied, for an estimate of how long.
    pub bytes_to_copy: u64,
}
