//! `rivet schedule …`: when pipelines fire next, and pause, resume, run now.

use super::client::{Client, List, Run, segment};
use super::target::TargetArgs;
use super::{Exit, Failure, output};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Arguments of `rivet schedule`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List schedules with the next three times each fires
    #[command(alias = "ls")]
    List(ListArgs),
    /// Let a schedule fire no more until it is resumed
    Pause(One),
    /// Let a paused schedule fire again, from its next time on
    Resume(One),
    /// Start a run of a schedule now, at the head of the default branch and with its inputs
    Run(One),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct One {
    /// The schedule's id, or a pipeline of this repository that has one schedule
    schedule: String,
    #[command(flatten)]
    target: TargetArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Schedule {
    id: String,
    repo: String,
    pipeline: String,
    cron: String,
    timezone: String,
    state: String,
    reason: String,
    next: Vec<String>,
    next_local: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Last>,
    url: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Last {
    state: String,
    reason: String,
    run_number: Option<i64>,
    run_state: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Verb::List(args) => list(&args).await,
        Verb::Pause(one) => act(&one, "pause").await,
        Verb::Resume(one) => act(&one, "resume").await,
        Verb::Run(one) => start(&one).await,
    }
}

/// Every schedule, page by page.
async fn schedules(client: &Client, repo: Option<&str>) -> Result<Vec<Schedule>, Failure> {
    let of_repo = repo.map(|repo| format!("&repo={}", segment(repo))).unwrap_or_default();
    let (mut all, mut after) = (vec![], String::new());
    loop {
        let page: List<Schedule> = client.get(&format!("/api/v1/schedules?limit=100{of_repo}{after}")).await?;
        all.extend(page.items);
        match page.next_cursor {
            Some(cursor) => after = format!("&cursor={}", segment(&cursor)),
            None => return Ok(all),
        }
    }
}

async fn list(args: &ListArgs) -> Result<Exit, Failure> {
    let client = args.target.client()?;
    // Of every repository, where none is named.
    let repo = args.target.repo.as_ref().map(|_| args.target.repo()).transpose()?;
    let found = schedules(&client, repo.as_deref()).await?;
    if args.json {
        output::print_json(&List { items: found, next_cursor: None });
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        output::note(
            "no schedules: a pipeline on the default branch has one by on = { schedule = { cron = \"0 3 * * *\" } }",
        );
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    for schedule in &found {
        text.push_str(&described(schedule));
    }
    output::print_data(&text);
    Ok(Exit::Done)
}

/// A schedule in some lines: what it is, when it fires, how it stands.
fn described(schedule: &Schedule) -> String {
    let clean = |text: &str| output::clean(text);
    let (repo, pipeline) = (clean(&schedule.repo), clean(&schedule.pipeline));
    let (cron, zone, state) = (clean(&schedule.cron), clean(&schedule.timezone), clean(&schedule.state));
    let mut text = format!("{state} {repo} {pipeline} '{cron}' ({zone}) {}\n", clean(&schedule.id));
    for (local, utc) in schedule.next_local.iter().zip(&schedule.next) {
        text.push_str(&format!("  next {} ({})\n", clean(local), clean(utc)));
    }
    if let Some(last) = &schedule.last {
        let run = match (last.run_number, &last.run_state) {
            (Some(number), Some(state)) => format!(" run {number}, which is {}", clean(state)),
            _ => String::new(),
        };
        text.push_str(&format!("  last {}{run}: {}\n", clean(&last.state), clean(&last.reason)));
    }
    text.push_str(&format!("  {} {}\n", clean(&schedule.reason), clean(&schedule.url)));
    text
}

/// The id of the schedule that is meant.
async fn id_of(client: &Client, one: &One) -> Result<String, Failure> {
    // An id is told apart from a pipeline by its form, so that it needs no repository.
    let is_id = one.schedule.len() == 26 && one.schedule.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_id {
        return Ok(one.schedule.clone());
    }
    let repo = one.target.repo()?;
    let mut found = schedules(client, Some(&repo)).await?;
    found.retain(|schedule| schedule.pipeline == one.schedule);
    match found.as_slice() {
        [] => {
            let why = format!("pipeline '{}' of {repo} has no schedule; 'rivet schedule list' shows all", one.schedule);
            Err(Failure::new(Exit::NotFound, why))
        }
        [only] => Ok(only.id.clone()),
        several => {
            let ids: Vec<String> = several.iter().map(|s| format!("{} ('{}' {})", s.id, s.cron, s.timezone)).collect();
            let why =
                format!("pipeline '{}' has several schedules; name one by its id: {}", one.schedule, ids.join(", "));
            Err(Failure::usage(why))
        }
    }
}

async fn act(one: &One, verb: &str) -> Result<Exit, Failure> {
    let client = one.target.client()?;
    let id = id_of(&client, one).await?;
    let answer: Schedule = client.post(&format!("/api/v1/schedules/{}/{verb}", segment(&id)), &json!({})).await?;
    if one.json {
        output::print_json(&answer);
    } else {
        output::print_data(&described(&answer));
    }
    Ok(Exit::Done)
}

async fn start(one: &One) -> Result<Exit, Failure> {
    let client = one.target.client()?;
    let id = id_of(&client, one).await?;
    let run: Run = client.post(&format!("/api/v1/schedules/{}/run", segment(&id)), &json!({})).await?;
    if one.json {
        output::print_json(&run);
    } else {
        output::note(&format!("{} #{} started", output::clean(&run.pipeline), run.number));
        output::print_data(&format!("{} {}\n", run.id, output::clean(&run.url)));
    }
    Ok(Exit::Done)
}
