//! An App that exists already: named by its id, its key and its webhook secret, and tried before anything is kept.

use super::{PRIVATE_KEY, SetupError, WEBHOOK_SECRET, WEBHOOK_SECRET_BYTES, client, manifest};
use crate::config::GithubHosts;
use crate::context::Context;
use crate::forge::ForgeError;
use crate::forge::github::{AppFacts, Github};
use crate::model::time::Timestamp;
use crate::secrets::Keyring;
use crate::store::github_app::StoredApp;
use secrecy::{ExposeSecret as _, SecretString};

/// What somebody filled in.
#[derive(Clone)]
pub struct Given {
    /// The App's id.
    pub app_id: String,
    /// Its private key, PEM.
    pub private_key: SecretString,
    /// What its deliveries are signed with.
    pub webhook_secret: SecretString,
    /// GitHub's host; empty: github.com.
    pub host: String,
}

/// Keeps the App if GitHub knows it by this id and key; else every problem at once, and nothing is changed.
pub async fn connect(context: &Context, given: &Given, actor: &str, now: Timestamp) -> Result<StoredApp, SetupError> {
    super::settings_decide(&context.config)?;
    let keys = Keyring::of(&context.config)?;
    if context.forges.github.in_use().is_some() {
        return Err(SetupError::Refused("There is an App already; disconnect it first.".to_owned()));
    }
    let mut problems = vec![];
    let app_id = given.app_id.trim().parse::<u64>().ok().filter(|id| *id > 0 && i64::try_from(*id).is_ok());
    if app_id.is_none() {
        problems.push("The App id must be a positive whole number; the App's page on GitHub shows it.".to_owned());
    }
    problems.extend(webhook_secret_problem(&given.webhook_secret));
    let hosts = manifest::hosts(&context.config, &given.host).map_err(|p| problems.push(format!("{p}."))).ok();
    // The key is looked at whatever else is wrong: the id and the host do not matter for that.
    let any = hosts.clone().unwrap_or_else(GithubHosts::public);
    let made = client(app_id.unwrap_or(1), &given.private_key, &any, &given.webhook_secret);
    let github = made.map_err(|problem| problems.push(problem)).ok();
    if let (Some(github), Some(id), Some(hosts)) = (github, app_id, hosts) {
        match known_as(&github, id).await {
            Ok(facts) if problems.is_empty() => {
                let key = SecretString::from(given.private_key.expose_secret().trim().to_owned() + "\n");
                let secrets = [(PRIVATE_KEY, &key), (WEBHOOK_SECRET, &trimmed(&given.webhook_secret))];
                return manifest::save(context, &keys, &facts, &hosts, &secrets, actor, now).await;
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
    Err(SetupError::Wrong(problems))
}

/// A webhook secret without the blanks around it that pasting brings.
pub(super) fn trimmed(secret: &SecretString) -> SecretString {
    SecretString::from(secret.expose_secret().trim().to_owned())
}

/// What is wrong with a webhook secret.
pub(super) fn webhook_secret_problem(secret: &SecretString) -> Option<String> {
    let bytes = secret.expose_secret().trim().len();
    (bytes < WEBHOOK_SECRET_BYTES).then(|| {
        format!(
            "The webhook secret needs at least {WEBHOOK_SECRET_BYTES} bytes, got {bytes}. Set a new one in the App's \
             settings on GitHub, for example the output of: openssl rand -hex 32"
        )
    })
}

/// What GitHub says the App is; a sentence where it does not know it by this id and key.
pub(super) async fn known_as(github: &Github, app_id: u64) -> Result<AppFacts, String> {
    let host = github.api_url();
    match github.verify().await {
        Ok(facts) if facts.id.unsigned_abs() == app_id => Ok(facts),
        Ok(facts) => Err(format!("The key belongs to App {} ({}), not to {app_id}.", facts.id, facts.slug)),
        Err(ForgeError::Unavailable(why)) if why.contains("credentials") => Err(format!(
            "{host} does not accept App {app_id} with this key ({why}). Is it the key of this very App, was it not \
             deleted there, and does this machine's clock go right?"
        )),
        Err(ForgeError::NotFound(_)) => {
            Err(format!("{host} knows no App {app_id}, or is not a GitHub API. Check the id and the host."))
        }
        Err(error) => {
            Err(format!("{host} could not be asked: {error}. Check the host, and that this machine reaches it."))
        }
    }
}
