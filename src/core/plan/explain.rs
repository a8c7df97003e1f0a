//! Why a LUN is as it is, what would be done about it now, and what would change that.

use serde::{Deserialize, Serialize};

use crate::facts::{DeviceFacts, Fact};
use crate::id::{DriveId, OpId};
use crate::model::{Decision, Lun};
use crate::{Error, Hresult};

use super::spare::{Candidate, Need, Verdict, judge_spares};
use super::view::View;
use super::{Context, Plan, Request, check, fit, plan};

/// The reasoning about one LUN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The LUN as it is.
    pub lun: Lun,
    /// What a recovery would do now; [`None`]: it is refused.
    pub plan: Option<Plan>,
    /// Why a recovery is refused now; [`None`]: it is not.
    pub refusal: Option<Refusal>,
    /// Every drive that was considered, the best first.
    pub candidates: Vec<Explained>,
    /// Idle, blank drives that were not considered: nobody has registered them.
    pub unregistered: Vec<Bystander>,
    /// What was decided to do by itself, last; [`None`] of a LUN that misses nothing, or right after a start.
    #[serde(default)]
    pub decision: Option<Decision>,
}

/// Why a call would be refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// HRESULT.
    pub hresult: Hresult,
    /// Its name.
    pub hresult_name: String,
    /// One sentence.
    pub message: String,
    /// What would change it.
    pub hint: Option<String>,
}

/// A candidate, and what would change the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The candidate and the rule that took or rejected it.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// What would change the verdict; [`None`] where nothing would.
    pub change: Option<String>,
}

/// A drive that lies idle and is nobody's spare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bystander {
    /// Identity.
    pub id: DriveId,
    /// Node, `/dev/sdb`.
    pub device: String,
    /// Lasting name.
    pub stable_name: String,
    /// Size, bytes.
    pub size_bytes: u64,
    /// Why it was not considered.
    pub reason: String,
    /// What would change that; [`None`] where nothing would.
    pub change: Option<String>,
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let hresult = error.hresult();
        Self {
            hresult,
            hresult_name: hresult.name().to_owned(),
            message: error.to_string(),
            hint: error.hint(),
        }
    }
}

/// Explains a LUN: plans a recovery as a dry run would, and judges every drive even where there is
/// nothing to plan. `busy` is our own operation on it.
#[must_use]
pub fn explain(ctx: &Context<'_>, busy: Option<(OpId, String)>) -> Explanation {
    let request = Request::Recover {
        spare: None,
        repair: false,
    };
    let planned = check(&request, ctx, busy).and_then(|()| plan(&request, ctx));
    let judged = match &planned {
        Ok(plan) if !plan.candidates.is_empty() => plan.candidates.clone(),
        _ => judge_spares(ctx, &need(ctx)),
    };
    let unregistered = bystanders(ctx, &judged);
    let (plan, refusal) = match planned {
        Ok(plan) => (Some(plan), None),
        Err(error) => (None, Some(Refusal::from(&error))),
    };
    Explanation {
        lun: ctx.lun.clone(),
        plan,
        refusal,
        candidates: judged
            .into_iter()
            .map(|candidate| explained(ctx, candidate))
            .collect(),
        unregistered,
        decision: None,
    }
}

/// What is missing now. A LUN of which that is not known needs nothing in particular.
fn need(ctx: &Context<'_>) -> Need {
    let holes = View::of(ctx).map_or_else(|_| Vec::new(), |view| view.holes());
    Need {
        holes,
        ..Need::default()
    }
}

fn explained(ctx: &Context<'_>, candidate: Candidate) -> Explained {
    let name = candidate.name();
    let lun = &ctx.array.name;
    let change = match &candidate.verdict {
        Verdict::Rejected(unfit) => unfit.hint(&name),
        Verdict::Fits { .. } if fit_to_be_named(ctx) => {
            Some(format!("`lunctl recover {lun} --spare {name}` takes it"))
        }
        Verdict::Fits { .. } | Verdict::Taken => None,
    };
    Explained { candidate, change }
}

/// Naming a spare helps only where one is wanted.
fn fit_to_be_named(ctx: &Context<'_>) -> bool {
    crate::project::is_degraded(ctx.array)
}

/// Idle, blank drives that are not among the candidates.
fn bystanders(ctx: &Context<'_>, judged: &[Candidate]) -> Vec<Bystander> {
    let known = |id: DriveId| {
        judged.iter().any(|candidate| candidate.drive.id == id)
            || ctx.pool.iter().any(|entry| entry.id == id)
    };
    ctx.inventory
        .devices
        .values()
        .filter(|device| device.size_bytes > 0 && !known(device.id))
        .filter(|device| fit::unwritable(ctx.inventory, device, None).is_none())
        .filter(|device| looks_blank(ctx, device))
        .map(|device| bystander(ctx, device))
        .collect()
}

/// Nothing is known to be written on it. Where nobody has looked, the registration will.
fn looks_blank(ctx: &Context<'_>, device: &DeviceFacts) -> bool {
    if device.udev_signature.is_some() {
        return false;
    }
    let probe = ctx.inventory.probes.get(&device.dev);
    probe.is_none_or(|probe| {
        probe.signatures.is_known_and(Vec::is_empty) && matches!(probe.md, Fact::Known(None))
    })
}

fn bystander(ctx: &Context<'_>, device: &DeviceFacts) -> Bystander {
    let name = format!("/dev/{}", device.name);
    let (reason, change) = match fit::unsuited(ctx.inventory, ctx.array, device) {
        None => (
            "it would fit, and is not registered as a spare".to_owned(),
            Some(format!("`lunctl spare add {name}` registers it")),
        ),
        Some(unfit) => (
            format!("it is not registered as a spare, and: {}", unfit.text()),
            unfit.hint(&name),
        ),
    };
    Bystander {
        id: device.id,
        device: name,
        stable_name: device.stable_name.clone(),
        size_bytes: device.size_bytes,
        reason,
        change,
    }
}
