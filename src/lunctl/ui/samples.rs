//! Fixed objects for the tests of rendering.

use lun_core::Hresult;
use lun_core::action::{Action, SyncWord, Target};
use lun_core::error::Unfit;
use lun_core::id::{DevNo, DriveId, LunId, OpId, Wall};
use lun_core::model::{
    AsyncOutput, Drive, DriveFlag, DriveStatus, Driver, Health, Lun, LunStatus, LunType, ManagedBy,
    OpKind, OpView, Origin, Phase, Plex, Redundancy, Role, SyncView, Transition,
};
use lun_core::plan::{Candidate, Method, Plan, Source, Step, Verdict};

/// 2026-11-23T04:12:17Z.
const MOMENT: Wall = Wall(1_795_407_137_000);
const SIZE: u64 = 256 << 20;

fn lun_id() -> LunId {
    LunId::weak("md0")
}

/// A recovery at 42 percent.
pub(crate) fn running() -> OpView {
    OpView {
        id: OpId(7),
        kind: OpKind::Recover,
        async_output: AsyncOutput::RecoverLun,
        lun: lun_id(),
        lun_name: "md0".to_owned(),
        state: "running".to_owned(),
        hresult: Hresult::VDS_E_OPERATION_PENDING,
        hresult_name: "VDS_E_OPERATION_PENDING".to_owned(),
        percent: 42,
        phase: Phase::Rebuild,
        origin: Origin::Client,
        spare: Some("/dev/loop2".to_owned()),
        started_at_ms: MOMENT,
        ended_at_ms: None,
        rate_bytes_per_s: Some(120 << 20),
        eta_s: Some(180),
        message: "rebuilding /dev/loop2".to_owned(),
        asked_by: ":1.7 uid 0".to_owned(),
        asked_uid: Some(0),
    }
}

/// The same, ended in `state` with `hresult`.
pub(crate) fn finished(state: &str, hresult: u32) -> OpView {
    let hresult = Hresult(hresult);
    OpView {
        state: state.to_owned(),
        hresult,
        hresult_name: crate::failure::name_of(hresult),
        percent: 100,
        ended_at_ms: Some(Wall(MOMENT.0 + 65_000)),
        rate_bytes_per_s: None,
        eta_s: None,
        message: "this is how it ended.".to_owned(),
        ..running()
    }
}

/// A member in sync.
pub(crate) fn drive() -> Drive {
    Drive {
        id: Some(DriveId::derive("backing", "/loop0")),
        weak_identity: false,
        device: "/dev/loop0".to_owned(),
        stable_name: "/srv/loop0.img".to_owned(),
        dev: None,
        slot: Some(0),
        role: Role::InSync,
        flags: vec![DriveFlag::Assigned],
        status: DriveStatus::Online,
        health: Health::Healthy,
        lun: Some(lun_id()),
        size_bytes: Some(SIZE),
        used_bytes: Some(SIZE),
        in_pool: false,
        notes: Vec::new(),
    }
}

/// A mirror of two with one member gone and a spare being filled.
pub(crate) fn degraded() -> Lun {
    let spare = Drive {
        id: Some(DriveId::derive("backing", "/loop2")),
        device: "/dev/loop2".to_owned(),
        stable_name: "/srv/loop2.img".to_owned(),
        slot: Some(1),
        role: Role::Rebuilding,
        in_pool: true,
        ..drive()
    };
    Lun {
        id: lun_id(),
        name: "md0".to_owned(),
        device: "/dev/md0".to_owned(),
        links: vec!["/dev/md/root".to_owned()],
        driver: Driver::Md,
        managed_by: ManagedBy::Mdadm,
        level: "raid1".to_owned(),
        kind: LunType::Mirror,
        size_bytes: Some(SIZE),
        status: LunStatus::Online,
        health: Health::Rebuilding,
        transition: Transition::Stable,
        fault_tolerant: true,
        redundancy: Redundancy {
            members_wanted: Some(2),
            members_in_sync: Some(1),
            losses_survivable: Some(0),
            fatal_next: vec!["/dev/loop0".to_owned()],
        },
        held: false,
        rebuild_priority: 0,
        fast_crash_recovery: Some(true),
        auto_read_only: false,
        read_only: false,
        sync: SyncView {
            action: "recover".to_owned(),
            queued: false,
            queued_reason: None,
            mismatch_sectors: Some(0),
        },
        operation: Some(running()),
        plexes: vec![Plex {
            id: lun_id().0,
            number: 0,
            kind: LunType::Simple,
            status: LunStatus::Online,
            health: Health::Healthy,
            transition: Transition::Stable,
            size_bytes: Some(SIZE),
            stripe_bytes: 0,
            drives: vec!["/dev/loop0".to_owned()],
        }],
        drives: vec![drive(), spare],
        unknown: Vec::new(),
        unsupported: None,
        recreate: Vec::new(),
        observed_at_ms: MOMENT,
    }
}

fn candidate(name: &str, size_bytes: u64, verdict: Verdict, reason: &str) -> Candidate {
    Candidate {
        drive: target(name),
        stable_name: format!("/srv/{name}.img"),
        source: Source::Pool,
        method: Method::Add,
        listed: false,
        donor: None,
        size_bytes,
        verdict,
        reason: reason.to_owned(),
    }
}

fn target(name: &str) -> Target {
    Target {
        dev: DevNo { major: 7, minor: 2 },
        name: name.to_owned(),
        id: DriveId::derive("backing", name),
    }
}

/// A spare of the pool takes over for a missing member.
pub(crate) fn plan() -> Plan {
    let array = || "md0".to_owned();
    let small = Unfit::TooSmall {
        have_bytes: SIZE / 2,
        need_bytes: SIZE,
    };
    Plan {
        lun: lun_id(),
        rule: "a spare of the pool takes over".to_owned(),
        phase: Phase::Rebuild,
        steps: vec![
            Step {
                action: Action::AddSpare {
                    array: array(),
                    drive: target("loop2"),
                },
                why: "because it fits best".to_owned(),
            },
            Step {
                action: Action::SetSync {
                    array: array(),
                    word: SyncWord::Recover,
                },
                why: "to fill the empty slot".to_owned(),
            },
        ],
        targets: vec![target("loop2")],
        retires: None,
        leaves_missing: 0,
        candidates: vec![
            candidate("loop2", SIZE, Verdict::Taken, "the smallest that fits"),
            candidate("loop3", SIZE / 2, Verdict::Rejected(small), "too small"),
        ],
        risk: "the loss of /dev/loop0 would fail the LUN".to_owned(),
        bytes_to_copy: SIZE,
    }
}
