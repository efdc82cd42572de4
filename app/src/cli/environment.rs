//! `rivet environment …`: what stands where, locks, and going back.

use super::client::{Client, List, Run, segment};
use super::target::TargetArgs;
use super::{Exit, Failure, output};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Arguments of `rivet environment`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: TargetArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the repository's environments and what stands in each
    #[command(alias = "ls")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show an environment and its ledger, newest first
    Show {
        #[command(flatten)]
        one: One,
        /// How many deployments
        #[arg(long, short = 'L', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// Lock an environment: nothing is deployed to it until it is unlocked
    Lock {
        #[command(flatten)]
        one: One,
        /// Why, for those who will wait
        #[arg(long, short)]
        reason: String,
    },
    /// Unlock an environment: what waits for it goes on
    Unlock(One),
    /// Make an earlier deployment again, under its own approval
    Rollback {
        #[command(flatten)]
        one: One,
        /// The number of the deployment; without it, the one that stood before the last
        #[arg(long, value_name = "N")]
        to: Option<i64>,
        /// Go through the lock that is there now
        #[arg(long)]
        through_lock: bool,
    },
}

/// Which environment, and how to print it.
#[derive(Debug, clap::Args)]
struct One {
    /// Its name
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Environment {
    name: String,
    lock: Option<Lock>,
    current: Option<Deployment>,
    last: Option<Deployment>,
    forge_error: Option<String>,
    url: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Lock {
    by: String,
    reason: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Deployment {
    number: i64,
    state: String,
    reason: String,
    stage: String,
    sha: String,
    actor: String,
    approvers: Vec<String>,
    rollback_to: Option<i64>,
    started_at: Option<Timestamp>,
    url: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let (target, client) = (&args.target, args.target.client()?);
    match args.verb {
        Verb::List { json } => list(target, &client, json).await,
        Verb::Show { one, limit } => show(target, &client, &one, limit).await,
        Verb::Lock { one, reason } => act(target, &client, &one, "lock", &json!({ "reason": reason })).await,
        Verb::Unlock(one) => act(target, &client, &one, "unlock", &json!({})).await,
        Verb::Rollback { one, to, through_lock } => {
            let body = json!({ "to": to, "through_lock": through_lock });
            let run: Run = client.post(&address(target, &one.name, "/rollback")?, &body).await?;
            if one.json {
                output::print_json(&run);
            } else {
                output::note(&format!("run #{} rolls {} back: {}", run.number, one.name, output::clean(&run.reason)));
                output::print_data(&format!("{} {}\n", run.id, output::clean(&run.url)));
            }
            Ok(Exit::Done)
        }
    }
}

fn address(target: &TargetArgs, name: &str, verb: &str) -> Result<String, Failure> {
    Ok(format!("/api/v1/environments/{}{verb}?repo={}", segment(name), segment(&target.repo()?)))
}

async fn list(target: &TargetArgs, client: &Client, json: bool) -> Result<Exit, Failure> {
    let repo = target.repo()?;
    let list: List<Environment> = client.get(&format!("/api/v1/environments?repo={}", segment(&repo))).await?;
    if json {
        output::print_json(&list);
        return Ok(Exit::Done);
    }
    if list.items.is_empty() {
        output::note(&format!("{repo} has no environments; a stage with `environment = \"production\"` makes one"));
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
    output::print_data(&output::table(&["ENVIRONMENT", "STANDS", "COMMIT", "LAST", "LOCK", "URL"], &rows));
    Ok(Exit::Done)
}

fn row(environment: &Environment) -> Vec<String> {
    let current = environment.current.as_ref();
    let number = current.map_or_else(|| "-".to_owned(), |d| format!("#{}", d.number));
    let sha = current.map(|d| short(&d.sha)).unwrap_or_default();
    let last =
        environment.last.as_ref().map_or_else(String::new, |d| format!("#{} {}", d.number, output::state(&d.state)));
    vec![output::clean(&environment.name), number, sha, last, lock_text(environment), output::clean(&environment.url)]
}

fn lock_text(environment: &Environment) -> String {
    environment
        .lock
        .as_ref()
        .map_or_else(|| "open".to_owned(), |lock| output::clean(&format!("locked by {}: {}", lock.by, lock.reason)))
}

fn short(sha: &str) -> String {
    output::clean(sha.get(..8).unwrap_or(sha))
}

async fn show(target: &TargetArgs, client: &Client, one: &One, limit: u32) -> Result<Exit, Failure> {
    let environment: Environment = client.get(&address(target, &one.name, "")?).await?;
    let path = format!("{}&limit={limit}", address(target, &one.name, "/deployments")?);
    let ledger: List<Deployment> = client.get(&path).await?;
    if one.json {
        output::print_json(&json!({ "environment": environment, "deployments": ledger.items }));
        return Ok(Exit::Done);
    }
    let mut text = format!("{}  {}\n{}\n", output::clean(&environment.name), lock_text(&environment), environment.url);
    if let Some(error) = &environment.forge_error {
        text.push_str(&format!("{}\n", output::clean(error)));
    }
    text.push('\n');
    let now = Timestamp::now();
    let line = |d: &Deployment| {
        let again = d.rollback_to.map(|n| format!(" (#{n} again)")).unwrap_or_default();
        let who = match d.approvers.is_empty() {
            true => d.actor.clone(),
            false => format!("{}, approved by {}", d.actor, d.approvers.join(", ")),
        };
        let when = d.started_at.map(|then| output::ago(then, now)).unwrap_or_default();
        let stage = output::clean(&format!("{}{again}", d.stage));
        let number = format!("#{}", d.number);
        let (who, why) = (output::clean(&who), output::clean(&d.reason));
        vec![number, output::state(&d.state), stage, short(&d.sha), who, when, why, output::clean(&d.url)]
    };
    let rows: Vec<Vec<String>> = ledger.items.iter().map(line).collect();
    let head = ["DEPLOYMENT", "STATE", "STAGE", "COMMIT", "WHO", "WHEN", "WHY", "URL"];
    text.push_str(&output::table(&head, &rows));
    output::print_data(&text);
    Ok(Exit::Done)
}

async fn act(target: &TargetArgs, client: &Client, one: &One, verb: &str, body: &Value) -> Result<Exit, Failure> {
    let environment: Environment = client.post(&address(target, &one.name, &format!("/{verb}"))?, body).await?;
    if one.json {
        output::print_json(&environment);
    } else {
        output::note(&format!("{}: {}", output::clean(&environment.name), lock_text(&environment)));
        output::print_data(&format!("{}\n", output::clean(&environment.url)));
    }
    Ok(Exit::Done)
}
