//! Spares that are attached to other arrays of the spare group.
//!
//! A move has two phases: the spare is taken out of the one array, then added to the other. What has been taken out
//! is known by the operation that did it, wherever that was interrupted, and by the superblock of a spare.

use crate::error::Unfit;
use crate::facts::{DeviceFacts, Inventory};
use crate::id::DriveId;

use super::super::fit;
use super::judge::Judge;
use super::{Candidate, Method, Source, candidate};

/// An idle spare that another array of the spare group can do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loan {
    /// Kernel name of the array.
    pub array: String,
    /// The spare.
    pub drive: DriveId,
}

impl Judge<'_, '_> {
    /// Spares that other arrays can spare, and those that are on their way from one.
    pub(super) fn of_the_group(&self) -> Vec<Candidate> {
        let mut found = Vec::new();
        for loan in self.ctx.loans {
            let mut devices = self.ctx.inventory.devices.values();
            if let Some(device) = devices.find(|device| device.id == loan.drive) {
                found.extend(self.spare_of(device, Some(&loan.array)));
            }
        }
        for device in self.ctx.inventory.devices.values() {
            let moved = self.ctx.moved.contains(&device.id);
            let free = fit::membership(self.ctx.inventory, device).is_none();
            let own = fit::own_superblock(&self.ctx, device.dev).is_some();
            if moved && free && !own && is_left_of_a_spare(self.ctx.inventory, device) {
                found.extend(self.spare_of(device, None));
            }
        }
        found
    }

    fn spare_of(&self, device: &DeviceFacts, donor: Option<&String>) -> Option<Candidate> {
        // What is named is judged as such; what is registered, as a drive of the pool.
        let registered = self.ctx.pool.iter().any(|entry| entry.id == device.id);
        if registered || self.need.chosen == Some(device.id) {
            return None;
        }
        let source = Source::SpareGroup;
        let bare = donor.is_none()
            && fit::signatures(self.ctx.inventory.probes.get(&device.dev))
                .is_ok_and(|all| all.is_empty());
        let method = if bare {
            Method::Add
        } else {
            Method::WipeAndAdd
        };
        let unfit = self.against(device, donor.is_some());
        let mut candidate = candidate(device, source, method, unfit);
        if let (Some(name), true) = (donor, candidate.fits()) {
            candidate.reason = format!("it is a spare of {name}, which is of the same spare group");
        }
        candidate.donor = donor.cloned();
        Some(candidate)
    }

    /// It is on its way to another array.
    pub(super) fn promised(&self, device: &DeviceFacts) -> Option<Unfit> {
        let op = *self.ctx.promised.get(&device.id)?;
        (Some(op) != self.ctx.op).then_some(Unfit::Claimed { op })
    }

    /// What speaks against it.
    fn against(&self, device: &DeviceFacts, attached: bool) -> Option<Unfit> {
        let ctx = &self.ctx;
        if self.need.chosen.is_some() {
            return Some(Unfit::NotTheChosen);
        }
        if ctx.tried.contains(&device.id) {
            return Some(Unfit::AlreadyTried);
        }
        if let Some(why) = ctx.aside.and_then(|aside| aside.get(&device.id)) {
            return Some(Unfit::SetAside { why: why.clone() });
        }
        if let Some(unfit) = self.promised(device) {
            return Some(unfit);
        }
        if let Err(unfit) = self.kept_back(device, Source::SpareGroup, None) {
            return Some(unfit);
        }
        let in_use = || fit::unwritable(ctx.inventory, device, None);
        if let Some(unfit) = (!attached).then(in_use).flatten() {
            return Some(unfit);
        }
        fit::unsuited(ctx.inventory, ctx.array, device)
    }
}

/// Whether nothing is on a drive but the superblock of a spare, which has never held data of its array.
pub(super) fn is_left_of_a_spare(inventory: &Inventory, device: &DeviceFacts) -> bool {
    let Some(probe) = inventory.probes.get(&device.dev) else {
        return false;
    };
    let Ok(found) = fit::signatures(Some(probe)) else {
        return false;
    };
    match probe.md.known().and_then(Option::as_ref) {
        Some(superblock) => {
            superblock.role.is_none() && found.iter().all(|one| one == fit::MD_SIGNATURE)
        }
        None => found.is_empty(),
    }
}
