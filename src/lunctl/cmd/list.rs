//! `lunctl list`.

use clap::Args;

use crate::client::Client;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::{Ui, lun};

/// Lists all LUNs with their state
#[derive(Debug, Args)]
pub(crate) struct ListArgs {}

pub(crate) async fn run(_: &ListArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let snapshot = client.snapshot().await?;
    if ui.json() {
        let mut document = json::under("luns", &snapshot.luns)?;
        json::add_ledger(&mut document, &snapshot);
        ui.document(&document)?;
    } else {
        ui.text(&lun::table(&snapshot.luns))?;
        ui.warn_ledger(&snapshot);
    }
    Ok(DONE)
}
