//! `lunctl refresh`.

use clap::Args;

use crate::client::Client;
use crate::failure::Failure;
use crate::ui::Ui;

/// Re-reads everything from the kernel and accepts what it says
#[derive(Debug, Args)]
pub(crate) struct RefreshArgs {}

pub(crate) async fn run(_: &RefreshArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    client.refresh().await?;
    super::tell_what_is_there(client, ui, "Everything was read again.").await
}
