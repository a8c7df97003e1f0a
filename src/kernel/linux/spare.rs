//! A fresh spare is given its superblock and handed to the array without mdadm, where array and drive are
//! plain (`md_spare`, ADR 0018). What is not plain, or cannot be read, is left to mdadm.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use lun_core::Error;
use lun_core::action::Target;
use lun_core::facts::{ArrayState, Fact, Level, MemberFacts, Slot};
use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

use super::array::members;
use super::exclusive::{TO_TAKE, when_free};
use super::read::{failed, text};
use super::{Roots, device, direct, ioctl};
use crate::md_spare::{self, AT, Expected, Spare, Template, Unusual};
use crate::parse;

/// Members that must tell the same of the array, where there are so many.
const WITNESSES: usize = 2;
const SECTORS_PER_KIB: u64 = 2;

/// Where a spare is to go.
pub(crate) struct Place<'a> {
    pub(crate) roots: &'a Roots,
    /// Folder `md` of the array.
    pub(crate) md: &'a Path,
    /// Node of the array, which exists.
    pub(crate) array: &'a Path,
    /// Node of the drive, which is still the one that the plan saw.
    pub(crate) node: &'a Path,
    pub(crate) drive: &'a Target,
}

/// What is written on the drive: bytes from the start of it, in this order.
type Writes = Vec<(u64, Vec<u8>)>;

/// Adds the drive. `Ok(Err(why))`: nothing was done, mdadm is to do it.
///
/// # Errors
/// [`Error::Kernel`]: it was begun and failed; what was written has been erased again.
pub(crate) fn add(place: &Place<'_>) -> Result<Result<(), Unusual>, Error> {
    // udev does not look at a drive that somebody has locked: `mdadm --incremental` would be started for one
    // that is in no array yet.
    let Some(lock) = lock(place.node) else {
        return Ok(Err(Unusual("somebody is looking at the drive".to_owned())));
    };
    let drive = match when_free(TO_TAKE, || direct::claim(place.node)) {
        Ok(drive) => drive,
        Err(error) => return Ok(Err(Unusual(error.to_string()))),
    };
    let (number, writes) = match prepare(place, &drive) {
        Ok(prepared) => prepared,
        Err(why) => return Ok(Err(why)),
    };
    let node = place.node;
    let written =
        write(&drive, &writes).map_err(|error| failed("write a superblock on", node, &error));
    if let Err(error) = written {
        erase(&drive, node, &writes);
        return Err(error);
    }
    let before = sectors_written(place);
    // Whoever has had it open meanwhile may have put something on it.
    let untouched =
        || matches!((before, sectors_written(place)), (Some(then), Some(now)) if then == now);
    // The kernel opens it exclusively itself.
    drop(drive);
    let mut busy = false;
    let add = || {
        if std::mem::replace(&mut busy, true) && !untouched() {
            return Err(io::Error::other("somebody else has written to the drive"));
        }
        ioctl::add_spare(place.array, place.drive.dev, number)
    };
    let added = when_free(TO_TAKE, add)
        .map_err(|error| failed(&format!("add {} to", place.drive.name), place.array, &error));
    if let Err(error) = added {
        match when_free(TO_TAKE, || direct::claim(node)) {
            Ok(drive) if untouched() => erase(&drive, node, &writes),
            Ok(_) => tracing::warn!(
                drive = %node.display(), "somebody else has written to a drive that could not be added: it is left as it is"
            ),
            Err(error) => tracing::warn!(
                drive = %node.display(), %error, "a superblock is left on a drive that could not be added"
            ),
        }
        return Err(error);
    }
    drop(lock);
    Ok(Ok(()))
}

/// Sectors written to the drive so far, by anybody (`Documentation/block/stat.rst`, the seventh number); [`None`] where
/// that is not counted.
fn sectors_written(place: &Place<'_>) -> Option<u64> {
    let (name, _) = device::identity_of(place.roots, place.drive.dev)?;
    let folder = std::fs::canonicalize(place.roots.sys.join("class/block").join(name)).ok()?;
    // A partition has the queue of its disk.
    let queues = [folder.join("queue"), folder.join("../queue")];
    let queue = queues.iter().find(|queue| queue.is_dir())?;
    if text(&queue.join("iostats")).ok()?.trim() != "1" {
        return None;
    }
    let stat = text(&folder.join("stat")).ok()?;
    stat.split_whitespace().nth(6)?.parse().ok()
}

fn lock(node: &Path) -> Option<Flock<File>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(node)
        .ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// Reads everything that is needed and says what is to be written.
fn prepare(place: &Place<'_>, drive: &File) -> Result<(u32, Writes), Unusual> {
    plain(place.md)?;
    let raid_disks: u32 = attribute(place.md, "raid_disks", parse::number)?;
    let component: u64 = attribute(place.md, "component_size", parse::number)?;
    let (member, template) = template(place, raid_disks, component * SECTORS_PER_KIB)?;
    let sectors = device::sectors(place.roots, place.drive.dev)
        .map_err(|error| Unusual(error.to_string()))?;
    for at in md_spare::places(sectors) {
        let block = direct::block(drive, at).map_err(|error| unread(place.node, &error))?;
        if md_spare::bears_superblock(&block) {
            return Err(Unusual(format!("it bears a superblock of md at byte {at}")));
        }
    }
    let number = ioctl::free_descriptor(place.array, raid_disks)
        .map_err(|error| unread(place.array, &error))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let spare = template.spare(&Spare {
        number,
        uuid: *Uuid::new_v4().as_bytes(),
        sectors,
        now,
    })?;
    let mut writes = Writes::new();
    if let Some(at) = template.bitmap_at()? {
        let header = direct::block(&member, at).map_err(|error| unread(place.node, &error))?;
        writes.push((at, template.bitmap(at, &header)?));
    }
    // The superblock comes last: without it the rest is nothing.
    writes.push((AT, spare));
    Ok((number, writes))
}

/// What needs no more on a spare than superblock and bitmap.
fn plain(md: &Path) -> Result<(), Unusual> {
    let state = attribute(md, "array_state", parse::array_state)?;
    let running = matches!(
        state,
        ArrayState::Clean | ArrayState::Active | ArrayState::WritePending | ArrayState::ActiveIdle
    );
    let level = attribute(md, "level", |_, text| Ok(parse::level(text, None)))?;
    let redundant = matches!(
        level,
        Level::Raid1 | Level::Raid4 | Level::Raid5 | Level::Raid6 | Level::Raid10
    );
    let words = [
        ("metadata_version", &["1.2"][..]),
        ("reshape_position", &["none"]),
        ("consistency_policy", &["resync", "bitmap"]),
        // mdadm interrupts a recovery, so that the new one is filled in the same pass.
        ("sync_action", &["idle", "frozen"]),
    ];
    for (name, plain) in words {
        let word = attribute(md, name, |_, text| Ok(text.trim().to_owned()))?;
        if !plain.contains(&word.as_str()) {
            return Err(Unusual(format!("{name} of the array is {word}")));
        }
    }
    match text(&md.join("bitmap/metadata")) {
        Ok(word) if word.trim() != "internal" => {
            return Err(Unusual(format!("the bitmap is {}", word.trim())));
        }
        // The folder is not there without a bitmap, on some kernels.
        _ if md.join("llbitmap").is_dir() => {
            return Err(Unusual("the bitmap is lockless".to_owned()));
        }
        _ => {}
    }
    if running && redundant {
        return Ok(());
    }
    Err(Unusual(format!("the array is {state:?}, of {level:?}")))
}

/// The superblock of the first member in sync, with which the next one agrees.
fn template(
    place: &Place<'_>,
    raid_disks: u32,
    component_sectors: u64,
) -> Result<(File, Template), Unusual> {
    let mut found: Option<(File, Template)> = None;
    let mut witnesses = good_members(place.md);
    witnesses.truncate(WITNESSES);
    for (slot, name) in witnesses {
        let node = device::node(place.roots, &name);
        let expected = Expected {
            raid_disks,
            component_sectors,
            slot,
        };
        let file = direct::open(&node).map_err(|error| unread(&node, &error))?;
        let read = direct::block(&file, AT).map_err(|error| unread(&node, &error))?;
        let template = Template::read(&read, &expected)?;
        match &found {
            None => found = Some((file, template)),
            Some((_, first)) if first.agrees(&template) => {}
            Some(_) => return Err(Unusual(format!("{name} tells another tale of the array"))),
        }
    }
    found.ok_or_else(|| Unusual("no member is in sync".to_owned()))
}

/// Slot and name of the members in sync, by slot.
fn good_members(md: &Path) -> Vec<(u32, String)> {
    let good = |member: &MemberFacts| {
        let in_sync = member
            .state
            .is_known_and(|state| state.in_sync && !state.faulty);
        match member.slot {
            Fact::Known(Slot::At(slot)) if in_sync => Some((slot, member.name.clone())),
            _ => None,
        }
    };
    let mut found: Vec<_> = members(md).iter().filter_map(good).collect();
    found.sort();
    found
}

fn attribute<T>(
    folder: &Path,
    name: &str,
    parse: impl FnOnce(&str, &str) -> Result<T, Error>,
) -> Result<T, Unusual> {
    let path = folder.join(name);
    text(&path)
        .and_then(|text| parse(&path.display().to_string(), &text))
        .map_err(|error| Unusual(error.to_string()))
}

fn unread(node: &Path, error: &dyn std::fmt::Display) -> Unusual {
    Unusual(format!("{}: {error}", node.display()))
}

fn write(drive: &File, writes: &Writes) -> io::Result<()> {
    for (at, bytes) in writes {
        direct::write(drive, *at, bytes)?;
    }
    drive.sync_data()
}

/// Takes back what was written; the drive was blank.
fn erase(drive: &File, node: &Path, writes: &Writes) {
    let zeros: Writes = writes
        .iter()
        .rev()
        .map(|(at, bytes)| (*at, vec![0; bytes.len()]))
        .collect();
    if let Err(error) = write(drive, &zeros) {
        tracing::warn!(drive = %node.display(), %error, "a superblock is left on a drive that could not be added");
    }
}
