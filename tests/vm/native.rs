//! What lund writes on a fresh spare is what `mdadm --add-spare` writes, byte for byte where it has a
//! meaning, and the kernel takes it for that (ADR 0018).

use std::time::Duration;

use lun_vm::{Options, Vm};

use super::program;

const PATIENCE: Duration = Duration::from_secs(600);

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_spare_is_what_mdadm_makes_of_it() {
    let payload = program::payload("act", "native.sh");
    let mut options = Options::from_env("native").unwrap();
    options.payload = Some(payload.path().to_owned());
    let mut vm = Vm::start(&options).unwrap_or_else(|error| panic!("{error}"));
    let output = vm
        .run_with_deadline("bash /opt/lund/native.sh", PATIENCE)
        .unwrap_or_else(|error| panic!("{error}"));
    let (told, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if output.status != 0 {
        vm.keep_evidence();
    }
    assert_eq!(output.status, 0, "{told}\n{said}");
    // Five levels with and without a bitmap, and two that are left to mdadm.
    assert_eq!(told.matches("the same").count(), 11, "{told}\n{said}");
    assert_eq!(told.matches("left to mdadm").count(), 2, "{told}\n{said}");
}
