//! Machine, simulated kernel and a ledger in memory, driven in virtual time.

use std::collections::{BTreeMap, VecDeque};

use lun_core::Error;
use lun_core::action::Action;
use lun_core::id::{Mono, Now, OpId, Wall};
use lun_core::machine::{Command, Effect, Input, Machine, Reply, Token};
use lun_core::model::{Decision, Lun, OpView};
use lun_core::op::Op;
use lun_core::policy::Policy;
use lun_kernel::{Kernel, ScanRequest};
use lun_sim::campaign::Committed;
use lun_sim::dm::Reached;
use lun_sim::{SimKernel, World};

/// Everything but the daemon.
pub(crate) struct Rig {
    pub(crate) kernel: SimKernel,
    pub(crate) machine: Machine,
    pub(crate) policy: Policy,
    ledger: Committed,
    inbox: VecDeque<Input>,
    now_ms: u64,
    next_token: u64,
    pub(crate) replies: BTreeMap<u64, Result<Reply, Error>>,
    /// What was told, for the message of a failing test.
    pub(crate) told: Vec<String>,
    /// Percentages shown, by operation: they must not fall.
    percents: BTreeMap<OpId, u32>,

    /// What was decided, the oldest first.
    pub(crate) decisions: Vec<Decision>,
    pub(crate) broken: Vec<String>,
    /// The daemon dies when its replacement of a leg has come as far as this.
    pub(crate) dies_at: Option<Reached>,
}

impl Rig {
    pub(crate) fn new(world: World) -> Self {
        Self::with_policy(world, Policy::default().by_hand())
    }

    pub(crate) fn with_policy(mut world: World, policy: Policy) -> Self {
        world.set_rate(4 << 20);
        let mut rig = Self {
            kernel: SimKernel::by_hand(world),
            machine: Machine::new(policy.clone()),
            policy,
            decisions: Vec::new(),
            ledger: Committed::default(),
            inbox: VecDeque::new(),
            now_ms: 1_000,
            next_token: 0,
            replies: BTreeMap::new(),
            told: Vec::new(),
            percents: BTreeMap::new(),
            broken: Vec::new(),
            dies_at: None,
        };
        rig.start();
        rig
    }

    fn start(&mut self) {
        self.inbox
            .push_back(Input::Start(Box::new(self.ledger.state().unwrap())));
        self.pump();
    }

    /// An operation as the ledger has it.
    pub(crate) fn stored(&self, id: OpId) -> Op {
        self.ledger.op(id).unwrap().clone()
    }

    /// The daemon dies where it stands, and is started again.
    pub(crate) fn restart(&mut self) {
        self.inbox.clear();
        self.replies.clear();
        self.machine = Machine::new(self.policy.clone());
        self.told.push("--- restart".to_owned());
        self.start();
    }

    /// The daemon is stopped, and something happens before it is started again.
    pub(crate) fn while_down<R>(&mut self, change: impl FnOnce(&mut World) -> R) -> R {
        let result = self.kernel.with(change);
        self.restart();
        result
    }

    /// The daemon dies where it stands, and the kernel goes on for so long before it is started again.
    pub(crate) fn down_for(&mut self, ms: u64) {
        self.now_ms += ms;
        let now = self.now_ms;
        self.while_down(|world| world.advance_to(now));
    }

    /// The power goes while something is being written, and comes back.
    pub(crate) fn power_cut(&mut self) {
        self.start_of_the_host(|world| {
            world.power_cut(true);
            let names: Vec<String> = world.stopped.keys().cloned().collect();
            for name in names {
                world.assemble_found(&name, false);
            }
        });
    }

    /// The host goes down and comes back, with what happens until the daemon starts.
    pub(crate) fn start_of_the_host<R>(&mut self, change: impl FnOnce(&mut World) -> R) -> R {
        let result = self.kernel.with(change);
        self.ledger.host_went_down();
        self.restart();
        result
    }

    /// Steps until nothing is left to be taken in.
    pub(crate) fn pump(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the machine does not come to rest:\n{}", self.story());
    }

    /// Takes one input; false when there is none.
    pub(crate) fn step(&mut self) -> bool {
        let Some(input) = self.inbox.pop_front() else {
            return false;
        };
        let now = Now {
            mono: Mono(self.now_ms),
            wall: Wall(1_700_000_000_000 + self.now_ms),
        };
        let effects = self.machine.step(now, input);
        for effect in effects {
            self.carry_out(effect);
        }
        true
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Scan {
                probe,
                events_of,
                groups,
            } => {
                let result = self.kernel.scan(&ScanRequest {
                    probe,
                    events_of,
                    groups,
                });
                self.inbox.push_back(Input::Scanned(result.map(Box::new)));
            }
            Effect::ReadArray { name } => {
                let result = self
                    .kernel
                    .read_array(&name)
                    .map(|facts| facts.map(Box::new));
                self.inbox.push_back(Input::ArrayRead { name, result });
            }
            Effect::ReadProgress => {
                self.inbox
                    .push_back(Input::Progress(self.kernel.read_progress()));
            }
            Effect::Act { action, .. } if self.dies(&action) => {}
            Effect::Act { id, action, .. } => {
                let result = self.kernel.act(&action);
                self.told
                    .push(format!("{:>8} {action:?} -> {result:?}", self.now_ms));
                self.inbox.push_back(Input::Acted { id, result });
                self.inbox.push_back(Input::DirtyAll);
            }
            Effect::Persist { id, record } => {
                self.ledger.apply(record);
                self.inbox
                    .push_back(Input::Persisted { id, result: Ok(()) });
            }
            Effect::Reply { token, result } => {
                self.told
                    .push(format!("{:>8} reply {} {result:?}", self.now_ms, token.0));
                self.replies.insert(token.0, result);
            }
            Effect::Publish => self.look(),
            Effect::Decided(decision) => {
                self.told.push(format!(
                    "{:>8} {} {:?} {:?}: {}",
                    self.now_ms,
                    decision.lun_name,
                    decision.rule,
                    decision.verdict,
                    decision.reason
                ));
                self.decisions.push(*decision);
            }
            Effect::Notify { text, .. } => {
                self.told.push(format!("{:>8} {text}", self.now_ms));
            }
        }
    }

    /// Does a part of this action, after which nobody is there to hear of it.
    fn dies(&mut self, action: &Action) -> bool {
        let Some(reached) = self
            .dies_at
            .take_if(|_| matches!(action, Action::ReplaceLeg { .. }))
        else {
            return false;
        };
        let begun = self
            .kernel
            .with(|world| world.begin_replacement(action, reached));
        assert!(begun, "{action} does not begin\n{}", self.story());
        self.told
            .push(format!("{:>8} {action:?} reached {reached:?}", self.now_ms));
        true
    }

    /// What clients are shown must never go backwards.
    fn look(&mut self) {
        for op in self.machine.snapshot().ops {
            let before = self.percents.insert(op.id, op.percent).unwrap_or(0);
            if op.percent < before {
                self.broken.push(format!(
                    "operation {}: {before} % -> {} %",
                    op.id, op.percent
                ));
            }
            let pending = op.hresult == lun_core::Hresult::VDS_E_OPERATION_PENDING;
            if pending == (op.percent == 100) || pending == op.ended_at_ms.is_some() {
                self.broken
                    .push(format!("operation {} is half finished: {op:?}", op.id));
            }
        }
    }

    /// Lets virtual time pass until the next thing that happens, at most until `limit_ms`.
    pub(crate) fn tick(&mut self, limit_ms: u64) -> bool {
        let world = self.kernel.with(|world| world.next_event_ms());
        let wake = self.machine.next_wake().map(|at| at.0);
        let next = world
            .into_iter()
            .chain(wake)
            .min()
            .unwrap_or(limit_ms)
            .max(self.now_ms + 1);
        let to = next.min(limit_ms);
        self.now_ms = to;
        self.kernel.with(|world| world.advance_to(to));
        if wake.is_some_and(|at| at <= to) {
            self.inbox.push_back(Input::Timer);
        }
        if world.is_some_and(|at| at <= to) {
            self.inbox.push_back(Input::DirtyAll);
        }
        self.pump();
        to < limit_ms
    }

    /// Lets virtual time pass until this is so.
    pub(crate) fn until(&mut self, what: &str, test: impl Fn(&Self) -> bool) {
        let limit = self.now_ms + 3_600_000;
        while !test(self) {
            assert!(self.tick(limit), "never {what}:\n{}", self.story());
        }
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        let limit = self.now_ms + ms;
        while self.tick(limit) {}
    }

    /// Something happens to the world.
    pub(crate) fn happens<R>(&mut self, change: impl FnOnce(&mut World) -> R) -> R {
        let result = self.begins(change);
        self.pump();
        result
    }

    /// Something happens to the world, and more may before the machine has taken it in.
    pub(crate) fn begins<R>(&mut self, change: impl FnOnce(&mut World) -> R) -> R {
        let result = self.kernel.with(change);
        self.inbox.push_back(Input::DirtyAll);
        result
    }

    /// Sends a call without waiting for its answer.
    pub(crate) fn send(&mut self, command: Command) -> u64 {
        self.next_token += 1;
        let token = self.next_token;
        self.told
            .push(format!("{:>8} call {token} {command:?}", self.now_ms));
        self.inbox.push_back(Input::Call {
            token: Token(token),
            caller: "test".into(),
            command,
        });
        token
    }

    /// Sends a call that overtakes all that is on its way to the machine.
    pub(crate) fn send_first(&mut self, command: Command) -> u64 {
        let token = self.send(command);
        self.inbox.rotate_right(1);
        token
    }

    /// Calls, and lets time pass until the answer is there.
    pub(crate) fn call(&mut self, command: Command) -> Result<Reply, Error> {
        let token = self.send(command);
        self.pump();
        self.until("answered", |rig| rig.replies.contains_key(&token));
        self.replies[&token].clone()
    }

    pub(crate) fn lun(&self, name: &str) -> Lun {
        let lun = self
            .machine
            .snapshot()
            .luns
            .into_iter()
            .find(|lun| lun.name == name);
        lun.unwrap_or_else(|| panic!("no {name}:\n{}", self.story()))
    }

    /// Asks for a recovery without waiting for the answer.
    pub(crate) fn ask_recovery(&mut self, name: &str) {
        let lun = self.machine.resolve_lun(name).unwrap();
        self.send(Command::Recover {
            lun,
            spare: None,
            repair: false,
            dry_run: false,
        });
    }

    pub(crate) fn recover(&mut self, name: &str) -> Result<OpView, Error> {
        let lun = self.machine.resolve_lun(name)?;
        let command = Command::Recover {
            lun,
            spare: None,
            repair: false,
            dry_run: false,
        };
        match self.call(command)? {
            Reply::Op(op) => Ok(*op),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn op(&self, id: OpId) -> OpView {
        let op = self
            .machine
            .snapshot()
            .ops
            .into_iter()
            .find(|op| op.id == id);
        op.unwrap_or_else(|| panic!("no operation {id}:\n{}", self.story()))
    }

    pub(crate) fn finished(&mut self, id: OpId) -> OpView {
        self.until("finished", |rig| rig.op(id).ended_at_ms.is_some());
        self.op(id)
    }

    pub(crate) fn cancel(&mut self, op: OpId, release_spare: bool) -> Result<(), Error> {
        self.call(Command::Cancel { op, release_spare }).map(|_| ())
    }

    pub(crate) fn add_spare(&mut self, drive: &str) {
        let command = Command::SpareAdd {
            drive: drive.to_owned(),
            force: false,
        };
        self.call(command)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.story()));
    }

    /// Nothing that must never be true is true.
    pub(crate) fn sound(&self) {
        if let Err(wrong) = self.kernel.with(|world| world.check_invariants()) {
            panic!("{wrong}\n{}", self.story());
        }
        assert!(
            self.broken.is_empty(),
            "{:#?}\n{}",
            self.broken,
            self.story()
        );
    }

    pub(crate) fn story(&self) -> String {
        let tail = self.told.len().saturating_sub(60);
        let ops: Vec<String> = self
            .machine
            .snapshot()
            .ops
            .iter()
            .map(|op| format!("op {} {} {} % {}", op.id, op.state, op.percent, op.message))
            .collect();
        format!(
            "{}\n{}\n{:#?}",
            self.told[tail..].join("\n"),
            ops.join("\n"),
            self.machine
                .snapshot()
                .luns
                .iter()
                .map(|l| (l.name.clone(), l.health, l.sync.action.clone(), l.held))
                .collect::<Vec<_>>()
        )
    }
}
