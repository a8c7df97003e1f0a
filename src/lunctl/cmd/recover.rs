//! `lunctl recover`.

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::client::Client;
use crate::complete;
use crate::failure::Failure;
use crate::follow::{self, WaitOptions};
use crate::ui::{Ui, plan};

/// Recovers a LUN, whatever is wrong with it: resync, rebuild, or a spare for a failed drive
///
/// Answers at once with an operation that can be watched (status), waited for (wait) and
/// cancelled (cancel). On a LUN with nothing wrong the operation has already succeeded.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// LUN
    #[arg(value_name = "LUN", add = ArgValueCompleter::new(complete::luns))]
    lun: String,

    /// Take this drive as the spare and no other
    #[arg(long, value_name = "DRIVE", add = ArgValueCompleter::new(complete::spares))]
    spare: Option<String>,

    /// Also rewrite parity or copies that differ
    #[arg(long)]
    repair: bool,

    /// Show what would be done, on which drive, why, and what is at risk; change nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,

    #[command(flatten)]
    wait: WaitOptions,
}

pub(crate) async fn run(args: &RecoverArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let spare = args.spare.as_deref();
    if args.dry_run {
        let plan = client.plan_recover(&args.lun, spare, args.repair).await?;
        return plan::present(&plan, &args.lun, client, ui).await;
    }
    let op = client.recover(&args.lun, spare, args.repair).await?;
    follow::begun(op, &args.wait, client, ui).await
}
