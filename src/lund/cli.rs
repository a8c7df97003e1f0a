//! The command line of the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use lun_kernel::{Kernel, Watch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::notify::Notifier;
use crate::{Bus, Error, Settings, config, logging, mdadm_conf, notify, run};

/// Threads for blocking readings; one thread is left when nothing happens.
const READERS: usize = 8;
/// A reading thread without work ends after this.
const READER_LINGERS: Duration = Duration::from_secs(1);

/// Recovers Linux software RAID on the model of the Virtual Disk Service.
#[derive(Debug, Parser)]
#[command(name = "lund", version)]
pub struct Args {
    /// Bus to serve: `system`, `session`, or an address such as `unix:path=/run/bus`. On any bus
    /// but the system's the user who runs the daemon may do what root may.
    #[arg(long, default_value = "system", value_name = "BUS")]
    bus: String,

    /// Configuration file; `lund.d/*.toml` beside it are read after it
    /// [default: /etc/lund/lund.toml].
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,

    /// Folder of the ledger.
    #[arg(
        long,
        env = "STATE_DIRECTORY",
        default_value = "/var/lib/lund",
        value_name = "PATH"
    )]
    state_dir: PathBuf,

    /// Folder of the metrics; without it none are written.
    #[arg(long, env = "RUNTIME_DIRECTORY", value_name = "PATH")]
    run_dir: Option<PathBuf>,

    /// Serves a simulated kernel in this state instead of the real one.
    #[cfg(feature = "sim")]
    #[arg(long, value_name = "SCENARIO")]
    sim: Option<String>,

    /// Bytes a second that the simulated kernel copies.
    #[cfg(feature = "sim")]
    #[arg(long, default_value_t = 16 << 20, value_name = "BYTES", requires = "sim")]
    sim_rate: u64,
}

/// Runs the daemon to its end.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let config = load(
        &config_path(&args),
        args.config.is_some(),
        is_simulated(&args),
    );
    logging::start(config.log_level);
    config.tell_warnings();
    stay_small();
    match start(&args, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "sim")]
const fn is_simulated(args: &Args) -> bool {
    args.sim.is_some()
}

#[cfg(not(feature = "sim"))]
const fn is_simulated(_args: &Args) -> bool {
    false
}

/// The configuration, with what mdadm's own says of spares. A simulated machine has none of that.
fn load(path: &Path, named: bool, simulated: bool) -> config::Config {
    let config = config::load(path, named);
    if simulated {
        return config;
    }
    config.with_mdadm_conf(mdadm_conf::load(Path::new(mdadm_conf::ETC)))
}

fn config_path(args: &Args) -> PathBuf {
    let path = args.config.as_deref();
    path.unwrap_or(Path::new(config::DEFAULT_PATH)).to_owned()
}

/// Without huge pages: where they are `always` on, one behind a thread's stack that happens to be
/// aligned adds 2 MiB to a daemon of 8 (docs/kernel-notes.md).
fn stay_small() {
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::warn!("huge pages cannot be refused, the daemon may need 2 MiB more: {error}");
    }
}

fn start(args: &Args, config: config::Config) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(READERS)
        .thread_keep_alive(READER_LINGERS)
        .build()
        .map_err(|source| Error::Setup {
            what: "the event loop cannot be made",
            source,
        })?;
    let outcome = runtime.block_on(async {
        let shutdown = shutdown_signal().map_err(|source| Error::Setup {
            what: "signals cannot be received",
            source,
        })?;
        let reloads = reloads(config_path(args), args.config.is_some(), is_simulated(args));
        let settings = Settings {
            config,
            reloads: reloads.map_err(|source| Error::Setup {
                what: "signals cannot be received",
                source,
            })?,
            metrics: args.run_dir.clone(),
            notifier: Notifier::new(),
        };
        let (kernel, watch) = kernel(args)?;
        run(
            settings,
            &args.state_dir,
            Bus::from(args.bus.as_str()),
            kernel,
            watch,
            shutdown,
        )
        .await
    });
    // A reading that hangs in the kernel must not keep the daemon from ending.
    runtime.shutdown_background();
    outcome
}

/// The configuration, read anew at each SIGHUP and away from the loop: a file may be slow.
fn reloads(
    path: PathBuf,
    named: bool,
    simulated: bool,
) -> std::io::Result<mpsc::Receiver<config::Config>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (read, reloads) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notify::reloading();
            let path = path.clone();
            let loading = tokio::task::spawn_blocking(move || load(&path, named, simulated));
            let config = match loading.await {
                Ok(config) => config,
                Err(error) => return tracing::error!("the configuration is read no more: {error}"),
            };
            if read.send(config).await.is_err() {
                return;
            }
        }
    });
    Ok(reloads)
}

/// Done when the service manager, or somebody at the keyboard, asks for an end.
fn shutdown_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

type KernelAndWatch = (Arc<dyn Kernel>, Box<dyn Watch>);

#[cfg(feature = "sim")]
fn kernel(args: &Args) -> Result<KernelAndWatch, Error> {
    match &args.sim {
        Some(scenario) => simulated(scenario, args.sim_rate),
        None => real(),
    }
}

#[cfg(not(feature = "sim"))]
fn kernel(_args: &Args) -> Result<KernelAndWatch, Error> {
    real()
}

fn real() -> Result<KernelAndWatch, Error> {
    let watch = lun_kernel::linux::LinuxWatch::new()
        .map_err(|error| Error::Kernel(format!("the kernel cannot be watched: {error}")))?;
    Ok((
        Arc::new(lun_kernel::linux::Linux::system()),
        Box::new(watch),
    ))
}

#[cfg(feature = "sim")]
fn simulated(scenario: &str, rate: u64) -> Result<KernelAndWatch, Error> {
    let world = lun_sim::scenario::by_name(scenario).map_err(Error::Kernel)?;
    let kernel = lun_sim::SimKernel::real_time(world, rate);
    let watch = kernel.watch();
    Ok((Arc::new(kernel), Box::new(watch)))
}
