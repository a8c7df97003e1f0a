//! How the bus objects reach the driver: calls go in by a channel, snapshots come out by another.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lun_core::Error;
use lun_core::id::{DriveId, LunId, OpId};
use lun_core::machine::{Command, Reply, Snapshot};
use lun_core::model::OpView;
use lun_core::op::Caller;
use lun_ipc::Event;
use tokio::sync::{mpsc, oneshot, watch};

/// Calls that may wait for the driver; a client that sends more waits itself.
const CALLS_WAITING: usize = 64;
/// Notifications that are kept in memory for clients that come later.
const EVENTS_KEPT: usize = 1024;
/// How long an answer waits for its objects to appear on the bus.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(5);

/// What clients may see, with a number that rises with each publication.
#[derive(Debug, Default)]
pub struct Published {
    /// Rises by one with each publication.
    pub generation: u64,
    /// What clients may see.
    pub snapshot: Snapshot,
    /// Why the configuration on the disk is not in force, or nothing.
    pub config_error: String,
}

/// A call's answer, and the publication that shows its effect.
#[derive(Debug)]
pub struct Answer {
    /// The answer.
    pub result: Result<Reply, Error>,
    /// Generation of the newest snapshot when it was given.
    pub generation: u64,
}

/// What the driver is asked.
#[derive(Debug)]
pub enum Request {
    /// A call for the machine.
    Call {
        /// Who asks, for the record.
        caller: Caller,
        /// What.
        command: Command,
        /// Where the answer goes.
        answer: oneshot::Sender<Answer>,
    },
    /// Which LUN a name means.
    ResolveLun {
        /// Name.
        name: String,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<LunId, Error>>,
    },
    /// Which drive a name means.
    ResolveDrive {
        /// Name.
        name: String,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<DriveId, Error>>,
    },
}

/// The bus objects' end.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    snapshots: watch::Receiver<Arc<Published>>,
    on_bus: watch::Receiver<u64>,
    events: EventLog,
}

/// The driver's end.
#[derive(Debug)]
pub struct DriverEnd {
    /// Calls.
    pub requests: mpsc::Receiver<Request>,
    /// Snapshots.
    pub snapshots: watch::Sender<Arc<Published>>,
    /// Notifications.
    pub events: EventLog,
    /// Notifications on their way to the bus.
    pub to_bus: mpsc::UnboundedSender<Event>,
}

/// The publisher's end.
#[derive(Debug)]
pub struct PublisherEnd {
    /// Snapshots to be published.
    pub snapshots: watch::Receiver<Arc<Published>>,
    /// Generation that is on the bus.
    pub on_bus: watch::Sender<u64>,
    /// Notifications to be sent.
    pub events: mpsc::UnboundedReceiver<Event>,
}

/// Makes the three ends. Notifications are numbered from the one after `last_event`.
#[must_use]
pub fn channels(last_event: u64) -> (Handle, DriverEnd, PublisherEnd) {
    let (requests_in, requests) = mpsc::channel(CALLS_WAITING);
    let (snapshots_in, snapshots) = watch::channel(Arc::new(Published::default()));
    let (on_bus_in, on_bus) = watch::channel(0);
    let (to_bus, events) = mpsc::unbounded_channel();
    let log = EventLog::new(last_event);
    let handle = Handle {
        requests: requests_in,
        snapshots: snapshots.clone(),
        on_bus,
        events: log.clone(),
    };
    let driver = DriverEnd {
        requests,
        snapshots: snapshots_in,
        events: log,
        to_bus,
    };
    (
        handle,
        driver,
        PublisherEnd {
            snapshots,
            on_bus: on_bus_in,
            events,
        },
    )
}

impl Handle {
    /// Calls the machine and waits for its answer, and for the objects that the answer names to
    /// be on the bus.
    ///
    /// # Errors
    /// The machine's; [`Error::Exiting`] when the daemon stops meanwhile.
    pub async fn call(&self, caller: Caller, command: Command) -> Result<Reply, Error> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Call {
            caller,
            command,
            answer,
        })
        .await?;
        let Answer { result, generation } = answered.await.map_err(|_| Error::Exiting)?;
        if result.is_ok() {
            let mut on_bus = self.on_bus.clone();
            let published = on_bus.wait_for(|&on_bus| on_bus >= generation);
            if tokio::time::timeout(PUBLISH_PATIENCE, published)
                .await
                .is_err()
            {
                tracing::warn!("an answer goes out before its objects are on the bus");
            }
        }
        result
    }

    /// Which LUN a name means.
    ///
    /// # Errors
    /// Not found, deleted, ambiguous; [`Error::Exiting`].
    pub async fn resolve_lun(&self, name: &str) -> Result<LunId, Error> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::ResolveLun {
            name: name.to_owned(),
            answer,
        })
        .await?;
        answered.await.map_err(|_| Error::Exiting)?
    }

    /// Which drive a name means.
    ///
    /// # Errors
    /// Not found, ambiguous; [`Error::Exiting`].
    pub async fn resolve_drive(&self, name: &str) -> Result<DriveId, Error> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::ResolveDrive {
            name: name.to_owned(),
            answer,
        })
        .await?;
        answered.await.map_err(|_| Error::Exiting)?
    }

    async fn send(&self, request: Request) -> Result<(), Error> {
        self.requests
            .send(request)
            .await
            .map_err(|_| Error::Exiting)
    }

    /// The newest snapshot.
    #[must_use]
    pub fn current(&self) -> Arc<Published> {
        Arc::clone(&self.snapshots.borrow())
    }

    /// Remembered notifications.
    #[must_use]
    pub const fn events(&self) -> &EventLog {
        &self.events
    }

    /// Waits until the operation is finished. [`None`]: there is no such operation (any more).
    ///
    /// # Errors
    /// [`Error::Exiting`] when the daemon stops meanwhile.
    pub async fn finished(&self, op: OpId) -> Result<Option<OpView>, Error> {
        let mut snapshots = self.snapshots.clone();
        loop {
            let published = Arc::clone(&snapshots.borrow_and_update());
            match published.snapshot.ops.iter().find(|view| view.id == op) {
                None => return Ok(None),
                Some(view) if view.ended_at_ms.is_some() => return Ok(Some(view.clone())),
                Some(_) => {}
            }
            snapshots.changed().await.map_err(|_| Error::Exiting)?;
        }
    }
}

/// The newest notifications, for clients that ask later; older ones are in the ledger.
#[derive(Debug, Clone)]
pub struct EventLog(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    /// Number given last.
    last: u64,
    events: VecDeque<Event>,
}

impl EventLog {
    /// An empty one; numbers go on after `last`.
    #[must_use]
    pub fn new(last: u64) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            last,
            events: VecDeque::new(),
        })))
    }

    /// Remembers a notification under the next number, which it answers with.
    pub fn push(&self, mut event: Event) -> Event {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last += 1;
        event.seq = kept.last;
        if kept.events.len() == EVENTS_KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        event
    }

    /// Those with a number above `seq`, oldest first.
    #[must_use]
    pub fn since(&self, seq: u64) -> Vec<Event> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = kept.events.iter().filter(|event| event.seq > seq);
        newer.cloned().collect()
    }

    /// Number of the oldest one here.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.events.front().map(|event| event.seq)
    }
}
