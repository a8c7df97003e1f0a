//! Seeded schedules: members fail, drives come and go, clients ask and cancel, somebody meddles,
//! the daemon dies at any input. After each schedule: nothing was done that must never be done,
//! every operation has ended, and what was reported as done is done.
//!
//! `LUND_SIM_SEED=n` replays one schedule, `LUND_SIM_SCHEDULES=n` sets how many are run.

use lun_core::action::{Action, SyncWord};
use lun_core::facts::Level;
use lun_core::id::OpId;
use lun_core::machine::Command;
use lun_sim::world::KernelStyle;
use lun_sim::{Mode, Scenario, World};

use super::rig::Rig;

const DISK: u64 = 64 << 20;
const SCHEDULES: u64 = 1_500;

/// A small generator whose sequence is fixed for ever (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = usize::try_from(self.below(from.len() as u64)).unwrap();
        &from[index]
    }
}

const NAMES: [&str; 8] = ["sda", "sdb", "sdc", "sdd", "sde", "sdf", "sdg", "sdh"];

fn world(random: &mut Random) -> World {
    let (level, members) = random
        .pick(&[
            (Level::Raid1, 2),
            (Level::Raid1, 3),
            (Level::Raid4, 3),
            (Level::Raid5, 4),
            (Level::Raid6, 4),
            (Level::Raid10, 4),
        ])
        .clone();
    let style = *random.pick(&[KernelStyle::V6_1, KernelStyle::V6_12, KernelStyle::V7]);
    let mut scenario = Scenario::new()
        .style(style)
        .disks(&NAMES, DISK)
        .array("md0", level, &NAMES[..members])
        .bitmap(random.below(2) == 0);
    if random.below(6) == 0 {
        scenario = scenario.mode(Mode::ReadAuto);
    }
    scenario.build().unwrap()
}

fn act(rig: &mut Rig, random: &mut Random) {
    let lun = rig.machine.resolve_lun("md0");
    let drive = (*random.pick(&NAMES)).to_owned();
    let op = OpId(random.below(6) + 1);
    match (random.below(22), lun) {
        (0..=3, Ok(lun)) => {
            let repair = random.below(4) == 0;
            let spare = (random.below(5) == 0).then_some(drive);
            rig.send(Command::Recover {
                lun,
                spare,
                repair,
                dry_run: random.below(6) == 0,
            });
        }
        (4..=6, _) => {
            rig.send(Command::SpareAdd {
                drive,
                force: random.below(8) == 0,
            });
        }
        (7..=8, _) => {
            rig.send(Command::Cancel {
                op,
                release_spare: random.below(2) == 0,
            });
        }
        (9, Ok(lun)) => {
            rig.send(Command::Release { lun });
        }
        (10, Ok(lun)) => {
            rig.send(Command::Verify { lun });
        }
        (11, Ok(lun)) => {
            let with = (random.below(2) == 0).then(|| (*random.pick(&NAMES)).to_owned());
            rig.send(Command::Replace {
                lun,
                drive,
                with,
                dry_run: false,
            });
        }
        (12..=13, _) => rig.happens(|world| may_fail(world, &drive)),
        (14, _) => rig.happens(|world| world.pull(&drive)),
        (15, _) => rig.happens(|world| world.plug(&drive)),
        (16, _) => rig.happens(|world| world.write_error(&drive)),
        (17, _) => {
            let _ = rig.happens(|world| world.write("md0", 64));
        }
        (18, _) => {
            let word = *random.pick(&[SyncWord::Idle, SyncWord::Frozen, SyncWord::Check]);
            let action = Action::SetSync {
                array: "md0".to_owned(),
                word,
            };
            rig.told.push(format!("--- somebody writes {word:?}"));
            let _ = rig.happens(|world| world.act(&action));
        }
        (19, _) => {
            rig.send(Command::SpareRemove { drive });
        }
        _ => rig.restart(),
    }
}

/// Fails a drive, unless that would end the array: dead arrays teach little.
fn may_fail(world: &mut World, drive: &str) {
    let last = world.array("md0").is_some_and(|array| {
        let mut after = array.clone();
        for member in after
            .members
            .iter_mut()
            .filter(|member| member.name == drive)
        {
            member.faulty = true;
        }
        !after.enough()
    });
    if !last {
        world.fail_device(drive);
    }
}

/// How the operations of the schedules ended, by state.
type Ends = std::collections::BTreeMap<String, u64>;

fn run(seed: u64, ends: &mut Ends) {
    let mut random = Random(seed);
    let mut rig = Rig::new(world(&mut random));
    rig.told.push(format!("seed {seed}"));
    for _ in 0..12 + random.below(12) {
        act(&mut rig, &mut random);
        // Not always to the end: the next thing happens in the middle of the last.
        for _ in 0..random.below(40) {
            rig.step();
        }
        if random.below(3) > 0 {
            rig.pump();
            rig.pass(random.below(6_000));
        }
    }
    rig.pump();
    let calm = |rig: &Rig| {
        rig.machine
            .snapshot()
            .ops
            .iter()
            .all(|op| op.ended_at_ms.is_some())
    };
    // Somebody's freeze may leave a kernel's own recovery standing; an hour is long in this world.
    rig.until("calm", calm);
    rig.pass(120_000);
    rig.sound();
    for op in rig.machine.snapshot().ops {
        assert!(op.ended_at_ms.is_some(), "{op:?}\n{}", rig.story());
        *ends.entry(op.state).or_default() += 1;
    }
    let lun = rig.lun("md0");
    if lun.held {
        assert_eq!(lun.sync.action, "frozen", "{}", rig.story());
    }
}

#[test]
fn no_schedule_breaks_a_promise() {
    if let Ok(seed) = std::env::var("LUND_SIM_SEED") {
        return run(seed.parse().unwrap(), &mut Ends::new());
    }
    let schedules =
        std::env::var("LUND_SIM_SCHEDULES").map_or(SCHEDULES, |count| count.parse().unwrap());
    let mut ends = Ends::new();
    for seed in 0..schedules {
        let each = std::panic::AssertUnwindSafe(|| run(seed, &mut ends));
        let outcome = std::panic::catch_unwind(each);
        assert!(outcome.is_ok(), "replay it with LUND_SIM_SEED={seed}");
    }
    println!("{schedules} schedules: {ends:?}");
    // A campaign in which nothing of a kind happens would prove nothing.
    for state in ["succeeded", "failed", "cancelled"] {
        assert!(
            ends.get(state).is_some_and(|count| *count > schedules / 50),
            "{ends:?}"
        );
    }
}
