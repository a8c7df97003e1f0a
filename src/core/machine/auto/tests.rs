//! Each rule by itself, on a mirror that lost a member and has a spare in the pool.

use super::losses::{FLAP_MS, flapping};
use super::rules::{self, Attempts, BACK_OFF_MS, Deadline, Prospect, Ruling, Standing};
use crate::facts::{Fact, Level};
use crate::id::{Mono, Now, OpId, Wall};
use crate::machine::io::{Loss, LossKind, SeenDrive};
use crate::model::{AutoRule, AutoVerdict, Lun, LunStatus, Role};
use crate::plan::testkit::{DISK, EVENTS, RECOVER, World, drive_id};
use crate::policy::{AutoMode, Recovery};

const NOW: Now = Now {
    mono: Mono(1_000_000),
    wall: Wall(5_000_000),
};

fn world() -> World {
    let mut world = World::new(Level::Raid1, 2);
    world.fail("d1");
    world.pull("d1");
    world.pooled("s", DISK);
    world.op = None;
    world.aside = Some(std::collections::BTreeMap::new());
    world
}

fn standing(lun: &Lun) -> Standing<'_> {
    Standing {
        lun,
        settings: Recovery::default(),
        contradicted: false,
        operation: None,
        syncing: false,
        written_to: false,
        frozen: false,
        runs: true,
    }
}

const fn prospect() -> Prospect<'static> {
    Prospect {
        now: NOW,
        assembly: None,
        together: None,
        grace: None,
        attempts: Attempts {
            count: 0,
            ended_at: Wall(0),
            fresh: false,
        },
        neighbour: None,
    }
}

fn first(change: impl FnOnce(&mut Lun, &mut Standing<'_>)) -> Option<AutoRule> {
    let lun = world().lun();
    let mut other = lun.clone();
    let mut standing = standing(&lun);
    change(&mut other, &mut standing);
    let standing = Standing {
        lun: &other,
        ..standing
    };
    rules::at_first_sight(&standing).map(|ruling| ruling.rule)
}

fn ruled(world: &World, settings: Recovery, prospect: &Prospect<'_>) -> Ruling {
    let lun = world.lun();
    let standing = Standing {
        settings,
        ..standing(&lun)
    };
    rules::with_a_plan(&standing, &world.plan(&RECOVER), prospect)
}

#[test]
fn what_is_left_alone_is_known_at_first_sight() {
    assert_eq!(first(|_, _| {}), None, "a plan is needed");
    assert_eq!(
        first(|_, case| case.settings.mode = AutoMode::Off),
        Some(AutoRule::ModeOff)
    );
    assert_eq!(first(|lun, _| lun.held = true), Some(AutoRule::Held));
    assert_eq!(
        first(|_, case| case.frozen = true),
        Some(AutoRule::FrozenByOthers)
    );
    assert_eq!(
        first(|_, case| case.operation = Some(OpId(3))),
        Some(AutoRule::AtWork)
    );
    assert_eq!(first(|_, case| case.syncing = true), Some(AutoRule::AtWork));
    assert_eq!(
        first(|_, case| case.written_to = true),
        Some(AutoRule::AtWork)
    );
    assert_eq!(
        first(|_, case| case.contradicted = true),
        Some(AutoRule::Unclear)
    );
    assert_eq!(
        first(|_, case| case.runs = false),
        Some(AutoRule::NotWritable)
    );
    assert_eq!(
        first(|lun, _| lun.read_only = true),
        Some(AutoRule::NotWritable)
    );
    assert_eq!(
        first(|lun, _| lun.auto_read_only = true),
        Some(AutoRule::NotWritable)
    );
    assert_eq!(
        first(|lun, _| lun.status = LunStatus::Failed),
        Some(AutoRule::BeyondRecovery)
    );
}

#[test]
fn a_spare_takes_over_unless_somebody_is_waited_for() {
    let world = world();
    let auto = Recovery::default();
    assert_eq!(ruled(&world, auto, &prospect()).rule, AutoRule::Spare);
    let until = Deadline::after(NOW, 7_000);
    let waits = |change: fn(&mut Prospect<'static>, Deadline)| {
        let mut case = prospect();
        change(&mut case, until);
        ruled(&world, auto, &case)
    };
    let grace = waits(|case, until| case.grace = Some(until));
    assert_eq!(
        (grace.rule, grace.wake),
        (AutoRule::Grace, Some(Mono(1_007_000)))
    );
    let ends_at_ms = Some(Wall(5_007_000));
    assert_eq!(grace.verdict, AutoVerdict::Wait { ends_at_ms });
    assert!(grace.keeps_its_drives());
    let assembly = waits(|case, until| case.assembly = Some(until));
    assert_eq!(assembly.rule, AutoRule::Assembly);
    let together = waits(|case, _| {
        case.together = Some((vec!["/dev/sdb".to_owned()], "pci0".to_owned()));
    });
    assert_eq!(
        (together.rule, together.wake),
        (AutoRule::CommonCause, None)
    );
    assert!(!together.keeps_its_drives());
    let neighbour = waits(|case, _| case.neighbour = Some("md7"));
    assert_eq!(neighbour.rule, AutoRule::SharedDisks);
    let notify = Recovery {
        mode: AutoMode::Notify,
        ..auto
    };
    let told = ruled(&world, notify, &prospect());
    assert_eq!(
        (told.rule, told.verdict),
        (AutoRule::ModeNotify, AutoVerdict::Leave)
    );
    assert!(
        told.reason.contains("lunctl recover md0"),
        "{}",
        told.reason
    );
}

#[test]
fn a_member_that_is_back_is_waited_for_no_longer() {
    let mut world = World::new(Level::Raid1, 2);
    world.aside = Some(std::collections::BTreeMap::new());
    world.former("d1", EVENTS - 1);
    let case = Prospect {
        grace: Some(Deadline::after(NOW, 7_000)),
        together: Some((vec!["/dev/sdb".to_owned()], "pci0".to_owned())),
        ..prospect()
    };
    let superblock = |world: &mut World, role| {
        if let Fact::Known(Some(found)) = &mut world.probe_mut("d1").md {
            found.role = role;
        }
    };
    superblock(&mut world, Some(1));
    let ruling = ruled(&world, Recovery::default(), &case);
    assert_eq!(
        (ruling.rule, ruling.verdict),
        (AutoRule::ReAdd, AutoVerdict::Act)
    );
    // What would have to be erased is not taken, and nobody else is there.
    superblock(&mut world, None);
    let ruling = ruled(&world, Recovery::default(), &case);
    assert_eq!(ruling.rule, AutoRule::NoSpare, "{ruling:?}");
}

#[test]
fn what_is_set_aside_is_not_taken() {
    let mut world = world();
    let why = "somebody took it out".to_owned();
    world.aside = Some([(drive_id("s"), why)].into());
    let ruling = ruled(&world, Recovery::default(), &prospect());
    assert_eq!(ruling.rule, AutoRule::NoSpare);
    assert!(ruling.reason.contains("took it out"), "{}", ruling.reason);
}

#[test]
fn attempts_are_put_off_and_given_up() {
    let world = world();
    let after = |count, ago: u64, fresh| {
        let attempts = Attempts {
            count,
            ended_at: Wall(NOW.wall.0 - ago),
            fresh,
        };
        let case = Prospect {
            attempts,
            ..prospect()
        };
        ruled(&world, Recovery::default(), &case)
    };
    for (count, pause) in (1..).zip(BACK_OFF_MS) {
        let put_off = after(count, 1_000, false);
        assert_eq!(put_off.rule, AutoRule::BackOff);
        assert_eq!(put_off.wake, Some(NOW.mono.after(pause - 1_000)));
        assert_eq!(after(count, pause, false).rule, AutoRule::Spare);
        assert_eq!(after(count, 0, true).rule, AutoRule::Spare, "another drive");
    }
    let given_up = after(BACK_OFF_MS.len() + 1, 1_000_000, false);
    assert_eq!(
        (given_up.rule, given_up.verdict),
        (AutoRule::GivenUp, AutoVerdict::Leave)
    );
}

#[test]
fn three_losses_within_a_day_are_too_many() {
    let lun = world().lun().id;
    let loss = |at| Loss {
        at: Wall(at),
        lun,
        kind: LossKind::Vanished,
        disk: "sdb".to_owned(),
        controller: None,
        regained: true,
    };
    let seen = |losses: &[u64]| SeenDrive {
        id: drive_id("d1"),
        stable_name: "d1".to_owned(),
        device: "/dev/d1".to_owned(),
        lun: None,
        slot: None,
        role: Role::InSync,
        last_seen: Wall(0),
        retired: None,
        gone: false,
        lost: losses.iter().map(|at| loss(*at)).collect(),
    };
    let now = Wall(FLAP_MS + 1_000);
    assert_eq!(flapping(&seen(&[2_000, 3_000]), now), None);
    assert_eq!(
        flapping(&seen(&[500, 2_000, 3_000]), now),
        None,
        "one is long ago"
    );
    let until = flapping(&seen(&[2_000, 3_000, 4_000]), now);
    assert_eq!(until, Some(Wall(FLAP_MS + 2_000)));
    let until = flapping(&seen(&[2_000, 3_000, 4_000, 5_000]), now);
    assert_eq!(
        until,
        Some(Wall(FLAP_MS + 3_000)),
        "until fewer than three are left"
    );
}
