//! Raid sets made with dmsetup: the port changes their tables itself.

use std::collections::BTreeSet;

use lun_core::Error;
use lun_core::action::{Action, SyncWord, Target};
use lun_core::facts::{DmOwner, SyncAction};

use super::leg_extents;
use super::lvm::not_for;
use crate::action::kernel_error;
use crate::world::{OVERHEAD_BYTES, World, errno};

impl World {
    /// Performs an action on a set without an owner.
    pub(super) fn by_table(&mut self, name: &str, action: &Action) -> Result<(), Error> {
        let failed = |errno: i32| kernel_error(action, name, errno);
        match action {
            Action::SetSync { word, .. } => self.table_word(name, *word).map_err(failed),
            Action::Revive { drive, .. } => {
                self.resume(name).map_err(failed)?;
                let array = self.arrays.get(name);
                match array.and_then(|array| array.member(drive.dev)) {
                    Some(member) if !member.faulty => Ok(()),
                    _ => Err(failed(errno::EIO)),
                }
            }
            Action::ReplaceLeg { slot, drive, .. } => {
                self.replace_leg(name, *slot, drive).map_err(failed)
            }
            Action::DropTable { .. } => {
                self.with_set(name, |set| set.inactive_table = false);
                Ok(())
            }
            _ => Err(not_for(name, action, "its table belongs to who made it")),
        }
    }

    /// A hold is the lowest rate in a new table; what starts something is a message.
    fn table_word(&mut self, name: &str, word: SyncWord) -> Result<(), i32> {
        let slowed = self.arrays.get(name).is_some_and(|a| a.is_slowed());
        let scrub = match word {
            SyncWord::Check => Some(SyncAction::Check),
            SyncWord::Repair => Some(SyncAction::Repair),
            _ => None,
        };
        let Some(action) = scrub else {
            let slow = word == SyncWord::Frozen;
            // A copied table line must not bear `rebuild`: the copy would begin again.
            self.with_set(name, |set| {
                set.rebuild.clear();
                set.slowed_by_owner = slow;
            });
            return match word {
                SyncWord::Frozen => self.reload(name),
                _ if slowed => self.reload(name),
                _ => self.resume(name),
            };
        };
        let array = self.arrays.get_mut(name).ok_or(errno::ENXIO)?;
        if array.sync.is_some() {
            return Err(errno::EBUSY);
        }
        array.frozen = false;
        array.requested = Some(action);
        array.needed = true;
        Ok(())
    }

    fn replace_leg(&mut self, name: &str, slot: u32, drive: &Target) -> Result<(), i32> {
        let array = self.arrays.get(name).ok_or(errno::ENXIO)?;
        let set = array.dm.as_ref().ok_or(errno::ENXIO)?;
        let old = set.leg(slot).ok_or(errno::EINVAL)?;
        if set.inactive_table || self.exclusive_user(drive.dev).is_some() {
            return Err(errno::EBUSY);
        }
        let room = self.devices.get(&drive.dev).ok_or(errno::ENODEV)?;
        let need = leg_extents(array, 1 << 20) << 20;
        if room.size_bytes.saturating_sub(OVERHEAD_BYTES) < need {
            return Err(errno::ENOSPC);
        }
        if array.member(old.data).is_some_and(|m| m.good()) {
            // What works is never taken out for what is blank.
            return Err(errno::EBUSY);
        }
        self.guard_overwrite(drive.dev, &format!("made leg {slot} of {name}"));
        if let Some(device) = self.devices.get_mut(&drive.dev) {
            device.content = None;
            device.missed_sectors = 0;
            device.signatures.clear();
            device.superblock = None;
        }
        self.lay_in_slot(name, slot, drive.id);
        self.with_set(name, |set| set.rebuild = BTreeSet::from([slot]));
        let done = self.reload(name);
        self.with_set(name, |set| set.rebuild.clear());
        done
    }

    /// The first half of a replacement: the table waits for its resume.
    pub(crate) fn begin_replacement(&mut self, action: &Action) -> bool {
        let (Action::ReplaceLeg { array, .. }, false) =
            (action, action.array().is_some_and(|n| self.set_blocked(n)))
        else {
            return false;
        };
        let set = self.arrays.get(array).and_then(|a| a.dm.as_ref());
        let fresh = set.is_some_and(|set| set.owner == DmOwner::Bare && !set.inactive_table);
        self.with_set(array, |set| set.inactive_table |= fresh);
        fresh
    }

    /// The rest of it follows: the table is loaded over.
    pub(crate) fn end_replacement(&mut self, action: &Action) {
        if let Action::ReplaceLeg { array, .. } = action {
            self.with_set(array, |set| set.inactive_table = false);
        }
    }
}
