//! `rivet serve`: the control plane alone.

use super::server::{Server, start_log, stop_signal};
use super::{Exit, Failure};
use crate::config::{Config, Origins, SettingsArgs};

/// Arguments of `rivet serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs until SIGTERM or Ctrl-C.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let config = load(args.settings)?;
    start_log(&config.log, config.log_format);
    let server = Server::start(config).await?;
    server.say_where_to_set_up().await?;
    let exit = stop_signal().await?;
    tracing::info!("stopping");
    server.stop().await;
    Ok(exit)
}

/// The settings of this process, or every problem with them on a line of its own.
pub(super) fn load(args: SettingsArgs) -> Result<Config, Failure> {
    let problems = |problems: crate::config::Problems| Failure::usage(problems.0.join("\n"));
    Config::load(Origins::of_process(args.0).map_err(problems)?).map_err(problems)
}
