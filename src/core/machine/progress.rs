//! What moves without a step of ours: recoveries that others began, and how far they are.

use super::Machine;
use super::task::Stage;
use crate::Error;
use crate::facts::{MdstatFacts, MdstatProgress, SyncAction};
use crate::id::OpId;
use crate::model::{OpKind, Origin, Phase};
use crate::plan::Plan;
use crate::project;

impl Machine {
    /// A running sync that nobody here began becomes an operation too.
    pub(super) fn adopt(&mut self) {
        let found: Vec<_> = self
            .luns
            .iter()
            .filter(|(id, entry)| entry.contradiction.is_none() && !self.holds.contains_key(id))
            .filter(|(id, _)| self.busy_with(**id).is_none() && !self.lun_is_acted_on(**id))
            .filter_map(|(id, _)| {
                let array = self.array_of(*id)?;
                let phase = Phase::of_action(project::syncing(array)?)?;
                Some((*id, phase, array.clone()))
            })
            .collect();
        for (lun, phase, array) in found {
            let kind = kind_of(phase);
            let plan = Plan {
                lun,
                rule: "begun by the kernel or by another tool".to_owned(),
                phase,
                steps: Vec::new(),
                targets: Vec::new(),
                retires: None,
                leaves_missing: 0,
                candidates: Vec::new(),
                risk: String::new(),
                bytes_to_copy: 0,
            };
            let id = self.create_op("kernel", lun, kind, None, Origin::Kernel, &plan);
            self.note_targets(id, &array);
            if let Some(task) = self.tasks.get_mut(&id) {
                task.stage = Stage::Watching {
                    since: self.now.mono,
                };
            }
        }
    }

    /// What runs is no longer what was adopted: somebody stopped that, or the host went down, and
    /// something else was begun.
    pub(super) fn is_another(&self, id: OpId, running: SyncAction) -> bool {
        let phase = Phase::of_action(running);
        self.ops.get(&id).is_some_and(|op| {
            op.request.is_none() && phase.is_some_and(|phase| kind_of(phase) != op.kind)
        })
    }

    pub(super) fn on_progress(&mut self, result: Result<Vec<(String, MdstatFacts)>, Error>) {
        self.progress_in_flight = false;
        self.progress_at = self.now.mono;
        let entries = match result {
            Ok(entries) => entries,
            Err(error) => {
                let text = format!("progress cannot be read: {error}");
                return self.notify(None, None, None, text);
            }
        };
        let watching: Vec<(OpId, String)> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.is_watching())
            .filter_map(|(id, _)| {
                let op = self.ops.get(id)?;
                Some((*id, self.luns.get(&op.lun)?.array.clone()))
            })
            .collect();
        for (id, array) in watching {
            let progress = entries
                .iter()
                .find(|(name, _)| *name == array)
                .map_or(MdstatProgress::None, |(_, entry)| entry.progress);
            if let MdstatProgress::At {
                done_kib,
                total_kib,
                speed_kib,
            } = progress
            {
                self.moved(id, done_kib, total_kib, speed_kib);
            } else {
                // Over, queued or not begun: the facts tell which; the event may have been lost.
                self.on_dirty_array(array);
            }
        }
    }

    fn moved(&mut self, id: OpId, done_kib: u64, total_kib: u64, speed_kib: u64) {
        let (Some(op), Some(task)) = (self.ops.get_mut(&id), self.tasks.get_mut(&id)) else {
            return;
        };
        let work = op.work;
        let phases = u64::from(work.phases_expected.max(work.phases_done + 1));
        let share = (done_kib.min(total_kib) * 100)
            .checked_div(total_kib)
            .unwrap_or(0);
        let percent = (u64::from(work.phases_done) * 100 + share) / phases;
        let percent = u32::try_from(percent.min(99)).unwrap_or(99);
        let shown = op.percent;
        op.percent = op.percent.max(percent);
        // Also after a restart it must not fall, so each new one is written down.
        let rose = op.percent > shown;
        let lun = op.lun;
        // The kernel's own rate is an average over half a minute; the first reading has none.
        let fresh = speed_kib.saturating_mul(1024);
        let rate = op
            .live
            .rate_bytes_per_s
            .map_or(fresh, |old| (old * 3 + fresh) / 4);
        op.live.rate_bytes_per_s = (rate > 0).then_some(rate);
        let left = total_kib.saturating_sub(done_kib).saturating_mul(1024);
        let settled = task
            .last_progress
            .is_some_and(|(_, before)| done_kib >= before);
        op.live.eta_s = if settled {
            left.checked_div(rate)
        } else {
            None
        };
        task.last_progress = Some((self.now.mono, done_kib));
        self.changed = true;
        if rose {
            self.persist_op(id);
        }
        let telling = |array| super::scrub::is_telling(array, done_kib, total_kib);
        if self.array_of(lun).is_some_and(telling) {
            self.scrub_is_seen(id);
        }
    }
}

/// What an adopted phase is an operation of.
const fn kind_of(phase: Phase) -> OpKind {
    match phase {
        Phase::Check => OpKind::Verify,
        Phase::Repair => OpKind::Repair,
        Phase::ReAdd | Phase::Rebuild | Phase::Replace | Phase::Resync | Phase::None => {
            OpKind::Recover
        }
    }
}
