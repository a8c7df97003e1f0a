//! Members, spares, empty slots and pool drives as VDS drives, and plexes as VDS plexes.

use uuid::Uuid;

use super::slots::{is_failing, is_good, is_running, missing_slots, occupants};
use crate::facts::{ArrayFacts, DeviceFacts, Fact, Inventory, Level, MemberFacts, Slot};
use crate::id::{DevNo, LunId};
use crate::model::{Drive, DriveFlag, DriveStatus, Health, Lun, LunStatus, LunType, Plex, Role};
use crate::model::{PoolEntry, Retired};

/// Node of a device with this kernel name, in which `/` is written `!`.
pub(super) fn node(name: &str) -> String {
    format!("/dev/{}", name.replace('!', "/"))
}

/// A name of a device that outlasts a start of the host, as far as it has one.
pub(super) fn lasting_node(inventory: &Inventory, dev: DevNo) -> String {
    let Some(device) = inventory.devices.get(&dev) else {
        return dev.to_string();
    };
    let mapped = device
        .names
        .iter()
        .find(|name| name.starts_with("/dev/mapper/"));
    let lasting = Some(&device.stable_name).filter(|name| device.names.contains(name));
    mapped
        .or(lasting)
        .cloned()
        .unwrap_or_else(|| node(&device.name))
}

/// All drives of a LUN: its members in the kernel's order, then one entry per empty slot.
pub(super) fn drives(
    inventory: &Inventory,
    array: &ArrayFacts,
    lun: LunId,
    pool: &[PoolEntry],
    last_known: Option<&Lun>,
) -> Vec<Drive> {
    let running = is_running(array) == Some(true);
    let members = array.members.iter().map(|member| {
        let device = member
            .dev
            .known()
            .and_then(|dev| inventory.devices.get(dev));
        let mut drive = member_drive(array, member, device, running, lun);
        if drive.id.is_none() {
            drive.id = last_known.and_then(|lun| {
                lun.drives
                    .iter()
                    .find(|known| known.device == drive.device)?
                    .id
            });
        }
        drive.notes.extend(metadata_note(inventory, array, member));
        drive.in_pool = pool.iter().any(|entry| Some(entry.id) == drive.id);
        drive
    });
    let empty = missing_slots(array)
        .into_iter()
        .filter(|slot| occupants(array, *slot).next().is_none())
        .map(|slot| empty_slot(slot, lun));
    members.chain(empty).collect()
}

/// Where the metadata of a leg of device-mapper lies: on a device of its own.
fn metadata_note(
    inventory: &Inventory,
    array: &ArrayFacts,
    member: &MemberFacts,
) -> Option<String> {
    let Some(Slot::At(slot)) = member.slot.known() else {
        return None;
    };
    let table = array.dm()?.table.known()?;
    let meta = table.legs.get(usize::try_from(*slot).ok()?)?.meta?;
    Some(inventory.devices.get(&meta).map_or_else(
        || format!("metadata on {meta}"),
        |device| format!("metadata on {}", node(&device.name)),
    ))
}

/// What a member is to its array.
fn role(member: &MemberFacts, running: bool) -> (Role, Option<u32>) {
    let slot = match member.slot.known() {
        Some(Slot::At(slot)) => Some(*slot),
        Some(Slot::None | Slot::Journal) | None => None,
    };
    let Some(state) = member.state.known() else {
        return (Role::Unknown, slot);
    };
    let role = if state.journal || member.slot == Fact::Known(Slot::Journal) {
        Role::Journal
    } else if state.faulty {
        Role::Faulty
    } else if !running {
        // Members of an array that is not running all look like spares.
        Role::Unknown
    } else if state.in_sync {
        Role::InSync
    } else {
        match member.slot.known() {
            Some(Slot::At(_)) if state.replacement => Role::Replacing,
            Some(Slot::At(_)) => Role::Rebuilding,
            Some(Slot::None) => Role::Spare,
            Some(Slot::Journal) => Role::Journal,
            None => Role::Unknown,
        }
    };
    (role, slot)
}

/// Flags, status and health of a drive that is there, by its role.
fn vds_state(role: Role, failing: bool) -> (Vec<DriveFlag>, DriveStatus, Health) {
    let health = if failing {
        Health::PendingFailure
    } else {
        Health::Healthy
    };
    match role {
        Role::InSync | Role::Journal => (vec![DriveFlag::Assigned], DriveStatus::Online, health),
        Role::Rebuilding | Role::Replacing => (
            vec![DriveFlag::Assigned, DriveFlag::HotSpareInUse],
            DriveStatus::Online,
            health,
        ),
        Role::Spare => (
            vec![
                DriveFlag::HotSpare,
                DriveFlag::Assigned,
                DriveFlag::HotSpareStandby,
            ],
            DriveStatus::Online,
            health,
        ),
        Role::Faulty => (
            vec![DriveFlag::Assigned],
            DriveStatus::Failed,
            Health::Failed,
        ),
        Role::Pool => (
            vec![
                DriveFlag::HotSpare,
                DriveFlag::Unassigned,
                DriveFlag::HotSpareStandby,
            ],
            DriveStatus::Online,
            health,
        ),
        Role::Missing => (Vec::new(), DriveStatus::Removed, Health::Unknown),
        Role::Unknown => (
            vec![DriveFlag::Assigned],
            DriveStatus::Unknown,
            Health::Unknown,
        ),
    }
}

fn member_drive(
    array: &ArrayFacts,
    member: &MemberFacts,
    device: Option<&DeviceFacts>,
    running: bool,
    lun: LunId,
) -> Drive {
    let (role, slot) = role(member, running);
    let (flags, mut status, mut health) = vds_state(role, is_failing(member));
    if member.dev.known().is_none() {
        // The node is gone; the array has not noticed, or only keeps the entry.
        status = DriveStatus::Removed;
        health = Health::Unknown;
    }
    let device_node = node(device.map_or(member.name.as_str(), |device| &device.name));
    Drive {
        id: device.map(|device| device.id),
        weak_identity: device.is_none_or(|device| device.id_kind.is_weak()),
        stable_name: device
            .map_or_else(|| device_node.clone(), |device| device.stable_name.clone()),
        device: device_node,
        dev: member.dev.known().copied(),
        slot,
        role,
        flags,
        status,
        health,
        lun: Some(lun),
        size_bytes: device
            .map(|device| device.size_bytes)
            .or_else(|| member.size_bytes.known().copied()),
        used_bytes: used_bytes(array, member, role),
        in_pool: false,
        notes: notes(member, role),
    }
}

/// Bytes of a member that carry data of its array: `component_size`, or all that is usable where members
/// differ in size.
fn used_bytes(array: &ArrayFacts, member: &MemberFacts, role: Role) -> Option<u64> {
    match role {
        Role::Spare | Role::Faulty | Role::Journal => Some(0),
        _ => array
            .component_bytes
            .known()
            .copied()
            .filter(|bytes| *bytes > 0)
            .or_else(|| member.size_bytes.known().copied()),
    }
}

/// What the kernel says of a member beyond its role.
fn notes(member: &MemberFacts, role: Role) -> Vec<String> {
    let mut notes = Vec::new();
    match &member.state {
        Fact::Known(state) => {
            let words = [
                (state.write_error, "write_error"),
                (state.want_replacement, "want_replacement"),
                (state.replacement, "replacement"),
                (state.blocked, "blocked"),
                (state.write_mostly, "write_mostly"),
                (state.failfast, "failfast"),
            ];
            notes.extend(
                words
                    .iter()
                    .filter(|(set, _)| *set)
                    .map(|(_, word)| (*word).to_owned()),
            );
        }
        Fact::Unknown(why) => notes.push(format!("state unknown: {why}")),
    }
    match &member.bad_blocks {
        Fact::Known(0) => {}
        Fact::Known(lines) => notes.push(format!("unreadable ranges recorded: {lines}")),
        Fact::Unknown(why) if role == Role::InSync => {
            notes.push(format!("bad blocks unknown: {why}"));
        }
        Fact::Unknown(_) => {}
    }
    if let Some(errors @ 1..) = member.errors.known() {
        notes.push(format!("corrected read errors: {errors}"));
    }
    if let Fact::Unknown(why) = &member.dev {
        notes.push(format!("the device is gone: {why}"));
    }
    notes
}

fn empty_slot(slot: u32, lun: LunId) -> Drive {
    let (flags, status, health) = vds_state(Role::Missing, false);
    Drive {
        id: None,
        weak_identity: false,
        device: String::new(),
        stable_name: String::new(),
        dev: None,
        slot: Some(slot),
        role: Role::Missing,
        flags,
        status,
        health,
        lun: Some(lun),
        size_bytes: None,
        used_bytes: None,
        in_pool: false,
        notes: Vec::new(),
    }
}

/// A drive of the spare pool that is a member of nothing; of the role `missing` when no device
/// with its identity is there.
#[must_use]
pub fn pool_drive(inventory: &Inventory, entry: &PoolEntry, retired: Option<&Retired>) -> Drive {
    let device = inventory
        .devices
        .values()
        .find(|device| device.id == entry.id);
    let role = if device.is_some() {
        Role::Pool
    } else {
        Role::Missing
    };
    let (flags, status, health) = vds_state(role, retired.is_some());
    let mut notes: Vec<String> = entry
        .claimed_by
        .iter()
        .map(|op| format!("claimed by operation {op}"))
        .collect();
    notes.extend(retired.map(Retired::text));
    Drive {
        id: Some(entry.id),
        weak_identity: device.is_some_and(|device| device.id_kind.is_weak()),
        device: device.map(|device| node(&device.name)).unwrap_or_default(),
        stable_name: device.map_or_else(
            || entry.stable_name.clone(),
            |device| device.stable_name.clone(),
        ),
        dev: device.map(|device| device.dev),
        slot: None,
        role,
        flags,
        status,
        health,
        lun: None,
        size_bytes: Some(device.map_or(entry.size_bytes, |device| device.size_bytes)),
        used_bytes: Some(0),
        in_pool: true,
        notes,
    }
}

/// Plexes: one per leg of a running mirror, one for every other LUN.
pub(super) fn plexes(array: &ArrayFacts, lun: &Lun) -> Vec<Plex> {
    let stripe_bytes = array.chunk_bytes.known().copied().unwrap_or(0);
    let legs = array.raid_disks.known().copied().filter(|_| {
        array.level == Fact::Known(Level::Raid1)
            && !matches!(lun.status, LunStatus::Offline | LunStatus::Unknown)
    });
    let plex = |number: u32, kind, status, health, drives| Plex {
        id: Uuid::new_v5(&lun.id.0, format!("plex:{number}").as_bytes()),
        number,
        kind,
        status,
        health,
        transition: lun.transition,
        size_bytes: lun.size_bytes,
        stripe_bytes,
        drives,
    };
    if let Some(legs) = legs {
        return (0..legs)
            .map(|slot| {
                let (status, health) = leg_state(array, lun, slot);
                let drives = occupants(array, slot)
                    .map(|member| node(&member.name))
                    .collect();
                plex(slot, LunType::Simple, status, health, drives)
            })
            .collect();
    }
    let kind = if lun.kind == LunType::Mirror {
        LunType::Simple
    } else {
        lun.kind
    };
    let drives = lun
        .drives
        .iter()
        .filter(|drive| drive.slot.is_some() && !drive.device.is_empty())
        .map(|drive| drive.device.clone())
        .collect();
    vec![plex(0, kind, lun.status, lun.health, drives)]
}

/// Status and health of a mirror leg, by its best occupant.
fn leg_state(array: &ArrayFacts, lun: &Lun, slot: u32) -> (LunStatus, Health) {
    let mut known = true;
    let mut rebuilding = false;
    for member in occupants(array, slot) {
        match member.state.known() {
            Some(state) if is_good(state) && is_failing(member) => {
                return (LunStatus::Online, Health::Failing);
            }
            Some(state) if is_good(state) => return (LunStatus::Online, Health::Healthy),
            Some(state) => rebuilding |= !state.faulty && !state.journal,
            None => known = false,
        }
    }
    if !known || lun.health == Health::Unknown {
        (LunStatus::Online, Health::Unknown)
    } else if rebuilding {
        (LunStatus::Online, Health::Rebuilding)
    } else {
        (LunStatus::Failed, Health::Failed)
    }
}
