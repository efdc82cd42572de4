//! The page of a run.

use super::graph::Graph;
use super::lists::neighbours;
use super::page::{Frame, Visitor, render};
use super::rows::{Failure, RunRow, StageRow, took};
use super::text::{Moment, clean, short_sha};
use crate::context::Context;
use crate::http::api::environments::page_of;
use crate::http::api::runs;
use crate::http::api::shapes::Run;
use crate::http::error::ApiError;
use crate::model::time::Timestamp;
use crate::store::told::{ReportView, Told};
use crate::store::views::RunView;
use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage<'a> {
    frame: &'a Frame,
    title: String,
    id: String,
    row: RunRow,
    sha: String,
    /// The test merge that is built, and the base it was made with.
    merge: Option<(String, String)>,
    git_ref: String,
    untrusted: bool,
    trust_reason: String,
    why: String,
    started_by: String,
    rerun_of: Option<String>,
    rolls_back: Option<(String, String)>,
    previous: Option<String>,
    cancelling: bool,
    graph: Option<Graph>,
    failures: Vec<Failure>,
    stages: Vec<StageRow>,
    inputs: Vec<(String, String)>,
    outputs: Vec<(String, String)>,
    /// What the forms may offer now.
    can_roll_back: bool,
    can_cancel: bool,
    can_retry: bool,
    plan_digest: String,
    live: bool,
    untold: Vec<Untold>,
}

/// What the forge does not show yet although it was tried.
struct Untold {
    name: String,
    /// `not reported`, or what it waits for.
    word: &'static str,
    why: String,
    since: Moment,
}

impl Untold {
    fn all(rows: &[ReportView], now: Timestamp) -> Vec<Self> {
        let one = |row: &ReportView| Self {
            name: clean(&row.name),
            word: if row.told(now) == Told::NotReported { "not reported" } else { "tried again soon" },
            why: clean(row.last_error.as_deref().unwrap_or("the forge's limits have not let it through")),
            since: Moment::new(row.updated_at, now),
        };
        rows.iter().filter(|row| row.is_trouble(now)).map(one).collect()
    }
}

/// `/runs/{id}`.
pub async fn run(
    visitor: Visitor,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let page = read(&visitor, &context, &id).await.map_err(visitor.refuse())?;
    Ok(render(&page))
}

async fn read<'a>(visitor: &'a Visitor, context: &Context, id: &str) -> Result<RunPage<'a>, ApiError> {
    let now = Timestamp::now();
    let mut tx = context.store.read().await?;
    let view = runs::find(&mut tx, &visitor.caller, id).await?;
    let stages = tx.view_stages(&view.id).await?;
    let rolls_back = match &view.rollback_to {
        Some(id) => tx.deployment(id).await?.map(|entry| {
            let text = format!("{} to deployment {}", entry.environment, entry.number);
            (page_of(&view.repo(), &entry.environment), clean(&text))
        }),
        None => None,
    };
    let reports = tx.view_reports(&view.id).await?;
    let previous = neighbours(&mut tx, &visitor.caller, &view).await?;
    let run = Run::new(context, &view, &stages);
    let row = RunRow::new(&view, now);
    let ended = view.finished_at.is_some();
    let outputs = run.stages.iter().filter_map(|stage| {
        let outputs = stage.outputs.as_ref().filter(|outputs| outputs.as_object().is_none_or(|map| !map.is_empty()))?;
        Some((clean(&stage.name), clean(&serde_json::to_string_pretty(outputs).unwrap_or_default())))
    });
    Ok(RunPage {
        frame: &visitor.frame,
        title: format!("{} · {} #{} · {}", row.status.word, row.pipeline, row.number, row.repo),
        id: view.id.0.clone(),
        sha: clean(&view.sha),
        merge: view.plan.0.merge.as_ref().map(|merge| (short_sha(&merge.merge), short_sha(&merge.base))),
        git_ref: clean(&view.git_ref),
        untrusted: view.trust == "untrusted",
        trust_reason: view.trust_reason.as_deref().map(clean).unwrap_or_default(),
        why: why(context, &view),
        started_by: started_by(&view),
        rerun_of: view.rerun_of.as_ref().map(ToString::to_string),
        rolls_back,
        previous: previous.map(|id| id.0),
        cancelling: view.cancel_requested && !ended,
        graph: Graph::new(&run.stages, |stage| took(stage.started_at, stage.finished_at, now)),
        failures: Failure::all(&run),
        stages: StageRow::all(&run, now),
        inputs: run.inputs.iter().map(|(name, value)| (clean(name), clean(&shown(value)))).collect(),
        outputs: outputs.collect(),
        can_roll_back: view.state == "completed"
            && stages.iter().any(|stage| stage.state == "succeeded" && stage.spec.0.stage.rollback.is_some()),
        can_cancel: !ended && !view.cancel_requested,
        can_retry: ended && run.stages.iter().any(|stage| stage.state == "failed" || stage.state == "rolled_back"),
        plan_digest: clean(&view.plan_digest),
        live: row.status.live,
        untold: Untold::all(&reports, now),
        row,
    })
}

/// A value as one line.
fn shown(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn why(_: &Context, run: &RunView) -> String {
    format!("/why/{}/{}", run.repo(), run.sha)
}

/// Why it started, as one sentence.
fn started_by(run: &RunView) -> String {
    let actor = clean(&run.actor);
    let branch = super::rows::branch_of(run.branch.as_deref(), &run.git_ref);
    match run.event.as_str() {
        "push" => format!("{actor} pushed to {branch}"),
        "pull_request" => {
            let number = run.pull_request.map(|n| format!(" #{n}")).unwrap_or_default();
            format!("{actor} changed pull request{number}")
        }
        "merge_group" => format!("the merge queue asked for {branch}"),
        "comment" => format!("{actor} asked in a comment"),
        "schedule" => "its schedule was due".to_owned(),
        "manual" => format!("{actor} launched it on {branch}"),
        "repository_dispatch" => format!("{actor} dispatched an event"),
        "pipeline" => "a stage of another run started it".to_owned(),
        _ => format!("{actor} caused an event"),
    }
}
