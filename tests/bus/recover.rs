//! `Recover` and what it hands out.

use futures_util::future::join_all;
use lun_core::Hresult;
use lun_core::action::{Action, Target};
use lun_core::model::{Health, OpKind, Origin, RetiredDrive, RetiredWhy};

use crate::rig::{PATIENCE, Rig, block_on, on, refused, remote};

const S_OK: Hresult = Hresult(0);
const PENDING: Hresult = Hresult::VDS_E_OPERATION_PENDING;

/// Adds a spare as another administrator would at a shell.
fn add_by_hand(rig: &Rig, drive: &str) {
    rig.sim.with(|world| {
        let dev = world.dev(drive).unwrap();
        let id = world.devices[&dev].id;
        let drive = Target {
            dev,
            name: drive.to_owned(),
            id,
        };
        world
            .act(&Action::AddSpare {
                array: "md0".to_owned(),
                drive,
            })
            .unwrap();
    });
}

#[test]
fn a_degraded_mirror_is_mended_with_a_spare_of_the_pool() {
    on("mirror-degraded", async |rig, user| {
        user.spare_add("/dev/sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        let (hresult, percent) = op.status().await;
        assert_eq!(hresult, PENDING);
        assert!(percent < 100);
        rig.fast();
        assert_eq!(op.wait().await, S_OK);
        assert_eq!(op.status().await, (S_OK, 100));
        // As often as anybody likes.
        assert_eq!(op.wait().await, S_OK);
        let view = op.view().await;
        assert_eq!(view.state, "succeeded");
        assert_eq!(view.spare.as_deref(), Some("/dev/sdc"));
        assert_eq!(user.lun("md0").await.health, Health::Healthy);
        rig.sound();
    });
}

#[test]
fn a_chosen_drive_need_not_be_in_the_pool() {
    on("mirror-degraded", async |rig, user| {
        let op = user.recover("md0", Some("/dev/sdc")).await.unwrap();
        rig.fast();
        assert_eq!(op.wait().await, S_OK, "{}", op.view().await.message);
        rig.sound();
    });
}

#[test]
fn two_missing_members_are_one_operation() {
    on("raid6-two-missing", async |rig, user| {
        user.spare_add("sde", false).await.unwrap();
        user.spare_add("sdf", false).await.unwrap();
        let op = user.recover("/dev/md0", None).await.unwrap();
        rig.fast();
        assert_eq!(op.wait().await, S_OK);
        assert_eq!(user.lun("md0").await.redundancy.members_in_sync, Some(4));
        rig.sound();
    });
}

#[test]
fn a_lun_with_nothing_wrong_answers_with_a_finished_operation() {
    on("mirror", async |rig, user| {
        let op = user.recover("md0", None).await.unwrap();
        assert_eq!(op.status().await, (S_OK, 100));
        assert_eq!(op.wait().await, S_OK);
        assert!(
            rig.sim.with(|world| world.log.is_empty()),
            "nothing was done to the kernel"
        );
    });
}

#[test]
fn any_number_of_waiters_are_all_answered() {
    on("mirror-degraded", async |rig, user| {
        user.spare_add("sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        let path = op.proxy.inner().path().to_owned();
        let mut others = Vec::new();
        for _ in 0..20 {
            others.push(rig.client().await.op(path.clone().into()).await);
        }
        let waits = join_all(others.iter().map(super::super::rig::Op::wait));
        let (all, ()) = futures_util::future::join(waits, async { rig.fast() }).await;
        assert_eq!(all, vec![S_OK; 20]);
    });
}

#[test]
fn waiting_that_times_out_leaves_the_operation_alone() {
    on("mirror-degraded", async |rig, user| {
        user.spare_add("sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        let late = op.proxy.wait(1).await.map_err(remote);
        refused(late, "Timeout", Hresult::VDS_E_TIMEOUT);
        assert_eq!(op.status().await.0, PENDING);
        rig.fast();
        assert_eq!(op.wait().await, S_OK);
    });
}

#[test]
fn a_dirty_mirror_that_waits_for_its_first_write_is_resynced() {
    on("mirror-dirty", async |rig, user| {
        let op = user.recover("md0", None).await.unwrap();
        rig.fast();
        assert_eq!(op.wait().await, S_OK);
        assert_eq!(user.lun("md0").await.health, Health::Healthy);
        rig.sound();
    });
}

#[test]
fn what_the_kernel_starts_by_itself_is_an_operation_too() {
    on("mirror-degraded", async |rig, user| {
        add_by_hand(rig, "sdc");
        user.until("an operation of the kernel", |view| {
            view.ops
                .iter()
                .any(|op| op.origin == Origin::Kernel && op.kind == OpKind::Recover)
        })
        .await;
        let view = user.view().await;
        let id = view.ops.last().unwrap().id;
        let op = user.op(lun_ipc::names::op_path(id)).await;
        refused(
            user.recover("md0", None).await,
            "AnotherCallInProgress",
            Hresult::VDS_E_ANOTHER_CALL_IN_PROGRESS,
        );
        rig.fast();
        assert_eq!(op.wait().await, S_OK);
    });
}

#[test]
fn a_failing_member_is_replaced_without_losing_redundancy() {
    on("mirror-failing", async |rig, user| {
        user.spare_add("sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        assert_eq!(user.lun("md0").await.redundancy.members_in_sync, Some(2));
        rig.fast();
        assert_eq!(op.wait().await, S_OK);
        let lun = user.lun("md0").await;
        assert_eq!(lun.redundancy.members_in_sync, Some(2));
        rig.sound();
    });
}

#[test]
fn replace_moves_the_data_and_retires_the_drive() {
    on("mirror", async |rig, user| {
        user.spare_add("sdc", false).await.unwrap();
        let op = user.replace("md0", "sdb").await.unwrap();
        rig.fast();
        assert_eq!(op.wait().await, S_OK);
        let lun = user.lun("md0").await;
        assert_eq!(lun.redundancy.members_in_sync, Some(2));
        assert!(lun.drives.iter().any(|drive| drive.device == "/dev/sdc"));
        rig.sound();
    });
}

#[test]
fn what_was_replaced_is_listed_and_not_used_again() {
    on("mirror", async |rig, user| {
        user.spare_add("sdc", false).await.unwrap();
        user.until("sdc to cover md0", |view| {
            view.coverage.iter().any(|one| one.by == ["/dev/sdc"])
        })
        .await;
        let op = user.replace("md0", "sdb").await.unwrap();
        rig.fast();
        assert_eq!(op.wait().await, S_OK);
        user.until("sdb to be given up, and no spare to be left", |view| {
            let given_up = |one: &RetiredDrive| {
                one.device.as_deref() == Some("/dev/sdb")
                    && one.retired.why == RetiredWhy::Replaced
                    && one.retired.lun_name == "md0"
            };
            view.retired.iter().any(given_up) && view.coverage.iter().all(|one| !one.covered)
        })
        .await;
        rig.sim.with(|world| {
            let drive = world
                .devices
                .values_mut()
                .find(|d| d.name == "sdb")
                .unwrap();
            drive.superblock = None;
        });
        let refused = user.spare_add("sdb", false).await.unwrap_err();
        assert!(
            refused.message.contains("was replaced in md0"),
            "{refused:?}"
        );
        user.spare_add("sdb", true).await.unwrap();
        user.until("sdb to be a spare like any other", |view| {
            view.retired.is_empty() && view.coverage.iter().all(|one| one.by == ["/dev/sdb"])
        })
        .await;
    });
}

#[test]
fn verify_compares_the_copies() {
    on("mirror", async |rig, user| {
        rig.fast();
        assert_eq!(user.verify("md0").await.unwrap().wait().await, S_OK);
        rig.sim
            .with(|world| world.arrays.get_mut("md0").unwrap().mismatch_real = 128);
        let op = user.verify("md0").await.unwrap();
        assert_eq!(op.wait().await, Hresult::VDS_E_VOLUME_NOT_HEALTHY);
        assert_eq!(op.status().await.1, 100);
    });
}

#[test]
fn a_target_that_fails_makes_way_for_the_next_spare() {
    on("raid5-degraded-with-pool", async |rig, user| {
        user.spare_add("sdd", false).await.unwrap();
        user.spare_add("sde", false).await.unwrap();
        rig.sim.with(|world| {
            for name in ["sdd", "sde"] {
                world.device_mut(name).unwrap().fails_at = Some(1000);
            }
        });
        let op = user.recover("md0", None).await.unwrap();
        rig.fast();
        assert_ne!(op.wait().await, S_OK, "both spares fail");
        let tried = rig.sim.with(|world| {
            world
                .log
                .iter()
                .filter(|a| matches!(a, Action::AddSpare { .. }))
                .count()
        });
        assert_eq!(tried, 2);
        rig.sound();
    });
}

#[test]
fn an_operation_outlives_the_daemon() {
    let mut rig = Rig::start(lun_sim::scenario::by_name("mirror-degraded").unwrap());
    let number = block_on(async {
        let user = rig.client().await;
        user.spare_add("sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();
        user.until("it runs", |view| {
            view.ops.iter().any(|op| op.state == "running")
        })
        .await;
        op.view().await.id
    });
    rig.stop_service();
    rig.start_service();
    block_on(async {
        let user = rig.client().await;
        let op = user.op(lun_ipc::names::op_path(number)).await;
        assert_eq!(op.status().await.0, PENDING);
        rig.fast();
        assert_eq!(
            tokio::time::timeout(PATIENCE, op.wait()).await.unwrap(),
            S_OK
        );
        rig.sound();
    });
}
