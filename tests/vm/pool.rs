//! The pool by rule, what it covers, and what is out of use.

use serde_json::Value;

use super::lab::Lab;

/// Asks until the pool is like this; bounded, and each question takes its time.
fn until(lab: &Lab, what: &str, test: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..300 {
        last = lab.ok("spare list");
        if test(&last) {
            return last;
        }
    }
    panic!(
        "the pool never {what}: {last:#}\n{}",
        lab.sh("journalctl -u lund --no-pager | tail -40")
    );
}

fn drives(pool: &Value, list: &str) -> Vec<String> {
    let all = pool[list].as_array().unwrap();
    let mut found: Vec<String> = all
        .iter()
        .filter_map(|drive| drive["device"].as_str().map(str::to_owned))
        .collect();
    found.sort();
    found
}

fn covered(pool: &Value) -> Vec<String> {
    let all = pool["coverage"].as_array().unwrap();
    let covered = all.iter().filter(|one| one["covered"] == true);
    covered
        .map(|one| one["lun_name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn spares_by_rule_cover_luns_and_failed_drives_do_not() {
    let lab = Lab::without_service("pool");
    lab.sh(
        "disks 4; disks 2 24 8; disks 1 8 10; array md0 raid1 2 --bitmap=none; \
         FIRST=2 array md1 raid1 2 --bitmap=none; fill md0; mkfs.ext4 -q /dev/loop9; \
         sha256sum $LAB/disk9 >$LAB/before; mkdir -p /etc/lund; \
         printf '[[spare]]\\nmatch = \"%s\"\\n' $LAB/disk8 $LAB/disk9 $LAB/disk10 >/etc/lund/lund.toml; \
         systemctl start lund",
    );
    let pool = until(&lab, "has judged all three", |pool| {
        drives(pool, "drives").len() == 1 && drives(pool, "passed_over").len() == 2
    });
    assert_eq!(drives(&pool, "drives"), ["/dev/loop8"], "{pool:#}");
    assert_eq!(
        drives(&pool, "passed_over"),
        ["/dev/loop10", "/dev/loop9"],
        "{pool:#}"
    );
    assert!(pool.to_string().contains("it bears ext4"), "{pool:#}");
    assert!(pool.to_string().contains("too small"), "{pool:#}");
    assert_eq!(covered(&pool), ["md0", "md1"], "{pool:#}");
    let text = lab.sh("lunctl spare list");
    assert!(text.contains("covers 2 of 2 LUNs"), "{text}");
    // It is taken; what is left falls short, at once and in words.
    lab.sh("mdadm --quiet --fail /dev/md0 /dev/loop1");
    until(&lab, "has marked loop1", |pool| {
        drives(pool, "retired") == ["/dev/loop1"]
    });
    lab.sh("mdadm --quiet --remove /dev/md0 /dev/loop1; wipefs --quiet --all /dev/loop1; udevadm settle");
    lab.refused("spare add /dev/loop1", 4, "VDS_E_INVALID_DISK");
    // Somebody else may have begun.
    lab.sh("lunctl recover md0 --wait || lunctl wait md0");
    lab.whole("md0", 2);
    assert!(lab.ok("show md0").to_string().contains("/dev/loop8"));
    let pool = until(&lab, "is empty", |pool| drives(pool, "drives").is_empty());
    assert_eq!(covered(&pool), [""; 0], "{pool:#}");
    let text = lab.sh("lunctl spare list; lunctl events");
    assert!(
        text.contains("covers 0 of 2 LUNs; md0 uncovered: there is no spare"),
        "{text}"
    );
    assert!(
        text.contains("no spare covers md1: the spare went to md0"),
        "{text}"
    );
    // A mark outlives the service; its owner takes it off.
    lab.sh("systemctl restart lund; sha256sum --check --quiet $LAB/before");
    let pool = until(&lab, "knows loop1 again", |pool| {
        !drives(pool, "retired").is_empty()
    });
    assert_eq!(drives(&pool, "retired"), ["/dev/loop1"], "{pool:#}");
    lab.ok("spare add /dev/loop1 --force");
    let pool = until(&lab, "covers both again", |pool| covered(pool).len() == 2);
    assert_eq!(drives(&pool, "retired"), [""; 0], "{pool:#}");
    let text = lab.sh("lunctl events");
    assert!(text.contains("md1 has a spare now: /dev/loop1"), "{text}");
}
