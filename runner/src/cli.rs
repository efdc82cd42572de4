//! The commands of `rivet-runner`, as clap arguments that `rivet runner …` uses as well.

use crate::agent::{self, Shutdown};
use crate::client::Client;
use crate::config::{RunnerConfig, Timers, host_name};
use crate::doctor;
use crate::executor::podman::PodmanOptions;
use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use pipelines_spec::plan::Label;
use pipelines_spec::protocol::ExecutorKind;
use secrecy::SecretString;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use url::Url;

/// Which executors a runner offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExecutorChoice {
    /// Processes of this machine, for trusted runs only.
    Host,
    /// Containers.
    Podman,
}

/// Everything that says which runner this is and how it works.
#[derive(Debug, Clone, Args)]
pub struct RunnerArgs {
    /// The server's address.
    #[arg(long, env = "RIVET_URL", default_value = "http://127.0.0.1:8080")]
    pub url: Url,
    /// A registration token, used when this runner has no credentials yet.
    #[arg(long, env = "RIVET_RUNNER_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file that holds the registration token.
    #[arg(long, env = "RIVET_RUNNER_TOKEN_FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// Where credentials and running jobs live.
    #[arg(long, env = "RIVET_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// This runner's name; the machine's where unsaid.
    #[arg(long)]
    pub name: Option<String>,
    /// What it can do, as KEY=VALUE; os, arch and executor are added by themselves.
    #[arg(long, value_delimiter = ',', value_parser = parse_label)]
    pub labels: Vec<Label>,
    /// How many jobs it runs at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: u32,
    /// Where it runs commands; where unsaid: on the host, for trusted runs only, and in podman where that works.
    #[arg(long, value_delimiter = ',')]
    pub executor: Vec<ExecutorChoice>,
    /// Names of variables that commands on the host get from this runner's environment.
    #[arg(long, value_delimiter = ',')]
    pub pass_env: Vec<String>,
    /// The container program: podman or docker.
    #[arg(long, default_value = "podman")]
    pub container_program: String,
    /// The OCI runtime, where podman's own choice does not work on this machine.
    #[arg(long)]
    pub container_runtime: Option<String>,
    /// The image of container jobs that name none.
    #[arg(long)]
    pub default_image: Option<String>,
    /// When images are fetched.
    #[arg(long, default_value = "missing", value_parser = ["missing", "always", "never"])]
    pub pull: String,
    /// Memory bound of a container; an empty value: none.
    #[arg(long, default_value = "4g")]
    pub container_memory: String,
    /// Further options of podman's `run`, one each time.
    #[arg(long, allow_hyphen_values = true)]
    pub container_option: Vec<String>,
}

/// Arguments of `start`.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// Which runner this is.
    #[command(flatten)]
    pub runner: RunnerArgs,
    /// End after one job.
    #[arg(long)]
    pub once: bool,
}

impl RunnerArgs {
    /// The configuration they stand for; `job_command` runs [`crate::job_main`].
    pub async fn config(&self, job_command: Vec<OsString>) -> anyhow::Result<RunnerConfig> {
        let data_dir = match &self.data_dir {
            Some(directory) => directory.clone(),
            None => default_data_dir()?,
        };
        let mut config = RunnerConfig::new(self.url.clone(), data_dir, job_command);
        config.name = self.name.clone().unwrap_or_else(host_name);
        config.labels = self.labels.clone();
        config.slots = self.slots;
        config.registration_token = self.registration_token()?;
        config.pass_environment.extend(self.pass_env.iter().cloned());
        config.podman = self.podman();
        config.timers = Timers::default();
        config.executors = self.executors(&config.podman).await?;
        Ok(config)
    }

    fn registration_token(&self) -> anyhow::Result<Option<SecretString>> {
        let text = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => Some(
                std::fs::read_to_string(file)
                    .with_context(|| format!("RIVET_RUNNER_TOKEN_FILE: could not read {}", file.display()))?,
            ),
            (None, None) => None,
        };
        Ok(text.map(|text| SecretString::from(text.trim().to_owned())))
    }

    fn podman(&self) -> PodmanOptions {
        let defaults = PodmanOptions::default();
        PodmanOptions {
            program: self.container_program.clone(),
            runtime: self.container_runtime.clone(),
            pull: self.pull.clone(),
            default_image: self.default_image.clone().unwrap_or(defaults.default_image),
            memory: self.container_memory.clone(),
            run_options: self.container_option.clone(),
            ..PodmanOptions::default()
        }
    }

    /// What was asked for must work; what was not asked for is offered where it works.
    async fn executors(&self, podman: &PodmanOptions) -> anyhow::Result<Vec<ExecutorKind>> {
        let probe = doctor::probe_podman(podman).await;
        if self.executor.is_empty() {
            let mut executors = vec![ExecutorKind::Host];
            match probe {
                Ok(version) => {
                    tracing::info!("containers by {version}");
                    executors.push(ExecutorKind::Podman);
                }
                Err(why) => tracing::info!("no containers on this machine: {why}"),
            }
            return Ok(executors);
        }
        let kind = |choice: &ExecutorChoice| match choice {
            ExecutorChoice::Host => ExecutorKind::Host,
            ExecutorChoice::Podman => ExecutorKind::Podman,
        };
        let executors: Vec<ExecutorKind> = self.executor.iter().map(kind).collect();
        if let (true, Err(why)) = (executors.contains(&ExecutorKind::Podman), probe) {
            bail!("--executor podman: {why}");
        }
        Ok(executors)
    }
}

/// Runs a runner until it is told to end.
pub async fn start(arguments: &StartArgs, job_command: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let mut config = arguments.runner.config(job_command).await?;
    config.once = arguments.once;
    let shutdown = Shutdown::on_signals().context("could not listen for signals")?;
    agent::run(config, shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

/// Registers this machine and stores its credentials.
pub async fn register(arguments: &RunnerArgs) -> anyhow::Result<ExitCode> {
    use std::os::unix::fs::DirBuilderExt as _;
    let config = arguments.config(Vec::new()).await?;
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&config.data_dir)?;
    let credentials = agent::register(&config, &Client::new(&config.url)?).await?;
    println!("registered {} as {}", config.name, credentials.runner_id);
    Ok(ExitCode::SUCCESS)
}

fn parse_label(text: &str) -> Result<Label, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok(Label { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err(format!("'{text}' is not KEY=VALUE, such as os=linux")),
    }
}

fn default_data_dir() -> anyhow::Result<PathBuf> {
    let data = match (std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME")) {
        (Some(data), _) if !data.is_empty() => PathBuf::from(data),
        (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".local/share"),
        _ => bail!("RIVET_DATA_DIR: there is no home directory to take the default from; set it, as in /var/lib/rivet"),
    };
    Ok(data.join("rivet/runner"))
}
