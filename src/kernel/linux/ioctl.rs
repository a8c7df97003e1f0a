//! The one ioctl that sysfs cannot stand in for: `HOT_REMOVE_DISK` detaches a spare without a
//! slot directly, where a write of `remove` to its `state` first tries to put it to use
//! (`drivers/md/md.c:state_store`).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use lun_core::id::DevNo;
use nix::errno::Errno;

/// `HOT_REMOVE_DISK` (`include/uapi/linux/raid/md_u.h`): `_IO(MD_MAJOR, 0x22)`.
const HOT_REMOVE_DISK: u8 = 0x22;
const MD_MAJOR: u8 = 9;

/// The declaration that nix makes of it.
#[allow(missing_docs, reason = "made by a macro")]
mod raw {
    nix::ioctl_write_int_bad!(
        hot_remove_disk,
        nix::request_code_none!(super::MD_MAJOR, super::HOT_REMOVE_DISK)
    );
}

/// Detaches a member. The node is held open only for the call: a second opener makes a stop of the
/// array fail. The node must be known to exist, as opening a missing one creates an array.
pub(crate) fn hot_remove(array_node: &Path, member: DevNo) -> io::Result<()> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    let array = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(array_node)?;
    let number = kernel_number(member).ok_or(Errno::EINVAL)?;
    // SAFETY: the descriptor is open for the whole call, and the argument is a number that the
    // kernel takes by value (`new_decode_dev(arg)`); no memory of ours is read or written.
    unsafe { raw::hot_remove_disk(array.as_raw_fd(), number) }?;
    Ok(())
}

/// The kernel's own spelling of a device number (`new_encode_dev`), which is no `dev_t` of libc.
fn kernel_number(dev: DevNo) -> Option<libc::c_int> {
    let (major, minor) = (dev.major, dev.minor);
    if major >= 1 << 12 || minor >= 1 << 20 {
        return None;
    }
    let number = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    Some(libc::c_int::from_ne_bytes(number.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelt_as_the_kernel_wants_them() {
        assert_eq!(kernel_number(DevNo { major: 7, minor: 1 }), Some(0x701));
        assert_eq!(
            kernel_number(DevNo {
                major: 8,
                minor: 0x1_23
            }),
            Some(0x0010_0823)
        );
        assert_eq!(
            kernel_number(DevNo {
                major: 4096,
                minor: 0
            }),
            None
        );
        assert_eq!(nix::request_code_none!(MD_MAJOR, HOT_REMOVE_DISK), 0x922);
    }
}
