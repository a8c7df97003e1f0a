//! What the rounds found, and their sums.

use std::collections::BTreeMap;
use std::fmt;

/// What is wrong, by kind; every line is one thing.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Operations that were accepted and are gone.
    pub(super) lost: Vec<String>,
    /// Numbers used twice, one job done by two operations.
    pub(super) doubled: Vec<String>,
    /// Operations and holds that are shown otherwise than they are.
    pub(super) misreported: Vec<String>,
    /// Blocks that hold what they must not, copies that differ.
    pub(super) data: Vec<String>,
    /// Anything else that a round must not end with.
    pub(super) other: Vec<String>,
    /// Not wrong, but worth a line.
    pub(super) notes: Vec<String>,
}

impl Findings {
    pub(super) fn kinds(&self) -> [(&'static str, &[String]); 5] {
        [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("misreported", &self.misreported),
            ("data", &self.data),
            ("other", &self.other),
        ]
    }

    pub(super) fn is_clean(&self) -> bool {
        self.kinds().iter().all(|(_, found)| found.is_empty())
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, found) in self.kinds() {
            for line in found {
                writeln!(to, "    {kind}: {line}")?;
            }
        }
        Ok(())
    }
}

/// Sums over all rounds.
#[derive(Debug, Default)]
pub(super) struct Score {
    pub(super) rounds: u64,
    pub(super) blows: BTreeMap<&'static str, u64>,
    pub(super) accepted: u64,
    /// Operations whose request died before its answer.
    pub(super) unanswered: u64,
    pub(super) ended: BTreeMap<String, u64>,
    pub(super) found: BTreeMap<&'static str, usize>,
    pub(super) blocks_unflushed: usize,
    pub(super) blocks_lost: usize,
    pub(super) checkpoints: u64,
    pub(super) resumed: u64,
    pub(super) diverged: u64,
    pub(super) failed: Vec<u64>,
}

impl Score {
    pub(super) fn count(&mut self, findings: &Findings) {
        for (kind, found) in findings.kinds() {
            *self.found.entry(kind).or_default() += found.len();
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |sums: &mut dyn Iterator<Item = (String, u64)>| {
            let words: Vec<String> = sums.map(|(name, sum)| format!("{sum} {name}")).collect();
            words.join(", ")
        };
        let found = |kind: &str| self.found.get(kind).copied().unwrap_or(0);
        writeln!(to, "rounds: {}, failed: {}", self.rounds, self.failed.len())?;
        let blows = list(
            &mut self
                .blows
                .iter()
                .map(|(name, sum)| ((*name).to_owned(), *sum)),
        );
        writeln!(to, "killed: {blows}")?;
        let ended = list(&mut self.ended.iter().map(|(name, sum)| (name.clone(), *sum)));
        writeln!(
            to,
            "operations accepted: {}, begun without an answer: {}; ended: {ended}",
            self.accepted, self.unanswered
        )?;
        writeln!(
            to,
            "lost: {}, doubled: {}, misreported: {}, data mismatches: {}, other: {}",
            found("lost"),
            found("doubled"),
            found("misreported"),
            found("data"),
            found("other")
        )?;
        writeln!(
            to,
            "power: {} blocks not flushed, {} of them lost; {} rebuilds with a checkpoint on the disk, {} \
             resumed from it; mirrors that differed in writes nobody was promised: {}",
            self.blocks_unflushed, self.blocks_lost, self.checkpoints, self.resumed, self.diverged
        )
    }
}
