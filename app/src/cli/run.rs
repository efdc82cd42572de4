//! `rivet run …`: runs of a server.

mod logs;
mod reports;
mod why;

use super::client::{Client, List, Run, segment};
use super::target::{TargetArgs, parse_duration};
use super::{Exit, Failure, follow, output};
use crate::model::time::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// How long `watch` waits for a run to appear.
const APPEARS_WITHIN: Duration = Duration::from_secs(60);

/// Arguments of `rivet run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: TargetArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List runs, newest first
    #[command(alias = "ls")]
    List(ListArgs),
    /// Show a run and its stages
    View(One),
    /// Follow a run to its end; the exit code is its outcome
    Watch {
        #[command(flatten)]
        one: One,
        /// Stop watching after this long (90s, 10m, 2h): exit code 124
        #[arg(long, value_parser = parse_duration)]
        timeout: Option<Duration>,
    },
    /// Print the log of a run's stages
    Logs(logs::Args),
    /// Stop a run
    Cancel(One),
    /// Try the failed stages again
    Retry {
        #[command(flatten)]
        one: One,
        /// Only this stage
        #[arg(long)]
        stage: Option<String>,
    },
    /// Start the same again as a new run
    Rerun(One),
    /// Undo what a completed run did: its stages' rollbacks, the last one first
    Rollback {
        #[command(flatten)]
        one: One,
        /// Go through the locks of environments
        #[arg(long)]
        through_lock: bool,
    },
    /// Tell why something did or did not run
    Why(why::Args),
    /// Show what the forge was told about a run, and what not yet
    Report {
        #[command(flatten)]
        one: One,
        /// Have everything told once more
        #[arg(long)]
        again: bool,
    },
    /// Open a run's page in a browser
    Open(One),
}

/// Which run, and how to print it.
#[derive(Debug, Clone, clap::Args)]
pub struct One {
    /// Its id, its #number, or its address; without it, the newest of this branch
    pub run: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Runs of every branch and repository
    #[arg(long, short)]
    all: bool,
    /// Only this branch
    #[arg(long, short)]
    branch: Option<String>,
    /// Only this state, such as failed
    #[arg(long)]
    state: Option<String>,
    /// Only this pipeline
    #[arg(long, short)]
    pipeline: Option<String>,
    /// Only this kind of event, such as push
    #[arg(long)]
    event: Option<String>,
    /// How many
    #[arg(long, short = 'L', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let target = args.target;
    let client = target.client()?;
    match args.verb {
        Verb::List(args) => list(&target, &client, &args).await,
        Verb::View(one) => view(&target, &client, &one).await,
        Verb::Watch { one, timeout } => {
            let run = target.run_soon(&client, one.run.as_deref(), APPEARS_WITHIN).await?;
            follow::run(&client, &run.id, &follow::Options { timeout, json: one.json }).await
        }
        Verb::Logs(args) => logs::run(&target, &client, &args).await,
        Verb::Cancel(one) => act(&target, &client, &one, "cancel", &json!({})).await,
        Verb::Retry { one, stage } => {
            let body = stage.map_or(json!({}), |stage| json!({ "stage": stage }));
            act(&target, &client, &one, "retry", &body).await
        }
        Verb::Rerun(one) => act(&target, &client, &one, "rerun", &json!({})).await,
        Verb::Rollback { one, through_lock } => {
            act(&target, &client, &one, "rollback", &json!({ "through_lock": through_lock })).await
        }
        Verb::Why(args) => why::run(&target, &client, &args).await,
        Verb::Report { one, again } => reports::run(&target, &client, &one, again).await,
        Verb::Open(one) => open(&target, &client, &one).await,
    }
}

async fn list(target: &TargetArgs, client: &Client, args: &ListArgs) -> Result<Exit, Failure> {
    let mut path = format!("/api/v1/runs?limit={}", args.limit);
    let mut filter = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(value)));
        }
    };
    let repo = match (&target.repo, args.all) {
        (None, true) => None,
        _ => Some(target.repo()?),
    };
    filter("repo", &repo);
    filter("branch", &args.branch);
    filter("state", &args.state);
    filter("pipeline", &args.pipeline);
    filter("event", &args.event);
    let list: List<Run> = client.get(&path).await?;
    if args.json {
        output::print_json(&list);
        return Ok(Exit::Done);
    }
    if list.items.is_empty() {
        output::note("no runs yet; a push starts one, or `rivet launch PIPELINE`");
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = list.items.iter().map(|run| row(run, now, repo.is_none())).collect();
    output::print_data(&output::table(
        &["STATE", "RUN", "PIPELINE", "BRANCH", "TITLE", "STARTED", "TOOK", "URL"],
        &rows,
    ));
    Ok(Exit::Done)
}

fn row(run: &Run, now: Timestamp, with_repo: bool) -> Vec<String> {
    let title: String = output::clean(&run.title).chars().take(40).collect();
    let repo = if with_repo { format!("{} ", run.repo) } else { String::new() };
    let took = run.started_at.map(|start| output::duration(run.finished_at.unwrap_or(now).since(start)));
    let created = run.created_at.map(|then| output::ago(then, now));
    vec![
        output::state(&run.state),
        format!("{}#{}", output::clean(&repo), run.number),
        output::clean(&run.pipeline),
        output::clean(run.branch()),
        title,
        created.unwrap_or_default(),
        took.unwrap_or_default(),
        output::clean(&run.url),
    ]
}

async fn view(target: &TargetArgs, client: &Client, one: &One) -> Result<Exit, Failure> {
    let run = target.run(client, one.run.as_deref()).await?;
    let run = client.run(&run.id).await?;
    if one.json {
        output::print_json(&run);
    } else {
        output::print_data(&shown(&run, Timestamp::now()));
    }
    Ok(Exit::Done)
}

/// A run for people.
fn shown(run: &Run, now: Timestamp) -> String {
    let mut text =
        format!("{}\n\n{}  {}\n", follow::headline(run), output::state(&run.state), output::clean(&run.reason));
    let by = format!("{} by {}", run.event, run.actor);
    let when = run.created_at.map(|then| output::ago(then, now)).unwrap_or_default();
    text.push_str(&format!("{}, {when}\n\n", output::clean(&by)));
    let rows: Vec<Vec<String>> = run
        .stages
        .iter()
        .map(|stage| {
            let tries =
                if stage.attempt > 1 { format!("{}/{}", stage.attempt, stage.max_attempts) } else { String::new() };
            let took = stage.took(now).map(output::duration).unwrap_or_default();
            let why = stage.error.as_ref().map_or(&stage.reason, |e| &e.message);
            vec![output::state(&stage.state), output::clean(&stage.name), took, tries, output::clean(why)]
        })
        .collect();
    text.push_str(&output::table(&["STATE", "STAGE", "TOOK", "TRY", "WHY"], &rows));
    if run.stages.iter().any(|s| s.state == "failed") {
        text.push_str(&format!("\nsee why: rivet run logs {}\n", run.id));
    }
    text
}

async fn act(target: &TargetArgs, client: &Client, one: &One, verb: &str, body: &Value) -> Result<Exit, Failure> {
    let run = target.run(client, one.run.as_deref()).await?;
    let answer: Value = client.post(&format!("/api/v1/runs/{}/{verb}", segment(&run.id)), body).await?;
    // A re-run answers with the new run, the others with the same one.
    let id = answer.get("id").and_then(Value::as_str).unwrap_or(&run.id).to_owned();
    let run = client.run(&id).await?;
    if one.json {
        output::print_json(&run);
    } else {
        output::note(&format!("{} #{}: {}", output::clean(&run.pipeline), run.number, output::clean(&run.reason)));
        output::print_data(&format!("{} {}\n", run.id, output::clean(&run.url)));
    }
    Ok(Exit::Done)
}

async fn open(target: &TargetArgs, client: &Client, one: &One) -> Result<Exit, Failure> {
    let run = target.run(client, one.run.as_deref()).await?;
    output::print_data(&format!("{}\n", output::clean(&run.url)));
    super::browser::open(&run.url);
    Ok(Exit::Done)
}
