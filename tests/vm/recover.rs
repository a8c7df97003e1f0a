//! Recover, every level times every kind, on a real kernel: the data is the same afterwards,
//! every copy agrees, and mdadm says what lund says.

use super::lab::Lab;

/// A level with the members that its tests use.
#[derive(Clone, Copy)]
struct Level {
    name: &'static str,
    members: u32,
}

const RAID1: Level = Level {
    name: "raid1",
    members: 2,
};
const RAID4: Level = Level {
    name: "raid4",
    members: 3,
};
const RAID5: Level = Level {
    name: "raid5",
    members: 3,
};
const RAID6: Level = Level {
    name: "raid6",
    members: 4,
};
const RAID10: Level = Level {
    name: "raid10",
    members: 4,
};

/// An array of the level with data on it, and spare disks from `loop8` on.
fn prepared(name: &str, level: Level, options: &str) -> Lab {
    let lab = Lab::start(name);
    make(&lab, level, options);
    lab
}

fn make(lab: &Lab, level: Level, options: &str) {
    let Level { name, members } = level;
    lab.sh(&format!(
        "disks {members}; disks 2 24 8; array md0 {name} {members} {options}; fill md0"
    ));
}

fn succeeded(op: &serde_json::Value, phase: &str) {
    assert_eq!(op["state"], "succeeded", "{op:#}");
    assert_eq!(op["hresult"], "0x00000000", "{op:#}");
    assert_eq!(op["hresult_name"], "S_OK", "{op:#}");
    assert_eq!(op["percent"], 100, "{op:#}");
    assert_eq!(op["phase"], phase, "{op:#}");
    assert_eq!(op["async_output"], "VDS_ASYNCOUT_RECOVERLUN", "{op:#}");
}

/// A spare that is attached already; frozen, or the kernel would take it by itself.
fn attached_spare(level: Level) {
    let lab = prepared(&format!("{}-attached", level.name), level, "--bitmap=none");
    lab.sh("mdadm --quiet /dev/md0 --add-spare /dev/loop8; idle md0; \
            echo frozen >/sys/block/md0/md/sync_action; lose md0 loop1");
    let op = lab.ok("recover md0 --wait");
    succeeded(&op, "rebuild");
    assert_eq!(op["spare"], "/dev/loop8");
    lab.whole("md0", level.members);
}

fn pool_spare(level: Level) {
    let lab = prepared(&format!("{}-pool", level.name), level, "--bitmap=none");
    lab.ok("spare add /dev/loop8");
    lab.sh("lose md0 loop1; blank loop1");
    let degraded = lab.until("md0", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    assert_eq!(degraded["redundancy"]["members_in_sync"], level.members - 1);
    let plan = lab.ok("recover md0 --dry-run");
    assert_eq!(plan["plan"]["phase"], "rebuild", "{plan:#}");
    assert_eq!(
        lab.sh("grep -c loop8 /proc/mdstat || true").trim(),
        "0",
        "a dry run acts"
    );
    let op = lab.ok("recover md0 --wait");
    succeeded(&op, "rebuild");
    assert_eq!(op["spare"], "/dev/loop8");
    lab.whole("md0", level.members);
    let spares = lab.ok("spare list");
    assert_eq!(
        spares["drives"].as_array().map(Vec::len),
        Some(0),
        "{spares:#}"
    );
    // Nothing is left to do: finished at once.
    let idle = lab.ok("recover md0");
    succeeded(&idle, "none");
    assert!(idle["id"].as_u64() > op["id"].as_u64());
}

/// `--spare` insists on a drive, although another would fit.
fn named_spare(level: Level) {
    let lab = prepared(&format!("{}-named", level.name), level, "--bitmap=none");
    lab.ok("spare add /dev/loop8");
    lab.sh("lose md0 loop1; blank loop1");
    let op = lab.ok("recover md0 --spare /dev/loop9 --wait");
    succeeded(&op, "rebuild");
    assert_eq!(op["spare"], "/dev/loop9");
    lab.whole("md0", level.members);
    assert_eq!(
        lab.ok("spare list")["drives"].as_array().map(Vec::len),
        Some(1)
    );
}

/// Out of step after an unclean stop, and read-auto as Debian assembles arrays.
fn dirty_read_auto(level: Level) {
    let lab = prepared(&format!("{}-dirty", level.name), level, "--bitmap=none");
    lab.sh(
        "members=$(seq -f /dev/loop%g 0 $(($(cat /sys/block/md0/md/raid_disks) - 1))); \
            mdadm --quiet --stop /dev/md0; echo 1 >/sys/module/md_mod/parameters/start_ro; \
            mdadm --quiet --assemble --update=resync /dev/md0 $members 2>&1; cat /proc/mdstat",
    );
    let lun = lab.until("md0", "read-auto", |lun| lun["auto_read_only"] == true);
    assert_eq!(lun["health"], "VDS_H_FAILING_REDUNDANCY", "{lun:#}");
    assert_eq!(lun["sync"]["queued"], true, "{lun:#}");
    let op = lab.ok("recover md0 --wait");
    succeeded(&op, "resync");
    lab.whole("md0", level.members);
}

/// Out of step, writable, and nothing runs.
fn dirty(level: Level) {
    let lab = prepared(&format!("{}-resync", level.name), level, "--bitmap=none");
    lab.sh("echo frozen >/sys/block/md0/md/sync_action; echo 0 >/sys/block/md0/md/resync_start");
    let op = lab.ok("recover md0 --wait");
    succeeded(&op, "resync");
    lab.whole("md0", level.members);
}

/// A copy was changed behind the array's back: verify finds it, `--repair` mends it.
fn repair(level: Level) {
    let lab = prepared(&format!("{}-repair", level.name), level, "--bitmap=none");
    let last = level.members - 1;
    lab.sh(&format!(
        "offset=$(($(cat /sys/block/md0/md/dev-loop{last}/offset) * 512)); \
         dd if=/dev/urandom of=/dev/loop{last} bs=4k count=16 seek=$((offset / 4096 + 512)) \
         oflag=direct conv=fsync,notrunc status=none"
    ));
    let verify = lab.lunctl("verify md0 --wait");
    assert_eq!(verify.status, 1, "{verify:?}");
    assert_eq!(verify.json["state"], "failed", "{verify:?}");
    assert_eq!(verify.json["phase"], "check", "{verify:?}");
    let op = lab.ok("recover md0 --repair --wait");
    succeeded(&op, "repair");
    let verify = lab.ok("verify md0 --wait");
    assert_eq!(verify["state"], "succeeded", "{verify:#}");
    lab.sh("consistent md0; healthy md0 $(cat /sys/block/md0/md/raid_disks)");
}

/// A member that works and is flagged: the copy comes first, the old member leaves afterwards.
fn failing_member(level: Level) {
    let lab = prepared(&format!("{}-failing", level.name), level, "--bitmap=none");
    lab.ok("spare add /dev/loop8");
    lab.sh("echo want_replacement >/sys/block/md0/md/dev-loop1/state; slow md0 4000");
    let lun = lab.until("md0", "failing", |lun| {
        lun["health"] == "VDS_H_FAILING_REDUNDANCY"
    });
    assert_eq!(
        lun["redundancy"]["members_in_sync"], level.members,
        "{lun:#}"
    );
    let op = lab.ok("recover md0");
    let lun = lab.until("md0", "being copied", |lun| {
        lun["drives"]
            .as_array()
            .is_some_and(|all| all.iter().any(|d| d["role"] == "replacing"))
    });
    // Redundancy never drops while the copy is made.
    assert_eq!(
        lun["redundancy"]["members_in_sync"], level.members,
        "{lun:#}"
    );
    assert_eq!(lab.sh("cat /sys/block/md0/md/degraded").trim(), "0");
    lab.sh("fast md0");
    let op = lab.ok(&format!("wait {}", op["id"]));
    succeeded(&op, "replace");
    assert_eq!(op["spare"], "/dev/loop8");
    lab.whole("md0", level.members);
    assert_eq!(
        lab.sh("grep -c 'loop1\\[' /proc/mdstat || true").trim(),
        "0",
        "not retired"
    );
}

/// A former member with a bitmap: only the difference is copied, and it is copied.
fn former_member(level: Level) {
    let lab = prepared(&format!("{}-readd", level.name), level, "--bitmap=internal");
    lab.sh("lose md0 loop1; \
            dd if=/dev/urandom of=/dev/md0 bs=64k count=8 seek=3 oflag=direct conv=fsync status=none; \
            sum md0 >$LAB/md0.sum");
    lab.until("md0", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    let plan = lab.ok("recover md0 --dry-run");
    assert_eq!(plan["plan"]["phase"], "re-add", "{plan:#}");
    let op = lab.ok("recover md0 --wait");
    succeeded(&op, "re-add");
    assert_eq!(op["spare"], "/dev/loop1");
    lab.whole("md0", level.members);
}

/// Without a bitmap a re-add would take stale data for good: it is wiped and filled anew.
fn former_member_without_bitmap(level: Level) {
    let lab = prepared(&format!("{}-stale", level.name), level, "--bitmap=none");
    // udev passes over a device that is locked when its event comes: it may know nothing of it.
    lab.sh("lose md0 loop1; rm -f /run/udev/data/b7:1; \
            dd if=/dev/urandom of=/dev/md0 bs=64k count=8 seek=3 oflag=direct conv=fsync status=none; \
            sum md0 >$LAB/md0.sum");
    lab.until("md0", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    let op = lab.ok("recover md0 --wait");
    succeeded(&op, "rebuild");
    assert_eq!(op["spare"], "/dev/loop1");
    lab.whole("md0", level.members);
}

/// Mounted, on LVM, and written all the while.
fn busy(level: Level) {
    let lab = prepared(&format!("{}-busy", level.name), level, "--bitmap=none");
    lab.sh("pvcreate -qq /dev/md0 && vgcreate -qq vg0 /dev/md0 && lvcreate -qq -n data -l 90%FREE vg0; \
            mkfs.ext4 -q /dev/vg0/data; mkdir -p /mnt/data; mount /dev/vg0/data /mnt/data; \
            lose md0 loop1; blank loop1; slow md0 2000");
    lab.ok("spare add /dev/loop8");
    let writer = lab.spawn(
        "n=0; until [ -e /tmp/stop ]; do n=$((n + 1)); \
         head -c 65536 /dev/urandom >/mnt/data/file$((n % 40)); \
         sha256sum /mnt/data/file$((n % 40)) >/mnt/data/sum$((n % 40)); \
         sync /mnt/data/file$((n % 40)) /mnt/data/sum$((n % 40)); done; echo $n",
    );
    let op = lab.ok("recover md0");
    lab.until("md0", "rebuilding", |lun| {
        lun["health"] == "VDS_H_REBUILDING"
    });
    lab.sh("fast md0");
    let op = lab.ok(&format!("wait {}", op["id"]));
    succeeded(&op, "rebuild");
    lab.sh("touch /tmp/stop");
    let written = writer.wait(super::lab::PATIENCE).unwrap();
    assert_eq!(written.status, 0);
    lab.sh(
        "umount /mnt/data; echo 3 >/proc/sys/vm/drop_caches; consistent md0; \
            mount /dev/vg0/data /mnt/data; cat /mnt/data/sum* | sha256sum --check --quiet; \
            umount /mnt/data; e2fsck -fn /dev/vg0/data >/dev/null; \
            healthy md0 $(cat /sys/block/md0/md/raid_disks)",
    );
}

/// Two slots empty, one operation, one pass.
fn several_missing(level: Level, lost: [u32; 2]) {
    let lab = prepared(&format!("{}-two", level.name), level, "--bitmap=none");
    lab.ok("spare add /dev/loop8");
    lab.ok("spare add /dev/loop9");
    for member in lost {
        lab.sh(&format!("lose md0 loop{member}; blank loop{member}"));
    }
    let op = lab.ok("recover md0 --wait");
    succeeded(&op, "rebuild");
    lab.whole("md0", level.members);
}

/// Two slots empty and one spare: what can be done is done, and the rest is said.
fn one_spare_for_two(level: Level, lost: [u32; 2]) {
    let lab = prepared(&format!("{}-short", level.name), level, "--bitmap=none");
    lab.ok("spare add /dev/loop8");
    for member in lost {
        lab.sh(&format!("lose md0 loop{member}; blank loop{member}"));
    }
    let cli = lab.lunctl("recover md0 --wait");
    assert_eq!(
        cli.json["hresult_name"], "VDS_E_NOT_ENOUGH_DRIVE",
        "{cli:?}"
    );
    assert_eq!(cli.status, 1, "{cli:?}");
    let lun = lab.ok("show md0");
    assert_eq!(
        lun["redundancy"]["members_in_sync"],
        level.members - 1,
        "{lun:#}"
    );
    assert_eq!(lun["health"], "VDS_H_FAILED_REDUNDANCY", "{lun:#}");
    lab.same("md0");
}

macro_rules! matrix {
    ($($level:ident = $of:expr;)*) => { $(
        mod $level {
            use super::*;
            matrix!(@tests $of; attached_spare pool_spare named_spare dirty dirty_read_auto repair
                failing_member former_member former_member_without_bitmap busy);
        }
    )* };
    (@tests $of:expr; $($kind:ident)*) => { $(
        #[test]
        #[ignore = "needs a virtual machine: scripts/test runs it"]
        fn $kind() {
            super::$kind($of);
        }
    )* };
}

matrix! {
    raid1 = RAID1;
    raid4 = RAID4;
    raid5 = RAID5;
    raid6 = RAID6;
    raid10 = RAID10;
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn raid6_two_missing() {
    several_missing(RAID6, [1, 3]);
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn raid10_two_missing() {
    several_missing(RAID10, [1, 2]);
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn raid1_of_three_two_missing() {
    several_missing(
        Level {
            name: "raid1",
            members: 3,
        },
        [1, 2],
    );
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn raid6_two_missing_one_spare() {
    one_spare_for_two(RAID6, [0, 2]);
}

/// A short walk over the main job, for the kernels that do not get the whole suite.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_pool_spare_raid5() {
    pool_spare(RAID5);
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_former_member_raid1() {
    former_member(RAID1);
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_failing_member_raid10() {
    failing_member(RAID10);
}
