//! `lunctl reenumerate`.

use clap::Args;

use crate::client::Client;
use crate::failure::Failure;
use crate::ui::Ui;

/// Looks for arrays and drives that came or went
#[derive(Debug, Args)]
pub(crate) struct ReenumerateArgs {}

pub(crate) async fn run(_: &ReenumerateArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    client.reenumerate().await?;
    super::tell_what_is_there(client, ui, "Looked for arrays and drives.").await
}
