//! Ending an operation before its time: hold, stop, see that it stopped, give back.

use super::exec::frozen;
use super::finish::{MAY_DIFFER, missing_text};
use super::holds::thawing;
use super::task::{Cancel, Stage, Task};
use super::{Machine, Record};
use crate::Error;
use crate::action::{Action, SyncWord, Target};
use crate::facts::{ArrayFacts, Fact, MemberFacts, Slot, SyncAction, SyncCompleted};
use crate::id::{DevNo, LunId, OpId};
use crate::model::Phase;
use crate::op::{OpEvent, OpState};
use crate::project;

/// Pause between two looks at an array that was told to stop.
const STOP_LOOK_MS: u64 = 250;

impl Machine {
    /// With fresh facts: what does the cancel still need?
    pub(super) fn decide_cancel(&mut self, id: OpId) {
        let (Some(op), Some(task)) = (self.ops.get(&id), self.tasks.get(&id)) else {
            return;
        };
        let Some(cancel) = task.cancel.clone() else {
            return;
        };
        let (lun, work) = (op.lun, op.work);
        let scrub = matches!(op.phase, Phase::Check | Phase::Repair);
        let Some(array) = self.array_of(lun).cloned() else {
            return;
        };
        if cancel.stopped {
            return if scrub {
                self.after_scrub_stop(id, &array, cancel.clean_before)
            } else {
                self.after_freeze(id, &array, &cancel)
            };
        }
        let running = project::syncing(&array);
        if running.is_none() && !scrub && self.reached_its_aim(id, &array) {
            let text = self.done_before(lun, &array);
            return self.finish(id, OpState::Succeeded, None, text);
        }
        let untouched = task.acts == 0 && work.steps == task.dropped;
        if running.is_none() && (untouched || (scrub && !work.scrub_started && !task.sync_seen)) {
            return self.finish(
                id,
                OpState::Cancelled,
                None,
                "cancelled before it began".into(),
            );
        }
        if running.is_some() && self.freeze_guard(id).is_some() {
            let until = self.freeze_guard(id);
            let scan = self.want_deep_scan();
            if let Some(task) = self.tasks.get_mut(&id) {
                task.stage = Stage::NeedFacts { scan };
                task.wake_at = until;
            }
            return;
        }
        self.stop(id, &array, scrub);
    }

    /// A step that was written down and not sent yet is not sent any more; the ledger is told so.
    /// A step of the cancel itself goes on, and so does the last one of an operation that ends.
    /// Says whether the operation is free to look at the facts.
    pub(super) fn drop_intended(&mut self, id: OpId) -> bool {
        let at = self.now.wall;
        let (Some(op), Some(task)) = (self.ops.get_mut(&id), self.tasks.get_mut(&id)) else {
            return false;
        };
        let Some(action) = task.intended() else {
            return !task.is_acting();
        };
        let of_the_cancel = task.cancel.as_ref().is_some_and(|cancel| cancel.stopping);
        if of_the_cancel || task.ending.is_some() {
            return false;
        }
        // An earlier freeze of the preparation stays its own.
        let freezes = matches!(action, Action::SetSync { word, .. } if *word == SyncWord::Frozen);
        op.work.froze &= !freezes;
        task.dropped += 1;
        let seq = op.work.steps;
        let error = Some(Error::OperationCanceled { op: id });
        self.persist(Record::Outcome {
            op: id,
            seq,
            error,
            at,
        });
        true
    }

    /// Writes the word that stops it: a scrub ends, what rebuilds is held.
    fn stop(&mut self, id: OpId, array: &ArrayFacts, scrub: bool) {
        let Some(Task {
            cancel: Some(cancel),
            ..
        }) = self.tasks.get_mut(&id)
        else {
            return;
        };
        cancel.stopping = true;
        cancel.clean_before = project::is_dirty(array) == Some(false)
            && project::syncing(array) == Some(SyncAction::Repair);
        let cancel = cancel.clone();
        let repairing = self
            .ops
            .get(&id)
            .is_some_and(|op| op.phase == Phase::Repair);
        // A new table ends the repair of a raid set, and leaves nothing frozen.
        let word = if scrub && (!repairing || array.dm().is_some()) {
            SyncWord::Idle
        } else {
            SyncWord::Frozen
        };
        if !scrub {
            self.record_hold(id, array);
            if frozen(array) {
                // By the preparation of this very operation, or by a hold.
                if let Some(cancel) = self.tasks.get_mut(&id).and_then(|t| t.cancel.as_mut()) {
                    cancel.stopped = true;
                }
                return self.after_freeze(id, array, &cancel);
            }
        }
        let array = array.name.clone();
        self.intend(id, Action::SetSync { array, word });
    }

    /// Whether everything that the operation was to fill is in sync already.
    fn reached_its_aim(&self, id: OpId, array: &ArrayFacts) -> bool {
        let Some(op) = self.ops.get(&id) else {
            return false;
        };
        let in_sync = |dev| {
            array
                .members
                .iter()
                .find(|member| member.dev.known() == Some(dev))
                .is_some_and(|member| member.state.is_known_and(|state| state.in_sync))
        };
        let seen = self
            .tasks
            .get(&id)
            .is_some_and(|task| task.sync_seen || op.work.phases_done > 0);
        let resynced = project::is_dirty(array) == Some(false);
        // An array that does not run says nothing of its members, nor does one whose members cannot be read.
        let sync = array.sync.as_ref();
        let whole = sync.is_some_and(|sync| sync.degraded.is_known_and(|missing| *missing == 0));
        // What failed in its slot was replaced by another one.
        let wanted = |target: &&Target| !op.tried.contains(&target.id);
        let mut wanted = op.targets.iter().filter(wanted);
        seen && whole && resynced && wanted.all(|target| in_sync(&target.dev))
    }

    /// The hold is written down before the array is stopped: after a crash in between, the array
    /// is stopped again and shown as held.
    fn record_hold(&mut self, id: OpId, array: &ArrayFacts) {
        let Some(op) = self.ops.get(&id) else { return };
        let lun = op.lun;
        if let Some(Task {
            cancel: Some(cancel),
            ..
        }) = self.tasks.get_mut(&id)
        {
            if cancel.hold_recorded {
                return;
            }
            cancel.hold_recorded = true;
        }
        self.hold(lun, &array.name);
    }

    fn after_scrub_stop(&mut self, id: OpId, array: &ArrayFacts, clean_before: bool) {
        if !stopped(array) {
            return self.look_again(id, Some(STOP_LOOK_MS));
        }
        let repairing = self
            .ops
            .get(&id)
            .is_some_and(|op| op.phase == Phase::Repair);
        if repairing && frozen(array) {
            // Kernels from 7.0 leave a resync pending behind an interrupted repair. One that a power
            // cut made necessary looks the same.
            let left = clean_before && project::is_dirty(array) == Some(true);
            let action = if left {
                Action::ClearResyncStart {
                    array: array.name.clone(),
                    fill_first: false,
                }
            } else {
                thawing(array)
            };
            return self.intend(id, action);
        }
        let unproven = self.ops.get(&id).is_some_and(|op| self.is_unproven(op.lun));
        let text = match (repairing, unproven) {
            (_, true) => format!("cancelled{MAY_DIFFER}"),
            (true, false) => "cancelled; what differed where it had been was rewritten".to_owned(),
            (false, false) => "cancelled; nothing was changed by it".to_owned(),
        };
        self.finish(id, OpState::Cancelled, None, text);
    }

    fn after_freeze(&mut self, id: OpId, array: &ArrayFacts, cancel: &Cancel) {
        if cancel.thawed {
            return if cancel.release_spare {
                self.released(id)
            } else {
                self.thaw_after_success(id, array)
            };
        }
        if !stopped(array) {
            return self.look_again(id, Some(STOP_LOOK_MS));
        }
        if cancel.release_spare && frozen(array) {
            // A drive that was a member until now has not been looked at.
            if self.lacks_probes(id) {
                return self.look_again(id, None);
            }
            if let Some(action) = self.give_back(id, array) {
                return self.intend(id, action);
            }
            let idle_spares = array.members.iter().any(is_unfinished_spare);
            if !idle_spares {
                return self.intend(id, thawing(array));
            }
        }
        if self.reached_its_aim(id, array) {
            return self.thaw_after_success(id, array);
        }
        let text = format!(
            "cancelled; {} is held: `lunctl recover` resumes it",
            array.name
        );
        self.finish(id, OpState::Cancelled, None, text);
    }

    fn released(&mut self, id: OpId) {
        if let Some(lun) = self.ops.get(&id).map(|op| op.lun) {
            self.drop_hold(lun);
        }
        let text = "cancelled; its spares are back in the pool".to_owned();
        self.finish(id, OpState::Cancelled, None, text);
    }

    /// It was done in the very moment of the freeze: nothing is left to hold.
    fn thaw_after_success(&mut self, id: OpId, array: &ArrayFacts) {
        let lun = self.ops.get(&id).map(|op| op.lun);
        if frozen(array) {
            return self.intend(id, thawing(array));
        }
        let text = match lun {
            Some(lun) => {
                self.drop_hold(lun);
                self.done_before(lun, array)
            }
            None => String::new(),
        };
        self.finish(id, OpState::Succeeded, None, text);
    }

    /// The next action that gives a drive of this operation back: fail, remove, wipe.
    fn give_back(&mut self, id: OpId, array: &ArrayFacts) -> Option<Action> {
        let added: Vec<_> = self.ops.get(&id)?.added.iter().copied().collect();
        for drive in added {
            let Some(device) = self.device_of(drive) else {
                continue;
            };
            let target = crate::action::Target {
                dev: device.dev,
                name: device.name.clone(),
                id: drive,
            };
            let name = array.name.clone();
            let member = array
                .members
                .iter()
                .find(|m| m.dev.known() == Some(&target.dev));
            match member.map(|m| (m.slot.known(), m.state.known())) {
                // What came in sync meanwhile holds good data and stays.
                Some((_, Some(state))) if state.in_sync => {}
                Some((Some(Slot::At(_)), Some(state))) if !state.faulty => {
                    return Some(Action::FailMember {
                        array: name,
                        drive: target,
                    });
                }
                Some(_) => {
                    return Some(Action::RemoveMember {
                        array: name,
                        drive: target,
                    });
                }
                None if self.may_bear_superblock_of(array, target.dev) => {
                    let Some(Task {
                        cancel: Some(cancel),
                        ..
                    }) = self.tasks.get_mut(&id)
                    else {
                        return None;
                    };
                    if cancel.released.insert(drive) {
                        // What was being filled is nobody's copy, whatever else the array has lost.
                        return Some(Action::Wipe {
                            drive: target,
                            former: None,
                        });
                    }
                }
                None => {}
            }
        }
        None
    }

    /// Only what this operation wrote is erased: a drive that was not attached yet, or that was
    /// given back before the daemon died, may be somebody's by now.
    fn may_bear_superblock_of(&self, array: &ArrayFacts, dev: DevNo) -> bool {
        let probe = self.inventory.probes.get(&dev);
        match (probe.map(|probe| &probe.md), &array.uuid) {
            (Some(Fact::Known(bears)), Fact::Known(Some(uuid))) => {
                bears.as_ref().is_some_and(|sb| sb.array_uuid == *uuid)
            }
            // Not known: whatever is on it is left there, and found when it is used next.
            _ => false,
        }
    }

    /// That there was nothing left to stop; what has been lost since, or may differ, is said too.
    fn done_before(&self, lun: LunId, array: &ArrayFacts) -> String {
        let missing = missing_text(array);
        let differ = self.is_unproven(lun).then_some(MAY_DIFFER);
        format!(
            "it was done before the cancel could stop it{}{missing}{}",
            if missing.is_empty() { "" } else { "; " },
            differ.unwrap_or_default()
        )
    }

    /// An action of the cancel failed: the operation goes on, and who asked is told.
    pub(super) fn cancel_failed(&mut self, id: OpId, error: Error) {
        let Some(cancel) = self.tasks.get_mut(&id).and_then(|task| task.cancel.take()) else {
            return;
        };
        let lun = self.ops.get(&id).map(|op| op.lun);
        let stopped = cancel.stopped;
        for token in cancel.tokens {
            self.reply(token, Err(error.clone()));
        }
        let text = format!("operation {id} could not be cancelled: {error}");
        self.notify(None, lun, Some(id), text);
        if stopped {
            // The array stands still although giving back failed: that is a hold, and is shown.
            let text =
                format!("cancelled and held, but its spares could not be given back: {error}");
            return self.finish(id, OpState::Cancelled, None, text);
        }
        if let Some(lun) = lun.filter(|_| cancel.hold_recorded) {
            self.drop_hold(lun);
        }
        // A write of an earlier daemon, or one that was given up, may freeze it yet.
        let froze = cancel.stopping;
        self.work(id, |work| {
            work.release_spare = false;
            work.froze |= froze;
        });
        self.go(id, OpEvent::CancelFailed);
        self.look_again(id, None);
    }

    /// The deadline of an action has passed: say so, and let nobody wait for it.
    pub(super) fn tell_late(&mut self, id: OpId) {
        let after_ms = self.policy.deadline_ms;
        let Some(Stage::Acting { action, .. }) = self.tasks.get(&id).map(|task| task.stage.clone())
        else {
            return;
        };
        let what = action.to_string();
        let text = format!("blocked for {after_ms} ms, a member may hang: {what}");
        if let Some(op) = self.ops.get_mut(&id) {
            op.message.clone_from(&text);
        }
        self.persist_op(id);
        let lun = self.ops.get(&id).map(|op| op.lun);
        self.notify(None, lun, Some(id), text);
        let tokens = self
            .tasks
            .get_mut(&id)
            .and_then(|task| task.cancel.as_mut())
            .map(|cancel| std::mem::take(&mut cancel.tokens))
            .unwrap_or_default();
        for token in tokens {
            let what = format!("cancelling operation {id} ({what})");
            self.reply(token, Err(Error::Timeout { what, after_ms }));
        }
    }
}

/// The sync thread is gone: `frozen` alone does not say so (`drivers/md/md.c:action_show`).
fn stopped(array: &ArrayFacts) -> bool {
    array.sync.as_ref().is_none_or(|sync| {
        sync.completed
            .is_known_and(|completed| *completed == SyncCompleted::None)
    })
}

fn is_unfinished_spare(member: &MemberFacts) -> bool {
    member
        .state
        .is_known_and(|state| !state.in_sync && !state.faulty && !state.journal)
}
