//! Schedules: when each fires next, how it stands and why, and what people do to it.

use super::acts::{Nothing, shown};
use super::launch::refused;
use super::shapes::{List, Run};
use crate::actions::schedules;
use crate::context::Context;
use crate::engine::launch::LaunchError;
use crate::http::auth::{Caller, User, Viewer};
use crate::http::error::ApiError;
use crate::http::params::{Body, Page, Params, check_id};
use crate::model::ids::ScheduleId;
use crate::model::schedule::FiringState;
use crate::model::time::Timestamp;
use crate::store::Tx;
use crate::store::schedule_views::ScheduleView;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

/// How many firings ahead are told.
const AHEAD: usize = 3;

/// How a schedule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Standing {
    /// It fires when it is due.
    Active,
    /// Somebody paused it.
    Paused,
    /// Its repository lets nothing fire.
    Blocked,
}

/// A schedule: an entry of `on.schedule` on the default branch.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Schedule {
    /// Its id.
    pub id: String,
    /// `owner/name`.
    pub repo: String,
    /// The pipeline's stem.
    pub pipeline: String,
    /// The expression, as its author wrote it.
    pub cron: String,
    /// The zone whose clocks it means.
    pub timezone: String,
    /// Inputs of its runs; secret ones are hidden.
    #[schema(value_type = Object)]
    pub inputs: Map<String, Value>,
    /// Whether one missed firing is made up for after an outage.
    pub catch_up: bool,
    /// `active`, `paused`, or `blocked` by how its repository stands.
    pub state: Standing,
    /// Why, and what changes it, in one sentence.
    pub reason: String,
    /// The next three firings; none while it does not fire.
    #[schema(value_type = Vec<String>)]
    pub next: Vec<Timestamp>,
    /// The same as the zone's clocks show them.
    pub next_local: Vec<String>,
    /// Its last firing.
    pub last: Option<LastFiring>,
    /// Its page.
    pub url: String,
}

/// A firing that was due.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LastFiring {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub due_at: Timestamp,
    /// `pending`, `started`, `skipped` or `failed`.
    #[schema(value_type = String)]
    pub state: FiringState,
    /// Why, in one sentence.
    pub reason: String,
    /// The run it started.
    pub run: Option<String>,
    /// That run's number.
    pub run_number: Option<i64>,
    /// That run's state.
    pub run_state: Option<String>,
}

impl Schedule {
    /// A row as it is told.
    pub fn new(context: &Context, row: &ScheduleView, now: Timestamp) -> Self {
        let schedule = &row.schedule;
        let (state, reason) = standing(row);
        let clock = schedule.clock().ok().filter(|_| state == Standing::Active);
        // What is due by now is still to come, for it has not been taken up.
        let from = schedule.next_due_at.map_or(now, |due| due.plus_millis(-1).min(now));
        let next = clock.as_ref().map(|clock| clock.upcoming(from, AHEAD)).unwrap_or_default();
        let local = |time: &Timestamp| clock.as_ref().map(|clock| clock.local(*time));
        Self {
            id: schedule.id.0.clone(),
            repo: row.repo(),
            pipeline: schedule.pipeline.clone(),
            cron: schedule.cron.clone(),
            timezone: schedule.timezone.clone(),
            inputs: row.shown_inputs.0.clone(),
            catch_up: schedule.catch_up,
            state,
            reason,
            next_local: next.iter().filter_map(local).collect(),
            next,
            last: last(row),
            url: context.link(&format!("/schedules#{}", schedule.id)),
        }
    }
}

fn last(row: &ScheduleView) -> Option<LastFiring> {
    Some(LastFiring {
        due_at: row.schedule.last_due_at?,
        state: row.last_state?,
        reason: row.last_reason.clone().unwrap_or_default(),
        run: row.last_run.as_ref().map(|run| run.0.clone()),
        run_number: row.last_run_number,
        run_state: row.last_run_state.clone(),
    })
}

fn standing(row: &ScheduleView) -> (Standing, String) {
    let schedule = &row.schedule;
    if let Some(why) = row.standing.blocked() {
        return (Standing::Blocked, format!("Nothing fires here: {why}."));
    }
    if let (Some(by), Some(since)) = (&schedule.paused_by, schedule.paused_at) {
        let id = &schedule.id;
        let why = format!("{by} paused it at {}; 'rivet schedule resume {id}' lets it go on.", since.rfc3339());
        return (Standing::Paused, why);
    }
    let branch = &row.default_branch;
    let reason = match (&schedule.problem, &row.definitions_problem, schedule.next_due_at) {
        (Some(problem), _, _) => format!("It stays as it was, because on {branch} {problem}."),
        (None, Some(problem), _) => format!("It stays as it was, because {branch} could not be read: {problem}."),
        (None, None, Some(_)) => "It fires when it is due.".to_owned(),
        (None, None, None) => "Its time never comes again.".to_owned(),
    };
    (Standing::Active, reason)
}

/// Which schedules.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct SchedulesQuery {
    /// Only of this repository, `owner/name`.
    pub repo: Option<String>,
    /// Only of the pipeline with this stem.
    pub pipeline: Option<String>,
    /// 1 to 100.
    pub limit: Option<String>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// The schedules of the default branches.
#[utoipa::path(get, path = "/schedules", tag = "schedules", params(SchedulesQuery), responses((status = 200, body = List<Schedule>), (status = 404, body = ApiError)))]
pub async fn list(
    caller: Viewer,
    State(context): State<Context>,
    Params(query): Params<SchedulesQuery>,
) -> Result<Json<List<Schedule>>, ApiError> {
    let page = Page::new(query.limit.as_deref(), query.cursor.as_deref())?;
    let rows = visible(&mut context.store.read().await?, &caller, &query, &page).await?;
    let (rows, next_cursor) = page.cut(rows, |row| row.schedule.id.as_str());
    let now = Timestamp::now();
    Ok(Json(List { items: rows.iter().map(|row| Schedule::new(&context, row, now)).collect(), next_cursor }))
}

/// One more schedule than the page holds, of those the caller may see.
pub async fn visible(
    tx: &mut Tx,
    caller: &Caller,
    query: &SchedulesQuery,
    page: &Page,
) -> Result<Vec<ScheduleView>, ApiError> {
    let (pipeline, after) = (query.pipeline.as_deref(), page.after.as_deref());
    if let Some(name) = &query.repo {
        let repo = super::repos::find(tx, caller, name).await?;
        return Ok(tx.view_schedules(Some(&repo.id), pipeline, after, page.limit + 1).await?);
    }
    let Some(names) = caller.limited_to() else {
        return Ok(tx.view_schedules(None, pipeline, after, page.limit + 1).await?);
    };
    let mut rows = vec![];
    for name in names {
        if let Some(repo) = tx.find_repo(name).await? {
            rows.extend(tx.view_schedules(Some(&repo.id), pipeline, after, page.limit + 1).await?);
        }
    }
    rows.sort_by(|a, b| a.schedule.id.cmp(&b.schedule.id));
    rows.truncate(page.limit + 1);
    Ok(rows)
}

/// The schedule with this id, where the caller may know of it.
pub async fn find(tx: &mut Tx, caller: &Caller, id: &str) -> Result<ScheduleView, ApiError> {
    check_id(id)?;
    let row = tx.view_schedule(&ScheduleId::from(id)).await?;
    row.filter(|row| caller.may_see(&row.repo())).ok_or_else(ApiError::not_found)
}

async fn told(context: &Context, caller: &Caller, id: &str) -> Result<Json<Schedule>, ApiError> {
    let row = find(&mut context.store.read().await?, caller, id).await?;
    Ok(Json(Schedule::new(context, &row, Timestamp::now())))
}

/// One schedule.
#[utoipa::path(get, path = "/schedules/{id}", tag = "schedules", params(("id" = String, Path)), responses((status = 200, body = Schedule), (status = 404, body = ApiError)))]
pub async fn get(
    caller: Viewer,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Schedule>, ApiError> {
    told(&context, &caller, &id).await
}

/// What is done to a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It fires no more.
    Pause,
    /// It fires again.
    Resume,
}

/// Does it, where the caller may.
pub async fn act(context: &Context, caller: &Caller, id: &str, verb: Verb) -> Result<(), ApiError> {
    let row = find(&mut context.store.read().await?, caller, id).await?;
    let (id, now) = (&row.schedule.id, Timestamp::now());
    match verb {
        Verb::Pause => schedules::pause(context, id, &caller.actor, now).await?,
        Verb::Resume => schedules::resume(context, id, now).await?,
    }
    Ok(())
}

/// It fires no more until it is resumed; what it misses is not made up for.
#[utoipa::path(post, path = "/schedules/{id}/pause", tag = "schedules", params(("id" = String, Path)), request_body = Nothing, responses((status = 200, body = Schedule), (status = 404, body = ApiError)))]
pub async fn pause(
    caller: User,
    State(context): State<Context>,
    Path(id): Path<String>,
    Body(_): Body<Nothing>,
) -> Result<Json<Schedule>, ApiError> {
    act(&context, &caller, &id, Verb::Pause).await?;
    told(&context, &caller, &id).await
}

/// It fires again, from its next due time on.
#[utoipa::path(post, path = "/schedules/{id}/resume", tag = "schedules", params(("id" = String, Path)), request_body = Nothing, responses((status = 200, body = Schedule), (status = 404, body = ApiError)))]
pub async fn resume(
    caller: User,
    State(context): State<Context>,
    Path(id): Path<String>,
    Body(_): Body<Nothing>,
) -> Result<Json<Schedule>, ApiError> {
    act(&context, &caller, &id, Verb::Resume).await?;
    told(&context, &caller, &id).await
}

/// Starts a run of it now, whether it is paused or not; its due times stay.
#[utoipa::path(post, path = "/schedules/{id}/run", tag = "schedules", params(("id" = String, Path)), request_body = Nothing, responses((status = 201, body = Run), (status = 404, body = ApiError), (status = 409, body = ApiError), (status = 422, body = ApiError)))]
pub async fn run(
    caller: User,
    State(context): State<Context>,
    Path(id): Path<String>,
    Body(_): Body<Nothing>,
) -> Result<(StatusCode, Json<Run>), ApiError> {
    let run = start(&context, &caller, &id).await?;
    Ok((StatusCode::CREATED, shown(&context, &run).await?))
}

/// Starts a run of a schedule, where the caller may.
pub async fn start(context: &Context, caller: &Caller, id: &str) -> Result<crate::model::ids::RunId, ApiError> {
    let row = find(&mut context.store.read().await?, caller, id).await?;
    let started = schedules::run_now(context, &row.schedule.id, &caller.actor, Timestamp::now()).await;
    started.map_err(|error| match error {
        LaunchError::NotAllowed(why) => ApiError::new(StatusCode::CONFLICT, "state", format!("It cannot run: {why}.")),
        error => refused(error),
    })
}
