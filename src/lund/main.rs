//! The daemon `lund`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    lund::cli::main()
}
