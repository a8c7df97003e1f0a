//! Who may do what: everybody may look, root may do anything, and polkit is asked about the others
//! ([`super::rights`]). Where polkit is not, root alone may change things.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use lun_core::Error;
use zbus::message::Header;
use zbus::names::{BusName, UniqueName};
use zbus::{Connection, fdo};

pub use super::polkit::Patience;
use super::polkit::Polkit;
use super::rights::Right;

/// Callers remembered. A unique name is never given twice by a running bus.
const REMEMBERED: usize = 256;

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    name: String,
    uid: u32,
}

impl Caller {
    /// User id.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (uid {})", self.name, self.uid)
    }
}

impl From<&Caller> for lun_core::op::Caller {
    fn from(caller: &Caller) -> Self {
        Self {
            name: caller.to_string(),
            uid: Some(caller.uid),
        }
    }
}

/// About whom polkit is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trusted {
    /// Root.
    Root,
    /// Root, and the user who runs the daemon: on a bus other than the system's, which is private
    /// to a test, with a kernel that is simulated or refuses by itself.
    RootAnd(u32),
    /// Nobody, for tests of this very thing.
    Nobody,
}

impl Trusted {
    const fn includes(self, uid: u32) -> bool {
        match self {
            Self::Root => uid == 0,
            Self::RootAnd(user) => uid == 0 || uid == user,
            Self::Nobody => false,
        }
    }
}

/// Tells who may do what.
#[derive(Debug)]
pub struct Auth {
    trusted: Trusted,
    polkit: Polkit,
    known: Mutex<HashMap<String, u32>>,
}

impl Auth {
    /// `trusted`: about whom polkit is not asked.
    #[must_use]
    pub fn new(trusted: Trusted, patience: Patience) -> Self {
        Self {
            trusted,
            polkit: Polkit::new(patience),
            known: Mutex::new(HashMap::new()),
        }
    }

    /// The sender of a message, as the bus vouches for it.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] when the bus does not.
    pub async fn caller(
        &self,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<Caller, Error> {
        let Some(sender) = header.sender() else {
            return Err(unknown("somebody without a name"));
        };
        let name = sender.as_str().to_owned();
        if let Some(uid) = self.lookup(&name) {
            return Ok(Caller { name, uid });
        }
        let uid = ask(connection, sender.to_owned())
            .await
            .map_err(|_| unknown(&name))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(name.clone(), uid);
        Ok(Caller { name, uid })
    }

    /// Lets pass who has every one of these rights.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] with the right that is wanting and why it is.
    pub async fn require(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        caller: &Caller,
        rights: &[Right],
        object: &str,
    ) -> Result<(), Error> {
        if self.trusted.includes(caller.uid) {
            return Ok(());
        }
        let verb = header.member().map_or("call", |member| member.as_str());
        for &right in rights {
            let answer = self
                .polkit
                .ask(connection, header, caller.uid, right, object)
                .await;
            let action = right.action();
            match answer {
                Ok(()) => tracing::info!("{action} is granted to {caller} for {verb} on {object}"),
                Err(why) => {
                    let error = Error::AccessDenied {
                        verb: verb.to_owned(),
                        object: object.to_owned(),
                        caller: caller.to_string(),
                        action: action.to_owned(),
                        why,
                    };
                    tracing::info!("{error}");
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn lookup(&self, name: &str) -> Option<u32> {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .copied()
    }
}

fn unknown(caller: &str) -> Error {
    Error::AccessDenied {
        verb: "calling".to_owned(),
        object: "the service".to_owned(),
        caller: caller.to_owned(),
        action: String::new(),
        why: "the bus does not tell whose connection it is".to_owned(),
    }
}

async fn ask(connection: &Connection, name: UniqueName<'_>) -> Result<u32, zbus::Error> {
    let bus = fdo::DBusProxy::new(connection).await?;
    Ok(bus.get_connection_unix_user(BusName::Unique(name)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polkit_is_not_asked_about_root_and_the_user_of_a_private_bus() {
        assert!(Trusted::Root.includes(0));
        assert!(!Trusted::Root.includes(1000));
        assert!(Trusted::RootAnd(1000).includes(0) && Trusted::RootAnd(1000).includes(1000));
        assert!(!Trusted::RootAnd(1000).includes(1001));
        assert!(!Trusted::Nobody.includes(0));
    }
}
