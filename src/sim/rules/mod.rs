//! One test per rule of the kernel that lund relies on.

mod machine;
mod members;
mod sync;
mod truth;

use std::sync::mpsc;

use lun_core::Error;
use lun_core::action::{Action, SyncWord, Target};
use lun_core::error::Unfit;
use lun_core::facts::{
    ArrayState, Fact, Level, MdstatProgress, Metadata, Position, Slot, SyncAction, SyncCompleted,
};
use lun_kernel::{Hint, Kernel, ScanRequest, Watch};

use crate::{KernelStyle, Mode, Scenario, SimKernel, World, scenario};

const SIZE: u64 = 65 << 20;
const LONG: u64 = 3_600_000;
const STYLES: [KernelStyle; 3] = [KernelStyle::V6_1, KernelStyle::V6_12, KernelStyle::V7];

fn disks(names: &[&str]) -> Scenario {
    Scenario::new().disks(names, SIZE)
}

fn mirror() -> Scenario {
    disks(&["sda", "sdb", "sdc", "sdd"]).array("md0", Level::Raid1, &["sda", "sdb"])
}

fn target(world: &World, name: &str) -> Target {
    let dev = world.dev(name).unwrap();
    Target {
        dev,
        name: name.to_owned(),
        id: world.devices[&dev].id,
    }
}

fn sync(world: &mut World, word: SyncWord) -> Result<(), Error> {
    world.act(&Action::SetSync {
        array: "md0".into(),
        word,
    })
}

fn add(world: &mut World, name: &str) -> Result<(), Error> {
    let drive = target(world, name);
    world.act(&Action::AddSpare {
        array: "md0".into(),
        drive,
    })
}

fn re_add(world: &mut World, name: &str) -> Result<(), Error> {
    let drive = target(world, name);
    world.act(&Action::ReAdd {
        array: "md0".into(),
        drive,
    })
}

/// Through the port, which spares a member in sync.
fn fail(world: &mut World, name: &str) -> Result<(), Error> {
    let drive = target(world, name);
    world.act(&Action::FailMember {
        array: "md0".into(),
        drive,
    })
}

/// As an administrator does it, past the port; the error number of the kernel.
fn write_faulty(world: &mut World, name: &str) -> Result<(), i32> {
    let dev = world.dev(name).unwrap();
    let result = world.write_faulty("md0", dev);
    world.settle();
    result
}

fn remove(world: &mut World, name: &str) -> Result<(), Error> {
    let drive = target(world, name);
    world.act(&Action::RemoveMember {
        array: "md0".into(),
        drive,
    })
}

fn errno(result: Result<(), Error>) -> i32 {
    match result {
        Err(Error::Kernel { errno, .. }) => errno,
        other => panic!("expected a kernel error, got {other:?}"),
    }
}

fn action(world: &World) -> SyncAction {
    let facts = world.array_facts(world.array("md0").unwrap(), false);
    *facts.sync.unwrap().action.known().unwrap()
}

fn completed(world: &World) -> SyncCompleted {
    let facts = world.array_facts(world.array("md0").unwrap(), false);
    *facts.sync.unwrap().completed.known().unwrap()
}

fn degraded(world: &World) -> u32 {
    world.array("md0").unwrap().degraded()
}

fn member<'a>(world: &'a World, name: &str) -> &'a crate::Member {
    world
        .array("md0")
        .unwrap()
        .member(world.dev(name).unwrap())
        .unwrap()
}

#[test]
fn every_named_scenario_builds_and_is_sound() {
    for (name, _) in scenario::NAMES {
        let world = scenario::by_name(name).unwrap();
        world.check_invariants().unwrap();
        let inventory = world.inventory(&ScanRequest::default());
        assert_eq!(inventory.arrays.len(), world.arrays.len(), "{name}");
    }
    assert!(
        scenario::by_name("nonsense")
            .unwrap_err()
            .contains("mirror-degraded")
    );
}

#[test]
fn a_scenario_that_does_not_fit_together_is_refused() {
    let wrong = disks(&["sda"])
        .array("md0", Level::Raid1, &["sda", "sdb"])
        .build();
    assert!(wrong.unwrap_err().contains("sdb"));
}
