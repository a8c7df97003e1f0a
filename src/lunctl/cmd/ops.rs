//! `lunctl ops`.

use clap::Args;
use lun_core::model::OpView;

use crate::client::Client;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::{Ui, op};

/// Lists the operations that run
#[derive(Debug, Args)]
pub(crate) struct OpsArgs {
    /// Also list the operations that have ended, as far as the service keeps them
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(args: &OpsArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let snapshot = client.snapshot().await?;
    let ops: Vec<OpView> = snapshot
        .ops
        .into_iter()
        .filter(|op| args.all || op.is_running())
        .collect();
    if ui.json() {
        ui.document(&json::under("operations", &ops)?)?;
    } else {
        ui.text(&op::table(&ops, args.all))?;
    }
    Ok(DONE)
}
