//! Table, status and superblock of device-mapper's target `raid`: no input may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lun_kernel::parse;

fuzz_target!(|bytes: &[u8]| {
    let text = &*String::from_utf8_lossy(bytes);
    let _ = parse::raid_table("table", text);
    let _ = parse::raid_status("status", text);
    let _ = parse::raid_superblock("metadata", bytes);
    let _ = parse::dm_owner(text, Some("LVM-"));
    let _ = parse::is_lvm_part(text, Some(text));
});
