//! `lunctl`: the command line of the lund recovery daemon.
#![forbid(unsafe_code)]

mod client;
mod cmd;
mod duration;
mod failure;
mod follow;
mod host;
mod json;
mod run;
mod suggest;
mod target;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::run(std::env::args_os().collect())
}
