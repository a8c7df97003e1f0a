//! A LUN with members missing: what was begun, former members, attached spares, the pool.

use crate::Error;
use crate::action::{Action, SyncWord};
use crate::error::Unfit;
use crate::facts::{Fact, Level, Position};
use crate::id::DriveId;
use crate::model::Phase;

use super::Plan;
use super::check::settled;
use super::draft::Draft;
use super::spare::{Candidate, Method, Need, Verdict, judge_spares, rejections};
use super::view::{Member, Part, View, not_ready};

/// Plans for a LUN that has slots without a good member. `chosen`: this drive and no other;
/// `retiring`: the drive whose slot is to be filled by another one.
///
/// # Errors
/// [`Error::NoSpare`], [`Error::SparesTooSmall`] or [`Error::DriveRefused`] when nobody can take
/// over; [`Error::LunNotReady`] while a member is between two states.
pub(super) fn mend(
    view: &View<'_>,
    chosen: Option<DriveId>,
    retiring: Option<DriveId>,
) -> Result<Plan, Error> {
    let holes = view.holes();
    let filling = view.rebuilding();
    let need = Need {
        holes: holes.clone(),
        chosen,
        retiring,
    };
    let candidates = judge_spares(&view.ctx, &need);
    let picks = picks(&candidates, holes.len());
    // A spare that joins a pass that has come some way sends it back to its beginning
    // (docs/kernel-notes.md): what has begun is finished first, and the rest planned afterwards.
    if !filling.is_empty() && (picks.is_empty() || !unstarted(view, &filling)) {
        return resume(view, &filling, &holes, candidates);
    }
    if holes.is_empty() {
        settled(view)?;
        return Err(not_ready(
            &view.ctx,
            "a missing member is still on its way".to_owned(),
        ));
    }
    if picks.is_empty() {
        let done = has_taken_over(view, chosen);
        return nobody(view, chosen, done, holes.len(), candidates);
    }
    if picks
        .iter()
        .any(|pick| matches!(pick.method, Method::ReAdd { .. }))
    {
        return Ok(re_add(view, &holes, candidates, &picks));
    }
    rebuild(view, chosen, &holes, candidates, &picks)
}

/// The best candidates, as many as there are slots to fill, and no two for the same old slot.
fn picks(candidates: &[Candidate], count: usize) -> Vec<Candidate> {
    let mut old_slots = Vec::new();
    candidates
        .iter()
        .filter(|candidate| candidate.fits())
        .filter(|candidate| match candidate.method {
            Method::ReAdd { slot } if old_slots.contains(&slot) => false,
            Method::ReAdd { slot } => {
                old_slots.push(slot);
                true
            }
            _ => true,
        })
        .take(count)
        .cloned()
        .collect()
}

/// Slots for which there is no drive, now or later.
fn uncovered(holes: &[u32], candidates: &[Candidate]) -> usize {
    holes
        .len()
        .saturating_sub(candidates.iter().filter(|c| c.fits()).count())
}

/// Members sit in slots, but not a byte was copied: drives may still join at no cost.
fn unstarted(view: &View<'_>, filling: &[&Member<'_>]) -> bool {
    view.frozen()
        && filling
            .iter()
            .all(|m| m.facts.recovery_start == Fact::Known(Position::At(0)))
}

/// Row 1: members sit in their slots, half filled or not begun.
fn resume(
    view: &View<'_>,
    filling: &[&Member<'_>],
    holes: &[u32],
    candidates: Vec<Candidate>,
) -> Result<Plan, Error> {
    let rule = if view.ctx.lun.held {
        "a held recovery continues from its checkpoint"
    } else {
        "an interrupted recovery continues from its checkpoint"
    };
    let leaves = uncovered(holes, &candidates);
    let mut draft = Draft::new(view, Phase::Rebuild, rule)
        .candidates(candidates)
        .leaves_missing(leaves);
    draft.fill_before_resync();
    draft.wake();
    draft.start(SyncWord::Recover, "the recovery continues where it stopped");
    let name = view.name();
    for member in filling {
        draft.target(member.target(&name)?);
    }
    // Attached spares are taken along by the kernel, asked or not.
    for spare in view.spares().take(holes.len()) {
        draft.target(spare.target(&name)?);
    }
    Ok(draft.finish_targets())
}

/// Row 2: former members come back with what they still know.
fn re_add(view: &View<'_>, holes: &[u32], candidates: Vec<Candidate>, picks: &[Candidate]) -> Plan {
    let leaves = uncovered(holes, &candidates);
    let rule = "a former member is back, and the bitmap tells what it has missed";
    let mut draft = Draft::new(view, Phase::ReAdd, rule)
        .candidates(candidates)
        .leaves_missing(leaves);
    draft.fill_before_resync();
    draft.wake();
    for pick in picks
        .iter()
        .filter(|pick| matches!(pick.method, Method::ReAdd { .. }))
    {
        draft.attach(pick);
    }
    if view.frozen() {
        draft.start(
            SyncWord::Recover,
            "a frozen array does not catch up by itself",
        );
    }
    // How much has changed meanwhile is known to the bitmap alone: no estimate.
    draft.finish(0)
}

/// Rows 3 and 4: spares are filled, all of them in one pass.
fn rebuild(
    view: &View<'_>,
    chosen: Option<DriveId>,
    holes: &[u32],
    candidates: Vec<Candidate>,
    picks: &[Candidate],
) -> Result<Plan, Error> {
    let leaves = uncovered(holes, &candidates);
    let attach = picks.iter().any(|pick| pick.method != Method::Start);
    let bind = must_bind(view, chosen);
    let rule = if attach {
        "the spares that fit best are added and filled"
    } else {
        "an attached spare is filled"
    };
    let mut draft = Draft::new(view, Phase::Rebuild, rule)
        .candidates(candidates)
        .leaves_missing(leaves);
    draft.fill_before_resync();
    draft.wake();
    if bind {
        clear_slots(view, holes, &mut draft);
    }
    if attach || bind {
        draft.freeze();
    }
    for pick in picks {
        draft.attach(pick);
    }
    if bind {
        for (pick, slot) in picks.iter().zip(holes) {
            let (array, drive) = (view.name(), pick.drive.clone());
            draft.step(
                Action::SetSlot {
                    array,
                    drive,
                    slot: *slot,
                },
                "left alone, the kernel might use it, or another one, elsewhere",
            );
        }
    }
    draft.start(SyncWord::Recover, "everything is in place");
    let name = view.name();
    for member in view.rebuilding() {
        draft.target(member.target(&name)?);
    }
    Ok(draft.finish_targets())
}

/// Whether drives have to be bound to the slots they shall fill. Kernels before 6.6 (raid10: 6.5)
/// let a spare replace a mirror that wants it before they fill an empty slot (docs/kernel-notes.md),
/// and any kernel takes whichever attached spare it likes. A dirty raid10 lets none in yet.
fn must_bind(view: &View<'_>, chosen: Option<DriveId>) -> bool {
    let mirrors = matches!(
        view.ctx.array.level.known(),
        Some(Level::Raid1 | Level::Raid10)
    );
    let rival = view.in_sync().any(Member::wants_replacement);
    let other_spares = chosen.is_some_and(|id| view.spares().any(|spare| !spare.is(id)));
    ((mirrors && rival) || other_spares) && !view.refuses_spares()
}

/// A failed member still occupies a slot that is to be bound: nothing drops it while the array is
/// frozen, and binding another drive to the slot is refused (`drivers/md/md.c:slot_store`). It is
/// taken out.
pub(super) fn clear_slots(view: &View<'_>, holes: &[u32], draft: &mut Draft<'_, '_>) {
    if !view.frozen() {
        return;
    }
    let in_a_hole = |member: &&Member<'_>| matches!(member.part, Part::Faulty(Some(slot)) if holes.contains(&slot));
    for member in view.members.iter().filter(in_a_hole) {
        let array = view.name();
        let action = match member.target.clone() {
            Some(drive) => Action::RemoveMember { array, drive },
            None => Action::DropVanished {
                array,
                member: member.facts.name.clone(),
            },
        };
        draft.step(
            action,
            "it failed, and holds the slot for as long as the array is frozen",
        );
    }
}

/// Whether the drive that was asked for is a member in sync.
pub(super) fn has_taken_over(view: &View<'_>, chosen: Option<DriveId>) -> bool {
    let member = chosen.and_then(|id| view.member(id));
    member.is_some_and(|member| matches!(member.part, Part::InSync(_)))
}

/// Nobody can take over. An operation whose drive has taken over (`done`) is at its end.
pub(super) fn nobody(
    view: &View<'_>,
    chosen: Option<DriveId>,
    done: bool,
    missing: usize,
    candidates: Vec<Candidate>,
) -> Result<Plan, Error> {
    if done && view.ctx.op.is_some() {
        let rule = "the drive that was asked for has taken over, other slots stay empty";
        let draft = Draft::new(view, Phase::None, rule).candidates(candidates);
        return Ok(draft.leaves_missing(missing).finish(0));
    }
    Err(shortage(view, chosen, missing, &candidates))
}

/// Why no candidate will do: about the chosen drive if there is one, else about all of them.
/// Members listed as faulty were no candidates; they are named, and do not count.
pub(super) fn shortage(
    view: &View<'_>,
    chosen: Option<DriveId>,
    missing: usize,
    candidates: &[Candidate],
) -> Error {
    let refused = candidates.iter().find(|c| Some(c.drive.id) == chosen);
    if let Some((candidate, Verdict::Rejected(unfit))) = refused.map(|c| (c, &c.verdict)) {
        return Error::DriveRefused {
            drive: candidate.name(),
            unfit: unfit.clone(),
        };
    }
    let lun = view.name();
    let rejected = rejections(candidates);
    let mut real = rejected
        .iter()
        .map(|(_, unfit)| unfit)
        .filter(|unfit| **unfit != Unfit::ListedFaulty)
        .peekable();
    let small = real.peek().is_some() && real.all(|unfit| matches!(unfit, Unfit::TooSmall { .. }));
    match view.ctx.array.component_bytes.known() {
        Some(&need_bytes) if small => Error::SparesTooSmall {
            lun,
            need_bytes,
            rejected,
        },
        _ => {
            let missing = u32::try_from(missing).unwrap_or(u32::MAX);
            Error::NoSpare {
                lun,
                missing,
                rejected,
            }
        }
    }
}
