//! What an action of lund does to the machine (`drivers/md/md.c:action_store`, `state_store`,
//! `slot_store`, `resync_start_store`); members that come and go are in [`crate::attach`].

use lun_core::Error;
use lun_core::action::{Action, SyncWord, Target};
use lun_core::error::Unfit;
use lun_core::facts::{Slot, SyncAction};
use lun_core::id::DevNo;

use crate::sync::{slot_empty, slot_wants_replacement};
use crate::world::{Array, KernelStyle, Mode, World, errno};

/// How far an action came.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// To its end.
    Done(Result<(), Error>),
    /// It waits for the sync thread of this array, which waits for a drive that hangs.
    Blocked(String),
}

impl World {
    /// Performs an action to its end.
    ///
    /// # Errors
    /// As the kernel or the tool would answer; [`Error::Timeout`] where a real caller would wait
    /// for a drive that hangs.
    pub fn act(&mut self, action: &Action) -> Result<(), Error> {
        match self.begin(action) {
            Outcome::Done(result) => result,
            Outcome::Blocked(array) => {
                // Whoever waits for a raid set gives up.
                let own = |(name, waits): &(String, Action)| *name == array && waits == action;
                if let Some(at) = self.waiting.iter().rposition(own) {
                    self.waiting.remove(at);
                }
                Err(Error::Timeout {
                    what: format!("stopping the sync of {array}"),
                    after_ms: 0,
                })
            }
        }
    }

    /// Performs an action as far as it goes without waiting.
    pub(crate) fn begin(&mut self, action: &Action) -> Outcome {
        self.log.push(action.clone());
        self.settle();
        if self.busy_next > 0 {
            self.busy_next -= 1;
            let object = action.array().unwrap_or("drive").to_owned();
            return Outcome::Done(Err(kernel_error(action, &object, errno::EBUSY)));
        }
        if let Some(Err(error)) = action.drive().map(|drive| self.check_identity(drive)) {
            return Outcome::Done(Err(error));
        }
        if let Some(name) = action.array().filter(|name| self.set_blocked(name)) {
            self.waiting.push((name.to_owned(), action.clone()));
            return Outcome::Blocked(name.to_owned());
        }
        if let Action::SetSync { array: name, word } = action {
            let stops = matches!(word, SyncWord::Frozen | SyncWord::Idle);
            if stops && self.stop_blocked(name) {
                if let Some(array) = self.arrays.get_mut(name) {
                    array.frozen = *word == SyncWord::Frozen;
                }
                self.hint_array(name);
                return Outcome::Blocked(name.clone());
            }
        }
        let resyncs = |world: &Self| {
            let array = action.array().and_then(|name| world.arrays.get(name));
            let sync = |array: &Array| array.sync.as_ref().map(|sync| sync.action);
            array.and_then(sync) == Some(SyncAction::Resync)
        };
        let before = resyncs(self);
        let result = match self.refused(action) {
            Some(result) => result,
            None => self.perform(action),
        };
        self.settle();
        let array = action.array().and_then(|name| self.arrays.get(name));
        // Of a raid set the kernel has begun that resync itself when the set was made, and whatever loads
        // its table takes it up again: neither LVM nor a message puts it off.
        let arrays_own = |array: &Array| array.dm.is_none() && array.half_filled_source();
        if !before && resyncs(self) && array.is_some_and(arrays_own) {
            self.violate(format!("{action}: the half-filled copy became the source"));
        }
        Outcome::Done(result)
    }

    /// Whether the array's sync thread cannot be stopped because a member hangs.
    pub(crate) fn stop_blocked(&self, name: &str) -> bool {
        if self.waiting.iter().any(|(other, _)| other == name) {
            return self.set_blocked(name);
        }
        self.arrays
            .get(name)
            .is_some_and(|a| a.dm.is_none() && a.sync.is_some() && self.stalled(a))
    }

    /// Ends what [`Outcome::Blocked`] began, and says how.
    pub(crate) fn end_blocked(&mut self, name: &str) -> Result<(), Error> {
        if let Some(at) = self.waiting.iter().position(|(other, _)| other == name) {
            let (_, action) = self.waiting.remove(at);
            let result = self.perform(&action);
            self.settle();
            return result;
        }
        self.interrupt(name);
        self.settle();
        Ok(())
    }

    /// Refuses a drive that is not there or not the one that the plan saw.
    pub(crate) fn check_identity(&self, target: &Target) -> Result<(), Error> {
        let refuse = |unfit| {
            Err(Error::DriveRefused {
                drive: target.name.clone(),
                unfit,
            })
        };
        match self.devices.get(&target.dev).filter(|d| d.present) {
            // A member whose drive has vanished can still be removed from its array.
            None if self.array_of(target.dev).is_some() => Ok(()),
            None => refuse(Unfit::NotPresent),
            Some(device) if device.id != target.id => refuse(Unfit::IdentityChanged),
            Some(_) => Ok(()),
        }
    }

    fn perform(&mut self, action: &Action) -> Result<(), Error> {
        let on_array = |name: &str, result: Result<(), i32>| {
            result.map_err(|errno| kernel_error(action, name, errno))
        };
        let is_set = |name: &str| self.arrays.get(name).is_some_and(|a| a.dm.is_some());
        if let Some(name) = action.array().filter(|name| is_set(name)) {
            return self.act_on_set(name, action);
        }
        match action {
            Action::SetSync { array, word } => on_array(array, self.set_sync(array, *word)),
            Action::ClearResyncStart { array, .. } => on_array(array, self.clear_resync(array)),
            Action::WholeRange { array } => on_array(array, self.whole_range(array)),
            Action::SetSpeed { array, min, max } => {
                on_array(array, self.set_speed(array, *min, *max))
            }
            Action::SetBitmap { array, on } => on_array(array, self.set_bitmap(array, *on)),
            Action::MakeReadWrite { array } => on_array(array, self.make_read_write(array)),
            Action::AddSpare { array, drive } => self.add_spare(array, drive),
            Action::ReAdd { array, drive } => self.re_add(array, drive),
            Action::FailMember { array, drive } => {
                let result = self.fail_member(array, drive);
                on_array(array, result)
            }
            Action::RemoveMember { array, drive } => {
                let result = self.remove_member(array, drive);
                on_array(array, result)
            }
            Action::WantReplacement { array, drive } => {
                let result = self.want_replacement(array, drive);
                on_array(array, result)
            }
            Action::SetSlot { array, drive, slot } => {
                let result = self.set_slot(array, drive, *slot);
                on_array(array, result)
            }
            Action::DropVanished { array, member } => {
                let result = self.drop_vanished(array, member);
                on_array(array, result)
            }
            Action::Light { drive, on } => {
                if let Some(device) = self.devices.get_mut(&drive.dev) {
                    device.lit = *on;
                }
                Ok(())
            }
            Action::Wipe { drive, .. } => self.wipe(drive),
            // These are for raid sets of device-mapper alone.
            Action::Revive { .. }
            | Action::RepairVolume { .. }
            | Action::ReplaceLeg { .. }
            | Action::DropTable { .. }
            | Action::ForgetLeg { .. }
            | Action::ExtendGroup { .. } => {
                on_array(action.array().unwrap_or_default(), Err(errno::ENOENT))
            }
        }
    }

    fn set_sync(&mut self, name: &str, word: SyncWord) -> Result<(), i32> {
        let style = self.style;
        let array = self.arrays.get_mut(name).ok_or(errno::ENOENT)?;
        if !array.has_sync() {
            return Err(errno::ENOENT);
        }
        if array.mode == Mode::Readonly {
            array.frozen = word == SyncWord::Frozen;
            return Ok(());
        }
        let running = array.sync.is_some();
        let start = !matches!(word, SyncWord::Frozen | SyncWord::Idle);
        if start && running {
            return Err(errno::EBUSY);
        }
        let quiet = word == SyncWord::Frozen && style != KernelStyle::V6_1;
        if array.mode == Mode::ReadAuto && !quiet {
            array.mode = Mode::Running;
        }
        array.frozen = word == SyncWord::Frozen;
        array.needed |= !quiet;
        match word {
            SyncWord::Check => array.requested = Some(SyncAction::Check),
            SyncWord::Repair => array.requested = Some(SyncAction::Repair),
            _ => {}
        }
        if running {
            self.interrupt(name);
        } else if !quiet {
            // An idle array frozen on kernels from 6.11 notifies nobody.
            self.hint_array(name);
        }
        Ok(())
    }

    fn clear_resync(&mut self, name: &str) -> Result<(), i32> {
        let array = self.arrays.get_mut(name).ok_or(errno::ENOENT)?;
        if array.mode != Mode::Inactive && !array.frozen {
            return Err(errno::EBUSY);
        }
        array.resync_start = None;
        let mut wrong = array.really_dirty;
        if wrong && array.half_filled_source() {
            // What is filled next is to be repaired then: until it is, the copies may differ.
            let good = array.members.iter_mut().filter(|m| m.good());
            good.for_each(|m| m.torn = true);
            array.mismatch_real += 8;
            (array.really_dirty, wrong) = (false, false);
        }
        if wrong {
            self.violate(format!("{name}: copies out of step were declared clean"));
        }
        self.bump(name);
        Ok(())
    }

    fn whole_range(&mut self, name: &str) -> Result<(), i32> {
        let array = self.arrays.get_mut(name).ok_or(errno::ENOENT)?;
        if !array.has_sync() {
            return Err(errno::ENOENT);
        }
        if array.sync.is_some() {
            return Err(errno::EBUSY);
        }
        array.sync_min = 0;
        array.sync_max = None;
        Ok(())
    }

    fn set_speed(&mut self, name: &str, min: Option<u32>, max: Option<u32>) -> Result<(), i32> {
        let array = self.arrays.get_mut(name).ok_or(errno::ENOENT)?;
        if !array.has_sync() {
            return Err(errno::ENOENT);
        }
        if min == Some(0) || max == Some(0) {
            return Err(errno::EINVAL);
        }
        (array.speed_min, array.speed_max) = (min, max);
        Ok(())
    }

    /// `md.c:update_array_info`: not while anything is to be done, a freeze included.
    fn set_bitmap(&mut self, name: &str, on: bool) -> Result<(), i32> {
        let array = self.arrays.get_mut(name).ok_or(errno::ENOENT)?;
        if !array.has_sync() {
            return Err(errno::EINVAL);
        }
        if array.sync.is_some() || array.frozen {
            return Err(errno::EBUSY);
        }
        array.bitmap = on;
        self.bump(name);
        Ok(())
    }

    fn make_read_write(&mut self, name: &str) -> Result<(), i32> {
        let array = self.arrays.get_mut(name).ok_or(errno::ENOENT)?;
        if array.mode != Mode::Running {
            array.mode = Mode::Running;
            array.needed = true;
            self.bump(name);
            self.hint_array(name);
        }
        Ok(())
    }

    fn fail_member(&mut self, name: &str, drive: &Target) -> Result<(), i32> {
        let array = self.arrays.get(name).ok_or(errno::ENODEV)?;
        array.member(drive.dev).ok_or(errno::ENODEV)?;
        self.write_faulty(name, drive.dev)
    }

    /// `faulty` written to a member's `state`. The answer is the same whether a member whose loss
    /// breaks the array was failed or not.
    pub(crate) fn write_faulty(&mut self, name: &str, dev: DevNo) -> Result<(), i32> {
        self.fault(name, dev);
        let array = self.arrays.get(name).ok_or(errno::ENODEV)?;
        if array.broken {
            Err(errno::EBUSY)
        } else {
            Ok(())
        }
    }

    fn want_replacement(&mut self, name: &str, drive: &Target) -> Result<(), i32> {
        let array = self.arrays.get_mut(name).ok_or(errno::ENODEV)?;
        let member = array.member_mut(drive.dev).ok_or(errno::ENODEV)?;
        // The kernel ignores it for spares and replacements and says nothing; the port looks.
        if !member.good() || member.replacement {
            return Err(0);
        }
        member.want_replacement = true;
        array.needed = true;
        self.hint_array(name);
        Ok(())
    }

    fn set_slot(&mut self, name: &str, drive: &Target, slot: u32) -> Result<(), i32> {
        let array = self.arrays.get_mut(name).ok_or(errno::ENODEV)?;
        let member = array.member(drive.dev).ok_or(errno::ENODEV)?;
        if member.slot != Slot::None || array.sync.is_some() {
            return Err(errno::EBUSY);
        }
        if member.faulty {
            return Err(errno::EINVAL);
        }
        if slot >= array.raid_disks {
            return Err(errno::ENOSPC);
        }
        let replacement = slot_wants_replacement(array, slot);
        // A faulty member lingers in its slot while the array is frozen, and still fills it.
        if !replacement && !slot_empty(array, slot) {
            return Err(errno::EEXIST);
        }
        let member = array.member_mut(drive.dev).ok_or(errno::ENODEV)?;
        member.slot = Slot::At(slot);
        member.replacement = replacement;
        member.recovery_offset = Some(0);
        self.bump(name);
        self.hint_array(name);
        Ok(())
    }
}

/// The kernel's refusal of an action.
pub(crate) fn kernel_error(action: &Action, object: &str, errno: i32) -> Error {
    let (verb, file) = match action {
        Action::SetSync { word, .. } => (format!("writing {}", word.as_str()), "sync_action"),
        Action::ClearResyncStart { .. } => ("writing none".to_owned(), "resync_start"),
        Action::WholeRange { .. } => ("writing 0".to_owned(), "sync_min"),
        Action::SetSpeed { .. } => ("writing a speed".to_owned(), "sync_speed_max"),
        Action::SetBitmap { .. } => ("changing the bitmap".to_owned(), ""),
        Action::MakeReadWrite { .. } => ("writing active".to_owned(), "array_state"),
        Action::AddSpare { .. } => ("adding a spare".to_owned(), ""),
        Action::ReAdd { .. } => ("re-adding a member".to_owned(), ""),
        Action::FailMember { .. } => ("writing faulty".to_owned(), "state"),
        Action::RemoveMember { .. } => ("removing a member".to_owned(), ""),
        Action::DropVanished { .. } => ("dropping a vanished member".to_owned(), ""),
        Action::WantReplacement { .. } => ("writing want_replacement".to_owned(), "state"),
        Action::SetSlot { slot, .. } => (format!("writing {slot}"), "slot"),
        Action::Light { .. } => ("switching a light".to_owned(), ""),
        Action::Wipe { .. } => ("erasing signatures".to_owned(), ""),
        Action::Revive { .. } => ("taking a leg back".to_owned(), ""),
        Action::RepairVolume { .. } => ("replacing legs".to_owned(), ""),
        Action::ReplaceLeg { .. } => ("replacing a leg".to_owned(), ""),
        Action::DropTable { .. } => ("clearing a table".to_owned(), ""),
        Action::ForgetLeg { .. } => ("erasing a superblock".to_owned(), ""),
        Action::ExtendGroup { .. } => ("extending the volume group".to_owned(), ""),
    };
    let drive = action
        .drive()
        .map_or(String::new(), |d| format!("/{}", d.name));
    let file = if file.is_empty() {
        String::new()
    } else {
        format!("/{file}")
    };
    Error::Kernel {
        action: verb,
        object: format!("{object}{drive}{file}"),
        errno,
        detail: describe(errno).to_owned(),
    }
}

/// The C library's words for an error number.
pub(crate) const fn describe(errno: i32) -> &'static str {
    match errno {
        0 => "the kernel took the word and ignored it",
        errno::ENOENT => "No such file or directory",
        errno::EIO => "Input/output error",
        errno::ENXIO => "No such device or address",
        errno::EBUSY => "Device or resource busy",
        errno::EEXIST => "File exists",
        errno::ENODEV => "No such device",
        errno::EINVAL => "Invalid argument",
        errno::ENOSPC => "No space left on device",
        errno::EROFS => "Read-only file system",
        _ => "unknown error",
    }
}
