//! Schedules in which arrays share their attached spares, as `spare-group` of `mdadm.conf` has it.

use lun_core::action::Action;
use lun_core::model::Role;
use lun_core::policy::{GroupedArray, Policy, SpareGroup};

use super::random::Random;
use super::rig::Rig;
use super::schedule::target;
use super::setting::plug_blank;

/// Sets the sequence of this apart from all others.
const GROUPS: u64 = 0x6772_6f75_7073_0000;

/// Draws a spare group, in one schedule of three.
pub(super) fn drawn(seed: u64, policy: &mut Policy) {
    if !Random::new(seed ^ GROUPS).one_in(3) {
        return;
    }
    let named = |name: &str| GroupedArray {
        ids: Vec::new(),
        names: vec![name.to_owned()],
    };
    policy.spare_groups = vec![SpareGroup {
        name: "all".to_owned(),
        arrays: ["md0", "md1", "md2"].map(named).to_vec(),
    }];
}

/// Attaches a spare to some of the arrays of the group.
pub(super) fn prepare(seed: u64, rig: &mut Rig) {
    if rig.policy.spare_groups.is_empty() {
        return;
    }
    let mut random = Random::new(seed ^ GROUPS ^ 1);
    let plain = rig.world.arrays.values().filter(|array| array.dm.is_none());
    let names: Vec<String> = plain.map(|array| array.name.clone()).collect();
    for array in names {
        if random.one_in(2) {
            continue;
        }
        let number = rig.fresh_number();
        let plugged = rig.happens(|world| plug_blank(world, number));
        let target = match plugged {
            Ok(name) => target(&rig.world, &name),
            Err(why) => return rig.checks.wrong(why),
        };
        if let Some(drive) = target {
            rig.meddle(&Action::AddSpare { array, drive });
        }
    }
}

impl Rig {
    /// A spare is taken out of an array for another one: by all that is known the array is whole, is not held, and
    /// does not use it.
    pub(super) fn judge_move(&mut self, action: &Action) {
        let (Action::RemoveMember { array, drive }, Some(machine)) = (action, self.machine())
        else {
            return;
        };
        let shown = machine.snapshot();
        let Some(lun) = shown.luns.iter().find(|lun| lun.name == *array) else {
            return;
        };
        let own = |op: &&lun_core::model::OpView| op.lun == lun.id && op.ended_at_ms.is_none();
        if shown.ops.iter().any(|op| own(&op)) {
            return;
        }
        let known = lun.drives.iter().find(|one| one.id == Some(drive.id));
        let redundancy = &lun.redundancy;
        let whole = redundancy.members_in_sync.is_some()
            && redundancy.members_in_sync == redundancy.members_wanted;
        let idle = known.is_some_and(|one| one.role == Role::Spare);
        self.tally
            .fault("a spare is taken from an array of its group");
        if lun.held || !whole || !idle {
            let text = format!("{action}, and it is held, not whole, or uses it: {lun:?}");
            self.checks.wrong(text);
        }
    }
}
