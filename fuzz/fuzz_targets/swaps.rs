//! `/proc/swaps`: no input may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lun_kernel::parse;

fuzz_target!(|bytes: &[u8]| {
    let text = &*String::from_utf8_lossy(bytes);
    let _ = parse::swaps(text);
});
