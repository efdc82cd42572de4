//! `rivet repo …`: the repositories a server knows.

use super::client::{List, ServerArgs};
use super::{Exit, Failure, output};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Arguments of `rivet repo`.
#[derive(Debug, clap::Args)]
pub struct RepoArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    verb: RepoVerb,
}

#[derive(Debug, clap::Subcommand)]
enum RepoVerb {
    /// List the repositories Rivet knows
    #[command(alias = "ls")]
    List(ListArgs),
}

/// How to print a list.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// How many
    #[arg(long, short = 'L', default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Repo {
    full_name: String,
    forge: String,
    default_branch: String,
    enabled: bool,
    url: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Runs `rivet repo`.
pub async fn run_repo(args: RepoArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let RepoVerb::List(list_args) = args.verb;
    let list: List<Repo> = client.get(&format!("/api/v1/repos?limit={}", list_args.limit)).await?;
    if list_args.json {
        output::print_json(&list);
        return Ok(Exit::Done);
    }
    if list.items.is_empty() {
        output::note("no repositories yet: install the GitHub App on one, or push to the local forge");
        return Ok(Exit::Done);
    }
    let row = |repo: &Repo| {
        let state = if repo.enabled { "enabled" } else { "disabled" };
        [&repo.full_name, &repo.forge, &repo.default_branch, state, &repo.url].map(output::clean).to_vec()
    };
    let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
    output::print_data(&output::table(&["REPOSITORY", "FORGE", "BRANCH", "STATE", "URL"], &rows));
    Ok(Exit::Done)
}
