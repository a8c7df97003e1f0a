//! Raid sets of device-mapper on real kernels: made by hand on loop devices, and by LVM.

use std::time::{Duration, Instant};

use super::lab::Lab;
use super::sampled::Sampled;

/// A change must be seen by its event: the safety rescan of an idle service is 60 s away.
const BY_EVENT: Duration = Duration::from_secs(30);

/// Functions of the scripts here. `under N`: the data of leg N on a mapped device of its own, which
/// `dead N` makes an error target and `alive N` a disk again.
const SETS: &str = r#"
sectors() { blockdev --getsz "$1"; }
under() { dmsetup create "under$1" --table "0 $(sectors "/dev/loop$1") linear /dev/loop$1 0"; }
swap() { dmsetup suspend --noflush --nolockfs "under$1"; dmsetup reload "under$1" --table "$2"; dmsetup resume "under$1"; }
dead() { swap "$1" "0 $(sectors "/dev/loop$1") error"; }
alive() { swap "$1" "0 $(sectors "/dev/loop$1") linear /dev/loop$1 0"; }
touched() { dd if=/dev/zero of="/dev/mapper/$1" bs=64k count="${2:-1}" oflag=direct status=none 2>/dev/null || true; }
load() { dmsetup reload "$1" --table "$2"; dmsetup suspend "$1"; dmsetup resume "$1"; }
# Leg N's superblock says that it is in sync.
filled() { [ "$(dd if="/dev/loop$1" bs=4096 count=1 iflag=direct status=none | od -An -tx1 -j32 -N8 | tr -d ' f')" = "" ]; }
health() { lunctl show "$1" --json | jq -r .health; }
# Says so whenever NAME is called healthy while leg N's superblock says that it is not.
sample() {
    local shown
    while :; do
        shown=$(health "$1")
        if filled "$2"; then
            [ "$shown" != VDS_H_HEALTHY ] || return 0
        elif [ "$shown" = VDS_H_HEALTHY ]; then
            echo "$1 is called healthy: $(dmsetup status --noflush "$1")" >&2
            return 1
        fi
        [ "$SECONDS" -lt "$3" ] || return 0
    done
}
"#;

pub(super) fn sh(lab: &Lab, script: &str) -> String {
    lab.sh(&format!("{SETS}\n{script}"))
}

/// Runs a script and waits until its effect is shown; in time only if an event told of it.
fn seen(lab: &Lab, script: &str, lun: &str, health: &str) -> serde_json::Value {
    sh(lab, script);
    let begun = Instant::now();
    let shown = lab.until(lun, health, |shown| shown["health"] == health);
    assert!(
        begun.elapsed() < BY_EVENT,
        "{health} after {:?}",
        begun.elapsed()
    );
    shown
}

/// Mirror: names, a lost leg, and a recovery that is interrupted and is never called done too early.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_mirror_made_by_hand_is_told_as_it_is() {
    let lab = Sampled::of(Lab::start("dm-mirror"));
    sh(
        &lab,
        "disks 3 32; disks 3 8 20; under 1; size=$(sectors /dev/loop0); \
         echo \"0 $size raid raid1 3 0 region_size 1024 2 7:20 7:0 7:21 $(stat -Lc %Hr:%Lr /dev/mapper/under1)\" >/tmp/line",
    );
    let lun = seen(&lab, "dmsetup create r </tmp/line", "r", "VDS_H_HEALTHY");
    assert_eq!(lun["driver"], "dm-raid", "{lun:#}");
    assert_eq!(lun["managed_by"], "dmsetup", "{lun:#}");
    assert_eq!(lun["type"], "VDS_LT_MIRROR", "{lun:#}");
    assert_eq!(lun["device"], "/dev/mapper/r", "{lun:#}");
    assert_eq!(lun["redundancy"]["losses_survivable"], 1, "{lun:#}");
    assert_eq!(lun["drives"][0]["device"], "/dev/loop0", "{lun:#}");
    let node = sh(&lab, "readlink -f /dev/mapper/r");
    for name in [
        "mapper/r",
        "/dev/mapper/r",
        node.trim(),
        lun["id"].as_str().unwrap(),
    ] {
        assert_eq!(lab.ok(&format!("show {name}"))["id"], lun["id"]);
    }
    let lost = seen(&lab, "dead 1; touched r", "r", "VDS_H_FAILED_REDUNDANCY");
    assert_eq!(
        lost["redundancy"]["fatal_next"][0], "/dev/loop0",
        "{lost:#}"
    );
    // Its metadata can be read, its data cannot: that shows when it is tried.
    let tried = lab.lunctl("recover r --wait");
    assert_eq!((tried.status, &tried.json["state"]), (1, &"failed".into()));
    lab.refused("verify r", 4, "VDS_E_LUN_NOT_READY");
    // Another leg takes over, slowly.
    let rebuilt = "size=$(sectors /dev/loop0); \
        load r \"0 $size raid raid1 7 0 rebuild 1 region_size 1024 max_recovery_rate 2000 2 7:20 7:0 7:22 7:2\"";
    let filling = seen(&lab, rebuilt, "r", "VDS_H_REBUILDING");
    assert_eq!(filling["operation"]["origin"], "kernel", "{filling:#}");
    assert_eq!(filling["operation"]["phase"], "rebuild", "{filling:#}");
    lab.refused("recover r", 5, "VDS_E_ANOTHER_CALL_IN_PROGRESS");
    lab.refused("cancel r --release-spare", 4, "VDS_E_NOT_SUPPORTED");
    // Kernels from 6.9 may say `AA`, 100 % and idle of an interrupted recovery.
    sh(
        &lab,
        "dmsetup message r 0 frozen || true; sample r 22 $((SECONDS + 6)); ! filled 22",
    );
    sh(
        &lab,
        "load r \"0 $(sectors /dev/loop0) raid raid1 3 0 region_size 1024 2 7:20 7:0 7:22 7:2\"; \
         sample r 22 $((SECONDS + 120)); filled 22",
    );
    let whole = lab.until("r", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    assert_eq!(whole["redundancy"]["members_in_sync"], 2, "{whole:#}");
    let history = lab.ok("history r");
    let adopted = history["operations"].as_array().unwrap();
    assert!(
        adopted
            .iter()
            .any(|op| op["origin"] == "kernel" && op["state"] == "succeeded"),
        "{history:#}"
    );
    made_anew(&lab, &lun["id"]);
}

/// One with an identity of its own is made anew under its name while nobody can look, and goes for good.
fn made_anew(lab: &Lab, before: &serde_json::Value) {
    let line = "0 $(sectors /dev/loop0) raid raid1 3 0 region_size 1024 2 7:20 7:0 7:22 7:2";
    sh(
        lab,
        &format!("dmsetup remove r; dmsetup create r --uuid one --table \"{line}\""),
    );
    let one = lab.until("r", "another", |now| {
        now["health"] == "VDS_H_HEALTHY" && now["id"] != *before
    });
    sh(
        lab,
        &format!(
            "systemctl kill --signal=STOP lund; dmsetup remove r; \
             dmsetup create r --uuid another --table \"{line}\"; systemctl kill --signal=CONT lund"
        ),
    );
    lab.refused("recover r", 10, "VDS_E_PROVIDER_CACHE_CORRUPT");
    lab.ok("reenumerate");
    lab.ok("refresh");
    assert_ne!(lab.ok("show r")["id"], one["id"]);
    sh(lab, "dmsetup remove r");
    lab.until_gone("r");
    lab.refused("recover r", 3, "VDS_E_OBJECT_DELETED");
}

/// Pairs of a raid10, parity without a leg, and a stripe.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn levels_made_by_hand_are_judged_by_their_arithmetic() {
    let lab = Sampled::of(Lab::start("dm-levels"));
    sh(
        &lab,
        "disks 4 16; disks 4 8 20; disks 3 16 4; disks 3 8 24; disks 2 16 8; size=$(sectors /dev/loop0); \
         for n in 0 1 4 5; do under $n; done; c=$(stat -Lc %Hr:%Lr /dev/mapper/under4); d=$(stat -Lc %Hr:%Lr /dev/mapper/under5); a=$(stat -Lc %Hr:%Lr /dev/mapper/under0); b=$(stat -Lc %Hr:%Lr /dev/mapper/under1); \
         dmsetup create ten --table \"0 $((size * 2)) raid raid10 3 128 region_size 1024 4 7:20 $a 7:21 $b 7:22 7:2 7:23 7:3\"; \
         dmsetup create five --table \"0 $((size * 2)) raid raid5_ls 3 128 region_size 1024 3 7:24 $c 7:25 $d 7:26 7:6\"; \
         dmsetup create zero --table \"0 $((size * 2)) raid raid0 1 128 2 - 7:8 - 7:9\"",
    );
    for name in ["ten", "five", "zero"] {
        lab.until(name, "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    }
    assert_eq!(lab.ok("list")["luns"].as_array().map(Vec::len), Some(3));
    lab.refused("recover zero", 4, "VDS_E_INVALID_OPERATION");
    let half = seen(
        &lab,
        "dead 4; touched five 8",
        "five",
        "VDS_H_FAILED_REDUNDANCY",
    );
    assert_eq!(half["redundancy"]["losses_survivable"], 0, "{half:#}");
    let failed = seen(&lab, "dead 5; touched five 8", "five", "VDS_H_FAILED");
    assert_eq!(failed["status"], "VDS_LS_FAILED", "{failed:#}");
    lab.refused("recover five", 4, "VDS_E_OBJECT_STATUS_FAILED");
    // The last leg of a pair is not failed by the kernel, and its errors are told to the log alone.
    let pair = seen(
        &lab,
        "dead 0; touched ten 8",
        "ten",
        "VDS_H_FAILED_REDUNDANCY",
    );
    let partner = sh(&lab, "readlink -f /dev/mapper/under1");
    assert_eq!(
        pair["redundancy"]["fatal_next"],
        serde_json::json!([partner.trim()])
    );
    sh(&lab, "dead 1; touched ten 8");
    lab.ok("refresh");
    let still = lab.ok("show ten");
    assert_eq!(still["redundancy"]["losses_survivable"], 0, "{still:#}");
    // A leg that is left out of the table is missing, whatever else is wrong.
    let absent = "load ten \"0 $(($(sectors /dev/loop0) * 2)) raid raid10 3 128 region_size 1024 4 7:20 $(stat -Lc %Hr:%Lr /dev/mapper/under0) 7:21 $(stat -Lc %Hr:%Lr /dev/mapper/under1) 7:22 7:2 - -\"";
    sh(&lab, absent);
    let ten = lab.until("ten", "without a leg", |lun| {
        lun["drives"]
            .as_array()
            .is_some_and(|drives| drives.iter().any(|drive| drive["role"] == "missing"))
    });
    assert_eq!(ten["drives"].as_array().map(Vec::len), Some(4), "{ten:#}");
    assert_ne!(ten["health"], "VDS_H_HEALTHY", "{ten:#}");
}

/// LVM: names, owner, its sub-devices; a suspended metadata device stops nobody.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn an_lvm_mirror_is_shown_under_its_names() {
    let lab = Lab::start("dm-lvm");
    sh(
        &lab,
        "disks 3 64; pvcreate -q /dev/loop0 /dev/loop1 /dev/loop2 2>&1; vgcreate -q vg-a /dev/loop0 /dev/loop1 /dev/loop2; \
         lvcreate -q -y --type raid1 -m1 -L 16M -n lv-m vg-a",
    );
    let lun = lab.until("vg-a/lv-m", "healthy", |lun| {
        lun["health"] == "VDS_H_HEALTHY"
    });
    assert_eq!(lun["managed_by"], "lvm", "{lun:#}");
    assert_eq!(lun["driver"], "dm-raid", "{lun:#}");
    for name in ["/dev/vg-a/lv-m", "vg--a-lv--m", "/dev/mapper/vg--a-lv--m"] {
        assert_eq!(lab.ok(&format!("show {name}"))["id"], lun["id"]);
    }
    assert_eq!(lab.ok("list")["luns"].as_array().map(Vec::len), Some(1));
    lab.refused(
        "spare add /dev/mapper/vg--a-lv--m_rmeta_0",
        4,
        "VDS_E_DEVICE_IN_USE",
    );
    sh(
        &lab,
        "dmsetup suspend --noflush --nolockfs vg--a-lv--m_rmeta_0",
    );
    lab.ok("refresh");
    let blind = lab.ok("show vg-a/lv-m");
    assert_ne!(blind["health"], "VDS_H_HEALTHY", "{blind:#}");
    sh(&lab, "dmsetup resume vg--a-lv--m_rmeta_0");
    lab.ok("refresh");
    assert_eq!(lab.ok("show vg-a/lv-m")["health"], "VDS_H_HEALTHY");
    sh(&lab, "lvchange -q -an vg-a/lv-m");
    lab.until_gone("vg-a/lv-m");
    sh(&lab, "lvchange -q -ay vg-a/lv-m");
    let again = lab.until("vg-a/lv-m", "healthy", |lun| {
        lun["health"] == "VDS_H_HEALTHY"
    });
    assert_eq!(again["id"], lun["id"], "{again:#}");
}
