//! What becomes of the ledger when something is wrong with its disk, its file, or its neighbours.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use super::store::{FILE, Store};
use super::*;

/// Every answer, those about the ledger itself too.
fn answers(ledger: &Ledger) -> Receiver<(PersistId, Result<(), Error>)> {
    let (answered, answers) = mpsc::channel();
    ledger.on_answer(Box::new(move |id, result| {
        // The test may have ended.
        let _ = answered.send((id, result));
    }));
    answers
}

fn store(folder: &Path) -> (Store, LedgerState) {
    let (store, start) = Store::open(folder, 10, Retention::default());
    (store, start.state)
}

fn commit(store: &mut Store, records: Vec<Record>) -> Result<(), Error> {
    store.commit(records, Vec::new(), true)
}

fn op_record(id: u64) -> Record {
    Record::Op(Box::new(op(id, true)))
}

/// What a power cut leaves behind: the files as they are while the ledger is open.
fn pulled(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in [FILE.to_owned(), format!("{FILE}-wal")] {
        std::fs::copy(from.join(&name), to.path().join(&name)).unwrap();
    }
    to
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_answered_survives_a_power_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = store(folder.path());
    commit(&mut ledger, vec![op_record(1), Record::Pool(pool(3))]).unwrap();
    let left = pulled(folder.path());
    let (_, state) = store(left.path());
    assert_eq!((state.ops.len(), state.pool.len()), (1, 1));
    assert_eq!(state.degraded, None);
}

#[test]
fn a_write_ahead_log_that_is_none_is_set_aside_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = store(folder.path());
    commit(&mut ledger, vec![op_record(1)]).unwrap();
    drop(ledger); // carried over into the database
    let (mut ledger, _) = store(folder.path());
    commit(&mut ledger, vec![op_record(2)]).unwrap();
    let left = pulled(folder.path());
    let wal = left.path().join(format!("{FILE}-wal"));
    for spoil in [&b"junk"[..], &[0x37, 0x7f, 0x06, 0x82, 1, 2, 3]] {
        let mut bytes = std::fs::read(folder.path().join(format!("{FILE}-wal"))).unwrap();
        bytes[..spoil.len()].copy_from_slice(spoil);
        std::fs::write(&wal, &bytes).unwrap();
        let (again, state) = store(left.path());
        let why = state.degraded.unwrap();
        assert!(
            why.contains("write-ahead log") && why.contains("set aside"),
            "{why}"
        );
        assert!(state.last_op > 1_000_000_000, "2 may have been given");
        assert_eq!(state.ops.len(), 1, "what the database itself has is kept");
        drop(again);
    }
    let aside = names(left.path());
    let kept = aside.iter().filter(|name| name.contains(".corrupt-"));
    assert_eq!(kept.count(), 2, "{aside:?}");
}

#[test]
fn a_log_that_was_only_begun_is_no_reason_to_worry() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = store(folder.path());
    commit(&mut ledger, vec![op_record(1)]).unwrap();
    let left = pulled(folder.path());
    let wal = left.path().join(format!("{FILE}-wal"));
    for begun in [Vec::new(), vec![0x37, 0x7f], vec![0; 4096]] {
        std::fs::write(&wal, begun).unwrap();
        assert_eq!(store(left.path()).1.degraded, None);
    }
}

#[test]
fn a_torn_end_of_the_log_costs_only_what_was_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = store(folder.path());
    commit(&mut ledger, vec![op_record(1)]).unwrap();
    let whole = std::fs::metadata(folder.path().join(format!("{FILE}-wal")))
        .unwrap()
        .len();
    commit(&mut ledger, vec![op_record(2)]).unwrap();
    let left = pulled(folder.path());
    let wal = std::fs::File::options()
        .write(true)
        .open(left.path().join(format!("{FILE}-wal")))
        .unwrap();
    wal.set_len(whole + 100).unwrap();
    let (_, state) = store(left.path());
    assert_eq!((state.ops.len(), state.last_op), (1, 1));
    assert_eq!(state.degraded, None);
}

#[test]
fn a_full_disk_is_told_and_what_was_taken_away_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = store(folder.path());
    let hold = Record::Hold {
        lun: LUN,
        name: "md0".to_owned(),
        at: Wall(9),
    };
    commit(&mut ledger, vec![Record::Pool(pool(3)), hold]).unwrap();
    let pages: i64 = ledger
        .connection()
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    let limit = |ledger: &Store, pages: i64| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        ledger.connection().execute_batch(&sql).unwrap();
    };
    limit(&ledger, pages);
    let filling = |from: u64| (from..from + 64).map(op_record);
    let mut records: Vec<Record> = filling(1).collect();
    let gone = DriveId(Uuid::from_u128(3));
    records.extend([Record::PoolRemoved(gone), Record::HoldReleased(LUN)]);
    let error = commit(&mut ledger, records).unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert!(!ledger.is_well());
    assert_eq!(
        store_state(folder.path()).pool.len(),
        1,
        "nothing of it is there"
    );
    limit(&ledger, 1_000_000);
    ledger.retry().unwrap();
    assert!(ledger.is_well());
    let state = store_state(folder.path());
    assert!(state.pool.is_empty() && state.holds.is_empty());
    assert!(state.ops.is_empty(), "the machine tells those anew");
}

/// What a second look beside the writer finds.
fn store_state(folder: &Path) -> LedgerState {
    let connection = super::schema::open_to_read(&folder.join(FILE)).unwrap();
    super::load::state(&connection, 1000).unwrap()
}

#[test]
fn somebody_elses_lock_degrades_it_and_it_comes_back_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { ledger, .. } = open(folder.path(), 10).unwrap();
    let told = answers(&ledger);
    let shell = rusqlite::Connection::open(folder.path().join(FILE)).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    ledger.persist(PersistId(1), op_record(1));
    ledger.event(super::past::event(1, "told while it was locked"));
    let (id, result) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(id, PersistId(1));
    assert!(result.unwrap_err().to_string().contains("locked"));
    shell.execute_batch("ROLLBACK").unwrap();
    let back = told
        .iter()
        .find(|(id, result)| *id == PersistId::OWN && result.is_ok());
    assert!(back.is_some(), "it comes back without being asked");
    assert!(ledger.close(PATIENCE));
    let events = Reader::new(folder.path()).events_since(0, 10).unwrap();
    assert_eq!(events.len(), 1, "what was told meanwhile is not lost");
}

#[test]
fn a_file_found_corrupt_at_work_is_set_aside_and_a_new_one_begun() {
    let folder = tempfile::tempdir().unwrap();
    let Opened {
        ledger, provider, ..
    } = open(folder.path(), 10).unwrap();
    let told = answers(&ledger);
    ledger.persist(PersistId(1), op_record(1));
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (PersistId(1), Ok(())));
    ledger
        .shared
        .suspect("page 7 is not where it should be".to_owned());
    let (id, result) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(id, PersistId::OWN);
    assert!(result.unwrap_err().to_string().contains("set aside"));
    ledger.persist(PersistId(2), op_record(2));
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (PersistId(2), Ok(())));
    assert!(ledger.close(PATIENCE));
    assert!(
        names(folder.path())
            .iter()
            .any(|name| name.contains(".corrupt-"))
    );
    let again = open(folder.path(), 10).unwrap();
    assert_eq!(again.provider, provider, "the GUID lasts");
    assert_eq!(again.state.last_op, 2);
}

#[test]
fn a_medium_that_cannot_be_written_is_read_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = store(folder.path());
    commit(&mut ledger, vec![op_record(1), Record::Pool(pool(3))]).unwrap();
    let left = pulled(folder.path());
    let before = names(left.path());
    let connection = super::schema::open_read_only_medium(&left.path().join(FILE)).unwrap();
    let state = super::load::state(&connection, 10).unwrap();
    assert_eq!((state.ops.len(), state.pool.len()), (1, 1));
    drop(connection);
    assert_eq!(names(left.path()), before, "nothing was written");
}

#[test]
fn rows_that_cannot_be_understood_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = store(folder.path());
    commit(
        &mut ledger,
        vec![op_record(1), Record::Pool(pool(3)), Record::Pool(pool(4))],
    )
    .unwrap();
    ledger
        .connection()
        .execute_batch(
            "UPDATE pool SET json = x'00ff' WHERE id LIKE '%3';
             INSERT INTO holds(lun, name, at) VALUES('nonsense', 'md9', 1);
             INSERT INTO luns(id, json, last_seen, gone) VALUES('x', '{\"id\":7}', 1, 0);",
        )
        .unwrap();
    let state = store_state(folder.path());
    assert_eq!((state.ops.len(), state.pool.len()), (1, 1));
    assert!(state.holds.is_empty() && state.luns.is_empty());
}
