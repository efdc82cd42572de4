//! From flags, environment and `rivet.toml` to a [`Config`]: every problem at once, one line each.

mod github;

use super::file::{self, FileSettings};
use super::table::{OTHER_VARIABLES, SETTINGS, Setting};
use super::{CREATIONS_AN_HOUR, Config, LogFormat, loopback_url};
use crate::store::DatabaseUrl;
use crate::store::writers::Rates;
use base64::Engine as _;
use pipelines_spec::suggest;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use url::Url;

/// The settings given on the command line, by variable (with `_FILE` for the twins).
#[derive(Debug, Clone, Default)]
pub struct Flags(pub BTreeMap<String, String>);

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// The command line.
    pub flags: Flags,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// `rivet.toml`: its name as it is shown, and its text.
    pub file: Option<(String, String)>,
}

/// Problems, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

/// A value and how to name where it came from.
struct Given {
    text: String,
    from: String,
}

struct Loader {
    origins: Origins,
    file: FileSettings,
    problems: Vec<String>,
}

impl Origins {
    /// The process's own environment, and the file `RIVET_CONFIG` (or `--config`) names, else `rivet.toml` here, else
    /// `/etc/rivet/rivet.toml`.
    pub fn of_process(flags: Flags) -> Result<Self, Problems> {
        let env: BTreeMap<String, String> =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        let named = flags.0.get("RIVET_CONFIG").or_else(|| env.get("RIVET_CONFIG"));
        let path = match named {
            Some(path) => Some(PathBuf::from(path)),
            None => ["rivet.toml", "/etc/rivet/rivet.toml"].map(PathBuf::from).into_iter().find(|p| p.is_file()),
        };
        let file = match path {
            None => None,
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Some((path.display().to_string(), text)),
                Err(error) => return Err(Problems(vec![format!("{}: {error}", path.display())])),
            },
        };
        Ok(Self { flags, env, file })
    }
}

impl Config {
    /// Reads and checks everything; nothing is printed, and no file but those the settings name is read.
    pub fn load(origins: Origins) -> Result<Self, Problems> {
        let (file, problems) = match &origins.file {
            Some((name, text)) => file::read(name, text),
            None => (FileSettings::default(), vec![]),
        };
        let mut loader = Loader { origins, file, problems };
        loader.unknown_variables();
        let config = loader.config();
        match config {
            Some(config) if loader.problems.is_empty() => Ok(config),
            Some(_) | None => Err(Problems(loader.problems)),
        }
    }
}

/// What a job sets for its commands (Rivet may be started inside one), and what tests set for each other.
fn is_not_meant_for_us(name: &str) -> bool {
    runner::FACT_NAMES.contains(&name) || name.starts_with("RIVET_V_") || name.starts_with("RIVET_TEST_")
}

impl Loader {
    /// A misspelt variable would silently be a default.
    fn unknown_variables(&mut self) {
        let twins: Vec<String> = SETTINGS.iter().filter_map(Setting::file_variable).collect();
        let mut known: Vec<&str> = twins.iter().map(String::as_str).collect();
        known.extend(SETTINGS.iter().map(|s| s.variable));
        known.extend(OTHER_VARIABLES);
        let mut unknown = vec![];
        for name in self.origins.env.keys().filter(|name| name.starts_with("RIVET_")) {
            if !known.contains(&name.as_str()) && !is_not_meant_for_us(name) {
                let near = suggest::nearest(name, known.iter().copied())
                    .map_or_else(String::new, |near| format!("; did you mean {near}?"));
                unknown.push(format!("{name}: there is no such setting{near}"));
            }
        }
        self.problems.extend(unknown);
    }

    /// The value of a setting: flag, else environment, else file.
    fn given(&mut self, variable: &str) -> Option<Given> {
        let setting = SETTINGS.iter().find(|s| s.variable == variable)?;
        let flag = format!("--{}", setting.flag());
        let dotted = setting.dotted();
        let twin = format!("{variable}_FILE");
        let flags = &self.origins.flags.0;
        let env = &self.origins.env;
        let from_file =
            |key: &str| self.file.values.get(key).map(|(text, place)| (text.clone(), format!("{place}: {key}")));
        let plain_env = env.get(variable).map(|text| (text.clone(), variable.to_owned()));
        // The usual name of other programs, for the database alone.
        let plain_env = plain_env.or_else(|| {
            let other = (variable == "RIVET_DATABASE_URL").then(|| env.get("DATABASE_URL")).flatten();
            other.map(|text| (text.clone(), "DATABASE_URL".to_owned()))
        });
        let levels = [
            (
                flags.get(variable).map(|text| (text.clone(), flag.clone())),
                flags.get(&twin).map(|path| (path.clone(), format!("{flag}-file"))),
            ),
            (plain_env, env.get(&twin).map(|path| (path.clone(), twin.clone()))),
            (from_file(&dotted), from_file(&format!("{dotted}_file"))),
        ];
        for (text, path) in levels {
            match (text, path) {
                (None, None) => {}
                (Some((_, one)), Some((_, other))) => {
                    self.problems.push(format!("{one} and {other} are both set; set one of them"));
                    return None;
                }
                (Some((text, from)), None) => return self.present(setting, Given { text, from }),
                (None, Some((path, from))) => {
                    let text = self.read(&from, Path::new(&path))?;
                    return self.present(setting, Given { text, from });
                }
            }
        }
        None
    }

    /// An empty value is a mistake more often than a wish.
    fn present(&mut self, setting: &Setting, given: Given) -> Option<Given> {
        if given.text.trim().is_empty() {
            self.problems.push(format!("{}: is empty; for example {}", given.from, setting.example));
            return None;
        }
        Some(Given { text: given.text.trim().to_owned(), from: given.from })
    }

    fn read(&mut self, from: &str, path: &Path) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) => {
                self.problems.push(format!("{from}: {} cannot be read: {error}", path.display()));
                None
            }
        }
    }

    fn wrong(&mut self, given: &Given, variable: &str, what: &str) {
        let example = SETTINGS.iter().find(|s| s.variable == variable).map_or("", |s| s.example);
        self.problems.push(format!("{}: {what}; for example {example}", given.from));
    }

    fn config(&mut self) -> Option<Config> {
        let data_dir = self.data_dir();
        let listen = self.listen();
        let database = self.database(data_dir.as_deref());
        let public_url = self.public_url(listen);
        let (github, github_hosts) = self.github();
        let rates = self.rates();
        let previous = "RIVET_GITHUB_PREVIOUS_WEBHOOK_SECRET";
        let previous_webhook_secret = self.given(previous).and_then(|given| self.webhook_secret(given, previous));
        let secret_key = self.secret_key(database.as_ref());
        let previous = "RIVET_PREVIOUS_SECRET_KEY";
        let previous_secret_key = self.given(previous).and_then(|given| self.key(given, previous));
        let admin_token = self.token("RIVET_ADMIN_TOKEN");
        let runner_token = self.token("RIVET_RUNNER_TOKEN");
        let object_store = self.object_store();
        let local_repositories = self.given("RIVET_LOCAL_REPOSITORIES").map(|given| PathBuf::from(given.text));
        let log = self.log();
        let log_format = self.log_format();
        let mut config = Config::embedded(&data_dir?, listen?);
        config.database = database?;
        config.public_url = public_url?;
        config.github = github;
        config.previous_webhook_secret = previous_webhook_secret;
        config.github_hosts = github_hosts;
        config.rates = rates;
        config.secret_key = secret_key;
        config.previous_secret_key = previous_secret_key;
        config.admin_token = admin_token;
        config.runner_token = runner_token;
        config.object_store = object_store;
        config.local_repositories = local_repositories;
        config.groups = std::mem::take(&mut self.file.groups);
        config.log = log;
        config.log_format = log_format;
        Some(config)
    }

    fn data_dir(&mut self) -> Option<PathBuf> {
        if let Some(given) = self.given("RIVET_DATA_DIR") {
            return Some(PathBuf::from(given.text));
        }
        let env = &self.origins.env;
        let found = default_data_dir(env);
        if found.is_none() {
            self.problems
                .push("RIVET_DATA_DIR: is not set, and neither is HOME; for example /var/lib/rivet".to_owned());
        }
        found
    }

    fn listen(&mut self) -> Option<SocketAddr> {
        let Some(given) = self.given("RIVET_LISTEN") else { return Some(SocketAddr::from(([127, 0, 0, 1], 8080))) };
        let found = given.text.to_socket_addrs().ok().and_then(|mut all| all.next());
        if found.is_none() {
            self.wrong(&given, "RIVET_LISTEN", "must be 'address:port'");
        }
        found
    }

    fn database(&mut self, data_dir: Option<&Path>) -> Option<DatabaseUrl> {
        let Some(given) = self.given("RIVET_DATABASE_URL") else {
            return Some(DatabaseUrl::Sqlite(data_dir?.join("rivet.db")));
        };
        let found = given.text.parse().ok();
        if found.is_none() {
            self.wrong(&given, "RIVET_DATABASE_URL", "must begin with postgres:// or sqlite:");
        }
        found
    }

    fn url(&mut self, variable: &str) -> Option<(Given, Option<Url>)> {
        let given = self.given(variable)?;
        let url = Url::parse(&given.text).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        if url.is_none() {
            self.wrong(&given, variable, "must be an address that begins with https://");
        }
        Some((given, url))
    }

    fn public_url(&mut self, listen: Option<SocketAddr>) -> Option<Url> {
        let Some((given, url)) = self.url("RIVET_PUBLIC_URL") else { return Some(loopback_url(listen?)) };
        let url = url?;
        if url.scheme() == "http" && !is_loopback(&url) {
            let what = "server.public_url must be https unless the host is loopback";
            self.wrong(&given, "RIVET_PUBLIC_URL", what);
            return None;
        }
        Some(url)
    }

    /// A GitHub Enterprise Server may allow more, or less.
    fn rates(&mut self) -> Rates {
        let variable = "RIVET_GITHUB_CREATIONS_AN_HOUR";
        let Some(given) = self.given(variable) else { return Rates::hourly(CREATIONS_AN_HOUR) };
        let number = given.text.parse().ok().filter(|number| (10..=1_000_000).contains(number));
        if number.is_none() {
            self.wrong(&given, variable, "must be a whole number from 10 to 1000000");
        }
        Rates::hourly(number.unwrap_or(CREATIONS_AN_HOUR))
    }

    fn token(&mut self, variable: &str) -> Option<SecretString> {
        let given = self.given(variable)?;
        if given.text.len() < 16 {
            let what = format!("at least 16 bytes are required, got {}", given.text.len());
            self.wrong(&given, variable, &what);
            return None;
        }
        Some(SecretString::from(given.text))
    }

    /// Several instances must use one key, so none of them may make it up.
    fn secret_key(&mut self, database: Option<&DatabaseUrl>) -> Option<SecretString> {
        let Some(given) = self.given("RIVET_SECRET_KEY") else {
            if matches!(database, Some(DatabaseUrl::Postgres(_))) {
                self.problems.push(
                    "RIVET_SECRET_KEY: is required with Postgres; for example the output of: openssl rand -base64 32"
                        .to_owned(),
                );
            }
            return None;
        };
        self.key(given, "RIVET_SECRET_KEY")
    }

    fn key(&mut self, given: Given, variable: &str) -> Option<SecretString> {
        match base64::engine::general_purpose::STANDARD.decode(&given.text).map(|key| key.len()) {
            Ok(32) => Some(SecretString::from(given.text)),
            Ok(bytes) => {
                self.wrong(&given, variable, &format!("must be 32 bytes in base64, got {bytes} bytes"));
                None
            }
            Err(_) => {
                self.wrong(&given, variable, "must be 32 bytes in base64, got something that is not base64");
                None
            }
        }
    }

    fn object_store(&mut self) -> Option<Url> {
        let given = self.given("RIVET_OBJECT_STORE_URL")?;
        let url = Url::parse(&given.text).ok().filter(|url| matches!(url.scheme(), "file" | "s3"));
        if url.is_none() {
            self.wrong(&given, "RIVET_OBJECT_STORE_URL", "must begin with file:/// or s3://");
        }
        url
    }

    fn log(&mut self) -> String {
        let Some(given) = self.given("RIVET_LOG") else { return "info".to_owned() };
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&given.text) {
            self.wrong(&given, "RIVET_LOG", &format!("is not a filter ({error})"));
        }
        given.text
    }

    fn log_format(&mut self) -> Option<LogFormat> {
        let given = self.given("RIVET_LOG_FORMAT")?;
        let found = given.text.parse().ok();
        if found.is_none() {
            self.wrong(&given, "RIVET_LOG_FORMAT", &format!("must be text or json, got '{}'", given.text));
        }
        found
    }
}

/// XDG's data home and `/rivet`.
pub fn default_data_dir(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    home.map(|home| home.join("rivet"))
}

/// Whether an address is this machine's own.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
