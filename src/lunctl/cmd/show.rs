//! `lunctl show`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::client::Client;
use crate::complete;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::{Ui, lun};

/// Shows everything about one LUN: state, redundancy, plexes, drives, what is unknown
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// LUN
    #[arg(value_name = "LUN", add = ArgValueCompleter::new(complete::luns))]
    lun: String,
}

pub(crate) async fn run(args: &ShowArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let found = client.lun(&args.lun).await?;
    let snapshot = client.snapshot().await?;
    if ui.json() {
        let mut document = json::document(&found)?;
        json::add_ledger(&mut document, &snapshot);
        ui.document(&document)?;
    } else {
        ui.text(&lun::details(&found))?;
        ui.warn_ledger(&snapshot);
    }
    Ok(DONE)
}
