//! `rivet admin setup-url`: another one-time address that lets its holder in as admin, for whoever has the database or the
//! data directory.

use crate::actions::setup::token;
use crate::cli::{Exit, Failure, output};
use crate::config::Config;
use crate::model::time::Timestamp;
use crate::store::{ConnectError, Store};
use serde_json::json;

/// Makes a token and prints the address.
pub async fn run(config: &Config, json: bool) -> Result<Exit, Failure> {
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|e| Failure::failed(format!("{}: {e}", config.data_dir.display())))?;
    let token = match Store::open(&config.database).await {
        Ok(store) => {
            let token = token::renew(&store, &config.data_dir, Timestamp::now()).await;
            store.close().await;
            token?
        }
        // The server that has it believes the file.
        Err(ConnectError::InUse(_)) => token::renew_in_file(&config.data_dir)?,
        Err(error) => return Err(error.into()),
    };
    let url = address(config, &token);
    match json {
        true => output::print_json(&json!({ "url": url })),
        false => output::print_data(&format!("{url}\n")),
    }
    Ok(Exit::Done)
}

/// The address a token opens.
pub fn address(config: &Config, token: &str) -> String {
    format!("{}/setup?token={token}", config.public_url.as_str().trim_end_matches('/'))
}
