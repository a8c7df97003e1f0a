//! Table line, status line and superblock of device-mapper's target `raid`
//! (`drivers/md/dm-raid.c:raid_status`, `struct dm_raid_superblock`), and the names that LVM gives
//! its devices.

use std::collections::BTreeSet;
use std::str::{FromStr, SplitWhitespace};

use lun_core::Error;
use lun_core::facts::{
    DmOwner, LAID_PREFIX, LegHealth, LegPart, Level, RaidLeg, RaidStatus, RaidSuperblock,
    RaidTable, RaidType,
};
use lun_core::id::DevNo;

use super::{bad, dev_number, sync_action};

/// Most legs of a table (`dm-raid.c:MAX_RAID_DEVICES`).
const MOST_LEGS: usize = 253;
/// Words that `raid1` and the others begin their parameters with, and how md encodes the layout.
const TYPES: [(&str, Level, u32); 23] = [
    ("raid0", Level::Raid0, 0),
    ("raid1", Level::Raid1, 0),
    ("raid4", Level::Raid4, 5),
    ("raid5_la", Level::Raid5, 0),
    ("raid5_ra", Level::Raid5, 1),
    ("raid5_ls", Level::Raid5, 2),
    ("raid5_rs", Level::Raid5, 3),
    ("raid5_n", Level::Raid5, 5),
    ("raid6_n_6", Level::Raid6, 5),
    ("raid6_zr", Level::Raid6, 8),
    ("raid6_nr", Level::Raid6, 9),
    ("raid6_nc", Level::Raid6, 10),
    ("raid6_la_6", Level::Raid6, 16),
    ("raid6_ra_6", Level::Raid6, 17),
    ("raid6_ls_6", Level::Raid6, 18),
    ("raid6_rs_6", Level::Raid6, 19),
    ("raid6_0_6", Level::Raid6, 20),
    ("raid5_0", Level::Raid5, 4),
    ("raid6_n", Level::Raid6, 5),
    ("raid10", Level::Raid10, 0),
    ("raid10_near", Level::Raid10, 0),
    ("raid10_far", Level::Raid10, 0),
    ("raid10_offset", Level::Raid10, 0),
];
/// Bits of md's layout word of raid10.
const OFFSET: u32 = 1 << 16;
const FAR_SETS: u32 = 2 << 17;
/// Copies of a raid10 that does not say how many.
const COPIES: u32 = 2;
/// Shortest piece of a superblock that has every field read here, bytes.
const SUPERBLOCK: usize = 0x90;
/// An offset in a superblock that means: all of it.
const ALL: u64 = u64::MAX;

/// Reads a live table's line: `START LEN raid TYPE ...`.
///
/// # Errors
/// When it is no table of the target `raid`, or has a word that no kernel prints.
pub fn raid_table(source: &str, text: &str) -> Result<RaidTable, Error> {
    let wrong = |want: &str| bad(source, text, want);
    let mut words = text.split_whitespace();
    let start = next(&mut words).ok_or_else(|| wrong("the first sector"))?;
    let len = next(&mut words).ok_or_else(|| wrong("the number of sectors"))?;
    if words.next() != Some("raid") {
        return Err(wrong("the target `raid`"));
    }
    let rest: Vec<&str> = words.collect();
    raid_params(start, len, &rest).map_err(wrong)
}

/// What follows the target's name. The error says what was expected.
fn raid_params(start: u64, len: u64, words: &[&str]) -> Result<RaidTable, &'static str> {
    let (&word, rest) = words.split_first().ok_or("a type such as `raid1`")?;
    let (&count, rest) = rest.split_first().ok_or("a number of parameters")?;
    let count: usize = count.parse().map_err(|_| "a number of parameters")?;
    let (params, rest) = rest
        .split_at_checked(count)
        .ok_or("as many parameters as it says")?;
    let (chunk, options) = params.split_first().ok_or("a chunk size")?;
    let kind = raid_type(word).ok_or("a type such as `raid1`")?;
    let chunk_sectors = chunk.parse().map_err(|_| "a chunk size")?;
    let mut table = RaidTable {
        start,
        ..RaidTable::new(len, kind, chunk_sectors, raid_legs(rest)?)
    };
    let mut words = options.iter().copied();
    while let Some(key) = words.next() {
        raid_option(&mut table, key, &mut words)?;
    }
    if table.kind.level == Level::Raid10 {
        table.kind.layout = raid10_layout(&table)?;
    }
    Ok(table)
}

/// One option of the parameters, with its value where it has one.
fn raid_option<'a>(
    table: &mut RaidTable,
    key: &str,
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<(), &'static str> {
    match key {
        "sync" => table.sync = Some(true),
        "nosync" => table.sync = Some(false),
        "raid10_use_near_sets" => table.raid10_use_near_sets = true,
        _ => {
            let value = words.next().ok_or("a value for each option")?;
            return raid_value(table, key, value).ok_or("options and values that a kernel knows");
        }
    }
    Ok(())
}

fn raid_value(table: &mut RaidTable, key: &str, value: &str) -> Option<()> {
    let number = || value.parse::<u64>().ok();
    match key {
        "rebuild" => {
            table.rebuild.insert(value.parse().ok()?);
        }
        "write_mostly" => {
            table.write_mostly.insert(value.parse().ok()?);
        }
        "daemon_sleep" => table.daemon_sleep = Some(number()?),
        "min_recovery_rate" => table.min_recovery_rate = Some(number()?),
        "max_recovery_rate" => table.max_recovery_rate = Some(number()?),
        "max_write_behind" => table.max_write_behind = Some(number()?),
        "stripe_cache" => table.stripe_cache = Some(number()?),
        "region_size" => table.region_size = Some(number()?),
        "journal_dev" => table.journal_dev = Some(dev_number("journal_dev", value).ok()?),
        "journal_mode" => table.journal_mode = Some(value.to_owned()),
        "raid10_copies" => table.raid10_copies = Some(value.parse().ok()?),
        "raid10_format" => table.raid10_format = Some(value.to_owned()),
        "delta_disks" => table.delta_disks = Some(value.parse().ok()?),
        "data_offset" => table.data_offset = Some(number()?),
        _ => return None,
    }
    Some(())
}

/// `#DEVS META0 DATA0 META1 DATA1 ...`
fn raid_legs(words: &[&str]) -> Result<Vec<RaidLeg>, &'static str> {
    let (&count, devices) = words.split_first().ok_or("a number of legs")?;
    let count: usize = count.parse().map_err(|_| "a number of legs")?;
    if count == 0 || count > MOST_LEGS || devices.len() != count * 2 {
        return Err("two devices for each of 1 to 253 legs");
    }
    let device = |word: &str| match word {
        "-" => Ok(None),
        number => dev_number("leg", number)
            .map(Some)
            .map_err(|_| "`major:minor` or `-` for each device"),
    };
    devices
        .chunks_exact(2)
        .map(|pair| {
            let [meta, data] = pair else {
                return Err("two devices for each leg");
            };
            Ok(RaidLeg {
                meta: device(meta)?,
                data: device(data)?,
            })
        })
        .collect()
}

/// Level and layout of a type word. The layout of a raid10 needs its options too.
#[must_use]
pub fn raid_type(word: &str) -> Option<RaidType> {
    let (_, level, layout) = TYPES.iter().find(|(known, ..)| *known == word)?;
    Some(RaidType {
        word: word.to_owned(),
        level: level.clone(),
        layout: *layout,
    })
}

/// md's layout word (`dm-raid.c:raid10_format_to_md_layout`).
fn raid10_layout(table: &RaidTable) -> Result<u32, &'static str> {
    let by_word = table.kind.word.strip_prefix("raid10_");
    let format = table.raid10_format.as_deref().or(by_word).unwrap_or("near");
    let copies = table.raid10_copies.unwrap_or(COPIES);
    if copies == 0 || copies > 0xff {
        return Err("1 to 255 copies");
    }
    let sets = if table.raid10_use_near_sets {
        0
    } else {
        FAR_SETS
    };
    match format {
        "near" => Ok(1 << 8 | copies),
        "far" => Ok(sets | copies << 8 | 1),
        "offset" => Ok(OFFSET | sets | copies << 8 | 1),
        _ => Err("the format `near`, `far` or `offset`"),
    }
}

/// Reads a status line: `START LEN raid TYPE LEGS LETTERS DONE/TOTAL ACTION MISMATCH OFFSET JOURNAL`.
/// What a later kernel may append is passed over.
///
/// # Errors
/// When it is no status of the target `raid`, or letters and legs do not agree.
pub fn raid_status(source: &str, text: &str) -> Result<RaidStatus, Error> {
    let wrong = |want: &str| bad(source, text, want);
    let mut words = text.split_whitespace();
    let _: u64 = next(&mut words).ok_or_else(|| wrong("the first sector"))?;
    let _: u64 = next(&mut words).ok_or_else(|| wrong("the number of sectors"))?;
    if words.next() != Some("raid") {
        return Err(wrong("the target `raid`"));
    }
    let kind = words.next().ok_or_else(|| wrong("a type"))?;
    let count: usize = next(&mut words).ok_or_else(|| wrong("a number of legs"))?;
    let letters = words.next().ok_or_else(|| wrong("a letter for each leg"))?;
    let legs: Vec<LegHealth> = letters
        .chars()
        .map(leg_health)
        .collect::<Option<_>>()
        .filter(|legs: &Vec<LegHealth>| legs.len() == count && count <= MOST_LEGS)
        .ok_or_else(|| wrong("one of `A`, `a`, `D`, `-` for each leg"))?;
    let (done, total) = words
        .next()
        .and_then(|word| word.split_once('/'))
        .ok_or_else(|| wrong("`done/total`"))?;
    let sectors = |word: &str| word.parse().map_err(|_| wrong("`done/total`"));
    let action = words.next().ok_or_else(|| wrong("a sync action"))?;
    let mismatch_sectors = next(&mut words).ok_or_else(|| wrong("a number of mismatches"))?;
    let _: u64 = next(&mut words).ok_or_else(|| wrong("a data offset"))?;
    let journal = words
        .next()
        .and_then(|word| word.chars().next())
        .and_then(leg_health)
        .ok_or_else(|| wrong("the health of a journal"))?;
    Ok(RaidStatus {
        kind: kind.to_owned(),
        legs,
        done: sectors(done)?,
        total: sectors(total)?,
        action: sync_action(source, action)?,
        mismatch_sectors,
        journal: Some(journal).filter(|journal| *journal != LegHealth::Absent),
    })
}

const fn leg_health(letter: char) -> Option<LegHealth> {
    match letter {
        'A' => Some(LegHealth::InSync),
        'a' => Some(LegHealth::Alive),
        'D' => Some(LegHealth::Failed),
        '-' => Some(LegHealth::Absent),
        _ => None,
    }
}

fn next<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

/// Reads the superblock at the beginning of a metadata device; [`None`] where none is written.
///
/// # Errors
/// When there is less than a superblock.
pub fn raid_superblock(source: &str, bytes: &[u8]) -> Result<Option<RaidSuperblock>, Error> {
    const MAGIC: [u8; 4] = *b"DmRd";
    /// Places of the bit maps of failed legs, 64 legs each.
    const FAILED: [usize; 4] = [0x18, 0x78, 0x80, 0x88];
    let short = || bad(source, "a piece of it", "the 144 bytes of a superblock");
    if bytes.len() < SUPERBLOCK {
        return Err(short());
    }
    if !bytes.starts_with(&MAGIC) {
        return Ok(None);
    }
    let word = |at| le(bytes, at).map(u32::from_le_bytes).ok_or_else(short);
    let long = |at| le(bytes, at).map(u64::from_le_bytes).ok_or_else(short);
    let mut failed = BTreeSet::new();
    for (first, at) in (0_u32..).step_by(64).zip(FAILED) {
        let map = long(at)?;
        failed.extend(
            (0..64)
                .filter(|bit| map >> bit & 1 == 1)
                .map(|bit| first + bit),
        );
    }
    let offset = |at| Ok::<_, Error>(Some(long(at)?).filter(|sectors| *sectors != ALL));
    Ok(Some(RaidSuperblock {
        num_devices: word(0x08)?,
        array_position: word(0x0c)?,
        events: long(0x10)?,
        failed,
        disk_recovery_offset: offset(0x20)?,
        array_resync_offset: offset(0x28)?,
        reshaping: word(0x3c)? & 1 == 1,
    }))
}

fn le<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Which half of a leg the device with this UUID was laid for; [`None`] for one that is not lund's.
#[must_use]
pub fn laid_part(uuid: &str) -> Option<LegPart> {
    match uuid.strip_prefix(LAID_PREFIX)?.split_once('-')?.0 {
        "meta" => Some(LegPart::Meta),
        "data" => Some(LegPart::Data),
        _ => None,
    }
}

/// Reads what follows the target `linear`: a device and where on it, sectors.
///
/// # Errors
/// When it is something else.
pub fn linear(params: &str) -> Result<(DevNo, u64), Error> {
    let wrong = || bad("a linear table", params, "`major:minor` and a sector");
    let (device, at) = params.trim().split_once(' ').ok_or_else(wrong)?;
    Ok((
        dev_number("linear", device)?,
        at.parse().map_err(|_| wrong())?,
    ))
}

/// Who made a device: LVM's UUIDs begin with `LVM-` and two identities of 32 letters, and its
/// names are `VG-LV`, in which a dash of either name is doubled and a third part names a layer.
#[must_use]
pub fn dm_owner(name: &str, uuid: Option<&str>) -> DmOwner {
    if !uuid.is_some_and(|uuid| uuid.starts_with("LVM-")) {
        return DmOwner::Bare;
    }
    let mut parts = vec![String::new()];
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        let doubled = letter == '-' && letters.next_if_eq(&'-').is_some();
        if letter == '-' && !doubled {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    let mut parts = parts.into_iter().filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some(vg), Some(lv)) => DmOwner::Lvm { vg, lv },
        _ => DmOwner::Bare,
    }
}

/// Whether an LVM volume is a piece of another one: a leg of a RAID volume or its metadata, or any
/// device of a layer, whose UUID says which.
#[must_use]
pub fn is_lvm_part(name: &str, uuid: Option<&str>) -> bool {
    /// `LVM-` and two identities.
    const WHOLE: usize = 4 + 32 + 32;
    let Some(uuid) = uuid.filter(|uuid| uuid.starts_with("LVM-")) else {
        return false;
    };
    uuid.len() > WHOLE || is_leg_name(name)
}

/// Whether the name is that of a leg of an LVM volume or of its metadata, `..._rimage_3` or
/// `..._rmeta_3`.
#[must_use]
pub fn is_leg_name(name: &str) -> bool {
    ["_rimage_", "_rmeta_"].iter().any(|infix| {
        name.rsplit_once(infix).is_some_and(|(_, number)| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}
