//! Schedules of machines with raid sets of device-mapper: volumes of LVM most of them, some made with
//! dmsetup, some beside an array of md. They have seeds of their own, so that what arrays of md go through
//! does not change with them.

use lun_core::action::{Action, SyncWord, Target};
use lun_core::facts::Level;

use super::random::Random;
use super::rig::Rig;
use super::schedule::{self, Agenda, Later};
use super::setting::{DRIVE, disk_name};
use crate::scenario::Scenario;
use crate::world::{KernelStyle, World};

/// Bytes of a physical volume: two legs and some room.
const VOLUME: u64 = 40 << 20;
/// MiB of a leg.
const LEG_MIB: u64 = 16;
/// Bytes a second of a sync thread.
const RATE: u64 = 4 << 20;
/// The volume group.
const GROUP: &str = "vg";

const LEVELS: &[(Level, usize)] = &[
    (Level::Raid1, 2),
    (Level::Raid1, 2),
    (Level::Raid1, 3),
    (Level::Raid5, 3),
    (Level::Raid5, 4),
    (Level::Raid6, 5),
    (Level::Raid10, 4),
];

/// A machine with one or two volumes, and perhaps something else.
pub(super) fn world(random: &mut Random) -> Result<World, String> {
    let styles = [KernelStyle::V6_1, KernelStyle::V6_12, KernelStyle::V7];
    let style = random.pick(&styles).copied().unwrap_or_default();
    let mut scenario = Scenario::new().style(style);
    let kinds: Vec<(Level, usize)> = (0..random.between(1, 2))
        .map(|_| random.pick(LEVELS).cloned().unwrap_or((Level::Raid1, 2)))
        .collect();
    let legs = kinds.iter().map(|(_, legs)| *legs).max().unwrap_or(2);
    let more = usize::try_from(random.below(3)).unwrap_or(0);
    let disks: Vec<String> = (0..legs + more).map(disk_name).collect();
    let names: Vec<&str> = disks.iter().map(String::as_str).collect();
    scenario = scenario.disks(&names, VOLUME).group(GROUP, &names);
    let mut victims = Vec::new();
    for (number, (level, legs)) in kinds.into_iter().enumerate() {
        let drives: Vec<&str> = names.iter().take(legs).copied().collect();
        scenario = scenario.volume(GROUP, &format!("lv{number}"), level, &drives, LEG_MIB);
        match random.below(8) {
            0 => scenario = scenario.dirty(),
            1..=3 => victims.extend(random.pick(&drives).copied()),
            _ => {}
        }
    }
    if let Some(victim) = victims.first() {
        scenario = scenario.lost(victim);
    }
    let mut next = legs + more;
    let mut fresh = |scenario: Scenario, bytes| {
        let name = disk_name(next);
        next += 1;
        (scenario.disk(&name, bytes), name)
    };
    let (lone, mapped) = (random.one_in(3), random.one_in(3));
    if lone {
        let (with_one, first) = fresh(scenario, DRIVE);
        let (with_two, second) = fresh(with_one, DRIVE);
        let pair = [first.as_str(), second.as_str()];
        scenario = with_two.array("md0", Level::Raid1, &pair).bitmap(true);
    }
    if mapped {
        let (level, legs) = random.pick(LEVELS).cloned().unwrap_or((Level::Raid1, 2));
        let mut drives = Vec::new();
        for _ in 0..legs {
            let (with_one, drive) = fresh(scenario, DRIVE);
            scenario = with_one;
            drives.push(drive);
        }
        let drives: Vec<&str> = drives.iter().map(String::as_str).collect();
        scenario = scenario.bare("bare", level, &drives, LEG_MIB);
    }
    for _ in 0..random.between(1, 3) {
        (scenario, _) = fresh(scenario, VOLUME);
    }
    let allocate = random.one_in(6);
    let mut world = scenario.build()?;
    if let Some(group) = world.groups.get_mut(GROUP) {
        group.allocate = allocate;
    }
    world.set_rate(RATE);
    Ok(world)
}

/// The next thing happens.
pub(super) fn disturb(rig: &mut Rig, agenda: &mut Agenda) {
    dmeventd(rig);
    schedule::disturb(rig, agenda);
}

/// A second administrator, with the tools of LVM and with dmsetup.
pub(super) fn others(rig: &mut Rig, agenda: &mut Agenda, array: &str) {
    let array = array.to_owned();
    let word = |word| Action::SetSync {
        array: array.clone(),
        word,
    };
    let bare = rig.world.array(&array).and_then(|a| a.dm.as_ref());
    let bare = bare.is_some_and(|set| set.group().is_none());
    match rig.random.below(12) {
        0..=1 if bare => {
            rig.fault("somebody suspends and resumes a set", &array);
            let _ = rig.happens(|world| world.suspend_and_resume(&array));
        }
        0..=1 => repair_by_hand(rig, &array, "somebody runs lvconvert --repair"),
        2..=3 => {
            if let Some(drive) = some_leg(rig, &array) {
                rig.tally.fault("somebody refreshes a volume");
                rig.meddle(&Action::Revive { array, drive });
            }
        }
        // At the lowest rate it would not end in the time that a schedule takes.
        4 if rig.world.array(&array).is_some_and(|a| !a.is_slowed()) => {
            let check = rig.random.one_in(2);
            rig.tally.fault("somebody has a volume checked");
            rig.meddle(&word(if check {
                SyncWord::Check
            } else {
                SyncWord::Repair
            }));
        }
        5 => {
            let slow = rig.random.one_in(2);
            rig.tally.fault("somebody changes a recovery rate");
            rig.meddle(&word(if slow {
                SyncWord::Frozen
            } else {
                SyncWord::Idle
            }));
        }
        6..=8 => {
            let words = [SyncWord::Frozen, SyncWord::Idle, SyncWord::Recover];
            let word = rig.random.pick(&words).copied().unwrap_or(SyncWord::Idle);
            let restarts = rig.random.one_in(2);
            rig.fault("somebody sends a message", &format!("{word:?} to {array}"));
            let _ = rig.happens(|world| world.message(&array, word, restarts));
            rig.checks.frozen_by_others(&rig.world, &array);
        }
        9..=10 => {
            rig.fault("somebody restores missing volumes", "");
            rig.happens(|world| world.restore_missing(GROUP));
        }
        _ => {
            rig.fault("set taken down by somebody", &array);
            rig.happens(|world| world.stop(&array));
            let at = rig.now_ms() + rig.random.between(1, 20_000);
            agenda.add(at, Later::Assemble(array));
        }
    }
}

fn some_leg(rig: &mut Rig, array: &str) -> Option<Target> {
    let world = &rig.world;
    let legs: Vec<Target> = world
        .array(array)?
        .members
        .iter()
        .filter_map(|member| {
            let device = world.devices.get(&member.dev)?;
            Some(Target {
                dev: device.dev,
                name: device.name.clone(),
                id: device.id,
            })
        })
        .collect();
    rig.random.pick(&legs).cloned()
}

fn repair_by_hand(rig: &mut Rig, array: &str, kind: &'static str) {
    rig.tally.fault(kind);
    rig.meddle(&Action::RepairVolume {
        array: array.to_owned(),
        onto: Vec::new(),
    });
}

/// dmeventd replaces failed legs where it was told to.
pub(super) fn dmeventd(rig: &mut Rig) {
    let left: Vec<String> = rig
        .world
        .arrays
        .values()
        .filter(|array| is_left_to_dmeventd(&rig.world, &array.name))
        .filter(|array| array.members.iter().any(|member| member.faulty))
        .map(|array| array.name.clone())
        .collect();
    for array in left {
        if rig.random.one_in(2) {
            repair_by_hand(rig, &array, "dmeventd repairs");
        }
    }
}

/// Whether dmeventd replaces failed legs of this array: lund keeps out then.
pub(super) fn is_left_to_dmeventd(world: &World, array: &str) -> bool {
    let set = world.array(array).and_then(|array| array.dm.as_ref());
    let group = set.and_then(|set| world.groups.get(set.group()?));
    group.is_some_and(|group| group.allocate)
}

/// Whether nothing but its own slow resync mends it: md runs no table of a parity set that is out of step
/// and misses a leg, so that its rate cannot be given back, and LVM replaces no leg of it.
pub(super) fn is_beyond_lvm(world: &World, array: &str) -> bool {
    let array = world.array(array).filter(|array| array.dm.is_some());
    array.is_some_and(|array| {
        let mirror = matches!(array.level, Level::Raid1 | Level::Raid10);
        !mirror && array.degraded() > 0 && array.resync_start.is_some()
    })
}

/// The administrator gives the group of this array another physical volume.
pub(super) fn grow(rig: &mut Rig, array: &str, drive: &str) {
    let group = rig.world.array(array).and_then(|a| a.dm.as_ref());
    let Some(group) = group.and_then(|set| set.group()).map(str::to_owned) else {
        return;
    };
    if let Some(drive) = schedule::target(&rig.world, drive) {
        rig.meddle(&Action::ExtendGroup {
            array: array.to_owned(),
            group,
            drive,
        });
    }
}
