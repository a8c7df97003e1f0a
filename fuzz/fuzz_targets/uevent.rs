//! `uevent` files and udev's database: no input may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lun_kernel::parse;

fuzz_target!(|bytes: &[u8]| {
    let text = &*String::from_utf8_lossy(bytes);
    let _ = parse::uevent(text);
    let _ = parse::udev_database(text);
});
