//! What `mdadm` 4.x prints: `--examine` (`super0.c`, `super1.c`: `examine_super*`) and
//! `--detail --export` (`Detail.c`).

use std::collections::BTreeMap;

use lun_core::Error;
use lun_core::facts::SuperblockFacts;
use uuid::Uuid;

use super::{bad, md_uuid, md_uuid_swapped};

const EXAMINE: &str = "mdadm --examine";

/// Magic number of a native superblock as mdadm prints it; other formats print names.
const MD_MAGIC: &str = "a92b4efc";

/// Reads `mdadm --examine DEV`. [`None`]: there is no native superblock (a partition table or a
/// container's metadata may have been described instead; the signatures name those).
///
/// The text for people is read, not `--export`, because only that tells the role.
///
/// # Errors
/// When a native superblock is described without a UUID or an event count.
pub fn examine(text: &str) -> Result<Option<SuperblockFacts>, Error> {
    let fields = fields(text);
    let get = |key: &str| fields.get(key).copied();
    if get("Magic") != Some(MD_MAGIC) {
        return Ok(None);
    }
    let missing = |what: &str| bad(EXAMINE, text, what);
    let events = get("Events")
        .and_then(events)
        .ok_or_else(|| missing("`Events : N`"))?;
    if get("Version").is_some_and(|version| version.starts_with("0.")) {
        let uuid = get("UUID").ok_or_else(|| missing("`UUID : a:b:c:d`"))?;
        return Ok(Some(SuperblockFacts {
            array_uuid: md_uuid_swapped(EXAMINE, first_word(uuid))?,
            device_uuid: None,
            events,
            role: old_role(text),
        }));
    }
    let array = get("Array UUID").ok_or_else(|| missing("`Array UUID : a:b:c:d`"))?;
    let device = get("Device UUID")
        .map(|text| md_uuid(EXAMINE, first_word(text)))
        .transpose()?;
    Ok(Some(SuperblockFacts {
        array_uuid: md_uuid(EXAMINE, first_word(array))?,
        device_uuid: device,
        events,
        role: get("Device Role").and_then(role),
    }))
}

/// `MD_UUID` of `mdadm --detail --export`; [`None`] when the array has none.
///
/// # Errors
/// When the value is no UUID.
pub fn detail_export_uuid(text: &str) -> Result<Option<Uuid>, Error> {
    let fields = super::uevent(text);
    let Some(uuid) = fields.get("MD_UUID") else {
        return Ok(None);
    };
    let old = fields
        .get("MD_METADATA")
        .is_some_and(|version| version.starts_with("0."));
    let read = if old { md_uuid_swapped } else { md_uuid };
    read("mdadm --detail --export", uuid).map(Some)
}

/// `Name : value` lines, blanks trimmed; the first of a name counts.
fn fields(text: &str) -> BTreeMap<&str, &str> {
    let mut found = BTreeMap::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once(" : ")) {
        found.entry(key.trim()).or_insert_with(|| value.trim());
    }
    found
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// `18`, or `high.low` halves of 32 bits in version 0.90.
fn events(text: &str) -> Option<u64> {
    match text.split_once('.') {
        None => text.parse().ok(),
        Some((high, low)) => {
            let (high, low): (u32, u32) = (high.parse().ok()?, low.parse().ok()?);
            Some(u64::from(high) << 32 | u64::from(low))
        }
    }
}

/// `Active device 1`, `Replacement device 1`; `spare`, `Journal` and the rest are no slots.
fn role(text: &str) -> Option<u32> {
    text.strip_prefix("Active device ")
        .or_else(|| text.strip_prefix("Replacement device "))?
        .parse()
        .ok()
}

/// Version 0.90: `this     1       8       17        1      active sync   /dev/sdb1`.
fn old_role(text: &str) -> Option<u32> {
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("this "))?;
    let mut words = line.split_whitespace();
    let slot = words.nth(4)?.parse().ok();
    if words.any(|word| word == "active") {
        slot
    } else {
        None
    }
}
