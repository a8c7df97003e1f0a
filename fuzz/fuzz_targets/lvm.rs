//! Reports of LVM, the three of them and its configuration one after the other: no input may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lun_kernel::parse::lvm;

fuzz_target!(|bytes: &[u8]| {
    let text = &*String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(4, "==>");
    let mut part = || parts.next().unwrap_or(text);
    let _ = lvm::volume_group(part(), part(), part(), part());
});
