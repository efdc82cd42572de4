//! Deliveries, why something did or did not run, and runners.

use super::page::{Frame, Visitor, render};
use super::text::{Moment, clean, short_sha};
use crate::context::Context;
use crate::http::api::deliveries::{Decision, decisions_of, decisions_of_commit, page_of};
use crate::http::api::repos;
use crate::http::error::ApiError;
use crate::http::params::{Page, Params, check_id};
use crate::model::ids::DeliveryId;
use crate::model::time::Timestamp;
use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;

struct DeliveryRow {
    href: String,
    id: String,
    event: String,
    forge: String,
    state: String,
    tone: &'static str,
    reason: String,
    received: Moment,
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct Deliveries<'a> {
    frame: &'a Frame,
    title: &'static str,
    rows: Vec<DeliveryRow>,
    older: Option<String>,
}

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PageQuery {
    cursor: Option<String>,
}

/// `/deliveries`.
pub async fn deliveries(
    visitor: Visitor,
    State(context): State<Context>,
    query: Result<Params<PageQuery>, ApiError>,
) -> Result<Response, Response> {
    let query = query.map_err(visitor.refuse())?.0;
    let page = read_deliveries(&visitor, &context, &query).await.map_err(visitor.refuse())?;
    Ok(render(&page))
}

async fn read_deliveries<'a>(
    visitor: &'a Visitor,
    context: &Context,
    query: &PageQuery,
) -> Result<Deliveries<'a>, ApiError> {
    let now = Timestamp::now();
    let page = Page::new(Some("50"), query.cursor.as_deref())?;
    let (rows, next) = page_of(&mut context.store.read().await?, &visitor.caller, &page).await?;
    let rows = rows
        .into_iter()
        .map(|row| DeliveryRow {
            href: format!("/deliveries/{}", row.id),
            id: clean(row.id.as_str()),
            event: clean(&row.event),
            forge: row.forge.to_string(),
            state: row.state.to_string(),
            tone: tone(&row.state.to_string()),
            reason: clean(row.reason.as_deref().unwrap_or("")),
            received: Moment::new(row.received_at, now),
        })
        .collect();
    let older = next.map(|cursor| format!("/deliveries?cursor={cursor}"));
    Ok(Deliveries { frame: &visitor.frame, title: "Deliveries", rows, older })
}

fn tone(state: &str) -> &'static str {
    match state {
        "done" | "run" => "good",
        "dead" | "error" => "bad",
        "pending" => "busy",
        _ => "dim",
    }
}

struct DecisionRow {
    pipeline: String,
    outcome: String,
    tone: &'static str,
    reason: String,
    run: Option<String>,
    delivery: Option<String>,
    at: Moment,
}

#[derive(Template)]
#[template(path = "why.html")]
struct Why<'a> {
    frame: &'a Frame,
    title: String,
    heading: String,
    rows: Vec<DecisionRow>,
}

fn decision_rows(decisions: Vec<Decision>, now: Timestamp) -> Vec<DecisionRow> {
    let row = |decision: Decision| DecisionRow {
        pipeline: clean(decision.pipeline.as_deref().unwrap_or("the delivery")),
        tone: tone(&decision.outcome),
        outcome: clean(&decision.outcome),
        reason: clean(&decision.reason),
        run: decision.run.map(|id| format!("/runs/{id}")),
        delivery: decision.delivery.map(|id| format!("/deliveries/{id}")),
        at: Moment::new(decision.at, now),
    };
    decisions.into_iter().map(row).collect()
}

/// `/deliveries/{id}`: what came of one.
pub async fn delivery(
    visitor: Visitor,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Response, Response> {
    let read = async {
        check_id(&id)?;
        let mut tx = context.store.read().await?;
        let delivery = tx.delivery(&DeliveryId(id.clone())).await?;
        let decisions = decisions_of(&mut tx, &visitor.caller, &delivery.id).await?;
        Ok((delivery.event, decisions))
    };
    let (event, decisions) = read.await.map_err(visitor.refuse())?;
    let heading = format!("Delivery {} ({})", clean(&id), clean(&event));
    let rows = decision_rows(decisions, Timestamp::now());
    Ok(render(&Why { frame: &visitor.frame, title: heading.clone(), heading, rows }))
}

/// `/why/OWNER/REPO/SHA`.
pub async fn why(
    visitor: Visitor,
    State(context): State<Context>,
    Path((owner, name, sha)): Path<(String, String, String)>,
) -> Result<Response, Response> {
    let repo = format!("{owner}/{name}");
    let read = async {
        let mut tx = context.store.read().await?;
        repos::at(&mut tx, &visitor.caller, &repo).await?;
        decisions_of_commit(&mut tx, &visitor.caller, &repo, &sha).await
    };
    let decisions = read.await.map_err(visitor.refuse())?;
    let heading = format!("Why {} of {} did or did not run", short_sha(&sha), clean(&repo));
    let rows = decision_rows(decisions, Timestamp::now());
    Ok(render(&Why { frame: &visitor.frame, title: heading.clone(), heading, rows }))
}

struct RunnerRow {
    name: String,
    state: String,
    tone: &'static str,
    labels: Vec<String>,
    executors: Vec<String>,
    version: String,
    seen: Moment,
    busy: i64,
}

#[derive(Template)]
#[template(path = "runners.html")]
struct Runners<'a> {
    frame: &'a Frame,
    title: &'static str,
    rows: Vec<RunnerRow>,
    address: String,
}

/// How long a runner may be silent before it counts as away: three heartbeats and a little.
const SILENT_MILLIS: i64 = 35_000;

/// `/runners`.
pub async fn runners(visitor: Visitor, State(context): State<Context>) -> Result<Response, Response> {
    let read = async { Ok(context.store.read().await?.view_runners(None, 200).await?) };
    let rows = read.await.map_err(visitor.refuse())?;
    let now = Timestamp::now();
    let rows = rows
        .into_iter()
        .map(|row| {
            let away = row.state != "left" && now.since(row.last_seen_at) > SILENT_MILLIS;
            let state = if away { "away".to_owned() } else { clean(&row.state) };
            let tone = match state.as_str() {
                "active" => "good",
                "away" => "bad",
                "paused" | "draining" => "ask",
                _ => "dim",
            };
            RunnerRow {
                name: clean(&row.name),
                tone,
                state,
                labels: row.labels.0.iter().map(|label| clean(&label.to_string())).collect(),
                executors: row.executors.0.iter().map(ToString::to_string).collect(),
                version: clean(&row.version),
                seen: Moment::new(row.last_seen_at, now),
                busy: row.busy,
            }
        })
        .collect();
    let address = context.link("");
    Ok(render(&Runners { frame: &visitor.frame, title: "Runners", rows, address }))
}
