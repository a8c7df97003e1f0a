//! Lines and superblocks of device-mapper's target `raid`.

use lun_core::facts::{DmOwner, LegHealth, LegPart, Level, RaidLeg, RaidTable, SyncAction};
use lun_core::id::DevNo;
use proptest::prelude::*;

use super::dm_captures::{all, one, superblock};
use super::*;

#[test]
fn every_capture_is_understood_and_agrees_with_itself() {
    for (name, capture) in all() {
        let table = raid_table("table", &capture["table"]).unwrap();
        let status = raid_status("status", &capture["status"]).unwrap();
        assert_eq!(table.legs.len(), status.legs.len(), "{name}");
        let seen = raid_type(&status.kind).unwrap();
        assert_eq!(seen.level, table.kind.level, "{name}");
        for (position, leg) in (0_u32..).zip(&table.legs) {
            let Some(meta) = leg.meta else { continue };
            let read = raid_superblock("meta", &superblock(&capture, meta)).unwrap();
            assert_eq!(read.is_none(), table.kind.level == Level::Raid0, "{name}");
            let Some(read) = read else { continue };
            assert_eq!(read.array_position, position, "{name}");
            assert_eq!(read.num_devices as usize, table.legs.len(), "{name}");
            assert!(read.events > 0, "{name}");
        }
    }
}

#[test]
fn a_table_is_read_in_full() {
    let capture = one("6.1/raid1-rebuild");
    let table = raid_table("table", &capture["table"]).unwrap();
    assert_eq!((table.start, table.len), (0, 65_536));
    assert_eq!(table.rebuild, [1].into());
    assert_eq!(table.max_recovery_rate, Some(500));
    assert_eq!(table.region_size, Some(1024));
    let other = "0 8 raid raid5_ls 12 128 nosync daemon_sleep 5 min_recovery_rate 9 stripe_cache 6 \
        journal_dev 7:9 journal_mode writeback 2 7:0 7:1 - -";
    for wrong in ["11", "13", "99", "x"] {
        assert!(raid_table("table", &other.replacen("12", wrong, 1)).is_err());
    }
    let table = raid_table("table", other).unwrap();
    assert_eq!(table.sync, Some(false));
    assert_eq!(table.journal_mode.as_deref(), Some("writeback"));
    assert_eq!(table.stripe_cache, Some(6));
    assert_eq!(table.legs[1].data, None);
}

#[test]
fn layouts_of_raid10_are_those_of_md() {
    let layout = |word: &str, options: &str| {
        let count = options.split_whitespace().count() + 1;
        let line = format!("0 8 raid {word} {count} 128 {options} 2 7:0 7:1 7:2 7:3");
        raid_table("table", &line).map(|table| table.kind.layout)
    };
    assert_eq!(layout("raid10", "").unwrap(), 0x102);
    assert_eq!(
        layout("raid10", "raid10_copies 3 raid10_format near").unwrap(),
        0x103
    );
    assert_eq!(layout("raid10", "raid10_format far").unwrap(), 0x4_0201);
    assert_eq!(layout("raid10_far", "raid10_use_near_sets").unwrap(), 0x201);
    assert_eq!(layout("raid10", "raid10_format offset").unwrap(), 0x5_0201);
    assert!(layout("raid10", "raid10_copies 0").is_err());
    // What the kernel itself wrote down.
    for name in [
        "raid10-near",
        "raid10-far",
        "raid10-offset",
        "raid6_zr",
        "raid5_n",
    ] {
        let capture = one(&format!("6.12/{name}"));
        let table = raid_table("table", &capture["table"]).unwrap();
        let bytes = superblock(&capture, table.legs[0].meta.unwrap());
        let written = u32::from_le_bytes(bytes[0x34..0x38].try_into().unwrap());
        assert_eq!(table.kind.layout, written, "{name}");
    }
}

#[test]
fn letters_and_actions_are_read() {
    let status = raid_status("s", "0 8 raid raid1 4 AaD- 12928/204800 recover 3 0 a").unwrap();
    use LegHealth::{Absent, Alive, Failed, InSync};
    assert_eq!(status.legs, [InSync, Alive, Failed, Absent]);
    assert_eq!((status.done, status.total), (12_928, 204_800));
    assert_eq!(status.action, SyncAction::Recover);
    assert_eq!(status.mismatch_sectors, 3);
    assert_eq!(status.journal, Some(Alive));
    for wrong in [
        "",
        "0 8 linear 7:0 0",
        "0 8 raid raid1 3 AA 1/2 idle 0 0 -",
        "0 8 raid raid1 2 AX 1/2 idle 0 0 -",
        "0 8 raid raid1 2 AA 1 idle 0 0 -",
        "0 8 raid raid1 2 AA 1/2 dozing 0 0 -",
        "0 8 raid raid1 2 AA 1/2 idle 0 0",
    ] {
        assert!(raid_status("s", wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_superblock_tells_which_legs_failed() {
    let capture = one("7/raid1-failed-leg");
    let table = raid_table("table", &capture["table"]).unwrap();
    let bytes = superblock(&capture, table.legs[0].meta.unwrap());
    let read = raid_superblock("meta", &bytes).unwrap().unwrap();
    assert_eq!(read.failed, [1].into());
    assert_eq!(read.disk_recovery_offset, None);
    let mut far = bytes.clone();
    far[0x80] = 1;
    let read = raid_superblock("meta", &far).unwrap().unwrap();
    assert_eq!(read.failed, [1, 128].into());
    assert!(raid_superblock("meta", &bytes[..143]).is_err());
}

#[test]
fn names_of_lvm_are_taken_apart() {
    let uuid = format!("LVM-{}", "x".repeat(64));
    let lvm = |vg: &str, lv: &str| DmOwner::Lvm {
        vg: vg.into(),
        lv: lv.into(),
    };
    assert_eq!(dm_owner("vg--a-lv--m", Some(&uuid)), lvm("vg-a", "lv-m"));
    assert_eq!(dm_owner("vg-lv-real", Some(&uuid)), lvm("vg", "lv"));
    assert_eq!(dm_owner("a----b-c", Some(&uuid)), lvm("a--b", "c"));
    assert_eq!(dm_owner("vg-lv", None), DmOwner::Bare);
    assert_eq!(dm_owner("vg-lv", Some("CRYPT-x")), DmOwner::Bare);
    assert_eq!(dm_owner("vg", Some(&uuid)), DmOwner::Bare);
    assert!(!is_lvm_part("vg-lv", Some(&uuid)));
    assert!(is_lvm_part("vg-lv_rimage_10", Some(&uuid)));
    assert!(is_lvm_part("vg-lv_rmeta_0", Some(&uuid)));
    assert!(!is_lvm_part("vg-lv_rmeta_x", Some(&uuid)));
    assert!(is_lvm_part("vg-pool_tdata", Some(&format!("{uuid}-tdata"))));
    assert!(!is_lvm_part("vg-lv_rimage_0", None));
}

#[test]
fn what_lund_lays_is_known_by_its_uuid() {
    assert_eq!(laid_part("LUND-meta-x"), Some(LegPart::Meta));
    assert_eq!(laid_part("LUND-data-x"), Some(LegPart::Data));
    assert_eq!(laid_part("LUND-x"), None);
    assert_eq!(laid_part("LVM-meta-x"), None);
    let at = DevNo {
        major: 7,
        minor: 10,
    };
    assert_eq!(linear("7:10 2048").unwrap(), (at, 2048));
    assert!(linear("7:10").is_err());
}

/// What the kernel printed is written as something that is read as the same, and loads again without what
/// belongs to the first time alone.
#[test]
fn captured_tables_are_written_as_they_were_read() {
    for (name, capture) in all() {
        let table = raid_table("table", &capture["table"]).unwrap();
        assert_eq!(raid_table("table", &table.line()).unwrap(), table, "{name}");
        let again = raid_table("table", &table.reloaded().line()).unwrap();
        assert!(again.rebuild.is_empty() && again.sync.is_none(), "{name}");
        let held = table.reloaded().at_rate(Some(crate::raid_set::HOLD_RATE));
        assert!(crate::raid_set::stands_still(
            &raid_table("table", &held.line()).unwrap()
        ));
    }
}

fn any_dev() -> impl Strategy<Value = Option<DevNo>> {
    proptest::option::of(
        (0_u32..4096, 0_u32..9999).prop_map(|(major, minor)| DevNo { major, minor }),
    )
}

fn any_table() -> impl Strategy<Value = RaidTable> {
    let leg = (any_dev(), any_dev()).prop_map(|(meta, data)| RaidLeg { meta, data });
    let numbers = proptest::collection::vec(proptest::option::of(any::<u64>()), 7);
    let slots = || proptest::collection::btree_set(0_u32..9, 0..3);
    let words = (
        proptest::option::of(any::<bool>()),
        any_dev(),
        any::<bool>(),
        proptest::option::of(-9_i64..9),
        proptest::option::of(1_u32..9),
        0_usize..4,
    );
    let legs = proptest::collection::vec(leg, 1..9);
    const KINDS: [&str; 5] = ["raid1", "raid4", "raid5_ls", "raid6_zr", "raid10"];
    let kind = proptest::sample::select(&KINDS[..]);
    (kind, legs, numbers, slots(), slots(), words).prop_map(
        |(
            kind,
            legs,
            numbers,
            rebuild,
            write_mostly,
            (sync, journal, near_sets, delta, copies, format),
        )| {
            let line = format!("0 8 raid {kind} 1 8 1 - -");
            let mut table = raid_table("t", &line).unwrap();
            table.sync = sync;
            table.rebuild = rebuild;
            table.write_mostly = write_mostly;
            [
                &mut table.daemon_sleep,
                &mut table.min_recovery_rate,
                &mut table.max_recovery_rate,
                &mut table.max_write_behind,
                &mut table.stripe_cache,
                &mut table.region_size,
                &mut table.data_offset,
            ]
            .into_iter()
            .zip(numbers)
            .for_each(|(place, number)| *place = number);
            table.journal_dev = journal;
            table.journal_mode = journal.map(|_| "writeback".to_owned());
            table.delta_disks = delta;
            table.raid10_copies = copies;
            table.raid10_use_near_sets = near_sets;
            let formats = [None, Some("near"), Some("far"), Some("offset")];
            table.raid10_format = formats[format].map(str::to_owned);
            table.legs = legs;
            table
        },
    )
}

proptest! {
    #[test]
    fn a_table_is_read_as_it_was_written(table in any_table()) {
        let read = raid_table("t", &table.line()).unwrap();
        // The layout of a raid10 is made of its options.
        let kind = read.kind.clone();
        prop_assert_eq!(read, RaidTable { kind, ..table });
    }

    #[test]
    fn no_mutilated_line_panics(cut in 0_usize..200, extra in "\\PC{0,20}", at in 0_usize..9) {
        for name in ["7/raid1-rebuild", "6.1/raid5-journal", "6.12/raid10-far"] {
            let capture = one(name);
            for text in [&capture["table"], &capture["status"]] {
                let mut words: Vec<&str> = text.split_whitespace().collect();
                let at = at.min(words.len());
                words.insert(at, &extra);
                let mangled: String = words.join(" ").chars().take(cut).collect();
                let _ = raid_table("t", &mangled);
                let _ = raid_status("s", &mangled);
                let _ = dm_owner(&mangled, Some("LVM-"));
                let _ = is_lvm_part(&mangled, Some(&mangled));
            }
        }
    }

    #[test]
    fn no_superblock_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), magic: bool) {
        if magic && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(b"DmRd");
        }
        let read = raid_superblock("m", &bytes);
        prop_assert_eq!(read.is_err(), bytes.len() < 144);
    }
}
