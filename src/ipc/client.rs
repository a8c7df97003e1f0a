//! The client's side: a connection, and errors told apart.

use std::os::unix::net::UnixStream;

use lun_core::Hresult;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, fdo};

use crate::hint::hint_for;
use crate::names::{BUS_NAME, ERROR_PREFIX};
use crate::proxy::{AsyncProxy, DriveProxy, LunProxy, ProviderProxy};

/// What the service answered instead of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    /// Last part of the D-Bus error name, `AnotherCallInProgress` (see [`lun_core::Error::name`]).
    pub name: String,
    /// One sentence.
    pub message: String,
    /// HRESULT.
    pub hresult: Hresult,
    /// What it speaks of; may be empty.
    pub object: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The service answered with an error.
    #[error("{}", .0.message)]
    Remote(RemoteError),
    /// No bus, no service, or it went away during the call.
    #[error("the service cannot be reached: {0}")]
    Unreachable(String),
    /// The answer could not be understood: the two ends are of different versions.
    #[error("the service's answer cannot be understood: {0}")]
    Protocol(String),
}

impl ClientError {
    /// The service's own error, if it is one.
    #[must_use]
    pub const fn remote(&self) -> Option<&RemoteError> {
        match self {
            Self::Remote(error) => Some(error),
            Self::Unreachable(_) | Self::Protocol(_) => None,
        }
    }
}

impl RemoteError {
    fn new(name: &str, message: String, hresult: u32, object: String) -> Self {
        let hint = hint_for(hresult, &object);
        Self {
            name: name.to_owned(),
            message,
            hresult: Hresult(hresult),
            object,
            hint,
        }
    }
}

impl From<zbus::Error> for ClientError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, text, message) => {
                from_reply(name.as_str(), text, &message)
            }
            zbus::Error::FDO(error) => from_standard(*error),
            zbus::Error::InputOutput(_)
            | zbus::Error::Address(_)
            | zbus::Error::Handshake(_)
            | zbus::Error::Connection(..) => Self::Unreachable(error.to_string()),
            other => Self::Protocol(other.to_string()),
        }
    }
}

impl From<fdo::Error> for ClientError {
    fn from(error: fdo::Error) -> Self {
        from_standard(error)
    }
}

impl From<serde_json::Error> for ClientError {
    fn from(error: serde_json::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// An error of our own interface, or of somebody else's (polkit, an activation helper).
fn from_reply(name: &str, text: Option<String>, message: &zbus::Message) -> ClientError {
    let Some(short) = name.strip_prefix(ERROR_PREFIX) else {
        // A service that cannot be activated answers in the words of systemd.
        let text = text.unwrap_or_default();
        return ClientError::Unreachable(format!("{name}: {text}"));
    };
    match message.body().deserialize::<(String, u32, String)>() {
        Ok((text, hresult, object)) => {
            ClientError::Remote(RemoteError::new(short, text, hresult, object))
        }
        Err(error) => ClientError::Protocol(format!("{name}: {error}")),
    }
}

/// An error of the bus itself, in VDS words where it has the meaning of one.
fn from_standard(error: fdo::Error) -> ClientError {
    match error {
        fdo::Error::AccessDenied(text) | fdo::Error::InteractiveAuthorizationRequired(text) => {
            remote("AccessDenied", text, Hresult::VDS_E_ACCESS_DENIED)
        }
        fdo::Error::UnknownObject(text) => {
            remote("ObjectNotFound", text, Hresult::VDS_E_OBJECT_NOT_FOUND)
        }
        fdo::Error::InvalidArgs(text) => remote("InvalidArgument", text, Hresult::E_INVALIDARG),
        fdo::Error::UnknownMethod(_)
        | fdo::Error::UnknownInterface(_)
        | fdo::Error::UnknownProperty(_) => ClientError::Protocol(error.to_string()),
        other => ClientError::Unreachable(other.to_string()),
    }
}

fn remote(name: &str, text: String, hresult: Hresult) -> ClientError {
    ClientError::Remote(RemoteError::new(name, text, hresult.0, String::new()))
}

/// A connection to the service.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Connects to a bus: `system`, `session`, or an address such as `unix:path=/run/x`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when there is no such bus.
    pub async fn connect(bus: &str) -> Result<Self, ClientError> {
        let builder = match bus {
            "system" => zbus::connection::Builder::system(),
            "session" => zbus::connection::Builder::session(),
            address => zbus::connection::Builder::address(address),
        };
        Self::build(builder).await
    }

    /// Connects to the bus at the other end of a stream, wherever that is.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when no bus answers there.
    pub async fn over(stream: UnixStream) -> Result<Self, ClientError> {
        Self::build(zbus::connection::Builder::unix_stream(stream)).await
    }

    async fn build(builder: zbus::connection::Builder<'_>) -> Result<Self, ClientError> {
        let unreachable = |error: zbus::Error| ClientError::Unreachable(error.to_string());
        Ok(Self {
            connection: builder.build().await.map_err(unreachable)?,
        })
    }

    /// The connection, for signals and for what has no method here.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The provider.
    ///
    /// # Errors
    /// When the proxy cannot be made.
    pub async fn provider(&self) -> Result<ProviderProxy<'static>, ClientError> {
        Ok(uncached(ProviderProxy::builder(&self.connection)).await?)
    }

    /// The LUN of this name ([`ProviderProxy::find_lun`] has the forms).
    ///
    /// # Errors
    /// `ObjectNotFound`, `ObjectDeleted`, `AmbiguousName`.
    pub async fn lun(&self, name: &str) -> Result<LunProxy<'static>, ClientError> {
        let path = self.provider().await?.find_lun(name).await?;
        Ok(uncached(LunProxy::builder(&self.connection).path(path)).await?)
    }

    /// The drive of this name.
    ///
    /// # Errors
    /// `ObjectNotFound`, `AmbiguousName`.
    pub async fn drive(&self, name: &str) -> Result<DriveProxy<'static>, ClientError> {
        let path = self.provider().await?.find_drive(name).await?;
        Ok(uncached(DriveProxy::builder(&self.connection).path(path)).await?)
    }

    /// The operation at a path that a call answered with, or [`crate::names::op_path`].
    ///
    /// # Errors
    /// When the proxy cannot be made; that the operation exists is told by its first call.
    pub async fn operation(
        &self,
        path: OwnedObjectPath,
    ) -> Result<AsyncProxy<'static>, ClientError> {
        Ok(uncached(AsyncProxy::builder(&self.connection).path(path)).await?)
    }
}

/// A proxy that asks each time: what it says of an array must be true now.
async fn uncached<T>(builder: zbus::proxy::Builder<'static, T>) -> zbus::Result<T>
where
    T: From<zbus::Proxy<'static>> + zbus::proxy::Defaults,
{
    builder
        .destination(BUS_NAME)
        .cache_properties(CacheProperties::No)
        .build()
        .await
}
