//! `lunctl history`.

use clap::Args;
use clap_complete::ArgValueCompleter;
use lun_core::id::OpId;

use crate::client::Client;
use crate::complete;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::{Ui, op};

/// Lists operations of any age, newest first, page by page
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// LUN; one that is gone is known by its id or last name
    #[arg(value_name = "LUN", add = ArgValueCompleter::new(complete::luns))]
    lun: Option<String>,

    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    /// Only operations before this one
    #[arg(long, value_name = "OP")]
    before: Option<u64>,
}

pub(crate) async fn run(args: &HistoryArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let lun = args.lun.as_deref();
    let before = args.before.map(OpId);
    let page = client.history(lun, before, args.limit).await?;
    if ui.json() {
        ui.document(&json::document(&page)?)?;
        return Ok(DONE);
    }
    let mut text = op::table(&page.operations, true);
    if let Some(next) = page.next_before {
        let lun = lun.map_or_else(String::new, |lun| format!(" {lun}"));
        let limit = match args.limit {
            50 => String::new(),
            limit => format!(" --limit {limit}"),
        };
        text.push_str(&format!(
            "Older ones: `lunctl history{lun}{limit} --before {next}`\n"
        ));
    }
    ui.text(&text)?;
    if let Some(why) = &page.ledger_error {
        ui.note(&format!("warning: older operations are not known: {why}"));
    }
    Ok(DONE)
}
