//! Hints on a real kernel: what is in sysfs while a rebuild runs, and after it.

use super::lab::Lab;

/// Puts `md0`'s limits on one line, as the kernel shows them.
const LIMITS: &str = "cat /sys/block/md0/md/sync_speed_min /sys/block/md0/md/sync_speed_max";

/// Waits until the limits are these; each look takes its time.
fn until_limits(lab: &Lab, wanted: &str) {
    let mut last = String::new();
    for _ in 0..200 {
        last = lab.sh(LIMITS);
        if last.trim() == wanted {
            return;
        }
    }
    panic!(
        "the limits are {last:?} and not {wanted:?}\n{}",
        lab.sh("journalctl -u lund --no-pager | tail -40; cat /proc/mdstat")
    );
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn limits_hold_while_a_rebuild_runs_and_are_put_back() {
    let lab = Lab::without_service("hints");
    lab.sh("disks 3 64; array md0 raid1 2 --bitmap=none; fill md0; \
         echo 700 >/sys/block/md0/md/sync_speed_min; systemctl start lund");
    let before = "700 (local)\n200000 (system)";
    // The bitmap, there and back.
    for (word, has) in [("yes", true), ("yes", true), ("no", false)] {
        let lun = lab.ok(&format!("hints md0 --fast-crash-recovery {word}"));
        assert_eq!(lun["fast_crash_recovery"], has, "{lun:#}");
        let location = lab.sh("cat /sys/block/md0/md/bitmap/location 2>/dev/null || echo none");
        assert_eq!(location.trim() != "none", has, "{location}");
    }
    lab.same("md0");

    let lun = lab.ok("hints md0 --rebuild-priority 1");
    assert_eq!(lun["rebuild_priority"], 1, "{lun:#}");
    until_limits(&lab, before);
    lab.sh("lose md0 loop1; lunctl spare add /dev/loop2");
    lab.refused(
        "hints md0 --fast-crash-recovery yes",
        4,
        "VDS_E_LUN_NOT_READY",
    );
    let op = lab.ok("recover md0")["id"].clone();
    lab.until("md0", "rebuilding", |lun| {
        lun["health"] == "VDS_H_REBUILDING"
    });
    until_limits(&lab, "1000 (local)\n1562 (local)");
    lab.refused(
        "hints md0 --fast-crash-recovery yes",
        5,
        "VDS_E_ANOTHER_CALL_IN_PROGRESS",
    );

    // Killed in the middle of it: the next one knows what there was before.
    lab.sh(
        "old=$(systemctl show --value -p MainPID lund); kill -KILL $old; \
         until [ \"$(systemctl show --value -p MainPID lund)\" != $old ] \
         && [ \"$(systemctl is-active lund)\" = active ]; do read -rt 0.2 <> <(:) || true; done",
    );
    let lun = lab.until("md0", "shown again", |lun| lun["health"].is_string());
    assert_eq!(lun["rebuild_priority"], 1, "{lun:#}");
    assert_eq!(
        lun["operation"]["id"], op,
        "slow enough to be seen: {lun:#}"
    );
    until_limits(&lab, "1000 (local)\n1562 (local)");
    lab.ok("hints md0 --rebuild-priority 15");
    until_limits(&lab, "16384000 (local)\n25600000 (local)");
    assert_eq!(lab.ok("wait md0")["hresult_name"], "S_OK");
    until_limits(&lab, before);
    lab.whole("md0", 2);

    // Killed, and the rebuild ends while nobody looks.
    lab.sh(
        "blank loop1; lunctl hints md0 --rebuild-priority 3; lose md0 loop2; blank loop2; \
         lunctl recover md0 --spare /dev/loop2 >/dev/null",
    );
    until_limits(&lab, "1000 (local)\n6250 (local)");
    lab.sh(
        "systemctl kill --signal=KILL lund; systemctl stop lund; idle md0; systemctl start lund",
    );
    until_limits(&lab, before);
    lab.whole("md0", 2);
}
