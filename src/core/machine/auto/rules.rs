//! The rules, in their order: from how a LUN stands to what follows. Pure, and the same for the same case.

use crate::Error;
use crate::id::{Mono, Now, OpId, Wall};
use crate::model::{AutoRule, AutoVerdict, Lun, LunStatus, Phase};
use crate::plan::{Method, Plan, Verdict};
use crate::policy::{AutoMode, Recovery};

/// Pauses after failed attempts, milliseconds: after as many no more is tried with the same drives.
pub(super) const BACK_OFF_MS: [u64; 3] = [60_000, 300_000, 1_800_000];

/// How a LUN that lost redundancy stands, as far as it is known without a look into drives.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is one observation")]
pub(super) struct Standing<'a> {
    pub(super) lun: &'a Lun,
    pub(super) settings: Recovery,
    /// What is known of it contradicts itself.
    pub(super) contradicted: bool,
    /// An operation of the books is unfinished.
    pub(super) operation: Option<OpId>,
    /// The kernel copies or compares.
    pub(super) syncing: bool,
    /// A write of ours is under way outside of operations.
    pub(super) written_to: bool,
    pub(super) frozen: bool,
    pub(super) runs: bool,
}

/// What was tried before and has not helped, since the LUN was last whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attempts {
    /// How many.
    pub(super) count: usize,
    /// When the last one ended.
    pub(super) ended_at: Wall,
    /// The plan fills a drive that none of them has tried.
    pub(super) fresh: bool,
}

/// What is needed beyond that once there is a plan.
#[derive(Debug, Clone)]
pub(super) struct Prospect<'a> {
    pub(super) now: Now,
    /// Members may still be found after a start of the host, until then.
    pub(super) assembly: Option<Deadline>,
    /// Members that went together, by name, and through which parent.
    pub(super) together: Option<(Vec<String>, String)>,
    /// Lost members are given until then.
    pub(super) grace: Option<Deadline>,
    pub(super) attempts: Attempts,
    /// Another LUN on the same disks that is at work.
    pub(super) neighbour: Option<&'a str>,
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    pub(super) mono: Mono,
    pub(super) wall: Wall,
}

impl Deadline {
    /// A moment in the future.
    pub(super) const fn after(now: Now, ms: u64) -> Self {
        Self {
            mono: now.mono.after(ms),
            wall: Wall(now.wall.0.saturating_add(ms)),
        }
    }
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) rule: AutoRule,
    pub(super) verdict: AutoVerdict,
    pub(super) reason: String,
    /// When to look again without any event.
    pub(super) wake: Option<Mono>,
}

impl Ruling {
    fn leave(rule: AutoRule, reason: impl Into<String>) -> Self {
        Self::new(rule, AutoVerdict::Leave, reason)
    }

    fn wait(rule: AutoRule, reason: impl Into<String>) -> Self {
        Self::new(rule, AutoVerdict::Wait { ends_at_ms: None }, reason)
    }

    fn wait_until(rule: AutoRule, until: Deadline, reason: impl Into<String>) -> Self {
        let ends_at_ms = Some(until.wall);
        Self {
            wake: Some(until.mono),
            ..Self::new(rule, AutoVerdict::Wait { ends_at_ms }, reason)
        }
    }

    fn act(rule: AutoRule, reason: impl Into<String>) -> Self {
        Self::new(rule, AutoVerdict::Act, reason)
    }

    fn new(rule: AutoRule, verdict: AutoVerdict, reason: impl Into<String>) -> Self {
        Self {
            rule,
            verdict,
            reason: reason.into(),
            wake: None,
        }
    }

    /// Whether the drives of the plan are meant for this LUN, and no other may take them meanwhile.
    pub(super) const fn keeps_its_drives(&self) -> bool {
        matches!(
            self.rule,
            AutoRule::Grace | AutoRule::Assembly | AutoRule::SharedDisks | AutoRule::BackOff
        )
    }
}

/// What can be said before any drive is looked into; [`None`]: a plan is needed.
pub(super) fn at_first_sight(case: &Standing<'_>) -> Option<Ruling> {
    let lun = case.lun;
    if case.settings.mode == AutoMode::Off {
        return Some(Ruling::leave(
            AutoRule::ModeOff,
            "automatic recovery is off for it",
        ));
    }
    if case.contradicted {
        let why = "what is known of it and what the kernel says contradict each other";
        return Some(Ruling::wait(AutoRule::Unclear, why));
    }
    if lun.held {
        let why = "its recovery was cancelled and is held until somebody recovers or releases it";
        return Some(Ruling::leave(AutoRule::Held, why));
    }
    if let Some(op) = case.operation {
        return Some(Ruling::wait(
            AutoRule::AtWork,
            format!("operation {op} is at work on it"),
        ));
    }
    if case.syncing || case.written_to {
        return Some(Ruling::wait(
            AutoRule::AtWork,
            "the kernel is at work on it",
        ));
    }
    if let Some(why) = &lun.unsupported {
        return Some(Ruling::leave(AutoRule::BeyondRecovery, why.clone()));
    }
    if !lun.fault_tolerant {
        return Some(Ruling::leave(
            AutoRule::BeyondRecovery,
            "its level has no redundancy",
        ));
    }
    if lun.status == LunStatus::Failed {
        let why = "it has lost more members than its level survives";
        return Some(Ruling::leave(AutoRule::BeyondRecovery, why));
    }
    if case.frozen {
        return Some(Ruling::leave(
            AutoRule::FrozenByOthers,
            "somebody froze it, and it was not lund",
        ));
    }
    if !case.runs || lun.read_only {
        let why = if case.runs {
            "it is read-only"
        } else {
            "it does not run"
        };
        return Some(Ruling::wait(AutoRule::NotWritable, why));
    }
    // What wakes it might be a host that resumes from hibernation: nothing may be written before.
    lun.auto_read_only
        .then(|| Ruling::wait(AutoRule::NotWritable, "it waits for its first write"))
}

/// With a plan, or the reason why there is none.
pub(super) fn with_a_plan(
    case: &Standing<'_>,
    planned: &Result<Plan, Error>,
    prospect: &Prospect<'_>,
) -> Ruling {
    let plan = match planned {
        Ok(plan) => plan,
        Err(error) => return without_a_plan(error),
    };
    if plan.phase == Phase::None || (plan.targets.is_empty() && plan.steps.is_empty()) {
        return Ruling::wait(
            AutoRule::Unclear,
            "nothing is seen that could be done about it",
        );
    }
    let returns = plan.phase == Phase::ReAdd;
    if !returns && let Some(ruling) = patience(prospect) {
        return ruling;
    }
    if let Some(ruling) = after_attempts(prospect) {
        return ruling;
    }
    let drives: Vec<String> = plan
        .targets
        .iter()
        .map(|t| format!("/dev/{}", t.name))
        .collect();
    let what = format!("{} ({})", plan.rule, drives.join(", "));
    if case.settings.mode == AutoMode::Notify {
        let name = &case.lun.name;
        let why = format!("the mode is notify: `lunctl recover {name}` does it: {what}");
        return Ruling::leave(AutoRule::ModeNotify, why);
    }
    if let Some(other) = prospect.neighbour {
        let why = format!("{other} lies on the same disks and is being recovered first");
        return Ruling::wait(AutoRule::SharedDisks, why);
    }
    let joins = |candidate: &crate::plan::Candidate| {
        candidate.verdict == Verdict::Taken && !matches!(candidate.method, Method::ReAdd { .. })
    };
    let rule = match returns {
        true => AutoRule::ReAdd,
        false if plan.candidates.iter().any(joins) => AutoRule::Spare,
        false => AutoRule::Resume,
    };
    Ruling::act(rule, what)
}

fn without_a_plan(error: &Error) -> Ruling {
    match error {
        Error::NoSpare { .. } | Error::SparesTooSmall { .. } | Error::DriveRefused { .. } => {
            Ruling::leave(AutoRule::NoSpare, error.to_string())
        }
        Error::NotSupported { .. }
        | Error::NotFaultTolerant { .. }
        | Error::StatusFailed { .. } => Ruling::leave(AutoRule::BeyondRecovery, error.to_string()),
        other => Ruling::wait(AutoRule::Unclear, other.to_string()),
    }
}

/// Whether lost members are waited for.
fn patience(prospect: &Prospect<'_>) -> Option<Ruling> {
    if let Some(until) = prospect.assembly {
        let why = "the host was started a moment ago: members may still be found";
        return Some(Ruling::wait_until(AutoRule::Assembly, until, why));
    }
    if let Some((names, parent)) = &prospect.together {
        let why = format!(
            "{} went at once through one parent ({parent}): they are waited for, and no spare is spent",
            names.join(", ")
        );
        return Some(Ruling::wait(AutoRule::CommonCause, why));
    }
    let until = prospect.grace?;
    let why = "what was lost is given a while to come back before a spare takes its place";
    Some(Ruling::wait_until(AutoRule::Grace, until, why))
}

/// Whether attempts that failed forbid another one, or put it off.
fn after_attempts(prospect: &Prospect<'_>) -> Option<Ruling> {
    let Attempts {
        count,
        ended_at,
        fresh,
    } = prospect.attempts;
    if count == 0 || fresh {
        return None;
    }
    let Some(pause) = BACK_OFF_MS.get(count - 1) else {
        let why =
            format!("{count} attempts have not helped: it waits for another drive, or for a call");
        return Some(Ruling::leave(AutoRule::GivenUp, why));
    };
    let due = ended_at.0.saturating_add(*pause);
    let left = due.saturating_sub(prospect.now.wall.0).min(*pause);
    (left > 0).then(|| {
        let until = Deadline {
            mono: prospect.now.mono.after(left),
            wall: Wall(due),
        };
        let why = format!("{count} attempts have not helped: the next one waits");
        Ruling::wait_until(AutoRule::BackOff, until, why)
    })
}
