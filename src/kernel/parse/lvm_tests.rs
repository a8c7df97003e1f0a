//! Reports of LVM as captured, and what is none.

use std::collections::BTreeMap;

use lun_core::Error;
use lun_core::id::DevNo;
use proptest::prelude::*;

use super::lvm::volume_group;

/// LVM 2.03.16: a mirror of which one physical volume is gone.
const PARTIAL: &str = include_str!("../fixtures/lvm/2.03.16-raid1-partial");

fn capture() -> BTreeMap<&'static str, &'static str> {
    PARTIAL
        .split("==> ")
        .filter_map(|section| section.split_once(" <==\n"))
        .collect()
}

fn read(capture: &BTreeMap<&str, &str>) -> Result<lun_core::facts::VolumeGroup, Error> {
    volume_group(
        capture["vgs"],
        capture["pvs"],
        capture["lvs"],
        capture["lvmconfig"],
    )
}

#[test]
fn a_group_with_a_missing_volume() {
    let group = read(&capture()).unwrap();
    assert_eq!((group.name.as_str(), group.extent_bytes), ("vg", 4 << 20));
    assert_eq!(group.fault_policy, "warn");
    let nodes: Vec<_> = group
        .physical
        .iter()
        .map(|physical| (physical.node.as_str(), physical.dev, physical.missing))
        .collect();
    let dev = |minor| Some(DevNo { major: 253, minor });
    assert_eq!(
        nodes,
        [
            ("/dev/mapper/under0", dev(0), false),
            ("/dev/mapper/under2", dev(2), false),
            ("[unknown]", None, true),
        ]
    );
    assert_eq!(group.physical[1].free_bytes, 96_468_992);
    assert!(group.physical.iter().all(|physical| physical.allocatable));
    let lost = group.leg("m", 1).unwrap();
    assert_eq!(lost.nodes, ["[unknown]"]);
    assert_eq!(
        (lost.parent.as_deref(), lost.size_bytes),
        (Some("m"), 48 << 20)
    );
    assert_eq!(lost.health, "partial");
    assert_eq!(group.leg("m", 0).unwrap().nodes, ["/dev/mapper/under0"]);
    assert_eq!(group.leg("m", 2), None);
    let monitored: Vec<_> = group
        .logical
        .iter()
        .filter(|volume| volume.monitored)
        .map(|volume| volume.name.as_str())
        .collect();
    assert_eq!(monitored, ["m"]);
}

#[test]
fn segments_of_one_volume_are_put_together() {
    let mut capture = capture();
    let row = |devices: &str| {
        format!(
            r#"{{"lv_name":"[m_rimage_0]","lv_parent":"[m]","lv_size":"8388608","lv_health_status":"",
                "seg_monitor":"","devices":"{devices}"}}"#
        )
    };
    let lvs = format!(
        r#"{{"report":[{{"lv":[{},{}]}}],"log":[]}}"#,
        row("/dev/sda(1)"),
        row("/dev/sdb(0),/dev/mapper/a(b)(7)")
    );
    capture.insert("lvs", &lvs);
    let group = read(&capture).unwrap();
    assert_eq!(group.logical.len(), 1);
    assert_eq!(
        group.logical[0].nodes,
        ["/dev/sda", "/dev/sdb", "/dev/mapper/a(b)"]
    );
    assert_eq!(group.logical[0].parent.as_deref(), Some("m"));
}

#[test]
fn what_is_no_report_is_named() {
    for (section, text) in [
        ("vgs", r#"{"report":[{"vg":[]}]}"#),
        (
            "vgs",
            r#"{"report":[{"vg":[{"vg_name":"vg","vg_extent_size":"0"}]}]}"#,
        ),
        ("vgs", "  Volume group \"vg\" not found"),
        ("pvs", r#"{"report":[{"pv":[{"pv_name":"/dev/sda"}]}]}"#),
        ("lvs", r#"{"report":[{"lv":"m"}]}"#),
        ("lvmconfig", "raid_region_size=2048"),
    ] {
        let mut capture = capture();
        capture.insert(section, text);
        match read(&capture) {
            Err(Error::BadText { source_name, .. }) => assert_eq!(source_name, section),
            other => panic!("{section}: {other:?}"),
        }
    }
}

proptest! {
    /// Whatever a tool prints, nothing panics.
    #[test]
    fn junk_is_refused(text in ".{0,200}", which in 0_usize..4, cut in 0_usize..2_000) {
        let mut capture = capture();
        let section = ["vgs", "pvs", "lvs", "lvmconfig"][which];
        let whole = capture[section];
        let end = (0..=cut.min(whole.len())).rev().find(|at| whole.is_char_boundary(*at)).unwrap_or(0);
        let spoilt = format!("{}{text}", &whole[..end]);
        capture.insert(section, &spoilt);
        let _ = read(&capture);
    }
}
