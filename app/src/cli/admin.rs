//! `rivet admin …`: the operator's commands.

mod doctor;

use super::{Exit, Failure, output};
use crate::config::{Config, Origins, SettingsArgs};
use crate::store::{ConnectError, Migrations, Store};
use serde_json::json;

/// Arguments of `rivet admin`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Bring the database to this version
    Migrate {
        #[command(flatten)]
        settings: SettingsArgs,
        /// Only tell what would be done; exit code 1 where something would
        #[arg(long)]
        check: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look whether everything a server needs is there and works
    Doctor {
        #[command(flatten)]
        settings: SettingsArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Migrate { settings, check, json } => migrate(&load(settings)?, check, json).await,
        Verb::Doctor { settings, json } => doctor::run(load(settings), json).await,
    }
}

fn load(settings: SettingsArgs) -> Result<Config, Failure> {
    let problems = |problems: crate::config::Problems| Failure::usage(problems.0.join("\n"));
    Config::load(Origins::of_process(settings.0).map_err(problems)?).map_err(problems)
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::failed(error.to_string())
    }
}

async fn migrate(config: &Config, check: bool, json: bool) -> Result<Exit, Failure> {
    let found = Migrations::of(&config.database).await?;
    let (pending, unknown) = (found.pending(), found.unknown());
    if !unknown.is_empty() {
        let message = format!(
            "the database was migrated by a newer rivet (it has {unknown:?}); run that version, or restore a backup made before it"
        );
        return Err(Failure::failed(message));
    }
    if !check && !pending.is_empty() {
        Store::open(&config.database).await?.close().await;
    }
    let done = !check || pending.is_empty();
    if json {
        output::print_json(
            &json!({ "database": config.database.to_string(), "pending": pending, "applied_now": !check }),
        );
    } else if pending.is_empty() {
        output::note(&format!("{}: up to date", config.database));
    } else {
        let what = if check { "lacks" } else { "now has" };
        output::note(&format!("{}: {what} migration {pending:?}", config.database));
    }
    Ok(if done { Exit::Done } else { Exit::Failed })
}
