//! `lunctl status`.

use clap::Args;

use crate::client::Client;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::target::{self, Target, Which};
use crate::ui::{Ui, op};

/// Shows an operation, or the running (else the latest) operation of a LUN
///
/// Exits 0 whenever the operation could be shown, even one that failed: use wait to learn the
/// outcome from the exit code.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Operation number or LUN
    #[arg(value_name = "OP|LUN")]
    target: Target,
}

pub(crate) async fn run(args: &StatusArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let found = target::resolve(client, &args.target, Which::Latest).await?;
    if ui.json() {
        ui.document(&json::document(&found)?)?;
    } else {
        ui.text(&op::details(&found))?;
    }
    Ok(DONE)
}
