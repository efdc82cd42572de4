//! The command line: one subcommand a file. Data goes to stdout, progress and messages to stderr.

pub mod admin;
pub mod api;
pub mod auth;
pub mod browser;
pub mod check;
pub mod client;
pub mod completion;
pub mod credentials;
pub mod definitions;
pub mod delivery;
pub mod demo;
pub mod environment;
pub mod event;
pub mod exec;
pub mod exit;
pub mod follow;
pub mod gate;
pub mod git;
pub mod hook;
pub mod init;
pub mod inputs;
pub mod launch;
pub mod output;
pub mod plan;
pub mod progress;
pub mod repo;
pub mod run;
pub mod runner;
pub mod schedule;
pub mod serve;
pub mod server;
pub mod target;
pub mod up;

use clap::Parser;
pub use exit::{Exit, Failure};
use std::process::ExitCode;

/// A self-hosted GitHub App for CI/CD: pipelines in Lua, runners that dial out, results where people review.
#[derive(Debug, Parser)]
#[command(name = "rivet", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The hidden command that makes a `rivet` one job of a runner.
const JOB_COMMAND: &str = "runner-job";

/// Every command. Its arguments and its `run` are in the module of its name.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// See it all on this machine: a repository, a push, a run, with nothing installed but git
    Demo(demo::Args),
    /// Run server and runner in one process, with database and files in the data directory
    Up(up::Args),
    /// Run the control plane: webhooks, API, engine, web pages
    Serve(serve::Args),
    /// Start, register and look after runners
    Runner(runner::Args),
    /// Scaffold a pipeline, or what editors need
    Init(init::Args),
    /// Find what is wrong with definitions, without running anything
    Check(check::Args),
    /// Show what would run and why, and what would not and why
    Plan(plan::Args),
    /// Run a pipeline from the working tree, with the same engine and no server
    Exec(exec::Args),
    /// Start a run on the server; asks for missing inputs
    Launch(launch::Args),
    /// List, watch and steer runs of the server
    Run(run::Args),
    /// See what stands in each environment, lock it, roll it back
    Environment(environment::Args),
    /// What waits for people: list, look, approve, reject
    Gate(gate::Args),
    /// List repositories
    Repo(repo::RepoArgs),
    /// List schedules and when they fire next; pause, resume and run them
    Schedule(schedule::Args),
    /// List what the forge delivered, and what was decided
    Delivery(delivery::Args),
    /// Sign in to a server, sign out, see who you are
    Auth(auth::Args),
    /// Call the REST API
    Api(api::Args),
    /// Look after a server: migrate, doctor
    Admin(admin::Args),
    /// Print the completion script of a shell
    Completion(completion::Args),
    /// Print the manual page
    Man(completion::ManArgs),
    /// Print the version
    Version(completion::VersionArgs),
    /// What git runs after a push
    #[command(hide = true)]
    Hook(hook::Args),
}

impl Command {
    async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Demo(args) => demo::run(args).await,
            Self::Up(args) => up::run(args).await,
            Self::Serve(args) => serve::run(args).await,
            Self::Runner(args) => runner::run(args).await,
            Self::Hook(args) => hook::run(&args),
            Self::Init(args) => init::run(&args),
            Self::Check(args) => check::run(args).await,
            Self::Plan(args) => plan::run(args).await,
            Self::Exec(args) => exec::run(args).await,
            Self::Launch(args) => launch::run(args).await,
            Self::Run(args) => run::run(args).await,
            Self::Environment(args) => environment::run(args).await,
            Self::Gate(args) => gate::run(args).await,
            Self::Repo(args) => repo::run_repo(args).await,
            Self::Schedule(args) => schedule::run(args).await,
            Self::Delivery(args) => delivery::run(args).await,
            Self::Auth(args) => auth::run(args).await,
            Self::Api(args) => api::run(args).await,
            Self::Admin(args) => admin::run(args).await,
            Self::Completion(args) => completion::run(&args),
            Self::Man(args) => completion::run_man(&args),
            Self::Version(args) => completion::run_version(&args),
        }
    }
}

/// The program: reads the arguments, runs one command, and answers its exit code.
pub fn main() -> ExitCode {
    if let Some(code) = child_main() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, everything else is a mistake; clap knows which stream each belongs on.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    install_tls();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(Err(Failure::failed(format!("the runtime cannot be started: {error}")))),
    };
    let outcome = runtime.block_on(cli.command.run());
    // Blocking threads (a prompt, a file) must not hold up the end.
    runtime.shutdown_background();
    exit::report(outcome)
}

/// The commands Rivet starts itself, many times a minute: nothing is set up before them.
fn child_main() -> Option<ExitCode> {
    use crate::evaluator::child;
    if std::env::args_os().nth(1).is_some_and(|argument| argument == JOB_COMMAND) {
        return Some(::runner::job_main());
    }
    child::is_wanted().then(|| child::main(pipelines_spec::evaluate::evaluate))
}

/// Two TLS providers could be compiled in one day; the choice is made once, here, before anything connects.
fn install_tls() {
    // An error means that one was already installed, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
