//! Completion of names: what the service knows now. The shells' own files (dist/completion) ask
//! this program, with `LUNCTL_COMPLETE` in the environment.
//!
//! A person who presses a key must not wait, and must not start anything: a service that is not
//! there has no names, and neither has one that does not answer soon.

use std::ffi::OsStr;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter as _};
use clap_complete::env::{Bash, CompleteEnv, Fish, Shells, Zsh};
use lun_core::model::{Drive, Lun, OpView, Role, VdsEnum as _};
use lun_ipc::HostView;

use crate::client::{Bus, Client};
use crate::cmd::Cli;
use crate::ui::{drive, op};

/// Variable of the environment with the name of the shell that asks.
const VARIABLE: &str = "LUNCTL_COMPLETE";
/// How long the service may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers a shell that asks for completions, and ends; does nothing when none asks.
pub(crate) fn answer() {
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .shells(Shells(&[&Bash, &Fish, &Zsh]))
        .complete();
}

/// LUNs.
pub(crate) fn luns(typed: &OsStr) -> Vec<CompletionCandidate> {
    named(typed, |host| lun_names(&host.luns, typed))
}

/// LUNs, and operations that run.
pub(crate) fn running(typed: &OsStr) -> Vec<CompletionCandidate> {
    named(typed, |host| targets(host, typed, OpView::is_running))
}

/// LUNs, and operations of any kind.
pub(crate) fn operations(typed: &OsStr) -> Vec<CompletionCandidate> {
    named(typed, |host| targets(host, typed, |_| true))
}

/// Drives that are members of LUNs.
pub(crate) fn members(typed: &OsStr) -> Vec<CompletionCandidate> {
    named(typed, |host| {
        drives(host, |drive| {
            matches!(
                drive.role,
                Role::InSync | Role::Rebuilding | Role::Replacing
            )
        })
    })
}

/// Drives that may become members: spares of LUNs, and the pool.
pub(crate) fn spares(typed: &OsStr) -> Vec<CompletionCandidate> {
    named(typed, |host| {
        drives(host, |drive| matches!(drive.role, Role::Spare | Role::Pool))
    })
}

/// Drives of the pool.
pub(crate) fn pool(typed: &OsStr) -> Vec<CompletionCandidate> {
    named(typed, |host| drives(host, |drive| drive.in_pool))
}

/// Any node below `/dev`: a drive that belongs to nothing is not known to the service.
pub(crate) fn nodes(typed: &OsStr) -> Vec<CompletionCandidate> {
    PathCompleter::any().complete(typed)
}

/// The candidates that begin as typed.
fn named(
    typed: &OsStr,
    candidates: impl FnOnce(&HostView) -> Vec<CompletionCandidate>,
) -> Vec<CompletionCandidate> {
    let Some(host) = look() else {
        return Vec::new();
    };
    let typed = typed.to_string_lossy();
    let mut candidates = candidates(&host);
    candidates.retain(|one| one.get_value().to_string_lossy().starts_with(&*typed));
    candidates
}

/// What the service shows; [`None`] when there is no service, or no answer in time.
fn look() -> Option<HostView> {
    let bus = bus(std::env::args().skip(1), std::env::var("LUND_BUS").ok())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    runtime.block_on(async {
        let snapshot = async {
            let client = Client::connect(&bus, None).await.ok()?;
            client.snapshot_of_running().await.ok()?
        };
        tokio::time::timeout(PATIENCE, snapshot).await.ok()?
    })
}

/// The bus that the words typed so far name; [`None`] for another host, which would take a login.
fn bus(words: impl Iterator<Item = String>, variable: Option<String>) -> Option<Bus> {
    let mut named = variable.unwrap_or_else(|| "system".to_owned());
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        if word.starts_with("-H") || word == "--host" || word.starts_with("--host=") {
            return None;
        }
        if let Some(bus) = word.strip_prefix("--bus=") {
            bus.clone_into(&mut named);
        } else if word == "--bus"
            && let Some(bus) = words.peek()
        {
            named.clone_from(bus);
        }
    }
    named.parse().ok()
}

/// The names of LUNs. The kernel's name is short; the others are told to whoever begins one.
fn lun_names(luns: &[Lun], typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let mut names = Vec::new();
    for lun in luns {
        let help = format!("{} {}", lun.level, drive::short(lun.health.name()));
        let id = lun.id.to_string();
        let all = std::iter::once(lun.device.as_str())
            .chain(lun.links.iter().map(String::as_str))
            .chain(std::iter::once(id.as_str()))
            .filter(|_| !typed.is_empty());
        for name in std::iter::once(lun.name.as_str()).chain(all) {
            names.push(candidate(name, &help));
        }
    }
    names
}

fn targets(
    host: &HostView,
    typed: &OsStr,
    wanted: impl Fn(&OpView) -> bool,
) -> Vec<CompletionCandidate> {
    let mut found = lun_names(&host.luns, typed);
    let ops = host.ops.iter().rev().filter(|op| wanted(op));
    found.extend(ops.map(|view| {
        let help = format!(
            "{} of {}, {}",
            op::kind(view.kind),
            view.lun_name,
            view.state
        );
        candidate(&view.id.to_string(), &help)
    }));
    found
}

fn drives(host: &HostView, wanted: impl Fn(&Drive) -> bool) -> Vec<CompletionCandidate> {
    let there = host.drives.iter().filter(|drive| !drive.device.is_empty());
    there
        .filter(|drive| wanted(drive))
        .map(|drive| candidate(&drive.device, &drive.stable_name))
        .collect()
}

fn candidate(name: &str, help: &str) -> CompletionCandidate {
    CompletionCandidate::new(name).help(Some(help.to_owned().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(line: &str, variable: Option<&str>) -> Option<Bus> {
        bus(
            line.split(' ').map(str::to_owned),
            variable.map(str::to_owned),
        )
    }

    #[test]
    fn the_bus_is_the_one_that_was_typed() {
        let bus = |text: &str| Some(text.parse().unwrap());
        assert_eq!(named("lunctl show m", None), bus("system"));
        assert_eq!(named("lunctl show m", Some("session")), bus("session"));
        assert_eq!(named("lunctl --bus session show m", None), bus("session"));
        assert_eq!(
            named("lunctl show --bus=a:b m", Some("session")),
            bus("a:b")
        );
        assert_eq!(named("lunctl show m", Some("nonsense")), None);
    }

    #[test]
    fn no_key_press_logs_in_to_another_host() {
        for line in [
            "lunctl -H far show m",
            "lunctl -Hfar show m",
            "lunctl show --host far m",
            "lunctl show --host=far m",
        ] {
            assert_eq!(named(line, None), None, "{line}");
        }
    }
}
