//! The table of status and health, row by row.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::*;
use crate::facts::{
    DeviceFacts, IdentityKind, MdstatFacts, MemberFacts, MemberState, Position, Slot, SpeedLimit,
    SyncCompleted, SyncFacts,
};
use crate::id::{DevNo, DriveId, LunId, OpId};
use crate::model::{DriveFlag, DriveStatus, Health, LunStatus, Role, Transition};

pub(super) const NO_POOL: ProjectContext<'_> = ProjectContext {
    held: false,
    rebuild_priority: 0,
    pool: &[],
    observed_at: Wall(5),
    last_known: None,
};

/// State words from their initials: `U` in sync, `F` faulty, `s` spare, `e` write error,
/// `w` want_replacement, `r` replacement, `b` blocked, `j` journal.
pub(super) fn words(text: &str) -> MemberState {
    let has = |word| text.contains(word);
    MemberState {
        in_sync: has('U'),
        faulty: has('F'),
        spare: has('s'),
        write_error: has('e'),
        want_replacement: has('w'),
        replacement: has('r'),
        blocked: has('b'),
        journal: has('j'),
        ..MemberState::default()
    }
}

pub(super) fn member(minor: u32, slot: Option<u32>, state: &str) -> MemberFacts {
    MemberFacts {
        name: format!("loop{minor}"),
        dev: Fact::Known(DevNo { major: 7, minor }),
        slot: Fact::Known(slot.map_or(Slot::None, Slot::At)),
        state: Fact::Known(words(state)),
        recovery_start: Fact::Known(Position::Done),
        errors: Fact::Known(0),
        bad_blocks: Fact::Known(0),
        size_bytes: Fact::Known(1 << 20),
    }
}

pub(super) fn array(level: Level, disks: u32, members: Vec<MemberFacts>) -> ArrayFacts {
    let redundant = !matches!(level, Level::Raid0 | Level::Linear);
    ArrayFacts {
        name: "md0".into(),
        driver: crate::facts::Driver::Md,
        dev: DevNo { major: 9, minor: 0 },
        md_names: vec!["home".into()],
        uuid: Fact::Known(Some(Uuid::from_u128(7))),
        layout: Fact::Known(if level == Level::Raid10 { 0x102 } else { 0 }),
        level: Fact::Known(level),
        raid_disks: Fact::Known(disks),
        chunk_bytes: Fact::Known(0),
        component_bytes: Fact::Known(1 << 20),
        size_bytes: Fact::Known(1 << 20),
        logical_block_bytes: Fact::Known(512),
        metadata: Fact::Known(Metadata::V1(2)),
        state: Fact::Known(ArrayState::Clean),
        sync: redundant.then_some(SyncFacts {
            action: Fact::Known(SyncAction::Idle),
            completed: Fact::Known(SyncCompleted::None),
            degraded: Fact::Known(0),
            mismatch_sectors: Fact::Known(0),
            last_action: Fact::Known(None),
            sync_min: Fact::Known(0),
            sync_max: Fact::Known(None),
            speed_min: Fact::Known(SpeedLimit::system(1_000)),
            speed_max: Fact::Known(SpeedLimit::system(200_000)),
        }),
        resync_start: Fact::Known(Position::Done),
        reshaping: Fact::Known(false),
        bitmap: Fact::Known(true),
        clustered: false,
        mdstat: Some(mdstat(MdstatProgress::None)),
        members,
        events: Fact::Unknown("not asked for".into()),
    }
}

fn mdstat(progress: MdstatProgress) -> MdstatFacts {
    MdstatFacts {
        broken: false,
        inactive: false,
        read_only: false,
        auto_read_only: false,
        progress,
    }
}

fn mirror(states: [&str; 2]) -> ArrayFacts {
    array(
        Level::Raid1,
        2,
        vec![member(0, Some(0), states[0]), member(1, Some(1), states[1])],
    )
}

/// A mirror whose second member has been dropped.
fn degraded() -> ArrayFacts {
    array(
        Level::Raid1,
        2,
        vec![member(0, Some(0), "U"), member(1, None, "F")],
    )
}

fn with_action(mut array: ArrayFacts, action: SyncAction, completed: SyncCompleted) -> ArrayFacts {
    let sync = array.sync.as_mut().unwrap();
    sync.action = Fact::Known(action);
    sync.completed = Fact::Known(completed);
    array
}

pub(super) const HALF: SyncCompleted = SyncCompleted::At { done: 1, total: 2 };

pub(super) fn seen(array: &ArrayFacts) -> Lun {
    project(&Inventory::default(), array, &NO_POOL)
}

fn judged(array: &ArrayFacts) -> (LunStatus, Health) {
    let lun = seen(array);
    (lun.status, lun.health)
}

#[test]
fn whole_mirror_is_healthy() {
    let lun = seen(&mirror(["U", "U"]));
    assert_eq!(
        (lun.status, lun.health),
        (LunStatus::Online, Health::Healthy)
    );
    assert_eq!(
        (lun.kind, lun.transition),
        (LunType::Mirror, Transition::Stable)
    );
    assert!(lun.fault_tolerant);
    assert_eq!(lun.redundancy.losses_survivable, Some(1));
    assert_eq!(lun.plexes.len(), 2);
    assert_eq!(lun.id, LunId(Uuid::from_u128(7)));
    assert_eq!(
        (lun.device.as_str(), lun.links.as_slice()),
        ("/dev/md0", &["/dev/md/home".into()][..])
    );
    assert!(lun.unknown.is_empty() && lun.unsupported.is_none());
}

#[test]
fn degraded_mirror_names_the_fatal_drive_and_the_empty_slot() {
    let lun = seen(&degraded());
    assert_eq!(
        (lun.status, lun.health),
        (LunStatus::Online, Health::FailedRedundancy)
    );
    assert_eq!(lun.redundancy.fatal_next, ["/dev/loop0"]);
    let roles: Vec<_> = lun
        .drives
        .iter()
        .map(|drive| (drive.role, drive.slot))
        .collect();
    assert_eq!(
        roles,
        [
            (Role::InSync, Some(0)),
            (Role::Faulty, None),
            (Role::Missing, Some(1))
        ]
    );
    assert_eq!(missing_slots(&degraded()), [1]);
    let legs: Vec<_> = lun
        .plexes
        .iter()
        .map(|leg| (leg.status, leg.health))
        .collect();
    assert_eq!(
        legs,
        [
            (LunStatus::Online, Health::Healthy),
            (LunStatus::Failed, Health::Failed)
        ]
    );
}

#[test]
fn last_copy_that_fails_is_told_apart() {
    let failing = array(
        Level::Raid1,
        2,
        vec![member(0, Some(0), "Ue"), member(1, None, "F")],
    );
    assert_eq!(
        judged(&failing),
        (LunStatus::Online, Health::FailedRedundancyFailing)
    );
    // raid6 with one loss: another copy of everything is still there.
    let mut members: Vec<_> = (0..4).map(|n| member(n, Some(n), "U")).collect();
    members[0].bad_blocks = Fact::Known(1);
    members[3].state = Fact::Known(words("F"));
    assert_eq!(
        judged(&array(Level::Raid6, 4, members)).1,
        Health::FailedRedundancy
    );
}

#[test]
fn recovery_shows_only_when_it_runs() {
    let rebuilding = array(
        Level::Raid1,
        2,
        vec![member(0, Some(0), "U"), member(1, Some(1), "s")],
    );
    let runs = with_action(rebuilding.clone(), SyncAction::Recover, HALF);
    assert_eq!(judged(&runs), (LunStatus::Online, Health::Rebuilding));
    assert_eq!(seen(&runs).drives[1].role, Role::Rebuilding);
    assert_eq!(seen(&runs).plexes[1].health, Health::Rebuilding);
    assert!(missing_slots(&runs).is_empty());
    let blip = with_action(rebuilding.clone(), SyncAction::Recover, SyncCompleted::None);
    assert_eq!(
        (judged(&blip).1, syncing(&blip)),
        (Health::FailedRedundancy, None)
    );
    // The kernel only looks for work: nothing is there to be filled.
    let look = with_action(degraded(), SyncAction::Recover, HALF);
    assert_eq!(
        (judged(&look).1, syncing(&look)),
        (Health::FailedRedundancy, None)
    );
    let delayed = with_action(rebuilding, SyncAction::Recover, SyncCompleted::Delayed);
    assert_eq!(judged(&delayed).1, Health::FailedRedundancy);
    assert_eq!(syncing(&delayed), Some(SyncAction::Recover));
    assert!(seen(&delayed).sync.queued);
}

#[test]
fn live_progress_of_mdstat_counts_before_sysfs_has_any() {
    let mut runs = with_action(mirror(["U", "U"]), SyncAction::Resync, SyncCompleted::None);
    runs.mdstat = Some(mdstat(MdstatProgress::At {
        done_kib: 1,
        total_kib: 9,
        speed_kib: 1,
    }));
    assert_eq!(judged(&runs).1, Health::Rebuilding);
}

#[test]
fn check_leaves_a_lun_healthy() {
    let check = with_action(mirror(["U", "U"]), SyncAction::Check, HALF);
    assert_eq!(judged(&check).1, Health::Healthy);
    assert_eq!(syncing(&check), Some(SyncAction::Check));
}

#[test]
fn frozen_thread_that_still_stops_is_no_recovery() {
    let frozen = with_action(mirror(["U", "U"]), SyncAction::Frozen, HALF);
    assert_eq!(syncing(&frozen), None);
}

#[test]
fn signs_of_failure_and_dirt_are_failing_redundancy() {
    for state in ["Uw", "Ue"] {
        assert_eq!(
            judged(&mirror(["U", state])).1,
            Health::FailingRedundancy,
            "{state}"
        );
    }
    let mut dirty = mirror(["U", "U"]);
    dirty.resync_start = Fact::Known(Position::At(0));
    assert_eq!(judged(&dirty).1, Health::FailingRedundancy);
    let mut pending = mirror(["U", "U"]);
    pending.mdstat = Some(MdstatFacts {
        auto_read_only: true,
        ..mdstat(MdstatProgress::Pending)
    });
    let lun = seen(&pending);
    assert_eq!(lun.health, Health::FailingRedundancy);
    assert!(lun.auto_read_only && lun.sync.queued_reason.unwrap().contains("first write"));
}

#[test]
fn failing_member_is_a_pending_failure_and_a_replacement_fills_beside_it() {
    let facts = array(
        Level::Raid1,
        2,
        vec![
            member(0, Some(0), "U"),
            member(1, Some(1), "Uw"),
            member(2, Some(1), "sr"),
        ],
    );
    let lun = seen(&with_action(facts, SyncAction::Recover, HALF));
    assert_eq!(lun.drives[1].health, Health::PendingFailure);
    assert_eq!(
        (lun.drives[2].role, lun.drives[2].slot),
        (Role::Replacing, Some(1))
    );
    assert_eq!(
        lun.drives[2].flags,
        [DriveFlag::Assigned, DriveFlag::HotSpareInUse]
    );
    assert_eq!(lun.redundancy.members_in_sync, Some(2));
    assert_eq!(lun.plexes[1].drives, ["/dev/loop1", "/dev/loop2"]);
}

#[test]
fn slot_with_two_good_occupants_bears_the_loss_of_either() {
    let facts = array(
        Level::Raid5,
        2,
        vec![
            member(0, Some(0), "U"),
            member(1, Some(0), "Ur"),
            member(2, None, "F"),
        ],
    );
    assert!(seen(&facts).redundancy.fatal_next.is_empty());
    assert_eq!(seen(&facts).redundancy.losses_survivable, Some(0));
}

#[test]
fn too_many_losses_or_a_broken_mark_have_failed() {
    let raid5 = array(
        Level::Raid5,
        3,
        vec![
            member(0, Some(0), "U"),
            member(1, Some(1), "F"),
            member(2, None, "F"),
        ],
    );
    assert_eq!(judged(&raid5), (LunStatus::Failed, Health::Failed));
    let mut broken = mirror(["U", "U"]);
    broken.mdstat.as_mut().unwrap().broken = true;
    let lun = seen(&broken);
    assert_eq!(
        (lun.status, lun.health),
        (LunStatus::Failed, Health::Failed)
    );
    assert_eq!(lun.redundancy.losses_survivable, Some(0));
    let mut stripe = array(
        Level::Raid0,
        2,
        vec![member(0, Some(0), "U"), member(1, Some(1), "F")],
    );
    assert_eq!(judged(&stripe).0, LunStatus::Failed);
    stripe.members[1] = member(1, Some(1), "Ue");
    assert_eq!(judged(&stripe), (LunStatus::Online, Health::Failing));
    assert!(!seen(&stripe).fault_tolerant);
}

#[test]
fn raid10_fails_by_pairs_and_not_by_count() {
    let states = |text: [&str; 4]| {
        array(
            Level::Raid10,
            4,
            (0..4)
                .zip(text)
                .map(|(n, s)| member(n, Some(n), s))
                .collect(),
        )
    };
    assert_eq!(
        judged(&states(["U", "F", "F", "U"])).1,
        Health::FailedRedundancy
    );
    assert_eq!(judged(&states(["F", "F", "U", "U"])).1, Health::Failed);
    let lun = seen(&states(["F", "U", "U", "U"]));
    assert_eq!(lun.redundancy.fatal_next, ["/dev/loop1"]);
    let mut unknown = states(["U", "U", "U", "U"]);
    unknown.layout = Fact::Unknown("gone".into());
    assert_eq!(judged(&unknown), (LunStatus::Online, Health::Unknown));
}

#[test]
fn stopped_arrays_are_offline_and_those_short_of_members_failed() {
    let mut stopped = array(
        Level::Raid5,
        3,
        (0..3).map(|n| member(n, None, "s")).collect(),
    );
    stopped.state = Fact::Known(ArrayState::Inactive);
    stopped.sync = None;
    let lun = seen(&stopped);
    assert_eq!(
        (lun.status, lun.health),
        (LunStatus::Offline, Health::Unknown)
    );
    assert!(lun.drives.iter().all(|drive| drive.role == Role::Unknown));
    stopped.members.truncate(2);
    assert_eq!(judged(&stopped).0, LunStatus::Offline);
    stopped.members.truncate(1);
    assert_eq!(judged(&stopped), (LunStatus::Failed, Health::Failed));
    stopped.members.clear();
    assert_eq!(judged(&stopped), (LunStatus::Offline, Health::Unknown));
}

#[test]
fn busy_arrays_are_not_ready_with_their_health() {
    let mut suspended = degraded();
    suspended.state = Fact::Known(ArrayState::Suspended);
    assert_eq!(
        judged(&suspended),
        (LunStatus::NotReady, Health::FailedRedundancy)
    );
    let blocked = mirror(["Ub", "U"]);
    assert_eq!(judged(&blocked), (LunStatus::NotReady, Health::Healthy));
}

#[test]
fn unreadable_arrays_keep_their_last_status_and_identity() {
    let before = seen(&mirror(["U", "U"]));
    let mut now = mirror(["U", "U"]);
    now.uuid = Fact::Unknown("EIO".into());
    now.members[0].state = Fact::Unknown("EIO".into());
    let ctx = ProjectContext {
        last_known: Some(&before),
        ..NO_POOL
    };
    let lun = project(&Inventory::default(), &now, &ctx);
    assert_eq!(
        (lun.status, lun.health, lun.id),
        (LunStatus::Online, Health::Unknown, before.id)
    );
    assert_eq!(lun.unknown, ["uuid: EIO", "loop0 state: EIO"]);
    assert_eq!(lun.drives[0].role, Role::Unknown);
    assert_eq!(lun.redundancy.losses_survivable, None);
}

#[test]
fn one_member_mirror_is_a_simple_lun_without_redundancy() {
    let lun = seen(&array(Level::Raid1, 1, vec![member(0, Some(0), "U")]));
    assert_eq!((lun.kind, lun.fault_tolerant), (LunType::Simple, false));
    assert_eq!(lun.health, Health::Healthy);
    assert_eq!(lun.redundancy.fatal_next, ["/dev/loop0"]);
}

#[test]
fn foreign_arrays_are_shown_and_left_alone() {
    let mut foreign = mirror(["U", "U"]);
    foreign.metadata = Fact::Known(Metadata::External("imsm".into()));
    assert!(seen(&foreign).unsupported.unwrap().contains("imsm"));
    let mut clustered = mirror(["U", "U"]);
    clustered.clustered = true;
    assert!(seen(&clustered).unsupported.is_some());
}

#[test]
fn devices_lend_identity_and_pool_drives_come_and_go() {
    let id = DriveId::derive("serial", "abc");
    let dev = DevNo { major: 7, minor: 1 };
    let device = DeviceFacts {
        dev,
        name: "loop1".into(),
        id,
        id_kind: IdentityKind::Serial,
        stable_name: "/dev/disk/by-id/abc".into(),
        names: vec![],
        size_bytes: 77,
        logical_block_bytes: Fact::Known(512),
        rotational: Fact::Known(false),
        transport: Fact::Known("loop".into()),
        read_only: false,
        holders: BTreeSet::new(),
        used_by: vec![],
        whole_disk: "loop1".into(),
        controller: None,
        enclosure: None,
        udev_signature: None,
    };
    let mut inventory = Inventory::default();
    inventory.devices.insert(dev, device);
    let entry = PoolEntry {
        id,
        stable_name: "/dev/disk/by-id/abc".into(),
        size_bytes: 77,
        forced_signatures: vec![],
        claimed_by: Some(OpId(3)),
        rule: None,
        only_for: None,
    };
    let drive = pool_drive(&inventory, &entry, None);
    assert_eq!(
        (drive.role, drive.device.as_str()),
        (Role::Pool, "/dev/loop1")
    );
    assert_eq!(DriveFlag::mask(&drive.flags), 0x15);
    assert_eq!(
        pool_drive(&Inventory::default(), &entry, None).status,
        DriveStatus::Removed
    );
    let pool = [entry];
    let ctx = ProjectContext {
        pool: &pool,
        ..NO_POOL
    };
    let lun = project(&inventory, &mirror(["U", "U"]), &ctx);
    assert_eq!((lun.drives[1].id, lun.drives[1].in_pool), (Some(id), true));
    assert_eq!((lun.drives[0].id, lun.drives[0].in_pool), (None, false));
    // The drive is pulled out: md still lists it, and its identity stays known.
    let mut pulled = mirror(["U", "U"]);
    pulled.members[1].dev = Fact::Unknown("no such device".into());
    let ctx = ProjectContext {
        last_known: Some(&lun),
        ..ctx
    };
    let lun = project(&Inventory::default(), &pulled, &ctx);
    assert_eq!(
        (lun.drives[1].id, lun.drives[1].status),
        (Some(id), DriveStatus::Removed)
    );
}

#[test]
fn lun_serialises_under_the_promised_names() {
    let json = serde_json::to_value(seen(&degraded())).unwrap();
    assert_eq!(json["type"], "VDS_LT_MIRROR");
    assert_eq!(json["health"], "VDS_H_FAILED_REDUNDANCY");
    assert_eq!(json["redundancy"]["fatal_next"][0], "/dev/loop0");
    assert_eq!(json["drives"][2]["role"], "missing");
    let lun: Lun = serde_json::from_value(json).unwrap();
    assert_eq!(lun.status, LunStatus::Online);
}

#[test]
fn a_raid_set_of_device_mapper_goes_by_its_names() {
    let mut facts = mirror(["U", "U"]);
    facts.name = "mapper/vg-lv".into();
    facts.md_names.clear();
    let kind = crate::facts::RaidType {
        word: "raid1".into(),
        level: Level::Raid1,
        layout: 0,
    };
    let leg = crate::facts::RaidLeg {
        meta: Some(DevNo { major: 7, minor: 5 }),
        data: Some(DevNo { major: 7, minor: 0 }),
    };
    let table = crate::facts::RaidTable::new(8, kind, 0, vec![leg; 2]);
    facts.driver = crate::facts::Driver::DmRaid(Box::new(crate::facts::DmRaidFacts {
        name: "vg-lv".into(),
        uuid: Some("LVM-x".into()),
        kernel_name: "dm-4".into(),
        owner: DmOwner::Lvm {
            vg: "vg".into(),
            lv: "lv".into(),
        },
        table: Fact::Known(table),
        status: Fact::Unknown("torn".into()),
        suspended: false,
        read_only: false,
        inactive_table: false,
        event: 0,
        open_count: 0,
        superblocks: Vec::new(),
        unreadable: BTreeSet::new(),
        laid: Vec::new(),
    }));
    let lun = seen(&facts);
    assert_eq!(
        (lun.driver, lun.managed_by),
        (Driver::DmRaid, ManagedBy::Lvm)
    );
    assert_eq!(lun.device, "/dev/mapper/vg-lv");
    assert_eq!(lun.links, ["/dev/vg/lv", "/dev/dm-4"]);
    assert_eq!(lun.drives[0].notes, ["metadata on 7:5"]);
    assert!(lun.unknown.contains(&"status: torn".to_owned()));
}
