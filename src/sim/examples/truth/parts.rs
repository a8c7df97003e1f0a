//! Drives of the real bench: files in memory, and what is laid over them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lun_core::action::Target;
use lun_sim::truth::DRIVE_BYTES;
use lun_sim::truth::script::Kind;

use crate::{sets, volumes};

/// Where the files of the drives lie: memory.
pub(crate) const STORE: &str = "/srv/mem/truth";

/// A drive with all that it is made of.
#[derive(Debug, Clone)]
pub(crate) struct Drive {
    pub(crate) letter: char,
    /// Kernel name.
    pub(crate) name: String,
    /// The loop device below it; none for a SCSI disk.
    pub(crate) below: Option<String>,
    /// File behind the loop device.
    pub(crate) file: PathBuf,
    /// Where in that file it begins, sectors.
    pub(crate) at: u64,
    /// Name of the mapping.
    pub(crate) mapping: Option<String>,
    /// How actions name it.
    pub(crate) target: Option<Target>,
}

impl Drive {
    pub(crate) fn node(&self) -> String {
        format!("/dev/{}", self.name)
    }
}

/// Runs a program and gives its output.
pub(crate) fn tool(program: &str, args: &[&str]) -> Result<String, String> {
    let (ok, text) = tool_any(program, args)?;
    if ok { Ok(text) } else { Err(text) }
}

/// Runs a program; tells whether it succeeded, with all that it said.
pub(crate) fn tool_any(program: &str, args: &[&str]) -> Result<(bool, String), String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let out = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok((true, out.trim().to_owned()));
    }
    let err = String::from_utf8_lossy(&output.stderr);
    Ok((
        false,
        format!(
            "{program} {}: {} {}",
            args.join(" "),
            out.trim(),
            err.trim()
        ),
    ))
}

/// What only one scenario may use at a time: parameters of modules, and the making of drives.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the drives of one scenario.
pub(crate) fn make(
    id: usize,
    kind: Kind,
    letters: &str,
    small: &str,
) -> Result<Vec<Drive>, String> {
    let folder = Path::new(STORE).join(id.to_string());
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let letters: Vec<char> = letters.chars().collect();
    let bytes = |letter: char| {
        if small.contains(letter) {
            DRIVE_BYTES / 2
        } else {
            DRIVE_BYTES
        }
    };
    match kind {
        Kind::Loop => letters
            .iter()
            .map(|letter| looped(&folder, *letter, bytes(*letter)))
            .collect(),
        Kind::Sets => sets::drives(id, &folder, &letters, &bytes, &sets::FAMILY),
        Kind::Volumes => sets::drives(id, &folder, &letters, &bytes, &volumes::FAMILY),
        Kind::Mapped => letters
            .iter()
            .map(|letter| mapped(id, &folder, *letter, bytes(*letter)))
            .collect(),
        Kind::Parts => {
            let mut drives = Vec::new();
            for pair in letters.chunks(2) {
                drives.extend(parts(&folder, pair)?);
            }
            Ok(drives)
        }
        Kind::Scsi => scsi(&folder, &letters),
    }
}

pub(crate) fn looped(folder: &Path, letter: char, bytes: u64) -> Result<Drive, String> {
    let file = folder.join(letter.to_string());
    fs::File::create(&file)
        .and_then(|file| file.set_len(bytes))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    let node = tool("losetup", &["--find", "--show", &file.to_string_lossy()])?;
    let name = node.trim_start_matches("/dev/").to_owned();
    Ok(Drive {
        letter,
        name: name.clone(),
        below: Some(name),
        file,
        at: 0,
        mapping: None,
        target: None,
    })
}

fn mapped(id: usize, folder: &Path, letter: char, bytes: u64) -> Result<Drive, String> {
    let below = looped(folder, letter, bytes)?;
    let mapping = format!("truth-{id}-{letter}");
    let table = format!("0 {} linear {} 0", bytes / 512, below.node());
    tool("dmsetup", &["create", &mapping, "--table", &table])?;
    let node = fs::canonicalize(format!("/dev/mapper/{mapping}"))
        .map_err(|error| format!("{mapping}: {error}"))?;
    let name = node
        .to_string_lossy()
        .trim_start_matches("/dev/")
        .to_owned();
    Ok(Drive {
        name,
        mapping: Some(mapping),
        ..below
    })
}

/// Two partitions of one disk.
fn parts(folder: &Path, letters: &[char]) -> Result<Vec<Drive>, String> {
    let Some(first) = letters.first() else {
        return Ok(Vec::new());
    };
    let disk = looped(folder, *first, 2 * DRIVE_BYTES + (2 << 20))?;
    let sectors = DRIVE_BYTES / 512;
    let mut drives = Vec::new();
    for (number, letter) in (1_u64..).zip(letters) {
        let start = 2048 + (number - 1) * sectors;
        tool(
            "addpart",
            &[
                &disk.node(),
                &number.to_string(),
                &start.to_string(),
                &sectors.to_string(),
            ],
        )?;
        drives.push(Drive {
            letter: *letter,
            name: format!("{}p{number}", disk.name),
            ..disk.clone()
        });
    }
    Ok(drives)
}

/// Emulated SCSI disks; there is one set of them for the whole machine.
fn scsi(folder: &Path, letters: &[char]) -> Result<Vec<Drive>, String> {
    tool(
        "modprobe",
        &[
            "scsi_debug",
            &format!("dev_size_mb={}", DRIVE_BYTES >> 20),
            &format!("add_host={}", letters.len()),
            "num_tgts=1",
            "max_luns=1",
            "per_host_store=1",
        ],
    )?;
    tool("udevadm", &["settle"])?;
    let mut names: Vec<String> = fs::read_dir("/sys/block")
        .map_err(|error| error.to_string())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            fs::read_to_string(format!("/sys/block/{name}/device/model"))
                .is_ok_and(|model| model.trim() == "scsi_debug")
        })
        .collect();
    names.sort();
    if names.len() != letters.len() {
        return Err(format!("scsi_debug made {names:?}"));
    }
    Ok(letters
        .iter()
        .zip(names)
        .map(|(letter, name)| Drive {
            letter: *letter,
            name,
            below: None,
            file: folder.join(letter.to_string()),
            at: 0,
            mapping: None,
            target: None,
        })
        .collect())
}

/// Takes the drives away again.
pub(crate) fn unmake(id: usize, kind: Kind, drives: &[Drive]) -> Result<(), String> {
    // Those of sets went with the sets.
    for drive in drives.iter().filter(|_| !kind.is_raid_set()) {
        if let Some(mapping) = &drive.mapping {
            tool("dmsetup", &["remove", "--retry", mapping])?;
        }
    }
    let mut below: Vec<&String> = drives.iter().filter_map(|d| d.below.as_ref()).collect();
    below.sort();
    below.dedup();
    for name in below {
        let node = format!("/dev/{name}");
        for part in drives
            .iter()
            .filter(|d| d.name.starts_with(&format!("{name}p")))
        {
            let number = part.name.rsplit('p').next().unwrap_or_default();
            tool("delpart", &[&node, number])?;
        }
        tool("losetup", &["--detach", &node])?;
    }
    if drives.iter().any(|d| d.below.is_none()) {
        tool("udevadm", &["settle"])?;
        tool("modprobe", &["--remove", "scsi_debug"])?;
    }
    let folder = Path::new(STORE).join(id.to_string());
    fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))
}
