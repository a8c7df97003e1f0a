//! What to do next about a LUN: the first rule that applies.

use crate::Error;
use crate::action::{Action, SyncWord};
use crate::facts::SyncAction;
use crate::id::DriveId;
use crate::model::Phase;

use super::check::{never_possible, settled, verify_refusal, writable};
use super::draft::Draft;
use super::mend::mend;
use super::replace::{self, copy_away, remove_retired, retired};
use super::spare::{Need, judge_spares};
use super::view::{Member, View};
use super::{Context, Plan, Request, Step};

/// Plans the next phase of what was asked for.
///
/// It is convergent: asked again after a step, with fresh facts and fresh probes of the drives
/// that the step touched, it leaves out what has been done. It never plans for a LUN that has
/// failed. What already runs is waited for (a plan without steps), whatever it is; what else is to
/// be done is planned when it is over. [`Phase::None`] ends it, except that nothing in the facts
/// tells that a check or a repair has been made: after such a phase the caller is done.
///
/// A drive that [`Action::Wipe`](crate::action::Action) erases must be in
/// [`Context::added`] from then on: a former member has lost the superblock by which it was known.
///
/// # Errors
/// The refusals of [`super::check()`] that may come true while an operation runs;
/// [`Error::NoSpare`], [`Error::SparesTooSmall`] and [`Error::DriveRefused`] when nobody can take
/// over. The same errors after a phase that went well mean that the slots which that phase's
/// `leaves_missing` counted are what remains.
pub fn plan(request: &Request, ctx: &Context<'_>) -> Result<Plan, Error> {
    never_possible(request, ctx)?;
    writable(ctx)?;
    let view = View::of(ctx)?;
    if let Some(action) = view.running {
        return waiting(&view, action);
    }
    super::dm::refuse(request, ctx)?;
    let plan = match request {
        Request::Recover { spare, repair } => recover(&view, *spare, *repair),
        Request::Replace { drive, with } => replace::replace(&view, *drive, *with),
        Request::Verify => return verify(&view),
    }?;
    let done = plan.phase == Phase::None && view.bad_slots().is_empty();
    if done && ctx.unproven {
        return Ok(rewrite(&view, None));
    }
    Ok(without_vanished(&view, plan))
}

/// Members without data whose device is gone are dropped before anything else is done: the kernel
/// would go on filling them until it meets an error.
fn without_vanished(view: &View<'_>, mut plan: Plan) -> Plan {
    let wakes = |step: &Step| matches!(step.action, Action::MakeReadWrite { .. });
    if plan.steps.is_empty() {
        return plan;
    }
    let at = usize::from(plan.steps.first().is_some_and(wakes));
    let drops = view.vanished.iter().map(|member| Step {
        action: Action::DropVanished {
            array: view.name(),
            member: (*member).to_owned(),
        },
        why: "its device is gone, and the kernel has not noticed".to_owned(),
    });
    plan.steps.splice(at..at, drops);
    plan
}

/// The kernel is at work: wait for it.
fn waiting(view: &View<'_>, action: SyncAction) -> Result<Plan, Error> {
    let filling = view.rebuilding();
    let replacing = view.replacing();
    let copies_only = filling.is_empty() && !replacing.is_empty();
    let phase = match (Phase::of_action(action), copies_only) {
        (Some(Phase::Rebuild), true) => Phase::Replace,
        (Some(phase), _) => phase,
        (None, _) => {
            let doing = "it is being reshaped".to_owned();
            return Err(Error::AnotherCall {
                lun: view.name(),
                op: None,
                doing,
            });
        }
    };
    let holes = view.holes();
    let need = Need {
        holes: holes.clone(),
        ..Need::default()
    };
    let candidates = if holes.is_empty() {
        Vec::new()
    } else {
        judge_spares(&view.ctx, &need)
    };
    let covered = candidates
        .iter()
        .filter(|candidate| candidate.fits())
        .count();
    let mut draft = Draft::new(view, phase, "it is under way already")
        .candidates(candidates)
        .leaves_missing(holes.len().saturating_sub(covered));
    let name = view.name();
    let targets = if copies_only { &replacing } else { &filling };
    for member in targets {
        draft.target(member.target(&name)?);
        if let Some(old) = member.part.slot().and_then(|slot| view.good_in(slot)) {
            draft.retires(old.target(&name)?);
        }
    }
    Ok(draft.finish(targets.len().max(1)))
}

fn recover(view: &View<'_>, chosen: Option<DriveId>, repair: bool) -> Result<Plan, Error> {
    if !view.bad_slots().is_empty() {
        return match view.ctx.array.dm() {
            Some(set) => super::dm::mend(view, set, chosen),
            None => mend(view, chosen, None),
        };
    }
    settled(view)?;
    if let Some(plan) = super::dm::tidy(view) {
        return Ok(plan);
    }
    if let Some(member) = retired(view)
        && !view.read_auto()
    {
        return remove_retired(view, member);
    }
    if let Some(plan) = replace::resume(view)? {
        return Ok(plan);
    }
    let repair = repair || view.ctx.unproven;
    // A member that fails and still works is no affair of automatic recovery.
    let failing = match view.ctx.aside {
        Some(_) => Vec::new(),
        None => view.failing(),
    };
    let first = failing.first().copied();
    let dirty = view.dirty()?;
    // A dirty raid10 lets no replacement in: it is brought in step first, the copy comes next.
    if let Some(member) = first
        && !(dirty && view.refuses_spares())
    {
        match copy_away(view, member, chosen) {
            // Without a spare the rest can still be done, unless this drive was insisted on.
            Err(Error::NoSpare { .. } | Error::SparesTooSmall { .. })
                if chosen.is_none() && (dirty || repair) => {}
            other => return other,
        }
    }
    if dirty {
        return Ok(in_step(view, first));
    }
    if repair {
        return Ok(rewrite(view, first));
    }
    Ok(nothing(view))
}

/// Row 6, and row 1 where it was held: mirrors or parity are brought in step.
fn in_step(view: &View<'_>, failing: Option<&Member<'_>>) -> Plan {
    let rule = if view.ctx.lun.held {
        "a held resync continues from its checkpoint"
    } else {
        "copies or parity are not in step"
    };
    let mut draft = Draft::new(view, Phase::Resync, rule).candidates(considered(view, failing));
    draft.wake();
    draft.start(SyncWord::Resync, "copies or parity are brought in step");
    draft.finish(1)
}

/// Row 6 with `--repair`, or after a fill that the host's going down came into.
fn rewrite(view: &View<'_>, failing: Option<&Member<'_>>) -> Plan {
    let rule = if view.ctx.unproven {
        "a copy was being filled when the host went down, and what was written in that moment may differ"
    } else {
        "what differs is rewritten, as asked for"
    };
    let mut draft = Draft::new(view, Phase::Repair, rule).candidates(considered(view, failing));
    draft.wake();
    draft.at_full_rate();
    draft.whole_range();
    draft.start(SyncWord::Repair, "what differs is rewritten");
    draft.finish(1)
}

/// Drives that were considered for a failing member in vain.
fn considered(view: &View<'_>, failing: Option<&Member<'_>>) -> Vec<super::Candidate> {
    let Some(member) = failing else {
        return Vec::new();
    };
    let retiring = member.target.as_ref().map(|target| target.id);
    judge_spares(
        &view.ctx,
        &Need {
            retiring,
            ..Need::default()
        },
    )
}

/// Row 7. A freeze that is left over disables hot spares and says so nowhere: it is lifted.
fn nothing(view: &View<'_>) -> Plan {
    if view.frozen() {
        let rule = "nothing is left to recover, the freeze is lifted";
        let mut draft = Draft::new(view, Phase::Resync, rule);
        draft.start(
            SyncWord::Idle,
            "a frozen array does not react to the next failure",
        );
        return draft.finish(0);
    }
    let unread: Vec<&str> = view
        .in_sync()
        .filter(|member| member.facts.bad_blocks.known().is_none())
        .map(|member| member.facts.name.as_str())
        .collect();
    let rule = if unread.is_empty() {
        "nothing is wrong".to_owned()
    } else {
        format!(
            "nothing is known to be wrong (bad blocks of {} unread)",
            unread.join(", ")
        )
    };
    Draft::new(view, Phase::None, rule).finish(0)
}

fn verify(view: &View<'_>) -> Result<Plan, Error> {
    verify_refusal(view)?;
    let mut draft = Draft::new(view, Phase::Check, "all copies are read and compared");
    draft.wake();
    draft.at_full_rate();
    draft.whole_range();
    draft.start(SyncWord::Check, "all copies are read and compared");
    Ok(draft.finish(1))
}
