//! The configuration: `/etc/lund/lund.toml`, then `lund.d/*.toml` beside it in the order of their
//! names, each overriding the keys it has.
//!
//! A mistake anywhere puts the whole configuration out of force: the service runs with its
//! defaults and says so loudly, because a service that mends arrays must not stay down for a
//! typing error, and half a configuration would be a guess. What was said of automatic recovery is
//! not known then, so nothing is begun by itself.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lun_core::policy::{AutoMode, LunRule, Policy, PrefailMode, PrefailRule, SpareRule};
use serde::Deserialize;
use toml::Spanned;

use crate::hook;
use crate::ledger::Retention;
use crate::mdadm_conf::MdadmConf;

/// Where the configuration is, unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/lund/lund.toml";

/// Bounds of a grace, seconds: a day is long enough for any cable.
const GRACE_S: RangeInclusive<u64> = 0..=86_400;
/// Bounds of a priority.
const PRIORITY: RangeInclusive<i32> = -1000..=1000;

/// How long the program of `[notify]` may take, unless it is said.
const NOTIFY_DEADLINE: Duration = Duration::from_secs(30);

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Tunables of the machine.
    pub policy: Policy,
    /// How much the ledger keeps.
    pub retention: Retention,
    /// The program that is told what happens.
    pub notify: Option<hook::Settings>,
    /// Least severe level that is logged.
    pub log_level: tracing::Level,
    /// Why the files are not in force; [`None`] when they are.
    pub error: Option<ConfigError>,
    /// Lines of `mdadm.conf` that were passed over.
    pub warnings: Vec<ConfigError>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            retention: Retention::default(),
            notify: None,
            log_level: tracing::Level::INFO,
            error: None,
            warnings: Vec::new(),
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
    lun: Vec<LunTable>,
    notify: NotifyTable,
    prefail: Prefail,
    spare: Vec<Spare>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NotifyTable {
    program: Option<Spanned<PathBuf>>,
    deadline_s: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Prefail {
    mode: Option<PrefailMode>,
    events: Option<Spanned<u64>>,
    window_s: Option<Spanned<u64>>,
}

/// One `[[spare]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spare {
    r#match: Spanned<String>,
    r#for: Option<Spanned<String>>,
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
    mode: Option<AutoMode>,
    grace_s: Option<Spanned<u64>>,
    verify_after: Option<bool>,
}

/// One `[[lun]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LunTable {
    r#match: Spanned<String>,
    mode: Option<AutoMode>,
    grace_s: Option<Spanned<u64>>,
    priority: Option<Spanned<i32>>,
    reserve: Option<bool>,
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
            policy: out_of_force(),
            error: Some(error),
            ..Config::default()
        },
    }
}

impl Config {
    /// Takes in what `mdadm.conf` says of spares.
    #[must_use]
    pub fn with_mdadm_conf(mut self, found: MdadmConf) -> Self {
        self.policy.spare_groups = found.groups;
        self.warnings = found.warnings;
        self
    }

    /// Tells which lines were passed over.
    pub fn tell_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!("this line is passed over: {warning}");
        }
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

/// What holds when the files do not: they may have said that nothing is to be begun.
fn out_of_force() -> Policy {
    let mut policy = Policy::default();
    policy.recovery.mode = AutoMode::Notify;
    policy
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

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> ConfigError {
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
    let recovery = &mut policy.recovery;
    recovery.mode = file.recovery.mode.unwrap_or(recovery.mode);
    if let Some(ms) = seconds("recovery.grace_s", file.recovery.grace_s, GRACE_S)? {
        recovery.grace_ms = ms;
    }
    if let Some(verify_after) = file.recovery.verify_after {
        policy.verify_after = verify_after;
    }
    for table in file.lun {
        policy.lun_rules.push(lun_rule(path, text, table)?);
    }
    if let Some(extend_groups) = file.lvm.extend_groups {
        policy.extend_groups = extend_groups;
    }
    apply_prefail(&mut policy.prefail, path, text, file.prefail)?;
    for rule in file.spare {
        policy.spare_rules.push(spare_rule(path, text, rule)?);
    }
    let keep = file.operations.keep_finished;
    if let Some(keep) = bounded(path, text, "operations.keep_finished", keep, 10..=10_000)? {
        policy.keep_finished = usize::try_from(keep).unwrap_or(policy.keep_finished);
    }
    apply_notify(&mut config.notify, path, text, file.notify)?;
    apply_ledger(&mut config.retention, path, text, file.ledger)?;
    if let Some(level) = file.log.level {
        config.log_level = log_level(path, text, &level)?;
    }
    Ok(())
}

fn apply_notify(
    notify: &mut Option<hook::Settings>,
    path: &Path,
    text: &str,
    table: NotifyTable,
) -> Result<(), ConfigError> {
    let deadline_s = bounded(path, text, "notify.deadline_s", table.deadline_s, 1..=600)?;
    if let Some(program) = table.program {
        let at = program.span().start;
        let program = program.into_inner();
        let wrong = |message: String| ConfigError {
            path: path.to_owned(),
            line: Some(line_of(text, at)),
            message,
        };
        // An empty one takes back what an earlier file said.
        *notify = match program.as_os_str().is_empty() {
            true => None,
            false if program.is_absolute() => Some(hook::Settings {
                program,
                deadline: NOTIFY_DEADLINE,
            }),
            false => {
                let message = format!("notify.program = {program:?} is no absolute path");
                return Err(wrong(message));
            }
        };
    }
    if let (Some(notify), Some(seconds)) = (notify, deadline_s) {
        notify.deadline = Duration::from_secs(seconds);
    }
    Ok(())
}

/// A rule for single LUNs. Those of later files come after those of earlier ones, and override them.
fn lun_rule(path: &Path, text: &str, table: LunTable) -> Result<LunRule, ConfigError> {
    let wrong = |at: usize, message: String| ConfigError {
        path: path.to_owned(),
        line: Some(line_of(text, at)),
        message,
    };
    if table.r#match.get_ref().is_empty() {
        let at = table.r#match.span().start;
        let message = "lun.match is empty: it names no LUN (`*` means all)".to_owned();
        return Err(wrong(at, message));
    }
    if let Some(priority) = &table.priority
        && !PRIORITY.contains(priority.get_ref())
    {
        let message = format!(
            "lun.priority = {} is out of bounds ({} to {})",
            priority.get_ref(),
            PRIORITY.start(),
            PRIORITY.end()
        );
        return Err(wrong(priority.span().start, message));
    }
    let grace_s = bounded(path, text, "lun.grace_s", table.grace_s, GRACE_S)?;
    Ok(LunRule {
        matches: table.r#match.into_inner(),
        mode: table.mode,
        grace_ms: grace_s.map(|s| s * 1000),
        priority: table.priority.map(Spanned::into_inner),
        reserve: table.reserve,
    })
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

fn apply_prefail(
    rule: &mut PrefailRule,
    path: &Path,
    text: &str,
    prefail: Prefail,
) -> Result<(), ConfigError> {
    rule.mode = prefail.mode.unwrap_or(rule.mode);
    let bounded = |name, value, range| bounded(path, text, name, value, range);
    if let Some(events) = bounded("prefail.events", prefail.events, 1..=1_000_000)? {
        rule.events = u32::try_from(events).unwrap_or(u32::MAX);
    }
    if let Some(seconds) = bounded("prefail.window_s", prefail.window_s, 60..=2_592_000)? {
        rule.window_ms = seconds * 1000;
    }
    Ok(())
}

/// A rule of the pool. Those of later files come after those of earlier ones.
fn spare_rule(path: &Path, text: &str, rule: Spare) -> Result<SpareRule, ConfigError> {
    let wrong = |at: usize, message: String| ConfigError {
        path: path.to_owned(),
        line: Some(line_of(text, at)),
        message,
    };
    // A name of the kernel's may be another drive's tomorrow, and a pattern of all names is any drive.
    if !rule.r#match.get_ref().starts_with('/') || rule.r#match.get_ref().starts_with("/*") {
        let message = format!(
            "spare.match = {:?} is no path of drives (as /dev/disk/by-id/NAME*)",
            rule.r#match.get_ref()
        );
        return Err(wrong(rule.r#match.span().start, message));
    }
    if let Some(only) = rule.r#for.as_ref().filter(|only| only.get_ref().is_empty()) {
        let message = "spare.for is empty: it names no LUN".to_owned();
        return Err(wrong(only.span().start, message));
    }
    Ok(SpareRule {
        matches: rule.r#match.into_inner(),
        only_for: rule.r#for.map(Spanned::into_inner),
    })
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
mod tests;
