//! Drives that join an array or leave it: what `mdadm` and the kernel do together
//! (`Manage.c:Manage_add`, `drivers/md/md.c:md_add_new_disk`, `hot_remove_disk`).

use lun_core::Error;
use lun_core::action::Target;
use lun_core::facts::{Level, Slot, SyncAction};
use lun_core::id::DevNo;
use lun_kernel::Hint;

use crate::world::{Array, KernelStyle, Member, Mode, World, errno};

impl World {
    /// `mdadm --add-spare`.
    pub(crate) fn add_spare(&mut self, name: &str, drive: &Target) -> Result<(), Error> {
        let fail = |why: String| Err(mdadm(name, "--add-spare", &drive.name, why));
        let style = self.style;
        let Some(array) = self.arrays.get(name).filter(|a| a.mode != Mode::Inactive) else {
            return fail(format!("cannot get array info for /dev/{name}"));
        };
        let (needs, blocks) = (array.component, array.block_bytes);
        if array.mode == Mode::Readonly {
            return fail("add new device failed: Read-only file system".to_owned());
        }
        if !array.enough() {
            // mdadm froze the array for the attempt, and lets it go again.
            let frozen = array.frozen;
            if let Some(array) = self.arrays.get_mut(name) {
                array.needed |= !frozen;
            }
            return fail(format!("/dev/{name} has failed so using --add cannot work"));
        }
        if let Some(user) = self.exclusive_user(drive.dev) {
            return fail(format!(
                "Cannot open /dev/{}: Device or resource busy ({user})",
                drive.name
            ));
        }
        let Some(device) = self.devices.get(&drive.dev) else {
            return fail("No such device".to_owned());
        };
        if device.read_only {
            return fail(format!("/dev/{} is read-only", drive.name));
        }
        if device.usable_sectors() < needs {
            return fail(format!(
                "/dev/{} not large enough to join array",
                drive.name
            ));
        }
        let block_bytes = device.block_bytes;
        if block_bytes > blocks && style == KernelStyle::V7 {
            return fail("add new device failed: Invalid argument".to_owned());
        }
        self.guard_overwrite(drive.dev, &format!("added to {name}"));
        if block_bytes > blocks {
            self.violate(format!(
                "{name}: {} raised its logical block size",
                drive.name
            ));
            if let Some(array) = self.arrays.get_mut(name) {
                array.block_bytes = block_bytes;
            }
        }
        self.blank(drive.dev);
        self.interrupt_recovery_for_add(name);
        self.bind(name, Member::spare(drive.dev, drive.name.clone()));
        Ok(())
    }

    /// `mdadm --re-add`.
    pub(crate) fn re_add(&mut self, name: &str, drive: &Target) -> Result<(), Error> {
        let fail = |why: String| Err(mdadm(name, "--re-add", &drive.name, why));
        let Some(array) = self.arrays.get(name).filter(|a| a.mode != Mode::Inactive) else {
            return fail(format!("cannot get array info for /dev/{name}"));
        };
        let Some(device) = self.devices.get(&drive.dev).filter(|d| d.present) else {
            return fail("No such device".to_owned());
        };
        let listed = array.member(drive.dev);
        let Some(superblock) = device
            .superblock
            .as_ref()
            .filter(|sb| sb.array == array.uuid)
        else {
            return fail(format!(
                "--re-add for /dev/{} to /dev/{name} is not possible",
                drive.name
            ));
        };
        let Some(slot) = listed.map_or(superblock.role, |m| m.saved_slot) else {
            return fail(format!(
                "--re-add for /dev/{} to /dev/{name} is not possible",
                drive.name
            ));
        };
        if listed.is_some_and(|m| !m.faulty || m.slot != Slot::None) {
            return fail("re-add refused: Device or resource busy".to_owned());
        }
        // Its own faulty entry, lingering while frozen, was refused above; anybody else's counts.
        if array
            .members
            .iter()
            .any(|m| m.slot == Slot::At(slot) && !m.faulty)
        {
            return fail(format!("slot {slot} of /dev/{name} is taken"));
        }
        if listed.is_none() {
            if let Some(user) = self.exclusive_user(drive.dev) {
                return fail(format!("Cannot open /dev/{}: {user}", drive.name));
            }
            if !array.bitmap && superblock.events < array.events.saturating_sub(1) {
                return fail(format!(
                    "--re-add for /dev/{} to /dev/{name} is not possible",
                    drive.name
                ));
            }
        }
        let member = Member {
            slot: Slot::At(slot),
            ..Member::spare(drive.dev, drive.name.clone())
        };
        self.bind_former(name, member);
        Ok(())
    }

    /// Puts a former member back into its slot. What is copied depends on the bitmap, and without
    /// one a mirror believes that nothing is to be copied (`raid1.c:raid1_sync_request`).
    fn bind_former(&mut self, name: &str, mut member: Member) {
        let missed = self
            .devices
            .get(&member.dev)
            .map_or(0, |d| d.missed_sectors);
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        array.members.retain(|m| m.dev != member.dev);
        let mirror = matches!(array.level, Level::Raid1 | Level::Raid10);
        if array.bitmap {
            member.recovery_offset = Some(array.component.saturating_sub(missed));
        } else if mirror {
            member.recovery_offset = None;
            member.in_sync = true;
        }
        self.interrupt_recovery_for_add(name);
        self.bind(name, member);
    }

    /// `mdadm` freezes a recovery for the time of an add; the pass begins again at the lowest
    /// checkpoint.
    fn interrupt_recovery_for_add(&mut self, name: &str) {
        let recovers = self
            .arrays
            .get(name)
            .and_then(|a| a.sync.as_ref())
            .is_some_and(|s| s.action == SyncAction::Recover);
        if recovers {
            self.interrupt(name);
        }
    }

    /// Binds a device and lets the array look for work. An array in `read-auto` becomes writable.
    pub(crate) fn bind(&mut self, name: &str, member: Member) {
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        if array.mode == Mode::ReadAuto {
            array.mode = Mode::Running;
        }
        array.members.push(member);
        array.needed = true;
        self.bump(name);
        self.hint_array(name);
        self.hint(Hint::Devices);
    }

    /// `HOT_REMOVE_DISK`.
    pub(crate) fn remove_member(&mut self, name: &str, drive: &Target) -> Result<(), i32> {
        self.detach(name, drive.dev)
    }

    fn detach(&mut self, name: &str, dev: DevNo) -> Result<(), i32> {
        let style = self.style;
        let array = self.arrays.get_mut(name).ok_or(errno::ENODEV)?;
        let member = array.member(dev).ok_or(errno::ENXIO)?;
        let in_slot = member.slot != Slot::None;
        let syncs_old = array.sync.is_some() && style == KernelStyle::V6_1;
        let held_by_broken =
            array.broken && style == KernelStyle::V7 && !matches!(array.level, Level::Raid1);
        if in_slot && (!member.faulty || syncs_old || held_by_broken) {
            return Err(errno::EBUSY);
        }
        array.members.retain(|m| m.dev != dev);
        self.bump(name);
        self.hint_array(name);
        self.hint(Hint::Devices);
        Ok(())
    }

    /// `faulty` and `remove` written to the `state` of a member whose device is gone.
    pub(crate) fn drop_vanished(&mut self, name: &str, member: &str) -> Result<(), i32> {
        let array = self.arrays.get(name).ok_or(errno::ENODEV)?;
        let found = array.members.iter().find(|m| m.name == member);
        let dev = found.ok_or(errno::ENODEV)?.dev;
        self.write_faulty(name, dev)?;
        self.detach(name, dev)
    }

    /// `wipefs --all` and `mdadm --zero-superblock`.
    pub(crate) fn wipe(&mut self, drive: &Target) -> Result<(), Error> {
        let fail = |stderr: String| Error::Tool {
            program: "wipefs".to_owned(),
            args: vec!["--all".to_owned(), format!("/dev/{}", drive.name)],
            status: "exit status: 1".to_owned(),
            stderr,
        };
        if let Some(user) = self.exclusive_user(drive.dev) {
            return Err(fail(format!(
                "/dev/{}: Device or resource busy ({user})",
                drive.name
            )));
        }
        if self.devices.get(&drive.dev).is_none_or(|d| d.read_only) {
            return Err(fail(format!("/dev/{}: cannot be written", drive.name)));
        }
        self.guard_overwrite(drive.dev, "wiped");
        self.blank(drive.dev);
        self.hint(Hint::Devices);
        Ok(())
    }

    /// Nothing of what was on the drive is left.
    fn blank(&mut self, dev: DevNo) {
        if let Some(device) = self.devices.get_mut(&dev) {
            device.superblock = None;
            device.content = None;
            device.missed_sectors = 0;
            device.signatures.clear();
        }
    }

    /// Who keeps the drive from being opened exclusively.
    #[must_use]
    pub fn exclusive_user(&self, dev: DevNo) -> Option<String> {
        if let Some(array) = self.array_of(dev) {
            return Some(array.name.clone());
        }
        if let Some(set) = self.set_of_leg(dev) {
            return Some(set.to_owned());
        }
        let device = self.devices.get(&dev)?;
        let leg = self.legs_on(device.id).into_iter();
        let mut leg = leg.filter_map(|dev| self.devices.get(&dev).filter(|d| d.present));
        if let Some(leg) = leg.next() {
            return Some(leg.name.clone());
        }
        let of_holders = device.holders.iter().next().cloned();
        let opened = device.opened.then(|| "another process".to_owned());
        device.used_by.first().cloned().or(of_holders).or(opened)
    }
}

/// Whether a drive's content belongs to this array.
pub(crate) fn bears_content_of(world: &World, dev: DevNo, array: &Array) -> bool {
    world
        .devices
        .get(&dev)
        .and_then(|d| d.content)
        .is_some_and(|(owner, _)| owner == array.uuid)
}

fn mdadm(array: &str, verb: &str, drive: &str, why: String) -> Error {
    Error::Tool {
        program: "mdadm".to_owned(),
        args: vec![
            format!("/dev/{array}"),
            verb.to_owned(),
            format!("/dev/{drive}"),
        ],
        status: "exit status: 1".to_owned(),
        stderr: format!("mdadm: {why}"),
    }
}
