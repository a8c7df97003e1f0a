//! Reading and writing past the page cache, in whole blocks: what the kernel itself writes below a device's page
//! cache (superblocks) is not seen through it, and what is written here is on the disk when it is handed over.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// One block of the largest size that a disk has, and where memory for it must begin, bytes.
pub(crate) const BLOCK: usize = 4096;

/// Opens a device for reading.
pub(crate) fn open(node: &Path) -> io::Result<File> {
    with(node, false)
}

/// Opens a device for reading and writing, which nobody else may have claimed.
pub(crate) fn claim(node: &Path) -> io::Result<File> {
    with(node, true)
}

fn with(node: &Path, claim: bool) -> io::Result<File> {
    let exclusive = if claim { libc::O_EXCL } else { 0 };
    OpenOptions::new()
        .read(true)
        .write(claim)
        .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC | exclusive)
        .open(node)
}

/// Reads the block at this byte, which is the beginning of one.
pub(crate) fn block(device: &File, at: u64) -> io::Result<Vec<u8>> {
    let mut room = Aligned::new(BLOCK);
    let block = room.bytes(BLOCK)?;
    device.read_exact_at(block, at)?;
    Ok(block.to_vec())
}

/// Writes whole blocks at this byte. They are on the disk only after `sync_data`.
pub(crate) fn write(device: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let mut room = Aligned::new(bytes.len());
    let blocks = room.bytes(bytes.len())?;
    blocks.copy_from_slice(bytes);
    device.write_all_at(blocks, at)
}

/// Memory that begins at a whole block.
struct Aligned(Vec<u8>, usize);

impl Aligned {
    fn new(bytes: usize) -> Self {
        let room = vec![0; bytes.saturating_add(BLOCK)];
        let skip = room.as_ptr().align_offset(BLOCK);
        Self(room, skip)
    }

    fn bytes(&mut self, bytes: usize) -> io::Result<&mut [u8]> {
        self.0
            .get_mut(self.1..)
            .and_then(|room| room.get_mut(..bytes))
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}
