//! A machine with lund installed and running, and what the tests ask of it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use lun_vm::{Options, Output, Running, Vm};
use serde_json::Value;

/// Nothing that a test waits for takes this long, even emulated on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A guest with the service running.
pub(crate) struct Lab {
    pub(crate) vm: Vm,
}

/// How `lunctl` ended.
#[derive(Debug)]
pub(crate) struct Cli {
    pub(crate) status: i32,
    pub(crate) json: Value,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Lab {
    /// A guest with the service started and known on the bus.
    pub(crate) fn start(name: &str) -> Self {
        let lab = Self::without_service(name);
        lab.sh("systemctl start lund");
        lab
    }

    /// A guest with the service installed and not started.
    pub(crate) fn without_service(name: &str) -> Self {
        Self::with_disks(name, Vec::new())
    }

    /// The same, booted cold with disks of these sizes whose write cache a power cut loses.
    pub(crate) fn with_disks(name: &str, disks: Vec<u64>) -> Self {
        let mut options = Options::from_env(name).unwrap();
        options.payload = Some(payload().to_owned());
        options.disks = disks;
        let vm = Vm::start(&options).unwrap_or_else(|error| panic!("{error}"));
        let lab = Self { vm };
        // A folder below which to install keeps the script from reloading systemd, which takes long
        // here and is not needed for a unit that was never loaded.
        // Nothing happens by itself unless a test wants it: what each of them sets going is what it sees.
        lab.sh(
            "/opt/lund/dist/install.sh --from /opt/lund/bin --destdir / >/dev/null; \
             mkdir -p /etc/lund/lund.d; \
             printf '[recovery]\\nmode = \"off\"\\n' >/etc/lund/lund.d/50-lab.toml; \
             busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig",
        );
        lab
    }

    /// Runs a script with the lab's functions; anything but success is the test's failure.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.run(script);
        assert_eq!(
            output.status,
            0,
            "{script}\n--- stdout\n{}\n--- stderr\n{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs a script with the lab's functions.
    pub(crate) fn run(&self, script: &str) -> Output {
        self.vm
            .run_with_deadline(&sourced(script), PATIENCE)
            .unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Starts a script that goes on beside the test.
    pub(crate) fn spawn(&self, script: &str) -> Running {
        self.vm
            .spawn(&sourced(script))
            .unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Runs `lunctl --json`.
    pub(crate) fn lunctl(&self, arguments: &str) -> Cli {
        let output = self.run(&format!("lunctl {arguments} --json"));
        let stdout = text(&output.stdout);
        let json = serde_json::from_str(&stdout).unwrap_or(Value::Null);
        Cli {
            status: output.status,
            json,
            stdout,
            stderr: text(&output.stderr),
        }
    }

    /// Runs `lunctl --json`, which must end with 0.
    pub(crate) fn ok(&self, arguments: &str) -> Value {
        let cli = self.lunctl(arguments);
        assert_eq!(
            cli.status, 0,
            "lunctl {arguments}: {}\n{}",
            cli.stdout, cli.stderr
        );
        assert!(
            !cli.json.is_null(),
            "lunctl {arguments}: no JSON: {}",
            cli.stdout
        );
        cli.json
    }

    /// Runs `lunctl --json`, which must be refused with this exit code and this HRESULT.
    pub(crate) fn refused(&self, arguments: &str, status: i32, name: &str) -> Value {
        let cli = self.lunctl(arguments);
        let error = &cli.json["error"];
        assert_eq!(
            error["name"], name,
            "lunctl {arguments}: {}\n{}",
            cli.stdout, cli.stderr
        );
        assert_eq!(
            cli.status, status,
            "lunctl {arguments}: {}\n{}",
            cli.stdout, cli.stderr
        );
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty())
        );
        error.clone()
    }

    /// Asks until the service shows this of a LUN; bounded, and each question takes its time.
    pub(crate) fn until(&self, lun: &str, what: &str, test: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..600 {
            last = self.lunctl(&format!("show {lun}")).json;
            if test(&last) {
                return last;
            }
        }
        panic!(
            "{lun} does not become {what}: {last:#}\n{}",
            self.sh("cat /proc/mdstat")
        );
    }

    /// Asks until the service no longer knows it.
    pub(crate) fn until_gone(&self, lun: &str) {
        let gone = (0..300).any(|_| self.lunctl(&format!("show {lun}")).status == 3);
        assert!(gone, "{lun} is still there");
    }

    /// The data, every copy of it, and mdadm's opinion.
    pub(crate) fn whole(&self, array: &str, members: u32) {
        self.sh(&format!(
            "idle {array}; healthy {array} {members}; consistent {array}; same {array}"
        ));
        let lun = self.until(array, "idle", |lun| lun["operation"].is_null());
        assert_eq!(lun["health"], "VDS_H_HEALTHY", "{lun:#}");
        assert_eq!(lun["status"], "VDS_LS_ONLINE", "{lun:#}");
        assert_eq!(lun["redundancy"]["members_in_sync"], members, "{lun:#}");
        assert_eq!(lun["held"], false, "{lun:#}");
    }

    /// The data is what was written at first.
    pub(crate) fn same(&self, array: &str) {
        self.sh(&format!("same {array}"));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn sourced(script: &str) -> String {
    format!(". /opt/lund/lab.sh\n{script}")
}

fn repo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The folder that every guest finds in `/opt/lund`: binaries, service files, the lab's script.
fn payload() -> &'static Path {
    static PAYLOAD: OnceLock<tempfile::TempDir> = OnceLock::new();
    PAYLOAD
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let made = Command::new(repo().join("scripts/payload"))
                .arg(dir.path())
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", text(&made.stderr));
            dir
        })
        .path()
}
