//! Going on after the daemon, or the host, was started anew.

use super::Machine;
use super::task::Stage;
use crate::Error;
use crate::facts::{ArrayFacts, ArrayState};
use crate::id::{LunId, OpId};
use crate::op::Work;

use super::exec::frozen;

/// How long after a boot an array of the ledger may take to be assembled: udev's last resort for a
/// degraded one comes 30 s after its first member (`mdadm-last-resort@.timer`), disks may spin up.
pub(super) const ASSEMBLY_MS: u64 = 90_000;

impl Machine {
    /// Changes what the next start has to know of an operation, and writes it down if it changed.
    pub(super) fn work(&mut self, id: OpId, change: impl FnOnce(&mut Work)) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        let before = op.work;
        change(&mut op.work);
        if op.work != before {
            self.persist_op(id);
        }
    }

    /// The first look at the facts of an operation that was unfinished when the daemon started.
    pub(super) fn take_up_again(&mut self, id: OpId, array: &ArrayFacts) {
        let resumed = match self.tasks.get_mut(&id) {
            Some(task) => std::mem::take(&mut task.resumed),
            None => false,
        };
        if resumed {
            self.judge_targets(id, array);
        }
    }

    /// An operation of ours has started what was held: the hold is over. The daemon may have died
    /// between the start and the record of that.
    pub(super) fn outrun_hold(&mut self, lun: LunId) {
        let still = self.array_of(lun).is_none_or(frozen);
        if !still && self.holds.contains_key(&lun) {
            self.drop_hold(lun);
        }
    }

    /// The ledger knows it, the scan has not found it, and it may still be assembled.
    pub(super) fn is_awaited(&self, lun: LunId) -> bool {
        !self.luns.contains_key(&lun) && self.gone.get(&lun).is_some_and(|seen| !seen.gone)
    }

    /// Some LUN is awaited.
    pub(super) fn awaits_any(&self) -> bool {
        self.gone.values().any(|seen| !seen.gone)
    }

    /// Some LUN is awaited, and has been for long enough.
    pub(super) fn awaits_in_vain(&self) -> bool {
        self.now.mono >= self.await_until && self.awaits_any()
    }

    /// Why nothing can be done about a LUN that is awaited.
    pub(super) fn not_assembled_yet(&self, lun: LunId) -> Option<Error> {
        let seen = self.gone.get(&lun).filter(|_| self.is_awaited(lun))?;
        Some(Error::LunOffline {
            lun: seen.name.clone(),
            state: "not assembled yet since the host was started".to_owned(),
            again: seen.recreate.clone(),
        })
    }

    /// Its array is there and does not run: it is being put together, member by member, and says
    /// nothing yet that an operation could be judged by. That is waited for as long as for an array
    /// that is not there at all.
    pub(super) fn is_being_assembled(&mut self, id: OpId, array: &ArrayFacts) -> bool {
        let now = self.now.mono;
        let Some(task) = self.tasks.get_mut(&id) else {
            return false;
        };
        let stands = |state: &ArrayState| matches!(state, ArrayState::Inactive | ArrayState::Clear);
        if !array.state.is_known_and(stands) {
            task.assembled_by = None;
            return false;
        }
        let until = *task.assembled_by.get_or_insert(now.after(ASSEMBLY_MS));
        now < until
    }

    /// The next scan may find its array.
    pub(super) fn wait_for_assembly(&mut self, id: OpId) {
        let scan = self.scan.started + 1;
        if let Some(task) = self.tasks.get_mut(&id) {
            task.stage = Stage::NeedFacts { scan };
        }
    }
}
