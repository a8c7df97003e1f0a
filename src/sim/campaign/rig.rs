//! Machine, simulated kernel and ledger in virtual time, with the freedom that the real driver
//! leaves: every effect is under way for a while and ends in no promised order, the daemon dies at
//! any moment, and what it had begun goes on without it. Promised are only what `src/lund` keeps:
//! records are written in order, one action per LUN at a time, one scan at a time, a deadline on
//! each action.

use std::collections::{BTreeMap, BTreeSet};

use lun_core::Error;
use lun_core::action::Action;
use lun_core::id::{LunId, Mono, Now, Wall};
use lun_core::machine::{ActId, Command, Effect, Input, LedgerState, Machine, PersistId, Token};
use lun_core::model::Decision;
use lun_core::policy::Policy;
use lun_kernel::{Hint, ScanRequest};

use super::checks::Checks;
use super::ledger::Ledger;
use super::random::Random;
use super::tally::Tally;
use crate::faults::Part;
use crate::world::World;

/// Hints of one burst are gathered this long, as the real driver does.
const HINT_PAUSE_MS: u64 = 50;
/// The shortest pause between two timers of the real driver.
const TIMER_PAUSE_MS: u64 = 10;
/// A ledger that failed is tried again so often.
const LEDGER_RETRY_MS: u64 = 10_000;
/// Wall clock of virtual time 0.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// Things that may happen in one schedule; more is a machine that spins.
const EVENTS_MAX: u64 = 60_000;

/// How fast and how reliably effects are carried out. Times are upper bounds, milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// A scan, before and after its look at the world.
    pub scan_ms: u64,
    /// A reading of one array or of the progress.
    pub read_ms: u64,
    /// An action, before it is done, and its answer after it.
    pub act_ms: u64,
    /// One record.
    pub write_ms: u64,
    /// One effect in so many takes fifty times as long; 0: none.
    pub slow_one_in: u64,
    /// One hint in so many is lost; 0: none.
    pub lose_one_in: u64,
    /// One hint in so many comes twice; 0: none.
    pub double_one_in: u64,
}

impl Pace {
    /// Everything works, at an ordinary speed.
    pub const CALM: Self = Self {
        scan_ms: 20,
        read_ms: 5,
        act_ms: 10,
        write_ms: 5,
        slow_one_in: 0,
        lose_one_in: 0,
        double_one_in: 0,
    };
}

/// What is going to happen, and which daemon's doing it is.
#[derive(Debug)]
pub(super) enum Event {
    /// The daemon takes this in.
    Deliver(Input),
    /// A scan looks at the world.
    Scan(ScanRequest),
    /// An array is read.
    ReadArray(String),
    /// The progress is read.
    ReadProgress,
    /// An action gets as far as its first part.
    ActBegins(ActId),
    /// An action is done.
    ActDone(ActId),
    /// Its deadline has passed.
    ActLate(ActId),
    /// Hints are handed over.
    Hints,
    /// The ledger's thread writes a record.
    Write,
    /// A record has been on its way for too long.
    WriteLate(PersistId),
    /// The ledger has found by itself that it can be written again.
    LedgerBack,
}

/// A write to the kernel that waits for a drive that hangs.
#[derive(Debug)]
pub(super) struct Hung {
    pub(super) life: u32,
    pub(super) id: ActId,
    pub(super) array: String,
    pub(super) action: Action,
    /// What it was for died with the ledger.
    pub(super) disowned: bool,
}

/// Everything but the schedule.
pub struct Rig {
    /// The simulated machine.
    pub world: World,
    /// Where the schedule's chances come from.
    pub random: Random,
    /// How effects are carried out.
    pub pace: Pace,
    /// What the daemon was told in its configuration.
    pub policy: Policy,
    /// What was decided about each LUN last.
    pub decisions: BTreeMap<LunId, Decision>,
    /// What must be true.
    pub checks: Checks,
    /// What was done and how it ended.
    pub tally: Tally,
    /// The ledger.
    pub ledger: Ledger,
    pub(super) machine: Option<Machine>,
    now_ms: u64,
    pub(super) life: u32,
    order: u64,
    handled: u64,
    queue: BTreeMap<(u64, u64), (u32, Event)>,
    pub(super) acts: BTreeMap<ActId, Action>,
    /// Actions that are half done.
    pub(super) parts: BTreeMap<ActId, Part>,
    pub(super) hung: Vec<Hung>,
    hints: BTreeSet<Hint>,
    hints_wanted: bool,
    hints_from: u64,
    timer_from: u64,
    next_token: u64,
    numbers: u32,
    /// The story, when somebody wants to read it.
    told: Option<Vec<String>>,
}

impl std::fmt::Debug for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rig")
            .field("now_ms", &self.now_ms)
            .finish_non_exhaustive()
    }
}

impl Rig {
    /// A machine on which no daemon runs yet. With `tell` the story is recorded, which is slow.
    #[must_use]
    pub fn new(mut world: World, random: Random, tell: bool) -> Self {
        world.settle();
        world.hints.clear();
        Self {
            now_ms: world.now_ms.max(1_000),
            world,
            random,
            pace: Pace::CALM,
            policy: Policy::default().by_hand(),
            decisions: BTreeMap::new(),
            checks: Checks::default(),
            tally: Tally::default(),
            ledger: Ledger::default(),
            machine: None,
            life: 0,
            order: 0,
            handled: 0,
            queue: BTreeMap::new(),
            acts: BTreeMap::new(),
            parts: BTreeMap::new(),
            hung: Vec::new(),
            hints: BTreeSet::new(),
            hints_wanted: false,
            hints_from: 0,
            timer_from: 0,
            next_token: 0,
            numbers: 0,
            told: tell.then(Vec::new),
        }
    }

    /// The daemon's machine; [`None`] while it is dead.
    #[must_use]
    pub const fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// Virtual time, milliseconds.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What happened, if it was to be told.
    #[must_use]
    pub fn story(&self) -> &[String] {
        self.told.as_deref().unwrap_or_default()
    }

    /// Adds a line to the story; the line is made only when it is wanted.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(format!("{:>9} {}", self.now_ms, line()));
        }
    }

    /// Counts a fault and tells of it.
    pub fn fault(&mut self, kind: &'static str, what: &str) {
        self.tally.fault(kind);
        self.tell(|| format!("*** {kind} {what}"));
    }

    /// Whether this has a chance of one in `times`; never when it is 0.
    fn chance(&mut self, times: u64) -> bool {
        times > 0 && self.random.one_in(times)
    }

    /// How long something takes that takes at most `ms`, unless it is a slow one.
    pub(super) fn takes(&mut self, ms: u64) -> u64 {
        let slow = self.pace.slow_one_in;
        let bound = if self.chance(slow) { ms * 50 } else { ms };
        self.random.between(1, bound.max(1))
    }

    pub(super) fn schedule(&mut self, after_ms: u64, event: Event) {
        self.order += 1;
        let key = (self.now_ms + after_ms, self.order);
        self.queue.insert(key, (self.life, event));
    }

    /// The daemon is started. What its ledger remembers is all it knows.
    pub fn start(&mut self) {
        self.start_with(|state| state);
    }

    /// The daemon is started on a ledger that has suffered.
    pub fn start_with(&mut self, damage: impl FnOnce(LedgerState) -> LedgerState) {
        if self.machine.is_some() {
            return;
        }
        let mut state = match self.ledger.committed.state() {
            Ok(state) => damage(state),
            Err(why) => return self.checks.wrong(why),
        };
        if self.ledger.failing {
            state.degraded = Some("database or disk is full".to_owned());
        }
        if state.degraded.is_some() {
            state.last_op = state.last_op.max((EPOCH_MS + self.now_ms) / 1000);
        }
        self.tell(|| "--- the daemon starts".to_owned());
        self.machine = Some(Machine::new(self.policy.clone()));
        self.step(Input::Start(Box::new(state)));
    }

    /// `kill -9`. Of the records told some were written; what the kernel does goes on.
    pub fn kill(&mut self) {
        let Some(machine) = self.machine.take() else {
            return;
        };
        let unsure = self.ledger.failing || machine.ledger_degraded().is_some();
        let waiting = u64::try_from(self.ledger.waiting()).unwrap_or(0);
        let survive = self.random.between(0, waiting);
        self.ledger.crash(usize::try_from(survive).unwrap_or(0));
        self.tell(|| format!("--- the daemon is killed, {survive} of {waiting} records survive"));
        if !self.acts.is_empty() {
            self.tally.fault("killed during an action");
        }
        for (id, part) in std::mem::take(&mut self.parts) {
            self.tally.fault("killed in the middle of an action");
            let array = self.acts.get(&id).and_then(Action::array);
            if let Some(array) = array.filter(|_| part.froze) {
                self.checks.left_frozen(&self.world, array);
            }
        }
        self.life += 1;
        self.acts.clear();
        self.hints.clear();
        self.hints_wanted = false;
        self.queue
            .retain(|_, (_, event)| !matches!(event, Event::Write));
        self.checks.killed(&self.ledger.committed, unsure);
        if unsure {
            self.disown_hung();
        }
    }

    /// Nobody knows any more what the writes that hang were for.
    pub(super) fn disown_hung(&mut self) {
        self.hung.iter_mut().for_each(|hung| hung.disowned = true);
    }

    /// A client calls.
    pub fn call(&mut self, command: Command) -> Option<u64> {
        self.machine.as_ref()?;
        self.next_token += 1;
        let token = self.next_token;
        self.tell(|| format!("call {token} {command:?}"));
        self.checks.asked(token, &command, self.life);
        let caller = format!("client {}", token % 3).as_str().into();
        self.step(Input::Call {
            token: Token(token),
            caller,
            command,
        });
        Some(token)
    }

    /// Somebody or something else than lund changes the world.
    pub fn happens<R>(&mut self, change: impl FnOnce(&mut World) -> R) -> R {
        let before = self.world.violations.len();
        let result = change(&mut self.world);
        self.world.settle();
        // What others break is not lund's doing.
        self.world.violations.truncate(before);
        self.after_world();
        result
    }

    /// Somebody else writes a word to `sync_action`.
    pub fn meddle(&mut self, action: &Action) {
        self.tell(|| format!("*** somebody else: {action}"));
        let _ = self.happens(|world| world.act(action));
        if let Action::SetSync { array, .. } = action {
            self.checks.frozen_by_others(&self.world, array);
        }
    }

    /// Lets virtual time pass.
    pub fn run_for(&mut self, ms: u64) {
        let limit = self.now_ms + ms;
        while self.next(limit) {}
    }

    /// A number that no other caller was given.
    pub const fn fresh_number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// Checks what must be true while nothing is under way.
    pub fn check_calm(&mut self) {
        if let Some(machine) = &self.machine {
            self.checks.calm(&self.world, machine, self.life);
        }
    }

    /// Whether an action is under way.
    #[must_use]
    pub fn is_acting(&self) -> bool {
        !self.acts.is_empty()
    }

    /// Whether nothing is under way and nothing is due before `ms` have passed.
    #[must_use]
    pub fn is_calm(&self, ms: u64) -> bool {
        let wake = self.machine.as_ref().and_then(Machine::next_wake);
        self.queue.is_empty()
            && self.hung.is_empty()
            && wake.is_none_or(|at| at.0 > self.now_ms + ms)
    }

    /// Does the next thing that happens; false when none does before `limit_ms`.
    pub fn next(&mut self, limit_ms: u64) -> bool {
        self.handled += 1;
        if self.handled > EVENTS_MAX {
            self.checks
                .wrong("the daemon does not come to rest".to_owned());
            return false;
        }
        if self.checks.broken() {
            return false;
        }
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let world = self.world.next_event_ms();
        let wake = self.machine.as_ref().and_then(Machine::next_wake);
        let wake = wake.map(|at| at.0.max(self.timer_from));
        let next = queued.into_iter().chain(world).chain(wake).min();
        let at = next.unwrap_or(limit_ms).max(self.now_ms);
        if at > limit_ms || next.is_none() {
            self.now_ms = limit_ms.max(self.now_ms);
            self.world.advance_to(self.now_ms);
            self.after_world();
            return false;
        }
        self.now_ms = at;
        self.world.advance_to(at);
        self.after_world();
        if queued.is_some_and(|due| due <= at) {
            if let Some((_, (life, event))) = self.queue.pop_first() {
                self.handle(life, event);
            }
        } else if wake.is_some_and(|due| due <= at) {
            self.timer_from = self.now_ms + TIMER_PAUSE_MS;
            self.step(Input::Timer);
        }
        true
    }

    fn handle(&mut self, life: u32, event: Event) {
        if life != self.life || self.machine.is_none() {
            return;
        }
        match event {
            Event::Deliver(input) => self.step(input),
            Event::Scan(request) => self.look(&request),
            Event::ReadArray(name) => {
                let array = self.world.array(&name);
                let facts = array.map(|array| Box::new(self.world.array_facts(array, false)));
                if let Some(facts) = &facts {
                    self.checks.honest(&self.world, facts);
                }
                let ms = self.takes(self.pace.read_ms);
                let result = Ok(facts);
                self.schedule(ms, Event::Deliver(Input::ArrayRead { name, result }));
            }
            Event::ReadProgress => {
                let facts = self.world.progress_facts();
                let ms = self.takes(self.pace.read_ms);
                self.schedule(ms, Event::Deliver(Input::Progress(Ok(facts))));
            }
            Event::ActBegins(id) => self.begin_act(id),
            Event::ActDone(id) => self.do_act(id),
            Event::ActLate(id) => {
                if self.acts.contains_key(&id) {
                    self.tally.fault("action past its deadline");
                    self.step(Input::ActLate { id });
                }
            }
            Event::Hints => self.hand_hints_over(),
            Event::Write => self.write(),
            Event::WriteLate(id) => {
                if self.ledger.is_on_its_way(id) {
                    self.tally.fault("record late");
                    let result = Err(hangs());
                    self.step(Input::Persisted { id, result });
                }
            }
            Event::LedgerBack => {
                if !self.ledger.failing {
                    let (id, result) = (PersistId::OWN, Ok(()));
                    self.step(Input::Persisted { id, result });
                }
            }
        }
    }

    /// Hung writes that may go on go on, and the kernel's hints are gathered.
    pub(super) fn after_world(&mut self) {
        let mut index = 0;
        while let Some(hung) = self.hung.get(index) {
            if self.world.stop_blocked(&hung.array) {
                index += 1;
                continue;
            }
            let hung = self.hung.remove(index);
            let readable = self.checks.readable(&self.world);
            let result = self.world.end_blocked(&hung.array);
            if self
                .world
                .array(&hung.array)
                .is_some_and(|a| a.dm.is_some())
            {
                // Nothing of it was done before it blocked.
                self.checks.acted(&self.world, &hung.action, &readable);
                if let (true, Some(array)) = (hung.disowned, hung.action.array()) {
                    self.checks.frozen_by_others(&self.world, array);
                }
            }
            if hung.life == self.life {
                let id = hung.id;
                self.schedule(1, Event::Deliver(Input::Acted { id, result }));
            }
        }
        if self.world.hints.is_empty() {
            return;
        }
        for hint in std::mem::take(&mut self.world.hints) {
            let (lose, double) = (self.pace.lose_one_in, self.pace.double_one_in);
            if self.machine.is_none() {
                continue;
            }
            if self.chance(lose) {
                self.tally.fault("hint lost");
                continue;
            }
            if self.chance(double) {
                self.tally.fault("hint doubled");
                self.schedule(HINT_PAUSE_MS * 3, Event::Hints);
            }
            self.hints.insert(hint);
        }
        if !self.hints.is_empty() && !self.hints_wanted {
            self.hints_wanted = true;
            let pause = self.hints_from.saturating_sub(self.now_ms);
            let ms = pause + self.random.between(0, 5);
            self.schedule(ms, Event::Hints);
        }
    }

    /// What gathered is handed over as the driver does it: the fewest inputs.
    fn hand_hints_over(&mut self) {
        self.hints_wanted = false;
        self.hints_from = self.now_ms + HINT_PAUSE_MS;
        let hints = std::mem::take(&mut self.hints);
        if hints.is_empty() || hints.iter().any(|hint| !matches!(hint, Hint::Array(_))) {
            return self.step(Input::DirtyAll);
        }
        for hint in hints {
            if let Hint::Array(name) = hint {
                self.step(Input::DirtyArray(name));
            }
        }
    }

    /// The ledger can be written again; its thread finds that out when it tries the next time.
    pub fn ledger_works(&mut self) {
        if std::mem::take(&mut self.ledger.failing) {
            let ms = self.random.between(1, LEDGER_RETRY_MS);
            self.schedule(ms, Event::LedgerBack);
        }
    }

    fn write(&mut self) {
        let Some((id, result, more)) = self.ledger.write_one() else {
            return;
        };
        if result.is_err() {
            self.tally.fault("record not written");
        }
        if more {
            let ms = self.takes(self.pace.write_ms);
            self.schedule(ms, Event::Write);
        }
        self.step(Input::Persisted { id, result });
    }

    /// The daemon takes an input in, and what it wants is set going.
    fn step(&mut self, input: Input) {
        let now = Now {
            mono: Mono(self.now_ms),
            wall: Wall(EPOCH_MS + self.now_ms),
        };
        self.tally.steps += 1;
        self.checks.takes_in(&input, now.wall.0);
        if let Input::Acted { id, .. } = &input {
            self.acts.remove(id);
        }
        let Some(machine) = self.machine.as_mut() else {
            return;
        };
        let effects = machine.step(now, input);
        if effects.contains(&Effect::Publish)
            && let Some(told) = self.checks.look(machine, &self.world)
        {
            self.tell(|| told);
        }
        for effect in effects {
            self.carry_out(effect);
        }
    }
}

/// The driver's answer for a ledger that gives none.
fn hangs() -> Error {
    Error::Ledger {
        what: "write".to_owned(),
        detail: "its disk does not answer".to_owned(),
    }
}
