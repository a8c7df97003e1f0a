//! The spare pool: its drives, what is known of their fitness, and drives that are out of use.

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::Lun;
use crate::id::{DriveId, LunId, OpId, Wall};

/// A drive in the spare pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolEntry {
    /// Identity under which it was registered.
    pub id: DriveId,
    /// Lasting name at that time, for people.
    pub stable_name: String,
    /// Size at that time, bytes.
    pub size_bytes: u64,
    /// Signatures that its owner accepted to lose (`--force`); empty for a blank drive. A drive
    /// that bears any other signature when it is needed is refused.
    pub forced_signatures: Vec<String>,
    /// Operation that has claimed it, if any.
    pub claimed_by: Option<OpId>,
    /// The rule of the configuration by which it joined; [`None`]: somebody registered it.
    #[serde(default)]
    pub rule: Option<String>,
    /// It serves only LUNs that are called so: an id, a name, or a pattern of names with `*` and `?`.
    #[serde(default)]
    pub only_for: Option<String>,
}

impl PoolEntry {
    /// Whether it may serve this LUN.
    #[must_use]
    pub fn serves(&self, lun: &Lun) -> bool {
        let Some(wanted) = &self.only_for else {
            return true;
        };
        let pattern = WildMatch::new(wanted);
        let names = [&lun.name, &lun.device].into_iter().chain(&lun.links);
        wanted.eq_ignore_ascii_case(&lun.id.to_string())
            || names.into_iter().any(|name| pattern.matches(name))
    }
}

/// A drive that a rule of the configuration speaks of, and that may not join the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Identity.
    pub id: DriveId,
    /// Node.
    pub device: String,
    /// Lasting name.
    pub stable_name: String,
    /// The rule.
    pub rule: String,
    /// Why not, in a clause.
    pub reason: String,
}

/// Whether a spare would be there for a LUN that lost a member now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// LUN.
    pub lun: LunId,
    /// Its name.
    pub lun_name: String,
    /// There is one.
    pub covered: bool,
    /// The last spare of the pool that fits is kept for it (`reserve` of its `[[lun]]`).
    #[serde(default)]
    pub reserves: bool,
    /// Nodes of the spares that would do: its own that are attached and idle, and those of the pool.
    pub by: Vec<String>,
    /// Why there is none, in a clause; [`None`] where there is.
    pub reason: Option<String>,
    /// The drive that has to be bought where there is none.
    pub wants: DriveWanted,
}

/// What a drive must be to serve a LUN. [`None`]: unknown, or any will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveWanted {
    /// At least so large, bytes.
    pub size_bytes: Option<u64>,
    /// Logical blocks of at most so many bytes.
    pub logical_block_bytes: Option<u32>,
    /// It spins, as all members do, or none does; [`None`] where they differ.
    pub rotational: Option<bool>,
}

/// Why a drive is not used again unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetiredWhy {
    /// A LUN lists it as faulty.
    Failed,
    /// It failed when it was to take over.
    FailedOnUse,
    /// Another drive has taken its place.
    Replaced,
}

/// A drive that is out of use, and where that happened. It stays so until its owner registers it with
/// `--force`, or it is a member in sync again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// LUN.
    pub lun: LunId,
    /// Its name then.
    pub lun_name: String,
    /// When it was first seen.
    #[serde(rename = "retired_at_ms")]
    pub at: Wall,
    /// Why.
    pub why: RetiredWhy,
}

/// A drive that is out of use, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredDrive {
    /// Identity.
    pub id: DriveId,
    /// Node; [`None`]: it is not there.
    pub device: Option<String>,
    /// Lasting name.
    pub stable_name: String,
    /// Why, in words.
    pub reason: String,
    /// Where and when.
    #[serde(flatten)]
    pub retired: Retired,
}

impl Retired {
    /// The reason as a clause that can follow the drive's name and a colon.
    #[must_use]
    pub fn text(&self) -> String {
        let what = match self.why {
            RetiredWhy::Failed => "failed in",
            RetiredWhy::FailedOnUse => "failed when it was to take over in",
            RetiredWhy::Replaced => "was replaced in",
        };
        format!("{what} {}", self.lun_name)
    }
}
