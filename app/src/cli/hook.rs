//! `rivet hook`: what git runs in a repository of the local forge. Hidden: people never type it.

use super::{Exit, Failure};
use crate::forge::local::hook;

/// Arguments of `rivet hook`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    hook: Hook,
}

#[derive(Debug, clap::Subcommand)]
enum Hook {
    /// After a push
    PostReceive,
}

/// Runs one hook.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    match args.hook {
        Hook::PostReceive => match hook::post_receive() {
            Ok(true) => Ok(Exit::Done),
            Ok(false) => Ok(Exit::Failed),
            Err(error) => Err(Failure::failed(format!("the push is not told of: {error}"))),
        },
    }
}
