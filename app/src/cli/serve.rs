//! `rivet serve`: the control plane alone.

use super::{Exit, Failure};

/// Arguments of `rivet serve`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs until SIGTERM or Ctrl-C.
#[expect(clippy::unused_async, clippy::needless_pass_by_value, reason = "the shape every command has")]
pub async fn run(_args: Args) -> Result<Exit, Failure> {
    Err(Failure::failed("not built yet"))
}
