//! `rivet admin rotate-key`: everything that is encrypted at rest, sealed with another master key.

use crate::actions::setup::master_key::{self, Resealed, RotateError};
use crate::cli::{Exit, Failure, output};
use crate::config::{Config, SecretKey, random_base64, secret_file};
use crate::model::time::Timestamp;
use crate::secrets::Keyring;
use crate::store::settings::SECRET_KEY_ID;
use crate::store::{DatabaseUrl, Store};
use secrecy::SecretString;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Where the new key comes from, and what becomes of it.
struct Change {
    keys: Keyring,
    /// The embedded instance's own key file, which the new one replaces when everything is sealed with it.
    replaces: Option<(PathBuf, PathBuf)>,
    /// What is left to do by hand.
    then: &'static str,
}

/// Seals everything anew, or tells what would be done.
pub async fn run(config: &Config, new_key_file: Option<&Path>, dry_run: bool, json: bool) -> Result<Exit, Failure> {
    let change = change(config, new_key_file, dry_run)?;
    let store = Store::open(&config.database).await?;
    let done = carry_out(&store, &change, dry_run).await;
    store.close().await;
    let done = done?;
    if let (Some((new, old)), false) = (&change.replaces, dry_run) {
        std::fs::rename(new, old).map_err(|e| Failure::failed(format!("{}: {e}", old.display())))?;
    }
    tell(&done, &change, dry_run, json);
    Ok(Exit::Done)
}

async fn carry_out(store: &Store, change: &Change, dry_run: bool) -> Result<Resealed, Failure> {
    let failed = |error: RotateError| Failure::failed(error.to_string());
    let known = async { store.read().await?.setting(SECRET_KEY_ID).await };
    let known = known.await.map_err(|e| Failure::failed(format!("the database: {e}")))?;
    if let Some(known) = known.filter(|known| !change.keys.knows(known)) {
        let short: String = known.chars().take(8).collect();
        return Err(Failure::usage(format!(
            "neither key is the one the database was made with ({short}…); give that one as RIVET_SECRET_KEY or \
             RIVET_PREVIOUS_SECRET_KEY"
        )));
    }
    match dry_run {
        true => master_key::look(store, &change.keys).await.map_err(failed),
        false => master_key::reseal(store, &change.keys, Timestamp::now()).await.map_err(failed),
    }
}

fn tell(done: &Resealed, change: &Change, dry_run: bool, json: bool) {
    if json {
        let value =
            json!({ "key_id": done.key_id, "secrets": done.secrets, "already": done.already, "dry_run": dry_run });
        return output::print_json(&value);
    }
    let what = if dry_run { "would be sealed" } else { "sealed" };
    let short: String = done.key_id.chars().take(8).collect();
    output::note(&format!("{} secrets {what} with key {short}…; {} were already", done.secrets, done.already));
    if !dry_run {
        output::note(change.then);
    }
}

fn change(config: &Config, new_key_file: Option<&Path>, dry_run: bool) -> Result<Change, Failure> {
    let read = |file: &Path| {
        let text = std::fs::read_to_string(file);
        text.map(SecretString::from).map_err(|e| Failure::failed(format!("{}: {e}", file.display())))
    };
    let parse = |what: &str, text: &SecretString| {
        SecretKey::parse(text).map_err(|wrong| Failure::usage(format!("{what}: {wrong}")))
    };
    let own = config.data_dir.join("secret-key");
    match (&config.secret_key, new_key_file, &config.previous_secret_key) {
        (Some(current), None, Some(_)) => {
            parse("RIVET_SECRET_KEY", current)?;
            let keys = Keyring::of(config).map_err(|e| Failure::usage(e.to_string()))?;
            Ok(Change {
                keys,
                replaces: None,
                then: "RIVET_PREVIOUS_SECRET_KEY can be removed from every instance now",
            })
        }
        (Some(current), Some(file), None) => {
            let new = parse(&file.display().to_string(), &read(file)?)?;
            let keys = master_key::keys(parse("RIVET_SECRET_KEY", current)?, new);
            Ok(Change { keys, replaces: None, then: "set RIVET_SECRET_KEY to the new key and start the servers" })
        }
        (None, None, None) if matches!(config.database, DatabaseUrl::Sqlite(_)) => {
            let new = config.data_dir.join("secret-key.new");
            let old = parse(&own.display().to_string(), &read(&own)?)?;
            let text = match (dry_run, new.exists()) {
                // Only looked at: nothing is left behind.
                (true, false) => SecretString::from(random_base64()),
                _ => {
                    secret_file(&new, random_base64).map_err(|e| Failure::failed(format!("{}: {e}", new.display())))?.0
                }
            };
            let keys = master_key::keys(old, parse(&new.display().to_string(), &text)?);
            let then = "the new key is in the data directory, in place of the old one; back it up";
            Ok(Change { keys, replaces: Some((new, own)), then })
        }
        _ => Err(Failure::usage(
            "give the old and the new key: RIVET_PREVIOUS_SECRET_KEY and RIVET_SECRET_KEY, or RIVET_SECRET_KEY and \
             --new-key-file; an embedded instance with a key of its own needs neither",
        )),
    }
}
