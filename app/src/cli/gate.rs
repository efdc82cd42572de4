//! `rivet gate …`: what waits for people, what one should see first, and the word itself.

use super::client::{Client, List, segment};
use super::target::TargetArgs;
use super::{Exit, Failure, output};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Arguments of `rivet gate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: TargetArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List what waits for people
    #[command(alias = "ls")]
    List {
        /// Of every repository
        #[arg(long, short)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what is behind a gate: commits, definitions, secrets, who may approve
    Show(One),
    /// Approve a stage, for exactly the commit named or shown
    Approve(Word),
    /// Reject a stage
    Reject(Word),
}

#[derive(Debug, clap::Args)]
struct One {
    /// The run: its id, its #number, or its address; without it, the newest of this branch
    run: Option<String>,
    /// The stage; may be left out where only one waits
    #[arg(long, short)]
    stage: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Word {
    #[command(flatten)]
    one: One,
    /// The commit you reviewed, at least 12 digits; what is named is checked
    #[arg(long)]
    sha: Option<String>,
    /// Why, for the record
    #[arg(long, short = 'm')]
    comment: Option<String>,
}

/// A gate, as `GET /api/v1/gates` tells it.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
struct Gate {
    run: String,
    number: i64,
    repo: String,
    pipeline: String,
    stage: String,
    sha: String,
    reason: String,
    url: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let target = args.target;
    let client = target.client()?;
    match args.verb {
        Verb::List { all, json } => list(&target, &client, all, json).await,
        Verb::Show(one) => show(&target, &client, &one).await,
        Verb::Approve(word) => decide(&target, &client, &word, "approve").await,
        Verb::Reject(word) => decide(&target, &client, &word, "reject").await,
    }
}

async fn list(target: &TargetArgs, client: &Client, all: bool, json: bool) -> Result<Exit, Failure> {
    let mut path = "/api/v1/gates?limit=100".to_owned();
    if target.repo.is_some() || !all {
        path.push_str(&format!("&repo={}", segment(&target.repo()?)));
    }
    let gates: List<Gate> = client.get(&path).await?;
    if json {
        output::print_json(&gates);
        return Ok(Exit::Done);
    }
    if gates.items.is_empty() {
        output::note("nothing waits for anybody");
        return Ok(Exit::Done);
    }
    let row = |gate: &Gate| {
        let sha = gate.sha.get(..12).unwrap_or(&gate.sha);
        let run = format!("{}#{}", gate.repo, gate.number);
        [&run, &gate.pipeline, &gate.stage, sha, &gate.reason, &gate.url].map(output::clean).to_vec()
    };
    let rows: Vec<Vec<String>> = gates.items.iter().map(row).collect();
    output::print_data(&output::table(&["RUN", "PIPELINE", "STAGE", "COMMIT", "WAITS FOR", "URL"], &rows));
    Ok(Exit::Done)
}

/// The run and the stage that are meant.
async fn meant(target: &TargetArgs, client: &Client, one: &One) -> Result<(String, String), Failure> {
    let run = target.run(client, one.run.as_deref()).await?;
    let run = client.run(&run.id).await?;
    if let Some(stage) = &one.stage {
        return Ok((run.id, stage.clone()));
    }
    let waits: Vec<&str> =
        run.stages.iter().filter(|s| s.state == "awaiting_approval").map(|s| s.name.as_str()).collect();
    match waits.as_slice() {
        [stage] => Ok((run.id.clone(), (*stage).to_owned())),
        [] => {
            // What was turned away or ran out of time is said by the exit code too.
            let shut = run.stages.iter().find(|s| s.error.as_ref().is_some_and(|e| e.class.to_string() == "rejected"));
            let why = shut.map_or("nothing in this run waits for approval", |stage| &stage.reason);
            let exit = if shut.is_some() { Exit::Rejected } else { Exit::Failed };
            Err(Failure::new(exit, output::clean(why)))
        }
        many => Err(Failure::usage(format!("several stages wait; name one with --stage: {}", many.join(", ")))),
    }
}

async fn show(target: &TargetArgs, client: &Client, one: &One) -> Result<Exit, Failure> {
    let (run, stage) = meant(target, client, one).await?;
    let review: Value = client.get(&format!("/api/v1/runs/{}/gates/{}", segment(&run), segment(&stage))).await?;
    if one.json {
        output::print_json(&review);
    } else {
        output::print_data(&shown(&review));
    }
    Ok(Exit::Done)
}

/// A gate for people.
fn shown(review: &Value) -> String {
    let text = |key: &str| output::clean(review[key].as_str().unwrap_or_default());
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(output::clean).collect()
    };
    let mut out = format!("{} / {}  {}\n{}\n\n", text("pipeline"), text("stage"), text("head"), text("reason"));
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("{name:<12} {value}\n"));
        }
    };
    line("environment", text("environment"));
    line("secrets", list(&review["secrets"]).join(", "));
    let images = [text("image_before"), text("image")];
    line("image", if images[0] == images[1] || images[0].is_empty() { images[1].clone() } else { images.join(" -> ") });
    line("rollback", text("rollback"));
    let reviewers = list(&review["who"]["reviewers"]);
    let who = if reviewers.is_empty() { "anyone who may write".to_owned() } else { reviewers.join(", ") };
    line("reviewers", format!("{who} ({} of {})", review["who"]["given"], review["who"]["count"]));
    line("policy", list(&review["who"]["policy_reviewers"]).join(", "));
    if let Some(since) = review["since"].as_object() {
        let what = output::clean(since["what"].as_str().unwrap_or_default());
        out.push_str(&format!("\n{} commits since {what}\n", since["total"]));
        for commit in since["commits"].as_array().into_iter().flatten() {
            let sha = commit[0].as_str().and_then(|sha| sha.get(..12)).unwrap_or_default();
            out.push_str(&format!(
                "  {} {}\n",
                output::clean(sha),
                output::clean(commit[1].as_str().unwrap_or_default())
            ));
        }
    }
    for change in list(&review["changes"]) {
        out.push_str(&format!("\n  {change}"));
    }
    for file in review["definitions"].as_array().into_iter().flatten() {
        out.push_str(&format!("\n{}\n", output::clean(file["path"].as_str().unwrap_or_default())));
        for row in file["diff"].as_str().unwrap_or_default().lines() {
            out.push_str(&format!("{}\n", output::clean(row)));
        }
    }
    for what in list(&review["unknown"]) {
        out.push_str(&format!("\n{what}\n"));
    }
    out
}

async fn decide(target: &TargetArgs, client: &Client, word: &Word, decision: &str) -> Result<Exit, Failure> {
    let (run, stage) = meant(target, client, &word.one).await?;
    let body = json!({ "stage": stage, "decision": decision, "sha": word.sha, "comment": word.comment });
    let _: Value = client.post(&format!("/api/v1/runs/{}/approvals", segment(&run)), &body).await?;
    let run = client.run(&run).await?;
    if word.one.json {
        output::print_json(&run);
    } else {
        let reason = run.stages.iter().find(|s| s.name == stage).map_or(&run.reason, |s| &s.reason);
        output::note(&format!("{}: {}", output::clean(&stage), output::clean(reason)));
        output::print_data(&format!("{} {}\n", run.id, output::clean(&run.url)));
    }
    Ok(Exit::Done)
}
