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
        let name = format!("{ERROR_PREFIX}{}", error.name());
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
            self.0.error.object(),
        );
        Message::error(call, self.name()).build(&body)
    }

    fn name(&self) -> ErrorName<'_> {
        ErrorName::try_from(self.0.name.as_str()).unwrap_or_else(|_| {
            ErrorName::from_static_str_unchecked("org.lund.Vds1.Error.InternalError")
        })
    }

    fn description(&self) -> Option<&str> {
        Some(&self.0.message)
    }
}
