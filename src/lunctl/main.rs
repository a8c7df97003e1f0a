//! `lunctl`: the command line of the lund recovery daemon.
#![forbid(unsafe_code)]

mod client;
mod cmd;
mod complete;
mod duration;
mod failure;
mod follow;
mod host;
mod json;
#[cfg(test)]
mod man;
mod run;
mod suggest;
mod target;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    complete::answer();
    run::run(std::env::args_os().collect())
}
