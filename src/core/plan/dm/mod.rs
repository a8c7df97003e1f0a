//! Raid sets of device-mapper: how a lost leg comes back or is replaced, and what is not done.
//!
//! What a whole set may need (to be brought in step, compared, repaired) is planned as for an array of
//! md, with the same words; the port knows how they are said to a raid set. Here is what differs: no
//! leg is attached by a superblock of `mdadm`'s, and of a volume of LVM nothing is changed but by LVM.

mod bare;
mod lvm;

use super::draft::Draft;
use super::view::{Member, View, not_ready};
use super::{Context, Plan, Request};
use crate::Error;
use crate::action::Action;
use crate::facts::{ArrayFacts, DmOwner, DmRaidFacts, Fact, Inventory, Level, Slot};
use crate::id::DriveId;
use crate::model::Phase;
use crate::raid;

/// Refuses what is not done to a raid set at all, or not in its state.
///
/// # Errors
/// [`Error::NotSupported`] with what to use instead; [`Error::LunNotReady`] while somebody changes its
/// table.
pub(super) fn refuse(request: &Request, ctx: &Context<'_>) -> Result<(), Error> {
    let Some(set) = ctx.array.dm() else {
        return Ok(());
    };
    if let Request::Replace { .. } = request {
        let instead = match &set.owner {
            DmOwner::Lvm { vg, lv } => {
                format!("; `lvconvert --replace PV {vg}/{lv}` does it nevertheless")
            }
            DmOwner::Bare => String::new(),
        };
        return Err(Error::NotSupported {
            object: ctx.array.name.clone(),
            what: "replacing a leg that works".to_owned(),
            why: format!(
                "a raid set fills a new leg only in place of the old one, and would be without \
                 redundancy meanwhile{instead}"
            ),
        });
    }
    match &set.owner {
        DmOwner::Lvm { .. } => lvm::refuse(ctx, set),
        DmOwner::Bare => bare::refuse(ctx, set),
    }
}

/// Refuses a raid set whose data is lost although the kernel does not say so: it does not fail the last leg
/// that a part of the data is on, whatever has become of its device (docs/kernel-notes.md). LVM tells whether
/// that is there, and reading tells of a set made with dmsetup.
///
/// # Errors
/// [`Error::StatusFailed`] naming the legs.
pub(super) fn not_lost(ctx: &Context<'_>) -> Result<(), Error> {
    let array = ctx.array;
    let (Some(set), Some(level), Some(slots)) =
        (array.dm(), array.level.known(), array.raid_disks.known())
    else {
        return Ok(());
    };
    let layout = match level {
        Level::Raid10 => array.layout.known().copied(),
        _ => Some(0),
    };
    let mut gone = Vec::new();
    let left: Vec<bool> = (0..*slots)
        .map(|slot| {
            let may_be_good = array.members.iter().any(|member| {
                let state = member.state.known();
                member.slot == Fact::Known(Slot::At(slot))
                    && state.is_none_or(|state| state.in_sync && !state.faulty)
            });
            let is_gone = match &set.owner {
                DmOwner::Lvm { vg, lv } => lvm::is_gone(ctx, vg, lv, slot),
                DmOwner::Bare => set.unreadable.contains(&slot),
            };
            if may_be_good && is_gone {
                gone.push(slot.to_string());
            }
            may_be_good && !is_gone
        })
        .collect();
    let failed = layout.and_then(|layout| raid::failed(level, layout, &left));
    if failed != Some(true) || gone.is_empty() {
        return Ok(());
    }
    let what = match set.owner {
        DmOwner::Lvm { .. } => "the physical volume of leg",
        DmOwner::Bare => "what can be read of leg",
    };
    Err(Error::StatusFailed {
        lun: array.name.clone(),
        why: format!(
            "{what} {} is gone too, and nothing else has its data",
            gone.join(", ")
        ),
    })
}

/// Plans for a raid set that has slots without a leg in sync.
///
/// # Errors
/// [`Error::NoSpare`], [`Error::SparesTooSmall`] or [`Error::DriveRefused`] when nobody can take over.
pub(super) fn mend(
    view: &View<'_>,
    set: &DmRaidFacts,
    chosen: Option<DriveId>,
) -> Result<Plan, Error> {
    match &set.owner {
        DmOwner::Lvm { vg, lv } => lvm::mend(view, vg, lv, chosen),
        DmOwner::Bare => bare::mend(view, set, chosen),
    }
}

/// Plans for what a recovery has left behind when every leg is in sync; [`None`]: nothing.
pub(super) fn tidy(view: &View<'_>) -> Option<Plan> {
    let set = view.ctx.array.dm()?;
    match &set.owner {
        DmOwner::Lvm { .. } => None,
        DmOwner::Bare => bare::tidy(view, set),
    }
}

/// Devices whose superblocks have to go when what this action lays is in sync.
#[must_use]
pub fn outlived(inventory: &Inventory, array: &ArrayFacts, action: &Action) -> Vec<DriveId> {
    match (array.dm(), action) {
        (Some(set), Action::ReplaceLeg { .. }) => bare::outlived(inventory, array, set),
        _ => Vec::new(),
    }
}

/// Why what runs on a raid set cannot be stopped; [`None`] where it can.
#[must_use]
pub fn refuse_cancel(array: &ArrayFacts, phase: Phase, release_spare: bool) -> Option<Error> {
    let set = array.dm()?;
    let why = match (&set.owner, phase) {
        (DmOwner::Lvm { .. }, _) if release_spare => {
            "LVM has no way back from a leg that is being replaced; without releasing the spare it can \
             be held"
        }
        (DmOwner::Lvm { .. }, Phase::Check | Phase::Repair) => {
            "LVM has no way to stop a check or a repair that it has begun"
        }
        (DmOwner::Lvm { .. }, _) => return None,
        (DmOwner::Bare, _) if release_spare => return bare::refuse_release(array),
        (DmOwner::Bare, _) => return None,
    };
    Some(Error::NotSupported {
        object: array.name.clone(),
        what: "stopping it".to_owned(),
        why: why.to_owned(),
    })
}

/// Takes a leg back.
fn revive(view: &View<'_>, member: &Member<'_>, what: &str) -> Result<Plan, Error> {
    let rule = format!("{what}, and the bitmap tells what it has missed");
    let mut draft = Draft::new(view, Phase::ReAdd, rule);
    let (array, drive) = (view.name(), member.target(&view.name())?);
    draft.target(drive.clone());
    draft.step(
        Action::Revive { array, drive },
        "only what was written meanwhile is copied to it",
    );
    // How much that is only the bitmap knows: no estimate.
    Ok(draft.finish(0))
}

/// A table that somebody has loaded and not resumed.
fn half_loaded(ctx: &Context<'_>, set: &DmRaidFacts) -> Result<(), Error> {
    if !set.inactive_table {
        return Ok(());
    }
    let why = format!(
        "somebody has loaded a second table, which waits for a resume (`dmsetup table --inactive {}`)",
        set.name
    );
    Err(not_ready(ctx, why))
}
