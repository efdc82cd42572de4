//! The `rivet` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rivet::cli::main()
}
