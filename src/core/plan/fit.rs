//! Whether one drive may be written to, and whether it is what an array needs. Every reason to
//! refuse comes before every reason to take.

use uuid::Uuid;

use crate::error::Unfit;
use crate::facts::{
    ArrayFacts, DeviceFacts, Fact, Inventory, MemberFacts, ProbeFacts, SuperblockFacts,
};
use crate::id::DevNo;

use super::Context;

/// Name under which an md superblock counts as a signature; the one that `blkid` uses.
pub(super) const MD_SIGNATURE: &str = "linux_raid_member";
/// Of a drive of the pool that came out of another array: nothing may be lost but the superblock of a spare, which has
/// never held data of its array. [`MD_SIGNATURE`] alone is that of a member too.
pub(crate) const SPARE_SIGNATURE: &str = "linux_raid_member of a spare";

/// The most that is believed of metadata on one member, bytes. `mdadm` leaves at most 128 MiB
/// before the data and less than that behind it; a larger difference between a drive and what it
/// gives the array means that the array uses only a part of a larger drive.
const MAX_OVERHEAD_BYTES: u64 = 256 * 1024 * 1024;

/// The array that lists `device` as a member of any kind, by number or, where the number is not
/// known, by name.
pub(super) fn membership<'i>(
    inventory: &'i Inventory,
    device: &DeviceFacts,
) -> Option<(&'i str, &'i MemberFacts)> {
    inventory.arrays.iter().find_map(|(name, array)| {
        let member = array.members.iter().find(|member| match &member.dev {
            Fact::Known(dev) => *dev == device.dev,
            Fact::Unknown(_) => member.name == device.name,
        })?;
        Some((name.as_str(), member))
    })
}

/// Why nothing may be written to `device`, whatever is on it. A drive that `listed_in` lists as
/// faulty is held by that array until it is removed, which is not a reason.
pub(super) fn unwritable(
    inventory: &Inventory,
    device: &DeviceFacts,
    listed_in: Option<&str>,
) -> Option<Unfit> {
    if let Some(unfit) = unavailable(inventory, device, listed_in) {
        return Some(unfit);
    }
    if listed_in.is_some() {
        None
    } else {
        not_exclusive(inventory, device.dev)
    }
}

/// As [`unwritable`], by what a scan tells without a probe.
pub(super) fn unavailable(
    inventory: &Inventory,
    device: &DeviceFacts,
    listed_in: Option<&str>,
) -> Option<Unfit> {
    if let Some((array, _)) = membership(inventory, device)
        && Some(array) != listed_in
    {
        return Some(Unfit::MemberElsewhere {
            array: array.to_owned(),
        });
    }
    if device.read_only {
        return Some(Unfit::ReadOnly);
    }
    if !device.used_by.is_empty() {
        return Some(Unfit::InUse {
            by: device.used_by.clone(),
        });
    }
    let by: Vec<String> = device
        .holders
        .iter()
        .filter(|h| Some(h.as_str()) != listed_in)
        .cloned()
        .collect();
    if !by.is_empty() {
        return Some(Unfit::Held { by });
    }
    relative_in_use(inventory, device)
}

/// A whole disk is in use through its partitions, a partition through its whole disk.
fn relative_in_use(inventory: &Inventory, device: &DeviceFacts) -> Option<Unfit> {
    let others = inventory
        .devices
        .values()
        .filter(|other| other.dev != device.dev);
    for other in others {
        let is_part = device.whole_disk == device.name && other.whole_disk == device.name;
        let is_whole = device.whole_disk != device.name && other.name == device.whole_disk;
        if !is_part && !is_whole {
            continue;
        }
        if let Some((array, _)) = membership(inventory, other) {
            return Some(Unfit::MemberElsewhere {
                array: array.to_owned(),
            });
        }
        // The uses of a whole disk include those of its other partitions, which are no reason
        // against this one.
        if is_part && !other.used_by.is_empty() {
            return Some(Unfit::InUse {
                by: other.used_by.clone(),
            });
        }
        if !other.holders.is_empty() {
            return Some(Unfit::Held {
                by: other.holders.iter().cloned().collect(),
            });
        }
    }
    None
}

fn not_exclusive(inventory: &Inventory, dev: DevNo) -> Option<Unfit> {
    match inventory.probes.get(&dev).map(|probe| &probe.exclusive) {
        Some(Fact::Known(true)) => None,
        Some(Fact::Known(false)) => Some(Unfit::Busy {
            detail: "an exclusive open was refused".to_owned(),
        }),
        Some(Fact::Unknown(detail)) => Some(Unfit::Busy {
            detail: detail.clone(),
        }),
        None => Some(Unfit::UnknownFact {
            what: "whether anybody has it open".to_owned(),
        }),
    }
}

/// Everything written on a device, md superblocks included.
///
/// # Errors
/// [`Unfit::UnknownFact`] when it cannot be told.
pub(super) fn signatures(probe: Option<&ProbeFacts>) -> Result<Vec<String>, Unfit> {
    let unknown = |why: &str| Unfit::UnknownFact {
        what: format!("what is written on it ({why})"),
    };
    let probe = probe.ok_or_else(|| unknown("it was not looked at"))?;
    let mut found = match &probe.signatures {
        Fact::Known(found) => found.clone(),
        Fact::Unknown(why) => return Err(unknown(why)),
    };
    match &probe.md {
        Fact::Known(Some(_)) if !found.iter().any(|name| name == MD_SIGNATURE) => {
            found.push(MD_SIGNATURE.to_owned());
        }
        Fact::Known(_) => {}
        Fact::Unknown(why) => return Err(unknown(why)),
    }
    Ok(found)
}

/// The superblock on `dev`, if it is one of the array that is planned for.
pub(super) fn own_superblock<'i>(ctx: &Context<'i>, dev: DevNo) -> Option<&'i SuperblockFacts> {
    let inventory = ctx.inventory;
    let uuid: Uuid = (*ctx.array.uuid.known()?)?;
    let superblock = inventory.probes.get(&dev)?.md.known()?.as_ref()?;
    (superblock.array_uuid == uuid).then_some(superblock)
}

/// Bytes of a member that metadata takes, by what the present members show: the largest
/// difference between a drive and what it gives the array. `mdadm` may do with less on the new
/// drive; this stays on the safe side.
pub(super) fn overhead_bytes(inventory: &Inventory, array: &ArrayFacts) -> u64 {
    // A leg of device-mapper has its metadata elsewhere; what a new one takes is judged where it is laid.
    if array.dm().is_some() {
        return 0;
    }
    array
        .members
        .iter()
        .filter_map(|member| {
            let device = inventory.devices.get(member.dev.known()?)?;
            Some(
                device
                    .size_bytes
                    .saturating_sub(*member.size_bytes.known()?),
            )
        })
        .max()
        .unwrap_or(0)
        .min(MAX_OVERHEAD_BYTES)
}

/// Why `device` cannot hold what a member of `array` holds: too small, or with blocks that the
/// array cannot take.
pub(super) fn unsuited(
    inventory: &Inventory,
    array: &ArrayFacts,
    device: &DeviceFacts,
) -> Option<Unfit> {
    let unknown = |what: &str| {
        Some(Unfit::UnknownFact {
            what: what.to_owned(),
        })
    };
    let Some(&need_bytes) = array.component_bytes.known() else {
        return unknown("how much the array uses of each member");
    };
    let have_bytes = device
        .size_bytes
        .saturating_sub(overhead_bytes(inventory, array));
    if have_bytes < need_bytes || device.size_bytes == 0 {
        return Some(Unfit::TooSmall {
            have_bytes,
            need_bytes,
        });
    }
    let Some(&have) = device.logical_block_bytes.known() else {
        return unknown("its logical block size");
    };
    let Some(&wanted) = array.logical_block_bytes.known() else {
        return unknown("the array's logical block size");
    };
    (have > wanted).then_some(Unfit::BlockSize {
        have,
        array: wanted,
    })
}
