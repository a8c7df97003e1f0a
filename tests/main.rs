//! Integration tests of lund, one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "whatever goes wrong in a test is to end it"
)]

mod bus;
mod cli;
mod conformance;
mod crash;
mod docs;
mod rig;
mod rights;
mod sim;
mod tidy;
mod vm;
