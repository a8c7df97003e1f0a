//! Each refusal with its exact HRESULT, name and exit code, on a real kernel.

use super::lab::Lab;

/// The five codes of the VDS page of `IVdsLun::Recover`.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_the_five_codes_of_the_page() {
    let lab = Lab::start("five");
    lab.sh(
        "disks 8; FIRST=0 array md0 raid0 2; FIRST=2 array md1 raid1 2 --bitmap=none; \
            FIRST=4 array md2 raid5 3 --bitmap=none",
    );
    lab.until("md2", "there", |lun| lun["health"] == "VDS_H_HEALTHY");
    let error = lab.refused("recover md0", 4, "VDS_E_INVALID_OPERATION");
    assert_eq!(error["hresult"], "0x80042415");
    assert!(error["message"].as_str().unwrap().contains("md0"));
    // Failed: a raid5 that lost two.
    lab.sh("mdadm --quiet --fail /dev/md2 /dev/loop4 2>&1; mdadm --quiet --fail /dev/md2 /dev/loop5 2>&1 || true");
    let lun = lab.until("md2", "failed", |lun| lun["status"] == "VDS_LS_FAILED");
    assert_eq!(lun["health"], "VDS_H_FAILED", "{lun:#}");
    let error = lab.refused("recover md2", 4, "VDS_E_OBJECT_STATUS_FAILED");
    assert_eq!(error["hresult"], "0x80042431");
    // Busy: a check runs.
    lab.sh("slow md1 500; echo check >/sys/block/md1/md/sync_action");
    let error = lab.refused("recover md1", 5, "VDS_E_ANOTHER_CALL_IN_PROGRESS");
    assert_eq!(error["hresult"], "0x80042404");
    lab.sh("echo idle >/sys/block/md1/md/sync_action");
    // Deleted, and never known.
    lab.sh("mdadm --quiet --stop /dev/md1; udevadm settle");
    lab.until_gone("md1");
    let error = lab.refused("recover md1", 3, "VDS_E_OBJECT_DELETED");
    assert_eq!(error["hresult"], "0x8004240b");
    lab.refused("recover md77", 3, "VDS_E_OBJECT_NOT_FOUND");
}

/// An array re-created under its old name while nobody could look.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn cache_corrupt_until_refreshed() {
    let lab = Lab::start("corrupt");
    lab.sh("disks 4; array md0 raid1 2 --bitmap=none; fill md0");
    let before = lab.until("md0", "there", |lun| lun["health"] == "VDS_H_HEALTHY");
    lab.sh(
        "systemctl kill --signal=STOP lund; mdadm --quiet --stop /dev/md0; \
            FIRST=2 array md0 raid1 2 --bitmap=none; systemctl kill --signal=CONT lund",
    );
    let error = lab.refused("recover md0", 10, "VDS_E_PROVIDER_CACHE_CORRUPT");
    assert_eq!(error["hresult"], "0x8004241f");
    assert!(
        error["hint"].as_str().unwrap().contains("refresh"),
        "{error:#}"
    );
    // Nothing settles it but the administrator.
    lab.refused("recover md0 --dry-run", 10, "VDS_E_PROVIDER_CACHE_CORRUPT");
    lab.ok("reenumerate");
    lab.ok("refresh");
    let after = lab.ok("show md0");
    assert_ne!(before["id"], after["id"]);
    assert_eq!(lab.ok("recover md0")["hresult_name"], "S_OK");
    lab.refused(
        &format!("recover {}", before["id"].as_str().unwrap()),
        3,
        "VDS_E_OBJECT_DELETED",
    );
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn states_that_forbid_it() {
    let lab = Lab::start("states");
    lab.sh(
        "disks 6; array md0 raid1 2 --bitmap=none; FIRST=2 array md1 raid5 3 --bitmap=none; \
            mdadm --quiet --readonly /dev/md0",
    );
    lab.until("md0", "read-only", |lun| lun["read_only"] == true);
    lab.refused("recover md0", 4, "VDS_E_READONLY");
    // Half put together, as udev leaves an array of which members do not come: shown, offline.
    let half = lab.sh(
        "mdadm --quiet --readwrite /dev/md0; mdadm --quiet --stop /dev/md1; \
         mdadm --incremental /dev/loop2 >&2; \
         awk '/: inactive/ { print $1 }' /proc/mdstat",
    );
    let half = half.trim();
    assert!(half.starts_with("md"), "{half:?}");
    lab.until(half, "offline", |lun| lun["status"] == "VDS_LS_OFFLINE");
    lab.refused(&format!("recover {half}"), 4, "VDS_E_LUN_OFFLINE");
    lab.refused(
        "recover md0 --spare /dev/nonesuch",
        3,
        "VDS_E_OBJECT_NOT_FOUND",
    );
    lab.sh("lose md0 loop1; blank loop1; disks 1 8 9");
    lab.refused("recover md0", 4, "VDS_E_NOT_ENOUGH_DRIVE");
    lab.refused(
        "recover md0 --spare /dev/loop9",
        4,
        "VDS_E_MEMBER_SIZE_INVALID",
    );
    lab.refused("verify md0", 4, "VDS_E_LUN_NOT_READY");
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn junk_is_answered() {
    let lab = Lab::start("junk");
    lab.sh("disks 2; array md0 raid1 2 --bitmap=none");
    for arguments in [
        "recover",
        "frobnicate",
        "recover md0 --timeout never --wait",
        "wait",
        "status 0x1",
        "cancel 99999999999999999999",
        "recover ''",
        "recover md0 --spare ''",
        "spare add",
    ] {
        let cli = lab.lunctl(arguments);
        assert!((2..=4).contains(&cli.status), "{arguments}: {cli:?}");
        assert!(
            cli.stderr.contains("error:") || !cli.json["error"].is_null(),
            "{cli:?}"
        );
    }
    let long = "x".repeat(100_000);
    assert!(matches!(lab.lunctl(&format!("show {long}")).status, 2 | 3));
    lab.sh("for junk in '' 's x' 'a{sv} 1 spare i 5' 'a{sv} 1 nonsense b true'; do \
            busctl call org.lund.Vds1 /org/lund/Vds1 org.lund.Vds1.Provider FindLun $junk && exit 1; done; true");
    lab.sh(
        "printf '[recovery]\\nmoed = 7\\n' >/etc/lund/lund.toml; systemctl restart lund; \
            journalctl -u lund -b --no-pager | grep -q 'lund.toml'; systemctl is-active lund",
    );
    lab.ok("list");
    // Not root: may read, may not act.
    lab.sh("useradd -M nobody2 2>/dev/null || true; setpriv --reuid=65534 --clear-groups lunctl list >/dev/null");
    let output = lab.run("setpriv --reuid=65534 --clear-groups lunctl recover md0");
    assert_eq!(output.status, 7, "{output:?}");
    let output = lab.run("systemctl stop lund; systemctl mask --runtime lund; lunctl list");
    assert_eq!(output.status, 9, "{output:?}");
}
