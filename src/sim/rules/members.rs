//! Members that come, go, fail and are replaced.

use super::*;

#[test]
fn re_add_with_a_bitmap_copies_the_difference() {
    let mut world = mirror().bitmap(true).build().unwrap();
    world.vanish("sdb");
    world.write("md0", 2048).unwrap();
    world.plug("sdb");
    let began = world.now_ms;
    re_add(&mut world, "sdb").unwrap();
    assert_eq!(action(&world), SyncAction::Recover);
    world.run_until_idle(LONG);
    assert!(
        world.now_ms - began < 100,
        "it took {} ms",
        world.now_ms - began
    );
    assert_eq!(degraded(&world), 0);
    world.check_invariants().unwrap();
}

#[test]
fn re_add_without_a_bitmap_declares_stale_data_in_sync_and_the_checker_screams() {
    let mut world = mirror().failed("sdb").build().unwrap();
    world.write("md0", 2048).unwrap();
    assert!(matches!(
        re_add(&mut world, "sdb"),
        Err(Error::NotSupported { .. })
    ));
    // Past the guard of the port.
    let drive = target(&world, "sdb");
    world.re_add("md0", &drive).unwrap();
    world.settle();
    assert_eq!(degraded(&world), 0);
    assert!(
        world
            .check_invariants()
            .unwrap_err()
            .contains("sdb is in sync but stale")
    );
}

#[test]
fn re_add_of_parity_without_a_bitmap_rebuilds_all() {
    let mut world = disks(&["sda", "sdb", "sdc"])
        .array("md0", Level::Raid5, &["sda", "sdb", "sdc"])
        .failed("sdb")
        .build()
        .unwrap();
    world.write("md0", 2048).unwrap();
    let drive = target(&world, "sdb");
    world.re_add("md0", &drive).unwrap();
    world.settle();
    assert_eq!(action(&world), SyncAction::Recover);
    world.run_until_idle(LONG);
    world.check_invariants().unwrap();
}

#[test]
fn re_add_of_a_foreign_or_outdated_drive_is_refused() {
    let mut world = mirror().build().unwrap();
    world.vanish("sdb");
    world.write("md0", 8).unwrap();
    world.plug("sdb");
    assert!(
        re_add(&mut world, "sdb").is_err(),
        "no bitmap and older events"
    );
    assert!(re_add(&mut world, "sdc").is_err(), "never a member");
}

#[test]
fn failing_the_last_copy_breaks_the_array_and_is_a_violation() {
    for (level, members, really) in [
        (Level::Raid1, 2, false),
        (Level::Raid10, 2, false),
        (Level::Raid5, 3, true),
        (Level::Raid6, 4, true),
    ] {
        let names = ["sda", "sdb", "sdc", "sdd"];
        let mut world = disks(&names)
            .array("md0", level.clone(), &names[..members])
            .build()
            .unwrap();
        for name in &names[1..if level == Level::Raid6 { 3 } else { 2 }] {
            write_faulty(&mut world, name).unwrap();
        }
        world.check_invariants().unwrap();
        // The port refuses, and whoever asked has a fault.
        let refused = fail(&mut world, "sda");
        assert!(matches!(refused, Err(Error::MemberHealthy { .. })));
        assert!(!world.array("md0").unwrap().broken);
        assert!(world.check_invariants().unwrap_err().contains("needed"));
        assert_eq!(write_faulty(&mut world, "sda"), Err(16));
        let array = world.array("md0").unwrap();
        assert!(array.broken);
        assert_eq!(member(&world, "sda").faulty, really, "{level:?}");
        assert_eq!(world.write("md0", 8), Err(5));
    }
}

#[test]
fn an_array_that_breaks_under_a_write_hangs_in_write_pending() {
    let mut world = scenario::by_name("raid5-failed").unwrap();
    let facts = world.array_facts(world.array("md0").unwrap(), false);
    assert_eq!(facts.state, Fact::Known(ArrayState::Broken));
    assert!(facts.mdstat.unwrap().broken);
    let mut written = disks(&["sda", "sdb", "sdc"])
        .array("md0", Level::Raid5, &["sda", "sdb", "sdc"])
        .failed("sdb")
        .build()
        .unwrap();
    written.pull("sdc");
    assert_eq!(written.write("md0", 8), Err(5));
    let facts = written.array_facts(written.array("md0").unwrap(), false);
    assert_eq!(facts.state, Fact::Known(ArrayState::WritePending));
    world.style = KernelStyle::V6_1;
    assert!(!world.mdstat_facts(world.array("md0").unwrap()).broken);
}

#[test]
fn raid10_survives_by_pairs() {
    let mut world = scenario::by_name("raid10").unwrap();
    write_faulty(&mut world, "sda").unwrap();
    write_faulty(&mut world, "sdc").unwrap();
    assert_eq!(write_faulty(&mut world, "sdb"), Err(16));
}

#[test]
fn a_replacement_keeps_redundancy_and_retires_the_old_member() {
    let mut world = mirror().spare("sdc").build().unwrap();
    let old = target(&world, "sdb");
    world
        .act(&Action::WantReplacement {
            array: "md0".into(),
            drive: old,
        })
        .unwrap();
    assert_eq!(action(&world), SyncAction::Recover);
    assert_eq!(degraded(&world), 0);
    assert!(member(&world, "sdc").replacement);
    world.write("md0", 64).unwrap();
    world.run_until_idle(LONG);
    assert!(member(&world, "sdb").faulty);
    assert_eq!(member(&world, "sdb").slot, Slot::None);
    assert_eq!(member(&world, "sdc").slot, Slot::At(1));
    assert_eq!(degraded(&world), 0);
    remove(&mut world, "sdb").unwrap();
    world.check_invariants().unwrap();
}

#[test]
fn want_replacement_of_a_spare_is_ignored() {
    let mut world = mirror().spare("sdc").build().unwrap();
    let drive = target(&world, "sdc");
    let ignored = world.act(&Action::WantReplacement {
        array: "md0".into(),
        drive,
    });
    assert_eq!(errno(ignored), 0, "the port looks whether it was taken");
    assert!(!member(&world, "sdc").want_replacement);
}

#[test]
fn old_mirrors_may_leave_the_hole_for_a_replacement() {
    for style in STYLES {
        let mut world = disks(&["sda", "sdb", "sdc", "sdd"])
            .style(style)
            .array("md0", Level::Raid1, &["sda", "sdb", "sdc"])
            .frozen()
            .failed("sdc")
            .world(|w| w.write_error("sda"))
            .build()
            .unwrap();
        add(&mut world, "sdd").unwrap();
        sync(&mut world, SyncWord::Idle).unwrap();
        let slot = member(&world, "sdd").slot;
        let hole = if style == KernelStyle::V6_1 {
            Slot::At(0)
        } else {
            Slot::At(2)
        };
        assert_eq!(slot, hole, "{style:?}");
    }
}

#[test]
fn set_slot_binds_an_idle_spare_and_does_not_wake_recovery() {
    let mut world = mirror()
        .frozen()
        .failed("sdb")
        .spare("sdc")
        .build()
        .unwrap();
    let set = |world: &mut World, slot| {
        let drive = target(world, "sdc");
        world.act(&Action::SetSlot {
            array: "md0".into(),
            drive,
            slot,
        })
    };
    assert_eq!(errno(set(&mut world, 0)), 17);
    assert_eq!(errno(set(&mut world, 7)), 28);
    remove(&mut world, "sdb").unwrap();
    set(&mut world, 1).unwrap();
    assert_eq!(errno(set(&mut world, 1)), 16);
    assert_eq!(action(&world), SyncAction::Frozen);
    sync(&mut world, SyncWord::Recover).unwrap();
    assert_eq!(action(&world), SyncAction::Recover);
}

#[test]
fn removal_follows_the_rules_of_the_kernel() {
    let mut world = mirror()
        .frozen()
        .failed("sdb")
        .spare("sdc")
        .build()
        .unwrap();
    assert!(matches!(
        remove(&mut world, "sda"),
        Err(Error::MemberHealthy { .. })
    ));
    remove(&mut world, "sdd").expect("somebody else was quicker");
    remove(&mut world, "sdb").unwrap();
    remove(&mut world, "sdc").unwrap();
    sync(&mut world, SyncWord::Idle).unwrap();
    add(&mut world, "sdc").unwrap();
    assert_eq!(
        errno(remove(&mut world, "sdc")),
        16,
        "a rebuilding member stays"
    );
    fail(&mut world, "sdc").unwrap();
    remove(&mut world, "sdc").unwrap();
    assert_eq!(degraded(&world), 1);
}

#[test]
fn a_second_spare_restarts_the_pass_for_both() {
    let mut world = scenario::by_name("raid6-two-missing").unwrap();
    add(&mut world, "sde").unwrap();
    world.advance_ms(400);
    add(&mut world, "sdf").unwrap();
    let sync = world.array("md0").unwrap().sync.clone().unwrap();
    assert_eq!((sync.base, sync.targets.len()), (0, 2));
    world.run_until_idle(LONG);
    assert_eq!(degraded(&world), 0);
    world.check_invariants().unwrap();
}

#[test]
fn unfit_drives_are_refused_by_mdadm() {
    let mut world = mirror()
        .failed("sdb")
        .disk("small", SIZE / 2)
        .disk("ro", SIZE)
        .drive(|d| d.read_only = true)
        .disk("used", SIZE)
        .drive(|d| d.used_by.push("/home".into()))
        .build()
        .unwrap();
    for name in ["small", "ro"] {
        assert!(
            matches!(add(&mut world, name), Err(Error::Tool { .. })),
            "{name}"
        );
    }
    // What is in use is found before mdadm runs.
    assert!(matches!(
        add(&mut world, "used"),
        Err(Error::DriveRefused {
            unfit: Unfit::Busy { .. },
            ..
        })
    ));
    assert!(add(&mut world, "sda").is_err(), "a member");
    world.check_invariants().unwrap();
    let drive = target(&world, "sda");
    assert!(
        world
            .act(&Action::Wipe {
                drive,
                former: None
            })
            .is_err()
    );
}

#[test]
fn large_blocks_break_old_kernels_and_are_refused_by_new_ones() {
    for style in STYLES {
        let mut world = mirror()
            .style(style)
            .failed("sdb")
            .disk("big", SIZE)
            .drive(|d| d.block_bytes = 4096)
            .build()
            .unwrap();
        let refused = add(&mut world, "big").is_err();
        assert_eq!(refused, style == KernelStyle::V7);
        assert_eq!(world.check_invariants().is_ok(), refused);
    }
}

#[test]
fn overwriting_a_precious_drive_is_a_violation() {
    let mut world = mirror()
        .failed("sdb")
        .disk("sdz", SIZE)
        .precious("ext4")
        .build()
        .unwrap();
    let drive = target(&world, "sdz");
    world
        .act(&Action::Wipe {
            drive,
            former: None,
        })
        .unwrap();
    assert!(
        world
            .check_invariants()
            .unwrap_err()
            .contains("nobody had allowed")
    );
}

#[test]
fn wiping_a_member_of_a_failed_array_is_a_violation() {
    let mut world = scenario::by_name("raid5-failed").unwrap();
    world.vanish("sdb");
    world.plug("sdb");
    let drive = target(&world, "sdb");
    let result = world.act(&Action::Wipe {
        drive,
        former: None,
    });
    result.unwrap();
    assert!(
        world
            .check_invariants()
            .unwrap_err()
            .contains("md0 may need it")
    );
}

#[test]
fn a_target_that_fails_midway_leaves_the_array_degraded() {
    let mut world = mirror().failed("sdb").build().unwrap();
    world.device_mut("sdc").unwrap().fails_at = Some(30_000);
    add(&mut world, "sdc").unwrap();
    world.run_until_idle(LONG);
    assert!(member(&world, "sdc").faulty);
    assert_eq!(degraded(&world), 1);
    world.check_invariants().unwrap();
}

#[test]
fn a_source_that_fails_midway_throws_the_spare_out_or_leaves_bad_blocks_on_it() {
    for style in STYLES {
        let mut world = disks(&["sda", "sdb", "sdc", "sdd"])
            .style(style)
            .array("md0", Level::Raid5, &["sda", "sdb", "sdc"])
            .lost("sdc")
            .build()
            .unwrap();
        add(&mut world, "sdd").unwrap();
        world.advance_ms(300);
        world.fail_device("sda");
        assert!(world.array("md0").unwrap().broken);
        world.run_until_idle(LONG);
        let spare = member(&world, "sdd");
        if style == KernelStyle::V7 {
            assert!(spare.in_sync && spare.bad_blocks > 0);
            assert_eq!(world.write("md0", 8), Err(5));
        } else {
            assert_eq!(spare.slot, Slot::None);
        }
    }
}

#[test]
fn unreadable_sources_end_well_with_bad_blocks_on_both_sides() {
    let mut world = mirror().failed("sdb").build().unwrap();
    world.device_mut("sda").unwrap().unreadable = 2;
    add(&mut world, "sdc").unwrap();
    world.run_until_idle(LONG);
    assert_eq!(degraded(&world), 0);
    assert_eq!(member(&world, "sda").bad_blocks, 2);
    assert_eq!(member(&world, "sdc").bad_blocks, 2);
}

#[test]
fn the_spare_that_was_bound_last_is_taken_first() {
    let mut world = mirror().spare("sdc").spare("sdd").build().unwrap();
    world.fail_device("sdb");
    assert_eq!(member(&world, "sdd").slot, Slot::At(1));
    assert_eq!(member(&world, "sdc").slot, Slot::None);
}

#[test]
fn a_replacement_takes_over_when_the_old_member_fails_midway() {
    let mut world = mirror().spare("sdc").build().unwrap();
    let drive = target(&world, "sdb");
    let array = "md0".into();
    world
        .act(&Action::WantReplacement { array, drive })
        .unwrap();
    world.advance_ms(300);
    world.fail_device("sdb");
    let (old, new) = (member(&world, "sdb"), member(&world, "sdc"));
    assert!(old.faulty && !old.want_replacement);
    assert!(!new.replacement && new.rebuilding());
    assert_eq!(degraded(&world), 1);
    world.run_until_idle(LONG);
    assert_eq!(degraded(&world), 0);
}

#[test]
fn a_broken_mirror_is_rebuilt_and_stays_broken() {
    let mut world = mirror().failed("sdb").build().unwrap();
    assert_eq!(write_faulty(&mut world, "sda"), Err(16));
    add(&mut world, "sdc").unwrap();
    world.run_until_idle(LONG);
    assert_eq!(degraded(&world), 0);
    assert_eq!(world.write("md0", 8), Err(5));
}

#[test]
fn what_another_copy_can_tell_is_no_loss() {
    let mut world = disks(&["sda", "sdb", "sdc", "sdd"])
        .array("md0", Level::Raid1, &["sda", "sdb", "sdc"])
        .failed("sdc")
        .build()
        .unwrap();
    world.device_mut("sda").unwrap().unreadable = 1;
    add(&mut world, "sdd").unwrap();
    world.run_until_idle(LONG);
    assert_eq!(member(&world, "sdd").bad_blocks, 0);
}

#[test]
fn old_metadata_keeps_no_checkpoint() {
    let mut world = mirror()
        .md(|a| a.metadata = Metadata::V0_90)
        .failed("sdb")
        .build()
        .unwrap();
    add(&mut world, "sdc").unwrap();
    world.advance_ms(500);
    world.reboot(true);
    assert_eq!(member(&world, "sdc").slot, Slot::None);
}
