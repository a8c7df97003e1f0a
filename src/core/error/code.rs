//! What a client that knows only numbers and names is told of an error.

use super::{Error, Unfit};
use crate::Hresult;

impl Error {
    /// The HRESULT of VDS that says it best. Where VDS has no word, the choice is explained in
    /// `docs/errors.md`.
    #[must_use]
    pub const fn hresult(&self) -> Hresult {
        match self {
            Self::AccessDenied { .. } => Hresult::VDS_E_ACCESS_DENIED,
            Self::InvalidArgument { .. } | Self::Ambiguous { .. } => Hresult::E_INVALIDARG,
            Self::ObjectNotFound { .. } => Hresult::VDS_E_OBJECT_NOT_FOUND,
            Self::ObjectDeleted { .. } => Hresult::VDS_E_OBJECT_DELETED,
            Self::CacheCorrupt { .. } => Hresult::VDS_E_PROVIDER_CACHE_CORRUPT,
            Self::NotFaultTolerant { .. } => Hresult::VDS_E_INVALID_OPERATION,
            Self::StatusFailed { .. } => Hresult::VDS_E_OBJECT_STATUS_FAILED,
            Self::AnotherCall { .. } => Hresult::VDS_E_ANOTHER_CALL_IN_PROGRESS,
            Self::LunOffline { .. } => Hresult::VDS_E_LUN_OFFLINE,
            Self::LunNotReady { .. } => Hresult::VDS_E_LUN_NOT_READY,
            Self::ReadOnly { .. } => Hresult::VDS_E_READONLY,
            Self::NoSpare { .. } => Hresult::VDS_E_NOT_ENOUGH_DRIVE,
            Self::SparesTooSmall { .. } => Hresult::VDS_E_MEMBER_SIZE_INVALID,
            Self::NotSupported { .. } => Hresult::VDS_E_NOT_SUPPORTED,
            Self::DriveRefused { unfit, .. } => unfit.hresult(),
            Self::CancelTooLate { .. } => Hresult::VDS_E_CANCEL_TOO_LATE,
            Self::OperationCanceled { .. } | Self::Interrupted { .. } => {
                Hresult::VDS_E_OPERATION_CANCELED
            }
            Self::Timeout { .. } => Hresult::VDS_E_TIMEOUT,
            Self::Kernel { errno, .. } => Hresult::from_errno(*errno),
            Self::Tool { .. } => Hresult::VDS_E_PROVIDER_FAILURE,
            Self::BadText { .. } => Hresult::VDS_E_BAD_PROVIDER_DATA,
            Self::RecoveryFailed { drive: Some(_), .. } => Hresult::VDS_E_DISK_IO_FAILING,
            Self::RecoveryFailed { drive: None, .. } => Hresult::VDS_E_PROVIDER_FAILURE,
            // Another code than for a recovery that failed: the LUN is redundant again.
            Self::CompletedWithLosses { .. } => Hresult::VDS_E_IO_ERROR,
            // VDS cannot say "the copies differ"; its own check of copies has no result at all.
            Self::MismatchFound { .. } => Hresult::VDS_E_VOLUME_NOT_HEALTHY,
            Self::MemberHealthy { .. } => Hresult::VDS_E_MEMBER_IS_HEALTHY,
            Self::Exiting => Hresult::VDS_E_PROVIDER_EXITING,
            Self::Ledger { .. } => Hresult::VDS_E_LOG_UPDATE,
            Self::Internal { .. } => Hresult::VDS_E_INTERNAL_ERROR,
        }
    }

    /// Last part of the D-Bus error name; the words of the VDS code where one exists.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AccessDenied { .. } => "AccessDenied",
            Self::InvalidArgument { .. } => "InvalidArgument",
            Self::ObjectNotFound { .. } => "ObjectNotFound",
            Self::Ambiguous { .. } => "AmbiguousName",
            Self::ObjectDeleted { .. } => "ObjectDeleted",
            Self::CacheCorrupt { .. } => "ProviderCacheCorrupt",
            Self::NotFaultTolerant { .. } => "InvalidOperation",
            Self::StatusFailed { .. } => "ObjectStatusFailed",
            Self::AnotherCall { .. } => "AnotherCallInProgress",
            Self::LunOffline { .. } => "LunOffline",
            Self::LunNotReady { .. } => "LunNotReady",
            Self::ReadOnly { .. } => "ReadOnly",
            Self::NoSpare { .. } => "NotEnoughDrive",
            Self::SparesTooSmall { .. } => "MemberSizeInvalid",
            Self::NotSupported { .. } => "NotSupported",
            Self::DriveRefused { .. } => "DriveRefused",
            Self::CancelTooLate { .. } => "CancelTooLate",
            Self::OperationCanceled { .. } => "OperationCanceled",
            Self::Timeout { .. } => "Timeout",
            Self::Kernel { .. } => "KernelError",
            Self::Tool { .. } => "ProviderFailure",
            Self::BadText { .. } => "BadProviderData",
            Self::RecoveryFailed { .. } => "RecoveryFailed",
            Self::CompletedWithLosses { .. } => "CompletedWithLosses",
            Self::MismatchFound { .. } => "MismatchFound",
            Self::Interrupted { .. } => "Interrupted",
            Self::MemberHealthy { .. } => "MemberIsHealthy",
            Self::Exiting => "ProviderExiting",
            Self::Ledger { .. } => "LogUpdate",
            Self::Internal { .. } => "InternalError",
        }
    }

    /// Exit code of a command that ended with it (see [`Hresult::exit_code`]).
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        self.hresult().exit_code()
    }

    /// The object that the error is about, as a name that `lunctl` understands; empty when it is
    /// about the service itself.
    #[must_use]
    pub fn object(&self) -> String {
        match self {
            Self::AccessDenied { object, .. }
            | Self::NotSupported { object, .. }
            | Self::Kernel { object, .. } => object.clone(),
            Self::InvalidArgument { what, .. } | Self::Timeout { what, .. } => what.clone(),
            Self::ObjectNotFound { name, .. }
            | Self::Ambiguous { name, .. }
            | Self::ObjectDeleted { name, .. } => name.clone(),
            Self::CacheCorrupt { lun, .. }
            | Self::NotFaultTolerant { lun, .. }
            | Self::StatusFailed { lun, .. }
            | Self::LunOffline { lun, .. }
            | Self::LunNotReady { lun, .. }
            | Self::ReadOnly { lun }
            | Self::NoSpare { lun, .. }
            | Self::SparesTooSmall { lun, .. }
            | Self::RecoveryFailed { lun, .. }
            | Self::CompletedWithLosses { lun, .. }
            | Self::MismatchFound { lun, .. }
            | Self::Interrupted { lun, .. } => lun.clone(),
            // The operation to wait for says more than the LUN that is busy with it.
            Self::AnotherCall { lun, op: None, .. } => lun.clone(),
            Self::AnotherCall { op: Some(op), .. } => op.to_string(),
            Self::DriveRefused { drive, .. } | Self::MemberHealthy { drive, .. } => drive.clone(),
            Self::CancelTooLate { op, .. } | Self::OperationCanceled { op } => op.to_string(),
            Self::Tool { program, .. } => program.clone(),
            Self::BadText { source_name, .. } => source_name.clone(),
            Self::Ledger { .. } => "ledger".into(),
            Self::Exiting | Self::Internal { .. } => String::new(),
        }
    }
}

impl Unfit {
    /// The HRESULT of a call that insisted on such a drive.
    #[must_use]
    pub const fn hresult(&self) -> Hresult {
        match self {
            Self::NotPresent => Hresult::VDS_E_OBJECT_NOT_FOUND,
            Self::TooSmall { .. } => Hresult::VDS_E_MEMBER_SIZE_INVALID,
            Self::BlockSize { .. } => Hresult::VDS_E_INVALID_SECTOR_SIZE,
            Self::ReadOnly => Hresult::VDS_E_MEDIA_WRITE_PROTECTED,
            Self::InUse { .. } | Self::Held { .. } | Self::Busy { .. } | Self::Claimed { .. } => {
                Hresult::VDS_E_DEVICE_IN_USE
            }
            Self::MemberElsewhere { .. } => Hresult::VDS_E_DISK_IN_USE_BY_VOLUME,
            // VDS denies an operation that would destroy what the host needs; so does lund.
            Self::Signature { .. }
            | Self::NotTheChosen
            | Self::NotAllocatable
            | Self::SetAside { .. }
            | Self::Dedicated { .. }
            | Self::Reserved { .. }
            | Self::SlotBurns { .. } => Hresult::VDS_E_OPERATION_DENIED,
            Self::NewerHistory { .. } => Hresult::VDS_E_DISK_CONFIGURATION_NOT_IN_SYNC,
            Self::ListedFaulty | Self::AlreadyTried | Self::Retired { .. } => {
                Hresult::VDS_E_INVALID_DISK
            }
            Self::IdentityChanged => Hresult::VDS_E_UNEXPECTED_DISK_LAYOUT_CHANGE,
            Self::UnknownFact { .. } => Hresult::VDS_E_OBJECT_OUT_OF_SYNC,
        }
    }
}
