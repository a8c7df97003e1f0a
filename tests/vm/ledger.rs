//! The ledger on real media: full, overwritten, locked, large. Recovery goes on whatever
//! becomes of it, and says so.

use serde_json::Value;

use super::lab::Lab;

/// Until `lunctl list` says this of the ledger; bounded, and each question takes its time.
fn until_ledger(lab: &Lab, state: &str) -> Value {
    let mut last = Value::Null;
    for _ in 0..600 {
        last = lab.lunctl("list").json;
        if last["ledger"]["state"] == state {
            return last;
        }
    }
    panic!(
        "the ledger does not become {state}: {last:#}\n{}",
        lab.sh("journalctl -u lund --no-pager -o cat | tail -40; df /var/lib/lund")
    );
}

/// Kills the daemon and waits until systemd has started it again.
fn kill(lab: &Lab) {
    lab.sh(
        "old=$(systemctl show --value -p MainPID lund); kill -KILL $old; \
         until [ \"$(systemctl show --value -p MainPID lund)\" != $old ] \
         && [ \"$(systemctl is-active lund)\" = active ]; do read -rt 0.2 <> <(:) || true; done",
    );
}

/// The disk of the ledger fills up in the middle of a rebuild.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_full_disk_does_not_stop_a_recovery() {
    let lab = Lab::without_service("full");
    lab.sh(
        "mkdir -p /var/lib/lund; mount -t tmpfs -o size=8m,mode=700 none /var/lib/lund; \
         disks 3 48; array md0 raid1 2 --bitmap=none; fill md0; lose md0 loop1; blank loop1; \
         slow md0 1500; systemctl start lund",
    );
    lab.ok("spare add /dev/loop2");
    let op = lab.ok("recover md0")["id"].clone();
    lab.until("md0", "under way", |lun| {
        lun["operation"]["percent"].as_u64() > Some(2)
    });
    lab.sh("! dd if=/dev/zero of=/var/lib/lund/filler bs=4k status=none 2>/dev/null");
    let list = until_ledger(&lab, "degraded");
    let why = list["ledger"]["reason"].as_str().unwrap();
    assert!(why.contains("full"), "{why}");
    lab.sh("lunctl list 2>&1 >/dev/null | grep -q 'ledger: degraded'; \
         lunctl show md0 2>&1 >/dev/null | grep -q 'ledger: degraded'; \
         systemctl show lund -p StatusText --value | grep -q 'ledger degraded'; \
         journalctl -u lund --no-pager -o cat | grep -q 'the ledger is degraded'; fast md0");
    let done = lab.ok(&format!("wait {op}"));
    assert_eq!(done["state"], "succeeded", "{done:#}");
    lab.ok("spare add /dev/loop1");
    lab.ok("spare remove /dev/loop1");
    lab.sh("rm /var/lib/lund/filler");
    until_ledger(&lab, "ok");
    kill(&lab);
    let again = lab.ok(&format!("status {op}"));
    assert_eq!(again["state"], "succeeded", "{again:#}");
    let spares = lab.ok("spare list");
    let left: Vec<&Value> = spares["drives"].as_array().unwrap().iter().collect();
    assert!(
        left.iter().all(|drive| drive["device"] != "/dev/loop1"),
        "what was taken away came back: {left:#?}"
    );
    lab.sh("lunctl events --since 0 --json | grep -q 'can be written again'");
    lab.whole("md0", 2);
}

/// The file is overwritten while nobody looks, or somebody else holds it.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_junk_file_is_set_aside_and_a_lock_is_outlived() {
    let lab = Lab::start("junk");
    lab.sh("disks 2; array md0 raid1 2 --bitmap=none");
    lab.until("md0", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    lab.sh(
        "systemctl stop lund; head -c 100000 /dev/urandom >/var/lib/lund/lund.db; \
         systemctl start lund; ls /var/lib/lund/lund.db.corrupt-*; \
         journalctl -u lund --no-pager -o cat | grep -q 'is set aside as lund.db.corrupt-'",
    );
    until_ledger(&lab, "ok");
    // Its holder says so itself: asking the file would be a second party that wants the lock.
    lab.sh("mkfifo /tmp/held /tmp/enough");
    let holder = lab.spawn(
        "{ printf '%s\\n' 'BEGIN IMMEDIATE;' '.system echo held >/tmp/held'; \
         read -r _ </tmp/enough; } | sqlite3 -bail -cmd '.timeout 60000' /var/lib/lund/lund.db",
    );
    lab.sh("read -rt 120 _ <>/tmp/held");
    let op = lab.ok("recover md0");
    assert_eq!(op["state"], "succeeded", "{op:#}");
    let list = until_ledger(&lab, "degraded");
    assert!(
        list["ledger"]["reason"]
            .as_str()
            .unwrap()
            .contains("locked")
    );
    lab.sh("echo enough >/tmp/enough");
    let held = holder.wait(super::lab::PATIENCE).unwrap();
    assert_eq!(held.status, 0, "{held:?}");
    until_ledger(&lab, "ok");
    kill(&lab);
    lab.ok(&format!("status {}", op["id"]));
}

/// Only one daemon acts, whatever state directory another is given.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_second_daemon_ends_and_says_why() {
    let lab = Lab::start("second");
    let second = |options: &str| {
        let ended = lab.run(&format!("/usr/sbin/lund {options} 2>&1"));
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert_eq!(ended.status, 1, "{said}");
        said
    };
    let said = second("");
    assert!(
        said.contains("another lund works on the state directory"),
        "{said}"
    );
    let said = second("--state-dir /tmp/other");
    assert!(said.contains("another lund has the name"), "{said}");
    lab.sh(
        "systemctl is-active lund; [ \"$(systemctl show lund -p NRestarts --value)\" = 0 ]; \
         lunctl list",
    );
}

/// A ledger of 100,000 operations opens, and history pages through it; prints how long that takes.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_hundred_thousand_operations_are_no_burden() {
    let lab = Lab::start("hundred");
    lab.sh("disks 2; array md0 raid1 2 --bitmap=none");
    lab.ok("recover md0");
    let small = lab.sh(
        "systemctl stop lund; a=$(date +%s%N); systemctl start lund; b=$(date +%s%N); \
         echo $(((b - a) / 1000000))",
    );
    lab.sh("systemctl stop lund; sqlite3 /var/lib/lund/lund.db \"\
         WITH RECURSIVE n(i) AS (SELECT 1001 UNION ALL SELECT i + 1 FROM n WHERE i < 101000) \
         INSERT INTO ops SELECT i, lun, state, json_set(json, '\\$.id', i), started, ended + i \
         FROM n, (SELECT * FROM ops WHERE id = 1); \
         WITH RECURSIVE n(i) AS (SELECT 1001 UNION ALL SELECT i + 1 FROM n WHERE i < 101000) \
         INSERT INTO events SELECT i, at + i, code, name, lun, op, text \
         FROM n, (SELECT * FROM events ORDER BY seq LIMIT 1); \
         INSERT OR REPLACE INTO meta VALUES('last_op', '101000');\"; sync; \
         echo 3 >/proc/sys/vm/drop_caches");
    let figures = lab.sh(
        "now() { date +%s%N; }; ms() { echo $((($2 - $1) / 1000000)); }; \
         a=$(now); systemctl start lund; b=$(now); \
         lunctl history --limit 1000 --json >/tmp/page; c=$(now); \
         lunctl history md0 --limit 1000 --before 50000 --json >/tmp/page2; d=$(now); \
         echo \"start $(ms $a $b) ms, newest page $(ms $b $c) ms, middle page $(ms $c $d) ms, \
         $(du -m /var/lib/lund/lund.db | cut -f1) MiB\"; \
         grep VmRSS /proc/$(systemctl show --value -p MainPID lund)/status; \
         systemctl kill --signal=KILL lund; systemctl stop lund; \
         systemctl reset-failed lund || true; \
         e=$(now); systemctl start lund; f=$(now); echo \"start after a kill $(ms $e $f) ms\"",
    );
    println!(
        "one operation: start {} ms; 100,000: {figures}",
        small.trim()
    );
    let page: Value = serde_json::from_str(&lab.sh("cat /tmp/page2")).unwrap();
    assert_eq!(page["operations"].as_array().map(Vec::len), Some(1000));
    assert_eq!(page["operations"][0]["id"], 49999, "newest first");
    assert_eq!(page["next_before"], 49000);
    let next = lab.ok("recover md0");
    assert!(
        next["id"].as_u64() > Some(101_000),
        "numbers go on: {next:#}"
    );
    assert_eq!(lab.ok("list")["ledger"]["state"], "ok");
}

/// The file system of the ledger is read-only at the start, when the write-ahead log of a killed
/// service has what matters.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_read_only_ledger_is_read_and_comes_back() {
    let lab = Lab::without_service("readonly");
    lab.sh(
        "disks 3; array md0 raid1 2 --bitmap=none; fill md0; mkdir -p /var/lib/lund; \
         truncate -s 32M /srv/mem/state; mkfs.ext4 -q /srv/mem/state; \
         mount -o loop /srv/mem/state /var/lib/lund; systemctl start lund",
    );
    let first = lab.ok("recover md0")["id"].as_u64().unwrap();
    lab.ok("spare add /dev/loop2");
    lab.sh("systemctl kill --signal=KILL lund; systemctl stop lund; \
         test -s /var/lib/lund/lund.db-wal; mount -o remount,ro /var/lib/lund; \
         systemctl start lund");
    let list = until_ledger(&lab, "degraded");
    assert!(list["ledger"]["reason"].is_string(), "{list:#}");
    let spares = lab.ok("spare list");
    assert_eq!(spares["drives"][0]["device"], "/dev/loop2", "{spares:#}");
    let known = lab.ok(&format!("status {first}"));
    assert_eq!(known["state"], "succeeded", "{known:#}");
    lab.sh("lose md0 loop1; blank loop1");
    let op = lab.ok("recover md0 --wait");
    assert_eq!(op["state"], "succeeded", "{op:#}");
    assert!(op["id"].as_u64() > Some(1_000_000_000), "{op:#}");
    // In the name space of the service it stays read-only until it is started again.
    lab.sh("lunctl list 2>&1 | grep -q 'systemctl restart lund'; \
            mount -o remount,rw /var/lib/lund; systemctl restart lund");
    until_ledger(&lab, "ok");
    lab.whole("md0", 2);
}
