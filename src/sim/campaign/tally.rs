//! Figures of a campaign: a campaign in which nothing of a kind happens would prove nothing.

use std::collections::BTreeMap;

use lun_core::Error;

/// What happened, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Schedules run.
    pub schedules: u64,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// Inputs that daemons took in.
    pub steps: u64,
    /// Actions that lund performed.
    pub acts: u64,
    /// Calls that were answered well.
    pub accepted: u64,
    /// Operations by the state in which they ended.
    pub ends: BTreeMap<String, u64>,
    /// Refusals by name.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Faults and meddling by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Arrays that were whole again, whole all along, or beyond repair when peace came.
    pub arrays: BTreeMap<&'static str, u64>,
    /// What was decided to do by itself, by rule.
    pub decisions: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts a fault.
    pub fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// Counts a refusal.
    pub fn refused(&mut self, error: &Error) {
        *self.refusals.entry(error.hresult().name()).or_default() += 1;
    }

    /// Adds the figures of others.
    pub fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.virtual_ms += other.virtual_ms;
        self.steps += other.steps;
        self.acts += other.acts;
        self.accepted += other.accepted;
        for (key, count) in &other.ends {
            *self.ends.entry(key.clone()).or_default() += count;
        }
        for (into, from) in [
            (&mut self.refusals, &other.refusals),
            (&mut self.faults, &other.faults),
            (&mut self.arrays, &other.arrays),
            (&mut self.decisions, &other.decisions),
        ] {
            for (key, count) in from {
                *into.entry(key).or_default() += count;
            }
        }
    }
}
