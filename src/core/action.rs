//! The vocabulary of the port: each action is one thing done to the kernel or to a drive.
//! Plans are made of these, and only plan steps perform them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{DevNo, DriveId};

/// A word that may be written to `md/sync_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the kernel's words, one for one")]
pub enum SyncWord {
    Frozen,
    Idle,
    Recover,
    Resync,
    Check,
    Repair,
}

impl SyncWord {
    /// The word as the kernel wants it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Idle => "idle",
            Self::Recover => "recover",
            Self::Resync => "resync",
            Self::Check => "check",
            Self::Repair => "repair",
        }
    }
}

/// A drive as an action names it: by number, and by the identity that the number must still have
/// when the action is carried out (numbers are given to other drives after a re-plug).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// Device number in the running kernel.
    pub dev: DevNo,
    /// Kernel name, for messages and for `dev-NAME`.
    pub name: String,
    /// Identity that must still be behind the number.
    pub id: DriveId,
}

/// One thing done to an array or to a drive. `array` is the kernel name (`md0`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    missing_docs,
    reason = "the fields are described by the action that has them"
)]
pub enum Action {
    /// Writes a word to `md/sync_action`.
    SetSync { array: String, word: SyncWord },
    /// Writes `none` to `md/resync_start` of a frozen array (undoes what an interrupted repair
    /// leaves behind on kernels from 7.0).
    ClearResyncStart {
        array: String,
        /// The copies really are out of step, and a half-filled member is to be filled before a repair
        /// brings them in step: refused where no member is half filled any more, for then the resync is right.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fill_first: bool,
    },
    /// Writes 0 to `md/sync_min` and `max` to `md/sync_max`: a check that was stopped, and tools that
    /// check in parts, leave other bounds behind, and the next check would pass over the rest.
    WholeRange { array: String },
    /// Writes how slow and how fast the kernel may sync the array (`md/sync_speed_min`,
    /// `md/sync_speed_max`), KiB/s; [`None`] writes `system`.
    SetSpeed {
        array: String,
        min: Option<u32>,
        max: Option<u32>,
    },
    /// `mdadm --grow --bitmap`: gives the array an internal write-intent bitmap, or takes it away. Never
    /// planned for an array that is not whole: a former member comes back by it.
    SetBitmap { array: String, on: bool },
    /// Takes an array out of auto-read-only (`md/array_state` := `active`).
    MakeReadWrite { array: String },
    /// `mdadm --add-spare`: writes a spare superblock and binds the drive.
    AddSpare { array: String, drive: Target },
    /// `mdadm --re-add` of a former member; only ever planned where a bitmap exists.
    ReAdd { array: String, drive: Target },
    /// Marks a member faulty. Never planned for the last good copy.
    FailMember { array: String, drive: Target },
    /// Detaches a faulty member or an idle spare.
    RemoveMember { array: String, drive: Target },
    /// Fails and detaches a member that carries no data and whose device is gone: nothing but the name of
    /// its folder (`dev-NAME`) is left of it. The kernel itself notices only when it writes to it.
    DropVanished { array: String, member: String },
    /// Marks an in-sync member `want_replacement`.
    WantReplacement { array: String, drive: Target },
    /// Binds an attached idle spare to a slot (as replacement where the slot is taken).
    SetSlot {
        array: String,
        drive: Target,
        slot: u32,
    },
    /// Takes a leg of a raid set back that failed for a moment and is there again: `suspend` and `resume`,
    /// of a volume of LVM `lvchange --refresh`. Only what was written meanwhile is copied to it.
    Revive { array: String, drive: Target },
    /// `lvconvert --repair`: LVM puts new legs in place of those whose physical volumes are gone.
    RepairVolume {
        array: String,
        /// Physical volumes that it may take for them, by preference.
        onto: Vec<Target>,
    },
    /// Lays metadata and data of a leg of a raid set on this drive, in place of the one in this slot, and
    /// has it filled: the table is loaded with `rebuild`, seen to work, and loaded again without the word.
    ReplaceLeg {
        array: String,
        slot: u32,
        drive: Target,
    },
    /// Clears a table that was loaded and not resumed, and removes devices that were laid for a leg and are
    /// in no table.
    DropTable { array: String },
    /// Erases the superblock on a metadata device whose leg was replaced: a script that makes the set with its
    /// old table would have the kernel take stale data for good. Refused while anybody has it open.
    ForgetLeg { array: String, drive: Target },
    /// `vgextend`: a drive of the pool becomes a physical volume of this group.
    ExtendGroup {
        array: String,
        group: String,
        drive: Target,
    },
    /// Switches the light of the bay of a disk (`ledctl locate=`, `locate_off=`). No data is touched.
    Light { drive: Target, on: bool },
    /// Erases every signature of a drive that is a member of nothing (`wipefs --all`). Only for
    /// drives that the plan justified: forced by their owner, or bearing this LUN's superblock.
    Wipe {
        drive: Target,
        /// For a former member: the array that does without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        former: Option<FormerOf>,
    },
}

/// The array that a former member's data is of no use to any more. Should it have lost another
/// member since that was judged, the former one may be needed, and is not erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerOf {
    /// Kernel name.
    pub array: String,
    /// Slots without an in-sync member (`md/degraded`) when it was judged.
    pub degraded: u32,
}

impl Action {
    /// Kernel name of the array it touches; [`None`] for an action on a drive alone.
    #[must_use]
    pub fn array(&self) -> Option<&str> {
        match self {
            Self::SetSync { array, .. }
            | Self::ClearResyncStart { array, .. }
            | Self::WholeRange { array }
            | Self::SetSpeed { array, .. }
            | Self::SetBitmap { array, .. }
            | Self::MakeReadWrite { array }
            | Self::AddSpare { array, .. }
            | Self::ReAdd { array, .. }
            | Self::FailMember { array, .. }
            | Self::RemoveMember { array, .. }
            | Self::WantReplacement { array, .. }
            | Self::DropVanished { array, .. }
            | Self::Revive { array, .. }
            | Self::RepairVolume { array, .. }
            | Self::ReplaceLeg { array, .. }
            | Self::DropTable { array }
            | Self::ForgetLeg { array, .. }
            | Self::ExtendGroup { array, .. }
            | Self::SetSlot { array, .. } => Some(array),
            Self::Wipe { .. } | Self::Light { .. } => None,
        }
    }

    /// The drive it touches; [`None`] for an action on an array alone.
    #[must_use]
    pub const fn drive(&self) -> Option<&Target> {
        match self {
            Self::AddSpare { drive, .. }
            | Self::ReAdd { drive, .. }
            | Self::FailMember { drive, .. }
            | Self::RemoveMember { drive, .. }
            | Self::WantReplacement { drive, .. }
            | Self::SetSlot { drive, .. }
            | Self::Revive { drive, .. }
            | Self::ReplaceLeg { drive, .. }
            | Self::ForgetLeg { drive, .. }
            | Self::ExtendGroup { drive, .. }
            | Self::Light { drive, .. }
            | Self::Wipe { drive, .. } => Some(drive),
            Self::SetSync { .. }
            | Self::RepairVolume { .. }
            | Self::DropTable { .. }
            | Self::DropVanished { .. }
            | Self::ClearResyncStart { .. }
            | Self::WholeRange { .. }
            | Self::SetSpeed { .. }
            | Self::SetBitmap { .. }
            | Self::MakeReadWrite { .. } => None,
        }
    }
}

/// A speed limit in words.
fn speed(limit: Option<u32>) -> String {
    limit.map_or_else(
        || "the system's".to_owned(),
        |kib_s| format!("{kib_s} KiB/s"),
    )
}

/// In words, for the journal and for messages: what is done, to what.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetSync { array, word } => {
                write!(f, "write `{}` to sync_action of {array}", word.as_str())
            }
            Self::ClearResyncStart {
                array,
                fill_first: false,
            } => write!(f, "forget the pending resync of {array}"),
            Self::ClearResyncStart { array, .. } => {
                write!(f, "put off the pending resync of {array}")
            }
            Self::WholeRange { array } => write!(f, "have {array} checked from end to end"),
            Self::SetSpeed { array, min, max } => write!(
                f,
                "set the sync speed of {array}: {} at least, {} at most",
                speed(*min),
                speed(*max)
            ),
            Self::SetBitmap { array, on } => {
                let what = if *on { "give" } else { "take from" };
                write!(f, "{what} {array} a write-intent bitmap")
            }
            Self::MakeReadWrite { array } => write!(f, "make {array} writable"),
            Self::AddSpare { array, drive } => {
                write!(f, "add /dev/{} to {array} as a spare", drive.name)
            }
            Self::ReAdd { array, drive } => write!(f, "re-add /dev/{} to {array}", drive.name),
            Self::FailMember { array, drive } => {
                write!(f, "fail /dev/{} in {array}", drive.name)
            }
            Self::RemoveMember { array, drive } => {
                write!(f, "take /dev/{} out of {array}", drive.name)
            }
            Self::WantReplacement { array, drive } => {
                write!(f, "mark /dev/{} in {array} for replacement", drive.name)
            }
            Self::SetSlot { array, drive, slot } => {
                write!(f, "give /dev/{} slot {slot} of {array}", drive.name)
            }
            Self::DropVanished { array, member } => {
                write!(f, "take {member}, whose device is gone, out of {array}")
            }
            Self::Revive { array, drive } => {
                write!(f, "take /dev/{} back into {array}", drive.name)
            }
            Self::RepairVolume { array, .. } => {
                write!(f, "have LVM replace the lost legs of {array}")
            }
            Self::ReplaceLeg { array, slot, drive } => {
                write!(f, "lay leg {slot} of {array} on /dev/{}", drive.name)
            }
            Self::DropTable { array } => {
                write!(f, "clear what was laid for {array} and is in no table")
            }
            Self::ForgetLeg { array, drive } => write!(
                f,
                "erase the superblock of the leg of {array} that had its metadata on /dev/{}",
                drive.name
            ),
            Self::ExtendGroup { group, drive, .. } => {
                write!(f, "add /dev/{} to the volume group {group}", drive.name)
            }
            Self::Light { drive, on } => {
                let how = if *on { "on" } else { "off" };
                write!(f, "switch the light of /dev/{} {how}", drive.name)
            }
            Self::Wipe { drive, .. } => write!(f, "erase the signatures of /dev/{}", drive.name),
        }
    }
}
