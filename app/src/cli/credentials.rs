//! Tokens of clients: from the environment, or kept by `rivet auth login` in a file that only its owner can read.

use super::Failure;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use url::Url;

/// What is kept: the server used last, and a token for each server.
#[derive(Default)]
pub struct Kept {
    /// The server that commands talk to when nothing else is said.
    pub url: Option<Url>,
    tokens: BTreeMap<String, SecretString>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Url>,
    tokens: BTreeMap<String, String>,
}

/// `$XDG_CONFIG_HOME/rivet/credentials.toml`, or `RIVET_CONFIG_DIR/credentials.toml`.
pub fn path() -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = variable("RIVET_CONFIG_DIR")
        .or_else(|| variable("XDG_CONFIG_HOME").map(|p| p.join("rivet")))
        .or_else(|| variable("HOME").map(|p| p.join(".config/rivet")));
    let folder = folder.ok_or_else(|| Failure::usage("there is no home directory; set RIVET_CONFIG_DIR"))?;
    Ok(folder.join("credentials.toml"))
}

/// The token of `RIVET_TOKEN` or `RIVET_TOKEN_FILE`.
pub fn from_environment() -> Result<Option<SecretString>, Failure> {
    let text = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    match (text("RIVET_TOKEN"), text("RIVET_TOKEN_FILE")) {
        (Some(_), Some(_)) => Err(Failure::usage("RIVET_TOKEN and RIVET_TOKEN_FILE are both set; keep one of them")),
        (Some(token), None) => Ok(Some(token.trim().to_owned().into())),
        (None, Some(path)) => std::fs::read_to_string(&path)
            .map(|token| Some(token.trim().to_owned().into()))
            .map_err(|e| Failure::usage(format!("RIVET_TOKEN_FILE: {path} cannot be read: {e}"))),
        (None, None) => Ok(None),
    }
}

/// Servers are told apart by scheme, host and port.
fn key(url: &Url) -> String {
    url.origin().ascii_serialization()
}

impl Kept {
    /// What is kept; nothing where there is no file, or no home to have one.
    pub fn load() -> Result<Self, Failure> {
        let Ok(path) = path() else { return Ok(Self::default()) };
        Self::load_from(&path)
    }

    fn load_from(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::usage(format!("{} cannot be read: {error}", path.display()))),
        };
        // The parser's own message would show the line, which may hold a token.
        let file: File = toml::from_str(&text).map_err(|_| {
            Failure::usage(format!("{} is damaged; sign in anew with `rivet auth login`", path.display()))
        })?;
        let tokens = file.tokens.into_iter().map(|(url, token)| (url, token.into())).collect();
        Ok(Self { url: file.url, tokens })
    }

    /// The token kept for the server at `url`.
    pub fn token(&self, url: &Url) -> Option<SecretString> {
        self.tokens.get(&key(url)).cloned()
    }

    /// Keeps `token` for the server at `url`, which becomes the one to talk to.
    pub fn keep(&mut self, url: &Url, token: SecretString) {
        self.tokens.insert(key(url), token);
        self.url = Some(url.clone());
    }

    /// Forgets the token for the server at `url`; whether there was one.
    pub fn forget(&mut self, url: &Url) -> bool {
        if self.url.as_ref().is_some_and(|u| key(u) == key(url)) {
            self.url = None;
        }
        self.tokens.remove(&key(url)).is_some()
    }

    /// Writes the file, readable by its owner alone from its first byte on, all of it or nothing.
    pub fn save(&self) -> Result<PathBuf, Failure> {
        let path = path()?;
        self.save_to(&path).map_err(|e| Failure::failed(format!("{} cannot be written: {e}", path.display())))?;
        Ok(path)
    }

    fn save_to(&self, path: &Path) -> std::io::Result<()> {
        let tokens = self.tokens.iter().map(|(url, token)| (url.clone(), token.expose_secret().to_owned())).collect();
        let text = toml::to_string(&File { url: self.url.clone(), tokens }).map_err(std::io::Error::other)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let new = path.with_extension("toml.new");
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        // An old leftover keeps its old mode.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_kept_for_their_server_alone_and_readable_by_their_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rivet/credentials.toml");
        let url = |text| Url::parse(text).expect("an address");
        let mut kept = Kept::load_from(&path).expect("nothing yet");
        kept.keep(&url("https://ci.example.org/"), "rvt_one".to_owned().into());
        kept.save_to(&path).expect("it is kept");
        let mode = path.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let kept = Kept::load_from(&path).expect("it is read");
        let token = |address| kept.token(&url(address)).map(|t| t.expose_secret().to_owned());
        assert_eq!(token("https://ci.example.org/any"), Some("rvt_one".to_owned()));
        assert_eq!(token("https://ci.example.org:8443"), None);
        assert_eq!(token("http://ci.example.org"), None);
    }
}
