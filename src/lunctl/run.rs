//! From the arguments to the exit code: the one place that prints failures and that ends.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use lun_core::Hresult;

use crate::client::Client;
use crate::cmd::{self, Cli};
use crate::failure::{self, Failure};
use crate::json;
use crate::suggest;
use crate::ui::Ui;

/// Runs the program.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(not_understood(&arguments, &error)),
    };
    let ui = Ui::new(cli.json).about(cli.host.clone());
    let code = match execute(&cli, &ui) {
        Ok(code) => code,
        Err(failure) => report(&ui, &failure),
    };
    ExitCode::from(code)
}

fn execute(cli: &Cli, ui: &Ui) -> Result<u8, Failure> {
    if cli.host.is_some() && !cli.bus.is_system() {
        return Err(
            Failure::usage("--host asks the system bus of that host, and no other bus")
                .hint("leave --bus out, and unset LUND_BUS"),
        );
    }
    // One thread is plenty: everything that is done here is waiting for the service.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unreachable(format!("cannot start: {error}")))?;
    let ended = runtime.block_on(async {
        let client = Client::connect(&cli.bus, cli.host.as_ref()).await?;
        match cmd::run(&cli.command, &client, ui).await {
            Err(failure) => Err(with_suggestion(failure, &client).await),
            done => done,
        }
    });
    ended.map_err(|failure| match &cli.host {
        Some(host) => host.advise(failure),
        None => failure,
    })
}

/// The same failure; where a name was not found, with the names that may have been meant.
async fn with_suggestion(failure: Failure, client: &Client) -> Failure {
    let Some(typed) = failure
        .object
        .as_deref()
        .filter(|_| failure.hresult == Hresult::VDS_E_OBJECT_NOT_FOUND)
    else {
        return failure;
    };
    // The failure itself is told in any case; that there is no list to search makes it no worse.
    let Ok(host) = client.snapshot().await else {
        return failure;
    };
    let Some(question) = suggest::question(&suggest::names(typed, &host)) else {
        return failure;
    };
    let hint = match &failure.hint {
        Some(hint) => format!("{question} {hint}"),
        None => question,
    };
    failure.hint(hint)
}

/// Shows a failure and says which exit code it has.
fn report(ui: &Ui, failure: &Failure) -> u8 {
    let shown = if ui.json() {
        ui.document(&json::of_failure(failure))
    } else {
        ui.failure(failure)
    };
    // Nothing better can be done when not even the failure can be shown: the code tells.
    drop(shown);
    failure.exit
}

/// Exit code of clap's own answer: help and version are no failures.
fn code_of(error: &clap::Error) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => failure::DONE,
        _ => failure::USAGE,
    }
}

/// Shows clap's own answer.
fn not_understood(arguments: &[OsString], error: &clap::Error) -> u8 {
    let code = code_of(error);
    if code == failure::DONE {
        return match error.print() {
            Err(problem) if problem.kind() != io::ErrorKind::BrokenPipe => {
                failure::OPERATION_FAILED
            }
            Ok(()) | Err(_) => code,
        };
    }
    // The arguments were not understood, so whether JSON is wanted can only be looked for.
    let wants_json = arguments
        .iter()
        .skip(1)
        .take_while(|word| *word != "--")
        .any(|word| word == "--json");
    if wants_json {
        let failure =
            Failure::usage(first_line(&error.render().to_string())).hint("run `lunctl --help`");
        return report(&Ui::new(true), &failure);
    }
    drop(error.print());
    code
}

/// What clap complains of, without its usage text.
fn first_line(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    let sentence = words.join(" ");
    sentence
        .strip_prefix("error: ")
        .unwrap_or(&sentence)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn refusal(line: &str) -> u8 {
        match Cli::try_parse_from(arguments(line)) {
            Ok(_) => failure::DONE,
            Err(error) => code_of(&error),
        }
    }

    #[test]
    fn bad_arguments_exit_2() {
        for line in [
            "lunctl",
            "lunctl frobnicate",
            "lunctl recover",
            "lunctl recover md0 --timeout 5s",
            "lunctl recover md0 --wait --timeout soon --json",
            "lunctl replace md0 --json",
            "lunctl wait",
            "lunctl spare",
            "lunctl list --bus=",
            "lunctl history --limit 0",
            "lunctl history --limit 1001",
            "lunctl events --since now",
            "lunctl why",
            "lunctl list --host=-oProxyCommand=true",
        ] {
            assert_eq!(refusal(line), failure::USAGE, "{line}");
        }
    }

    #[test]
    fn the_designs_own_lines_are_understood() {
        for line in [
            "lunctl list --json",
            "lunctl --json show md0",
            "lunctl drives",
            "lunctl recover md0 --spare /dev/loop2 --repair --wait --timeout 5m",
            "lunctl recover md0 --dry-run --json",
            "lunctl ops --all",
            "lunctl status 7",
            "lunctl wait 7 md0 --timeout 2s",
            "lunctl cancel md0 --release-spare",
            "lunctl release md0",
            "lunctl replace md0 /dev/loop1 --with /dev/loop2 --dry-run",
            "lunctl verify md0 --wait",
            "lunctl spare list",
            "lunctl spare add /dev/loop3 --force",
            "lunctl spare remove /dev/loop3",
            "lunctl events --follow --since 17 --json",
            "lunctl history",
            "lunctl history md0 --limit 10 --before 99",
            "lunctl why md0 --json",
            "lunctl refresh --bus session",
            "lunctl --bus unix:path=/tmp/bus reenumerate",
            "lunctl -H root@far list",
        ] {
            assert!(Cli::try_parse_from(arguments(line)).is_ok(), "{line}");
        }
    }

    #[test]
    fn help_exits_0() {
        assert_eq!(refusal("lunctl --help"), failure::DONE);
        assert_eq!(refusal("lunctl recover --help"), failure::DONE);
        assert_eq!(refusal("lunctl --version"), failure::DONE);
    }

    #[test]
    fn a_complaint_is_one_sentence() {
        let text =
            "error: the following required arguments were not provided:\n  <LUN>\n\nUsage: x";
        assert_eq!(
            first_line(text),
            "the following required arguments were not provided: <LUN>"
        );
    }
}
