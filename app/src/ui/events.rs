//! Deliveries, why something did or did not run, and runners.

use super::page::{Frame, Visitor, render};
use super::text::{Moment, clean, short_sha};
use crate::context::Context;
use crate::http::api::deliveries::{
    Decision, DeliveriesQuery, decide_again, decisions_of, decisions_of_commit, decisions_of_pull, page_of,
};
use crate::http::api::repos;
use crate::http::auth::session::{check_csrf, check_origin};
use crate::http::error::ApiError;
use crate::http::params::{Page, Params, check_id};
use crate::model::ids::DeliveryId;
use crate::model::role::Role;
use crate::model::time::Timestamp;
use askama::Template;
use axum::extract::{Form, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
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
    repo: String,
    /// What was decided about each pipeline, one line each.
    decisions: Vec<DecisionRow>,
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct Deliveries<'a> {
    frame: &'a Frame,
    title: &'static str,
    rows: Vec<DeliveryRow>,
    older: Option<String>,
    /// What the form was sent with.
    repo: String,
    event: String,
    state: String,
    states: [&'static str; 4],
}

/// How many decisions of one delivery the list shows; its own page shows all.
const DECISIONS: usize = 5;

/// `/deliveries`.
pub async fn deliveries(
    visitor: Visitor,
    State(context): State<Context>,
    query: Result<Params<DeliveriesQuery>, ApiError>,
) -> Result<Response, Response> {
    let query = query.map_err(visitor.refuse())?.0;
    let page = read_deliveries(&visitor, &context, &query).await.map_err(visitor.refuse())?;
    Ok(render(&page))
}

async fn read_deliveries<'a>(
    visitor: &'a Visitor,
    context: &Context,
    query: &DeliveriesQuery,
) -> Result<Deliveries<'a>, ApiError> {
    let now = Timestamp::now();
    let page = Page::new(Some("50"), query.cursor.as_deref())?;
    let mut tx = context.store.read().await?;
    let (found, next) = page_of(&mut tx, &visitor.caller, query, &page).await?;
    let mut rows = Vec::with_capacity(found.len());
    for row in found {
        let mut decisions = decisions_of(&mut tx, &visitor.caller, &row.id).await?;
        decisions.truncate(DECISIONS);
        rows.push(DeliveryRow {
            href: format!("/deliveries/{}", row.id),
            id: clean(row.id.as_str()),
            event: clean(&row.event),
            forge: row.forge.to_string(),
            state: row.state.to_string(),
            tone: tone(&row.state.to_string()),
            reason: clean(row.reason.as_deref().unwrap_or("")),
            received: Moment::new(row.received_at, now),
            repo: clean(row.repo.as_deref().unwrap_or("")),
            decisions: decision_rows(decisions, now),
        });
    }
    let said = |text: &Option<String>| text.clone().unwrap_or_default();
    let (repo, event, state) = (said(&query.repo), said(&query.event), said(&query.state));
    let mut filter = url::form_urlencoded::Serializer::new(String::new());
    filter.append_pair("repo", &repo).append_pair("event", &event).append_pair("state", &state);
    let older = next.map(|cursor| format!("/deliveries?{}", filter.append_pair("cursor", &cursor).finish()));
    let (repo, event, state) = (clean(&repo), clean(&event), clean(&state));
    let states = ["pending", "done", "ignored", "dead"];
    Ok(Deliveries { frame: &visitor.frame, title: "Deliveries", rows, older, repo, event, state, states })
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
    file: String,
    /// Why it is not trusted; empty where it is.
    distrust: String,
}

#[derive(Template)]
#[template(path = "why.html")]
struct Why<'a> {
    frame: &'a Frame,
    title: String,
    heading: String,
    rows: Vec<DecisionRow>,
    /// Of a delivery: its state, and the id its button sends.
    delivery: Option<(String, String)>,
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
        file: clean(decision.file.as_deref().unwrap_or("")),
        distrust: clean(decision.trust.as_deref().filter(|trust| *trust != "trusted").unwrap_or("")),
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
        Ok((delivery, decisions))
    };
    let (delivery, decisions) = read.await.map_err(visitor.refuse())?;
    let heading = format!("Delivery {} ({})", clean(&id), clean(&delivery.event));
    let rows = decision_rows(decisions, Timestamp::now());
    let reason = delivery.reason.map(|reason| format!(": {}", clean(&reason))).unwrap_or_default();
    let stands = format!("{}{reason}, tried {} times", delivery.state, delivery.attempts);
    let delivery = Some((stands, delivery.id.0));
    Ok(render(&Why { frame: &visitor.frame, title: heading.clone(), heading, rows, delivery }))
}

/// What the button of a delivery sends.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sent {
    csrf: String,
}

/// `POST /deliveries/{id}/redeliver`: a delivery, dead or not, is decided about once more.
pub async fn redeliver(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(sent): Form<Sent>,
) -> Result<Response, Response> {
    let done = async {
        check_origin(&context, &headers)?;
        check_csrf(&visitor.caller, &sent.csrf)?;
        visitor.caller.clone().require(Role::Admin)?.require_unlimited()?;
        decide_again(&context, &id, Timestamp::now()).await
    };
    let row = done.await.map_err(visitor.refuse())?;
    Ok(Redirect::to(&format!("/deliveries/{}", row.id)).into_response())
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
    Ok(render(&Why { frame: &visitor.frame, title: heading.clone(), heading, rows, delivery: None }))
}

/// `/why/OWNER/REPO/pull/NUMBER`.
pub async fn why_pull(
    visitor: Visitor,
    State(context): State<Context>,
    Path((owner, name, number)): Path<(String, String, String)>,
) -> Result<Response, Response> {
    let repo = format!("{owner}/{name}");
    let read = async {
        let mut tx = context.store.read().await?;
        decisions_of_pull(&mut tx, &visitor.caller, &repo, &number).await
    };
    let decisions = read.await.map_err(visitor.refuse())?;
    let heading = format!("Why pull request {} of {} did or did not run", clean(&number), clean(&repo));
    let rows = decision_rows(decisions, Timestamp::now());
    Ok(render(&Why { frame: &visitor.frame, title: heading.clone(), heading, rows, delivery: None }))
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
