//! Device-mapper: the devices whose table is one target `raid`. Only ioctls that read are used here,
//! and no device of a set is opened but those of its metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use devicemapper::{
    DM, DevId, DeviceInfo, DmError, DmFlags, DmName, DmOptions, errors::Error as Failed,
};
use lun_core::Error;
use lun_core::action::Target;
use lun_core::facts::{
    ArrayFacts, DmOwner, DmRaidFacts, Fact, LaidDevice, LegHealth, MdstatFacts, MdstatProgress,
    RaidLeg, RaidStatus, RaidTable, SyncAction,
};
use lun_core::id::DevNo;
use nix::errno::Errno;

use super::Roots;
use super::read::{fact, map, text, to_fact};
use super::superblock::Superblocks;
use crate::parse;
use crate::raid_set::{self, Disk};

/// Target whose devices are LUNs.
const RAID: &str = "raid";
/// Bytes of a sector, sectors of a KiB.
const SECTOR: u64 = 512;
const PER_KIB: u64 = 2;

/// Whether the driver is loaded. The control node of the running machine is the only one that can
/// be asked.
pub(crate) fn is_loaded(roots: &Roots) -> bool {
    *roots == Roots::system() && roots.sys.join("class/misc/device-mapper").exists()
}

/// Opens the control node.
pub(crate) fn open() -> Result<DM, Error> {
    DM::new().map_err(|error| failed("open", "/dev/mapper/control", &error))
}

/// Every raid set by its name as an array.
pub(crate) fn read_all(
    roots: &Roots,
    superblocks: &Superblocks,
) -> Result<BTreeMap<String, ArrayFacts>, Error> {
    let mut found = BTreeMap::new();
    for set in sets(roots)? {
        if let Some(facts) = whole(roots, superblocks, set) {
            found.insert(facts.name.clone(), facts);
        }
    }
    Ok(found)
}

/// One raid set by its name in device-mapper; [`None`] when it is not there, or is no raid set.
pub(crate) fn read(
    roots: &Roots,
    superblocks: &Superblocks,
    name: &str,
) -> Result<Option<ArrayFacts>, Error> {
    let Ok(name) = DmName::new(name) else {
        return Ok(None);
    };
    if !is_loaded(roots) {
        return Ok(None);
    }
    Ok(set(&open()?, name)?.and_then(|set| whole(roots, superblocks, set)))
}

/// How far the sets are that are at work, in the shape of `/proc/mdstat`. The ratio moves in steps of
/// a sixteenth, and no rate is told.
pub(crate) fn read_progress(roots: &Roots) -> Result<Vec<(String, MdstatFacts)>, Error> {
    let entries = sets(roots)?.into_iter().filter_map(|set| {
        let status = set.status.known()?;
        let held = set.table.is_known_and(raid_set::stands_still);
        let idle = held || matches!(status.action, SyncAction::Idle | SyncAction::Frozen);
        let progress = MdstatProgress::At {
            done_kib: status.done / PER_KIB,
            total_kib: status.total / PER_KIB,
            speed_kib: 0,
        };
        let facts = MdstatFacts {
            broken: false,
            inactive: false,
            read_only: false,
            auto_read_only: false,
            progress,
        };
        (!idle).then(|| (raid_set::array_name(&set.name), facts))
    });
    Ok(entries.collect())
}

/// One raid set that an action names.
pub(crate) fn named(roots: &Roots, name: &str) -> Result<Set, Error> {
    let gone = || Error::Kernel {
        action: "find the raid set".to_owned(),
        object: name.to_owned(),
        errno: Errno::ENODEV as i32,
        detail: "there is no such raid set".to_owned(),
    };
    let text = DmName::new(name).map_err(|_| gone())?;
    if !is_loaded(roots) {
        return Err(gone());
    }
    set(&open()?, text)?.ok_or_else(gone)
}

/// Who owns the raid set called so.
pub(crate) fn owner(roots: &Roots, name: &str) -> Result<DmOwner, Error> {
    let set = named(roots, name)?;
    Ok(parse::dm_owner(&set.name, set.uuid.as_deref()))
}

/// Its live table.
pub(crate) fn table(roots: &Roots, name: &str) -> Result<RaidTable, Error> {
    known(name, "table", named(roots, name)?.table)
}

pub(crate) fn known<T>(name: &str, what: &str, fact: Fact<T>) -> Result<T, Error> {
    match fact {
        Fact::Known(value) => Ok(value),
        Fact::Unknown(why) => Err(Error::LunNotReady {
            lun: raid_set::array_name(name),
            why: format!("its {what} is not known ({why})"),
        }),
    }
}

/// Whether the leg on this drive has been taken back: nothing else tells, for the tables load with a
/// leg that stays failed too.
pub(crate) fn require_alive(roots: &Roots, name: &str, drive: &Target) -> Result<(), Error> {
    let set = named(roots, name)?;
    let table = known(name, "table", set.table)?;
    let status = known(name, "status", set.status)?;
    let laid = laid(name, &table);
    let letter = slot_on(&table, &laid, drive.dev).and_then(|slot| status.legs.get(slot));
    match letter {
        Some(LegHealth::InSync | LegHealth::Alive) => Ok(()),
        _ => Err(Error::RecoveryFailed {
            lun: raid_set::array_name(name),
            drive: Some(format!("/dev/{}", drive.name)),
            why: "the kernel does not take this leg back: its metadata cannot be read".to_owned(),
        }),
    }
}

/// Slot of the leg whose data lies on this drive, itself or through a device of ours.
pub(crate) fn slot_on(table: &RaidTable, laid: &[LaidDevice], drive: DevNo) -> Option<usize> {
    table.legs.iter().position(|leg| {
        let through = |laid: &LaidDevice| Some(laid.dev) == leg.data && laid.on == drive;
        leg.data == Some(drive) || laid.iter().any(through)
    })
}

/// The devices that lund has laid for legs of this set: those in its table, and those that bear its name.
/// What cannot be asked is not there.
pub(crate) fn laid(name: &str, table: &RaidTable) -> Vec<LaidDevice> {
    let in_table = |dev: DevNo| {
        table
            .legs
            .iter()
            .any(|leg| leg.meta == Some(dev) || leg.data == Some(dev))
    };
    let prefix = laid_prefix(name);
    let Ok(dm) = open() else { return Vec::new() };
    let devices = dm.list_devices().unwrap_or_default();
    devices
        .into_iter()
        .filter(|(other, number, _)| {
            other.to_string().starts_with(&prefix) || in_table(dev_no(*number))
        })
        .filter_map(|(other, ..)| laid_device(&dm, &other))
        .collect()
}

/// What the names of devices laid for this set begin with.
pub(crate) fn laid_prefix(name: &str) -> String {
    format!("{name}_lund_")
}

fn laid_device(dm: &DM, name: &DmName) -> Option<LaidDevice> {
    let options = DmOptions::default().set_flags(DmFlags::DM_STATUS_TABLE | DmFlags::DM_NOFLUSH);
    let (info, lines) = dm.table_status(&DevId::Name(name), options).ok()?;
    let uuid = info.uuid()?.to_string();
    let part = parse::laid_part(&uuid)?;
    // One that was made and has no table yet lies nowhere.
    let (sectors, on, at_sectors) = match lines.as_slice() {
        [(_, sectors, target, params)] if target == "linear" => {
            let (on, at) = parse::linear(params).ok()?;
            (*sectors, on, at)
        }
        [] => (0, DevNo { major: 0, minor: 0 }, 0),
        _ => return None,
    };
    Some(LaidDevice {
        part,
        name: name.to_string(),
        uuid,
        dev: dev_no(info.device()),
        on,
        at_sectors,
        sectors,
        in_use: info.open_count() != 0,
    })
}

pub(crate) const fn dev_no(device: devicemapper::Device) -> DevNo {
    DevNo {
        major: device.major,
        minor: device.minor,
    }
}

/// Every raid set, without superblocks.
fn sets(roots: &Roots) -> Result<Vec<Set>, Error> {
    if !is_loaded(roots) {
        return Ok(Vec::new());
    }
    let dm = open()?;
    let devices = dm
        .list_devices()
        .map_err(|error| failed("list the devices of", "device-mapper", &error))?;
    let mut found = Vec::new();
    for (name, ..) in devices {
        found.extend(set(&dm, &name)?);
    }
    Ok(found)
}

/// What the driver says of one set.
pub(crate) struct Set {
    name: String,
    uuid: Option<String>,
    dev: DevNo,
    pub(crate) flags: DmFlags,
    event: u32,
    open_count: u32,
    pub(crate) table: Fact<RaidTable>,
    pub(crate) status: Fact<RaidStatus>,
}

/// Reads table and status; [`None`] for a device that is no raid set, or has just gone.
fn set(dm: &DM, name: &DmName) -> Result<Option<Set>, Error> {
    let Some((info, table)) = line(dm, name, DmFlags::DM_STATUS_TABLE)? else {
        return Ok(None);
    };
    let Some((_, status)) = line(dm, name, DmFlags::empty())? else {
        return Ok(None);
    };
    let text = name.to_string();
    if !is_leg(&info, &text) {
        let source = format!("the table of {text}");
        return Ok(Some(Set {
            uuid: info.uuid().map(ToString::to_string),
            dev: dev_no(info.device()),
            flags: info.flags(),
            event: info.event_nr(),
            open_count: u32::try_from(info.open_count()).unwrap_or(0),
            table: to_fact(parse::raid_table(&source, &table)),
            status: to_fact(parse::raid_status(
                &format!("the status of {text}"),
                &status,
            )),
            name: text,
        }));
    }
    Ok(None)
}

/// A leg of an LVM volume is no set of its own, whatever it is made of.
fn is_leg(info: &DeviceInfo, name: &str) -> bool {
    info.uuid()
        .is_some_and(|uuid| uuid.to_string().starts_with("LVM-"))
        && parse::is_leg_name(name)
}

/// The only line of a table or a status, if it is of the target `raid`. Without a flush: that would
/// wait for I/O.
fn line(dm: &DM, name: &DmName, what: DmFlags) -> Result<Option<(DeviceInfo, String)>, Error> {
    let options = DmOptions::default().set_flags(what | DmFlags::DM_NOFLUSH);
    let (info, lines) = match dm.table_status(&DevId::Name(name), options) {
        Ok(answer) => answer,
        // It went between the list and the look.
        Err(error) if errno(&error) == Some(Errno::ENXIO) => return Ok(None),
        Err(error) => return Err(failed("read the table of", &name.to_string(), &error)),
    };
    Ok(match lines.as_slice() {
        [(start, length, target, params)] if target == RAID => {
            Some((info, format!("{start} {length} {target} {params}")))
        }
        _ => None,
    })
}

/// Adds what sysfs and the superblocks say. [`None`] when the device went meanwhile.
fn whole(roots: &Roots, superblocks: &Superblocks, set: Set) -> Option<ArrayFacts> {
    let folder = folder_of(roots, set.dev)?;
    let legs = match &set.table {
        Fact::Known(table) => table.legs.clone(),
        Fact::Unknown(_) => Vec::new(),
    };
    let metas: Vec<Option<DevNo>> = legs.iter().map(|leg| leg.meta).collect();
    let unreadable = unreadable(roots, superblocks, &legs, &set.status);
    let owner = parse::dm_owner(&set.name, set.uuid.as_deref());
    let laid = match (&owner, &set.table) {
        (DmOwner::Bare, Fact::Known(table)) => laid(&set.name, table),
        _ => Vec::new(),
    };
    let facts = DmRaidFacts {
        owner,
        laid,
        uuid: set.uuid.filter(|uuid| !uuid.is_empty()),
        kernel_name: kernel_name(&folder)?,
        suspended: set.flags.contains(DmFlags::DM_SUSPEND),
        read_only: set.flags.contains(DmFlags::DM_READONLY),
        inactive_table: set.flags.contains(DmFlags::DM_INACTIVE_PRESENT),
        name: set.name,
        table: set.table,
        status: set.status,
        event: set.event,
        open_count: set.open_count,
        superblocks: superblocks.read(roots, &metas),
        unreadable,
    };
    let disk = Disk {
        dev: set.dev,
        size_bytes: map(
            fact(&folder.join("size"), parse::number::<u64>),
            |sectors| sectors.saturating_mul(SECTOR),
        ),
        logical_block_bytes: fact(&folder.join("queue/logical_block_size"), parse::number),
    };
    Some(raid_set::array_facts(facts, disk, &|dev| {
        let folder = folder_of(roots, dev)?;
        let sectors: u64 = parse::number("size", &text(&folder.join("size")).ok()?).ok()?;
        Some((kernel_name(&folder)?, sectors.saturating_mul(SECTOR)))
    }))
}

/// Legs that the kernel calls good and that cannot be read. A whole set is not asked: it costs a read of each.
fn unreadable(
    roots: &Roots,
    superblocks: &Superblocks,
    legs: &[RaidLeg],
    status: &Fact<RaidStatus>,
) -> BTreeSet<u32> {
    let lost = |letter: &LegHealth| matches!(letter, LegHealth::Failed | LegHealth::Absent);
    let Some(letters) = status.known().map(|status| &status.legs) else {
        return BTreeSet::new();
    };
    if !letters.iter().any(lost) {
        return BTreeSet::new();
    }
    let asked: Vec<Option<DevNo>> = legs
        .iter()
        .zip(letters)
        .map(|(leg, letter)| leg.data.filter(|_| !lost(letter)))
        .collect();
    let answers = superblocks.readable(roots, &asked);
    (0_u32..)
        .zip(answers)
        .filter(|(_, answer)| *answer == Fact::Known(Some(false)))
        .map(|(slot, _)| slot)
        .collect()
}

/// Folder in sysfs of the device with this number.
pub(crate) fn folder_of(roots: &Roots, dev: DevNo) -> Option<std::path::PathBuf> {
    fs::canonicalize(roots.sys.join("dev/block").join(dev.to_string())).ok()
}

/// Kernel name of the device whose folder this is.
pub(crate) fn kernel_name(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_str()?.to_owned())
}

pub(crate) fn errno(error: &DmError) -> Option<Errno> {
    match error {
        DmError::Core(Failed::Ioctl(_, _, _, errno)) => Some(**errno),
        _ => None,
    }
}

pub(crate) fn failed(action: &str, object: &str, error: &DmError) -> Error {
    // The library tells every field of the request as well.
    let errno = errno(error);
    Error::Kernel {
        action: action.to_owned(),
        object: object.to_owned(),
        errno: errno.map_or(0, |errno| errno as i32),
        detail: errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_owned()),
    }
}
