//! Schedules in which lund mends by itself. What is drawn for that comes from a sequence of its own: the
//! schedules without it stay as they were.

use std::collections::{BTreeMap, BTreeSet};

use lun_core::id::{LunId, OpId};
use lun_core::machine::{Command, Machine};
use lun_core::model::{AutoRule, AutoVerdict, Decision, Origin};
use lun_core::policy::AutoMode;

use super::random::Random;
use super::reserve;
use super::rig::Rig;
use super::setting::plug_blank;
use crate::world::Mode;

/// Sets the sequence of this apart from all others.
const AUTO: u64 = 0x6175_746f_0000_0000;

/// Virtual time after which the longest back-off is over, milliseconds.
const LONG_MS: u64 = 4_000_000;

/// Attempts with the same drives, at most.
const ATTEMPTS: usize = 4;

/// What is drawn for one schedule.
#[derive(Debug)]
pub(super) struct Auto {
    random: Random,
    on: bool,
    /// Drives that went with their controller.
    away: Vec<String>,
}

impl Auto {
    /// Draws whether and how anything happens by itself.
    pub(super) fn drawn(seed: u64, rig: &mut Rig) -> Self {
        let mut random = Random::new(seed ^ AUTO);
        let settings = &mut rig.policy.recovery;
        settings.mode = match random.below(8) {
            0..=2 => AutoMode::Off,
            3 => AutoMode::Notify,
            _ => AutoMode::Auto,
        };
        settings.grace_ms = match random.below(4) {
            0 => 0,
            1 => 1_000,
            _ => 15_000,
        };
        let on = settings.mode != AutoMode::Off;
        if on && random.one_in(2) {
            // Two drives behind each controller.
            let mut drives: Vec<_> = rig.world.devices.values_mut().collect();
            drives.sort_by(|a, b| a.whole_disk.cmp(&b.whole_disk));
            let mut disks: Vec<String> = Vec::new();
            for drive in drives {
                if !disks.contains(&drive.whole_disk) {
                    disks.push(drive.whole_disk.clone());
                }
                drive.controller = Some(format!("pci{}", (disks.len() - 1) / 2));
            }
        }
        Self {
            random,
            on,
            away: Vec::new(),
        }
    }

    /// Now and then a whole controller goes, or comes back.
    pub(super) fn disturb(&mut self, rig: &mut Rig) {
        if !self.on || !self.random.one_in(8) {
            return;
        }
        if !self.away.is_empty() {
            return self.return_all(rig);
        }
        let mut behind: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for drive in rig.world.devices.values().filter(|drive| drive.present) {
            if let Some(controller) = drive.controller.clone() {
                behind
                    .entry(controller)
                    .or_default()
                    .push(drive.name.clone());
            }
        }
        let all: Vec<String> = behind.keys().cloned().collect();
        let Some(controller) = self.random.pick(&all).cloned() else {
            return;
        };
        let drives = behind.remove(&controller).unwrap_or_default();
        rig.fault("controller lost", &controller);
        rig.happens(|world| drives.iter().for_each(|drive| world.vanish(drive)));
        self.away = drives;
    }

    fn return_all(&mut self, rig: &mut Rig) {
        let drives = std::mem::take(&mut self.away);
        rig.fault("controller back", &drives.join(" "));
        rig.happens(|world| drives.iter().for_each(|drive| world.plug(drive)));
    }

    /// Half of the controllers that are away come back in the end.
    pub(super) fn peace(&mut self, rig: &mut Rig) {
        if !self.away.is_empty() && self.random.one_in(2) {
            self.return_all(rig);
        }
    }
}

/// With faults stopped and a spare that fits, a LUN that lost redundancy is mended without a call.
pub(super) fn mends_by_itself(rig: &mut Rig, name: &str) {
    let missing = rig.world.array(name).map_or(0, |a| a.degraded());
    let plain = rig.world.array(name).is_some_and(|a| a.dm.is_none());
    if rig.policy.recovery.mode != AutoMode::Auto || missing == 0 || !plain || rig.checks.broken() {
        return;
    }
    // Another array may be in greater danger and take them first.
    let all: u32 = rig.world.arrays.values().map(|a| a.degraded()).sum();
    for _ in 0..all + reserve::kept(rig) {
        let number = rig.fresh_number();
        match rig.happens(|world| plug_blank(world, number)) {
            Ok(drive) => {
                let force = false;
                rig.call(Command::SpareAdd { drive, force });
            }
            Err(why) => return rig.checks.wrong(why),
        }
    }
    rig.run_for(LONG_MS);
    let Some(array) = rig.world.array(name) else {
        return;
    };
    let still = array.is_held() || array.mode != Mode::Running;
    let decided = rig.decisions.get(&LunId(array.uuid));
    let meant = decided.is_some_and(|decision| {
        matches!(
            decision.rule,
            AutoRule::Held
                | AutoRule::FrozenByOthers
                | AutoRule::CommonCause
                | AutoRule::NotWritable
                | AutoRule::BeyondRecovery
        )
    });
    let outcome = match (array.degraded(), still || meant) {
        (0, _) => "made whole by itself",
        (_, true) => "left alone by itself",
        (_, false) => {
            let decided = decided.map(ToString::to_string);
            let text = format!("{name} is not mended by itself: {decided:?}, {array:?}");
            return rig.checks.wrong(text);
        }
    };
    *rig.tally.arrays.entry(outcome).or_default() += 1;
}

impl Rig {
    /// A decision is made, and looked at with what clients are shown in the same moment.
    pub(super) fn judge_decision(&mut self, decision: Decision) {
        let Some(machine) = self.machine() else {
            return;
        };
        let wrong = |what: &str| Some(format!("{what}: {decision:?}"));
        let shown = machine.snapshot();
        let lun = shown.luns.iter().find(|lun| lun.id == decision.lun);
        let began: BTreeSet<OpId> = decision.op.into_iter().collect();
        let at_work = shown.ops.iter().any(|op| {
            op.lun == decision.lun && op.ended_at_ms.is_none() && !began.contains(&op.id)
        });
        let acts = decision.verdict == AutoVerdict::Act;
        let finding = if acts && self.policy.recovery.mode != AutoMode::Auto {
            wrong("it acts by itself and was not told to")
        } else if acts && lun.is_none_or(|lun| lun.held || lun.read_only) {
            wrong("it acts by itself on a LUN that is held or read-only")
        } else if acts && at_work {
            wrong("it acts by itself on a LUN that is being worked on")
        } else if acts != decision.op.is_some() {
            wrong("an act without an operation, or an operation without an act")
        } else {
            attempts(machine, &decision)
        };
        if let Some(finding) = finding {
            self.checks.wrong(finding);
        }
        self.decisions.insert(decision.lun, decision);
    }
}

/// Retries are bounded: so many of the policy's operations filled the same drives.
fn attempts(machine: &Machine, decision: &Decision) -> Option<String> {
    let views: Vec<_> = machine.op_views().collect();
    let of_it = views.iter().rev().filter(|op| op.lun == decision.lun);
    let failed = of_it.take_while(|op| op.origin == Origin::Policy && op.state != "succeeded");
    let mut times: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for op in failed {
        *times.entry(op.spare.clone()).or_default() += 1;
    }
    let most = times.values().max().copied().unwrap_or(0);
    (most > ATTEMPTS * 2).then(|| format!("{most} attempts with the same drive: {decision:?}"))
}
