//! Whether the simulator tells the truth: scenarios that run on it and on real kernels, and must
//! be seen to lead to the same facts.
//!
//! `scenarios.txt` holds the scenarios, `recorded/` what three kernels did with them. A test
//! compares the simulator with the recordings; `tests/vm/truth.rs` compares the kernels with them,
//! and `scripts/truth --record` renews them. The program in `examples/truth` runs the scenarios on
//! either side.

mod bench;
mod bench_sets;
pub mod observe;
pub mod run;
pub mod script;

use crate::world::KernelStyle;

pub use bench::{BLOCK_BYTES, DRIVE_BYTES, SimBench};
pub use bench_sets::{LEG_MIB, META_SECTORS, REGION_SECTORS};
pub use run::{Bench, Done, Transcript, run};
pub use script::{Script, Step};

/// The scenarios, of arrays of md and of raid sets made with dmsetup.
///
/// # Errors
/// The line that was not understood.
pub fn scripts() -> Result<Vec<Script>, String> {
    script::parse(include_str!("scenarios.txt"))
}

/// What the simulator does with a scenario.
#[must_use]
pub fn simulated(script: &Script, style: KernelStyle) -> Transcript {
    run(&mut SimBench::new(style), script)
}

/// What a kernel with these habits did with all scenarios.
#[must_use]
pub const fn recording(style: KernelStyle) -> &'static str {
    match style {
        KernelStyle::V6_1 => include_str!("recorded/6.1.txt"),
        KernelStyle::V6_12 => include_str!("recorded/6.12.txt"),
        KernelStyle::V7 => include_str!("recorded/7.txt"),
    }
}
