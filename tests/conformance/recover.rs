//! What `Recover` may be called on, and the code of every refusal.

use lun_core::action::{Action, SyncWord};

use super::{Row, play, refused};

const RULES: &[Row] = &[
    Row {
        rule: "a fault tolerant LUN that has not failed and is idle: S_OK and an async object",
        machine: "mirror-degraded",
        check: |stage| {
            let op = stage.recover_onto("md0", "sdc").unwrap();
            assert!(op.starts_with("/org/lund/Vds1/op/"), "{op}");
        },
    },
    Row {
        rule: "simple, span and stripe: VDS_E_INVALID_OPERATION",
        machine: "zoo",
        check: |stage| refused(stage.recover("md2"), "InvalidOperation", 0x8004_2415),
    },
    Row {
        rule: "status FAILED: VDS_E_OBJECT_STATUS_FAILED",
        machine: "zoo",
        check: |stage| refused(stage.recover("md3"), "ObjectStatusFailed", 0x8004_2431),
    },
    Row {
        rule: "another operation of ours runs: VDS_E_ANOTHER_CALL_IN_PROGRESS",
        machine: "mirror-degraded",
        check: |stage| {
            stage.recover_onto("md0", "sdc").unwrap();
            refused(stage.recover("md0"), "AnotherCallInProgress", 0x8004_2404);
        },
    },
    Row {
        rule: "the kernel runs one by itself: VDS_E_ANOTHER_CALL_IN_PROGRESS",
        machine: "mirror",
        check: |stage| {
            let check = Action::SetSync {
                array: "md0".to_owned(),
                word: SyncWord::Check,
            };
            stage.rig.sim.with(|world| world.act(&check)).unwrap();
            refused(stage.recover("md0"), "AnotherCallInProgress", 0x8004_2404);
        },
    },
    Row {
        rule: "the LUN is gone: VDS_E_OBJECT_DELETED",
        machine: "mirror",
        check: |stage| {
            stage.rig.sim.with(|world| world.stop("md0"));
            // Reading anew is a call too; its answer comes after the facts.
            stage
                .bus
                .call("/org/lund/Vds1", "Provider", "Reenumerate", &[])
                .unwrap();
            refused(stage.find("md0"), "ObjectDeleted", 0x8004_240b);
        },
    },
    Row {
        rule: "an id that never named anything: VDS_E_OBJECT_NOT_FOUND",
        machine: "mirror",
        check: |stage| refused(stage.find("md77"), "ObjectNotFound", 0x8004_2405),
    },
    Row {
        rule: "the cached view is wrong: VDS_E_PROVIDER_CACHE_CORRUPT until Reenumerate and Refresh",
        machine: "mirror",
        check: |stage| {
            stage.rig.sim.with(|world| {
                world.lose_hints = true;
                let array = world.arrays.get_mut("md0").unwrap();
                array.uuid = lun_core::id::DriveId::derive("serial", "another array").0;
                let (uuid, generation) = (array.uuid, array.generation);
                let members: Vec<_> = array.members.iter().map(|m| m.dev).collect();
                for dev in members {
                    world.devices.get_mut(&dev).unwrap().content = Some((uuid, generation));
                }
            });
            refused(stage.recover("md0"), "ProviderCacheCorrupt", 0x8004_241f);
            for method in ["Reenumerate", "Refresh"] {
                stage
                    .bus
                    .call("/org/lund/Vds1", "Provider", method, &[])
                    .unwrap();
            }
            stage.recover("md0").unwrap();
        },
    },
    Row {
        rule: "nothing is wrong (undocumented): S_OK, and an object that has ended well",
        machine: "mirror",
        check: |stage| {
            let op = stage.recover("md0").unwrap();
            assert_eq!(stage.status(&op), (0, 100));
        },
    },
    Row {
        rule: "degraded without a spare (undocumented): VDS_E_NOT_ENOUGH_DRIVE",
        machine: "zoo",
        check: |stage| refused(stage.recover("md0"), "NotEnoughDrive", 0x8004_2410),
    },
    Row {
        rule: "OFFLINE (undocumented): VDS_E_LUN_OFFLINE",
        machine: "zoo",
        check: |stage| refused(stage.recover("md5"), "LunOffline", 0x8004_281d),
    },
    Row {
        rule: "read-only by choice (undocumented): VDS_E_READONLY",
        machine: "zoo",
        check: |stage| refused(stage.recover("md4"), "ReadOnly", 0x8004_2584),
    },
    Row {
        rule: "a given drive (not expressible in VDS): the option spare, refused by what is wrong with it",
        machine: "zoo",
        check: |stage| {
            for (spare, name, hresult) in [
                ("/dev/nonesuch", "ObjectNotFound", 0x8004_2405),
                ("sdy", "DriveRefused", 0x8004_2516),
                ("sdz", "DriveRefused", 0x8004_240a),
                ("sdc", "DriveRefused", 0x8004_244c),
            ] {
                refused(stage.recover_onto("md0", spare), name, hresult);
            }
        },
    },
];

const CODES: &[Row] = &[
    Row {
        rule: "an argument that is not legal at all: E_INVALIDARG",
        machine: "mirror",
        check: |stage| {
            let lun = stage.lun("md0");
            for (method, arguments) in [
                ("Recover", &["a{sv}", "1", "nonsense", "b", "true"][..]),
                ("Recover", &["a{sv}", "1", "repair", "s", "yes"]),
                ("SetStatus", &["i", "0"]),
                ("SetStatus", &["i", "77"]),
            ] {
                let answer = stage.bus.call(&lun, "Lun", method, arguments);
                refused(answer, "InvalidArgument", 0x8007_0057);
            }
        },
    },
    Row {
        rule: "legal in VDS and not done by this provider: VDS_E_NOT_SUPPORTED",
        machine: "mirror",
        check: |stage| {
            let lun = stage.lun("md0");
            for (method, arguments) in [
                ("Extend", &["tas", "4096", "0"][..]),
                ("Shrink", &["t", "4096"]),
                ("AddPlex", &["s", "md1"]),
                ("RemovePlex", &["s", "0"]),
                ("Delete", &[]),
                ("SetStatus", &["i", "4"]),
            ] {
                let answer = stage.bus.call(&lun, "Lun", method, arguments);
                refused(answer, "NotSupported", 0x8004_2400);
            }
            stage
                .bus
                .call(&lun, "Lun", "SetStatus", &["i", "1"])
                .unwrap();
            assert!(stage.rig.sim.with(|world| world.log.is_empty()));
        },
    },
    Row {
        rule: "SetFlags and ClearFlags: only VDS_DRF_HOTSPARE, and a member cannot be one",
        machine: "mirror",
        check: |stage| {
            let found = stage
                .bus
                .call("/org/lund/Vds1", "Provider", "FindDrive", &["s", "sda"]);
            let drive = found.unwrap()[0].as_str().unwrap().to_owned();
            for (method, flags) in [("SetFlags", "2"), ("SetFlags", "3"), ("ClearFlags", "0")] {
                let answer = stage.bus.call(&drive, "Drive", method, &["u", flags]);
                refused(answer, "NotSupported", 0x8004_2400);
            }
            let answer = stage.bus.call(&drive, "Drive", "SetFlags", &["u", "1"]);
            refused(answer, "DriveRefused", 0x8004_244c);
        },
    },
];

#[test]
fn what_recover_may_be_called_on() {
    play(RULES);
}

#[test]
fn codes_of_what_is_wrong_or_not_done() {
    play(CODES);
}
