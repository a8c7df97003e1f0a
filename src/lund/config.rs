//! The configuration: `/etc/lund/lund.toml`, then `lund.d/*.toml` beside it in the order of their
//! names, each overriding the keys it has.
//!
//! A mistake anywhere puts the whole configuration out of force: the service runs with its
//! defaults and says so loudly, because a service that mends arrays must not stay down for a
//! typing error, and half a configuration would be a guess.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use lun_core::policy::Policy;
use serde::Deserialize;
use toml::Spanned;

use crate::ledger::Retention;

/// Where the configuration is, unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/lund/lund.toml";

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Tunables of the machine.
    pub policy: Policy,
    /// How much the ledger keeps.
    pub retention: Retention,
    /// Least severe level that is logged.
    pub log_level: tracing::Level,
    /// Why the files are not in force; [`None`] when they are.
    pub error: Option<ConfigError>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            retention: Retention::default(),
            log_level: tracing::Level::INFO,
            error: None,
        }
    }
}

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// File.
    pub path: PathBuf,
    /// Line, counted from 1; [`None`] when the file as a whole is at fault.
    pub line: Option<usize>,
    /// What is wrong; names the key.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// One file. Every key is optional; a later file overrides an earlier one key by key.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileConfig {
    service: Service,
    recovery: Recovery,
    lvm: Lvm,
    log: Log,
    operations: Operations,
    ledger: Ledger,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Service {
    rescan_s: Option<Spanned<u64>>,
    progress_s: Option<Spanned<u64>>,
    deadline_s: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Recovery {
    verify_after: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Lvm {
    extend_groups: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Log {
    level: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Operations {
    keep_finished: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Ledger {
    keep_operations: Option<Spanned<u64>>,
    keep_events: Option<Spanned<u64>>,
    keep_days: Option<Spanned<u64>>,
}

/// Reads the configuration. With no file at all everything has its default; a file that was named
/// on the command line (`named`) must exist.
#[must_use]
pub fn load(path: &Path, named: bool) -> Config {
    match try_load(path, named) {
        Ok(config) => config,
        Err(error) => Config {
            error: Some(error),
            ..Config::default()
        },
    }
}

/// What one file means, over the defaults; `path` is for the error.
///
/// # Errors
/// A mistake in it.
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    apply(&mut config, path, text)?;
    Ok(config)
}

fn try_load(path: &Path, named: bool) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    match std::fs::read_to_string(path) {
        Ok(text) => apply(&mut config, path, &text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => {}
        Err(error) => return Err(unreadable(path, &error)),
    }
    for file in drop_ins(&path.with_file_name("lund.d"))? {
        let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
        apply(&mut config, &file, &text)?;
    }
    Ok(config)
}

fn unreadable(path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError {
        path: path.to_owned(),
        line: None,
        message: format!("cannot be read: {error}"),
    }
}

/// `*.toml` of a folder by name; a missing folder is an empty one.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(folder, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| unreadable(folder, &error))?.path();
        if file
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn apply(config: &mut Config, path: &Path, text: &str) -> Result<(), ConfigError> {
    let file: FileConfig = toml::from_str(text).map_err(|error| ConfigError {
        path: path.to_owned(),
        line: error.span().map(|span| line_of(text, span.start)),
        message: error.message().to_owned(),
    })?;
    let seconds = |name: &str, value: Option<Spanned<u64>>, range: RangeInclusive<u64>| {
        bounded(path, text, name, value, range).map(|value| value.map(|value| value * 1000))
    };
    let policy = &mut config.policy;
    if let Some(ms) = seconds("service.rescan_s", file.service.rescan_s, 30..=3600)? {
        policy.rescan_ms = ms;
    }
    if let Some(ms) = seconds("service.progress_s", file.service.progress_s, 1..=60)? {
        policy.progress_ms = ms;
    }
    if let Some(ms) = seconds("service.deadline_s", file.service.deadline_s, 1..=600)? {
        policy.deadline_ms = ms;
    }
    if let Some(verify_after) = file.recovery.verify_after {
        policy.verify_after = verify_after;
    }
    if let Some(extend_groups) = file.lvm.extend_groups {
        policy.extend_groups = extend_groups;
    }
    let keep = file.operations.keep_finished;
    if let Some(keep) = bounded(path, text, "operations.keep_finished", keep, 10..=10_000)? {
        policy.keep_finished = usize::try_from(keep).unwrap_or(policy.keep_finished);
    }
    apply_ledger(&mut config.retention, path, text, file.ledger)?;
    if let Some(level) = file.log.level {
        config.log_level = log_level(path, text, &level)?;
    }
    Ok(())
}

fn apply_ledger(
    retention: &mut Retention,
    path: &Path,
    text: &str,
    ledger: Ledger,
) -> Result<(), ConfigError> {
    let bounded = |name, value, range| bounded(path, text, name, value, range);
    let kept = 100..=10_000_000;
    let operations = ledger.keep_operations;
    if let Some(keep) = bounded("ledger.keep_operations", operations, kept.clone())? {
        retention.operations = keep;
    }
    if let Some(keep) = bounded("ledger.keep_events", ledger.keep_events, kept)? {
        retention.events = keep;
    }
    if let Some(days) = bounded("ledger.keep_days", ledger.keep_days, 0..=36_500)? {
        retention.days = Some(days).filter(|days| *days > 0);
    }
    Ok(())
}

fn log_level(
    path: &Path,
    text: &str,
    level: &Spanned<String>,
) -> Result<tracing::Level, ConfigError> {
    let known = LEVELS.contains(&level.get_ref().as_str());
    level
        .get_ref()
        .parse()
        .ok()
        .filter(|_| known)
        .ok_or_else(|| ConfigError {
            path: path.to_owned(),
            line: Some(line_of(text, level.span().start)),
            message: format!(
                "log.level = {:?} is none of {}",
                level.get_ref(),
                LEVELS.join(", ")
            ),
        })
}

fn bounded(
    path: &Path,
    text: &str,
    name: &str,
    value: Option<Spanned<u64>>,
    range: RangeInclusive<u64>,
) -> Result<Option<u64>, ConfigError> {
    let Some(value) = value else {
        return Ok(None);
    };
    if range.contains(value.get_ref()) {
        return Ok(Some(*value.get_ref()));
    }
    Err(ConfigError {
        path: path.to_owned(),
        line: Some(line_of(text, value.span().start)),
        message: format!(
            "{name} = {} is out of bounds ({} to {})",
            value.get_ref(),
            range.start(),
            range.end()
        ),
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|&byte| byte == b'\n')
        .count()
        + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lund.toml");
        std::fs::write(&path, text).unwrap();
        load(&path, true)
    }

    fn error_of(text: &str) -> String {
        let config = load_text(text);
        assert_eq!(
            config.policy,
            Policy::default(),
            "nothing of a bad file is in force"
        );
        let error = config.error.expect("the text is wrong");
        format!("{}: {}", error.line.unwrap_or(0), error.message)
    }

    #[test]
    fn no_file_means_defaults() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            load(&folder.path().join("lund.toml"), false),
            Config::default()
        );
        assert!(load(&folder.path().join("lund.toml"), true).error.is_some());
    }

    #[test]
    fn every_key_has_its_effect() {
        let config = load_text(
            "[service]\nrescan_s = 120\nprogress_s = 2\ndeadline_s = 10\n[recovery]\n\
             verify_after = true\n[lvm]\nextend_groups = true\n[log]\nlevel = \"debug\"\n[operations]\nkeep_finished = 50\n[ledger]\n\
             keep_operations = 200\nkeep_events = 300\nkeep_days = 90\n",
        );
        let retention = Retention {
            operations: 200,
            events: 300,
            days: Some(90),
        };
        assert_eq!(config.retention, retention);
        assert_eq!(config.error, None);
        assert_eq!(config.log_level, tracing::Level::DEBUG);
        let expected = Policy {
            rescan_ms: 120_000,
            progress_ms: 2_000,
            deadline_ms: 10_000,
            verify_after: true,
            extend_groups: true,
            keep_finished: 50,
        };
        assert_eq!(config.policy, expected);
    }

    #[test]
    fn mistakes_are_told_with_line_and_key() {
        assert!(error_of("[service]\nrescan = 60\n").starts_with("2: unknown field `rescan`"));
        assert!(error_of("[nonsense]\n").starts_with("1: unknown field `nonsense`"));
        assert_eq!(
            error_of("\n[service]\nrescan_s = 5\n"),
            "3: service.rescan_s = 5 is out of bounds (30 to 3600)"
        );
        assert_eq!(
            error_of("[ledger]\nkeep_operations = 5\n"),
            "2: ledger.keep_operations = 5 is out of bounds (100 to 10000000)"
        );
        assert!(error_of("[ledger]\nkeep = 5\n").starts_with("2: unknown field `keep`"));
        assert!(error_of("[log]\nlevel = \"loud\"\n").contains("log.level = \"loud\" is none of"));
        assert!(error_of("[service]\nrescan_s = \"x\"\n").starts_with("2: invalid type"));
        assert!(error_of("\u{1}\u{2}junk = = [").starts_with('1'));
        assert!(error_of("[service]\nrescan_s = -1\n").starts_with("2: "));
    }

    #[test]
    fn drop_ins_override_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lund.toml");
        let drop_ins = folder.path().join("lund.d");
        std::fs::create_dir(&drop_ins).unwrap();
        std::fs::write(&path, "[service]\nrescan_s = 100\nprogress_s = 3\n").unwrap();
        std::fs::write(drop_ins.join("20-b.toml"), "[service]\nrescan_s = 300\n").unwrap();
        std::fs::write(drop_ins.join("10-a.toml"), "[service]\nrescan_s = 200\n").unwrap();
        std::fs::write(drop_ins.join("30-c.toml.off"), "junk").unwrap();
        let config = load(&path, true);
        assert_eq!(config.error, None);
        assert_eq!(
            (config.policy.rescan_ms, config.policy.progress_ms),
            (300_000, 3_000)
        );
        std::fs::write(drop_ins.join("40-d.toml"), "x = 1").unwrap();
        let error = load(&path, true).error.unwrap();
        assert!(
            error
                .to_string()
                .contains("lund.d/40-d.toml:1: unknown field `x`"),
            "{error}"
        );
    }
}
