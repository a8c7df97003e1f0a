//! `lunctl status`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::client::Client;
use crate::complete;
use crate::failure::{DONE, Failure};
use crate::target::{self, Target, Which};
use crate::ui::{Ui, op};

/// Shows an operation of any age and its steps, or the running (else the latest) one of a LUN
///
/// Exits 0 whenever the operation could be shown, even one that failed: use wait to learn the
/// outcome from the exit code.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Operation number or LUN
    #[arg(value_name = "OP|LUN", add = ArgValueCompleter::new(complete::operations))]
    target: Target,
}

pub(crate) async fn run(args: &StatusArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let id = match &args.target {
        Target::Op(id) => *id,
        lun @ Target::Lun(_) => target::resolve(client, lun, Which::Latest).await?.id,
    };
    let found = client.op_history(id).await?;
    if ui.json() {
        ui.document(&op::history_document(&found)?)?;
    } else {
        ui.text(&op::history(&found))?;
    }
    Ok(DONE)
}
