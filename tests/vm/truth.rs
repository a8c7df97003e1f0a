//! The simulator told the truth: what a real kernel does with the scenarios of `lun_sim::truth` is
//! what is recorded of it, and a test of the simulator compares that with what it does itself.

use std::fmt::Write as _;
use std::time::Duration;

use lun_sim::KernelStyle;
use lun_sim::truth::{self, script::Kind};
use lun_vm::{Kernel, Options, Vm};

use super::program;

/// All scenarios, emulated on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(900);

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_kernel_does_what_was_recorded() {
    does_what_was_recorded("truth", |kind| kind != Kind::Volumes);
}

/// LVM's tools take most of the time of theirs.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn lvm_does_what_was_recorded() {
    does_what_was_recorded("truth-lvm", |kind| kind == Kind::Volumes);
}

fn does_what_was_recorded(machine: &str, chosen: impl Fn(Kind) -> bool) {
    let scripts = truth::scripts().unwrap();
    let names: Vec<&str> = scripts
        .iter()
        .filter(|script| chosen(script.kind))
        .map(|script| script.name.as_str())
        .collect();
    let payload = program::payload("truth", "truth.sh");
    let mut options = Options::from_env(machine).unwrap();
    options.payload = Some(payload.path().to_owned());
    let style = match options.kernel {
        Kernel::Bookworm => KernelStyle::V6_1,
        Kernel::Trixie => KernelStyle::V6_12,
        Kernel::Sid => KernelStyle::V7,
    };
    let mut vm = Vm::start(&options).unwrap_or_else(|error| panic!("{error}"));
    let output = vm
        .run_with_deadline(
            &format!("bash /opt/lund/truth.sh {}", names.join(" ")),
            PATIENCE,
        )
        .unwrap_or_else(|error| panic!("{error}"));
    let (seen, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status, 0, "{said}");
    let told = differences(&seen, truth::recording(style), &names);
    if !told.is_empty() {
        vm.keep_evidence();
    }
    assert!(
        told.is_empty(),
        "scripts/truth --record renews what is recorded, should the kernel be right\n{told}"
    );
}

/// Where two texts of transcripts differ, with scenario and step.
fn differences(seen: &str, recorded: &str, names: &[&str]) -> String {
    let mut told = String::new();
    let scenarios = |text: &str| -> Vec<Vec<String>> {
        text.split("scenario ")
            .skip(1)
            .map(|part| part.lines().map(str::to_owned).collect())
            .collect()
    };
    let (seen, recorded) = (scenarios(seen), scenarios(recorded));
    for expected in &recorded {
        let name = &expected[0];
        if !names.contains(&name.as_str()) {
            continue;
        }
        let Some(found) = seen.iter().find(|found| found[0] == *name) else {
            let _ = writeln!(told, "{name}: was not run");
            continue;
        };
        let mut step = "";
        for at in 0..expected.len().max(found.len()) {
            let (old, new) = (expected.get(at), found.get(at));
            if let Some(line) = new.filter(|line| line.contains(" -> ")) {
                step = line.trim();
            }
            if old != new {
                let none = "(nothing)".to_owned();
                let _ = writeln!(
                    told,
                    "{name}, at `{step}`\n  recorded: {}\n  seen:     {}",
                    old.unwrap_or(&none).trim(),
                    new.unwrap_or(&none).trim()
                );
                break;
            }
        }
    }
    told
}
