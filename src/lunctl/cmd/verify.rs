//! `lunctl verify`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::client::Client;
use crate::complete;
use crate::failure::Failure;
use crate::follow::{self, WaitOptions};
use crate::ui::Ui;

/// Reads and compares all copies of a LUN's data; changes nothing
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// LUN
    #[arg(value_name = "LUN", add = ArgValueCompleter::new(complete::luns))]
    lun: String,

    #[command(flatten)]
    wait: WaitOptions,
}

pub(crate) async fn run(args: &VerifyArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let op = client.verify(&args.lun).await?;
    follow::begun(op, &args.wait, client, ui).await
}
