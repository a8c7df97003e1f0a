//! Raid sets made with dmsetup.

use super::planned;
use crate::Error;
use crate::action::Action;
use crate::error::Unfit;
use crate::facts::{
    DmOwner, DmRaidFacts, Driver, Fact, LaidDevice, LegPart, LegRoom, Level, RaidLeg,
    RaidSuperblock, RaidTable, RaidType, SyncAction, SyncCompleted,
};
use crate::id::DevNo;
use crate::model::Phase;
use crate::plan::testkit::{
    DISK, MIB, OVERHEAD, RECOVER, World, drive_id, faulty, onto, spare, words,
};
use crate::plan::{Request, outlived, refuse_cancel};
use std::collections::BTreeSet;

/// Metadata of each leg.
const META: u64 = 2 * MIB;

/// A set on drives d0, d1, ... with metadata on m0, m1, ...; those in `lost` have failed.
fn set(level: Level, legs: u32, lost: &[u32]) -> World {
    let mut world = World::new(level, legs);
    let places: Vec<RaidLeg> = (0..legs)
        .map(|slot| RaidLeg {
            meta: Some(world.device(&format!("m{slot}"), META)),
            data: Some(world.dev(&format!("d{slot}"))),
        })
        .collect();
    let layout = *world.array().layout.known().unwrap();
    let level = world.array().level.known().unwrap().clone();
    world.array_mut().driver = Driver::DmRaid(Box::new(DmRaidFacts {
        name: "r".to_owned(),
        uuid: None,
        kernel_name: "dm-0".to_owned(),
        owner: DmOwner::Bare,
        table: Fact::Known(table(level, layout, places)),
        status: Fact::Unknown("not needed here".to_owned()),
        suspended: false,
        read_only: false,
        inactive_table: false,
        event: 0,
        open_count: 0,
        superblocks: (0..legs)
            .map(|slot| Fact::Known(Some(superblock(slot))))
            .collect(),
        unreadable: BTreeSet::new(),
        laid: Vec::new(),
    }));
    for slot in lost {
        world.facts_mut(&format!("d{slot}")).state = Fact::Known(faulty());
        dm(&mut world).superblocks[*slot as usize] = Fact::Unknown("EIO".to_owned());
    }
    let sync = world.array_mut().sync.as_mut().unwrap();
    sync.degraded = Fact::Known(u32::try_from(lost.len()).unwrap());
    world
}

fn table(level: Level, layout: u32, legs: Vec<RaidLeg>) -> RaidTable {
    let kind = RaidType {
        word: "any".to_owned(),
        level,
        layout,
    };
    RaidTable::new(8, kind, 128, legs)
}

fn superblock(slot: u32) -> RaidSuperblock {
    RaidSuperblock {
        num_devices: 2,
        array_position: slot,
        events: 1,
        failed: BTreeSet::new(),
        disk_recovery_offset: None,
        array_resync_offset: None,
        reshaping: false,
    }
}

fn dm(world: &mut World) -> &mut DmRaidFacts {
    match &mut world.array_mut().driver {
        Driver::DmRaid(set) => set,
        Driver::Md => panic!("no raid set"),
    }
}

fn live_table(world: &mut World) -> &mut RaidTable {
    match &mut dm(world).table {
        Fact::Known(table) => table,
        Fact::Unknown(why) => panic!("{why}"),
    }
}

#[test]
fn a_leg_that_can_be_read_again_is_taken_back_once() {
    let mut world = set(Level::Raid1, 2, &[1]);
    world.pooled("s", 2 * DISK);
    assert_eq!(words(&planned(&world, &RECOVER)), ["leg 1=s"]);
    dm(&mut world).superblocks[1] = Fact::Known(Some(superblock(1)));
    let plan = planned(&world, &RECOVER);
    assert_eq!(
        (words(&plan), plan.phase),
        (vec!["revive d1".to_owned()], Phase::ReAdd)
    );
    world.tried.insert(drive_id("d1"));
    assert_eq!(words(&planned(&world, &RECOVER)), ["leg 1=s"]);
}

/// The kernel calls the last leg of a pair good for ever; reading it tells.
#[test]
fn what_only_an_unreadable_leg_has_is_lost() {
    let mut world = set(Level::Raid10, 4, &[0]);
    world.pooled("s", 2 * DISK);
    dm(&mut world).unreadable = [2].into();
    assert!(world.plan(&RECOVER).is_ok(), "its partner can be read");
    dm(&mut world).unreadable = [1].into();
    for refused in [
        world.check(&RECOVER).map(drop),
        world.plan(&RECOVER).map(drop),
    ] {
        assert!(
            matches!(&refused, Err(Error::StatusFailed { why, .. }) if why.contains("leg 1")),
            "{refused:?}"
        );
    }
}

#[test]
fn lost_legs_are_laid_on_spares_one_after_the_other() {
    let mut world = set(Level::Raid6, 5, &[1, 3]);
    let refused = world.plan(&RECOVER);
    assert!(
        matches!(refused, Err(Error::NoSpare { missing: 2, .. })),
        "{refused:?}"
    );
    world.pooled("s", 2 * DISK);
    let plan = planned(&world, &RECOVER);
    assert_eq!(words(&plan), ["leg 1=s"]);
    assert_eq!(plan.leaves_missing, 1);
    // Metadata of both is to be erased when the new legs are in sync.
    let stale = outlived(&world.inventory, world.array(), &plan.steps[0].action);
    assert_eq!(stale, [drive_id("m1"), drive_id("m3")]);
    world.pooled("t", 3 * DISK);
    assert_eq!(planned(&world, &RECOVER).leaves_missing, 0);
    assert_eq!(words(&planned(&world, &onto(drive_id("t")))), ["leg 1=t"]);
}

#[test]
fn a_spare_must_have_room_for_metadata_too() {
    let mut world = set(Level::Raid1, 2, &[1]);
    let need = LegRoom::new(META, DISK - OVERHEAD).bytes();
    assert_eq!(need, DISK - OVERHEAD + META);
    world.pooled("s", need - 512);
    let refused = world.plan(&RECOVER);
    assert!(
        matches!(&refused, Err(Error::SparesTooSmall { rejected, .. })
            if matches!(rejected[0].1, Unfit::TooSmall { need_bytes, .. } if need_bytes == need)),
        "{refused:?}"
    );
    world.pooled("t", need);
    assert_eq!(words(&planned(&world, &RECOVER)), ["leg 1=t"]);
    // Another set of metadata devices was made larger than anybody needs.
    assert_eq!(LegRoom::new(1 << 40, 0).bytes(), 4 * MIB);
}

#[test]
fn what_its_owner_agreed_to_lose_is_erased_first() {
    let mut world = set(Level::Raid1, 2, &[1]);
    world.pooled("s", 2 * DISK);
    world.probe_mut("s").signatures = Fact::Known(vec!["ext4".to_owned()]);
    assert!(world.plan(&RECOVER).is_err());
    world.pool[0].forced_signatures = vec!["ext4".to_owned()];
    assert_eq!(words(&planned(&world, &RECOVER)), ["wipe s", "leg 1=s"]);
}

#[test]
fn what_was_begun_goes_on() {
    let mut world = set(Level::Raid1, 2, &[]);
    *world.state_mut("d1") = spare();
    // The status line says idle; the superblock says how far it is.
    assert_eq!(words(&planned(&world, &RECOVER)), ["recover"]);
    world.show(SyncAction::Frozen, false);
    assert_eq!(words(&planned(&world, &RECOVER)), ["recover"]);
    world.show(SyncAction::Recover, true);
    assert!(planned(&world, &RECOVER).steps.is_empty());
}

#[test]
fn a_table_that_waits_is_dropped_only_by_who_loaded_it() {
    let mut world = set(Level::Raid1, 2, &[1]);
    world.pooled("s", 2 * DISK);
    dm(&mut world).inactive_table = true;
    for refused in [world.plan(&RECOVER).map(drop), world.check(&RECOVER)] {
        assert!(
            matches!(refused, Err(Error::LunNotReady { .. })),
            "{refused:?}"
        );
    }
    world.added.insert(drive_id("s"));
    assert_eq!(words(&planned(&world, &RECOVER)), ["drop table"]);
}

#[test]
fn what_was_laid_for_nothing_is_removed() {
    let mut world = set(Level::Raid1, 2, &[1]);
    world.pooled("s", 2 * DISK);
    let on = world.dev("s");
    dm(&mut world).laid.push(LaidDevice {
        part: LegPart::Meta,
        name: "r_lund_meta_1_x".to_owned(),
        uuid: "LUND-meta-x".to_owned(),
        dev: DevNo {
            major: 253,
            minor: 9,
        },
        on,
        at_sectors: 0,
        sectors: 8,
        in_use: false,
    });
    assert_eq!(words(&planned(&world, &RECOVER)), ["drop table"]);
    dm(&mut world).laid[0].in_use = true;
    assert_eq!(words(&planned(&world, &RECOVER)), ["leg 1=s"]);
}

#[test]
fn the_superblock_of_the_old_leg_goes_last() {
    let mut world = set(Level::Raid1, 2, &[]);
    world.retiring.insert(drive_id("m7"));
    assert_eq!(planned(&world, &RECOVER).phase, Phase::None);
    world.device("m7", META);
    let plan = planned(&world, &RECOVER);
    assert_eq!(words(&plan), ["forget m7"]);
    assert!(matches!(plan.steps[0].action, Action::ForgetLeg { .. }));
    world.device_mut("m7").holders.insert("dm-4".to_owned());
    assert_eq!(planned(&world, &RECOVER).phase, Phase::None);
    world.device_mut("m7").holders.clear();
    world.tried.insert(drive_id("m7"));
    assert_eq!(planned(&world, &RECOVER).phase, Phase::None);
}

#[test]
fn tables_that_would_lose_something_are_left_alone() {
    let changes: [fn(&mut RaidTable); 4] = [
        |table| table.journal_dev = Some(DevNo { major: 7, minor: 9 }),
        |table| table.delta_disks = Some(1),
        |table| table.data_offset = Some(8),
        |table| table.legs[0].meta = None,
    ];
    for change in changes {
        let mut world = set(Level::Raid5, 3, &[]);
        change(live_table(&mut world));
        for request in [RECOVER, Request::Verify] {
            let refused = world.check(&request);
            assert!(
                matches!(refused, Err(Error::NotSupported { .. })),
                "{refused:?}"
            );
        }
    }
}

#[test]
fn a_dirty_set_is_brought_in_step_and_never_told_to_put_that_off() {
    let mut world = set(Level::Raid10, 4, &[]);
    world.dirty();
    assert_eq!(words(&planned(&world, &RECOVER)), ["resync"]);
    *world.state_mut("d1") = spare();
    assert_eq!(words(&planned(&world, &RECOVER)), ["recover"]);
}

#[test]
fn anything_can_be_stopped_but_a_leg_is_not_given_back() {
    let mut world = set(Level::Raid1, 2, &[]);
    let sync = world.array_mut().sync.as_mut().unwrap();
    sync.completed = Fact::Known(SyncCompleted::At { done: 1, total: 2 });
    for phase in [Phase::Check, Phase::Repair, Phase::Rebuild, Phase::Resync] {
        assert_eq!(refuse_cancel(world.array(), phase, false), None);
    }
    let refused = refuse_cancel(world.array(), Phase::Rebuild, true);
    assert!(
        matches!(refused, Some(Error::NotSupported { .. })),
        "{refused:?}"
    );
}
