//! The last guards of the port: what the real adapter refuses before it acts
//! (`src/kernel/linux/act.rs`), the simulated one refuses too.

use lun_core::Error;
use lun_core::action::{Action, FormerOf, Target};
use lun_core::error::Unfit;
use lun_core::facts::{Level, Slot};
use lun_core::id::DevNo;

use crate::events::enough_without;
use crate::world::{Array, Member, Mode, World, errno};

impl World {
    /// The answer of an action that never reaches the kernel; [`None`] for one that does.
    pub(crate) fn refused(&mut self, action: &Action) -> Option<Result<(), Error>> {
        let array = action.array().and_then(|name| self.arrays.get(name));
        if array.is_some_and(|array| array.dm.is_some()) {
            // What is none for a raid set is refused where the others are carried out.
            return None;
        }
        match action {
            Action::FailMember { array, drive } => self.refuse_to_fail(array, drive),
            Action::RemoveMember { array, drive } => self.refuse_to_remove(array, drive),
            Action::AddSpare { array, drive } => {
                // A failed member that is still listed is held by the array itself.
                let listed = self.arrays.get(array)?.member(drive.dev).is_some();
                (!listed).then(|| self.busy(drive)).flatten()
            }
            Action::ReAdd { array, drive } => {
                let known = self.arrays.get(array)?;
                if !known.bitmap {
                    return Some(Err(Error::NotSupported {
                        object: array.clone(),
                        what: "re-adding a former member".to_owned(),
                        why: "it has no write-intent bitmap".to_owned(),
                    }));
                }
                let listed = known.member(drive.dev).is_some();
                (!listed).then(|| self.busy(drive)).flatten()
            }
            Action::MakeReadWrite { array } => match self.arrays.get(array)?.mode {
                Mode::Readonly => Some(Err(Error::ReadOnly { lun: array.clone() })),
                Mode::Inactive => Some(Err(Error::LunOffline {
                    lun: array.clone(),
                    state: "inactive".to_owned(),
                    again: Vec::new(),
                })),
                Mode::Running | Mode::ReadAuto => None,
            },
            Action::ClearResyncStart {
                array,
                fill_first: true,
            } => {
                let half_filled = self
                    .arrays
                    .get(array)?
                    .members
                    .iter()
                    .any(Member::rebuilding);
                (!half_filled).then(|| {
                    Err(Error::LunNotReady {
                        lun: array.clone(),
                        why: "nothing of it is half filled any more".to_owned(),
                    })
                })
            }
            Action::DropVanished { array, member } => self.refuse_to_drop(array, member),
            Action::Wipe { drive, former } => self
                .busy(drive)
                .or_else(|| former.as_ref().and_then(|former| self.needs(former))),
            _ => None,
        }
    }

    /// A member in sync is failed only when another in-sync device fills the same slot.
    fn refuse_to_fail(&mut self, name: &str, drive: &Target) -> Option<Result<(), Error>> {
        let array = self.arrays.get(name)?;
        let member = array.member(drive.dev)?;
        if member.faulty {
            return Some(Ok(()));
        }
        if !member.good() || has_twin(array, drive.dev) {
            return None;
        }
        if array.enough() && !enough_without(array, drive.dev) {
            self.violate(format!(
                "{name}: {} was to be failed although it was needed",
                drive.name
            ));
        }
        Some(healthy(name, drive))
    }

    /// A member in sync is never removed, and one that is gone needs no removal.
    fn refuse_to_remove(&self, name: &str, drive: &Target) -> Option<Result<(), Error>> {
        match self.arrays.get(name)?.member(drive.dev) {
            None => Some(Ok(())),
            Some(member) if member.in_sync && !member.faulty => Some(healthy(name, drive)),
            Some(_) => None,
        }
    }

    /// Only a member without data whose device is gone is dropped.
    fn refuse_to_drop(&self, name: &str, member: &str) -> Option<Result<(), Error>> {
        let array = self.arrays.get(name)?;
        let Some(found) = array.members.iter().find(|m| m.name == member) else {
            return Some(Ok(()));
        };
        let there = self.devices.get(&found.dev).is_some_and(|d| d.present);
        (there || found.good()).then(|| {
            Err(Error::Kernel {
                action: "drop the vanished member".to_owned(),
                object: format!("{name}/{member}"),
                errno: errno::EBUSY,
                detail: "its device is there, or it counts as in sync".to_owned(),
            })
        })
    }

    /// The refusal to erase a former member of an array that has lost another one since.
    pub(crate) fn needs(&self, former: &FormerOf) -> Option<Result<(), Error>> {
        let array = self.arrays.get(&former.array)?;
        let now = array.degraded_lie.unwrap_or_else(|| array.degraded());
        (now != former.degraded || array.broken).then(|| {
            Err(Error::LunNotReady {
                lun: former.array.clone(),
                why: "it misses other members than when a former one was to be erased".to_owned(),
            })
        })
    }

    /// The refusal of a drive that cannot be opened exclusively.
    pub(crate) fn busy(&self, drive: &Target) -> Option<Result<(), Error>> {
        let user = self.exclusive_user(drive.dev)?;
        Some(Err(Error::DriveRefused {
            drive: drive.name.clone(),
            unfit: Unfit::Busy {
                detail: format!("an exclusive open of /dev/{} fails: {user}", drive.name),
            },
        }))
    }

    /// Ranges that no source of this slot can read.
    pub(crate) fn unreadable_for(&self, array: &Array, slot: Slot) -> u32 {
        let Slot::At(slot) = slot else { return 0 };
        let near = (array.layout & 0xff).max(1);
        let unreadable = |dev: &DevNo| self.devices.get(dev).map_or(0, |d| d.unreadable);
        let sources: Vec<u32> = array
            .members
            .iter()
            .filter(|m| m.good())
            .filter(|m| {
                // Only mirrors in the same group hold the same data.
                array.level != Level::Raid10
                    || matches!(m.slot, Slot::At(other) if other / near == slot / near)
            })
            .map(|m| unreadable(&m.dev))
            .collect();
        let mirror = matches!(array.level, Level::Raid1 | Level::Raid10);
        let spare_parity = array.level == Level::Raid6 && array.degraded() < 2;
        if mirror {
            sources.into_iter().min().unwrap_or(0)
        } else if spare_parity {
            0
        } else {
            sources.into_iter().sum()
        }
    }
}

fn healthy(name: &str, drive: &Target) -> Result<(), Error> {
    Err(Error::MemberHealthy {
        lun: name.to_owned(),
        drive: drive.name.clone(),
    })
}

/// Whether another in-sync device fills the same slot (a finished replacement).
fn has_twin(array: &Array, dev: DevNo) -> bool {
    let slot = array.member(dev).map(|m| m.slot);
    array
        .members
        .iter()
        .any(|m| m.dev != dev && Some(m.slot) == slot && m.good())
}
