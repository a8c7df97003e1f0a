//! Objects that come, change and go, and the signals that tell of it.

use futures_util::StreamExt as _;
use lun_core::Hresult;
use lun_core::model::Plex;
use lun_ipc::names::{BUS_NAME, LUN_INTERFACE, ROOT_PATH, lun_path, plex_path};
use lun_ipc::proxy::{PlexProxy, SubSystemProxy};
use zbus::fdo::{ObjectManagerProxy, PropertiesProxy};

use crate::rig::{PATIENCE, User, on, refused, remote};

async fn manager(user: &User) -> ObjectManagerProxy<'static> {
    ObjectManagerProxy::builder(user.client.connection())
        .destination(BUS_NAME)
        .path(ROOT_PATH)
        .build()
        .await
        .unwrap()
}

#[test]
fn the_object_manager_knows_every_object() {
    on("zoo", async |_rig, user| {
        let objects = manager(&user).await.get_managed_objects().await.unwrap();
        let luns = objects
            .values()
            .filter(|interfaces| interfaces.keys().any(|name| name.as_str() == LUN_INTERFACE));
        assert_eq!(luns.count(), 7);
        for end in ["/subsystem", "/controller/md"] {
            assert!(
                objects.keys().any(|path| path.as_str().ends_with(end)),
                "{end}"
            );
        }
    });
}

#[test]
fn objects_appear_and_disappear_with_signals() {
    on("mirror", async |rig, user| {
        let manager = manager(&user).await;
        let mut removed = manager.receive_interfaces_removed().await.unwrap();
        let mut added = manager.receive_interfaces_added().await.unwrap();
        let path = user.lun_path("md0").await;
        rig.sim.with(|world| world.stop("md0"));
        loop {
            let signal = tokio::time::timeout(PATIENCE, removed.next())
                .await
                .unwrap()
                .unwrap();
            if signal.args().unwrap().object_path().as_str() == path.as_str() {
                break;
            }
        }
        rig.sim.with(|world| world.assemble("md0", false));
        loop {
            let signal = tokio::time::timeout(PATIENCE, added.next())
                .await
                .unwrap()
                .unwrap();
            if signal.args().unwrap().object_path().as_str() == path.as_str() {
                break;
            }
        }
    });
}

#[test]
fn a_failure_is_told_by_properties_changed() {
    on("mirror", async |rig, user| {
        let path = user.lun_path("md0").await;
        let properties = PropertiesProxy::builder(user.client.connection())
            .destination(BUS_NAME)
            .path(path)
            .build()
            .await
            .unwrap();
        let mut changes = properties.receive_properties_changed().await.unwrap();
        rig.sim.with(|world| world.fail_device("sdb"));
        let signal = tokio::time::timeout(PATIENCE, changes.next())
            .await
            .unwrap()
            .unwrap();
        let arguments = signal.args().unwrap();
        assert_eq!(arguments.interface_name().as_str(), LUN_INTERFACE);
        let changed = arguments.changed_properties();
        assert!(changed.contains_key("Health"), "{changed:?}");
        assert!(
            !changed.contains_key("Name"),
            "only what changed: {changed:?}"
        );
    });
}

#[test]
fn a_drive_that_is_plugged_in_again_is_seen() {
    on("mirror", async |rig, user| {
        rig.sim.with(|world| world.vanish("sdb"));
        user.until_lun("md0", "degraded", |lun| {
            lun.redundancy.members_in_sync == Some(1)
        })
        .await;
        rig.sim.with(|world| world.plug("sdb"));
        user.client
            .provider()
            .await
            .unwrap()
            .reenumerate()
            .await
            .unwrap();
        // It is nothing to lund yet; that it can be registered shows that it was seen.
        assert!(user.client.drive("sdb").await.is_err());
        user.spare_add("sdb", true).await.unwrap();
        user.client.drive("sdb").await.unwrap();
    });
}

#[test]
fn plexes_are_objects_and_go_with_their_lun() {
    on("mirror", async |rig, user| {
        let lun = user.lun("md0").await;
        let connection = user.client.connection();
        for plex in &lun.plexes {
            let proxy = PlexProxy::builder(connection)
                .path(plex_path(plex.id))
                .build()
                .await
                .unwrap();
            let extents = proxy.query_extents().await.unwrap();
            let [(_, of, bytes, true)] = extents.as_slice() else {
                panic!("{extents:?}")
            };
            assert_eq!(*of, lun_path(lun.id));
            assert!(*bytes >= lun.size_bytes.unwrap());
            let view: Plex = serde_json::from_str(&proxy.describe().await.unwrap()).unwrap();
            assert_eq!(&view, plex);
        }
        rig.sim.with(|world| world.stop("md0"));
        user.until("gone", |view| view.luns.is_empty()).await;
        let objects = manager(&user).await.get_managed_objects().await.unwrap();
        assert!(
            objects.keys().all(|path| !path.as_str().contains("/plex/")),
            "{:?}",
            objects.keys()
        );
    });
}

#[test]
fn the_light_of_a_bay_is_switched() {
    on("mirror", async |rig, user| {
        let drive = user.client.drive("sda").await.unwrap();
        let lit = || rig.sim.with(|world| world.device("sda").unwrap().lit);
        drive.start_maintenance(1).await.unwrap();
        assert!(lit());
        drive.stop_maintenance(1).await.unwrap();
        assert!(!lit());
        for (operation, name, hresult) in [
            (2, "NotSupported", Hresult::VDS_E_NOT_SUPPORTED),
            (0, "InvalidArgument", Hresult::E_INVALIDARG),
            (6, "InvalidArgument", Hresult::E_INVALIDARG),
        ] {
            let answer = drive.start_maintenance(operation).await.map_err(remote);
            refused(answer, name, hresult);
        }
        assert!(!lit());
    });
}

#[test]
fn the_subsystem_replaces_a_drive_wherever_it_is() {
    on("mirror", async |rig, user| {
        let subsystem = SubSystemProxy::new(user.client.connection()).await.unwrap();
        let stray = subsystem.replace_drive("sdc", "sdb").await.map_err(remote);
        refused(stray, "NotSupported", Hresult::VDS_E_NOT_SUPPORTED);
        let path = subsystem.replace_drive("sdb", "sdc").await.unwrap();
        rig.fast();
        assert_eq!(user.op(path).await.wait().await, Hresult::S_OK);
        let lun = user.lun("md0").await;
        assert!(lun.drives.iter().any(|drive| drive.device == "/dev/sdc"));
        assert!(lun.drives.iter().all(|drive| drive.device != "/dev/sdb"));
        rig.sound();
    });
}
