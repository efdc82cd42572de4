//! The runner alone, for build machines.

use clap::{Parser, Subcommand};
use runner::cli::{self, RunnerArgs, StartArgs};
use std::ffi::OsString;
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
    let filter = EnvFilter::try_from_env("RIVET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match serve(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rivet-runner: {error:#}");
            ExitCode::FAILURE
        }
    }
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
    Ok(vec![std::env::current_exe()?.into(), "run-job".into()])
}
