//! Cancel, held, resume, release, and what hangs.

use super::lab::{Lab, PATIENCE};

/// A degraded mirror of 32 MiB with a pool spare, its rebuild running at a crawl.
fn rebuilding(name: &str, options: &str) -> (Lab, u64) {
    let lab = Lab::start(name);
    lab.sh(&format!(
        "disks 2 32; disks 2 32 8; array md0 raid1 2 --bitmap=none {options}; fill md0; \
         lose md0 loop1; blank loop1; slow md0 1500"
    ));
    lab.ok("spare add /dev/loop8");
    let op = lab.ok("recover md0");
    assert!(
        matches!(
            op["state"].as_str(),
            Some("queued" | "preparing" | "running")
        ),
        "{op:#}"
    );
    assert_eq!(op["hresult_name"], "VDS_E_OPERATION_PENDING", "{op:#}");
    lab.until("md0", "under way", |lun| {
        lun["operation"]["percent"].as_u64() > Some(5)
    });
    (lab, op["id"].as_u64().unwrap())
}

fn recovery_start(lab: &Lab, member: &str) -> u64 {
    lab.sh(&format!(
        "cat /sys/block/md0/md/dev-{member}/recovery_start"
    ))
    .trim()
    .parse()
    .unwrap()
}

/// Cancelled, held with its checkpoint, shown as such, resumed from there.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_held_and_resumed_from_the_checkpoint() {
    let (lab, op) = rebuilding("held", "");
    let waiter = lab.spawn(&format!("lunctl wait {op} --json"));
    let cancelled = lab.ok(&format!("cancel {op}"));
    assert_eq!(cancelled["state"], "cancelled", "{cancelled:#}");
    assert_eq!(
        cancelled["hresult_name"], "VDS_E_OPERATION_CANCELED",
        "{cancelled:#}"
    );
    assert_eq!(waiter.wait(PATIENCE).unwrap().status, 6);
    let lun = lab.ok("show md0");
    assert_eq!(lun["held"], true, "{lun:#}");
    assert_eq!(lun["sync"]["action"], "frozen", "{lun:#}");
    assert_eq!(lun["health"], "VDS_H_FAILED_REDUNDANCY", "{lun:#}");
    assert_eq!(
        lab.sh("cat /sys/block/md0/md/sync_completed").trim(),
        "none"
    );
    let checkpoint = recovery_start(&lab, "loop8");
    assert!(checkpoint > 0);
    // Too late, and already cancelled, are two answers.
    lab.refused(&format!("cancel {op}"), 6, "VDS_E_OPERATION_CANCELED");
    let plan = lab.ok("recover md0 --dry-run");
    assert_eq!(plan["plan"]["phase"], "rebuild", "{plan:#}");
    let resumed = lab.ok("recover md0");
    lab.until("md0", "running again", |lun| {
        lun["sync"]["action"] == "recover"
    });
    assert!(
        recovery_start(&lab, "loop8") >= checkpoint,
        "it began from zero"
    );
    lab.sh("fast md0");
    let done = lab.ok(&format!("wait {}", resumed["id"]));
    assert_eq!(done["state"], "succeeded", "{done:#}");
    lab.whole("md0", 2);
    lab.refused(
        &format!("cancel {}", resumed["id"]),
        4,
        "VDS_E_CANCEL_TOO_LATE",
    );
}

/// A hold outlives the daemon, and is kept against somebody who restarts the recovery.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_hold_survives_restart_and_meddling() {
    let (lab, op) = rebuilding("hold", "");
    lab.ok(&format!("cancel {op}"));
    lab.sh("systemctl restart lund");
    assert_eq!(lab.ok("show md0")["held"], true);
    assert_eq!(lab.ok(&format!("status {op}"))["state"], "cancelled");
    lab.sh("echo idle >/sys/block/md0/md/sync_action");
    lab.until("md0", "held again", |lun| lun["sync"]["action"] == "frozen");
    // While the service is away the array starts; the hold is taken up again.
    lab.sh("systemctl stop lund; echo idle >/sys/block/md0/md/sync_action; systemctl start lund");
    lab.until("md0", "held again", |lun| lun["sync"]["action"] == "frozen");
    assert_eq!(lab.ok("show md0")["held"], true);
    lab.ok("release md0");
    let lun = lab.until("md0", "released", |lun| lun["sync"]["action"] == "recover");
    assert_eq!(lun["held"], false, "{lun:#}");
    assert_eq!(lun["operation"]["origin"], "kernel", "{lun:#}");
    lab.sh("fast md0");
    lab.ok("wait md0");
    lab.whole("md0", 2);
}

/// A hold outlives a reboot: the array is stopped again as soon as the service is up.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_hold_survives_a_stopped_array() {
    let (lab, op) = rebuilding("hold-stop", "");
    lab.ok(&format!("cancel {op}"));
    lab.sh("mdadm --quiet --stop /dev/md0; \
            mdadm --quiet --assemble /dev/md0 /dev/loop0 /dev/loop8 2>&1; slow md0 1500; \
            mdadm --readwrite /dev/md0 2>/dev/null || true");
    let lun = lab.until("md0", "held again", |lun| {
        lun["held"] == true && lun["sync"]["action"] == "frozen"
    });
    assert_eq!(lun["health"], "VDS_H_FAILED_REDUNDANCY", "{lun:#}");
    lab.sh("fast md0");
    lab.ok("recover md0 --wait");
    lab.whole("md0", 2);
}

/// `--release-spare`: the spare goes back to the pool, blank, and protection is armed again.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn the_spare_is_given_back() {
    let (lab, op) = rebuilding("give-back", "");
    let cancelled = lab.ok(&format!("cancel {op} --release-spare"));
    assert_eq!(cancelled["state"], "cancelled", "{cancelled:#}");
    let lun = lab.ok("show md0");
    assert_eq!(lun["held"], false, "{lun:#}");
    assert_eq!(lun["sync"]["action"], "idle", "{lun:#}");
    assert_eq!(lab.sh("grep -c loop8 /proc/mdstat || true").trim(), "0");
    assert_eq!(lab.sh("wipefs --no-act /dev/loop8"), "");
    let spares = lab.ok("spare list");
    assert_eq!(spares["drives"][0]["device"], "/dev/loop8", "{spares:#}");
    lab.sh("fast md0");
    let op = lab.ok("recover md0 --wait");
    assert_eq!(op["state"], "succeeded", "{op:#}");
    lab.whole("md0", 2);
}

/// Check stops for good; repair leaves no resync behind on any kernel.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn check_and_repair_end_cleanly() {
    let lab = Lab::start("scrub");
    lab.sh("disks 3 32; array md0 raid5 3 --bitmap=none; fill md0; slow md0 1500");
    for verb in ["verify md0", "recover md0 --repair"] {
        let op = lab.ok(verb);
        lab.until("md0", "under way", |lun| {
            lun["operation"]["percent"].as_u64() > Some(3)
        });
        let health = lab.ok("show md0")["health"].clone();
        let expected = if verb.starts_with("verify") {
            "VDS_H_HEALTHY"
        } else {
            "VDS_H_REBUILDING"
        };
        assert_eq!(health, expected);
        let cancelled = lab.ok(&format!("cancel {}", op["id"]));
        assert_eq!(cancelled["state"], "cancelled", "{cancelled:#}");
        let lun = lab.ok("show md0");
        assert_eq!(lun["held"], false, "{lun:#}");
        assert_eq!(lun["sync"]["action"], "idle", "{lun:#}");
        assert_eq!(
            lab.sh("cat /sys/block/md0/md/resync_start").trim(),
            "none",
            "{verb}"
        );
        assert_eq!(lun["health"], "VDS_H_HEALTHY", "{lun:#}");
    }
    lab.sh("fast md0");
    lab.whole("md0", 3);
}

/// Recoveries that others began are operations too.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn the_kernels_own_recovery_is_adopted() {
    let lab = Lab::start("adopted");
    lab.sh("disks 2 32; disks 1 32 8; array md0 raid1 2 --bitmap=none; fill md0; slow md0 1500; \
            mdadm --quiet /dev/md0 --add-spare /dev/loop8; mdadm --quiet --fail /dev/md0 /dev/loop1");
    let lun = lab.until("md0", "adopted", |lun| !lun["operation"].is_null());
    assert_eq!(lun["operation"]["origin"], "kernel", "{lun:#}");
    let op = lun["operation"]["id"].clone();
    let error = lab.refused("recover md0", 5, "VDS_E_ANOTHER_CALL_IN_PROGRESS");
    assert!(
        error["message"].as_str().unwrap().contains(&op.to_string()),
        "{error:#}"
    );
    let late = lab.lunctl(&format!("wait {op} --timeout 1s"));
    assert_eq!(late.status, 8, "{late:?}");
    let waiters: Vec<_> = (0..3)
        .map(|_| lab.spawn(&format!("lunctl wait {op}")))
        .collect();
    lab.sh("fast md0");
    for waiter in waiters {
        assert_eq!(waiter.wait(PATIENCE).unwrap().status, 0);
    }
    let done = lab.ok(&format!("status {op}"));
    assert_eq!(done["state"], "succeeded", "{done:#}");
    assert_eq!(done["percent"], 100, "{done:#}");
    lab.whole("md0", 2);
}

/// A member that hangs blocks the kernel's stop, unkillably; the service answers all the same.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_hung_member_does_not_hang_the_service() {
    let lab = Lab::without_service("hung");
    lab.sh("mkdir -p /etc/lund; printf '[service]\\ndeadline_s = 3\\n' >/etc/lund/lund.toml; \
            systemctl start lund; disks 2 32; disks 1 32 8; \
            dmsetup create slowdisk --table \"0 $(blockdev --getsz /dev/loop8) linear /dev/loop8 0\"; \
            array md0 raid1 2 --bitmap=none; fill md0; disks 1 32 9; array md1 raid1 2 --bitmap=none \
            2>/dev/null || true; lose md0 loop1; blank loop1; slow md0 1500");
    let op = lab.ok("recover md0 --spare /dev/mapper/slowdisk");
    lab.until("md0", "under way", |lun| {
        lun["operation"]["percent"].as_u64() > Some(5)
    });
    lab.sh("dmsetup suspend --nolockfs --noflush slowdisk");
    let cli = lab.lunctl(&format!("cancel {}", op["id"]));
    assert_eq!(cli.status, 8, "{cli:?}");
    assert_eq!(cli.json["error"]["name"], "VDS_E_TIMEOUT", "{cli:?}");
    let status = lab.ok(&format!("status {}", op["id"]));
    assert_eq!(status["state"], "cancelling", "{status:#}");
    assert!(
        status["message"].as_str().unwrap().contains("blocked"),
        "{status:#}"
    );
    lab.ok("list");
    lab.ok("drives");
    lab.sh("dmsetup resume slowdisk");
    let cli = lab.lunctl(&format!("wait {}", op["id"]));
    assert_eq!(cli.status, 6, "{cli:?}");
    assert_eq!(lab.ok("show md0")["held"], true);
    lab.sh("fast md0");
    lab.ok("recover md0 --wait");
    lab.whole("md0", 2);
}
