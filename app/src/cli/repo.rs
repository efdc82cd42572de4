//! `rivet repo …` and `rivet delivery …`: what the server knows and what it heard.

use super::client::{Client, List, ServerArgs, segment};
use super::{Exit, Failure, output};
use crate::model::time::Timestamp;
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

/// Arguments of `rivet delivery`.
#[derive(Debug, clap::Args)]
pub struct DeliveryArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    verb: DeliveryVerb,
}

#[derive(Debug, clap::Subcommand)]
enum DeliveryVerb {
    /// List what the forge delivered, newest first
    #[command(alias = "ls")]
    List(ListArgs),
    /// Show one delivery and what was decided about it
    Show {
        /// Its id
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
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

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Delivery {
    id: String,
    event: String,
    #[serde(alias = "repo_id")]
    repo: Option<String>,
    state: String,
    reason: Option<String>,
    received_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
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

/// Runs `rivet delivery`.
pub async fn run_delivery(args: DeliveryArgs) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    match args.verb {
        DeliveryVerb::List(list_args) => deliveries(&client, &list_args).await,
        DeliveryVerb::Show { id, json } => delivery(&client, &id, json).await,
    }
}

async fn deliveries(client: &Client, args: &ListArgs) -> Result<Exit, Failure> {
    let list: List<Delivery> = client.get(&format!("/api/v1/deliveries?limit={}", args.limit)).await?;
    if args.json {
        output::print_json(&list);
        return Ok(Exit::Done);
    }
    if list.items.is_empty() {
        output::note("nothing was delivered yet; is the webhook's address right?");
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let row = |d: &Delivery| {
        let when = d.received_at.map(|then| output::ago(then, now)).unwrap_or_default();
        let texts =
            [&d.state, &d.id, &d.event, d.repo.as_deref().unwrap_or(""), &when, d.reason.as_deref().unwrap_or("")];
        texts.map(output::clean).to_vec()
    };
    let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
    output::print_data(&output::table(&["STATE", "DELIVERY", "EVENT", "REPOSITORY", "RECEIVED", "REASON"], &rows));
    Ok(Exit::Done)
}

async fn delivery(client: &Client, id: &str, json: bool) -> Result<Exit, Failure> {
    let delivery: Delivery = client.get(&format!("/api/v1/deliveries/{}", segment(id))).await?;
    let why: List<Map<String, Value>> = client.get(&format!("/api/v1/why?delivery={}", segment(&delivery.id))).await?;
    if json {
        output::print_json(&serde_json::json!({ "delivery": delivery, "decisions": why.items }));
        return Ok(Exit::Done);
    }
    let mut text = format!("{} {} {}\n", delivery.id, delivery.event, delivery.repo.as_deref().unwrap_or(""));
    let reason = delivery.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    text.push_str(&format!("{}{reason}\n", delivery.state));
    for decision in &why.items {
        let field = |name: &str| decision.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
        let pipeline = if field("pipeline").is_empty() { "(all)".to_owned() } else { field("pipeline") };
        text.push_str(&format!("  {pipeline}: {}: {}\n", field("outcome"), field("reason")));
    }
    text.lines().for_each(|line| output::print_data(&format!("{}\n", output::clean(line))));
    Ok(Exit::Done)
}
