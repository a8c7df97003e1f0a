//! Which drives could take over, in which order, and why the others could not.
//!
//! Only drives that somebody meant for it are looked at: spares attached to the array, drives
//! registered in the pool, former members of this very array, and a drive that was named in the
//! call. A blank drive that merely is there is nobody's spare.

mod group;
mod judge;
mod rank;
mod reserve;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::action::Target;
use crate::error::Unfit;
use crate::facts::{ArrayFacts, DeviceFacts, Inventory};
use crate::id::{DevNo, DriveId};

use super::{Context, PoolEntry, fit};
use judge::Judge;
use rank::survivors;

pub use group::Loan;
pub(super) use rank::rank;
pub use reserve::{Reservation, reservation};

/// A drive's name and why it was not taken, as [`crate::Error::NoSpare`] lists them.
pub type Rejection = (String, Unfit);

/// Why a drive was considered at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A spare that is attached to the array already.
    Attached,
    /// Registered in the pool.
    Pool,
    /// Bears this array's superblock, or is listed in it as faulty.
    Former,
    /// Named in the call.
    Chosen,
    /// A physical volume of the volume group that the LUN lies in.
    VolumeGroup,
    /// Attached as a spare to another array of its spare group.
    SpareGroup,
}

/// How a drive would be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Re-add into the slot it had: only what changed meanwhile is copied.
    ReAdd {
        /// The slot.
        slot: u32,
    },
    /// It is attached: start it.
    Start,
    /// Add it as a fresh spare.
    Add,
    /// Erase what is on it, then add it.
    WipeAndAdd,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The plan fills it.
    Taken,
    /// It would do.
    Fits {
        /// 0 is the best.
        rank: u32,
    },
    /// It will not do.
    Rejected(Unfit),
}

/// A drive that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The drive; number 0:0 and the lasting name when it is not there.
    pub drive: Target,
    /// Lasting name, for people.
    pub stable_name: String,
    /// Why it was considered.
    pub source: Source,
    /// How it would be taken in.
    pub method: Method,
    /// It is listed as faulty in the array and has to be removed from it first.
    pub listed: bool,
    /// The array of the spare group from which it has to be taken first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub donor: Option<String>,
    /// Size, bytes.
    pub size_bytes: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// The verdict in words, for people.
    pub reason: String,
}

impl Candidate {
    /// Whether it would do, or does.
    #[must_use]
    pub const fn fits(&self) -> bool {
        matches!(self.verdict, Verdict::Fits { .. } | Verdict::Taken)
    }

    /// It will not do after all.
    pub(super) fn reject(&mut self, unfit: Unfit) {
        self.reason = unfit.text();
        self.verdict = Verdict::Rejected(unfit);
    }

    /// Name for messages: the node, or the lasting name of a drive that is not there.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.verdict {
            Verdict::Rejected(Unfit::NotPresent) => self.stable_name.clone(),
            _ => format!("/dev/{}", self.drive.name),
        }
    }
}

/// What is needed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Need {
    /// Slots without an occupant, into which a former member may be re-added.
    pub holes: Vec<u32>,
    /// Only this drive.
    pub chosen: Option<DriveId>,
    /// Member that is being replaced: never its own successor unless it is the chosen one.
    pub retiring: Option<DriveId>,
}

/// Judges every drive that could take over, the best first, the rejected ones last. The order
/// among those that fit: re-adds, attached spares, pool, spares of the spare group, former members that would be erased;
/// among equals the best fit ([`rank`]). What is kept for others is rejected. It does not depend on the order of the pool.
#[must_use]
pub fn judge_spares(ctx: &Context<'_>, need: &Need) -> Vec<Candidate> {
    let judge = Judge { ctx: *ctx, need };
    let mut found = judge.attached();
    found.extend(judge.chosen());
    found.extend(ctx.pool.iter().filter_map(|entry| judge.pooled(entry)));
    found.extend(judge.former());
    found.extend(judge.of_the_group());
    let survivors = survivors(ctx);
    let rank_of = |candidate: &Candidate| {
        let device = ctx.inventory.devices.get(&candidate.drive.dev)?;
        let entry = ctx.pool.iter().find(|entry| entry.id == device.id);
        Some(rank(device, &survivors, entry))
    };
    found.sort_by_cached_key(|candidate| {
        let name = candidate.stable_name.clone();
        (
            !candidate.fits(),
            class(candidate),
            rank_of(candidate),
            name,
        )
    });
    reserve::keep_back(&mut found, ctx.reserved);
    let mut next = 0;
    for candidate in &mut found {
        let written = matches!(candidate.method, Method::Add | Method::WipeAndAdd);
        if let (true, true, Some(rank)) = (candidate.fits(), written, rank_of(candidate)) {
            candidate.reason = format!("{} ({})", candidate.reason, rank.text());
        }
        if let Verdict::Fits { rank } = &mut candidate.verdict {
            *rank = next;
            next += 1;
        }
    }
    found
}

/// Devices that must be probed before [`judge_spares`] can judge: the pool, the drive named in the
/// call, drives that this operation has wiped, and idle drives that look like members of an array.
#[must_use]
pub fn probes_wanted(
    inventory: &Inventory,
    array: &ArrayFacts,
    pool: &[PoolEntry],
    named: &BTreeSet<DriveId>,
) -> BTreeSet<DevNo> {
    let degraded = crate::project::is_degraded(array);
    let wanted = |device: &&DeviceFacts| {
        if named.contains(&device.id) {
            return true;
        }
        let attached = fit::membership(inventory, device);
        if attached.is_some_and(|(name, _)| name == array.name) {
            return false;
        }
        let registered = pool.iter().any(|entry| entry.id == device.id);
        // udev passes over a device that somebody has locked, so its silence proves nothing: a
        // degraded array looks at what has no record too.
        let looks_former = match device.udev_signature.as_deref() {
            Some(found) => found == fit::MD_SIGNATURE,
            None => degraded && device.used_by.is_empty(),
        };
        registered || (looks_former && attached.is_none() && device.holders.is_empty())
    };
    inventory
        .devices
        .values()
        .filter(wanted)
        .map(|device| device.dev)
        .collect()
}

/// Rejections in the order of the candidates.
pub(super) fn rejections(candidates: &[Candidate]) -> Vec<Rejection> {
    candidates
        .iter()
        .filter_map(|candidate| match &candidate.verdict {
            Verdict::Rejected(unfit) => Some((candidate.name(), unfit.clone())),
            _ => None,
        })
        .collect()
}

const fn class(candidate: &Candidate) -> u8 {
    match (candidate.method, candidate.source) {
        (Method::ReAdd { .. }, _) => 0,
        (Method::Start, _) => 1,
        (_, Source::Former) => 4,
        (_, Source::SpareGroup) => 3,
        _ => 2,
    }
}

fn candidate(
    device: &DeviceFacts,
    source: Source,
    method: Method,
    unfit: Option<Unfit>,
) -> Candidate {
    let reason = unfit
        .as_ref()
        .map_or_else(|| reason(source, method), Unfit::text);
    Candidate {
        drive: Target {
            dev: device.dev,
            name: device.name.clone(),
            id: device.id,
        },
        stable_name: device.stable_name.clone(),
        source,
        method,
        listed: false,
        donor: None,
        size_bytes: device.size_bytes,
        verdict: unfit.map_or(Verdict::Fits { rank: 0 }, Verdict::Rejected),
        reason,
    }
}

/// A place that somebody other than `mdadm` would take, with room for so many bytes.
pub(super) fn offered(
    device: Option<&DeviceFacts>,
    place: (&str, u64),
    source: Source,
    unfit: Option<Unfit>,
    reason: String,
) -> Candidate {
    let (name, room) = place;
    let mut candidate = match (device, unfit) {
        (Some(device), unfit) => candidate(device, source, Method::Add, unfit),
        (None, unfit) => absent(
            DriveId::derive("path", name),
            name,
            room,
            source,
            unfit.unwrap_or(Unfit::NotPresent),
        ),
    };
    candidate.size_bytes = room;
    if candidate.fits() {
        candidate.reason = reason;
    }
    candidate
}

/// A candidate that no single device stands for.
fn absent(id: DriveId, name: &str, size_bytes: u64, source: Source, unfit: Unfit) -> Candidate {
    Candidate {
        drive: Target {
            dev: DevNo { major: 0, minor: 0 },
            name: name.to_owned(),
            id,
        },
        stable_name: name.to_owned(),
        source,
        method: Method::Add,
        listed: false,
        donor: None,
        size_bytes,
        reason: unfit.text(),
        verdict: Verdict::Rejected(unfit),
    }
}

fn reason(source: Source, method: Method) -> String {
    let what = match (source, method) {
        (_, Method::ReAdd { slot }) => {
            return format!("it was in slot {slot}, and the bitmap tells what it has missed");
        }
        (Source::Attached | Source::Chosen, Method::Start) => "it is attached as a spare",
        (Source::Former, Method::WipeAndAdd) => {
            "it was a member, and has to be erased and filled anew"
        }
        (Source::Former, _) => "it was a member and has been erased for this",
        (Source::SpareGroup, _) => "it is a spare of its spare group",
        (_, Method::WipeAndAdd) => "it fits, and its owner agreed to lose what is on it",
        (Source::Chosen, _) => "it fits and was asked for",
        (_, _) => "it fits",
    };
    what.to_owned()
}
