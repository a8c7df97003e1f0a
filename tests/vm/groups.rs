//! `spare-group` of `mdadm.conf`: a spare that is attached to one array serves another one, whoever moves it.

use super::lab::Lab;

/// Two mirrors of one group, the second one with a spare, and `[recovery]` that waits for nothing.
const SETTING: &str = "\
    disks 7; array md0 raid1 2 --bitmap=internal; fill md0; \
    FIRST=2 array md1 raid1 2 --bitmap=internal; fill md1; \
    mdadm --quiet --add-spare /dev/md1 /dev/loop4; idle md1; \
    mkdir -p /etc/mdadm /etc/lund/lund.d; \
    for md in md0 md1; do \
        uuid=$(mdadm --detail --export /dev/$md | sed -n 's/^MD_UUID=//p'); \
        printf 'ARRAY /dev/%s UUID=%s\\n   spare-group=shelf\\n' $md $uuid; \
    done >/etc/mdadm/mdadm.conf; \
    printf 'ARRAY /dev/md9 UUID=12 spare-group=shelf\\n' >>/etc/mdadm/mdadm.conf; \
    printf '[recovery]\\nmode = \"auto\"\\ngrace_s = 0\\n' >/etc/lund/lund.d/60-auto.toml; \
    systemctl start lund";

fn roles(lab: &Lab, lun: &str) -> Vec<(String, String)> {
    let lun = lab.ok(&format!("show {lun}"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<(String, String)> = lun["drives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|drive| (text(&drive["device"]), text(&drive["role"])))
        .collect();
    found.sort();
    found
}

fn until_whole(lab: &Lab, lun: &str) {
    lab.until(lun, "whole", |lun| {
        lun["redundancy"]["members_in_sync"] == 2 && lun["operation"].is_null()
    });
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_spare_of_the_group_is_moved_and_mdadm_may_do_it_as_well() {
    let lab = Lab::without_service("groups");
    lab.sh(SETTING);
    let told = lab.sh("journalctl --no-pager -b -u lund");
    assert!(
        told.contains("/etc/mdadm/mdadm.conf:5: \"12\" is no UUID"),
        "{told}"
    );

    // lund alone.
    let before = lab.sh("mdadm --detail /dev/md1 | grep -c spare");
    assert!(before.trim() != "0", "{before}");
    lab.sh("mdadm --quiet --fail /dev/md0 /dev/loop1");
    until_whole(&lab, "md0");
    lab.whole("md0", 2);
    lab.whole("md1", 2);
    let spare = ("/dev/loop4".to_owned(), "in_sync".to_owned());
    assert!(roles(&lab, "md0").contains(&spare));
    let history = lab.ok("history md0");
    let ops = history["operations"].as_array().unwrap();
    let recovered = ops.iter().find(|op| op["kind"] == "recover");
    assert!(
        recovered.is_some_and(|op| op["origin"] == "policy" && op["spare"] == "/dev/loop4"),
        "{history:#}"
    );
    let of_md1 = roles(&lab, "md1");
    assert_eq!(of_md1.len(), 2, "{of_md1:?}");

    // With mdadm's own monitor beside it, twice: one of the two moves the spare, and nothing is lost.
    lab.sh("mdadm --quiet --remove /dev/md0 /dev/loop1; \
            mdadm --monitor --scan --syslog --delay=1 --pid-file=/run/monitor.pid --daemonise");
    for (lost, spare) in [("loop0", "loop5"), ("loop4", "loop6")] {
        lab.sh(&format!(
            "mdadm --quiet --add-spare /dev/md1 /dev/{spare}; idle md1; \
             mdadm --quiet --fail /dev/md0 /dev/{lost}"
        ));
        until_whole(&lab, "md0");
        lab.whole("md0", 2);
        lab.whole("md1", 2);
        let node = format!("/dev/{spare}");
        let has = |lun: &str| roles(&lab, lun).iter().any(|(drive, _)| *drive == node);
        assert!(
            has("md0") && !has("md1"),
            "{node}\n{}",
            lab.sh("cat /proc/mdstat")
        );
        lab.sh(&format!(
            "mdadm --quiet --remove /dev/md0 /dev/{lost} || true"
        ));
    }
    lab.sh("kill $(cat /run/monitor.pid)");
}
