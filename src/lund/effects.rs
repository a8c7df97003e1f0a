//! Carries out what the machine wants, off the loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lun_core::Error;
use lun_core::action::Action;
use lun_core::id::{LunId, OpId, Wall};
use lun_core::machine::{ActId, Effect, Input, PersistId, Record, Reply, Snapshot, Token};
use lun_core::model::{Decision, NotificationEvent, VdsEnum};
use lun_ipc::Event;
use lun_kernel::{Kernel, ScanRequest};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::handle::{Answer, EventLog, Published};
use crate::hook::{Hook, Told};
use crate::ledger::{Ledger, Retention};

/// Actions that may be under way at once. Each has a thread, and a thread that writes `frozen` to
/// an array with a hanging member may never come back.
const ACTIONS_AT_ONCE: usize = 64;
/// How long a stopping daemon waits for the ledger.
const LEDGER_PATIENCE: Duration = Duration::from_secs(5);
/// How long a record may be on its way to the medium. A disk that hangs must not keep a recovery
/// from going on.
const LEDGER_DEADLINE: Duration = Duration::from_secs(10);
/// The same, once a record was late and no answer has come since.
const HANGING_DEADLINE: Duration = Duration::from_millis(100);

/// An action under way.
#[derive(Debug)]
struct Acting {
    /// Array or drive that it works on.
    object: String,
    deadline: AbortHandle,
}

/// An answer that waits until what it promises is in the ledger.
#[derive(Debug)]
struct Held {
    /// All records up to this one.
    record: PersistId,
    token: Token,
    result: Result<Reply, Error>,
}

/// Everything that effects need.
pub struct Performer {
    kernel: Arc<dyn Kernel>,
    ledger: Ledger,
    results: mpsc::UnboundedSender<Input>,
    snapshots: watch::Sender<Arc<Published>>,
    events: EventLog,
    to_bus: mpsc::UnboundedSender<Event>,
    hook: Option<Hook>,
    answers: BTreeMap<Token, oneshot::Sender<Answer>>,
    next_token: u64,
    acting: BTreeMap<ActId, Acting>,
    /// Records on their way, each with its deadline.
    writing: BTreeMap<PersistId, AbortHandle>,
    ledger_hangs: Arc<AtomicBool>,
    held: Vec<Held>,
    scanning: bool,
    next_scan: Option<ScanRequest>,
    stopping: bool,
}

impl std::fmt::Debug for Performer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Performer")
            .field("acting", &self.acting)
            .finish_non_exhaustive()
    }
}

impl Performer {
    /// Effects act on `kernel` and `ledger`; what comes of them goes to `results`.
    #[must_use]
    pub fn new(
        kernel: Arc<dyn Kernel>,
        ledger: Ledger,
        results: mpsc::UnboundedSender<Input>,
        snapshots: watch::Sender<Arc<Published>>,
        events: EventLog,
        to_bus: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let answered = results.clone();
        let ledger_hangs = Arc::new(AtomicBool::new(false));
        let hangs = Arc::clone(&ledger_hangs);
        ledger.on_answer(Box::new(move |id, result| {
            hangs.store(false, Ordering::Relaxed);
            // The loop is gone only when the daemon ends.
            let _ = answered.send(Input::Persisted { id, result });
        }));
        Self {
            kernel,
            ledger,
            results,
            snapshots,
            events,
            to_bus,
            hook: None,
            answers: BTreeMap::new(),
            next_token: 0,
            acting: BTreeMap::new(),
            writing: BTreeMap::new(),
            ledger_hangs,
            held: Vec::new(),
            scanning: false,
            next_scan: None,
            stopping: false,
        }
    }

    /// What is notified goes to a program, too.
    #[must_use]
    pub fn telling(mut self, hook: Option<Hook>) -> Self {
        self.hook = hook;
        self
    }

    /// From now on to this program, or to none.
    pub fn tell_by(&mut self, hook: Option<Hook>) {
        self.hook = hook;
    }

    /// Remembers where the answer to a call goes.
    pub fn expect_answer(&mut self, answer: oneshot::Sender<Answer>) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.answers.insert(token, answer);
        token
    }

    /// Shows clients a new snapshot.
    pub fn publish(&self, snapshot: Snapshot, config_error: String) {
        self.snapshots.send_modify(|published| {
            *published = Arc::new(Published {
                generation: published.generation + 1,
                snapshot,
                config_error,
            });
        });
    }

    /// Tells the ledger how much to keep.
    pub fn retain(&self, retention: Retention) {
        self.ledger.retain(retention);
    }

    /// Carries out one effect; those that need the machine are the driver's.
    pub fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Scan {
                probe,
                events_of,
                groups,
            } => self.scan(ScanRequest {
                probe,
                events_of,
                groups,
            }),
            Effect::ReadArray { name } => self.read_array(name),
            Effect::ReadProgress => {
                let kernel = Arc::clone(&self.kernel);
                self.read(move || Input::Progress(kernel.read_progress()));
            }
            Effect::Act {
                id,
                action,
                deadline_ms,
            } => self.act(id, action, deadline_ms),
            Effect::Persist { id, record } => self.persist(id, record),
            Effect::Reply { token, result } => self.reply(token, result),
            // The driver's, who has the machine.
            Effect::Publish | Effect::Decided(_) | Effect::Notify { .. } => {}
        }
    }

    /// Takes note of a result; `false` when it is one that nobody waits for any more.
    pub fn came_back(&mut self, input: &Input) -> bool {
        match input {
            Input::Scanned(_) => {
                self.scanning = false;
                if let Some(request) = self.next_scan.take() {
                    self.scan(request);
                }
            }
            Input::Acted { id, .. } => match self.acting.remove(id) {
                Some(acting) => acting.deadline.abort(),
                None => return false,
            },
            Input::ActLate { id } => return self.acting.contains_key(id),
            Input::Persisted { id, .. } => {
                if let Some(deadline) = self.writing.remove(id) {
                    deadline.abort();
                }
                self.release_held();
            }
            _ => {}
        }
        true
    }

    /// Whether an action is under way.
    #[must_use]
    pub fn is_acting(&self) -> bool {
        !self.acting.is_empty()
    }

    /// From now on nothing new is begun, and whoever waits is told why.
    pub fn refuse_everything(&mut self) {
        self.stopping = true;
        // What they promise is queued, and the ledger is closed in good order.
        self.writing.clear();
        self.release_held();
        for token in self.answers.keys().copied().collect::<Vec<_>>() {
            self.reply(token, Err(Error::Exiting));
        }
    }

    /// Writes what the ledger still has to write.
    pub fn close(self) {
        if !self.ledger.close(LEDGER_PATIENCE) {
            tracing::error!("the ledger could not be written to its end");
        }
    }

    fn scan(&mut self, request: ScanRequest) {
        if self.scanning {
            let next = self.next_scan.get_or_insert_with(ScanRequest::default);
            next.probe.extend(request.probe);
            next.events_of.extend(request.events_of);
            next.groups.extend(request.groups);
            return;
        }
        if self.stopping {
            return;
        }
        self.scanning = true;
        let kernel = Arc::clone(&self.kernel);
        self.read(move || Input::Scanned(kernel.scan(&request).map(Box::new)));
    }

    fn read_array(&self, name: String) {
        let kernel = Arc::clone(&self.kernel);
        self.read(move || {
            let result = kernel.read_array(&name).map(|facts| facts.map(Box::new));
            Input::ArrayRead { name, result }
        });
    }

    /// Runs a reading on one of the few threads for that.
    fn read(&self, reading: impl FnOnce() -> Input + Send + 'static) {
        if self.stopping {
            return;
        }
        let results = self.results.clone();
        tokio::task::spawn_blocking(move || {
            let _ = results.send(reading());
        });
    }

    /// Runs an action on a thread of its own.
    fn act(&mut self, id: ActId, action: Action, deadline_ms: u64) {
        if self.stopping {
            return;
        }
        let object = object_of(&action);
        let in_use = self.acting.values().any(|acting| acting.object == object);
        debug_assert!(!in_use, "one action per LUN at a time: {action:?}");
        if in_use || self.acting.len() >= ACTIONS_AT_ONCE {
            let what = format!(
                "{} actions are under way, {object} has to wait",
                self.acting.len()
            );
            self.fail(id, &object, what);
            return;
        }
        let late = self.results.clone();
        let deadline = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(deadline_ms)).await;
            let _ = late.send(Input::ActLate { id });
        });
        let acting = Acting {
            object: object.clone(),
            deadline: deadline.abort_handle(),
        };
        self.acting.insert(id, acting);
        tracing::info!("{action}");
        let kernel = Arc::clone(&self.kernel);
        let results = self.results.clone();
        let spawned = std::thread::Builder::new()
            .name("lund-act".to_owned())
            .spawn(move || {
                let result = kernel.act(&action);
                let _ = results.send(Input::Acted { id, result });
            });
        if let Err(error) = spawned {
            self.fail(id, &object, format!("no thread can be had: {error}"));
        }
    }

    /// Reports an action that was not begun.
    fn fail(&mut self, id: ActId, object: &str, what: String) {
        tracing::error!("{what}");
        let acting = Acting {
            object: object.to_owned(),
            deadline: idle_handle(),
        };
        self.acting.entry(id).or_insert(acting);
        let _ = self.results.send(Input::Acted {
            id,
            result: Err(Error::Internal { what }),
        });
    }

    fn persist(&mut self, id: PersistId, record: Record) {
        let hangs = Arc::clone(&self.ledger_hangs);
        let late = self.results.clone();
        let patience = if hangs.load(Ordering::Relaxed) {
            HANGING_DEADLINE
        } else {
            LEDGER_DEADLINE
        };
        let deadline = tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            hangs.store(true, Ordering::Relaxed);
            let result = Err(Error::Ledger {
                what: "write".to_owned(),
                detail: "its disk does not answer".to_owned(),
            });
            let _ = late.send(Input::Persisted { id, result });
        });
        self.writing.insert(id, deadline.abort_handle());
        self.ledger.persist(id, record);
    }

    /// Gives the answers whose records are written.
    fn release_held(&mut self) {
        let first = self.writing.keys().next().copied();
        let due = |held: &Held| first.is_none_or(|first| held.record < first);
        let (due, later): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut self.held).into_iter().partition(due);
        self.held = later;
        for held in due {
            self.answer(held.token, held.result);
        }
    }

    /// A promise is given when it is in the ledger: an operation must not be forgotten, nor its
    /// number given again, when the daemon is killed a moment later.
    fn reply(&mut self, token: Token, result: Result<Reply, Error>) {
        let promise = matches!(result, Ok(Reply::Op(_) | Reply::Drive(_) | Reply::Done));
        match self.writing.keys().next_back().copied() {
            Some(record) if promise && !self.stopping => self.held.push(Held {
                record,
                token,
                result,
            }),
            _ => self.answer(token, result),
        }
    }

    fn answer(&mut self, token: Token, result: Result<Reply, Error>) {
        let generation = self.snapshots.borrow().generation;
        match self.answers.remove(&token) {
            // A client that has gone away needs no answer.
            Some(answer) => drop(answer.send(Answer { result, generation })),
            None => tracing::error!("an answer that nobody waits for: {result:?}"),
        }
    }

    /// Puts a notification into the memory, the ledger and the signal.
    pub fn notify(
        &self,
        event: Option<NotificationEvent>,
        lun: Option<LunId>,
        op: Option<OpId>,
        text: String,
    ) {
        self.pass_on(event, lun, op, text, None);
    }

    /// The same with a decision.
    pub fn decided(&self, decision: Decision) {
        let text = decision.to_string();
        self.pass_on(None, Some(decision.lun), decision.op, text, Some(decision));
    }

    fn pass_on(
        &self,
        event: Option<NotificationEvent>,
        lun: Option<LunId>,
        op: Option<OpId>,
        text: String,
        decision: Option<Decision>,
    ) {
        let event = self.events.push(Event {
            seq: 0,
            at_ms: wall_now(),
            event: event.map_or(0, |event| u32::try_from(event.value()).unwrap_or(0)),
            event_name: event.map(|event| event.name().to_owned()),
            lun,
            op,
            text,
        });
        self.ledger.event(event.clone());
        if let Some(hook) = &self.hook {
            hook.tell(self.told(&event, decision));
        }
        // The publisher is gone only when the daemon ends.
        let _ = self.to_bus.send(event);
    }
}

impl Performer {
    /// A notification for the program, with what it speaks of as it stands.
    fn told(&self, event: &Event, decision: Option<Decision>) -> Told {
        let published = Arc::clone(&self.snapshots.borrow());
        let shown = &published.snapshot;
        let lun = shown.luns.iter().find(|lun| Some(lun.id) == event.lun);
        let op = shown.ops.iter().find(|op| Some(op.id) == event.op);
        let (word, detail) = match (&decision, op, &event.event_name) {
            (Some(decision), _, _) => ("decision", decision.verdict.as_str().to_owned()),
            (None, Some(op), _) => ("operation", op.state.clone()),
            (None, None, Some(name)) => ("change", name.clone()),
            (None, None, None) => ("remark", "-".to_owned()),
        };
        Told {
            word,
            lun: lun.map_or_else(|| "-".to_owned(), |lun| lun.name.clone()),
            detail,
            document: serde_json::json!({
                "event": word,
                "notification": event,
                "decision": decision,
                "operation": op,
                "lun": lun,
            }),
        }
    }
}

/// What an action works on: the array, or the drive alone.
fn object_of(action: &Action) -> String {
    if let Action::Light { drive, .. } = action {
        // It may be switched while the drive is worked on.
        return format!("the light of {}", drive.name);
    }
    match (action.array(), action.drive()) {
        (Some(array), _) => array.to_owned(),
        (None, Some(drive)) => drive.name.clone(),
        (None, None) => String::new(),
    }
}

fn idle_handle() -> AbortHandle {
    tokio::spawn(std::future::ready(())).abort_handle()
}

fn wall_now() -> Wall {
    crate::clock::Clock::new().now().wall
}
