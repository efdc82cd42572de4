//! `rivet up`: server and one runner in one process, for one machine that does it all.

use super::server::{Server, start_log, stop_signal};
use super::{Exit, Failure, serve};
use crate::config::{Config, SettingsArgs, random_hex, secret_file};
use pipelines_spec::protocol::ExecutorKind;
use runner::agent::{self, Shutdown, ShutdownHandle};
use runner::executor::podman::PodmanOptions;
use runner::{RunnerConfig, Timers};
use std::path::Path;
use tokio::task::JoinHandle;

/// Arguments of `rivet up`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
    /// How many jobs run at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    slots: u32,
}

/// Runs until SIGTERM or Ctrl-C.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let mut config = serve::load(args.settings)?;
    start_log(&config.log, config.log_format);
    if config.local_repositories.is_none() {
        config.local_repositories = Some(config.data_dir.join("repositories"));
    }
    let token = give_tokens(&mut config)?;
    let repositories = config.local_repositories.clone();
    let server = Server::start(config).await?;
    let runner = EmbeddedRunner::start(&server, args.slots, offered().await)?;
    let url = &server.context.config.public_url;
    eprintln!("Rivet is up at {url}");
    if let Some(file) = token {
        eprintln!("The admin token is in {}; 'rivet auth login' and the page's sign-in take it.", file.display());
    }
    if let Some(folder) = repositories {
        eprintln!(
            "Bare repositories in {} (OWNER/NAME.git) are served from a moment after they are made.",
            folder.display()
        );
    }
    server.say_where_to_set_up().await?;
    let exit = stop_signal().await?;
    eprintln!("Finishing what runs; again to stop at once.");
    tokio::select! {
        () = runner.drain() => {}
        again = stop_signal() => {
            again?;
        }
    }
    server.stop().await;
    Ok(exit)
}

/// An admin token and a registration token, made on the first start. Answers the admin token's file where it is in one.
pub(super) fn give_tokens(config: &mut Config) -> Result<Option<std::path::PathBuf>, Failure> {
    let make = |name: &str| {
        let file = config.data_dir.join(name);
        secret_file(&file, random_hex)
            .map(|(secret, _)| (secret, file.clone()))
            .map_err(|e| Failure::failed(format!("{}: {e}", file.display())))
    };
    let runner = make("runner-token")?.0;
    let admin = match &config.admin_token {
        Some(_) => None,
        None => Some(make("admin-token")?),
    };
    config.runner_token.get_or_insert(runner);
    Ok(admin.map(|(token, file)| {
        config.admin_token = Some(token);
        file
    }))
}

/// What a runner offers with nothing further said: the host, for trusted runs only, and containers where they work.
async fn offered() -> Vec<ExecutorKind> {
    let mut executors = vec![ExecutorKind::Host];
    match runner::doctor::probe_podman(&PodmanOptions::default()).await {
        Ok(version) => {
            tracing::info!("containers by {version}");
            executors.push(ExecutorKind::Podman);
        }
        Err(why) => tracing::info!("no containers on this machine: {why}"),
    }
    executors
}

/// A runner in this process, talking to the server as any other would.
pub(super) struct EmbeddedRunner {
    handle: ShutdownHandle,
    task: JoinHandle<()>,
}

impl EmbeddedRunner {
    /// Starts it with these executors.
    pub(super) fn start(server: &Server, slots: u32, executors: Vec<ExecutorKind>) -> Result<Self, Failure> {
        let config = &server.context.config;
        let program =
            runner::config::own_program().map_err(|e| Failure::failed(format!("this program's own path: {e}")))?;
        let job_command = vec![program.into_os_string(), super::JOB_COMMAND.into()];
        let mut settings = RunnerConfig::new(config.local_url(), runner_dir(&config.data_dir), job_command);
        settings.name = format!("{}-embedded", runner::config::host_name());
        settings.slots = slots;
        settings.executors = executors;
        settings.registration_token = config.runner_token.clone();
        settings.timers = Timers::default();
        let (handle, shutdown) = Shutdown::new();
        let task = tokio::spawn(async move {
            if let Err(error) = agent::run(settings, shutdown).await {
                tracing::error!("the embedded runner ended: {error:#}");
            }
        });
        Ok(Self { handle, task })
    }

    /// Takes no more and finishes what it has.
    pub(super) async fn drain(self) {
        self.handle.drain();
        self.ended().await;
    }

    /// Cancels what it has.
    pub(super) async fn cancel(self) {
        self.handle.cancel();
        self.ended().await;
    }

    async fn ended(self) {
        if self.task.await.is_err() {
            tracing::error!("the embedded runner ended by a panic");
        }
    }
}

fn runner_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("runner")
}
