//! The one-time token that claims a fresh instance: printed and kept in a file of the data directory, known to the database
//! by its hash, so that of several instances every one takes it and only one request gets it.

use super::SetupError;
use crate::context::Context;
use crate::http::auth::{hash, random_token};
use crate::model::time::Timestamp;
use crate::store::settings::{SETUP_CLAIMED_AT, SETUP_TOKEN};
use crate::store::{Store, Tx};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What an instance that starts has to say about its set-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstStart {
    /// There is an App, or somebody claimed the instance.
    Nothing,
    /// Whoever has this token may.
    Token(String),
    /// Another instance made the token and printed it.
    Elsewhere,
}

/// Where the token is kept.
pub fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("setup-token")
}

/// The token of an instance that nobody claimed and that has no App; made at the first such start.
pub async fn at_start(context: &Context, now: Timestamp) -> anyhow::Result<FirstStart> {
    let file = file(&context.config.data_dir);
    let mut tx = context.store.begin().await?;
    let settled = context.forges.github.in_use().is_some()
        || tx.github_app_revision().await?.is_some()
        || tx.setting(SETUP_CLAIMED_AT).await?.is_some();
    if settled {
        drop(tx);
        // A file that is left from before opens nothing any more on Postgres, and must not on SQLite.
        remove(&file)?;
        return Ok(FirstStart::Nothing);
    }
    let kept = read(&file)?;
    let token = kept.clone().unwrap_or_else(|| random_token("rvs_"));
    // The embedded database has one instance: where its file is lost, a new token takes over.
    if context.store.is_embedded() {
        tx.save_setting(SETUP_TOKEN, &hash(&token), now).await?;
    }
    let known = tx.setting_or(SETUP_TOKEN, &hash(&token), now).await?;
    if known != hash(&token) {
        return Ok(FirstStart::Elsewhere);
    }
    if kept.is_none() {
        write(&file, &token)?;
    }
    tx.commit().await?;
    Ok(FirstStart::Token(token))
}

/// A new token, for whoever has the data directory and the database. The one before it is worth nothing any more.
pub async fn renew(store: &Store, data_dir: &Path, now: Timestamp) -> anyhow::Result<String> {
    let token = random_token("rvs_");
    let mut tx = store.begin().await?;
    tx.save_setting(SETUP_TOKEN, &hash(&token), now).await?;
    tx.commit().await?;
    write(&file(data_dir), &token)?;
    Ok(token)
}

/// A new token while a server has the embedded database: that server believes the file.
pub fn renew_in_file(data_dir: &Path) -> anyhow::Result<String> {
    let token = random_token("rvs_");
    write(&file(data_dir), &token)?;
    Ok(token)
}

/// Whether somebody could claim the instance now.
pub async fn is_open(context: &Context, tx: &mut Tx) -> Result<bool, SetupError> {
    let in_file = context.store.is_embedded() && file(&context.config.data_dir).exists();
    Ok(in_file || tx.setting(SETUP_TOKEN).await?.is_some())
}

/// Takes the token: from now on it is worth nothing. Refused where it is another one, or was taken before.
pub async fn claim(context: &Context, token: &str, now: Timestamp) -> Result<(), SetupError> {
    let wrong = || {
        SetupError::Refused(
            "This is not the set-up token, or it was used already. The newest one is in the file setup-token of the \
             data directory; `rivet admin setup-url` makes another."
                .to_owned(),
        )
    };
    let failed = |error: std::io::Error| SetupError::Refused(format!("The file setup-token: {error}"));
    let file = file(&context.config.data_dir);
    let mut tx = context.store.begin().await?;
    let in_file = match context.store.is_embedded() {
        true => read(&file).map_err(failed)?.is_some_and(|kept| hash(&kept) == hash(token)),
        false => false,
    };
    let in_database = tx.take_setting(SETUP_TOKEN, &hash(token)).await?;
    if !in_file && !in_database {
        return Err(wrong());
    }
    tx.save_setting(SETUP_CLAIMED_AT, &now.rfc3339(), now).await?;
    tx.audit("setup", "setup.claim", "instance", &serde_json::json!({}), now).await?;
    // The write lock is held: of two requests with the token in the file, the second finds no file.
    remove(&file).map_err(failed)?;
    tx.commit().await?;
    Ok(())
}

fn read(file: &Path) -> std::io::Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Written beside and moved into place, so that nobody reads half a token.
fn write(file: &Path, token: &str) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    remove(&beside)?;
    let mut created = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    writeln!(created, "{token}")?;
    created.sync_all()?;
    std::fs::rename(&beside, file)
}

fn remove(file: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
