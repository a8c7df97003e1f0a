//! What the seeded schedules of raid sets have found, each as a story of its own.

use lun_core::action::{Action, SyncWord};
use lun_core::facts::Level;
use lun_core::machine::Command;
use lun_core::model::{Health, OpView};
use lun_sim::{KernelStyle, Scenario};

use super::rig::Rig;

const STYLES: [KernelStyle; 3] = [KernelStyle::V6_1, KernelStyle::V6_12, KernelStyle::V7];
const NAME: &str = "mapper/vg-lv";
const DRIVE: u64 = 40 << 20;

/// A volume on the first of these drives, which are all physical volumes of its group.
fn volume(level: Level, drives: &[&str], legs: usize, style: KernelStyle) -> Scenario {
    Scenario::new()
        .style(style)
        .disks(drives, DRIVE)
        .group("vg", drives)
        .volume("vg", "lv", level, &drives[..legs], 16)
}

fn mirror(style: KernelStyle) -> Scenario {
    volume(Level::Raid1, &["sda", "sdb", "sdc"], 2, style)
}

fn word(rig: &mut Rig, word: SyncWord) {
    let array = NAME.to_owned();
    rig.happens(|world| world.act(&Action::SetSync { array, word }))
        .unwrap();
}

fn recovered(rig: &mut Rig) -> OpView {
    let op = rig.recover(NAME).unwrap().id;
    rig.finished(op)
}

/// Device-mapper tells nothing of a check that is over: each one that was asked for had failed.
#[test]
fn a_check_of_a_volume_comes_to_its_end() {
    for style in STYLES {
        let mut rig = Rig::new(mirror(style).build().unwrap());
        let lun = rig.lun(NAME).id;
        rig.call(Command::Verify { lun }).unwrap();
        let op = rig.machine.snapshot().ops[0].id;
        let op = rig.finished(op);
        assert_eq!(
            (op.state.as_str(), op.message.as_str()),
            ("succeeded", "all copies agree")
        );
        rig.sound();
    }
}

/// LVM replaces nothing while copies or parity are out of step, and refreshes nothing that misses a leg.
#[test]
fn a_volume_out_of_step_is_brought_in_step_before_its_leg_is_replaced() {
    let drives = ["sda", "sdb", "sdc", "sdd", "sde", "sdf"];
    for style in STYLES {
        let world = volume(Level::Raid1, &drives, 3, style).dirty();
        let mut rig = Rig::new(world.build().unwrap());
        word(&mut rig, SyncWord::Frozen);
        rig.happens(|world| world.vanish("sdb"));
        let op = recovered(&mut rig);
        assert_eq!(op.state, "succeeded", "{op:?}\n{}", rig.story());
        assert_eq!(rig.lun(NAME).health, Health::Healthy, "{}", rig.story());
        rig.sound();
    }
}

/// md starts no parity set that is dirty and misses a leg: its hold cannot be lifted, and that is said.
#[test]
fn a_held_parity_volume_that_lost_a_leg_is_not_promised_anything() {
    let drives = ["sda", "sdb", "sdc", "sdd", "sde", "sdf"];
    let world = volume(Level::Raid6, &drives, 5, KernelStyle::V6_12).dirty();
    let mut rig = Rig::new(world.build().unwrap());
    word(&mut rig, SyncWord::Frozen);
    rig.happens(|world| world.vanish("sdb"));
    let op = recovered(&mut rig);
    assert_eq!(op.state, "failed", "{op:?}\n{}", rig.story());
    assert_ne!(rig.lun(NAME).health, Health::Healthy, "{}", rig.story());
    rig.sound();
}

/// At the lowest rate a check crawls: 1 KiB a second.
#[test]
fn a_check_is_not_begun_at_the_lowest_rate() {
    let mut rig = Rig::new(mirror(KernelStyle::V6_12).build().unwrap());
    word(&mut rig, SyncWord::Frozen);
    let lun = rig.lun(NAME).id;
    rig.call(Command::Verify { lun }).unwrap();
    let op = rig.machine.snapshot().ops[0].id;
    let op = rig.finished(op);
    assert_eq!(op.state, "succeeded", "{op:?}\n{}", rig.story());
}

/// The kernel's line says `AA` and `idle` of a leg that is half filled; its superblock does not.
#[test]
fn an_interrupted_recovery_is_not_believed_to_be_done() {
    for style in STYLES {
        let mut rig = Rig::new(mirror(style).build().unwrap());
        rig.happens(|world| world.vanish("sdb"));
        rig.ask_recovery(NAME);
        rig.pump();
        rig.until("half way", |rig| {
            let ops = rig.machine.snapshot().ops;
            ops.iter().any(|op| op.percent > 40)
        });
        let _ = rig.happens(|world| world.message(NAME, SyncWord::Frozen, false));
        assert_ne!(rig.lun(NAME).health, Health::Healthy, "{}", rig.story());
        let op = rig.machine.snapshot().ops[0].id;
        rig.finished(op);
        if rig.lun(NAME).health != Health::Healthy {
            recovered(&mut rig);
        }
        assert_eq!(rig.lun(NAME).health, Health::Healthy, "{}", rig.story());
        rig.sound();
    }
}

/// A leg whose superblock cannot be read is not passed over because all others are in sync.
#[test]
fn what_cannot_be_read_is_said() {
    let drives = ["sda", "sdb", "sdc", "sdd"];
    let world = volume(Level::Raid5, &drives, 3, KernelStyle::V6_12).dirty();
    let mut rig = Rig::new(world.build().unwrap());
    rig.until("adopted", |rig| !rig.machine.snapshot().ops.is_empty());
    let op = rig.machine.snapshot().ops[0].id;
    rig.kernel.with(|world| world.run_until_idle(600_000));
    rig.happens(|world| world.hang("sdc"));
    let op = rig.finished(op);
    let hedged = op.message.contains("could not be read") || op.state != "succeeded";
    assert!(hedged, "{op:?}\n{}", rig.story());
}

/// What cannot be read is not whole: a cancel had taken it for done, and let go of the hold.
#[test]
fn a_cancel_does_not_take_for_done_what_cannot_be_read() {
    let drives = ["sda", "sdb", "sdc", "sdd"];
    let world = volume(Level::Raid5, &drives, 3, KernelStyle::V6_12).dirty();
    let mut rig = Rig::new(world.build().unwrap());
    rig.until("under way", |rig| {
        let ops = rig.machine.snapshot().ops;
        ops.iter().any(|op| op.percent > 10)
    });
    let op = rig.machine.snapshot().ops[0].id;
    rig.kernel.with(|world| {
        world.fail_device("sdb");
        world.pull("sdc");
    });
    let _ = rig.cancel(op, false);
    let op = rig.finished(op);
    assert_ne!(op.state, "succeeded", "{op:?}\n{}", rig.story());
}

/// A hold is a rate that LVM writes down: it outlives a reboot, and a release ends it.
#[test]
fn a_hold_of_a_volume_outlives_a_reboot() {
    for style in STYLES {
        let mut rig = Rig::new(mirror(style).build().unwrap());
        rig.happens(|world| world.vanish("sdb"));
        let op = rig.recover(NAME).unwrap().id;
        rig.until("under way", |rig| rig.op(op).percent > 20);
        rig.cancel(op, false).unwrap();
        assert!(rig.lun(NAME).held, "{}", rig.story());
        rig.kernel.with(|world| world.reboot(false));
        rig.restart();
        rig.pass(600_000);
        assert!(rig.lun(NAME).held, "{}", rig.story());
        assert_ne!(rig.lun(NAME).health, Health::Healthy, "{}", rig.story());
        let lun = rig.lun(NAME).id;
        rig.call(Command::Release { lun }).unwrap();
        rig.pass(600_000);
        assert_eq!(rig.lun(NAME).health, Health::Healthy, "{}", rig.story());
        rig.sound();
    }
}

/// LVM changes no rate of a volume whose table does not load: it is tried a few times, and again when the
/// volume has changed. It was tried every half minute for ever.
#[test]
fn what_cannot_be_held_again_is_not_tried_for_ever() {
    let drives = ["sda", "sdb", "sdc", "sdd"];
    let world = volume(Level::Raid5, &drives, 3, KernelStyle::V6_12).dirty();
    let mut rig = Rig::new(world.build().unwrap());
    rig.until("adopted", |rig| !rig.machine.snapshot().ops.is_empty());
    let op = rig.machine.snapshot().ops[0].id;
    rig.cancel(op, false).unwrap();
    rig.finished(op);
    assert!(rig.lun(NAME).held, "{}", rig.story());
    let array = NAME.to_owned();
    rig.happens(|world| {
        let word = SyncWord::Idle;
        world.act(&Action::SetSync { array, word }).unwrap();
        world.vanish("sdb");
        world.vanish("sdc");
    });
    let tries = |rig: &Rig| rig.story().matches("could not hold it again").count();
    rig.pass(3_600_000);
    assert_eq!(tries(&rig), 5, "{}", rig.story());
    assert!(rig.lun(NAME).held, "{}", rig.story());
    // Something of it changes.
    rig.happens(|world| world.vanish("sda"));
    rig.pass(60_000);
    assert!(tries(&rig) > 5, "{}", rig.story());
}
