//! The package of Debian: installed, upgraded under a running operation, removed, purged.

use std::path::{Path, PathBuf};
use std::process::Command;

use lun_vm::{Options, Vm};

use super::lab::Lab;

fn made(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", program.display());
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with the lab and with the package in two versions, `lund_old.deb` and `lund_new.deb`.
fn payload(folder: &Path) {
    let house: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .into();
    let text = folder.to_str().unwrap();
    made(&house.join("scripts/payload"), &[text]);
    for (name, version) in [("old", "0.0.9-1"), ("new", "0.1.0-1")] {
        let arguments = ["--no-build", "--out", text, "--version", version];
        let deb = made(&house.join("scripts/package"), &arguments);
        let named = folder.join(format!("lund_{name}.deb"));
        std::fs::rename(deb.trim(), named).unwrap();
    }
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_the_package_comes_is_renewed_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    payload(folder.path());
    let mut options = Options::from_env("package").unwrap();
    options.payload = Some(folder.path().to_owned());
    let lab = Lab {
        vm: Vm::start(&options).unwrap_or_else(|error| panic!("{error}")),
    };
    // Nothing is to happen by itself but what this test asks for.
    lab.sh("mkdir -p /etc/lund/lund.d; printf '[recovery]\\nmode = \"off\"\\n' >/etc/lund/lund.d/50-lab.toml");
    lab.sh("export DEBIAN_FRONTEND=noninteractive; apt-get install -y -q /opt/lund/lund_old.deb 2>&1 | cat; \
            [ \"$(systemctl is-active lund)\" = active ]; [ \"$(systemctl is-enabled lund)\" = enabled ]; \
            dpkg --verify lund; lunctl list >/dev/null; \
            journalctl -x -u lund --no-pager | grep -q 'Defined-By: lund' || journalctl --list-catalog | grep -q 'lund:'");
    lab.sh(
        "disks 2 32; disks 1 32 8; array md0 raid1 2 --bitmap=none; fill md0; lose md0 loop1; \
            blank loop1; slow md0 100; echo '# mine' >>/etc/lund/lund.toml",
    );
    lab.ok("spare add /dev/loop8");
    let op = lab.ok("recover md0")["id"].clone();
    lab.until("md0", "under way", |lun| {
        lun["operation"]["percent"].as_u64() > Some(0)
    });

    lab.sh("export DEBIAN_FRONTEND=noninteractive; was=$(systemctl show --value -p MainPID lund); \
            apt-get install -y -q /opt/lund/lund_new.deb 2>&1 | cat; \
            [ \"$(dpkg-query -W -f '${Version}' lund)\" = 0.1.0-1 ]; \
            [ \"$(systemctl is-active lund)\" = active ]; \
            [ \"$(systemctl show --value -p MainPID lund)\" != \"$was\" ]; grep -q mine /etc/lund/lund.toml");
    let again = lab.ok(&format!("status {op}"));
    assert_eq!(
        again["hresult_name"], "VDS_E_OPERATION_PENDING",
        "{again:#}"
    );
    lab.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y -q --reinstall /opt/lund/lund_new.deb 2>&1 | cat");
    let again = lab.ok(&format!("status {op}"));
    assert_eq!(
        again["hresult_name"], "VDS_E_OPERATION_PENDING",
        "{again:#}"
    );

    // Cancelled, so held and frozen; who keeps it so goes, and so does the hold.
    let frozen = "[ \"$(cat /sys/block/md0/md/sync_action)\" = frozen ]";
    lab.ok(&format!("cancel {op}"));
    lab.sh(frozen);
    lab.sh(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get remove -y -q lund >/tmp/removed 2>&1; cat /tmp/removed; \
         grep -q 'md0: no longer held' /tmp/removed; ! {frozen}; ! pgrep -x lund; \
         test -s /var/lib/lund/lund.db; test -e /etc/lund/lund.toml; ! test -e /usr/sbin/lund"
    ));
    lab.sh(
        "DEBIAN_FRONTEND=noninteractive apt-get install -y -q /opt/lund/lund_new.deb 2>&1 | cat",
    );
    let lun = lab.until("md0", "under way", |lun| !lun["operation"].is_null());
    lab.ok(&format!("cancel {}", lun["operation"]["id"]));
    lab.sh(frozen);
    lab.sh(&format!(
        "rm /etc/lund/lund.d/50-lab.toml; DEBIAN_FRONTEND=noninteractive apt-get purge -y -q lund 2>&1 | cat; ! {frozen}; ! pgrep -x lund; \
         ! test -e /var/lib/lund; ! test -e /etc/lund; ! test -e /run/lund; \
         [ \"$(systemctl show --value -p LoadState lund)\" = not-found ]; fast md0"
    ));
    // The kernel ends what it was doing, with nobody to look after it.
    lab.sh("idle md0; healthy md0 2; consistent md0; same md0");
}
