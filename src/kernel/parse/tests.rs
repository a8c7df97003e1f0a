//! Each parser on the shapes that no running kernel was made to print (`fixtures/written`) and on
//! junk; `captured.rs` has the texts of running kernels.

use std::sync::LazyLock;

use lun_core::facts::{Level, MdstatProgress, Metadata, Position, Slot, SyncAction, SyncCompleted};
use lun_core::id::DevNo;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!("../fixtures/", $path))
    };
}

/// Texts to mutilate.
static ALL_TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut texts = captured::pieces();
    texts.extend(
        [
            fixture!("written/mdstat"),
            fixture!("written/examine-0.90"),
            fixture!("written/mountinfo"),
            fixture!("written/udev-partition"),
            "faulty,in_sync,write_error\n",
            "260096 / 520192\n",
            "external:/md127/0\n",
            "2 (3)\n",
        ]
        .map(str::to_owned),
    );
    texts
});

/// Puts one text through every parser; the results do not matter, only that there is one.
fn feed_all(text: &str) {
    let _ = mdstat(text);
    let _ = number::<u32>("f", text);
    let _ = layout("f", text);
    let _ = array_state("f", text);
    let _ = sync_action("f", text);
    let _ = sync_completed("f", text);
    let _ = metadata("f", text).map(|found| level(text, Some(&found)));
    let _ = level(text, None);
    let _ = position("f", text);
    let _ = slot("f", text);
    let _ = member_state(text);
    let _ = bad_block_lines("f", text);
    let _ = bitmap_location("f", text);
    let _ = dev_number("f", text);
    let _ = md_uuid("f", text);
    let _ = md_uuid_swapped("f", text);
    let _ = examine(text);
    let _ = detail_export_uuid(text);
    let _ = signatures(text);
    let _ = mountinfo(text);
    let _ = swaps(text);
    let _ = uevent(text);
    let _ = udev_database(text);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_parser_panics_on_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        feed_all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_parser_panics_on_mutilated_fixtures(
        which in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = which.get(&ALL_TEXTS).as_bytes().to_vec();
        for (at, byte) in cuts {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(keep.index(bytes.len()) + 1);
        feed_all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn sync_completed_reads_back_what_the_kernel_prints(done in any::<u64>(), total in any::<u64>()) {
        let text = format!("{done} / {total}\n");
        prop_assert_eq!(sync_completed("f", &text).unwrap(), SyncCompleted::At { done, total });
    }
}

#[test]
fn mdstat_tells_figures_and_descriptors() {
    let captured = captured::one("6.1/raid1-rebuild");
    let found = mdstat(captured.get("/proc/mdstat")).unwrap();
    assert!(found.personalities.iter().any(|name| name == "raid10"));
    let [array] = found.arrays.as_slice() else {
        panic!("one array")
    };
    let running = MdstatProgress::At {
        done_kib: 4224,
        total_kib: 31744,
        speed_kib: 844,
    };
    assert_eq!(array.facts.progress, running);
    assert_eq!((array.slots.as_str(), array.bitmap), ("U_", true));
    assert_eq!(array.members[0].descriptor, 2);
}

#[test]
fn mdstat_knows_what_a_cluster_and_a_later_kernel_print() {
    let found = mdstat(fixture!("written/mdstat")).unwrap();
    assert_eq!(found.arrays[0].facts.progress, MdstatProgress::Remote);
    assert_eq!(found.arrays[0].members[0].flags, "JF");
    assert_eq!(found.arrays[1].members.len(), 4);
    assert!(found.arrays[1].bitmap);
    assert!(found.arrays[2].facts.broken);
    assert_eq!(found.arrays[2].name, "md_home");
}

#[test]
fn mdstat_refuses_what_is_no_array() {
    assert!(mdstat("md0 : sleeping raid1 sda[0]\n").is_err());
    assert!(mdstat("md0 : active raid1 a[0]\n      recovery = 3% (x/9) speed=1K/sec\n").is_err());
    assert_eq!(
        mdstat("Personalities : \nunused devices: <none>\n").unwrap(),
        Mdstat::default()
    );
}

#[test]
fn values_of_sysfs() {
    assert_eq!(number::<u32>("f", "3 (2)\n").unwrap(), 3);
    assert_eq!(number::<u64>("f", "524288\n").unwrap(), 524_288);
    assert!(number::<u32>("f", "\n").is_err());
    assert!(number::<u32>("f", "3 2").is_err());
    assert_eq!(layout("f", "-1\n").unwrap(), 0);
    assert_eq!(layout("f", "258\n").unwrap(), 0x102);
    assert!(layout("f", "-2\n").is_err());
    assert_eq!(position("f", "none\n").unwrap(), Position::Done);
    assert_eq!(position("f", "24320\n").unwrap(), Position::At(24_320));
    // Until an array runs the kernel prints the number of its level.
    for (text, want) in [
        ("raid5\n", Level::Raid5),
        ("10\n", Level::Raid10),
        ("-1\n", Level::Linear),
    ] {
        assert_eq!(level(text, None), want, "{text}");
    }
    assert_eq!(last_sync_action("f", "none\n").unwrap(), None);
    assert_eq!(last_sync_action("f", "idle\n").unwrap(), None);
    assert_eq!(
        last_sync_action("f", "recovery\n").unwrap(),
        Some(SyncAction::Recover)
    );
    assert!(last_sync_action("f", "nonsense\n").is_err());
    assert_eq!(sync_max("f", "max\n").unwrap(), None);
    assert_eq!(sync_max("f", "2048\n").unwrap(), Some(2048));
    assert_eq!(
        sync_completed("f", "delayed\n").unwrap(),
        SyncCompleted::Delayed
    );
    assert_eq!(slot("f", "journal\n").unwrap(), Slot::Journal);
    assert_eq!(slot("f", "7\n").unwrap(), Slot::At(7));
    assert_eq!(metadata("f", "1.2\n").unwrap(), Metadata::V1(2));
    assert!(metadata("f", "2.0\n").is_err());
    let state = member_state("in_sync,write_error,want_replacement,novel\n");
    assert!(state.in_sync && state.write_error && state.want_replacement && !state.faulty);
    assert_eq!(member_state("\n"), lun_core::facts::MemberState::default());
    assert_eq!(bad_block_lines("f", "4096 8\n8192 1\n").unwrap(), 2);
    assert_eq!(bad_block_lines("f", "").unwrap(), 0);
    assert!(bitmap_location("f", "+8\n").unwrap() && !bitmap_location("f", "none\n").unwrap());
    assert_eq!(
        dev_number("f", "259:3\n").unwrap(),
        DevNo {
            major: 259,
            minor: 3
        }
    );
}

#[test]
fn a_container_is_told_from_its_members_and_from_an_unset_level() {
    let imsm = metadata("f", "external:imsm\n").unwrap();
    let inside = metadata("f", "external:/md127/0\n").unwrap();
    assert_eq!(level("\n", Some(&imsm)), Level::Container);
    assert_eq!(level("\n", Some(&inside)), Level::Other(String::new()));
    assert_eq!(level("\n", None), Level::Other(String::new()));
    assert_eq!(level("raid6\n", None), Level::Raid6);
}

#[test]
fn both_spellings_of_a_uuid_are_one() {
    let kernel = md_uuid("f", "6bcb7af1-3a1a-b9d0-4c9b-7c1e0d2f9a11\n").unwrap();
    let mdadm = md_uuid("f", "6bcb7af1:3a1ab9d0:4c9b7c1e:0d2f9a11").unwrap();
    assert_eq!(kernel, mdadm);
    assert!(md_uuid("f", "6bcb7af1").is_err());
    let swapped = md_uuid_swapped("f", "f17acb6b:d0b91a3a:1e7c9b4c:119a2f0d").unwrap();
    assert_eq!(swapped, kernel);
}

#[test]
fn superblocks_as_mdadm_tells_them() {
    let rebuild = captured::one("6.1/raid1-rebuild");
    let told = |title| examine(rebuild.get(title)).unwrap().unwrap();
    // The member that is being filled claims its slot as well.
    let (source, target) = (told("loop0/examine"), told("loop1/examine"));
    assert_eq!((source.role, target.role), (Some(0), Some(1)));
    assert_eq!(source.events, target.events);
    assert_eq!(source.array_uuid, target.array_uuid);
    assert_ne!(source.device_uuid, target.device_uuid);
    let spare = captured::one("6.1/raid1-degraded-frozen");
    let spare = examine(spare.get("loop3/examine")).unwrap().unwrap();
    assert_eq!(spare.role, None);
    let old = examine(fixture!("written/examine-0.90")).unwrap().unwrap();
    assert_eq!(
        (old.events, old.role, old.device_uuid),
        ((1 << 32) + 18, Some(1), None)
    );
    assert_eq!(
        old.array_uuid,
        Uuid::from_u128(0x4e3d2c1b_8271605f_c6b5a493_01f9e8d7)
    );
    assert!(examine("x:\n   Magic : a92b4efc\n Version : 1.2\n").is_err());
}

#[test]
fn a_host_as_the_tools_tell_it() {
    for kernel in ["6.1", "6.12", "7"] {
        let host = captured::one(&format!("{kernel}/host"));
        // A partition table and nothing at all bear no superblock.
        for device in ["loop0", "loop6", "loop5"] {
            let told = examine(host.get(&format!("{device}/examine"))).unwrap();
            assert_eq!(told, None, "{kernel} {device}");
        }
        let signs = |device| signatures(host.get(&format!("{device}/wipefs"))).unwrap();
        assert_eq!(signs("loop0"), ["PMBR", "gpt"]);
        assert_eq!(signs("loop0p1"), ["linux_raid_member"]);
        assert_eq!(signs("loop4"), ["swap"]);
        assert_eq!(signs("loop5"), Vec::<String>::new());
        assert_eq!(signs("loop6"), ["dos"]);
        assert_eq!(signs("loop7"), ["ext4"]);
        let mounts = mountinfo(host.get("mountinfo")).unwrap();
        let last = mounts.last().unwrap();
        assert_eq!(last.mount_point, "/mnt/my data");
        assert_eq!(last.dev, DevNo { major: 7, minor: 7 });
        let swaps = swaps(host.get("swaps")).unwrap();
        assert!(swaps[0].device && swaps[0].path == "/dev/loop4");
        assert!(!swaps[1].device && swaps[1].path == "/root/swap file");
        let udev = udev_database(host.get("loop0p1/udev"));
        assert_eq!(udev.get("ID_FS_TYPE"), Some("linux_raid_member"));
        assert!(udev.links[0].starts_with("/dev/disk/by-"));
        let event = uevent(host.get("loop0p1/uevent"));
        assert_eq!(event.get("DEVNAME"), Some("loop0p1"));
    }
}

#[test]
fn signatures_want_the_tool_s_json() {
    assert_eq!(signatures("").unwrap(), Vec::<String>::new());
    assert!(signatures("DEVICE OFFSET TYPE").is_err());
}

#[test]
fn a_mount_that_names_no_block_device_of_its_own() {
    let mounts = mountinfo(fixture!("written/mountinfo")).unwrap();
    assert_eq!(mounts[3].source, "/dev/sdb");
    assert!(mountinfo("nonsense\n").is_err());
}

#[test]
fn udev_entries() {
    let found = udev_database(fixture!("written/udev-partition"));
    assert_eq!(found.get("ID_WWN"), Some("0x5000c500a1b2c3d4"));
    assert_eq!(found.links[0], "/dev/disk/by-id/ata-DISK_SER123-part1");
    assert_eq!(uevent("MAJOR=8\nDEVNAME=sda\n").get("DEVNAME"), Some("sda"));
}
