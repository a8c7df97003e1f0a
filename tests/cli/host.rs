//! `lunctl --host`: the service of another host. The ssh of these tests is a script that joins its
//! caller to a second bus, as the real one does after a login.

use std::fs::{read_to_string, write};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Run, lunctl, on};

/// A folder to be looked into for programs first, with an `ssh` that notes its arguments.
struct Ssh(TempDir);

impl Ssh {
    fn that(does: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let script = folder.path().join("ssh");
        let arguments = folder.path().join("arguments");
        let arguments = arguments.display();
        let text = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > '{arguments}'\n{does}\n");
        write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    /// One that joins its caller to this bus.
    fn to(address: &str) -> Self {
        Self::that(&format!("exec systemd-stdio-bridge '--bus-path={address}'"))
    }

    /// The arguments that it was started with; none: it was not.
    fn arguments(&self) -> Option<String> {
        read_to_string(self.0.path().join("arguments")).ok()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").unwrap();
        let mut command = Command::new(lunctl());
        command
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.0.path().display()))
            // This host has no such bus: whoever asks it instead fails.
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
            .env_remove("LUND_BUS")
            .stdin(Stdio::null());
        command
    }

    async fn run(&self, line: &str) -> Run {
        let arguments: Vec<&str> = line.split(' ').collect();
        let mut command = self.command(&arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap().into())
            .await
            .unwrap()
    }
}

#[test]
fn another_hosts_service_answers() {
    on("mirror-degraded", async |rig, _user| {
        let ssh = Ssh::to(rig.address());
        rig.fast();
        let lun = ssh.run("-H root@far show md0 --json").await.exits(0).json();
        assert_eq!(lun["health"], "VDS_H_FAILED_REDUNDANCY", "{lun}");
        assert_eq!(
            ssh.arguments().as_deref(),
            Some("-xT\n--\nroot@far\nsystemd-stdio-bridge\n")
        );
        let none = ssh.run("spare list -H far").await.exits(0).stdout;
        assert!(none.contains("`lunctl -H far spare add DRIVE`"), "{none}");
        ssh.run("spare add sdc --host=far").await.exits(0);
        // Signals come over the bridge too.
        let op = ssh.run("recover md0 --wait --json -H far").await.exits(0);
        assert_eq!(op.json()["state"], "succeeded", "{op:?}");
        // What is advised to be typed is about that host.
        let typo = ssh.run("show dm0 -H far").await.exits(3);
        assert!(typo.stderr.contains("did you mean md0?"), "{typo:?}");
        assert!(typo.stderr.contains("`lunctl -H far list`"), "{typo:?}");
        let typo = ssh.run("show dm0 -H far --json").await.exits(3).json();
        let hint = typo["error"]["hint"].as_str().unwrap();
        assert!(hint.contains("`lunctl -H far list`"), "{hint}");
    });
}

#[test]
fn what_is_no_name_of_a_host_never_reaches_ssh() {
    let ssh = Ssh::that("exit 0");
    for (host, why) in [
        ("-oProxyCommand=touch", "option"),
        ("root@-oProxyCommand=touch", "option"),
        ("far;touch", "';'"),
        ("$(touch)", "'$'"),
        ("", "HOST"),
        ("root@", "[USER@]HOST"),
    ] {
        let option = format!("--host={host}");
        let refused: Run = ssh.command(&["list", &option]).output().unwrap().into();
        let refused = refused.exits(2);
        assert!(refused.stderr.contains(why), "{host}: {refused:?}");
    }
    let refused: Run = ssh.command(&["-H", "-oX", "list"]).output().unwrap().into();
    refused.exits(2);
    assert_eq!(ssh.arguments(), None);
}

#[test]
fn a_host_that_cannot_be_reached_exits_9_and_says_where_to_look() {
    let ssh = Ssh::that("echo 'ssh: no route to far' >&2; exit 255");
    let failed: Run = ssh.command(&["list", "-H", "far"]).output().unwrap().into();
    let failed = failed.exits(9);
    assert!(failed.stderr.contains("ssh: no route to far"), "{failed:?}");
    let hint = "hint: run `ssh far systemctl status lund`";
    assert!(failed.stderr.contains(hint), "{failed:?}");
}

#[test]
fn another_host_and_another_bus_are_not_named_together() {
    let ssh = Ssh::that("exit 0");
    let mut command = ssh.command(&["list", "-H", "far", "--json"]);
    let refused: Run = command.env("LUND_BUS", "session").output().unwrap().into();
    refused.exits(2).error("E_INVALIDARG");
    assert_eq!(ssh.arguments(), None);
}
