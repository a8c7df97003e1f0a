//! Block devices: `/sys/class/block` with what udev and the host say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use lun_core::Error;
use lun_core::facts::{DeviceFacts, Fact, IdentityKind};
use lun_core::id::{DevNo, DriveId};

use super::identity::{Traits, identify};
use super::read::{fact, names, text};
use super::usage::Usage;
use super::{Roots, udevdb};
use crate::parse::{self, Properties};

/// Devices that never are members: memory, optical and floppy drives.
const NEVER: [&str; 4] = ["ram", "zram", "sr", "fd"];

/// Node of a kernel name (`!` stands for a slash).
pub(crate) fn node(roots: &Roots, name: &str) -> PathBuf {
    roots.dev.join(name.replace('!', "/"))
}

/// Size of the device with this number, sectors.
pub(crate) fn sectors(roots: &Roots, dev: DevNo) -> Result<u64, Error> {
    let path = roots
        .sys
        .join("dev/block")
        .join(dev.to_string())
        .join("size");
    parse::number(&path.display().to_string(), &text(&path)?)
}

/// Reads every device that could be a member or a spare.
pub(crate) fn read_all(roots: &Roots) -> Result<BTreeMap<DevNo, DeviceFacts>, Error> {
    let class = roots.sys.join("class/block");
    let listing = fs::read_dir(&class)
        .map_err(|error| super::read::failed("list the block devices in", &class, &error))?;
    drop(listing);
    let usage = Usage::read(roots);
    let mut found = BTreeMap::new();
    for name in names(&class) {
        if let Some(facts) = read(roots, &usage, &name) {
            found.insert(facts.dev, facts);
        }
    }
    inherit(&mut found);
    Ok(found)
}

/// What is done with a partition is done with its disk.
fn inherit(devices: &mut BTreeMap<DevNo, DeviceFacts>) {
    let parts: Vec<(String, BTreeSet<String>, Vec<String>)> = devices
        .values()
        .filter(|facts| facts.whole_disk != facts.name)
        .map(|part| {
            (
                part.whole_disk.clone(),
                part.holders.clone(),
                part.used_by.clone(),
            )
        })
        .collect();
    for (disk, holders, used_by) in parts {
        if let Some(disk) = devices.values_mut().find(|facts| facts.name == disk) {
            disk.holders.extend(holders);
            disk.used_by.extend(used_by);
            disk.used_by.sort();
            disk.used_by.dedup();
        }
    }
}

/// One device; [`None`] when it can be no member, or is gone.
fn read(roots: &Roots, usage: &Usage, name: &str) -> Option<DeviceFacts> {
    let base = Base::read(roots, name)?;
    let queue = base.disk_folder.join("queue");
    let mut used_by = usage.of(base.dev, name);
    used_by.extend(lvm_part(&base.disk_folder));
    used_by.sort();
    Some(DeviceFacts {
        dev: base.dev,
        name: name.to_owned(),
        id: base.id,
        id_kind: base.id_kind,
        stable_name: base.stable_name,
        names: node_names(roots, name, &base.udev),
        size_bytes: base.size_bytes,
        logical_block_bytes: fact(&queue.join("logical_block_size"), parse::number),
        rotational: fact(&queue.join("rotational"), |_, text| Ok(text.trim() == "1")),
        transport: transport(name, &base.udev),
        read_only: text(&base.folder.join("ro")).is_ok_and(|text| text.trim() == "1"),
        holders: names(&base.folder.join("holders")).into_iter().collect(),
        used_by,
        whole_disk: base.whole_disk,
        controller: controller(roots, &base.folder),
        enclosure: enclosure(roots, &base.disk_folder),
        udev_signature: ["ID_FS_TYPE", "ID_PART_TABLE_TYPE"]
            .iter()
            .find_map(|key| base.udev.get(key).map(str::to_owned)),
    })
}

/// The identity behind a device number right now; [`None`] when nothing is there.
pub(crate) fn identity_of(roots: &Roots, dev: DevNo) -> Option<(String, DriveId)> {
    let link = roots.sys.join("dev/block").join(dev.to_string());
    let folder = fs::canonicalize(link).ok()?;
    let name = folder.file_name()?.to_str()?.to_owned();
    let base = Base::read(roots, &name).filter(|base| base.dev == dev)?;
    Some((name, base.id))
}

/// What identifies a device, and where it lies in sysfs.
struct Base {
    dev: DevNo,
    folder: PathBuf,
    disk_folder: PathBuf,
    whole_disk: String,
    size_bytes: u64,
    udev: Properties,
    id: DriveId,
    id_kind: IdentityKind,
    stable_name: String,
}

impl Base {
    fn read(roots: &Roots, name: &str) -> Option<Self> {
        if NEVER.iter().any(|kind| is_numbered(name, kind)) {
            return None;
        }
        let folder = fs::canonicalize(roots.sys.join("class/block").join(name)).ok()?;
        let dev = parse::dev_number("dev", &text(&folder.join("dev")).ok()?).ok()?;
        let sectors: u64 = parse::number("size", &text(&folder.join("size")).ok()?).ok()?;
        let partition: Option<u32> = text(&folder.join("partition"))
            .ok()
            .and_then(|text| parse::number("", &text).ok());
        let disk_folder = match partition {
            Some(_) => folder.parent()?.to_path_buf(),
            None => folder.clone(),
        };
        let whole_disk = disk_folder.file_name()?.to_str()?.to_owned();
        let backing = backing(&disk_folder);
        if sectors == 0 || (is_numbered(&whole_disk, "loop") && backing.is_none()) {
            return None;
        }
        let mut udev = udevdb::properties(roots, dev);
        // The kernel knows it too, and earlier.
        if let Ok(uuid) = text(&disk_folder.join("dm/uuid")) {
            udev.values
                .entry("DM_UUID".to_owned())
                .or_insert_with(|| uuid.trim().to_owned());
        }
        let node = node(roots, name).to_string_lossy().into_owned();
        let (id, id_kind, stable_name) = identify(&Traits {
            dev,
            node: &node,
            udev: &udev,
            partition,
            backing: backing
                .as_ref()
                .map(|(file, offset)| (file.as_str(), *offset)),
        });
        let size_bytes = sectors.saturating_mul(512);
        Some(Self {
            dev,
            folder,
            disk_folder,
            whole_disk,
            size_bytes,
            udev,
            id,
            id_kind,
            stable_name,
        })
    }
}

/// A leg, a layer or metadata of an LVM volume belongs to that volume even while nothing holds it.
fn lvm_part(disk_folder: &Path) -> Option<String> {
    let word = |file: &str| {
        Some(
            text(&disk_folder.join("dm").join(file))
                .ok()?
                .trim()
                .to_owned(),
        )
    };
    let (name, uuid) = (word("name")?, word("uuid")?);
    parse::is_lvm_part(&name, Some(&uuid)).then(|| format!("LVM, as {name}"))
}

/// Whether `name` is `kind` and a number.
fn is_numbered(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind)
        .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()))
}

/// File behind a loop device, and its offset in bytes. A deleted file is still that file.
fn backing(disk_folder: &Path) -> Option<(String, u64)> {
    let file = text(&disk_folder.join("loop/backing_file")).ok()?;
    let file = file.trim_end_matches('\n');
    let file = file.strip_suffix(" (deleted)").unwrap_or(file);
    let offset = text(&disk_folder.join("loop/offset"))
        .ok()
        .and_then(|text| parse::number("offset", &text).ok())
        .unwrap_or(0);
    (!file.is_empty()).then(|| (file.to_owned(), offset))
}

fn node_names(roots: &Roots, name: &str, udev: &Properties) -> Vec<String> {
    let mut found = vec![node(roots, name).to_string_lossy().into_owned()];
    found.extend(udev.links.iter().cloned());
    found
}

fn transport(name: &str, udev: &Properties) -> Fact<String> {
    const BY_NAME: [(&str, &str); 9] = [
        ("nvme", "nvme"),
        ("loop", "loop"),
        ("vd", "virtio"),
        ("xvd", "xen"),
        ("dm-", "device-mapper"),
        ("md", "md"),
        ("mmcblk", "mmc"),
        ("pmem", "pmem"),
        ("nbd", "nbd"),
    ];
    if let Some(bus) = udev.get("ID_BUS") {
        return Fact::Known(bus.to_owned());
    }
    BY_NAME
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map_or_else(
            || Fact::Unknown(format!("udev has no ID_BUS for {name}")),
            |(_, transport)| Fact::Known((*transport).to_owned()),
        )
}

/// The nearest PCI function, else the nearest platform device, else the SCSI host above a device: what it
/// shares its fate with. Other virtual devices have none.
fn controller(roots: &Roots, folder: &Path) -> Option<String> {
    let sys = fs::canonicalize(&roots.sys).ok()?;
    let parts: Vec<&str> = folder
        .strip_prefix(sys)
        .ok()?
        .iter()
        .map(|part| part.to_str().unwrap_or_default())
        .collect();
    let pci = parts.iter().rposition(|part| is_pci_function(part));
    let platform = || {
        let at = parts.iter().position(|part| *part == "platform")?;
        (at.checked_add(2)? < parts.len()).then(|| at.saturating_add(1))
    };
    let host = || parts.iter().rposition(|part| is_numbered(part, "host"));
    let last = pci.or_else(platform).or_else(host)?;
    Some(parts.get(..=last)?.join("/"))
}

/// The enclosure of a disk (`device/enclosure_device:SLOT` leads to it), else the nearest SAS expander,
/// else the SCSI host: the drives of one dock, shelf or back plane share it.
fn enclosure(roots: &Roots, disk_folder: &Path) -> Option<String> {
    let sys = fs::canonicalize(&roots.sys).ok()?;
    let inside = |path: &Path| Some(path.strip_prefix(&sys).ok()?.to_str()?.to_owned());
    let device = disk_folder.join("device");
    let slot = names(&device)
        .into_iter()
        .find(|name| name.starts_with("enclosure_device:"));
    if let Some(slot) = slot.and_then(|slot| fs::canonicalize(device.join(slot)).ok()) {
        return inside(slot.parent()?);
    }
    let has_prefix = |folder: &&Path, prefix: &str| {
        let name = folder.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(prefix));
        number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let above = |prefix: &str| {
        let mut folders = disk_folder.ancestors();
        folders.find(|folder| has_prefix(folder, prefix))
    };
    inside(above("expander-").or_else(|| above("host"))?)
}

/// `0000:00:1f.2`
fn is_pci_function(text: &str) -> bool {
    let lengths = [4, 2, 2, 1];
    let pieces: Vec<&str> = text.split([':', '.']).collect();
    pieces.len() == lengths.len()
        && text.contains('.')
        && pieces.iter().zip(lengths).all(|(piece, length)| {
            piece.len() == length && piece.chars().all(|c| c.is_ascii_hexdigit())
        })
}
