//! Pure parsers of what the kernel and its tools print. None of them panics on any input; what
//! they cannot understand is an [`Error::BadText`] that names the source, the text and what was
//! expected there.
//!
//! Formats: `drivers/md/md.c` of Linux 6.1 to 7.2, mdadm 4.2, util-linux 2.38.

#[cfg(test)]
mod captured;
mod dm;
#[cfg(test)]
pub(crate) mod dm_captures;
#[cfg(test)]
mod dm_tests;
mod host;
mod identity;
pub mod lvm;
#[cfg(test)]
mod lvm_tests;
mod mdadm;
mod mdstat;
mod signatures;
mod sysfs;
#[cfg(test)]
mod tests;
mod uevent;

pub use dm::{
    dm_owner, is_leg_name, is_lvm_part, laid_part, linear, raid_status, raid_superblock,
    raid_table, raid_type,
};
pub use host::{MountEntry, SwapEntry, mountinfo, swaps};
pub use identity::{md_uuid, md_uuid_swapped};
pub use mdadm::{detail_export_uuid, examine};
pub use mdstat::{Mdstat, MdstatArray, MdstatMember, mdstat};
pub use signatures::signatures;
pub use sysfs::{
    array_state, bad_block_lines, bitmap_location, dev_number, last_sync_action, layout, level,
    member_state, metadata, number, position, slot, speed_limit, sync_action, sync_completed,
    sync_max,
};
pub use uevent::{Properties, udev_database, uevent};

use lun_core::Error;

/// Longest piece of foreign text that an error repeats, in characters.
const QUOTED: usize = 120;

/// The error for `text` found in `source` where `want` was expected.
pub(crate) fn bad(source: &str, text: &str, want: &str) -> Error {
    Error::BadText {
        source_name: source.to_owned(),
        text: text.chars().take(QUOTED).collect(),
        want: want.to_owned(),
    }
}
