//! `lunctl hints`.

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use lun_core::model::Lun;
use lun_ipc::HintOptions;

use crate::client::Client;
use crate::complete;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::Ui;

/// Shows or changes how fast a LUN is rebuilt, and whether it keeps a write-intent bitmap
#[derive(Debug, Args)]
pub(crate) struct HintsArgs {
    /// LUN
    #[arg(value_name = "LUN", add = ArgValueCompleter::new(complete::luns))]
    lun: String,

    /// How fast operations sync it: 1 (slow) to 15 (as fast as it goes), 8 as the kernel does by
    /// default, 0 for no wish
    #[arg(long, value_name = "0-15", value_parser = clap::value_parser!(u8).range(0..=15))]
    rebuild_priority: Option<u8>,

    /// Keep a write-intent bitmap, so that only what was being written is compared after a crash;
    /// `no` takes it away
    #[arg(long, value_name = "YES|NO")]
    fast_crash_recovery: Option<YesNo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

pub(crate) async fn run(args: &HintsArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let wish = HintOptions {
        rebuild_priority: args.rebuild_priority,
        fast_crash_recovery: args.fast_crash_recovery.map(|wish| wish == YesNo::Yes),
    };
    let lun = client.hints(&args.lun, wish).await?;
    if ui.json() {
        ui.document(&json::document(&lun)?)?;
    } else {
        ui.text(&text(&lun))?;
    }
    Ok(DONE)
}

fn text(lun: &Lun) -> String {
    let priority = match lun.rebuild_priority {
        0 => "none, the array's own speed limits".to_owned(),
        number => format!("{number} of 15, while an operation runs"),
    };
    let bitmap = match lun.fast_crash_recovery {
        Some(true) => "yes, by a write-intent bitmap",
        Some(false) => "no, there is no write-intent bitmap",
        None => "unknown",
    };
    format!(
        "{}\n  rebuild priority     {priority}\n  fast crash recovery  {bitmap}\n",
        lun.name
    )
}
