//! `lunctl ops`.

use clap::Args;
use lun_core::model::OpView;
use lun_ipc::MAX_PAGE;

use crate::client::Client;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::{Ui, op};

/// Lists the operations that run
#[derive(Debug, Args)]
pub(crate) struct OpsArgs {
    /// Also list the operations that have ended, all that the ledger keeps
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(args: &OpsArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let ops = if args.all {
        all(client, ui).await?
    } else {
        let snapshot = client.snapshot().await?;
        snapshot
            .ops
            .into_iter()
            .filter(OpView::is_running)
            .collect()
    };
    if ui.json() {
        ui.document(&json::under("operations", &ops)?)?;
    } else {
        ui.text(&op::table(&ops, args.all))?;
    }
    Ok(DONE)
}

/// Every operation that is known, oldest first.
async fn all(client: &Client, ui: &Ui) -> Result<Vec<OpView>, Failure> {
    let mut ops = Vec::new();
    let mut before = None;
    loop {
        let page = client.history(None, before, MAX_PAGE).await?;
        ops.extend(page.operations);
        if let Some(why) = page.ledger_error.filter(|_| !ui.json()) {
            ui.note(&format!("warning: older operations are not known: {why}"));
        }
        before = page.next_before;
        if before.is_none() {
            ops.reverse();
            return Ok(ops);
        }
    }
}
