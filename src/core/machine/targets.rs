//! The drives that an operation fills: which they are, and which of them have failed.

use super::Machine;
use crate::Error;
use crate::facts::{ArrayFacts, IdentityKind, MemberFacts};
use crate::id::OpId;
use crate::model::NotificationEvent;
use crate::plan::Plan;

impl Machine {
    /// Finds the drives that an operation fills again: a start of the host may have given them other
    /// numbers, and for a while udev has not told yet which they are. False: that has to be waited for.
    pub(super) fn recognise_targets(&mut self, id: OpId, array: &ArrayFacts) -> bool {
        let devices = &self.inventory.devices;
        let nameless = array.members.iter().any(|member| {
            let device = member.dev.known().and_then(|dev| devices.get(dev));
            device.is_some_and(|device| device.id_kind == IdentityKind::DevNo)
        });
        let mut found = true;
        if let Some(op) = self.ops.get_mut(&id) {
            for target in &mut op.targets {
                match devices.values().find(|device| device.id == target.id) {
                    Some(device) => {
                        target.dev = device.dev;
                        target.name.clone_from(&device.name);
                    }
                    None => found = false,
                }
            }
        }
        found || !nameless || self.now.mono >= self.await_until
    }

    /// A drive that an earlier plan meant to fill, and that this one passes over although nothing has been
    /// done to it, is no target: that it is no member in the end is no failure of it.
    pub(super) fn forget_passed_over(&mut self, id: OpId, plan: &Plan, array: &ArrayFacts) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        let added = &op.added;
        op.targets.retain(|target| {
            let member = |member: &MemberFacts| member.dev.known() == Some(&target.dev);
            added.contains(&target.id)
                || plan.targets.iter().any(|planned| planned.id == target.id)
                || array.members.iter().any(member)
        });
    }

    /// A drive that enters a slot while the operation runs is one of its targets.
    pub(super) fn note_targets(&mut self, id: OpId, array: &ArrayFacts) {
        let fresh: Vec<_> = array
            .members
            .iter()
            .filter(|member| {
                member
                    .state
                    .is_known_and(|state| !state.in_sync && !state.faulty && !state.journal)
                    && member
                        .slot
                        .is_known_and(|slot| matches!(slot, crate::facts::Slot::At(_)))
            })
            .filter_map(|member| self.target_of(member))
            .collect();
        let retiring = self.being_replaced(array);
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        let known = (op.targets.len(), op.retiring.len());
        op.retiring.extend(retiring);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.attached.extend(fresh.iter().map(|target| target.id));
        }
        for target in fresh {
            if op.targets.iter().all(|other| other.id != target.id) {
                op.targets.push(target);
            }
        }
        if known != (op.targets.len(), op.retiring.len()) {
            self.persist_op(id);
        }
    }

    /// Members whose slot a replacement shares.
    fn being_replaced(&self, array: &ArrayFacts) -> Vec<crate::id::DriveId> {
        let slots: Vec<_> = array
            .members
            .iter()
            .filter(|member| member.state.is_known_and(|state| state.replacement))
            .filter_map(|member| member.slot.known())
            .collect();
        array
            .members
            .iter()
            .filter(|member| member.state.is_known_and(|state| !state.replacement))
            .filter(|member| {
                member
                    .slot
                    .known()
                    .is_some_and(|slot| slots.contains(&slot))
            })
            .filter_map(|member| Some(self.target_of(member)?.id))
            .collect()
    }

    /// After the kernel stopped: a target that did not make it is not tried again. One that is no
    /// member has failed only if it was attached: a phase that comes before it, or the end of the
    /// daemon, may have come first.
    pub(super) fn judge_targets(&mut self, id: OpId, array: &ArrayFacts) {
        let (Some(op), Some(task)) = (self.ops.get(&id), self.tasks.get(&id)) else {
            return;
        };
        let lost: Vec<_> = op
            .targets
            .iter()
            .filter(|target| !op.tried.contains(&target.id))
            .filter(|target| {
                let member = array
                    .members
                    .iter()
                    .find(|m| m.dev.known() == Some(&target.dev));
                match member {
                    // A leg that is to be taken back has failed before anything is done to it.
                    Some(member) => {
                        let begun = array.dm().is_none() || task.attached.contains(&target.id);
                        begun && member.state.is_known_and(|state| state.faulty)
                    }
                    None => task.attached.contains(&target.id),
                }
            })
            .cloned()
            .collect();
        let (lun, name) = (op.lun, op.lun_name.clone());
        for target in lost {
            let why = format!("/dev/{} failed while it was being filled", target.name);
            let error = Error::RecoveryFailed {
                lun: name.clone(),
                drive: Some(format!("/dev/{}", target.name)),
                why: why.clone(),
            };
            if let Some(task) = self.tasks.get_mut(&id) {
                task.last_error = Some(error);
            }
            if let Some(op) = self.ops.get_mut(&id) {
                op.tried.insert(target.id);
            }
            self.retire_on_use(target.id, lun);
            self.notify(
                Some(NotificationEvent::DriveModify),
                Some(lun),
                Some(id),
                why,
            );
        }
    }
}
