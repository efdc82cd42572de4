//! `rivet delivery …`: what the forge delivered, and what was decided about it.

use super::client::{Client, List, ServerArgs, segment};
use super::{Exit, Failure, output};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Arguments of `rivet delivery`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List what the forge delivered, newest first
    #[command(alias = "ls")]
    List(ListArgs),
    /// Show one delivery and what was decided about it
    Show(One),
    /// Have a delivery decided about once more; runs it already started are not repeated
    Redeliver(One),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only about this repository, OWNER/NAME
    #[arg(long)]
    repo: Option<String>,
    /// Only of this event, such as push
    #[arg(long)]
    event: Option<String>,
    /// Only in this state
    #[arg(long, value_parser = ["pending", "done", "ignored", "dead"])]
    state: Option<String>,
    /// How many
    #[arg(long, short = 'L', default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Its id
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Delivery {
    id: String,
    event: String,
    repo: Option<String>,
    state: String,
    reason: Option<String>,
    received_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decisions: Vec<Decision>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

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

/// Runs `rivet delivery`.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    match args.verb {
        Verb::List(args) => list(&client, &args).await,
        Verb::Show(one) => {
            let delivery: Delivery = client.get(&format!("/api/v1/deliveries/{}", segment(&one.id))).await?;
            show(&delivery, one.json);
            Ok(Exit::Done)
        }
        Verb::Redeliver(one) => {
            let path = format!("/api/v1/deliveries/{}/redeliver", segment(&one.id));
            let delivery: Delivery = client.post(&path, &json!({})).await?;
            show(&delivery, one.json);
            Ok(Exit::Done)
        }
    }
}

async fn list(client: &Client, args: &ListArgs) -> Result<Exit, Failure> {
    let mut path = format!("/api/v1/deliveries?limit={}", args.limit);
    for (name, value) in [("repo", &args.repo), ("event", &args.event), ("state", &args.state)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(value)));
        }
    }
    let list: List<Delivery> = client.get(&path).await?;
    if args.json {
        output::print_json(&list);
        return Ok(Exit::Done);
    }
    if list.items.is_empty() {
        let filtered = args.repo.is_some() || args.event.is_some() || args.state.is_some();
        output::note(match filtered {
            true => "no such delivery",
            false => "nothing was delivered yet; is the webhook's address right?",
        });
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

fn show(delivery: &Delivery, json: bool) {
    if json {
        output::print_json(delivery);
        return;
    }
    let reason = delivery.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let mut lines = vec![
        format!("{} {} {}", delivery.id, delivery.event, delivery.repo.as_deref().unwrap_or("")),
        format!("{}{reason}", delivery.state),
    ];
    for decision in &delivery.decisions {
        let pipeline = decision.pipeline.as_deref().unwrap_or("(all)");
        let file = decision.file.as_ref().map(|file| format!(" [{file}]")).unwrap_or_default();
        let trust = decision.trust.as_deref().filter(|trust| *trust != "trusted");
        let trust = trust.map(|trust| format!(" (untrusted: {trust})")).unwrap_or_default();
        lines.push(format!("  {pipeline}: {}: {}{file}{trust}", decision.outcome, decision.reason));
    }
    for line in lines {
        output::print_data(&format!("{}\n", output::clean(line.trim_end())));
    }
}
