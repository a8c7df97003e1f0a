//! Programs that are run in a machine beside the service: examples of the crates, built as the tests were.

use std::path::Path;
use std::process::Command;

/// A folder with the example `name` and the script `script` of `tests/vm`, for [`lun_vm::Options::payload`].
pub(crate) fn payload(name: &str, script: &str) -> tempfile::TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let payload = tempfile::tempdir().unwrap();
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--workspace",
            "--example",
            name,
        ])
        .current_dir(root)
        .status()
        .unwrap();
    assert!(built.success());
    // This test lies in TARGET/debug/deps.
    let debug = std::env::current_exe().unwrap();
    let debug = debug.ancestors().nth(2).unwrap();
    let stripped = Command::new("strip")
        .args(["--strip-debug", "-o"])
        .arg(payload.path().join(name))
        .arg(debug.join("examples").join(name))
        .status()
        .unwrap();
    assert!(stripped.success());
    let from = root.join("tests/vm").join(script);
    std::fs::copy(from, payload.path().join(script)).unwrap();
    payload
}
