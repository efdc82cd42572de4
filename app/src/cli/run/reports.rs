//! `rivet run report`: what the forge was told about a run.

use super::One;
use crate::cli::client::{Client, List, segment};
use crate::cli::target::TargetArgs;
use crate::cli::{Exit, Failure, output};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Report {
    name: String,
    state: String,
    since: Option<Timestamp>,
    error: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Runs the command. Something that could not be told for a day is a failure: scripts may ask.
pub(super) async fn run(target: &TargetArgs, client: &Client, one: &One, again: bool) -> Result<Exit, Failure> {
    let run = target.run(client, one.run.as_deref()).await?;
    let path = format!("/api/v1/runs/{}/reports", segment(&run.id));
    let list: List<Report> = match again {
        true => client.post(&path, &json!({})).await?,
        false => client.get(&path).await?,
    };
    let untold = list.items.iter().any(|report| report.state == "not_reported");
    if one.json {
        output::print_json(&list);
    } else {
        let now = Timestamp::now();
        let row = |report: &Report| {
            let since = report.since.map(|since| output::ago(since, now)).unwrap_or_default();
            let state = report.state.replace('_', " ");
            [&state, &report.name, &since, report.error.as_deref().unwrap_or("")].map(output::clean).to_vec()
        };
        let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
        output::print_data(&output::table(&["STATE", "CHECK OR STATUS", "SINCE", "ERROR"], &rows));
        if untold {
            output::note(&format!("tell it again: rivet run report {} --again", run.id));
        }
    }
    Ok(if untold { Exit::Failed } else { Exit::Done })
}
