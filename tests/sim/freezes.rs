//! No array stays frozen by us without a hold that is shown, and no hold falls on another's array.

use lun_core::Error;
use lun_core::machine::Command;
use lun_sim::World;
use lun_sim::scenario::by_name;

use super::rig::Rig;

fn frozen(rig: &Rig) -> bool {
    rig.kernel
        .with(|world| world.array("md0").is_some_and(|array| array.frozen))
}

/// A rig whose operation has just frozen its array for the preparation.
fn amid_preparation() -> Rig {
    let mut rig = Rig::new(by_name("raid6-two-missing").unwrap());
    rig.add_spare("sde");
    rig.add_spare("sdf");
    rig.ask_recovery("md0");
    while !frozen(&rig) {
        assert!(rig.step(), "it never freezes:\n{}", rig.story());
    }
    rig
}

fn twin(world: &mut World) {
    let mut twin = world.array("md0").unwrap().clone();
    twin.name = "md1".to_owned();
    twin.dev.minor += 1;
    twin.members.clear();
    world.arrays.insert(twin.name.clone(), twin);
}

#[test]
fn one_that_cannot_be_lifted_is_held_and_released() {
    let mut rig = amid_preparation();
    rig.happens(twin);
    let op = rig.machine.snapshot().ops[0].id;
    let end = rig.finished(op);
    assert_eq!(
        end.hresult_name,
        "VDS_E_PROVIDER_CACHE_CORRUPT",
        "{}",
        rig.story()
    );
    let lun = rig.lun("md0");
    assert!(lun.held && lun.sync.action == "frozen", "{}", rig.story());

    rig.happens(|world| world.arrays.remove("md1"));
    let lun = lun.id;
    rig.call(Command::Release { lun }).unwrap();
    assert!(
        !frozen(&rig) && !rig.machine.snapshot().luns[0].held,
        "{}",
        rig.story()
    );
}

/// A twin is there for a few steps only: one look that contradicts, and a second that does not,
/// must end nothing.
#[test]
fn a_contradiction_that_a_second_look_settles_ends_nothing() {
    let contradicted = |rig: &Rig| {
        let unknown = &rig.lun("md0").unknown;
        unknown.iter().any(|fact| fact.starts_with("identity"))
    };
    let mut settled = 0;
    for steps in 0..8 {
        let mut rig = amid_preparation();
        rig.kernel.with(twin);
        for _ in 0..steps {
            rig.step();
        }
        rig.kernel.with(|world| world.arrays.remove("md1"));
        let mut seen = contradicted(&rig);
        while rig.step() {
            seen |= contradicted(&rig);
        }
        let op = rig.machine.snapshot().ops[0].id;
        let end = rig.finished(op);
        assert!(!frozen(&rig) || rig.lun("md0").held, "{}", rig.story());
        settled += u32::from(seen && end.state == "succeeded");
        rig.sound();
    }
    assert!(settled > 0, "no schedule had one contradicting look alone");
}

#[test]
fn a_hold_stays_with_its_own_array() {
    let mut rig = Rig::new(by_name("raid6-two-missing").unwrap());
    rig.add_spare("sde");
    let op = rig.recover("md0").unwrap().id;
    rig.until("under way", |rig| rig.op(op).percent > 20);
    rig.cancel(op, false).unwrap();
    assert!(rig.lun("md0").held && frozen(&rig), "{}", rig.story());
    // Another array under the same name, behind our back.
    rig.happens(|world| {
        let array = world.arrays.get_mut("md0").unwrap();
        array.uuid = "00000000-0000-0000-0000-000000000007".parse().unwrap();
        array.frozen = false;
        array.needed = true;
    });
    rig.pass(600_000);
    assert!(
        !frozen(&rig),
        "an array nobody held was frozen:\n{}",
        rig.story()
    );
    let old = rig.lun("md0").id;
    assert!(matches!(
        rig.call(Command::Release { lun: old }),
        Err(Error::CacheCorrupt { .. })
    ));
}

/// The write of a daemon that was killed comes into force when the cancel has been given up and the operation
/// is over: the LUN stood still, and nobody owned up to it.
#[test]
fn one_that_comes_late_is_shown_as_a_hold() {
    let mut rig = Rig::new(by_name("raid6-two-missing").unwrap());
    rig.add_spare("sde");
    rig.add_spare("sdf");
    rig.ask_recovery("md0");
    rig.until("under way", |rig| {
        let ops = rig.machine.snapshot().ops;
        ops.iter().any(|op| op.percent > 10)
    });
    let op = rig.machine.snapshot().ops[0].id;
    rig.kernel.with(|world| world.busy_next = 1);
    let refused = rig.cancel(op, false);
    assert!(
        matches!(refused, Err(Error::Kernel { .. })),
        "{refused:?}\n{}",
        rig.story()
    );
    assert_eq!(rig.finished(op).state, "succeeded", "{}", rig.story());
    let freeze = |world: &mut World| world.arrays.get_mut("md0").unwrap().frozen = true;
    rig.happens(freeze);
    rig.pass(1_000);
    let lun = rig.lun("md0");
    assert!(lun.held, "{}", rig.story());
    rig.call(Command::Release { lun: lun.id }).unwrap();
    assert!(!frozen(&rig) && !rig.lun("md0").held, "{}", rig.story());
    // The next one is somebody else's.
    rig.happens(freeze);
    rig.pass(1_000);
    assert!(!rig.lun("md0").held, "{}", rig.story());
}
