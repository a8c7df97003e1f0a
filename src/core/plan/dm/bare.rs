//! Raid sets made with dmsetup.

use super::super::view::View;
use super::super::{Context, Plan, Request};
use crate::Error;
use crate::facts::{ArrayFacts, DmRaidFacts};
use crate::id::DriveId;

/// Nothing is planned for them yet.
pub(super) fn refuse(request: &Request, ctx: &Context<'_>) -> Result<(), Error> {
    let what = match request {
        Request::Recover { .. } => "recovery",
        Request::Replace { .. } => "replacing a drive",
        Request::Verify => "verification",
    };
    Err(not_supported(ctx.array, what))
}

fn not_supported(array: &ArrayFacts, what: &str) -> Error {
    Error::NotSupported {
        object: array.name.clone(),
        what: what.to_owned(),
        why: "it is a raid set made with dmsetup, whose table its maker has to change".to_owned(),
    }
}

/// Never reached: [`refuse`] comes first.
pub(super) fn mend(
    view: &View<'_>,
    _set: &DmRaidFacts,
    _chosen: Option<DriveId>,
) -> Result<Plan, Error> {
    Err(not_supported(view.ctx.array, "recovery"))
}

pub(super) fn refuse_cancel(array: &ArrayFacts) -> Option<Error> {
    Some(not_supported(array, "stopping a recovery"))
}
