//! Registration of a drive as a spare (`VDS_DRF_HOTSPARE`).

use crate::Error;
use crate::error::Unfit;
use crate::facts::{ArrayFacts, DeviceFacts, Fact, Inventory, Level, Metadata};
use crate::id::DevNo;

use super::{PoolEntry, fit};

/// Judges a drive for the spare pool. `force` accepts to lose what is written on it, and nothing
/// else: the signatures found now are remembered, and any other one found later is refused.
///
/// The device must have been probed in this inventory.
///
/// # Errors
/// [`Error::DriveRefused`] with the reason: not present, member of an array, mounted, held, open,
/// read-only, written on, or of no use to any array with redundancy that is present.
pub fn refuse_registration(
    inventory: &Inventory,
    dev: DevNo,
    force: bool,
) -> Result<PoolEntry, Error> {
    let Some(device) = inventory.devices.get(&dev) else {
        return Err(Error::DriveRefused {
            drive: dev.to_string(),
            unfit: Unfit::NotPresent,
        });
    };
    let refused = |unfit| Error::DriveRefused {
        drive: format!("/dev/{}", device.name),
        unfit,
    };
    let twins = inventory
        .devices
        .values()
        .filter(|other| other.id == device.id)
        .count();
    if twins > 1 {
        let what = "which of several devices with its identity is meant".to_owned();
        return Err(refused(Unfit::UnknownFact { what }));
    }
    if let Some(unfit) = fit::unwritable(inventory, device, None) {
        return Err(refused(unfit));
    }
    let found = fit::signatures(inventory.probes.get(&dev)).map_err(refused)?;
    if !found.is_empty() && !force {
        return Err(refused(Unfit::Signature { found }));
    }
    if let Some(unfit) = useless(inventory, device) {
        return Err(refused(unfit));
    }
    Ok(PoolEntry {
        id: device.id,
        stable_name: device.stable_name.clone(),
        size_bytes: device.size_bytes,
        forced_signatures: found,
        claimed_by: None,
        rule: None,
        only_for: None,
    })
}

/// Why the drive suits none of the arrays that could need a spare; [`None`] when it suits one, may
/// suit one whose figures are unknown, or when there is none.
fn useless(inventory: &Inventory, device: &DeviceFacts) -> Option<Unfit> {
    if device.size_bytes == 0 {
        return Some(Unfit::TooSmall {
            have_bytes: 0,
            need_bytes: 1,
        });
    }
    let mut nearest: Option<Unfit> = None;
    for array in inventory
        .arrays
        .values()
        .filter(|array| takes_spares(array))
    {
        match fit::unsuited(inventory, array, device) {
            None | Some(Unfit::UnknownFact { .. }) => return None,
            Some(unfit) => nearest = Some(nearer(nearest, unfit)),
        }
    }
    nearest
}

/// The reason that misses by less: a wrong block size is of the right size at least, and of two
/// sizes the smaller demand.
fn nearer(best: Option<Unfit>, next: Unfit) -> Unfit {
    match (best, next) {
        (None, next) => next,
        (
            Some(Unfit::TooSmall {
                need_bytes: best,
                have_bytes: best_have,
            }),
            Unfit::TooSmall {
                need_bytes,
                have_bytes,
            },
        ) => {
            if need_bytes < best {
                Unfit::TooSmall {
                    have_bytes,
                    need_bytes,
                }
            } else {
                Unfit::TooSmall {
                    have_bytes: best_have,
                    need_bytes: best,
                }
            }
        }
        (Some(Unfit::TooSmall { .. }), next) => next,
        (Some(best), _) => best,
    }
}

pub(super) fn takes_spares(array: &ArrayFacts) -> bool {
    let level = matches!(
        array.level.known(),
        Some(Level::Raid1 | Level::Raid4 | Level::Raid5 | Level::Raid6 | Level::Raid10)
    );
    let external = matches!(array.metadata, Fact::Known(Metadata::External(_)));
    level && !external && !array.clustered && !array.raid_disks.is_known_and(|n| *n < 2)
}
