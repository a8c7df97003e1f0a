//! Holds: a LUN whose recovery somebody stopped stands still until it is recovered or released,
//! whoever else starts it meanwhile.

use super::exec::frozen;
use super::task::{ActOwner, FREEZE_GUARD_MS, HOLD_RETRY_MS, Task};
use super::{ActId, Machine, Record, Reply, Token};
use crate::Error;
use crate::action::{Action, SyncWord};
use crate::facts::{ArrayFacts, Fact, SyncAction, SyncFacts};
use crate::id::{LunId, OpId};
use crate::op::Op;
use crate::project;

/// How often in a row it is tried to hold again what stays as it is.
const HOLD_TRIES: u32 = 5;

/// The next action that lifts a freeze: a resync for which the kernel would take a half-filled copy for a
/// source ([`project::half_filled_source`]) is put off first.
pub(super) fn thawing(array: &ArrayFacts) -> Action {
    let half_filled = project::half_filled_source(array);
    let array = array.name.clone();
    if half_filled {
        let fill_first = true;
        return Action::ClearResyncStart { array, fill_first };
    }
    let word = SyncWord::Idle;
    Action::SetSync { array, word }
}

impl Machine {
    /// Writes down that a LUN stands still until somebody releases it.
    pub(super) fn hold(&mut self, lun: LunId, name: &str) {
        let at = self.now.wall;
        let record = Record::Hold {
            lun,
            name: name.to_owned(),
            at,
        };
        self.holds.insert(lun, (name.to_owned(), at));
        self.persist(record);
        self.reproject(lun, name);
    }

    /// Ends a hold: what it held may run again.
    pub(super) fn drop_hold(&mut self, lun: LunId) {
        let Some((name, _)) = self.holds.remove(&lun) else {
            return;
        };
        self.persist(Record::HoldReleased(lun));
        self.forget_freezes(lun);
        self.notify(None, Some(lun), None, format!("{name} is held no longer"));
        self.reproject(lun, &name);
    }

    /// No freeze of an operation that has ended can come into force any more.
    fn forget_freezes(&mut self, lun: LunId) {
        let ended = |op: &&mut Op| op.lun == lun && op.state.is_finished() && op.work.froze;
        let mut thawed = Vec::new();
        for op in self.ops.values_mut().filter(ended) {
            op.work.froze = false;
            thawed.push(op.id);
        }
        for op in thawed {
            self.persist_op(op);
        }
    }

    /// A freeze that an operation asked for in vain, or an earlier daemon, may come into force when that has
    /// ended: it is shown as a hold then, and `release` ends it.
    fn own_up_to_late_freezes(&mut self) {
        let late = self.ops.values().filter(|op| {
            op.state.is_finished()
                && op.work.froze
                && !self.holds.contains_key(&op.lun)
                && !self.lun_is_acted_on(op.lun)
                && self.known_lun(op.lun).is_ok()
                && self.array_of(op.lun).is_some_and(frozen)
        });
        let late: Vec<(OpId, LunId)> = late.map(|op| (op.id, op.lun)).collect();
        for (op, lun) in late {
            let Some(name) = self.luns.get(&lun).map(|entry| entry.array.clone()) else {
                continue;
            };
            if !self.holds.contains_key(&lun) {
                self.hold(lun, &name);
                let text = format!("{name} was frozen late by operation {op}, and is held");
                self.notify(None, Some(lun), Some(op), text);
            }
        }
    }

    /// The call `Release`: lets the kernel go on by itself.
    pub(super) fn release(&mut self, token: Token, lun: LunId) {
        if let Err(error) = self.known_lun(lun) {
            return self.reply(token, Err(error));
        }
        if !self.holds.contains_key(&lun) {
            return self.reply(token, Ok(Reply::Done));
        }
        let Some(array) = self.luns.get(&lun).map(|entry| entry.array.clone()) else {
            return;
        };
        let busy = match self.busy_with(lun) {
            Some((op, doing)) => Some((Some(op), doing)),
            None => self
                .is_written_to(lun)
                .then(|| (None, "its hold or its hints are being applied".to_owned())),
        };
        if let Some((op, doing)) = busy {
            let lun = array;
            return self.reply(token, Err(Error::AnotherCall { lun, op, doing }));
        }
        let mut actions = Vec::new();
        let facts = self.array_of(lun);
        if facts.is_some_and(project::half_filled_source) {
            if !facts.is_some_and(frozen) {
                let (array, word) = (array.clone(), SyncWord::Frozen);
                actions.push(Action::SetSync { array, word });
            }
            let array = array.clone();
            self.put_off_resync(lun, &array);
            actions.push(Action::ClearResyncStart {
                array,
                fill_first: true,
            });
        }
        let word = SyncWord::Idle;
        actions.push(Action::SetSync { array, word });
        self.release_by(lun, Some(token), actions);
    }

    /// The next of the actions that end a hold.
    fn release_by(&mut self, lun: LunId, token: Option<Token>, mut rest: Vec<Action>) {
        if !rest.is_empty() {
            let action = rest.remove(0);
            self.act_once_told(ActOwner::Release { lun, token, rest }, action);
        }
    }

    pub(super) fn released_by_call(
        &mut self,
        lun: LunId,
        token: Option<Token>,
        rest: Vec<Action>,
        result: Result<(), Error>,
    ) {
        if result.is_ok() && !rest.is_empty() {
            return self.release_by(lun, token, rest);
        }
        if result.is_ok() {
            self.drop_hold(lun);
        } else if let (None, Err(error)) = (token, &result) {
            let text = format!("its hold could not be lifted: {error}");
            self.notify(None, Some(lun), None, text);
        }
        if let Some(token) = token {
            self.reply(token, result.map(|()| Reply::Done));
        }
        self.scan.wanted = true;
    }

    pub(super) fn reasserted(&mut self, lun: LunId, result: Result<(), Error>) {
        let facts = self.array_of(lun).cloned();
        if let (Err(error), Some(facts)) = (result, facts) {
            let before = match self.hold_refused.get(&lun) {
                Some((tries, seen)) if *seen == facts => *tries,
                _ => 0,
            };
            let and_then = match before + 1 {
                HOLD_TRIES.. => ", and it is not tried again before something of it changes",
                _ => "",
            };
            let text = format!("could not hold it again{and_then}: {error}");
            self.notify(None, Some(lun), None, text);
            self.hold_refused.insert(lun, (before + 1, facts));
            self.hold_broken_at
                .insert(lun, self.now.mono.after(HOLD_RETRY_MS));
        } else {
            self.hold_refused.remove(&lun);
        }
        self.scan.wanted = true;
    }

    /// Nothing has changed of a LUN that could not be held often enough. While a recovery runs something does.
    fn cannot_be_held(&self, lun: LunId) -> bool {
        self.hold_refused
            .get(&lun)
            .is_some_and(|(tries, seen)| *tries >= HOLD_TRIES && self.array_of(lun) == Some(seen))
    }

    /// A write that keeps or lifts a hold has passed its deadline: who asked need not wait on.
    pub(super) fn hold_act_late(&mut self, id: ActId) {
        let after_ms = self.policy.deadline_ms;
        let (lun, asked) = match self.acts.get_mut(&id) {
            Some(ActOwner::Release { lun, token, .. }) => (*lun, token.take()),
            Some(ActOwner::Reassert { lun }) => (*lun, None),
            Some(
                ActOwner::Op(_)
                | ActOwner::Light { .. }
                | ActOwner::Pace { .. }
                | ActOwner::Bitmap { .. },
            )
            | None => return,
        };
        let name = self.luns.get(&lun).map(|entry| entry.array.clone());
        let what = format!(
            "writing the sync_action of {}",
            name.unwrap_or_else(|| lun.to_string())
        );
        let text = format!("blocked for {after_ms} ms, a member may hang: {what}");
        self.notify(None, Some(lun), None, text);
        if let Some(token) = asked {
            self.reply(token, Err(Error::Timeout { what, after_ms }));
        }
    }

    /// Held LUNs stay held: what starts them again is stopped again, and told.
    pub(super) fn keep_holds(&mut self) {
        self.own_up_to_late_freezes();
        let held: Vec<LunId> = self.holds.keys().copied().collect();
        self.hold_broken_at.retain(|id, _| held.contains(id));
        self.hold_refused.retain(|id, _| held.contains(id));
        for id in held {
            // Under its name may run an array that nobody ever held.
            let sure = self.known_lun(id).is_ok();
            if !sure
                || !self.hold_is_broken(id)
                || self.lun_is_acted_on(id)
                || self.cannot_be_held(id)
            {
                self.hold_broken_at.remove(&id);
                continue;
            }
            let since = *self.hold_broken_at.entry(id).or_insert(self.now.mono);
            if self.now.mono.since(since) < FREEZE_GUARD_MS {
                continue;
            }
            self.hold_broken_at.remove(&id);
            let Some(array) = self.luns.get(&id).map(|entry| entry.array.clone()) else {
                continue;
            };
            let text = format!("{array} is held and was started by somebody else: held again");
            self.notify(None, Some(id), None, text);
            let action = Action::SetSync {
                array,
                word: SyncWord::Frozen,
            };
            self.act(ActOwner::Reassert { lun: id }, action);
        }
    }

    fn hold_is_broken(&self, id: LunId) -> bool {
        let sync = self.array_of(id).and_then(|array| array.sync.as_ref());
        sync.is_some_and(|SyncFacts { action, .. }| match action {
            Fact::Known(action) => *action != SyncAction::Frozen,
            Fact::Unknown(_) => false,
        })
    }

    pub(super) fn lun_is_acted_on(&self, id: LunId) -> bool {
        let of_it = |op: &OpId| self.ops.get(op).is_some_and(|op| op.lun == id);
        let by_op = self
            .tasks
            .keys()
            .filter_map(|op| self.ops.get(op))
            .any(|op| op.lun == id && op.request.is_some());
        let cancelling = self
            .tasks
            .iter()
            .any(|(op, task): (_, &Task)| task.cancel.is_some() && of_it(op));
        by_op || cancelling || self.is_written_to(id)
    }

    /// An action on this LUN is under way.
    pub(super) fn is_written_to(&self, id: LunId) -> bool {
        self.acts.values().any(|owner| match owner {
            ActOwner::Op(op) => {
                let own = self.ops.get(op).is_some_and(|op| op.lun == id);
                own || self.other_acted_on(*op) == Some(id)
            }
            ActOwner::Release { lun, .. }
            | ActOwner::Reassert { lun }
            | ActOwner::Pace { lun, .. }
            | ActOwner::Bitmap { lun } => *lun == id,
            ActOwner::Light { .. } => false,
        })
    }
}
