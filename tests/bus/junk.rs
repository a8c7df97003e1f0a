//! What nobody should send.

use lun_core::Hresult;
use lun_ipc::names::{ASYNC_INTERFACE, BUS_NAME, LUN_INTERFACE, PROVIDER_INTERFACE, ROOT_PATH};
use lun_ipc::{ClientError, proxy::Dict};
use zbus::Variant;

use crate::rig::{User, on, refused, remote};

async fn call<B>(user: &User, path: &str, interface: &str, method: &str, body: &B) -> ClientError
where
    B: zbus::zvariant::DynamicType + serde::Serialize,
{
    let connection = user.client.connection();
    let answer = connection
        .call_method(Some(BUS_NAME), path, Some(interface), method, body)
        .await;
    answer.map(drop).expect_err("junk was accepted").into()
}

#[test]
fn arguments_of_the_wrong_type_are_refused() {
    on("mirror", async |_rig, user| {
        let lun = user.lun_path("md0").await;
        call(&user, ROOT_PATH, PROVIDER_INTERFACE, "FindLun", &7_u32).await;
        call(
            &user,
            ROOT_PATH,
            PROVIDER_INTERFACE,
            "FindLun",
            &("md0", "md0"),
        )
        .await;
        call(&user, ROOT_PATH, PROVIDER_INTERFACE, "NoSuchMethod", &()).await;
        call(&user, lun.as_str(), LUN_INTERFACE, "Recover", &"spare").await;
        call(&user, lun.as_str(), ASYNC_INTERFACE, "Wait", &0_u64).await;
        call(
            &user,
            "/org/lund/Vds1/op/4711",
            ASYNC_INTERFACE,
            "Wait",
            &0_u64,
        )
        .await;
        call(&user, "/somewhere/else", LUN_INTERFACE, "Describe", &()).await;
        // And it goes on serving.
        user.lun("md0").await;
    });
}

#[test]
fn unknown_and_mistyped_options_are_named() {
    on("mirror", async |rig, user| {
        let lun = user.client.lun("md0").await.unwrap();
        for options in [
            Dict::from([("nonsense", Variant::from(true))]),
            Dict::from([("repair", Variant::from("yes"))]),
            Dict::from([("spare", Variant::from(5_i32))]),
            Dict::from([("spare", Variant::from(""))]),
        ] {
            let key = *options.keys().next().unwrap();
            let error = lun.recover(options).await.map_err(remote).unwrap_err();
            assert!(error.message.contains(key), "{error:?}");
            assert_eq!(error.hresult, Hresult::E_INVALIDARG);
        }
        assert!(rig.sim.with(|world| world.log.is_empty()));
    });
}

#[test]
fn strings_of_any_size_and_kind_find_nothing() {
    on("mirror", async |_rig, user| {
        let provider = user.client.provider().await.unwrap();
        for name in [
            "",
            "/",
            "../../etc/passwd",
            "md0\n",
            "\u{1f}",
            "md00",
            "%s%n",
            "-1",
        ] {
            assert!(provider.find_lun(name).await.is_err(), "{name:?}");
            assert!(provider.find_drive(name).await.is_err(), "{name:?}");
            assert!(
                provider.spare_add(name, Dict::new()).await.is_err(),
                "{name:?}"
            );
        }
        let huge = "x".repeat(1 << 20);
        let error = provider.find_lun(&huge).await.map_err(remote);
        refused(error, "InvalidArgument", Hresult::E_INVALIDARG);
        user.lun("md0").await;
    });
}

#[test]
fn only_the_hot_spare_flag_can_be_set() {
    on("mirror", async |_rig, user| {
        // A drive that is nothing to lund has no object yet; registering it makes one.
        assert!(user.client.drive("sdc").await.is_err());
        let member = user.client.drive("sda").await.unwrap();
        for flags in [0, 2, 3, u32::MAX] {
            assert!(member.set_flags(flags).await.is_err(), "{flags}");
        }
        user.spare_add("sdc", false).await.unwrap();
        let drive = user.client.drive("sdc").await.unwrap();
        drive.set_flags(1).await.unwrap();
        drive.clear_flags(1).await.unwrap();
        assert!(user.client.drive("sdc").await.is_err());
    });
}
