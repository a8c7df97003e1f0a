//! The service before the service manager: readiness, reloads, and a watchdog that only a live
//! loop feeds.

use std::time::Duration;

use futures_util::StreamExt as _;
use lun_ipc::names::{BUS_NAME, ROOT_PATH};
use lun_sim::scenario;
use lund::config::{self, Config};
use zbus::fdo;

use crate::rig::{Rig, User, block_on};

/// What the watchdog allows; it is fed at half of it.
const WATCHDOG: Duration = Duration::from_millis(400);

fn config_of(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lund.toml");
    std::fs::write(&path, text).unwrap();
    config::load(&path, true)
}

async fn provider_changes(user: &User) -> fdo::PropertiesChangedStream {
    let provider = fdo::PropertiesProxy::builder(user.client.connection())
        .destination(BUS_NAME)
        .path(ROOT_PATH)
        .build();
    let changes = provider.await.unwrap().receive_properties_changed().await;
    changes.unwrap()
}

/// Waits until clients are told that the property has changed.
async fn config_error_told(changes: &mut fdo::PropertiesChangedStream) {
    loop {
        let change = changes.next().await.unwrap();
        let args = change.args().unwrap();
        if args.changed_properties().contains_key("ConfigError") {
            return;
        }
    }
}

#[test]
fn only_a_live_loop_feeds_the_watchdog() {
    let rig = Rig::watched(scenario::by_name("mirror").unwrap(), Some(WATCHDOG));
    let fed = |within| rig.told("WATCHDOG=1", within);
    assert!(fed(WATCHDOG * 50), "never fed");
    assert!(fed(WATCHDOG * 50), "fed once and no more");
    rig.while_stalled(|| {
        // One may have been on its way, or due in the turn in which the loop stalled.
        let times = (0..4).take_while(|_| fed(WATCHDOG * 2)).count();
        assert!(
            times <= 1,
            "fed {times} times by somebody other than the loop"
        );
    });
    assert!(fed(WATCHDOG * 50), "not fed after the loop went on");
}

#[test]
fn a_wrong_configuration_leaves_the_old_one_in_force_and_is_told() {
    let rig = Rig::watched(scenario::by_name("mirror-degraded").unwrap(), None);
    let long = Duration::from_secs(30);
    assert!(rig.told("READY=1", long));
    block_on(async {
        let user = rig.client().await;
        let provider = user.client.provider().await.unwrap();
        let mut changes = provider_changes(&user).await;
        assert_eq!(provider.config_error().await.unwrap(), "");
        user.spare_add("/dev/sdc", false).await.unwrap();
        let op = user.recover("md0", None).await.unwrap();

        rig.reload(config_of("[service]\nrescan_s = 1\n"));
        config_error_told(&mut changes).await;
        let error = provider.config_error().await.unwrap();
        assert!(
            error.contains("lund.toml:2: service.rescan_s = 1"),
            "{error}"
        );
        assert!(error.contains("before still is"), "{error}");
        assert!(rig.told("configuration not in force", long));
        assert!(rig.told("READY=1", long), "the reload has an end");

        rig.reload(config_of("[service]\nrescan_s = 120\n"));
        config_error_told(&mut changes).await;
        assert_eq!(provider.config_error().await.unwrap(), "");
        assert!(rig.told("READY=1", long));
        // What was under way has gone on.
        rig.fast();
        assert_eq!(op.wait().await, lun_core::Hresult::S_OK);
    });
}
