//! What outlives the daemon and the boot.

use super::lab::Lab;

/// Where disks lie that a reboot must not empty.
const ON_DISK: &str = "LAB=/var/tmp/lab; . /opt/lund/lab.sh; ";

fn number(value: &serde_json::Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value:#}"))
}

/// After a boot: a rebuild goes on from its checkpoint, a hold holds, a check is made anew, under the
/// numbers that they had; until the arrays are assembled nothing is taken for gone.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_reboot_ends_nothing() {
    let mut lab = Lab::without_service("reboot");
    lab.sh("systemctl enable --quiet lund; systemctl start lund");
    lab.sh(&format!(
        "{ON_DISK} disks 7 32; \
         for n in 0 2 4; do FIRST=$n; array md$n raid1 2 --bitmap=none; fill md$n; done; \
         lose md0 loop1; blank loop1; lose md2 loop3; blank loop3; \
         slow md0 300; slow md2 300; slow md4 300"
    ));
    // They failed a moment ago.
    lab.ok("spare add /dev/loop1 --force");
    lab.ok("spare add /dev/loop3 --force");
    let rebuild = number(&lab.ok("recover md0")["id"]);
    let held = number(&lab.ok("recover md2")["id"]);
    let check = number(&lab.ok("verify md4")["id"]);
    for array in ["md0", "md2", "md4"] {
        // Beyond two sixteenths, of which the first is certainly written down.
        lab.until(array, "under way", |lun| {
            lun["operation"]["percent"].as_u64() > Some(14)
        });
    }
    // A shutdown takes its time.
    lab.sh("slow md0 50; slow md4 50");
    lab.ok(&format!("cancel {held}"));
    let percent = number(&lab.ok(&format!("status {rebuild}"))["percent"]);
    lab.vm.reboot().unwrap();

    lab.sh("systemctl is-active --quiet lund");
    let waiting = lab.refused("recover md0", 4, "VDS_E_LUN_OFFLINE");
    assert!(
        waiting["message"]
            .as_str()
            .unwrap()
            .contains("not assembled yet"),
        "{waiting:#}"
    );
    for op in [rebuild, check] {
        let op = lab.ok(&format!("status {op}"));
        assert_eq!(op["hresult_name"], "VDS_E_OPERATION_PENDING", "{op:#}");
    }
    lab.sh(&format!(
        "modprobe md-mod; echo 100 >/proc/sys/dev/raid/speed_limit_min; \
         echo 100 >/proc/sys/dev/raid/speed_limit_max; {ON_DISK} attach 7; \
         for n in 0 2 4; do \
             mdadm --quiet --assemble --run /dev/md$n /dev/loop$n /dev/loop$((n + 1)) 2>&1 || true; \
             mdadm --readwrite /dev/md$n 2>/dev/null || true; \
         done"
    ));
    let lun = lab.until("md0", "going on", |lun| {
        lun["sync"]["action"] == "recover" || lun["health"] == "VDS_H_HEALTHY"
    });
    assert_eq!(number(&lun["operation"]["id"]), rebuild, "{lun:#}");
    assert!(number(&lun["operation"]["percent"]) >= percent, "{lun:#}");
    let start: u64 = lab
        .sh("cat /sys/block/md0/md/dev-loop1/recovery_start")
        .trim()
        .parse()
        .unwrap();
    assert!(start > 0, "the rebuild began at zero");
    let lun = lab.until("md2", "held again", |lun| {
        lun["held"] == true && lun["sync"]["action"] == "frozen"
    });
    assert_eq!(lun["health"], "VDS_H_FAILED_REDUNDANCY", "{lun:#}");
    lab.sh("fast md0; fast md2; fast md4");
    for op in [rebuild, check] {
        let done = lab.ok(&format!("wait {op}"));
        assert_eq!(done["state"], "succeeded", "{done:#}");
    }
    lab.ok("recover md2 --wait");
    for array in ["md0", "md2", "md4"] {
        lab.sh(&format!(
            "{ON_DISK} idle {array}; healthy {array} 2; consistent {array}; same {array}"
        ));
    }
}

/// A check that somebody stops is no success, and the next one begins at the start.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_a_stopped_check_is_told_from_a_whole_one() {
    let lab = Lab::start("stopped-check");
    lab.sh("disks 2 32; array md0 raid1 2 --bitmap=none; slow md0 1500");
    for restarted in [false, true] {
        let op = number(&lab.ok("verify md0")["id"]);
        lab.until("md0", "under way", |lun| {
            lun["operation"]["percent"].as_u64() > Some(14)
        });
        if restarted {
            lab.sh(
                "systemctl stop lund; echo idle >/sys/block/md0/md/sync_action; \
                    systemctl start lund",
            );
        } else {
            lab.sh("echo idle >/sys/block/md0/md/sync_action");
        }
        let end = lab.lunctl(&format!("wait {op}"));
        assert_eq!(end.json["state"], "interrupted", "{:#}", end.json);
        assert_eq!(end.status, 1, "{:#}", end.json);
        assert_ne!(lab.sh("cat /sys/block/md0/md/sync_min").trim(), "0");
    }
    lab.sh("fast md0");
    let whole = lab.ok("verify md0 --wait");
    assert_eq!(whole["state"], "succeeded", "{whole:#}");
    assert_eq!(lab.sh("cat /sys/block/md0/md/sync_min").trim(), "0");
    // So quick that its first sixteenth may pass unseen.
    for _ in 0..3 {
        let whole = lab.ok("verify md0 --wait");
        assert_eq!(whole["state"], "succeeded", "{whole:#}");
    }
}

/// What happened while the service was down is told as such, and drives that are gone are known.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_loss_while_the_service_was_down() {
    let lab = Lab::start("loss-while-down");
    lab.sh("disks 4 24; array md0 raid1 2; FIRST=2; array md1 raid1 2");
    lab.until("md1", "known", |lun| lun["health"] == "VDS_H_HEALTHY");
    lab.sh(
        "systemctl stop lund; lose md0 loop1; mdadm --quiet --stop /dev/md1; \
            losetup -d /dev/loop3; systemctl start lund",
    );
    let lun = lab.ok("show md0");
    assert_eq!(lun["health"], "VDS_H_FAILED_REDUNDANCY", "{lun:#}");
    lab.sh("journalctl -u lund --no-pager | grep -q 'md0 was found degraded.*last seen healthy'");
    lab.refused("show md1", 3, "VDS_E_OBJECT_DELETED");
    lab.refused("recover md0 --spare /dev/loop3", 3, "VDS_E_OBJECT_DELETED");
    lab.refused(
        "recover md0 --spare /dev/nothing",
        3,
        "VDS_E_OBJECT_NOT_FOUND",
    );
}

/// The power goes while a RAID10 is written whose recovery is held half-way. Kernels from 6.12 bring such an
/// array in step before they fill it, from the half-filled copy: data are lost unless that is prevented.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_a_half_filled_raid10_keeps_its_data() {
    let mut lab = Lab::with_disks("half-filled", vec![34 << 20; 5]);
    lab.sh("systemctl enable --quiet lund; systemctl start lund");
    let disk = |n: u32| format!("/dev/disk/by-id/virtio-disk{n}");
    let members: Vec<String> = (0..4).map(disk).collect();
    lab.sh(&format!(
        "pattern() {{ head -c \"$2\" /dev/zero | tr '\\0' \"$1\"; }}
         pattern X {bytes} | dd of={spare} bs=1M iflag=fullblock oflag=direct status=none
         mdadm --create /dev/md0 --run --quiet --metadata=1.2 --level=10 --raid-devices=4 --bitmap=none {} 2>&1
         idle md0; echo 0 >/sys/block/md0/md/safe_mode_delay
         pattern A $(blockdev --getsize64 /dev/md0) \
             | dd of=/dev/md0 bs=1M iflag=fullblock oflag=direct conv=fsync status=none
         victim=$(basename $(readlink -f {})); lose md0 $victim; blank $victim; slow md0 2000",
        members.join(" "),
        members[2],
        bytes = 34 << 20,
        spare = disk(4),
    ));
    lab.ok(&format!("spare add {}", disk(4)));
    let op = number(&lab.ok("recover md0")["id"]);
    lab.until("md0", "under way", |lun| {
        lun["operation"]["percent"].as_u64() > Some(30)
    });
    lab.ok(&format!("cancel {op}"));
    lab.sh(
        "head -c 1M /dev/zero | tr '\\0' B | dd of=/dev/md0 bs=1M iflag=fullblock oflag=direct conv=fsync status=none
         sync; [ \"$(cat /sys/block/md0/md/array_state)\" = active ]",
    );
    lab.vm.power_cut().unwrap();
    lab.vm.restart().unwrap();
    let name = lab.sh(
        "until compgen -G '/sys/block/md*/md/sync_action' >/dev/null; do read -rt 0.1 <> <(:) || true; done
         basename $(dirname /sys/block/md*/md)",
    );
    let name = name.trim();
    lab.until(name, "held", |lun| lun["held"] == true);
    let done = lab.ok(&format!("recover {name} --wait"));
    assert_eq!(done["state"], "succeeded", "{done:#}");
    assert_eq!(done["phase"], "repair", "{done:#}");
    lab.sh(&format!(
        "healthy {name} 4; consistent {name}; size=$(blockdev --getsize64 /dev/{name})
         {{ head -c 1M /dev/zero | tr '\\0' B; head -c $((size - 1048576)) /dev/zero | tr '\\0' A; }} \
             | cmp - /dev/{name}"
    ));
}
