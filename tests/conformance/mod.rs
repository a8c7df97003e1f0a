//! The rules that VDS documents for `IVdsAsync`, for its codes, for status and health, and for
//! `IVdsLun::Recover`, row by row, through the bus, by a client that is not ours, on a simulated kernel.
//! docs/vds-mapping.md says where the documents contradict each other and what was decided.

mod client;
mod operation;
mod recover;
mod state;

use lun_sim::scenario;
use serde_json::Value;

use crate::rig::Rig;
use client::{Busctl, Refusal};

/// A machine and the bus to it.
struct Stage {
    rig: Rig,
    bus: Busctl,
}

/// A rule, and how it is checked.
struct Row {
    rule: &'static str,
    machine: &'static str,
    check: fn(&mut Stage),
}

impl Stage {
    fn new(machine: &str) -> Self {
        let rig = Rig::start(scenario::by_name(machine).unwrap());
        let bus = Busctl::start(rig.address());
        Self { rig, bus }
    }

    fn find(&mut self, lun: &str) -> Result<String, Refusal> {
        let found = self
            .bus
            .call("/org/lund/Vds1", "Provider", "FindLun", &["s", lun])?;
        Ok(found[0].as_str().unwrap().to_owned())
    }

    /// Path of a LUN.
    fn lun(&mut self, name: &str) -> String {
        self.find(name).unwrap()
    }

    fn recover(&mut self, lun: &str) -> Result<String, Refusal> {
        let path = self.lun(lun);
        path_of(self.bus.call(&path, "Lun", "Recover", &["a{sv}", "0"]))
    }

    fn recover_onto(&mut self, lun: &str, spare: &str) -> Result<String, Refusal> {
        let path = self.lun(lun);
        let arguments = ["a{sv}", "1", "spare", "s", spare];
        path_of(self.bus.call(&path, "Lun", "Recover", &arguments))
    }

    /// HRESULT and percentage.
    fn status(&mut self, op: &str) -> (u32, u64) {
        let answer = self.bus.call(op, "Async", "QueryStatus", &[]).unwrap();
        (code(&answer[0]), answer[1].as_u64().unwrap())
    }

    /// HRESULT and output type.
    fn wait(&mut self, op: &str) -> (u32, i64) {
        let answer = self.bus.call(op, "Async", "Wait", &["t", "0"]).unwrap();
        (code(&answer[0]), answer[1].as_i64().unwrap())
    }

    fn cancel(&mut self, op: &str) -> Result<Value, Refusal> {
        self.bus.call(op, "Async", "Cancel", &["a{sv}", "0"])
    }
}

fn code(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn path_of(answer: Result<Value, Refusal>) -> Result<String, Refusal> {
    Ok(answer?[0].as_str().unwrap().to_owned())
}

/// A call was refused with exactly this code and under this name.
fn refused<T: std::fmt::Debug>(answer: Result<T, Refusal>, name: &str, hresult: u32) {
    let refusal = answer.expect_err(name);
    assert_eq!(
        (refusal.name.as_str(), refusal.hresult),
        (name, hresult),
        "{:#x}: {}",
        refusal.hresult,
        refusal.message
    );
    // HRESULT layout: failures have bit 31 set, VDS codes are of FACILITY_ITF, Win32 codes of 7.
    assert_eq!(hresult >> 31, 1);
    assert!(matches!((hresult >> 16) & 0x7ff, 4 | 7), "{hresult:#x}");
    assert!(!refusal.message.is_empty());
}

/// Plays the rows, each on a machine of its own; all that fail are told.
fn play(rows: &[Row]) {
    let mut failed = Vec::new();
    for row in rows {
        let outcome = std::panic::catch_unwind(|| {
            let mut stage = Stage::new(row.machine);
            (row.check)(&mut stage);
            stage.rig.sound();
        });
        if outcome.is_err() {
            failed.push(row.rule);
        }
    }
    assert!(failed.is_empty(), "rules broken: {failed:#?}");
}
