//! Seeded schedules: the machine on the simulated kernel, with everything going wrong that can,
//! and the promises of `docs/simulation.md` checked on the way and at the end. A seed replays its
//! schedule exactly.

mod checks;
mod effects;
mod ledger;
mod peace;
mod random;
mod rig;
mod schedule;
mod setting;
mod tally;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use checks::Checks;
pub use ledger::{Committed, Ledger};
pub use random::Random;
pub use rig::{Pace, Rig};
pub use tally::Tally;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Seed of the schedule.
    pub seed: u64,
    /// What was wrong.
    pub findings: Vec<String>,
    /// What had happened, when it was recorded.
    pub story: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.story {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {}:", self.seed)?;
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        write!(f, "replay it: scripts/campaign --replay {}", self.seed)
    }
}

impl std::error::Error for Failure {}

/// Runs the schedule of one seed.
///
/// # Errors
/// The promises that it broke. A panic of the machine is one of them.
pub fn run(seed: u64) -> Result<Tally, Box<Failure>> {
    guarded(seed, false).map(|(tally, _)| tally)
}

/// Runs the schedule of one seed and tells its story.
///
/// # Errors
/// As [`run`], with the story.
pub fn replay(seed: u64) -> Result<(Tally, Vec<String>), Box<Failure>> {
    guarded(seed, true)
}

fn guarded(seed: u64, tell: bool) -> Result<(Tally, Vec<String>), Box<Failure>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| one(seed, tell)));
    outcome.unwrap_or_else(|_| {
        Err(Box::new(Failure {
            seed,
            findings: vec!["panicked; the message is above".to_owned()],
            story: Vec::new(),
        }))
    })
}

fn one(seed: u64, tell: bool) -> Result<(Tally, Vec<String>), Box<Failure>> {
    let mut random = Random::new(seed);
    let world = setting::world(&mut random).map_err(|why| {
        Box::new(Failure {
            seed,
            findings: vec![why],
            story: Vec::new(),
        })
    })?;
    let mut rig = Rig::new(world, random, tell);
    let mut agenda = schedule::Agenda::default();
    rig.pace = schedule::pace(&mut rig);
    rig.start();
    schedule::prepare(&mut rig);
    for _ in 0..rig.random.between(6, 40) {
        // The next thing happens in the middle of the last more often than after it.
        let ms = match rig.random.below(10) {
            0..=4 => rig.random.below(120),
            5..=7 => rig.random.below(3_000),
            _ => rig.random.below(15_000),
        };
        rig.run_for(ms);
        agenda.due(&mut rig, false);
        schedule::disturb(&mut rig, &mut agenda);
        rig.checks.data(&rig.world);
        if rig.checks.broken() {
            break;
        }
    }
    peace::make(&mut rig, &mut agenda);
    rig.tally.schedules = 1;
    rig.tally.virtual_ms = rig.now_ms();
    let story = rig.story().to_vec();
    if rig.checks.broken() {
        let findings = rig.checks.findings().to_vec();
        return Err(Box::new(Failure {
            seed,
            findings,
            story,
        }));
    }
    Ok((rig.tally, story))
}
