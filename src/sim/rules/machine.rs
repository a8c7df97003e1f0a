//! The machine around the arrays: drives, clock, hints, hanging writes.

use super::*;

#[test]
fn arrays_on_one_disk_take_turns() {
    let mut world = Scenario::new()
        .part("sda1", "sda", SIZE)
        .part("sda2", "sda", SIZE)
        .disks(&["sdb", "sdc"], SIZE)
        .array("md0", Level::Raid1, &["sda1", "sdb"])
        .dirty()
        .array("md1", Level::Raid1, &["sda2", "sdc"])
        .dirty()
        .build()
        .unwrap();
    let other = |world: &World| world.array("md1").unwrap().sync.clone().unwrap();
    assert!(other(&world).delayed);
    let mdstat = world.mdstat_facts(world.array("md1").unwrap());
    assert_eq!(mdstat.progress, MdstatProgress::Delayed);
    world.advance_ms(1100);
    assert!(!other(&world).delayed);
    world.run_until_idle(LONG);
    world.check_invariants().unwrap();
}

#[test]
fn a_vanished_drive_comes_back_with_its_superblock() {
    let mut world = mirror().build().unwrap();
    let before = target(&world, "sdb");
    world.vanish("sdb");
    assert!(world.device("sdb").is_none());
    assert!(world.array("md0").unwrap().member(before.dev).is_none());
    world.plug("sdb");
    let request = ScanRequest {
        probe: [before.dev].into(),
        ..ScanRequest::default()
    };
    let inventory = world.inventory(&request);
    let probe = &inventory.probes[&before.dev];
    let found = probe.md.known().unwrap().as_ref().unwrap();
    assert_eq!(found.array_uuid, world.array("md0").unwrap().uuid);
    assert!(found.events < world.array("md0").unwrap().events);
    assert_eq!(found.role, Some(1));
}

#[test]
fn a_pulled_drive_is_noticed_at_the_next_write() {
    let mut world = mirror().build().unwrap();
    world.pull("sdb");
    let facts = world.array_facts(world.array("md0").unwrap(), false);
    assert!(
        facts
            .members
            .iter()
            .any(|m| matches!(m.dev, Fact::Unknown(_)))
    );
    assert_eq!(degraded(&world), 0);
    world.write("md0", 8).unwrap();
    assert_eq!(degraded(&world), 1);
}

#[test]
fn an_action_on_another_drive_than_the_planned_one_is_refused() {
    let mut world = mirror().failed("sdb").build().unwrap();
    let drive = target(&world, "sdc");
    world.swap_drive("sdc", "other");
    let act = Action::AddSpare {
        array: "md0".into(),
        drive,
    };
    let refused = world.act(&act);
    assert!(matches!(
        refused,
        Err(Error::DriveRefused {
            unfit: Unfit::IdentityChanged,
            ..
        })
    ));
}

#[test]
fn frozen_does_not_survive_a_reboot_and_the_checkpoint_does() {
    let mut world = mirror().failed("sdb").build().unwrap();
    add(&mut world, "sdc").unwrap();
    world.advance_ms(500);
    sync(&mut world, SyncWord::Frozen).unwrap();
    let kept = member(&world, "sdc").recovery_offset;
    world.reboot(false);
    assert_eq!(action(&world), SyncAction::Recover);
    assert_eq!(
        world.array("md0").unwrap().sync.as_ref().map(|s| s.base),
        kept
    );
    world.reboot(true);
    assert_eq!(action(&world), SyncAction::Idle);
}

#[test]
fn busy_is_answered_once() {
    let mut world = mirror().build().unwrap();
    world.busy_next = 1;
    assert_eq!(errno(sync(&mut world, SyncWord::Check)), 16);
    sync(&mut world, SyncWord::Check).unwrap();
}

#[test]
fn a_hanging_member_blocks_the_write_until_it_answers() {
    let kernel = SimKernel::by_hand(mirror().failed("sdb").build().unwrap());
    kernel.with(|world| add(world, "sdc")).unwrap();
    kernel.with(|world| {
        world.advance_ms(200);
        world.hang("sda");
        world.advance_ms(60_000);
    });
    let (sender, receiver) = mpsc::channel();
    let other = kernel.clone();
    let writer = std::thread::spawn(move || {
        let freeze = Action::SetSync {
            array: "md0".into(),
            word: SyncWord::Frozen,
        };
        sender.send(other.act(&freeze)).unwrap();
    });
    // The word is seen at once, the thread is not gone: the write must still hang.
    while kernel.with(|world| action(world)) != SyncAction::Frozen {
        std::thread::yield_now();
    }
    assert_ne!(kernel.with(|world| completed(world)), SyncCompleted::None);
    assert!(receiver.try_recv().is_err());
    kernel.with(|world| world.unhang("sda"));
    receiver.recv().unwrap().unwrap();
    writer.join().unwrap();
    assert_eq!(kernel.with(|world| completed(world)), SyncCompleted::None);
}

#[test]
fn held_actions_wait_for_their_release() {
    let kernel = SimKernel::by_hand(mirror().build().unwrap());
    kernel.with(|world| world.hold_actions = true);
    let other = kernel.clone();
    let writer = std::thread::spawn(move || {
        other.act(&Action::SetSync {
            array: "md0".into(),
            word: SyncWord::Check,
        })
    });
    assert_eq!(kernel.with(|world| action(world)), SyncAction::Idle);
    kernel.with(|world| world.hold_actions = false);
    writer.join().unwrap().unwrap();
    assert_eq!(kernel.with(|world| action(world)), SyncAction::Check);
}

fn next(watch: &mut impl Watch) -> Hint {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(watch.next())
}

#[test]
fn real_time_ends_a_sync_on_time_and_says_so() {
    let kernel = SimKernel::real_time(mirror().failed("sdb").build().unwrap(), 640 << 20);
    let mut watch = kernel.watch();
    kernel.with(|world| add(world, "sdc")).unwrap();
    loop {
        let hint = next(&mut watch);
        assert!(matches!(hint, Hint::Array(_) | Hint::Devices), "{hint:?}");
        let facts = kernel.read_array("md0").unwrap().unwrap();
        if facts.members.iter().all(|m| {
            m.recovery_start == Fact::Known(Position::Done) || m.state.is_known_and(|s| s.faulty)
        }) && facts.sync.unwrap().degraded == Fact::Known(0)
        {
            break;
        }
    }
    kernel.with(|world| world.check_invariants()).unwrap();
}

#[test]
fn an_idle_freeze_is_silent_on_newer_kernels() {
    for style in STYLES {
        let kernel = SimKernel::by_hand(mirror().style(style).build().unwrap());
        let mut watch = kernel.watch();
        kernel
            .act(&Action::SetSync {
                array: "md0".into(),
                word: SyncWord::Frozen,
            })
            .unwrap();
        kernel.overflow();
        let first = next(&mut watch);
        assert_eq!(
            first == Hint::Overflow,
            style != KernelStyle::V6_1,
            "{style:?}"
        );
    }
}
