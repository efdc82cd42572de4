//! The settings of the GitHub App: all of them or none.

use super::super::{GithubConfig, GithubHosts};
use super::{Given, Loader};
use crate::config::table::SETTINGS;
use secrecy::SecretString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

impl Loader {
    /// The App, and where GitHub is.
    pub(super) fn github(&mut self) -> (Option<GithubConfig>, Option<GithubHosts>) {
        let api_url = self.url("RIVET_GITHUB_API_URL").and_then(|(_, url)| url);
        let server_url = self.url("RIVET_GITHUB_SERVER_URL").and_then(|(_, url)| url);
        let hosts = match (api_url, server_url) {
            (None, None) => None,
            (Some(api_url), server_url) => {
                Some(GithubHosts { api_url, server_url: server_url.unwrap_or_else(GithubHosts::public_server) })
            }
            (None, Some(server_url)) => Some(GithubHosts::of_server(server_url)),
        };
        (self.app(hosts.clone().unwrap_or_else(GithubHosts::public)), hosts)
    }

    fn app(&mut self, hosts: GithubHosts) -> Option<GithubConfig> {
        let app_id = self.given("RIVET_GITHUB_APP_ID");
        let private_key = self.given("RIVET_GITHUB_PRIVATE_KEY");
        let webhook_secret = self.given("RIVET_GITHUB_WEBHOOK_SECRET");
        let all = [
            ("RIVET_GITHUB_APP_ID", app_id.is_some()),
            ("RIVET_GITHUB_PRIVATE_KEY", private_key.is_some()),
            ("RIVET_GITHUB_WEBHOOK_SECRET", webhook_secret.is_some()),
        ];
        if all.iter().any(|(_, set)| *set) {
            for (variable, _) in all.iter().filter(|(_, set)| !set) {
                let example = SETTINGS.iter().find(|s| s.variable == *variable).map_or("", |s| s.example);
                self.problems
                    .push(format!("{variable}: is needed beside the other GitHub settings; for example {example}"));
            }
        }
        let app_id = app_id.and_then(|given| {
            let id = given.text.parse::<u64>().ok().filter(|id| *id > 0);
            if id.is_none() {
                self.wrong(&given, "RIVET_GITHUB_APP_ID", "must be a positive whole number");
            }
            id
        });
        let private_key = private_key.and_then(|given| self.private_key(given));
        let webhook_secret = webhook_secret.and_then(|given| self.webhook_secret(given, "RIVET_GITHUB_WEBHOOK_SECRET"));
        Some(GithubConfig {
            app_id: app_id?,
            private_key: private_key?,
            webhook_secret: webhook_secret?,
            api_url: hosts.api_url,
            server_url: hosts.server_url,
        })
    }

    /// PEM as it is, or the file that holds it, which only its owner may read.
    fn private_key(&mut self, given: Given) -> Option<SecretString> {
        if given.text.starts_with("-----BEGIN") {
            return Some(SecretString::from(given.text));
        }
        let path = PathBuf::from(&given.text);
        let mode = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.permissions().mode() & 0o7777,
            Err(_) => {
                self.wrong(&given, "RIVET_GITHUB_PRIVATE_KEY", "is neither a PEM key nor a file that can be read");
                return None;
            }
        };
        if mode & 0o077 != 0 {
            self.problems.push(format!(
                "{}: must not be readable by group or others (mode {mode:04o}); run chmod 600",
                path.display()
            ));
            return None;
        }
        let text = self.read(&given.from, &path)?;
        if !text.trim_start().starts_with("-----BEGIN") {
            self.problems.push(format!("{}: {} holds no PEM key", given.from, path.display()));
            return None;
        }
        Some(SecretString::from(text))
    }

    pub(super) fn webhook_secret(&mut self, given: Given, variable: &str) -> Option<SecretString> {
        if given.text.len() < 32 {
            let what = format!("at least 32 bytes are required, got {}", given.text.len());
            self.wrong(&given, variable, &what);
            return None;
        }
        Some(SecretString::from(given.text))
    }
}
