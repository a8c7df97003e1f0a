//! Plans and refusals by example, each with the facts that lead to it: a LUN with members missing
//! (`missing`), a whole one (copying away, resync, repair, verify), and what is refused.

mod choice;
mod dm;
mod dm_bare;
mod missing;
mod refused;
mod whole;

use super::testkit::World;
use super::{Plan, Request, Verdict};
use crate::facts::Level;

fn planned(world: &World, request: &Request) -> Plan {
    world.plan(request).unwrap()
}

fn targets(plan: &Plan) -> Vec<&str> {
    plan.targets
        .iter()
        .map(|target| target.name.as_str())
        .collect()
}

fn verdict<'p>(plan: &'p Plan, name: &str) -> &'p Verdict {
    &plan
        .candidates
        .iter()
        .find(|c| c.drive.name == name)
        .unwrap()
        .verdict
}

/// A raid1 of `d0` and nobody else.
fn half_mirror() -> World {
    let mut world = World::new(Level::Raid1, 2);
    world.pull("d1");
    world
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
