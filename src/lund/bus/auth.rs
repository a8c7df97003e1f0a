//! Who may do what: everybody may look, root may change things.
//!
//! On a bus other than the system's the daemon's own user counts as root: such a bus is private
//! to a test, and the kernel behind the daemon is a simulated one or refuses by itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use lun_core::Error;
use zbus::message::Header;
use zbus::names::{BusName, UniqueName};
use zbus::{Connection, fdo};

/// Callers remembered. A unique name is never given twice by a running bus.
const REMEMBERED: usize = 256;

/// Who called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    name: String,
    uid: u32,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (uid {})", self.name, self.uid)
    }
}

/// Tells who may do what.
#[derive(Debug)]
pub struct Auth {
    also_root: Option<u32>,
    known: Mutex<HashMap<String, u32>>,
}

impl Auth {
    /// `also_root`: a user who counts as root besides root.
    #[must_use]
    pub fn new(also_root: Option<u32>) -> Self {
        Self {
            also_root,
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

    /// Refuses everybody but root.
    ///
    /// # Errors
    /// [`Error::AccessDenied`].
    pub fn require_root(&self, caller: &Caller, verb: &str, object: &str) -> Result<(), Error> {
        if caller.uid == 0 || self.also_root == Some(caller.uid) {
            return Ok(());
        }
        Err(Error::AccessDenied {
            verb: verb.to_owned(),
            object: object.to_owned(),
            caller: caller.to_string(),
        })
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
    fn only_root_and_the_named_user_may_change_things() {
        let caller = |uid| Caller {
            name: ":1.7".to_owned(),
            uid,
        };
        let system = Auth::new(None);
        assert_eq!(system.require_root(&caller(0), "Recover", "md0"), Ok(()));
        let error = system
            .require_root(&caller(1000), "Recover", "md0")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "Recover on md0: :1.7 (uid 1000) is not allowed to"
        );
        let private = Auth::new(Some(1000));
        assert_eq!(
            private.require_root(&caller(1000), "Recover", "md0"),
            Ok(())
        );
        assert!(
            private
                .require_root(&caller(1001), "Recover", "md0")
                .is_err()
        );
    }
}
