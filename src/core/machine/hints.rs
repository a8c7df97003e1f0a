//! Hints (`IVdsLun::ApplyHints`): the speed limits that a rebuild priority comes to are set for the time of an
//! operation and put back after it, whoever lived through it; the write-intent bitmap is changed by a call.

use std::collections::{BTreeMap, BTreeSet};

use super::task::{ActOwner, Pending};
use super::{ActId, Command, Machine, Reply, Token};
use crate::Error;
use crate::action::Action;
use crate::id::LunId;
use crate::model::NotificationEvent;
use crate::op::Caller;
use crate::plan::{self, Hints, Limits, Pace};

/// What a client wishes of a LUN; what is [`None`] stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HintWish {
    /// `sRebuildPriority`, 0 to 15; 0 for none.
    pub rebuild_priority: Option<u8>,
    /// `bFastCrashRecoveryRequired`: a write-intent bitmap.
    pub bitmap: Option<bool>,
}

/// What is under way of hints.
#[derive(Debug, Default)]
pub(super) struct Tuning {
    /// LUNs whose limits were written since the daemon started, for the operation that runs.
    tried: BTreeSet<LunId>,
    /// LUNs whose limits could not be written, which was told.
    refused: BTreeSet<LunId>,
    /// Calls whose bitmap is being changed.
    calls: BTreeMap<LunId, Pending>,
    /// Calls whose bitmap was changed, if the kernel says so too.
    verifying: BTreeSet<Token>,
}

impl Machine {
    /// The call `ApplyHints`. All of it is checked before any of it is done.
    pub(super) fn apply_hints(&mut self, token: Token, caller: Caller, lun: LunId, wish: HintWish) {
        let acted = self.tuning.verifying.remove(&token);
        let step = match self.checked_hints(lun, wish, acted) {
            Ok(step) => step,
            Err(error) => return self.reply(token, Err(error)),
        };
        if let Some(priority) = wish.rebuild_priority {
            self.set_priority(lun, priority);
        }
        let Some(action) = step else {
            if acted {
                let text = match wish.bitmap {
                    Some(true) => "it has a write-intent bitmap now",
                    _ => "it has no write-intent bitmap any more",
                };
                let event = Some(NotificationEvent::LunModify);
                self.notify(event, Some(lun), None, text.to_owned());
            }
            return self.reply(token, Ok(Reply::Done));
        };
        self.change_hints(lun, |hints| hints.bitmap = wish.bitmap);
        let call = Pending {
            token,
            caller,
            command: Command::ApplyHints { lun, wish },
            scan: 0,
        };
        self.tuning.calls.insert(lun, call);
        self.act_once_told(ActOwner::Bitmap { lun }, action);
    }

    fn checked_hints(
        &self,
        lun: LunId,
        wish: HintWish,
        acted: bool,
    ) -> Result<Option<Action>, Error> {
        self.known_lun(lun)?;
        let context = self.context(lun, None)?;
        if let Some(priority) = wish.rebuild_priority {
            plan::refuse_priority(&context, priority)?;
        }
        let Some(on) = wish.bitmap else {
            return Ok(None);
        };
        let step = plan::bitmap_step(&context, on, self.busy_with(lun))?;
        let name = || context.array.name.clone();
        match step {
            Some(_) if acted => Err(Error::LunNotReady {
                lun: name(),
                why: "mdadm answered success, and its write-intent bitmap is as it was".to_owned(),
            }),
            Some(_) if self.is_written_to(lun) => Err(Error::AnotherCall {
                lun: name(),
                op: None,
                doing: "something is being written to it".to_owned(),
            }),
            step => Ok(step),
        }
    }

    fn set_priority(&mut self, lun: LunId, priority: u8) {
        let Some((name, old)) = self
            .luns
            .get(&lun)
            .map(|entry| (entry.array.clone(), entry.hints.rebuild_priority))
        else {
            return;
        };
        if old == priority {
            return;
        }
        self.change_hints(lun, |hints| hints.rebuild_priority = priority);
        let text = format!("the rebuild priority of {name} is {priority} (was {old})");
        self.notify(Some(NotificationEvent::LunModify), Some(lun), None, text);
        self.reproject(lun, &name);
    }

    fn change_hints(&mut self, lun: LunId, change: impl FnOnce(&mut Hints)) {
        if let Some(entry) = self.luns.get_mut(&lun) {
            change(&mut entry.hints);
        }
        self.record_lun(lun, false);
        self.changed = true;
    }

    /// Speed limits are what the hints and the operations want.
    pub(super) fn keep_pace(&mut self) {
        let tuned = self
            .luns
            .iter()
            .filter(|(_, entry)| entry.hints != Hints::default());
        let tuned: Vec<LunId> = tuned.map(|(id, _)| *id).collect();
        for lun in tuned {
            let known = self.known_lun(lun).is_ok() && !self.facts_are_stale(lun);
            if known && !self.is_written_to(lun) {
                self.own_up_to_a_bitmap(lun);
                self.pace(lun);
            }
        }
    }

    /// What is known of a LUN was read before the last action on it ended.
    fn facts_are_stale(&self, lun: LunId) -> bool {
        let ended = self.scan.started - u64::from(self.scan.in_flight);
        self.facts_from.get(&lun).is_some_and(|from| *from > ended)
    }

    fn pace(&mut self, lun: LunId) {
        let Some(hints) = self.luns.get(&lun).map(|entry| entry.hints) else {
            return;
        };
        let Some(now) = self.array_of(lun).and_then(plan::limits_of) else {
            return;
        };
        let working = self.busy_with(lun).is_some();
        let tried = self.tuning.tried.contains(&lun);
        match plan::pace(&hints, now, working, tried) {
            Pace::Keep => {}
            Pace::Set(throttle) => {
                self.change_hints(lun, |hints| hints.throttle = Some(throttle));
                self.tuning.tried.insert(lun);
                self.write_limits(lun, throttle.written);
            }
            Pace::Restore(limits) => self.write_limits(lun, limits),
            Pace::Forget => {
                self.tuning.tried.remove(&lun);
                self.tuning.refused.remove(&lun);
                self.change_hints(lun, |hints| hints.throttle = None);
            }
        }
    }

    fn write_limits(&mut self, lun: LunId, limits: Limits) {
        let Some(array) = self.luns.get(&lun).map(|entry| entry.array.clone()) else {
            return;
        };
        let Limits { min, max } = limits;
        let owner = ActOwner::Pace { lun, late: false };
        self.act_once_told(owner, Action::SetSpeed { array, min, max });
    }

    /// The limits were written, or could not be. Not tried again before there are newer facts.
    pub(super) fn paced(&mut self, lun: LunId, result: Result<(), Error>) {
        self.scan.wanted |= !self.pending.is_empty();
        match result {
            Ok(()) => {
                self.tuning.refused.remove(&lun);
                self.scan.wanted = true;
            }
            Err(error) if self.tuning.refused.insert(lun) => {
                let text = format!("its sync speed could not be set: {error}");
                self.notify(None, Some(lun), None, text);
            }
            Err(_) => {}
        }
    }

    /// A call need not be refused for what is written in a moment.
    pub(super) fn is_paced(&self, lun: LunId) -> bool {
        let owner = ActOwner::Pace { lun, late: false };
        self.acts.values().any(|other| *other == owner)
    }

    /// The daemon ended while a bitmap was being changed: what came of it is what there is.
    fn own_up_to_a_bitmap(&mut self, lun: LunId) {
        let entry = self.luns.get(&lun);
        let Some(on) = entry.and_then(|entry| entry.hints.bitmap) else {
            return;
        };
        let has = match self.array_of(lun).map(|array| array.bitmap.known()) {
            Some(Some(true)) => "has one",
            Some(Some(false)) => "has none",
            _ => return,
        };
        let doing = if on { "added" } else { "taken away" };
        let text = format!(
            "the service ended while its write-intent bitmap was being {doing}: it {has} now"
        );
        self.change_hints(lun, |hints| hints.bitmap = None);
        self.notify(None, Some(lun), None, text);
    }

    /// `mdadm` has changed the bitmap, or not: looked at before it is answered.
    pub(super) fn bitmap_changed(&mut self, lun: LunId, result: Result<(), Error>) {
        self.change_hints(lun, |hints| hints.bitmap = None);
        let scan = self.want_deep_scan();
        match (self.tuning.calls.remove(&lun), result) {
            (Some(call), Ok(())) => {
                self.tuning.verifying.insert(call.token);
                self.pending.push(Pending { scan, ..call });
            }
            (Some(call), Err(error)) => self.reply(call.token, Err(error)),
            (None, Ok(())) => {}
            (None, Err(error)) => {
                let text = format!("its write-intent bitmap could not be changed: {error}");
                self.notify(None, Some(lun), None, text);
            }
        }
    }

    /// A write of hints has passed its deadline: who asked need not wait on.
    pub(super) fn hints_late(&mut self, id: ActId) {
        let after_ms = self.policy.deadline_ms;
        match self.acts.get_mut(&id) {
            Some(ActOwner::Pace { late, .. }) => {
                *late = true;
                self.scan.wanted = true;
            }
            Some(ActOwner::Bitmap { lun }) => {
                if let Some(call) = self.tuning.calls.remove(lun) {
                    let what = "changing the write-intent bitmap".to_owned();
                    self.reply(call.token, Err(Error::Timeout { what, after_ms }));
                }
            }
            _ => {}
        }
    }
}
