//! What a start of the host has left behind. A member that is being filled gets what is written below its
//! checkpoint as every other copy does; what was being written when the power went may have come
//! to one and not to the other. md takes the fill up from the checkpoint and forgets about it: with one
//! copy in sync there was nothing to compare (`drivers/md/raid1.c:raid1_run`), and nobody compares
//! afterwards. Only a repair does.

use std::collections::{BTreeMap, BTreeSet};

use super::{LedgerState, Machine, Record};
use crate::action::Action;
use crate::facts::ArrayFacts;
use crate::id::{LunId, OpId};
use crate::model::{NotificationEvent, Phase};
use crate::project;

/// What is yet to be found out after a start of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Boot {
    /// LUNs that the ledger knew: what befell others before lund came is not for it to say. [`None`]
    /// when the ledger does not work and may have forgotten some.
    known: Option<BTreeSet<LunId>>,
    /// LUNs that operations of the ledger were filling, or that are held in the middle of that; and
    /// whether it was a replacement.
    filling: BTreeMap<LunId, bool>,
    /// LUNs that were looked at since.
    judged: BTreeSet<LunId>,
    /// The ledger knows of this start.
    told: bool,
}

impl Boot {
    /// With what the ledger remembers.
    pub(super) fn after(state: &LedgerState) -> Self {
        let mut filling = BTreeMap::new();
        for op in &state.ops {
            let phase = matches!(op.phase, Phase::Rebuild | Phase::Replace | Phase::ReAdd);
            // A replacement that the kernel or another tool began is a rebuild like any other until looked at.
            let replaces = op.phase == Phase::Replace || !op.retiring.is_empty();
            let unfinished = !op.state.is_finished() || state.holds.contains_key(&op.lun);
            if phase && unfinished && !op.targets.is_empty() {
                *filling.entry(op.lun).or_default() |= replaces;
            }
        }
        let known = state.luns.iter().map(|seen| seen.id).collect();
        Self {
            known: state.degraded.is_none().then_some(known),
            filling,
            judged: BTreeSet::new(),
            told: false,
        }
    }
}

impl Machine {
    /// Looks at the LUNs that run for the first time since the host was started.
    pub(super) fn judge_the_boot(&mut self) {
        let Some(mut boot) = self.boot.take() else {
            return;
        };
        let fresh: Vec<(LunId, String)> = self
            .luns
            .iter()
            .filter(|(id, _)| !boot.judged.contains(id))
            .map(|(id, entry)| (*id, entry.array.clone()))
            .collect();
        let mut waiting = self.awaits_any();
        for (id, name) in fresh {
            let running = |array: &&ArrayFacts| array.sync.is_some();
            let Some(array) = self.inventory.arrays.get(&name).filter(running) else {
                waiting = true;
                continue;
            };
            let known = boot.known.as_ref().is_none_or(|known| known.contains(&id));
            let doubtful = known && project::may_differ(array, boot.filling.get(&id).copied());
            boot.judged.insert(id);
            if doubtful {
                self.doubt(id, &name);
            }
        }
        if !boot.told && (!waiting || self.now.mono >= self.await_until) {
            boot.told = true;
            self.persist(Record::Booted);
        }
        self.boot = Some(boot);
    }

    fn doubt(&mut self, id: LunId, name: &str) {
        let mut text = format!(
            "a copy of {name} was being filled when the host went down: what was written in that \
             moment may differ between its copies until a recovery has repaired it"
        );
        if self.array_of(id).is_some_and(project::half_filled_source) {
            text.push_str(
                "; `lunctl recover` it before anything writes to it: a first write has newer kernels \
                 bring it in step from the half-filled copy",
            );
        }
        self.mark_unproven(id, text);
    }

    /// An operation is about to have the kernel fill what is missing before the copies are brought in step.
    pub(super) fn puts_off_resync(&mut self, id: OpId, action: &Action) {
        let puts_off = matches!(
            action,
            Action::ClearResyncStart {
                fill_first: true,
                ..
            }
        );
        if !puts_off {
            return;
        }
        if let Some((lun, name)) = self.ops.get(&id).map(|op| (op.lun, op.lun_name.clone())) {
            self.put_off_resync(lun, &name);
        }
    }

    /// Writes down that a repair has to do what a resync would have done.
    pub(super) fn put_off_resync(&mut self, id: LunId, name: &str) {
        let text = format!(
            "{name} is filled before its copies are brought in step, for the kernel would take the \
             half-filled copy for a source: they may differ until a recovery has repaired it"
        );
        self.mark_unproven(id, text);
    }

    fn mark_unproven(&mut self, id: LunId, text: String) {
        match self.luns.get_mut(&id) {
            Some(entry) if !entry.unproven => entry.unproven = true,
            _ => return,
        }
        let ops = self
            .ops
            .values()
            .filter(|op| op.lun == id && !op.state.is_finished());
        for op in ops.map(|op| op.id).collect::<Vec<_>>() {
            self.scrub_is_overtaken(op);
        }
        self.record_lun(id, false);
        self.notify(Some(NotificationEvent::LunModify), Some(id), None, text);
    }

    /// A repair went over all copies.
    pub(super) fn proven(&mut self, id: LunId) {
        match self.luns.get_mut(&id) {
            Some(entry) if entry.unproven => entry.unproven = false,
            _ => return,
        }
        self.record_lun(id, false);
    }

    /// Whether copies of a LUN may differ for that reason.
    pub(super) fn is_unproven(&self, id: LunId) -> bool {
        self.luns.get(&id).is_some_and(|entry| entry.unproven)
    }
}
