//! Words, syncs and their order.

use super::*;

#[test]
fn a_degraded_array_takes_an_added_spare_by_itself() {
    let mut world = mirror().failed("sdb").build().unwrap();
    assert_eq!(degraded(&world), 1);
    assert_eq!(member(&world, "sdb").slot, Slot::None);
    world.write("md0", 100).unwrap();
    add(&mut world, "sdc").unwrap();
    assert_eq!(action(&world), SyncAction::Recover);
    assert_eq!(member(&world, "sdc").slot, Slot::At(1));
    world.advance_ms(500);
    let SyncCompleted::At { done, total } = completed(&world) else {
        panic!()
    };
    // Half way, rounded down to a sixteenth.
    assert!(done > 0 && done <= total / 2, "{done} of {total}");
    world.run_until_idle(LONG);
    assert_eq!(action(&world), SyncAction::Idle);
    assert_eq!(degraded(&world), 0);
    world.check_invariants().unwrap();
}

#[test]
fn a_frozen_array_keeps_its_spare_idle_and_its_faulty_member_in_the_slot() {
    let mut world = mirror().frozen().failed("sdb").build().unwrap();
    add(&mut world, "sdc").unwrap();
    world.advance_ms(10_000);
    assert_eq!(action(&world), SyncAction::Frozen);
    assert_eq!(member(&world, "sdc").slot, Slot::None);
    assert_eq!(member(&world, "sdb").slot, Slot::At(1));
    sync(&mut world, SyncWord::Recover).unwrap();
    assert_eq!(action(&world), SyncAction::Recover);
    assert_eq!(member(&world, "sdb").slot, Slot::None);
}

#[test]
fn frozen_stops_and_keeps_the_checkpoint_and_idle_restarts_at_once() {
    for style in STYLES {
        let mut world = mirror().style(style).failed("sdb").build().unwrap();
        add(&mut world, "sdc").unwrap();
        world.advance_ms(500);
        sync(&mut world, SyncWord::Frozen).unwrap();
        assert_eq!(completed(&world), SyncCompleted::None);
        let kept = member(&world, "sdc").recovery_offset.unwrap();
        assert!(kept > 0);
        world.advance_ms(10_000);
        assert_eq!(member(&world, "sdc").recovery_offset, Some(kept));
        sync(&mut world, SyncWord::Idle).unwrap();
        assert_eq!(action(&world), SyncAction::Recover);
        assert_eq!(
            world.array("md0").unwrap().sync.as_ref().unwrap().base,
            kept
        );
        sync(&mut world, SyncWord::Idle).unwrap();
        assert_eq!(action(&world), SyncAction::Recover, "idle is no cancel");
    }
}

#[test]
fn start_words_are_busy_while_a_sync_runs_and_succeed_when_there_is_nothing_to_do() {
    let mut world = mirror().build().unwrap();
    sync(&mut world, SyncWord::Recover).unwrap();
    sync(&mut world, SyncWord::Resync).unwrap();
    assert_eq!(action(&world), SyncAction::Idle);
    sync(&mut world, SyncWord::Check).unwrap();
    assert_eq!(action(&world), SyncAction::Check);
    assert_eq!(errno(sync(&mut world, SyncWord::Recover)), 16);
    assert_eq!(errno(sync(&mut world, SyncWord::Repair)), 16);
}

#[test]
fn check_counts_and_repair_mends_what_differs() {
    let mut world = mirror().md(|a| a.mismatch_real = 128).build().unwrap();
    sync(&mut world, SyncWord::Check).unwrap();
    world.run_until_idle(LONG);
    assert_eq!(world.array("md0").unwrap().mismatch_shown, 128);
    sync(&mut world, SyncWord::Repair).unwrap();
    world.run_until_idle(LONG);
    sync(&mut world, SyncWord::Check).unwrap();
    world.run_until_idle(LONG);
    assert_eq!(world.array("md0").unwrap().mismatch_shown, 0);
}

#[test]
fn check_of_a_degraded_array_with_a_spare_becomes_a_recovery() {
    let mut world = mirror()
        .frozen()
        .failed("sdb")
        .spare("sdc")
        .build()
        .unwrap();
    sync(&mut world, SyncWord::Check).unwrap();
    assert_eq!(action(&world), SyncAction::Recover);
    world.run_until_idle(LONG);
    assert_eq!(action(&world), SyncAction::Idle, "the check is forgotten");
}

#[test]
fn an_interrupted_repair_leaves_a_resync_on_7_only() {
    for style in STYLES {
        let mut world = mirror().style(style).build().unwrap();
        sync(&mut world, SyncWord::Repair).unwrap();
        world.advance_ms(300);
        sync(&mut world, SyncWord::Frozen).unwrap();
        let left = world.array("md0").unwrap().resync_start;
        assert_eq!(left.is_some(), style == KernelStyle::V7);
        world
            .act(&Action::ClearResyncStart {
                array: "md0".into(),
                fill_first: false,
            })
            .unwrap();
        sync(&mut world, SyncWord::Idle).unwrap();
        assert_eq!(action(&world), SyncAction::Idle);
        world.check_invariants().unwrap();
    }
}

#[test]
fn clearing_resync_start_needs_frozen_and_must_not_hide_dirt() {
    let mut world = mirror().dirty().build().unwrap();
    let clear = Action::ClearResyncStart {
        array: "md0".into(),
        fill_first: false,
    };
    assert_eq!(errno(world.act(&clear)), 16);
    sync(&mut world, SyncWord::Frozen).unwrap();
    world.act(&clear).unwrap();
    assert!(
        world
            .check_invariants()
            .unwrap_err()
            .contains("declared clean")
    );
}

#[test]
fn a_resync_is_put_off_only_while_a_member_is_half_filled() {
    let put_off = Action::ClearResyncStart {
        array: "md0".into(),
        fill_first: true,
    };
    let mut world = disks(&["sda", "sdb", "sdc"])
        .array("md0", Level::Raid10, &["sda", "sdb"])
        .lost("sdb")
        .spare("sdc")
        .build()
        .unwrap();
    sync(&mut world, SyncWord::Recover).unwrap();
    world.advance_ms(200);
    sync(&mut world, SyncWord::Frozen).unwrap();
    world.fail_device("sdc");
    let answer = world.act(&put_off);
    assert!(
        matches!(answer, Err(Error::LunNotReady { .. })),
        "{answer:?}"
    );
}

#[test]
fn resync_and_recovery_come_in_the_order_of_the_kernel() {
    for style in STYLES {
        let mut world = disks(&["sda", "sdb", "sdc", "sdd"])
            .style(style)
            .array("md0", Level::Raid1, &["sda", "sdb", "sdc"])
            .spare("sdd")
            .dirty()
            .build()
            .unwrap();
        world.advance_ms(100);
        assert_eq!(action(&world), SyncAction::Resync);
        world.fail_device("sdc");
        let first = if style == KernelStyle::V6_1 {
            SyncAction::Recover
        } else {
            SyncAction::Resync
        };
        assert_eq!(action(&world), first, "{style:?}");
        world.run_until_idle(LONG);
        assert_eq!(degraded(&world), 0);
        assert_eq!(world.array("md0").unwrap().resync_start, None);
        world.check_invariants().unwrap();
    }
}

#[test]
fn raid10_takes_no_spare_while_out_of_step() {
    let mut world = disks(&["sda", "sdb", "sdc", "sdd", "sde"])
        .style(KernelStyle::V6_1)
        .array("md0", Level::Raid10, &["sda", "sdb", "sdc", "sdd"])
        .dirty()
        .failed("sdd")
        .spare("sde")
        .build()
        .unwrap();
    assert_eq!(action(&world), SyncAction::Resync);
    assert_eq!(member(&world, "sde").slot, Slot::None);
    world.run_until_idle(LONG);
    assert_eq!(degraded(&world), 0);
}

#[test]
fn read_auto_begins_nothing_until_kicked() {
    for style in STYLES {
        let start = || {
            mirror()
                .style(style)
                .mode(Mode::ReadAuto)
                .dirty()
                .build()
                .unwrap()
        };
        let mut world = start();
        assert_eq!(action(&world), SyncAction::Idle);
        let mdstat = world.mdstat_facts(world.array("md0").unwrap());
        assert_eq!(mdstat.progress, MdstatProgress::Pending);
        sync(&mut world, SyncWord::Frozen).unwrap();
        let quiet = world.array("md0").unwrap().mode == Mode::ReadAuto;
        assert_eq!(quiet, style != KernelStyle::V6_1);
        let mut world = start();
        world
            .act(&Action::MakeReadWrite {
                array: "md0".into(),
            })
            .unwrap();
        assert_eq!(action(&world), SyncAction::Resync);
        let mut world = start();
        world.write("md0", 8).unwrap();
        assert_eq!(action(&world), SyncAction::Resync);
    }
}

#[test]
fn a_readonly_array_takes_the_word_and_does_nothing() {
    let mut world = mirror().mode(Mode::Readonly).dirty().build().unwrap();
    sync(&mut world, SyncWord::Resync).unwrap();
    assert_eq!(action(&world), SyncAction::Idle);
    assert!(matches!(add(&mut world, "sdc"), Err(Error::Tool { .. })));
}

#[test]
fn arrays_without_redundancy_have_no_sync_action() {
    let mut world = disks(&["sda", "sdb"])
        .array("md0", Level::Raid0, &["sda", "sdb"])
        .build();
    let world = world.as_mut().unwrap();
    assert_eq!(
        world.array_facts(world.array("md0").unwrap(), false).sync,
        None
    );
    assert_eq!(errno(sync(world, SyncWord::Check)), 2);
}
