//! Which LUNs the spares at hand could serve, and what has to be bought where they could not.

use std::collections::BTreeMap;

use crate::error::Unfit;
use crate::facts::{ArrayFacts, DmOwner, Inventory};
use crate::id::DriveId;
use crate::model::{Coverage, DriveWanted, Lun, PoolEntry, Retired};

use super::register::takes_spares;
use super::view::{Part, part};
use super::{Reservation, fit};

/// Whether a spare would be there for this LUN if it lost a member now; [`None`] for a LUN that takes
/// no spares. Nothing is probed for it: what is written on a drive is looked at when it is needed.
#[must_use]
pub fn coverage(
    inventory: &Inventory,
    (lun, array): (&Lun, &ArrayFacts),
    pool: &[PoolEntry],
    retired: &BTreeMap<DriveId, Retired>,
    reserved: &[Reservation],
) -> Option<Coverage> {
    // What LVM lays a new leg on is in its volume group, and judged when LVM is asked.
    let of_lvm = array
        .dm()
        .is_some_and(|set| matches!(set.owner, DmOwner::Lvm { .. }));
    if !takes_spares(array) || of_lvm {
        return None;
    }
    let mut attached: Vec<String> = array
        .members
        .iter()
        .filter(|member| part(member) == Ok(Part::Spare))
        .map(|member| format!("/dev/{}", member.name))
        .collect();
    let mut unfit = Vec::new();
    let mut fit = BTreeMap::new();
    for entry in pool {
        match serves(inventory, (lun, array), entry, retired) {
            Ok(node) => drop(fit.insert(entry.id, node)),
            Err(why) => unfit.push(why),
        }
    }
    for one in reserved {
        for drive in one.withholds(&fit.keys().copied().collect()) {
            fit.remove(&drive);
            let lun = one.lun_name.clone();
            unfit.push(Unfit::Reserved { lun });
        }
    }
    attached.extend(fit.into_values());
    let mut by = attached;
    by.sort();
    let covered = !by.is_empty();
    let reason = (!covered).then(|| shortfall(array, &unfit));
    Some(Coverage {
        lun: lun.id,
        lun_name: array.name.clone(),
        covered,
        reserves: false,
        by,
        reason,
        wants: wanted(inventory, array),
    })
}

/// Node of a drive of the pool that could serve the array, or why it could not.
fn serves(
    inventory: &Inventory,
    (lun, array): (&Lun, &ArrayFacts),
    entry: &PoolEntry,
    retired: &BTreeMap<DriveId, Retired>,
) -> Result<String, Unfit> {
    if !entry.serves(lun) {
        let to = entry.only_for.clone().unwrap_or_default();
        return Err(Unfit::Dedicated { to });
    }
    let mut found = inventory.devices.values().filter(|d| d.id == entry.id);
    let device = found.next().ok_or(Unfit::NotPresent)?;
    if let Some(retired) = retired.get(&entry.id) {
        let what = retired.text();
        return Err(Unfit::Retired { what });
    }
    if let Some(unfit) = fit::unavailable(inventory, device, None) {
        return Err(unfit);
    }
    match fit::unsuited(inventory, array, device) {
        Some(unfit) => Err(unfit),
        None => Ok(format!("/dev/{}", device.name)),
    }
}

/// Why nobody covers the array, in a clause that can follow its name.
/// What misses by least is said: a wrong block size is of the right size at least, and what is too small
/// could be used at all.
fn shortfall(array: &ArrayFacts, unfit: &[Unfit]) -> String {
    let distance = |unfit: &&Unfit| match unfit {
        Unfit::BlockSize { .. } => 0,
        Unfit::TooSmall { .. } => 1,
        Unfit::Reserved { .. } => -1,
        Unfit::MemberElsewhere { .. } | Unfit::Dedicated { .. } => 3,
        _ => 2,
    };
    match unfit.iter().min_by_key(distance) {
        None => "there is no spare".to_owned(),
        Some(Unfit::Reserved { lun }) => format!("the last spare is kept for {lun}"),
        Some(Unfit::BlockSize { array, .. }) => format!("needs {array}-byte sectors"),
        Some(Unfit::TooSmall { need_bytes, .. }) => format!("needs {need_bytes} bytes"),
        Some(Unfit::MemberElsewhere { array: other }) if *other == array.name => {
            "its spare is in use".to_owned()
        }
        Some(Unfit::MemberElsewhere { array: other }) => format!("the spare went to {other}"),
        Some(other) => format!("no spare will do: {}", other.text()),
    }
}

/// The drive that would do: as large as a member's share with its metadata, with blocks that fit, and of
/// the members' kind.
fn wanted(inventory: &Inventory, array: &ArrayFacts) -> DriveWanted {
    let overhead = fit::overhead_bytes(inventory, array);
    let mut kinds = array.members.iter().filter_map(|member| {
        let device = inventory.devices.get(member.dev.known()?)?;
        device.rotational.known().copied()
    });
    let first = kinds.next();
    DriveWanted {
        size_bytes: array
            .component_bytes
            .known()
            .map(|bytes| bytes.saturating_add(overhead)),
        logical_block_bytes: array.logical_block_bytes.known().copied(),
        rotational: first.filter(|first| kinds.all(|kind| kind == *first)),
    }
}
