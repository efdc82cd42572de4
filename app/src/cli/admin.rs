//! `rivet admin …`: the operator's commands.

mod doctor;
mod rotate_key;
pub(super) mod setup_url;

use super::{Exit, Failure, output};
use crate::config::{Config, Origins, SettingsArgs};
use crate::store::{ConnectError, Migrations, Store};
use serde_json::json;
use std::path::PathBuf;

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
        /// Also ask GitHub to deliver its newest delivery once more, and tell whether it arrives
        #[arg(long)]
        redeliver: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Seal everything that is encrypted at rest with another master key; may be stopped and run again
    RotateKey {
        #[command(flatten)]
        settings: SettingsArgs,
        /// The new key, 32 bytes in base64, where the settings do not name it already
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
        /// Only tell what would be done
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a new one-time address that lets whoever opens it in as admin, to set the instance up
    SetupUrl {
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
        Verb::Doctor { settings, redeliver, json } => doctor::run(load(settings), redeliver, json).await,
        Verb::RotateKey { settings, new_key_file, dry_run, json } => {
            rotate_key::run(&load(settings)?, new_key_file.as_deref(), dry_run, json).await
        }
        Verb::SetupUrl { settings, json } => setup_url::run(&load(settings)?, json).await,
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
