//! Volumes of LVM on real kernels: legs lost and back, lost and replaced, held, with a file system
//! written all the while, and never called healthy while a leg is not in sync.

use serde_json::Value;

use super::lab::Lab;
use super::sampled::Sampled;

/// Functions of the scripts here. `volumes COUNT MIB`: physical volumes of the group `vg` on mapped
/// devices, which `dead N` takes away and `alive N` gives back. LVM sees the upper devices alone.
const GROUP: &str = r#"
sectors() { blockdev --getsz "$1"; }
under() { dmsetup create "under$1" --table "0 $(sectors "/dev/loop$1") linear /dev/loop$1 0"; }
swap() { dmsetup suspend --noflush --nolockfs "under$1"; dmsetup reload "under$1" --table "$2"; dmsetup resume "under$1"; }
dead() { swap "$1" "0 $(sectors "/dev/loop$1") error"; }
alive() { swap "$1" "0 $(sectors "/dev/loop$1") linear /dev/loop$1 0"; udevadm settle; }
volumes() {
    local n; local -a nodes
    cat >/etc/lvm/lvmlocal.conf <<'CONF'
devices { global_filter=[ "a|^/dev/mapper/under|", "a|^/dev/loop[89]$|", "r|.*|" ] }
CONF
    disks "$1" "$2"
    for ((n = 0; n < $1; n++)); do under "$n"; nodes+=("/dev/mapper/under$n"); done
    pvcreate -q "${nodes[@]}" 2>&1; vgcreate -q -s 1M vg "${nodes[@]}" 2>&1
}
pv() { for n in "$@"; do echo "/dev/mapper/under$n"; done; }
# mounted: a file system on the volume, with a file to be compared in the end and one that is written.
mounted() {
    mkfs.ext4 -q /dev/vg/m; mkdir -p /mnt/m; mount /dev/vg/m /mnt/m
    head -c 6M /dev/urandom >/mnt/m/kept; b2sum </mnt/m/kept >/run/kept; sync
}
written() { dd if=/dev/urandom of=/mnt/m/written bs=64k count="${1:-8}" conv=fsync status=none; }
kept() {
    umount /mnt/m; e2fsck -fn /dev/vg/m >/dev/null; echo 3 >/proc/sys/vm/drop_caches
    mount -o ro /dev/vg/m /mnt/m; b2sum </mnt/m/kept | cmp - /run/kept; umount /mnt/m
    [ "$(lvs --noheadings -o raid_sync_action,sync_percent,lv_health_status vg/m 2>/dev/null | xargs)" = "idle 100.00" ]
    perl /opt/lund/sampled.pl vg-m
}
pace() { echo "$1" >/proc/sys/dev/raid/speed_limit_max; echo "$1" >/proc/sys/dev/raid/speed_limit_min; }
"#;

fn sh(lab: &Lab, script: &str) -> String {
    lab.sh(&format!("{GROUP}\n{script}"))
}

/// A group and the volume `vg/m` in it, in sync, with a file system mounted.
fn volume(name: &str, volumes: &str, create: &str) -> Sampled {
    let lab = Sampled::of(Lab::start(name));
    sh(
        &lab,
        &format!("volumes {volumes}; lvcreate -q -y -n m {create} 2>&1"),
    );
    lab.until("vg/m", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    sh(&lab, "mounted");
    lab
}

/// Takes devices away and writes until their loss is seen.
fn lose(lab: &Lab, numbers: &str) -> Value {
    sh(
        lab,
        &format!("for n in {numbers}; do dead $n; done; written 16"),
    );
    lab.until("vg/m", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    })
}

/// Asks for a recovery and waits for its end.
fn recovered(lab: &Lab, arguments: &str) -> Value {
    let op = lab.ok(&format!("recover vg/m {arguments} --wait"));
    assert_eq!(op["state"], "succeeded", "{op:#}");
    let lun = lab.ok("show vg/m");
    assert_eq!(lun["health"], "VDS_H_HEALTHY", "{lun:#}");
    op
}

/// A leg is lost and its device comes back: of its so many MiB only what was written meanwhile is copied.
fn back(lab: &Lab, number: u32, mib: u64) {
    lose(lab, &number.to_string());
    let written = format!("awk '{{print $7}}' /sys/block/loop{number}/stat");
    let sectors = || sh(lab, &written).trim().parse::<u64>().unwrap();
    let before = sectors();
    sh(lab, &format!("alive {number}"));
    let op = recovered(lab, "");
    assert_eq!(op["phase"], "re-add", "{op:#}");
    let copied = sectors() - before;
    assert!(
        copied < mib * 2048 / 2,
        "{copied} sectors were written to a leg that missed a few"
    );
}

/// A mirror: a leg that is back is taken back, one that is gone is replaced.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_a_mirror_of_lvm_is_mended() {
    let lab = volume("lvm-mirror", "3 64", "--type raid1 -m1 -L 40M vg $(pv 0 1)");
    back(&lab, 1, 40);
    lose(&lab, "1");
    let plan = lab.ok("recover vg/m --dry-run");
    let candidates = plan["plan"]["candidates"].as_array().unwrap();
    let taken: Vec<_> = candidates
        .iter()
        .filter(|candidate| candidate["verdict"]["verdict"] == "taken")
        .collect();
    assert_eq!(taken.len(), 1, "{plan:#}");
    let op = recovered(&lab, "");
    assert_eq!(op["phase"], "rebuild", "{op:#}");
    sh(
        &lab,
        "kept; lvs -a vg | grep -q 'm_rimage_1'; lvs -a --noheadings -o devices vg/m_rimage_1 | grep -q under2",
    );
    // LVM itself refuses to compare while a physical volume of the group is missing.
    let refused = lab.lunctl("verify vg/m --wait");
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stdout.contains("PVs are missing"), "{refused:?}");
    sh(&lab, "vgreduce -q --removemissing vg 2>&1");
    for verb in ["verify vg/m --wait", "recover vg/m --repair --wait"] {
        assert_eq!(lab.ok(verb)["state"], "succeeded", "{verb}");
    }
    sh(&lab, "pace 2000");
    let check = lab.ok("verify vg/m")["id"].clone();
    lab.refused(&format!("cancel {check}"), 4, "VDS_E_NOT_SUPPORTED");
    sh(&lab, "pace 200000");
    assert_eq!(lab.ok(&format!("wait {check}"))["state"], "succeeded");
}

/// Parity: held in the middle and resumed, with the daemon killed meanwhile.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_recovery_of_lvm_is_held_killed_and_resumed() {
    let lab = volume("lvm-held", "4 64", "--type raid5 -i2 -L 80M vg $(pv 0 1 2)");
    lose(&lab, "2");
    sh(&lab, "pace 800");
    let op = lab.ok("recover vg/m");
    let id = op["id"].as_u64().unwrap();
    // Killed while LVM is at work: that goes on, and so does the operation.
    sh(
        &lab,
        "until pgrep -f '[l]vm lvconvert' >/dev/null; do :; done
         kill -9 $(systemctl show -p MainPID --value lund); pgrep -f '[l]vm lvconvert' >/dev/null",
    );
    lab.until("vg/m", "rebuilding", |lun| {
        lun["operation"]["id"].as_u64() == Some(id)
            && lun["operation"]["state"] == "running"
            && lun["operation"]["percent"].as_u64() > Some(0)
    });
    sh(
        &lab,
        "systemctl kill -s KILL lund; ! pgrep -f '[l]vm lvconvert'",
    );
    lab.until("vg/m", "seen again", |lun| {
        lun["operation"]["id"].as_u64() == Some(id) && lun["operation"]["state"] == "running"
    });
    lab.ok(&format!("cancel {id}"));
    assert_eq!(lab.ok(&format!("status {id}"))["state"], "cancelled");
    let held = lab.ok("show vg/m");
    assert_eq!(held["held"], true, "{held:#}");
    assert_ne!(held["health"], "VDS_H_HEALTHY", "{held:#}");
    let at = "dmsetup status --noflush vg-m | cut -d' ' -f7";
    sh(
        &lab,
        &format!(
            "pace 200000; before=$({at}); written 16; written 16; [ \"$({at})\" = \"$before\" ]; \
             dmsetup table vg-m | grep -q 'max_recovery_rate 1 '"
        ),
    );
    let again = recovered(&lab, "");
    assert_ne!(again["id"].as_u64(), Some(id), "{again:#}");
    sh(
        &lab,
        "kept; ! dmsetup table vg-m | grep -q recovery_rate; ! dmsetup table vg-m | grep -q ' rebuild '",
    );
    assert_eq!(lab.ok("show vg/m")["held"], false);
}

/// RAID6 loses two legs at once; RAID4 one.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn parity_of_lvm_is_mended() {
    let lab = volume(
        "lvm-raid6",
        "7 40",
        "--type raid6 -i3 -L 60M vg $(pv 0 1 2 3 4)",
    );
    back(&lab, 1, 20);
    lose(&lab, "0 3");
    recovered(&lab, "");
    sh(
        &lab,
        "kept; lvremove -qy vg/m 2>&1; vgreduce -q --removemissing vg 2>&1; \
              lvcreate -q -y -n m --type raid4 -i2 -L 40M vg $(pv 1 2 4) 2>&1",
    );
    lab.until("vg/m", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    sh(&lab, "mounted");
    back(&lab, 2, 20);
    lose(&lab, "4");
    recovered(&lab, "");
    sh(&lab, "kept");
}

/// RAID10: a leg is replaced; both legs of a pair are lost for good, and that is said.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_a_lost_pair_of_lvm_is_refused() {
    let lab = volume(
        "lvm-raid10",
        "6 40",
        "--type raid10 -i2 -m1 -L 48M vg $(pv 0 1 2 3)",
    );
    let leg = lab.ok("show vg/m")["drives"][0]["device"].clone();
    let replace = format!("replace vg/m {}", leg.as_str().unwrap());
    lab.refused(&replace, 4, "VDS_E_NOT_SUPPORTED");
    back(&lab, 1, 24);
    lose(&lab, "0");
    recovered(&lab, "");
    sh(
        &lab,
        "kept; mount /dev/vg/m /mnt/m; dead 2; dead 3; written 64 || true; dd if=/dev/vg/m of=/dev/null bs=1M iflag=direct 2>/dev/null || true",
    );
    lab.ok("refresh");
    let error = lab.refused("recover vg/m", 4, "VDS_E_OBJECT_STATUS_FAILED");
    println!("{error:#}");
}

/// A group without room: the reason for each volume; with a spare of the pool where that is allowed.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_group_without_room_is_extended_where_that_is_allowed() {
    let lab = volume("lvm-room", "2 64", "--type raid1 -m1 -L 40M vg");
    sh(&lab, "disks 1 64 8; lunctl spare add /dev/loop8");
    lose(&lab, "1");
    let error = lab.refused("recover vg/m", 4, "VDS_E_NOT_ENOUGH_DRIVE");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("physical volume"),
        "{error:#}"
    );
    sh(
        &lab,
        "mkdir -p /etc/lund/lund.d; printf '[lvm]\\nextend_groups = true\\n' >/etc/lund/lund.d/lvm.toml; systemctl restart lund",
    );
    lab.until("vg/m", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    recovered(&lab, "");
    let spares = lab.ok("spare list");
    assert_eq!(
        spares["drives"].as_array().map(Vec::len),
        Some(0),
        "{spares:#}"
    );
    sh(
        &lab,
        "kept; pvs --noheadings -o vg_name /dev/loop8 | grep -q vg",
    );
}

/// The host is started anew amid a recovery: the operation goes on under its number.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_reboot_ends_no_recovery_of_lvm() {
    let mut lab = Sampled::of(Lab::with_disks("lvm-reboot", vec![64 << 20; 3]));
    lab.sh("systemctl enable --quiet lund; systemctl start lund");
    let disk = |n: u32| format!("/dev/disk/by-id/virtio-disk{n}");
    let disks: Vec<String> = (0..3).map(disk).collect();
    sh(
        &lab,
        &format!(
            "pvcreate -q {all} 2>&1; vgcreate -q -s 1M vg {all} 2>&1
             lvcreate -q -y -n m --type raid1 -m1 -L 48M vg {first} {second} 2>&1",
            all = disks.join(" "),
            first = disks[0],
            second = disks[1],
        ),
    );
    lab.until("vg/m", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    sh(
        &lab,
        &format!(
            "mounted; pace 1000; gone=$(readlink -f /sys/class/block/$(basename $(readlink -f {}))/device)
             echo $(basename $gone) >/sys/bus/virtio/drivers/virtio_blk/unbind; written 16",
            disks[1]
        ),
    );
    lab.until("vg/m", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    let id = lab.ok("recover vg/m")["id"].as_u64().unwrap();
    lab.until("vg/m", "under way", |lun| {
        lun["operation"]["percent"].as_u64() > Some(10)
    });
    // With the lost volume in the group LVM would refuse the repair that ends it.
    sh(
        &lab,
        "vgreduce -q --removemissing vg 2>&1; cp /run/kept /root/kept; umount /mnt/m",
    );
    lab.judge();
    lab.vm.reboot().unwrap();
    lab.sample();
    let end = lab.ok(&format!("wait {id}"));
    assert_eq!(end["state"], "succeeded", "{end:#}");
    lab.until("vg/m", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    sh(
        &lab,
        "cp /root/kept /run/kept; mkdir -p /mnt/m; mount /dev/vg/m /mnt/m; kept",
    );
}

/// The codes of the VDS page of `IVdsLun::Recover`, of volumes of LVM.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn the_codes_of_the_page_hold_for_lvm() {
    let lab = volume(
        "lvm-codes",
        "6 40",
        "--type raid5 -i2 -L 32M vg $(pv 2 3 4)",
    );
    sh(
        &lab,
        "lvcreate -q -y -n z --type raid0 -i2 -L 16M vg $(pv 0 1) 2>&1; \
         lvcreate -q -y -n n --type raid1 -m1 -L 16M vg $(pv 0 1) 2>&1",
    );
    lab.until("vg/z", "there", |lun| lun["health"] == "VDS_H_HEALTHY");
    let before = lab.until("vg/n", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    lab.refused("recover vg/z", 4, "VDS_E_INVALID_OPERATION");
    sh(&lab, "pace 500");
    lab.ok("verify vg/n");
    lab.refused("recover vg/n", 5, "VDS_E_ANOTHER_CALL_IN_PROGRESS");
    sh(&lab, "pace 200000");
    assert_eq!(lab.ok("wait vg/n")["state"], "succeeded");
    sh(
        &lab,
        "umount /mnt/m; dead 2; dead 3; dd if=/dev/zero of=/dev/vg/m bs=1M count=4 oflag=direct 2>/dev/null || true",
    );
    let failed = lab.until("vg/m", "failed", |lun| lun["status"] == "VDS_LS_FAILED");
    assert_eq!(failed["health"], "VDS_H_FAILED", "{failed:#}");
    lab.refused("recover vg/m", 4, "VDS_E_OBJECT_STATUS_FAILED");
    // Made anew under its name while nobody could look.
    sh(
        &lab,
        "alive 2; alive 3; systemctl kill --signal=STOP lund; lvremove -qy vg/n 2>&1; \
         lvcreate -q -y -n n --type raid1 -m1 -L 16M vg $(pv 0 1) 2>&1; systemctl kill --signal=CONT lund",
    );
    lab.refused("recover vg/n", 10, "VDS_E_PROVIDER_CACHE_CORRUPT");
    lab.ok("reenumerate");
    lab.ok("refresh");
    assert_ne!(lab.ok("show vg/n")["id"], before["id"]);
    sh(&lab, "lvremove -qy vg/n 2>&1");
    lab.until_gone("vg/n");
    lab.refused("recover vg/n", 3, "VDS_E_OBJECT_DELETED");
}

/// Where dmeventd was told to replace failed legs, lund says so and keeps out until it is told otherwise.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn dmeventd_is_left_to_do_what_it_was_told_to() {
    let lab = Sampled::of(Lab::start("lvm-dmeventd"));
    // There is no room for it to succeed.
    sh(
        &lab,
        "volumes 3 48; vgreduce -q vg $(pv 2) 2>&1; \
         echo 'activation { raid_fault_policy = \"allocate\" }' >>/etc/lvm/lvmlocal.conf; \
         lvcreate -q -y -n m --type raid1 -m1 -L 32M vg $(pv 0 1) 2>&1; \
         [ \"$(lvs --noheadings -o seg_monitor vg/m | xargs)\" = monitored ]",
    );
    lab.until("vg/m", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    sh(&lab, "mounted");
    lose(&lab, "1");
    let refused = lab.refused("recover vg/m", 4, "VDS_E_NOT_SUPPORTED");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("dmeventd replaces failed legs of vg/m by itself"),
        "{message}"
    );
    let why = lab.sh("lunctl why vg/m");
    assert!(why.contains("dmeventd"), "{why}");
    sh(
        &lab,
        "sed -i s/allocate/warn/ /etc/lvm/lvmlocal.conf; vgextend -q vg $(pv 2) 2>&1",
    );
    recovered(&lab, "");
    sh(&lab, "kept");
}
