//! Spares that arrays of one spare group lend each other.

use std::collections::BTreeSet;

use lun_core::action::Action;
use lun_core::facts::Level;
use lun_core::id::OpId;
use lun_core::machine::Command;
use lun_core::model::{AutoRule, Health, Role};
use lun_core::policy::{GroupedArray, LunRule, Policy, SpareGroup};
use lun_sim::scenario::Scenario;

use super::rig::Rig;

const DISK: u64 = 20 << 20;

fn policy(group: &[&str]) -> Policy {
    let named = |name: &&str| GroupedArray {
        ids: Vec::new(),
        names: vec![(*name).to_owned()],
    };
    let mut policy = Policy {
        spare_groups: vec![SpareGroup {
            name: "shelf".to_owned(),
            arrays: group.iter().map(named).collect(),
        }],
        ..Policy::default()
    };
    policy.recovery.grace_ms = 0;
    policy
}

/// `md0` over sda and sdb, `md1` over sdc and sdd with the spare sde.
fn machine() -> Scenario {
    Scenario::new()
        .disks(&["sda", "sdb", "sdc", "sdd", "sde", "sdf"], DISK)
        .array("md0", Level::Raid1, &["sda", "sdb"])
        .array("md1", Level::Raid1, &["sdc", "sdd"])
        .spare("sde")
}

fn started(scenario: Scenario, policy: Policy) -> Rig {
    Rig::with_policy(scenario.build().unwrap(), policy)
}

fn of_group() -> Rig {
    started(machine(), policy(&["md0", "/dev/md1"]))
}

fn role(rig: &Rig, lun: &str, drive: &str) -> Option<Role> {
    let node = format!("/dev/{drive}");
    let lun = rig.lun(lun);
    let drive = lun.drives.iter().find(|one| one.device == node)?;
    Some(drive.role)
}

fn lose(rig: &mut Rig, drive: &str) {
    rig.happens(|world| world.fail_device(drive));
}

fn healthy(rig: &Rig, lun: &str) -> bool {
    rig.lun(lun).health == Health::Healthy
}

#[test]
fn the_spare_of_one_array_takes_over_in_another() {
    let mut rig = of_group();
    lose(&mut rig, "sda");
    rig.until("mended", |rig| healthy(rig, "md0"));
    assert_eq!(
        role(&rig, "md0", "sde"),
        Some(Role::InSync),
        "{}",
        rig.story()
    );
    assert_eq!(role(&rig, "md1", "sde"), None);
    assert!(healthy(&rig, "md1"));
    let told = rig.decisions.iter().find(|one| one.rule == AutoRule::Spare);
    let spare = told.and_then(|told| told.alternatives.iter().find(|one| one.drive == "/dev/sde"));
    let why = "it is a spare of md1, which is of the same spare group";
    assert!(
        spare.is_some_and(|spare| spare.fits && spare.reason.starts_with(why)),
        "{told:?}"
    );
    rig.sound();
    // It is used up: the next loss finds none.
    lose(&mut rig, "sdc");
    rig.pass(120_000);
    assert!(!healthy(&rig, "md1"));
    assert_eq!(role(&rig, "md0", "sde"), Some(Role::InSync));
}

#[test]
fn a_spare_of_the_pool_goes_first() {
    let mut rig = of_group();
    rig.add_spare("sdf");
    lose(&mut rig, "sda");
    rig.until("mended", |rig| healthy(rig, "md0"));
    assert_eq!(
        role(&rig, "md0", "sdf"),
        Some(Role::InSync),
        "{}",
        rig.story()
    );
    assert_eq!(role(&rig, "md1", "sde"), Some(Role::Spare));
}

#[test]
fn an_array_that_needs_its_spare_or_is_in_no_group_keeps_it() {
    let keeps = |name: &str, scenario: Scenario, policy: Policy, before: &dyn Fn(&mut Rig)| {
        let mut rig = started(scenario, policy);
        before(&mut rig);
        lose(&mut rig, "sda");
        rig.pass(120_000);
        assert!(!healthy(&rig, "md0"), "{name}\n{}", rig.story());
        assert!(
            role(&rig, "md1", "sde").is_some(),
            "{name}\n{}",
            rig.story()
        );
        let refused = rig.recover("md0");
        assert!(refused.is_err(), "{name}: {refused:?}");
    };
    let nothing = |_: &mut Rig| {};
    keeps("no group", machine(), policy(&["md0", "md7"]), &nothing);
    keeps(
        "frozen",
        machine().frozen(),
        policy(&["md0", "md1"]),
        &nothing,
    );
    keeps("in need", machine(), policy(&["md0", "md1"]), &|rig| {
        lose(rig, "sdc")
    });
    let mut reserving = policy(&["md0", "md1"]);
    reserving.lun_rules.push(LunRule {
        matches: "md1".to_owned(),
        reserve: Some(true),
        ..LunRule::default()
    });
    keeps("reserved", machine(), reserving, &nothing);
    let small = Scenario::new()
        .disks(&["sda", "sdb"], 2 * DISK)
        .disks(&["sdc", "sdd", "sde"], DISK)
        .array("md0", Level::Raid1, &["sda", "sdb"])
        .array("md1", Level::Raid1, &["sdc", "sdd"])
        .spare("sde");
    keeps("too small", small, policy(&["md0", "md1"]), &nothing);
}

/// The operation's drives that are on their way, by the ledger.
fn moved(rig: &Rig, op: OpId) -> BTreeSet<lun_core::id::DriveId> {
    rig.stored(op).moved
}

/// Steps until the spare is in no array.
fn until_taken_out(rig: &mut Rig) -> OpId {
    rig.begins(|world| world.fail_device("sda"));
    for _ in 0..10_000 {
        let out = rig.kernel.with(|world| {
            let dev = world.device("sde").unwrap().dev;
            world.array_of(dev).is_none()
        });
        if out {
            return rig.machine.snapshot().ops.last().unwrap().id;
        }
        if !rig.step() {
            rig.tick(u64::MAX);
        }
    }
    panic!("it is not taken out\n{}", rig.story())
}

#[test]
fn a_move_that_is_interrupted_is_finished() {
    let mut rig = of_group();
    let op = until_taken_out(&mut rig);
    assert_eq!(
        moved(&rig, op).len(),
        1,
        "the intent comes first\n{}",
        rig.story()
    );
    rig.restart();
    rig.until("mended", |rig| healthy(rig, "md0"));
    assert_eq!(
        role(&rig, "md0", "sde"),
        Some(Role::InSync),
        "{}",
        rig.story()
    );
    assert!(healthy(&rig, "md1"));
    rig.sound();
}

#[test]
fn a_spare_that_is_not_needed_any_more_joins_the_pool() {
    let mut rig = of_group();
    let op = until_taken_out(&mut rig);
    // Somebody stops the array that it was for, and nothing is left to be mended.
    rig.while_down(|world| {
        let known = world.device("sde").unwrap().clone();
        let target = lun_core::action::Target {
            dev: known.dev,
            name: known.name,
            id: known.id,
        };
        let back = world.act(&Action::AddSpare {
            array: "md1".to_owned(),
            drive: target,
        });
        assert!(back.is_ok(), "{back:?}");
    });
    // Back where it was, it is taken again.
    rig.until("mended", |rig| healthy(rig, "md0"));
    assert_eq!(rig.op(op).state, "succeeded", "{}", rig.story());

    let mut rig = of_group();
    let op = until_taken_out(&mut rig);
    let asked = Command::Cancel {
        op,
        release_spare: false,
    };
    rig.call(asked).unwrap();
    let pool = rig.machine.snapshot().pool;
    let sde = rig.kernel.with(|world| world.device("sde").unwrap().id);
    let member = role(&rig, "md0", "sde").is_some();
    assert!(
        member || pool.iter().any(|entry| entry.id == sde),
        "it is lost: {pool:?}\n{}",
        rig.story()
    );
    rig.sound();
}
