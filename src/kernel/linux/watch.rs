//! Where hints come from on Linux: `/proc/mdstat`, the sysfs attributes that notify, udev, and
//! device-mapper's control node.
//!
//! The kernel's files report a change by `EPOLLPRI | EPOLLERR` until they are read again from the
//! beginning (`fs/kernfs/file.c:kernfs_generic_poll`, `drivers/md/md.c:mdstat_poll`), and for ever
//! once their object is gone. They are kept in an epoll set of our own, edge-triggered: a report
//! is then taken once for each wake by the kernel, so that no file can make the loop spin. Tokio
//! watches the set as one descriptor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use devicemapper::DM;
use lun_core::facts::Inventory;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::unix::AsyncFd;
use udev::{MonitorBuilder, MonitorSocket};

use super::Roots;
use super::array::member_folder;
use super::async_fd::{EpollFd, readable};
use super::dm;
use crate::{Hint, Watch};

/// Attributes of an array that notify (`sysfs_notify` in `drivers/md/md.c`).
const NOTIFYING: [&str; 4] = ["array_state", "sync_action", "sync_completed", "degraded"];
/// Reports taken from the kernel at once.
const BATCH: usize = 64;
/// Unreadable messages of udev in a row before the rest counts as lost.
const UNREADABLE: u32 = 64;

/// Hints from `/proc/mdstat`, sysfs, udev and device-mapper.
pub struct LinuxWatch {
    roots: Roots,
    set: AsyncFd<EpollFd>,
    udev: AsyncFd<MonitorSocket>,
    mapper: Option<AsyncFd<DM>>,
    files: BTreeMap<PathBuf, Watched>,
    paths: BTreeMap<u64, PathBuf>,
    next_token: u64,
    pending: BTreeSet<Hint>,
    wakes: u64,
}

/// One open attribute.
struct Watched {
    file: File,
    inode: u64,
    token: u64,
    hint: Hint,
}

impl fmt::Debug for LinuxWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinuxWatch")
            .field("files", &self.files.keys())
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

/// Which descriptor woke us.
enum Woken {
    Files,
    Udev,
    Mapper,
}

impl LinuxWatch {
    /// Starts to listen on the running machine. Must be called inside a tokio runtime with I/O
    /// enabled.
    ///
    /// # Errors
    /// When udev's socket cannot be opened, or there is no such runtime.
    pub fn new() -> io::Result<Self> {
        Self::with_roots(Roots::system())
    }

    /// As [`LinuxWatch::new`], with the kernel's trees elsewhere.
    ///
    /// # Errors
    /// As [`LinuxWatch::new`].
    pub fn with_roots(roots: Roots) -> io::Result<Self> {
        let socket = MonitorBuilder::new()?.match_subsystem("block")?.listen()?;
        let mut watch = Self {
            roots,
            set: readable(EpollFd::new()?)?,
            udev: readable(socket)?,
            mapper: None,
            files: BTreeMap::new(),
            paths: BTreeMap::new(),
            next_token: 0,
            pending: BTreeSet::new(),
            wakes: 0,
        };
        watch.keep_mdstat();
        watch.keep_mapper();
        Ok(watch)
    }

    /// How often the kernel or udev woke it: a measure that nothing spins.
    #[must_use]
    pub const fn wakes(&self) -> u64 {
        self.wakes
    }

    /// `/proc/mdstat` is there only while md is loaded. It has no identity of its own: a report
    /// may be about any array.
    fn keep_mdstat(&mut self) {
        self.keep(self.roots.proc.join("mdstat"), Hint::Arrays);
    }

    /// Device-mapper has one event for all of its devices: a leg that failed, a recovery that ended
    /// (`drivers/md/dm-raid.c`). It is there only while the driver is loaded.
    fn keep_mapper(&mut self) {
        if self.mapper.is_some() || !dm::is_loaded(&self.roots) {
            return;
        }
        match dm::open().map_err(io::Error::other).and_then(readable) {
            Ok(mapper) => {
                self.mapper = Some(mapper);
                self.pending.insert(Hint::Arrays);
            }
            Err(error) => tracing::warn!(%error, "events of device-mapper are not heard"),
        }
    }

    /// Makes the next event possible, before anything is read again: what comes meanwhile wakes us
    /// again. Which device it was about is told by a list that may have to wait for a lock, so the
    /// scan finds that out.
    fn rearm_mapper(&mut self) {
        let armed = self
            .mapper
            .as_ref()
            .map(|mapper| mapper.get_ref().arm_poll());
        if let Some(Err(error)) = armed {
            tracing::warn!(%error, "events of device-mapper are not heard any more");
            self.mapper = None;
        }
        self.pending.insert(Hint::Arrays);
    }

    /// Watches a file, unless that is done already. One that is newly opened gives its hint at
    /// once: what changed between the last scan and the opening was reported to nobody.
    fn keep(&mut self, path: PathBuf, hint: Hint) {
        // A file of the same name may belong to a new array: the kernel numbers them afresh.
        let inode = fs::metadata(&path).map(|data| data.ino()).ok();
        match (self.files.get(&path), inode) {
            (Some(watched), Some(inode)) if watched.inode == inode => return,
            (Some(_), _) => self.drop_file(&path),
            (None, _) => {}
        }
        let Ok(file) = File::open(&path) else { return };
        let Ok(inode) = file.metadata().map(|data| data.ino()) else {
            return;
        };
        // Every file reports itself until it is read for the first time.
        if read_through(&file).is_err() {
            return;
        }
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        let wanted = EpollFlags::EPOLLPRI | EpollFlags::EPOLLERR | EpollFlags::EPOLLET;
        if let Err(error) = self
            .set
            .get_ref()
            .0
            .add(&file, EpollEvent::new(wanted, token))
        {
            tracing::debug!(path = %path.display(), %error, "not watched");
            return;
        }
        self.pending.insert(hint.clone());
        self.paths.insert(token, path.clone());
        self.files.insert(
            path,
            Watched {
                file,
                inode,
                token,
                hint,
            },
        );
    }

    fn drop_file(&mut self, path: &Path) {
        if let Some(watched) = self.files.remove(path) {
            self.paths.remove(&watched.token);
            // Closing it would do, were there no child between fork and exec that holds it too.
            let _ = self.set.get_ref().0.delete(&watched.file);
        }
    }

    /// Takes every report of the set.
    fn drain_files(&mut self) {
        let mut events = [EpollEvent::empty(); BATCH];
        loop {
            let count = match self.set.get_ref().0.wait(&mut events, EpollTimeout::ZERO) {
                Ok(0) => return,
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the set of watched files fails");
                    self.pending.insert(Hint::Overflow);
                    return;
                }
            };
            for event in events.iter().take(count) {
                self.taken(event.data());
            }
        }
    }

    /// One report: the file is read again, which makes the next one possible. A file that cannot
    /// be read any more belongs to nothing any more.
    fn taken(&mut self, token: u64) {
        let Some(path) = self.paths.get(&token).cloned() else {
            return;
        };
        let Some(watched) = self.files.get(&path) else {
            return;
        };
        if read_through(&watched.file).is_ok() {
            self.pending.insert(watched.hint.clone());
        } else {
            self.drop_file(&path);
            self.pending.insert(Hint::Arrays);
        }
    }

    /// Takes every message of udev.
    fn drain_udev(&mut self) {
        let mut unreadable = 0_u32;
        let (mut arrays, mut devices, mut lost) = (false, false, false);
        while unreadable < UNREADABLE {
            if let Some(event) = self.udev.get_ref().iter().next() {
                let name = event.sysname().to_string_lossy().into_owned();
                // A mapped device may be a raid set, a member, or both.
                let mapped = name.starts_with("dm-");
                let is_array = name.starts_with("md");
                arrays |= is_array || mapped;
                devices |= !is_array;
                unreadable = 0;
                continue;
            }
            // libudev says "nothing" for an empty queue, for a message that it cannot read, and
            // for messages that the kernel dropped; only errno and the queue tell which.
            lost |= Errno::last() == Errno::ENOBUFS;
            if !has_input(self.udev.get_ref()) {
                break;
            }
            unreadable = unreadable.saturating_add(1);
        }
        if lost || unreadable >= UNREADABLE {
            self.pending.insert(Hint::Overflow);
        }
        if arrays {
            self.keep_mdstat();
            self.keep_mapper();
            self.pending.insert(Hint::Arrays);
        }
        if devices {
            self.pending.insert(Hint::Devices);
        }
    }

    /// Waits for any of the descriptors. Readiness is cleared before the source is emptied: what comes
    /// meanwhile wakes us again.
    async fn woken(&self) -> io::Result<Woken> {
        let mapper = async {
            match &self.mapper {
                Some(mapper) => mapper.readable().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = self.set.readable() => {
                ready?.clear_ready();
                Ok(Woken::Files)
            }
            ready = self.udev.readable() => {
                ready?.clear_ready();
                Ok(Woken::Udev)
            }
            ready = mapper => {
                ready?.clear_ready();
                Ok(Woken::Mapper)
            }
        }
    }
}

/// Reads a file from its beginning to its end.
fn read_through(file: &File) -> io::Result<()> {
    let mut buffer = [0_u8; 4096];
    let mut at = 0_u64;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(()),
            Ok(count) => at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn has_input(socket: &MonitorSocket) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

impl Watch for LinuxWatch {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Hint> + '_>> {
        Box::pin(async move {
            // Nothing is awaited between taking a report and keeping its hint, so a future that is
            // dropped loses none.
            loop {
                if let Some(hint) = self.pending.pop_first() {
                    return hint;
                }
                match self.woken().await {
                    Ok(Woken::Files) => self.drain_files(),
                    Ok(Woken::Udev) => self.drain_udev(),
                    Ok(Woken::Mapper) => self.rearm_mapper(),
                    // The reactor is shutting down: nothing will come any more.
                    Err(_) => std::future::pending().await,
                }
                self.wakes = self.wakes.wrapping_add(1);
            }
        })
    }

    fn follow(&mut self, inventory: &Inventory) {
        self.keep_mdstat();
        self.keep_mapper();
        let mut wanted: BTreeMap<PathBuf, Hint> = BTreeMap::new();
        for (name, array) in inventory.arrays.iter().filter(|(_, a)| a.dm().is_none()) {
            let md = self.roots.sys.join("block").join(name).join("md");
            for attribute in NOTIFYING {
                wanted.insert(md.join(attribute), Hint::Array(name.clone()));
            }
            for member in &array.members {
                let folder = member_folder(&self.roots, name, &member.name);
                wanted.insert(folder.join("state"), Hint::Array(name.clone()));
            }
        }
        let gone: Vec<PathBuf> = self
            .files
            .iter()
            .filter(|(path, watched)| watched.hint != Hint::Arrays && !wanted.contains_key(*path))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            self.drop_file(&path);
        }
        for (path, hint) in wanted {
            self.keep(path, hint);
        }
    }
}
