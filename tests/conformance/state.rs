//! Status, health and transition of every object, and how they go together.

use super::{Row, Stage, play};
use crate::conformance::client::Busctl;

const ONLINE: i64 = 1;
const FAILED_STATUS: i64 = 5;
const HEALTHY: i64 = 1;
const FAILED_HEALTH: i64 = 8;
const SUB_SYSTEM: &str = "/org/lund/Vds1/subsystem";

fn luns(stage: &mut Stage) -> Vec<String> {
    let luns = stage
        .bus
        .call(SUB_SYSTEM, "SubSystem", "QueryLuns", &[])
        .unwrap();
    Busctl::paths(&luns[0])
}

fn drives(stage: &mut Stage) -> Vec<String> {
    let drives = stage
        .bus
        .call(SUB_SYSTEM, "SubSystem", "QueryDrives", &[])
        .unwrap();
    Busctl::paths(&drives[0])
}

/// What holds of any object with the three axes.
fn consistent(stage: &Stage, path: &str, interface: &str) {
    let number = |property| stage.bus.number(path, interface, property);
    let (status, health) = (number("Status"), number("Health"));
    if health == FAILED_HEALTH {
        assert_eq!(
            status, FAILED_STATUS,
            "{path}: FAILED health forces FAILED status"
        );
    }
    if [1, 3, 4, 10].contains(&health) {
        assert!(
            ![0, FAILED_STATUS, 6].contains(&status),
            "{path}: health {health} excludes status {status}"
        );
    }
}

fn every_object_is_consistent(stage: &mut Stage) {
    for lun in luns(stage) {
        consistent(stage, &lun, "Lun");
        let health = stage.bus.number(&lun, "Lun", "Health");
        assert!(
            [0, 1, 2, 4, 5, 6, 7, 8].contains(&health),
            "{lun}: {health}"
        );
        assert!([0, 1, 2, 4, 5].contains(&stage.bus.number(&lun, "Lun", "Status")));
        assert!((0..=5).contains(&stage.bus.number(&lun, "Lun", "Transition")));
        let plexes = Busctl::paths(&stage.bus.get(&lun, "Lun", "Plexes"));
        let mirror = stage.bus.number(&lun, "Lun", "Type") == 13;
        assert!(
            !plexes.is_empty() && (mirror || plexes.len() == 1),
            "{lun}: {plexes:?}"
        );
        for plex in plexes {
            consistent(stage, &plex, "Plex");
            let size = |path, interface| stage.bus.number(path, interface, "Size");
            assert!(size(&plex, "Plex") >= size(&lun, "Lun"), "never smaller");
            let kind = stage.bus.number(&plex, "Plex", "Type");
            assert!(![13, 20, 27, 30].contains(&kind), "no plex type: {kind}");
            let stripe = stage.bus.number(&plex, "Plex", "StripeSize");
            assert!(
                stripe == 0 || kind >= 12,
                "{plex}: stripes of a simple plex"
            );
        }
    }
    for drive in drives(stage) {
        let number = |property| stage.bus.number(&drive, "Drive", property);
        assert!([0, 1, 8, 9, 10].contains(&number("Health")), "{drive}");
        assert!([0, 1, 2, 4, 5, 8].contains(&number("Status")), "{drive}");
        consistent(stage, &drive, "Drive");
        if number("Status") == FAILED_STATUS {
            assert!([4, FAILED_HEALTH].contains(&number("Health")), "{drive}");
        }
        let flags = number("Flags");
        assert_ne!(flags & 6, 6, "{drive} is assigned and unassigned");
    }
    assert!([0, 1, 8, 11].contains(&stage.bus.number(SUB_SYSTEM, "SubSystem", "Health")));
    assert_eq!(stage.bus.number(SUB_SYSTEM, "SubSystem", "Status"), ONLINE);
}

const ROWS: &[Row] = &[
    Row {
        rule: "a rebuilding LUN is ONLINE and REBUILDING, its new plex too, and nothing is in transition",
        machine: "mirror-degraded",
        check: |stage| {
            stage.recover_onto("md0", "sdc").unwrap();
            let lun = stage.lun("md0");
            let rebuilding = (0..1000).any(|_| stage.bus.number(&lun, "Lun", "Health") == 2);
            assert!(rebuilding);
            assert_eq!(stage.bus.number(&lun, "Lun", "Status"), ONLINE);
            assert_eq!(stage.bus.number(&lun, "Lun", "Transition"), 1);
            every_object_is_consistent(stage);
        },
    },
    Row {
        rule: "plexes may differ from their LUN: a lost leg is FAILED, the LUN is ONLINE with FAILED_REDUNDANCY",
        machine: "mirror-degraded",
        check: |stage| {
            let lun = stage.lun("md0");
            assert_eq!(stage.bus.number(&lun, "Lun", "Status"), ONLINE);
            assert_eq!(stage.bus.number(&lun, "Lun", "Health"), 6);
            let plexes = Busctl::paths(&stage.bus.get(&lun, "Lun", "Plexes"));
            let mut health: Vec<i64> = plexes
                .iter()
                .map(|plex| stage.bus.number(plex, "Plex", "Health"))
                .collect();
            health.sort_unstable();
            assert_eq!(health, [HEALTHY, FAILED_HEALTH]);
        },
    },
    Row {
        rule: "properties can be read in every state, of a failed and of a busy LUN too",
        machine: "zoo",
        check: |stage| {
            for lun in luns(stage) {
                for property in [
                    "Id",
                    "Size",
                    "FriendlyName",
                    "Identification",
                    "Type",
                    "UnmaskingList",
                ] {
                    stage.bus.get(&lun, "Lun", property);
                }
                let data = stage
                    .bus
                    .call(&lun, "Lun", "GetIdentificationData", &[])
                    .unwrap();
                let data: serde_json::Value =
                    serde_json::from_str(data[0].as_str().unwrap()).unwrap();
                assert_eq!(
                    (&data["version"], &data["bus_type"]),
                    (&1.into(), &8.into())
                );
            }
        },
    },
    Row {
        rule: "extents: what a plex uses of its drives is what the drives give to the LUN",
        machine: "mirror",
        check: |stage| {
            let lun = stage.lun("md0");
            for plex in Busctl::paths(&stage.bus.get(&lun, "Lun", "Plexes")) {
                let size = stage.bus.number(&plex, "Plex", "Size");
                let extents = stage.bus.call(&plex, "Plex", "QueryExtents", &[]).unwrap();
                let extents = extents[0].as_array().unwrap().clone();
                assert_eq!(extents.len(), 1, "one drive carries a leg");
                let (drive, used) = (
                    extents[0][0].as_str().unwrap(),
                    extents[0][2].as_i64().unwrap(),
                );
                assert!(used >= size && extents[0][3] == true && extents[0][1] == lun.as_str());
                let of_drive = stage.bus.call(drive, "Drive", "QueryExtents", &[]).unwrap();
                let of_drive = of_drive[0].as_array().unwrap().clone();
                assert_eq!(of_drive[0], extents[0]);
                let sum: i64 = of_drive
                    .iter()
                    .map(|extent| extent[2].as_i64().unwrap())
                    .sum();
                assert_eq!(sum, stage.bus.number(drive, "Drive", "Size"));
            }
        },
    },
    Row {
        rule: "a drive that failed is FAILED, not OFFLINE, and its subsystem is DEGRADED",
        machine: "mirror",
        check: |stage| {
            stage.rig.sim.with(|world| world.fail_device("sdb"));
            stage
                .bus
                .call("/org/lund/Vds1", "Provider", "Refresh", &[])
                .unwrap();
            let failed = drives(stage)
                .into_iter()
                .any(|drive| stage.bus.number(&drive, "Drive", "Status") == FAILED_STATUS);
            assert!(failed);
            assert_eq!(stage.bus.number(SUB_SYSTEM, "SubSystem", "Health"), 11);
            every_object_is_consistent(stage);
        },
    },
];

#[test]
fn rules_of_status_and_health() {
    play(ROWS);
}

#[test]
fn every_object_of_every_machine_keeps_the_rules() {
    for name in [
        "zoo",
        "mirror",
        "mirror-degraded",
        "mirror-failing",
        "raid6-two-missing",
        "raid0",
    ] {
        every_object_is_consistent(&mut Stage::new(name));
    }
}
