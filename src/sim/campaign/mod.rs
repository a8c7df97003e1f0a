//! Seeded schedules: the machine on the simulated kernel, with everything going wrong that can,
//! and the promises of `docs/simulation.md` checked on the way and at the end. A seed replays its
//! schedule exactly.

mod auto;
mod checks;
mod effects;
mod groups;
mod ledger;
mod peace;
mod raid_sets;
mod random;
mod reserve;
mod rig;
mod schedule;
mod setting;
mod tally;

use std::panic::{AssertUnwindSafe, catch_unwind};

use lun_core::policy::{Policy, PrefailMode, PrefailRule, SpareRule};

pub use checks::Checks;
pub use ledger::{Committed, Ledger};
pub use random::Random;
pub use rig::{Pace, Rig};
pub use tally::Tally;

/// What an administrator has set. It is not drawn: the other schedules stay what they were.
fn set_rules(seed: u64, policy: &mut Policy) {
    if seed % 4 == 3 {
        policy.spare_rules = vec![SpareRule {
            matches: "/dev/sd*".to_owned(),
            only_for: None,
        }];
    }
    if seed % 4 == 2 {
        policy.prefail = PrefailRule {
            mode: PrefailMode::Auto,
            events: 1,
            window_ms: 600_000,
        };
    }
}

/// What a schedule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Arrays of md.
    Arrays,
    /// Raid sets of device-mapper, perhaps beside an array of md.
    RaidSets,
}

impl Kind {
    /// The schedules of a seed: each has one of arrays, and one in four has one of raid sets after it.
    #[must_use]
    pub fn of_seed(seed: u64) -> &'static [Self] {
        // A sequence of its own: the schedule of arrays stays as it was.
        if Random::new(seed ^ SETS).one_in(4) {
            &[Self::Arrays, Self::RaidSets]
        } else {
            &[Self::Arrays]
        }
    }
}

/// Sets the sequences of raid sets apart from those of arrays.
const SETS: u64 = 0x6d61_7070_6572_0000;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Seed of the schedule.
    pub seed: u64,
    /// What it was about.
    pub kind: Kind,
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
        let sets = match self.kind {
            Kind::Arrays => "",
            Kind::RaidSets => " --raid-sets",
        };
        write!(
            f,
            "replay it: scripts/campaign{sets} --replay {}",
            self.seed
        )
    }
}

impl std::error::Error for Failure {}

/// Runs the schedules of one seed.
///
/// # Errors
/// The promises that they broke. A panic of the machine is one of them.
pub fn run(seed: u64) -> Result<Tally, Box<Failure>> {
    let mut tally = Tally::default();
    for kind in Kind::of_seed(seed) {
        tally.add(&run_one(seed, *kind)?);
    }
    Ok(tally)
}

/// Runs the schedule of this kind, whether or not the seed has one.
///
/// # Errors
/// As [`run`].
pub fn run_one(seed: u64, kind: Kind) -> Result<Tally, Box<Failure>> {
    guarded(seed, kind, false).map(|(tally, _)| tally)
}

/// Runs the schedule of one seed and kind, and tells its story.
///
/// # Errors
/// As [`run`], with the story.
pub fn replay(seed: u64, kind: Kind) -> Result<(Tally, Vec<String>), Box<Failure>> {
    guarded(seed, kind, true)
}

fn guarded(seed: u64, kind: Kind, tell: bool) -> Result<(Tally, Vec<String>), Box<Failure>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| one(seed, kind, tell)));
    outcome.unwrap_or_else(|_| {
        Err(Box::new(Failure {
            seed,
            kind,
            findings: vec!["panicked; the message is above".to_owned()],
            story: Vec::new(),
        }))
    })
}

fn one(seed: u64, kind: Kind, tell: bool) -> Result<(Tally, Vec<String>), Box<Failure>> {
    let (mut random, world) = match kind {
        Kind::Arrays => {
            let mut random = Random::new(seed);
            let world = setting::world(&mut random);
            (random, world)
        }
        Kind::RaidSets => {
            // The first draw of this sequence has decided that there are any.
            let mut random = Random::new(seed ^ SETS);
            random.next();
            let world = raid_sets::world(&mut random);
            (random, world)
        }
    };
    let world = world.map_err(|why| {
        Box::new(Failure {
            seed,
            kind,
            findings: vec![why],
            story: Vec::new(),
        })
    })?;
    let extend_groups = kind == Kind::RaidSets && random.one_in(2);
    let mut rig = Rig::new(world, random, tell);
    rig.policy.extend_groups = extend_groups;
    let mut auto = auto::Auto::drawn(seed, &mut rig);
    set_rules(seed, &mut rig.policy);
    reserve::drawn(seed, &mut rig.policy);
    groups::drawn(seed, &mut rig.policy);
    let mut agenda = schedule::Agenda::default();
    rig.pace = schedule::pace(&mut rig);
    rig.start();
    schedule::prepare(&mut rig);
    groups::prepare(seed, &mut rig);
    for _ in 0..rig.random.between(6, 40) {
        // The next thing happens in the middle of the last more often than after it.
        let ms = match rig.random.below(10) {
            0..=4 => rig.random.below(120),
            5..=7 => rig.random.below(3_000),
            _ => rig.random.below(15_000),
        };
        rig.run_for(ms);
        agenda.due(&mut rig, false);
        match kind {
            Kind::Arrays => schedule::disturb(&mut rig, &mut agenda),
            Kind::RaidSets => raid_sets::disturb(&mut rig, &mut agenda),
        }
        auto.disturb(&mut rig);
        rig.checks.data(&rig.world);
        if rig.checks.broken() {
            break;
        }
    }
    auto.peace(&mut rig);
    peace::make(&mut rig, &mut agenda);
    rig.tally.schedules = 1;
    rig.tally.virtual_ms = rig.now_ms();
    let story = rig.story().to_vec();
    if rig.checks.broken() {
        let findings = rig.checks.findings().to_vec();
        return Err(Box::new(Failure {
            seed,
            kind,
            findings,
            story,
        }));
    }
    Ok((rig.tally, story))
}
