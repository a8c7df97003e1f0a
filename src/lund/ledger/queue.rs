//! What waits to be written, and the thread that writes it.
//!
//! What has come while one transaction is on its way to the medium goes into the next one together,
//! so that a burst costs one flush. The thread ends itself when nothing is left to do.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lun_core::Error;
use lun_core::machine::{PersistId, Record};
use lun_core::op::{Live, Op};
use lun_ipc::Event;

use super::Answer;
use super::prune::Retention;
use super::store::Store;

/// How long the thread waits for more before it ends.
const LINGER: Duration = Duration::from_secs(2);
/// How often a database that cannot be written is tried again when nothing is to be written.
const RETRY: Duration = Duration::from_secs(5);
/// Records and notifications in one transaction.
const AT_ONCE: usize = 256;

/// One thing to be written.
enum Job {
    /// A record, and who waits for it.
    Record(Vec<PersistId>, Record),
    /// As it was, but for the percentage: worth no flush of its own.
    Percent(Vec<PersistId>, Box<Op>),
    Event(Event),
}

/// What the thread and its clients share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    store: Mutex<Store>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Unfinished operations as they were told last.
    told: std::collections::BTreeMap<lun_core::id::OpId, Op>,
    suspect: Option<String>,
    retention: Option<Retention>,
    answer: Option<Arc<Mutex<Answer>>>,
    running: bool,
    closing: bool,
}

/// A poisoned lock guards data that every writer leaves whole: go on with it.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(store: Store) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue::default()),
            more: Condvar::new(),
            store: Mutex::new(store),
        })
    }

    /// Sets who is told. A database that does not work is looked after from now on.
    pub(super) fn on_answer(self: &Arc<Self>, answer: Answer) {
        let mut queue = guard(&self.queue);
        queue.answer = Some(Arc::new(Mutex::new(answer)));
        self.start(queue);
    }

    /// Queues a record.
    pub(super) fn persist(self: &Arc<Self>, id: PersistId, record: Record) {
        let mut queue = guard(&self.queue);
        match record {
            Record::Op(op) => queue.push_op(id, op),
            record => queue.jobs.push_back(Job::Record(vec![id], record)),
        }
        self.start(queue);
    }

    /// Queues a notification.
    pub(super) fn event(self: &Arc<Self>, event: Event) {
        let mut queue = guard(&self.queue);
        queue.jobs.push_back(Job::Event(event));
        self.start(queue);
    }

    /// The file was found to be corrupt.
    pub(super) fn suspect(self: &Arc<Self>, why: String) {
        let mut queue = guard(&self.queue);
        queue.suspect = Some(why);
        self.start(queue);
    }

    /// Keeps so much from now on.
    pub(super) fn retain(self: &Arc<Self>, retention: Retention) {
        let mut queue = guard(&self.queue);
        queue.retention = Some(retention);
        self.start(queue);
    }

    /// Writes what is queued, waiting for it up to `patience`. Answers whether all was written.
    pub(super) fn close(self: &Arc<Self>, patience: Duration) -> bool {
        let mut queue = guard(&self.queue);
        queue.closing = true;
        self.start(queue);
        let waited = self
            .more
            .wait_timeout_while(guard(&self.queue), patience, |queue| queue.running);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.jobs.is_empty() && !queue.running
    }

    fn start(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        if queue.running {
            drop(queue);
            self.more.notify_all();
            return;
        }
        let shared = Arc::clone(self);
        let spawned = std::thread::Builder::new()
            .name("lund-ledger".to_owned())
            .spawn(move || shared.work());
        match spawned {
            Ok(_) => queue.running = true,
            Err(error) => refuse_all(queue, &error.to_string()),
        }
    }

    /// Body of the thread.
    fn work(&self) {
        loop {
            let pause = if guard(&self.store).is_well() {
                LINGER
            } else {
                RETRY
            };
            let waited = self
                .more
                .wait_timeout_while(guard(&self.queue), pause, |queue| {
                    queue.jobs.is_empty()
                        && !queue.closing
                        && queue.suspect.is_none()
                        && queue.retention.is_none()
                });
            let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if let Some(retention) = queue.retention.take() {
                drop(queue);
                guard(&self.store).retain(retention);
            } else if let Some(why) = queue.suspect.take() {
                drop(queue);
                let error = guard(&self.store).condemn(why);
                self.answer(vec![PersistId::OWN], &Err(error));
            } else if queue.jobs.is_empty() {
                let closing = queue.closing;
                drop(queue);
                if self.rest(closing) {
                    return;
                }
            } else {
                let batch = queue.take();
                drop(queue);
                self.write(batch);
            }
        }
    }

    fn write(&self, batch: Vec<Job>) {
        let mut records = Vec::new();
        let mut events = Vec::new();
        let mut waiting = Vec::new();
        let mut durable = false;
        for job in batch {
            durable |= !matches!(job, Job::Percent(..));
            match job {
                Job::Record(ids, record) => {
                    waiting.extend(ids);
                    records.push(record);
                }
                Job::Percent(ids, op) => {
                    waiting.extend(ids);
                    records.push(Record::Op(op));
                }
                Job::Event(event) => events.push(event),
            }
        }
        let result = guard(&self.store).commit(records, events, durable);
        if waiting.is_empty() && result.is_err() {
            waiting.push(PersistId::OWN);
        }
        self.answer(waiting, &result);
    }

    /// Nothing is to be written: the time to look after the database. Answers whether the thread
    /// has ended.
    fn rest(&self, closing: bool) -> bool {
        let mut store = guard(&self.store);
        if !store.is_well() {
            let result = store.retry();
            drop(store);
            if result.is_ok() {
                self.answer(vec![PersistId::OWN], &result);
            }
            if !closing {
                return false;
            }
            store = guard(&self.store);
        }
        let more = !closing && store.prune();
        if closing {
            store.close();
        }
        drop(store);
        let mut queue = guard(&self.queue);
        let told = queue.suspect.is_some() || queue.retention.is_some();
        if more || told || !queue.jobs.is_empty() {
            return false;
        }
        queue.running = false;
        drop(queue);
        self.more.notify_all();
        true
    }

    fn answer(&self, ids: Vec<PersistId>, result: &Result<(), Error>) {
        let answer = guard(&self.queue).answer.clone();
        if let Some(answer) = answer {
            for id in ids {
                guard(&answer)(id, result.clone());
            }
        }
    }
}

impl Queue {
    /// An operation whose percentage alone has changed takes the place of what is still queued of
    /// it, the newest wins.
    fn push_op(&mut self, id: PersistId, op: Box<Op>) {
        let before = if op.state.is_finished() {
            self.told.remove(&op.id)
        } else {
            self.told.insert(op.id, (*op).clone())
        };
        if !before.is_some_and(|before| differ_by_percent(&before, &op)) {
            self.jobs.push_back(Job::Record(vec![id], Record::Op(op)));
            return;
        }
        let queued = self.jobs.iter_mut().rev().find_map(|job| match job {
            Job::Record(ids, Record::Op(queued)) if queued.id == op.id => Some((ids, queued)),
            Job::Percent(ids, queued) if queued.id == op.id => Some((ids, queued)),
            _ => None,
        });
        match queued {
            Some((ids, queued)) => {
                ids.push(id);
                *queued = op;
            }
            None => self.jobs.push_back(Job::Percent(vec![id], op)),
        }
    }

    fn take(&mut self) -> Vec<Job> {
        let count = self.jobs.len().min(AT_ONCE);
        self.jobs.drain(..count).collect()
    }
}

fn differ_by_percent(before: &Op, after: &Op) -> bool {
    let plain = |op: &Op| Op {
        percent: 0,
        live: Live::default(),
        ..op.clone()
    };
    plain(before) == plain(after)
}

/// Answers everything queued with a failure; for when no thread can be had.
fn refuse_all(mut queue: MutexGuard<'_, Queue>, why: &str) {
    let jobs = std::mem::take(&mut queue.jobs);
    let answer = queue.answer.clone();
    drop(queue);
    let ids = jobs.into_iter().flat_map(|job| match job {
        Job::Record(ids, _) | Job::Percent(ids, _) => ids,
        Job::Event(_) => Vec::new(),
    });
    for id in ids {
        let error = Error::Ledger {
            what: "start a thread".to_owned(),
            detail: why.to_owned(),
        };
        if let Some(answer) = &answer {
            guard(answer)(id, Err(error));
        }
    }
}
