//! The images that `vm/build` makes, and where everything lies.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use crate::error::{Error, Result, Tried, last_lines};

/// Which Debian kernel a machine runs; the rest of the guest is bookworm in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Linux 6.1.
    #[default]
    Bookworm,
    /// Linux 6.12.
    Trixie,
    /// Linux 7.x.
    Sid,
}

impl Kernel {
    /// All of them, oldest first.
    pub const ALL: [Self; 3] = [Self::Bookworm, Self::Trixie, Self::Sid];

    /// The kernel that `LUND_VM_KERNEL` names; bookworm when it is unset or empty.
    ///
    /// # Errors
    /// [`Error::UnknownKernel`].
    pub fn from_env() -> Result<Self> {
        match std::env::var("LUND_VM_KERNEL") {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(Self::default()),
        }
    }

    /// Its Debian release.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.name())
    }
}

impl FromStr for Kernel {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kernel| kernel.name() == name)
            .ok_or_else(|| Error::UnknownKernel(name.to_owned()))
    }
}

/// The folder of images, snapshots and caches: `LUND_VM_DIR`, or `target/vm` beside this package.
#[must_use]
pub fn vm_dir() -> PathBuf {
    match std::env::var_os("LUND_VM_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => target_dir().join("vm"),
    }
}

/// Where the evidence of failed tests is kept.
#[must_use]
pub fn failures_dir() -> PathBuf {
    match std::env::var_os("LUND_VM_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir).join("failures"),
        _ => target_dir().join("vm-failures"),
    }
}

fn target_dir() -> PathBuf {
    recipe_dir()
        .parent()
        .unwrap_or(Path::new("/"))
        .join("target")
}

fn recipe_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A built image: `root.raw`, `vmlinuz` and `initrd` in one folder.
#[derive(Debug)]
pub struct Image {
    /// Which kernel it boots.
    pub kernel: Kernel,
    /// The folder; its name changes with anything the image is made from.
    pub dir: PathBuf,
    /// Held shared: `vm/build` removes no image that is in use.
    _in_use: File,
}

impl Image {
    /// The image for `kernel`, built first when something it is made from has changed.
    ///
    /// # Errors
    /// [`Error::Build`] with what `vm/build` said.
    pub fn ensure(kernel: Kernel) -> Result<Self> {
        Self::build(kernel, false)
    }

    /// As [`Image::ensure`]; with `refresh` the mirror is asked for a newer kernel.
    ///
    /// # Errors
    /// [`Error::Build`] with what `vm/build` said.
    pub fn build(kernel: Kernel, refresh: bool) -> Result<Self> {
        let program = recipe_dir().join("build");
        let mut command = Command::new(&program);
        command
            .args(["--kernel", kernel.name()])
            .stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if refresh {
            command.arg("--refresh");
        }
        let running = || format!("run {}", program.display());
        let mut child = command.spawn().tried(running)?;
        let mut words = String::new();
        for line in child
            .stderr
            .take()
            .into_iter()
            .flat_map(|e| BufReader::new(e).lines())
        {
            let line = line.tried(running)?;
            // What takes long is worth telling at once; nothing is said when all is there.
            if line.starts_with("vm: ") {
                eprintln!("{line}");
            }
            words.extend([&line, "\n"]);
        }
        let output = child.wait_with_output().tried(running)?;
        if !output.status.success() {
            return Err(Error::Build {
                kernel: kernel.to_string(),
                status: output.status.to_string(),
                log: last_lines(&words, 40),
            });
        }
        let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let in_use = use_dir(&dir)?;
        Ok(Self {
            kernel,
            dir,
            _in_use: in_use,
        })
    }
}

/// Marks a folder as in use as long as the file lives.
pub(crate) fn use_dir(dir: &Path) -> Result<File> {
    let path = dir.join("in-use");
    let what = || format!("lock {}", path.display());
    let file = File::options()
        .append(true)
        .create(true)
        .open(&path)
        .tried(what)?;
    file.lock_shared().tried(what)?;
    Ok(file)
}

/// Removes the folders in `parent` that start with `prefix`, but `keep` and those in use.
pub(crate) fn remove_unused(parent: &Path, prefix: &str, keep: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with(prefix));
        if !ours || path == keep {
            continue;
        }
        let free = File::options()
            .append(true)
            .open(path.join("in-use"))
            .is_ok_and(|file| file.try_lock().is_ok());
        if free {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// A short name for a set of inputs (FNV-1a; it names cache folders, nothing more).
pub(crate) fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.into_iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_parse_and_print() {
        for kernel in Kernel::ALL {
            assert_eq!(kernel.to_string().parse::<Kernel>().unwrap(), kernel);
        }
        let error = "buster".parse::<Kernel>().unwrap_err().to_string();
        assert!(
            error.contains("buster") && error.contains("bookworm"),
            "{error}"
        );
    }

    #[test]
    fn fingerprints_tell_where_a_part_ends() {
        assert_eq!(fingerprint(["a", "b"]), fingerprint(["a", "b"]));
        assert_ne!(fingerprint(["ab"]), fingerprint(["a", "b"]));
    }

    #[test]
    fn folders_in_use_are_kept() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["k-old", "k-used", "k-new", "other"] {
            fs::create_dir(parent.path().join(name)).unwrap();
            use_dir(&parent.path().join(name)).unwrap();
        }
        let _held = use_dir(&parent.path().join("k-used")).unwrap();
        remove_unused(parent.path(), "k-", &parent.path().join("k-new"));
        let mut left: Vec<_> = fs::read_dir(parent.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["k-new", "k-used", "other"]);
    }
}
