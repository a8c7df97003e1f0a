//! The machines themselves, on the kernel that `LUND_VM_KERNEL` names. Boots take a while under
//! emulation, so `scripts/test` runs these, and `cargo test -p lun-vm -- --ignored`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, Instant};

use lun_vm::{Error, Options, Vm};

const SOON: Duration = Duration::from_secs(60);

fn start(name: &str) -> Vm {
    Vm::start(&Options::from_env(name).unwrap()).unwrap()
}

#[test]
#[ignore = "starts a virtual machine"]
fn commands_run_side_by_side_and_are_binary_safe() {
    let vm = start("side-by-side");
    let writer = vm
        .spawn("echo ready >&2; cat > /srv/mem/typed; sleep 600")
        .unwrap();
    writer.wait_for("ready", SOON).unwrap();
    assert_eq!(vm.sh("echo hi").unwrap(), "hi");
    let output = vm.run("echo out; echo err >&2; exit 3").unwrap();
    assert_eq!(
        (output.status, &*output.stdout, &*output.stderr),
        (3, &b"out\n"[..], &b"err\n"[..])
    );
    assert!(matches!(vm.sh("false"), Err(Error::Script { .. })));
    assert_eq!(vm.run("kill -9 $$").unwrap().status, 137);
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    vm.write("/srv/mem/deep/it's here", &bytes, 0o600).unwrap();
    assert_eq!(vm.get("/srv/mem/deep/it's here").unwrap(), bytes);
    assert!(!writer.is_over());
    writer.kill().unwrap();
    assert_eq!(writer.wait(SOON).unwrap().status, 137);
    let late = vm
        .run_with_deadline("echo begun; sleep 600", Duration::from_secs(2))
        .unwrap_err();
    assert!(late.to_string().contains("begun"), "{late}");
    // A daemon that keeps the pipes open does not keep the job.
    assert_eq!(vm.sh("sleep 600 & echo started").unwrap(), "started");
}

#[test]
#[ignore = "starts a virtual machine"]
fn the_payload_is_there_and_the_clock_is_right() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("marker"), "payload").unwrap();
    let mut options = Options::from_env("payload").unwrap();
    options.payload = Some(folder.path().to_owned());
    let vm = Vm::start(&options).unwrap();
    assert_eq!(vm.sh("cat /opt/lund/marker").unwrap(), "payload");
    let guest: i64 = vm.sh("date +%s").unwrap().parse().unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!(now.as_secs().abs_diff(guest.unsigned_abs()) <= 5, "{guest}");
}

#[test]
#[ignore = "starts two virtual machines"]
fn machines_of_one_snapshot_do_not_see_each_other() {
    let (one, two) = (start("one"), start("two"));
    one.sh("echo one > /root/who; sync").unwrap();
    assert_eq!(two.run("cat /root/who").unwrap().status, 1);
    assert_eq!(one.sh("cat /root/who").unwrap(), "one");
    // Nothing that the snapshot had not read before is garbage.
    let sums = "find /usr/bin /usr/sbin -type f | sort | xargs sha256sum | sha256sum";
    assert_eq!(one.sh(sums).unwrap(), two.sh(sums).unwrap());
}

#[test]
#[ignore = "starts a virtual machine"]
fn every_module_that_tests_need_loads() {
    let vm = start("modules");
    vm.sh(
        "for name in md-mod raid0 raid1 raid10 raid456 loop brd dm-mod dm-raid dm-flakey dm-delay \
           dm-mirror scsi_debug; do modprobe $name; done",
    )
    .unwrap();
    vm.sh("truncate -s 64M /srv/mem/{a,b}; a=$(losetup -f --show /srv/mem/a); \
           b=$(losetup -f --show /srv/mem/b); \
           mdadm --create /dev/md0 --run --level=1 --raid-devices=2 $a $b; mdadm --wait /dev/md0 || true; \
           grep -F '[UU]' /proc/mdstat")
        .unwrap();
}

#[test]
#[ignore = "boots a virtual machine twice"]
fn flushed_data_survive_a_power_cut_and_a_reboot_is_noticed() {
    let mut vm = start("power-cut");
    vm.sh("echo flushed > /root/a; sync; echo lost > /root/b")
        .unwrap();
    vm.power_cut().unwrap();
    assert!(matches!(vm.run("true"), Err(Error::Gone { .. })));
    let began = Instant::now();
    vm.restart().unwrap();
    eprintln!("restart: {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(vm.sh("cat /root/a").unwrap(), "flushed");
    let before = vm.sh("cat /proc/sys/kernel/random/boot_id").unwrap();
    let sleeper = vm.spawn("sleep 600").unwrap();
    let began = Instant::now();
    vm.reboot().unwrap();
    eprintln!("reboot: {:.1} s", began.elapsed().as_secs_f64());
    assert_ne!(
        vm.sh("cat /proc/sys/kernel/random/boot_id").unwrap(),
        before
    );
    assert!(sleeper.wait(SOON).is_err() || sleeper.is_over());
}

#[test]
#[ignore = "starts a virtual machine"]
fn a_failed_test_leaves_its_evidence() {
    let failed = std::panic::catch_unwind(|| {
        let vm = start("evidence");
        vm.sh("logger the last words; echo on the console > /dev/ttyS0")
            .unwrap();
        panic!("as meant");
    });
    assert!(failed.is_err());
    let kept = lun_vm::failures_dir().join(format!("evidence-{}", std::process::id()));
    let read = |name: &str| fs::read_to_string(kept.join(name)).unwrap();
    assert!(read("journal.log").contains("the last words"));
    assert!(read("console.log").contains("on the console"));
    fs::remove_dir_all(kept).unwrap();
}

#[test]
#[ignore = "boots a virtual machine twice"]
fn a_power_cut_loses_what_a_disk_had_not_flushed() {
    let mut options = Options::from_env("volatile").unwrap();
    options.disks = vec![16 << 20, 16 << 20];
    let mut vm = Vm::start(&options).unwrap();
    vm.sh(
        "disk=/dev/disk/by-id/virtio-disk1; [ \"$(blockdev --getpbsz $disk)\" = 4096 ]
           dd if=<(yes flushed) of=$disk bs=64k count=1 iflag=fullblock oflag=direct conv=fsync
           dd if=<(yes cached) of=$disk bs=64k seek=1 count=1 iflag=fullblock oflag=direct
           echo kept > /root/a; sync; echo lost > /root/b",
    )
    .unwrap();
    let loss = vm.power_cut().unwrap();
    assert!(
        loss.unflushed >= 16 && loss.lost == loss.unflushed,
        "{loss:?}"
    );
    let medium = fs::read(vm.disk_file(1).unwrap()).unwrap();
    assert!(medium.starts_with(b"flushed\n"));
    assert!(medium[64 << 10..].iter().all(|byte| *byte == 0));
    vm.restart().unwrap();
    assert_eq!(vm.sh("cat /root/a; cat /root/b || true").unwrap(), "kept");
    let seen = vm.sh("head -c 7 /dev/disk/by-id/virtio-disk1").unwrap();
    assert_eq!(seen, "flushed");
}
