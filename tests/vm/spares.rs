//! The pool: registered by identity, remembered, refused with a reason, never written to.

use super::lab::Lab;

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_refused_with_the_reason() {
    let lab = Lab::start("refused");
    lab.sh("disks 4; disks 1 4 8; disks 5 24 9; array md0 raid1 2 --bitmap=none; \
            FIRST=2 array md1 raid1 2 --bitmap=none; \
            mkfs.ext4 -q /dev/loop9; mkfs.ext4 -q /dev/loop10; mkdir -p /mnt/x; mount -o ro,noload /dev/loop10 /mnt/x; \
            dmsetup create held --table \"0 1024 linear /dev/loop11 0\"; \
            blockdev --setro /dev/loop12; \
            losetup --detach /dev/loop13; losetup --sector-size 4096 /dev/loop13 $LAB/disk13; udevadm settle; \
            sha256sum $LAB/disk* >$LAB/before");
    lab.until("md1", "there", |lun| lun["health"] == "VDS_H_HEALTHY");
    for (drive, name) in [
        ("/dev/loop8", "VDS_E_MEMBER_SIZE_INVALID"),
        ("/dev/loop9", "VDS_E_OPERATION_DENIED"),
        ("/dev/loop10", "VDS_E_DEVICE_IN_USE"),
        ("/dev/loop11", "VDS_E_DEVICE_IN_USE"),
        ("/dev/loop12", "VDS_E_MEDIA_WRITE_PROTECTED"),
        ("/dev/loop13", "VDS_E_INVALID_SECTOR_SIZE"),
        ("/dev/loop2", "VDS_E_DISK_IN_USE_BY_VOLUME"),
    ] {
        let error = lab.refused(&format!("spare add {drive}"), 4, name);
        assert!(
            error["message"].as_str().unwrap().contains(drive),
            "{error:#}"
        );
    }
    lab.refused("spare add /dev/nonesuch", 3, "VDS_E_OBJECT_NOT_FOUND");
    // Forcing overrides the signature only.
    lab.refused("spare add /dev/loop10 --force", 4, "VDS_E_DEVICE_IN_USE");
    lab.ok("spare add /dev/loop9 --force");
    lab.sh("sha256sum --check --quiet $LAB/before");
    // Taken when needed: only then is the signature erased.
    lab.sh("lose md0 loop1; blank loop1");
    let op = lab.ok("recover md0 --wait");
    assert_eq!(op["spare"], "/dev/loop9", "{op:#}");
    lab.sh("healthy md0 2; consistent md0");
}

/// Known by what it is: another name and another restart change nothing.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn remembered_by_identity() {
    let lab = Lab::start("remembered");
    lab.sh("disks 2; disks 2 24 8; array md0 raid1 2 --bitmap=none; fill md0");
    let added = lab.ok("spare add /dev/loop8");
    lab.sh("systemctl restart lund");
    let spares = lab.ok("spare list");
    assert_eq!(spares["drives"][0]["id"], added["id"], "{spares:#}");
    // The same drive under another name, another drive under its name.
    lab.sh("losetup --detach /dev/loop8; losetup --detach /dev/loop9; \
            losetup /dev/loop8 $LAB/disk9; losetup /dev/loop9 $LAB/disk8; udevadm settle");
    lab.ok("refresh");
    let spares = lab.ok("spare list");
    assert_eq!(spares["drives"][0]["device"], "/dev/loop9", "{spares:#}");
    lab.sh("lose md0 loop1; blank loop1");
    let op = lab.ok("recover md0 --wait");
    assert_eq!(op["spare"], "/dev/loop9", "{op:#}");
    lab.whole("md0", 2);
    assert_eq!(
        lab.ok("spare list")["drives"].as_array().map(Vec::len),
        Some(0)
    );
}

/// A pool drive that somebody wrote to since is not taken.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn not_taken_once_it_holds_data() {
    let lab = Lab::start("data");
    lab.sh("disks 2; disks 1 24 8; array md0 raid1 2 --bitmap=none; fill md0");
    lab.ok("spare add /dev/loop8");
    lab.sh(
        "mkfs.ext4 -q /dev/loop8; sha256sum $LAB/disk8 >$LAB/before; lose md0 loop1; blank loop1; \
            losetup --detach /dev/loop1",
    );
    let error = lab.refused("recover md0", 4, "VDS_E_NOT_ENOUGH_DRIVE");
    assert!(
        error["message"].as_str().unwrap().contains("ext4"),
        "{error:#}"
    );
    lab.sh("sha256sum --check --quiet $LAB/before");
    lab.ok("spare remove /dev/loop8");
    assert_eq!(
        lab.ok("spare list")["drives"].as_array().map(Vec::len),
        Some(0)
    );
}

/// `replace` moves a healthy member's data away, and `--with` chooses where.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn replace_a_member() {
    let lab = Lab::start("replace");
    lab.sh("disks 3; disks 2 24 8; array md0 raid5 3 --bitmap=none; fill md0");
    let op = lab.ok("replace md0 /dev/loop2 --with /dev/loop9 --wait");
    assert_eq!(op["kind"], "replace", "{op:#}");
    assert_eq!(op["state"], "succeeded", "{op:#}");
    assert_eq!(op["async_output"], "VDS_ASYNCOUT_REPLACEDISK", "{op:#}");
    lab.whole("md0", 3);
    assert_eq!(
        lab.sh("grep -c 'loop2\\[' /proc/mdstat || true").trim(),
        "0"
    );
}
