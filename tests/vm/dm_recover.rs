//! Recovery of raid sets made with dmsetup, on loop devices. Leg N has its data on `underN`, which can be
//! made to fail, and its metadata on `/dev/loop(20+N)`.

use serde_json::Value;

use super::dm::sh;
use super::lab::Lab;
use super::sampled::Sampled;

/// Functions of the scripts here, beside those of the tests of discovery.
const LEGS: &str = r#"
# number N: of underN. legs FIRST COUNT: their words in a table.
number() { stat -Lc %Hr:%Lr "/dev/mapper/under$1"; }
legs() { local n; for ((n = $1; n < $1 + $2; n++)); do echo -n " 7:$((20 + n)) $(number "$n")"; done; }
# make NAME TYPE LEGS SHARES CHUNK [OPTION...]: in sync.
make() {
    local name=$1 type=$2 count=$3 shares=$4 chunk=$5 n
    shift 5
    for ((n = 0; n < count; n++)); do
        under "$n"
        dd if=/dev/zero of="/dev/loop$((20 + n))" bs=64k count=4 oflag=direct status=none
    done
    dmsetup create "$name" --table "0 $(($(sectors /dev/loop0) * shares)) raid $type $((1 + $#)) $chunk $* $count$(legs 0 "$count")"
    still "$name"
    mkdir -p "$LAB/mapper"
}
# unmake NAME: and what lund has laid for it.
unmake() {
    local device
    dmsetup remove "$1"
    for device in $(dmsetup ls | grep -oE "^($1_lund_[^[:space:]]*|under[0-9]+)"); do dmsetup remove "$device"; done
    udevadm settle
}
# still NAME: waits, woken by its events, until it is idle and every leg is in sync.
still() {
    local tries=0
    until dmsetup status --noflush "$1" | grep -qE ' A+ ([0-9]+)/\1 idle'; do
        ((++tries < 600)) || { dmsetup status --noflush "$1" >&2; return 1; }
        read -rt 0.1 <> <(:) || true
    done
}
# offset NODE: how far the leg whose metadata this is has been filled, sectors; empty when it is in sync.
offset() {
    local hex
    hex=$(dd if="$1" bs=4096 count=1 iflag=direct status=none | od -An -v -tx8 -j32 -N8 | tr -d ' ')
    [ "$hex" = ffffffffffffffff ] || echo $((16#$hex))
}
# forgotten N...: nothing is left on loop devices, also of a leg, which wipefs does not know.
forgotten() { local n; for n in "$@"; do wipefs -qa "/dev/loop$n"; dd if=/dev/zero of="/dev/loop$n" bs=4k count=1 oflag=direct status=none; done; }
# meta NAME SLOT: node of the metadata that lund has laid.
meta() { echo /dev/mapper/"$1"_lund_meta_"$2"_*; }
written() { awk '{ print $7 }' "/sys/block/$1/stat"; }
"#;

pub(super) fn run(lab: &Lab, script: &str) -> String {
    sh(lab, &format!("{LEGS}\n{script}"))
}

/// Nothing of the set differs, its data is what it was, and the superblock of each new leg agrees.
pub(super) fn whole(lab: &Lab, name: &str, slots: &[u32]) -> Value {
    let lun = lab.until(name, "healthy, and at rest", |lun| {
        lun["health"] == "VDS_H_HEALTHY" && lun["operation"].is_null()
    });
    for slot in slots {
        run(lab, &format!("[ -z \"$(offset $(meta {name} {slot}))\" ]"));
    }
    run(
        lab,
        &format!(
            "same mapper/{name}; dmsetup table {name} | grep -v rebuild >/dev/null; dmsetup message {name} 0 check; still {name}; \
             [ \"$(dmsetup status {name} | cut -d' ' -f9)\" = 0 ]"
        ),
    );
    lun
}

/// Sets lose what they survive losing, and spares of the pool take over.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_lost_legs_are_replaced() {
    replaced(
        "dm-replaced",
        &[
            ("one", "raid1 2 1 0 region_size 1024", &[1]),
            ("five", "raid5_ls 3 2 128 region_size 1024", &[2]),
        ],
    );
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn two_lost_legs_are_replaced() {
    replaced(
        "dm-replaced-two",
        &[
            ("six", "raid6_zr 5 3 128 region_size 1024", &[1, 3]),
            ("ten", "raid10 4 2 128 region_size 1024", &[0, 3]),
        ],
    );
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_lost_leg_of_raid4_is_replaced() {
    let four = ("four", "raid4 3 2 128 region_size 1024", &[0][..]);
    replaced("dm-replaced-four", &[four]);
}

fn replaced(vm: &str, sets: &[(&str, &str, &[u32])]) {
    let lab = Sampled::of(Lab::start(vm));
    lab.sh("disks 5 16; disks 2 24 10; disks 5 2 20");
    for (name, make, lost) in sets {
        run(
            &lab,
            &format!("forgotten 10 11; make {name} {make}; fill mapper/{name}"),
        );
        lab.until(name, "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
        back(&lab, name, lost[0]);
        for (spare, slot) in (10..).zip(*lost) {
            run(&lab, &format!("dead {slot}"));
            lab.ok(&format!("spare add /dev/loop{spare}"));
        }
        run(
            &lab,
            &format!(
                "same mapper/{name}; dd if=/dev/mapper/{name} of=/dev/mapper/{name} bs=1M iflag=direct oflag=direct status=none"
            ),
        );
        lab.until(name, "degraded", |lun| {
            lun["health"] == "VDS_H_FAILED_REDUNDANCY"
                && lun["redundancy"]["members_in_sync"].as_u64()
                    == lun["redundancy"]["members_wanted"]
                        .as_u64()
                        .map(|wanted| wanted - lost.len() as u64)
        });
        let op = lab.ok(&format!("recover {name} --wait"));
        assert_eq!(op["state"], "succeeded", "{op:#}");
        let lun = whole(&lab, name, lost);
        assert_eq!(
            lun["recreate"].as_array().map(Vec::len),
            Some(lost.len() * 2 + 1),
            "{lun:#}"
        );
        assert_eq!(lab.ok("spare list")["drives"], serde_json::json!([]));
        // The superblocks of the old legs are gone: their table does not load any more.
        for slot in *lost {
            run(
                &lab,
                &format!("[ \"$(head -c 4 /dev/loop2{slot} | tr -d '\\0')\" = '' ]"),
            );
        }
        run(&lab, &format!("unmake {name}"));
        lab.until_gone(name);
    }
}

/// A leg of 16 MiB is away for a moment, in which something is written: it gets what it has missed, and no more.
fn back(lab: &Lab, name: &str, slot: u32) {
    run(
        lab,
        &format!("dead {slot}; touched {name} 8; sum mapper/{name} >$LAB/mapper/{name}.sum"),
    );
    lab.until(name, "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    let written = |script: &str| -> u64 {
        let sectors = run(lab, &format!("{script}; written loop{slot}"));
        sectors.trim().parse().unwrap()
    };
    let before = written(&format!("alive {slot}"));
    let op = lab.ok(&format!("recover {name} --wait"));
    assert_eq!(op["state"], "succeeded", "{op:#}");
    assert_eq!(op["phase"], "re-add", "{op:#}");
    let copied = written("true") - before;
    assert!(
        copied < 32_768 / 2,
        "{copied} sectors were written to {slot}"
    );
    whole(lab, name, &[]);
}

/// A leg that was away for a moment gets what it has missed, and no more.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_a_leg_that_is_back_is_taken_back() {
    let lab = Sampled::of(Lab::start("dm-revive"));
    run(
        &lab,
        "disks 2 32; disks 2 2 20; make r raid1 2 1 0 region_size 1024; fill mapper/r; dead 1; \
         dd if=/dev/urandom of=/dev/mapper/r bs=64k count=4 seek=9 oflag=direct status=none; sum mapper/r >$LAB/mapper/r.sum",
    );
    lab.until("r", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    // Nothing can be read of it yet, and nobody can take over.
    let op = lab.lunctl("recover r --wait");
    assert_ne!(op.status, 0, "{}", op.stdout);
    let before: u64 = run(&lab, "alive 1; written loop1").trim().parse().unwrap();
    let op = lab.ok("recover r --wait");
    assert_eq!(op["state"], "succeeded", "{op:#}");
    let after: u64 = run(&lab, "written loop1").trim().parse().unwrap();
    assert!(
        after - before < 65_536 / 4,
        "{} sectors were written to it",
        after - before
    );
    let lun = whole(&lab, "r", &[]);
    assert_eq!(lun["recreate"], serde_json::json!([]), "{lun:#}");
    // A check goes over everything, and says so truthfully.
    let op = lab.ok("verify r --wait");
    assert_eq!(op["state"], "succeeded", "{op:#}");
    run(
        &lab,
        "dd if=/dev/urandom of=/dev/loop1 bs=64k count=1 seek=99 oflag=direct status=none",
    );
    let differs = lab.lunctl("verify r --wait");
    assert_eq!(differs.status, 1, "{}", differs.stdout);
    let op = lab.ok("recover r --repair --wait");
    assert_eq!(op["state"], "succeeded", "{op:#}");
    whole(&lab, "r", &[]);
}

/// A mirror of 32 MiB that has lost leg 1, with a spare in the pool, filled at a crawl below a file system.
fn crawling(name: &str) -> Sampled {
    let lab = Sampled::of(Lab::start(name));
    run(
        &lab,
        "disks 2 32; disks 2 40 10; disks 2 2 20; make r raid1 2 1 0 region_size 1024 max_recovery_rate 400; \
         mkfs.ext4 -q /dev/mapper/r; mkdir -p /mnt/r; mount /dev/mapper/r /mnt/r; \
         head -c 9M /dev/urandom >/mnt/r/data; sync; b2sum </mnt/r/data >$LAB/data.sum; dead 1; \
         head -c 1M /dev/urandom >/mnt/r/more; sync",
    );
    lab.until("r", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    lab.ok("spare add /dev/loop10");
    lab
}

/// What was on the file system is, and every copy agrees.
fn kept(lab: &Lab) {
    run(
        lab,
        "[ \"$(b2sum </mnt/r/data)\" = \"$(cat $LAB/data.sum)\" ]; umount /mnt/r; fsck.ext4 -fn /dev/mapper/r >/dev/null 2>&1; \
         sum mapper/r >$LAB/mapper/r.sum",
    );
    whole(lab, "r", &[1]);
}

/// A held recovery stands still, under writes too, and goes on from its checkpoint.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_held_recovery_of_a_set_stands_still() {
    let lab = crawling("dm-held");
    lab.ok("recover r");
    run(
        &lab,
        "tries=0; until [ \"$(offset $(meta r 1))\" -gt 4096 ]; do ((++tries < 600)); read -rt 0.1 <> <(:) || true; done",
    );
    lab.refused("cancel r --release-spare", 4, "VDS_E_NOT_SUPPORTED");
    let cancelled = lab.ok("cancel r");
    assert_eq!(cancelled["state"], "cancelled", "{cancelled:#}");
    let held = lab.ok("show r");
    assert_eq!(held["held"], true, "{held:#}");
    assert_eq!(held["health"], "VDS_H_FAILED_REDUNDANCY", "{held:#}");
    let at: u64 = run(&lab, "offset $(meta r 1)").trim().parse().unwrap();
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(4) {
        run(&lab, "head -c 1M /dev/urandom >/mnt/r/more; sync");
        assert_ne!(lab.ok("show r")["health"], "VDS_H_HEALTHY");
    }
    let still: u64 = run(&lab, "offset $(meta r 1)").trim().parse().unwrap();
    assert!(still - at < 256, "{at} became {still}");
    let before: u64 = run(&lab, "written loop10").trim().parse().unwrap();
    let op = lab.ok("recover r --wait");
    assert_eq!(op["state"], "succeeded", "{op:#}");
    let copied: u64 = run(&lab, "written loop10").trim().parse().unwrap();
    assert!(
        copied - before < 65_536 - still + 4096,
        "{} sectors were copied after {still}",
        copied - before
    );
    assert_eq!(lab.ok("show r")["held"], false);
    kept(&lab);
}

/// The end of the daemon ends nothing.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_daemon_that_is_killed_goes_on_with_a_set() {
    let lab = crawling("dm-killed");
    let op = lab.ok("recover r");
    run(
        &lab,
        "tries=0; until [ -e \"$(meta r 1)\" ] && [ \"$(offset $(meta r 1))\" -gt 4096 ]; do ((++tries < 600)); read -rt 0.1 <> <(:) || true; done; \
         systemctl kill -s KILL lund; tries=0; until lunctl show r >/dev/null 2>&1; do ((++tries < 600)); read -rt 0.1 <> <(:) || true; done",
    );
    let ended = lab.ok(&format!("wait {}", op["id"]));
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    kept(&lab);
    // Killed right after it was asked: wherever that was, it is brought to its end.
    run(&lab, "wipefs -qa /dev/loop11; dead 0; touched r; true");
    lab.until("r", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    lab.ok("spare add /dev/loop11");
    run(
        &lab,
        "sum mapper/r >$LAB/mapper/r.sum; lunctl recover r >/dev/null; until dmsetup ls | grep -q r_lund_meta_0; do :; done; systemctl kill -s KILL lund; \
         tries=0; until lunctl show r >/dev/null 2>&1; do ((++tries < 600)); read -rt 0.1 <> <(:) || true; done",
    );
    whole(&lab, "r", &[0, 1]);
}

/// With both legs of a pair gone nothing is filled, and nobody says so.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_pair_that_is_lost_is_not_recovered() {
    let lab = Sampled::of(Lab::start("dm-pair"));
    run(
        &lab,
        "disks 4 16; disks 1 24 10; disks 4 2 20; make ten raid10 4 2 128 region_size 1024; fill mapper/ten; dead 0; touched ten 8",
    );
    lab.until("ten", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    lab.ok("spare add /dev/loop10");
    run(&lab, "dead 1; touched ten 8");
    // What has become of the last leg the kernel tells to nobody.
    lab.ok("refresh");
    lab.refused("recover ten", 4, "VDS_E_OBJECT_STATUS_FAILED");
    let lun = lab.ok("show ten");
    assert_ne!(lun["health"], "VDS_H_HEALTHY", "{lun:#}");
    // With its partner back it can be done after all.
    run(&lab, "alive 1");
    run(&lab, "dd if=/dev/mapper/ten of=/dev/null bs=1M status=none");
}
