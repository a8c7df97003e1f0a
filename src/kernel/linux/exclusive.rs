//! Drives that are in use for a moment only.
//!
//! An exclusive open of ours ends when the last copy of the file is closed. A child that another thread of ours
//! forked meanwhile has a copy until its program has begun, some milliseconds on a slow machine, and for so long the
//! drive is busy for the kernel and for us (docs/kernel-notes.md). Tools of others look at drives exclusively for as
//! short a time.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long a drive that is to be taken may be busy before somebody is said to use it.
pub(crate) const TO_TAKE: Duration = Duration::from_secs(2);
/// The same for a drive that is only looked at.
pub(crate) const TO_LOOK: Duration = Duration::from_millis(200);
/// Between two tries: nobody tells of the end of an exclusive open.
const PAUSE: Duration = Duration::from_millis(10);

/// Tries `attempt` until it says something else than `EBUSY`, for at most `limit`.
///
/// # Errors
/// The last of `attempt`.
pub(crate) fn when_free<T>(
    limit: Duration,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let until = Instant::now() + limit;
    loop {
        match attempt() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < until => {
                thread::sleep(PAUSE);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_for_a_moment_is_tried_again() {
        let mut tries = 0;
        let ended = when_free(Duration::from_secs(600), || {
            tries += 1;
            match tries {
                1 => Err(io::Error::from_raw_os_error(libc::EBUSY)),
                2 => Err(io::Error::from_raw_os_error(libc::EINTR)),
                _ => Ok(tries),
            }
        });
        assert_eq!(ended.unwrap(), 3);
    }

    #[test]
    fn what_stays_busy_or_fails_otherwise_is_told() {
        for errno in [libc::EBUSY, libc::EIO] {
            let mut tries = 0;
            let ended = when_free(Duration::ZERO, || {
                tries += 1;
                Err::<(), _>(io::Error::from_raw_os_error(errno))
            });
            assert_eq!(ended.unwrap_err().raw_os_error(), Some(errno));
            assert_eq!(tries, 1);
        }
    }
}
