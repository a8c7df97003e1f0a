//! `lunctl reenumerate`.

use clap::Args;

use crate::client::Client;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::Ui;

/// Looks for arrays and drives that came or went
#[derive(Debug, Args)]
pub(crate) struct ReenumerateArgs {}

pub(crate) async fn run(_: &ReenumerateArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    client.reenumerate().await?;
    let snapshot = client.snapshot().await?;
    if ui.json() {
        ui.document(&json::under("luns", &snapshot.luns)?)?;
    } else {
        let (luns, drives) = (snapshot.luns.len(), snapshot.drives.len());
        ui.text(&format!(
            "Looked for arrays and drives. {luns} LUN(s), {drives} drive(s).\n"
        ))?;
    }
    Ok(DONE)
}
