//! The daemon's death at every step, and what the next start makes of it.

use lun_core::action::{Action, Target};
use lun_core::facts::Level;
use lun_core::id::OpId;
use lun_core::machine::Command;
use lun_core::model::Health;
use lun_sim::Scenario;
use lun_sim::scenario::by_name;

use super::rig::Rig;

const DISK: u64 = 64 << 20;
const NAMES: [&str; 6] = ["sda", "sdb", "sdc", "sdd", "sde", "sdf"];

fn only_op(rig: &Rig) -> OpId {
    let ops = rig.machine.snapshot().ops;
    assert_eq!(ops.len(), 1, "{}", rig.story());
    ops[0].id
}

/// Killed after so many inputs, the operation keeps its number and reaches its aim.
#[test]
fn killed_at_every_step_of_a_recovery() {
    for name in ["raid5-degraded-with-pool", "raid6-two-missing"] {
        for steps in 0..120 {
            let mut rig = Rig::new(by_name(name).unwrap());
            rig.add_spare(if name.starts_with("raid5") {
                "sdd"
            } else {
                "sde"
            });
            rig.add_spare(if name.starts_with("raid5") {
                "sde"
            } else {
                "sdf"
            });
            rig.ask_recovery("md0");
            for _ in 0..steps {
                rig.step();
            }
            let begun = rig.machine.snapshot().ops.len() == 1;
            let told = !rig.replies.is_empty();
            rig.restart();
            if rig.machine.snapshot().ops.is_empty() {
                assert!(
                    !begun || !told || steps == 0,
                    "a request was lost: {}",
                    rig.story()
                );
                continue;
            }
            let op = only_op(&rig);
            let end = rig.finished(op);
            assert_eq!(end.state, "succeeded", "after {steps}: {}", rig.story());
            let lun = rig.lun("md0");
            assert_eq!(lun.health, Health::Healthy, "{}", rig.story());
            assert!(!lun.held && lun.sync.action == "idle", "{}", rig.story());
            rig.sound();
        }
    }
}

/// Steps are numbered on after a restart: none is written over.
#[test]
fn steps_are_numbered_on() {
    let mut rig = Rig::new(by_name("raid6-two-missing").unwrap());
    rig.add_spare("sde");
    rig.add_spare("sdf");
    let op = rig.recover("md0").unwrap().id;
    rig.until("under way", |rig| rig.op(op).percent > 20);
    let before = rig.stored(op).work.steps;
    rig.restart();
    rig.finished(op);
    let after = rig.stored(op).work.steps;
    assert!(before > 0 && after >= before, "{before} {after}");
    let standing = rig.stored(op);
    assert_eq!(standing.before.unwrap().members_in_sync, Some(2));
    assert_eq!(standing.after.unwrap().members_in_sync, Some(4));
}

/// What a held LUN's recovery has outrun is no hold any more, also when the daemon died between the
/// start and its record.
#[test]
fn killed_at_every_step_of_resuming_a_hold() {
    for steps in 0..60 {
        let mut rig = Rig::new(by_name("raid5-degraded-with-pool").unwrap());
        rig.add_spare("sdd");
        let op = rig.recover("md0").unwrap().id;
        rig.until("under way", |rig| rig.op(op).percent > 20);
        rig.cancel(op, false).unwrap();
        assert!(rig.lun("md0").held);
        rig.ask_recovery("md0");
        for _ in 0..steps {
            rig.step();
        }
        rig.restart();
        let Some(again) = rig
            .machine
            .snapshot()
            .ops
            .iter()
            .map(|op| op.id)
            .find(|id| *id != op)
        else {
            assert!(rig.lun("md0").held, "{}", rig.story());
            continue;
        };
        let end = rig.finished(again);
        assert_eq!(end.state, "succeeded", "{}", rig.story());
        rig.pass(120_000);
        let lun = rig.lun("md0");
        assert!(
            !lun.held && lun.sync.action == "idle",
            "{steps}: {}",
            rig.story()
        );
    }
}

#[test]
fn a_loss_while_nobody_looked_is_told_so() {
    let mut rig = Rig::new(by_name("mirror").unwrap());
    rig.pass(20 * 60_000);
    rig.kernel.with(|world| world.fail_device("sdb"));
    rig.restart();
    let told = rig
        .told
        .iter()
        .any(|line| line.contains("found degraded") && line.contains("it was last seen healthy"));
    assert!(told, "{}", rig.story());
    // Told once: the next start finds it as it was left.
    rig.told.clear();
    rig.restart();
    assert!(
        !rig.told
            .iter()
            .any(|line| line.contains("last seen healthy"))
    );
}

fn verified(rig: &mut Rig) -> OpId {
    let lun = rig.lun("md0").id;
    rig.call(Command::Verify { lun }).unwrap();
    rig.machine.snapshot().ops.last().unwrap().id
}

/// A mirror whose second half is out of step.
fn rotten() -> Rig {
    let world = Scenario::new()
        .disks(&NAMES, DISK)
        .array("md0", Level::Raid1, &["sda", "sdb"])
        .md(|array| array.mismatch_real = 128)
        .build()
        .unwrap();
    Rig::new(world)
}

#[test]
fn a_check_that_a_reboot_ended_is_begun_again() {
    let mut rig = rotten();
    let op = verified(&mut rig);
    rig.until("in the middle", |rig| rig.op(op).percent > 40);
    rig.kernel.with(|world| world.reboot(false));
    rig.restart();
    let end = rig.finished(op);
    assert_eq!(end.state, "failed", "{}", rig.story());
    assert!(
        end.message.contains("128 sectors differ"),
        "{}",
        end.message
    );
}

#[test]
fn a_check_that_somebody_stopped_is_no_success() {
    for restarted in [false, true] {
        let mut rig = rotten();
        let op = verified(&mut rig);
        rig.until("in the middle", |rig| rig.op(op).percent > 40);
        let idle = lun_core::action::Action::SetSync {
            array: "md0".to_owned(),
            word: lun_core::action::SyncWord::Idle,
        };
        if restarted {
            rig.kernel.with(|world| world.act(&idle)).unwrap();
            rig.restart();
        } else {
            rig.happens(|world| world.act(&idle)).unwrap();
        }
        let end = rig.finished(op);
        assert_eq!(end.state, "interrupted", "{}", rig.story());
        assert!(end.message.contains("somebody stopped"), "{}", end.message);
        // The next one begins at the start, not where this one was stopped.
        let again = verified(&mut rig);
        let end = rig.finished(again);
        assert_eq!(end.state, "failed", "{}", rig.story());
        assert_eq!(rig.kernel.with(|w| w.array("md0").unwrap().sync_min), 0);
    }
}

/// A check that ended while the daemon was down ended.
#[test]
fn a_check_is_not_made_twice() {
    let mut rig = rotten();
    let op = verified(&mut rig);
    rig.until("in the middle", |rig| rig.op(op).percent > 40);
    rig.kernel.with(|world| world.run_until_idle(3_600_000));
    let checks = |rig: &Rig| {
        let is_check = |line: &&String| line.contains("word: Check");
        rig.told.iter().filter(is_check).count()
    };
    assert_eq!(checks(&rig), 1);
    rig.restart();
    let end = rig.finished(op);
    assert_eq!(end.state, "failed", "{}", rig.story());
    assert_eq!(checks(&rig), 1, "{}", rig.story());
}

/// Each state is in the ledger with its moment, restarts included.
#[test]
fn every_state_has_its_moment() {
    let mut rig = Rig::new(by_name("raid5-degraded-with-pool").unwrap());
    rig.add_spare("sdd");
    let op = rig.recover("md0").unwrap().id;
    rig.until("under way", |rig| rig.op(op).percent > 20);
    rig.restart();
    rig.finished(op);
    let states = rig.stored(op).states;
    let words: Vec<&str> = states.iter().map(|change| change.state.as_str()).collect();
    assert_eq!(words.first(), Some(&"queued"), "{words:?}");
    assert_eq!(words.last(), Some(&"succeeded"), "{words:?}");
    assert!(
        words.contains(&"preparing") && words.contains(&"running"),
        "{words:?}"
    );
    assert!(states.is_sorted_by_key(|change| change.at), "{states:?}");
}

/// After a power cut the array is there before all of its members are: it does not run, and that is no
/// reason to give its recovery up.
#[test]
fn an_array_that_is_being_assembled_is_waited_for() {
    let mut rig = Rig::new(by_name("raid5-degraded-with-pool").unwrap());
    rig.add_spare("sdd");
    let op = rig.recover("md0").unwrap().id;
    rig.until("under way", |rig| rig.op(op).percent > 20);
    rig.kernel.with(|world| {
        world.reboot(false);
        world.arrays.get_mut("md0").unwrap().mode = lun_sim::Mode::Inactive;
    });
    rig.restart();
    rig.pass(30_000);
    assert_eq!(rig.op(op).ended_at_ms, None, "{}", rig.story());
    rig.happens(|world| {
        let array = world.arrays.get_mut("md0").unwrap();
        (array.mode, array.needed) = (lun_sim::Mode::Running, true);
    });
    let end = rig.finished(op);
    assert_eq!(end.state, "succeeded", "{}", rig.story());

    // One that never runs is given up in the end, with the reason.
    let lun = rig.lun("md0").id;
    rig.send(Command::Verify { lun });
    rig.pump();
    rig.happens(|world| world.arrays.get_mut("md0").unwrap().mode = lun_sim::Mode::Inactive);
    let op = rig.machine.snapshot().ops.last().unwrap().id;
    let end = rig.finished(op);
    assert_eq!(end.hresult_name, "VDS_E_LUN_OFFLINE", "{}", rig.story());
}

/// A member that is being filled when the power goes may miss what was being written: md goes on from the
/// checkpoint and compares nothing, so the recovery ends with a repair.
#[test]
fn a_fill_that_a_power_cut_came_into_is_repaired() {
    for adopted in [false, true] {
        let world = Scenario::new()
            .disks(&["sda", "sdb", "sdc"], 64 << 20)
            .array("md0", Level::Raid1, &["sda", "sdb"])
            .lost("sdb")
            .build()
            .unwrap();
        let mut rig = Rig::new(world);
        let op = if adopted {
            rig.happens(|world| {
                let device = world.device_mut("sdc").unwrap();
                let (dev, id) = (device.dev, device.id);
                let name = "sdc".to_owned();
                let (array, drive) = ("md0".to_owned(), Target { dev, name, id });
                world.act(&Action::AddSpare { array, drive }).unwrap();
            });
            rig.until("adopted", |rig| !rig.machine.snapshot().ops.is_empty());
            rig.machine.snapshot().ops[0].id
        } else {
            rig.add_spare("sdc");
            rig.recover("md0").unwrap().id
        };
        rig.until("half done", |rig| rig.op(op).percent > 40);
        rig.power_cut();
        let end = rig.finished(op);
        assert_eq!(end.state, "succeeded", "{}", rig.story());
        if adopted {
            assert!(end.message.contains("may differ"), "{}", end.message);
            let op = rig.recover("md0").unwrap().id;
            let end = rig.finished(op);
            assert_eq!(end.message, REWRITTEN, "{}", rig.story());
        } else {
            assert_eq!(end.message, REWRITTEN, "{}", rig.story());
        }
        // Once is enough.
        let again = rig.recover("md0").unwrap();
        assert_eq!(again.percent, 100, "{}", rig.story());
    }
}

const REWRITTEN: &str = "8 sectors differed and were rewritten";

/// A check that can not go on after a power cut was interrupted; that copies are not in step is no verdict
/// of it.
#[test]
fn a_check_that_a_power_cut_came_into_is_interrupted() {
    let world = Scenario::new()
        .disks(&["sda", "sdb"], 64 << 20)
        .array("md0", Level::Raid1, &["sda", "sdb"])
        .build()
        .unwrap();
    let mut rig = Rig::new(world);
    let lun = rig.lun("md0").id;
    rig.send(Command::Verify { lun });
    rig.pump();
    let op = rig.machine.snapshot().ops[0].id;
    rig.until("half done", |rig| rig.op(op).percent > 40);
    rig.power_cut();
    let end = rig.finished(op);
    assert_ne!(end.state, "failed", "{}", rig.story());
}
