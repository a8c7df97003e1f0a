//! The real daemon over a simulated kernel, on a bus of its own. Nothing here waits for a clock:
//! everything is awaited by the signal or the answer that tells of it, with a deadline that only
//! a failure ever reaches.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lun_core::Hresult;
use lun_core::facts::Inventory;
use lun_core::model::{Lun, OpView};
use lun_core::policy::Policy;
use lun_ipc::names::BUS_NAME;
use lun_ipc::proxy::AsyncProxy;
use lun_ipc::{CancelOptions, Client, ClientError, HostView, RecoverOptions, RemoteError};
use lun_ipc::{ReplaceOptions, SpareOptions};
use lun_kernel::{Hint, Watch};
use lun_sim::{SimKernel, World, scenario};
use lund::bus::Patience;
use lund::config::Config;
use tempfile::TempDir;
use tokio::sync::oneshot;
use zbus::message::Type;
use zbus::{MatchRule, MessageStream, OwnedObjectPath};

/// How long anything may take before the test counts as failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes a second at which no sync of a scenario ends within a test.
const SLOW: u64 = 1 << 20;
/// Bytes a second at which every sync ends at once.
const FAST: u64 = 4 << 30;

/// A `dbus-daemon` of its own.
struct PrivateBus {
    daemon: Child,
    address: String,
    _folder: TempDir,
}

impl PrivateBus {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address=1"])
            .arg(format!("--address=unix:dir={}", folder.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon must be installed (scripts/install-deps)");
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        Self {
            daemon,
            address: address.trim().to_owned(),
            _folder: folder,
        }
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A running daemon.
struct Service {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// What stalls the daemon's loop for as long as somebody holds it.
type Gate = Arc<Mutex<()>>;

/// Waits for the gate in each turn of the loop, and holds the loop's thread meanwhile.
struct GatedWatch {
    watch: Box<dyn Watch>,
    gate: Gate,
}

impl Watch for GatedWatch {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Hint> + '_>> {
        let (watch, gate) = (&mut self.watch, &self.gate);
        Box::pin(async move {
            // A test that failed while it held the gate has opened it.
            drop(gate.lock().unwrap_or_else(PoisonError::into_inner));
            watch.next().await
        })
    }

    fn follow(&mut self, inventory: &Inventory) {
        self.watch.follow(inventory);
    }
}

/// The service manager of a daemon, and what it may ask.
struct Manager {
    watchdog: Option<Duration>,
    gate: Gate,
    reloads: tokio::sync::mpsc::Sender<Config>,
    messages: std::sync::mpsc::Receiver<String>,
}

impl Manager {
    fn new(watchdog: Option<Duration>) -> (Self, lund::Settings) {
        let (reload, reloads) = tokio::sync::mpsc::channel(1);
        let (tell, messages) = std::sync::mpsc::channel();
        let tell = move |states: &[lund::notify::NotifyState<'_>]| {
            for state in states {
                // A test that is over listens no more.
                let _ = tell.send(state.to_string());
            }
        };
        let settings = lund::Settings {
            config: Config {
                policy: Policy::default().by_hand(),
                ..Config::default()
            },
            reloads,
            metrics: None,
            notifier: lund::notify::Notifier::to(Box::new(tell), watchdog),
        };
        let manager = Self {
            watchdog,
            gate: Gate::default(),
            reloads: reload,
            messages,
        };
        (manager, settings)
    }
}

/// The daemon in a thread of its own, until it is told to stop.
fn serve(
    settings: lund::Settings,
    (sim, gate): (SimKernel, Gate),
    bus: lund::Bus,
    state: PathBuf,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let watch = Box::new(GatedWatch {
        watch: Box::new(sim.watch()),
        gate,
    });
    let ended = runtime.block_on(lund::run(
        settings,
        &state,
        bus,
        Arc::new(sim),
        watch,
        async move { drop(stopped.await) },
    ));
    // A write that hangs in the kernel must not keep the test from ending.
    runtime.shutdown_background();
    ended.unwrap();
}

/// A bus, a machine, and the daemon between them.
pub(crate) struct Rig {
    /// The machine.
    pub(crate) sim: SimKernel,
    bus: PrivateBus,
    state: TempDir,
    service: Option<Service>,
    /// Polkit is asked about every caller, and has this long to answer.
    judged: Option<Patience>,
    manager: Manager,
}

impl Rig {
    /// Starts the daemon on this machine; its sync threads are slow.
    pub(crate) fn start(world: World) -> Self {
        Self::with(world, None, None)
    }

    /// Starts a daemon that asks polkit about every caller, root too.
    pub(crate) fn judged(world: World, patience: Patience) -> Self {
        Self::with(world, Some(patience), None)
    }

    /// Starts a daemon under a service manager that wants to be fed.
    pub(crate) fn watched(world: World, watchdog: Option<Duration>) -> Self {
        Self::with(world, None, watchdog)
    }

    fn with(world: World, judged: Option<Patience>, watchdog: Option<Duration>) -> Self {
        let mut rig = Self {
            manager: Manager::new(watchdog).0,
            sim: SimKernel::real_time(world, SLOW),
            bus: PrivateBus::start(),
            state: TempDir::new().unwrap(),
            service: None,
            judged,
        };
        rig.start_service();
        rig
    }

    /// Starts the daemon, which finds what an earlier one remembered.
    pub(crate) fn start_service(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let sim = self.sim.clone();
        let address = self.bus.address.clone();
        let bus = match self.judged {
            Some(patience) => lund::Bus::Judged(address, patience),
            None => lund::Bus::Address(address),
        };
        let state = self.state.path().to_path_buf();
        let (manager, settings) = Manager::new(self.manager.watchdog);
        let gate = Arc::clone(&manager.gate);
        self.manager = manager;
        let thread = std::thread::spawn(move || serve(settings, (sim, gate), bus, state, stopped));
        self.service = Some(Service { stop, thread });
        block_on(wait_for_name(&self.bus.address, true));
    }

    /// Stops the daemon, as `systemctl stop` does.
    pub(crate) fn stop_service(&mut self) {
        if let Some(service) = self.service.take() {
            let _ = service.stop.send(());
            service.thread.join().unwrap();
            // The bus notices a moment later that its connection is closed.
            block_on(wait_for_name(&self.bus.address, false));
        }
    }

    /// Whether the service manager is told this within some time; what it was told before is over.
    pub(crate) fn told(&self, what: &str, within: Duration) -> bool {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.manager.messages.recv_timeout(left) {
                Ok(message) if message.contains(what) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    /// Does something while the daemon's loop stands still.
    pub(crate) fn while_stalled(&self, act: impl FnOnce()) {
        let held = self.manager.gate.lock().unwrap();
        act();
        drop(held);
    }

    /// The configuration was read anew.
    pub(crate) fn reload(&self, config: Config) {
        self.manager.reloads.try_send(config).unwrap();
    }

    /// Address of the bus.
    pub(crate) fn address(&self) -> &str {
        &self.bus.address
    }

    /// A new connection.
    pub(crate) async fn client(&self) -> User {
        User {
            client: Client::connect(&self.bus.address).await.unwrap(),
        }
    }

    /// Lets every sync end at once.
    pub(crate) fn fast(&self) {
        self.sim.with(|world| world.set_rate(FAST));
    }

    /// Nothing was lost.
    pub(crate) fn sound(&self) {
        self.sim.with(|world| world.check_invariants()).unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A test that failed half way must not leave the daemon waiting for a drive for ever.
        self.sim.with(|world| {
            world.hold_actions = false;
            let names: Vec<String> = world.devices.values().map(|d| d.name.clone()).collect();
            names.iter().for_each(|name| world.unhang(name));
        });
        if let Some(service) = self.service.take() {
            let _ = service.stop.send(());
            let ended = service.thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the daemon panicked"
            );
        }
    }
}

/// Runs a test on a machine by name.
pub(crate) fn on(scenario: &str, test: impl AsyncFnOnce(&Rig, User)) {
    on_world(scenario::by_name(scenario).unwrap(), test);
}

/// Runs a test on a machine.
pub(crate) fn on_world(world: World, test: impl AsyncFnOnce(&Rig, User)) {
    let rig = Rig::start(world);
    block_on(async {
        let user = rig.client().await;
        test(&rig, user).await;
    });
}

/// Runs a future to its end, or fails.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE * 2, future)
            .await
            .expect("the test hangs")
    })
}

/// Waits until the service is on the bus, or until the bus has noticed that it is gone.
async fn wait_for_name(address: &str, wanted: bool) {
    let client = Client::connect(address).await.unwrap();
    let bus = zbus::fdo::DBusProxy::new(client.connection())
        .await
        .unwrap();
    let mut changes = bus
        .receive_name_owner_changed_with_args(&[(0, BUS_NAME)])
        .await
        .unwrap();
    let waiting = async {
        while bus
            .name_has_owner(BUS_NAME.try_into().unwrap())
            .await
            .unwrap()
            != wanted
        {
            changes.next().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("never on the bus: {wanted}"));
}

/// Somebody with a connection to the service.
pub(crate) struct User {
    /// The client library.
    pub(crate) client: Client,
}

impl User {
    /// All that can be seen.
    pub(crate) async fn view(&self) -> HostView {
        let text = self
            .client
            .provider()
            .await
            .unwrap()
            .describe()
            .await
            .unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Where a LUN is on the bus.
    pub(crate) async fn lun_path(&self, name: &str) -> OwnedObjectPath {
        let provider = self.client.provider().await.unwrap();
        provider.find_lun(name).await.unwrap()
    }

    /// A LUN.
    pub(crate) async fn lun(&self, name: &str) -> Lun {
        let text = self
            .client
            .lun(name)
            .await
            .unwrap()
            .describe()
            .await
            .unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until what can be seen is as wanted.
    pub(crate) async fn until(&self, what: &str, test: impl Fn(&HostView) -> bool) {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(BUS_NAME)
            .build()
            .unwrap();
        let connection = self.client.connection();
        let mut signals = MessageStream::for_match_rule(rule, connection, None)
            .await
            .unwrap();
        let seen = tokio::time::timeout(PATIENCE, async {
            while !test(&self.view().await) {
                signals.next().await;
            }
        });
        if seen.await.is_err() {
            panic!("never seen: {what}; there is {:#?}", self.view().await);
        }
    }

    /// Waits until a LUN is as wanted.
    pub(crate) async fn until_lun(&self, name: &str, what: &str, test: impl Fn(&Lun) -> bool) {
        self.until(what, |view| {
            view.luns.iter().any(|lun| lun.name == name && test(lun))
        })
        .await;
    }

    /// Calls `Recover`.
    pub(crate) async fn recover(&self, lun: &str, spare: Option<&str>) -> Result<Op, RemoteError> {
        let options = RecoverOptions {
            spare: spare.map(str::to_owned),
            repair: false,
        };
        let lun = self.client.lun(lun).await.map_err(remote)?;
        let path = lun.recover(options.to_dict()).await.map_err(remote)?;
        Ok(self.op(path).await)
    }

    /// Calls `ReplaceDrive`.
    pub(crate) async fn replace(&self, lun: &str, drive: &str) -> Result<Op, RemoteError> {
        let options = ReplaceOptions::default();
        let lun = self.client.lun(lun).await.map_err(remote)?;
        let path = lun
            .replace_drive(drive, options.to_dict())
            .await
            .map_err(remote)?;
        Ok(self.op(path).await)
    }

    /// Calls `Verify`.
    pub(crate) async fn verify(&self, lun: &str) -> Result<Op, RemoteError> {
        let lun = self.client.lun(lun).await.map_err(remote)?;
        let path = lun.verify().await.map_err(remote)?;
        Ok(self.op(path).await)
    }

    /// Registers a spare.
    pub(crate) async fn spare_add(&self, drive: &str, force: bool) -> Result<(), RemoteError> {
        let provider = self.client.provider().await.map_err(remote)?;
        let options = SpareOptions { force };
        provider
            .spare_add(drive, options.to_dict())
            .await
            .map(drop)
            .map_err(remote)
    }

    /// The operation at a path.
    pub(crate) async fn op(&self, path: OwnedObjectPath) -> Op {
        Op {
            proxy: self.client.operation(path).await.unwrap(),
        }
    }
}

/// An operation.
pub(crate) struct Op {
    /// Its object.
    pub(crate) proxy: AsyncProxy<'static>,
}

impl Op {
    /// As it stands.
    pub(crate) async fn view(&self) -> OpView {
        serde_json::from_str(&self.proxy.describe().await.unwrap()).unwrap()
    }

    /// Waits for its end.
    pub(crate) async fn wait(&self) -> Hresult {
        let ended = tokio::time::timeout(PATIENCE, self.proxy.wait(0)).await;
        let (hresult, _) = ended.expect("the operation does not end").unwrap();
        Hresult(hresult)
    }

    /// `QueryStatus`.
    pub(crate) async fn status(&self) -> (Hresult, u32) {
        let (hresult, percent) = self.proxy.query_status().await.unwrap();
        (Hresult(hresult), percent)
    }

    /// Cancels it.
    pub(crate) async fn cancel(&self, release_spare: bool) -> Result<(), RemoteError> {
        let options = CancelOptions { release_spare };
        self.proxy.cancel(options.to_dict()).await.map_err(remote)
    }
}

/// What the service answered instead of a result.
pub(crate) fn remote(error: impl Into<ClientError>) -> RemoteError {
    match error.into() {
        ClientError::Remote(error) => error,
        other => panic!("expected an answer of the service, got {other:?}"),
    }
}

/// Asserts that a call was refused with this name and code.
pub(crate) fn refused<T>(result: Result<T, RemoteError>, name: &str, hresult: Hresult) {
    match result {
        Err(error) => {
            assert_eq!(
                (error.name.as_str(), error.hresult),
                (name, hresult),
                "{error:?}"
            );
            assert!(!error.message.is_empty());
        }
        Ok(_) => panic!("expected {name}"),
    }
}
