//! The daemon on a private bus, over the simulated kernel, driven by the client's proxies.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lun_core::Hresult;
use lun_core::model::{Health, Lun, OpView};
use lun_core::policy::Policy;
use lun_ipc::names::{BUS_NAME, LUN_INTERFACE, ROOT_PATH, op_path};
use lun_ipc::{CancelOptions, Client, ClientError, HostView, RecoverOptions, SpareOptions};
use lun_sim::{SimKernel, scenario};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::{Bus, Error};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const FAST: u64 = 1 << 40;
const SLOW: u64 = 1 << 10;

/// A bus of our own; it ends with the value.
struct PrivateBus {
    daemon: Child,
    folder: TempDir,
}

impl PrivateBus {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("--address=unix:path={}/bus", folder.path().display());
        let daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", &address])
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed");
        Self { daemon, folder }
    }

    fn address(&self) -> String {
        format!("unix:path={}/bus", self.folder.path().display())
    }

    async fn client(&self) -> Client {
        for _ in 0..600 {
            if let Ok(client) = Client::connect(&self.address()).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the private bus does not answer");
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A daemon on the bus.
struct Daemon {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Daemon {
    fn start(bus: &PrivateBus, state: &str, kernel: &SimKernel) -> Self {
        let (stop, stopped) = oneshot::channel();
        let watch = Box::new(kernel.watch());
        let kernel = Arc::new(kernel.clone());
        let state_dir = bus.folder.path().join(state);
        let address = Bus::Address(bus.address());
        let task = tokio::task::spawn_local(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            crate::run(
                Config {
                    policy: Policy::default().by_hand(),
                    ..Config::default()
                },
                &state_dir,
                address,
                kernel,
                watch,
                shutdown,
            )
            .await
        });
        Self { stop, task }
    }

    async fn stop(self) -> Result<(), Error> {
        let _ = self.stop.send(());
        self.task.await.unwrap()
    }
}

async fn answers(client: &Client) {
    let provider = client.provider().await.unwrap();
    for _ in 0..600 {
        if provider.version().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the daemon does not answer");
}

/// Runs a test with a daemon over a scenario.
async fn with_daemon<F: Future<Output = ()>>(
    name: &str,
    rate: u64,
    test: impl FnOnce(Client, SimKernel) -> F,
) {
    let bus = PrivateBus::start();
    let kernel = SimKernel::real_time(scenario::by_name(name).unwrap(), rate);
    let local = tokio::task::LocalSet::new();
    let run = local.run_until(async {
        let client = bus.client().await;
        let daemon = Daemon::start(&bus, "state", &kernel);
        answers(&client).await;
        test(client, kernel.clone()).await;
        daemon.stop().await.unwrap();
    });
    tokio::time::timeout(PATIENCE, run).await.expect("in time");
}

fn remote_name(error: impl Into<ClientError>) -> (String, Hresult) {
    match error.into() {
        ClientError::Remote(remote) => (remote.name, remote.hresult),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_mirror_is_recovered_onto_a_spare() {
    with_daemon("mirror-degraded", FAST, |client, _kernel| async move {
        let provider = client.provider().await.unwrap();
        let mut notifications = provider.receive_notification().await.unwrap();
        provider
            .spare_add("/dev/sdc", SpareOptions::default().to_dict())
            .await
            .unwrap();
        let lun = client.lun("md0").await.unwrap();
        let path = lun
            .recover(RecoverOptions::default().to_dict())
            .await
            .unwrap();
        let operation = client.operation(path.clone()).await.unwrap();
        let (hresult, output) = operation.wait(0).await.unwrap();
        assert_eq!((Hresult(hresult), output), (Hresult::S_OK, 56));
        assert_eq!(
            operation.wait(1).await.unwrap(),
            (0, 56),
            "any number of times"
        );
        assert_eq!(operation.query_status().await.unwrap(), (0, 100));
        let view: OpView = serde_json::from_str(&operation.describe().await.unwrap()).unwrap();
        assert_eq!(op_path(view.id), path);
        let view: Lun = serde_json::from_str(&lun.describe().await.unwrap()).unwrap();
        assert_eq!(view.health, Health::Healthy);

        let late = operation
            .cancel(CancelOptions::default().to_dict())
            .await
            .unwrap_err();
        assert_eq!(remote_name(late).1, Hresult::VDS_E_CANCEL_TOO_LATE);
        assert!(notifications.next().await.is_some());
        let events: Vec<lun_ipc::Event> =
            serde_json::from_str(&provider.query_events(0).await.unwrap()).unwrap();
        assert!(
            events
                .iter()
                .map(|event| event.seq)
                .eq(1..=events.len() as u64)
        );
        let host: HostView = serde_json::from_str(&provider.describe().await.unwrap()).unwrap();
        assert_eq!((host.luns.len(), host.ops.len()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn changes_are_told_and_objects_listed() {
    with_daemon("mirror-degraded", SLOW, |client, _kernel| async move {
        let provider = client.provider().await.unwrap();
        let lun = client.lun("md0").await.unwrap();
        let properties = zbus::fdo::PropertiesProxy::builder(client.connection())
            .destination(BUS_NAME)
            .path(lun.inner().path().to_owned())
            .build()
            .await
            .unwrap();
        let mut changes = properties.receive_properties_changed().await.unwrap();
        provider
            .spare_add("/dev/sdc", SpareOptions::default().to_dict())
            .await
            .unwrap();
        let path = lun
            .recover(RecoverOptions::default().to_dict())
            .await
            .unwrap();
        loop {
            let change = changes.next().await.unwrap();
            let args = change.args().unwrap();
            assert_eq!(args.interface_name().as_str(), LUN_INTERFACE);
            let changed = args.changed_properties();
            assert!(!changed.contains_key("Id"), "only what changed");
            if changed.contains_key("Operation") {
                break;
            }
        }
        assert_eq!(lun.operation().await.unwrap(), path);
        let manager = zbus::fdo::ObjectManagerProxy::builder(client.connection())
            .destination(BUS_NAME)
            .path(ROOT_PATH)
            .build()
            .await
            .unwrap();
        let objects = manager.get_managed_objects().await.unwrap();
        assert!(objects.contains_key(&path));

        let operation = client.operation(path).await.unwrap();
        let timeout = operation.wait(10).await.unwrap_err();
        assert_eq!(
            remote_name(timeout),
            ("Timeout".to_owned(), Hresult::VDS_E_TIMEOUT)
        );
        let busy = lun
            .recover(RecoverOptions::default().to_dict())
            .await
            .unwrap_err();
        let busy = ClientError::from(busy);
        let busy = busy.remote().unwrap();
        assert_eq!(busy.hresult, Hresult::VDS_E_ANOTHER_CALL_IN_PROGRESS);
        assert!(
            busy.hint.as_ref().unwrap().contains("lunctl status 1"),
            "{busy:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn refusals_have_names_and_numbers() {
    with_daemon("raid0", FAST, |client, _kernel| async move {
        let error = client.lun("nonsense").await.unwrap_err();
        assert_eq!(remote_name(error).1, Hresult::VDS_E_OBJECT_NOT_FOUND);
        let error = client.lun(&"x".repeat(5000)).await.unwrap_err();
        assert_eq!(
            remote_name(error),
            ("InvalidArgument".to_owned(), Hresult::E_INVALIDARG)
        );
        let lun = client.lun("md0").await.unwrap();
        let error = lun
            .recover(RecoverOptions::default().to_dict())
            .await
            .unwrap_err();
        assert_eq!(remote_name(error).1, Hresult::VDS_E_INVALID_OPERATION);
        let options = CancelOptions {
            release_spare: true,
        };
        let error = lun.recover(options.to_dict()).await.unwrap_err();
        assert_eq!(remote_name(error).0, "InvalidArgument");
        let nobody = client
            .operation(op_path(lun_core::id::OpId(77)))
            .await
            .unwrap();
        let error = nobody.query_status().await.unwrap_err();
        assert_eq!(remote_name(error).0, "ObjectNotFound");
    })
    .await;
}

#[tokio::test]
async fn a_second_daemon_ends_with_a_clear_message() {
    let bus = PrivateBus::start();
    let kernel = SimKernel::real_time(scenario::by_name("mirror").unwrap(), FAST);
    let local = tokio::task::LocalSet::new();
    let run = local.run_until(async {
        let client = bus.client().await;
        let first = Daemon::start(&bus, "state", &kernel);
        answers(&client).await;
        let same_state = Daemon::start(&bus, "state", &kernel);
        let error = same_state.task.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Locked(_)), "{error}");
        let same_bus = Daemon::start(&bus, "other", &kernel);
        let error = same_bus.task.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::NameTaken(_)), "{error}");
        first.stop().await.unwrap();
        // The state directory is free again, and remembers.
        let again = Daemon::start(&bus, "state", &kernel);
        answers(&client).await;
        again.stop().await.unwrap();
    });
    tokio::time::timeout(PATIENCE, run).await.expect("in time");
}
