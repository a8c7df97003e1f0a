//! Raid sets of device-mapper.

use std::collections::BTreeSet;

use super::planned;
use crate::Error;
use crate::error::Unfit;
use crate::facts::{
    DmOwner, DmRaidFacts, Driver, Fact, Level, LogicalVolume, MemberState, PhysicalVolume,
    SyncAction, SyncCompleted, VolumeGroup,
};
use crate::model::Phase;
use crate::plan::testkit::{DISK, MD0, MIB, RECOVER, World, drive_id, onto, words};
use crate::plan::{Plan, Request, Verdict, refuse_cancel};

/// A raid set of device-mapper in place of the array of md.
fn mapped(world: &mut World, owner: DmOwner) {
    let unread = || "not read".to_owned();
    world.array_mut().driver = Driver::DmRaid(Box::new(DmRaidFacts {
        name: "r".to_owned(),
        uuid: None,
        kernel_name: "dm-0".to_owned(),
        owner,
        table: Fact::Unknown(unread()),
        status: Fact::Unknown(unread()),
        suspended: false,
        read_only: false,
        inactive_table: false,
        event: 0,
        open_count: 0,
        superblocks: Vec::new(),
        unreadable: BTreeSet::new(),
        laid: Vec::new(),
    }));
}

#[test]
fn what_a_raid_set_of_device_mapper_is_in_comes_first() {
    let mut world = World::new(Level::Raid0, 2);
    world.array_mut().sync = None;
    mapped(&mut world, DmOwner::Bare);
    assert!(matches!(
        world.check(&RECOVER),
        Err(Error::NotFaultTolerant { .. })
    ));
    let mut world = World::new(Level::Raid1, 2);
    mapped(&mut world, DmOwner::Bare);
    let sync = world.array_mut().sync.as_mut().unwrap();
    sync.action = Fact::Known(SyncAction::Resync);
    sync.completed = Fact::Known(SyncCompleted::At { done: 1, total: 2 });
    assert!(matches!(
        world.check(&RECOVER),
        Err(Error::AnotherCall { .. })
    ));
    // What runs is waited for, and nothing is done.
    assert!(world.plan(&RECOVER).unwrap().steps.is_empty());
    world.array_mut().members.clear();
    assert!(matches!(
        world.check(&RECOVER),
        Err(Error::StatusFailed { .. })
    ));
}

fn lv() -> DmOwner {
    DmOwner::Lvm {
        vg: "vg".to_owned(),
        lv: "lv".to_owned(),
    }
}

fn part(name: &str, nodes: &[&str]) -> LogicalVolume {
    LogicalVolume {
        name: name.to_owned(),
        parent: Some("lv".to_owned()),
        size_bytes: if name.contains("rmeta") {
            4 * MIB
        } else {
            DISK
        },
        nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
        health: String::new(),
        monitored: name == "lv",
    }
}

/// A physical volume on the drive called so, with this much free; [`None`] for one that is gone.
fn physical(world: &World, name: &str, free_bytes: u64, there: bool) -> PhysicalVolume {
    PhysicalVolume {
        node: if there {
            format!("/dev/{name}")
        } else {
            "[unknown]".to_owned()
        },
        uuid: format!("uuid-{name}"),
        dev: there.then(|| world.dev(name)),
        size_bytes: 4 * DISK,
        free_bytes,
        missing: !there,
        allocatable: true,
    }
}

/// A mirror of LVM on d0 and d1, of which d1 is lost; `there`: LVM sees its device. d2 is another
/// physical volume, with this much free.
fn half_volume(there: bool, free_bytes: u64) -> World {
    let mut world = World::new(Level::Raid1, 2);
    mapped(&mut world, lv());
    world.array_mut().members[1].state = Fact::Known(MemberState {
        faulty: true,
        ..MemberState::default()
    });
    world.array_mut().sync.as_mut().unwrap().degraded = Fact::Known(1);
    world.device("d2", 4 * DISK);
    let lost = if there { "/dev/d1" } else { "[unknown]" };
    let group = VolumeGroup {
        name: "vg".to_owned(),
        extent_bytes: 4 * MIB,
        physical: vec![
            physical(&world, "d0", 4 * DISK, true),
            physical(&world, "d1", 4 * DISK, there),
            physical(&world, "d2", free_bytes, true),
        ],
        logical: vec![
            part("lv", &["lv_rimage_0", "lv_rimage_1"]),
            part("lv_rimage_0", &["/dev/d0"]),
            part("lv_rimage_1", &[lost]),
            part("lv_rmeta_0", &["/dev/d0"]),
            part("lv_rmeta_1", &[lost]),
        ],
        fault_policy: "warn".to_owned(),
    };
    world
        .inventory
        .groups
        .insert("vg".to_owned(), Fact::Known(group));
    world
}

fn group(world: &mut World) -> &mut VolumeGroup {
    match world.inventory.groups.get_mut("vg").unwrap() {
        Fact::Known(group) => group,
        Fact::Unknown(why) => panic!("{why}"),
    }
}

#[test]
fn a_leg_whose_device_is_back_is_taken_back_and_tried_once() {
    let mut world = half_volume(true, 4 * DISK);
    let plan = planned(&world, &RECOVER);
    assert_eq!(
        (words(&plan), plan.phase),
        (vec!["revive d1".to_owned()], Phase::ReAdd)
    );
    let d1 = drive_id("d1");
    world.tried.insert(d1);
    assert_eq!(words(&planned(&world, &RECOVER)), ["repair onto d2"]);
}

#[test]
fn lvm_replaces_what_is_gone_where_there_is_room() {
    let mut world = half_volume(false, 4 * DISK);
    let plan = planned(&world, &RECOVER);
    assert_eq!(
        (words(&plan), plan.phase),
        (vec!["repair onto d2".to_owned()], Phase::Rebuild)
    );
    let verdict = |plan: &Plan, name: &str| {
        let found = plan
            .candidates
            .iter()
            .find(|candidate| candidate.drive.name == name);
        found.unwrap().verdict.clone()
    };
    assert_eq!(verdict(&plan, "d2"), Verdict::Taken);
    assert_eq!(
        verdict(&plan, "d0"),
        Verdict::Rejected(Unfit::MemberElsewhere {
            array: MD0.to_owned()
        })
    );
    group(&mut world).physical[2].allocatable = false;
    let refused = world.plan(&RECOVER);
    assert!(
        matches!(&refused, Err(Error::NoSpare { rejected, .. })
            if rejected.contains(&("/dev/d2".to_owned(), Unfit::NotAllocatable))),
        "{refused:?}"
    );
}

#[test]
fn a_group_without_room_is_extended_only_where_that_is_allowed() {
    let mut world = half_volume(false, DISK);
    let too_small = Unfit::TooSmall {
        have_bytes: DISK,
        need_bytes: DISK + 4 * MIB,
    };
    let refused = world.plan(&RECOVER);
    assert!(
        matches!(&refused, Err(Error::NoSpare { rejected, .. })
            if rejected.contains(&("/dev/d2".to_owned(), too_small))),
        "{refused:?}"
    );
    world.pooled("s", 2 * DISK);
    assert!(world.plan(&RECOVER).is_err());
    world.extend_groups = true;
    assert_eq!(words(&planned(&world, &RECOVER)), ["extend s"]);
    // As large as the leg is not enough: LVM keeps the beginning for itself.
    world.pool.clear();
    world.pooled("t", DISK + 4 * MIB);
    assert!(world.plan(&RECOVER).is_err());
}

/// Two legs of three are lost, one drive was asked for and has its leg: the operation has done what it could.
#[test]
fn the_drive_that_was_asked_for_is_enough() {
    let mut world = half_volume(false, 4 * DISK);
    world.array_mut().raid_disks = Fact::Known(3);
    let onto_d0 = onto(drive_id("d0"));
    let plan = planned(&world, &onto_d0);
    assert_eq!((plan.phase, plan.leaves_missing), (Phase::None, 2));
    // Who merely asks is told why the drive is none to take.
    world.op = None;
    let refused = world.plan(&onto_d0);
    assert!(
        matches!(refused, Err(Error::DriveRefused { .. })),
        "{refused:?}"
    );
}

/// The kernel calls a leg good for as long as nothing is read from it, or it is the last.
#[test]
fn what_only_a_missing_volume_has_is_lost() {
    let mut world = half_volume(false, 4 * DISK);
    let group = group(&mut world);
    group.physical[0].missing = true;
    let refused = world.plan(&RECOVER);
    assert!(
        matches!(&refused, Err(Error::StatusFailed { why, .. }) if why.contains("leg 0")),
        "{refused:?}"
    );
}

#[test]
fn dmeventd_is_left_to_what_it_was_told_to_do() {
    let mut world = half_volume(false, 4 * DISK);
    group(&mut world).fault_policy = "allocate".to_owned();
    for refused in [
        world.check(&RECOVER).map(drop),
        world.plan(&RECOVER).map(drop),
    ] {
        assert!(
            matches!(&refused, Err(Error::NotSupported { why, .. }) if why.contains("dmeventd")),
            "{refused:?}"
        );
    }
    group(&mut world).logical[0].monitored = false;
    assert!(world.plan(&RECOVER).is_ok());
}

#[test]
fn nothing_is_planned_before_lvm_was_asked() {
    let mut world = half_volume(false, 4 * DISK);
    world.inventory.groups.clear();
    assert!(matches!(
        world.plan(&RECOVER),
        Err(Error::LunNotReady { .. })
    ));
}

#[test]
fn a_held_recovery_of_a_volume_is_given_its_rate_back() {
    let mut world = half_volume(true, 4 * DISK);
    world.array_mut().members[1].state = Fact::Known(MemberState {
        spare: true,
        ..MemberState::default()
    });
    world.array_mut().sync.as_mut().unwrap().action = Fact::Known(SyncAction::Frozen);
    assert_eq!(words(&planned(&world, &RECOVER)), ["recover"]);
}

#[test]
fn whole_volumes_are_compared_and_repaired_by_the_same_words() {
    let mut world = World::new(Level::Raid1, 2);
    mapped(&mut world, lv());
    let sync = world.array_mut().sync.as_mut().unwrap();
    sync.sync_min = Fact::Unknown("device-mapper does not tell".to_owned());
    assert_eq!(words(&planned(&world, &Request::Verify)), ["check"]);
    let repair = Request::Recover {
        spare: None,
        repair: true,
    };
    assert_eq!(words(&planned(&world, &repair)), ["repair"]);
    assert_eq!(planned(&world, &RECOVER).phase, Phase::None);
}

#[test]
fn a_leg_that_works_is_not_replaced() {
    let mut world = World::new(Level::Raid1, 2);
    mapped(&mut world, lv());
    let replace = Request::Replace {
        drive: drive_id("d0"),
        with: None,
    };
    assert!(matches!(
        world.check(&replace),
        Err(Error::NotSupported { .. })
    ));
}

#[test]
fn what_lvm_cannot_stop_is_not_cancelled() {
    let mut world = World::new(Level::Raid1, 2);
    mapped(&mut world, lv());
    assert_eq!(refuse_cancel(world.array(), Phase::Rebuild, false), None);
    for (phase, release) in [
        (Phase::Check, false),
        (Phase::Repair, false),
        (Phase::Rebuild, true),
    ] {
        let refused = refuse_cancel(world.array(), phase, release);
        assert!(
            matches!(refused, Some(Error::NotSupported { .. })),
            "{phase:?}"
        );
    }
}
