//! LVM's tools: what each does, and what it refuses (measured with LVM 2.03.16; `src/kernel/linux/lvm.rs`
//! runs them).

use std::collections::BTreeSet;

use lun_core::Error;
use lun_core::action::{Action, SyncWord, Target};
use lun_core::error::Unfit;
use lun_core::facts::{DmOwner, Slot, SyncAction};
use lun_core::id::{DevNo, DriveId};

use super::build::{leg_name, physical_on};
use super::leg_extents;
use super::reload::enough_with;
use crate::action::kernel_error;
use crate::world::{Member, SECTOR, World};

impl World {
    /// Performs an action on a raid set.
    pub(crate) fn act_on_set(&mut self, name: &str, action: &Action) -> Result<(), Error> {
        let owner = self
            .arrays
            .get(name)
            .and_then(|array| array.dm.as_ref())
            .map(|set| set.owner.clone());
        match owner {
            Some(DmOwner::Lvm { vg, lv }) => self.by_lvm(name, (&vg, &lv), action),
            Some(DmOwner::Bare) => self.by_table(name, action),
            None => Err(kernel_error(action, name, crate::world::errno::ENODEV)),
        }
    }

    fn by_lvm(&mut self, name: &str, (vg, lv): (&str, &str), action: &Action) -> Result<(), Error> {
        match action {
            Action::SetSync { word, .. } => self.lv_word(name, vg, lv, *word),
            Action::Revive { drive, .. } => {
                self.lv_refresh(name, vg, lv)?;
                self.require_alive(name, drive)
            }
            Action::RepairVolume { onto, .. } => self.lv_repair(name, vg, lv, onto),
            Action::ExtendGroup { group, drive, .. } => self.vg_extend(group, drive),
            _ => Err(not_for(name, action, "it is a volume of LVM")),
        }
    }

    fn lv_word(&mut self, name: &str, vg: &str, lv: &str, word: SyncWord) -> Result<(), Error> {
        let slowed = self.arrays.get(name).is_some_and(|a| a.is_slowed());
        match word {
            SyncWord::Check | SyncWord::Repair => self.lv_scrub(name, vg, lv, word),
            SyncWord::Frozen => self.lv_rates(name, vg, lv, true),
            SyncWord::Resync if !slowed => self.lv_refresh(name, vg, lv),
            SyncWord::Idle | SyncWord::Recover | SyncWord::Resync => {
                self.lv_rates(name, vg, lv, false)
            }
        }
    }

    fn lv_scrub(&mut self, name: &str, vg: &str, lv: &str, word: SyncWord) -> Result<(), Error> {
        let refuse = |why: &str| {
            let args = ["lvchange", "--syncaction", word.as_str()];
            Err(lvm(&args, vg, lv, why))
        };
        if self.arrays.get(name).is_some_and(|a| a.is_slowed()) {
            return Err(Error::LunNotReady {
                lun: name.to_owned(),
                why: "its recovery rate is the lowest, at which no check ends".to_owned(),
            });
        }
        let missing = |world: &Self| {
            let group = world.groups.get(vg);
            group.is_some_and(|g| g.physical.iter().any(|p| world.is_missing(p)))
        };
        if missing(self) {
            return refuse("Cannot change while PVs are missing");
        }
        let idle = self
            .arrays
            .get(name)
            .is_some_and(|a| a.sync.is_none() && !a.frozen && a.resync_start.is_none());
        if !idle {
            return refuse("it is not idle");
        }
        let action = if word == SyncWord::Check {
            SyncAction::Check
        } else {
            SyncAction::Repair
        };
        if let Some(array) = self.arrays.get_mut(name) {
            array.requested = Some(action);
            array.needed = true;
        }
        Ok(())
    }

    /// `lvchange --minrecoveryrate R --maxrecoveryrate R`, also while a physical volume is missing.
    pub(super) fn lv_rates(
        &mut self,
        name: &str,
        vg: &str,
        lv: &str,
        slow: bool,
    ) -> Result<(), Error> {
        self.commit(vg);
        self.with_set(name, |set| set.slowed_by_owner = slow);
        self.lv_reload(name, vg, lv, &["lvchange", "--maxrecoveryrate"])
    }

    fn lv_reload(&mut self, name: &str, vg: &str, lv: &str, words: &[&str]) -> Result<(), Error> {
        self.reload(name)
            .map_err(|errno| lvm(words, vg, lv, crate::action::describe(errno)))?;
        // LVM takes its marks away once they have been loaded.
        self.with_set(name, |set| set.rebuild.clear());
        Ok(())
    }

    /// `lvchange --refresh`.
    fn lv_refresh(&mut self, name: &str, vg: &str, lv: &str) -> Result<(), Error> {
        let words = ["lvchange", "--refresh"];
        if !self.lost_slots(name, vg).is_empty() {
            return Err(lvm(&words, vg, lv, "Refusing refresh of partial LV"));
        }
        self.lv_reload(name, vg, lv, &words)
    }

    fn require_alive(&self, name: &str, drive: &Target) -> Result<(), Error> {
        let array = self.arrays.get(name);
        let member = array.and_then(|array| array.member(drive.dev));
        if member.is_some_and(|m| !m.faulty) {
            return Ok(());
        }
        Err(Error::RecoveryFailed {
            lun: name.to_owned(),
            drive: Some(format!("/dev/{}", drive.name)),
            why: "the kernel does not take this leg back: its metadata cannot be read".to_owned(),
        })
    }

    /// Slots whose physical volumes are missing.
    fn lost_slots(&self, name: &str, vg: &str) -> Vec<u32> {
        let set = self.arrays.get(name).and_then(|a| a.dm.as_ref());
        let Some(set) = set else { return Vec::new() };
        (0_u32..)
            .zip(&set.legs)
            .filter(|(_, leg)| !self.leg_works(Some(vg), leg))
            .map(|(slot, _)| slot)
            .collect()
    }

    /// Whether the set could be read without the legs in these slots: no table without them loads otherwise.
    fn lives_without(&self, name: &str, slots: &[u32]) -> bool {
        let array = self.arrays.get(name);
        array.is_some_and(|array| {
            let legs = array
                .dm
                .iter()
                .flat_map(|set| slots.iter().map(|slot| set.leg(*slot)));
            enough_with(array, &legs.flatten().map(|leg| leg.data).collect())
        })
    }

    /// The same, and those that the kernel calls failed: LVM replaces both.
    fn failed_slots(&self, name: &str, vg: &str) -> Vec<u32> {
        let mut slots = self.lost_slots(name, vg);
        let array = self.arrays.get(name);
        if let Some((array, set)) = array.and_then(|array| Some((array, array.dm.as_ref()?))) {
            let faulty = array.members.iter().filter(|m| m.faulty);
            slots.extend(faulty.filter_map(|m| set.slot_of(m.dev)));
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// `lvconvert --repair`: as many lost legs are replaced as there is room for.
    fn lv_repair(&mut self, name: &str, vg: &str, lv: &str, onto: &[Target]) -> Result<(), Error> {
        if self.half_repaired.remove(name) {
            return Ok(());
        }
        for drive in onto {
            self.check_identity(drive)?;
        }
        let words = ["lvconvert", "--repair"];
        let half = self.arrays.get(name).is_some_and(|array| {
            let filling = array.members.iter().any(|m| m.rebuilding());
            (array.sync.is_some() && filling) || array.resync_start.is_some()
        });
        if half {
            let why = "Unable to replace devices while it is not in-sync";
            return Err(lvm(&words, vg, lv, why));
        }
        let lost = self.failed_slots(name, vg);
        if !self.lives_without(name, &lost) {
            return Err(lvm(&words, vg, lv, "Failed to replace faulty devices"));
        }
        let rooms = self.rooms_for_legs(name, vg, onto);
        // Where there is room for some of them only, the last ones are replaced.
        let without = lost.len().saturating_sub(rooms.len());
        let replaced: BTreeSet<u32> = lost.iter().copied().skip(without).collect();
        for (slot, drive) in replaced.iter().zip(rooms) {
            self.lay_in_slot(name, *slot, drive);
        }
        if !lost.is_empty() && replaced.is_empty() {
            let why = "Insufficient free space: Failed to replace faulty devices";
            return Err(lvm(&words, vg, lv, why));
        }
        if replaced.is_empty() {
            return Ok(());
        }
        self.commit(vg);
        self.with_set(name, |set| set.rebuild.extend(replaced));
        self.lv_reload(name, vg, lv, &words)
    }

    /// Physical volumes with room for a leg of this volume, and none of its legs.
    fn rooms_for_legs(&self, name: &str, vg: &str, onto: &[Target]) -> Vec<DriveId> {
        let group = self.groups.get(vg);
        let array = self.arrays.get(name);
        let set = array.and_then(|array| array.dm.as_ref());
        let (Some(group), Some(array), Some(set)) = (group, array, set) else {
            return Vec::new();
        };
        let need = leg_extents(array, group.extent_bytes);
        let fits = |id: &DriveId| {
            let physical = group.physical.iter().find(|p| p.drive == *id);
            physical.is_some_and(|p| {
                !self.is_missing(p)
                    && self.free_extents(vg, p) >= need
                    && set.legs.iter().all(|leg| leg.drive != *id)
            })
        };
        if onto.is_empty() {
            let all = group.physical.iter().map(|p| p.drive);
            return all.filter(fits).collect();
        }
        onto.iter().map(|drive| drive.id).filter(fits).collect()
    }

    /// Puts a blank leg on this drive in place of the one in this slot.
    pub(super) fn lay_in_slot(&mut self, name: &str, slot: u32, drive: DriveId) {
        let Some(array) = self.arrays.get(name) else {
            return;
        };
        let bytes = array.component * SECTOR;
        let Some(set) = &array.dm else { return };
        let stem = leg_name(&set.name, slot);
        let Some(old) = set.leg(slot).map(|leg| leg.data) else {
            return;
        };
        let leg = self.lay_leg(&stem, drive, bytes);
        let (dev, dev_name) = (leg.data, format!("dm-{}", leg.data.minor));
        self.devices.remove(&old);
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        array.members.retain(|m| m.dev != old);
        array.members.push(Member {
            slot: Slot::At(slot),
            ..Member::spare(dev, dev_name)
        });
        self.with_set(name, |set| {
            if let Some(place) = set.leg_mut(slot) {
                *place = leg;
            }
        });
        self.hint(lun_kernel::Hint::Devices);
    }

    /// `vgextend`, which erases what is on the drive.
    fn vg_extend(&mut self, vg: &str, drive: &Target) -> Result<(), Error> {
        if let Some(user) = self.exclusive_user(drive.dev) {
            return Err(Error::DriveRefused {
                drive: drive.name.clone(),
                unfit: Unfit::Busy {
                    detail: format!("an exclusive open of /dev/{} fails: {user}", drive.name),
                },
            });
        }
        let words = ["vgextend", "-y"];
        let refuse = |why: &str| Err(lvm(&words, vg, &drive.name, why));
        if self.group_of(drive.id).is_some() {
            return refuse("Physical volume is already in a volume group");
        }
        let device = self.devices.get(&drive.dev);
        if device.is_none_or(|d| d.read_only || d.superblock.is_some() || d.dead) {
            return refuse("Cannot use it: device is rejected by filter config");
        }
        self.guard_overwrite(drive.dev, &format!("added to {vg}"));
        let Some(device) = self.devices.get_mut(&drive.dev) else {
            return refuse("No device found");
        };
        device.content = None;
        device.missed_sectors = 0;
        device.signatures.clear();
        let physical = physical_on(device);
        if let Some(group) = self.groups.get_mut(vg) {
            group.physical.push(physical);
        }
        self.commit(vg);
        self.hint(lun_kernel::Hint::Devices);
        Ok(())
    }

    /// The group's metadata is written: who is away is missing from now on.
    pub(super) fn commit(&mut self, vg: &str) {
        let Some(group) = self.groups.get(vg) else {
            return;
        };
        let away: Vec<DriveId> = group
            .physical
            .iter()
            .filter(|p| !self.is_there(p.drive))
            .map(|p| p.drive)
            .collect();
        if let Some(group) = self.groups.get_mut(vg) {
            for physical in &mut group.physical {
                physical.flagged |= away.contains(&physical.drive);
            }
        }
    }

    /// `vgextend --restoremissing`, for every physical volume that is there.
    pub fn restore_missing(&mut self, vg: &str) {
        let there: Vec<DriveId> = self.groups.get(vg).map_or_else(Vec::new, |group| {
            let back = group.physical.iter().filter(|p| self.is_there(p.drive));
            back.map(|p| p.drive).collect()
        });
        if let Some(group) = self.groups.get_mut(vg) {
            for physical in &mut group.physical {
                physical.flagged &= !there.contains(&physical.drive);
            }
        }
    }

    /// The administrator takes away the marks that killed tools have left on legs which are filled by now.
    /// LVM has no command for it, and loads each table with them until it is done.
    pub fn forget_marks(&mut self) {
        for array in self.arrays.values_mut() {
            let members = array.members.clone();
            let set = array.dm.as_mut().filter(|set| set.group().is_some());
            let Some(set) = set else { continue };
            let legs = set.legs.clone();
            set.rebuild.retain(|slot| {
                let leg = usize::try_from(*slot).ok().and_then(|slot| legs.get(slot));
                leg.is_some_and(|leg| members.iter().any(|m| m.dev == leg.data && !m.good()))
            });
        }
    }

    /// The first half of what one of LVM's tools does. Said is whether there is one.
    pub(crate) fn begin_on_set(&mut self, action: &Action) -> bool {
        let Some(name) = action.array().map(str::to_owned) else {
            return false;
        };
        let group = self.arrays.get(&name).and_then(|array| {
            let set = array.dm.as_ref()?;
            Some(set.group()?.to_owned())
        });
        let Some(vg) = group.filter(|_| !self.set_blocked(&name)) else {
            return false;
        };
        match action {
            // The rate is written down, and the table not loaded yet.
            Action::SetSync { word, .. } => {
                let slow = match word {
                    SyncWord::Frozen => true,
                    SyncWord::Idle | SyncWord::Recover => false,
                    _ => return false,
                };
                self.commit(&vg);
                self.with_set(&name, |set| set.slowed_by_owner = slow);
                true
            }
            // The new legs are loaded with `rebuild`, and the mark not taken away.
            Action::RepairVolume { onto, .. } => {
                let before = self.leg_devs(&name);
                let done = self.perform_half_repair(&name, &vg, onto);
                let fresh: BTreeSet<u32> = (0_u32..)
                    .zip(self.leg_devs(&name).iter().zip(&before))
                    .filter(|(_, (now, old))| now != old)
                    .map(|(slot, _)| slot)
                    .collect();
                self.with_set(&name, |set| set.rebuild.extend(fresh));
                done
            }
            _ => false,
        }
    }

    fn perform_half_repair(&mut self, name: &str, vg: &str, onto: &[Target]) -> bool {
        let lv = self.arrays.get(name).and_then(|a| a.dm.as_ref());
        let lv = lv.map_or_else(String::new, |set| match &set.owner {
            DmOwner::Lvm { lv, .. } => lv.clone(),
            DmOwner::Bare => String::new(),
        });
        !self.failed_slots(name, vg).is_empty() && self.lv_repair(name, vg, &lv, onto).is_ok()
    }

    fn leg_devs(&self, name: &str) -> Vec<DevNo> {
        let set = self.arrays.get(name).and_then(|a| a.dm.as_ref());
        set.map_or_else(Vec::new, |set| {
            set.legs.iter().map(|leg| leg.data).collect()
        })
    }

    /// The rest of what [`World::begin_on_set`] began: the marks go without another start.
    pub(crate) fn end_on_set(&mut self, action: &Action) {
        if let (Action::RepairVolume { .. }, Some(name)) = (action, action.array()) {
            self.with_set(name, |set| set.rebuild.clear());
            self.half_repaired.insert(name.to_owned());
        }
    }
}

/// The refusal of an action that is none for this kind of set.
pub(super) fn not_for(array: &str, action: &Action, why: &str) -> Error {
    Error::NotSupported {
        object: array.to_owned(),
        what: format!("to {action}"),
        why: why.to_owned(),
    }
}

fn lvm(words: &[&str], vg: &str, lv: &str, why: &str) -> Error {
    let mut args: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    args.push(format!("{vg}/{lv}"));
    Error::Tool {
        program: "lvm".to_owned(),
        args,
        status: "exit status: 5".to_owned(),
        stderr: format!("  {vg}/{lv}: {why}."),
    }
}
