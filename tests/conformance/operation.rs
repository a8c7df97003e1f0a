//! `IVdsAsync`: the object's state, and its three methods.

use super::{Row, Stage, play, refused};

const S_OK: u32 = 0;
const PENDING: u32 = 0x8004_2409;
const CANCELED: u32 = 0x8004_240d;
/// `VDS_ASYNCOUT_RECOVERLUN`.
const RECOVER_LUN: i64 = 56;

const ROWS: &[Row] = &[
    Row {
        rule: "the output type is set when the object is made and never changes; 56 for Recover",
        machine: "mirror-degraded",
        check: |stage| {
            let op = stage.recover_onto("md0", "sdc").unwrap();
            assert_eq!(stage.bus.number(&op, "Async", "OutputType"), RECOVER_LUN);
            stage.rig.fast();
            assert_eq!(stage.wait(&op), (S_OK, RECOVER_LUN));
            assert_eq!(stage.bus.number(&op, "Async", "OutputType"), RECOVER_LUN);
        },
    },
    Row {
        rule: "percentage is 0 to 99 while it runs and only rises; 100 at the end",
        machine: "mirror-degraded",
        check: |stage| {
            let op = stage.recover_onto("md0", "sdc").unwrap();
            let mut last = 0;
            for _ in 0..10 {
                let (hresult, percent) = stage.status(&op);
                assert_eq!(hresult, PENDING);
                assert!((last..100).contains(&percent), "{last}, then {percent}");
                last = percent;
            }
            stage.rig.fast();
            stage.wait(&op);
            assert_eq!(stage.status(&op), (S_OK, 100));
        },
    },
    Row {
        rule: "QueryStatus: VDS_E_OPERATION_PENDING while it runs, the task's own HRESULT afterwards, without blocking",
        machine: "mirror-degraded",
        check: |stage| {
            let op = stage.recover_onto("md0", "sdc").unwrap();
            assert_eq!(stage.status(&op).0, PENDING);
            stage.rig.fast();
            stage.wait(&op);
            assert_eq!(stage.status(&op).0, S_OK);
        },
    },
    Row {
        rule: "the signal is off while it runs: Wait with a limit ends with VDS_E_TIMEOUT and leaves the task alone",
        machine: "mirror-degraded",
        check: |stage| {
            let op = stage.recover_onto("md0", "sdc").unwrap();
            let answer = stage.bus.call(&op, "Async", "Wait", &["t", "10"]);
            refused(answer, "Timeout", 0x8004_245f);
            assert_eq!(stage.status(&op).0, PENDING);
        },
    },
    Row {
        rule: "Wait and QueryStatus may be repeated after the end, and say the same",
        machine: "mirror",
        check: |stage| {
            let op = stage.recover("md0").unwrap();
            for _ in 0..3 {
                assert_eq!(stage.wait(&op), (S_OK, RECOVER_LUN));
                assert_eq!(stage.status(&op), (S_OK, 100));
            }
        },
    },
    Row {
        rule: "what is found before the object is handed out is the return value of the starting call",
        machine: "raid0",
        check: |stage| {
            refused(stage.recover("md0"), "InvalidOperation", 0x8004_2415);
            let ops = stage.bus.call(
                "/org/lund/Vds1",
                "Provider",
                "QueryOperations",
                &["a{sv}", "0"],
            );
            let ops = ops.unwrap()[0].as_str().unwrap().to_owned();
            let ops: serde_json::Value = serde_json::from_str(&ops).unwrap();
            assert_eq!(ops["operations"].as_array().map(Vec::len), Some(0), "{ops}");
        },
    },
    Row {
        rule: "what happens later is told by Wait and QueryStatus alone: both HRESULTs have to be looked at",
        machine: "mirror-degraded",
        check: |stage| {
            stage.rig.sim.with(|world| {
                world.device_mut("sdc").unwrap().fails_at = Some(1000);
            });
            let op = stage.recover_onto("md0", "sdc").unwrap();
            stage.rig.fast();
            let (hresult, output) = stage.wait(&op);
            assert_eq!(
                hresult >> 31,
                1,
                "the task failed, the call did not: {hresult:#x}"
            );
            assert_ne!(hresult, PENDING);
            assert_eq!(output, RECOVER_LUN);
            // Finished is 100 here, also after a failure (docs/vds-mapping.md).
            assert_eq!(stage.status(&op), (hresult, 100));
        },
    },
    Row {
        rule: "Cancel: the task's HRESULT becomes VDS_E_OPERATION_CANCELED and the signal is set",
        machine: "mirror-degraded",
        check: |stage| {
            let op = stage.recover_onto("md0", "sdc").unwrap();
            stage.cancel(&op).unwrap();
            assert_eq!(stage.wait(&op), (CANCELED, RECOVER_LUN));
            assert_eq!(stage.status(&op), (CANCELED, 100));
        },
    },
    Row {
        rule: "Cancel of what was cancelled: VDS_E_OPERATION_CANCELED",
        machine: "mirror-degraded",
        check: |stage| {
            let op = stage.recover_onto("md0", "sdc").unwrap();
            stage.cancel(&op).unwrap();
            stage.wait(&op);
            refused(stage.cancel(&op), "OperationCanceled", CANCELED);
        },
    },
    Row {
        rule: "Cancel of what has ended: VDS_E_CANCEL_TOO_LATE, and the object's state is untouched",
        machine: "mirror",
        check: |stage| {
            let op = stage.recover("md0").unwrap();
            refused(stage.cancel(&op), "CancelTooLate", 0x8004_240c);
            assert_eq!(stage.status(&op), (S_OK, 100));
        },
    },
    Row {
        rule: "dropping the last reference does not cancel: the operation goes on without its client",
        machine: "mirror-degraded",
        check: |stage| {
            // Each call of busctl is a connection of its own, closed when it has its answer.
            let op = stage.recover_onto("md0", "sdc").unwrap();
            stage.rig.fast();
            assert_eq!(stage.wait(&op).0, S_OK);
        },
    },
];

#[test]
fn the_rules_of_async_objects() {
    play(ROWS);
}

/// The reference client of the documentation: call, look at the HRESULT, look at the object, wait, look
/// at both HRESULTs, look at the type.
#[test]
fn the_order_of_the_reference_client() {
    let mut stage = Stage::new("mirror-degraded");
    let op = stage.recover_onto("md0", "sdc").unwrap();
    assert_ne!(op, "/");
    stage.rig.fast();
    let (task, kind) = stage.wait(&op);
    assert_eq!((task, kind), (S_OK, RECOVER_LUN));
}
