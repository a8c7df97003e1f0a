//! The superblock of a fresh spare, metadata 1.2, made from that of a member in sync.
//!
//! `mdadm --add-spare` writes the same, field by field (the VM test `vm::native` compares), and takes several
//! times as long. Only what is plain is done here; all else is left to mdadm, which knows it
//! (ADR 0018). Format: `include/uapi/linux/raid/md_p.h`
//! (`struct mdp_superblock_1`) and `drivers/md/md-bitmap.h` (`struct bitmap_super_s`); all little-endian.

use std::fmt;

/// Where the superblock lies, bytes from the start of the device.
pub const AT: u64 = 4096;
/// What is read and written at a time: the largest logical block of a disk.
pub const BLOCK: usize = 4096;

/// Bytes of a sector.
const SECTOR: u64 = 512;
const MAGIC: u32 = 0xa92b_4efc;
/// `MD_FEATURE_BITMAP_OFFSET`: there is a write-intent bitmap.
const FEATURE_BITMAP: u32 = 1;
/// `MD_FEATURE_BAD_BLOCKS`: the log of bad blocks has entries. A spare has none.
const FEATURE_BAD_BLOCKS: u32 = 8;
/// `MD_DISK_ROLE_SPARE`.
const ROLE_SPARE: u16 = 0xffff;
/// The largest role that is a slot (`MD_DISK_ROLE_MAX`).
const ROLE_MAX: u16 = 0xff00;

const BITMAP_MAGIC: u32 = 0x6d74_6962;
/// Bytes of the bitmap's superblock; the bits follow.
const BITMAP_HEADER: u64 = 256;
/// The version whose bits lie as they are counted here (`BITMAP_MAJOR_HI`).
const BITMAP_VERSION: u32 = 4;

/// Offsets of the fields used here.
mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const MAJOR: usize = 4;
    pub(super) const FEATURES: usize = 8;
    pub(super) const SET_UUID: usize = 16;
    pub(super) const SIZE: usize = 80;
    pub(super) const RAID_DISKS: usize = 92;
    pub(super) const BITMAP_OFFSET: usize = 96;
    pub(super) const DATA_OFFSET: usize = 128;
    pub(super) const DATA_SIZE: usize = 136;
    pub(super) const SUPER_OFFSET: usize = 144;
    pub(super) const DEV_NUMBER: usize = 160;
    pub(super) const CORRECTED: usize = 164;
    pub(super) const DEVICE_UUID: usize = 168;
    pub(super) const DEV_FLAGS: usize = 184;
    pub(super) const UTIME: usize = 192;
    pub(super) const EVENTS: usize = 200;
    pub(super) const CHECKSUM: usize = 216;
    pub(super) const MAX_DEV: usize = 220;
    pub(super) const ROLES: usize = 256;

    pub(super) const BITMAP_VERSION: usize = 4;
    pub(super) const BITMAP_UUID: usize = 8;
    pub(super) const BITMAP_SYNC_SIZE: usize = 40;
    pub(super) const BITMAP_CHUNK: usize = 52;
    pub(super) const BITMAP_NODES: usize = 68;
}

/// Why lund does not write this superblock itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusual(pub String);

impl fmt::Display for Unusual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn unusual<T>(why: impl Into<String>) -> Result<T, Unusual> {
    Err(Unusual(why.into()))
}

/// What the kernel says of the array, against which a template is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Slots (`md/raid_disks`).
    pub raid_disks: u32,
    /// What each member gives, sectors (`md/component_size`).
    pub component_sectors: u64,
    /// The slot of the member that the template is from.
    pub slot: u32,
}

/// What is particular to the new spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spare {
    /// Its descriptor in the array.
    pub number: u32,
    /// Its own UUID.
    pub uuid: [u8; 16],
    /// Its whole size, sectors.
    pub sectors: u64,
    /// Seconds since 1970; the kernel writes its own as soon as it takes the spare.
    pub now: u64,
}

/// The superblock of a member in sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    bytes: Vec<u8>,
}

impl Template {
    /// Reads the block at [`AT`] of a member.
    ///
    /// # Errors
    /// [`Unusual`]: no superblock 1.2, a broken one, one that says something else of the array than the
    /// kernel, or one with features that need more than a superblock.
    pub fn read(block: &[u8], expected: &Expected) -> Result<Self, Unusual> {
        let this = Self {
            bytes: block.to_vec(),
        };
        if this.u32(at::MAGIC)? != MAGIC || this.u32(at::MAJOR)? != 1 {
            return unusual("there is no superblock 1.x where 1.2 has it");
        }
        if this.u64(at::SUPER_OFFSET)? != AT / SECTOR {
            return unusual("the superblock is of somewhere else");
        }
        if this.length()? > block.len() {
            return unusual("the superblock is longer than a block");
        }
        if checksum(&this.bytes, this.length()?) != Some(this.u32(at::CHECKSUM)?) {
            return unusual("the checksum of the superblock is wrong");
        }
        let features = this.u32(at::FEATURES)?;
        if features & !(FEATURE_BITMAP | FEATURE_BAD_BLOCKS) != 0 {
            return unusual(format!("the superblock has the features {features:#x}"));
        }
        let role = this.role(this.u32(at::DEV_NUMBER)?)?;
        let says = Expected {
            raid_disks: this.u32(at::RAID_DISKS)?,
            component_sectors: this.u64(at::SIZE)?,
            slot: u32::from(role),
        };
        if role > ROLE_MAX || says != *expected {
            return unusual(format!(
                "the superblock says {says:?} and the kernel {expected:?}"
            ));
        }
        Ok(this)
    }

    /// Whether both are of one array.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        let same = |from: usize, to: usize| self.bytes.get(from..to) == other.bytes.get(from..to);
        // Identity to geometry, then what the data lies behind.
        same(at::SET_UUID, at::DATA_OFFSET)
            && same(at::DATA_OFFSET, at::DATA_SIZE)
            && same(at::FEATURES, at::FEATURES + 4)
    }

    /// Where the write-intent bitmap lies, bytes from the start of the device; [`None`] without one.
    ///
    /// # Errors
    /// [`Unusual`] for one that lies before the superblock.
    pub fn bitmap_at(&self) -> Result<Option<u64>, Unusual> {
        if self.u32(at::FEATURES)? & FEATURE_BITMAP == 0 {
            return Ok(None);
        }
        let sectors = u64::from(self.u32(at::BITMAP_OFFSET)?);
        let blocks = SECTOR * sectors % BLOCK as u64;
        if sectors == 0 || sectors > u64::from(u32::MAX / 2) || blocks != 0 {
            return unusual("the bitmap lies before the superblock, or at no whole block");
        }
        Ok(Some(AT + sectors * SECTOR))
    }

    /// The bitmap of the spare, from the first block of the member's: of the spare nothing is in step.
    ///
    /// # Errors
    /// [`Unusual`] for a bitmap of another kind, or one that does not end before the data.
    pub fn bitmap(&self, at: u64, header: &[u8]) -> Result<Vec<u8>, Unusual> {
        let of = |offset| number::<4>(header, offset).map(u32::from_le_bytes);
        if of(at::MAGIC)? != BITMAP_MAGIC
            || of(at::BITMAP_VERSION)? != BITMAP_VERSION
            || of(at::BITMAP_NODES)? != 0
            || number::<16>(header, at::BITMAP_UUID)? != number::<16>(&self.bytes, at::SET_UUID)?
        {
            return unusual("the bitmap is of another kind, or of another array");
        }
        let chunk_bytes = of(at::BITMAP_CHUNK)?;
        let chunk = u64::from(chunk_bytes) / SECTOR;
        let sync_size = number::<8>(header, at::BITMAP_SYNC_SIZE).map(u64::from_le_bytes)?;
        if chunk == 0 || !chunk_bytes.is_power_of_two() {
            return unusual("the bitmap has chunks of no possible size");
        }
        let bytes = BITMAP_HEADER + sync_size.div_ceil(chunk).div_ceil(8);
        let bytes = bytes.next_multiple_of(BLOCK as u64);
        let data = self.u64(at::DATA_OFFSET)?.saturating_mul(SECTOR);
        let room = data.checked_sub(at).filter(|room| bytes <= *room);
        let Some(bytes) = room.and_then(|_| usize::try_from(bytes).ok()) else {
            return unusual("the bitmap does not end before the data");
        };
        let mut bitmap = vec![0xff; bytes];
        let header = usize::try_from(BITMAP_HEADER)
            .ok()
            .and_then(|end| header.get(..end))
            .ok_or_else(too_short)?;
        bitmap
            .get_mut(..header.len())
            .ok_or_else(too_short)?
            .copy_from_slice(header);
        Ok(bitmap)
    }

    /// The superblock of a spare, one block.
    ///
    /// # Errors
    /// [`Unusual`] when it has no room for one more descriptor, or the device none for the data.
    pub fn spare(&self, spare: &Spare) -> Result<Vec<u8>, Unusual> {
        let data_offset = self.u64(at::DATA_OFFSET)?;
        let data_size = spare.sectors.saturating_sub(data_offset);
        if spare.number >= self.u32(at::MAX_DEV)? {
            return unusual("the superblock has no room for one more device");
        }
        if data_size < self.u64(at::SIZE)? {
            return unusual("the device is too small");
        }
        let length = self.length()?;
        let mut new = Block(vec![0; BLOCK]);
        new.put(0, self.bytes.get(..length).ok_or_else(too_short)?)?;
        let features = self.u32(at::FEATURES)? & FEATURE_BITMAP;
        new.put(at::FEATURES, &features.to_le_bytes())?;
        new.put(at::DATA_SIZE, &data_size.to_le_bytes())?;
        new.put(at::DEV_NUMBER, &spare.number.to_le_bytes())?;
        new.put(at::CORRECTED, &[0; 4])?;
        new.put(at::DEVICE_UUID, &spare.uuid)?;
        // Flags (write-mostly, failfast), and by how much the log of bad blocks shifts its sectors.
        new.put(at::DEV_FLAGS, &[0; 2])?;
        new.put(at::UTIME, &spare.now.to_le_bytes())?;
        // With no event behind it, and no role, the kernel has no ground to believe any of its data.
        new.put(at::EVENTS, &[0; 8])?;
        new.put(role_at(spare.number)?, &ROLE_SPARE.to_le_bytes())?;
        let sum = checksum(&new.0, length).ok_or_else(too_short)?;
        new.put(at::CHECKSUM, &sum.to_le_bytes())?;
        Ok(new.0)
    }

    fn role(&self, number_of: u32) -> Result<u16, Unusual> {
        if number_of >= self.u32(at::MAX_DEV)? {
            return unusual("the superblock is of a device that it has no role for");
        }
        number::<2>(&self.bytes, role_at(number_of)?).map(u16::from_le_bytes)
    }

    /// Bytes that the checksum covers.
    fn length(&self) -> Result<usize, Unusual> {
        role_at(self.u32(at::MAX_DEV)?)
    }

    fn u32(&self, offset: usize) -> Result<u32, Unusual> {
        number::<4>(&self.bytes, offset).map(u32::from_le_bytes)
    }

    fn u64(&self, offset: usize) -> Result<u64, Unusual> {
        number::<8>(&self.bytes, offset).map(u64::from_le_bytes)
    }
}

/// The event count in the block at [`AT`] of a member; [`None`] where there is no superblock 1.2 with a right
/// checksum.
#[must_use]
pub fn events(block: &[u8]) -> Option<u64> {
    let this = Template {
        bytes: block.to_vec(),
    };
    let plain = bears_superblock(block)
        && this.u32(at::MAJOR) == Ok(1)
        && this.u64(at::SUPER_OFFSET) == Ok(AT / SECTOR)
        && checksum(block, this.length().ok()?) == this.u32(at::CHECKSUM).ok();
    plain.then(|| this.u64(at::EVENTS).ok())?
}

/// Whether a block begins with a superblock of md: of any 1.x, or of 0.90.
#[must_use]
pub fn bears_superblock(block: &[u8]) -> bool {
    block.starts_with(&MAGIC.to_le_bytes())
}

/// Where a superblock may lie on a device of this many sectors, bytes, each at a whole block: 1.1, 1.2, 1.0 and 0.90.
#[must_use]
pub fn places(sectors: u64) -> Vec<u64> {
    let end_of_1_0 = (sectors.saturating_sub(16) & !7) * SECTOR;
    let end_of_0_90 = (sectors & !127).saturating_sub(128) * SECTOR;
    vec![0, AT, end_of_1_0, end_of_0_90]
}

fn role_at(number: u32) -> Result<usize, Unusual> {
    usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_mul(2)?.checked_add(at::ROLES))
        .ok_or_else(too_short)
}

fn too_short() -> Unusual {
    Unusual("the superblock is cut off".to_owned())
}

fn number<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], Unusual> {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or_else(too_short)
}

/// The sum of all words with the checksum's own taken as 0, its upper half added to the lower
/// (`drivers/md/md.c:calc_sb_1_csum`).
fn checksum(bytes: &[u8], length: usize) -> Option<u32> {
    let covered = bytes.get(..length)?;
    let (words, rest) = covered.as_chunks::<4>();
    let own = at::CHECKSUM / 4;
    let mut sum: u64 = words
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != own)
        .map(|(_, word)| u64::from(u32::from_le_bytes(*word)))
        .sum();
    if let [low, high] = rest {
        sum += u64::from(u16::from_le_bytes([*low, *high]));
    }
    let folded = (sum & 0xffff_ffff) + (sum >> 32);
    u32::try_from(folded & 0xffff_ffff).ok()
}

struct Block(Vec<u8>);

impl Block {
    fn put(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Unusual> {
        let end = offset.checked_add(bytes.len()).ok_or_else(too_short)?;
        self.0
            .get_mut(offset..end)
            .ok_or_else(too_short)?
            .copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
