//! `/proc/mdstat` (`drivers/md/md.c:md_seq_show`, `status_resync`, each personality's `status`).

use lun_core::Error;
use lun_core::facts::{MdstatFacts, MdstatProgress};

use super::bad;

const SOURCE: &str = "/proc/mdstat";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mdstat {
    /// Loaded personalities, without brackets.
    pub personalities: Vec<String>,
    /// Arrays in the kernel's order.
    pub arrays: Vec<MdstatArray>,
}

/// One array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MdstatArray {
    /// Kernel name.
    pub name: String,
    /// Personality; [`None`] on an inactive array.
    pub level: Option<String>,
    /// What the core wants to know of it.
    pub facts: MdstatFacts,
    /// Members in the kernel's order.
    pub members: Vec<MdstatMember>,
    /// The `[UU_]` string without brackets; by slot, not by descriptor. Empty where none.
    pub slots: String,
    /// A bitmap line was printed.
    pub bitmap: bool,
}

/// One member on an array's first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MdstatMember {
    /// Kernel name.
    pub name: String,
    /// Descriptor in the superblock; no slot number.
    pub descriptor: u32,
    /// Letters that followed: `W` write-mostly, `J` journal, `F` faulty, `S` spare,
    /// `R` replacement.
    pub flags: String,
}

/// Reads the file. Words and lines that a later kernel may add are passed over.
///
/// # Errors
/// When an array's first line has no state word, or a progress line has no figures.
pub fn mdstat(text: &str) -> Result<Mdstat, Error> {
    let mut found = Mdstat::default();
    for line in text.lines() {
        if let Some(list) = line.strip_prefix("Personalities :") {
            found.personalities = list
                .split_whitespace()
                .map(|word| word.trim_matches(['[', ']']).into())
                .collect();
        } else if line.starts_with("unused devices:") || line.trim().is_empty() {
            continue;
        } else if line.starts_with([' ', '\t']) {
            if let Some(array) = found.arrays.last_mut() {
                detail_line(array, line)?;
            }
        } else {
            found.arrays.push(first_line(line)?);
        }
    }
    Ok(found)
}

/// `md0 : active (auto-read-only) raid1 sdb1[1](W) sda1[0]`
fn first_line(line: &str) -> Result<MdstatArray, Error> {
    let wrong = || bad(SOURCE, line, "`NAME : active|inactive|broken ...`");
    let (name, rest) = line.split_once(" : ").ok_or_else(wrong)?;
    let mut words = rest.split_whitespace();
    let mut facts = MdstatFacts {
        broken: false,
        inactive: false,
        read_only: false,
        auto_read_only: false,
        progress: MdstatProgress::None,
    };
    match words.next() {
        Some("active") => {}
        Some("inactive") => facts.inactive = true,
        Some("broken") => facts.broken = true,
        _ => return Err(wrong()),
    }
    let mut array = MdstatArray {
        name: name.trim().to_owned(),
        level: None,
        facts,
        members: Vec::new(),
        slots: String::new(),
        bitmap: false,
    };
    for word in words {
        match word {
            "(read-only)" => array.facts.read_only = true,
            "(auto-read-only)" => array.facts.auto_read_only = true,
            _ => {
                if let Some(member) = member(word) {
                    array.members.push(member);
                } else if array.level.is_none() && !word.starts_with('(') {
                    array.level = Some(word.to_owned());
                }
            }
        }
    }
    Ok(array)
}

/// `sdb1[1](W)(F)`
fn member(word: &str) -> Option<MdstatMember> {
    let (name, rest) = word.split_once('[')?;
    let (descriptor, rest) = rest.split_once(']')?;
    let flags = rest.chars().filter(char::is_ascii_alphabetic).collect();
    Some(MdstatMember {
        name: name.to_owned(),
        descriptor: descriptor.parse().ok()?,
        flags,
    })
}

/// Everything below the first line: sizes, progress, bitmap.
fn detail_line(array: &mut MdstatArray, line: &str) -> Result<(), Error> {
    let trimmed = line.trim();
    if trimmed.starts_with("bitmap:") {
        array.bitmap = true;
        return Ok(());
    }
    if let Some(progress) = progress(trimmed)? {
        array.facts.progress = progress;
    } else if let Some(slots) = slot_string(trimmed) {
        array.slots = slots.to_owned();
    }
    Ok(())
}

/// The `[UU_]` word of the line that tells the size.
fn slot_string(line: &str) -> Option<&str> {
    line.split_whitespace()
        .filter_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
        .find(|inner| !inner.is_empty() && inner.chars().all(|c| matches!(c, 'U' | '_')))
}

/// `[==>......]  recovery = 12.6% (1/8) finish=0.5min speed=6K/sec`, `resync=DELAYED`, ... The
/// latter stand on a line of their own, or at the end of the size line (PENDING on some kernels).
fn progress(line: &str) -> Result<Option<MdstatProgress>, Error> {
    for word in line.split_whitespace() {
        let Some((what, how)) = word.split_once('=') else {
            continue;
        };
        if !is_action(what) {
            continue;
        }
        match how {
            "DELAYED" => return Ok(Some(MdstatProgress::Delayed)),
            "PENDING" => return Ok(Some(MdstatProgress::Pending)),
            "REMOTE" => return Ok(Some(MdstatProgress::Remote)),
            _ => {}
        }
    }
    let Some((left, right)) = line.split_once(" = ") else {
        return Ok(None);
    };
    if !left.split_whitespace().next_back().is_some_and(is_action) {
        return Ok(None);
    }
    figures(right)
        .map(Some)
        .ok_or_else(|| bad(SOURCE, line, "`P% (done/total) ... speed=NK/sec`"))
}

/// The words of 6.1 to 7.2; `repair` prints as `resync`.
fn is_action(word: &str) -> bool {
    matches!(
        word,
        "resync" | "recovery" | "recover" | "check" | "repair" | "reshape"
    )
}

fn figures(text: &str) -> Option<MdstatProgress> {
    let (_, rest) = text.split_once('(')?;
    let (pair, rest) = rest.split_once(')')?;
    let (done, total) = pair.split_once('/')?;
    let speed = rest
        .split_whitespace()
        .find_map(|word| word.strip_prefix("speed=")?.strip_suffix("K/sec"))?;
    Some(MdstatProgress::At {
        done_kib: done.trim().parse().ok()?,
        total_kib: total.trim().parse().ok()?,
        // The kernel can print a negative or absurd speed right after the start.
        speed_kib: speed.parse().unwrap_or(0),
    })
}
