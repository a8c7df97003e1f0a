//! A LUN with all its members: rows 5 to 7, replacement and verify.

use super::{half_mirror, owned, planned};
use crate::Error;
use crate::facts::{ArrayState, Fact, Level, Position, Slot};
use crate::model::Phase;
use crate::plan::Request;
use crate::plan::testkit::{DISK, RECOVER, REPAIR, World, drive_id, in_sync, words};

// Row 5.

#[test]
fn a_failing_member_is_copied_before_it_is_retired() {
    for flag in ["want", "error", "blocks"] {
        let mut world = World::new(Level::Raid5, 3);
        match flag {
            "want" => world.state_mut("d1").want_replacement = true,
            "error" => world.state_mut("d1").write_error = true,
            _ => world.facts_mut("d1").bad_blocks = Fact::Known(1),
        }
        world.pooled("p", DISK);
        let plan = planned(&world, &RECOVER);
        let mut expected = vec!["frozen", "add p", "want d1", "slot p=1", "recover"];
        expected.retain(|word| flag != "want" || *word != "want d1");
        assert_eq!(
            (words(&plan), plan.phase),
            (owned(&expected), Phase::Replace)
        );
        for step in &plan.steps {
            world.apply(&step.action);
        }
        assert_eq!(planned(&world, &RECOVER).phase, Phase::Replace);
        world.finish();
        assert_eq!(words(&planned(&world, &RECOVER)), ["remove d1"]);
    }
}

#[test]
fn losses_recorded_on_several_members_are_not_copied_around() {
    let mut world = World::new(Level::Raid1, 2);
    world.facts_mut("d0").bad_blocks = Fact::Known(1);
    world.facts_mut("d1").bad_blocks = Fact::Known(1);
    world.pooled("p", DISK);
    assert_eq!(planned(&world, &RECOVER).phase, Phase::None);
}

#[test]
fn without_a_spare_for_a_failing_member_the_rest_is_still_done() {
    let mut world = World::new(Level::Raid5, 3);
    world.state_mut("d1").write_error = true;
    assert!(matches!(
        world.plan(&RECOVER),
        Err(Error::NoSpare { missing: 0, .. })
    ));
    assert_eq!(planned(&world, &REPAIR).phase, Phase::Repair);
    world.dirty();
    assert_eq!(planned(&world, &RECOVER).phase, Phase::Resync);
}

#[test]
fn a_member_that_failed_by_itself_stays_listed() {
    let mut world = World::new(Level::Raid1, 2);
    world.fail("d1");
    world.member("s", Slot::At(1), in_sync());
    assert_eq!(planned(&world, &RECOVER).phase, Phase::None);
    let replace = Request::Replace {
        drive: drive_id("d1"),
        with: None,
    };
    assert_eq!(words(&planned(&world, &replace)), ["remove d1"]);
}

#[test]
fn a_member_is_replaced_when_asked_for() {
    let mut world = World::new(Level::Raid1, 2);
    let p = world.pooled("p", DISK);
    let replace = Request::Replace {
        drive: drive_id("d0"),
        with: Some(p),
    };
    assert_eq!(world.check(&replace), Ok(()));
    let plan = planned(&world, &replace);
    assert_eq!(
        words(&plan),
        ["frozen", "add p", "want d0", "slot p=0", "recover"]
    );
    assert_eq!(plan.retires.unwrap().name, "d0");
    world.fail("d1");
    assert!(matches!(
        world.check(&replace),
        Err(Error::LunNotReady { .. })
    ));
    let gone = Request::Replace {
        drive: drive_id("d1"),
        with: Some(p),
    };
    assert_eq!(
        words(&planned(&world, &gone)),
        ["frozen", "add p", "recover"]
    );
}

#[test]
fn what_is_no_member_cannot_be_replaced() {
    let mut world = World::new(Level::Raid1, 2);
    let p = world.pooled("p", DISK);
    let asked = |drive| Request::Replace { drive, with: None };
    assert!(matches!(
        world.check(&asked(p)),
        Err(Error::InvalidArgument { .. })
    ));
    let nobody = world.check(&asked(drive_id("nobody")));
    assert!(matches!(nobody, Err(Error::ObjectNotFound { .. })));
    let s = world.attached_spare("s");
    assert!(matches!(
        world.check(&asked(s)),
        Err(Error::InvalidArgument { .. })
    ));
    assert_eq!(
        planned(&world, &asked(p)).phase,
        Phase::None,
        "retired by this operation"
    );
}

// Rows 6 and 7, and verify.

#[test]
fn copies_out_of_step_are_brought_in_step() {
    let mut world = World::new(Level::Raid1, 2);
    world.dirty();
    assert_eq!(words(&planned(&world, &RECOVER)), ["resync"]);
    world.array_mut().state = Fact::Known(ArrayState::ReadAuto);
    assert_eq!(words(&planned(&world, &RECOVER)), ["rw", "resync"]);
}

#[test]
fn a_dirty_raid10_is_brought_in_step_before_a_copy_is_made() {
    let mut world = World::new(Level::Raid10, 4);
    world.dirty();
    world.state_mut("d0").write_error = true;
    world.attached_spare("s");
    assert_eq!(words(&planned(&world, &RECOVER)), ["resync"]);
}

#[test]
fn repair_comes_after_what_is_missing() {
    let mut world = half_mirror();
    world.attached_spare("s");
    assert_eq!(planned(&world, &REPAIR).phase, Phase::Rebuild);
    world.apply(&planned(&world, &REPAIR).steps[0].action);
    world.finish();
    let plan = planned(&world, &REPAIR);
    assert_eq!(
        (words(&plan), plan.phase),
        (vec!["repair".to_owned()], Phase::Repair)
    );
}

#[test]
fn nothing_is_done_when_nothing_is_wrong() {
    let world = World::new(Level::Raid6, 4);
    let plan = planned(&world, &RECOVER);
    assert_eq!(
        (plan.phase, plan.steps.len(), plan.bytes_to_copy),
        (Phase::None, 0, 0)
    );
}

#[test]
fn a_check_is_refused_where_it_would_not_be_one() {
    let mut world = World::new(Level::Raid5, 3);
    assert_eq!(world.check(&Request::Verify), Ok(()));
    assert_eq!(words(&planned(&world, &Request::Verify)), ["check"]);
    world.dirty();
    assert!(matches!(
        world.check(&Request::Verify),
        Err(Error::LunNotReady { .. })
    ));
    world.array_mut().resync_start = Fact::Known(Position::Done);
    world.held = true;
    assert!(matches!(
        world.check(&Request::Verify),
        Err(Error::LunNotReady { .. })
    ));
    world.held = false;
    world.fail("d1");
    assert!(matches!(
        world.check(&Request::Verify),
        Err(Error::LunNotReady { .. })
    ));
    assert!(matches!(
        world.plan(&Request::Verify),
        Err(Error::LunNotReady { .. })
    ));
}

// A fill that the host's going down came into.

#[test]
fn copies_that_may_differ_are_repaired() {
    let mut world = World::new(Level::Raid1, 2);
    assert_eq!(planned(&world, &RECOVER).phase, Phase::None);
    world.unproven = true;
    let plan = planned(&world, &RECOVER);
    assert_eq!(
        (words(&plan), plan.phase),
        (vec!["repair".to_owned()], Phase::Repair)
    );
    assert!(
        plan.rule.contains("when the host went down"),
        "{}",
        plan.rule
    );
    // First of all what is missing is filled.
    world.fail("d1");
    world.pooled("p", DISK);
    assert_eq!(planned(&world, &RECOVER).phase, Phase::Rebuild);
}
