//! Values of sysfs attributes: no input may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lun_kernel::parse;

fuzz_target!(|bytes: &[u8]| {
    let text = &*String::from_utf8_lossy(bytes);
    let _ = parse::number::<u32>("f", text);
    let _ = parse::number::<u64>("f", text);
    let _ = parse::layout("f", text);
    let _ = parse::array_state("f", text);
    let _ = parse::sync_action("f", text);
    let _ = parse::last_sync_action("f", text);
    let _ = parse::sync_max("f", text);
    let _ = parse::speed_limit("f", text);
    let _ = parse::sync_completed("f", text);
    let metadata = parse::metadata("f", text).ok();
    let _ = parse::level(text, metadata.as_ref());
    let _ = parse::position("f", text);
    let _ = parse::slot("f", text);
    let _ = parse::member_state(text);
    let _ = parse::bad_block_lines("f", text);
    let _ = parse::bitmap_location("f", text);
    let _ = parse::dev_number("f", text);
});
