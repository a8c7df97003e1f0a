//! The pure heart of lund: what is observed, what it means in the words of the Virtual Disk
//! Service (VDS), what should be done about it, and how an operation lives.
//!
//! Nothing here touches a file, a clock, a thread or a random source (`clippy.toml` in this
//! folder refuses them): time and observations are arguments, wishes are return values.
#![forbid(unsafe_code)]

pub mod action;
pub mod error;
pub mod facts;
pub mod hresult;
pub mod id;
pub mod machine;
pub mod model;
pub mod op;
pub mod plan;
pub mod policy;
pub mod project;
pub mod raid;

pub use error::Error;
pub use hresult::Hresult;
