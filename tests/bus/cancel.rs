//! `Cancel`, and what becomes of the LUN.

use lun_core::Hresult;
use lun_core::model::{Health, Role};

use crate::rig::{Rig, User, block_on, on, refused};

const CANCELED: Hresult = Hresult::VDS_E_OPERATION_CANCELED;

async fn rebuilding(user: &User) {
    user.until_lun("md0", "rebuilding", |lun| lun.health == Health::Rebuilding)
        .await;
}

#[test]
fn a_cancel_right_after_the_call_holds_the_lun_if_it_says_so() {
    on("mirror-degraded", async |rig, user| {
        user.spare_add("sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        op.cancel(false).await.unwrap();
        assert_eq!(op.wait().await, CANCELED);
        let (said, held) = (op.view().await.message, user.lun("md0").await.held);
        assert_eq!(said.contains("is held"), held, "{said}");
        rig.sound();
    });
}

#[test]
fn a_cancelled_recovery_is_held_and_goes_on_from_its_checkpoint() {
    on("mirror-degraded", async |rig, user| {
        user.spare_add("sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        user.until_lun("md0", "rebuilding", |lun| lun.health == Health::Rebuilding)
            .await;
        op.cancel(false).await.unwrap();
        assert_eq!(op.wait().await, CANCELED);
        assert_eq!(op.status().await, (CANCELED, 100));
        user.until_lun("md0", "held", |lun| lun.held).await;
        let kept = rig.sim.with(|world| {
            let array = world.array("md0").unwrap();
            assert!(array.frozen && array.sync.is_none());
            let dev = world.dev("sdc").unwrap();
            array.member(dev).unwrap().recovery_offset.unwrap()
        });
        refused(op.cancel(false).await, "OperationCanceled", CANCELED);
        let again = user.recover("md0", None).await.unwrap();
        user.until_lun("md0", "rebuilding", |lun| lun.health == Health::Rebuilding)
            .await;
        let base = rig
            .sim
            .with(|world| world.array("md0").unwrap().sync.clone().unwrap().base);
        assert_eq!(base, kept);
        assert!(!user.lun("md0").await.held);
        rig.fast();
        assert_eq!(again.wait().await, Hresult(0));
        refused(
            again.cancel(false).await,
            "CancelTooLate",
            Hresult::VDS_E_CANCEL_TOO_LATE,
        );
        rig.sound();
    });
}

#[test]
fn release_lets_the_kernel_go_on() {
    on("mirror-degraded", async |rig, user| {
        user.spare_add("sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        rebuilding(&user).await;
        op.cancel(false).await.unwrap();
        assert_eq!(op.wait().await, CANCELED);
        user.until_lun("md0", "held", |lun| lun.held).await;
        user.client
            .lun("md0")
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        rig.fast();
        user.until_lun("md0", "healthy", |lun| {
            !lun.held && lun.health == Health::Healthy
        })
        .await;
        rig.sound();
    });
}

#[test]
fn a_released_spare_is_blank_and_back_in_the_pool() {
    on("mirror-degraded", async |rig, user| {
        user.spare_add("sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        user.until_lun("md0", "rebuilding", |lun| lun.health == Health::Rebuilding)
            .await;
        op.cancel(true).await.unwrap();
        assert_eq!(op.wait().await, CANCELED);
        user.until("back in the pool", |view| {
            view.drives
                .iter()
                .any(|d| d.device == "/dev/sdc" && d.role == Role::Pool)
        })
        .await;
        rig.sim
            .with(|world| assert!(world.device("sdc").unwrap().superblock.is_none()));
        rig.sound();
    });
}

#[test]
fn a_hold_survives_the_daemon() {
    let mut rig = Rig::start(lun_sim::scenario::by_name("mirror-degraded").unwrap());
    block_on(async {
        let user = rig.client().await;
        user.spare_add("sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        rebuilding(&user).await;
        op.cancel(false).await.unwrap();
        assert_eq!(op.wait().await, CANCELED);
    });
    rig.stop_service();
    rig.sim.with(|world| world.reboot(false));
    rig.start_service();
    block_on(async {
        let user = rig.client().await;
        user.until_lun("md0", "held and frozen", |lun| {
            lun.held && lun.sync.action == "frozen"
        })
        .await;
    });
}

#[test]
fn a_member_that_hangs_keeps_nobody_else_waiting() {
    on("zoo", async |rig, user| {
        user.spare_add("sdx", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        user.until_lun("md0", "rebuilding", |lun| lun.health == Health::Rebuilding)
            .await;
        rig.sim.with(|world| world.hang("sda"));
        let others = async {
            user.until("cancelling", |view| {
                view.ops.iter().any(|op| op.state == "cancelling")
            })
            .await;
            // Everything else is served meanwhile.
            assert_eq!(
                user.recover("md1", None).await.unwrap().wait().await,
                Hresult(0)
            );
            assert_eq!(op.status().await.0, Hresult::VDS_E_OPERATION_PENDING);
            rig.sim.with(|world| world.unhang("sda"));
        };
        let (cancelled, ()) = futures_util::future::join(op.cancel(false), others).await;
        cancelled.unwrap();
        assert_eq!(op.wait().await, CANCELED);
    });
}
