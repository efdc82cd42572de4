//! What a runner is told when it starts.

use crate::checkout::{Policy, is_loopback};
use crate::executor::podman::PodmanOptions;
use pipelines_spec::plan::Label;
use pipelines_spec::protocol::{ExecutorKind, HEARTBEAT_SECONDS, SELF_FENCE_SECONDS};
use secrecy::SecretString;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Everything an agent needs to know.
#[derive(Clone)]
pub struct RunnerConfig {
    /// The server.
    pub url: Url,
    /// Its own directory: credentials, and one directory a job while it runs.
    pub data_dir: PathBuf,
    /// Its name at the server.
    pub name: String,
    /// What it can do, beside `os`, `arch` and `executor`, which it adds itself.
    pub labels: Vec<Label>,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// Where it runs commands.
    pub executors: Vec<ExecutorKind>,
    /// A registration token, for when it has no credentials.
    pub registration_token: Option<SecretString>,
    /// The program and arguments that run [`crate::job_main`].
    pub job_command: Vec<OsString>,
    /// What host commands get of the runner's environment, by name.
    pub pass_environment: Vec<String>,
    /// How containers are made.
    pub podman: PodmanOptions,
    /// Seconds a job may take that says nothing of it.
    pub job_timeout_seconds: u64,
    /// Whether it ends after one job.
    pub once: bool,
    /// Its clocks.
    pub timers: Timers,
}

/// The clocks of a runner; tests make them short.
#[derive(Debug, Clone)]
pub struct Timers {
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// From the sending of the last acknowledged renewal until jobs are killed.
    pub self_fence: Duration,
    /// How long the server may keep a claim waiting, in whole seconds.
    pub claim_wait_seconds: u64,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// How long a piece of log may wait for more.
    pub log_flush: Duration,
    /// The first delay after a failed call.
    pub retry: Duration,
    /// Between looks for containers nobody holds.
    pub reap: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(HEARTBEAT_SECONDS),
            self_fence: Duration::from_secs(SELF_FENCE_SECONDS),
            claim_wait_seconds: 25,
            grace: Duration::from_secs(10),
            log_flush: Duration::from_millis(200),
            retry: Duration::from_millis(500),
            reap: Duration::from_secs(60),
        }
    }
}

impl RunnerConfig {
    /// A runner of the server at `url` with the defaults for everything else: host executor, one slot.
    pub fn new(url: Url, data_dir: PathBuf, job_command: Vec<OsString>) -> Self {
        Self {
            url,
            data_dir,
            name: host_name(),
            labels: Vec::new(),
            slots: 1,
            executors: vec![ExecutorKind::Host],
            registration_token: None,
            job_command,
            pass_environment: default_pass_environment(),
            podman: PodmanOptions::default(),
            job_timeout_seconds: 6 * 3_600,
            once: false,
            timers: Timers::default(),
        }
    }

    /// All its labels: those it was given, and what it knows of itself.
    pub fn all_labels(&self) -> Vec<Label> {
        let label = |key: &str, value: &str| Label { key: key.into(), value: value.into() };
        let arch = std::env::consts::ARCH;
        let mut labels = self.labels.clone();
        labels.extend([label("os", std::env::consts::OS), label("arch", arch)]);
        labels.extend(self.executors.iter().map(|kind| label("executor", &kind.to_string())));
        labels.sort();
        labels.dedup();
        labels
    }

    pub(crate) fn checkout_policy(&self) -> Policy {
        let plain = (self.url.scheme() == "http").then(|| self.url.host_str().map(str::to_owned)).flatten();
        Policy { files: is_loopback(&self.url), plain_host: plain }
    }
}

/// What host commands may see of the runner's environment without being asked: where programs are and how text is
/// written, nothing that could be a secret.
pub fn default_pass_environment() -> Vec<String> {
    let names =
        ["PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "RUSTUP_HOME", "JAVA_HOME"];
    names.map(str::to_owned).to_vec()
}

/// This program, to be started again as a job's process: also after its file was replaced by a newer version, which would
/// speak another dialect with this one.
pub fn own_program() -> std::io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { std::env::current_exe() }
}

/// This machine's name.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "runner".into() } else { name.to_owned() }
}
