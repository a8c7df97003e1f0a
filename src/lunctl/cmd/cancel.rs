//! `lunctl cancel`.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::client::Client;
use crate::complete;
use crate::failure::{DONE, Failure, TIMED_OUT};
use crate::follow;
use crate::json;
use crate::target::{self, Target, Which};
use crate::ui::{Ui, op};

/// How long the service may take to stop the kernel before this program stops watching. The
/// service itself calls an action late after 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// Cancels an operation
///
/// A cancelled recovery leaves the LUN held: automatic recovery leaves it alone until recover or
/// release. Exits 0 when the operation was cancelled.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Operation number or LUN
    #[arg(value_name = "OP|LUN", add = ArgValueCompleter::new(complete::running))]
    target: Target,

    /// Also take the spare that the operation added out of the LUN and return it to the pool
    #[arg(long)]
    release_spare: bool,
}

pub(crate) async fn run(args: &CancelArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let found = target::resolve(client, &args.target, Which::Running).await?;
    client.cancel(found.id, args.release_spare).await?;
    let mut ended = client.op(found.id).await?;
    if ended.is_running() {
        // `cancelling`: the kernel is asked to stop and has not stopped yet.
        ended = follow::until_ended(client, found.id, PATIENCE).await?;
    }
    let code = if ended.is_running() {
        TIMED_OUT
    } else if ended.state == "cancelled" {
        DONE
    } else {
        // It ended by itself while it was being cancelled.
        follow::outcome_code(&ended)
    };
    if ui.json() {
        ui.document(&json::document(&ended)?)?;
    } else {
        ui.text(&op::after_cancel(&ended))?;
    }
    Ok(code)
}
