//! Schedules: when pipelines fire next, how each stands and why, with its buttons.

use super::page::{Frame, Visitor, render};
use super::status::Status;
use super::text::{Moment, clean};
use crate::context::Context;
use crate::http::api::schedules::{self as api, Schedule, SchedulesQuery, Standing, Verb};
use crate::http::auth::session::{check_csrf, check_origin};
use crate::http::error::ApiError;
use crate::http::params::{Page, Params};
use crate::model::ids::RepoId;
use crate::model::role::Role;
use crate::model::schedule::FiringState;
use crate::model::time::Timestamp;
use crate::store::Tx;
use askama::Template;
use axum::extract::{Form, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

/// A schedule as pages show it.
pub struct ScheduleRow {
    pub(super) id: String,
    pub(super) repo: String,
    pub(super) pipeline: String,
    pub(super) cron: String,
    pub(super) timezone: String,
    pub(super) inputs: Vec<(String, String)>,
    pub(super) catch_up: bool,
    pub(super) state: String,
    pub(super) tone: &'static str,
    pub(super) paused: bool,
    pub(super) reason: String,
    /// As the zone's clocks show them, and in UTC.
    pub(super) next: Vec<(String, String)>,
    pub(super) last: Option<LastRow>,
}

pub(super) struct LastRow {
    pub(super) due: Moment,
    pub(super) word: String,
    pub(super) tone: &'static str,
    pub(super) reason: String,
    pub(super) run: Option<(String, i64, Status)>,
}

impl ScheduleRow {
    fn new(schedule: Schedule, now: Timestamp) -> Self {
        let next = schedule.next_local.iter().zip(&schedule.next);
        let shown = |(name, value): (&String, &serde_json::Value)| (clean(name), clean(&value.to_string()));
        Self {
            repo: clean(&schedule.repo),
            pipeline: clean(&schedule.pipeline),
            cron: clean(&schedule.cron),
            timezone: clean(&schedule.timezone),
            inputs: schedule.inputs.iter().map(shown).collect(),
            catch_up: schedule.catch_up,
            state: schedule.state.to_string(),
            tone: match schedule.state {
                Standing::Active => "good",
                Standing::Paused => "ask",
                Standing::Blocked => "bad",
            },
            paused: schedule.state == Standing::Paused,
            reason: clean(&schedule.reason),
            next: next.map(|(local, utc)| (readable(local), utc.rfc3339())).collect(),
            last: schedule.last.map(|last| LastRow {
                due: Moment::new(last.due_at, now),
                word: last.state.to_string(),
                tone: match last.state {
                    FiringState::Pending => "busy",
                    FiringState::Started => "good",
                    FiringState::Skipped => "dim",
                    FiringState::Failed => "bad",
                },
                reason: clean(&last.reason),
                run: match (last.run, last.run_number, last.run_state) {
                    (Some(id), Some(number), Some(state)) => Some((format!("/runs/{id}"), number, Status::of(&state))),
                    _ => None,
                },
            }),
            id: schedule.id,
        }
    }
}

/// `2026-03-29T03:00:00+02:00` as people read it.
fn readable(local: &str) -> String {
    match chrono::DateTime::parse_from_rfc3339(local) {
        Ok(time) => time.format("%a %F %R %:z").to_string(),
        Err(_) => clean(local),
    }
}

/// The schedules of one repository, for its page.
pub async fn of_repo(
    tx: &mut Tx,
    context: &Context,
    repo: &RepoId,
    now: Timestamp,
) -> Result<Vec<ScheduleRow>, ApiError> {
    let rows = tx.view_schedules(Some(repo), None, None, 100).await?;
    Ok(rows.iter().map(|row| ScheduleRow::new(Schedule::new(context, row, now), now)).collect())
}

#[derive(Template)]
#[template(path = "schedules.html")]
struct Schedules<'a> {
    frame: &'a Frame,
    title: &'static str,
    schedules: Vec<ScheduleRow>,
    more: Option<String>,
}

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PageQuery {
    cursor: Option<String>,
}

/// `/schedules`.
pub async fn schedules(
    visitor: Visitor,
    State(context): State<Context>,
    query: Result<Params<PageQuery>, ApiError>,
) -> Result<Response, Response> {
    let query = query.map_err(visitor.refuse())?.0;
    let page = read(&visitor, &context, &query).await.map_err(visitor.refuse())?;
    Ok(render(&page))
}

async fn read<'a>(visitor: &'a Visitor, context: &Context, query: &PageQuery) -> Result<Schedules<'a>, ApiError> {
    let now = Timestamp::now();
    let page = Page::new(Some("100"), query.cursor.as_deref())?;
    let mut tx = context.store.read().await?;
    let rows = api::visible(&mut tx, &visitor.caller, &SchedulesQuery::default(), &page).await?;
    let (rows, next) = page.cut(rows, |row| row.schedule.id.as_str());
    Ok(Schedules {
        frame: &visitor.frame,
        title: "Schedules",
        schedules: rows.iter().map(|row| ScheduleRow::new(Schedule::new(context, row, now), now)).collect(),
        more: next.map(|cursor| format!("/schedules?cursor={cursor}")),
    })
}

/// What the buttons send.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sent {
    csrf: String,
}

/// `POST /schedules/{id}/{verb}`, then back to the schedule, or to the run that was started.
pub async fn act(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    Path((id, verb)): Path<(String, String)>,
    Form(sent): Form<Sent>,
) -> Result<Response, Response> {
    let done = perform(&visitor, &context, &headers, (&id, &verb), &sent).await;
    let to = done.map_err(visitor.refuse())?;
    Ok(Redirect::to(&to).into_response())
}

async fn perform(
    visitor: &Visitor,
    context: &Context,
    headers: &HeaderMap,
    (id, verb): (&str, &str),
    sent: &Sent,
) -> Result<String, ApiError> {
    check_origin(context, headers)?;
    check_csrf(&visitor.caller, &sent.csrf)?;
    let caller = visitor.caller.clone().require(Role::User)?;
    match verb {
        "pause" => api::act(context, &caller, id, Verb::Pause).await?,
        "resume" => api::act(context, &caller, id, Verb::Resume).await?,
        "run" => return Ok(format!("/runs/{}", api::start(context, &caller, id).await?)),
        _ => return Err(ApiError::not_found()),
    }
    Ok(format!("/schedules#{id}"))
}
