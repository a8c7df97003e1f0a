//! What to do next, for a person who reads it at three in the morning, and what an error means in
//! general, for the documentation.

use super::{Error, ObjectKind, Unfit};

impl Error {
    /// A command or an act that helps; [`None`] where nothing can be advised.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::AccessDenied { action, .. } if action.is_empty() => "run it as root".into(),
            Self::AccessDenied { action, .. } => format!(
                "run it as root, or let a rule in /etc/polkit-1/rules.d grant {action} \
                 (`pkaction --verbose --action-id {action}` shows who has it)"
            ),
            Self::InvalidArgument { .. } => "`lunctl --help` shows what is accepted".into(),
            Self::ObjectNotFound { kind, known, .. } => not_found(*kind, known),
            Self::Ambiguous { .. } => "give more of the id, or one of the full names".into(),
            Self::ObjectDeleted { kind, .. } => match kind {
                ObjectKind::Lun => "`lunctl reenumerate` looks for it again, `lunctl ops --all` \
                                    tells what was done to it"
                    .into(),
                ObjectKind::Drive
                | ObjectKind::Operation
                | ObjectKind::Spare
                | ObjectKind::Plex => not_found(*kind, &[]),
            },
            Self::CancelTooLate { op, .. } => format!("`lunctl status {op}` shows how it ended"),
            Self::OperationCanceled { op } => format!(
                "`lunctl status {op}` names the LUN; `lunctl recover LUN` goes on from where it \
                 stopped, `lunctl release LUN` leaves it to the kernel again"
            ),
            Self::Timeout { .. } => "what was begun goes on: `lunctl ops` shows it; if it never \
                                     ends, look for a hanging drive with `journalctl -k`"
                .into(),
            Self::DriveRefused { drive, unfit } => return unfit.hint(drive),
            Self::Kernel { .. } => "`journalctl -k` may say more; `lunctl refresh` reads the \
                                    state again"
                .into(),
            Self::Tool { .. } => "`journalctl -u lund` has all of its output".into(),
            Self::BadText { .. } => "please report the text above with the kernel's version \
                                     (`uname -r`)"
                .into(),
            Self::Exiting => "`systemctl status lund`; try again when it has started".into(),
            Self::Ledger { .. } => "free space in /var/lib/lund and check that it is writable; \
                                    recovery goes on without the record meanwhile"
                .into(),
            Self::Internal { .. } => {
                "please report it with the output of `journalctl -u lund`".into()
            }
            Self::NotSupported { object, .. } => {
                format!("use the tool that owns {object} (mdadm, lvm, or the vendor's)")
            }
            other => return other.lun_hint(),
        })
    }

    /// The hints of errors about a LUN's state or about how its operation ended.
    fn lun_hint(&self) -> Option<String> {
        Some(match self {
            Self::CacheCorrupt { .. } => "`lunctl reenumerate`, then `lunctl refresh`, then try \
                                          again"
                .into(),
            Self::NotFaultTolerant { .. } => "there is nothing to recover from: restore lost \
                                              data from a backup"
                .into(),
            Self::StatusFailed { lun, .. } => format!(
                "`lunctl show {lun}` tells what was lost; bring the lost drives back and assemble \
                 it anew, or restore a backup; do not create a new array over it"
            ),
            Self::AnotherCall { op: Some(op), .. } => {
                format!("`lunctl wait {op}` waits for it, `lunctl cancel {op}` ends it")
            }
            Self::AnotherCall { lun, op: None, .. } => {
                format!("`lunctl wait {lun}` waits for it, then try again")
            }
            Self::LunOffline { again, .. } if !again.is_empty() => {
                "make it again by these commands, in this order".into()
            }
            Self::LunOffline { lun, .. } => format!(
                "start it first (`mdadm --run {}`, `mdadm --assemble --scan`), then try again",
                node(lun)
            ),
            Self::LunNotReady { lun, .. } => {
                format!("try again in a moment; `lunctl show {lun}` shows the state")
            }
            Self::ReadOnly { lun } => {
                format!("`mdadm --readwrite {}` makes it writable", node(lun))
            }
            Self::NoSpare { lun, .. } => {
                format!("`lunctl spare add DRIVE` registers a drive, then `lunctl recover {lun}`")
            }
            Self::SparesTooSmall {
                lun, need_bytes, ..
            } => format!(
                "`lunctl spare add DRIVE` with a drive of more than {need_bytes} bytes, then \
                 `lunctl recover {lun}`"
            ),
            Self::RecoveryFailed {
                lun,
                drive: Some(drive),
                ..
            } => format!(
                "exchange {drive}, register another with `lunctl spare add DRIVE`, then \
                 `lunctl recover {lun}`"
            ),
            Self::RecoveryFailed {
                lun, drive: None, ..
            } => format!(
                "`lunctl show {lun}` and `journalctl -k` tell more; `lunctl recover {lun}` tries \
                 again"
            ),
            Self::CompletedWithLosses { lun, .. } => format!(
                "restore the files at the unreadable places from a backup, then exchange the \
                 drives (`lunctl replace {lun} DRIVE`)"
            ),
            Self::MismatchFound { lun, .. } => format!(
                "`lunctl recover {lun} --repair` makes the copies equal; a few differences on a \
                 mirror with swap on it are harmless"
            ),
            Self::Interrupted { lun, .. } => {
                format!("`lunctl recover {lun}` goes on from where it stopped")
            }
            Self::MemberHealthy { lun, .. } => {
                format!("`lunctl show {lun}` marks the drives that are failing")
            }
            _ => return None,
        })
    }

    /// What it means in general: the sentence of `docs/errors.md`.
    #[must_use]
    pub const fn summary(&self) -> &'static str {
        match self {
            Self::AccessDenied { .. } => "The caller is not authorised.",
            Self::InvalidArgument { .. } => "An argument is not legal.",
            Self::ObjectNotFound { .. } => "Nothing bears that name or id.",
            Self::Ambiguous { .. } => "The name or id prefix fits several objects.",
            Self::ObjectDeleted { .. } => "The object was known and is gone.",
            Self::CacheCorrupt { .. } => {
                "What was known and what the kernel says contradict each other, and reading again did not settle it."
            }
            Self::NotFaultTolerant { .. } => "The LUN has no redundancy to recover from.",
            Self::StatusFailed { .. } => "The LUN has lost more than its redundancy can replace.",
            Self::AnotherCall { .. } => "An operation already runs or waits on the LUN.",
            Self::LunOffline { .. } => "The array is not running.",
            Self::LunNotReady { .. } => "The array is busy with itself for the moment.",
            Self::ReadOnly { .. } => "The array is read-only by choice.",
            Self::NoSpare { .. } => "Degraded, and no drive can take over.",
            Self::SparesTooSmall { .. } => {
                "Degraded, and every drive that could take over is too small."
            }
            Self::NotSupported { .. } => "Legal, but not done here (external metadata, cluster).",
            Self::DriveRefused { .. } => "The drive that was asked for does not fit.",
            Self::CancelTooLate { .. } => {
                "The operation had finished before it could be cancelled."
            }
            Self::OperationCanceled { .. } => "The operation was cancelled.",
            Self::Timeout { .. } => "No end was seen in the time allowed; the work goes on.",
            Self::Kernel { .. } => "The kernel refused a step.",
            Self::Tool { .. } => "A tool that a step needs failed.",
            Self::BadText { .. } => "The kernel or a tool printed something unknown.",
            Self::RecoveryFailed { .. } => "The recovery ended without its aim.",
            Self::CompletedWithLosses { .. } => {
                "Redundancy is back, but places that no copy could provide are unreadable."
            }
            Self::MismatchFound { .. } => "A verification found differences between the copies.",
            Self::Interrupted { .. } => "The operation was cut off (reboot, array stopped).",
            Self::MemberHealthy { .. } => "The drive to be replaced shows no sign of failing.",
            Self::Exiting => "The service is shutting down.",
            Self::Ledger { .. } => "The ledger could not be read or written.",
            Self::Internal { .. } => "A defect of lund.",
        }
    }
}

/// The device node of a LUN that a message names by its kernel name, for `mdadm`.
fn node(lun: &str) -> String {
    if lun.starts_with('/') {
        lun.to_owned()
    } else {
        format!("/dev/{lun}")
    }
}

/// Where to look for what there is.
fn not_found(kind: ObjectKind, known: &[String]) -> String {
    let command = match kind {
        ObjectKind::Lun => "lunctl list",
        ObjectKind::Drive => "lunctl drives",
        ObjectKind::Operation => "lunctl ops --all",
        ObjectKind::Spare => "lunctl spare list",
        ObjectKind::Plex => "lunctl show LUN",
    };
    if known.is_empty() {
        format!("`{command}` shows what there is")
    } else {
        format!("there is {}; `{command}` shows more", known.join(", "))
    }
}

impl Unfit {
    /// What can be done about it; [`None`] where nothing can.
    #[must_use]
    pub fn hint(&self, drive: &str) -> Option<String> {
        Some(match self {
            Self::NotPresent => {
                format!("plug it in, or forget it with `lunctl spare remove {drive}`")
            }
            Self::TooSmall { need_bytes, .. } => {
                format!("choose a drive of more than {need_bytes} bytes (`lunctl drives`)")
            }
            Self::BlockSize { array, .. } => {
                format!("choose a drive with logical blocks of at most {array} bytes")
            }
            Self::ReadOnly => "make it writable (`blockdev --setrw`), or choose another".into(),
            Self::InUse { .. } | Self::Held { .. } | Self::Busy { .. } => {
                format!("`lsblk {drive}` shows its users; release it, or choose another drive")
            }
            Self::MemberElsewhere { array } => {
                format!("`lunctl show {array}`; choose a drive that belongs to nothing")
            }
            Self::Signature { .. } => format!(
                "if all of it may be lost: `lunctl spare add {drive} --force`, then try again"
            ),
            Self::NewerHistory { .. } => format!(
                "`mdadm --examine {drive}`: find out which copy is the right one before anything \
                 is written to either"
            ),
            Self::ListedFaulty | Self::AlreadyTried => {
                "exchange the drive, or choose another".into()
            }
            Self::Claimed { op } => format!("`lunctl wait {op}`, or choose another drive"),
            Self::IdentityChanged => format!(
                "`lunctl spare remove` the old drive, `lunctl spare add {drive}` the new one"
            ),
            Self::UnknownFact { .. } => "`lunctl refresh` reads it again".into(),
            Self::NotTheChosen => return None,
            Self::SetAside { .. } => {
                format!("`lunctl recover LUN --spare {drive}` takes it all the same")
            }
            Self::Retired { .. } => {
                format!("exchange it; if it is sound after all: `lunctl spare add {drive} --force`")
            }
            Self::Dedicated { .. } => {
                format!("insist on it with `--spare {drive}`, or change its rule in lund.toml")
            }
            Self::Reserved { .. } => format!(
                "register another spare (`lunctl spare add`), or insist on this one with `--spare {drive}`"
            ),
            Self::SlotBurns { .. } => format!(
                "look at cables, enclosure and controller (`journalctl -k`), then insist on it \
                 with `--spare {drive}`"
            ),
            Self::NotAllocatable => {
                format!("`pvchange --allocatable y {drive}` opens it, if that is meant")
            }
        })
    }
}
