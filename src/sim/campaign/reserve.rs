//! Schedules in which LUNs reserve the last spare, and what may be taken by itself then.

use std::collections::BTreeSet;

use lun_core::id::{DriveId, LunId, OpId};
use lun_core::machine::Snapshot;
use lun_core::model::{Lun, Origin, PoolEntry};
use lun_core::policy::{LunRule, Policy, Recovery};

use super::random::Random;
use super::rig::Rig;

/// Sets the sequence of this apart from all others.
const RESERVE: u64 = 0x7265_7365_7276_6500;

/// Draws which LUNs reserve, in one schedule of three.
pub(super) fn drawn(seed: u64, policy: &mut Policy) {
    let mut random = Random::new(seed ^ RESERVE);
    if !random.one_in(3) {
        return;
    }
    for name in ["md0", "md1", "md2"] {
        if random.one_in(2) {
            policy.lun_rules.push(LunRule {
                matches: name.to_owned(),
                priority: random.pick(&[-1, 0, 0, 1]).copied(),
                reserve: Some(random.one_in(2)),
                ..LunRule::default()
            });
        }
    }
}

/// Spares that have to be there before one is left for a LUN that reserves nothing.
pub(super) fn kept(rig: &Rig) -> u32 {
    let mut rules = rig.policy.lun_rules.iter();
    if !rules.any(|rule| rule.reserve == Some(true)) {
        return 0;
    }
    let arrays = rig.world.arrays.values();
    arrays.map(|array| array.degraded().max(1)).sum()
}

impl Rig {
    /// An operation of the policy claims a drive: no LUN that reserves it, and matters as much, is left without one.
    pub(super) fn judge_claim(&mut self, entry: &PoolEntry) {
        let (Some(op), Some(machine)) = (entry.claimed_by, self.machine()) else {
            return;
        };
        let shown = machine.snapshot();
        let by = shown.ops.iter().find(|one| one.id == op);
        let Some(by) = by.filter(|one| one.origin == Origin::Policy) else {
            return;
        };
        let node = |id: DriveId| {
            let drive = shown.drives.iter().find(|drive| drive.id == Some(id))?;
            Some(drive.device.clone())
        };
        let Some(taken) = node(entry.id) else { return };
        for one in shown.coverage.iter().filter(|one| one.lun != by.lun) {
            let yields = |lun| self.yields(&shown, lun, one.lun);
            if !yields(by.lun) || !one.by.contains(&taken) {
                continue;
            }
            // What the LUN itself has taken, or one that matters more, is no fault of this one.
            let theirs = |op: &OpId| {
                let mut ops = shown.ops.iter();
                ops.any(|one| one.id == *op && yields(one.lun))
            };
            let claimed: BTreeSet<String> = shown
                .pool
                .iter()
                .filter(|entry| entry.claimed_by.as_ref().is_some_and(theirs))
                .filter_map(|entry| node(entry.id))
                .collect();
            if one.by.iter().all(|node| claimed.contains(node)) {
                let text = format!(
                    "operation {op} on {} takes {taken}, the last spare that {} reserves: {:?}",
                    by.lun_name, one.lun_name, one.by
                );
                self.checks.wrong(text);
                return;
            }
        }
    }

    /// Whether one LUN leaves the last spare to another, by what the administrator has set.
    fn yields(&self, shown: &Snapshot, one: LunId, other: LunId) -> bool {
        let of = |id: LunId| {
            let lun: Option<&Lun> = shown.luns.iter().find(|lun| lun.id == id);
            let names: Vec<&str> = lun.iter().map(|lun| lun.name.as_str()).collect();
            self.policy.recovery_of(id, &names)
        };
        let (one, other): (Recovery, Recovery) = (of(one), of(other));
        other.reserve
            && (one.priority < other.priority || (one.priority == other.priority && !one.reserve))
    }
}
