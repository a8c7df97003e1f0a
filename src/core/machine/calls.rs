//! Clients' calls: each waits for facts that are newer than itself, then is checked and answered.

use std::collections::BTreeSet;

use super::task::{Cancel, Pending, Stage, Task};
use super::{Command, Machine, Record, Reply, Token};
use crate::Error;
use crate::error::{ObjectKind, Unfit};
use crate::id::{DriveId, LunId, OpId};
use crate::model::{OpKind, Origin, Phase};
use crate::op::{Caller, Live, Op, OpState, Standing, StateChange, Work};
use crate::plan::{self, Context, Plan, Request, Verdict};

impl Machine {
    pub(super) fn on_call(&mut self, token: Token, caller: Caller, command: Command) {
        if let Command::Cancel { op, release_spare } = command {
            self.begin_cancel(token, op, release_spare);
            return;
        }
        let scan = self.want_deep_scan();
        // A drive that is named must be looked into as well, whatever is known of it.
        let named = match &command {
            Command::Recover {
                spare: Some(drive), ..
            }
            | Command::Replace {
                with: Some(drive), ..
            }
            | Command::SpareAdd { drive, .. } => self.resolve_drive(drive).ok(),
            _ => None,
        };
        if let Some(dev) = named
            .and_then(|id| self.device_of(id))
            .map(|device| device.dev)
            && !self.member_devices().contains(&dev)
        {
            self.scan.probe.insert(dev);
        }
        self.pending.push(Pending {
            token,
            caller,
            command,
            scan,
        });
    }

    /// Answers the calls for which the scan that just ended is new enough.
    pub(super) fn answer_pending(&mut self) {
        let done = self.scan.started;
        let (due, later): (Vec<Pending>, Vec<Pending>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|call| call.scan <= done);
        self.pending = later;
        for call in due {
            self.answer(call);
        }
    }

    pub(super) fn fail_pending(&mut self, error: &Error) {
        for call in std::mem::take(&mut self.pending) {
            self.reply(call.token, Err(error.clone()));
        }
    }

    fn answer(&mut self, call: Pending) {
        let lun = lun_of(&call.command);
        let stale = |lun| {
            self.facts_from
                .get(&lun)
                .is_some_and(|scan| *scan > self.scan.started)
        };
        if lun.is_some_and(|lun| self.is_paced(lun)) {
            // What ends that asks for the scan.
            let scan = self.scan.started + 1;
            self.pending.push(Pending { scan, ..call });
            return;
        }
        if lun.is_some_and(|lun| self.may_settle(lun) || stale(lun)) {
            // One re-read may settle the contradiction; and what was read while an action of ours was
            // under way tells nothing of its effect.
            let scan = self.want_deep_scan();
            self.pending.push(Pending { scan, ..call });
            return;
        }
        if self.needs_a_probe(&call) {
            let scan = self.want_deep_scan();
            self.pending.push(Pending { scan, ..call });
            return;
        }
        let token = call.token;
        let result = match call.command {
            Command::Recover {
                lun,
                spare,
                repair,
                dry_run,
            } => self.optional_drive(spare.as_deref()).and_then(|spare| {
                let request = Request::Recover { spare, repair };
                self.start(&call.caller, lun, OpKind::Recover, request, dry_run)
            }),
            Command::Replace {
                lun,
                drive,
                with,
                dry_run,
            } => self
                .resolve_drive(&drive)
                .and_then(|drive| Ok((drive, self.optional_drive(with.as_deref())?)))
                .and_then(|(drive, with)| {
                    let request = Request::Replace { drive, with };
                    self.start(&call.caller, lun, OpKind::Replace, request, dry_run)
                }),
            Command::Verify { lun } => {
                self.start(&call.caller, lun, OpKind::Verify, Request::Verify, false)
            }
            Command::Explain { lun } => self.explain(lun),
            Command::Release { lun } => return self.release(token, lun),
            Command::Light { drive, on } => return self.light(token, &drive, on),
            Command::ApplyHints { lun, wish } => {
                return self.apply_hints(token, call.caller, lun, wish);
            }
            Command::SpareAdd { drive, force } => self.spare_add(&drive, force),
            Command::SpareRemove { drive } => self.spare_remove(&drive),
            Command::Refresh => {
                self.accept_contradictions();
                self.judge_rules_anew();
                Ok(Reply::Done)
            }
            Command::Reenumerate => Ok(Reply::Done),
            Command::Cancel { .. } => Ok(Reply::Done),
        };
        self.reply(token, result);
    }

    /// A drive came in sight only by the scan that the call waited for: look into it too.
    fn needs_a_probe(&mut self, call: &Pending) -> bool {
        let named = match &call.command {
            Command::Recover {
                spare: Some(drive), ..
            }
            | Command::Replace {
                with: Some(drive), ..
            }
            | Command::SpareAdd { drive, .. } => self.resolve_drive(drive).ok(),
            _ => None,
        };
        let (mut missing, _) = self.deep_request();
        missing.extend(
            named
                .and_then(|id| self.device_of(id))
                .map(|device| device.dev),
        );
        let members = self.member_devices();
        missing.retain(|dev| !self.inventory.probes.contains_key(dev) && !members.contains(dev));
        // Asked once only: a device that cannot be probed stays without a probe.
        let asked = call.scan > 1 && missing.iter().all(|dev| self.scan.probe.contains(dev));
        let wanted = !missing.is_empty() && !asked && call.scan + 4 > self.scan.started;
        self.scan.probe.extend(missing);
        wanted
    }

    fn optional_drive(&self, name: Option<&str>) -> Result<Option<DriveId>, Error> {
        name.map(|name| self.resolve_drive(name)).transpose()
    }

    /// What the kernel says contradicts what is known, and has been asked once only.
    pub(super) fn may_settle(&self, lun: LunId) -> bool {
        let contradiction = self.luns.get(&lun).and_then(|e| e.contradiction.as_ref());
        contradiction.is_some_and(|(_, times)| *times < 2)
    }

    /// What has to be true of a LUN before anything else is looked at.
    pub(super) fn known_lun(&self, lun: LunId) -> Result<(), Error> {
        if let Some(error) = self.not_assembled_yet(lun) {
            return Err(error);
        }
        let Some(entry) = self.luns.get(&lun) else {
            return Err(match self.gone.get(&lun) {
                Some(seen) => Error::ObjectDeleted {
                    kind: ObjectKind::Lun,
                    again: seen.recreate.clone(),
                    name: seen.name.clone(),
                },
                None => Error::ObjectNotFound {
                    kind: ObjectKind::Lun,
                    name: lun.to_string(),
                    known: self
                        .luns
                        .values()
                        .map(|entry| entry.array.clone())
                        .collect(),
                },
            });
        };
        if let Some((kernel, _)) = &entry.contradiction {
            return Err(Error::CacheCorrupt {
                lun: entry.array.clone(),
                cached: format!("{} is {lun}", entry.array),
                kernel: kernel.clone(),
            });
        }
        Ok(())
    }

    /// Begins an operation, or shows what it would do.
    pub(super) fn start(
        &mut self,
        caller: &Caller,
        lun: LunId,
        kind: OpKind,
        request: Request,
        dry_run: bool,
    ) -> Result<Reply, Error> {
        self.known_lun(lun)?;
        self.note_reservations(lun);
        let busy = self.busy_with(lun);
        let context = self.context(lun, None)?;
        plan::check(&request, &context, busy)?;
        if self.is_written_to(lun) {
            return Err(Error::AnotherCall {
                lun: context.array.name.clone(),
                op: None,
                doing: "its hold or its hints are being applied".to_owned(),
            });
        }
        let plan = plan::plan(&request, &context)?;
        if dry_run {
            return Ok(Reply::Plan(Box::new(plan)));
        }
        let id = self.create_op(
            caller.clone(),
            lun,
            kind,
            Some(request),
            Origin::Client,
            &plan,
        );
        if plan.phase == Phase::None {
            self.finish(
                id,
                OpState::Succeeded,
                None,
                "nothing is wrong: nothing was done".into(),
            );
        }
        let view = self.op_view(id).ok_or_else(|| Error::Internal {
            what: "lost an operation".into(),
        })?;
        Ok(Reply::Op(Box::new(view)))
    }

    fn explain(&mut self, lun: LunId) -> Result<Reply, Error> {
        self.known_lun(lun)?;
        self.note_reservations(lun);
        let context = self.context(lun, None)?;
        let mut explanation = plan::explain(&context, self.busy_with(lun));
        explanation.lun.operation = self.running_op(lun);
        explanation.decision = self.last_decision(lun).cloned();
        Ok(Reply::Explanation(Box::new(explanation)))
    }

    /// The unfinished operation of ours on a LUN.
    pub(super) fn busy_with(&self, lun: LunId) -> Option<(OpId, String)> {
        self.ops
            .values()
            .find(|op| op.lun == lun && !op.state.is_finished())
            .map(|op| {
                (
                    op.id,
                    format!("operation {} is {}: {}", op.id, op.state, op.message),
                )
            })
    }

    pub(super) fn context<'a>(
        &'a self,
        lun: LunId,
        op: Option<&'a Op>,
    ) -> Result<Context<'a>, Error> {
        static NONE: BTreeSet<DriveId> = BTreeSet::new();
        let gone = || Error::ObjectDeleted {
            kind: ObjectKind::Lun,
            again: Vec::new(),
            name: lun.to_string(),
        };
        let entry = self.luns.get(&lun).ok_or_else(gone)?;
        let array = self.inventory.arrays.get(&entry.array).ok_or_else(gone)?;
        Ok(Context {
            inventory: &self.inventory,
            array,
            lun: &entry.lun,
            unproven: entry.unproven,
            pool: &self.pool,
            retired: &self.retired,
            extend_groups: self.policy.extend_groups,
            aside: op
                .filter(|op| op.origin == Origin::Policy)
                .map(|op| self.left_aside(op.lun)),
            reserved: self.reserved.get(&lun).map_or(&[], Vec::as_slice),
            loans: self.loans.get(&lun).map_or(&[], Vec::as_slice),
            promised: &self.promised,
            moved: op.map_or(&NONE, |op| &op.moved),
            op: op.map(|op| op.id),
            tried: op.map_or(&NONE, |op| &op.tried),
            added: op.map_or(&NONE, |op| &op.added),
            retiring: op.map_or(&NONE, |op| &op.retiring),
        })
    }

    pub(super) fn create_op(
        &mut self,
        asked_by: impl Into<Caller>,
        lun: LunId,
        kind: OpKind,
        request: Option<Request>,
        origin: Origin,
        plan: &Plan,
    ) -> OpId {
        let asked_by = asked_by.into();
        self.last_op += 1;
        let id = OpId(self.last_op);
        let lun_name = self
            .luns
            .get(&lun)
            .map_or_else(|| lun.to_string(), |entry| entry.array.clone());
        let op = Op {
            id,
            kind,
            lun,
            lun_name: lun_name.clone(),
            request,
            origin,
            asked_by: asked_by.name,
            asked_uid: asked_by.uid,
            state: OpState::Queued,
            error: None,
            phase: plan.phase,
            targets: plan.targets.clone(),
            added: BTreeSet::new(),
            retiring: BTreeSet::new(),
            moved: BTreeSet::new(),
            tried: BTreeSet::new(),
            percent: 0,
            started_at: self.now.wall,
            ended_at: None,
            message: plan.rule.clone(),
            before: self.luns.get(&lun).map(|entry| Standing::of(&entry.lun)),
            after: None,
            states: vec![StateChange {
                state: OpState::Queued,
                at: self.now.wall,
            }],
            work: Work {
                phases_expected: 1 + u32::from(plan.leaves_missing > 0),
                ..Work::default()
            },
            live: Live::default(),
        };
        self.ops.insert(id, op);
        // The facts are those of the scan that just ended: the first step may follow at once.
        let scan = self.scan.started;
        self.tasks.insert(id, Task::new(Stage::NeedFacts { scan }));
        self.claim(id, plan);
        self.persist_op(id);
        let text = format!("operation {id} on {lun_name}: {}", plan.rule);
        self.notify(None, Some(lun), Some(id), text);
        id
    }

    /// Marks the pool drives that a plan takes, so that no other operation takes them too. A drive that
    /// becomes a physical volume is no target yet, and nothing holds it open.
    pub(super) fn claim(&mut self, op: OpId, plan: &Plan) {
        let targets = plan.targets.iter().map(|target| target.id);
        let candidates = plan.candidates.iter();
        let spares = candidates.filter(|candidate| candidate.verdict == Verdict::Taken);
        let taken: BTreeSet<DriveId> = targets
            .chain(spares.map(|candidate| candidate.drive.id))
            .collect();
        let mut records = Vec::new();
        for entry in &mut self.pool {
            if taken.contains(&entry.id) && entry.claimed_by.is_none() {
                entry.claimed_by = Some(op);
                records.push(entry.clone());
            }
        }
        for entry in records {
            self.persist(Record::Pool(entry));
        }
    }

    fn spare_add(&mut self, name: &str, force: bool) -> Result<Reply, Error> {
        let id = self.resolve_drive(name)?;
        if let Some(at) = self.pool.iter().position(|entry| entry.id == id) {
            return self.spare_again(at, force);
        }
        let device = self.device_of(id).ok_or_else(|| Error::DriveRefused {
            drive: name.to_owned(),
            unfit: Unfit::NotPresent,
        })?;
        let entry = plan::refuse_registration(&self.inventory, device.dev, force)?;
        if let Some(retired) = self.retired.get(&id).filter(|_| !force) {
            let what = retired.text();
            return Err(Error::DriveRefused {
                drive: name.to_owned(),
                unfit: Unfit::Retired { what },
            });
        }
        self.unretire(id);
        let text = format!("{name} ({}) joins the spare pool", entry.stable_name);
        self.pool.push(entry.clone());
        self.persist(Record::Pool(entry.clone()));
        self.pool_has_changed();
        self.notify(
            Some(crate::model::NotificationEvent::DriveModify),
            None,
            None,
            text,
        );
        self.reproject_all();
        self.note_coverage();
        Ok(Reply::Drive(Box::new(self.pool_drive(&entry))))
    }

    /// A drive of the pool is registered once more: `force` says that it is sound after all.
    fn spare_again(&mut self, at: usize, force: bool) -> Result<Reply, Error> {
        let lost = || Error::Internal {
            what: "lost a drive of the pool".into(),
        };
        let mut entry = self.pool.get(at).cloned().ok_or_else(lost)?;
        let by_rule = entry.rule.take().is_some();
        if by_rule {
            // Registered by somebody, it stays when the rule goes, and serves all.
            entry.only_for = None;
        }
        if force {
            self.unretire(entry.id);
        }
        if force || by_rule {
            if let Some(kept) = self.pool.get_mut(at) {
                kept.clone_from(&entry);
            }
            self.persist(Record::Pool(entry.clone()));
            self.changed = true;
            self.note_coverage();
        }
        Ok(Reply::Drive(Box::new(self.pool_drive(&entry))))
    }

    fn spare_remove(&mut self, name: &str) -> Result<Reply, Error> {
        let id = self.resolve_drive(name)?;
        let Some(entry) = self.pool.iter().find(|entry| entry.id == id).cloned() else {
            return Err(Error::ObjectNotFound {
                kind: ObjectKind::Spare,
                name: name.to_owned(),
                known: self
                    .pool
                    .iter()
                    .map(|entry| entry.stable_name.clone())
                    .collect(),
            });
        };
        let device = self.device_of(id);
        if let Some(rule) = device.and_then(|device| self.rule_for(device)) {
            let rule = &rule.matches;
            return Err(Error::InvalidArgument {
                what: name.to_owned(),
                why: format!(
                    "it is a spare by the rule {rule:?} of the configuration: change that"
                ),
            });
        }
        let user = entry
            .claimed_by
            .filter(|op| self.ops.get(op).is_some_and(|op| !op.state.is_finished()));
        if let Some(op) = user {
            return Err(Error::DriveRefused {
                drive: name.to_owned(),
                unfit: Unfit::Claimed { op },
            });
        }
        self.pool.retain(|other| other.id != id);
        self.persist(Record::PoolRemoved(id));
        self.pool_has_changed();
        let text = format!("{} left the spare pool", entry.stable_name);
        self.notify(
            Some(crate::model::NotificationEvent::DriveModify),
            None,
            None,
            text,
        );
        self.reproject_all();
        self.note_coverage();
        Ok(Reply::Done)
    }

    pub(super) fn reproject_all(&mut self) {
        let all: Vec<(LunId, String)> = self
            .luns
            .iter()
            .map(|(id, entry)| (*id, entry.array.clone()))
            .collect();
        for (id, name) in all {
            self.reproject(id, &name);
        }
    }

    fn begin_cancel(&mut self, token: Token, id: OpId, release_spare: bool) {
        let refusal = match self.op(id) {
            Err(error) => Some(error),
            Ok(op) if op.state == OpState::Cancelled => Some(Error::OperationCanceled { op: id }),
            Ok(op) if op.state.is_finished() => Some(Error::CancelTooLate {
                op: id,
                outcome: format!("{}, {}", op.state, op.message),
            }),
            Ok(op) => self
                .array_of(op.lun)
                .and_then(|array| plan::refuse_cancel(array, op.phase, release_spare)),
        };
        if let Some(error) = refusal {
            return self.reply(token, Err(error));
        }
        let Some(task) = self.tasks.get_mut(&id) else {
            let what = format!("operation {id} has no task");
            return self.reply(token, Err(Error::Internal { what }));
        };
        let cancel = task.cancel.get_or_insert_with(Cancel::default);
        cancel.release_spare |= release_spare;
        cancel.tokens.push(token);
        task.wake_at = None;
        if self.drop_intended(id) {
            let scan = self.want_deep_scan();
            if let Some(task) = self.tasks.get_mut(&id) {
                task.stage = Stage::NeedFacts { scan };
            }
        }
        self.go(id, crate::op::OpEvent::Cancel);
        if release_spare {
            self.work(id, |work| work.release_spare = true);
        }
    }
}

const fn lun_of(command: &Command) -> Option<LunId> {
    match command {
        Command::Recover { lun, .. }
        | Command::Replace { lun, .. }
        | Command::Verify { lun }
        | Command::Explain { lun }
        | Command::ApplyHints { lun, .. }
        | Command::Release { lun } => Some(*lun),
        Command::Cancel { .. }
        | Command::SpareAdd { .. }
        | Command::SpareRemove { .. }
        | Command::Light { .. }
        | Command::Refresh
        | Command::Reenumerate => None,
    }
}
