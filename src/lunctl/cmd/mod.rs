//! The verbs: one file each, with the arguments (their doc comment is the help text) and one
//! function that carries the verb out and answers with the exit code.

mod cancel;
mod drives;
mod events;
mod hints;
mod history;
mod list;
mod ops;
mod recover;
mod reenumerate;
mod refresh;
mod release;
mod replace;
mod show;
mod spare;
mod status;
mod verify;
mod wait;
mod watch;
mod why;

use clap::{Parser, Subcommand};

use crate::client::{Bus, Client};
use crate::failure::{DONE, Failure};
use crate::host::Host;
use crate::json;
use crate::ui::Ui;

/// Shows and recovers Linux md arrays through the lund service.
///
/// A LUN is named by its id, a unique prefix of it, md0, /dev/md0 or /dev/md/NAME. Where OP|LUN
/// may stand, a number is an operation and anything else a LUN.
///
/// Exit codes: 0 done, 1 the operation failed, 2 usage, 3 no such object, 4 cannot be done in
/// this state, 5 busy, 6 cancelled, 7 access denied, 8 timed out waiting (the operation goes on),
/// 9 the service cannot be reached, 10 cache corrupt, 130 waiting was broken off with Ctrl-C (the
/// operation goes on).
#[derive(Debug, Parser)]
#[command(
    name = "lunctl",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// Print one JSON document on stdout instead of text
    #[arg(long, global = true, help_heading = "Common options")]
    pub(crate) json: bool,

    /// Bus to look for the service on: system, session, or a D-Bus address
    #[arg(
        long,
        global = true,
        env = "LUND_BUS",
        default_value = "system",
        value_name = "BUS",
        help_heading = "Common options"
    )]
    pub(crate) bus: Bus,

    /// Ask the service of another host, reached with ssh
    #[arg(
        short = 'H',
        long,
        global = true,
        value_name = "[USER@]HOST",
        help_heading = "Common options"
    )]
    pub(crate) host: Option<Host>,

    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Drives(drives::DrivesArgs),
    Recover(recover::RecoverArgs),
    Ops(ops::OpsArgs),
    Status(status::StatusArgs),
    Wait(wait::WaitArgs),
    Watch(watch::WatchArgs),
    Cancel(cancel::CancelArgs),
    Release(release::ReleaseArgs),
    Replace(replace::ReplaceArgs),
    Verify(verify::VerifyArgs),
    Hints(hints::HintsArgs),
    Spare(spare::SpareArgs),
    Events(events::EventsArgs),
    History(history::HistoryArgs),
    Why(why::WhyArgs),
    Refresh(refresh::RefreshArgs),
    Reenumerate(reenumerate::ReenumerateArgs),
}

/// Carries a verb out.
pub(crate) async fn run(command: &Command, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    match command {
        Command::List(args) => list::run(args, client, ui).await,
        Command::Show(args) => show::run(args, client, ui).await,
        Command::Drives(args) => drives::run(args, client, ui).await,
        Command::Recover(args) => recover::run(args, client, ui).await,
        Command::Ops(args) => ops::run(args, client, ui).await,
        Command::Status(args) => status::run(args, client, ui).await,
        Command::Wait(args) => wait::run(args, client, ui).await,
        Command::Watch(args) => watch::run(args, client, ui).await,
        Command::Cancel(args) => cancel::run(args, client, ui).await,
        Command::Release(args) => release::run(args, client, ui).await,
        Command::Replace(args) => replace::run(args, client, ui).await,
        Command::Verify(args) => verify::run(args, client, ui).await,
        Command::Hints(args) => hints::run(args, client, ui).await,
        Command::Spare(args) => spare::run(args, client, ui).await,
        Command::Events(args) => events::run(args, client, ui).await,
        Command::History(args) => history::run(args, client, ui).await,
        Command::Why(args) => why::run(args, client, ui).await,
        Command::Refresh(args) => refresh::run(args, client, ui).await,
        Command::Reenumerate(args) => reenumerate::run(args, client, ui).await,
    }
}

/// What a new look at the machine has found.
async fn tell_what_is_there(client: &Client, ui: &Ui, done: &str) -> Result<u8, Failure> {
    let host = client.snapshot().await?;
    if ui.json() {
        ui.document(&json::under("luns", &host.luns)?)?;
    } else {
        let (luns, drives) = (host.luns.len(), host.drives.len());
        ui.text(&format!(
            "{done} {luns} LUNs and {drives} drives are there.\n"
        ))?;
    }
    Ok(DONE)
}
