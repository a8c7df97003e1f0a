//! The ledger: what must survive the daemon, in `lund.db` of the state directory.
//!
//! Records are written in the order in which they are told, on a thread of their own that ends
//! itself when there is nothing to write. Each record is committed to the medium
//! (`synchronous=FULL`) before it is answered, because an action waits for its intent.

mod store;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lun_core::Error;
use lun_core::machine::{LedgerState, PersistId, Record};
use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

use store::Store;

/// How long the thread waits for more before it ends.
const LINGER: Duration = Duration::from_secs(2);

/// Why the daemon cannot start on a state directory.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon works on it.
    #[error("another lund works on the state directory {0}; two must never act at once")]
    Taken(PathBuf),
}

/// Takes an answer about a record; runs on the ledger's thread.
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
    /// What was remembered.
    pub state: LedgerState,
    /// The provider's lasting GUID.
    pub provider: Uuid,
}

struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    store: Mutex<Store>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(PersistId, Record)>,
    answer: Option<Arc<Mutex<Answer>>>,
    running: bool,
    closing: bool,
}

impl Ledger {
    /// Opens the ledger in `folder`, creating both. `keep_finished` bounds the finished operations
    /// that are read back.
    ///
    /// A ledger that cannot be opened is not an error: the daemon works in memory, and
    /// [`LedgerState::degraded`] says why.
    ///
    /// # Errors
    /// [`LockError::Taken`] when another daemon works on the folder.
    pub fn open(folder: &Path, keep_finished: usize) -> Result<Opened, LockError> {
        let lock = lock(folder)?;
        let (store, state, provider) = Store::open(folder, keep_finished);
        let shared = Shared {
            queue: Mutex::new(Queue::default()),
            more: Condvar::new(),
            store: Mutex::new(store),
        };
        Ok(Opened {
            ledger: Self {
                shared: Arc::new(shared),
                _lock: lock,
            },
            state,
            provider,
        })
    }

    /// Sets who is told that a record is written.
    pub fn on_answer(&self, answer: Answer) {
        guard(&self.shared.queue).answer = Some(Arc::new(Mutex::new(answer)));
    }

    /// Writes a record, after all those told before it.
    pub fn persist(&self, id: PersistId, record: Record) {
        let mut queue = guard(&self.shared.queue);
        queue.jobs.push_back((id, record));
        if queue.running {
            drop(queue);
            self.shared.more.notify_one();
            return;
        }
        let shared = Arc::clone(&self.shared);
        let spawned = std::thread::Builder::new()
            .name("lund-ledger".to_owned())
            .spawn(move || write_all(&shared));
        match spawned {
            Ok(_) => queue.running = true,
            Err(error) => refuse_all(queue, &error.to_string()),
        }
    }

    /// Writes what is queued, waiting for it up to `patience`. Answers whether all was written.
    pub fn close(self, patience: Duration) -> bool {
        let mut queue = guard(&self.shared.queue);
        queue.closing = true;
        self.shared.more.notify_all();
        let waited = self
            .shared
            .more
            .wait_timeout_while(queue, patience, |queue| queue.running);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.jobs.is_empty() && !queue.running
    }
}

/// A poisoned lock guards data that every writer leaves whole: go on with it.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers everything queued with a failure; for when no thread can be had.
fn refuse_all(mut queue: MutexGuard<'_, Queue>, why: &str) {
    let jobs = std::mem::take(&mut queue.jobs);
    let answer = queue.answer.clone();
    drop(queue);
    for (id, _) in jobs {
        let error = Error::Ledger {
            what: "start a thread".to_owned(),
            detail: why.to_owned(),
        };
        if let Some(answer) = &answer {
            guard(answer)(id, Err(error));
        }
    }
}

/// Body of the thread: writes until nothing has come for a while.
fn write_all(shared: &Shared) {
    loop {
        let queue = guard(&shared.queue);
        let waited = shared.more.wait_timeout_while(queue, LINGER, |queue| {
            queue.jobs.is_empty() && !queue.closing
        });
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let Some((id, record)) = queue.jobs.pop_front() else {
            queue.running = false;
            drop(queue);
            shared.more.notify_all();
            return;
        };
        let answer = queue.answer.clone();
        drop(queue);
        let result = guard(&shared.store).write(&record);
        if let Some(answer) = answer {
            guard(&answer)(id, result);
        }
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
