//! What both ends of the bus agree on: names, object paths, argument and result types, client
//! proxies, and how an error travels.
//!
//! The bus is `org.lund.Vds1`; `docs/` describes it for people, [`proxy`] for programs.
#![forbid(unsafe_code)]

mod client;
mod error;
mod hint;
pub mod names;
pub mod proxy;
mod vds_hints;
mod wire;

pub use client::{Client, ClientError, RemoteError};
pub use error::CallError;
pub use hint::hint_for;
pub use vds_hints::{HintError, HintOptions, hints_in_force};
pub use wire::{
    CancelOptions, Event, HistoryOptions, HistoryPage, HostView, MAX_PAGE, MAX_STRING_BYTES,
    OpHistory, OptionError, Options, RecoverOptions, ReplaceOptions, SpareOptions, StepView,
    check_limit, check_string,
};
