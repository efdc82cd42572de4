//! `rivet run why`: what was decided about a commit, a pull request or a delivery, and how a run came to be.

use super::shown;
use crate::cli::client::{Client, List, Run, segment};
use crate::cli::git::WorkTree;
use crate::cli::target::TargetArgs;
use crate::cli::{Exit, Failure, output};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What is asked about.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A run: its id, its #number, or its address; with nothing said, the commit at hand
    #[arg(conflicts_with_all = ["sha", "pr", "delivery"])]
    run: Option<String>,
    /// A commit, at least its first 7 digits
    #[arg(long, conflicts_with_all = ["pr", "delivery"])]
    sha: Option<String>,
    /// A pull request's number
    #[arg(long, conflicts_with = "delivery")]
    pr: Option<u64>,
    /// A delivery's id
    #[arg(long)]
    delivery: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A stored decision, as `GET /api/v1/why` tells it.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Decision {
    pipeline: Option<String>,
    outcome: String,
    reason: String,
    file: Option<String>,
    trust: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Runs the command.
pub(super) async fn run(target: &TargetArgs, client: &Client, args: &Args) -> Result<Exit, Failure> {
    let (what, query, run) = asked(target, client, args).await?;
    let decisions: List<Decision> = client.get(&format!("/api/v1/why?{query}")).await?;
    if args.json {
        let sha = run.as_ref().map(|run| run.sha.clone()).or_else(|| args.sha.clone());
        output::print_json(&json!({ "run": run, "sha": sha, "about": what, "decisions": decisions.items }));
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for decision in &decisions.items {
        let pipeline = decision.pipeline.as_deref().unwrap_or("(all)");
        let file = decision.file.as_ref().map(|file| format!(" [{file}]")).unwrap_or_default();
        let trust = decision.trust.as_deref().filter(|trust| *trust != "trusted");
        let trust = trust.map(|trust| format!(" (untrusted: {trust})")).unwrap_or_default();
        let line = format!("{pipeline}: {}: {}{file}{trust}", decision.outcome, decision.reason);
        text.push_str(&format!("{}\n", output::clean(&line)));
    }
    if let Some(run) = &run {
        text.push_str(&format!("\n{}", shown(run, Timestamp::now())));
    } else if decisions.items.is_empty() {
        let what =
            format!("the server decided nothing about {what}; was it pushed? `rivet delivery list` shows what arrived");
        return Err(Failure::new(Exit::NotFound, what));
    }
    output::print_data(&text);
    Ok(Exit::Done)
}

/// What it is about, how the server is asked, and the run where one is named.
async fn asked(target: &TargetArgs, client: &Client, args: &Args) -> Result<(String, String, Option<Run>), Failure> {
    if let Some(delivery) = &args.delivery {
        return Ok((format!("delivery {delivery}"), format!("delivery={}", segment(delivery)), None));
    }
    if let Some(number) = args.pr {
        let repo = target.repo()?;
        let query = format!("repo={}&pull_request={number}", segment(&repo));
        return Ok((format!("pull request {number} of {repo}"), query, None));
    }
    // A run that is named is explained with its commit's decisions; else the commit is.
    let run = match &args.run {
        Some(name) => Some(target.run(client, Some(name)).await?),
        None => None,
    };
    let sha = match (&run, &args.sha) {
        (Some(run), _) => run.sha.clone(),
        (None, Some(sha)) => sha.clone(),
        (None, None) => {
            WorkTree::here()?.head().ok_or_else(|| Failure::usage("there is no commit here; name a run"))?
        }
    };
    let repo = run.as_ref().map_or_else(|| target.repo(), |run| Ok(run.repo.clone()))?;
    let query = format!("repo={}&sha={}", segment(&repo), segment(&sha));
    Ok((format!("{} in {repo}", sha.get(..8).unwrap_or(&sha)), query, run))
}
