//! Cancel in every state, and the daemon's death at every step of it. The table of outcomes:
//!
//! | when | answer | operation | LUN |
//! |---|---|---|---|
//! | before the first step | done | cancelled | as it was |
//! | later | done | cancelled | held, frozen, its checkpoint kept |
//! | later, with `release_spare` | done | cancelled | not held, spare wiped and back in the pool |
//! | a scrub | done | cancelled | not held, not frozen |
//! | it was over in that moment | `VDS_E_CANCEL_TOO_LATE` | as it ended | as it ended |
//! | finished, cancelled | `VDS_E_CANCEL_TOO_LATE`, `VDS_E_OPERATION_CANCELED` | unchanged | unchanged |

use lun_core::Error;
use lun_core::facts::Level;
use lun_core::id::OpId;
use lun_core::machine::Command;
use lun_core::model::Health;
use lun_sim::Scenario;

use super::rig::Rig;

const DISK: u64 = 64 << 20;
const NAMES: [&str; 6] = ["sda", "sdb", "sdc", "sdd", "sde", "sdf"];

/// A degraded array, and its only spare in the pool.
fn degraded(level: Level, members: usize) -> Rig {
    let world = Scenario::new()
        .disks(&NAMES, DISK)
        .array("md0", level, &NAMES[..members])
        .lost("sdb")
        .build()
        .unwrap();
    let mut rig = Rig::new(world);
    rig.add_spare("sdf");
    rig
}

fn last_op(rig: &Rig) -> Option<OpId> {
    rig.machine.snapshot().ops.last().map(|op| op.id)
}

/// Asks for a recovery and takes `steps` inputs in; the operation, if it exists by then.
fn recovery_after(rig: &mut Rig, steps: usize) -> Option<OpId> {
    rig.ask_recovery("md0");
    for _ in 0..steps {
        rig.step();
    }
    last_op(rig)
}

fn spares(rig: &Rig) -> usize {
    rig.machine.snapshot().pool.len()
}

fn bears_superblock(rig: &Rig, name: &str) -> bool {
    let drive = |world: &mut lun_sim::World| world.device_mut(name).unwrap().superblock.is_some();
    rig.kernel.with(drive)
}

/// What the table says of a cancelled recovery, whatever state it was cancelled in.
fn check_cancelled(rig: &Rig, op: OpId, release: bool) {
    let view = rig.op(op);
    assert_eq!(view.state, "cancelled", "{}", rig.story());
    assert_eq!(view.hresult_name, "VDS_E_OPERATION_CANCELED");
    assert_eq!(view.percent, 100);
    let lun = rig.lun("md0");
    assert_eq!(
        lun.held,
        lun.sync.action == "frozen",
        "held and frozen are one:\n{}",
        rig.story()
    );
    if release {
        assert!(!lun.held, "{}", rig.story());
    }
    if !lun.held {
        assert_eq!(spares(rig), 1, "{}", rig.story());
        assert!(!bears_superblock(rig, "sdf"), "{}", rig.story());
        let claimed = rig.machine.snapshot().pool[0].claimed_by;
        assert_eq!(claimed, None, "{}", rig.story());
    }
    rig.sound();
}

/// The operation goes on to a good end after it was cancelled and asked for again.
fn check_resumes(rig: &mut Rig) {
    let again = rig.recover("md0").unwrap();
    let end = rig.finished(again.id);
    assert_eq!(end.state, "succeeded", "{}", rig.story());
    let lun = rig.lun("md0");
    assert_eq!((lun.health, lun.held), (Health::Healthy, false));
    assert_eq!(spares(rig), 0);
    rig.sound();
}

#[test]
fn at_every_step_of_the_preparation() {
    for release in [false, true] {
        let mut outcomes = [0; 2];
        for steps in 0..60 {
            let mut rig = degraded(Level::Raid5, 3);
            let Some(op) = recovery_after(&mut rig, steps) else {
                continue;
            };
            let token = rig.send_first(Command::Cancel {
                op,
                release_spare: release,
            });
            rig.pump();
            rig.until("answered", |rig| rig.replies.contains_key(&token));
            match rig.replies[&token].clone() {
                Ok(_) => {
                    check_cancelled(&rig, op, release);
                    outcomes[usize::from(rig.lun("md0").held)] += 1;
                    check_resumes(&mut rig);
                }
                Err(error) => panic!("after {steps} steps: {error}\n{}", rig.story()),
            }
        }
        assert!(outcomes[0] > 0, "none was cancelled before it began");
        assert!(release || outcomes[1] > 0, "none was held");
    }
}

#[test]
fn at_every_percentage() {
    for release in [false, true] {
        for percent in [0, 1, 50, 93, 99] {
            let mut rig = degraded(Level::Raid1, 2);
            let op = rig.recover("md0").unwrap().id;
            rig.until("running", |rig| {
                rig.op(op).state == "running" && rig.op(op).percent >= percent
                    || rig.op(op).ended_at_ms.is_some()
            });
            match rig.cancel(op, release) {
                Ok(()) => {
                    check_cancelled(&rig, op, release);
                    check_resumes(&mut rig);
                }
                Err(error) => {
                    assert!(matches!(error, Error::CancelTooLate { .. }), "{error:?}");
                    assert!(percent >= 93, "too late at {percent} %");
                    assert_eq!(rig.op(op).state, "succeeded", "{}", rig.story());
                    assert_eq!(rig.lun("md0").health, Health::Healthy, "{}", rig.story());
                    rig.sound();
                }
            }
        }
    }
}

#[test]
fn a_scrub_is_not_held() {
    for repair in [false, true] {
        let mut rig = Rig::new(lun_sim::scenario::by_name("mirror").unwrap());
        let lun = rig.lun("md0").id;
        let command = match repair {
            false => Command::Verify { lun },
            true => Command::Recover {
                lun,
                spare: None,
                repair: true,
                dry_run: false,
            },
        };
        rig.call(command).unwrap();
        let op = last_op(&rig).unwrap();
        rig.until("in the middle", |rig| rig.op(op).percent > 40);
        rig.cancel(op, false).unwrap();
        assert_eq!(rig.op(op).state, "cancelled", "{}", rig.story());
        let lun = rig.lun("md0");
        assert!(!lun.held, "{}", rig.story());
        assert_ne!(lun.sync.action, "frozen", "{}", rig.story());
    }
}

#[test]
fn what_has_ended_stays_so() {
    let mut rig = degraded(Level::Raid1, 2);
    let op = rig.recover("md0").unwrap().id;
    rig.finished(op);
    for release in [false, true] {
        let error = rig.cancel(op, release).unwrap_err();
        assert!(matches!(error, Error::CancelTooLate { .. }), "{error:?}");
    }
    assert_eq!(rig.op(op).state, "succeeded");

    let mut rig = degraded(Level::Raid1, 2);
    let op = rig.recover("md0").unwrap().id;
    rig.until("under way", |rig| rig.op(op).percent > 20);
    rig.cancel(op, false).unwrap();
    for release in [false, true] {
        let again = rig.cancel(op, release);
        assert_eq!(again, Err(Error::OperationCanceled { op }));
    }
    rig.restart();
    assert_eq!(
        rig.cancel(op, false),
        Err(Error::OperationCanceled { op }),
        "also after a restart"
    );
}

#[test]
fn two_at_once_get_the_same_answer() {
    for (first, second) in [(false, false), (false, true), (true, false)] {
        let mut rig = degraded(Level::Raid6, 4);
        let op = rig.recover("md0").unwrap().id;
        rig.until("under way", |rig| rig.op(op).percent > 20);
        let cancel = |release_spare| Command::Cancel { op, release_spare };
        let tokens = [rig.send(cancel(first)), rig.send(cancel(second))];
        rig.pump();
        rig.until("answered", |rig| {
            tokens.iter().all(|token| rig.replies.contains_key(token))
        });
        for token in tokens {
            assert!(rig.replies[&token].is_ok(), "{}", rig.story());
        }
        check_cancelled(&rig, op, first || second);
    }
}

#[test]
fn while_the_spare_fails() {
    for release in [false, true] {
        for steps in 0..12 {
            let mut rig = degraded(Level::Raid5, 3);
            let op = rig.recover("md0").unwrap().id;
            rig.until("under way", |rig| rig.op(op).percent > 20);
            let token = rig.send(Command::Cancel {
                op,
                release_spare: release,
            });
            for _ in 0..steps {
                rig.step();
            }
            rig.happens(|world| world.fail_device("sdf"));
            rig.until("answered", |rig| rig.replies.contains_key(&token));
            rig.until("ended", |rig| rig.op(op).ended_at_ms.is_some());
            let (view, lun) = (rig.op(op), rig.lun("md0"));
            match &rig.replies[&token] {
                Ok(_) => assert_eq!(view.state, "cancelled", "{}", rig.story()),
                Err(Error::CancelTooLate { .. }) => {
                    assert_eq!(view.state, "failed", "{}", rig.story());
                }
                Err(other) => panic!("{other:?}\n{}", rig.story()),
            }
            assert_eq!(lun.held, lun.sync.action == "frozen", "{}", rig.story());
            rig.sound();
        }
    }
}

/// Cancelled at some step, and killed at some later one: it comes to the same end.
#[test]
fn killed_at_every_step_of_the_cancel() {
    let mut ends = std::collections::BTreeMap::<String, u32>::new();
    for release in [false, true] {
        for begun in [3, 6, 9, 12, 16, 20, 26, 40] {
            for steps in 0..50 {
                let mut rig = degraded(Level::Raid5, 3);
                let Some(op) = recovery_after(&mut rig, begun) else {
                    continue;
                };
                rig.send(Command::Cancel {
                    op,
                    release_spare: release,
                });
                for _ in 0..steps {
                    rig.step();
                }
                rig.restart();
                let end = rig.finished(op);
                *ends.entry(end.state.clone()).or_default() += 1;
                match end.state.as_str() {
                    // The cancel was in the ledger before the daemon died.
                    "cancelled" => check_cancelled(&rig, op, release),
                    // It was not, and nobody was told that it was accepted.
                    "succeeded" => assert_eq!(rig.lun("md0").health, Health::Healthy),
                    other => panic!("{other}: {}", rig.story()),
                }
                rig.sound();
            }
        }
    }
    println!("{ends:?}");
    assert!(ends.len() == 2, "{ends:?}");
}
