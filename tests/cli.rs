//! `lunctl` as scripts meet it: exit codes and documents.

mod complete;
mod host;
mod manners;
mod past;
mod watch;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use lun_core::model::Health;
use serde_json::Value;

use crate::rig::{Rig, User};

/// The program, built beside this test's own binary unless it is there and new enough.
fn lunctl() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // target/debug/deps/all-1234: the profile's folder is two up, the target folder three.
        let own = std::env::current_exe().unwrap();
        let profile = own.ancestors().nth(2).unwrap();
        let program = profile.join("lunctl");
        let built = program.metadata().and_then(|data| data.modified());
        let house = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let sources = ["src/core", "src/ipc", "src/lunctl"].map(|folder| house.join(folder));
        if built.is_ok_and(|built| sources.iter().all(|folder| newest(folder) <= built)) {
            return program;
        }
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "lunctl", "--target-dir"]);
        build.arg(profile.parent().unwrap()).current_dir(house);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "lunctl cannot be built");
        program
    })
}

/// Runs a test on a machine, once the program is there: to build it may take longer than a test may.
pub(crate) fn on(scenario: &str, test: impl AsyncFnOnce(&Rig, User)) {
    lunctl();
    crate::rig::on(scenario, test);
}

/// When the newest file below a folder was changed.
fn newest(folder: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in folder.read_dir().unwrap().map(Result::unwrap) {
        let data = entry.metadata().unwrap();
        let changed = if data.is_dir() {
            self::newest(&entry.path())
        } else {
            data.modified().unwrap()
        };
        newest = newest.max(changed);
    }
    newest
}

/// What a run of `lunctl` ended with.
#[derive(Debug)]
pub(crate) struct Run {
    code: i32,
    pub(crate) stdout: String,
    stderr: String,
}

impl Run {
    /// Its one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same run, which must have ended with this code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Asserts that the document is an error of this name.
    #[track_caller]
    fn error(&self, name: &str) {
        let error = &self.json()["error"];
        assert_eq!(error["name"], name, "{self:?}");
        assert!(
            error["hresult"].as_str().unwrap().starts_with("0x"),
            "{self:?}"
        );
        assert!(!error["message"].as_str().unwrap().is_empty(), "{self:?}");
        assert!(error.get("hint").is_some(), "{self:?}");
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn command(address: &str, line: &str) -> Command {
    let mut command = Command::new(lunctl());
    command
        .args(line.split_whitespace())
        .env("LUND_BUS", address)
        .stdin(Stdio::null());
    command
}

/// Runs `lunctl` to its end, off the test's own loop.
pub(crate) async fn run(rig: &Rig, line: &str) -> Run {
    let mut command = command(rig.address(), line);
    tokio::task::spawn_blocking(move || command.output().unwrap().into())
        .await
        .unwrap()
}

/// Runs `lunctl --json` to its end.
pub(crate) async fn json(rig: &Rig, line: &str) -> Run {
    run(rig, &format!("{line} --json")).await
}

async fn rebuilding(user: &User) {
    user.until_lun("md0", "rebuilding", |lun| lun.health == Health::Rebuilding)
        .await;
}

#[test]
fn recover_and_wait_is_one_line() {
    on("mirror-degraded", async |rig, _user| {
        rig.fast();
        json(rig, "spare add /dev/sdc").await.exits(0);
        let op = json(rig, "recover md0 --wait --timeout 5m")
            .await
            .exits(0)
            .json();
        assert_eq!(op["state"], "succeeded");
        assert_eq!(op["percent"], 100);
        assert_eq!(op["hresult"], "0x00000000");
        assert_eq!(op["async_output"], "VDS_ASYNCOUT_RECOVERLUN");
        let lun = json(rig, "show md0").await.exits(0).json();
        assert_eq!(lun["health"], "VDS_H_HEALTHY");
        assert_eq!(lun["redundancy"]["members_in_sync"], 2);
        rig.sound();
    });
}

#[test]
fn every_listing_is_one_document() {
    on("zoo", async |rig, _user| {
        let luns = json(rig, "list").await.exits(0).json();
        assert_eq!(luns["luns"].as_array().unwrap().len(), 7);
        assert!(json(rig, "drives").await.exits(0).json()["drives"].is_array());
        assert!(json(rig, "ops --all").await.exits(0).json()["operations"].is_array());
        assert!(json(rig, "spare list").await.exits(0).json()["drives"].is_array());
        json(rig, "refresh").await.exits(0);
        json(rig, "reenumerate").await.exits(0);
        for line in ["list", "show md0", "drives", "ops --all", "spare list"] {
            let text = run(rig, line).await.exits(0).stdout;
            assert!(!text.trim_start().starts_with('{'), "{line}: {text}");
        }
    });
}

#[test]
fn refusals_have_their_own_exit_codes() {
    on("zoo", async |rig, _user| {
        for (line, code, name) in [
            ("recover md2", 4, "VDS_E_INVALID_OPERATION"),
            ("recover md3", 4, "VDS_E_OBJECT_STATUS_FAILED"),
            ("recover md4", 4, "VDS_E_READONLY"),
            ("recover md5", 4, "VDS_E_LUN_OFFLINE"),
            ("recover md77", 3, "VDS_E_OBJECT_NOT_FOUND"),
            ("recover md0", 4, "VDS_E_NOT_ENOUGH_DRIVE"),
            ("recover md0 --spare nonesuch", 3, "VDS_E_OBJECT_NOT_FOUND"),
            ("recover md0 --spare sdy", 4, "VDS_E_MEMBER_SIZE_INVALID"),
            ("status 4711", 3, "VDS_E_OBJECT_NOT_FOUND"),
            ("spare add sdz", 4, "VDS_E_OPERATION_DENIED"),
        ] {
            json(rig, line).await.exits(code).error(name);
        }
        let plain = run(rig, "recover md2").await.exits(4);
        assert!(plain.stderr.starts_with("error: "), "{plain:?}");
        assert!(plain.stdout.is_empty(), "{plain:?}");
    });
}

#[test]
fn bad_arguments_exit_2() {
    on("empty", async |rig, _user| {
        for line in [
            "",
            "frobnicate",
            "recover",
            "wait 1 --timeout soon",
            "recover md0 --spare",
        ] {
            let failed = run(rig, line).await.exits(2);
            assert!(!failed.stderr.is_empty(), "{line}: {failed:?}");
        }
        json(rig, "wait 1 --timeout never")
            .await
            .exits(2)
            .error("E_INVALIDARG");
    });
}

#[test]
fn busy_cancelled_and_timed_out_are_told_apart() {
    on("mirror-degraded", async |rig, user| {
        json(rig, "spare add sdc").await.exits(0);
        let id = json(rig, "recover md0").await.exits(0).json()["id"].clone();
        rebuilding(&user).await;
        json(rig, "recover md0")
            .await
            .exits(5)
            .error("VDS_E_ANOTHER_CALL_IN_PROGRESS");
        json(rig, "wait md0 --timeout 1").await.exits(8);
        assert_eq!(json(rig, "status md0").await.exits(0).json()["id"], id);
        let waiter = command(rig.address(), &format!("wait {id} --json"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let cancelled = json(rig, &format!("cancel {id}")).await.exits(0).json();
        assert_eq!(cancelled["state"], "cancelled");
        let waited = tokio::task::spawn_blocking(move || waiter.wait_with_output().unwrap());
        Run::from(waited.await.unwrap()).exits(6);
        json(rig, &format!("cancel {id}"))
            .await
            .exits(6)
            .error("VDS_E_OPERATION_CANCELED");
        assert_eq!(json(rig, "show md0").await.exits(0).json()["held"], true);
        rig.fast();
        let held = json(rig, "release --all").await.exits(0).json();
        assert_eq!(held["luns"][0]["name"], "md0", "{held:#}");
        let none = json(rig, "release --all").await.exits(0).json();
        assert_eq!(none["luns"].as_array().map(Vec::len), Some(0), "{none:#}");
        json(rig, "release md0").await.exits(0);
        user.until_lun("md0", "healthy", |lun| lun.health == Health::Healthy)
            .await;
        rig.sound();
    });
}

#[test]
fn a_dry_run_changes_nothing() {
    on("mirror-degraded", async |rig, _user| {
        json(rig, "spare add sdc").await.exits(0);
        let plan = json(rig, "recover md0 --dry-run").await.exits(0).json();
        assert!(plan["plan"]["steps"].is_array(), "{plan:#}");
        assert_eq!(
            plan["plan"]["candidates"][0]["drive"]["name"], "sdc",
            "{plan:#}"
        );
        let text = run(rig, "recover md0 --dry-run").await.exits(0).stdout;
        assert!(text.contains("/dev/sdc"), "{text}");
        assert!(rig.sim.with(|world| world.log.is_empty()));
        assert_eq!(
            json(rig, "ops --all").await.json()["operations"],
            serde_json::json!([])
        );
    });
}

#[test]
fn an_operation_that_failed_exits_1() {
    on("mirror-degraded", async |rig, _user| {
        rig.sim
            .with(|world| world.device_mut("sdc").unwrap().fails_at = Some(1000));
        rig.fast();
        json(rig, "spare add sdc").await.exits(0);
        let op = json(rig, "recover md0 --wait").await.exits(1).json();
        assert_eq!(op["state"], "failed", "{op:#}");
        assert!(!op["message"].as_str().unwrap().is_empty());
    });
}

#[test]
fn a_kernel_that_contradicts_itself_exits_10() {
    on("mirror", async |rig, _user| {
        rig.sim.with(|world| {
            world.lose_hints = true;
            world.arrays.get_mut("md0").unwrap().uuid = lun_core::id::LunId::weak("other").0;
        });
        json(rig, "recover md0")
            .await
            .exits(10)
            .error("VDS_E_PROVIDER_CACHE_CORRUPT");
        json(rig, "refresh").await.exits(0);
        json(rig, "recover md0").await.exits(0);
    });
}

#[test]
fn a_service_that_is_not_there_exits_9() {
    lunctl();
    let mut rig = Rig::start(lun_sim::scenario::by_name("empty").unwrap());
    rig.stop_service();
    crate::rig::block_on(async {
        for line in ["list", "recover md0", "spare list"] {
            json(&rig, line)
                .await
                .exits(9)
                .error("ERROR_SERVICE_NOT_ACTIVE");
        }
    });
    let nowhere = command("unix:path=/nonexistent/bus", "list")
        .output()
        .unwrap();
    Run::from(nowhere).exits(9);
}
