//! Which of several drives is taken, and what is never taken.

use super::super::testkit::{DISK, World, drive_id};
use super::super::{Candidate, Need, Reservation, Verdict, coverage, judge_spares, reservation};
use crate::error::Unfit;
use crate::facts::{Fact, Level};
use crate::id::DriveId;
use crate::model::{Retired, RetiredWhy};

fn half_mirror() -> World {
    let mut world = World::new(Level::Raid1, 2);
    world.pull("d1");
    world
}

fn judged(world: &World, chosen: Option<DriveId>) -> Vec<Candidate> {
    let need = Need {
        holes: vec![1],
        chosen,
        ..Need::default()
    };
    world.with(|ctx| judge_spares(ctx, &need))
}

fn names(found: &[Candidate]) -> Vec<&str> {
    found.iter().map(|one| one.drive.name.as_str()).collect()
}

fn unfit(found: &[Candidate], name: &str) -> Option<Unfit> {
    let candidate = found.iter().find(|one| one.drive.name == name)?;
    match &candidate.verdict {
        Verdict::Rejected(unfit) => Some(unfit.clone()),
        Verdict::Fits { .. } | Verdict::Taken => None,
    }
}

#[test]
fn another_enclosure_comes_before_another_controller_and_both_before_size() {
    let mut world = half_mirror();
    for (name, size) in [
        ("shelf", DISK),
        ("host", DISK),
        ("far", DISK),
        ("large", 2 * DISK),
    ] {
        world.pooled(name, size);
    }
    world.device_mut("d0").enclosure = Some("shelf0".to_owned());
    world.device_mut("d0").controller = Some("pci0".to_owned());
    world.device_mut("shelf").enclosure = Some("shelf0".to_owned());
    world.device_mut("host").controller = Some("pci0".to_owned());
    let found = judged(&world, None);
    assert_eq!(names(&found), ["far", "large", "host", "shelf"]);
    assert_eq!(found[0].reason, "it fits (of the members' kind)");
    assert_eq!(
        found[3].reason,
        "it fits (of the members' kind, in the enclosure of a member)"
    );
}

#[test]
fn equals_are_taken_by_name_not_by_the_order_of_registration() {
    let mut world = half_mirror();
    for name in ["b", "c", "a"] {
        world.pooled(name, DISK);
    }
    assert_eq!(names(&judged(&world, None)), ["a", "b", "c"]);
}

#[test]
fn what_failed_elsewhere_is_taken_only_when_it_is_named() {
    for why in [
        RetiredWhy::Failed,
        RetiredWhy::FailedOnUse,
        RetiredWhy::Replaced,
    ] {
        let mut world = half_mirror();
        let id = world.pooled("p", DISK);
        world.retire("p", why);
        let refused = unfit(&judged(&world, None), "p");
        assert!(
            matches!(&refused, Some(Unfit::Retired { what }) if what.contains("md1")),
            "{why:?}"
        );
        assert_eq!(unfit(&judged(&world, Some(id)), "p"), None, "{why:?}");
    }
}

/// A cable may have been loose: what failed in this very array may come back to it. What was given up
/// may not.
#[test]
fn a_former_member_returns_unless_it_was_given_up() {
    for (why, returns) in [
        (RetiredWhy::Failed, true),
        (RetiredWhy::FailedOnUse, false),
        (RetiredWhy::Replaced, false),
    ] {
        let mut world = World::new(Level::Raid1, 2);
        let id = world.former("d1", 90);
        let lun = world.lun();
        let retired = Retired {
            lun: lun.id,
            lun_name: lun.name,
            at: crate::id::Wall(0),
            why,
        };
        world.retired.insert(id, retired);
        assert_eq!(
            unfit(&judged(&world, None), "d1").is_none(),
            returns,
            "{why:?}"
        );
    }
}

#[test]
fn after_two_drives_have_failed_a_slot_a_third_is_kept_back() {
    let mut world = half_mirror();
    world.pooled("p", DISK);
    let lost = |number: u32| drive_id(&format!("lost{number}"));
    for number in 0..2 {
        assert_eq!(unfit(&judged(&world, None), "p"), None);
        world.added.insert(lost(number));
        world.tried.insert(lost(number));
    }
    let found = judged(&world, None);
    assert_eq!(unfit(&found, "p"), Some(Unfit::SlotBurns { failed: 2 }));
    assert_eq!(unfit(&judged(&world, Some(drive_id("p"))), "p"), None);
}

fn covered(world: &World) -> Option<String> {
    let lun = world.lun();
    let found = coverage(
        &world.inventory,
        (&lun, world.array()),
        &world.pool,
        &world.retired,
        &world.reserved,
    );
    found.and_then(|found| {
        assert_eq!(found.covered, found.reason.is_none());
        assert_eq!(found.wants.size_bytes, Some(DISK));
        found.reason
    })
}

#[test]
fn a_lun_without_a_spare_says_what_it_needs() {
    let mut world = World::new(Level::Raid1, 2);
    assert_eq!(covered(&world).as_deref(), Some("there is no spare"));
    world.pooled("gone", DISK);
    let dev = world.dev("gone");
    world.inventory.devices.remove(&dev);
    world.pooled("small", DISK / 2);
    let needs = format!("needs {} bytes", DISK - super::super::testkit::OVERHEAD);
    assert_eq!(covered(&world), Some(needs));
    world.pooled("coarse", DISK);
    world.device_mut("coarse").logical_block_bytes = Fact::Known(4096);
    assert_eq!(covered(&world).as_deref(), Some("needs 512-byte sectors"));
    world.pooled("burnt", DISK);
    world.retire("burnt", RetiredWhy::Failed);
    assert_eq!(covered(&world).as_deref(), Some("needs 512-byte sectors"));
    world.pooled("fits", DISK);
    assert_eq!(covered(&world), None);
}

#[test]
fn an_attached_spare_covers_its_array_and_a_striped_one_needs_none() {
    let mut world = World::new(Level::Raid1, 2);
    world.attached_spare("s");
    assert_eq!(covered(&world), None);
    let world = World::new(Level::Raid0, 2);
    let lun = world.lun();
    let found = coverage(
        &world.inventory,
        (&lun, world.array()),
        &[],
        &world.retired,
        &[],
    );
    assert_eq!(found, None);
}

#[test]
fn a_dedicated_drive_goes_first_where_it_belongs_and_nowhere_else() {
    let mut world = half_mirror();
    world.pooled("shared", DISK);
    world.pooled("ours", 2 * DISK);
    world.pooled("theirs", DISK);
    world.pool[1].only_for = Some("/dev/md?".to_owned());
    world.pool[2].only_for = Some("md7*".to_owned());
    let found = judged(&world, None);
    assert_eq!(names(&found), ["ours", "shared", "theirs"]);
    let to = "md7*".to_owned();
    assert_eq!(unfit(&found, "theirs"), Some(Unfit::Dedicated { to }));
    assert_eq!(
        unfit(&judged(&world, Some(drive_id("theirs"))), "theirs"),
        None
    );
}

fn kept(keep: usize, drives: &[&str]) -> Reservation {
    Reservation {
        lun_name: "md7".to_owned(),
        drives: drives.iter().map(|name| drive_id(name)).collect(),
        keep,
    }
}

#[test]
fn the_last_spare_that_fits_another_lun_is_left_to_it() {
    let mut world = half_mirror();
    let best = world.pooled("best", DISK);
    world.pooled("next", 2 * DISK);
    let lun = "md7".to_owned();
    let reserved = Some(Unfit::Reserved { lun });
    let spared = |world: &World, chosen| {
        let found = judged(world, chosen);
        let mut names: Vec<&str> = Vec::new();
        for one in found.iter().filter(|one| one.fits()) {
            names.push(if one.drive.name == "best" {
                "best"
            } else {
                "next"
            });
        }
        (
            names.join(" "),
            unfit(&found, "best"),
            unfit(&found, "next"),
        )
    };
    // Two fit it: one of them may be had, the best, and the other one stays.
    world.reserved = vec![kept(1, &["best", "next"])];
    let one = ("best".to_owned(), None, reserved.clone());
    assert_eq!(spared(&world, None), one);
    // Only the other one fits it.
    world.reserved = vec![kept(1, &["next"])];
    assert_eq!(spared(&world, None), one);
    // The best is its last.
    world.reserved = vec![kept(1, &["best"])];
    let other = ("next".to_owned(), reserved.clone(), None);
    assert_eq!(spared(&world, None), other);
    // It misses two.
    world.reserved = vec![kept(2, &["best", "next"])];
    let none = (String::new(), reserved.clone(), reserved);
    assert_eq!(spared(&world, None), none);
    let why = covered(&world);
    assert_eq!(why.as_deref(), Some("the last spare is kept for md7"));
    // Who names a drive takes that upon himself.
    assert_eq!(unfit(&judged(&world, Some(best)), "best"), None);
    // What does not fit here stays by itself.
    world.device_mut("next").logical_block_bytes = Fact::Known(4096);
    world.reserved = vec![kept(1, &["best", "next"])];
    assert_eq!(unfit(&judged(&world, None), "best"), None);
    assert_eq!(covered(&world), None);
}

#[test]
fn a_former_member_comes_back_whatever_is_kept_for_others() {
    let mut world = World::new(Level::Raid1, 2);
    world.former("d1", 90);
    world.pooled("p", DISK);
    world.reserved = vec![kept(1, &["d1", "p"])];
    assert_eq!(names(&judged(&world, None)), ["d1", "p"]);
    assert_eq!(unfit(&judged(&world, None), "d1"), None);
}

#[test]
fn what_is_kept_is_what_a_lun_would_need() {
    let of = |world: &World| {
        world
            .with(reservation)
            .map(|found| (found.keep, found.drives.len()))
    };
    let mut world = World::new(Level::Raid1, 3);
    assert_eq!(of(&world), None, "nothing is there to be kept");
    world.pooled("a", DISK);
    world.pooled("b", DISK);
    world.pooled("small", DISK / 2);
    assert_eq!(of(&world), Some((1, 2)));
    world.pull("d1");
    assert_eq!(of(&world), Some((1, 2)));
    world.pull("d2");
    assert_eq!(of(&world), Some((2, 2)));
    world.attached_spare("s");
    assert_eq!(of(&world), Some((1, 2)));
    let mut whole = World::new(Level::Raid1, 2);
    whole.pooled("a", DISK);
    whole.attached_spare("s");
    assert_eq!(of(&whole), None, "its own spare is enough");
    let mut striped = World::new(Level::Raid0, 2);
    striped.pooled("a", DISK);
    assert_eq!(of(&striped), None);
}
