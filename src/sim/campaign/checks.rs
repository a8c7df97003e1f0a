//! What must be true of every schedule, whatever happens in it.

use std::collections::{BTreeMap, BTreeSet};

use lun_core::Error;
use lun_core::action::{Action, SyncWord};
use lun_core::facts::{ArrayFacts, Position};
use lun_core::id::{DevNo, DriveId, LunId, OpId};
use lun_core::machine::{Command, Input, Machine, Reply, Snapshot};
use lun_core::model::{Health, OpView, Phase};
use uuid::Uuid;

use super::ledger::Committed;
use crate::world::{Mode, World};

/// A call of a client.
#[derive(Debug, Clone)]
struct Asked {
    life: u32,
    adds_spare: bool,
    answers: u32,
}

/// An operation as clients were shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    percent: u32,
    started_at: u64,
    lun: LunId,
    /// State, result, message and end, once it has ended.
    end: Option<(String, u32, String)>,
    /// The ledger did not work when it was shown: a crash may take it back.
    unsure: bool,
}

/// What the daemon knew of an array.
#[derive(Debug)]
struct Known {
    /// Since when, wall clock.
    at: u64,
    /// No slot without a good member.
    whole: bool,
    /// No resync pending.
    in_step: bool,
}

/// The witnesses.
#[derive(Debug, Default)]
pub struct Checks {
    wrong: Vec<String>,
    asked: BTreeMap<u64, Asked>,
    seen: BTreeMap<OpId, Seen>,
    /// Operations that a client was told of, and whether the ledger could not be written then.
    accepted: BTreeMap<OpId, bool>,
    /// Each array by the facts that the daemon took in.
    facts: BTreeMap<String, Vec<Known>>,
    /// Frozen arrays, and whether it was lund who froze them.
    froze: BTreeMap<Uuid, bool>,
    /// Registered spares that nobody was told the end of, by their lasting names.
    registered: BTreeMap<DriveId, String>,
    /// Who left the pool, and the newest call at that moment.
    left: Vec<(String, u64)>,
    /// The ledger was lost, or could not be written for a time: what it had to remember of the arrays
    /// may be lost too.
    forgetful: bool,
}

impl Checks {
    /// Something is as it must never be.
    pub fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Whether anything was wrong so far.
    #[must_use]
    pub const fn broken(&self) -> bool {
        !self.wrong.is_empty()
    }

    /// All that was wrong.
    #[must_use]
    pub fn findings(&self) -> &[String] {
        &self.wrong
    }

    /// A client has called.
    pub fn asked(&mut self, token: u64, command: &Command, life: u32) {
        let asked = Asked {
            life,
            adds_spare: matches!(command, Command::SpareAdd { .. }),
            answers: 0,
        };
        self.asked.insert(token, asked);
    }

    /// A call was answered.
    pub fn answered(&mut self, token: u64, result: Result<Reply, Error>, failing: bool) {
        let Some(asked) = self.asked.get_mut(&token) else {
            return self.wrong(format!("an answer to nobody: {token}"));
        };
        asked.answers += 1;
        if asked.answers > 1 {
            return self.wrong(format!("call {token} was answered twice"));
        }
        match result {
            Ok(Reply::Op(op)) => {
                self.accepted.insert(op.id, failing);
            }
            Ok(Reply::Drive(drive)) if asked.adds_spare => {
                // It may have left again before its registration was answered.
                let gone = |(text, call): &(String, u64)| {
                    *call >= token && text.contains(&drive.stable_name)
                };
                let stays = !failing && !self.left.iter().any(gone);
                if let Some(id) = drive.id.filter(|_| stays) {
                    self.registered.insert(id, drive.stable_name);
                }
            }
            Ok(_) => {}
            Err(Error::Internal { what }) => self.wrong(format!("internal error: {what}")),
            Err(_) => {}
        }
    }

    /// The daemon said something in the journal.
    pub fn notified(&mut self, text: &str) {
        if text.contains("left the spare pool") {
            let newest = self.asked.keys().last().copied().unwrap_or(0);
            self.left.push((text.to_owned(), newest));
            self.registered
                .retain(|_, name| !text.contains(name.as_str()));
        }
    }

    /// The daemon takes an input in.
    pub fn takes_in(&mut self, input: &Input, wall_ms: u64) {
        match input {
            Input::Scanned(Ok(inventory)) => {
                for array in inventory.arrays.values() {
                    self.note_facts(array, wall_ms);
                }
            }
            Input::ArrayRead {
                result: Ok(Some(array)),
                ..
            } => self.note_facts(array, wall_ms),
            _ => {}
        }
    }

    fn note_facts(&mut self, array: &ArrayFacts, wall_ms: u64) {
        let none_missing = |degraded: &u32| *degraded == 0;
        let sync = array.sync.as_ref();
        let known = self.facts.entry(array.name.clone()).or_default();
        known.push(Known {
            at: wall_ms,
            whole: sync.is_some_and(|sync| sync.degraded.is_known_and(none_missing)),
            in_step: array.resync_start.is_known_and(|at| *at == Position::Done),
        });
    }

    /// What clients are shown now; a line for the story when an operation has moved on.
    pub fn look(&mut self, machine: &Machine, world: &World) -> Option<String> {
        let mut told = None;
        for op in machine.op_views() {
            if let Some(line) = self.look_at(&op, world, machine.ledger_degraded().is_some()) {
                told = Some(line);
            }
        }
        told
    }

    fn look_at(&mut self, op: &OpView, world: &World, unsure: bool) -> Option<String> {
        self.forgetful |= unsure;
        let end = op.ended_at_ms.map(|_| {
            let state = op.state.clone();
            (state, op.hresult.0, op.message.clone())
        });
        let now = Seen {
            percent: op.percent,
            started_at: op.started_at_ms.0,
            lun: op.lun,
            end,
            unsure,
        };
        let before = self.seen.get(&op.id);
        if before == Some(&now) {
            return None;
        }
        let (id, pending) = (
            op.id,
            op.hresult == lun_core::Hresult::VDS_E_OPERATION_PENDING,
        );
        let mut wrong = Vec::new();
        if pending == (op.percent == 100) || pending == now.end.is_some() {
            wrong.push(format!("operation {id} is half finished: {op:?}"));
        }
        if let Some(before) = before {
            if (before.started_at, before.lun) != (now.started_at, now.lun) {
                wrong.push(format!("operation {id} is another one than before: {op:?}"));
            } else if before.end.is_some() && before.end != now.end {
                wrong.push(format!("{id} had ended: {:?} -> {:?}", before.end, now.end));
            } else if now.percent < before.percent {
                let (from, to) = (before.percent, now.percent);
                wrong.push(format!("operation {id} fell: {from} % -> {to} %"));
            }
        }
        let ends_now = now.end.is_some() && before.is_none_or(|before| before.end.is_none());
        if ends_now && op.state == "succeeded" {
            wrong.extend(self.judge_success(op));
            wrong.extend(self.judge_copies(op, world));
        }
        self.wrong.extend(wrong);
        self.seen.insert(op.id, now);
        ends_now.then(|| format!("operation {id} {}: {}", op.state, op.message))
    }

    /// A success that promises redundancy is one by the facts that the daemon had.
    fn judge_success(&self, op: &OpView) -> Option<String> {
        let hedged = op.message.contains("still missing") || op.message.contains("still to be");
        let ended = op.ended_at_ms.map_or(0, |at| at.0);
        let known = self.facts.get(&op.lun_name).map_or(&[][..], Vec::as_slice);
        let before = known.iter().filter(|facts| facts.at <= ended);
        let newest = before.clone().map(|facts| facts.at).max();
        let mut at_the_end = before.filter(|facts| Some(facts.at) == newest).peekable();
        at_the_end.peek()?;
        let true_to_it = at_the_end.any(|facts| match op.phase {
            Phase::Rebuild | Phase::Replace | Phase::ReAdd => facts.whole,
            Phase::Resync => facts.whole && facts.in_step,
            Phase::Check | Phase::Repair | Phase::None => true,
        });
        let lies = !hedged && !true_to_it;
        lies.then(|| format!("operation {} succeeded in vain: {}", op.id, op.message))
    }

    /// A success that says nothing of copies that may differ is one with copies that agree.
    fn judge_copies(&self, op: &OpView, world: &World) -> Option<String> {
        let hedged = ["still missing", "still to be", "may differ"];
        if self.forgetful || hedged.iter().any(|words| op.message.contains(words)) {
            return None;
        }
        let array = world.array(&op.lun_name)?;
        let torn = array.members.iter().find(|m| m.good() && m.torn)?;
        let (id, name) = (op.id, &torn.name);
        Some(format!(
            "operation {id} succeeded, and {name} may differ: {}",
            op.message
        ))
    }

    /// Facts of a raid set never call a leg in sync that is not, whatever its status line says.
    pub fn honest(&mut self, world: &World, facts: &ArrayFacts) {
        let Some(array) = world.array(&facts.name).filter(|array| array.dm.is_some()) else {
            return;
        };
        for member in &facts.members {
            let good = |dev: &DevNo| {
                let slot = array.dm.as_ref().and_then(|set| set.slot_on(*dev));
                let leg = array.dm.as_ref().and_then(|set| set.leg(slot?));
                leg.and_then(|leg| array.member(leg.data))
                    .is_some_and(|member| member.good())
            };
            let said = member.state.is_known_and(|state| state.in_sync);
            if said && !member.dev.is_known_and(good) {
                let (array, leg) = (&facts.name, &member.name);
                self.wrong
                    .push(format!("{array}: {leg} is called in sync and is not"));
            }
        }
    }

    /// Whether each array can be read.
    #[must_use]
    pub fn readable(&self, world: &World) -> Vec<(String, bool)> {
        let arrays = world.arrays.values();
        arrays
            .map(|a| (a.name.clone(), a.enough() && !a.broken))
            .collect()
    }

    /// lund has done something.
    pub fn acted(&mut self, world: &World, action: &Action, before: &[(String, bool)]) {
        for (name, readable) in before {
            let after = world.array(name).is_none_or(|a| a.enough() && !a.broken);
            if *readable && !after {
                self.wrong(format!("{name} cannot be read any more after: {action}"));
            }
        }
        self.data(world);
        if let Action::SetSync {
            array: name,
            word: SyncWord::Frozen,
        } = action
            && let Some(array) = world.array(name).filter(|array| array.is_held())
        {
            // What somebody else had frozen stays his.
            self.froze.entry(array.uuid).or_insert(true);
        }
        self.forget_thawed(world);
    }

    /// What the data and the drives say.
    pub fn data(&mut self, world: &World) {
        if let Err(what) = world.check_invariants() {
            self.wrong(what);
        }
    }

    /// A tool of lund's was killed while it had the array frozen.
    pub fn left_frozen(&mut self, world: &World, name: &str) {
        if let Some(array) = world.array(name) {
            self.froze.entry(array.uuid).or_insert(true);
        }
    }

    /// Somebody else has frozen an array, or let it go.
    pub fn frozen_by_others(&mut self, world: &World, name: &str) {
        if let Some(array) = world.array(name).filter(|array| array.is_held()) {
            self.froze.insert(array.uuid, false);
        }
        self.forget_thawed(world);
    }

    fn forget_thawed(&mut self, world: &World) {
        let frozen = |uuid: &Uuid| {
            let mut arrays = world.arrays.values();
            arrays.any(|array| array.uuid == *uuid && array.is_held())
        };
        self.froze.retain(|uuid, _| frozen(uuid));
    }

    /// The daemon was killed: what it had promised must be on the medium.
    pub fn killed(&mut self, committed: &Committed, failing: bool) {
        if failing {
            // Its intents died with it.
            self.disown_freezes();
        }
        let mut lost = Vec::new();
        for (id, failing) in &self.accepted {
            if committed.op(*id).is_none() {
                if !failing {
                    self.wrong
                        .push(format!("operation {id} was accepted and is forgotten"));
                }
                lost.push(*id);
            }
        }
        for id in &lost {
            self.accepted.remove(id);
        }
        for call in self.asked.values_mut() {
            // Nobody can answer these any more.
            call.answers = call.answers.max(1);
        }
        let mut unknown = Vec::new();
        for (id, seen) in &mut self.seen {
            match committed.op(*id) {
                Some(op) if seen.unsure && !op.state.is_finished() => {
                    seen.percent = seen.percent.min(op.percent);
                    seen.end = None;
                }
                Some(_) => {}
                None => unknown.push(*id),
            }
        }
        for id in unknown {
            self.seen.remove(&id);
        }
        let pool = committed.pool();
        let missing = |id: &DriveId| pool.iter().all(|entry| entry.id != *id);
        let gone: Vec<String> = self
            .registered
            .iter()
            .filter(|(id, _)| missing(id))
            .map(|(_, name)| format!("{name} was registered and is forgotten"))
            .collect();
        self.wrong.extend(gone);
    }

    /// The ledger was lost, or could not be written for a while: nobody can know what was promised.
    pub fn ledger_lost(&mut self) {
        self.forgetful = true;
        self.accepted.clear();
        self.seen.clear();
        self.registered.clear();
        self.disown_freezes();
    }

    fn disown_freezes(&mut self) {
        for ours in self.froze.values_mut() {
            *ours = false;
        }
    }

    /// Nothing is under way: what must be true then.
    pub fn calm(&mut self, world: &World, machine: &Machine, life: u32) {
        self.data(world);
        let snapshot = machine.snapshot();
        for (id, op) in &self.accepted {
            let known = snapshot.ops.iter().find(|view| view.id == *id);
            if known.is_none_or(|view| view.ended_at_ms.is_none()) {
                let text = format!("operation {id} (ledger failing: {op}) has no end: {known:?}");
                self.wrong.push(text);
            }
        }
        for (token, asked) in &self.asked {
            if asked.life == life && asked.answers == 0 {
                self.wrong.push(format!("call {token} was never answered"));
            }
        }
        self.holds(world, &snapshot);
        self.health(world, &snapshot);
        self.pool(&snapshot);
    }

    /// Held arrays stand still, and none stands still by lund's doing that is not shown as held.
    fn holds(&mut self, world: &World, snapshot: &Snapshot) {
        self.forget_thawed(world);
        for array in world.arrays.values().filter(|array| array.has_sync()) {
            let lun = snapshot.luns.iter().find(|lun| lun.id.0 == array.uuid);
            let held = lun.is_some_and(|lun| lun.held);
            let ours = self.froze.get(&array.uuid) == Some(&true);
            if array.is_held() && ours && !held {
                let text = format!("{} was left frozen and is not held", array.name);
                self.wrong.push(text);
            }
            // Nobody can begin anything on a raid set whose table no longer loads, nor hold it.
            let stuck = array.dm.is_some() && world.loads_again(&array.name).is_err();
            if held && !array.is_held() && array.mode != Mode::Readonly && !stuck {
                let text = format!("{} is held and not frozen", array.name);
                self.wrong.push(text);
            }
        }
    }

    /// No array is shown healthy that misses a copy.
    fn health(&mut self, world: &World, snapshot: &Snapshot) {
        for array in world.arrays.values().filter(|array| array.degraded() > 0) {
            let lun = snapshot.luns.iter().find(|lun| lun.id.0 == array.uuid);
            if lun.is_some_and(|lun| lun.health == Health::Healthy) && array.degraded_lie.is_none()
            {
                let text = format!("{} is shown healthy and is degraded", array.name);
                self.wrong.push(text);
            }
        }
    }

    /// No spare is lost or doubled, and nobody keeps one for an operation that has ended.
    fn pool(&mut self, snapshot: &Snapshot) {
        let mut known = BTreeSet::new();
        for entry in &snapshot.pool {
            if !known.insert(entry.id) {
                let text = format!("{} is in the pool twice", entry.stable_name);
                self.wrong.push(text);
            }
        }
        for (id, name) in &self.registered {
            if !known.contains(id) {
                self.wrong.push(format!("{name} is lost to the pool"));
            }
        }
    }
}
