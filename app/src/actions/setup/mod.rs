//! Setting the instance up as a GitHub App: who may, how the App is made or named, how it is changed.

pub mod change;
pub mod connect;
pub mod inspect;
pub mod manifest;
pub mod master_key;
pub mod token;

use crate::config::Config;
use crate::forge::ForgeError;
use crate::forge::github::Github;
use crate::model::ids::EntryId;
use crate::secrets::{Keyring, Place, SecretsError};
use crate::store::github_app::APP_ROW;
use secrecy::SecretString;

/// The sealed fields of the App.
pub const PRIVATE_KEY: &str = "private_key";
/// What deliveries are signed with.
pub const WEBHOOK_SECRET: &str = "webhook_secret";
/// What they will be signed with.
pub const WEBHOOK_SECRET_NEXT: &str = "webhook_secret_next";
/// What they were signed with.
pub const WEBHOOK_SECRET_PREVIOUS: &str = "webhook_secret_previous";
/// What people would sign in through the App with.
pub const CLIENT_SECRET: &str = "client_secret";

/// The least bytes of a webhook secret.
pub const WEBHOOK_SECRET_BYTES: usize = 32;

/// Where a secret of the App is kept.
pub fn place(name: &str) -> Place {
    Place::new("github_app", APP_ROW, name)
}

/// What tells one state of the stored App from every other.
pub fn revision() -> String {
    EntryId::generate().0
}

/// Why something about the set-up was not done, for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// What was sent is wrong: every problem, each with what to do.
    #[error("{}", .0.join(" "))]
    Wrong(Vec<String>),
    /// Not with this token, or not any more.
    #[error("{0}")]
    Refused(String),
    /// GitHub did not do its part.
    #[error("{0}")]
    Forge(#[from] ForgeError),
    /// A secret cannot be sealed or opened.
    #[error("{0}")]
    Secrets(#[from] SecretsError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

/// Whether the App is the settings' business: then nothing that is stored counts, and storing would mislead.
fn settings_decide(config: &Config) -> Result<(), SetupError> {
    match &config.github {
        Some(_) => Err(SetupError::Refused(
            "The settings name the App (RIVET_GITHUB_APP_ID), and they win; change it there, or remove them first."
                .to_owned(),
        )),
        None => Ok(()),
    }
}

/// A client for an App that is not in use yet, or a sentence on why its key is none.
fn client(
    app_id: u64,
    private_key: &SecretString,
    hosts: &crate::config::GithubHosts,
    webhook_secret: &SecretString,
) -> Result<Github, String> {
    let config = crate::config::GithubConfig {
        app_id,
        private_key: private_key.clone(),
        webhook_secret: webhook_secret.clone(),
        api_url: hosts.api_url.clone(),
        server_url: hosts.server_url.clone(),
    };
    Github::new(&config).map_err(|error| {
        let why = error.root_cause().to_string();
        format!(
            "The private key cannot be read ({why}). Paste the whole file GitHub gave you, with its BEGIN and END lines, \
             or choose the file."
        )
    })
}

/// Seals and keeps secrets of the App.
async fn keep(
    tx: &mut crate::store::Tx,
    keys: &Keyring,
    secrets: &[(&str, &SecretString)],
    now: crate::model::time::Timestamp,
) -> Result<(), SetupError> {
    for (name, secret) in secrets {
        let place = place(name);
        tx.save_sealed(&place, &keys.seal(&place, secret)?, now).await?;
    }
    Ok(())
}
