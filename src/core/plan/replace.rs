//! A member that still works gives way to another drive, so that redundancy never drops: of its own
//! accord for a member that is failing, or as `IVdsSubSystem::ReplaceDrive` asks.

use crate::Error;
use crate::action::{Action, SyncWord};
use crate::id::DriveId;
use crate::model::Phase;

use super::Plan;
use super::check::replaceable;
use super::draft::Draft;
use super::mend::{clear_slots, mend, shortage};
use super::spare::{Candidate, Method, Need, judge_spares};
use super::view::{Member, Part, View};

/// Plans `ReplaceDrive`.
///
/// A member that works is copied first and retired afterwards; one that is faulty or gone is
/// rebuilt onto the new drive and then detached. While another member is missing a working one is
/// not replaced. A drive that is no member any more has been retired by this very operation;
/// whether it ever was one is for [`super::check()`] to say, before there is an operation.
///
/// # Errors
/// As [`super::plan()`]; also [`Error::InvalidArgument`] and [`Error::ObjectNotFound`] about the
/// drive.
pub(super) fn replace(
    view: &View<'_>,
    drive: DriveId,
    with: Option<DriveId>,
) -> Result<Plan, Error> {
    let degraded = !view.bad_slots().is_empty();
    let Some(member) = view.member(drive) else {
        if degraded {
            return mend(view, with, Some(drive));
        }
        // A member whose drive has vanished may be the very one.
        if let Some(unknown) = view.in_sync().find(|member| member.target.is_none()) {
            unknown.target(&view.name())?;
        }
        if view.ctx.op.is_none() {
            replaceable(view, drive)?;
        }
        let draft = Draft::new(view, Phase::None, "the drive is a member no more");
        return Ok(draft.finish(0));
    };
    match member.part {
        Part::Faulty(_) if degraded => mend(view, with, Some(drive)),
        Part::Faulty(_) => remove_retired(view, member),
        _ => {
            replaceable(view, drive)?;
            match resume(view)? {
                Some(plan) => Ok(plan),
                None => copy_away(view, member, with),
            }
        }
    }
}

/// Row 1 for replacements: one that has begun continues.
///
/// # Errors
/// [`Error::LunNotReady`] when a drive in it cannot be identified.
pub(super) fn resume(view: &View<'_>) -> Result<Option<Plan>, Error> {
    let replacing = view.replacing();
    if replacing.is_empty() {
        return Ok(None);
    }
    let rule = "an interrupted replacement continues from its checkpoint";
    let mut draft = Draft::new(view, Phase::Replace, rule);
    draft.wake();
    draft.start(
        SyncWord::Recover,
        "the replacement continues where it stopped",
    );
    let name = view.name();
    for member in &replacing {
        draft.target(member.target(&name)?);
        if let Some(old) = member.part.slot().and_then(|slot| view.good_in(slot)) {
            draft.retires(old.target(&name)?);
        }
    }
    Ok(Some(draft.finish_targets()))
}

/// Copies a working member onto the best spare; the kernel retires it when the copy is complete.
///
/// # Errors
/// [`Error::NoSpare`] (with nothing missing), [`Error::SparesTooSmall`] or
/// [`Error::DriveRefused`] when no drive fits.
pub(super) fn copy_away(
    view: &View<'_>,
    member: &Member<'_>,
    chosen: Option<DriveId>,
) -> Result<Plan, Error> {
    let old = member.target(&view.name())?;
    let need = Need {
        holes: Vec::new(),
        chosen,
        retiring: Some(old.id),
    };
    let candidates = judge_spares(&view.ctx, &need);
    let Some(pick) = candidates
        .iter()
        .find(|candidate| candidate.fits())
        .cloned()
    else {
        return Err(shortage(view, chosen, 0, &candidates));
    };
    Ok(copy_onto(view, member, &pick, candidates, old))
}

fn copy_onto(
    view: &View<'_>,
    member: &Member<'_>,
    pick: &Candidate,
    candidates: Vec<Candidate>,
    old: crate::action::Target,
) -> Plan {
    let rule = if pick.method == Method::Start {
        "a failing member is copied onto an attached spare, then retired"
    } else {
        "a failing member is copied onto a spare, then retired"
    };
    let mut draft = Draft::new(view, Phase::Replace, rule).candidates(candidates);
    draft.wake();
    // An earlier replacement that failed may linger in the slot.
    if let Some(slot) = member.part.slot() {
        clear_slots(view, &[slot], &mut draft);
    }
    draft.freeze();
    draft.attach(pick);
    let array = view.name();
    if !member.wants_replacement() {
        draft.step(
            Action::WantReplacement {
                array: array.clone(),
                drive: old.clone(),
            },
            "it keeps serving until its copy is complete",
        );
    }
    if let Some(slot) = member.part.slot() {
        draft.step(
            Action::SetSlot {
                array,
                drive: pick.drive.clone(),
                slot,
            },
            "this drive and no other takes its place",
        );
    }
    draft.start(SyncWord::Recover, "everything is in place");
    draft.retires(old);
    draft.finish_targets()
}

/// A member that a finished replacement of this operation has left behind: faulty and out of its
/// slot. A member that failed by itself stays listed for its owner to see.
pub(super) fn retired<'v, 'a>(view: &'v View<'a>) -> Option<&'v Member<'a>> {
    view.members.iter().find(|m| {
        let retiring = m
            .target
            .as_ref()
            .is_some_and(|target| view.ctx.retiring.contains(&target.id));
        m.part == Part::Faulty(None) && (retiring || m.wants_replacement())
    })
}

/// Detaches a member that has been replaced; every slot has a good member.
///
/// # Errors
/// [`Error::LunNotReady`] when its drive cannot be identified.
pub(super) fn remove_retired(view: &View<'_>, member: &Member<'_>) -> Result<Plan, Error> {
    let drive = member.target(&view.name())?;
    let rule = "the member that was replaced is detached";
    let mut draft = Draft::new(view, Phase::Replace, rule);
    draft.wake();
    let array = view.name();
    draft.step(
        Action::RemoveMember {
            array,
            drive: drive.clone(),
        },
        "its successor has taken over",
    );
    draft.retires(drive);
    Ok(draft.finish(0))
}
