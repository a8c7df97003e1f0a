//! Superblocks of raid sets, read past the page cache: the target writes them below it, and while it
//! holds the device open a page that was once read is never read again.
//!
//! A device can hang. Each reading has a thread of its own that is given up after a while, and one
//! that still hangs is not joined by a second one.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lun_core::Error;
use lun_core::facts::{Fact, RaidSuperblock};
use lun_core::id::DevNo;

use super::dm::{folder_of, kernel_name};
use super::read::{failed, text, to_fact};
use super::{Roots, direct};
use crate::{md_spare, parse};

/// What a superblock of a raid set begins with (`drivers/md/dm-raid.c`, `DM_RAID_MAGIC`).
const MAGIC: &[u8] = b"DmRd";

/// How many are read at once; a set has up to 253 legs.
const AT_ONCE: usize = 16;
/// What the stack of a reading needs at most, bytes.
const STACK: usize = 128 * 1024;
/// How long the readings that are made at once may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Devices whose reading has not come back yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Superblocks {
    hanging: Arc<Mutex<BTreeSet<DevNo>>>,
}

/// What a reading of a device gave; [`None`]: there is no device, or nothing on it.
type Answer<T> = Fact<Option<T>>;

/// How a device is read.
type Reading<T> = fn(&Path) -> Answer<T>;

impl Superblocks {
    /// Superblock of each of these metadata devices; none where a leg has no such device.
    pub(crate) fn read(
        &self,
        roots: &Roots,
        metas: &[Option<DevNo>],
    ) -> Vec<Answer<RaidSuperblock>> {
        self.all(roots, metas, |node| to_fact(read_block(node)))
    }

    /// Whether each of these devices answers a read, with data or with an error.
    pub(crate) fn readable(&self, roots: &Roots, devices: &[Option<DevNo>]) -> Vec<Answer<bool>> {
        self.all(roots, devices, |node| match block(node) {
            Ok(_) => Fact::Known(Some(true)),
            Err(error) => match error.raw_os_error() {
                Some(libc::EIO | libc::ENXIO | libc::ENODEV) => Fact::Known(Some(false)),
                _ => to_fact(Err(failed("read", node, &error))),
            },
        })
    }

    /// Event count in the superblock 1.2 of a member of an array of md; none where there is no such superblock.
    pub(crate) fn md_events(&self, roots: &Roots, member: DevNo) -> Answer<u64> {
        let mut answers = self.all(roots, &[Some(member)], |node| {
            let read = direct::open(node).and_then(|member| direct::block(&member, md_spare::AT));
            to_fact(
                read.map(|block| md_spare::events(&block))
                    .map_err(|error| failed("read the superblock on", node, &error)),
            )
        });
        answers.pop().unwrap_or(Fact::Known(None))
    }

    fn all<T: Send + 'static>(
        &self,
        roots: &Roots,
        devices: &[Option<DevNo>],
        reading: Reading<T>,
    ) -> Vec<Answer<T>> {
        devices
            .chunks(AT_ONCE)
            .flat_map(|devices| self.some(roots, devices, reading))
            .collect()
    }

    fn some<T: Send + 'static>(
        &self,
        roots: &Roots,
        devices: &[Option<DevNo>],
        reading: Reading<T>,
    ) -> Vec<Answer<T>> {
        let deadline = Instant::now() + PATIENCE;
        let begun: Vec<Begun<T>> = devices
            .iter()
            .map(|device| self.begin(roots, *device, reading))
            .collect();
        let ended = begun.into_iter().map(|begun| match begun {
            Begun::Done(answer) => answer,
            Begun::Waits(receiver, name) => {
                let left = deadline.saturating_duration_since(Instant::now());
                receiver.recv_timeout(left).unwrap_or_else(|error| {
                    Fact::Unknown(match error {
                        RecvTimeoutError::Timeout => format!("{name} does not answer"),
                        RecvTimeoutError::Disconnected => {
                            format!("the reading of {name} broke off")
                        }
                    })
                })
            }
        });
        ended.collect()
    }

    fn begin<T: Send + 'static>(
        &self,
        roots: &Roots,
        device: Option<DevNo>,
        reading: Reading<T>,
    ) -> Begun<T> {
        let Some(dev) = device else {
            return Begun::Done(Fact::Known(None));
        };
        let unknown = |why: String| Begun::Done(Fact::Unknown(why));
        let Some((folder, name)) = folder_of(roots, dev)
            .and_then(|folder| kernel_name(&folder).map(|name| (folder, name)))
        else {
            return unknown(format!("no device has the number {dev}"));
        };
        // To open a suspended device may wait for its resume.
        if text(&folder.join("dm/suspended")).is_ok_and(|text| text.trim() == "1") {
            return unknown(format!("{name} is suspended"));
        }
        if !self.hanging().insert(dev) {
            return unknown(format!("{name} still does not answer"));
        }
        let node = super::device::node(roots, &name);
        let (sender, receiver) = channel();
        let this = self.clone();
        let begun = thread::Builder::new()
            .name(format!("sb-{dev}"))
            .stack_size(STACK)
            .spawn(move || {
                let answer = reading(&node);
                this.hanging().remove(&dev);
                // Nobody waits any more for one that was given up.
                let _ = sender.send(answer);
            });
        match begun {
            Ok(_) => Begun::Waits(receiver, name),
            Err(error) => {
                self.hanging().remove(&dev);
                unknown(format!("no thread to read {name}: {error}"))
            }
        }
    }

    fn hanging(&self) -> MutexGuard<'_, BTreeSet<DevNo>> {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Begun<T> {
    Done(Answer<T>),
    Waits(Receiver<Answer<T>>, String),
}

/// The first block of a device. It may hang as long as the device does.
pub(crate) fn block(node: &Path) -> io::Result<Vec<u8>> {
    direct::block(&direct::open(node)?, 0)
}

/// Whether a device begins with a superblock of a raid set; one too small for it does not.
pub(crate) fn is_borne(node: &Path) -> Result<bool, Error> {
    match block(node) {
        Ok(block) => Ok(block.starts_with(MAGIC)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(failed("read", node, &error)),
    }
}

/// Reads the superblock of a metadata device.
pub(crate) fn read_block(node: &Path) -> Result<Option<RaidSuperblock>, Error> {
    let bytes = block(node).map_err(|error| failed("read the superblock on", node, &error))?;
    parse::raid_superblock(&node.display().to_string(), &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_hangs_is_given_up_and_not_joined() {
        let dev = DevNo { major: 7, minor: 1 };
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots::under(folder.path());
        let sys = roots.sys.join("devices/loop1");
        std::fs::create_dir_all(&sys).unwrap();
        std::fs::create_dir_all(roots.sys.join("dev/block")).unwrap();
        std::os::unix::fs::symlink(&sys, roots.sys.join("dev/block/7:1")).unwrap();
        std::fs::create_dir_all(&roots.dev).unwrap();
        // A pipe without a writer blocks who opens it.
        let node = roots.dev.join("loop1");
        nix::unistd::mkfifo(
            &node,
            nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR,
        )
        .unwrap();
        let superblocks = Superblocks::default();
        let begun = Instant::now();
        let read = superblocks.read(&roots, &[Some(dev), None]);
        assert!(begun.elapsed() >= PATIENCE);
        assert!(matches!(&read[0], Fact::Unknown(why) if why.contains("does not answer")));
        assert_eq!(read[1], Fact::Known(None));
        let begun = Instant::now();
        let read = superblocks.read(&roots, &[Some(dev)]);
        assert!(begun.elapsed() < PATIENCE);
        assert!(matches!(&read[0], Fact::Unknown(why) if why.contains("still")));
        drop(std::fs::OpenOptions::new().write(true).open(&node));
    }
}
