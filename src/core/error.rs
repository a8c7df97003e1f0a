//! The one error type. Every failure that a user can meet is a variant with the object's name,
//! what was tried and, by [`Error::hint`], what to do next.

mod code;
#[cfg(test)]
mod doc;
mod hint;

use serde::{Deserialize, Serialize};

use crate::id::OpId;

/// What kind of object an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the VDS nouns")]
pub enum ObjectKind {
    Lun,
    Drive,
    Operation,
    Spare,
    Plex,
}

/// Why a drive cannot serve as a spare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are the figures compared")]
pub enum Unfit {
    /// It is not plugged in.
    NotPresent,
    /// Usable bytes after the metadata are fewer than the members use.
    TooSmall { have_bytes: u64, need_bytes: u64 },
    /// Its logical blocks are larger than the array's (a 4Kn drive breaks a 512-byte array).
    BlockSize { have: u32, array: u32 },
    /// It is read-only.
    ReadOnly,
    /// Mounted, swapped on, or its partitions are.
    InUse { by: Vec<String> },
    /// A device sits on top of it.
    Held { by: Vec<String> },
    /// Somebody has it open exclusively.
    Busy { detail: String },
    /// It is a member of an array already.
    MemberElsewhere { array: String },
    /// Something is written on it.
    Signature { found: Vec<String> },
    /// It bears this array's superblock with a higher event count: its history is newer.
    NewerHistory { have: u64, array: u64 },
    /// It is listed as faulty in this array.
    ListedFaulty,
    /// It failed this operation before.
    AlreadyTried,
    /// Another operation has claimed it.
    Claimed { op: OpId },
    /// The drive behind the name is not the one that was registered.
    IdentityChanged,
    /// A needed fact could not be read.
    UnknownFact { what: String },
    /// Somebody insisted on another drive.
    NotTheChosen,
    /// Its owner lets LVM allocate nothing on it.
    NotAllocatable,
    /// It is left out of what happens by itself; a call may take it.
    SetAside { why: String },
    /// It failed, or was replaced, before; `what` says where.
    Retired { what: String },
    /// It is kept for LUNs that are called so.
    Dedicated { to: String },
    /// It is the last one that fits this LUN, which reserves it.
    Reserved { lun: String },
    /// So many drives have failed this operation that the fault is hardly theirs.
    SlotBurns { failed: u32 },
}

/// Everything that can go wrong, as one flat list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the fields are named by the messages that print them"
)]
pub enum Error {
    #[error(
        "{verb} on {object}: {caller} is not allowed to{}",
        right_text(action, why)
    )]
    AccessDenied {
        verb: String,
        object: String,
        caller: String,
        /// The polkit action that would allow it; empty where none could.
        #[serde(default)]
        action: String,
        /// Why it was not granted.
        #[serde(default)]
        why: String,
    },
    #[error("{what}: {why}")]
    InvalidArgument { what: String, why: String },
    #[error("no {} is called {name:?}", kind.noun())]
    ObjectNotFound {
        kind: ObjectKind,
        name: String,
        known: Vec<String>,
    },
    #[error("{name:?} could be any of {}", candidates.join(", "))]
    Ambiguous {
        name: String,
        candidates: Vec<String>,
    },
    #[error("{} {name} existed and is gone{}", kind.noun(), again_text(again))]
    ObjectDeleted {
        kind: ObjectKind,
        name: String,
        again: Vec<String>,
    },
    #[error(
        "{lun}: what was known ({cached}) and what the kernel says ({kernel}) contradict each other"
    )]
    CacheCorrupt {
        lun: String,
        cached: String,
        kernel: String,
    },
    #[error("{lun} is {level}: it has no redundancy that could be recovered")]
    NotFaultTolerant { lun: String, level: String },
    #[error("{lun} has failed: {why}")]
    StatusFailed { lun: String, why: String },
    #[error("{lun} is busy: {doing}")]
    AnotherCall {
        lun: String,
        op: Option<OpId>,
        doing: String,
    },
    #[error("{lun} is not running ({state}){}", again_text(again))]
    LunOffline {
        lun: String,
        state: String,
        again: Vec<String>,
    },
    #[error("{lun} is not ready: {why}")]
    LunNotReady { lun: String, why: String },
    #[error("{lun} is read-only")]
    ReadOnly { lun: String },
    #[error(
        "{lun}: {}no drive can take over{}",
        missing_text(*missing),
        rejected_text(rejected)
    )]
    NoSpare {
        lun: String,
        missing: u32,
        rejected: Vec<(String, Unfit)>,
    },
    #[error(
        "{lun}: every spare is too small, {need_bytes} bytes are needed{}",
        rejected_text(rejected)
    )]
    SparesTooSmall {
        lun: String,
        need_bytes: u64,
        rejected: Vec<(String, Unfit)>,
    },
    #[error("{object}: {what} is not supported: {why}")]
    NotSupported {
        object: String,
        what: String,
        why: String,
    },
    #[error("{drive}: {}", unfit.text())]
    DriveRefused { drive: String, unfit: Unfit },
    #[error("operation {op} has already finished ({outcome})")]
    CancelTooLate { op: OpId, outcome: String },
    #[error("operation {op} was cancelled")]
    OperationCanceled { op: OpId },
    #[error("{what} did not finish within {after_ms} ms")]
    Timeout { what: String, after_ms: u64 },
    #[error("{action} {object}: {detail}{}", errno_text(*errno, detail))]
    Kernel {
        action: String,
        object: String,
        errno: i32,
        detail: String,
    },
    #[error("{program} {}: {status}: {stderr}", args.join(" "))]
    Tool {
        program: String,
        args: Vec<String>,
        status: String,
        stderr: String,
    },
    #[error("{source_name}: cannot understand {text:?}, expected {want}")]
    BadText {
        source_name: String,
        text: String,
        want: String,
    },
    #[error("{lun}: {why}")]
    RecoveryFailed {
        lun: String,
        drive: Option<String>,
        why: String,
    },
    #[error("{lun}: finished, but unreadable ranges are recorded on {} ({ranges} in all)", drives.join(", "))]
    CompletedWithLosses {
        lun: String,
        drives: Vec<String>,
        ranges: u32,
    },
    #[error("{lun}: {mismatch_sectors} sectors differ between the copies")]
    MismatchFound { lun: String, mismatch_sectors: u64 },
    #[error("{lun}: interrupted: {why}")]
    Interrupted { lun: String, why: String },
    #[error("{drive} is healthy in {lun} and not flagged as failing")]
    MemberHealthy { lun: String, drive: String },
    #[error("the service is shutting down")]
    Exiting,
    #[error("ledger: {what}: {detail}")]
    Ledger { what: String, detail: String },
    #[error("internal error: {what}")]
    Internal { what: String },
}

impl ObjectKind {
    /// The noun of messages.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Lun => "LUN",
            Self::Drive => "drive",
            Self::Operation => "operation",
            Self::Spare => "spare",
            Self::Plex => "plex",
        }
    }
}

impl Unfit {
    /// The reason as a clause that can follow the drive's name and a colon.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::NotPresent => "not plugged in".into(),
            Self::TooSmall {
                have_bytes,
                need_bytes,
            } => {
                format!("too small, {have_bytes} usable bytes where {need_bytes} are needed")
            }
            Self::BlockSize { have, array } => {
                format!("logical blocks of {have} bytes do not fit an array with {array}")
            }
            Self::ReadOnly => "read-only".into(),
            Self::InUse { by } => format!("in use by {}", by.join(", ")),
            Self::Held { by } => format!("carries {}", by.join(", ")),
            Self::Busy { detail } => format!("busy, {detail}"),
            Self::MemberElsewhere { array } => format!("member of {array}"),
            Self::Signature { found } => format!("not empty, it bears {}", found.join(", ")),
            Self::NewerHistory { have, array } => {
                format!("its superblock is newer than the array (event {have} against {array})")
            }
            Self::ListedFaulty => "failed, and still listed as faulty".into(),
            Self::AlreadyTried => "failed this operation before".into(),
            Self::Claimed { op } => format!("claimed by operation {op}"),
            Self::IdentityChanged => "another drive than the one that was registered".into(),
            Self::UnknownFact { what } => format!("{what} could not be read"),
            Self::NotTheChosen => "another drive was asked for".into(),
            Self::NotAllocatable => "closed to allocation in its volume group".into(),
            Self::SetAside { why } => why.clone(),
            Self::Retired { what } => what.clone(),
            Self::Dedicated { to } => format!("kept for {to}"),
            Self::Reserved { lun } => format!("the last spare that fits {lun}, which reserves it"),
            Self::SlotBurns { failed } => {
                format!("kept back, {failed} drives have failed here already")
            }
        }
    }
}

/// The commands that make a raid set of legs laid by lund again, as the tail of a message.
fn again_text(commands: &[String]) -> String {
    if commands.is_empty() {
        return String::new();
    }
    format!(
        "; legs of it were laid by lund, and this makes it again, where it was not taken down for good: {}",
        commands.join("; ")
    )
}

/// The error number as the tail of a message that does not tell it already.
fn errno_text(errno: i32, detail: &str) -> String {
    if errno == 0 || detail.contains(&format!("(os error {errno})")) {
        return String::new();
    }
    format!(" (errno {errno})")
}

/// Why it is not allowed, and by which right it would be.
fn right_text(action: &str, why: &str) -> String {
    match (action, why) {
        ("", "") => String::new(),
        ("", why) => format!(": {why}"),
        (action, "") => format!(" (it takes {action})"),
        (action, why) => format!(" (it takes {action}): {why}"),
    }
}

/// How many members are missing, as the head of a clause; none is where a working member was to be
/// copied away.
fn missing_text(missing: u32) -> String {
    match missing {
        0 => String::new(),
        1 => "1 member is missing and ".to_owned(),
        more => format!("{more} members are missing and "),
    }
}

/// The rejected candidates as the tail of a message: `; /dev/loop3: too small, ...`; empty when
/// there was no candidate at all.
fn rejected_text(rejected: &[(String, Unfit)]) -> String {
    rejected
        .iter()
        .fold(String::new(), |mut text, (drive, unfit)| {
            text.push_str("; ");
            text.push_str(drive);
            text.push_str(": ");
            text.push_str(&unfit.text());
            text
        })
}
