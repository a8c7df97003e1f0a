//! `lunctl wait`.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;

use crate::client::Client;
use crate::complete;
use crate::duration;
use crate::failure::Failure;
use crate::follow;
use crate::target::{self, Target, Which};
use crate::ui::Ui;

/// Waits until operations have ended; the exit code is their outcome
///
/// Waits for all of them. With several the exit code is the worst: 1 (one failed) before 6 (one
/// was cancelled) before 8 (timed out) before 0. A LUN stands for its running operation, or when
/// none runs for its latest. Ctrl-C ends the waiting (130), never the operation.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Operation numbers or LUNs
    #[arg(value_name = "OP|LUN", required = true, add = ArgValueCompleter::new(complete::running))]
    targets: Vec<Target>,

    /// Give up waiting after this long (2s, 5m, 1h or seconds); the operations go on
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    timeout: Option<Duration>,
}

pub(crate) async fn run(args: &WaitArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let mut ops = Vec::new();
    for target in &args.targets {
        let op = target::resolve(client, target, Which::Latest).await?;
        if !ops.contains(&op.id) {
            ops.push(op.id);
        }
    }
    follow::all(&ops, args.timeout, client, ui).await
}
