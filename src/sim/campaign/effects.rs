//! How the effects of a daemon are carried out: each is under way for a while, and looks at the world
//! or changes it at one moment of that while.

use lun_core::Error;
use lun_core::action::Action;
use lun_core::facts::Fact;
use lun_core::id::LunId;
use lun_core::machine::{ActId, Effect, Input, Machine, Record, Reply, Token};
use lun_kernel::ScanRequest;

use super::rig::{Event, Hung, Rig};
use crate::action::Outcome;

/// A deep look at a drive that hangs ends after this long, without an answer.
const PROBE_DEADLINE_MS: u64 = 10_000;

/// A record that is on its way for so long is taken for one that cannot be written.
const LEDGER_DEADLINE_MS: u64 = 10_000;

impl Rig {
    /// The moment of a scan at which it sees the world.
    pub(super) fn look(&mut self, request: &ScanRequest) {
        let mut inventory = self.world.inventory(request);
        for array in inventory.arrays.values() {
            self.checks.honest(&self.world, array);
        }
        let unanswered = |group: &Fact<_>| group.known().is_none();
        let mut hangs = inventory.groups.values().any(unanswered);
        for (dev, probe) in &mut inventory.probes {
            if self
                .world
                .devices
                .get(dev)
                .is_some_and(|device| device.hung)
            {
                hangs = true;
                probe.signatures = Fact::Unknown("wipefs did not end in time".to_owned());
                probe.md = Fact::Unknown("mdadm did not end in time".to_owned());
            }
        }
        let ms = self.takes(self.pace.scan_ms) + if hangs { PROBE_DEADLINE_MS } else { 0 };
        let input = Input::Scanned(Ok(Box::new(inventory)));
        self.schedule(ms, Event::Deliver(input));
    }

    pub(super) fn begin_act(&mut self, id: ActId) {
        let Some(action) = self.acts.get(&id).cloned() else {
            return;
        };
        let ms = self.takes(self.pace.act_ms);
        if self.random.one_in(3)
            && let Some(part) = self.world.begin_part(&action)
        {
            self.tell(|| format!("    half done: {action}"));
            self.parts.insert(id, part);
            self.after_world();
        }
        self.schedule(ms, Event::ActDone(id));
    }

    /// The moment at which an action takes effect.
    pub(super) fn do_act(&mut self, id: ActId) {
        let Some(action) = self.acts.get(&id).cloned() else {
            return;
        };
        if let Some(part) = self.parts.remove(&id) {
            self.world.end_part(&action, part);
        }
        self.may_be_put_off(&action);
        let readable = self.checks.readable(&self.world);
        let outcome = self.world.begin(&action);
        self.tally.acts += 1;
        self.tell(|| format!("    {action} -> {outcome:?}"));
        self.checks.acted(&self.world, &action, &readable);
        self.after_world();
        match outcome {
            Outcome::Done(result) => {
                let ms = self.takes(self.pace.act_ms);
                self.schedule(ms, Event::Deliver(Input::Acted { id, result }));
            }
            Outcome::Blocked(array) => {
                self.tally.fault("hung write");
                let life = self.life;
                self.hung.push(Hung {
                    life,
                    id,
                    array,
                    action,
                    disowned: false,
                });
            }
        }
    }

    /// That a repair has to do what a resync would have done is written down before the resync is put off.
    fn may_be_put_off(&mut self, action: &Action) {
        let Action::ClearResyncStart {
            array,
            fill_first: true,
        } = action
        else {
            return;
        };
        // Nothing of an array that somebody has stopped meanwhile is put off: the write fails.
        let Some(lun) = self.world.array(array).map(|array| LunId(array.uuid)) else {
            return;
        };
        let degraded = |machine: &Machine| machine.ledger_degraded().is_some();
        let told = self.ledger.committed.tells_of_a_difference(lun);
        if !told && !self.machine.as_ref().is_some_and(degraded) {
            let text = format!("the resync of {array} is put off, and the ledger does not know");
            self.checks.wrong(text);
        }
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Scan {
                probe,
                events_of,
                groups,
            } => {
                let ms = self.takes(self.pace.scan_ms);
                self.schedule(
                    ms,
                    Event::Scan(ScanRequest {
                        probe,
                        events_of,
                        groups,
                    }),
                );
            }
            Effect::ReadArray { name } => {
                let ms = self.takes(self.pace.read_ms);
                self.schedule(ms, Event::ReadArray(name));
            }
            Effect::ReadProgress => {
                let ms = self.takes(self.pace.read_ms);
                self.schedule(ms, Event::ReadProgress);
            }
            Effect::Act {
                id,
                action,
                deadline_ms,
            } => self.send(id, action, deadline_ms),
            Effect::Persist { id, record } => {
                self.schedule(LEDGER_DEADLINE_MS, Event::WriteLate(id));
                if let Record::Pool(entry) = &record {
                    self.judge_claim(entry);
                }
                if self.ledger.tell(id, record) {
                    let ms = self.takes(self.pace.write_ms);
                    self.schedule(ms, Event::Write);
                }
            }
            Effect::Reply { token, result } => self.answered(token, result),
            Effect::Publish => {}
            Effect::Decided(decision) => {
                self.tell(|| format!("  = {:?} {decision}", decision.rule));
                *self
                    .tally
                    .decisions
                    .entry(decision.rule.as_str())
                    .or_default() += 1;
                self.judge_decision(*decision);
            }
            Effect::Notify { text, .. } => {
                self.checks.notified(&text);
                self.tell(|| format!("  - {text}"));
            }
        }
    }

    fn send(&mut self, id: ActId, action: Action, deadline_ms: u64) {
        let object = |action: &Action| {
            let drive = action.drive().map(|drive| drive.name.clone());
            action.array().map(str::to_owned).or(drive)
        };
        if self
            .acts
            .values()
            .any(|other| object(other) == object(&action))
        {
            self.checks.wrong(format!("two actions at once: {action}"));
        }
        self.judge_move(&action);
        self.tell(|| format!("    begins: {action}"));
        self.acts.insert(id, action);
        let ms = self.takes(self.pace.act_ms);
        self.schedule(ms, Event::ActBegins(id));
        self.schedule(deadline_ms, Event::ActLate(id));
    }

    fn answered(&mut self, token: Token, result: Result<Reply, Error>) {
        self.tell(|| format!("reply {} {}", token.0, brief(&result)));
        match &result {
            Ok(_) => self.tally.accepted += 1,
            Err(error) => self.tally.refused(error),
        }
        let unsure = self
            .machine
            .as_ref()
            .is_some_and(|machine| machine.ledger_degraded().is_some());
        self.checks.answered(token.0, result, unsure);
    }
}

/// An answer in one line.
fn brief(result: &Result<Reply, Error>) -> String {
    match result {
        Ok(Reply::Op(op)) => format!("operation {} {}", op.id, op.state),
        Ok(Reply::Plan(plan)) => format!("a plan: {}", plan.rule),
        Ok(Reply::Drive(drive)) => format!("drive {}", drive.device),
        Ok(Reply::Explanation(_)) => "an explanation".to_owned(),
        Ok(Reply::Done) => "done".to_owned(),
        Err(error) => format!("{}: {error}", error.hresult().name()),
    }
}
