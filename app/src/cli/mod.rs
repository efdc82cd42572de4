//! The command line: one subcommand a file. Data goes to stdout, progress and messages to stderr.

pub mod client;
pub mod credentials;
pub mod exit;
pub mod follow;
pub mod output;
pub mod progress;
pub mod serve;

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

/// Every command. Its arguments and its `run` are in the module of its name.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the control plane: webhooks, API, engine, web pages
    Serve(serve::Args),
}

impl Command {
    async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Serve(args) => serve::run(args).await,
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
    // The language fills in what evaluates; until then no definition is evaluated at all.
    None
}

/// Two TLS providers could be compiled in one day; the choice is made once, here, before anything connects.
fn install_tls() {
    // An error means that one was already installed, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
