//! Lives of arrays that nobody calls for: what lund does about them by itself, and what it leaves alone.

use lun_core::action::Action;
use lun_core::facts::Level;
use lun_core::machine::Command;
use lun_core::model::{AutoRule, AutoVerdict, Decision, Health, Origin};
use lun_core::policy::{AutoMode, LunRule, Policy};
use lun_sim::World;
use lun_sim::scenario::Scenario;

use super::rig::Rig;

const MIB: u64 = 1 << 20;

fn policy(grace_ms: u64) -> Policy {
    let mut policy = Policy::default();
    policy.recovery.grace_ms = grace_ms;
    policy
}

/// Disks `sda` to `sdh` of the same size, and `md0` over the first of them.
fn machine(level: Level, members: usize) -> Scenario {
    let disks = ["sda", "sdb", "sdc", "sdd", "sde", "sdf", "sdg", "sdh"];
    let members: Vec<&str> = disks.iter().take(members).copied().collect();
    Scenario::new()
        .disks(&disks, 20 * MIB)
        .array("md0", level, &members)
        .bitmap(true)
}

fn started(scenario: Scenario, grace_ms: u64) -> Rig {
    let rig = Rig::with_policy(scenario.build().unwrap(), policy(grace_ms));
    // What a start of the host has left to be found is found.
    rig
}

impl Rig {
    fn last(&self, name: &str) -> &Decision {
        let of_it = |decision: &&Decision| decision.lun_name == name;
        let last = self.decisions.iter().rev().find(of_it);
        last.unwrap_or_else(|| panic!("nothing was decided about {name}:\n{}", self.story()))
    }

    fn rule(&self, name: &str) -> AutoRule {
        self.last(name).rule
    }

    fn decided(&self, rule: AutoRule) -> bool {
        self.decisions.iter().any(|decision| decision.rule == rule)
    }

    fn until_healthy(&mut self, name: &str) {
        self.until("healthy", |rig| rig.lun(name).health == Health::Healthy);
    }

    fn ops_by_itself(&self) -> usize {
        let ops = self.machine.snapshot().ops;
        ops.iter().filter(|op| op.origin == Origin::Policy).count()
    }

    fn is_member(&self, drive: &str) -> bool {
        self.lun("md0")
            .drives
            .iter()
            .any(|d| d.device == format!("/dev/{drive}") && d.slot.is_some())
    }
}

#[test]
fn a_spare_of_the_pool_takes_over_without_a_call() {
    for (level, members) in [
        (Level::Raid1, 2),
        (Level::Raid5, 3),
        (Level::Raid6, 4),
        (Level::Raid10, 4),
    ] {
        let mut rig = started(machine(level, members), 0);
        rig.add_spare("sdf");
        rig.happens(|world| world.fail_device("sdb"));
        rig.until_healthy("md0");
        assert!(rig.is_member("sdf"), "{}", rig.story());
        assert_eq!(rig.ops_by_itself(), 1, "{}", rig.story());
        assert!(rig.decided(AutoRule::Spare), "{}", rig.story());
    }
}

#[test]
fn a_member_that_is_back_within_the_grace_burns_no_spare() {
    let mut rig = started(machine(Level::Raid1, 2), 15_000);
    rig.add_spare("sdf");
    rig.happens(|world| world.vanish("sdb"));
    assert_eq!(rig.rule("md0"), AutoRule::Grace, "{}", rig.story());
    rig.pass(5_000);
    assert_eq!(rig.ops_by_itself(), 0, "{}", rig.story());
    rig.happens(|world| world.plug("sdb"));
    rig.until_healthy("md0");
    assert!(rig.is_member("sdb"), "{}", rig.story());
    assert!(rig.decided(AutoRule::ReAdd), "{}", rig.story());
    assert_eq!(rig.machine.snapshot().pool.len(), 1, "{}", rig.story());
}

#[test]
fn after_the_grace_the_spare_takes_over_and_no_sooner() {
    let mut rig = started(machine(Level::Raid1, 2), 15_000);
    rig.add_spare("sdf");
    rig.happens(|world| world.vanish("sdb"));
    rig.pass(14_000);
    assert_eq!(rig.ops_by_itself(), 0, "{}", rig.story());
    rig.pass(2_000);
    assert_eq!(rig.ops_by_itself(), 1, "{}", rig.story());
    rig.until_healthy("md0");
    assert!(rig.is_member("sdf"), "{}", rig.story());
}

#[test]
fn a_spare_added_later_is_used_at_once() {
    let mut rig = started(machine(Level::Raid5, 3), 1_000);
    rig.happens(|world| world.fail_device("sdb"));
    rig.pass(10_000);
    assert_eq!(rig.rule("md0"), AutoRule::NoSpare, "{}", rig.story());
    rig.add_spare("sdf");
    rig.pass(1_000);
    assert_eq!(rig.ops_by_itself(), 1, "{}", rig.story());
    rig.until_healthy("md0");
}

#[test]
fn notify_says_what_would_be_done_and_off_says_nothing_of_it() {
    for mode in [AutoMode::Notify, AutoMode::Off] {
        let mut policy = policy(0);
        policy.lun_rules.push(LunRule {
            matches: "md?".to_owned(),
            mode: Some(mode),
            ..LunRule::default()
        });
        let mut rig = Rig::with_policy(machine(Level::Raid1, 2).build().unwrap(), policy);
        rig.add_spare("sdf");
        rig.happens(|world| world.fail_device("sdb"));
        rig.pass(120_000);
        assert_eq!(rig.ops_by_itself(), 0, "{}", rig.story());
        if mode == AutoMode::Off {
            assert!(rig.decisions.is_empty(), "{}", rig.story());
            continue;
        }
        assert_eq!(rig.rule("md0"), AutoRule::ModeNotify, "{}", rig.story());
        assert_eq!(rig.last("md0").verdict, AutoVerdict::Leave);
    }
}

#[test]
fn what_an_administrator_took_out_is_not_put_back() {
    let mut rig = started(machine(Level::Raid1, 3), 0);
    let target = rig.kernel.with(|world| target(world, "sdb"));
    let array = "md0".to_owned();
    rig.happens(|world| world.fail_device("sdb"));
    rig.happens(|world| {
        let drive = target.clone();
        world
            .act(&Action::RemoveMember {
                array: array.clone(),
                drive,
            })
            .unwrap();
    });
    rig.pass(120_000);
    assert!(!rig.is_member("sdb"), "{}", rig.story());
    assert_eq!(rig.ops_by_itself(), 0, "{}", rig.story());
    assert_eq!(rig.rule("md0"), AutoRule::NoSpare, "{}", rig.story());
    // The slot may be filled all the same.
    rig.add_spare("sdf");
    rig.until_healthy("md0");
    assert!(
        rig.is_member("sdf") && !rig.is_member("sdb"),
        "{}",
        rig.story()
    );
}

/// A drive is looked into because it is no member any more: if that comes about while others are looked into,
/// it has to be looked into as well before anything is decided.
#[test]
fn what_is_taken_out_at_any_moment_is_told_with_the_reason() {
    for steps in 0..12 {
        let mut rig = started(machine(Level::Raid1, 3), 0);
        let drive = rig.kernel.with(|world| target(world, "sdb"));
        let array = "md0".to_owned();
        rig.begins(|world| world.fail_device("sdb"));
        for _ in 0..steps {
            rig.step();
        }
        rig.happens(|world| {
            let action = Action::RemoveMember { array, drive };
            world.act(&action).unwrap();
        });
        rig.pass(1_000);
        let told = rig.last("md0").alternatives.iter();
        let mut about_it = told.filter(|drive| drive.drive == "/dev/sdb");
        assert!(
            about_it.any(|drive| drive.reason.contains("took it out")),
            "removed after {steps} steps: {:#?}\n{}",
            rig.last("md0"),
            rig.story()
        );
    }
}

#[test]
fn a_held_array_is_left_alone() {
    let mut rig = started(machine(Level::Raid5, 3), 0);
    rig.add_spare("sdf");
    rig.happens(|world| world.fail_device("sdb"));
    rig.until("under way", |rig| {
        rig.machine.snapshot().ops.iter().any(|op| op.percent > 20)
    });
    let op = rig.machine.snapshot().ops[0].id;
    rig.cancel(op, false).unwrap();
    rig.pass(600_000);
    assert!(rig.lun("md0").held);
    assert_eq!(rig.rule("md0"), AutoRule::Held, "{}", rig.story());
    assert_eq!(rig.ops_by_itself(), 1, "{}", rig.story());
}

#[test]
fn what_somebody_else_froze_is_left_alone() {
    let mut rig = started(machine(Level::Raid5, 3), 0);
    rig.add_spare("sdf");
    let array = "md0".to_owned();
    let word = lun_core::action::SyncWord::Frozen;
    rig.happens(|world| world.act(&Action::SetSync { array, word }).unwrap());
    rig.happens(|world| world.fail_device("sdb"));
    rig.pass(60_000);
    assert_eq!(rig.rule("md0"), AutoRule::FrozenByOthers, "{}", rig.story());
    assert_eq!(rig.ops_by_itself(), 0, "{}", rig.story());
}

#[test]
fn a_controller_that_goes_burns_no_spares_and_brings_its_members_back() {
    let mut rig = started(machine(Level::Raid6, 5), 1_000);
    rig.happens(|world| {
        for drive in ["sdb", "sdc"] {
            world.device_mut(drive).unwrap().controller = Some("pci7".to_owned());
        }
    });
    rig.add_spare("sdf");
    rig.add_spare("sdg");
    rig.happens(|world| {
        world.vanish("sdb");
        world.vanish("sdc");
    });
    rig.pass(600_000);
    assert_eq!(rig.rule("md0"), AutoRule::CommonCause, "{}", rig.story());
    assert!(rig.last("md0").reason.contains("pci7"), "{}", rig.story());
    assert_eq!(rig.ops_by_itself(), 0, "{}", rig.story());
    rig.happens(|world| {
        world.plug("sdb");
        world.plug("sdc");
    });
    rig.until_healthy("md0");
    assert!(
        rig.is_member("sdb") && rig.is_member("sdc"),
        "{}",
        rig.story()
    );
    assert_eq!(rig.machine.snapshot().pool.len(), 2, "{}", rig.story());
}

/// A dock finds its disks one after the other: while the first one is being taken back the next may follow.
#[test]
fn what_follows_a_member_that_is_back_is_waited_for() {
    for grace_ms in [0, 15_000] {
        let mut rig = started(machine(Level::Raid6, 5), grace_ms);
        rig.happens(|world| {
            for drive in ["sdb", "sdc"] {
                world.device_mut(drive).unwrap().controller = Some("pci7".to_owned());
            }
        });
        rig.add_spare("sdf");
        rig.happens(|world| {
            world.vanish("sdb");
            world.vanish("sdc");
        });
        rig.pass(60_000);
        rig.happens(|world| world.plug("sdb"));
        rig.pass(9_000);
        assert!(rig.is_member("sdb"), "{}", rig.story());
        rig.happens(|world| world.plug("sdc"));
        rig.until_healthy("md0");
        assert!(rig.is_member("sdc"), "{}", rig.story());
        assert_eq!(rig.machine.snapshot().pool.len(), 1, "{}", rig.story());
        // One that does not follow is replaced all the same.
        rig.happens(|world| {
            world.vanish("sdb");
            world.vanish("sdc");
        });
        rig.pass(60_000);
        rig.happens(|world| world.plug("sdb"));
        rig.until_healthy("md0");
        assert!(
            rig.is_member("sdb") && rig.is_member("sdf"),
            "{}",
            rig.story()
        );
    }
}

#[test]
fn two_that_fail_behind_different_controllers_are_both_replaced() {
    let mut rig = started(machine(Level::Raid6, 5), 0);
    rig.add_spare("sdf");
    rig.add_spare("sdg");
    rig.happens(|world| {
        world.fail_device("sdb");
        world.fail_device("sdc");
    });
    rig.until_healthy("md0");
    assert!(
        rig.is_member("sdf") && rig.is_member("sdg"),
        "{}",
        rig.story()
    );
}

#[test]
fn a_drive_that_keeps_going_is_not_relied_on() {
    let mut rig = started(machine(Level::Raid1, 2), 600_000);
    for _ in 0..2 {
        rig.happens(|world| world.vanish("sdb"));
        rig.pass(2_000);
        rig.happens(|world| world.plug("sdb"));
        rig.until_healthy("md0");
    }
    rig.happens(|world| world.vanish("sdb"));
    rig.pass(2_000);
    rig.happens(|world| world.plug("sdb"));
    rig.pass(60_000);
    assert!(!rig.is_member("sdb"), "{}", rig.story());
    let told = rig
        .last("md0")
        .alternatives
        .iter()
        .any(|drive| drive.reason.contains("within a day"));
    assert!(told, "{:?}\n{}", rig.last("md0"), rig.story());
}

#[test]
fn attempts_are_few_and_far_between() {
    let mut rig = started(machine(Level::Raid1, 2), 0);
    rig.happens(|world| world.fail_device("sdb"));
    for attempt in 1..=6 {
        rig.happens(|world| world.device_mut("sdf").unwrap().fails_at = Some(2_000));
        // From the second time on it is a drive that failed, which only force registers again.
        rig.call(Command::SpareAdd {
            drive: "sdf".to_owned(),
            force: attempt > 1,
        })
        .unwrap();
        let wanted = attempt.min(4);
        rig.pass(4_000_000);
        assert_eq!(rig.ops_by_itself(), wanted, "{}", rig.story());
        if attempt > 4 {
            assert_eq!(rig.rule("md0"), AutoRule::GivenUp, "{}", rig.story());
            rig.call(Command::SpareRemove {
                drive: "sdf".to_owned(),
            })
            .unwrap();
            continue;
        }
        // Its owner takes it out, cleans it, and offers it once more.
        let drive = rig.kernel.with(|world| target(world, "sdf"));
        let array = "md0".to_owned();
        rig.happens(|world| {
            world.act(&Action::RemoveMember { array, drive }).unwrap();
            let device = world.device_mut("sdf").unwrap();
            device.superblock = None;
            device.content = None;
        });
    }
    // Another drive is tried at once.
    rig.add_spare("sdg");
    rig.until_healthy("md0");
}

#[test]
fn two_arrays_and_one_spare_the_more_endangered_gets_it() {
    let disks = ["sda", "sdb", "sdc", "sdd", "sde", "sdf", "sdg", "sdh"];
    let scenario = Scenario::new()
        .disks(&disks, 20 * MIB)
        .array("md0", Level::Raid6, &["sda", "sdb", "sdc", "sdd"])
        .array("md1", Level::Raid1, &["sde", "sdf"]);
    let mut rig = started(scenario, 2_000);
    rig.add_spare("sdg");
    rig.happens(|world| {
        world.fail_device("sda");
        world.fail_device("sde");
    });
    rig.until("mended", |rig| rig.lun("md1").health == Health::Healthy);
    rig.pass(60_000);
    assert_ne!(rig.lun("md0").health, Health::Healthy, "{}", rig.story());
    assert_eq!(rig.rule("md0"), AutoRule::NoSpare, "{}", rig.story());
}

#[test]
fn what_was_lost_while_nobody_looked_is_mended_at_the_start() {
    let mut rig = started(machine(Level::Raid1, 2), 0);
    rig.add_spare("sdf");
    rig.while_down(|world| world.fail_device("sdb"));
    rig.until_healthy("md0");
    assert!(rig.is_member("sdf"), "{}", rig.story());
}

#[test]
fn after_a_start_of_the_host_members_are_waited_for() {
    let mut rig = started(machine(Level::Raid1, 2), 0);
    rig.add_spare("sdf");
    rig.start_of_the_host(|world| world.vanish("sdb"));
    rig.pass(60_000);
    assert_eq!(rig.rule("md0"), AutoRule::Assembly, "{}", rig.story());
    assert_eq!(rig.ops_by_itself(), 0, "{}", rig.story());
    rig.pass(60_000);
    rig.until_healthy("md0");
}

#[test]
fn a_call_may_do_what_is_not_done_by_itself() {
    let mut rig = started(machine(Level::Raid1, 2).bitmap(false), 0);
    rig.happens(|world| world.vanish("sdb"));
    rig.happens(|world| world.plug("sdb"));
    rig.pass(60_000);
    // Without a bitmap it would have to be erased.
    assert_eq!(rig.rule("md0"), AutoRule::NoSpare, "{}", rig.story());
    assert_eq!(rig.ops_by_itself(), 0, "{}", rig.story());
    let lun = rig.lun("md0").id;
    let (spare, repair, dry_run) = (None, false, false);
    rig.call(Command::Recover {
        lun,
        spare,
        repair,
        dry_run,
    })
    .unwrap();
    rig.until_healthy("md0");
}

fn target(world: &World, name: &str) -> lun_core::action::Target {
    let device = world
        .devices
        .values()
        .find(|device| device.name == name)
        .unwrap();
    lun_core::action::Target {
        dev: device.dev,
        name: device.name.clone(),
        id: device.id,
    }
}
