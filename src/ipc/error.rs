//! How an error of the service becomes a D-Bus error: a name, and a body of three values, message
//! (s), HRESULT (u) and the object spoken of (s).

use lun_core::Error;
use zbus::message::{Header, Message};
use zbus::names::ErrorName;

use crate::names::ERROR_PREFIX;

/// An [`Error`] on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    error: Error,
    name: String,
    message: String,
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        let name = format!("{ERROR_PREFIX}{}", error_name(&error));
        let message = error.to_string();
        Self(Box::new(Parts {
            error,
            name,
            message,
        }))
    }
}

impl CallError {
    /// The error that it carries.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.0.error
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl zbus::DBusError for CallError {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        let body = (
            self.0.message.as_str(),
            self.0.error.hresult().0,
            error_object(&self.0.error),
        );
        Message::error(call, self.name()).build(&body)
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::try_from(self.0.name.as_str()).unwrap_or_else(|_| {
            ErrorName::from_static_str_unchecked("org.lund.Vds1.Error.Internal")
        })
    }

    fn description(&self) -> Option<&str> {
        Some(&self.0.message)
    }
}

/// Last part of the D-Bus name of an error.
#[must_use]
pub const fn error_name(error: &Error) -> &'static str {
    match error {
        Error::AccessDenied { .. } => "AccessDenied",
        Error::InvalidArgument { .. } => "InvalidArgument",
        Error::ObjectNotFound { .. } => "ObjectNotFound",
        Error::Ambiguous { .. } => "Ambiguous",
        Error::ObjectDeleted { .. } => "ObjectDeleted",
        Error::CacheCorrupt { .. } => "ProviderCacheCorrupt",
        Error::NotFaultTolerant { .. } => "InvalidOperation",
        Error::StatusFailed { .. } => "ObjectStatusFailed",
        Error::AnotherCall { .. } => "AnotherCallInProgress",
        Error::LunOffline { .. } => "LunOffline",
        Error::LunNotReady { .. } => "LunNotReady",
        Error::ReadOnly { .. } => "ReadOnly",
        Error::NoSpare { .. } => "NotEnoughDrive",
        Error::SparesTooSmall { .. } => "MemberSizeInvalid",
        Error::NotSupported { .. } => "NotSupported",
        Error::DriveRefused { .. } => "DriveRefused",
        Error::CancelTooLate { .. } => "CancelTooLate",
        Error::OperationCanceled { .. } => "OperationCanceled",
        Error::Timeout { .. } => "Timeout",
        Error::Kernel { .. } => "Kernel",
        Error::Tool { .. } => "Tool",
        Error::BadText { .. } => "BadText",
        Error::RecoveryFailed { .. } => "RecoveryFailed",
        Error::CompletedWithLosses { .. } => "CompletedWithLosses",
        Error::MismatchFound { .. } => "MismatchFound",
        Error::Interrupted { .. } => "Interrupted",
        Error::MemberHealthy { .. } => "MemberHealthy",
        Error::Exiting => "Exiting",
        Error::Ledger { .. } => "Ledger",
        Error::Internal { .. } => "Internal",
    }
}

/// The object that an error speaks of, as a name that `lunctl` understands; empty when it speaks
/// of none.
#[must_use]
pub fn error_object(error: &Error) -> String {
    match error {
        Error::AccessDenied { object, .. }
        | Error::NotSupported { object, .. }
        | Error::Kernel { object, .. } => object.clone(),
        Error::ObjectNotFound { name, .. }
        | Error::Ambiguous { name, .. }
        | Error::ObjectDeleted { name, .. } => name.clone(),
        Error::CacheCorrupt { lun, .. }
        | Error::NotFaultTolerant { lun, .. }
        | Error::StatusFailed { lun, .. }
        | Error::LunOffline { lun, .. }
        | Error::LunNotReady { lun, .. }
        | Error::ReadOnly { lun }
        | Error::NoSpare { lun, .. }
        | Error::SparesTooSmall { lun, .. }
        | Error::RecoveryFailed { lun, .. }
        | Error::CompletedWithLosses { lun, .. }
        | Error::MismatchFound { lun, .. }
        | Error::Interrupted { lun, .. } => lun.clone(),
        // The operation to wait for says more than the LUN that is busy with it.
        Error::AnotherCall { lun, op, .. } => op.map_or_else(|| lun.clone(), |op| op.to_string()),
        Error::DriveRefused { drive, .. } | Error::MemberHealthy { drive, .. } => drive.clone(),
        Error::CancelTooLate { op, .. } | Error::OperationCanceled { op } => op.to_string(),
        Error::Timeout { what, .. } | Error::InvalidArgument { what, .. } => what.clone(),
        Error::Tool { program, .. } => program.clone(),
        Error::BadText { source_name, .. } => source_name.clone(),
        Error::Exiting | Error::Ledger { .. } | Error::Internal { .. } => String::new(),
    }
}
