//! Questions about the past, numbers that never repeat, and forgetting.

use std::time::Instant;

use super::read::{EVENTS_BEFORE, EVENTS_SINCE, OF_ALL, OF_LUN};
use super::store::Store;
use super::*;

const OTHER: LunId = LunId(Uuid::from_u128(2));

pub(super) fn event(seq: u64, text: &str) -> Event {
    Event {
        seq,
        at_ms: Wall(1_000 + seq),
        event: 206,
        event_name: Some("VDS_NF_LUN_MODIFY".to_owned()),
        lun: Some(LUN),
        op: Some(OpId(seq)),
        text: text.to_owned(),
    }
}

fn of(lun: LunId, id: u64) -> Record {
    Record::Op(Box::new(Op {
        lun,
        ended_at: Some(Wall(2_000 + id)),
        ..op(id, true)
    }))
}

fn filled(folder: &Path, retention: Retention, records: Vec<Record>) -> Store {
    let (mut store, _) = Store::open(folder, 10, retention);
    store.commit(records, Vec::new(), true).unwrap();
    store
}

fn ids(ops: &[Op]) -> Vec<u64> {
    ops.iter().map(|op| op.id.0).collect()
}

#[test]
fn history_is_paged_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let records = (1..=9).map(|id| of(if id % 3 == 0 { OTHER } else { LUN }, id));
    let _store = filled(folder.path(), Retention::default(), records.collect());
    let reader = Reader::new(folder.path());
    let page = |lun, before: Option<u64>, limit| {
        let before = before.map(OpId);
        ids(&reader.operations(&Filter { lun, before, limit }).unwrap())
    };
    assert_eq!(page(None, None, 4), [9, 8, 7, 6]);
    assert_eq!(page(None, Some(6), 4), [5, 4, 3, 2]);
    assert_eq!(page(None, Some(2), 4), [1]);
    assert_eq!(page(Some(OTHER), None, 2), [9, 6]);
    assert_eq!(page(Some(OTHER), Some(6), 2), [3]);
    assert!(page(Some(LunId(Uuid::from_u128(3))), None, 2).is_empty());
}

#[test]
fn an_operation_is_found_with_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let _store = filled(folder.path(), Retention::default(), all_kinds());
    let reader = Reader::new(folder.path());
    let (found, steps) = reader.operation(OpId(2)).unwrap().unwrap();
    assert_eq!(found, op(2, false));
    let [step] = &steps[..] else {
        panic!("{steps:?}")
    };
    assert_eq!((step.number, step.begun_at_ms), (1, Wall(3)));
    assert!(matches!(step.action, Some(Action::SetSync { .. })));
    assert_eq!(step.ended_at_ms, Some(Wall(4)));
    assert_eq!(
        step.error.as_deref(),
        Some(Error::Exiting.to_string().as_str())
    );
    assert_eq!(reader.operation(OpId(7)).unwrap(), None);
}

#[test]
fn notifications_are_read_from_either_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(folder.path(), 10, Retention::default());
    let events: Vec<Event> = (1..=9).map(|seq| event(seq, "something")).collect();
    store.commit(Vec::new(), events.clone(), true).unwrap();
    let reader = Reader::new(folder.path());
    assert_eq!(reader.events_since(0, 100).unwrap(), events);
    assert_eq!(reader.events_since(4, 2).unwrap(), events[4..6]);
    assert_eq!(reader.events_before(u64::MAX, 2).unwrap(), events[7..]);
    assert_eq!(reader.events_before(3, 10).unwrap(), events[..2]);
}

#[test]
fn numbers_of_notifications_go_on_and_never_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), 10).unwrap();
    assert_eq!(first.last_event, 0);
    first.ledger.event(event(1, "one"));
    first.ledger.event(event(2, "two"));
    assert!(first.ledger.close(PATIENCE));
    let second = open(folder.path(), 10).unwrap();
    assert_eq!(second.last_event, 2, "after an orderly end they go on");
    drop(second);
    let third = open(folder.path(), 10).unwrap();
    assert!(
        third.last_event > 1_000_000_000_000,
        "after any other end there may have been more than are known"
    );
}

#[test]
fn of_many_percentages_the_newest_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { ledger, .. } = open(folder.path(), 10).unwrap();
    let at = |percent| {
        Record::Op(Box::new(Op {
            percent,
            ..op(1, false)
        }))
    };
    let records: Vec<Record> = (0..100).map(at).collect();
    let (answered, answers) = mpsc::channel();
    ledger.on_answer(Box::new(move |id, result| {
        answered.send((id, result)).unwrap()
    }));
    for (number, record) in (0..).zip(records) {
        ledger.persist(PersistId(number + 1), record);
    }
    let mut answered: Vec<u64> = (0..100)
        .map(|_| answers.recv_timeout(PATIENCE).unwrap())
        .map(|(id, result)| {
            result.unwrap();
            id.0
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(
        answered,
        (1..=100).collect::<Vec<_>>(),
        "each is answered once"
    );
    assert!(ledger.close(PATIENCE));
    assert_eq!(open(folder.path(), 10).unwrap().state.ops[0].percent, 99);
}

#[test]
fn the_oldest_are_forgotten_but_not_what_is_still_referred_to() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Retention {
        operations: 3,
        events: 2,
        days: None,
    };
    let mut records: Vec<Record> = (1..=300).map(|id| of(LUN, id)).collect();
    records.push(of(OTHER, 5));
    records.push(Record::Op(Box::new(op(2, false))));
    let action = Action::MakeReadWrite {
        array: "md0".to_owned(),
    };
    records.extend([1, 300].map(|id| Record::Intent {
        op: OpId(id),
        seq: 1,
        action: action.clone(),
        at: Wall(3),
    }));
    let claimed = PoolEntry {
        claimed_by: Some(OpId(7)),
        rule: None,
        only_for: None,
        ..pool(3)
    };
    records.push(Record::Pool(claimed));
    records.push(Record::Hold {
        lun: OTHER,
        name: "md1".to_owned(),
        at: Wall(1),
    });
    let mut store = filled(folder.path(), keep, records);
    let events = (1..=700).map(|seq| event(seq, "x")).collect();
    store.commit(Vec::new(), events, true).unwrap();
    let mut steps = 0;
    while store.prune() {
        steps += 1;
    }
    assert!(steps >= 2, "in small steps: {steps}");
    let reader = Reader::new(folder.path());
    let all = Filter {
        lun: None,
        before: None,
        limit: 1000,
    };
    let left = ids(&reader.operations(&all).unwrap());
    assert_eq!(
        left,
        [300, 7, 5, 2],
        "the unfinished, the claiming, the held one's last, the newest"
    );
    assert!(reader.steps(OpId(1)).unwrap().is_empty());
    assert_eq!(reader.steps(OpId(300)).unwrap().len(), 1);
    assert_eq!(reader.events_since(0, 1000).unwrap().len(), 2);
}

#[test]
fn what_is_too_old_is_forgotten_however_few_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Retention {
        days: Some(30),
        ..Retention::default()
    };
    let now = crate::clock::Clock::new().now().wall;
    let young = Record::Op(Box::new(Op {
        ended_at: Some(now),
        ..op(3, true)
    }));
    let mut store = filled(folder.path(), keep, vec![of(LUN, 1), of(LUN, 2), young]);
    store
        .commit(Vec::new(), vec![event(1, "x"), event(2, "x")], true)
        .unwrap();
    while store.prune() {}
    let reader = Reader::new(folder.path());
    assert!(reader.operation(OpId(2)).unwrap().is_none());
    assert!(reader.operation(OpId(3)).unwrap().is_some());
    let left = reader.events_since(0, 10).unwrap();
    assert_eq!(left.len(), 1, "the newest stays: the numbers go on from it");
}

/// How SQLite goes about a question.
fn plan(store: &Store, sql: &str) -> String {
    let mut statement = store
        .connection()
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let parameters = statement.parameter_count();
    let rows = statement
        .query_map(rusqlite::params_from_iter(vec![1; parameters]), |row| {
            row.get::<_, String>(3)
        })
        .unwrap();
    rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
}

#[test]
fn no_question_reads_the_whole_table() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), Retention::default(), Vec::new());
    for sql in [
        OF_ALL,
        OF_LUN,
        EVENTS_SINCE,
        EVENTS_BEFORE,
        "SELECT json FROM ops WHERE id = ?1",
        "SELECT seq FROM steps WHERE op = ?1 ORDER BY seq",
    ] {
        let plan = plan(&store, sql);
        assert!(
            plan.starts_with("SEARCH ") && !plan.contains("TEMP B-TREE"),
            "{sql}: {plan}"
        );
    }
    // What the start asks.
    let plan = plan(&store, "SELECT json FROM ops WHERE ended IS NULL");
    assert!(plan.contains("ops_unfinished"), "{plan}");
}

/// A ledger of 100,000 operations with their steps and notifications: how long does it take to open
/// it, and to read a page? Prints its figures.
#[test]
#[ignore = "writes 300 MB and takes a minute: cargo test --release -p lund -- --ignored --nocapture hundred"]
fn a_hundred_thousand_operations() {
    let folder = tempfile::tempdir().unwrap();
    let count = 100_000;
    let began = Instant::now();
    fill(folder.path(), count);
    let size = std::fs::metadata(folder.path().join(store::FILE))
        .unwrap()
        .len();
    println!(
        "{count} operations, {} MiB, written in {:?}",
        size >> 20,
        began.elapsed()
    );
    for what in ["after an orderly end", "after a kill"] {
        let began = Instant::now();
        let opened = open(folder.path(), 256).unwrap();
        println!("opened in {:?} {what}", began.elapsed());
        assert_eq!(opened.state.ops.len(), 258);
        assert_eq!(opened.state.last_op, count);
        assert_eq!(opened.state.degraded, None);
        drop(opened);
    }
    let began = Instant::now();
    assert_eq!(Reader::new(folder.path()).fault(), None);
    println!("looked through in {:?}, beside the work", began.elapsed());
    read_pages(folder.path(), count);
    let began = Instant::now();
    let (mut store, _) = Store::open(
        folder.path(),
        256,
        Retention {
            operations: 99_000,
            ..Retention::default()
        },
    );
    let mut steps = 0;
    while store.prune() {
        steps += 1;
    }
    println!(
        "1000 operations forgotten in {steps} steps in {:?}",
        began.elapsed()
    );
}

fn fill(folder: &Path, count: u64) {
    let (mut store, _) = Store::open(
        folder,
        256,
        Retention {
            events: 200_000,
            ..Retention::default()
        },
    );
    let action = Action::SetSync {
        array: "md0".to_owned(),
        word: SyncWord::Recover,
    };
    for id in 1..=count {
        let ended = id % (count / 2) != 1;
        let lun = if id % 4 == 0 { OTHER } else { LUN };
        let ended_at = ended.then_some(Wall(2_000 + id));
        let mut records = vec![Record::Op(Box::new(Op {
            lun,
            ended_at,
            ..op(id, ended)
        }))];
        for seq in 1..=3 {
            let (op, action, at) = (OpId(id), action.clone(), Wall(3));
            records.push(Record::Intent {
                op,
                seq,
                action,
                at,
            });
            records.push(Record::Outcome {
                op,
                seq,
                error: None,
                at,
            });
        }
        let events = vec![
            event(2 * id, "operation on md0: an attached spare is filled"),
            event(2 * id + 1, "operation succeeded: /dev/loop2 in sync"),
        ];
        store.commit(records, events, false).unwrap();
    }
    store.close();
}

fn read_pages(folder: &Path, count: u64) {
    let reader = Reader::new(folder);
    for (what, lun, before) in [
        ("the newest", None, None),
        ("out of the middle", None, Some(OpId(count / 2))),
        (
            "of a LUN, out of the middle",
            Some(OTHER),
            Some(OpId(count / 2)),
        ),
    ] {
        let filter = Filter {
            lun,
            before,
            limit: 1000,
        };
        let began = Instant::now();
        let page = reader.operations(&filter).unwrap();
        println!("1000 operations, {what}, in {:?}", began.elapsed());
        assert_eq!(page.len(), 1000);
    }
    let began = Instant::now();
    let mut seen = 0;
    let mut before = None;
    loop {
        let filter = Filter {
            lun: None,
            before,
            limit: 1000,
        };
        let page = reader.operations(&filter).unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen += page.len();
    }
    println!(
        "all {seen} operations, page by page, in {:?}",
        began.elapsed()
    );
    assert_eq!(u64::try_from(seen), Ok(count));
}

#[test]
fn decisions_are_rows_that_are_forgotten_like_notifications() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention {
        events: 100,
        ..Retention::default()
    };
    let told = |at| Record::Decision(Box::new(decision(at)));
    let records = (0..300).map(told).chain([told(299)]).collect();
    let mut store = filled(folder.path(), retention, records);
    let connection =
        rusqlite::Connection::open(folder.path().join(super::super::store::FILE)).unwrap();
    let count = || -> i64 {
        let sql = "SELECT COUNT(*) FROM decisions WHERE rule = 'grace' AND verdict = 'wait'";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(), 300, "one that is told twice is one");
    while store.prune() {}
    assert_eq!(count(), 100);
    let oldest: i64 = connection
        .query_row("SELECT MIN(at) FROM decisions", [], |row| row.get(0))
        .unwrap();
    assert_eq!(oldest, 200, "the oldest go first");
}
