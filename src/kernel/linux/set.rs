//! The actions on raid sets of device-mapper: those that LVM owns are changed by LVM alone.

use lun_core::Error;
use lun_core::action::Action;
use lun_core::facts::DmOwner;

use super::tool::Tools;
use super::{Roots, bare, dm, lvm};

/// Performs one action on the raid set called so in device-mapper.
pub(crate) fn act(roots: &Roots, tools: &Tools, name: &str, action: &Action) -> Result<(), Error> {
    match dm::owner(roots, name)? {
        DmOwner::Lvm { vg, lv } => lvm::act(roots, tools, name, &(vg, lv), action),
        DmOwner::Bare => bare::act(roots, tools, name, action),
    }
}

/// The refusal of an action that is none for this kind of array.
pub(crate) fn not_for(array: &str, action: &Action, why: &str) -> Error {
    Error::NotSupported {
        object: array.to_owned(),
        what: format!("to {action}"),
        why: why.to_owned(),
    }
}
