//! The runner alone, for build machines.

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use runner::cli::{self, RunnerArgs, StartArgs};
use runner::config::own_program;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Claims jobs from a Rivet server and executes them.
#[derive(Parser)]
#[command(name = "rivet-runner", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Register where needed, then run jobs until told to end (SIGTERM: finish first; twice, or SIGQUIT: cancel).
    Start(StartArgs),
    /// Exchange a registration token for this machine's own credentials.
    Register(RunnerArgs),
    /// Look whether this machine can be a runner.
    Doctor(RunnerArgs),
    /// Run one job; the runner calls this itself.
    #[command(hide = true)]
    RunJob,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if matches!(arguments.command, Command::RunJob) {
        // Before anything else: this process must stay small and have one thread until it has its session.
        return runner::job_main();
    }
    let started = start_logging();
    match started.and_then(|()| serve(arguments.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rivet-runner: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Text on a terminal, JSON elsewhere, unless said otherwise.
fn start_logging() -> anyhow::Result<()> {
    let filter = match std::env::var("RIVET_LOG") {
        Ok(text) => {
            EnvFilter::try_new(&text).with_context(|| format!("RIVET_LOG: '{text}' is no filter, such as info"))?
        }
        Err(_) => EnvFilter::new("info"),
    };
    let json = match std::env::var("RIVET_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        Ok(other) => bail!("RIVET_LOG_FORMAT: '{other}' is neither text nor json"),
        Err(_) => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        builder.json().init();
    } else {
        builder.init();
    }
    Ok(())
}

#[tokio::main]
async fn serve(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Start(arguments) => cli::start(&arguments, job_command()?).await,
        Command::Register(arguments) => cli::register(&arguments).await,
        Command::Doctor(arguments) => Ok(runner::doctor::report(&arguments.config(Vec::new()).await?).await),
        Command::RunJob => Ok(runner::job_main()),
    }
}

fn job_command() -> anyhow::Result<Vec<OsString>> {
    Ok(vec![own_program()?.into(), "run-job".into()])
}
