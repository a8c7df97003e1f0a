//! What clients see of the machine.

use std::cmp::Ordering;

use super::{Machine, Snapshot};
use crate::Hresult;
use crate::id::OpId;
use crate::model::{AsyncOutput, Drive, Lun, OpKind, OpView, Role};
use crate::op::Op;
use crate::plan::PoolEntry;
use crate::project;

impl Machine {
    /// All that clients may see, now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let luns: Vec<Lun> = self
            .luns
            .iter()
            .map(|(id, entry)| {
                let mut lun = entry.lun.clone();
                lun.operation = self.running_op(*id);
                if let Some((says, _)) = &entry.contradiction {
                    lun.unknown
                        .push(format!("identity: {says}: refresh is needed"));
                }
                lun
            })
            .collect();
        let mut drives: Vec<Drive> = luns
            .iter()
            .flat_map(|lun| lun.drives.iter().cloned())
            .filter(|drive| drive.role != Role::Missing)
            .collect();
        for entry in &self.pool {
            if drives.iter().all(|drive| drive.id != Some(entry.id)) {
                drives.push(self.pool_drive(entry));
            }
        }
        let mut luns = luns;
        luns.sort_by(|a, b| by_name(&a.name, &b.name));
        let mut coverage: Vec<_> = self.coverage.values().cloned().collect();
        coverage.sort_by(|a, b| by_name(&a.lun_name, &b.lun_name));
        Snapshot {
            luns,
            drives,
            ops: self.op_views().collect(),
            pool: self.pool.clone(),
            retired: self.retired_drives(),
            coverage,
            passed_over: self.passed_over(),
            gone: self
                .gone
                .values()
                .filter(|seen| seen.gone)
                .cloned()
                .collect(),
            ledger_degraded: self.ledger_degraded.clone(),
            md_loaded: self.inventory.md_loaded,
        }
    }

    /// Operations, running and remembered, by number.
    pub fn op_views(&self) -> impl Iterator<Item = OpView> {
        self.ops.values().map(op_view)
    }

    /// Why the ledger does not work, if it does not.
    #[must_use]
    pub fn ledger_degraded(&self) -> Option<&str> {
        self.ledger_degraded.as_deref()
    }

    /// A LUN as it is now, without its operation; [`None`] once it is gone.
    #[must_use]
    pub fn lun(&self, id: crate::id::LunId) -> Option<&Lun> {
        self.luns.get(&id).map(|entry| &entry.lun)
    }

    /// Name of a LUN that is here, or was.
    #[must_use]
    pub fn lun_name(&self, id: crate::id::LunId) -> Option<&str> {
        let here = self.luns.get(&id).map(|entry| entry.lun.name.as_str());
        here.or_else(|| self.gone.get(&id).map(|seen| seen.name.as_str()))
    }

    pub(super) fn running_op(&self, lun: crate::id::LunId) -> Option<OpView> {
        let op = self
            .ops
            .values()
            .find(|op| op.lun == lun && !op.state.is_finished())?;
        Some(op_view(op))
    }

    pub(super) fn pool_drive(&self, entry: &PoolEntry) -> Drive {
        project::pool_drive(&self.inventory, entry, self.retired.get(&entry.id))
    }

    /// An operation, running or remembered, as it is now.
    #[must_use]
    pub fn op_view(&self, id: OpId) -> Option<OpView> {
        self.ops.get(&id).map(op_view)
    }
}

/// The order of names for people: `md9` before `md10`.
fn by_name(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// An operation as clients see it.
#[must_use]
pub fn op_view(op: &Op) -> OpView {
    let hresult = match &op.error {
        Some(error) => error.hresult(),
        None if op.state.is_finished() => Hresult::S_OK,
        None => Hresult::VDS_E_OPERATION_PENDING,
    };
    OpView {
        id: op.id,
        kind: op.kind,
        async_output: match op.kind {
            OpKind::Recover => AsyncOutput::RecoverLun,
            OpKind::Replace => AsyncOutput::ReplaceDisk,
            OpKind::Verify | OpKind::Repair => AsyncOutput::Unknown,
        },
        lun: op.lun,
        lun_name: op.lun_name.clone(),
        state: op.state.as_str().to_owned(),
        hresult,
        hresult_name: hresult.name().to_owned(),
        percent: if op.state.is_finished() {
            100
        } else {
            op.percent.min(99)
        },
        phase: op.phase,
        origin: op.origin,
        spare: op
            .targets
            .last()
            .map(|target| format!("/dev/{}", target.name)),
        started_at_ms: op.started_at,
        ended_at_ms: op.ended_at,
        rate_bytes_per_s: op.live.rate_bytes_per_s,
        eta_s: op.live.eta_s,
        message: op.message.clone(),
        asked_by: op.asked_by.clone(),
        asked_uid: op.asked_uid,
    }
}
