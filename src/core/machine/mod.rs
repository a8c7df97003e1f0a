//! The machine: `step(now, input) -> effects`. It owns what is known and what is under way; the
//! driver around it only carries inputs in and effects out.
//!
//! Hints only mark things dirty; every decision is taken on facts that were read after the event
//! that asked for it. At most one action per LUN is outstanding. An action is sent only after
//! its intent was handed to the ledger and the ledger answered (well or ill).

mod auto;
mod boot;
mod calls;
mod cancel;
mod coverage;
mod exec;
mod finish;
mod hints;
mod holds;
mod io;
mod ledger;
mod lights;
mod names;
mod pool_rules;
mod prefail;
mod progress;
#[cfg(test)]
mod properties;
mod reads;
mod reserve;
mod resume;
mod retired;
mod scrub;
mod seen;
mod targets;
mod task;
mod told;
mod view;
mod words;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::{ArrayFacts, Inventory};
use crate::id::{DevNo, DriveId, LunId, Mono, Now, OpId, Wall};
use crate::model::{Coverage, Lun, NotificationEvent, Retired};
use crate::op::Op;
use crate::plan::{Hints, Loan, PoolEntry, Reservation};
use crate::policy::Policy;

pub use hints::HintWish;
pub use view::op_view;

pub use io::{
    ActId, Command, Effect, Input, LedgerState, Loss, LossKind, PersistId, Record, Reply,
    SeenDrive, SeenLun, Snapshot, Token,
};
use task::{ActOwner, Pending, Task};

/// A LUN as the machine knows it.
#[derive(Debug, Clone)]
struct Entry {
    /// Kernel name of its array.
    array: String,
    /// The model, without the running operation.
    lun: Lun,
    /// What the kernel says instead, and in how many scans in a row it did.
    contradiction: Option<(String, u32)>,
    /// When it was last seen healthy.
    healthy_at: Option<Wall>,
    /// As [`SeenLun::unproven`].
    unproven: bool,
    /// As [`SeenLun::hints`].
    hints: Hints,
    /// When the ledger was told of it last.
    recorded_at: Wall,
    /// How it was left when nobody looked, until it is known how it is now.
    left: Option<SeenLun>,
}

/// Which scan is wanted and which is under way.
#[derive(Debug, Default)]
struct ScanState {
    in_flight: bool,
    wanted: bool,
    probe: BTreeSet<DevNo>,
    events_of: BTreeSet<String>,
    groups: BTreeSet<String>,
    /// Number of the scan that runs, or ran last.
    started: u64,
    /// When the last one ended.
    ended_at: Mono,
}

/// The whole of lund's knowledge and work; see the module's text.
#[derive(Debug)]
pub struct Machine {
    policy: Policy,
    now: Now,
    started: bool,
    inventory: Inventory,
    luns: BTreeMap<LunId, Entry>,
    gone: BTreeMap<LunId, SeenLun>,
    /// Drives of LUNs and of the pool, present and past.
    seen_drives: BTreeMap<DriveId, SeenDrive>,
    /// Those of them that are out of use.
    retired: BTreeMap<DriveId, Retired>,
    /// What each LUN has to leave to others, as of its last plan.
    reserved: BTreeMap<LunId, Vec<Reservation>>,
    /// Spares of other arrays that each LUN may have, as of its last plan.
    loans: BTreeMap<LunId, Vec<Loan>>,
    /// Spares on their way from one array to another, and whose they are, as of the last plan.
    promised: BTreeMap<DriveId, OpId>,
    /// Whether a spare is there for each LUN, by the facts of the last scan.
    coverage: BTreeMap<LunId, Coverage>,
    /// Errors of members that have not failed.
    prefail: prefail::Prefail,
    /// Drives that the rules of the pool speak of.
    ruled: pool_rules::Ruled,
    ops: BTreeMap<OpId, Op>,
    tasks: BTreeMap<OpId, Task>,
    last_op: u64,
    pool: Vec<PoolEntry>,
    holds: BTreeMap<LunId, (String, Wall)>,
    /// Held LUNs whose recovery the kernel runs all the same, with the moment it was first seen.
    hold_broken_at: BTreeMap<LunId, Mono>,
    /// How often in a row a LUN that looked like this could not be held again.
    hold_refused: BTreeMap<LunId, (u32, ArrayFacts)>,
    /// Until then LUNs of the ledger that are not there may still be assembled.
    await_until: Mono,
    /// What is yet to be found out after a start of the host.
    boot: Option<boot::Boot>,
    ledger_degraded: Option<String>,
    /// The last of the records that a ledger is told anew which can be written again.
    retold: Option<PersistId>,
    scan: ScanState,
    /// Arrays being read.
    reading: BTreeMap<String, reads::Reading>,
    /// Arrays whose reading ended beside the scan that is under way.
    overlapped: BTreeSet<String>,
    /// When each array was read last, and which are to be read when their pause is over: under
    /// load `array_state` changes several times a second.
    read_at: BTreeMap<String, Mono>,
    read_later: BTreeMap<String, Mono>,
    /// Since when an array has members and neither identity nor level: put together just now, or
    /// left so for want of members.
    half_since: BTreeMap<String, Mono>,
    /// Since when a LUN is seen as not ready (ADR 0008).
    not_ready_since: BTreeMap<LunId, Mono>,
    progress_in_flight: bool,
    progress_at: Mono,
    pending: Vec<Pending>,
    acts: BTreeMap<ActId, ActOwner>,
    /// The first scan whose facts are newer than the last action on a LUN.
    facts_from: BTreeMap<LunId, u64>,
    next_id: u64,
    tuning: hints::Tuning,
    told: told::Told,
    auto: auto::Auto,
    out: Vec<Effect>,
    changed: bool,
}

impl Machine {
    /// A machine that knows nothing yet; its first input must be [`Input::Start`].
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            now: Now::default(),
            started: false,
            inventory: Inventory::default(),
            luns: BTreeMap::new(),
            gone: BTreeMap::new(),
            seen_drives: BTreeMap::new(),
            retired: BTreeMap::new(),
            reserved: BTreeMap::new(),
            loans: BTreeMap::new(),
            promised: BTreeMap::new(),
            coverage: BTreeMap::new(),
            prefail: prefail::Prefail::default(),
            ruled: pool_rules::Ruled::default(),
            ops: BTreeMap::new(),
            tasks: BTreeMap::new(),
            last_op: 0,
            pool: Vec::new(),
            holds: BTreeMap::new(),
            hold_broken_at: BTreeMap::new(),
            hold_refused: BTreeMap::new(),
            await_until: Mono::default(),
            boot: None,
            ledger_degraded: None,
            retold: None,
            scan: ScanState::default(),
            reading: BTreeMap::new(),
            overlapped: BTreeSet::new(),
            read_at: BTreeMap::new(),
            read_later: BTreeMap::new(),
            half_since: BTreeMap::new(),
            not_ready_since: BTreeMap::new(),
            progress_in_flight: false,
            progress_at: Mono::default(),
            pending: Vec::new(),
            acts: BTreeMap::new(),
            facts_from: BTreeMap::new(),
            next_id: 0,
            tuning: hints::Tuning::default(),
            told: told::Told::default(),
            auto: auto::Auto::default(),
            out: Vec::new(),
            changed: false,
        }
    }

    /// Takes one input and says what is to be done. Never blocks and never fails: a failure is
    /// an effect too.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.now = now;
        match input {
            Input::Start(state) => self.on_start(*state),
            Input::Call {
                token,
                caller,
                command,
            } => self.on_call(token, caller, command),
            Input::DirtyArray(name) => self.on_dirty_array(name),
            Input::DirtyAll => self.scan.wanted = true,
            Input::Scanned(result) => self.on_scanned(result),
            Input::ArrayRead { name, result } => self.on_array_read(&name, result),
            Input::Progress(result) => self.on_progress(result),
            Input::Acted { id, result } => self.on_acted(id, result),
            Input::ActLate { id } => self.on_act_late(id),
            Input::Persisted { id, result } => self.on_persisted(id, result),
            Input::Timer => self.on_timer(),
            Input::Policy(policy) => self.on_policy(policy),
            Input::Stop => {
                self.farewell();
                return std::mem::take(&mut self.out);
            }
        }
        self.settle();
        self.let_out();
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Timer`] is wanted, if nothing else comes first.
    #[must_use]
    pub fn next_wake(&self) -> Option<Mono> {
        if !self.started {
            return None;
        }
        let rescan = self.scan.ended_at.after(self.policy.rescan_ms);
        let progress = self
            .wants_progress()
            .then(|| self.progress_at.after(self.policy.progress_ms));
        // A task that waits for facts is woken by the scan that brings them.
        let tasks = self
            .tasks
            .values()
            .filter(|task| task.is_watching() || !self.scan.in_flight)
            .filter_map(|task| task.wake_at)
            .min();
        let holds = self
            .hold_broken_at
            .values()
            .min()
            .map(|at| at.after(task::FREEZE_GUARD_MS));
        let rescan = (!self.scan.in_flight).then_some(rescan);
        let reads = self.read_later.values().min().copied();
        let halves = self
            .half_since
            .values()
            .map(|at| at.after(world::HALF_MS))
            .filter(|at| *at > self.now.mono)
            .min();
        let awaited = self.awaits_any().then_some(self.await_until);
        // While a scan runs its end comes first.
        let decision = self.next_decision().filter(|_| !self.scan.in_flight);
        [
            rescan, progress, tasks, holds, reads, halves, awaited, decision,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_start(&mut self, state: LedgerState) {
        self.started = true;
        if state.rebooted {
            self.await_until = self.now.mono.after(resume::ASSEMBLY_MS);
            self.boot = Some(boot::Boot::after(&state));
        }
        self.last_op = state.last_op;
        self.pool = state.pool;
        self.holds = state.holds;
        self.ledger_degraded = state.degraded;
        for seen in state.luns {
            self.gone.insert(seen.id, seen);
        }
        for seen in state.drives {
            if let Some(retired) = &seen.retired {
                self.retired.insert(seen.id, retired.clone());
            }
            self.seen_drives.insert(seen.id, seen);
        }
        self.start_deciding(state.rebooted);
        for mut op in state.ops {
            // A tool that was at work died with the daemon: the freeze it may have left is ours.
            op.work.froze |= std::mem::take(&mut op.work.tool_freezes);
            self.last_op = self.last_op.max(op.id.0);
            if !op.state.is_finished() {
                self.tasks.insert(op.id, Task::resumed(&op));
            }
            self.ops.insert(op.id, op);
        }
        self.scan.wanted = true;
        self.want_deep_scan();
        self.changed = true;
        if let Some(why) = &self.ledger_degraded {
            let text = format!("the ledger is degraded, going on in memory: {why}");
            self.notify(None, None, None, text);
        }
    }

    /// Other tunables, from now on. What is under way goes on; what is counted or timed by them is
    /// counted and timed anew.
    fn on_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.auto.dirty = true;
        self.forget_old();
        self.changed = true;
    }

    fn on_timer(&mut self) {
        let now = self.now.mono;
        let due: Vec<String> = self
            .read_later
            .iter()
            .filter(|(_, at)| now >= **at)
            .map(|(name, _)| name.clone())
            .collect();
        self.scan.wanted |= self.half_has_lasted() || self.awaits_in_vain();
        for name in due {
            self.read_later.remove(&name);
            self.on_dirty_array(name);
        }
        if self.now.mono >= self.scan.ended_at.after(self.policy.rescan_ms) && !self.scan.in_flight
        {
            self.scan.wanted = true;
        }
        if self.wants_progress()
            && !self.progress_in_flight
            && self.now.mono >= self.progress_at.after(self.policy.progress_ms)
        {
            self.progress_in_flight = true;
            self.out.push(Effect::ReadProgress);
        }
    }

    /// Progress is read only while something moves.
    fn wants_progress(&self) -> bool {
        !self.progress_in_flight && self.tasks.values().any(Task::is_watching)
    }

    /// What every step ends with: operations move on, holds and hints are kept, the wanted scan starts.
    fn settle(&mut self) {
        if !self.started {
            return;
        }
        let ids: Vec<OpId> = self.tasks.keys().copied().collect();
        for id in ids {
            self.advance(id);
        }
        self.keep_holds();
        self.keep_pace();
        self.consider();
        if self.scan.wanted && !self.scan.in_flight {
            self.scan.wanted = false;
            self.scan.in_flight = true;
            self.scan.started += 1;
            self.out.push(Effect::Scan {
                probe: std::mem::take(&mut self.scan.probe),
                events_of: std::mem::take(&mut self.scan.events_of),
                groups: std::mem::take(&mut self.scan.groups),
            });
        }
    }

    /// Asks for a scan that also looks deep into every candidate, and says which scan that is.
    fn want_deep_scan(&mut self) -> u64 {
        let (probe, events_of) = self.deep_request();
        self.scan.probe.extend(probe);
        self.scan.events_of.extend(events_of);
        self.scan.groups.extend(self.groups_wanted());
        self.scan.wanted = true;
        self.scan.started + 1
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn persist_op(&mut self, id: OpId) {
        if let Some(op) = self.ops.get(&id) {
            let record = Record::Op(Box::new(op.clone()));
            self.persist(record);
        }
        self.changed = true;
    }

    fn notify(
        &mut self,
        event: Option<NotificationEvent>,
        lun: Option<LunId>,
        op: Option<OpId>,
        text: String,
    ) {
        self.out.push(Effect::Notify {
            event,
            lun,
            op,
            text,
        });
    }
}
