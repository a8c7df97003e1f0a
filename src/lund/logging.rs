//! Where log lines go: to the journal, with their fields as journal fields, when standard error is
//! the journal's; to standard error otherwise.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// The filter of the running daemon; unset where nobody started logging, as in tests.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Drops lines below `level` from now on.
pub fn set_level(level: Level) {
    let Some(handle) = FILTER.get() else {
        return;
    };
    if let Err(error) = handle.reload(filter(level)) {
        tracing::error!("log.level stays as it was: {error}");
    }
}

/// Of the libraries only warnings are kept.
fn filter(level: Level) -> Targets {
    let own = LevelFilter::from_level(level);
    Targets::new()
        .with_default(LevelFilter::WARN.min(own))
        .with_target("lund", own)
        .with_target("lun_kernel", own)
        .with_target("lun_sim", own)
}

/// Starts logging. Lines below `level` are dropped; of the libraries only warnings are kept.
pub fn start(level: Level) {
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    let journal = stderr_is_journal()
        .then(tracing_journald::layer)
        .and_then(Result::ok);
    let outcome = match journal {
        Some(journal) => registry.with(journal.with_field_prefix(None)).try_init(),
        None => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(std::io::stderr().is_terminal()),
            )
            .try_init(),
    };
    match outcome {
        Ok(()) => drop(FILTER.set(handle)),
        Err(_) => tracing::debug!("logging was started before"),
    }
}

/// systemd tells device and inode of the journal's socket in `JOURNAL_STREAM`
/// (systemd.exec(5)); standard error may have been redirected since.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|meta| stream == format!("{}:{}", meta.dev(), meta.ino()))
}
