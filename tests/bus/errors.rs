//! Every refusal with its name and its HRESULT.

use lun_core::Hresult;
use lun_core::action::{Action, SyncWord};
use lun_core::model::Health;

use crate::rig::{on, refused};

#[test]
fn the_state_of_a_lun_decides() {
    on("zoo", async |rig, user| {
        for (lun, name, hresult) in [
            ("md2", "InvalidOperation", Hresult::VDS_E_INVALID_OPERATION),
            (
                "md3",
                "ObjectStatusFailed",
                Hresult::VDS_E_OBJECT_STATUS_FAILED,
            ),
            ("md4", "ReadOnly", Hresult::VDS_E_READONLY),
            ("md5", "LunOffline", Hresult::VDS_E_LUN_OFFLINE),
            ("md77", "ObjectNotFound", Hresult::VDS_E_OBJECT_NOT_FOUND),
            ("md0", "NotEnoughDrive", Hresult::VDS_E_NOT_ENOUGH_DRIVE),
        ] {
            refused(user.recover(lun, None).await, name, hresult);
        }
        assert!(
            rig.sim.with(|world| world.log.is_empty()),
            "nothing was done to the kernel"
        );
    });
}

#[test]
fn a_chosen_drive_must_be_there_and_fit() {
    on("zoo", async |rig, user| {
        for (spare, name, hresult) in [
            (
                "/dev/nonesuch",
                "ObjectNotFound",
                Hresult::VDS_E_OBJECT_NOT_FOUND,
            ),
            ("sdy", "DriveRefused", Hresult::VDS_E_MEMBER_SIZE_INVALID),
            ("sdz", "DriveRefused", Hresult::VDS_E_OPERATION_DENIED),
            ("sdc", "DriveRefused", Hresult::VDS_E_DISK_IN_USE_BY_VOLUME),
        ] {
            refused(user.recover("md0", Some(spare)).await, name, hresult);
        }
        assert!(
            rig.sim.with(|world| world.log.is_empty()),
            "nothing was done to the kernel"
        );
    });
}

#[test]
fn a_drive_with_something_on_it_is_no_spare_unless_forced() {
    on("zoo", async |_rig, user| {
        let denied = Hresult::VDS_E_OPERATION_DENIED;
        refused(user.spare_add("sdz", false).await, "DriveRefused", denied);
        user.spare_add("sdz", true).await.unwrap();
        let provider = user.client.provider().await.unwrap();
        provider.spare_remove("sdz").await.unwrap();
        refused(user.spare_add("sdz", false).await, "DriveRefused", denied);
    });
}

#[test]
fn a_lun_is_busy_while_anybody_syncs_it() {
    on("mirror", async |rig, user| {
        let check = Action::SetSync {
            array: "md0".to_owned(),
            word: SyncWord::Check,
        };
        rig.sim.with(|world| world.act(&check)).unwrap();
        let busy = Hresult::VDS_E_ANOTHER_CALL_IN_PROGRESS;
        refused(
            user.recover("md0", None).await,
            "AnotherCallInProgress",
            busy,
        );
        refused(user.verify("md0").await, "AnotherCallInProgress", busy);
    });
}

#[test]
fn two_calls_at_once_make_one_operation() {
    on("mirror-degraded", async |_rig, user| {
        let (first, second) = futures_util::future::join(
            user.recover("md0", Some("sdc")),
            user.recover("md0", Some("sdc")),
        )
        .await;
        let busy = Hresult::VDS_E_ANOTHER_CALL_IN_PROGRESS;
        let lost = if first.is_ok() { second } else { first };
        refused(lost, "AnotherCallInProgress", busy);
    });
}

#[test]
fn a_stopped_array_is_deleted_and_may_come_back() {
    on("mirror", async |rig, user| {
        let lun = user.client.lun("md0").await.unwrap();
        rig.sim.with(|world| world.stop("md0"));
        user.until("gone", |view| view.luns.is_empty()).await;
        let deleted = Hresult::VDS_E_OBJECT_DELETED;
        refused(user.recover("md0", None).await, "ObjectDeleted", deleted);
        let stale = lun.describe().await.map_err(crate::rig::remote);
        assert!(stale.is_err(), "the object itself is gone too");
        rig.sim.with(|world| world.assemble("md0", false));
        user.until_lun("md0", "back", |lun| lun.health == Health::Healthy)
            .await;
    });
}

#[test]
fn a_kernel_that_contradicts_what_was_known_needs_a_refresh() {
    on("mirror", async |rig, user| {
        let before = user.lun("md0").await.id;
        rig.sim.with(|world| {
            world.lose_hints = true;
            let array = world.arrays.get_mut("md0").unwrap();
            array.uuid = lun_core::id::DriveId::derive("serial", "another array").0;
            let (uuid, generation) = (array.uuid, array.generation);
            let members: Vec<_> = array.members.iter().map(|m| m.dev).collect();
            for dev in members {
                world.devices.get_mut(&dev).unwrap().content = Some((uuid, generation));
            }
        });
        let corrupt = Hresult::VDS_E_PROVIDER_CACHE_CORRUPT;
        refused(
            user.recover("md0", None).await,
            "ProviderCacheCorrupt",
            corrupt,
        );
        let provider = user.client.provider().await.unwrap();
        provider.reenumerate().await.unwrap();
        provider.refresh().await.unwrap();
        assert_ne!(user.lun("md0").await.id, before);
        assert_eq!(
            user.recover("md0", None).await.unwrap().wait().await,
            Hresult(0)
        );
    });
}

#[test]
fn an_array_that_comes_back_from_an_error_of_the_kernel_is_tried_again_or_told() {
    on("mirror-degraded", async |rig, user| {
        rig.sim.with(|world| world.busy_next = 1000);
        let op = user.recover("md0", Some("sdc")).await.unwrap();
        assert_ne!(op.wait().await, Hresult(0));
        assert!(
            op.view().await.message.contains("busy"),
            "{:?}",
            op.view().await
        );
        rig.sound();
    });
}
