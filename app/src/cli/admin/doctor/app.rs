//! The doctor's look at the GitHub App, be it the settings' or the stored one.

use super::{Finding, Level};
use crate::actions::setup::inspect::{self, Note, Reach};
use crate::config::Config;
use crate::engine::app;
use crate::forge::github::Github;
use crate::store::{ConnectError, Migrations, Store};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How long a repeated delivery is waited for, and how often it is looked for.
const REDELIVERY_TIME: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(1);

/// What was found, and where the App's API is.
pub async fn look(config: &Config, redeliver: bool) -> (Vec<Finding>, Option<Url>) {
    // A database that is not there yet is not made by looking.
    let store = match Migrations::of(&config.database).await {
        Ok(found) if found.pending().is_empty() && found.unknown().is_empty() => {
            Some(Store::open(&config.database).await)
        }
        _ => None,
    };
    let found = match (&config.github, &store) {
        (Some(app), _) => Github::new(app).map(|client| Some(Arc::new(client))),
        (None, Some(Ok(store))) => stored(store, config).await,
        (None, Some(Err(ConnectError::InUse(_)))) => {
            let detail = "a running rivet has the database, and with it the App if one was set up there";
            let hint = format!("open {}/setup, which tells the same", config.public_url.as_str().trim_end_matches('/'));
            return (vec![Finding::new("github", Level::Skipped, detail).hint(hint)], None);
        }
        (None, _) => Ok(None),
    };
    let store = store.and_then(Result::ok);
    let looked = match found {
        Ok(Some(github)) => {
            let api = github.api_url().clone();
            (of_app(&github, config, store.as_ref().filter(|_| redeliver)).await, Some(api))
        }
        Ok(None) => {
            let finding =
                Finding::new("github", Level::Skipped, "no GitHub App is set up; the local forge works without");
            (
                vec![
                    finding.hint("a starting server prints the address to set one up; so does `rivet admin setup-url`"),
                ],
                None,
            )
        }
        Err(error) => (vec![Finding::new("github", Level::Trouble, format!("{error:#}"))], None),
    };
    if let Some(store) = store {
        store.close().await;
    }
    looked
}

/// The App that was set up on the page. An embedded instance has its key in the data directory.
async fn stored(store: &Store, config: &Config) -> anyhow::Result<Option<Arc<Github>>> {
    let mut config = config.clone();
    let file = config.data_dir.join("secret-key");
    if config.secret_key.is_none() && file.exists() {
        config.secret_key = Some(std::fs::read_to_string(file)?.into());
    }
    Ok(app::stored(store, &config).await?.map(|app| app.client))
}

async fn of_app(github: &Github, config: &Config, store: Option<&Store>) -> Vec<Finding> {
    let hook = format!("{}/webhooks/github", config.public_url.as_str().trim_end_matches('/'));
    let found = inspect::inspect(github, &hook).await;
    let mut findings: Vec<Finding> = found.notes.iter().map(finding).collect();
    if found.facts.is_some() && found.installations.is_empty() {
        let none = Finding::new("installations", Level::Warning, "the App is not installed anywhere");
        findings.push(
            none.hint(format!("install it on repositories: {}", found.facts.map_or(String::new(), |f| f.html_url))),
        );
    }
    if let Some(store) = store {
        findings.push(delivered(github, store, &hook).await);
    }
    findings
}

fn finding(note: &Note) -> Finding {
    let level = match note.level {
        inspect::Level::Good => Level::Good,
        inspect::Level::Warning => Level::Warning,
        inspect::Level::Trouble => Level::Trouble,
    };
    let finding = Finding::new(note.what, level, note.detail.clone());
    let link = note.link.iter().filter(|_| note.level != inspect::Level::Good).cloned();
    let lines: Vec<String> = note.hint.iter().cloned().chain(link).collect();
    if lines.is_empty() { finding } else { finding.hint(lines.join("\n")) }
}

/// Asks for a delivery once more and waits for what becomes of it.
async fn delivered(github: &Github, store: &Store, hook: &str) -> Finding {
    let failed = |error: crate::forge::ForgeError| Finding::new("delivery", Level::Warning, error.to_string());
    let asked = match inspect::ask_again(github).await {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            let none = Finding::new("delivery", Level::Warning, "GitHub has not delivered anything yet");
            return none.hint("install the App on a repository, then look again");
        }
        Err(error) => return failed(error),
    };
    let waited = tokio::time::timeout(REDELIVERY_TIME, async {
        loop {
            match inspect::outcome(github, store, asked).await {
                Ok(Reach::Waiting) => tokio::time::sleep(LOOK).await,
                other => return other,
            }
        }
    });
    match waited.await {
        Ok(Ok(reach)) => finding(&reach.note(hook)),
        Ok(Err(error)) => failed(error),
        Err(_) => finding(&Reach::Waiting.note(hook)),
    }
}
