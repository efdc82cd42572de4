//! The settings, as data. (Reading them from flags, environment and `rivet.toml` is [`Config::load`]'s.)

use crate::store::DatabaseUrl;
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::PathBuf;
use url::Url;

/// Everything the server needs to know, checked. Nothing reads the environment after this was made.
#[derive(Clone)]
pub struct Config {
    /// Where the database is.
    pub database: DatabaseUrl,
    /// Database, files, credentials.
    pub data_dir: PathBuf,
    /// The one address for web, API, webhooks and runners.
    pub listen: SocketAddr,
    /// What links point to; no trailing slash.
    pub public_url: Url,
    /// A bearer token with the admin role.
    pub admin_token: Option<SecretString>,
    /// A registration token runners may present any number of times.
    pub runner_token: Option<SecretString>,
    /// The GitHub App, where one is set up.
    pub github: Option<GithubConfig>,
    /// The secret the local forge's hook signs with; made by `up` and `demo`.
    pub local_webhook_secret: Option<SecretString>,
    /// Where the local forge keeps its bare repositories.
    pub local_repositories: Option<PathBuf>,
    /// Timers, in one place so that tests can shorten them.
    pub timers: Timers,
}

/// A GitHub App.
#[derive(Clone)]
pub struct GithubConfig {
    /// Its id.
    pub app_id: u64,
    /// Its private key, PEM.
    pub private_key: SecretString,
    /// What deliveries are signed with; at least 32 bytes.
    pub webhook_secret: SecretString,
    /// `https://api.github.com`, or a GHES `https://HOST/api/v3`.
    pub api_url: Url,
    /// `https://github.com`, or a GHES host: git is fetched from `SERVER_URL/OWNER/REPO.git`.
    pub server_url: Url,
}

/// How long things take at the most, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Timers {
    /// How long a lease lasts from its last renewal.
    pub lease: i64,
    /// How long after a lease's end the job is given away (35 s after the last renewal in all).
    pub takeover_grace: i64,
    /// How often passes look without being woken.
    pub poll: i64,
    /// How long updates of one check are collected before they are sent.
    pub report_coalesce: i64,
}

impl Default for Timers {
    fn default() -> Self {
        Self { lease: 30_000, takeover_grace: 5_000, poll: 1_000, report_coalesce: 300 }
    }
}
