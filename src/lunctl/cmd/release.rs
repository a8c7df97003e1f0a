//! `lunctl release`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::client::Client;
use crate::complete;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::Ui;

/// Ends the hold that a cancel left on a LUN, so that it may be recovered automatically again
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// LUN
    #[arg(value_name = "LUN", add = ArgValueCompleter::new(complete::luns))]
    lun: String,
}

pub(crate) async fn run(args: &ReleaseArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let lun = client.release(&args.lun).await?;
    if ui.json() {
        ui.document(&json::document(&lun)?)?;
    } else if lun.held {
        ui.text(&format!(
            "{}: the release was accepted; it is still shown as held.\n",
            lun.name
        ))?;
    } else {
        ui.text(&format!("{}: no longer held.\n", lun.name))?;
    }
    Ok(DONE)
}
