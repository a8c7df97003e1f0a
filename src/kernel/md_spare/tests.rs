//! Superblocks as they are on members, and arbitrary bytes.

use proptest::prelude::*;

use super::*;

const DATA_OFFSET: u64 = 2048;
const COMPONENT: u64 = 129_024;
const ARRAY: [u8; 16] = *b"sixteen bytes!!!";

const EXPECTED: Expected = Expected {
    raid_disks: 2,
    component_sectors: COMPONENT,
    slot: 1,
};

const SPARE: Spare = Spare {
    number: 2,
    uuid: [7; 16],
    sectors: DATA_OFFSET + COMPONENT + 40,
    now: 1_800_000_000,
};

/// A superblock as the kernel has it on the second of two members.
fn member(features: u32) -> Vec<u8> {
    let mut block = Block(vec![0; BLOCK]);
    let mut put = |at, bytes: &[u8]| block.put(at, bytes).unwrap();
    put(at::MAGIC, &MAGIC.to_le_bytes());
    put(at::MAJOR, &1_u32.to_le_bytes());
    put(at::FEATURES, &features.to_le_bytes());
    put(at::SET_UUID, &ARRAY);
    put(at::SIZE, &COMPONENT.to_le_bytes());
    put(at::RAID_DISKS, &2_u32.to_le_bytes());
    put(at::BITMAP_OFFSET, &8_u32.to_le_bytes());
    put(at::DATA_OFFSET, &DATA_OFFSET.to_le_bytes());
    put(at::DATA_SIZE, &COMPONENT.to_le_bytes());
    put(at::SUPER_OFFSET, &8_u64.to_le_bytes());
    put(at::DEV_NUMBER, &1_u32.to_le_bytes());
    put(at::CORRECTED, &5_u32.to_le_bytes());
    put(at::DEVICE_UUID, &[9; 16]);
    put(at::DEV_FLAGS, &[1, 3]);
    put(at::EVENTS, &77_u64.to_le_bytes());
    put(at::MAX_DEV, &128_u32.to_le_bytes());
    put(at::ROLES, &[0, 0, 1, 0, 0xfe, 0xff]);
    sealed(block.0)
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes, 512).unwrap();
    bytes[at::CHECKSUM..at::CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut block = Block(member(FEATURE_BITMAP));
    block.put(at, bytes).unwrap();
    sealed(block.0)
}

fn refused(block: &[u8]) -> String {
    Template::read(block, &EXPECTED).unwrap_err().to_string()
}

#[test]
fn the_kernel_believes_nothing_of_a_fresh_spare() {
    let features = FEATURE_BITMAP | FEATURE_BAD_BLOCKS;
    let template = Template::read(&member(features), &EXPECTED).unwrap();
    let spare = Template {
        bytes: template.spare(&SPARE).unwrap(),
    };
    assert_eq!(spare.u32(at::FEATURES), Ok(FEATURE_BITMAP));
    assert_eq!(spare.u64(at::EVENTS), Ok(0));
    assert_eq!(spare.u32(at::DEV_NUMBER), Ok(2));
    assert_eq!(spare.role(2), Ok(ROLE_SPARE), "it was a failed one's");
    assert_eq!(spare.role(1), Ok(1), "others keep theirs");
    assert_eq!(spare.u64(at::DATA_SIZE), Ok(COMPONENT + 40));
    assert_eq!(spare.u32(at::CORRECTED), Ok(0));
    assert_eq!(number::<16>(&spare.bytes, at::DEVICE_UUID), Ok([7; 16]));
    assert_eq!(number::<2>(&spare.bytes, at::DEV_FLAGS), Ok([0, 0]));
    assert_eq!(
        checksum(&spare.bytes, 512),
        spare.u32(at::CHECKSUM).ok(),
        "it is sealed"
    );
    assert!(spare.agrees(&Template::read(&member(FEATURE_BITMAP), &EXPECTED).unwrap()));
    assert_eq!(spare.bytes.len(), BLOCK);
}

#[test]
fn what_is_not_plain_is_left_to_mdadm() {
    assert!(refused(&[0; BLOCK]).contains("no superblock"));
    assert!(refused(&member(FEATURE_BITMAP)[..300]).contains("longer than a block"));
    let mut torn = member(0);
    torn[at::EVENTS] ^= 1;
    assert!(refused(&torn).contains("checksum"));
    // A journal, a reshape, a partial parity log, a recovery, a replacement.
    for feature in [2, 4, 16, 64, 512, 1024, 1 << 20] {
        assert!(refused(&member(feature)).contains("features"), "{feature}");
    }
    assert!(refused(&changed(at::SIZE, &[1])).contains("and the kernel"));
    assert!(refused(&changed(at::RAID_DISKS, &[3])).contains("and the kernel"));
    assert!(refused(&changed(at::DEV_NUMBER, &[0])).contains("and the kernel"));
    assert!(refused(&changed(at::DEV_NUMBER, &[2])).contains("and the kernel"));
    assert!(refused(&changed(at::DEV_NUMBER, &[200])).contains("no role"));
    assert!(refused(&changed(at::SUPER_OFFSET, &[0])).contains("somewhere else"));
    let template = Template::read(&member(0), &EXPECTED).unwrap();
    let why = |spare: Spare| template.spare(&spare).unwrap_err().to_string();
    assert!(
        why(Spare {
            number: 128,
            ..SPARE
        })
        .contains("no room")
    );
    assert!(
        why(Spare {
            sectors: DATA_OFFSET + COMPONENT - 1,
            ..SPARE
        })
        .contains("too small")
    );
}

#[test]
fn the_events_of_a_member_are_read() {
    assert_eq!(events(&member(64)), Some(77));
    assert_eq!(events(&changed(at::SUPER_OFFSET, &[16])), None);
    let mut torn = member(0);
    torn[at::EVENTS] ^= 1;
    assert_eq!(events(&torn), None);
    assert_eq!(events(&[0; BLOCK]), None);
}

#[test]
fn another_array_does_not_agree() {
    let template = Template::read(&member(FEATURE_BITMAP), &EXPECTED).unwrap();
    for at in [at::SET_UUID, at::BITMAP_OFFSET, at::DATA_OFFSET] {
        let other = Template::read(&changed(at, &[0x10, 0x20]), &EXPECTED).unwrap();
        assert!(!template.agrees(&other), "{at}");
    }
}

fn header(chunk: u32) -> Vec<u8> {
    let mut block = Block(vec![0; BLOCK]);
    let mut put = |at, bytes: &[u8]| block.put(at, bytes).unwrap();
    put(at::MAGIC, &BITMAP_MAGIC.to_le_bytes());
    put(at::BITMAP_VERSION, &BITMAP_VERSION.to_le_bytes());
    put(at::BITMAP_UUID, &ARRAY);
    put(at::BITMAP_SYNC_SIZE, &COMPONENT.to_le_bytes());
    put(at::BITMAP_CHUNK, &chunk.to_le_bytes());
    block.0
}

#[test]
fn nothing_of_a_spare_is_in_step_by_its_bitmap() {
    let template = Template::read(&member(FEATURE_BITMAP), &EXPECTED).unwrap();
    assert_eq!(template.bitmap_at(), Ok(Some(8192)));
    // 16,128 chunks of 4 KiB need 2016 bytes behind the header, 129,024 of 512 bytes 16,128.
    for (chunk, blocks) in [(4096, 1), (512, 4)] {
        let bitmap = template.bitmap(8192, &header(chunk)).unwrap();
        assert_eq!(bitmap.len(), blocks * BLOCK);
        assert_eq!(bitmap[..256], header(chunk)[..256]);
        assert!(bitmap[256..].iter().all(|byte| *byte == 0xff));
    }
    let none = Template::read(&member(0), &EXPECTED).unwrap();
    assert_eq!(none.bitmap_at(), Ok(None));
}

#[test]
fn a_bitmap_of_another_kind_is_left_to_mdadm() {
    let template = Template::read(&member(FEATURE_BITMAP), &EXPECTED).unwrap();
    let kinds: [(usize, &[u8]); 5] = [
        (at::MAGIC, &[0]),
        (at::BITMAP_VERSION, &[5]),
        (at::BITMAP_UUID, &[0]),
        // Clustered.
        (at::BITMAP_NODES, &[4]),
        (at::BITMAP_CHUNK, &[0, 3]),
    ];
    for (at, bytes) in kinds {
        let mut block = Block(header(4096));
        block.put(at, bytes).unwrap();
        assert!(template.bitmap(8192, &block.0).is_err(), "{at}");
    }
    let beyond = template.bitmap(DATA_OFFSET * 512 - 4096, &header(512));
    assert!(beyond.unwrap_err().to_string().contains("before the data"));
    let before = changed(at::BITMAP_OFFSET, &(-16_i32).to_le_bytes());
    let template = Template::read(&before, &EXPECTED).unwrap();
    assert!(template.bitmap_at().is_err());
}

proptest! {
    /// Whatever is on a disk, nothing panics, and nothing that is written lies outside of what is the superblock's.
    #[test]
    fn arbitrary_bytes_are_borne(
        at in 0_usize..BLOCK,
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        number in any::<u32>(),
        sectors in any::<u64>(),
        bitmap in any::<u64>(),
    ) {
        let mut block = member(FEATURE_BITMAP);
        let end = (at + bytes.len()).min(BLOCK);
        block[at..end].copy_from_slice(&bytes[..end - at]);
        for block in [block.clone(), sealed(block)] {
            let Ok(template) = Template::read(&block, &EXPECTED) else { continue };
            if let Ok(spare) = template.spare(&Spare { number, sectors, ..SPARE }) {
                prop_assert_eq!(spare.len(), BLOCK);
                prop_assert!(number < 1920);
            }
            prop_assert!(events(&block).is_some());
            let _ = template.bitmap_at();
            let _ = template.bitmap(bitmap, &block);
        }
    }

    #[test]
    fn places_lie_on_the_device(sectors in 256_u64..u64::MAX / 1024) {
        for at in places(sectors) {
            prop_assert!(at + BLOCK as u64 <= sectors * SECTOR);
        }
    }
}
