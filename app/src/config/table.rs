//! Every setting, once: variable, flag and key of `rivet.toml` all come from this table.

/// One setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub variable: &'static str,
    /// The key in `rivet.toml`: a section and a name.
    pub key: (&'static str, &'static str),
    /// What it must be, where the file holds something else.
    pub shape: &'static str,
    /// Whether it is hidden, and may come from a file (`…_FILE`).
    pub secret: bool,
    /// An example, shown with a problem.
    pub example: &'static str,
    /// For `--help`.
    pub help: &'static str,
}

const fn plain(
    variable: &'static str,
    key: (&'static str, &'static str),
    shape: &'static str,
    example: &'static str,
    help: &'static str,
) -> Setting {
    Setting { variable, key, shape, secret: false, example, help }
}

const fn secret(
    variable: &'static str,
    key: (&'static str, &'static str),
    example: &'static str,
    help: &'static str,
) -> Setting {
    Setting { variable, key, shape: "a string", secret: true, example, help }
}

/// The table.
pub const SETTINGS: &[Setting] = &[
    secret(
        "RIVET_DATABASE_URL",
        ("server", "database_url"),
        "postgres://rivet@db/rivet",
        "postgres://… or sqlite:FILE",
    ),
    plain("RIVET_DATA_DIR", ("server", "data_dir"), "a string", "/var/lib/rivet", "Database, files, credentials"),
    plain(
        "RIVET_LISTEN",
        ("server", "listen"),
        "a string 'address:port'",
        "127.0.0.1:8080",
        "The one address and port of web, API, webhooks and runners",
    ),
    plain(
        "RIVET_PUBLIC_URL",
        ("server", "public_url"),
        "a string",
        "https://rivet.example.org",
        "What links in checks point to",
    ),
    plain("RIVET_GITHUB_APP_ID", ("github", "app_id"), "an integer", "123456", "The GitHub App's id"),
    secret(
        "RIVET_GITHUB_PRIVATE_KEY",
        ("github", "private_key"),
        "/etc/rivet/key.pem",
        "The App's key: PEM, or a path",
    ),
    secret(
        "RIVET_GITHUB_WEBHOOK_SECRET",
        ("github", "webhook_secret"),
        "the output of: openssl rand -hex 32",
        "What GitHub signs deliveries with",
    ),
    secret(
        "RIVET_GITHUB_PREVIOUS_WEBHOOK_SECRET",
        ("github", "previous_webhook_secret"),
        "the secret before this one",
        "The webhook secret before this one, accepted for a day",
    ),
    plain(
        "RIVET_GITHUB_API_URL",
        ("github", "api_url"),
        "a string",
        "https://github.example.org/api/v3",
        "GitHub Enterprise Server's API",
    ),
    plain(
        "RIVET_GITHUB_SERVER_URL",
        ("github", "server_url"),
        "a string",
        "https://github.example.org",
        "GitHub Enterprise Server",
    ),
    plain(
        "RIVET_GITHUB_CREATIONS_AN_HOUR",
        ("github", "creations_an_hour"),
        "an integer",
        "400",
        "Check runs, statuses and comments of one installation; GitHub's own limit is 500",
    ),
    secret(
        "RIVET_SECRET_KEY",
        ("server", "secret_key"),
        "the output of: openssl rand -base64 32",
        "32 bytes, base64: encrypts secrets at rest",
    ),
    secret(
        "RIVET_PREVIOUS_SECRET_KEY",
        ("server", "previous_secret_key"),
        "the key before this one",
        "A second key that opens stored secrets, while keys are changed",
    ),
    secret(
        "RIVET_ADMIN_TOKEN",
        ("server", "admin_token"),
        "the output of: openssl rand -hex 32",
        "A bearer token with the admin role",
    ),
    secret(
        "RIVET_RUNNER_TOKEN",
        ("server", "runner_token"),
        "the output of: openssl rand -hex 32",
        "A registration token runners may present",
    ),
    plain(
        "RIVET_OBJECT_STORE_URL",
        ("server", "object_store_url"),
        "a string",
        "s3://bucket/prefix",
        "file:///… or s3://bucket/prefix: logs, artifacts, caches",
    ),
    plain(
        "RIVET_LOCAL_REPOSITORIES",
        ("local", "repositories"),
        "a string",
        "/srv/git",
        "A folder of bare repositories, OWNER/NAME.git, to serve as a forge",
    ),
    plain("RIVET_LOG", ("server", "log"), "a string", "info,rivet=debug", "What is logged, as tracing's EnvFilter"),
    plain("RIVET_LOG_FORMAT", ("server", "log_format"), "'text' or 'json'", "json", "text or json"),
];

/// Variables other parts of Rivet read: clients and runners, and what a job tells its commands.
pub const OTHER_VARIABLES: &[&str] = &[
    "RIVET_URL",
    "RIVET_TOKEN",
    "RIVET_TOKEN_FILE",
    "RIVET_REPO",
    "RIVET_CONFIG",
    "RIVET_CONFIG_DIR",
    "RIVET_CONTEXT",
    "RIVET_PAGER",
    "RIVET_BROWSER",
    "RIVET_DEBUG",
    "RIVET_NO_PROMPT",
];

/// Sections of `rivet.toml` that are not the server's, and their keys.
pub const OTHER_KEYS: &[(&str, &[&str])] = &[
    ("client", &["url", "token", "token_file", "repo"]),
    ("runner", &["executor", "accept_forks", "name", "labels", "slots", "url", "token", "token_file", "default_image"]),
];

impl Setting {
    /// The variable of its twin, for secrets.
    pub fn file_variable(&self) -> Option<String> {
        self.secret.then(|| format!("{}_FILE", self.variable))
    }

    /// `server.listen`.
    pub fn dotted(&self) -> String {
        format!("{}.{}", self.key.0, self.key.1)
    }

    /// `--listen`, `--github-app-id`.
    pub fn flag(&self) -> String {
        self.variable.trim_start_matches("RIVET_").to_lowercase().replace('_', "-")
    }
}
