//! `rivet completion`, `rivet man` and `rivet version`.

use super::{Cli, Exit, Failure, output};
use clap::CommandFactory as _;
use serde_json::json;

/// Arguments of `rivet completion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Arguments of `rivet man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Write a page for each command into this folder instead of one page to stdout
    #[arg(long, value_name = "DIR")]
    dir: Option<std::path::PathBuf>,
}

/// Arguments of `rivet version`.
#[derive(Debug, clap::Args)]
pub struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the script that completes `rivet` in a shell.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Cli::command(), "rivet", &mut script);
    output::print_data(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}

/// Prints the manual page, or writes one for each command.
pub fn run_man(args: &ManArgs) -> Result<Exit, Failure> {
    let failed = |e: std::io::Error| Failure::failed(format!("the manual cannot be written: {e}"));
    match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
        }
        None => {
            let mut page = vec![];
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
            output::print_data(&String::from_utf8_lossy(&page));
        }
    }
    Ok(Exit::Done)
}

/// Prints the version.
pub fn run_version(args: &VersionArgs) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        let protocol = pipelines_spec::protocol::VERSION;
        output::print_json(&json!({ "version": version, "runner_protocol": protocol }));
    } else {
        output::print_data(&format!("rivet {version}\n"));
    }
    Ok(Exit::Done)
}
