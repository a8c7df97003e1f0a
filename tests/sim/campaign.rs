//! A few thousand seeded schedules; `scripts/campaign` runs as many as one likes, optimised.
//!
//! `LUND_SIM_SCHEDULES=n` sets how many are run, from seed 0. See docs/simulation.md.

use lun_sim::campaign::{self, Kind, Tally};

const SCHEDULES: u64 = 1_000;

/// Seeds whose schedules once broke a promise, each with what was wrong. What a seed does changes
/// with the simulator; what can be said in a few steps is a test of its own beside this one.
const FOUND: &[(u64, &str)] = &[
    (
        154_497,
        "facts read while a hold was renewed let a recover drop it",
    ),
    (502_953, "the same, with the write still under way"),
    (
        222_756,
        "a cancel took an array that does not run for one that is done",
    ),
    (
        296_571,
        "a member whose drive has vanished passed for one that is gone",
    ),
    (
        739_460,
        "done before the cancel, and degraded since: only half was said",
    ),
    (
        801_681,
        "somebody's repair passed for the check that was asked for",
    ),
    (4528, "a killed mdadm --re-add left its freeze behind"),
    (
        3275,
        "a pulled drive that was being filled went unnoticed for ever",
    ),
    (
        253_587,
        "a replacement that another tool began was half filled when the power went: nothing was said",
    ),
    (
        830_609,
        "a resync was put off for a half-filled copy that was gone by then",
    ),
    (
        50_389,
        "the checker took the resync of an array that somebody had just stopped for put off",
    ),
    (
        93_259,
        "a cancel that gave its spare back lifted its freeze into a resync from a half-filled copy",
    ),
    (
        38_582,
        "of two LUNs that reserve, the one that matters less counted on what is kept for the other",
    ),
    (
        995_749,
        "an array that is still awaited after a boot is no operation without an end",
    ),
];

/// Runs these seeds on all processors.
fn run(seeds: Vec<u64>) -> Tally {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = seeds.len().div_ceil(threads).max(1);
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = seeds
            .chunks(share)
            .map(|seeds| {
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    for seed in seeds {
                        match campaign::run(*seed) {
                            Ok(figures) => tally.add(&figures),
                            Err(failure) => {
                                panic!("{}", campaign::replay(*seed, failure.kind).unwrap_err())
                            }
                        }
                    }
                    tally
                })
            })
            .collect();
        for worker in workers {
            tally.add(
                &worker
                    .join()
                    .expect("a schedule broke a promise, see above"),
            );
        }
    });
    tally
}

#[test]
fn no_schedule_breaks_a_promise() {
    let schedules =
        std::env::var("LUND_SIM_SCHEDULES").map_or(SCHEDULES, |count| count.parse().unwrap());
    let tally = run((0..schedules).collect());
    println!("{tally:#?}");
    // A campaign in which nothing of a kind happens would prove nothing.
    for state in ["succeeded", "failed", "cancelled", "interrupted"] {
        let count = tally.ends.get(state).copied().unwrap_or(0);
        assert!(count > schedules / 50, "{state}: {tally:#?}");
    }
    for kind in [
        "daemon killed",
        "killed during an action",
        "power cut",
        "reboot",
        "ledger fails",
        "hint lost",
        "drive back",
        "member failed",
        "hung write",
        "killed in the middle of an action",
        "record late",
        "somebody runs lvconvert --repair",
        "somebody refreshes a volume",
        "somebody sends a message",
        "dmeventd repairs",
        "somebody suspends and resumes a set",
    ] {
        assert!(tally.faults.contains_key(kind), "no {kind}: {tally:#?}");
    }
}

#[test]
fn found_seeds_break_no_promise_any_more() {
    run(FOUND.iter().map(|(seed, _)| *seed).collect());
}

/// The same of raid sets.
const FOUND_SETS: &[(u64, &str)] = &[
    (
        20_599,
        "a repair that a power cut ended was believed to be done after the next fill",
    ),
    (5_045_543, "a cancel took for done what could not be read"),
    (3_636, "done before the cancel, and a leg could not be read"),
    (204, "all copies in step, and a leg could not be read"),
    (51, "what somebody's message froze on 6.1 was not let go"),
    (
        44_610,
        "a check was begun at the lowest rate, and did not end",
    ),
];

#[test]
fn found_seeds_of_raid_sets_break_no_promise_any_more() {
    for (seed, _) in FOUND_SETS {
        if campaign::run_one(*seed, Kind::RaidSets).is_err() {
            panic!("{}", campaign::replay(*seed, Kind::RaidSets).unwrap_err());
        }
    }
}

#[test]
fn a_seed_replays_its_schedule() {
    let (first, told) = campaign::replay(23_886, Kind::Arrays).unwrap();
    assert!(told.len() > 20, "{told:#?}");
    assert_eq!(
        campaign::replay(23_886, Kind::Arrays).unwrap(),
        (first.clone(), told)
    );
    // Telling the story changes nothing.
    assert_eq!(campaign::run_one(23_886, Kind::Arrays).unwrap(), first);
}
