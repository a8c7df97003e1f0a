//! Raid sets of device-mapper: what may be done about them.
//!
//! No action of md is ever planned for one: it has no `sync_action`, and its superblocks are not
//! `mdadm`'s. This is the one place where a plan for it would begin.

use super::{Context, Request};
use crate::Error;
use crate::facts::{ArrayFacts, DmOwner};

/// Refuses whatever would change a raid set, with what to use instead.
///
/// # Errors
/// [`Error::NotSupported`] for every raid set of device-mapper.
pub(super) fn refuse(request: &Request, ctx: &Context<'_>) -> Result<(), Error> {
    let Some(set) = ctx.array.dm() else {
        return Ok(());
    };
    let what = match request {
        Request::Recover { .. } => "recovery",
        Request::Replace { .. } => "replacing a drive",
        Request::Verify => "verification",
    };
    let why = match &set.owner {
        DmOwner::Lvm { vg, lv } => format!(
            "it is an LVM volume, whose metadata LVM alone may change: `lvconvert --repair {vg}/{lv}` \
             replaces a failed leg, `lvchange --refresh {vg}/{lv}` takes a returned one back"
        ),
        DmOwner::Bare => {
            "it is a raid set made with dmsetup, whose table its maker has to change".to_owned()
        }
    };
    Err(Error::NotSupported {
        object: ctx.array.name.clone(),
        what: what.to_owned(),
        why,
    })
}

/// Why what the kernel does on a raid set cannot be stopped; [`None`] for an array of md. To stop it
/// takes a word to the target that kernels from 6.9 do not keep, or another table.
#[must_use]
pub fn refuse_cancel(array: &ArrayFacts) -> Option<Error> {
    let set = array.dm()?;
    let owner = match set.owner {
        DmOwner::Lvm { .. } => "LVM",
        DmOwner::Bare => "its maker",
    };
    Some(Error::NotSupported {
        object: array.name.clone(),
        what: "stopping a recovery".to_owned(),
        why: format!("the table of a raid set of device-mapper belongs to {owner}"),
    })
}
