//! `lunctl release`.

use clap::Args;
use clap_complete::ArgValueCompleter;
use lun_core::model::Lun;
use serde_json::json;

use crate::client::Client;
use crate::complete;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::Ui;

/// Ends the hold that a cancel left on a LUN, so that it may be recovered automatically again
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// LUN
    #[arg(
        value_name = "LUN",
        required_unless_present = "all",
        add = ArgValueCompleter::new(complete::luns)
    )]
    lun: Option<String>,

    /// Every LUN that is held; none is no mistake
    #[arg(long, conflicts_with = "lun")]
    all: bool,
}

pub(crate) async fn run(args: &ReleaseArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    if let Some(name) = &args.lun {
        let lun = client.release(name).await?;
        if ui.json() {
            ui.document(&json::document(&lun)?)?;
        } else {
            tell(&lun, ui)?;
        }
        return Ok(DONE);
    }
    let mut released = Vec::new();
    for held in client.snapshot().await?.luns {
        if held.held {
            let lun = client.release(&held.id.to_string()).await?;
            if !ui.json() {
                tell(&lun, ui)?;
            }
            released.push(json::document(&lun)?);
        }
    }
    if ui.json() {
        ui.document(&json!({ "luns": released }))?;
    } else if released.is_empty() {
        ui.text("No LUN is held.\n")?;
    }
    Ok(DONE)
}

fn tell(lun: &Lun, ui: &Ui) -> Result<(), Failure> {
    if lun.held {
        return ui.text(&format!(
            "{}: the release was accepted; it is still shown as held.\n",
            lun.name
        ));
    }
    ui.text(&format!("{}: no longer held.\n", lun.name))
}
