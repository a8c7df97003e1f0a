//! What goes wrong around raid sets: a table that the kernel refuses, and a reboot after which nobody makes the set.

use super::dm_recover::{run, whole};
use super::lab::{Lab, PATIENCE};
use super::sampled::Sampled;

/// The kernel refuses the table with the new leg: the set is what it was, nothing waits in the second slot, and
/// the spare is as good as before.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_table_that_is_refused_leaves_the_set_as_it_was() {
    let lab = Sampled::of(Lab::start("dm-refused"));
    run(
        &lab,
        "disks 2 16; disks 1 24 10; disks 2 2 20; make r raid1 2 1 0 region_size 1024; fill mapper/r; dead 1; \
         dd if=/dev/mapper/r of=/dev/mapper/r bs=1M iflag=direct oflag=direct status=none; same mapper/r",
    );
    lab.until("r", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    lab.ok("spare add /dev/loop10");
    let before = run(&lab, "dmsetup table r");
    // Slowed down, so that somebody else can take the new leg before the table is loaded: a device that is open
    // exclusively gets into no table.
    let grabber = lab.spawn(
        r#"strace -f -qq -o /dev/null -e trace=ioctl -P /dev/mapper/control \
             -e inject=ioctl:delay_exit=200000 -p "$(systemctl show --value -p MainPID lund)" & slow=$!
           perl -MFcntl -e '
               until ($leg) {
                   for (glob "/sys/block/dm-*/dm/name") {
                       open F, $_ and <F> =~ /^r_lund_data_1_/ and m{block/(dm-\d+)} and $leg = "/dev/$1";
                   }
               }
               sysopen L, $leg, O_RDWR | O_EXCL or die "$leg: $!";
               open G, ">/run/grabbed"; close G;
               until (-e "/run/enough") { select undef, undef, undef, 0.1 }'
           kill $slow"#,
    );
    let op = lab.lunctl("recover r --wait");
    assert_eq!(op.status, 1, "{}", op.stdout);
    assert_eq!(op.json["hresult_name"], "ERROR_BUSY", "{}", op.stdout);
    let message = op.json["message"].as_str().unwrap();
    assert!(
        message.starts_with("load the table `0 32768 raid raid1")
            && message.ends_with("of r: Device or resource busy (errno 16)"),
        "{message}"
    );
    assert_eq!(
        run(&lab, "ls /run/grabbed; dmsetup table r"),
        format!("/run/grabbed\n{before}")
    );
    run(
        &lab,
        "dmsetup info r | grep -qx 'Tables present: *LIVE'; same mapper/r; touch /run/enough",
    );
    assert_eq!(grabber.wait(PATIENCE).unwrap().status, 0);
    let lun = lab.ok("show r");
    assert_eq!(lun["health"], "VDS_H_FAILED_REDUNDANCY", "{lun:#}");
    // Nobody has it any more; it is what it was registered as, and what is left of the leg goes first.
    let op = lab.ok("recover r --wait");
    assert_eq!(op["state"], "succeeded", "{op:#}");
    assert_eq!(op["spare"], "/dev/loop10", "{op:#}");
    whole(&lab, "r", &[1]);
}

/// Nobody makes a set of dmsetup after a reboot but its owner, by the commands that `lunctl show` has given: the new
/// leg is in it, and the old one, which is back with what it had, is not.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_set_is_made_again_after_a_reboot_as_lund_says() {
    let mut lab = Sampled::of(Lab::with_disks(
        "dm-reboot",
        vec![16 << 20, 16 << 20, 2 << 20, 2 << 20, 40 << 20],
    ));
    run(
        &lab,
        r#"systemctl enable --quiet lund; systemctl start lund
           disk() { readlink -f "/dev/disk/by-id/virtio-disk$1"; }
           dmsetup create r --table "0 $(sectors "$(disk 0)") raid raid1 3 0 region_size 1024 2 $(disk 2) $(disk 0) $(disk 3) $(disk 1)"
           still r; mkdir -p $LAB/mapper; fill mapper/r
           gone=$(readlink -f "/sys/class/block/$(basename "$(disk 1)")/device")
           basename "$gone" >/sys/bus/virtio/drivers/virtio_blk/unbind
           dd if=/dev/urandom of=/dev/mapper/r bs=64k count=4 seek=9 oflag=direct status=none
           sum mapper/r >/root/r.sum"#,
    );
    lab.until("r", "degraded", |lun| {
        lun["health"] == "VDS_H_FAILED_REDUNDANCY"
    });
    lab.ok("spare add /dev/disk/by-id/virtio-disk4");
    let op = lab.ok("recover r --wait");
    assert_eq!(op["state"], "succeeded", "{op:#}");
    let lun = lab.until("r", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    let uuid = lun["id"].clone();
    let commands: Vec<&str> = lun["recreate"]
        .as_array()
        .unwrap()
        .iter()
        .map(|command| command.as_str().unwrap())
        .collect();
    lab.sh(&format!(
        "cat >/root/again <<'COMMANDS'\n{}\nCOMMANDS\nsync",
        commands.join("\n")
    ));
    lab.judge();
    lab.vm.reboot().unwrap();
    // Whoever has kept no copy of them is told.
    let told = lab.lunctl("show r").json["error"]["message"].to_string();
    for command in &commands {
        assert!(
            told.contains(&command.replace('"', "\\\"")),
            "{command}\n{told}"
        );
    }
    lab.sh("sh -e /root/again; mkdir -p $LAB/mapper; cp /root/r.sum $LAB/mapper/r.sum");
    let lun = whole(&lab, "r", &[1]);
    assert_eq!(lun["id"], uuid, "{lun:#}");
    let drives: Vec<_> = lun["drives"].as_array().unwrap().iter().collect();
    assert_eq!(drives.len(), 2, "{lun:#}");
    assert!(
        !lun["drives"].to_string().contains("virtio-disk1\""),
        "{lun:#}"
    );
}
