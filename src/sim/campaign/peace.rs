//! The end of a schedule: faults stop, and what was promised must come true.

use lun_core::id::LunId;
use lun_core::machine::{Command, Machine};

use super::raid_sets;
use super::reserve;
use super::rig::{Pace, Rig};
use super::schedule::{Agenda, recoverable};
use super::setting::plug_blank;
use crate::world::World;

/// Virtual time within which everything must come to rest, milliseconds.
const REST_MS: u64 = 1_800_000;
/// The safety rescan finds what no hint told of, and what a start of the host has not assembled is given up
/// after 90 s: nothing is at rest before.
const PATIENCE_MS: u64 = 91_000;
/// Nothing polls at rest: no timer is due before this.
const QUIET_MS: u64 = 5_000;
/// Recoveries asked of one array until it must be whole.
const ATTEMPTS: u32 = 6;

/// Faults stop; then everything is checked, and every array that can be read must become whole.
pub(super) fn make(rig: &mut Rig, agenda: &mut Agenda) {
    if rig.checks.broken() {
        return;
    }
    rig.tell(|| "--- peace".to_owned());
    rig.pace = Pace::CALM;
    rig.world.busy_next = 0;
    agenda.due(rig, true);
    rig.ledger_works();
    rig.happens(heal);
    rig.start();
    come_to_rest(rig);
    check(rig);
    let readable = recoverable(&rig.world);
    let all = rig.world.arrays.len() + rig.world.stopped.len();
    for _ in readable.len()..all {
        *rig.tally.arrays.entry("beyond recovery").or_default() += 1;
    }
    for name in readable {
        super::auto::mends_by_itself(rig, &name);
        if rig.checks.broken() {
            return;
        }
        mend(rig, &name);
    }
    if rig.checks.broken() {
        return;
    }
    check(rig);
    let ends: Vec<String> = rig
        .machine()
        .into_iter()
        .flat_map(Machine::op_views)
        .map(|op| op.state)
        .collect();
    for state in ends {
        *rig.tally.ends.entry(state).or_default() += 1;
    }
}

/// What fails on its own fails no more, and every array is written to: what has lost a drive without
/// noticing notices.
fn heal(world: &mut World) {
    let names: Vec<String> = world.arrays.keys().cloned().collect();
    for name in names {
        // One that cannot be written has noticed already.
        let _ = world.write(&name, 8);
    }
    let hung: Vec<String> = world.devices.values().map(|d| d.name.clone()).collect();
    for name in hung {
        world.unhang(&name);
    }
    world.forget_marks();
    for device in world.devices.values_mut() {
        device.fails_at = None;
        device.unreadable = 0;
    }
}

/// Lets time pass until nothing is under way, the safety rescan and what is awaited after a start included.
fn come_to_rest(rig: &mut Rig) {
    rig.run_for(PATIENCE_MS);
    let limit = rig.now_ms() + REST_MS;
    while !rig.is_calm(QUIET_MS) || rig.world.next_event_ms().is_some() {
        if !rig.next(limit) {
            if !rig.checks.broken() {
                let text = "faults have stopped and it does not come to rest".to_owned();
                rig.checks.wrong(text);
            }
            return;
        }
    }
}

fn check(rig: &mut Rig) {
    if rig.checks.broken() {
        return;
    }
    rig.check_calm();
}

/// With a fitting spare redundancy must return.
fn mend(rig: &mut Rig, name: &str) {
    let whole = |rig: &Rig| {
        let array = rig.world.array(name);
        array.is_none_or(|a| a.degraded() == 0 && a.resync_start.is_none() && !a.is_held())
    };
    if whole(rig) {
        *rig.tally.arrays.entry("whole").or_default() += 1;
        return;
    }
    if raid_sets::is_left_to_dmeventd(&rig.world, name) {
        // lund refuses: dmeventd does it.
        *rig.tally.arrays.entry("left to others").or_default() += 1;
        return;
    }
    if raid_sets::is_beyond_lvm(&rig.world, name) {
        *rig.tally
            .arrays
            .entry("held dirty and degraded")
            .or_default() += 1;
        return;
    }
    for attempt in 0..ATTEMPTS {
        let missing = rig.world.array(name).map_or(0, |a| a.degraded());
        // A member that fails wants a spare as well, and what others reserve is none.
        let kept = if attempt == 0 { reserve::kept(rig) } else { 0 };
        for _ in 0..missing.max(1) + kept {
            let number = rig.fresh_number();
            let set = rig.world.array(name).and_then(|a| a.dm.as_ref());
            let grows = set.is_some_and(|set| set.group().is_some())
                && !(rig.policy.extend_groups && rig.random.one_in(2));
            match rig.happens(|world| plug_blank(world, number)) {
                // A spare in the pool is of no use to a group that lund may not extend.
                Ok(drive) if grows => {
                    raid_sets::grow(rig, name, &drive);
                    None
                }
                Ok(drive) => rig.call(Command::SpareAdd {
                    drive,
                    force: false,
                }),
                Err(why) => return rig.checks.wrong(why),
            };
        }
        come_to_rest(rig);
        let Some(lun) = lun_of(rig, name) else {
            let text = format!("{name} is there and is not shown");
            return rig.checks.wrong(text);
        };
        rig.call(Command::Recover {
            lun,
            spare: None,
            repair: false,
            dry_run: false,
        });
        come_to_rest(rig);
        if rig.checks.broken() {
            return;
        }
        if whole(rig) {
            *rig.tally.arrays.entry("made whole").or_default() += 1;
            return;
        }
        rig.tell(|| format!("{name} is not whole after attempt {attempt}"));
    }
    let state = format!("{:?}", rig.world.array(name));
    rig.tell(|| state);
    let text = format!("redundancy of {name} does not return");
    rig.checks.wrong(text);
}

fn lun_of(rig: &Rig, name: &str) -> Option<LunId> {
    rig.machine()?.resolve_lun(name).ok()
}
