//! Lives of operations, one by one.

use lun_core::Error;
use lun_core::facts::Level;
use lun_core::id::OpId;
use lun_core::machine::{Command, Reply};
use lun_core::model::Health;
use lun_sim::scenario::{Scenario, by_name};

use super::rig::Rig;

const DISK: u64 = 64 << 20;
const NAMES: [&str; 6] = ["sda", "sdb", "sdc", "sdd", "sde", "sdf"];

/// An array of the level over its first disks, and two blank disks more.
fn array(level: Level, members: usize) -> Scenario {
    Scenario::new()
        .disks(&NAMES, DISK)
        .array("md0", level, &NAMES[..members])
}

fn rig(scenario: Scenario) -> Rig {
    Rig::new(scenario.build().unwrap())
}

fn assert_ends(rig: &mut Rig, op: OpId, state: &str) {
    let view = rig.finished(op);
    assert_eq!(view.state, state, "{}", rig.story());
    rig.sound();
}

#[test]
fn every_level_is_recovered_from_the_pool() {
    for (level, members) in [
        (Level::Raid1, 2),
        (Level::Raid4, 3),
        (Level::Raid5, 3),
        (Level::Raid6, 4),
        (Level::Raid10, 4),
    ] {
        let mut rig = rig(array(level, members).lost("sdb"));
        rig.happens(|world| world.device_mut("sdb").map(|d| d.superblock = None));
        rig.add_spare("sdf");
        let op = rig.recover("md0").unwrap();
        assert_ends(&mut rig, op.id, "succeeded");
        assert_eq!(rig.lun("md0").health, Health::Healthy, "{}", rig.story());
        assert!(rig.machine.snapshot().pool.is_empty());
    }
}

#[test]
fn nothing_wrong_is_finished_at_once() {
    let mut rig = rig(array(Level::Raid1, 2));
    let op = rig.recover("md0").unwrap();
    assert_eq!((op.state.as_str(), op.percent), ("succeeded", 100));
    assert_eq!(op.hresult, lun_core::Hresult::S_OK);
}

#[test]
fn two_missing_are_one_operation() {
    let mut rig = Rig::new(by_name("raid6-two-missing").unwrap());
    rig.add_spare("sde");
    rig.add_spare("sdf");
    let op = rig.recover("md0").unwrap();
    assert_ends(&mut rig, op.id, "succeeded");
    assert_eq!(rig.lun("md0").health, Health::Healthy, "{}", rig.story());
    assert_eq!(rig.machine.snapshot().ops.len(), 1, "{}", rig.story());
}

#[test]
fn a_cancel_holds_and_recover_resumes() {
    let mut rig = rig(array(Level::Raid5, 3).lost("sdb"));
    rig.add_spare("sdf");
    let op = rig.recover("md0").unwrap();
    rig.until("under way", |rig| rig.op(op.id).percent > 20);
    rig.cancel(op.id, false).unwrap();
    assert_ends(&mut rig, op.id, "cancelled");
    assert!(rig.lun("md0").held);
    assert_eq!(rig.lun("md0").sync.action, "frozen");
    assert_eq!(
        rig.cancel(op.id, false),
        Err(Error::OperationCanceled { op: op.id })
    );
    rig.pass(600_000);
    assert_eq!(rig.lun("md0").sync.action, "frozen", "{}", rig.story());
    let again = rig.recover("md0").unwrap();
    assert_ends(&mut rig, again.id, "succeeded");
    assert!(!rig.lun("md0").held);
    assert!(matches!(
        rig.cancel(again.id, false),
        Err(Error::CancelTooLate { .. })
    ));
}

#[test]
fn a_cancel_can_give_the_spare_back() {
    let mut rig = rig(array(Level::Raid1, 2).lost("sdb"));
    rig.happens(|world| world.device_mut("sdb").map(|d| d.superblock = None));
    rig.add_spare("sdf");
    let op = rig.recover("md0").unwrap();
    rig.until("under way", |rig| rig.op(op.id).percent > 20);
    rig.cancel(op.id, true).unwrap();
    assert_ends(&mut rig, op.id, "cancelled");
    let lun = rig.lun("md0");
    assert!(!lun.held, "{}", rig.story());
    assert_eq!(lun.sync.action, "idle", "{}", rig.story());
    assert_eq!(rig.machine.snapshot().pool.len(), 1, "{}", rig.story());
    assert_eq!(
        lun.drives.iter().filter(|d| !d.device.is_empty()).count(),
        1,
        "{}",
        rig.story()
    );
    let again = rig.recover("md0").unwrap();
    assert_ends(&mut rig, again.id, "succeeded");
}

#[test]
fn a_spare_that_fails_gives_way_to_another() {
    let mut rig = rig(array(Level::Raid5, 3).lost("sdb"));
    rig.happens(|world| world.device_mut("sdb").map(|d| d.superblock = None));
    rig.add_spare("sde");
    rig.add_spare("sdf");
    let op = rig.recover("md0").unwrap();
    rig.until("under way", |rig| rig.op(op.id).percent > 20);
    let first = rig.op(op.id).spare.unwrap();
    rig.happens(|world| world.fail_device(first.trim_start_matches("/dev/")));
    assert_ends(&mut rig, op.id, "succeeded");
    assert_ne!(rig.op(op.id).spare.unwrap(), first);
    assert!(
        rig.machine.snapshot().pool.is_empty(),
        "a failed spare is not offered again"
    );
}

#[test]
fn the_only_spare_fails_and_so_does_the_operation() {
    let mut rig = rig(array(Level::Raid1, 2).lost("sdb"));
    rig.happens(|world| world.device_mut("sdb").map(|d| d.superblock = None));
    rig.add_spare("sdf");
    let op = rig.recover("md0").unwrap();
    rig.until("under way", |rig| rig.op(op.id).percent > 20);
    rig.happens(|world| world.fail_device("sdf"));
    let end = rig.finished(op.id);
    assert_eq!(end.state, "failed", "{}", rig.story());
    assert_eq!(
        end.hresult.name(),
        "VDS_E_DISK_IO_FAILING",
        "{}",
        rig.story()
    );
    rig.sound();
}

#[test]
fn the_same_operation_goes_on_after_a_restart() {
    let mut rig = rig(array(Level::Raid5, 3).lost("sdb"));
    rig.add_spare("sdf");
    let op = rig.recover("md0").unwrap();
    rig.until("under way", |rig| rig.op(op.id).percent > 30);
    rig.restart();
    assert_ends(&mut rig, op.id, "succeeded");
    assert_eq!(rig.lun("md0").health, Health::Healthy);
}

/// The daemon dies after each single input of a whole recovery in turn.
#[test]
fn a_restart_at_any_moment_changes_nothing() {
    for moment in 0..60 {
        let mut rig = rig(array(Level::Raid5, 3).lost("sdb"));
        rig.add_spare("sdf");
        rig.ask_recovery("md0");
        for _ in 0..moment {
            rig.step();
        }
        rig.restart();
        let ops: Vec<OpId> = rig.machine.snapshot().ops.iter().map(|op| op.id).collect();
        for op in ops {
            let end = rig.finished(op);
            assert_eq!(end.state, "succeeded", "moment {moment}\n{}", rig.story());
        }
        rig.pass(60_000);
        let lun = rig.lun("md0");
        assert_ne!(
            lun.sync.action,
            "frozen",
            "moment {moment}: left frozen\n{}",
            rig.story()
        );
        rig.sound();
    }
}

#[test]
fn a_hold_outlives_a_restart_and_meddling() {
    let mut rig = rig(array(Level::Raid1, 2).lost("sdb"));
    rig.add_spare("sdf");
    let op = rig.recover("md0").unwrap();
    rig.until("under way", |rig| rig.op(op.id).percent > 20);
    rig.cancel(op.id, false).unwrap();
    rig.restart();
    assert!(rig.lun("md0").held);
    rig.happens(|world| {
        let idle = lun_core::action::Action::SetSync {
            array: "md0".into(),
            word: lun_core::action::SyncWord::Idle,
        };
        world.act(&idle).unwrap();
    });
    rig.until("held again", |rig| rig.lun("md0").sync.action == "frozen");
    let lun = rig.machine.resolve_lun("md0").unwrap();
    assert_eq!(rig.call(Command::Release { lun }), Ok(Reply::Done));
    rig.until("healthy", |rig| rig.lun("md0").health == Health::Healthy);
    assert!(!rig.lun("md0").held);
    rig.sound();
}

#[test]
fn verify_and_repair_end() {
    let mut rig = rig(array(Level::Raid5, 3));
    let lun = rig.machine.resolve_lun("md0").unwrap();
    let Reply::Op(op) = rig.call(Command::Verify { lun }).unwrap() else {
        panic!()
    };
    assert_ends(&mut rig, op.id, "succeeded");
    let repair = Command::Recover {
        lun,
        spare: None,
        repair: true,
        dry_run: false,
    };
    let Reply::Op(op) = rig.call(repair.clone()).unwrap() else {
        panic!()
    };
    assert_ends(&mut rig, op.id, "succeeded");
    let Reply::Op(op) = rig.call(repair).unwrap() else {
        panic!()
    };
    rig.until("under way", |rig| rig.op(op.id).percent > 20);
    rig.cancel(op.id, false).unwrap();
    assert_ends(&mut rig, op.id, "cancelled");
    assert!(!rig.lun("md0").held);
    assert_eq!(rig.lun("md0").health, Health::Healthy, "{}", rig.story());
}

#[test]
fn a_failing_member_is_copied_first() {
    let mut rig = Rig::new(by_name("mirror-failing").unwrap());
    rig.add_spare("sdc");
    let op = rig.recover("md0").unwrap();
    rig.until("under way", |rig| rig.op(op.id).percent > 20);
    assert_eq!(
        rig.lun("md0").redundancy.members_in_sync,
        Some(2),
        "{}",
        rig.story()
    );
    assert_ends(&mut rig, op.id, "succeeded");
    let lun = rig.lun("md0");
    assert_eq!(lun.health, Health::Healthy, "{}", rig.story());
    let retired = lun.drives.iter().all(|drive| drive.device != "/dev/sdb");
    assert!(retired, "{}", rig.story());
}

#[test]
fn a_dirty_read_auto_mirror_is_resynced() {
    let mut rig = Rig::new(by_name("mirror-dirty").unwrap());
    let op = rig.recover("md0").unwrap();
    assert_ends(&mut rig, op.id, "succeeded");
    assert_eq!(rig.lun("md0").health, Health::Healthy, "{}", rig.story());
}

#[test]
fn two_cancels_at_once_are_one() {
    let mut rig = rig(array(Level::Raid1, 2).lost("sdb"));
    rig.add_spare("sdf");
    let op = rig.recover("md0").unwrap();
    rig.until("under way", |rig| rig.op(op.id).percent > 20);
    let one = rig.send(Command::Cancel {
        op: op.id,
        release_spare: false,
    });
    let two = rig.send(Command::Cancel {
        op: op.id,
        release_spare: false,
    });
    rig.until("both answered", |rig| {
        rig.replies.contains_key(&one) && rig.replies.contains_key(&two)
    });
    assert_eq!(rig.replies[&one], Ok(Reply::Done));
    assert_eq!(rig.replies[&two], Ok(Reply::Done));
    assert_ends(&mut rig, op.id, "cancelled");
}
