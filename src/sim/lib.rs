//! A simulated md kernel under lund's port: the same decisions that run over the real kernel run
//! over this one, with a clock that tests turn by hand, faults that they inject, and invariants
//! that scream when data was lost.
//!
//! * [`Scenario`] builds a [`World`]; [`scenario::by_name`] knows some by name.
//! * [`SimKernel`] serves a world under [`lun_kernel::Kernel`], [`SimWatch`] its hints under
//!   [`lun_kernel::Watch`].
//! * [`World::check_invariants`] tells whether any in-sync member holds old data and whether any
//!   action destroyed what could not be had again.
//!
//! What the simulated kernel does follows the behaviour of `drivers/md/md.c` and of the
//! personalities on 6.1, 6.12 and 7.x kernels, as [`KernelStyle`] chooses.
#![forbid(unsafe_code)]

mod action;
mod attach;
pub mod campaign;
pub mod dm;
mod events;
mod facts;
mod faults;
mod guard;
mod invariants;
mod kernel;
#[cfg(test)]
mod rules;
pub mod scenario;
mod sync;
pub mod truth;
mod watch;
pub mod world;

pub use faults::Part;
pub use kernel::SimKernel;
pub use scenario::Scenario;
pub use watch::SimWatch;
pub use world::{Array, Device, KernelStyle, Member, Mode, Sync, World};
