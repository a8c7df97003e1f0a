//! The objects on the bus. Their methods take `&self`, hold nothing but a way to the driver and
//! to the newest snapshot, and decide nothing.

mod auth;
mod drive;
mod host;
mod lun;
mod operation;
mod plex;
mod polkit;
mod publisher;
mod rights;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use lun_core::Error;
use lun_core::machine::{Command, Reply};
use lun_ipc::{CallError, OptionError, check_string};
use serde::Serialize;
use uuid::Uuid;
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath};

use crate::handle::Handle;
use crate::past::Past;

pub use auth::{Auth, Patience, Trusted};
pub use publisher::{claim, serve};
pub use rights::Right;

/// Answer of a bus method.
type Result<T, E = CallError> = std::result::Result<T, E>;

/// What all objects share.
#[derive(Debug)]
pub struct Context {
    /// The way to the driver.
    pub handle: Handle,
    /// The way to the past.
    pub past: Past,
    /// Who may do what.
    pub auth: Auth,
    /// The provider's lasting GUID.
    pub provider: Uuid,
}

impl Context {
    /// Makes a call for the sender of a message, who must have these rights.
    async fn change(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        rights: &[Right],
        object: &str,
        command: Command,
    ) -> Result<Reply> {
        let caller = self.auth.caller(connection, header).await?;
        self.auth
            .require(connection, header, &caller, rights, object)
            .await?;
        Ok(self.handle.call((&caller).into(), command).await?)
    }

    /// Looks for what came or went, for the sender of a message.
    async fn reenumerate(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        object: &str,
    ) -> Result<()> {
        let (rights, command) = (&[Right::Refresh], Command::Reenumerate);
        self.change(connection, header, rights, object, command)
            .await
            .map(drop)
    }

    /// Makes a call that changes nothing.
    async fn ask(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        command: Command,
    ) -> Result<Reply> {
        let caller = self.auth.caller(connection, header).await?;
        Ok(self.handle.call((&caller).into(), command).await?)
    }
}

type SharedContext = Arc<Context>;

fn refused(error: OptionError) -> CallError {
    let what = match &error {
        OptionError::Unknown(name, _) | OptionError::Type(name, _) => format!("option {name:?}"),
        OptionError::TooLong(what) | OptionError::Empty(what) => what.clone(),
        OptionError::Limit(_) => "limit".to_owned(),
    };
    Error::InvalidArgument {
        what,
        why: error.to_string(),
    }
    .into()
}

fn checked(what: &str, text: &str) -> Result<String> {
    check_string(what, text).map_err(refused)?;
    Ok(text.to_owned())
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| {
        Error::Internal {
            what: format!("no JSON: {error}"),
        }
        .into()
    })
}

/// The word under which a value appears in JSON.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn no_object() -> OwnedObjectPath {
    zbus::ObjectPath::from_static_str_unchecked(lun_ipc::names::NO_OBJECT).into()
}

fn unexpected(reply: &Reply) -> CallError {
    let kind = match reply {
        Reply::Op(_) => "an operation",
        Reply::Plan(_) => "a plan",
        Reply::Explanation(_) => "an explanation",
        Reply::Drive(_) => "a drive",
        Reply::Done => "nothing",
    };
    Error::Internal {
        what: format!("the call was answered with {kind}"),
    }
    .into()
}

/// Why something that VDS knows is not done here.
fn not_supported(object: &str, what: &str, why: &str) -> CallError {
    Error::NotSupported {
        object: object.to_owned(),
        what: what.to_owned(),
        why: why.to_owned(),
    }
    .into()
}

fn op_path_of(reply: &Reply) -> Result<OwnedObjectPath> {
    match reply {
        Reply::Op(view) => Ok(lun_ipc::names::op_path(view.id)),
        other => Err(unexpected(other)),
    }
}

fn plan_of(reply: &Reply) -> Result<String> {
    match reply {
        Reply::Plan(plan) => json(plan),
        other => Err(unexpected(other)),
    }
}
