//! The rules of VDS, for arbitrary facts.

use proptest::prelude::*;

use super::tests::{HALF, NO_POOL, array, member, seen, words};
use super::*;
use crate::facts::{
    MdstatFacts, MemberFacts, MemberState, Position, Slot, SpeedLimit, SyncCompleted, SyncFacts,
};
use crate::model::{Drive, DriveStatus, Health, LunStatus, Role};

fn fact<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Fact<T>> {
    prop_oneof![
        19 => value.prop_map(Fact::Known),
        1 => Just(Fact::Unknown("not read".into())),
    ]
}

fn any_state() -> impl Strategy<Value = MemberState> {
    prop_oneof![
        4 => Just(words("U")),
        1 => proptest::collection::vec(any::<bool>(), 8).prop_map(|bit| MemberState {
            in_sync: bit[0],
            faulty: bit[1],
            spare: bit[2],
            write_error: bit[3],
            want_replacement: bit[4],
            replacement: bit[5],
            blocked: bit[6],
            journal: bit[7],
            ..MemberState::default()
        }),
    ]
}

fn any_member() -> impl Strategy<Value = MemberFacts> {
    let slot = prop_oneof![6 => (0_u32..6).prop_map(Slot::At), 1 => Just(Slot::None), 1 => Just(Slot::Journal)];
    (
        0_u32..9,
        fact(slot),
        fact(any_state()),
        fact(prop_oneof![9 => Just(0_u32), 1 => 1_u32..3]),
        any::<bool>(),
    )
        .prop_map(|(minor, slot, state, bad_blocks, gone)| {
            let mut facts = member(minor, None, "");
            (facts.slot, facts.state, facts.bad_blocks) = (slot, state, bad_blocks);
            if gone {
                facts.dev = Fact::Unknown("gone".into());
            }
            facts
        })
}

fn any_sync() -> impl Strategy<Value = SyncFacts> {
    let actions = [
        SyncAction::Idle,
        SyncAction::Frozen,
        SyncAction::Resync,
        SyncAction::Recover,
        SyncAction::Check,
        SyncAction::Repair,
        SyncAction::Reshape,
    ];
    let completed = prop_oneof![
        Just(SyncCompleted::None),
        Just(SyncCompleted::Delayed),
        Just(HALF)
    ];
    (
        fact(proptest::sample::select(actions.to_vec())),
        fact(completed),
        fact(0_u32..3),
    )
        .prop_map(|(action, completed, degraded)| SyncFacts {
            action,
            completed,
            degraded,
            mismatch_sectors: Fact::Known(0),
            last_action: Fact::Known(None),
            sync_min: Fact::Known(0),
            sync_max: Fact::Known(None),
            speed_min: Fact::Known(SpeedLimit::system(1_000)),
            speed_max: Fact::Known(SpeedLimit::system(200_000)),
        })
}

fn any_mdstat() -> impl Strategy<Value = MdstatFacts> {
    let progress = proptest::sample::select(vec![
        MdstatProgress::None,
        MdstatProgress::Delayed,
        MdstatProgress::Pending,
        MdstatProgress::Remote,
        MdstatProgress::At {
            done_kib: 1,
            total_kib: 2,
            speed_kib: 0,
        },
    ]);
    let rare = || proptest::bool::weighted(0.1);
    (rare(), rare(), rare(), rare(), progress).prop_map(
        |(broken, inactive, read_only, auto_read_only, progress)| MdstatFacts {
            broken,
            inactive,
            read_only,
            auto_read_only,
            progress,
        },
    )
}

fn any_array() -> impl Strategy<Value = ArrayFacts> {
    let level = proptest::sample::select(vec![
        Level::Linear,
        Level::Raid0,
        Level::Raid1,
        Level::Raid4,
        Level::Raid5,
        Level::Raid6,
        Level::Raid10,
        Level::Container,
        Level::Other(String::new()),
    ]);
    let state = proptest::sample::select(vec![
        ArrayState::Clear,
        ArrayState::Inactive,
        ArrayState::Suspended,
        ArrayState::Readonly,
        ArrayState::ReadAuto,
        ArrayState::Clean,
        ArrayState::Clean,
        ArrayState::Active,
        ArrayState::WritePending,
        ArrayState::ActiveIdle,
        ArrayState::Broken,
    ]);
    let layout = proptest::sample::select(vec![0_u32, 0x102, 0x103, 0x201, 0x1_0201, u32::MAX]);
    let shape = (
        fact(level),
        fact(layout),
        fact(0_u32..6),
        fact(state),
        fact(any::<bool>()),
    );
    let parts = (
        proptest::option::weighted(0.9, any_sync()),
        proptest::option::weighted(0.9, any_mdstat()),
        proptest::collection::vec(any_member(), 0..7),
        fact(prop_oneof![Just(Position::Done), Just(Position::At(8))]),
    );
    (shape, parts).prop_map(
        |((level, layout, disks, state, reshaping), (sync, mdstat, members, start))| {
            let mut facts = array(Level::Raid1, 2, members);
            (facts.level, facts.layout, facts.raid_disks) = (level, layout, disks);
            (facts.state, facts.reshaping, facts.resync_start) = (state, reshaping, start);
            (facts.sync, facts.mdstat) = (sync, mdstat);
            facts
        },
    )
}

/// The rules of VDS that tie status and health together.
fn rules_hold(status: LunStatus, health: Health) -> Result<(), TestCaseError> {
    prop_assert!(health.allowed_for_lun());
    prop_assert_eq!(health == Health::Failed, status == LunStatus::Failed);
    if matches!(health, Health::Healthy | Health::Failing) {
        prop_assert!(!matches!(status, LunStatus::Failed | LunStatus::Unknown));
    }
    Ok(())
}

fn drive_rules_hold(drive: &Drive) -> Result<(), TestCaseError> {
    prop_assert!(drive.health.allowed_for_drive());
    prop_assert_eq!(
        drive.health == Health::Failed,
        drive.status == DriveStatus::Failed
    );
    if drive.health == Health::PendingFailure {
        prop_assert_eq!(drive.status, DriveStatus::Online);
    }
    Ok(())
}

proptest! {
    #[test]
    fn rules_of_vds_hold_for_any_facts(before in any_array(), facts in any_array(), held: bool) {
        let before = seen(&before);
        let ctx = ProjectContext { held, last_known: Some(&before), ..NO_POOL };
        let lun = project(&Inventory::default(), &facts, &ctx);
        rules_hold(lun.status, lun.health)?;
        prop_assert!(!lun.plexes.is_empty() || lun.redundancy.members_wanted.unwrap_or(0) == 0);
        for plex in &lun.plexes {
            rules_hold(plex.status, plex.health)?;
        }
        for drive in &lun.drives {
            drive_rules_hold(drive)?;
        }
        if lun.health == Health::Healthy {
            let slots = good_slots(&facts);
            let whole = slots.as_ref().is_some_and(|slots| slots.iter().all(|good| *good));
            prop_assert!(whole, "{slots:?}");
            prop_assert_eq!(lun.redundancy.members_in_sync, lun.redundancy.members_wanted);
        }
        if lun.status == LunStatus::Failed {
            prop_assert!(lun.redundancy.fatal_next.is_empty());
        }
        let missing = lun.drives.iter().filter(|drive| drive.role == Role::Missing).count();
        prop_assert!(missing <= missing_slots(&facts).len());
        prop_assert_eq!(lun.sync.queued, lun.sync.queued_reason.is_some());
    }

    #[test]
    fn the_same_facts_give_the_same_lun(facts in any_array()) {
        let lun = seen(&facts);
        let ctx = ProjectContext { last_known: Some(&lun), ..NO_POOL };
        let again = project(&Inventory::default(), &facts, &ctx);
        prop_assert_eq!(again, lun);
    }
}
