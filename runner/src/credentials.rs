//! Who this runner is: its id and token, in a file only it can read.

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use url::Url;

/// A runner's credentials.
#[derive(Clone)]
pub struct Credentials {
    /// Its id.
    pub runner_id: String,
    /// Its token.
    pub token: SecretString,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    url: String,
    runner_id: String,
    token: String,
}

fn path(data: &Path) -> PathBuf {
    data.join("credentials.json")
}

/// The stored credentials for the server at `url`; `None` where there are none, or only for another server.
pub fn load(data: &Path, url: &Url) -> anyhow::Result<Option<Credentials>> {
    let path = path(data);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("could not read {}", path.display())),
    };
    let stored: Stored = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; remove it and register again", path.display()))?;
    let same = stored.url == url.as_str();
    Ok(same.then(|| Credentials { runner_id: stored.runner_id, token: SecretString::from(stored.token) }))
}

/// Stores credentials: whole or not at all, and never readable by others.
pub fn store(data: &Path, url: &Url, credentials: &Credentials) -> anyhow::Result<()> {
    let stored = Stored {
        url: url.to_string(),
        runner_id: credentials.runner_id.clone(),
        token: credentials.token.expose_secret().to_owned(),
    };
    let path = path(data);
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        // A left-over file may have other permissions, so it is never reused.
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(serde_json::to_string_pretty(&stored)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().with_context(|| format!("could not write {}", path.display()))
}

/// Forgets them.
pub fn forget(data: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path(data)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn credentials_are_private_and_belong_to_one_server() -> anyhow::Result<()> {
        let data = tempfile::tempdir()?;
        let url = Url::parse("http://127.0.0.1:8080")?;
        assert!(load(data.path(), &url)?.is_none());
        let credentials = Credentials { runner_id: "r1".into(), token: SecretString::from("rvr_x") };
        store(data.path(), &url, &credentials)?;
        store(data.path(), &url, &credentials)?;
        assert_eq!(fs::metadata(path(data.path()))?.permissions().mode() & 0o777, 0o600);
        assert_eq!(load(data.path(), &url)?.map(|found| found.runner_id).as_deref(), Some("r1"));
        assert!(load(data.path(), &Url::parse("http://other")?)?.is_none());
        forget(data.path())?;
        forget(data.path())?;
        assert!(load(data.path(), &url)?.is_none());
        Ok(())
    }
}
