//! Carrying an operation on: facts, plan, one action, facts again, until the kernel works or
//! nothing is left to do.

use super::task::{
    ActOwner, BUSY_MAX, FREEZE_GUARD_MS, RETRY_MS, START_WINDOW_MS, STEPS_MAX, Stage, Task,
};
use super::{ActId, Effect, Machine, Record, retired};
use crate::Error;
use crate::action::{Action, SyncWord};
use crate::facts::{ArrayFacts, SyncAction};
use crate::id::OpId;
use crate::model::Phase;
use crate::op::{OpEvent, OpState};
use crate::plan::{self, Plan, Request};
use crate::project;

/// `EBUSY`: the array does something else right now.
const EBUSY: i32 = 16;

impl Machine {
    /// Lets an operation do the next thing that it can do now.
    pub(super) fn advance(&mut self, id: OpId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let due = task.wake_at.is_none_or(|at| self.now.mono >= at);
        match task.stage.clone() {
            Stage::NeedFacts { scan } => {
                if due && !self.scan.in_flight && scan <= self.scan.started {
                    self.decide(id);
                }
            }
            Stage::Due { action } => self.send_due(id, action),
            Stage::Watching { since } => self.watch(id, since, due),
            Stage::Intent { .. } | Stage::Acting { .. } => {}
        }
    }

    /// Looks at an array that the kernel works on, or should.
    fn watch(&mut self, id: OpId, since: crate::id::Mono, due: bool) {
        let Some(op) = self.ops.get(&id) else { return };
        let lun = op.lun;
        let running = self.array_of(lun).and_then(project::syncing);
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        if let Some(action) = running {
            if self.is_another(id, action) {
                return self.look_again(id, None);
            }
            let Some(task) = self.tasks.get_mut(&id) else {
                return;
            };
            task.wake_at = None;
            self.seen_running(id, action);
            self.note_scrub(id);
            return;
        }
        let overdue = self.now.mono.since(since) >= START_WINDOW_MS;
        if task.sync_seen || overdue || (due && task.wake_at.is_some()) {
            self.look_again(id, None);
        } else if task.wake_at.is_none() {
            task.wake_at = Some(self.now.mono.after(RETRY_MS));
        }
    }

    fn seen_running(&mut self, id: OpId, action: SyncAction) {
        let now = self.now.mono;
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let first = !task.sync_seen;
        task.sync_seen = true;
        task.busy = 0;
        task.started_word = None;
        let cancelling = task.cancel.is_some();
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        if !first {
            return;
        }
        op.live.running_since = Some(now);
        // The daemon may have died between the kernel's consent and its record.
        let asked = op.request.is_some();
        let scrubs = matches!(action, SyncAction::Check | SyncAction::Repair);
        if asked && scrubs && Phase::of_action(action) == Some(op.phase) {
            op.work.scrub_started = true;
            op.work.rewrites = action == SyncAction::Repair;
        }
        let overtaken = !scrubs && op.work.scrub_started;
        let lun = op.lun;
        // A replacement or a re-add is a `recover` for the kernel; only what differs is renamed.
        if let Some(phase) = Phase::of_action(action)
            && !(action == SyncAction::Recover && matches!(op.phase, Phase::ReAdd | Phase::Replace))
        {
            op.phase = phase;
        }
        if overtaken {
            self.scrub_is_overtaken(id);
        }
        if !cancelling {
            self.go(id, OpEvent::Run);
            if asked {
                self.outrun_hold(lun);
            }
        }
    }

    /// Reads the facts again, at once or after a pause, and decides anew.
    pub(super) fn look_again(&mut self, id: OpId, pause_ms: Option<u64>) {
        let scan = self.want_deep_scan();
        let wake = pause_ms.map(|ms| self.now.mono.after(ms));
        if let Some(task) = self.tasks.get_mut(&id) {
            task.stage = Stage::NeedFacts { scan };
            task.wake_at = wake;
        }
    }

    /// With fresh facts: what is next?
    fn decide(&mut self, id: OpId) {
        let Some(op) = self.ops.get(&id) else { return };
        let (lun, adopted) = (op.lun, op.request.is_none());
        if let Some(task) = self.tasks.get_mut(&id) {
            task.wake_at = None;
        }
        if self.may_settle(lun) {
            return self.look_again(id, None);
        }
        if self.is_awaited(lun) {
            return self.wait_for_assembly(id);
        }
        if let Err(error) = self.known_lun(lun) {
            return self.finish_without(id, error);
        }
        if let Some(task) = self.tasks.get_mut(&id)
            && let Some((state, error, text)) = task.ending.take()
        {
            return self.end(id, state, error, text);
        }
        if self
            .tasks
            .get(&id)
            .is_some_and(|task| task.cancel.is_some())
        {
            return self.decide_cancel(id);
        }
        let Some(array) = self.array_of(lun).cloned() else {
            return;
        };
        if self.is_being_assembled(id, &array) || !self.recognise_targets(id, &array) {
            return self.look_again(id, Some(RETRY_MS));
        }
        self.take_up_again(id, &array);
        if self.lacks_probes(id) {
            return self.look_again(id, None);
        }
        if let Some(action) = project::syncing(&array) {
            if self.is_another(id, action) {
                return self.interrupt(id, "it was stopped, and something else runs now");
            }
            self.note_targets(id, &array);
            if let Some(task) = self.tasks.get_mut(&id) {
                task.stage = Stage::Watching {
                    since: self.now.mono,
                };
            }
            return self.seen_running(id, action);
        }
        let was_running = self.tasks.get(&id).is_some_and(|task| task.sync_seen);
        if was_running {
            self.go(id, OpEvent::Verify);
            if frozen(&array) && !self.holds.contains_key(&lun) && self.pending_rebuild(&array) {
                return self.interrupt(id, "somebody else froze the array");
            }
            self.judge_targets(id, &array);
            if let Some(task) = self.tasks.get_mut(&id) {
                task.sync_seen = false;
                task.last_progress = None;
            }
            self.work(id, |work| work.phases_done += 1);
        } else if array.dm().is_some() {
            // A leg that fails in its first moments is never seen to be filled.
            self.judge_targets(id, &array);
        }
        if adopted {
            return self.end_adopted(id, &array);
        }
        self.plan_next(id, &array);
    }

    /// Its LUN is not there, or is another one.
    fn finish_without(&mut self, id: OpId, error: Error) {
        let text = error.to_string();
        // What is gone has taken the ground from under the operation.
        let state = match error {
            Error::ObjectDeleted { .. } => OpState::Interrupted,
            _ => OpState::Failed,
        };
        self.finish(id, state, Some(error), text);
    }

    /// Candidates that came in sight only by the scan that just ended deserve a deep look first.
    /// Asked once in a row: a device that cannot be probed stays without a probe.
    pub(super) fn lacks_probes(&mut self, id: OpId) -> bool {
        let lacking = self.has_unprobed();
        let Some(task) = self.tasks.get_mut(&id) else {
            return false;
        };
        let asked = std::mem::replace(&mut task.asked_for_probes, lacking);
        lacking && !asked
    }

    fn pending_rebuild(&self, array: &ArrayFacts) -> bool {
        project::is_degraded(array)
    }

    /// Plans from fresh facts and takes the first step.
    fn plan_next(&mut self, id: OpId, array: &ArrayFacts) {
        if self.scrub_fell_short(id, array) {
            return;
        }
        if let Some(lun) = self.ops.get(&id).map(|op| op.lun) {
            self.note_reservations(lun);
        }
        self.leave_aside(id);
        let Some(op) = self.ops.get(&id) else { return };
        let Some(request) = self.effective_request(id) else {
            return self.complete(id, array);
        };
        let planned = self
            .context(op.lun, Some(op))
            .and_then(|context| plan::plan(&request, &context));
        match planned {
            Err(error @ Error::LunNotReady { .. })
                if request == Request::Verify && op.work.steps > 0 =>
            {
                let why = format!("the check was stopped and cannot be begun again: {error}");
                self.interrupt(id, &why);
            }
            // Its owner is at work on it: a table waits for its resume, LVM answers nobody else.
            Err(Error::LunNotReady { .. }) if array.dm().is_some() && self.bears_with(id) => {
                self.look_again(id, Some(RETRY_MS));
            }
            Err(error) => self.cannot_go_on(id, error, array),
            Ok(plan) if plan.phase == Phase::None => self.complete(id, array),
            Ok(plan) => {
                self.forget_passed_over(id, &plan, array);
                self.follow(id, &plan);
            }
        }
    }

    /// Whether an operation may look once more at what was in nobody's way for long so far.
    fn bears_with(&mut self, id: OpId) -> bool {
        let Some(task) = self.tasks.get_mut(&id) else {
            return false;
        };
        task.busy += 1;
        task.busy <= BUSY_MAX
    }

    /// What is still asked for: a scrub that was carried out is not asked for again.
    fn effective_request(&self, id: OpId) -> Option<Request> {
        let op = self.ops.get(&id)?;
        let scrubbed = op.work.scrub_started;
        match op.request.clone()? {
            Request::Verify if scrubbed => None,
            Request::Recover { .. } if scrubbed && op.phase == Phase::Check => None,
            Request::Recover { spare, repair } => Some(Request::Recover {
                spare,
                repair: repair && !scrubbed,
            }),
            Request::Replace { .. } if scrubbed => None,
            other => Some(other),
        }
    }

    fn follow(&mut self, id: OpId, plan: &Plan) {
        self.claim(id, plan);
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        op.phase = plan.phase;
        op.retiring
            .extend(plan.retires.iter().map(|member| member.id));
        for target in &plan.targets {
            if op.targets.iter().all(|other| other.id != target.id) {
                op.targets.push(target.clone());
            }
        }
        if op.message != plan.rule {
            op.message.clone_from(&plan.rule);
        }
        let Some(step) = plan.steps.first() else {
            return self.expect_running(id);
        };
        let action = step.action.clone();
        // The same start word again: the kernel accepted it and has not begun yet.
        let accepted = self.tasks.get(&id).and_then(|task| task.started_word);
        match action {
            Action::SetSync { word, .. } if accepted == Some(word) => self.expect_running(id),
            action => self.intend(id, action),
        }
    }

    /// The kernel should begin by itself now; it is given a bounded time to be seen at work.
    pub(super) fn expect_running(&mut self, id: OpId) {
        let now = self.now.mono;
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.busy += 1;
        if task.busy > BUSY_MAX {
            let name = self
                .ops
                .get(&id)
                .map_or_else(String::new, |op| op.lun_name.clone());
            let why = "the kernel accepted the request and does not begin".to_owned();
            return self.fail(
                id,
                Error::RecoveryFailed {
                    lun: name,
                    drive: None,
                    why,
                },
            );
        }
        task.stage = Stage::Watching { since: now };
        task.wake_at = Some(now.after(RETRY_MS));
    }

    /// Hands the intent to the ledger; the action follows when the ledger has answered.
    pub(super) fn intend(&mut self, id: OpId, action: Action) {
        let at = self.now.wall;
        let lun = self.ops.get(&id).map(|op| op.lun);
        self.puts_off_resync(id, &action);
        let array = lun.and_then(|lun| self.array_of(lun));
        let still = array.is_some_and(frozen);
        let own = array.map(|array| array.name.clone());
        let outlived = array.map_or_else(Vec::new, |array| {
            plan::outlived(&self.inventory, array, &action)
        });
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        op.live.steps_done += 1;
        op.work.steps += 1;
        let seq = op.work.steps;
        // The bound holds for all but the one step that lifts a freeze of its own at the end.
        let ending = self
            .tasks
            .get(&id)
            .is_some_and(|task| task.ending.is_some());
        if op.live.steps_done > STEPS_MAX && !ending {
            let why = format!("gave up after {STEPS_MAX} steps");
            let lun = op.lun_name.clone();
            let drive = None;
            return self.fail(id, Error::RecoveryFailed { lun, drive, why });
        }
        let cancelling = op.state == OpState::Cancelling;
        if retired::takes_in(&action)
            && let Some(drive) = action.drive()
        {
            // Recorded before the act, so that a release after a crash knows whose it is.
            op.added.insert(drive.id);
        }
        op.retiring.extend(outlived);
        if let Action::RemoveMember { array, drive } = &action
            && Some(array) != own.as_ref()
        {
            // Out of the one array and not in the other yet: it is found again by this.
            op.moved.insert(drive.id);
        }
        let freezes = matches!(&action, Action::SetSync { word, .. } if *word == SyncWord::Frozen);
        op.work.froze |= freezes;
        // mdadm freezes around an add (`Manage.c:Manage_subdevs`), unless the array is frozen.
        op.work.tool_freezes =
            !still && matches!(action, Action::AddSpare { .. } | Action::ReAdd { .. });
        if !cancelling {
            self.go(id, OpEvent::Prepare);
        }
        self.persist_op(id);
        let persist = self.persist(Record::Intent {
            op: id,
            seq,
            action: action.clone(),
            at,
        });
        if let Some(task) = self.tasks.get_mut(&id) {
            task.stage = Stage::Intent { persist, action };
            task.wake_at = None;
        }
    }

    pub(super) fn send(&mut self, id: OpId, action: Action) {
        let act = self.act(ActOwner::Op(id), action.clone());
        if let Some(task) = self.tasks.get_mut(&id) {
            task.acts += 1;
            task.stage = Stage::Acting {
                id: act,
                action,
                late: false,
            };
        }
    }

    /// Acts at once: an operation has waited for its record, and what holds a LUN again needs none.
    pub(super) fn act(&mut self, owner: ActOwner, action: Action) -> ActId {
        let (id, effect) = self.prepared(owner, action);
        self.out.push(effect);
        id
    }

    /// An action that counts as under way from now on, yet to be handed out.
    pub(super) fn prepared(&mut self, owner: ActOwner, action: Action) -> (ActId, Effect) {
        let id = ActId(self.fresh_id());
        self.acts.insert(id, owner);
        let effect = Effect::Act {
            id,
            action,
            deadline_ms: self.policy.deadline_ms,
        };
        (id, effect)
    }

    pub(super) fn on_act_late(&mut self, id: ActId) {
        let Some(ActOwner::Op(op)) = self.acts.get(&id).cloned() else {
            self.light_late(id);
            self.hints_late(id);
            return self.hold_act_late(id);
        };
        if let Some(Task {
            stage: Stage::Acting { late, .. },
            ..
        }) = self.tasks.get_mut(&op)
        {
            *late = true;
        }
        self.tell_late(op);
    }

    pub(super) fn on_acted(&mut self, id: ActId, result: Result<(), Error>) {
        let owner = self.acts.remove(&id);
        let lun = match &owner {
            Some(ActOwner::Op(op)) => self.ops.get(op).map(|op| op.lun),
            Some(
                ActOwner::Release { lun, .. }
                | ActOwner::Reassert { lun }
                | ActOwner::Pace { lun, .. }
                | ActOwner::Bitmap { lun },
            ) => Some(*lun),
            Some(ActOwner::Light { .. }) | None => None,
        };
        if let Some(lun) = lun {
            self.facts_from.insert(lun, self.scan.started + 1);
        }
        match owner {
            Some(ActOwner::Op(op)) => self.op_acted(op, result),
            Some(ActOwner::Release { lun, token, rest }) => {
                self.released_by_call(lun, token, rest, result);
            }
            Some(ActOwner::Reassert { lun }) => self.reasserted(lun, result),
            Some(ActOwner::Light { token, .. }) => self.lit(token, result),
            Some(ActOwner::Pace { lun, .. }) => self.paced(lun, result),
            Some(ActOwner::Bitmap { lun }) => self.bitmap_changed(lun, result),
            None => {}
        }
    }

    fn op_acted(&mut self, id: OpId, result: Result<(), Error>) {
        let at = self.now.wall;
        let seq = self.ops.get(&id).map_or(0, |op| op.work.steps);
        let error = result.as_ref().err().cloned();
        self.persist(Record::Outcome {
            op: id,
            seq,
            error,
            at,
        });
        self.work(id, |work| work.tool_freezes = false);
        let Some(Stage::Acting { action, .. }) = self.tasks.get(&id).map(|task| task.stage.clone())
        else {
            return;
        };
        match result {
            Ok(()) => self.step_done(id, &action),
            Err(error) => self.step_failed(id, &action, error),
        }
    }

    fn step_done(&mut self, id: OpId, action: &Action) {
        let lun = self.ops.get(&id).map(|op| op.lun);
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.last_error = None;
        task.busy = 0;
        task.started_word = None;
        if let Action::AddSpare { drive, .. }
        | Action::ReAdd { drive, .. }
        | Action::Revive { drive, .. }
        | Action::ReplaceLeg { drive, .. } = action
        {
            task.attached.insert(drive.id);
        }
        if let (Action::ForgetLeg { drive, .. }, Some(op)) = (action, self.ops.get_mut(&id)) {
            op.retiring.remove(&drive.id);
        }
        let mut ends_hold = false;
        if let Action::SetSync { word, .. } = action {
            let scrubs = matches!(word, SyncWord::Check | SyncWord::Repair);
            if let Some(op) = self.ops.get_mut(&id).filter(|_| scrubs) {
                // How long this one runs counts from when it is seen.
                op.live.running_since = None;
            }
            // A word of the preparation that was under way when the cancel came stops nothing.
            if let Some(cancel) = task.cancel.as_mut().filter(|cancel| cancel.stopping)
                && matches!(word, SyncWord::Frozen | SyncWord::Idle)
            {
                cancel.thawed = cancel.stopped && *word == SyncWord::Idle;
                cancel.stopped = true;
            }
            if *word != SyncWord::Frozen {
                task.started_word = Some(*word);
                ends_hold = task.cancel.is_none();
            }
            self.work(id, |work| {
                // Any other word lifts a freeze.
                work.froze &= *word == SyncWord::Frozen;
                if matches!(word, SyncWord::Check | SyncWord::Repair) {
                    work.scrub_started = true;
                    work.rewrites = *word == SyncWord::Repair;
                }
            });
        }
        if ends_hold && let Some(lun) = lun {
            self.drop_hold(lun);
        }
        self.look_again(id, None);
    }

    fn step_failed(&mut self, id: OpId, action: &Action, error: Error) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        if task.cancel.is_some() {
            return self.cancel_failed(id, error);
        }
        let busy = matches!(&error, Error::Kernel { errno, .. } if *errno == EBUSY);
        if busy && action.drive().is_none() {
            task.busy += 1;
            if task.busy <= BUSY_MAX {
                task.last_error = Some(error);
                return self.look_again(id, Some(RETRY_MS));
            }
        }
        // The array has changed under the plan: that is no fault of the drive, and planned anew.
        if matches!(&error, Error::LunNotReady { .. }) && task.busy < BUSY_MAX {
            task.busy += 1;
            task.last_error = Some(error);
            return self.look_again(id, Some(RETRY_MS));
        }
        let Some(drive) = action.drive().cloned() else {
            return self.fail(id, error);
        };
        task.last_error = Some(error.clone());
        let lun = self.ops.get_mut(&id).map(|op| {
            op.tried.insert(drive.id);
            op.lun
        });
        if let Some(lun) = lun.filter(|_| retired::tells_of_a_failure(action, &error)) {
            self.retire_on_use(drive.id, lun);
        }
        let text = format!("/dev/{}: {error}", drive.name);
        self.notify(None, lun, Some(id), text);
        self.look_again(id, None);
    }

    /// Whether a freeze would come too soon after a start, and when it may come.
    pub(super) fn freeze_guard(&self, id: OpId) -> Option<crate::id::Mono> {
        let since = self.ops.get(&id)?.live.running_since?;
        let until = since.after(FREEZE_GUARD_MS);
        (self.now.mono < until).then_some(until)
    }
}

pub(super) fn frozen(array: &ArrayFacts) -> bool {
    array.sync.as_ref().is_some_and(|sync| {
        sync.action
            .is_known_and(|action| *action == SyncAction::Frozen)
    })
}
