//! What the host uses devices for: `/proc/self/mountinfo` and `/proc/swaps`.

use lun_core::Error;
use lun_core::id::DevNo;

use super::{bad, dev_number};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Number of the device; major 0 for file systems with numbers of their own (btrfs, nfs).
    pub dev: DevNo,
    /// Where it is mounted.
    pub mount_point: String,
    /// What is mounted, as the file system tells it (`/dev/sda1`).
    pub source: String,
}

/// One swap area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapEntry {
    /// Path of the device or file.
    pub path: String,
    /// It is a device (`partition`), not a file.
    pub device: bool,
}

/// Reads `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
///
/// # Errors
/// When a line has no device number or no mount point.
pub fn mountinfo(text: &str) -> Result<Vec<MountEntry>, Error> {
    const SOURCE: &str = "/proc/self/mountinfo";
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let wrong = || {
            bad(
                SOURCE,
                line,
                "`id parent major:minor root mountpoint ... - type source`",
            )
        };
        // Optional fields of any number stand between the sixth word and a lone hyphen.
        let (before, after) = line.split_once(" - ").ok_or_else(wrong)?;
        let mut words = before.split(' ');
        let dev = dev_number(SOURCE, words.nth(2).ok_or_else(wrong)?)?;
        let mount_point = unescape(words.nth(1).ok_or_else(wrong)?);
        let source = unescape(after.split(' ').nth(1).unwrap_or_default());
        found.push(MountEntry {
            dev,
            mount_point,
            source,
        });
    }
    Ok(found)
}

/// Reads `/proc/swaps`.
///
/// # Errors
/// When a line has fewer than two words.
pub fn swaps(text: &str) -> Result<Vec<SwapEntry>, Error> {
    let mut found = Vec::new();
    for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let (Some(path), Some(kind)) = (words.next(), words.next()) else {
            return Err(bad("/proc/swaps", line, "`path type size used priority`"));
        };
        found.push(SwapEntry {
            path: unescape(path),
            device: kind == "partition",
        });
    }
    Ok(found)
}

/// Undoes the octal escapes of blanks, tabs, newlines and backslashes (`\040`).
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'\\', Some(value)) = (first, tail.get(..3).and_then(octal)) {
            bytes.push(value);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit.checked_sub(b'0')?),
        _ => None,
    })
}
