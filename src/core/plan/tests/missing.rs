//! A LUN with members missing: rows 1 to 4 (and what of row 1 a whole LUN shares).

use uuid::Uuid;

use super::{half_mirror, planned, targets, verdict};
use crate::Error;
use crate::action::{Action, FormerOf};
use crate::error::Unfit;
use crate::facts::{ArrayState, Fact, Level, Position, Slot, SyncAction};
use crate::model::Phase;
use crate::plan::testkit::{
    DISK, EVENTS, MD0, OVERHEAD, RECOVER, World, drive_id, onto, spare, superblock, words,
};
use crate::plan::{Need, Source, Verdict, judge_spares};

// Row 1.

#[test]
fn a_held_recovery_continues_from_its_checkpoint() {
    let mut world = half_mirror();
    world.member("s", Slot::At(1), spare());
    world.facts_mut("s").recovery_start = Fact::Known(Position::At(4096));
    world.show(SyncAction::Frozen, false);
    world.held = true;
    let plan = planned(&world, &RECOVER);
    assert_eq!(words(&plan), ["recover"]);
    assert_eq!((plan.phase, targets(&plan)), (Phase::Rebuild, vec!["s"]));
    assert!(plan.rule.starts_with("a held"), "{}", plan.rule);
}

#[test]
fn a_held_resync_continues_with_the_word_resync() {
    let mut world = World::new(Level::Raid5, 3);
    world.array_mut().resync_start = Fact::Known(Position::At(4096));
    world.show(SyncAction::Frozen, false);
    world.held = true;
    let plan = planned(&world, &RECOVER);
    assert_eq!(
        (words(&plan), plan.phase),
        (vec!["resync".to_owned()], Phase::Resync)
    );
}

/// Kernels from 6.12 would bring it in step first, from the half-filled copy.
#[test]
fn a_half_filled_raid10_is_filled_before_it_is_brought_in_step() {
    for held in [true, false] {
        let mut world = World::new(Level::Raid10, 4);
        world.pull("d2");
        world.member("s", Slot::At(2), spare());
        world.facts_mut("s").recovery_start = Fact::Known(Position::At(4096));
        world.array_mut().resync_start = Fact::Known(Position::At(0));
        world.array_mut().state = Fact::Known(ArrayState::ReadAuto);
        world.held = held;
        let shown = if held {
            SyncAction::Frozen
        } else {
            SyncAction::Idle
        };
        world.show(shown, false);
        let plan = planned(&world, &RECOVER);
        let freeze = (!held).then_some("frozen");
        let rest = ["clear resync_start", "rw", "recover"];
        let wanted: Vec<&str> = freeze.into_iter().chain(rest).collect();
        assert_eq!(words(&plan), wanted);
        // Other levels only ever write to it.
        world.array_mut().level = Fact::Known(Level::Raid1);
        assert!(!words(&planned(&world, &RECOVER)).contains(&"clear resync_start".to_owned()));
    }
}

#[test]
fn a_pass_that_has_come_some_way_is_not_joined() {
    let mut world = World::new(Level::Raid6, 5);
    world.pull("d3");
    world.pull("d4");
    world.member("s", Slot::At(3), spare());
    world.facts_mut("s").recovery_start = Fact::Known(Position::At(4096));
    world.pooled("p", DISK);
    world.show(SyncAction::Frozen, false);
    let plan = planned(&world, &RECOVER);
    assert_eq!(words(&plan), ["recover"]);
    assert_eq!((targets(&plan), plan.leaves_missing), (vec!["s"], 0));
    world.show(SyncAction::Recover, true);
    let plan = planned(&world, &RECOVER);
    assert!(plan.steps.is_empty());
    assert_eq!(plan.phase, Phase::Rebuild);
}

#[test]
fn an_interrupted_replacement_continues() {
    let mut world = World::new(Level::Raid1, 2);
    world.state_mut("d0").want_replacement = true;
    let mut state = spare();
    state.replacement = true;
    world.member("s", Slot::At(0), state);
    world.show(SyncAction::Frozen, false);
    let plan = planned(&world, &RECOVER);
    assert_eq!(
        (words(&plan), plan.phase),
        (vec!["recover".to_owned()], Phase::Replace)
    );
    assert_eq!(plan.retires.unwrap().name, "d0");
}

#[test]
fn a_freeze_that_is_left_over_is_lifted() {
    let mut world = World::new(Level::Raid1, 2);
    world.show(SyncAction::Frozen, false);
    assert_eq!(words(&planned(&world, &RECOVER)), ["idle"]);
}

// Row 2.

#[test]
fn a_former_member_is_re_added_where_there_is_a_bitmap() {
    let mut world = World::new(Level::Raid1, 2);
    world.former("d1", EVENTS - 3);
    world.pooled("p", DISK);
    let plan = planned(&world, &RECOVER);
    assert_eq!(
        (words(&plan), plan.phase),
        (vec!["re-add d1".to_owned()], Phase::ReAdd)
    );
    assert_eq!(verdict(&plan, "d1"), &Verdict::Taken);
    assert_eq!(verdict(&plan, "p"), &Verdict::Fits { rank: 1 });
    assert_eq!(plan.bytes_to_copy, 0);
}

#[test]
fn a_former_member_of_a_frozen_array_has_to_be_started() {
    let mut world = World::new(Level::Raid1, 2);
    world.former("d1", EVENTS);
    world.show(SyncAction::Frozen, false);
    assert_eq!(words(&planned(&world, &RECOVER)), ["re-add d1", "recover"]);
}

#[test]
fn without_a_bitmap_a_former_member_is_the_last_resort_and_erased() {
    let mut world = World::new(Level::Raid1, 2);
    world.array_mut().bitmap = Fact::Known(false);
    world.former("d1", EVENTS - 3);
    let plan = planned(&world, &RECOVER);
    assert_eq!(words(&plan), ["frozen", "wipe d1", "add d1", "recover"]);
    assert_eq!(plan.candidates[0].source, Source::Former);
    world.pooled("p", DISK);
    assert_eq!(
        words(&planned(&world, &RECOVER)),
        ["frozen", "add p", "recover"]
    );
}

#[test]
fn a_former_member_with_a_newer_history_is_left_alone() {
    for bitmap in [true, false] {
        let mut world = World::new(Level::Raid1, 2);
        world.array_mut().bitmap = Fact::Known(bitmap);
        world.former("d1", EVENTS + 1);
        let Err(Error::NoSpare { rejected, .. }) = world.plan(&RECOVER) else {
            panic!()
        };
        assert_eq!(
            rejected[0].1,
            Unfit::NewerHistory {
                have: EVENTS + 1,
                array: EVENTS
            }
        );
    }
}

#[test]
fn a_former_member_whose_age_cannot_be_told_is_left_alone() {
    let mut world = World::new(Level::Raid1, 2);
    world.former("d1", EVENTS);
    world.array_mut().events = Fact::Unknown("not read".to_owned());
    let Err(Error::NoSpare { rejected, .. }) = world.plan(&RECOVER) else {
        panic!()
    };
    assert!(matches!(rejected[0].1, Unfit::UnknownFact { .. }));
}

#[test]
fn a_listed_faulty_member_comes_back_only_by_name() {
    let mut world = World::new(Level::Raid1, 2);
    world.fail("d1");
    let Err(Error::NoSpare { rejected, .. }) = world.plan(&RECOVER) else {
        panic!()
    };
    assert_eq!(rejected, [("/dev/d1".to_owned(), Unfit::ListedFaulty)]);
    let by_name = onto(drive_id("d1"));
    assert_eq!(
        words(&planned(&world, &by_name)),
        ["remove d1", "re-add d1"]
    );
    world.array_mut().bitmap = Fact::Known(false);
    let plan = planned(&world, &by_name);
    assert_eq!(
        words(&plan),
        ["frozen", "remove d1", "wipe d1", "add d1", "recover"]
    );
}

// Row 3.

#[test]
fn an_attached_spare_is_started() {
    let mut world = half_mirror();
    world.attached_spare("s");
    let plan = planned(&world, &RECOVER);
    assert_eq!(
        (words(&plan), targets(&plan)),
        (vec!["recover".to_owned()], vec!["s"])
    );
    assert_eq!(plan.bytes_to_copy, DISK - OVERHEAD);
    assert_eq!(
        plan.risk,
        "Until this finishes, losing /dev/d0 loses the LUN."
    );
    world.array_mut().state = Fact::Known(ArrayState::ReadAuto);
    assert_eq!(words(&planned(&world, &RECOVER)), ["rw", "recover"]);
}

#[test]
fn what_the_kernel_has_begun_to_look_at_is_not_started_twice() {
    let mut world = half_mirror();
    world.attached_spare("s");
    world.show(SyncAction::Recover, false);
    assert!(planned(&world, &RECOVER).steps.is_empty());
}

#[test]
fn a_spare_is_bound_to_the_hole_when_a_mirror_wants_replacement() {
    let mut world = World::new(Level::Raid1, 3);
    world.state_mut("d0").want_replacement = true;
    world.pull("d2");
    world.attached_spare("s");
    assert_eq!(
        words(&planned(&world, &RECOVER)),
        ["frozen", "slot s=2", "recover"]
    );
    let mut parity = World::new(Level::Raid6, 4);
    parity.state_mut("d0").want_replacement = true;
    parity.pull("d2");
    parity.attached_spare("s");
    assert_eq!(words(&planned(&parity, &RECOVER)), ["recover"]);
}

// Row 4.

#[test]
fn a_pool_spare_is_added_while_the_array_is_frozen() {
    let mut world = half_mirror();
    world.pooled("p", DISK);
    let plan = planned(&world, &RECOVER);
    assert_eq!(words(&plan), ["frozen", "add p", "recover"]);
    assert_eq!((plan.phase, plan.leaves_missing), (Phase::Rebuild, 0));
    for step in &plan.steps {
        world.apply(&step.action);
    }
    let plan = planned(&world, &RECOVER);
    assert_eq!((plan.steps.len(), targets(&plan)), (0, vec!["p"]));
    world.finish();
    assert_eq!(planned(&world, &RECOVER).phase, Phase::None);
}

#[test]
fn two_holes_are_filled_in_one_pass_and_what_is_short_is_told() {
    let mut world = World::new(Level::Raid6, 5);
    world.pull("d3");
    world.pull("d4");
    world.attached_spare("s");
    assert_eq!(planned(&world, &RECOVER).leaves_missing, 1);
    world.pooled("p", DISK);
    let plan = planned(&world, &RECOVER);
    assert_eq!(words(&plan), ["frozen", "add p", "recover"]);
    assert_eq!((targets(&plan), plan.leaves_missing), (vec!["s", "p"], 0));
    assert_eq!(plan.bytes_to_copy, 2 * (DISK - OVERHEAD));
}

#[test]
fn an_owner_who_forced_a_drive_has_it_erased_first() {
    let mut world = half_mirror();
    world.pooled("p", DISK);
    world.probe_mut("p").signatures = Fact::Known(vec!["ext4".to_owned()]);
    assert!(matches!(world.plan(&RECOVER), Err(Error::NoSpare { .. })));
    world.pool[0].forced_signatures = vec!["ext4".to_owned(), "dos".to_owned()];
    assert_eq!(
        words(&planned(&world, &RECOVER)),
        ["frozen", "wipe p", "add p", "recover"]
    );
    world.probe_mut("p").signatures = Fact::Known(vec!["ext4".to_owned(), "lvm2".to_owned()]);
    let Err(Error::NoSpare { rejected, .. }) = world.plan(&RECOVER) else {
        panic!()
    };
    assert_eq!(
        rejected[0].1,
        Unfit::Signature {
            found: vec!["lvm2".to_owned()]
        }
    );
}

/// What came out of another array may be a member of a third one by the time that it is needed.
#[test]
fn what_was_a_spare_elsewhere_is_erased_only_as_a_spare() {
    let mut world = half_mirror();
    world.pooled("p", DISK);
    world.pool[0].forced_signatures = vec![crate::plan::SPARE_SIGNATURE.to_owned()];
    superblock(world.probe_mut("p"), Uuid::from_u128(7), 3, None);
    let erased = ["frozen", "wipe p", "add p", "recover"];
    assert_eq!(words(&planned(&world, &RECOVER)), erased);
    superblock(world.probe_mut("p"), Uuid::from_u128(7), 3, Some(1));
    let Err(Error::NoSpare { rejected, .. }) = world.plan(&RECOVER) else {
        panic!()
    };
    assert!(
        matches!(rejected[0].1, Unfit::Signature { .. }),
        "{rejected:?}"
    );
}

#[test]
fn the_best_fit_is_taken() {
    let mut world = half_mirror();
    for (name, size) in [
        ("large", 3 * DISK),
        ("ssd", DISK),
        ("usb", DISK),
        ("same", DISK),
    ] {
        world.pooled(name, size);
    }
    world.pooled("near", DISK);
    world.pooled("fits", 2 * DISK);
    world.device_mut("ssd").rotational = Fact::Known(false);
    world.device_mut("usb").transport = Fact::Known("usb".to_owned());
    world.device_mut("d0").whole_disk = "disk".to_owned();
    world.device_mut("same").whole_disk = "disk".to_owned();
    world.device_mut("d0").controller = Some("pci0".to_owned());
    world.device_mut("near").controller = Some("pci0".to_owned());
    let order: Vec<String> = world.with(|ctx| {
        let found = judge_spares(
            ctx,
            &Need {
                holes: vec![1],
                ..Need::default()
            },
        );
        found
            .into_iter()
            .map(|candidate| candidate.drive.name)
            .collect()
    });
    assert_eq!(order, ["fits", "large", "near", "usb", "ssd", "same"]);
}

#[test]
fn when_every_drive_is_too_small_it_is_said_so() {
    let mut world = World::new(Level::Raid1, 2);
    world.fail("d1");
    world.pooled("p", DISK - 1);
    let Err(Error::SparesTooSmall {
        need_bytes,
        rejected,
        ..
    }) = world.plan(&RECOVER)
    else {
        panic!()
    };
    assert_eq!((need_bytes, rejected.len()), (DISK - OVERHEAD, 2));
    world.pooled("q", DISK);
    world.device_mut("q").read_only = true;
    assert!(matches!(
        world.plan(&RECOVER),
        Err(Error::NoSpare { missing: 1, .. })
    ));
}

#[test]
fn a_drive_insisted_on_is_the_only_one() {
    let mut world = half_mirror();
    let p = world.pooled("p", DISK);
    world.attached_spare("s");
    let plan = planned(&world, &onto(p));
    assert_eq!(words(&plan), ["frozen", "add p", "slot p=1", "recover"]);
    assert_eq!(targets(&plan), ["p"]);
    assert_eq!(verdict(&plan, "s"), &Verdict::Rejected(Unfit::NotTheChosen));
    world.device("blank", 2 * DISK);
    assert_eq!(
        targets(&planned(&world, &onto(drive_id("blank")))),
        ["blank"]
    );
    world.probe_mut("blank").signatures = Fact::Known(vec!["xfs".to_owned()]);
    let refused = world.plan(&onto(drive_id("blank")));
    assert!(matches!(
        refused,
        Err(Error::DriveRefused {
            unfit: Unfit::Signature { .. },
            ..
        })
    ));
    let refused = world.plan(&onto(drive_id("nobody")));
    assert!(matches!(
        refused,
        Err(Error::DriveRefused {
            unfit: Unfit::NotPresent,
            ..
        })
    ));
    let refused = world.check(&onto(drive_id("d0")));
    assert!(matches!(
        refused,
        Err(Error::DriveRefused {
            unfit: Unfit::MemberElsewhere { .. },
            ..
        })
    ));
}

#[test]
fn a_drive_that_was_changed_is_not_the_one_registered() {
    let mut world = half_mirror();
    world.pooled("p", DISK);
    world.device_mut("p").id = drive_id("impostor");
    let Err(Error::NoSpare { rejected, .. }) = world.plan(&RECOVER) else {
        panic!()
    };
    assert_eq!(rejected[0].1, Unfit::IdentityChanged);
    world.device("twin", DISK);
    world.device_mut("p").id = drive_id("p");
    world.device_mut("twin").id = drive_id("p");
    let Err(Error::NoSpare { rejected, .. }) = world.plan(&RECOVER) else {
        panic!()
    };
    assert!(matches!(rejected[0].1, Unfit::UnknownFact { .. }));
}

// A drive that was pulled while it was filled, and of which the kernel still thinks that it is there.

#[test]
fn a_target_that_vanished_is_dropped_first() {
    let mut world = half_mirror();
    world.member("x", Slot::At(1), spare());
    world.pooled("p", DISK);
    world.show(SyncAction::Frozen, false);
    world.facts_mut("x").dev = Fact::Unknown("dev-x/block leads nowhere".to_owned());
    let plan = planned(&world, &RECOVER);
    assert_eq!(words(&plan), ["drop x", "add p", "recover"]);
    assert_eq!(targets(&plan), ["p"]);
    for step in &plan.steps {
        world.apply(&step.action);
    }
    assert!(world.runs(), "{:?}", world.array());
}

#[test]
fn a_former_member_is_erased_for_this_array_alone() {
    let mut world = World::new(Level::Raid1, 2);
    world.former("d1", EVENTS);
    world.array_mut().bitmap = Fact::Known(false);
    let degraded = 1;
    let plan = planned(&world, &RECOVER);
    let wipe = plan.steps.iter().find_map(|step| match &step.action {
        Action::Wipe { former, .. } => Some(former.clone()),
        _ => None,
    });
    let array = MD0.to_owned();
    assert_eq!(wipe, Some(Some(FormerOf { array, degraded })), "{plan:?}");
}

/// Without the number that guards the erasure nothing is erased.
#[test]
fn a_former_member_stays_as_it_is_while_the_loss_is_unknown() {
    let mut world = World::new(Level::Raid1, 2);
    world.former("d1", EVENTS);
    world.array_mut().bitmap = Fact::Known(false);
    if let Some(sync) = world.array_mut().sync.as_mut() {
        sync.degraded = Fact::Unknown("unreadable".to_owned());
    }
    let steps = world.plan(&RECOVER).map(|plan| words(&plan));
    assert!(steps.is_err(), "{steps:?}");
}
