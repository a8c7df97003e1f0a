//! The event loop: inputs go into the machine, effects are carried out off the loop, and the loop
//! itself never waits for any of them.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use lun_core::id::{LunId, OpId};
use lun_core::machine::{Effect, Input, LedgerState, Machine, Snapshot};
use lun_core::model::{Decision, NotificationEvent};
use lun_core::policy::Policy;
use lun_kernel::{Hint, Watch};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::clock::Clock;
use crate::config::Config;
use crate::effects::Performer;
use crate::handle::Request;
use crate::hook::Hook;
use crate::logging;
use crate::news::Kind;
use crate::notify::Notifier;
use crate::tell;

/// Hints of one burst are gathered this long, so that a storm of events costs a few scans a
/// second and not thousands.
const HINT_PAUSE: Duration = Duration::from_millis(50);
/// Hints taken at once.
const HINTS_AT_ONCE: usize = 4096;
/// How long a stopping daemon waits for the actions that are under way.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// The shortest pause before a timer that is already due, so that a mistake cannot spin.
const TIMER_PAUSE: Duration = Duration::from_millis(10);

/// The only owner of the machine.
#[derive(Debug)]
pub struct Driver {
    machine: Machine,
    clock: Clock,
    performer: Performer,
    notifier: Notifier,
    /// Why the configuration on the disk is not in force, or nothing.
    config_error: String,
    /// The ledger was told to be degraded.
    ledger_degraded: bool,
    /// The service manager was told that clients may call.
    told_ready: bool,
    /// Told once the first scan is in and shown (or cannot be had).
    first_scan: Option<oneshot::Sender<()>>,
    /// The first scan is in.
    scanned: bool,
}

/// Where the loop's inputs come from.
pub struct Sources {
    /// Calls of clients.
    pub requests: mpsc::Receiver<Request>,
    /// Results of effects.
    pub results: mpsc::UnboundedReceiver<Input>,
    /// Events of the kernel.
    pub watch: Box<dyn Watch>,
    /// The configuration, each time that it was read anew.
    pub reloads: mpsc::Receiver<Config>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

enum Turn {
    Stop,
    Bus(Result<(), crate::Error>),
    Result(Input),
    Hint(Hint),
    Request(Request),
    Reload(Config),
    Timer,
}

impl Driver {
    /// A driver that has not started; `first_scan` is told when clients may look.
    #[must_use]
    pub fn new(
        policy: Policy,
        performer: Performer,
        notifier: Notifier,
        config_error: String,
        first_scan: oneshot::Sender<()>,
    ) -> Self {
        Self {
            machine: Machine::new(policy),
            clock: Clock::new(),
            performer,
            notifier,
            config_error,
            ledger_degraded: false,
            told_ready: false,
            first_scan: Some(first_scan),
            scanned: false,
        }
    }

    /// Runs until `shutdown` is done, or `bus` fails. `bus` answers once when the service can be
    /// called, and is polled on for its failure.
    ///
    /// # Errors
    /// The bus's.
    pub async fn run(
        mut self,
        remembered: LedgerState,
        mut sources: Sources,
        bus: impl Future<Output = Result<(), crate::Error>>,
        mut ready: oneshot::Receiver<()>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), crate::Error> {
        let mut shutdown = pin!(shutdown);
        let mut bus = pin!(bus);
        let mut hints_from = Instant::now();
        self.step(Input::Start(Box::new(remembered)));
        let outcome = loop {
            let wake = self.wake_at();
            let hint = async {
                sleep_until(hints_from).await;
                sources.watch.next().await
            };
            let turn = tokio::select! {
                biased;
                () = &mut shutdown => Turn::Stop,
                result = &mut bus => Turn::Bus(result),
                Ok(()) = &mut ready, if !self.told_ready => {
                    self.told_ready = true;
                    self.notifier.ready();
                    continue;
                }
                Some(input) = sources.results.recv() => Turn::Result(input),
                hint = hint => Turn::Hint(hint),
                Some(request) = sources.requests.recv() => Turn::Request(request),
                Some(config) = sources.reloads.recv() => Turn::Reload(config),
                () = sleep_until(wake) => Turn::Timer,
            };
            match turn {
                Turn::Stop => break Ok(()),
                Turn::Bus(result) => break result,
                Turn::Result(input) => self.on_result(input, sources.watch.as_mut()),
                Turn::Hint(hint) => {
                    hints_from = Instant::now() + HINT_PAUSE;
                    for input in drain(hint, sources.watch.as_mut()) {
                        self.step(input);
                    }
                }
                Turn::Request(request) => self.on_request(request),
                Turn::Reload(config) => self.on_reload(config),
                Turn::Timer => {
                    if self
                        .machine
                        .next_wake()
                        .is_some_and(|at| self.clock.now().mono >= at)
                    {
                        self.step(Input::Timer);
                    }
                }
            }
            self.notifier.turned();
        };
        self.stop(sources).await;
        outcome
    }

    fn step(&mut self, input: Input) {
        let effects = self.machine.step(self.clock.now(), input);
        self.carry_out(effects);
    }

    /// What clients see is published before any call is answered: an answer names objects.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        if effects.contains(&Effect::Publish) {
            let snapshot = self.machine.snapshot();
            self.show(snapshot);
            if self.scanned {
                self.tell_scanned();
            }
        }
        for effect in effects {
            match effect {
                Effect::Notify {
                    event,
                    lun,
                    op,
                    text,
                } => self.tell(event, lun, op, text),
                Effect::Decided(decision) => self.tell_decision(*decision),
                effect => self.performer.perform(effect),
            }
        }
    }

    fn show(&mut self, snapshot: Snapshot) {
        self.notifier.status(&snapshot, &self.config_error);
        self.performer.publish(snapshot, self.config_error.clone());
    }

    /// Puts a notification into the journal, with fields to search by, and passes it on.
    fn tell(
        &mut self,
        event: Option<NotificationEvent>,
        lun: Option<LunId>,
        op: Option<OpId>,
        text: String,
    ) {
        let view = op.and_then(|op| self.machine.op_view(op));
        let about = lun.or(view.as_ref().map(|view| view.lun));
        let degraded = self.machine.ledger_degraded().is_some();
        let kind = match (lun, op, degraded) {
            (None, None, true) if !self.ledger_degraded => Kind::LedgerDegraded,
            (None, None, false) if self.ledger_degraded => Kind::LedgerRestored,
            _ => Kind::of(
                event,
                lun.and_then(|id| self.machine.lun(id)),
                view.as_ref(),
            ),
        };
        self.ledger_degraded = degraded;
        tell!(
            kind,
            LUN = about.and_then(|id| self.machine.lun_name(id)),
            OP = op.map(|op| op.0),
            HRESULT = view.as_ref().map(|view| view.hresult_name.as_str()),
            DRIVE = view.as_ref().and_then(|view| view.spare.as_deref()),
            "{text}"
        );
        self.performer.notify(event, lun, op, text);
    }

    /// The same with a decision.
    fn tell_decision(&mut self, decision: Decision) {
        tell!(
            Kind::Decision,
            LUN = Some(decision.lun_name.as_str()),
            OP = decision.op.map(|op| op.0),
            RULE = decision.rule.as_str(),
            VERDICT = decision.verdict.as_str(),
            "{decision}"
        );
        self.performer.decided(decision);
    }

    /// A configuration with a mistake changes nothing but what is said about it.
    fn on_reload(&mut self, config: Config) {
        if let Some(error) = config.error {
            self.config_error = format!("{error}; what was in force before still is");
            let text = &self.config_error;
            tell!(
                Kind::ConfigRefused,
                "the configuration is not in force: {text}"
            );
        } else {
            self.config_error.clear();
            logging::set_level(config.log_level);
            config.tell_warnings();
            self.performer.retain(config.retention);
            self.performer.tell_by(config.notify.map(Hook::new));
            tell!(
                Kind::ConfigLoaded,
                "the configuration was read anew and is in force"
            );
            self.step(Input::Policy(config.policy));
        }
        // Clients are shown it now, whatever the machine still waits for.
        self.show(self.machine.snapshot());
        if self.told_ready {
            self.notifier.ready();
        }
    }

    fn on_result(&mut self, input: Input, watch: &mut dyn Watch) {
        if !self.performer.came_back(&input) {
            return;
        }
        let failed = matches!(input, Input::Scanned(Err(_)));
        if let Input::Scanned(Ok(inventory)) = &input {
            watch.follow(inventory);
            self.scanned = true;
        }
        self.step(input);
        if failed {
            self.tell_scanned();
        }
    }

    fn tell_scanned(&mut self) {
        if let Some(first_scan) = self.first_scan.take() {
            // Nobody listens when the bus failed meanwhile; the loop hears of that by itself.
            let _ = first_scan.send(());
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Call {
                caller,
                command,
                answer,
            } => {
                tracing::debug!(caller = caller.name, "{command:?}");
                let token = self.performer.expect_answer(answer);
                self.step(Input::Call {
                    token,
                    caller,
                    command,
                });
            }
            // A client that has gone away needs no answer.
            Request::ResolveLun { name, answer } => {
                let _ = answer.send(self.machine.resolve_lun(&name));
            }
            Request::ResolveDrive { name, answer } => {
                let _ = answer.send(self.machine.resolve_drive(&name));
            }
        }
    }

    /// The machine's next timer, or earlier for the watchdog.
    fn wake_at(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let machine = self
            .machine
            .next_wake()
            .map_or(far, |at| self.clock.instant(at));
        let machine = machine.max(Instant::now() + TIMER_PAUSE);
        self.notifier
            .feed_by()
            .map_or(machine, |feed_by| machine.min(feed_by))
    }

    /// Lets the actions that are under way come to their end, within reason, and records them.
    async fn stop(mut self, mut sources: Sources) {
        self.notifier.stopping();
        self.performer.refuse_everything();
        self.step(Input::Stop);
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.performer.is_acting() {
            match tokio::time::timeout_at(deadline, sources.results.recv()).await {
                Ok(Some(input)) => {
                    if self.performer.came_back(&input) {
                        self.step(input);
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!("stopping while the kernel still works on an action");
                    break;
                }
            }
        }
        self.performer.close();
    }
}

/// Takes all hints that are there and makes of them the fewest inputs.
fn drain(first: Hint, watch: &mut dyn Watch) -> Vec<Input> {
    let mut hints = BTreeSet::from([first]);
    for _ in 0..HINTS_AT_ONCE {
        match futures_util::FutureExt::now_or_never(watch.next()) {
            Some(hint) => hints.insert(hint),
            None => break,
        };
    }
    let everything = |hint: &Hint| !matches!(hint, Hint::Array(_));
    if hints.iter().any(everything) {
        return vec![Input::DirtyAll];
    }
    hints
        .into_iter()
        .filter_map(|hint| match hint {
            Hint::Array(name) => Some(Input::DirtyArray(name)),
            Hint::Arrays | Hint::Devices | Hint::Overflow => None,
        })
        .collect()
}
