//! The daemon: it reads its configuration and its ledger, watches the kernel, runs the machine of
//! `lun-core`, and serves it on the bus.
#![forbid(unsafe_code)]

pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod driver;
pub mod effects;
pub mod handle;
pub mod hook;
pub mod ledger;
pub mod logging;
pub mod mdadm_conf;
pub mod metrics;
pub mod news;
pub mod notify;
pub mod past;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lun_kernel::{Kernel, Watch};
use tokio::sync::{mpsc, oneshot};

use bus::{Auth, Context, Patience, Trusted};
use config::Config;
use driver::{Driver, Sources};
use effects::Performer;
use handle::DriverEnd;
use ledger::{Ledger, Opened};
use notify::Notifier;

/// Why the daemon ends other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon works on the state directory.
    #[error(transparent)]
    Locked(#[from] ledger::LockError),
    /// Another daemon has the bus name.
    #[error("another lund has the name {0} on this bus; two must never act at once")]
    NameTaken(&'static str),
    /// The bus is gone.
    #[error("the bus has closed the connection")]
    BusGone,
    /// The bus does not work.
    #[error("D-Bus: {0}")]
    Bus(#[from] zbus::Error),
    /// The kernel cannot be looked at or watched.
    #[error("{0}")]
    Kernel(String),
    /// The program cannot be set up.
    #[error("{what}: {source}")]
    Setup {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Which bus is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    /// The system's.
    System,
    /// The user's session.
    Session,
    /// The one at this address.
    Address(String),
    /// The one at this address, with polkit asked about every caller: for tests of the rights.
    Judged(String, Patience),
}

impl From<&str> for Bus {
    fn from(text: &str) -> Self {
        match text {
            "system" => Self::System,
            "session" => Self::Session,
            address => Self::Address(address.to_owned()),
        }
    }
}

/// What the daemon is started with.
#[derive(Debug)]
pub struct Settings {
    /// Configuration in force.
    pub config: Config,
    /// The same, each time that it was read anew.
    pub reloads: mpsc::Receiver<Config>,
    /// Folder of the metrics; [`None`]: none are written.
    pub metrics: Option<PathBuf>,
    /// The service manager.
    pub notifier: Notifier,
}

impl From<Config> for Settings {
    fn from(config: Config) -> Self {
        Self {
            config,
            // Nobody reads it anew.
            reloads: mpsc::channel(1).1,
            metrics: None,
            notifier: Notifier::new(),
        }
    }
}

/// Runs the daemon on a kernel, real or simulated, until `shutdown` is done.
///
/// # Errors
/// When another daemon runs, or the bus does not work.
pub async fn run(
    settings: impl Into<Settings>,
    state_dir: &Path,
    bus: Bus,
    kernel: Arc<dyn Kernel>,
    watch: Box<dyn Watch>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let Settings {
        config,
        reloads,
        metrics,
        notifier,
    } = settings.into();
    let config_error = config.error.as_ref().map(refused).unwrap_or_default();
    let Opened {
        ledger,
        reader,
        state,
        provider,
        last_event,
    } = Ledger::open(state_dir, config.policy.keep_finished, config.retention)?;
    if let Some(why) = &state.degraded {
        tracing::error!("the ledger is degraded, what is done may be forgotten: {why}");
    }
    let connection = connect(&bus).await?;
    // Before anything is looked at or done: two must never act at once.
    bus::claim(&connection).await?;
    let (trusted, patience) = rights(&bus);
    let (handle, driver_end, publisher_end) = handle::channels(last_event);
    let DriverEnd {
        requests,
        snapshots,
        events,
        to_bus,
    } = driver_end;
    let metrics = metrics.map(|folder| {
        let keep = metrics::keep(folder, publisher_end.snapshots.clone());
        tokio::spawn(keep).abort_handle()
    });
    let context = Context {
        past: past::Past::new(handle.clone(), reader),
        handle,
        auth: Auth::new(trusted, patience),
        provider,
    };
    let (scanned, first_scan) = oneshot::channel();
    let (on_bus, ready) = oneshot::channel();
    let bus = bus::serve(
        connection.clone(),
        Arc::new(context),
        publisher_end,
        first_scan,
        on_bus,
    );
    let (results_in, results) = mpsc::unbounded_channel();
    let hook = config.notify.map(hook::Hook::new);
    let performer =
        Performer::new(kernel, ledger, results_in, snapshots, events, to_bus).telling(hook);
    let driver = Driver::new(config.policy, performer, notifier, config_error, scanned);
    let sources = Sources {
        requests,
        results,
        watch,
        reloads,
    };
    let outcome = driver.run(state, sources, bus, ready, shutdown).await;
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    connection.graceful_shutdown().await;
    outcome
}

/// Tells that the configuration is not in force, and what is instead.
fn refused(error: &config::ConfigError) -> String {
    let told = format!("{error}; the defaults are");
    crate::tell!(
        news::Kind::ConfigRefused,
        "the configuration is not in force: {told}"
    );
    told
}

/// About whom polkit is not asked on a bus, and how long it has for the others.
fn rights(bus: &Bus) -> (Trusted, Patience) {
    match bus {
        Bus::System => (Trusted::Root, Patience::default()),
        Bus::Session | Bus::Address(_) => {
            let user = nix::unistd::geteuid().as_raw();
            (Trusted::RootAnd(user), Patience::default())
        }
        Bus::Judged(_, patience) => (Trusted::Nobody, *patience),
    }
}

async fn connect(bus: &Bus) -> Result<zbus::Connection, Error> {
    let builder = match bus {
        Bus::System => zbus::connection::Builder::system(),
        Bus::Session => zbus::connection::Builder::session(),
        Bus::Address(address) | Bus::Judged(address, _) => {
            zbus::connection::Builder::address(address.as_str())
        }
    };
    Ok(builder.build().await?)
}
