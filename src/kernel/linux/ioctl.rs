//! The ioctls that sysfs cannot stand in for. `HOT_REMOVE_DISK` detaches a spare without a
//! slot directly, where a write of `remove` to its `state` first tries to put it to use
//! (`drivers/md/md.c:state_store`). `ADD_NEW_DISK` takes a spare at once, where `new_dev` leaves it lying on
//! older kernels (`drivers/md/md.c:new_dev_store`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use lun_core::id::DevNo;
use nix::errno::Errno;

/// `HOT_REMOVE_DISK` (`include/uapi/linux/raid/md_u.h`): `_IO(MD_MAJOR, 0x22)`.
const HOT_REMOVE_DISK: u8 = 0x22;
/// `ADD_NEW_DISK`: `_IOW(MD_MAJOR, 0x21, mdu_disk_info_t)`.
const ADD_NEW_DISK: u8 = 0x21;
/// `GET_DISK_INFO`: `_IOR(MD_MAJOR, 0x12, mdu_disk_info_t)`.
const GET_DISK_INFO: u8 = 0x12;
const MD_MAJOR: u8 = 9;
/// Descriptors of a superblock 1.x at most.
const DESCRIPTORS: u32 = 1920;

/// `mdu_disk_info_t`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct DiskInfo {
    number: libc::c_int,
    major: libc::c_int,
    minor: libc::c_int,
    raid_disk: libc::c_int,
    state: libc::c_int,
}

/// The declaration that nix makes of it.
#[allow(missing_docs, reason = "made by a macro")]
mod raw {
    nix::ioctl_write_int_bad!(
        hot_remove_disk,
        nix::request_code_none!(super::MD_MAJOR, super::HOT_REMOVE_DISK)
    );
    nix::ioctl_write_ptr!(
        add_new_disk,
        super::MD_MAJOR,
        super::ADD_NEW_DISK,
        super::DiskInfo
    );
    nix::ioctl_read!(
        get_disk_info,
        super::MD_MAJOR,
        super::GET_DISK_INFO,
        super::DiskInfo
    );
}

/// Detaches a member. The node is held open only for the call: a second opener makes a stop of the
/// array fail. The node must be known to exist, as opening a missing one creates an array.
pub(crate) fn hot_remove(array_node: &Path, member: DevNo) -> io::Result<()> {
    let array = open(array_node)?;
    let number = kernel_number(member).ok_or(Errno::EINVAL)?;
    // SAFETY: the descriptor is open for the whole call, and the argument is a number that the
    // kernel takes by value (`new_decode_dev(arg)`); no memory of ours is read or written.
    unsafe { raw::hot_remove_disk(array.as_raw_fd(), number) }?;
    Ok(())
}

/// Has the array take a drive that bears a superblock of a spare of it, with this descriptor. The node must be
/// known to exist.
pub(crate) fn add_spare(array_node: &Path, drive: DevNo, descriptor: u32) -> io::Result<()> {
    let array = open(array_node)?;
    let int = |number: u32| libc::c_int::try_from(number).map_err(|_| Errno::EINVAL);
    let info = DiskInfo {
        number: int(descriptor)?,
        major: int(drive.major)?,
        minor: int(drive.minor)?,
        // Of no account without the state bit of a member in sync.
        raid_disk: -1,
        state: 0,
    };
    // SAFETY: the descriptor is open for the whole call, and the kernel reads `info`, which has the layout of
    // `mdu_disk_info_t`, and keeps no pointer to it.
    unsafe { raw::add_new_disk(array.as_raw_fd(), &raw const info) }?;
    Ok(())
}

/// The first descriptor past the slots that no device has.
pub(crate) fn free_descriptor(array_node: &Path, raid_disks: u32) -> io::Result<u32> {
    let array = open(array_node)?;
    for number in raid_disks..DESCRIPTORS {
        let mut info = DiskInfo {
            number: libc::c_int::try_from(number).map_err(|_| Errno::EINVAL)?,
            ..DiskInfo::default()
        };
        // SAFETY: the descriptor is open for the whole call, and the kernel writes into `info`, which has the
        // layout of `mdu_disk_info_t` and outlives the call.
        unsafe { raw::get_disk_info(array.as_raw_fd(), &raw mut info) }?;
        if (info.major, info.minor) == (0, 0) {
            return Ok(number);
        }
    }
    Err(Errno::ENOSPC.into())
}

fn open(array_node: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(array_node)
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
        let info = size_of::<DiskInfo>();
        assert_eq!(
            nix::request_code_write!(MD_MAJOR, ADD_NEW_DISK, info),
            0x4014_0921
        );
        assert_eq!(
            nix::request_code_read!(MD_MAJOR, GET_DISK_INFO, info),
            0x8014_0912
        );
    }
}
