//! What is refused, and registration of spares.

use super::{half_mirror, owned, planned};
use crate::Error;
use crate::error::Unfit;
use crate::facts::{
    ArrayState, Fact, Level, MdstatProgress, Metadata, Slot, SyncAction, SyncCompleted,
};
use crate::id::OpId;
use crate::plan::testkit::{DISK, MD0, MIB, RECOVER, World, array, drive_id, spare, superblock};
use crate::plan::{Candidate, Method, Plan, check, probes_wanted, refuse_registration};

use uuid::Uuid;

// The checks.

#[test]
fn what_lund_leaves_to_others_is_refused_first() {
    let mut world = World::new(Level::Raid0, 2);
    world.array_mut().clustered = true;
    assert!(matches!(
        world.check(&RECOVER),
        Err(Error::NotSupported { .. })
    ));
    world.array_mut().clustered = false;
    world.array_mut().metadata = Fact::Known(Metadata::External("imsm".to_owned()));
    assert!(matches!(
        world.check(&RECOVER),
        Err(Error::NotSupported { .. })
    ));
}

#[test]
fn a_level_without_redundancy_has_nothing_to_recover() {
    let mut world = World::new(Level::Raid0, 2);
    world.array_mut().sync = None;
    assert!(matches!(
        world.check(&RECOVER),
        Err(Error::NotFaultTolerant { .. })
    ));
    let single = World::new(Level::Raid1, 1);
    assert!(matches!(
        single.check(&RECOVER),
        Err(Error::NotFaultTolerant { .. })
    ));
}

#[test]
fn a_failed_lun_is_not_touched() {
    let mut world = World::new(Level::Raid5, 3);
    world.fail("d0");
    world.fail("d2");
    world.pooled("p", DISK);
    let Err(Error::StatusFailed { why, .. }) = world.check(&RECOVER) else {
        panic!()
    };
    assert!(why.contains("slot 0, 2"), "{why}");
    assert!(matches!(
        world.plan(&RECOVER),
        Err(Error::StatusFailed { .. })
    ));
    let mut broken = World::new(Level::Raid1, 2);
    broken.array_mut().state = Fact::Known(ArrayState::Broken);
    assert!(matches!(
        broken.check(&RECOVER),
        Err(Error::StatusFailed { .. })
    ));
}

#[test]
fn a_busy_lun_says_what_it_is_busy_with() {
    let mut world = half_mirror();
    let busy = world.with(|ctx| check(&RECOVER, ctx, Some((OpId(7), "rebuilding".to_owned()))));
    let Err(Error::AnotherCall { op, doing, .. }) = busy else {
        panic!()
    };
    assert_eq!(
        (op, doing.as_str()),
        (Some(OpId(7)), "operation 7: rebuilding")
    );
    world.show(SyncAction::Recover, true);
    world.array_mut().mdstat.as_mut().unwrap().progress = MdstatProgress::None;
    let only_looking = world.check(&RECOVER);
    assert!(!matches!(only_looking, Err(Error::AnotherCall { .. })));
    world.member("s0", Slot::At(1), spare());
    assert!(matches!(
        world.check(&RECOVER),
        Err(Error::AnotherCall { op: None, .. })
    ));
    world.show(SyncAction::Resync, false);
    world.array_mut().mdstat.as_mut().unwrap().progress = MdstatProgress::Delayed;
    assert!(matches!(
        world.check(&RECOVER),
        Err(Error::AnotherCall { .. })
    ));
    world.show(SyncAction::Idle, false);
    world.array_mut().reshaping = Fact::Known(true);
    assert!(matches!(
        world.check(&RECOVER),
        Err(Error::AnotherCall { .. })
    ));
}

#[test]
fn a_frozen_lun_is_busy_only_until_its_thread_has_stopped() {
    let mut world = half_mirror();
    world.show(SyncAction::Frozen, false);
    world.held = true;
    assert_eq!(world.check(&RECOVER), Ok(()));
    let sync = world.array_mut().sync.as_mut().unwrap();
    sync.completed = Fact::Known(SyncCompleted::At { done: 1, total: 2 });
    assert!(matches!(
        world.check(&RECOVER),
        Err(Error::AnotherCall { .. })
    ));
}

#[test]
fn states_in_which_nothing_may_be_written() {
    let refused = |state| {
        let mut world = half_mirror();
        world.array_mut().state = Fact::Known(state);
        world.check(&RECOVER)
    };
    assert!(matches!(
        refused(ArrayState::Suspended),
        Err(Error::LunNotReady { .. })
    ));
    assert!(matches!(
        refused(ArrayState::Readonly),
        Err(Error::ReadOnly { .. })
    ));
    for fine in [
        ArrayState::ReadAuto,
        ArrayState::WritePending,
        ArrayState::ActiveIdle,
    ] {
        assert_eq!(refused(fine), Ok(()), "{fine:?}");
    }
    let mut stopped = World::new(Level::Raid1, 2);
    stopped.array_mut().state = Fact::Known(ArrayState::Inactive);
    stopped.array_mut().sync = None;
    assert!(matches!(
        stopped.check(&RECOVER),
        Err(Error::LunOffline { .. })
    ));
}

#[test]
fn a_needed_fact_that_is_unknown_is_named() {
    let mut world = half_mirror();
    world.facts_mut("d0").slot = Fact::Unknown("EIO".to_owned());
    let Err(Error::LunNotReady { why, .. }) = world.check(&RECOVER) else {
        panic!()
    };
    assert!(why.contains("d0") && why.contains("EIO"), "{why}");
    let mut world = half_mirror();
    world.state_mut("d0").faulty = true;
    assert!(
        world.check(&RECOVER).is_err(),
        "bad blocks that are not yet recorded"
    );
}

// Registration.

fn registered(world: &World, name: &str, force: bool) -> Result<Vec<String>, Unfit> {
    match refuse_registration(&world.inventory, world.dev(name), force) {
        Ok(entry) => Ok(entry.forced_signatures),
        Err(Error::DriveRefused { unfit, .. }) => Err(unfit),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn force_overrides_a_signature_and_nothing_else() {
    let mut world = World::new(Level::Raid1, 2);
    world.device("b", DISK);
    assert_eq!(registered(&world, "b", false), Ok(Vec::new()));
    superblock(world.probe_mut("b"), Uuid::from_u128(5), 1, Some(0));
    assert!(matches!(
        registered(&world, "b", false),
        Err(Unfit::Signature { .. })
    ));
    assert_eq!(
        registered(&world, "b", true),
        Ok(owned(&["linux_raid_member"]))
    );
    world.device_mut("b").used_by.push("/home".to_owned());
    assert!(matches!(
        registered(&world, "b", true),
        Err(Unfit::InUse { .. })
    ));
    let array = MD0.to_owned();
    assert_eq!(
        registered(&world, "d0", true),
        Err(Unfit::MemberElsewhere { array })
    );
}

#[test]
fn a_drive_of_no_use_to_any_array_is_refused() {
    let mut world = World::new(Level::Raid1, 2);
    world.device("b", DISK - MIB);
    assert!(matches!(
        registered(&world, "b", true),
        Err(Unfit::TooSmall { .. })
    ));
    let mut small = array("md1", Level::Raid1, 2, Uuid::from_u128(5));
    small.component_bytes = Fact::Known(MIB);
    world.inventory.arrays.insert("md1".to_owned(), small);
    assert_eq!(registered(&world, "b", false), Ok(Vec::new()));
    world.device_mut("b").logical_block_bytes = Fact::Known(4096);
    assert_eq!(
        registered(&world, "b", true),
        Err(Unfit::BlockSize {
            have: 4096,
            array: 512
        })
    );
}

#[test]
fn drives_that_must_be_looked_at() {
    let mut world = half_mirror();
    world.pooled("p", DISK);
    world.device("other", DISK);
    world.device_mut("other").udev_signature = Some("ext4".to_owned());
    world.device("old", DISK);
    world.device_mut("old").udev_signature = Some("linux_raid_member".to_owned());
    world.device("passed-over", DISK);
    let named = [drive_id("d0")].into();
    let wanted = probes_wanted(&world.inventory, world.array(), &world.pool, &named);
    let expected = ["d0", "p", "old", "passed-over"];
    assert_eq!(wanted, expected.map(|name| world.dev(name)).into());
    // Where nothing is missing, silence is not looked into.
    let whole = World::new(Level::Raid1, 2);
    let wanted = probes_wanted(&world.inventory, whole.array(), &[], &[].into());
    assert_eq!(wanted, [world.dev("old")].into());
}

#[test]
fn plans_survive_the_ledger_and_the_bus() {
    let mut world = half_mirror();
    world.pooled("p", DISK);
    world.pooled("q", 1);
    let plan = planned(&world, &RECOVER);
    let text = serde_json::to_string(&plan).unwrap();
    let back: Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(plan, back);
    let refused: &Candidate = plan.candidates.last().unwrap();
    assert_eq!((refused.method, refused.fits()), (Method::Add, false));
}
