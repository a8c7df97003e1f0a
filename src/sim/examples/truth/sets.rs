//! Raid sets on the real bench, made with dmsetup. A drive is a mapping that can fail, and a leg is two linear
//! devices on it: what befalls the drive befalls metadata and data alike.

use std::path::Path;

use lun_core::action::{SyncWord, Target};
use lun_core::facts::{LegPart, Level};
use lun_kernel::ScanRequest;
use lun_sim::truth::script::{Create, Script};
use lun_sim::truth::{Bench, DRIVE_BYTES, LEG_MIB, META_SECTORS, REGION_SECTORS, Step};

use crate::lab::Lab;
use crate::parts::{Drive, looped, tool, tool_any};
use crate::volumes;

/// Sectors of a leg's data.
const DATA_SECTORS: u64 = (LEG_MIB << 20) / 512;
/// Sectors of a chunk of striped levels.
const CHUNK_SECTORS: u64 = 128;
/// Without udev's part: to run its rules and wait for them for each of so many devices takes most of the time.
/// There are no links to the nodes then, but the numbers are ours.
const ALONE: [&str; 2] = ["--noudevsync", "--noudevrules"];
/// Numbers of mapped devices: a scenario's first one, and how many it may have.
const MINORS: (usize, usize) = (4000, 32);
/// Of these the first number of the legs, and that of the set.
const LEG: usize = 8;
const SET: usize = 31;

/// How the mappings of drives are called.
#[derive(Debug)]
pub(crate) struct Family {
    /// First word of their names.
    pub(crate) stem: &'static str,
    /// What their numbers are more than those of sets.
    pub(crate) minors: usize,
}

/// Those that raid sets of dmsetup lie on.
pub(crate) const FAMILY: Family = Family {
    stem: "truth",
    minors: 0,
};

/// A leg that a set is made with.
#[derive(Debug)]
pub(crate) struct Leg {
    /// The drive that it lies on.
    pub(crate) letter: char,
    /// Kernel names of metadata and data.
    pub(crate) names: Vec<String>,
    /// How actions name them.
    pub(crate) targets: Vec<Target>,
}

/// The number of a mapped device of a scenario.
const fn minor(id: usize, index: usize) -> usize {
    MINORS.0 + id * MINORS.1 + index
}

fn dmsetup(args: &[&str]) -> Result<String, String> {
    tool("dmsetup", &[args, &ALONE].concat())
}

/// One device in the words of `dmsetup create --concise`.
fn concise(name: &str, minor: usize, table: &str) -> String {
    format!("{name},,{minor},rw,{table}")
}

/// Makes the drives of a scenario: parts of one file, each behind a mapping.
pub(crate) fn drives(
    id: usize,
    folder: &Path,
    letters: &[char],
    bytes: &dyn Fn(char) -> u64,
    family: &Family,
) -> Result<Vec<Drive>, String> {
    let whole = letters.iter().map(|letter| bytes(*letter)).sum();
    let below = looped(folder, 'a', whole)?;
    let (mut drives, mut devices, mut at) = (Vec::new(), Vec::new(), 0);
    for (index, letter) in letters.iter().enumerate() {
        let (mapping, sectors) = (
            format!("{}-{id}-{letter}", family.stem),
            bytes(*letter) / 512,
        );
        let table = format!("0 {sectors} linear {} {at}", below.node());
        let number = family.minors + minor(id, index);
        devices.push(concise(&mapping, number, &table));
        drives.push(Drive {
            letter: *letter,
            name: format!("dm-{number}"),
            at,
            mapping: Some(mapping),
            ..below.clone()
        });
        at += sectors;
    }
    dmsetup(&["create", "--concise", &devices.join(";")])?;
    Ok(drives)
}

/// Puts another table in the place of a device's.
pub(crate) fn swap(device: &str, table: &str) -> Result<String, String> {
    dmsetup(&["load", device, "--table", table])?;
    dmsetup(&["resume", device])
}

impl Lab {
    /// Name in device-mapper of a set.
    pub(crate) fn set_name(&self, array: char) -> String {
        format!("truth-{}-set-{array}", self.id)
    }

    /// Node of the set.
    pub(crate) fn set_node(&self, _array: char) -> String {
        format!("/dev/dm-{}", minor(self.id, SET))
    }

    /// Lays the legs of the sets that a scenario makes.
    pub(crate) fn lay_legs(&mut self, script: &Script) -> Result<(), String> {
        let mut devices = Vec::new();
        let made = script.steps.iter().filter_map(|(_, step)| match step {
            Step::Create(spec) => Some(spec.members.chars()),
            _ => None,
        });
        for letter in made.flatten() {
            let on = self.drive(letter)?.node();
            let mut names = Vec::new();
            for (half, at, sectors) in [(0, 0, META_SECTORS), (1, META_SECTORS, DATA_SECTORS)] {
                let number = minor(self.id, LEG + devices.len());
                let name = format!("truth-{}-leg-{letter}-{half}", self.id);
                let table = format!("0 {sectors} linear {on} {at}");
                devices.push(concise(&name, number, &table));
                names.push(format!("dm-{number}"));
            }
            self.legs.push(Leg {
                letter,
                names,
                targets: Vec::new(),
            });
        }
        dmsetup(&["create", "--concise", &devices.join(";")])?;
        Ok(())
    }

    /// Makes a set of the legs on these drives.
    pub(crate) fn create_set(&self, array: char, spec: &Create) -> Result<String, String> {
        let count = spec.members.chars().count();
        let legs = u64::try_from(count).map_err(|error| error.to_string())?;
        let (kind, shares, chunk) = match spec.level {
            Level::Raid1 => ("raid1", 1, 0),
            Level::Raid5 => ("raid5_ls", legs - 1, CHUNK_SECTORS),
            Level::Raid6 => ("raid6_zr", legs - 2, CHUNK_SECTORS),
            Level::Raid10 => ("raid10", legs / 2, CHUNK_SECTORS),
            _ => return Err("no such level".to_owned()),
        };
        let mut options = format!("region_size {REGION_SECTORS}");
        if spec.clean {
            options.push_str(" nosync");
        }
        let (words, length) = (1 + options.split(' ').count(), DATA_SECTORS * shares);
        let mut table = format!("0 {length} raid {kind} {words} {chunk} {options} {count}");
        for letter in spec.members.chars() {
            let leg = self.legs.iter().find(|leg| leg.letter == letter);
            for name in &leg.ok_or("no such leg")?.names {
                table.push_str(&format!(" /dev/{name}"));
            }
        }
        let device = concise(&self.set_name(array), minor(self.id, SET), &table);
        dmsetup(&["create", "--concise", &device])?;
        Ok("ok".to_owned())
    }

    /// The leg on a drive as the set shows it; the drive itself where the set has none there, or one that lund
    /// has laid.
    pub(crate) fn leg_target(&self, letter: char) -> Result<Target, String> {
        let facts = self.facts('x')?.ok_or("there is no set")?;
        let leg = self.legs.iter().find(|leg| leg.letter == letter);
        let data = leg.and_then(|leg| leg.targets.get(1));
        let shown = |data: &&Target| facts.members.iter().any(|member| member.name == data.name);
        match data.filter(shown) {
            Some(data) => Ok(data.clone()),
            None => self.target(letter),
        }
    }

    /// Takes the sets away, with what was laid for them, their legs and drives.
    pub(crate) fn remove_sets(&self) -> Result<(), String> {
        tool("udevadm", &["settle"])?;
        let all = tool("dmsetup", &["ls"])?;
        let own = [
            format!("{}-{}-", FAMILY.stem, self.id),
            format!("{}-{}-", volumes::FAMILY.stem, self.id),
            format!("{}-", self.group_name()),
        ];
        let names = all.lines().filter_map(|line| line.split('\t').next());
        let ours = |name: &&str| own.iter().any(|own| name.starts_with(own));
        let mut names: Vec<&str> = names.filter(ours).collect();
        let volumes = ['x', 'y'].map(|array| self.volume_name(array));
        // What lies on others goes first; what lund has laid is named after the set.
        names.sort_by_key(|name| match name {
            name if volumes.iter().any(|volume| volume == name) => 0,
            name if name.contains("missing") => 2,
            name if name.starts_with(&own[2]) => 1,
            name if name.contains("_lund_") => 1,
            name if name.contains("-set-") => 0,
            name if name.contains("-leg-") => 2,
            _ => 3,
        });
        if !names.is_empty() {
            dmsetup(&[&["remove", "--retry"], names.as_slice()].concat())?;
        }
        Ok(())
    }

    /// Reads and writes of a drive work again.
    pub(crate) fn heal(&self, letter: char) -> Result<String, String> {
        let drive = self.drive(letter)?;
        let (Some(mapping), Some(below)) = (&drive.mapping, &drive.below) else {
            return Err(format!("{letter} is no mapped device"));
        };
        let (sectors, at) = (self.bytes(letter) / 512, drive.at);
        swap(mapping, &format!("0 {sectors} linear /dev/{below} {at}"))
    }

    /// An administrator suspends a set and resumes it.
    pub(crate) fn suspend(&self, array: char) -> Result<String, String> {
        let set = self.set_name(array);
        dmsetup(&["suspend", &set])?;
        dmsetup(&["resume", &set])?;
        Ok("ok".to_owned())
    }

    /// An administrator sends a set a message; the answer is the kernel's.
    pub(crate) fn message(&self, array: char, word: SyncWord) -> Result<String, String> {
        let set = self.set_name(array);
        asked(tool_any("dmsetup", &["message", &set, "0", word.as_str()])?)
    }

    /// An administrator loads the live table of a set again; the answer is the kernel's.
    pub(crate) fn load_again(&self, array: char) -> Result<String, String> {
        let set = self.set_name(array);
        let table = tool("dmsetup", &["table", &set])?;
        asked(tool_any("dmsetup", &["load", &set, "--table", &table])?)
    }

    /// The metadata device of the leg on a drive: the one that it was made with, else what lund has laid.
    pub(crate) fn metadata_on(&mut self, letter: char) -> Result<Target, String> {
        let leg = self.legs.iter().find(|leg| leg.letter == letter);
        if let Some(made) = leg.and_then(|leg| leg.targets.first()) {
            return Ok(made.clone());
        }
        let on = self.target(letter)?.dev;
        let laid = self.facts('x')?.and_then(|facts| {
            let mut laid = facts.dm()?.laid.iter();
            let laid = laid.find(|laid| laid.part == LegPart::Meta && laid.on == on)?;
            Some(laid.dev)
        });
        let inventory = self.scan(&ScanRequest::default())?;
        let facts = laid.and_then(|laid| inventory.devices.get(&laid));
        let facts = facts.ok_or_else(|| format!("no metadata on {letter} is seen"))?;
        Ok(Target {
            dev: facts.dev,
            name: facts.name.clone(),
            id: facts.id,
        })
    }

    /// Bytes of a drive.
    pub(crate) fn bytes(&self, letter: char) -> u64 {
        if self.small.contains(letter) {
            DRIVE_BYTES / 2
        } else {
            DRIVE_BYTES
        }
    }
}

/// What dmsetup says of an answer of the kernel, which it puts into words.
fn asked((ok, text): (bool, String)) -> Result<String, String> {
    if ok {
        return Ok("ok".to_owned());
    }
    let known = [
        ("Invalid argument", "EINVAL"),
        ("Device or resource busy", "EBUSY"),
        ("Input/output error", "EIO"),
    ];
    let found = known.into_iter().find(|(words, _)| text.contains(words));
    found.map(|(_, name)| name.to_owned()).ok_or(text)
}
