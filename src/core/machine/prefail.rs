//! Members that fail but have not failed yet: errors are counted for each member, and so many within a
//! window speak of it (SERD, a soft error rate discriminator). Several members at once speak of what they
//! share, and of none of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Machine, Reply};
use crate::id::{DriveId, LunId, Mono};
use crate::model::{Health, NotificationEvent, OpKind, Origin};
use crate::plan::Request;
use crate::policy::PrefailMode;
use crate::project;

/// Readings that are remembered of one member, at most: what is older falls out of the window early.
const READINGS_KEPT: usize = 256;

/// Errors of one member of one LUN.
#[derive(Debug, Default)]
struct Counter {
    /// The member's own count when it was read last; [`None`]: not yet.
    last: Option<u64>,
    /// When it rose, and by how much.
    rises: Vec<(Mono, u64)>,
}

impl Counter {
    /// Takes a reading in; a count that fell begins anew.
    fn read(&mut self, now: Mono, count: u64, window_ms: u64) {
        let rise = self.last.map_or(0, |last| count.saturating_sub(last));
        self.last = Some(count);
        self.rises.retain(|(at, _)| now.since(*at) < window_ms);
        if rise > 0 {
            if self.rises.len() >= READINGS_KEPT {
                self.rises.remove(0);
            }
            self.rises.push((now, rise));
        }
    }

    fn within_window(&self) -> u64 {
        self.rises
            .iter()
            .fold(0, |sum, (_, rise)| sum.saturating_add(*rise))
    }
}

/// What the errors of a LUN's members speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// This drive is likely to fail.
    Drive(DriveId),
    /// These have a cause in common.
    Common(BTreeSet<DriveId>),
}

/// All that is counted.
#[derive(Debug, Default)]
pub(super) struct Prefail {
    counters: BTreeMap<(LunId, DriveId), Counter>,
    verdicts: BTreeMap<LunId, Verdict>,
    /// Drives that are to be copied away, and the first scan whose facts are new enough for that.
    due: BTreeMap<LunId, (DriveId, u64)>,
}

impl Machine {
    /// Counts the errors of a LUN's members, and says what they speak of when that changes.
    pub(super) fn note_errors(&mut self, lun: LunId) {
        let rule = self.policy.prefail;
        if rule.mode == PrefailMode::Off {
            return;
        }
        let now = self.now.mono;
        let Some(array) = self.array_of(lun) else {
            return;
        };
        let readings: Vec<(DriveId, u64)> = array
            .members
            .iter()
            .filter_map(|member| Some((self.target_of(member)?.id, project::errors(member)?)))
            .collect();
        let present: BTreeSet<DriveId> = readings.iter().map(|(id, _)| *id).collect();
        self.prefail
            .counters
            .retain(|(of, drive), _| *of != lun || present.contains(drive));
        let mut counts = Vec::new();
        for (drive, count) in readings {
            let counter = self.prefail.counters.entry((lun, drive)).or_default();
            counter.read(now, count, rule.window_ms);
            counts.push((drive, counter.within_window()));
        }
        let verdict = verdict(&counts, u64::from(rule.events));
        if self.prefail.verdicts.get(&lun) == verdict.as_ref() {
            return;
        }
        match verdict {
            Some(verdict) => {
                self.tell_verdict(lun, &verdict, &counts);
                self.prefail.verdicts.insert(lun, verdict);
            }
            None => drop(self.prefail.verdicts.remove(&lun)),
        }
    }

    fn tell_verdict(&mut self, lun: LunId, verdict: &Verdict, counts: &[(DriveId, u64)]) {
        let name = self
            .luns
            .get(&lun)
            .map_or_else(|| lun.to_string(), |entry| entry.array.clone());
        let seconds = self.policy.prefail.window_ms / 1000;
        let of = |id: &DriveId| {
            counts
                .iter()
                .find(|(one, _)| one == id)
                .map_or(0, |(_, n)| *n)
        };
        let text = match verdict {
            Verdict::Drive(id) => {
                let what = format!(
                    "{} in {name} is failing: {} errors within {seconds} s",
                    self.name_of(*id),
                    of(id)
                );
                if self.policy.prefail.mode == PrefailMode::Auto {
                    let scan = self.want_deep_scan();
                    self.prefail.due.insert(lun, (*id, scan));
                    format!("{what}; it is copied onto a spare while the others are whole")
                } else {
                    let node = self.name_of(*id);
                    format!("{what}; `lunctl replace {name} {node}` copies it onto a spare first")
                }
            }
            Verdict::Common(ids) => {
                self.prefail.due.remove(&lun);
                let names: Vec<String> = ids.iter().map(|id| self.name_of(*id)).collect();
                format!(
                    "{} in {name} err at the same time: the cause is what they share (cable, \
                     enclosure, controller), and none of them is replaced",
                    names.join(", ")
                )
            }
        };
        self.notify(Some(NotificationEvent::DriveModify), Some(lun), None, text);
    }

    /// Begins the copies that are due, on the facts of the scan that just ended. One that is refused is not
    /// tried again for the same verdict: `lunctl` and the journal have the reason.
    pub(super) fn copy_failing(&mut self) {
        let done = self.scan.started;
        let due: Vec<(LunId, DriveId)> = self
            .prefail
            .due
            .iter()
            .filter(|(_, (_, scan))| *scan <= done)
            .map(|(lun, (drive, _))| (*lun, *drive))
            .collect();
        for (lun, drive) in due {
            self.prefail.due.remove(&lun);
            let entry = self.luns.get(&lun);
            // A LUN that misses a member is recovered first, and a held one is its administrator's.
            let whole = entry.is_some_and(|entry| {
                !entry.lun.held
                    && !matches!(
                        entry.lun.health,
                        Health::FailedRedundancy | Health::Rebuilding
                    )
            });
            if !whole {
                continue;
            }
            let request = Request::Replace { drive, with: None };
            match self.start(&"policy".into(), lun, OpKind::Replace, request, false) {
                Ok(Reply::Op(view)) => {
                    if let Some(op) = self.ops.get_mut(&view.id) {
                        op.origin = Origin::Policy;
                    }
                    self.persist_op(view.id);
                }
                Ok(_) => {}
                Err(error) => {
                    let text = format!("{} is not copied away: {error}", self.name_of(drive));
                    self.notify(None, Some(lun), None, text);
                }
            }
        }
    }
}

/// What the errors within the window speak of. When one member is over the limit and another one half
/// way there, the cause is likely to be one they share.
fn verdict(counts: &[(DriveId, u64)], limit: u64) -> Option<Verdict> {
    let over: Vec<DriveId> = counts
        .iter()
        .filter(|(_, count)| *count >= limit)
        .map(|(drive, _)| *drive)
        .collect();
    let near: BTreeSet<DriveId> = counts
        .iter()
        .filter(|(_, count)| *count > 0 && count.saturating_mul(2) >= limit)
        .map(|(drive, _)| *drive)
        .collect();
    match over[..] {
        [] => None,
        [drive] if near.len() == 1 => Some(Verdict::Drive(drive)),
        _ => Some(Verdict::Common(near)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(number: u8) -> DriveId {
        DriveId::derive("serial", &number.to_string())
    }

    #[test]
    fn only_what_rises_within_the_window_counts() {
        let mut counter = Counter::default();
        for (at, count, within) in [
            // What it had before it was looked at says nothing of now.
            (0, 100, 0),
            (10, 103, 3),
            (20, 103, 3),
            (30, 105, 5),
            (115, 106, 3),
            // It was set back, and is counted from there.
            (120, 0, 3),
            (121, 2, 5),
            (500, 2, 0),
        ] {
            counter.read(Mono(at), count, 100);
            assert_eq!(counter.within_window(), within, "{at}");
        }
    }

    #[test]
    fn one_member_is_failing_and_several_have_a_common_cause() {
        let of = |counts: &[u64]| {
            let counts: Vec<(DriveId, u64)> =
                (0..).map(drive).zip(counts.iter().copied()).collect();
            verdict(&counts, 10)
        };
        assert_eq!(of(&[9, 0, 0]), None);
        assert_eq!(of(&[0, 10, 4]), Some(Verdict::Drive(drive(1))));
        let both = BTreeSet::from([drive(1), drive(2)]);
        assert_eq!(of(&[0, 10, 5]), Some(Verdict::Common(both.clone())));
        assert_eq!(of(&[0, 30, 30]), Some(Verdict::Common(both)));
    }
}
