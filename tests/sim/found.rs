//! What the seeded schedules have found, each as a story of its own: seeds tell another one after
//! every change of the simulator.

use lun_core::action::{Action, SyncWord, Target};
use lun_core::facts::{IdentityKind, Level};
use lun_core::id::{DriveId, LunId, OpId};
use lun_core::machine::Command;
use lun_core::model::{Health, Phase, Role};
use lun_sim::scenario::by_name;
use lun_sim::{KernelStyle, Scenario, World};

use super::rig::Rig;

const STYLES: [KernelStyle; 3] = [KernelStyle::V6_1, KernelStyle::V6_12, KernelStyle::V7];

/// A recovery that has come some way.
fn half_way(rig: &mut Rig, lun: LunId) -> OpId {
    rig.call(Command::Recover {
        lun,
        spare: None,
        repair: false,
        dry_run: false,
    })
    .unwrap();
    let op = rig.machine.snapshot().ops[0].id;
    rig.until("under way", |rig| rig.op(op).percent > 40);
    op
}

fn word(rig: &mut Rig, word: SyncWord) {
    let action = Action::SetSync {
        array: "md0".to_owned(),
        word,
    };
    rig.happens(|world| world.act(&action)).unwrap();
}

/// The power goes while the array is written, and the daemon starts before anything else happens.
fn power_cut(rig: &mut Rig) {
    rig.kernel.with(|world| {
        world.power_cut(true);
        world.assemble_found("md0", false);
    });
    rig.restart();
}

/// A cancelled repair undoes the resync that kernels from 7.0 leave behind it; one that a power cut
/// made necessary looks the same and must stay.
#[test]
fn a_cancelled_repair_keeps_what_a_power_cut_left() {
    for style in STYLES {
        let mut world = by_name("mirror").unwrap();
        world.style = style;
        let mut rig = Rig::new(world);
        let lun = rig.lun("md0").id;
        rig.call(Command::Recover {
            lun,
            spare: None,
            repair: true,
            dry_run: false,
        })
        .unwrap();
        let op = rig.machine.snapshot().ops[0].id;
        rig.until("under way", |rig| rig.op(op).percent > 20);
        rig.send(Command::Cancel {
            op,
            release_spare: false,
        });
        power_cut(&mut rig);
        rig.cancel(op, false).ok();
        rig.finished(op);
        rig.pass(600_000);
        rig.sound();
    }
}

/// A failed member stays in its slot while the array is frozen: the slot cannot be bound until it has
/// been dropped.
#[test]
fn a_slot_that_a_failed_member_lingers_in() {
    for style in STYLES {
        let world = Scenario::new()
            .style(style)
            .disks(&["sda", "sdb", "sdc", "sdd", "sde"], 64 << 20)
            .array("md0", Level::Raid1, &["sda", "sdb", "sdc"])
            .frozen()
            .world(|world| world.write_error("sda"))
            .failed("sdc")
            .spare("sdd")
            .build()
            .unwrap();
        let mut rig = Rig::new(world);
        let op = rig.recover("md0").unwrap().id;
        let end = rig.finished(op);
        assert_eq!(end.state, "succeeded", "{style:?}: {}", rig.story());
        assert!(rig.stored(op).work.steps < 20, "{}", rig.story());
        rig.sound();
    }
}

/// The replacement of a held LUN failed and lingers in the slot that it shared.
#[test]
fn a_slot_that_a_failed_replacement_lingers_in() {
    for style in STYLES {
        let world = Scenario::new()
            .style(style)
            .disks(&["sda", "sdb", "sdc", "sdd", "sde", "sdf"], 64 << 20)
            .array("md0", Level::Raid6, &["sda", "sdb", "sdc", "sdd"])
            .build()
            .unwrap();
        let mut rig = Rig::new(world);
        rig.add_spare("sde");
        let lun = rig.lun("md0").id;
        let replace = Command::Replace {
            lun,
            drive: "sdb".to_owned(),
            with: None,
            dry_run: false,
        };
        rig.call(replace).unwrap();
        let op = rig.machine.snapshot().ops[0].id;
        rig.until("under way", |rig| rig.op(op).percent > 20);
        rig.cancel(op, false).unwrap();
        rig.happens(|world| world.fail_device("sde"));
        rig.add_spare("sdf");
        let again = rig.recover("md0").unwrap().id;
        let end = rig.finished(again);
        assert_eq!(end.state, "succeeded", "{style:?}: {}", rig.story());
        assert_eq!(rig.lun("md0").health, Health::Healthy, "{}", rig.story());
        rig.sound();
    }
}

/// A check that somebody began is adopted; the resync after a power cut is something else.
#[test]
fn a_resync_is_not_the_end_of_an_adopted_check() {
    for style in STYLES {
        let mut world = by_name("mirror").unwrap();
        world.style = style;
        let mut rig = Rig::new(world);
        word(&mut rig, SyncWord::Check);
        let op = rig.machine.snapshot().ops[0].id;
        rig.until("under way", |rig| rig.op(op).percent > 20);
        power_cut(&mut rig);
        let end = rig.finished(op);
        assert_eq!(end.state, "interrupted", "{style:?}: {}", rig.story());
        rig.pass(600_000);
        rig.sound();
    }
}

/// What the kernel does on its own account between does not make another operation of a check.
#[test]
fn a_check_after_a_power_cut_is_still_a_check() {
    for style in STYLES {
        let mut world = by_name("mirror").unwrap();
        world.style = style;
        let mut rig = Rig::new(world);
        let lun = rig.lun("md0").id;
        rig.call(Command::Verify { lun }).unwrap();
        let op = rig.machine.snapshot().ops[0].id;
        rig.until("under way", |rig| rig.op(op).percent > 20);
        power_cut(&mut rig);
        let end = rig.finished(op);
        assert_eq!(end.state, "succeeded", "{style:?}: {}", rig.story());
        assert_eq!(end.phase, Phase::Check, "{}", rig.story());
        rig.sound();
    }
}

/// Somebody's repair is no check: the check is made all the same.
#[test]
fn a_repair_in_between_is_no_check() {
    let mut rig = Rig::new(by_name("mirror").unwrap());
    let lun = rig.lun("md0").id;
    rig.call(Command::Verify { lun }).unwrap();
    let op = rig.machine.snapshot().ops[0].id;
    rig.until("under way", |rig| rig.op(op).percent > 20);
    rig.kernel.with(|world| {
        for word in [SyncWord::Idle, SyncWord::Repair] {
            let array = "md0".to_owned();
            world.act(&Action::SetSync { array, word }).unwrap();
        }
        world.run_until_idle(3_600_000);
    });
    rig.restart();
    let checks = |rig: &Rig| {
        let is_check = |line: &&String| line.contains("word: Check");
        rig.told.iter().filter(is_check).count()
    };
    let end = rig.finished(op);
    assert_eq!(end.state, "succeeded", "{}", rig.story());
    assert_eq!(checks(&rig), 2, "{}", rig.story());
}

/// A resync that others began, of an array that is stopped under it, has not come to its end.
#[test]
fn an_adopted_resync_of_a_stopped_array_is_no_success() {
    let mut rig = Rig::new(
        Scenario::new()
            .disks(&["sda", "sdb"], 64 << 20)
            .array("md0", Level::Raid1, &["sda", "sdb"])
            .dirty()
            .build()
            .unwrap(),
    );
    let op = rig.machine.snapshot().ops[0].id;
    rig.until("under way", |rig| rig.op(op).percent > 20);
    rig.happens(|world| {
        world.stop("md0");
        world.assemble("md0", false);
        world.arrays.get_mut("md0").unwrap().mode = lun_sim::Mode::Inactive;
    });
    let end = rig.finished(op);
    assert_ne!(end.state, "succeeded", "{}", rig.story());
}

/// All copies in step is half of the truth while a member is missing.
#[test]
fn an_adopted_resync_tells_of_missing_members() {
    let mut rig = Rig::new(
        Scenario::new()
            .style(KernelStyle::V6_12)
            .disks(&["sda", "sdb", "sdc"], 64 << 20)
            .array("md0", Level::Raid1, &["sda", "sdb", "sdc"])
            .lost("sdc")
            .build()
            .unwrap(),
    );
    rig.happens(|world| {
        let array = world.arrays.get_mut("md0").unwrap();
        (array.resync_start, array.really_dirty, array.needed) = (Some(0), true, true);
    });
    let op = rig.machine.snapshot().ops[0].id;
    let end = rig.finished(op);
    assert_eq!(end.state, "succeeded", "{}", rig.story());
    assert!(end.message.contains("missing"), "{}", end.message);
    assert_ne!(rig.lun("md0").health, Health::Healthy);
}

/// Met by crash rounds: a spare that a plan had named and that nothing had been done to yet left the pool as
/// one that had failed, because a resync came first after the power cut.
#[test]
fn a_spare_that_was_not_attached_yet_has_not_failed() {
    let world = Scenario::new()
        .disks(&["sda", "sdb", "sdf"], 64 << 20)
        .array("md0", Level::Raid1, &["sda", "sdb"])
        .build()
        .unwrap();
    let mut rig = Rig::new(world);
    rig.add_spare("sdf");
    let lun = rig.lun("md0").id;
    rig.send(Command::Replace {
        lun,
        drive: "sdb".to_owned(),
        with: None,
        dry_run: false,
    });
    while !rig.told.iter().any(|line| line.contains("Frozen } -> Ok")) {
        assert!(rig.step(), "never frozen:\n{}", rig.story());
    }
    let op = rig.machine.snapshot().ops[0].id;
    rig.power_cut();
    let end = rig.finished(op);
    assert_eq!(end.state, "succeeded", "{}", rig.story());
    assert!(!rig.story().contains("failed on use"), "{}", rig.story());
    let members = rig.lun("md0").drives;
    let taken = members.iter().find(|drive| drive.device == "/dev/sdf");
    let role = taken.map(|drive| drive.role);
    assert_eq!(role, Some(Role::InSync), "{}", rig.story());
}

/// Met by crash rounds on 7.2: after a power cut the kernel brings a RAID10 in step before it fills what is
/// missing, and takes the half-filled copy for a source. Nothing that lund does may start that.
#[test]
fn a_half_filled_copy_is_no_source() {
    for style in STYLES {
        for release in [false, true] {
            half_filled(style, release);
        }
    }
}

fn half_filled(style: KernelStyle, release: bool) {
    let names = ["sda", "sdb", "sdc", "sdd"];
    let world = Scenario::new()
        .style(style)
        .disks(&[names[0], names[1], names[2], names[3], "sdf"], 64 << 20)
        .array("md0", Level::Raid10, &names)
        .lost("sdc")
        .build()
        .unwrap();
    let mut rig = Rig::new(world);
    rig.add_spare("sdf");
    let lun = rig.lun("md0").id;
    let op = half_way(&mut rig, lun);
    rig.call(Command::Cancel {
        op,
        release_spare: false,
    })
    .unwrap();
    rig.finished(op);
    // As Debian assembles it: it waits for its first write.
    rig.start_of_the_host(|world| {
        world.power_cut(true);
        world.assemble("md0", true);
    });
    assert!(rig.lun("md0").held, "{}", rig.story());
    if release {
        rig.call(Command::Release { lun }).unwrap();
        rig.until("filled", |rig| rig.lun("md0").health == Health::Healthy);
        rig.until("at rest", |rig| rig.lun("md0").operation.is_none());
    }
    let request = Command::Recover {
        lun,
        spare: None,
        repair: false,
        dry_run: false,
    };
    rig.call(request).unwrap();
    let op = rig
        .machine
        .snapshot()
        .ops
        .iter()
        .map(|op| op.id)
        .max()
        .unwrap();
    let end = rig.finished(op);
    assert_eq!(end.state, "succeeded", "{}", rig.story());
    assert_eq!(end.phase, Phase::Repair, "{}", rig.story());
    rig.sound();
}

/// A resync is put off only when it is written down that a repair has to do what it would have done.
#[test]
fn a_release_waits_for_its_record() {
    let names = ["sda", "sdb", "sdc", "sdd"];
    let world = Scenario::new()
        .disks(&[names[0], names[1], names[2], names[3], "sdf"], 64 << 20)
        .array("md0", Level::Raid10, &names)
        .lost("sdc")
        .build()
        .unwrap();
    let mut rig = Rig::new(world);
    rig.add_spare("sdf");
    let lun = rig.lun("md0").id;
    let op = half_way(&mut rig, lun);
    rig.cancel(op, false).unwrap();
    rig.happens(|world| world.arrays.get_mut("md0").unwrap().resync_start = Some(0));
    rig.pass(1_000);
    rig.send(Command::Release { lun });
    let lines = |rig: &Rig, text: &str| rig.told.iter().filter(|line| line.contains(text)).count();
    // What a step hands to the ledger and to the kernel is handed over together.
    while lines(&rig, "until a recovery has repaired it") == 0 {
        assert!(rig.step(), "{}", rig.story());
    }
    let put_off = "fill_first: true } -> Ok";
    assert_eq!(lines(&rig, put_off), 0, "{}", rig.story());
    rig.pump();
    assert_eq!(lines(&rig, put_off), 1, "{}", rig.story());
}

/// A replacement that the kernel began, half filled when the power went and done before the daemon looked
/// again: nobody has repaired what may differ, and that is said.
#[test]
fn a_replacement_that_others_began_may_differ_after_a_power_cut() {
    for style in STYLES {
        let world = Scenario::new()
            .style(style)
            .disks(&["sda", "sdb", "sdc", "sdd", "sde"], 64 << 20)
            .array("md0", Level::Raid6, &["sda", "sdb", "sdc", "sdd"])
            .spare("sde")
            .build()
            .unwrap();
        let mut rig = Rig::new(world);
        let want = |world: &mut World| {
            let id = world.devices.values().find(|d| d.name == "sdb").unwrap();
            let drive = Target {
                dev: id.dev,
                name: id.name.clone(),
                id: id.id,
            };
            let array = "md0".to_owned();
            world.act(&Action::WantReplacement { array, drive })
        };
        rig.happens(want).unwrap();
        rig.until("begun", |rig| !rig.machine.snapshot().ops.is_empty());
        let op = rig.machine.snapshot().ops[0].id;
        rig.until("under way", |rig| rig.op(op).percent > 40);
        rig.start_of_the_host(|world| {
            world.power_cut(true);
            world.assemble_found("md0", false);
            world.run_until_idle(3_600_000);
        });
        let end = rig.finished(op);
        assert_eq!(end.state, "succeeded", "{}", rig.story());
        assert!(end.message.contains("may differ"), "{}", rig.story());
        let repair = rig.recover("md0").unwrap();
        let end = rig.finished(repair.id);
        assert_eq!(end.phase, Phase::Repair, "{}", rig.story());
        rig.sound();
    }
}

/// Met by crash rounds: for a while after a start of the host udev has not told which drive is which. A spare
/// that has become a member meanwhile was in the pool all the same when its operation had succeeded.
#[test]
fn a_target_is_recognised_before_its_operation_ends() {
    let world = Scenario::new()
        .disks(&["sda", "sdb", "sdf"], 64 << 20)
        .array("md0", Level::Raid1, &["sda", "sdb"])
        .lost("sdb")
        .build()
        .unwrap();
    let mut rig = Rig::new(world);
    rig.add_spare("sdf");
    let lun = rig.lun("md0").id;
    let op = half_way(&mut rig, lun);
    let rename = |world: &mut World, id: DriveId, kind: IdentityKind| {
        let mut devices = world.devices.values_mut();
        let device = devices.find(|device| device.name == "sdf").unwrap();
        device.id_kind = kind;
        std::mem::replace(&mut device.id, id)
    };
    let id = rig.start_of_the_host(|world| {
        world.shut_down();
        world.assemble_found("md0", false);
        world.run_until_idle(3_600_000);
        rename(world, DriveId::derive("devno", "8:80"), IdentityKind::DevNo)
    });
    assert_eq!(rig.lun("md0").health, Health::Healthy, "{}", rig.story());
    assert!(rig.op(op).ended_at_ms.is_none(), "{}", rig.story());
    rig.happens(|world| rename(world, id, IdentityKind::Serial));
    let end = rig.finished(op);
    assert_eq!(end.state, "succeeded", "{}", rig.story());
    assert!(rig.machine.snapshot().pool.is_empty(), "{}", rig.story());
}
