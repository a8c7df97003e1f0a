//! Raid sets captured from running kernels, and arbitrary ones.

use std::collections::{BTreeMap, BTreeSet};

use lun_core::facts::LegHealth;
use proptest::prelude::*;

use super::*;
use crate::parse::{self, dm_captures};

/// A capture as the facts that the adapter makes of it.
fn facts(capture: &BTreeMap<String, String>) -> ArrayFacts {
    let table = parse::raid_table("table", &capture["table"]).unwrap();
    let info: BTreeMap<&str, &str> = capture["info"]
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .collect();
    let superblocks = table
        .legs
        .iter()
        .map(|leg| {
            Fact::Known(leg.meta.and_then(|meta| {
                let bytes = dm_captures::superblock(capture, meta);
                parse::raid_superblock("meta", &bytes).unwrap()
            }))
        })
        .collect();
    let uuid = Some(info["uuid"].to_owned()).filter(|uuid| !uuid.is_empty());
    let set = DmRaidFacts {
        name: info["name"].to_owned(),
        owner: parse::dm_owner(info["name"], uuid.as_deref()),
        uuid,
        kernel_name: "dm-0".to_owned(),
        table: Fact::Known(table),
        status: Fact::Known(parse::raid_status("status", &capture["status"]).unwrap()),
        suspended: info["attr"].contains('s'),
        read_only: !info["attr"].contains('w'),
        inactive_table: info["attr"].contains('I'),
        event: info["events"].parse().unwrap(),
        open_count: info["open"].parse().unwrap(),
        superblocks,
        unreadable: BTreeSet::new(),
        laid: Vec::new(),
    };
    array_facts(set, disk(), &any_leg)
}

fn disk() -> Disk {
    Disk {
        dev: DevNo {
            major: 253,
            minor: 0,
        },
        size_bytes: Fact::Known(32 << 20),
        logical_block_bytes: Fact::Known(512),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the shape that is wanted")]
fn any_leg(dev: DevNo) -> Option<(String, u64)> {
    Some((format!("loop{}", dev.minor), 32 << 20))
}

/// Members by letter: `U` in sync, `r` being filled, `F` faulty, `_` no leg there, `?` unknown.
fn slots(array: &ArrayFacts) -> String {
    (0..*array.raid_disks.known().unwrap())
        .map(|slot| {
            let member = array
                .members
                .iter()
                .find(|member| member.slot == Fact::Known(Slot::At(slot)));
            match member.map(|member| &member.state) {
                None => '_',
                Some(Fact::Unknown(_)) => '?',
                Some(Fact::Known(state)) if state.faulty => 'F',
                Some(Fact::Known(state)) if state.in_sync => 'U',
                Some(Fact::Known(_)) => 'r',
            }
        })
        .collect()
}

#[test]
fn captured_sets_are_what_they_were_made_to_be() {
    for (name, capture) in dm_captures::all() {
        let array = facts(&capture);
        let (kernel, state) = name.split_once('/').unwrap();
        let dirty = matches!(array.resync_start, Fact::Known(Position::At(_)));
        let expected = match state {
            "raid1-failed-leg" => "UF",
            "raid1-absent" => "U_",
            // After an interrupted recovery kernels from 6.9 may say `AA 100 % idle`.
            "raid1-rebuild"
            | "raid1-interrupted"
            | "raid1-resumed"
            | "raid1-replaced-rebuilding" => "Ur",
            "raid5_ls-degraded" => "U_U",
            "raid5_ls-rebuild" => "UrU",
            "raid6_zr-degraded" => "U_U_U",
            "raid10-rebuild" => "UrUr",
            _ => &"UUUUU"[..slots(&array).len()],
        };
        assert_eq!(slots(&array), expected, "{name}");
        match state {
            // Status says `AA ... frozen` of the suspended one on 6.12 and 7.
            "raid1-resync" | "raid1-loaded" | "raid1-suspended" => assert!(dirty, "{name}"),
            // A short resync may have been over before it was captured.
            _ if state.ends_with("-resync") => {}
            _ => assert!(!dirty, "{name}: {:?}", array.resync_start),
        }
        let bad = expected.bytes().filter(|letter| *letter != b'U').count();
        let sync = array.sync.as_ref();
        let counted = sync.map_or(0, |sync| *sync.degraded.known().unwrap());
        assert_eq!(usize::try_from(counted).unwrap(), bad, "{name}");
        assert_eq!(
            sync.is_none(),
            state.ends_with("0") && *array.level.known().unwrap() == Level::Raid0
        );
        let suspended = array.state == Fact::Known(ArrayState::Suspended);
        assert_eq!(suspended, state == "raid1-suspended", "{name}");
        assert!(["6.1", "6.12", "7"].contains(&kernel));
    }
}

#[test]
fn the_lie_about_an_interrupted_recovery_was_captured() {
    let capture = dm_captures::one("7/raid1-interrupted");
    let status = parse::raid_status("status", &capture["status"]).unwrap();
    assert_eq!(status.legs, [LegHealth::InSync; 2]);
    assert_eq!(status.action, SyncAction::Idle);
    assert_eq!(status.done, status.total);
    let array = facts(&capture);
    assert_eq!(slots(&array), "Ur");
    assert_eq!(
        array.members[1].recovery_start,
        Fact::Known(Position::At(0x3100))
    );
}

#[test]
fn a_set_without_a_readable_superblock_is_not_called_whole() {
    let array = facts(&dm_captures::one("6.12/raid1"));
    let Driver::DmRaid(set) = array.driver else {
        panic!("not of device-mapper")
    };
    let mut set = *set;
    set.superblocks[1] = Fact::Unknown("EIO".to_owned());
    let array = array_facts(set.clone(), disk(), &any_leg);
    assert_eq!(slots(&array), "U?");
    set.superblocks[1] = Fact::Known(None);
    assert_eq!(slots(&array_facts(set.clone(), disk(), &any_leg)), "U?");
    set.superblocks.clear();
    assert_eq!(slots(&array_facts(set, disk(), &any_leg)), "??");
}

fn any_superblock() -> impl Strategy<Value = Fact<Option<RaidSuperblock>>> {
    let known = (
        0_u64..3,
        proptest::collection::btree_set(0_u32..4, 0..2),
        proptest::option::of(0_u64..99),
        proptest::option::of(0_u64..99),
    )
        .prop_map(
            |(events, failed, disk_recovery_offset, array_resync_offset)| RaidSuperblock {
                num_devices: 4,
                array_position: 0,
                events,
                failed,
                disk_recovery_offset,
                array_resync_offset,
                reshaping: false,
            },
        );
    prop_oneof![
        1 => Just(Fact::Unknown("not read".to_owned())),
        1 => Just(Fact::Known(None)),
        6 => known.prop_map(|superblock| Fact::Known(Some(superblock))),
    ]
}

proptest! {
    #[test]
    fn no_leg_is_in_sync_against_its_superblock_or_its_letter(
        letters in "[AaD-]{4}",
        action in proptest::sample::select(vec!["idle", "frozen", "resync", "recover", "check", "repair", "reshape"]),
        kind in proptest::sample::select(vec!["raid1", "raid5_ls", "raid6_zr", "raid10"]),
        superblocks in proptest::collection::vec(any_superblock(), 0..5),
    ) {
        let table = format!("0 99 raid {kind} 1 0 4 7:0 7:1 7:2 7:3 - 7:5 - -");
        let status = format!("0 99 raid {kind} 4 {letters} 1/2 {action} 0 0 -");
        let mut set = match facts(&dm_captures::one("7/raid1")).driver {
            Driver::DmRaid(set) => *set,
            Driver::Md => unreachable!(),
        };
        set.table = Fact::Known(parse::raid_table("table", &table).unwrap());
        set.status = Fact::Known(parse::raid_status("status", &status).unwrap());
        set.superblocks.clone_from(&superblocks);
        let array = array_facts(set, disk(), &any_leg);
        let slots = slots(&array);
        for (index, letter) in letters.chars().enumerate() {
            let in_sync = slots.as_bytes()[index] == b'U';
            if matches!(letter, 'D' | '-') {
                prop_assert!(!in_sync);
            }
            if let Some(Fact::Known(Some(own))) = superblocks.get(index) {
                prop_assert!(!in_sync || own.disk_recovery_offset.is_none() || index >= 2);
            } else if index < 2 {
                prop_assert!(!in_sync);
            }
        }
        prop_assert_eq!(slots.as_bytes()[3], b'_');
    }
}
