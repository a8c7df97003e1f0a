//! The real adapter: sysfs, procfs, udev's database, device-mapper, one ioctl, and two tools (`mdadm`, `wipefs`)
//! run as children. It reads and acts, and decides nothing; what guards it has are the last ones
//! before an act that cannot be undone.

mod act;
mod array;
mod async_fd;
mod bare;
mod device;
mod direct;
mod dm;
mod exclusive;
mod identity;
mod ioctl;
mod lvm;
mod probe;
mod read;
mod set;
mod spare;
mod superblock;
#[cfg(test)]
mod tests;
mod tool;
mod udevdb;
mod usage;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lun_core::Error;
use lun_core::action::Action;
use lun_core::facts::{ArrayFacts, Inventory, MdstatFacts};

use crate::{Kernel, ScanRequest, raid_set};

use superblock::Superblocks;
use tool::Tools;

pub use watch::LinuxWatch;

/// Where the kernel's trees are mounted. Tests put folders of their own here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
    /// `/run`, for udev's database; [`None`] asks libudev, which knows only the real machine.
    pub run: Option<PathBuf>,
}

impl Roots {
    /// The trees of the running machine.
    #[must_use]
    pub fn system() -> Self {
        Self {
            sys: PathBuf::from("/sys"),
            proc: PathBuf::from("/proc"),
            dev: PathBuf::from("/dev"),
            run: None,
        }
    }

    /// All four trees below one folder, for tests.
    #[must_use]
    pub fn under(folder: &Path) -> Self {
        Self {
            sys: folder.join("sys"),
            proc: folder.join("proc"),
            dev: folder.join("dev"),
            run: Some(folder.join("run")),
        }
    }
}

/// The running Linux kernel behind the port.
#[derive(Debug, Clone)]
pub struct Linux {
    roots: Roots,
    tools: Tools,
    superblocks: Superblocks,
}

impl Linux {
    /// The machine it runs on.
    #[must_use]
    pub fn system() -> Self {
        Self::with_roots(Roots::system())
    }

    /// A machine whose trees lie elsewhere.
    #[must_use]
    pub fn with_roots(roots: Roots) -> Self {
        Self {
            roots,
            tools: Tools::default(),
            superblocks: Superblocks::default(),
        }
    }

    /// Looks for the tools in these folders instead of the system's own.
    #[must_use]
    pub fn with_tools_in(mut self, folders: Vec<PathBuf>) -> Self {
        self.tools.folders = folders;
        self
    }
}

impl Kernel for Linux {
    fn scan(&self, request: &ScanRequest) -> Result<Inventory, Error> {
        let devices = device::read_all(&self.roots)?;
        let (md_loaded, mut mdstat) = self.mdstat_or_nothing();
        let mut arrays = BTreeMap::new();
        for name in array::array_names(&self.roots) {
            let entry = mdstat.remove(&name);
            let Some(mut facts) = array::read(&self.roots, &self.tools, &name, entry) else {
                continue;
            };
            if request.events_of.contains(&name) {
                facts.events = array::events(&self.roots, &self.tools, &self.superblocks, &facts);
            }
            arrays.insert(name, facts);
        }
        arrays.extend(dm::read_all(&self.roots, &self.superblocks)?);
        let probes = request
            .probe
            .iter()
            .map(|&dev| (dev, probe::probe(&self.roots, &self.tools, dev)))
            .collect();
        Ok(Inventory {
            arrays,
            devices,
            probes,
            groups: lvm::groups(&self.tools, &request.groups),
            md_loaded,
        })
    }

    fn read_array(&self, name: &str) -> Result<Option<ArrayFacts>, Error> {
        if let Some(name) = raid_set::dm_name(name) {
            return dm::read(&self.roots, &self.superblocks, name);
        }
        let (_, mut mdstat) = self.mdstat_or_nothing();
        Ok(array::read(
            &self.roots,
            &self.tools,
            name,
            mdstat.remove(name),
        ))
    }

    fn read_progress(&self) -> Result<Vec<(String, MdstatFacts)>, Error> {
        let mut entries = array::read_mdstat(&self.roots)?;
        entries.extend(dm::read_progress(&self.roots)?);
        Ok(entries)
    }

    fn act(&self, action: &Action) -> Result<(), Error> {
        act::act(&self.roots, &self.tools, action)
    }
}

impl Linux {
    /// Whether md is loaded, and the entries of `/proc/mdstat`: state comes from sysfs, so arrays
    /// are shown without their progress when that file cannot be understood.
    fn mdstat_or_nothing(&self) -> (bool, BTreeMap<String, MdstatFacts>) {
        let entries = array::read_mdstat(&self.roots).unwrap_or_else(|error| {
            tracing::warn!(%error, "progress is not known");
            Vec::new()
        });
        (
            self.roots.proc.join("mdstat").exists(),
            entries.into_iter().collect(),
        )
    }
}
