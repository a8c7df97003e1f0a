use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use lun_core::action::{Action, SyncWord};
use lun_core::id::{DriveId, LunId, OpId, Wall};
use lun_core::machine::{SeenDrive, SeenLun};
use lun_core::model::{AutoRule, AutoVerdict, Decision, OpKind, Origin, Phase};
use lun_core::op::{Live, Op, OpState};
use lun_core::plan::PoolEntry;

use super::*;

mod past;
mod trouble;

const LUN: LunId = LunId(Uuid::from_u128(1));
const PATIENCE: Duration = Duration::from_secs(20);

fn open(folder: &Path, keep: usize) -> Result<Opened, LockError> {
    Ledger::open(folder, keep, Retention::default())
}

fn op(id: u64, ended: bool) -> Op {
    Op {
        id: OpId(id),
        kind: OpKind::Recover,
        lun: LUN,
        lun_name: "md0".to_owned(),
        request: None,
        origin: Origin::Client,
        asked_by: ":1.1 (uid 0)".to_owned(),
        asked_uid: Some(0),
        state: if ended {
            OpState::Succeeded
        } else {
            OpState::Running
        },
        error: None,
        phase: Phase::Rebuild,
        targets: Vec::new(),
        added: Default::default(),
        retiring: Default::default(),
        moved: Default::default(),
        tried: Default::default(),
        percent: 42,
        started_at: Wall(1_000),
        ended_at: ended.then_some(Wall(2_000)),
        message: "copying".to_owned(),
        before: None,
        after: None,
        states: Vec::new(),
        work: lun_core::op::Work::default(),
        live: Live::default(),
    }
}

fn decision(at: u64) -> Decision {
    Decision {
        lun: LUN,
        lun_name: "md0".to_owned(),
        decided_at_ms: Wall(at),
        rule: AutoRule::Grace,
        verdict: AutoVerdict::Wait { ends_at_ms: None },
        reason: "what was lost is given a while".to_owned(),
        facts: Vec::new(),
        alternatives: Vec::new(),
        op: None,
    }
}

fn pool(number: u128) -> PoolEntry {
    PoolEntry {
        id: DriveId(Uuid::from_u128(number)),
        stable_name: format!("/dev/disk/by-id/{number}"),
        size_bytes: 1 << 30,
        forced_signatures: vec!["ext4".to_owned()],
        claimed_by: None,
        rule: None,
        only_for: None,
    }
}

/// Writes records and waits for every answer.
fn write(ledger: &Ledger, records: Vec<Record>) -> Vec<Result<(), Error>> {
    let (answered, answers) = mpsc::channel();
    ledger.on_answer(Box::new(move |id, result| {
        answered.send((id, result)).unwrap()
    }));
    let count = records.len();
    for (number, record) in (0..).zip(records) {
        ledger.persist(PersistId(number), record);
    }
    (0..count)
        .map(|number| {
            let (id, result) = answers.recv_timeout(PATIENCE).unwrap();
            assert_eq!(
                id,
                PersistId(u64::try_from(number).unwrap()),
                "answers keep the order"
            );
            result
        })
        .collect()
}

fn all_kinds() -> Vec<Record> {
    let action = Action::SetSync {
        array: "md0".to_owned(),
        word: SyncWord::Recover,
    };
    let drive = SeenDrive {
        id: DriveId(Uuid::from_u128(5)),
        stable_name: "/dev/disk/by-id/five".to_owned(),
        device: "/dev/sda".to_owned(),
        lun: Some(LUN),
        slot: Some(1),
        role: lun_core::model::Role::Faulty,
        last_seen: Wall(6),
        gone: false,
        retired: None,
        lost: Vec::new(),
    };
    let seen = SeenLun {
        id: LUN,
        name: "md0".to_owned(),
        links: Vec::new(),
        level: "raid1".to_owned(),
        last_seen: Wall(5),
        gone: true,
        health: Some(lun_core::model::Health::Healthy),
        healthy_at: Some(Wall(4)),
        unproven: true,
        recreate: vec!["dmsetup create r".to_owned()],
        hints: lun_core::plan::Hints {
            rebuild_priority: 12,
            throttle: None,
            bitmap: Some(true),
        },
    };
    vec![
        Record::Op(Box::new(op(1, true))),
        Record::Op(Box::new(op(2, false))),
        Record::Intent {
            op: OpId(2),
            seq: 1,
            action,
            at: Wall(3),
        },
        Record::Outcome {
            op: OpId(2),
            seq: 1,
            error: Some(Error::Exiting),
            at: Wall(4),
        },
        Record::Pool(pool(7)),
        Record::Pool(pool(5)),
        Record::Pool(pool(6)),
        Record::PoolRemoved(DriveId(Uuid::from_u128(6))),
        Record::Hold {
            lun: LUN,
            name: "md0".to_owned(),
            at: Wall(9),
        },
        Record::Lun(seen),
        Record::Drive(drive),
        Record::Decision(Box::new(decision(8))),
        Record::Booted,
    ]
}

#[test]
fn what_was_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("a/b");
    let Opened {
        ledger,
        state,
        provider,
        ..
    } = open(&state_dir, 10).unwrap();
    let nothing = LedgerState {
        rebooted: true,
        ..LedgerState::default()
    };
    assert_eq!(state, nothing);
    assert!(write(&ledger, all_kinds()).iter().all(Result::is_ok));
    assert!(
        write(&ledger, all_kinds()).iter().all(Result::is_ok),
        "told twice does no harm"
    );
    assert!(ledger.close(PATIENCE));

    let mode = std::fs::metadata(state_dir.join(store::FILE))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = open(&state_dir, 10).unwrap();
    assert_eq!(again.provider, provider, "the GUID lasts");
    assert_eq!(again.state.ops, vec![op(1, true), op(2, false)]);
    assert_eq!(again.state.last_op, 2);
    let names: Vec<_> = again
        .state
        .pool
        .iter()
        .map(|entry| entry.id.0.as_u128())
        .collect();
    assert_eq!(names, [7, 5], "the pool keeps the order of registration");
    assert_eq!(
        again.state.holds.get(&LUN),
        Some(&("md0".to_owned(), Wall(9)))
    );
    assert_eq!(again.state.luns.len(), 1);
    assert_eq!(again.state.drives.len(), 1);
    assert!(!again.state.rebooted, "it is the same boot");
    assert_eq!(again.state.degraded, None);
    assert!(
        write(&again.ledger, vec![Record::HoldReleased(LUN)])
            .iter()
            .all(Result::is_ok)
    );
    drop(again);
    assert!(open(&state_dir, 10).unwrap().state.holds.is_empty());
}

#[test]
fn of_the_finished_only_the_newest_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { ledger, .. } = open(folder.path(), 2).unwrap();
    let mut records = vec![Record::Op(Box::new(op(1, false)))];
    records.extend((2..=6).map(|id| Record::Op(Box::new(op(id, true)))));
    assert!(write(&ledger, records).iter().all(Result::is_ok));
    drop(ledger);
    let state = open(folder.path(), 2).unwrap().state;
    let ids: Vec<_> = state.ops.iter().map(|op| op.id.0).collect();
    assert_eq!((ids, state.last_op), (vec![1, 5, 6], 6));
}

#[test]
fn a_corrupt_file_is_set_aside_and_numbers_are_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join(store::FILE),
        "not a database, not at all".repeat(100),
    )
    .unwrap();
    let Opened { ledger, state, .. } = open(folder.path(), 10).unwrap();
    assert!(state.degraded.unwrap().contains("set aside"));
    assert!(
        state.last_op > 1_000_000_000,
        "beyond any number that was counted up"
    );
    let kept = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with("lund.db.corrupt-")
        })
        .count();
    assert_eq!(kept, 1);
    assert!(
        write(&ledger, vec![Record::Op(Box::new(op(9, false)))])
            .iter()
            .all(Result::is_ok)
    );
    drop(ledger);
    assert_eq!(open(folder.path(), 10).unwrap().state.degraded, None);
}

#[test]
fn one_bad_row_does_not_cost_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { ledger, .. } = open(folder.path(), 10).unwrap();
    let records = vec![
        Record::Op(Box::new(op(1, true))),
        Record::Op(Box::new(op(2, true))),
    ];
    assert!(write(&ledger, records).iter().all(Result::is_ok));
    drop(ledger);
    let raw = rusqlite::Connection::open(folder.path().join(store::FILE)).unwrap();
    raw.execute("UPDATE ops SET json = '{}' WHERE id = 2", [])
        .unwrap();
    drop(raw);
    let state = open(folder.path(), 10).unwrap().state;
    assert_eq!((state.ops.len(), state.last_op), (1, 2));
}

#[test]
fn without_a_place_to_write_it_works_in_memory_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    // No folder can be made below a file, whoever asks (root is not stopped by modes).
    let Opened { ledger, state, .. } = open(&blocked.join("state"), 10).unwrap();
    assert!(state.degraded.is_some());
    let results = write(&ledger, vec![Record::Op(Box::new(op(1, false)))]);
    assert!(matches!(results.as_slice(), [Err(Error::Ledger { .. })]));
}

#[test]
fn a_schema_of_the_future_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let raw = rusqlite::Connection::open(folder.path().join(store::FILE)).unwrap();
    raw.execute_batch("CREATE TABLE x(y); PRAGMA user_version = 99;")
        .unwrap();
    drop(raw);
    let state = open(folder.path(), 10).unwrap().state;
    assert!(state.degraded.unwrap().contains("newer than this program"));
    assert!(folder.path().join(store::FILE).exists());
}

#[test]
fn a_second_daemon_is_kept_off() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), 10).unwrap();
    let error = open(folder.path(), 10).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("another lund works on the state directory"),
        "{error}"
    );
    drop(first);
    assert!(open(folder.path(), 10).is_ok());
}
