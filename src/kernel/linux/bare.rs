//! The actions on raid sets made with dmsetup. There is one primitive: another table is loaded and
//! resumed. The resume suspends, swaps and wakes in one call of the kernel
//! (`drivers/md/dm-ioctl.c:do_resume`), so that a daemon that is killed leaves no set suspended, and a
//! table that does not load leaves the live one as it was.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use devicemapper::{DM, DevId, DmFlags, DmName, DmOptions, DmUuid};
use lun_core::Error;
use lun_core::action::{Action, SyncWord, Target};
use lun_core::error::Unfit;
use lun_core::facts::{
    LAID_PREFIX, LaidDevice, LegHealth, LegPart, LegRoom, RaidLeg, RaidStatus, RaidTable,
    SyncAction,
};
use lun_core::id::DevNo;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::exclusive::{TO_TAKE, when_free};
use super::read::{failed, text};
use super::tool::Tools;
use super::{Roots, act, device, dm, superblock};
use crate::{parse, raid_set};

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Where a superblock lies and how much of a metadata device it takes, bytes: a block of any disk.
const SUPERBLOCK: u64 = 4096;
/// How long a new leg may take to get its superblock; it is written as soon as the set's thread runs.
const WRITTEN: Duration = Duration::from_secs(5);
/// Longest wait for an event of device-mapper between two looks.
const TICK: u16 = 50;

/// Performs one action on the set that device-mapper calls `name`.
pub(crate) fn act(roots: &Roots, tools: &Tools, name: &str, action: &Action) -> Result<(), Error> {
    let hand = Hand {
        roots,
        tools,
        name,
        dm: dm::open()?,
    };
    match action {
        Action::SetSync { word, .. } => hand.set_sync(*word),
        Action::Revive { drive, .. } => hand.revive(drive),
        Action::ReplaceLeg { slot, drive, .. } => hand.replace(*slot, drive),
        Action::DropTable { .. } => hand.drop_unused(),
        Action::ForgetLeg { drive, .. } => hand.forget(drive),
        _ => Err(super::set::not_for(
            &raid_set::array_name(name),
            action,
            "it is a raid set made with dmsetup",
        )),
    }
}

struct Hand<'a> {
    roots: &'a Roots,
    tools: &'a Tools,
    name: &'a str,
    dm: DM,
}

/// What a set is before it is changed.
struct Before {
    table: RaidTable,
    status: RaidStatus,
    flags: DmFlags,
}

impl Hand<'_> {
    /// The live table. Nothing is done to a set of which somebody changes the table.
    fn before(&self) -> Result<Before, Error> {
        let set = dm::named(self.roots, self.name)?;
        if set.flags.contains(DmFlags::DM_INACTIVE_PRESENT) {
            return Err(
                self.not_ready("somebody has loaded a second table, which waits for a resume")
            );
        }
        Ok(Before {
            table: dm::known(self.name, "table", set.table)?,
            status: dm::known(self.name, "status", set.status)?,
            flags: set.flags,
        })
    }

    fn not_ready(&self, why: &str) -> Error {
        Error::LunNotReady {
            lun: raid_set::array_name(self.name),
            why: why.to_owned(),
        }
    }

    /// Only a rate holds on every kernel: from 6.9 the message `frozen` is refused and lifted again, and `idle`
    /// is answered with an error. A new table stops a check; what it has read until then is forgotten.
    fn set_sync(&self, word: SyncWord) -> Result<(), Error> {
        let before = self.before()?;
        let held = raid_set::stands_still(&before.table);
        let scrubs = matches!(before.status.action, SyncAction::Check | SyncAction::Repair);
        let table = before.table.reloaded();
        match word {
            SyncWord::Frozen => self.reload(&before, &table.at_rate(Some(raid_set::HOLD_RATE))),
            SyncWord::Idle | SyncWord::Recover | SyncWord::Resync if held => {
                self.reload(&before, &table.at_rate(None))
            }
            SyncWord::Idle if scrubs => self.reload(&before, &table),
            // Somebody's message holds it; only 6.1 keeps that up.
            SyncWord::Idle if before.status.action == SyncAction::Frozen => {
                self.message(word.as_str())
            }
            SyncWord::Idle => Ok(()),
            SyncWord::Check | SyncWord::Repair if held => {
                Err(self.not_ready("its recovery rate is the lowest, at which no check ends"))
            }
            SyncWord::Check | SyncWord::Repair | SyncWord::Recover | SyncWord::Resync => {
                self.message(word.as_str())
            }
        }
    }

    fn message(&self, word: &str) -> Result<(), Error> {
        let name = dm_name(self.name)?;
        self.dm
            .target_msg(&DevId::Name(name), None, word)
            .map(drop)
            .map_err(|error| {
                dm::failed(&format!("send the message `{word}` to"), self.name, &error)
            })
    }

    /// Puts another table in the place of the live one.
    fn reload(&self, before: &Before, table: &RaidTable) -> Result<(), Error> {
        let table = self.without_gone(before, table)?;
        let line = table.line();
        self.load(before, &table)?;
        let name = dm_name(self.name)?;
        let id = DevId::Name(name);
        let info = self
            .dm
            .device_info(&id)
            .map_err(|error| dm::failed("look at", self.name, &error))?;
        if !info.flags().contains(DmFlags::DM_INACTIVE_PRESENT) {
            return Err(self.not_ready(&format!(
                "somebody has cleared or resumed the table `{line}`"
            )));
        }
        self.dm
            .device_suspend(&id, DmOptions::default())
            .map(drop)
            .map_err(|error| {
                let error = dm::failed(
                    &format!("resume, with the table `{line}`,"),
                    self.name,
                    &error,
                );
                self.go_back(before);
                error
            })
    }

    fn load(&self, before: &Before, table: &RaidTable) -> Result<(), Error> {
        let name = dm_name(self.name)?;
        let params = table.params(&|dev| dev.to_string());
        let target = (table.start, table.len, "raid".to_owned(), params);
        let options = DmOptions::default().set_flags(before.flags & DmFlags::DM_READONLY);
        let id = DevId::Name(name);
        self.dm
            .table_load(&id, &[target], options)
            .map(drop)
            .map_err(|error| {
                let action = format!("load the table `{}` of", table.line());
                let error = dm::failed(&action, self.name, &error);
                // What was not loaded is not there; to clear nothing is no failure.
                let _ = self.dm.table_clear(&id);
                error
            })
    }

    /// A table that loads and does not wake is taken out again: nobody may be left waiting for it.
    fn go_back(&self, before: &Before) {
        let Ok(name) = dm_name(self.name) else { return };
        let id = DevId::Name(name);
        let old = before.table.reloaded();
        let tried = self
            .dm
            .table_clear(&id)
            .map_err(|error| dm::failed("clear the table of", self.name, &error))
            .and_then(|_| self.load(before, &old))
            .and_then(|()| {
                self.dm
                    .device_suspend(&id, DmOptions::default())
                    .map_err(|error| dm::failed("resume", self.name, &error))
            });
        if let Err(error) = tried {
            tracing::error!(set = self.name, %error, "cannot go back to the table before");
        }
    }

    /// A table does not load with a device that is gone, nor with a leg that has no superblock and is not to be
    /// filled; and of a failed leg whose metadata can be read the kernel believes that it is back, and in sync
    /// at once where nothing was written meanwhile. Such legs are left out. Only those that have failed already.
    fn without_gone(&self, before: &Before, table: &RaidTable) -> Result<RaidTable, Error> {
        let gone =
            |dev: Option<DevNo>| dev.is_some_and(|dev| dm::folder_of(self.roots, dev).is_none());
        let mut table = table.clone();
        let rebuild = table.rebuild.clone();
        for (slot, leg) in (0_u32..).zip(&mut table.legs) {
            let index = usize::try_from(slot).unwrap_or(usize::MAX);
            let failed = before.status.legs.get(index) == Some(&LegHealth::Failed);
            let gone = gone(leg.meta) || gone(leg.data);
            let dead = || failed && !rebuild.contains(&slot) && self.is_dead(leg);
            if !gone && !dead() {
                continue;
            }
            if !failed {
                let why =
                    format!("the device of leg {slot} is gone, and the kernel has not noticed");
                return Err(self.not_ready(&why));
            }
            *leg = RaidLeg {
                meta: None,
                data: None,
            };
        }
        Ok(table)
    }

    /// Whether a leg has no superblock, or data that cannot be read.
    fn is_dead(&self, leg: &RaidLeg) -> bool {
        let node = |dev: Option<DevNo>| dev.and_then(|dev| self.node(dev).ok());
        let blank = |node: PathBuf| matches!(superblock::read_block(&node), Ok(None));
        node(leg.meta).is_some_and(blank)
            || node(leg.data).is_some_and(|node| superblock::block(&node).is_err())
    }

    /// A leg that failed and whose superblock can be read is taken back by a table that is loaded anew
    /// (`drivers/md/dm-raid.c:super_init_validation`), and filled by the bitmap. One whose data cannot be
    /// read would fail again in a moment.
    fn revive(&self, drive: &Target) -> Result<(), Error> {
        let before = self.before()?;
        let node = PathBuf::from(act::drive_node(self.roots, self.tools, drive)?);
        let lost = |why: String| Error::RecoveryFailed {
            lun: raid_set::array_name(self.name),
            drive: Some(format!("/dev/{}", drive.name)),
            why,
        };
        superblock::block(&node).map_err(|error| lost(format!("it cannot be read: {error}")))?;
        self.reload(&before, &released(&before.table))?;
        dm::require_alive(self.roots, self.name, drive)
    }

    /// Lays a leg on a drive and has it filled.
    fn replace(&self, slot: u32, drive: &Target) -> Result<(), Error> {
        let before = self.before()?;
        let laid = dm::laid(self.name, &before.table);
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        let letter = before.status.legs.get(index).copied();
        let alive = matches!(letter, Some(LegHealth::Alive | LegHealth::InSync));
        if alive && dm::slot_on(&before.table, &laid, drive.dev) == Some(index) {
            self.settle(slot);
            return Ok(());
        }
        if alive || letter.is_none() {
            return Err(self.not_ready(&format!("leg {slot} is not lost any more")));
        }
        let room = self.room(&before.table, drive)?;
        act::free_drive(self.roots, self.tools, drive)?;
        let devices =
            [LegPart::Meta, LegPart::Data].map(|part| Lay::new(self.name, slot, drive, part, room));
        let filled = self.fill(&before, slot, drive, &devices);
        match &filled {
            Ok(()) => self.settle(slot),
            Err(_) => devices.iter().for_each(|device| self.take_back(device)),
        }
        filled
    }

    /// Undoes the laying of a device, which was blank before. In a table it is open, and stays as it is.
    fn take_back(&self, device: &Lay) {
        let erased = || -> Result<(), Error> {
            let info = self
                .dm
                .device_info(&DevId::Name(dm_name(&device.name)?))
                .map_err(|error| dm::failed("find", &device.name, &error))?;
            erase(&self.node(dm::dev_no(info.device()))?, SUPERBLOCK)
        };
        if device.part == LegPart::Meta
            && let Err(error) = erased()
        {
            tracing::warn!(name = device.name, %error, "a superblock may be left on it");
        }
        self.remove(&device.name);
    }

    /// How the leg is laid out. The metadata devices of the others tell how much it takes.
    fn room(&self, table: &RaidTable, drive: &Target) -> Result<LegRoom, Error> {
        let metas = table.legs.iter().filter_map(|leg| leg.meta);
        let meta_bytes = metas.filter_map(|dev| self.size(dev)).max();
        let Some(meta_bytes) = meta_bytes else {
            return Err(self.not_ready("no leg has a metadata device"));
        };
        let room = LegRoom::new(meta_bytes, raid_set::component_bytes(table));
        let have_bytes = self.size(drive.dev).unwrap_or(0);
        if have_bytes < room.bytes() {
            return Err(Error::DriveRefused {
                drive: drive.name.clone(),
                unfit: Unfit::TooSmall {
                    have_bytes,
                    need_bytes: room.bytes(),
                },
            });
        }
        Ok(room)
    }

    fn size(&self, dev: DevNo) -> Option<u64> {
        let path = dm::folder_of(self.roots, dev)?.join("size");
        let sectors: u64 = parse::number("size", &text(&path).ok()?).ok()?;
        Some(sectors.saturating_mul(SECTOR))
    }

    fn fill(
        &self,
        before: &Before,
        slot: u32,
        drive: &Target,
        devices: &[Lay; 2],
    ) -> Result<(), Error> {
        let [meta, data] = devices;
        let meta_dev = self.lay(meta)?;
        erase(&self.node(meta_dev)?, meta.sectors.saturating_mul(SECTOR))?;
        let data_dev = self.lay(data)?;
        let mut table = released(&before.table);
        table.rebuild.insert(slot);
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        if let Some(leg) = table.legs.get_mut(index) {
            *leg = RaidLeg {
                meta: Some(meta_dev),
                data: Some(data_dev),
            };
        }
        self.reload(before, &table)?;
        dm::require_alive(self.roots, self.name, drive)
    }

    /// Loads the table again without `rebuild`, which would begin anew what has been filled, should anybody
    /// copy the line. It loads when the new leg has its superblock. A table that keeps the word works too.
    fn settle(&self, slot: u32) {
        let until = Instant::now() + WRITTEN;
        let settled = loop {
            // Before the look, so that no event falls between the two.
            let _ = self.dm.arm_poll();
            let tried = self.without_rebuild(slot);
            if !matches!(tried, Ok(false)) || Instant::now() >= until {
                break tried;
            }
            self.wait();
        };
        if let Err(error) = settled {
            tracing::warn!(set = self.name, %error, "its table keeps the word `rebuild`");
        }
    }

    /// Whether it is done; not while the new leg has no superblock.
    fn without_rebuild(&self, slot: u32) -> Result<bool, Error> {
        let before = self.before()?;
        if before.table.rebuild.is_empty() {
            return Ok(true);
        }
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        let meta = before.table.legs.get(index).and_then(|leg| leg.meta);
        let Some(meta) = meta else { return Ok(true) };
        let written = superblock::read_block(&self.node(meta)?)?.is_some();
        if written {
            self.reload(&before, &before.table.reloaded())?;
        }
        Ok(written)
    }

    /// Until device-mapper has an event, or a moment has passed: there is none when a superblock is written.
    fn wait(&self) {
        let mut fds = [PollFd::new(self.dm.file().as_fd(), PollFlags::POLLIN)];
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, PollTimeout::from(TICK));
    }

    /// Makes a linear device on a drive.
    fn lay(&self, device: &Lay) -> Result<DevNo, Error> {
        let name = dm_name(&device.name)?;
        let uuid =
            DmUuid::new(&device.uuid).map_err(|error| dm::failed("name", &device.name, &error))?;
        let made = self
            .dm
            .device_create(name, Some(uuid), DmOptions::default())
            .map_err(|error| dm::failed("create", &device.name, &error))?;
        let id = DevId::Name(name);
        let params = format!("{} {}", device.on, device.at_sectors);
        let target = (0, device.sectors, "linear".to_owned(), params.clone());
        self.dm
            .table_load(&id, &[target], DmOptions::default())
            .map_err(|error| {
                dm::failed(
                    &format!("load the table `linear {params}` of"),
                    &device.name,
                    &error,
                )
            })?;
        // Nobody else shall look for file systems in half a leg.
        self.dm
            .device_suspend(&id, DmOptions::private())
            .map_err(|error| dm::failed("resume", &device.name, &error))?;
        Ok(dm::dev_no(made.device()))
    }

    fn node(&self, dev: DevNo) -> Result<PathBuf, Error> {
        dm::folder_of(self.roots, dev)
            .and_then(|folder| dm::kernel_name(&folder))
            .map(|name| device::node(self.roots, &name))
            .ok_or_else(|| self.not_ready(&format!("no device has the number {dev}")))
    }

    /// Removes a device of ours that nobody uses.
    fn remove(&self, name: &str) {
        let Ok(text) = dm_name(name) else { return };
        match self
            .dm
            .device_remove(&DevId::Name(text), DmOptions::default())
        {
            Ok(_) => {}
            Err(error) if dm::errno(&error) == Some(nix::errno::Errno::ENXIO) => {}
            Err(error) => tracing::warn!(name, %error, "cannot remove the device"),
        }
    }

    /// Clears a second table, which the planner knows to be ours, removes what no table has, and loads a
    /// table that still says `rebuild` of a leg of ours without the word.
    fn drop_unused(&self) -> Result<(), Error> {
        let set = dm::named(self.roots, self.name)?;
        let table = dm::known(self.name, "table", set.table)?;
        if set.flags.contains(DmFlags::DM_INACTIVE_PRESENT) {
            self.dm
                .table_clear(&DevId::Name(dm_name(self.name)?))
                .map_err(|error| dm::failed("clear the second table of", self.name, &error))?;
        }
        let unused = |laid: &&LaidDevice| !laid.in_use;
        for device in dm::laid(self.name, &table).iter().filter(unused) {
            self.remove(&device.name);
        }
        let laid = dm::laid(self.name, &table);
        match laid.iter().find(unused) {
            None if table.has_rebuild_of(&laid) => {
                let before = self.before()?;
                self.reload(&before, &before.table.reloaded())
            }
            None => Ok(()),
            Some(left) => Err(self.not_ready(&format!("{} cannot be removed", left.name))),
        }
    }

    /// Erases the superblock of a leg that is in no table any more.
    fn forget(&self, meta: &Target) -> Result<(), Error> {
        forget(Path::new(&act::free_drive(self.roots, self.tools, meta)?))
    }
}

/// Erases the superblock at the beginning of a device, where there is one.
pub(crate) fn forget(node: &Path) -> Result<(), Error> {
    if superblock::is_borne(node)? {
        return erase(node, SUPERBLOCK);
    }
    Ok(())
}

/// A device to be laid.
struct Lay {
    part: LegPart,
    name: String,
    uuid: String,
    on: DevNo,
    at_sectors: u64,
    sectors: u64,
}

impl Lay {
    /// The drive's identity makes the names: a slot may be laid again, on another one.
    fn new(set: &str, slot: u32, drive: &Target, part: LegPart, room: LegRoom) -> Self {
        let (word, at_sectors, sectors) = match part {
            LegPart::Meta => ("meta", 0, room.meta_sectors),
            LegPart::Data => ("data", room.data_at, room.data_sectors),
        };
        let id = drive.id.to_string();
        let short = id.split('-').next().unwrap_or_default();
        Self {
            part,
            name: format!("{}{word}_{slot}_{short}", dm::laid_prefix(set)),
            uuid: format!("{LAID_PREFIX}{word}-{id}"),
            on: drive.dev,
            at_sectors,
            sectors,
        }
    }
}

/// The table as it may be loaded again, not held any more.
fn released(table: &RaidTable) -> RaidTable {
    let again = table.reloaded();
    if raid_set::stands_still(table) {
        again.at_rate(None)
    } else {
        again
    }
}

fn dm_name(name: &str) -> Result<&DmName, Error> {
    DmName::new(name).map_err(|error| dm::failed("name", name, &error))
}

/// Writes nothing but zeros to the beginning of a device that nobody else has open.
fn erase(node: &Path, bytes: u64) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let flags = libc::O_EXCL | libc::O_CLOEXEC;
        let open = || {
            OpenOptions::new()
                .write(true)
                .custom_flags(flags)
                .open(node)
        };
        let mut file = when_free(TO_TAKE, open)?;
        io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
        file.sync_all()
    };
    write().map_err(|error| failed("erase the superblock on", node, &error))
}
