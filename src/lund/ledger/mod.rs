//! The ledger: what must survive the daemon, in `lund.db` of the state directory.
//!
//! Records are written in the order in which they are told, on a thread of their own that ends
//! itself when there is nothing to write. Each record is committed to the medium
//! (`synchronous=FULL`) before it is answered, because an action waits for its intent; a percentage
//! alone is not flushed, it survives the daemon and need not survive the power.

mod load;
mod prune;
mod queue;
mod read;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod write;

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lun_core::Error;
use lun_core::machine::{LedgerState, PersistId, Record};
use lun_ipc::Event;
use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

pub use prune::Retention;
pub use read::{Filter, Reader};

use queue::Shared;
use store::Store;

/// Why the daemon cannot start on a state directory.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon works on it.
    #[error("another lund works on the state directory {0}; two must never act at once")]
    Taken(PathBuf),
}

/// Takes an answer about a record; runs on the ledger's thread. [`PersistId::OWN`] tells of the
/// ledger itself: that it does not work, or works again.
pub type Answer = Box<dyn Fn(PersistId, Result<(), Error>) + Send>;

/// The open ledger, and the lock of its directory for as long as it lives.
pub struct Ledger {
    shared: Arc<Shared>,
    _lock: Option<Flock<File>>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

/// What opening gave.
#[derive(Debug)]
pub struct Opened {
    /// To write to.
    pub ledger: Ledger,
    /// To read from.
    pub reader: Reader,
    /// What was remembered.
    pub state: LedgerState,
    /// The provider's lasting GUID.
    pub provider: Uuid,
    /// Number of the newest notification; the next has a greater one.
    pub last_event: u64,
}

impl Ledger {
    /// Opens the ledger in `folder`, creating both. `keep_finished` bounds the finished operations
    /// that are read back, `retention` what is kept at all.
    ///
    /// A ledger that cannot be opened is not an error: the daemon works in memory, and
    /// [`LedgerState::degraded`] says why.
    ///
    /// # Errors
    /// [`LockError::Taken`] when another daemon works on the folder.
    pub fn open(
        folder: &Path,
        keep_finished: usize,
        retention: Retention,
    ) -> Result<Opened, LockError> {
        let lock = lock(folder)?;
        let (store, start) = Store::open(folder, keep_finished, retention);
        let shared = Shared::new(store);
        let reader = Reader::new(folder);
        if start.check {
            check_beside(Arc::clone(&shared), reader.clone());
        }
        Ok(Opened {
            ledger: Self {
                shared,
                _lock: lock,
            },
            reader,
            state: start.state,
            provider: start.provider,
            last_event: start.last_event,
        })
    }

    /// Sets who is told that a record is written.
    pub fn on_answer(&self, answer: Answer) {
        self.shared.on_answer(answer);
    }

    /// Writes a record, after all those told before it.
    pub fn persist(&self, id: PersistId, record: Record) {
        self.shared.persist(id, record);
    }

    /// Writes a notification. One that cannot be written is written when the ledger works again.
    pub fn event(&self, event: Event) {
        self.shared.event(event);
    }

    /// Keeps so much from now on.
    pub fn retain(&self, retention: Retention) {
        self.shared.retain(retention);
    }

    /// Writes what is queued, waiting for it up to `patience`. Answers whether all was written.
    pub fn close(self, patience: Duration) -> bool {
        self.shared.close(patience)
    }
}

/// Looks through a large file after an end that was not orderly, while the work goes on.
fn check_beside(shared: Arc<Shared>, reader: Reader) {
    let spawned = std::thread::Builder::new()
        .name("lund-check".to_owned())
        .spawn(move || {
            if let Some(why) = reader.fault() {
                shared.suspect(why);
            }
        });
    if let Err(error) = spawned {
        tracing::warn!("the ledger is not looked through, no thread can be had: {error}");
    }
}

/// Creates the folder and locks it. A folder that cannot be made or opened is no reason not to
/// start (the ledger will be degraded, and the bus name keeps a second daemon off), a taken lock is.
fn lock(folder: &Path) -> Result<Option<Flock<File>>, LockError> {
    if let Err(error) = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
    {
        tracing::error!(
            "the state directory {} cannot be made: {error}",
            folder.display()
        );
    }
    let file = match File::open(folder) {
        Ok(file) => file,
        Err(error) => {
            tracing::error!(
                "the state directory {} cannot be opened: {error}",
                folder.display()
            );
            return Ok(None);
        }
    };
    // The folder itself is locked: that works on a read-only file system too.
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(LockError::Taken(folder.to_owned())),
        Err((_, errno)) => {
            tracing::error!(
                "the state directory {} cannot be locked: {errno}",
                folder.display()
            );
            Ok(None)
        }
    }
}
