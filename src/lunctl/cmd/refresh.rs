//! `lunctl refresh`.

use clap::Args;

use crate::client::Client;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::Ui;

/// Re-reads everything from the kernel and accepts what it says
#[derive(Debug, Args)]
pub(crate) struct RefreshArgs {}

pub(crate) async fn run(_: &RefreshArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    client.refresh().await?;
    let snapshot = client.snapshot().await?;
    if ui.json() {
        ui.document(&json::under("luns", &snapshot.luns)?)?;
    } else {
        let (luns, drives) = (snapshot.luns.len(), snapshot.drives.len());
        ui.text(&format!(
            "Everything was read again. {luns} LUN(s), {drives} drive(s).\n"
        ))?;
    }
    Ok(DONE)
}
