//! Raid sets made with dmsetup: the port changes their tables itself (`src/kernel/linux/bare.rs`).

use std::collections::BTreeSet;

use lun_core::Error;
use lun_core::action::{Action, SyncWord, Target};
use lun_core::error::Unfit;
use lun_core::facts::{DmOwner, LegPart, LegRoom, Slot, SyncAction};

use super::Leg;
use super::lvm::not_for;
use crate::action::kernel_error;
use crate::world::{Member, World, errno};

/// How far a replacement of a leg got that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// The metadata device is made, and lies nowhere yet.
    Named,
    /// The metadata device lies on the drive.
    Metadata,
    /// Both devices lie there.
    Laid,
    /// A table with them waits for its resume.
    Loaded,
    /// The leg is being filled; the table says `rebuild`.
    Resumed,
    /// A table without the word waits.
    LoadedAgain,
}

impl Reached {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [
        Self::Named,
        Self::Metadata,
        Self::Laid,
        Self::Loaded,
        Self::Resumed,
        Self::LoadedAgain,
    ];
}

impl World {
    /// Performs an action on a set without an owner.
    pub(super) fn by_table(&mut self, name: &str, action: &Action) -> Result<(), Error> {
        let failed = |errno: i32| kernel_error(action, name, errno);
        let waits = self.dm_set(name).is_some_and(|set| set.inactive_table);
        if waits && !matches!(action, Action::DropTable { .. } | Action::ForgetLeg { .. }) {
            return Err(not_ready(
                name,
                "somebody has loaded a second table, which waits for a resume",
            ));
        }
        match action {
            Action::SetSync { word, .. } => {
                let scrub = matches!(word, SyncWord::Check | SyncWord::Repair);
                if scrub && self.dm_set(name).is_some_and(|set| set.slowed) {
                    let why = "its recovery rate is the lowest, at which no check ends";
                    return Err(not_ready(name, why));
                }
                self.table_word(name, *word).map_err(failed)
            }
            Action::Revive { drive, .. } => self.take_back(name, drive, action),
            Action::ReplaceLeg { slot, drive, .. } => self.replace_leg(name, *slot, drive, action),
            Action::DropTable { .. } => self.drop_table(name).map_err(failed),
            Action::ForgetLeg { drive, .. } => match self.busy(drive) {
                Some(refused) => refused,
                None => self.forget_leg(name, drive.dev).map_err(failed),
            },
            _ => Err(not_for(name, action, "its table belongs to who made it")),
        }
    }

    fn dm_set(&self, name: &str) -> Option<&super::DmSet> {
        self.arrays.get(name)?.dm.as_deref()
    }

    /// Loads another table and resumes it. `change` makes it of the live one, which stays where it does not
    /// load. A copied line must not bear `rebuild`: the copy would begin again.
    fn load_other(&mut self, name: &str, change: impl FnOnce(&mut World)) -> Result<(), i32> {
        let before = self.arrays.get(name).cloned().ok_or(errno::ENXIO)?;
        self.with_set(name, |set| set.rebuild.clear());
        change(self);
        self.leave_out(name);
        self.reload(name).inspect_err(|_| {
            self.arrays.insert(name.to_owned(), before);
        })
    }

    /// A failed leg that has no superblock or cannot be read is not in the next table.
    fn leave_out(&mut self, name: &str) {
        let Some(array) = self.arrays.get(name) else {
            return;
        };
        let Some(set) = &array.dm else { return };
        let out: BTreeSet<u32> = (0_u32..)
            .zip(&set.legs)
            .filter(|(slot, leg)| {
                let failed = array.member(leg.data).is_none_or(|m| m.faulty);
                let device = self.devices.get(&leg.data);
                let dead = device.is_none_or(|d| d.dead || !d.present);
                failed && !set.rebuild.contains(slot) && (dead || leg.superblock.is_none())
            })
            .map(|(slot, _)| slot)
            .collect();
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        let Some(set) = &mut array.dm else { return };
        for (slot, leg) in (0_u32..).zip(&mut set.legs) {
            if out.contains(&slot) && !leg.left_out {
                let dev = leg.data;
                set.former.push(leg.clone());
                leg.left_out = true;
                array.members.retain(|member| member.dev != dev);
            }
        }
    }

    /// A hold is the lowest rate in a new table; what starts something is a message.
    fn table_word(&mut self, name: &str, word: SyncWord) -> Result<(), i32> {
        let array = self.arrays.get(name).ok_or(errno::ENXIO)?;
        let (slowed, frozen) = (array.is_slowed(), array.frozen);
        let action = array.sync.as_ref().map(|sync| sync.action);
        let scrubs = matches!(action, Some(SyncAction::Check | SyncAction::Repair));
        let at_rate =
            |slow| move |world: &mut World| world.with_set(name, |set| set.slowed_by_owner = slow);
        match word {
            SyncWord::Frozen => self.load_other(name, at_rate(true)),
            SyncWord::Idle | SyncWord::Recover | SyncWord::Resync if slowed => {
                self.load_other(name, at_rate(false))
            }
            SyncWord::Idle if scrubs => self.load_other(name, at_rate(slowed)),
            SyncWord::Idle if frozen => self.message(name, word, true),
            SyncWord::Idle => Ok(()),
            SyncWord::Recover | SyncWord::Resync | SyncWord::Check | SyncWord::Repair => {
                self.message(name, word, true)
            }
        }
    }

    /// The table is loaded anew, and the leg taken back if it can be read.
    fn take_back(&mut self, name: &str, drive: &Target, action: &Action) -> Result<(), Error> {
        let lost = |why: &str| Error::RecoveryFailed {
            lun: name.to_owned(),
            drive: Some(format!("/dev/{}", drive.name)),
            why: why.to_owned(),
        };
        let device = self.devices.get(&drive.dev);
        if device.is_none_or(|d| !d.present || d.dead) {
            return Err(lost("it cannot be read: Input/output error"));
        }
        self.load_other(name, |world| {
            world.with_set(name, |set| set.slowed_by_owner = false);
        })
        .map_err(|errno| kernel_error(action, name, errno))?;
        if self.lives_on(name, drive).is_some() {
            return Ok(());
        }
        Err(lost(
            "the kernel does not take this leg back: its metadata cannot be read",
        ))
    }

    /// The slot of the leg on this drive, if that has not failed.
    fn lives_on(&self, name: &str, drive: &Target) -> Option<u32> {
        let array = self.arrays.get(name)?;
        let set = array.dm.as_ref()?;
        let slot = set.slot_on(drive.dev)?;
        let member = array.member(set.leg(slot)?.data)?;
        (!member.faulty).then_some(slot)
    }

    /// How a leg is laid on this drive in place of a lost one.
    fn may_replace(&self, name: &str, slot: u32, drive: &Target) -> Result<LegRoom, Error> {
        let array = self.arrays.get(name);
        let leg = self.dm_set(name).and_then(|set| set.leg(slot));
        let alive = leg.is_none_or(|leg| {
            array.is_some_and(|array| array.member(leg.data).is_some_and(|m| !m.faulty))
        });
        if alive {
            let why = format!("leg {slot} is not lost any more");
            return Err(not_ready(name, &why));
        }
        let Some(room) = self.leg_room(name) else {
            return Err(not_ready(name, "no leg has a metadata device"));
        };
        let refuse = |unfit| {
            Err(Error::DriveRefused {
                drive: drive.name.clone(),
                unfit,
            })
        };
        let have_bytes = self.devices.get(&drive.dev).map_or(0, |d| d.size_bytes);
        let need_bytes = room.bytes();
        if have_bytes < need_bytes {
            return refuse(Unfit::TooSmall {
                have_bytes,
                need_bytes,
            });
        }
        self.busy(drive).unwrap_or(Ok(())).map(|()| room)
    }

    fn replace_leg(
        &mut self,
        name: &str,
        slot: u32,
        drive: &Target,
        action: &Action,
    ) -> Result<(), Error> {
        if self.lives_on(name, drive) == Some(slot) {
            self.settle_table(name);
            return Ok(());
        }
        let room = self.may_replace(name, slot, drive)?;
        let filled = self.fill_leg(name, slot, drive, room);
        match filled {
            Ok(()) => self.settle_table(name),
            Err(_) => self.remove_unused(name),
        }
        filled.map_err(|errno| kernel_error(action, name, errno))
    }

    fn fill_leg(
        &mut self,
        name: &str,
        slot: u32,
        drive: &Target,
        room: LegRoom,
    ) -> Result<(), i32> {
        let leg = self.lay_pair(name, slot, drive, room)?;
        self.load_other(name, |world| world.put_in_slot(name, slot, leg))?;
        self.lives_on(name, drive).map(drop).ok_or(errno::EIO)
    }

    /// The table with another leg in this slot, which is to be filled.
    fn put_in_slot(&mut self, name: &str, slot: u32, leg: Leg) {
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        let Some(set) = &mut array.dm else { return };
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        let Some(place) = set.legs.get_mut(index) else {
            return;
        };
        let new = Member {
            slot: Slot::At(slot),
            ..Member::spare(leg.data, format!("dm-{}", leg.data.minor))
        };
        let old = std::mem::replace(place, leg);
        array.members.retain(|member| member.dev != old.data);
        array.members.push(new);
        if !old.left_out {
            set.former.push(old);
        }
        set.rebuild = BTreeSet::from([slot]);
        set.slowed_by_owner = false;
    }

    /// Loads the table again without `rebuild`. One that keeps the word works too.
    fn settle_table(&mut self, name: &str) {
        if self.dm_set(name).is_some_and(|set| !set.rebuild.is_empty()) {
            let _ = self.load_other(name, |_| ());
        }
    }

    /// Clears the table that waits, removes what is in none, and takes `rebuild` away.
    fn drop_table(&mut self, name: &str) -> Result<(), i32> {
        self.with_set(name, |set| set.inactive_table = false);
        self.remove_unused(name);
        let rebuilds = self.dm_set(name).is_some_and(|set| {
            let ours = |leg: &Leg| set.laid.iter().any(|laid| laid.dev == leg.data);
            let mut marked = set.rebuild.iter().filter_map(|slot| set.leg(*slot));
            marked.any(ours)
        });
        if rebuilds {
            return self.load_other(name, |_| ());
        }
        Ok(())
    }

    /// The first part of a replacement, as far as here. False where it would be refused, or has no middle.
    pub fn begin_replacement(&mut self, action: &Action, reached: Reached) -> bool {
        let Action::ReplaceLeg { array, slot, drive } = action else {
            return false;
        };
        let bare = self
            .dm_set(array)
            .is_some_and(|set| set.owner == DmOwner::Bare && !set.inactive_table && !set.slowed);
        if !bare || self.set_blocked(array) || self.check_identity(drive).is_err() {
            return false;
        }
        let Ok(room) = self.may_replace(array, *slot, drive) else {
            return false;
        };
        match reached {
            Reached::Named => self.make_laid(array, *slot, drive, LegPart::Meta).is_ok(),
            Reached::Metadata => self
                .make_laid(array, *slot, drive, LegPart::Meta)
                .map(|dev| self.load_laid(array, dev, drive, room))
                .is_ok(),
            Reached::Laid => self.lay_pair(array, *slot, drive, room).is_ok(),
            Reached::Loaded => {
                let done = self.lay_pair(array, *slot, drive, room).is_ok();
                self.with_set(array, |set| set.inactive_table |= done);
                done
            }
            Reached::Resumed | Reached::LoadedAgain => {
                if self.fill_leg(array, *slot, drive, room).is_err() {
                    self.remove_unused(array);
                    return false;
                }
                let again = reached == Reached::LoadedAgain;
                self.with_set(array, |set| set.inactive_table |= again);
                self.settle();
                true
            }
        }
    }

    /// The daemon lives, and goes on: what it holds in hand is as it was before.
    pub(crate) fn end_replacement(&mut self, action: &Action) {
        let Action::ReplaceLeg { array, .. } = action else {
            return;
        };
        if self
            .dm_set(array)
            .is_some_and(|set| set.owner == DmOwner::Bare)
        {
            self.with_set(array, |set| set.inactive_table = false);
            self.remove_unused(array);
        }
    }
}

fn not_ready(name: &str, why: &str) -> Error {
    Error::LunNotReady {
        lun: name.to_owned(),
        why: why.to_owned(),
    }
}
