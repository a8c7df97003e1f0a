//! Arrays: `/sys/block/mdX/md` and its `dev-*` folders, with the entry of `/proc/mdstat`.

use std::fs;
use std::path::{Path, PathBuf};

use lun_core::Error;
use lun_core::facts::{
    ArrayFacts, Driver, Fact, Level, MdstatFacts, MdstatProgress, MemberFacts, Metadata, SyncFacts,
};
use lun_core::id::DevNo;
use uuid::Uuid;

use super::read::{fact, map, names, text, text_if_there, to_fact};
use super::superblock::Superblocks;
use super::tool::Tools;
use super::{Roots, tool};
use crate::parse;

/// Bytes of a sector and of a KiB, the two units of md's files.
const SECTOR: u64 = 512;
const KIB: u64 = 1024;

/// Kernel names of the arrays, also of inactive ones. No node is opened: opening one that does
/// not exist creates an array (md module parameter `create_on_open`).
pub(crate) fn array_names(roots: &Roots) -> Vec<String> {
    let block = roots.sys.join("block");
    names(&block)
        .into_iter()
        .filter(|name| block.join(name).join("md").is_dir())
        .collect()
}

/// `/proc/mdstat`, parsed; empty while the md driver is not loaded.
pub(crate) fn read_mdstat(roots: &Roots) -> Result<Vec<(String, MdstatFacts)>, Error> {
    let Some(text) = text_if_there(&roots.proc.join("mdstat"))? else {
        return Ok(Vec::new());
    };
    let found = parse::mdstat(&text)?;
    Ok(found
        .arrays
        .into_iter()
        .map(|array| (array.name, array.facts))
        .collect())
}

/// Reads one array; [`None`] when it is not there, or went while it was read.
pub(crate) fn read(
    roots: &Roots,
    tools: &Tools,
    name: &str,
    mdstat: Option<MdstatFacts>,
) -> Option<ArrayFacts> {
    // A name with a slash would leave the folder.
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return None;
    }
    let disk = roots.sys.join("block").join(name);
    let md = disk.join("md");
    if !md.is_dir() {
        return None;
    }
    let dev = parse::dev_number("dev", &text(&disk.join("dev")).ok()?).ok()?;
    let metadata = fact(&md.join("metadata_version"), parse::metadata);
    let facts = ArrayFacts {
        name: name.to_owned(),
        driver: Driver::Md,
        dev,
        md_names: md_names(roots, name),
        uuid: uuid(roots, tools, &md, name, &metadata),
        level: fact(&md.join("level"), |_, text| {
            Ok(parse::level(text, metadata.known()))
        }),
        layout: fact(&md.join("layout"), parse::layout),
        raid_disks: fact(&md.join("raid_disks"), parse::number),
        chunk_bytes: fact(&md.join("chunk_size"), parse::number),
        component_bytes: scaled(&md.join("component_size"), KIB),
        size_bytes: scaled(&disk.join("size"), SECTOR),
        logical_block_bytes: fact(&disk.join("queue/logical_block_size"), parse::number),
        metadata,
        state: fact(&md.join("array_state"), parse::array_state),
        sync: sync(&md),
        resync_start: fact(&md.join("resync_start"), parse::position),
        reshaping: fact(&md.join("reshape_position"), |_, text| {
            Ok(text.trim() != "none")
        }),
        bitmap: bitmap(&md),
        clustered: clustered(&md, mdstat.as_ref()),
        mdstat,
        members: members(&md),
        events: Fact::Unknown("not asked for".to_owned()),
    };
    // An array that was stopped meanwhile would be a heap of unknown facts.
    md.is_dir().then_some(facts)
}

/// Reads a number of units into bytes.
fn scaled(path: &Path, unit: u64) -> Fact<u64> {
    map(fact(path, parse::number::<u64>), |count| {
        count.saturating_mul(unit)
    })
}

/// Links in `/dev/md` that lead to the array.
fn md_names(roots: &Roots, name: &str) -> Vec<String> {
    let folder = roots.dev.join("md");
    names(&folder)
        .into_iter()
        .filter(|link| {
            fs::read_link(folder.join(link))
                .is_ok_and(|to| to.file_name().is_some_and(|last| last == name))
        })
        .collect()
}

/// `md/uuid`, or mdadm's word on a kernel without that file. An array without superblocks has
/// none, and a kernel prints zeros before an array is assembled.
fn uuid(
    roots: &Roots,
    tools: &Tools,
    md: &Path,
    name: &str,
    metadata: &Fact<Metadata>,
) -> Fact<Option<Uuid>> {
    let path = md.join("uuid");
    to_fact(match text_if_there(&path) {
        Ok(Some(text)) => parse::md_uuid(&path.display().to_string(), &text)
            .map(|uuid| Some(uuid).filter(|uuid| !uuid.is_nil())),
        Ok(None) if metadata.is_known_and(|known| *known == Metadata::None) => Ok(None),
        Ok(None) => {
            let node = roots.dev.join(name);
            tools
                .run(
                    tool::MDADM,
                    &["--detail", "--export", &node.to_string_lossy()],
                )
                .and_then(|output| parse::detail_export_uuid(&output.stdout))
        }
        Err(error) => Err(error),
    })
}

/// The redundancy attributes, which exist only while a personality with redundancy runs.
fn sync(md: &Path) -> Option<SyncFacts> {
    md.join("sync_action").exists().then(|| SyncFacts {
        action: fact(&md.join("sync_action"), parse::sync_action),
        completed: fact(&md.join("sync_completed"), parse::sync_completed),
        degraded: fact(&md.join("degraded"), parse::number),
        mismatch_sectors: fact(&md.join("mismatch_cnt"), parse::number),
        last_action: fact(&md.join("last_sync_action"), parse::last_sync_action),
        sync_min: fact(&md.join("sync_min"), parse::number),
        sync_max: fact(&md.join("sync_max"), parse::sync_max),
        speed_min: fact(&md.join("sync_speed_min"), parse::speed_limit),
        speed_max: fact(&md.join("sync_speed_max"), parse::speed_limit),
    })
}

/// Whether a write-intent bitmap works. `bitmap/location` says where one is, `consistency_policy`
/// whether one is used; 6.18 to 7.1 have `bitmap/` only with a bitmap, and a lockless bitmap has
/// `llbitmap/`. Two files that contradict each other leave it unknown, as a re-add that relies on
/// a bitmap that is not there destroys data.
pub(crate) fn bitmap(md: &Path) -> Fact<bool> {
    let path = md.join("bitmap/location");
    let location = match text_if_there(&path) {
        Ok(Some(text)) => match parse::bitmap_location(&path.display().to_string(), &text) {
            Ok(location) => Some(location),
            Err(error) => return Fact::Unknown(error.to_string()),
        },
        Ok(None) => md.join("llbitmap").is_dir().then_some(true),
        Err(error) => return Fact::Unknown(error.to_string()),
    };
    let policy = match text(&md.join("consistency_policy")) {
        Ok(policy) => policy.trim().to_owned(),
        Err(error) if location.is_none() => return Fact::Unknown(error.to_string()),
        Err(_) => "unknown".to_owned(),
    };
    match (location, policy.as_str()) {
        (Some(false), "bitmap") => {
            Fact::Unknown("bitmap/location says none, consistency_policy says bitmap".to_owned())
        }
        (Some(false), _) => Fact::Known(false),
        (Some(true) | None, "bitmap") | (Some(true), "unknown") => Fact::Known(true),
        (Some(true), other) => Fact::Unknown(format!(
            "there is a bitmap, but consistency_policy says {other}"
        )),
        (None, "unknown") => {
            Fact::Unknown("no bitmap folder, and consistency_policy says unknown".to_owned())
        }
        (None, _) => Fact::Known(false),
    }
}

fn clustered(md: &Path, mdstat: Option<&MdstatFacts>) -> bool {
    mdstat.is_some_and(|facts| facts.progress == MdstatProgress::Remote)
        || text(&md.join("bitmap/metadata")).is_ok_and(|text| text.trim() == "clustered")
}

/// Members of the array with this `md` folder.
pub(crate) fn members(md: &Path) -> Vec<MemberFacts> {
    names(md)
        .iter()
        .filter_map(|folder| member(&md.join(folder), folder.strip_prefix("dev-")?))
        .collect()
}

/// One `dev-X` folder. The kernel writes `!` for a slash in the name. A folder whose files are
/// gone is no member any more: after a removal the kernel deletes it a moment later, and until
/// then its files answer ENODEV (`drivers/md/md.c:rdev_attr_show`).
fn member(folder: &Path, name: &str) -> Option<MemberFacts> {
    let slot = text_if_there(&folder.join("slot"));
    let state = text_if_there(&folder.join("state"));
    if matches!(slot, Ok(None)) || matches!(state, Ok(None)) {
        return None;
    }
    Some(MemberFacts {
        name: name.to_owned(),
        dev: member_dev(folder),
        slot: to_fact(slot.and_then(|text| {
            let path = folder.join("slot");
            parse::slot(&path.display().to_string(), &text.unwrap_or_default())
        })),
        state: to_fact(state.map(|text| parse::member_state(&text.unwrap_or_default()))),
        recovery_start: fact(&folder.join("recovery_start"), parse::position),
        errors: fact(&folder.join("errors"), parse::number),
        bad_blocks: fact(&folder.join("bad_blocks"), parse::bad_block_lines),
        size_bytes: scaled(&folder.join("size"), KIB),
    })
}

/// Number of the device behind a `dev-X` folder; its `block` link dangles after a hot unplug.
pub(crate) fn member_dev(folder: &Path) -> Fact<DevNo> {
    fact(&folder.join("block/dev"), parse::dev_number)
}

/// Folder of an array's member.
pub(crate) fn member_folder(roots: &Roots, array: &str, member: &str) -> PathBuf {
    roots
        .sys
        .join("block")
        .join(array)
        .join("md")
        .join(format!("dev-{}", member.replace('/', "!")))
}

/// Event count in the superblock of an in-sync member.
pub(crate) fn events(
    roots: &Roots,
    tools: &Tools,
    superblocks: &Superblocks,
    facts: &ArrayFacts,
) -> Fact<u64> {
    if facts.level == Fact::Known(Level::Container) {
        return Fact::Unknown("a container has no event count of its own".to_owned());
    }
    let good = facts.members.iter().find(|member| {
        member
            .state
            .is_known_and(|state| state.in_sync && !state.faulty)
    });
    let Some(good) = good else {
        return Fact::Unknown("no member is in sync".to_owned());
    };
    let node = super::device::node(roots, &good.name);
    // A run of mdadm is for what is less plain: elsewhere that place may be the data's.
    if facts.metadata == Fact::Known(Metadata::V1(2))
        && let Fact::Known(dev) = good.dev
        && let Fact::Known(Some(events)) = superblocks.md_events(roots, dev)
    {
        return Fact::Known(events);
    }
    match super::probe::md_superblock(tools, &node) {
        Ok(Some(superblock)) => Fact::Known(superblock.events),
        Ok(None) => Fact::Unknown(format!("{} bears no superblock", node.display())),
        Err(error) => Fact::Unknown(error.to_string()),
    }
}
