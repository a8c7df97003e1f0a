//! Spares that stay where they are for a LUN that may need them.

use std::collections::BTreeSet;

use crate::error::Unfit;
use crate::facts::DmOwner;
use crate::id::DriveId;
use crate::model::Role;

use super::super::view::{Part, part};
use super::super::{Context, register};
use super::{Candidate, Method, Need, Source, judge_spares};

/// Drives of the pool of which some are kept for a LUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Name of the LUN.
    pub lun_name: String,
    /// Drives of the pool that fit it and are free.
    pub drives: BTreeSet<DriveId>,
    /// So many of them stay.
    pub keep: usize,
}

impl Reservation {
    /// How many of these drives another LUN may have.
    fn to_give(&self, wanted: &BTreeSet<DriveId>) -> usize {
        let common = self.drives.intersection(wanted).count();
        // What does not fit there stays by itself.
        let staying = self.drives.len().saturating_sub(common);
        common.saturating_sub(self.keep.saturating_sub(staying))
    }

    /// Drives among these of which it gives none.
    pub(in super::super) fn withholds(&self, wanted: &BTreeSet<DriveId>) -> BTreeSet<DriveId> {
        if self.to_give(wanted) > 0 {
            return BTreeSet::new();
        }
        self.drives.intersection(wanted).copied().collect()
    }
}

/// What is kept for a LUN that reserves: as many spares as it has empty slots, one at least, without those
/// that are attached to it; [`None`] where that is nothing.
#[must_use]
pub fn reservation(ctx: &Context<'_>) -> Option<Reservation> {
    let array = ctx.array;
    let of_lvm = array
        .dm()
        .is_some_and(|set| matches!(set.owner, DmOwner::Lvm { .. }));
    if !register::takes_spares(array) || (of_lvm && !ctx.extend_groups) {
        return None;
    }
    let drives = &ctx.lun.drives;
    let in_role = |role: Role| drives.iter().filter(|drive| drive.role == role).count();
    let attached = array
        .members
        .iter()
        .filter(|member| part(member) == Ok(Part::Spare))
        .count();
    let keep = in_role(Role::Missing).max(1).saturating_sub(attached);
    let candidates = judge_spares(ctx, &Need::default());
    let free = candidates
        .iter()
        .filter(|one| one.fits() && ctx.pool.iter().any(|entry| entry.id == one.drive.id));
    let drives: BTreeSet<DriveId> = free.map(|one| one.drive.id).collect();
    (keep > 0 && !drives.is_empty()).then(|| Reservation {
        lun_name: array.name.clone(),
        drives,
        keep,
    })
}

/// Takes out of the candidates, the best of which come first, what is kept for others: of the drives that
/// would do for both, those that do worst here. What somebody named, and what belongs here anyway, is his.
pub(super) fn keep_back(found: &mut [Candidate], reserved: &[Reservation]) {
    let mut reserved: Vec<&Reservation> = reserved.iter().collect();
    // What is kept for who has the least choice serves the others too.
    reserved.sort_by_key(|one| (one.drives.len(), one.lun_name.as_str()));
    for one in reserved {
        let asks = |candidate: &&mut Candidate| {
            candidate.fits()
                && candidate.source != Source::Chosen
                && !matches!(candidate.method, Method::ReAdd { .. })
                && one.drives.contains(&candidate.drive.id)
        };
        let wanted: BTreeSet<DriveId> = found
            .iter_mut()
            .filter(asks)
            .map(|candidate| candidate.drive.id)
            .collect();
        let to_give = one.to_give(&wanted);
        for candidate in found.iter_mut().filter(asks).skip(to_give) {
            let lun = one.lun_name.clone();
            candidate.reject(Unfit::Reserved { lun });
        }
    }
    found.sort_by_key(|candidate| !candidate.fits());
}
