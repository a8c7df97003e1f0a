//! `lunctl replace`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::client::Client;
use crate::complete;
use crate::failure::Failure;
use crate::follow::{self, WaitOptions};
use crate::ui::{Ui, plan};

/// Replaces a member of a LUN: copies onto a spare first, then retires the old member
#[derive(Debug, Args)]
pub(crate) struct ReplaceArgs {
    /// LUN
    #[arg(value_name = "LUN", add = ArgValueCompleter::new(complete::luns))]
    lun: String,

    /// Member to be replaced
    #[arg(value_name = "DRIVE", add = ArgValueCompleter::new(complete::members))]
    drive: String,

    /// Copy onto this drive and no other
    #[arg(long, value_name = "DRIVE" , add = ArgValueCompleter::new(complete::spares))]
    with: Option<String>,

    /// Show what would be done; change nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,

    #[command(flatten)]
    wait: WaitOptions,
}

pub(crate) async fn run(args: &ReplaceArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let with = args.with.as_deref();
    if args.dry_run {
        let plan = client.plan_replace(&args.lun, &args.drive, with).await?;
        return plan::present(&plan, &args.lun, client, ui).await;
    }
    let op = client.replace(&args.lun, &args.drive, with).await?;
    follow::begun(op, &args.wait, client, ui).await
}
