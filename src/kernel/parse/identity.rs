//! Array and member UUIDs in the kernel's and in mdadm's spelling.

use lun_core::Error;
use uuid::Uuid;

use super::bad;

/// Reads a UUID whatever its punctuation: `md/uuid` prints `xxxxxxxx-xxxx-...`, mdadm the same
/// bytes as `aaaaaaaa:bbbbbbbb:...`.
///
/// # Errors
/// When it does not consist of 32 hexadecimal digits, `-` and `:`.
pub fn md_uuid(source: &str, text: &str) -> Result<Uuid, Error> {
    let wrong = || bad(source, text, "a UUID of 32 hexadecimal digits");
    let mut digits = String::with_capacity(32);
    for c in text.trim().chars() {
        match c {
            '-' | ':' => {}
            c if c.is_ascii_hexdigit() && digits.len() < 32 => digits.push(c),
            _ => return Err(wrong()),
        }
    }
    if digits.len() != 32 {
        return Err(wrong());
    }
    u128::from_str_radix(&digits, 16)
        .map(Uuid::from_u128)
        .map_err(|_| wrong())
}

/// As [`md_uuid`], for superblocks of version 0.90: mdadm prints each of their four words as a
/// number, which on a little-endian machine turns its bytes round; the kernel prints the bytes.
///
/// # Errors
/// As [`md_uuid`].
pub fn md_uuid_swapped(source: &str, text: &str) -> Result<Uuid, Error> {
    let mut bytes = *md_uuid(source, text)?.as_bytes();
    if cfg!(target_endian = "little") {
        for word in bytes.chunks_exact_mut(4) {
            word.reverse();
        }
    }
    Ok(Uuid::from_bytes(bytes))
}
