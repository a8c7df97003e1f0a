//! Writing to sysfs: one value, one `write(2)`; and waiting for an attribute to change.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use lun_core::Error;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::read::failed;

/// Longest wait for a change before a retry: a change that notifies nobody is found this late.
const TICK: Duration = Duration::from_millis(50);

/// Writes a value. The kernel takes a whole value from each `write(2)`, so it must be one; the
/// lock that most attributes need can be interrupted, so `EINTR` is tried again.
pub(crate) fn write_value(path: &Path, value: &str) -> Result<(), Error> {
    let action = || format!("write {value:?} to");
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(|error| failed(&action(), path, &error))?;
    loop {
        match file.write(value.as_bytes()) {
            Ok(count) if count == value.len() => return Ok(()),
            Ok(count) => {
                let short = io::Error::other(format!("only {count} bytes were taken"));
                return Err(failed(&action(), path, &short));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(&action(), path, &error)),
        }
    }
}

/// Tries `attempt` until it says something else than `EBUSY`, for at most `limit`; between two
/// tries it waits until the attribute `watch` changes. `again` may end it earlier.
pub(crate) fn while_busy(
    watch: &Path,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<(), Error>,
    mut again: impl FnMut() -> bool,
) -> Result<(), Error> {
    let until = Instant::now() + limit;
    loop {
        // The attribute is read before the attempt, so that no change falls between the two.
        let mut seen = File::open(watch).ok();
        if let Some(file) = seen.as_mut() {
            drain(file);
        }
        match attempt() {
            Err(
                error @ Error::Kernel {
                    errno: libc::EBUSY, ..
                },
            ) => {
                if Instant::now() >= until || !again() {
                    return Err(error);
                }
            }
            other => return other,
        }
        wait_change(seen.as_ref());
    }
}

fn drain(file: &mut File) {
    let mut sink = String::new();
    let _ = file.seek(SeekFrom::Start(0));
    let _ = file.read_to_string(&mut sink);
}

fn wait_change(file: Option<&File>) {
    let mut fds: Vec<_> = file
        .map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI))
        .into_iter()
        .collect();
    let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
    let before = Instant::now();
    let woken = poll(&mut fds, timeout);
    // A file of a vanished object reports at once and for ever; the tick keeps its pace.
    let gone = fds.iter().any(|fd| {
        fd.revents()
            .is_some_and(|events| events.contains(PollFlags::POLLERR))
    });
    if (gone || woken.is_err()) && before.elapsed() < Duration::from_millis(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
}
