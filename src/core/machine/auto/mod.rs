//! Automatic recovery: after each reading that changed something, every LUN that lost redundancy is
//! decided about, the most endangered first, and each decision says why (ADR 0013).
//!
//! A first look takes what is known; only a LUN for which something could be done has the drives looked
//! into that could take over. Nothing polls: a grace and a back-off are deadlines of
//! [`Machine::next_wake`], all else waits for an event.

mod grounds;
mod losses;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::exec::frozen;
use super::resume::ASSEMBLY_MS;
use super::{Effect, Machine, Record};
use crate::facts::{ArrayFacts, SyncAction};
use crate::id::{DriveId, LunId, Mono, OpId, Wall};
use crate::model::{Alternative, AutoRule, AutoVerdict, Decision, Lun, OpKind, Origin};
use crate::plan::{self, Plan, Request};
use crate::policy::Recovery;
use crate::project;

use super::io::LossKind;
use grounds::alternatives;
use losses::{FLAPS, FOLLOW_MS, Losses, flapping};
use rules::{Attempts, Deadline, Prospect, Ruling, Standing};

/// What is asked for when a LUN is mended by itself.
const REQUEST: Request = Request::Recover {
    spare: None,
    repair: false,
};

/// What automatic recovery knows beyond the facts.
#[derive(Debug, Default)]
pub(super) struct Auto {
    /// Something has changed since everything was decided last.
    pub(super) dirty: bool,
    /// The scan that looks into the drives that could take over.
    scan: Option<u64>,
    /// It left out drives that had to be looked into, and another one was asked for.
    asked_for_probes: bool,
    /// The last scan failed: the next one that does not is a reason to decide.
    scan_failed: bool,
    /// When to decide again without any event.
    wake: BTreeMap<LunId, Mono>,
    /// The last decision about each LUN that misses something.
    last: BTreeMap<LunId, Decision>,
    /// When each LUN missed nothing, last.
    whole_at: BTreeMap<LunId, Wall>,
    /// Since when it does.
    missing_since: BTreeMap<LunId, Deadline>,
    /// Until when members may still be found after a start of the host, and of which LUNs that is hoped.
    assembly_until: Option<Deadline>,
    assembled: BTreeSet<LunId>,
    /// Drives left out for each LUN, with the reason.
    aside: BTreeMap<LunId, BTreeMap<DriveId, String>>,
    /// Drives that a LUN which waits is going to take, with its id and name.
    kept: BTreeMap<DriveId, (LunId, String)>,
    losses: Losses,
    /// Drives of which the ledger has not been told what was lost.
    pub(super) unsaved: BTreeSet<DriveId>,
}

/// A ruling with what it rests on.
struct Judged {
    ruling: Ruling,
    plan: Option<Plan>,
    alternatives: Vec<Alternative>,
    aside: BTreeMap<DriveId, String>,
}

impl From<Ruling> for Judged {
    fn from(ruling: Ruling) -> Self {
        Self {
            ruling,
            plan: None,
            alternatives: Vec::new(),
            aside: BTreeMap::new(),
        }
    }
}

impl Machine {
    /// The daemon starts: what an earlier one saw, and whether the host was started too.
    pub(super) fn start_deciding(&mut self, rebooted: bool) {
        self.auto.dirty = true;
        self.auto.assembly_until = rebooted.then(|| Deadline::after(self.now, ASSEMBLY_MS));
        self.remember_losses();
    }

    /// A LUN came in sight. What it misses after a start of the host may still be found.
    pub(super) fn await_members(&mut self, id: LunId) {
        let misses = self.array_of(id).is_some_and(project::is_degraded);
        let soon = self
            .auto
            .assembly_until
            .is_some_and(|at| self.now.mono < at.mono);
        if misses && soon {
            self.auto.assembled.insert(id);
        }
    }

    /// A LUN is gone, and with it all that was decided about it.
    pub(super) fn stop_deciding(&mut self, id: LunId) {
        self.forget_seats(id);
        self.make_nothing_of(id);
    }

    /// What lies in the pool, or is promised to an operation, is another now.
    pub(super) fn pool_has_changed(&mut self) {
        self.changed = true;
        self.auto.dirty = true;
    }

    /// Nothing can be decided on a scan that failed.
    pub(super) fn scan_has_failed(&mut self) {
        self.auto.scan = None;
        self.auto.scan_failed = true;
    }

    /// A scan came to its end; `changed`: other devices are there than before.
    pub(super) fn scan_has_ended(&mut self, changed: bool) {
        let failed = std::mem::take(&mut self.auto.scan_failed);
        let unclear = self
            .auto
            .last
            .values()
            .any(|decision| decision.rule == AutoRule::Unclear && self.auto.scan.is_none());
        self.auto.dirty |= changed || failed || unclear;
        self.note_losses(true);
    }

    /// The last decision about a LUN.
    pub(super) fn last_decision(&self, id: LunId) -> Option<&Decision> {
        self.auto.last.get(&id)
    }

    /// When to decide again without any event.
    pub(super) fn next_decision(&self) -> Option<Mono> {
        self.auto.wake.values().min().copied()
    }

    /// Decides about every LUN that misses something, if there is a reason to.
    pub(super) fn consider(&mut self) {
        let now = self.now.mono;
        let before = self.auto.wake.len();
        self.auto.wake.retain(|_, at| *at > now);
        self.auto.dirty |= self.auto.wake.len() != before;
        if self.scan.in_flight || self.scan.started == 0 {
            return;
        }
        let deep = match self.auto.scan {
            Some(scan) if scan > self.scan.started => return,
            Some(_) => true,
            None if self.auto.dirty => false,
            None => return,
        };
        self.auto.scan = None;
        self.auto.dirty = false;
        let deep = deep && !self.left_out_a_drive();
        let order = self.endangered();
        self.auto.kept.clear();
        let mut look = false;
        for id in order {
            let first = self
                .standing(id)
                .map(|standing| rules::at_first_sight(&standing));
            match first {
                None => {}
                Some(Some(ruling)) => self.settle_on(id, ruling.into()),
                Some(None) if !deep || self.is_stale(id) => look = true,
                Some(None) => {
                    self.note_reservations(id);
                    if let Some(judged) = self.judge(id) {
                        self.settle_on(id, judged);
                    }
                }
            }
        }
        if look {
            self.auto.scan = Some(self.want_deep_scan());
        }
    }

    /// A drive came in sight as a candidate only by the scan that was to look into all of them. Asked for once in
    /// a row: a device that cannot be looked into stays without a probe.
    fn left_out_a_drive(&mut self) -> bool {
        let lacking = self.has_unprobed();
        let asked = std::mem::replace(&mut self.auto.asked_for_probes, lacking);
        lacking && !asked
    }

    /// What was read while an action of ours was under way tells nothing of its effect.
    fn is_stale(&self, id: LunId) -> bool {
        let from = self.facts_from.get(&id);
        from.is_some_and(|scan| *scan > self.scan.started)
    }

    /// LUNs that miss something, the most endangered first; of the others nothing is decided.
    fn endangered(&mut self) -> Vec<LunId> {
        let now = Deadline::after(self.now, 0);
        let misses = |id: &LunId| self.array_of(*id).is_some_and(project::is_degraded);
        let (missing, whole): (Vec<LunId>, Vec<LunId>) =
            self.luns.keys().copied().partition(misses);
        for id in whole {
            self.auto.whole_at.insert(id, now.wall);
            self.make_nothing_of(id);
        }
        let mut order = Vec::new();
        for id in missing {
            self.auto.missing_since.entry(id).or_insert(now);
            let Some(entry) = self.luns.get(&id) else {
                continue;
            };
            let lun = &entry.lun;
            let survivable = lun.redundancy.losses_survivable.unwrap_or(0);
            let priority = std::cmp::Reverse(self.settings_of(id).priority);
            let size = lun.size_bytes.unwrap_or(u64::MAX);
            order.push((survivable, priority, size, lun.name.clone(), id));
        }
        order.sort();
        order.into_iter().map(|(.., id)| id).collect()
    }

    fn make_nothing_of(&mut self, id: LunId) {
        self.auto.wake.remove(&id);
        self.auto.last.remove(&id);
        self.auto.missing_since.remove(&id);
        self.auto.assembled.remove(&id);
        self.auto.aside.remove(&id);
        self.reserved.remove(&id);
        self.loans.remove(&id);
    }

    pub(super) fn settings_of(&self, id: LunId) -> Recovery {
        let Some(entry) = self.luns.get(&id) else {
            return self.policy.recovery;
        };
        self.policy.recovery_of(id, &names(&entry.lun))
    }

    fn standing(&self, id: LunId) -> Option<Standing<'_>> {
        let entry = self.luns.get(&id)?;
        let array = self.inventory.arrays.get(&entry.array)?;
        Some(Standing {
            lun: &entry.lun,
            settings: self.settings_of(id),
            contradicted: entry.contradiction.is_some(),
            operation: self.busy_with(id).map(|(op, _)| op),
            syncing: project::syncing(array).is_some(),
            written_to: self.is_written_to(id),
            frozen: frozen(array),
            runs: array.sync.is_some(),
        })
    }

    /// With the drives looked into: what follows, and from what.
    fn judge(&self, id: LunId) -> Option<Judged> {
        let standing = self.standing(id)?;
        let aside = self.aside_of(id);
        let planned = self.context(id, None).and_then(|mut context| {
            context.aside = Some(&aside);
            plan::check(&REQUEST, &context, None)?;
            plan::plan(&REQUEST, &context)
        });
        let prospect = self.prospect(id, planned.as_ref().ok());
        let mut ruling = rules::with_a_plan(&standing, &planned, &prospect);
        if ruling.wake.is_none() {
            ruling.wake = self.next_reliance();
        }
        let alternatives = alternatives(&planned);
        Some(Judged {
            ruling,
            plan: planned.ok(),
            alternatives,
            aside,
        })
    }

    fn prospect(&self, id: LunId, plan: Option<&Plan>) -> Prospect<'_> {
        let assembly = self
            .auto
            .assembly_until
            .filter(|until| self.now.mono < until.mono && self.auto.assembled.contains(&id));
        Prospect {
            now: self.now,
            assembly,
            together: self.went_together(id),
            grace: self.grace(id),
            attempts: self.attempts(id, plan),
            neighbour: self.neighbour_at_work(id),
        }
    }

    /// Members of the LUN that went at once with others through one parent.
    fn went_together(&self, id: LunId) -> Option<(Vec<String>, String)> {
        let losses = &self.auto.losses;
        let mut of_it = losses.lost.iter().filter(|(_, lost)| lost.lun == id);
        of_it.find_map(|(drive, lost)| {
            let others_work = |controller: &str| self.carries_members(controller);
            let all = losses.together(*drive, others_work);
            let parent = lost.controller.clone()?;
            let names = all
                .iter()
                .map(|lost| format!("/dev/{}", lost.name))
                .collect::<Vec<_>>();
            (!names.is_empty()).then_some((names, parent))
        })
    }

    /// Until when lost members are given to come back; [`None`]: the time is over.
    fn grace(&self, id: LunId) -> Option<Deadline> {
        let grace_ms = self.settings_of(id).grace_ms;
        let lost = self.auto.losses.lost.values().filter(|lost| lost.lun == id);
        let until = lost.map(|lost| {
            let own = lost.at.after(grace_ms);
            let followed = lost.heralded.map(|at| at.after(grace_ms.max(FOLLOW_MS)));
            let mono = followed.map_or(own, |at| at.max(own));
            let wall = Wall(lost.wall.0.saturating_add(mono.since(lost.at)));
            Deadline { mono, wall }
        });
        let unseen = || {
            let since = self.auto.missing_since.get(&id)?;
            let mono = since.mono.after(grace_ms);
            let wall = Wall(since.wall.0.saturating_add(grace_ms));
            Some(Deadline { mono, wall })
        };
        let until = until.max().or_else(unseen)?;
        (self.now.mono < until.mono).then_some(until)
    }

    /// What was tried by itself since the LUN missed nothing, last.
    fn attempts(&self, id: LunId, plan: Option<&Plan>) -> Attempts {
        let healthy_at = self.luns.get(&id).and_then(|entry| entry.healthy_at);
        let since = self.auto.whole_at.get(&id).copied().max(healthy_at);
        let tried: Vec<_> = self
            .ops
            .values()
            .filter(|op| op.lun == id && op.origin == Origin::Policy)
            .filter(|op| {
                op.ended_at
                    .is_some_and(|at| since.is_none_or(|since| at > since))
            })
            .collect();
        let drives: BTreeSet<DriveId> = tried
            .iter()
            .flat_map(|op| {
                op.targets
                    .iter()
                    .map(|target| target.id)
                    .chain(op.tried.iter().copied())
            })
            .collect();
        let fresh = |plan: &Plan| {
            plan.targets
                .iter()
                .any(|target| !drives.contains(&target.id))
        };
        Attempts {
            count: tried.len(),
            ended_at: tried
                .iter()
                .filter_map(|op| op.ended_at)
                .max()
                .unwrap_or_default(),
            fresh: plan.is_some_and(fresh),
        }
    }

    /// Another LUN that lies on the same disks and is being filled or brought in step.
    fn neighbour_at_work(&self, id: LunId) -> Option<&str> {
        let disks = self.disks_of(self.array_of(id)?);
        let at_work = |other: LunId| {
            let restores = |op: &&crate::op::Op| {
                op.lun == other && !op.state.is_finished() && op.kind != OpKind::Verify
            };
            let array = self.array_of(other);
            let copies = array
                .and_then(project::syncing)
                .is_some_and(|action| matches!(action, SyncAction::Recover | SyncAction::Resync));
            copies || self.ops.values().any(|op| restores(&op))
        };
        let mut others = self.luns.iter().filter(|(other, _)| **other != id);
        let found = others.find(|(other, _)| {
            at_work(**other)
                && self
                    .array_of(**other)
                    .is_some_and(|array| !self.disks_of(array).is_disjoint(&disks))
        });
        found.map(|(_, entry)| entry.array.as_str())
    }

    fn disks_of(&self, array: &ArrayFacts) -> BTreeSet<&str> {
        let devices = array
            .members
            .iter()
            .filter_map(|member| self.inventory.devices.get(member.dev.known()?));
        devices.map(|device| device.whole_disk.as_str()).collect()
    }

    /// Drives that nothing is done with by itself for this LUN.
    fn aside_of(&self, id: LunId) -> BTreeMap<DriveId, String> {
        let mut aside = BTreeMap::new();
        for (drive, (other, name)) in &self.auto.kept {
            if *other != id {
                aside.insert(
                    *drive,
                    format!("it is meant for {name}, which is in greater danger"),
                );
            }
        }
        for seen in self.seen_drives.values() {
            if flapping(seen, self.now.wall).is_some() {
                let why =
                    format!("it was lost {FLAPS} times within a day, and is not relied on for now");
                aside.insert(seen.id, why);
            }
        }
        let offered = |drive: &DriveId| self.pool.iter().any(|entry| entry.id == *drive);
        let losses = &self.auto.losses.lost;
        for (drive, lost) in losses.iter().filter(|(drive, _)| !offered(drive)) {
            if lost.kind == LossKind::TakenOut {
                let why = "somebody took it out; `lunctl spare add` offers it again";
                aside.insert(*drive, why.to_owned());
            }
        }
        let failed = self.ops.values().filter(|op| op.lun == id);
        for drive in failed.flat_map(|op| &op.tried) {
            if !offered(drive) && !losses.contains_key(drive) {
                let why = "it failed while it was being filled";
                aside.insert(*drive, why.to_owned());
            }
        }
        aside
    }

    /// As `aside_of`, without what waits for `other`: it has no claim on that against itself.
    pub(super) fn relied_on_by_others(&self, id: LunId, other: LunId) -> BTreeMap<DriveId, String> {
        let mut aside = self.aside_of(id);
        let kept = self.auto.kept.iter();
        for (drive, _) in kept.filter(|(_, (for_whom, _))| *for_whom == other) {
            aside.remove(drive);
        }
        aside
    }

    /// When the next drive is relied on again.
    fn next_reliance(&self) -> Option<Mono> {
        let wall = self.now.wall;
        let until = self
            .seen_drives
            .values()
            .filter_map(|seen| flapping(seen, wall))
            .min()?;
        Some(
            self.now
                .mono
                .after(until.0.saturating_sub(wall.0).max(1_000)),
        )
    }

    /// Before an operation of the policy plans: what it must leave alone now. While lost members are
    /// waited for it takes back those that are there, and no spare.
    pub(super) fn leave_aside(&mut self, op: OpId) {
        let Some(op) = self.ops.get(&op).filter(|op| op.origin == Origin::Policy) else {
            return;
        };
        let (id, targets) = (op.lun, op.targets.clone());
        let prospect = self.prospect(id, None);
        let waits =
            prospect.together.is_some() || prospect.grace.is_some() || prospect.assembly.is_some();
        let mut aside = self.aside_of(id);
        for entry in self.pool.iter().filter(|_| waits) {
            if targets.iter().all(|target| target.id != entry.id) {
                let why = "members that were lost are still given a while to come back";
                aside.insert(entry.id, why.to_owned());
            }
        }
        self.auto.aside.insert(id, aside);
        if waits {
            self.keep_loans_of(id, &targets);
        }
    }

    /// Drives that an operation of the policy leaves alone.
    pub(super) fn left_aside(&self, id: LunId) -> &BTreeMap<DriveId, String> {
        static NONE: BTreeMap<DriveId, String> = BTreeMap::new();
        self.auto.aside.get(&id).unwrap_or(&NONE)
    }

    /// Carries a decision out, and tells of it if it is another than the last one.
    fn settle_on(&mut self, id: LunId, judged: Judged) {
        let Judged {
            ruling,
            plan,
            alternatives,
            aside,
        } = judged;
        let Some(entry) = self.luns.get(&id) else {
            return;
        };
        let mut decision = Decision {
            lun: id,
            lun_name: entry.array.clone(),
            decided_at_ms: self.now.wall,
            rule: ruling.rule,
            verdict: ruling.verdict,
            reason: ruling.reason.clone(),
            facts: self.grounds(id),
            alternatives,
            op: None,
        };
        match ruling.wake {
            Some(at) => drop(self.auto.wake.insert(id, at)),
            None => drop(self.auto.wake.remove(&id)),
        }
        match plan {
            Some(plan) if ruling.verdict == AutoVerdict::Act => {
                self.auto.aside.insert(id, aside);
                let (kind, origin) = (OpKind::Recover, Origin::Policy);
                let op = self.create_op("policy", id, kind, Some(REQUEST), origin, &plan);
                decision.op = Some(op);
            }
            Some(plan) if ruling.keeps_its_drives() => {
                let name = decision.lun_name.clone();
                let drives = plan
                    .targets
                    .iter()
                    .map(|target| (target.id, (id, name.clone())));
                self.auto.kept.extend(drives);
            }
            _ => {}
        }
        let said = self
            .auto
            .last
            .get(&id)
            .is_some_and(|last| decision.repeats(last));
        if !said {
            self.auto.last.insert(id, decision.clone());
            if decision.rule == AutoRule::ModeOff {
                // Nobody wants to hear of it who has not asked.
                return;
            }
            self.persist(Record::Decision(Box::new(decision.clone())));
            self.out.push(Effect::Decided(Box::new(decision)));
        }
    }
}

/// All that a LUN may be called in the configuration.
pub(super) fn names(lun: &Lun) -> Vec<&str> {
    let mut names = vec![lun.name.as_str(), lun.device.as_str()];
    for link in &lun.links {
        names.push(link);
        names.extend(
            link.strip_prefix("/dev/")
                .map(|name| name.strip_prefix("md/").unwrap_or(name)),
        );
    }
    names
}
