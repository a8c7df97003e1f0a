//! `lunctl drives`.

use clap::Args;

use crate::client::Client;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::{Ui, drive};

/// Lists all drives: members, attached spares and the spare pool
#[derive(Debug, Args)]
pub(crate) struct DrivesArgs {}

pub(crate) async fn run(_: &DrivesArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let snapshot = client.snapshot().await?;
    if ui.json() {
        ui.document(&json::under("drives", &snapshot.drives)?)?;
    } else {
        ui.text(&drive::table(&snapshot.drives, &snapshot.luns))?;
    }
    Ok(DONE)
}
