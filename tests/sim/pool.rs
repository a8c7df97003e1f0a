//! The pool: spares by rule, what is kept for whom, what is out of use, and what falls short.

use lun_core::Error;
use lun_core::action::{Action, Target};
use lun_core::facts::Level;
use lun_core::machine::Command;
use lun_core::model::{AutoRule, Health, Origin, RetiredWhy};
use lun_core::policy::{LunRule, Policy, PrefailMode, PrefailRule, SpareRule};
use lun_kernel::Kernel as _;
use lun_sim::scenario::Scenario;

use super::rig::Rig;

const DISK: u64 = 64 << 20;
const NAMES: [&str; 7] = ["sda", "sdb", "sdc", "sdd", "sde", "sdf", "sdg"];

fn rule(matches: &str, only_for: Option<&str>) -> SpareRule {
    SpareRule {
        matches: matches.to_owned(),
        only_for: only_for.map(str::to_owned),
    }
}

/// Two mirrors and three blank disks.
fn two_mirrors(rules: Vec<SpareRule>) -> Rig {
    let scenario = Scenario::new()
        .disks(&NAMES, DISK)
        .array("md0", Level::Raid1, &NAMES[..2])
        .array("md1", Level::Raid1, &NAMES[2..4]);
    let policy = Policy {
        spare_rules: rules,
        ..Policy::default().by_hand()
    };
    Rig::with_policy(scenario.build().unwrap(), policy)
}

fn pool(rig: &Rig) -> Vec<String> {
    let snapshot = rig.machine.snapshot();
    let drives = snapshot.drives.iter().filter(|drive| drive.in_pool);
    drives.map(|drive| drive.device.clone()).collect()
}

fn covered(rig: &Rig, lun: &str) -> bool {
    let snapshot = rig.machine.snapshot();
    snapshot
        .coverage
        .iter()
        .any(|one| one.lun_name == lun && one.covered)
}

fn lose(rig: &mut Rig, name: &str) {
    rig.happens(|world| world.fail_device(name));
}

#[test]
fn a_rule_takes_blank_drives_and_lists_the_others() {
    let policy = Policy {
        spare_rules: vec![rule("/dev/sd?", None)],
        ..Policy::default().by_hand()
    };
    let scenario = Scenario::new()
        .disks(&["sda", "sdb", "sdc"], DISK)
        .array("md0", Level::Raid1, &["sda", "sdb"])
        .disk("sdd", DISK)
        .precious("ext4");
    let mut rig = Rig::with_policy(scenario.build().unwrap(), policy);
    rig.pass(1_000);
    assert_eq!(pool(&rig), ["/dev/sdc"], "{}", rig.story());
    let passed = rig.machine.snapshot().passed_over;
    let [one] = &passed[..] else {
        panic!("{passed:?}\n{}", rig.story())
    };
    assert_eq!(
        (one.device.as_str(), one.rule.as_str()),
        ("/dev/sdd", "/dev/sd?")
    );
    assert!(one.reason.contains("ext4"), "{one:?}");
    // Blanked, it joins; members never do.
    rig.happens(|world| {
        let drive = world.device_mut("sdd").unwrap();
        drive.signatures.clear();
        drive.precious = false;
    });
    rig.pass(1_000);
    assert_eq!(pool(&rig), ["/dev/sdc", "/dev/sdd"], "{}", rig.story());
    assert_eq!(rig.machine.snapshot().passed_over, []);
    let refused = rig.call(Command::SpareRemove {
        drive: "/dev/sdd".to_owned(),
    });
    assert!(
        matches!(refused, Err(Error::InvalidArgument { .. })),
        "{refused:?}"
    );
    // A rule that is gone lets its drives go, but not what somebody registered.
    rig.policy.spare_rules.clear();
    rig.add_spare("sdc");
    rig.restart();
    rig.pass(1_000);
    assert_eq!(pool(&rig), ["/dev/sdc"], "{}", rig.story());
}

#[test]
fn the_last_spare_leaves_the_other_luns_uncovered_and_they_are_told_in_order() {
    let mut rig = two_mirrors(vec![rule("/dev/sde", None)]);
    rig.pass(1_000);
    let names = |rig: &Rig| {
        let coverage = rig.machine.snapshot().coverage;
        let named = coverage.into_iter().map(|one| (one.lun_name, one.by.len()));
        named.collect::<Vec<_>>()
    };
    let of = |md0, md1| [("md0".to_owned(), md0), ("md1".to_owned(), md1)];
    assert_eq!(names(&rig), of(1, 1), "{}", rig.story());
    lose(&mut rig, "sda");
    let mended = rig.recover("md0").unwrap();
    rig.finished(mended.id);
    assert_eq!(names(&rig), of(0, 0), "{}", rig.story());
    let told = rig.story();
    assert!(
        told.contains("no spare covers md1: the spare went to md0"),
        "{told}"
    );
}

#[test]
fn a_drive_kept_for_one_lun_serves_no_other() {
    let mut rig = two_mirrors(vec![rule("/dev/sde", Some("md1")), rule("/dev/sdf", None)]);
    rig.pass(1_000);
    assert!(
        covered(&rig, "md0") && covered(&rig, "md1"),
        "{}",
        rig.story()
    );
    lose(&mut rig, "sdc");
    lose(&mut rig, "sda");
    let mended = rig.recover("md1").unwrap();
    rig.finished(mended.id);
    assert!(
        rig.lun("md1")
            .drives
            .iter()
            .any(|drive| drive.device == "/dev/sde")
    );
    let mended = rig.recover("md0").unwrap();
    rig.finished(mended.id);
    assert!(
        rig.lun("md0")
            .drives
            .iter()
            .any(|drive| drive.device == "/dev/sdf")
    );
    assert!(
        !covered(&rig, "md0") && !covered(&rig, "md1"),
        "{}",
        rig.story()
    );
    let told = rig.story();
    assert!(told.contains("no spare covers md1"), "{told}");
    assert!(told.contains("no spare covers md0"), "{told}");
}

#[test]
fn what_fails_is_marked_across_restarts_and_no_rule_takes_it() {
    let mut rig = two_mirrors(vec![rule("/dev/sd*", None)]);
    rig.pass(1_000);
    assert_eq!(pool(&rig).len(), 3, "{}", rig.story());
    lose(&mut rig, "sdb");
    rig.pass(1_000);
    rig.restart();
    rig.pass(1_000);
    let retired = rig.machine.snapshot().retired;
    let [one] = &retired[..] else {
        panic!("{retired:?}\n{}", rig.story())
    };
    assert_eq!(one.device.as_deref(), Some("/dev/sdb"));
    assert_eq!(
        (one.retired.why, one.retired.lun_name.as_str()),
        (RetiredWhy::Failed, "md0")
    );
    // Its owner takes it out and erases it: it is no spare all the same.
    let op = rig.recover("md0").unwrap();
    rig.finished(op.id);
    let drive = rig.kernel.with(|world| {
        let device = world.device_mut("sdb").unwrap();
        Target {
            dev: device.dev,
            name: device.name.clone(),
            id: device.id,
        }
    });
    let array = "md0".to_owned();
    let removal = Action::RemoveMember { array, drive };
    rig.kernel.act(&removal).unwrap();
    rig.happens(|world| world.device_mut("sdb").map(|drive| drive.superblock = None));
    rig.pass(120_000);
    assert!(
        !pool(&rig).contains(&"/dev/sdb".to_owned()),
        "{}",
        rig.story()
    );
    let passed = rig.machine.snapshot().passed_over;
    assert!(
        passed.iter().any(|one| one.reason == "failed in md0"),
        "{passed:?}"
    );
}

/// A mirror of three with a spare in the pool, that counts errors.
fn erring(mode: PrefailMode) -> Rig {
    let scenario = Scenario::new()
        .disks(&NAMES, DISK)
        .array("md0", Level::Raid1, &NAMES[..3]);
    let prefail = PrefailRule {
        mode,
        events: 4,
        window_ms: 600_000,
    };
    let policy = Policy {
        prefail,
        ..Policy::default().by_hand()
    };
    let mut rig = Rig::with_policy(scenario.build().unwrap(), policy);
    rig.add_spare("sdd");
    rig.pass(1_000);
    rig
}

/// Members correct so many errors more.
fn err(rig: &mut Rig, names: &[&str], count: u64) {
    rig.happens(|world| {
        for name in names {
            let dev = world.device_mut(name).unwrap().dev;
            let array = world.arrays.get_mut("md0").unwrap();
            let member = array.members.iter_mut().find(|member| member.dev == dev);
            member.unwrap().errors += count;
        }
    });
    rig.pass(1_000);
}

#[test]
fn a_member_that_errs_is_copied_away_before_it_fails() {
    let mut rig = erring(PrefailMode::Auto);
    err(&mut rig, &["sdb"], 3);
    assert!(rig.machine.snapshot().ops.is_empty(), "{}", rig.story());
    err(&mut rig, &["sdb"], 1);
    let snapshot = rig.machine.snapshot();
    let [op] = &snapshot.ops[..] else {
        panic!("{}", rig.story())
    };
    assert_eq!(op.origin, Origin::Policy);
    assert_eq!(rig.finished(op.id).state, "succeeded", "{}", rig.story());
    let lun = rig.lun("md0");
    assert_eq!(lun.health, Health::Healthy, "{}", rig.story());
    assert!(
        lun.drives.iter().any(|drive| drive.device == "/dev/sdd"),
        "{}",
        rig.story()
    );
    let retired = rig.machine.snapshot().retired;
    let gone = retired
        .iter()
        .find(|one| one.device.as_deref() == Some("/dev/sdb"));
    assert_eq!(
        gone.map(|one| one.retired.why),
        Some(RetiredWhy::Replaced),
        "{}",
        rig.story()
    );
    rig.sound();
}

#[test]
fn members_that_err_at_once_have_a_common_cause_and_none_is_replaced() {
    let mut rig = erring(PrefailMode::Auto);
    err(&mut rig, &["sda", "sdb"], 30);
    assert!(rig.machine.snapshot().ops.is_empty(), "{}", rig.story());
    assert!(
        rig.story().contains("the cause is what they share"),
        "{}",
        rig.story()
    );
    assert_eq!(rig.lun("md0").redundancy.members_in_sync, Some(3));
}

#[test]
fn without_leave_it_is_only_said() {
    let mut rig = erring(PrefailMode::Notify);
    err(&mut rig, &["sdb"], 5);
    err(&mut rig, &["sdb"], 5);
    assert!(rig.machine.snapshot().ops.is_empty(), "{}", rig.story());
    let told = rig
        .told
        .iter()
        .filter(|line| line.contains("is failing"))
        .count();
    assert_eq!(told, 1, "{}", rig.story());
    // Errors of long ago no longer count, and the next ones are told anew.
    rig.pass(700_000);
    err(&mut rig, &["sdb"], 5);
    let told = rig
        .told
        .iter()
        .filter(|line| line.contains("is failing"))
        .count();
    assert_eq!(told, 2, "{}", rig.story());
}

/// Two mirrors, one spare of the pool for each name given, and rules that reserve.
fn reserving(spares: &[&str], rules: &[(&str, i32, bool)]) -> Rig {
    let scenario = Scenario::new()
        .disks(&NAMES, DISK)
        .array("md0", Level::Raid1, &NAMES[..2])
        .array("md1", Level::Raid1, &NAMES[2..4]);
    let rule = |(name, priority, reserve): &(&str, i32, bool)| LunRule {
        matches: (*name).to_owned(),
        priority: Some(*priority),
        reserve: Some(*reserve),
        ..LunRule::default()
    };
    let mut policy = Policy {
        lun_rules: rules.iter().map(rule).collect(),
        ..Policy::default()
    };
    policy.recovery.grace_ms = 0;
    let mut rig = Rig::with_policy(scenario.build().unwrap(), policy);
    for drive in spares {
        rig.add_spare(drive);
    }
    rig
}

fn healthy(rig: &Rig, name: &str) -> bool {
    rig.lun(name).health == Health::Healthy
}

#[test]
fn the_last_spare_waits_for_the_lun_that_reserves_it() {
    let mut rig = reserving(&["sde"], &[("md0", 0, true)]);
    assert!(
        covered(&rig, "md0") && !covered(&rig, "md1"),
        "{}",
        rig.story()
    );
    lose(&mut rig, "sdc");
    rig.pass(120_000);
    assert!(!healthy(&rig, "md1"), "{}", rig.story());
    let told = rig.decisions.last().unwrap().clone();
    assert_eq!(told.rule, AutoRule::NoSpare);
    let why = "the last spare that fits md0, which reserves it";
    let spare = told.alternatives.iter().find(|one| one.drive == "/dev/sde");
    assert_eq!(spare.map(|one| one.reason.as_str()), Some(why), "{told:?}");
    // A call is told so as well.
    let refused = rig.recover("md1");
    assert!(
        matches!(&refused, Err(error @ Error::NoSpare { .. }) if error.to_string().contains(why)),
        "{refused:?}"
    );
    // A second spare is free, and the first stays.
    rig.add_spare("sdf");
    rig.until("mended", |rig| healthy(rig, "md1"));
    lose(&mut rig, "sda");
    rig.until("mended", |rig| healthy(rig, "md0"));
    rig.sound();
}

#[test]
fn who_names_a_reserved_spare_gets_it() {
    let mut rig = reserving(&["sde"], &[("md0", 0, true)]);
    lose(&mut rig, "sdc");
    rig.pass(60_000);
    let lun = rig.machine.resolve_lun("md1").unwrap();
    let spare = Some("/dev/sde".to_owned());
    let asked = Command::Recover {
        lun,
        spare,
        repair: false,
        dry_run: false,
    };
    rig.call(asked).unwrap();
    rig.until("mended", |rig| healthy(rig, "md1"));
    assert!(!covered(&rig, "md0"), "{}", rig.story());
}

#[test]
fn a_reservation_binds_who_matters_no_more_and_no_other() {
    let gets_it = |rules: &[(&str, i32, bool)]| {
        let mut rig = reserving(&["sde"], rules);
        lose(&mut rig, "sdc");
        rig.pass(120_000);
        healthy(&rig, "md1")
    };
    assert!(gets_it(&[]));
    assert!(!gets_it(&[("md0", 0, true)]));
    assert!(gets_it(&[("md0", 0, true), ("md1", 1, false)]));
    assert!(!gets_it(&[("md0", 2, true), ("md1", 1, true)]));
    // Both reserve it: the loss that happened counts more.
    assert!(gets_it(&[("md0", 0, true), ("md1", 0, true)]));
}
