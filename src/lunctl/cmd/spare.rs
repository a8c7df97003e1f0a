//! `lunctl spare`.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use lun_core::model::Drive;

use crate::client::Client;
use crate::complete;
use crate::failure::{DONE, Failure};
use crate::json;
use crate::ui::{Ui, drive, pool as pool_text};

/// Shows and changes the pool of spare drives
#[derive(Debug, Args)]
pub(crate) struct SpareArgs {
    #[command(subcommand)]
    command: SpareCommand,
}

#[derive(Debug, Subcommand)]
enum SpareCommand {
    /// Lists the drives of the pool
    List,
    /// Registers a drive in the pool: a recovery may then take it and overwrite it
    Add {
        /// Drive
        #[arg(value_name = "DRIVE" , add = ArgValueCompleter::new(complete::nodes))]
        drive: String,
        /// Accept that what is written on the drive now will be lost when it is needed
        #[arg(long)]
        force: bool,
    },
    /// Takes a drive out of the pool
    Remove {
        /// Drive
        #[arg(value_name = "DRIVE", add = ArgValueCompleter::new(complete::pool))]
        drive: String,
    },
}

pub(crate) async fn run(args: &SpareArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    match &args.command {
        SpareCommand::List => {
            let snapshot = client.snapshot().await?;
            let pool: Vec<Drive> = snapshot
                .drives
                .into_iter()
                .filter(|one| one.in_pool)
                .collect();
            if ui.json() {
                ui.document(&json::document(&serde_json::json!({
                    "drives": pool,
                    "coverage": snapshot.coverage,
                    "retired": snapshot.retired,
                    "passed_over": snapshot.passed_over,
                }))?)?;
            } else {
                ui.text(&drive::pool_table(&pool, &snapshot.luns))?;
                ui.text(&pool_text::coverage(&snapshot.coverage))?;
                ui.text(&pool_text::passed_over(&snapshot.passed_over))?;
                ui.text(&pool_text::retired(&snapshot.retired))?;
            }
        }
        SpareCommand::Add { drive: name, force } => {
            let drive = client.spare_add(name, *force).await?;
            if ui.json() {
                ui.document(&json::document(&drive)?)?;
            } else {
                ui.text(&format!("{} is in the spare pool.\n", drive::name(&drive)))?;
            }
        }
        SpareCommand::Remove { drive: name } => {
            client.spare_remove(name).await?;
            if ui.json() {
                ui.document(&serde_json::json!({"removed": name}))?;
            } else {
                ui.text(&format!("{name} is no longer in the spare pool.\n"))?;
            }
        }
    }
    Ok(DONE)
}
