//! Hints: speed limits for the time of an operation, put back whatever happens; the write-intent bitmap.

use lun_core::Error;
use lun_core::facts::Level;
use lun_core::machine::{Command, HintWish, Reply};
use lun_core::model::Health;
use lun_core::plan::{self, Limits};
use lun_sim::Scenario;
use lun_sim::scenario::by_name;

use super::rig::Rig;

const DISK: u64 = 64 << 20;
/// What an administrator has set for md0.
const BEFORE: Limits = Limits {
    min: Some(500),
    max: None,
};

fn wish(rig: &mut Rig, name: &str, wish: HintWish) -> Result<(), Error> {
    let lun = rig.machine.resolve_lun(name).unwrap();
    match rig.call(Command::ApplyHints { lun, wish })? {
        Reply::Done => Ok(()),
        other => panic!("{other:?}"),
    }
}

fn prefer(rig: &mut Rig, priority: u8) -> Result<(), Error> {
    let rebuild_priority = Some(priority);
    let hints = HintWish {
        rebuild_priority,
        bitmap: None,
    };
    wish(rig, "md0", hints)
}

fn log(rig: &mut Rig, bitmap: bool) -> Result<(), Error> {
    let bitmap = Some(bitmap);
    let hints = HintWish {
        rebuild_priority: None,
        bitmap,
    };
    wish(rig, "md0", hints)
}

fn limits(rig: &Rig) -> Limits {
    rig.kernel.with(|world| {
        let array = &world.arrays["md0"];
        Limits {
            min: array.speed_min,
            max: array.speed_max,
        }
    })
}

fn degraded() -> Rig {
    let mut rig = Rig::new(by_name("raid5-degraded-with-pool").unwrap());
    rig.happens(|world| {
        let array = world.arrays.get_mut("md0").unwrap();
        (array.speed_min, array.speed_max) = (BEFORE.min, BEFORE.max);
    });
    rig.add_spare("sdd");
    rig
}

#[test]
fn a_priority_holds_while_an_operation_runs() {
    let mut rig = degraded();
    prefer(&mut rig, 12).unwrap();
    assert_eq!(limits(&rig), BEFORE, "nothing runs yet");
    assert_eq!(rig.lun("md0").rebuild_priority, 12);
    let op = rig.recover("md0").unwrap().id;
    rig.until("under way", |rig| rig.op(op).percent > 20);
    assert_eq!(Some(limits(&rig)), plan::limits(12), "{}", rig.story());
    prefer(&mut rig, 3).unwrap();
    rig.until("slower", |rig| Some(limits(rig)) == plan::limits(3));
    assert_eq!(rig.op(op).ended_at_ms, None, "{}", rig.story());
    let end = rig.finished(op);
    assert_eq!(end.state, "succeeded", "{}", rig.story());
    rig.until("put back", |rig| limits(rig) == BEFORE);
    rig.sound();
}

#[test]
fn a_wish_taken_back_is_undone_at_once() {
    let mut rig = degraded();
    prefer(&mut rig, 12).unwrap();
    let op = rig.recover("md0").unwrap().id;
    rig.until("under way", |rig| Some(limits(rig)) == plan::limits(12));
    prefer(&mut rig, 0).unwrap();
    rig.until("put back", |rig| limits(rig) == BEFORE);
    assert_eq!(rig.op(op).ended_at_ms, None, "{}", rig.story());
}

#[test]
fn what_somebody_else_sets_meanwhile_is_left() {
    let mut rig = degraded();
    prefer(&mut rig, 12).unwrap();
    let op = rig.recover("md0").unwrap().id;
    rig.until("under way", |rig| rig.op(op).percent > 20);
    rig.happens(|world| world.arrays.get_mut("md0").unwrap().speed_max = Some(77));
    rig.finished(op);
    rig.pass(200_000);
    let left = Limits {
        min: BEFORE.min,
        max: Some(77),
    };
    assert_eq!(limits(&rig), left, "{}", rig.story());
}

/// Killed after so many inputs, with the operation going on or ended meanwhile: the limits are put back.
#[test]
fn limits_are_put_back_after_a_crash_at_any_step() {
    for steps in 0..60 {
        for ends_meanwhile in [false, true] {
            let mut rig = degraded();
            prefer(&mut rig, 14).unwrap();
            rig.ask_recovery("md0");
            for _ in 0..steps {
                rig.step();
            }
            if ends_meanwhile {
                rig.down_for(3_600_000);
            } else {
                rig.restart();
            }
            let running = rig.machine.snapshot().ops.last().map(|op| op.id);
            if let Some(op) = running {
                let end = rig.finished(op);
                assert_eq!(end.state, "succeeded", "after {steps}: {}", rig.story());
                assert_eq!(rig.lun("md0").health, Health::Healthy, "{}", rig.story());
            }
            rig.pass(200_000);
            assert_eq!(limits(&rig), BEFORE, "after {steps}: {}", rig.story());
            let kept = rig.lun("md0").rebuild_priority;
            assert_eq!(kept, 14, "the wish outlives the crash: {}", rig.story());
            rig.sound();
        }
    }
}

#[test]
fn an_array_that_was_put_together_anew_has_nothing_to_be_put_back() {
    let mut rig = degraded();
    prefer(&mut rig, 12).unwrap();
    let op = rig.recover("md0").unwrap().id;
    rig.until("under way", |rig| rig.op(op).percent > 20);
    rig.power_cut();
    rig.finished(op);
    rig.pass(200_000);
    let system = Limits {
        min: None,
        max: None,
    };
    assert_eq!(limits(&rig), system, "{}", rig.story());
}

fn mirror() -> Rig {
    let world = Scenario::new()
        .disk("sda", DISK)
        .disk("sdb", DISK)
        .array("md0", Level::Raid1, &["sda", "sdb"])
        .build()
        .unwrap();
    Rig::new(world)
}

fn has_bitmap(rig: &Rig) -> bool {
    rig.kernel.with(|world| world.arrays["md0"].bitmap)
}

#[test]
fn a_bitmap_comes_and_goes_as_wished() {
    let mut rig = mirror();
    for on in [true, true, false, false, true] {
        log(&mut rig, on).unwrap();
        assert_eq!(has_bitmap(&rig), on, "{}", rig.story());
        assert_eq!(rig.lun("md0").fast_crash_recovery, Some(on));
    }
    rig.happens(|world| world.fail_device("sdb"));
    for on in [true, false] {
        let answer = log(&mut rig, on);
        assert_eq!(answer.is_ok(), on, "{answer:?}");
        assert!(has_bitmap(&rig), "a former member comes back by it");
    }
    rig.sound();
}

#[test]
fn a_crash_while_a_bitmap_is_added_is_owned_up_to() {
    let mut owned = 0;
    for steps in 0..12 {
        let mut rig = mirror();
        let lun = rig.machine.resolve_lun("md0").unwrap();
        let hints = HintWish {
            rebuild_priority: None,
            bitmap: Some(true),
        };
        let token = rig.send(Command::ApplyHints { lun, wish: hints });
        for _ in 0..steps {
            rig.step();
        }
        let answered = rig.replies.contains_key(&token);
        rig.restart();
        let told = rig.story();
        let owned_up = told.contains("the service ended while its write-intent bitmap was being");
        owned += u32::from(owned_up);
        assert!(!(answered && owned_up), "{told}");
        log(&mut rig, true).unwrap();
        assert!(has_bitmap(&rig), "{}", rig.story());
        let recovered = rig.recover("md0").unwrap();
        assert_eq!(recovered.state, "succeeded", "{}", rig.story());
    }
    assert!(owned > 0, "no crash came while it was being added");
}
