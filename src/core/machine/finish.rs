//! How operations end: verified success, honest failure, interruption.

use super::exec::frozen;
use super::holds::thawing;
use super::{Machine, Record};
use crate::Error;
use crate::action::{Action, SyncWord};
use crate::facts::{ArrayFacts, MemberFacts};
use crate::id::OpId;
use crate::model::{NotificationEvent, OpKind, Phase};
use crate::op::{Op, OpEvent, OpState, Standing};
use crate::plan;
use crate::project;

/// What is said of a fill that the host's going down came into, and that nobody has repaired after.
pub(super) const MAY_DIFFER: &str = "; what was written when the host went down may differ between the copies: \
                          `lunctl recover` repairs it";

/// What is said of a repair of a raid set.
const UNCOUNTED: &str = "what differed was rewritten; device-mapper counts only what a check finds";

impl Machine {
    /// Moves an operation along the state table; an illegal move is told and not made.
    pub(super) fn go(&mut self, id: OpId, event: OpEvent) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        let before = op.state;
        let Some(after) = before.next(event) else {
            return;
        };
        op.enter(after, self.now.wall);
        self.persist_op(id);
    }

    /// Nothing is left to do: is what was promised true?
    pub(super) fn complete(&mut self, id: OpId, array: &ArrayFacts) {
        let verify_after = self.policy.verify_after;
        let Some(op) = self.ops.get(&id) else { return };
        let rebuilt = op.kind != OpKind::Verify && !op.targets.is_empty();
        if verify_after && rebuilt && !op.work.scrub_started {
            let name = array.name.clone();
            let whole = plan::whole_range(array);
            let action = if whole {
                let word = SyncWord::Check;
                Action::SetSync { array: name, word }
            } else {
                Action::WholeRange { array: name }
            };
            if let Some(op) = self.ops.get_mut(&id) {
                op.phase = Phase::Check;
                op.message = "comparing all copies after the rebuild".to_owned();
            }
            return self.intend(id, action);
        }
        let lun = op.lun_name.clone();
        let losses: Vec<(String, u32)> = op
            .targets
            .iter()
            .filter_map(|target| {
                let member = array
                    .members
                    .iter()
                    .find(|m| m.dev.known() == Some(&target.dev))?;
                let lost = *member.bad_blocks.known()?;
                (lost > 0).then(|| (format!("/dev/{}", target.name), lost))
            })
            .collect();
        if !losses.is_empty() {
            let ranges = losses.iter().map(|(_, lost)| lost).sum();
            let drives = losses.into_iter().map(|(drive, _)| drive).collect();
            return self.fail(
                id,
                Error::CompletedWithLosses {
                    lun,
                    drives,
                    ranges,
                },
            );
        }
        let mismatch = array
            .sync
            .as_ref()
            .and_then(|sync| sync.mismatch_sectors.known().copied())
            .filter(|_| op.work.scrub_started);
        match (op.phase, mismatch) {
            (Phase::Check, Some(sectors)) if sectors > 0 => {
                self.fail(
                    id,
                    Error::MismatchFound {
                        lun,
                        mismatch_sectors: sectors,
                    },
                );
            }
            (Phase::Repair, Some(_)) if array.dm().is_some() => {
                self.end(id, OpState::Succeeded, None, UNCOUNTED.to_owned());
            }
            (Phase::Repair, Some(sectors)) => {
                let text = format!("{sectors} sectors differed and were rewritten");
                self.end(id, OpState::Succeeded, None, text);
            }
            _ => {
                let text = self.done_text(op, array);
                self.end(id, OpState::Succeeded, None, text);
            }
        }
    }

    /// What is said of a success, and that a set of legs laid by lund has another table now.
    fn done_text(&self, op: &Op, array: &ArrayFacts) -> String {
        let mut text = success_text(array, op.kind, &op.targets);
        let entry = self.luns.get(&op.lun);
        let changed = entry.is_some_and(|entry| !entry.lun.recreate.is_empty());
        if changed && !op.targets.is_empty() {
            text.push_str("; its old table must not be used again, `lunctl show` has the new one");
        }
        text
    }

    /// The planner sees no way on: what was done counts, what is missing is said.
    pub(super) fn cannot_go_on(&mut self, id: OpId, error: Error, array: &ArrayFacts) {
        let Some(op) = self.ops.get(&id) else { return };
        let whole = !project::is_degraded(array);
        let done_something = op.work.phases_done > 0;
        if whole
            && done_something
            && matches!(
                error,
                Error::NoSpare { .. } | Error::SparesTooSmall { .. } | Error::DriveRefused { .. }
            )
        {
            let text = format!(
                "{}; still to be done: {error}",
                success_text(array, op.kind, &op.targets)
            );
            return self.end(id, OpState::Succeeded, None, text);
        }
        let last = self.tasks.get(&id).and_then(|task| task.last_error.clone());
        let error = match last {
            Some(Error::RecoveryFailed { lun, drive, why }) => Error::RecoveryFailed {
                lun,
                drive,
                why: format!("{why}; and then: {error}"),
            },
            Some(other) if !matches!(error, Error::StatusFailed { .. }) => other,
            _ => error,
        };
        self.fail(id, error);
    }

    pub(super) fn fail(&mut self, id: OpId, error: Error) {
        let text = error.to_string();
        self.end(id, OpState::Failed, Some(error), text);
    }

    pub(super) fn interrupt(&mut self, id: OpId, why: &str) {
        let Some(op) = self.ops.get(&id) else { return };
        let error = Error::Interrupted {
            lun: op.lun_name.clone(),
            why: why.to_owned(),
        };
        let text = error.to_string();
        self.finish(id, OpState::Interrupted, Some(error), text);
    }

    /// Ends an operation, after lifting a freeze of its own that would otherwise stay behind.
    pub(super) fn end(&mut self, id: OpId, state: OpState, error: Option<Error>, text: String) {
        let Some(op) = self.ops.get(&id) else { return };
        let (held, froze) = (self.holds.contains_key(&op.lun), op.work.froze);
        let still_frozen = self.array_of(op.lun).filter(|array| frozen(array));
        let (Some(action), false) = (still_frozen.map(thawing), held) else {
            return self.finish(id, state, error, text);
        };
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        // What did not lift it is not tried again: it is shown as a hold then.
        let puts_off = matches!(action, Action::ClearResyncStart { .. });
        let again = puts_off && std::mem::replace(&mut task.put_off, true);
        if task.ending.is_some() || !froze || again {
            return self.finish(id, state, error, text);
        }
        task.ending = Some((state, error, text));
        self.intend(id, action);
    }

    /// A freeze of its own that an ending operation cannot lift any more is written down as a hold:
    /// no array stays frozen by us without being shown so, and `release` ends it.
    fn own_up_to_freeze(&mut self, id: OpId) {
        let (Some(op), Some(task)) = (self.ops.get(&id), self.tasks.get(&id)) else {
            return;
        };
        let (lun, cancel) = (op.lun, task.cancel.as_ref());
        let ours = op.work.froze || cancel.is_some_and(|cancel| cancel.stopped && !cancel.thawed);
        let left = self
            .array_of(lun)
            .filter(|array| ours && frozen(array) && self.identity(array) == lun)
            .map(|array| array.name.clone());
        if let (Some(name), false) = (left, self.holds.contains_key(&lun)) {
            self.hold(lun, &name);
            let text = format!("{name} is left frozen by operation {id}, and held");
            self.notify(None, Some(lun), Some(id), text);
        }
    }

    pub(super) fn finish(&mut self, id: OpId, state: OpState, error: Option<Error>, text: String) {
        self.own_up_to_freeze(id);
        let event = match state {
            OpState::Succeeded => OpEvent::Succeed,
            OpState::Failed => OpEvent::Fail,
            OpState::Cancelled => OpEvent::Stopped,
            _ => OpEvent::Interrupt,
        };
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        let Some(after) = op.state.next(event) else {
            return;
        };
        op.enter(after, self.now.wall);
        op.percent = 100;
        op.ended_at = Some(self.now.wall);
        op.error = error.or(match after {
            OpState::Cancelled => Some(Error::OperationCanceled { op: id }),
            _ => None,
        });
        op.message = text;
        op.live.eta_s = None;
        op.after = self.luns.get(&op.lun).map(|entry| Standing::of(&entry.lun));
        let asked = op.request.is_some();
        let (lun, told) = (op.lun, format!("operation {id} {after}: {}", op.message));
        let task = self.tasks.remove(&id);
        self.persist_op(id);
        self.auto.dirty = true;
        self.unclaim(id);
        self.keep_moved(id);
        if after == OpState::Succeeded {
            self.retire_replaced(id);
        }
        if asked && after == OpState::Succeeded {
            self.outrun_hold(lun);
        }
        self.notify(
            Some(NotificationEvent::LunModify),
            Some(lun),
            Some(id),
            told,
        );
        if let Some(cancel) = task.and_then(|task| task.cancel) {
            let outcome = match after {
                OpState::Cancelled => Ok(super::Reply::Done),
                _ => Err(self.op(id).map_or_else(
                    |error| error,
                    |op| Error::CancelTooLate {
                        op: id,
                        outcome: format!("{}, {}", op.state, op.message),
                    },
                )),
            };
            for token in cancel.tokens {
                self.reply(token, outcome.clone());
            }
        }
        self.forget_old();
        self.scan.wanted = true;
    }

    /// Pool drives that the operation claimed: those that were attached stay claimed by what they
    /// are now, the others are free again; a drive that failed is not offered twice. One
    /// that was only refused, or is not there just now, stays: what there is against it `spare list` shows.
    fn unclaim(&mut self, id: OpId) {
        let Some(op) = self.ops.get(&id) else { return };
        let (tried, held) = (op.tried.clone(), self.holds.contains_key(&op.lun));
        let attached: Vec<_> = self
            .luns
            .values()
            .flat_map(|entry| &entry.lun.drives)
            .filter(|drive| drive.role != crate::model::Role::Missing)
            .filter_map(|drive| drive.id)
            .collect();
        let mut records = Vec::new();
        for entry in self
            .pool
            .iter_mut()
            .filter(|entry| entry.claimed_by == Some(id))
        {
            if held && attached.contains(&entry.id) {
                continue;
            }
            entry.claimed_by = None;
            records.push(entry.clone());
        }
        for entry in records {
            if tried.contains(&entry.id) && self.retired.contains_key(&entry.id) {
                self.pool.retain(|other| other.id != entry.id);
                self.persist(Record::PoolRemoved(entry.id));
                let text = format!(
                    "{} failed on use and left the spare pool",
                    entry.stable_name
                );
                self.notify(Some(NotificationEvent::DriveModify), None, Some(id), text);
            } else {
                self.persist(Record::Pool(entry));
            }
        }
    }

    /// Keeps only so many finished operations.
    pub(super) fn forget_old(&mut self) {
        let finished: Vec<OpId> = self
            .ops
            .values()
            .filter(|op| op.state.is_finished())
            .map(|op| op.id)
            .collect();
        let surplus = finished.len().saturating_sub(self.policy.keep_finished);
        for id in finished.into_iter().take(surplus) {
            self.ops.remove(&id);
        }
    }

    /// An operation that the kernel or somebody else began is over: what did it leave?
    pub(super) fn end_adopted(&mut self, id: OpId, array: &ArrayFacts) {
        if frozen(array) && project::is_degraded(array) {
            return self.interrupt(id, "somebody else froze the array");
        }
        if array.sync.is_none() {
            // Stopped, and put together again in part: what its members say means nothing now.
            return self.interrupt(id, "the array does not run any more");
        }
        let phase = self.ops.get(&id).map(|op| op.phase);
        if matches!(phase, Some(Phase::Check | Phase::Repair))
            && self.adopted_scrub_fell_short(id, array)
        {
            return;
        }
        let Some(op) = self.ops.get(&id) else { return };
        let lun = op.lun_name.clone();
        let sync = array.sync.as_ref();
        let mismatch = sync
            .and_then(|sync| sync.mismatch_sectors.known().copied())
            .unwrap_or(0);
        match op.phase {
            Phase::Check if mismatch > 0 => {
                self.fail(
                    id,
                    Error::MismatchFound {
                        lun,
                        mismatch_sectors: mismatch,
                    },
                );
            }
            Phase::Repair if array.dm().is_some() => {
                self.finish(id, OpState::Succeeded, None, UNCOUNTED.to_owned());
            }
            Phase::Check | Phase::Repair => {
                let text = format!(
                    "{} ended, {mismatch} sectors differed",
                    phase_word(op.phase)
                );
                self.finish(id, OpState::Succeeded, None, text);
            }
            Phase::Resync => {
                if project::is_dirty(array) == Some(false) {
                    // Members may be missing all the same: that is said too.
                    let text = self.adopted_success(op, array);
                    self.finish(id, OpState::Succeeded, None, text);
                } else {
                    self.interrupt(id, "the resync stopped before its end");
                }
            }
            Phase::Rebuild | Phase::Replace | Phase::ReAdd | Phase::None => {
                let member = |dev| array.members.iter().find(|m| m.dev.known() == Some(dev));
                let unfinished = op.targets.iter().find(|target| {
                    member(&target.dev).is_none_or(|m| !m.state.is_known_and(|s| s.in_sync))
                });
                match unfinished.map(|target| format!("/dev/{}", target.name)) {
                    None => {
                        let text = self.adopted_success(op, array);
                        self.finish(id, OpState::Succeeded, None, text);
                    }
                    Some(drive) => {
                        let why = format!("{drive} did not come in sync");
                        self.fail(
                            id,
                            Error::RecoveryFailed {
                                lun,
                                drive: Some(drive),
                                why,
                            },
                        );
                    }
                }
            }
        }
    }

    /// What is said of work that others began. Nobody has repaired after it what the host's going down may
    /// have left different.
    fn adopted_success(&self, op: &Op, array: &ArrayFacts) -> String {
        let text = success_text(array, op.kind, &op.targets);
        if self.is_unproven(op.lun) {
            text + MAY_DIFFER
        } else {
            text
        }
    }

    pub(super) fn target_of(&self, member: &MemberFacts) -> Option<crate::action::Target> {
        let dev = *member.dev.known()?;
        let id = self.inventory.devices.get(&dev)?.id;
        Some(crate::action::Target {
            dev,
            name: member.name.clone(),
            id,
        })
    }
}

fn success_text(array: &ArrayFacts, kind: OpKind, targets: &[crate::action::Target]) -> String {
    let filled: Vec<String> = targets
        .iter()
        .filter(|target| {
            let member = array
                .members
                .iter()
                .find(|m| m.dev.known() == Some(&target.dev));
            member.is_some_and(|m| m.state.is_known_and(|state| state.in_sync))
        })
        .map(|target| format!("/dev/{}", target.name))
        .collect();
    let missing = missing_text(array);
    let rest = if missing.is_empty() {
        String::new()
    } else {
        format!(", {missing}")
    };
    match (filled.is_empty(), kind) {
        (false, _) => format!("{} in sync{rest}", filled.join(", ")),
        (true, OpKind::Verify) => "all copies agree".to_owned(),
        (true, _) => format!("all copies are in step{rest}"),
    }
}

/// That members are missing, or may be; empty when none is.
pub(super) fn missing_text(array: &ArrayFacts) -> &'static str {
    let sync = array.sync.as_ref();
    if project::is_degraded(array) {
        "members are still missing"
    } else if sync.is_some_and(|sync| sync.degraded.known().is_none()) {
        "whether members are still missing could not be read"
    } else {
        ""
    }
}

pub(super) const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::ReAdd => "re-add",
        Phase::Rebuild => "rebuild",
        Phase::Replace => "replacement",
        Phase::Resync => "resync",
        Phase::Check => "check",
        Phase::Repair => "repair",
        Phase::None => "nothing",
    }
}
