//! `rivet launch PIPELINE`: starts a run on the server.

use super::client::{Client, List, Run, segment};
use super::inputs::{self, Given};
use super::target::{TargetArgs, parse_duration};
use super::{Exit, Failure, follow, output};
use pipelines_spec::plan::InputSpec;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Arguments of `rivet launch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline: its file's name without the ending
    pipeline: String,
    #[command(flatten)]
    target: TargetArgs,
    /// A branch, a tag or a commit; without it, the repository's default branch
    #[arg(long = "ref", value_name = "REF")]
    git_ref: Option<String>,
    #[command(flatten)]
    given: Given,
    /// Follow the run to its end; the exit code is its outcome
    #[arg(long, short)]
    watch: bool,
    /// With --watch: stop watching after this long: exit code 124
    #[arg(long, requires = "watch", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Print the run as JSON
    #[arg(long)]
    json: bool,
}

/// A pipeline, as far as launching needs it.
#[derive(Debug, Deserialize)]
struct Definition {
    pipeline: String,
    #[serde(default)]
    inputs: BTreeMap<String, InputSpec>,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let client = args.target.client()?;
    let repo = args.target.repo()?;
    let mut values = args.given.values()?;
    if output::may_prompt() {
        let specs = specs(&client, &repo, &args).await?;
        inputs::ask_for_missing(&specs, &mut values)?;
    }
    let mut body = json!({ "repo": repo, "pipeline": args.pipeline, "inputs": values });
    if let (Some(git_ref), Some(object)) = (&args.git_ref, body.as_object_mut()) {
        object.insert("ref".to_owned(), json!(git_ref));
    }
    let run: Run = client.post("/api/v1/runs", &body).await?;
    if !args.watch {
        if args.json {
            output::print_json(&run);
        } else {
            output::note(&format!("{} #{} started", output::clean(&run.pipeline), run.number));
            output::print_data(&format!("{} {}\n", run.id, output::clean(&run.url)));
        }
        return Ok(Exit::Done);
    }
    follow::run(&client, &run.id, &follow::Options { timeout: args.timeout, json: args.json }).await
}

/// The inputs the pipeline declares at the ref.
async fn specs(client: &Client, repo: &str, args: &Args) -> Result<BTreeMap<String, InputSpec>, Failure> {
    let query = args.git_ref.as_ref().map(|r| format!("?ref={}", segment(r))).unwrap_or_default();
    let list: List<Definition> = client.get(&format!("/api/v1/repos/{repo}/pipelines{query}")).await?;
    let names: Vec<String> = list.items.iter().map(|d| d.pipeline.clone()).collect();
    match list.items.into_iter().find(|d| d.pipeline == args.pipeline) {
        Some(definition) => Ok(definition.inputs),
        None => Err(inputs::unknown_pipeline(&args.pipeline, &names, repo)),
    }
}
