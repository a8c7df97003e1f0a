//! `lunctl why`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::client::Client;
use crate::complete;
use crate::failure::{DONE, Failure};
use crate::ui::{Ui, why};

/// Explains a LUN: its state, what recover would do now, each candidate spare and the rule that
/// took or rejected it, and the commands that would change that
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// LUN
    #[arg(value_name = "LUN", add = ArgValueCompleter::new(complete::luns))]
    lun: String,
}

pub(crate) async fn run(args: &WhyArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let explanation = client.explain(&args.lun).await?;
    if ui.json() {
        ui.document(&why::document(&explanation)?)?;
    } else {
        ui.text(&why::text(&explanation))?;
    }
    Ok(DONE)
}
