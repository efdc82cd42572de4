//! The settings, as data. (Reading them from flags, environment and `rivet.toml` is [`Config::load`]'s.)

mod file;
mod flags;
mod keys;
mod load;
mod table;

use crate::store::DatabaseUrl;
use crate::store::writers::Rates;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use url::Url;

pub use flags::SettingsArgs;
pub use keys::{SecretKey, check_key_id, random_base64, random_hex, secret_file};
pub use load::{Flags, Origins, Problems, default_data_dir, is_loopback};
pub use table::{SETTINGS, Setting};

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
    /// The GitHub App, where the settings name one; it wins over one that was set up on the page.
    pub github: Option<GithubConfig>,
    /// The webhook secret before this one: accepted for a day.
    pub previous_webhook_secret: Option<SecretString>,
    /// Where GitHub is, where the settings say so.
    pub github_hosts: Option<GithubHosts>,
    /// The secret the local forge's hook signs with; made by `up` and `demo`.
    pub local_webhook_secret: Option<SecretString>,
    /// Where the local forge keeps its bare repositories.
    pub local_repositories: Option<PathBuf>,
    /// Where logs, artifacts and caches go; `None`: files under the data directory.
    pub object_store: Option<Url>,
    /// 32 bytes that encrypt secrets at rest, base64.
    pub secret_key: Option<SecretString>,
    /// A second key that opens stored secrets, while keys are changed.
    pub previous_secret_key: Option<SecretString>,
    /// Named groups of reviewers: logins and `@org/team`s.
    pub groups: BTreeMap<String, Vec<String>>,
    /// What is logged.
    pub log: String,
    /// How; `None`: text on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// Timers, in one place so that tests can shorten them.
    pub timers: Timers,
    /// How much is created at GitHub for one installation.
    pub rates: Rates,
    /// What may be spent on calls to GitHub for one installation, all servers together. In one place so that a measurement
    /// can ask for the machine's own limit; there is no setting for it, because GitHub bans those who spend more.
    pub points_a_minute: f64,
}

impl Config {
    /// The embedded default: database and files under `data_dir`, links to `listen`, nothing else set.
    pub fn embedded(data_dir: &std::path::Path, listen: SocketAddr) -> Self {
        Self {
            database: DatabaseUrl::Sqlite(data_dir.join("rivet.db")),
            data_dir: data_dir.to_owned(),
            listen,
            public_url: loopback_url(listen),
            admin_token: None,
            runner_token: None,
            github: None,
            previous_webhook_secret: None,
            github_hosts: None,
            local_webhook_secret: None,
            local_repositories: None,
            object_store: None,
            secret_key: None,
            previous_secret_key: None,
            groups: BTreeMap::new(),
            log: "info".to_owned(),
            log_format: None,
            timers: Timers::default(),
            rates: Rates::hourly(CREATIONS_AN_HOUR),
            points_a_minute: crate::forge::github::POINTS_A_MINUTE,
        }
    }
}

impl Config {
    /// Takes over the address that is really listened on; links follow it where they were made from it.
    pub fn listens_on(&mut self, address: SocketAddr) {
        if self.public_url == loopback_url(self.listen) {
            self.public_url = loopback_url(address);
        }
        self.listen = address;
    }

    /// The address programs on this machine reach the server by.
    pub fn local_url(&self) -> Url {
        loopback_url(self.listen)
    }
}

/// The address of this machine that reaches `listen`.
fn loopback_url(listen: SocketAddr) -> Url {
    let mut url = Url::parse("http://127.0.0.1").unwrap_or_else(|_| unreachable!("a constant address parses"));
    if !listen.ip().is_unspecified() {
        let _ = url.set_ip_host(listen.ip());
    }
    let _ = url.set_port(Some(listen.port()));
    url
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
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

/// Where a GitHub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubHosts {
    /// `https://api.github.com`, or a GHES `https://HOST/api/v3`.
    pub api_url: Url,
    /// `https://github.com`, or a GHES host.
    pub server_url: Url,
}

impl GithubHosts {
    /// github.com.
    pub fn public() -> Self {
        Self::of_server(Self::public_server())
    }

    /// `https://github.com`.
    pub(crate) fn public_server() -> Url {
        Url::parse("https://github.com").unwrap_or_else(|_| unreachable!("a constant address parses"))
    }

    /// A GitHub by its own address: github.com and its enterprise clouds have their API at a host of its own, an
    /// Enterprise Server below a path.
    pub fn of_server(server_url: Url) -> Self {
        let mut api_url = server_url.clone();
        let host = server_url.host_str().unwrap_or("");
        if host == "github.com" || host.ends_with(".ghe.com") {
            // A host that parsed stays one with a label in front.
            let _ = api_url.set_host(Some(&format!("api.{host}")));
        } else {
            api_url.set_path("/api/v3");
        }
        Self { api_url, server_url }
    }
}
/// Check runs, statuses and comments of one installation within an hour, where nothing else is set; GitHub's limit is 500.
pub const CREATIONS_AN_HOUR: i64 = 400;

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
