//! The service: one thread, asleep when nothing happens, small, driven by events, one at a time.

use super::lab::Lab;

/// What `systemd-analyze security` may count at most; each of it is justified in the unit.
const MOST_EXPOSED: f64 = 2.5;

/// Sixteen arrays: how large is it, and how often does it wake?
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn small_and_asleep_with_sixteen_arrays() {
    let lab = Lab::without_service("asleep");
    lab.sh("disks 32 4; for n in $(seq 0 15); do FIRST=$((2 * n)) array md$n raid1 2 --bitmap=none; done; \
            systemctl start lund; lunctl list >/dev/null");
    assert_eq!(lab.ok("list")["luns"].as_array().map(Vec::len), Some(16));
    let figures = lab.sh(
        "pid=$(systemctl show --value -p MainPID lund); \
         timeout 90 strace -f -q -ttt -e trace=epoll_wait,epoll_pwait,epoll_pwait2 -o /tmp/wakes -p $pid || true; \
         awk '$2 - last > 10 { bursts++ } { last = $2 } END { print bursts + 0 }' /tmp/wakes; grep VmRSS /proc/$pid/status | tr -dc 0-9; echo; \
         for tries in $(seq 30); do threads=$(grep Threads /proc/$pid/status | tr -dc 0-9); \
             [ $threads -gt 1 ] || break; read -rt 0.5 <> <(:) || true; done; echo $threads",
    );
    println!("16 arrays: wakes in 90 s, RSS in KiB, threads: {figures}");
    let figures: Vec<u64> = figures
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    let [wakes, rss_kib, threads] = figures[..] else {
        panic!("{figures:?}")
    };
    assert!(rss_kib < 10 * 1024, "RSS {rss_kib} KiB");
    // That of the rescan of each minute ends soon after it.
    assert_eq!(threads, 1, "threads when idle");
    // A wake and all that follows it count once: twice a minute at most.
    assert!(wakes <= 3, "{wakes} wakes in 90 s");
}

/// A failure is shown because the kernel told, not because somebody looked.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_failure_is_seen_by_its_event() {
    let lab = Lab::start("event");
    lab.sh("disks 3; array md0 raid5 3 --bitmap=none");
    lab.until("md0", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    // That it listens the monitor says where errors go.
    lab.sh("mkfifo /tmp/listens");
    let told = lab.spawn(
        "grep -m1 loop1 < <(stdbuf -oL busctl monitor --system --json=short --match \
         \"type='signal',interface='org.lund.Vds1.Provider',member='Notification'\" 2>/tmp/listens) \
         >/dev/null; lunctl show md0 --json",
    );
    lab.sh("grep -qm1 Monitoring /tmp/listens");
    lab.sh("mdadm --quiet --fail /dev/md0 /dev/loop1 2>&1");
    let output = told.wait(super::lab::PATIENCE).unwrap();
    let lun: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(lun["health"], "VDS_H_FAILED_REDUNDANCY", "{lun:#}");
    assert_eq!(lun["redundancy"]["losses_survivable"], 0, "{lun:#}");
    assert_eq!(
        lun["redundancy"]["fatal_next"].as_array().map(Vec::len),
        Some(2),
        "{lun:#}"
    );
}

/// Members fail, are taken out and come back, and at no moment is anything shown that is not so: no
/// LUN in an unknown state, no recovery where the kernel only looked whether there is one to do.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn nothing_untrue_is_shown_while_members_come_and_go() {
    let lab = Lab::start("untrue");
    lab.sh("disks 7; array md0 raid10 4 --bitmap=none; FIRST=4 array md1 raid5 3 --bitmap=none; \
            for round in 1 2 3 4; do \
            lose md0 loop1; lose md1 loop5; blank loop1; blank loop5; \
            mdadm --quiet /dev/md0 --add /dev/loop1 2>&1; mdadm --quiet /dev/md1 --add /dev/loop5 2>&1; \
            idle md0; idle md1; done");
    for lun in ["md0", "md1"] {
        lab.until(lun, "healthy", |lun| {
            lun["health"] == "VDS_H_HEALTHY" && lun["operation"].is_null()
        });
    }
    let ops = lab.ok("ops --all");
    for op in ops["operations"].as_array().unwrap() {
        let real = op["phase"] != "rebuild" || op["spare"].is_string();
        assert!(real, "a recovery of nothing: {op:#}");
    }
    let said = lab.sh("journalctl -u lund --no-pager -o cat");
    let untrue: Vec<&str> = said
        .lines()
        .filter(|line| line.to_lowercase().contains("unknown"))
        .collect();
    assert!(untrue.is_empty(), "{untrue:#?}");
}

/// Only one may act; the unit's security and its manners.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn one_at_a_time_and_well_behaved() {
    let lab = Lab::start("manners");
    let second =
        lab.run("/usr/sbin/lund --bus system 2>&1 || /usr/bin/lund --bus system 2>&1 || true");
    let said = String::from_utf8_lossy(&second.stdout).into_owned();
    assert!(
        said.contains("another lund") || said.contains("already"),
        "{said}"
    );
    let said = lab.sh("systemd-analyze security lund --no-pager | tail -1");
    println!("{said}");
    let score = said
        .split_whitespace()
        .find_map(|word| word.parse::<f64>().ok());
    assert!(score.is_some_and(|score| score <= MOST_EXPOSED), "{said}");
    lab.sh("systemctl show lund -p NRestarts --value | grep -qx 0; \
            [ \"$(systemctl show lund -p Type --value)\" = notify ]; \
            systemctl show lund -p StatusText --value | grep -q .; \
            stat -c %a /var/lib/lund/lund.db | grep -qx 600; \
            journalctl -u lund -o json --no-pager | jq -e 'select(.LUN)' >/dev/null || \
            ! lunctl list --json | jq -e '.luns[0]' >/dev/null");
    lab.sh("disks 2; array md0 raid1 2 --bitmap=none; lunctl list; \
            systemctl stop lund; systemctl is-failed lund && exit 1; true");
}

/// Killed in the middle of a rebuild: the same operation goes on after the restart.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn killed_and_back() {
    let lab = Lab::start("killed");
    lab.sh(
        "disks 2 32; disks 1 32 8; array md0 raid1 2 --bitmap=none; fill md0; lose md0 loop1; \
            blank loop1; slow md0 1500",
    );
    lab.ok("spare add /dev/loop8");
    let op = lab.ok("recover md0");
    lab.until("md0", "under way", |lun| {
        lun["operation"]["percent"].as_u64() > Some(3)
    });
    lab.sh("systemctl kill --signal=KILL lund; \
            until [ \"$(systemctl is-active lund)\" = active ]; do read -rt 0.2 <> <(:) || true; done");
    let again = lab.ok(&format!("status {}", op["id"]));
    assert_eq!(
        again["hresult_name"], "VDS_E_OPERATION_PENDING",
        "{again:#}"
    );
    lab.sh("fast md0");
    let done = lab.ok(&format!("wait {}", op["id"]));
    assert_eq!(done["state"], "succeeded", "{done:#}");
    lab.whole("md0", 2);
}
