//! Runs: to list, to look at.

use super::shapes::{List, Run};
use crate::context::Context;
use crate::http::auth::{Caller, Viewer};
use crate::http::error::ApiError;
use crate::http::params::{Page, Params, check_id};
use crate::model::ids::RunId;
use crate::model::time::Timestamp;
use crate::store::Tx;
use crate::store::views::{RunFilter, RunView};
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which runs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// `owner/name`.
    pub repo: Option<String>,
    /// A run's state.
    pub state: Option<String>,
    /// A branch's short name.
    pub branch: Option<String>,
    /// A kind of event.
    pub event: Option<String>,
    /// A pipeline's stem.
    pub pipeline: Option<String>,
    /// A commit, or its first digits.
    pub sha: Option<String>,
    /// 1 to 100.
    pub limit: Option<String>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Runs, newest first.
#[utoipa::path(get, path = "/runs", tag = "runs", params(RunsQuery), responses((status = 200, body = List<Run>)))]
pub async fn list(
    caller: Viewer,
    State(context): State<Context>,
    Params(query): Params<RunsQuery>,
) -> Result<Json<List<Run>>, ApiError> {
    let page = Page::new(query.limit.as_deref(), query.cursor.as_deref())?;
    let mut tx = context.store.read().await?;
    let runs = visible_runs(&mut tx, &caller, &query, &page).await?;
    let (runs, next_cursor) = page.cut(runs, |run| run.id.as_str());
    let mut items = Vec::with_capacity(runs.len());
    for run in &runs {
        items.push(Run::new(&context, run, &tx.view_stages(&run.id).await?));
    }
    Ok(Json(List { items, next_cursor }))
}

/// One more run than the page holds, of the repositories the caller may see.
pub async fn visible_runs(
    tx: &mut Tx,
    caller: &Caller,
    query: &RunsQuery,
    page: &Page,
) -> Result<Vec<RunView>, ApiError> {
    let filter = RunFilter {
        repo: None,
        state: query.state.clone(),
        branch: query.branch.clone(),
        event: query.event.clone(),
        pipeline: query.pipeline.clone(),
        sha: query.sha.as_ref().map(|sha| sha.to_lowercase()),
        before: page.after.as_deref().map(RunId::from),
        open: false,
    };
    if let Some(name) = &query.repo {
        let repo = tx.find_repo(name).await?.filter(|_| caller.may_see(name)).ok_or_else(ApiError::not_found)?;
        return Ok(tx.view_runs(&RunFilter { repo: Some(repo.id), ..filter }, page.limit + 1).await?);
    }
    let Some(names) = caller.limited_to() else { return Ok(tx.view_runs(&filter, page.limit + 1).await?) };
    let mut runs = Vec::new();
    for name in names {
        let Some(repo) = tx.find_repo(name).await? else { continue };
        let filter = RunFilter { repo: Some(repo.id), ..filter.clone() };
        runs.extend(tx.view_runs(&filter, page.limit + 1).await?);
    }
    runs.sort_by(|a, b| b.id.cmp(&a.id));
    runs.truncate(page.limit + 1);
    Ok(runs)
}

/// One run.
#[utoipa::path(get, path = "/runs/{id}", tag = "runs", params(("id" = String, Path)), responses((status = 200, body = Run), (status = 404, body = ApiError)))]
pub async fn get(
    caller: Viewer,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Run>, ApiError> {
    let mut tx = context.store.read().await?;
    let run = find(&mut tx, &caller, &id).await?;
    let stages = tx.view_stages(&run.id).await?;
    Ok(Json(Run::new(&context, &run, &stages)))
}

/// The run with this id, where the caller may know of it. Absence and denial are the same answer.
pub async fn find(tx: &mut Tx, caller: &Caller, id: &str) -> Result<RunView, ApiError> {
    check_id(id)?;
    let run = tx.view_run(&RunId::from(id)).await?;
    run.filter(|run| caller.may_see(&run.repo())).ok_or_else(ApiError::not_found)
}

/// Something that happened to a run.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryEntry {
    /// Its id; later ones sort after it.
    id: String,
    /// The stage it is about.
    stage: Option<String>,
    /// What kind of thing.
    kind: String,
    /// What happened, in one sentence.
    message: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// 1 to 100.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What happened to a run, oldest first.
#[utoipa::path(get, path = "/runs/{id}/history", tag = "runs", params(("id" = String, Path), HistoryQuery), responses((status = 200, body = List<HistoryEntry>), (status = 404, body = ApiError)))]
pub async fn history(
    caller: Viewer,
    State(context): State<Context>,
    Path(id): Path<String>,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<List<HistoryEntry>>, ApiError> {
    let page = Page::new(query.limit.as_deref(), query.cursor.as_deref())?;
    let mut tx = context.store.read().await?;
    let run = find(&mut tx, &caller, &id).await?;
    let rows = tx.view_history(&run.id, page.after.as_deref(), page.limit + 1).await?;
    let (rows, next_cursor) = page.cut(rows, |row| &row.id);
    let items = rows
        .into_iter()
        .map(|row| HistoryEntry {
            id: row.id,
            stage: row.stage,
            kind: row.kind,
            message: row.message,
            at: row.created_at,
        })
        .collect();
    Ok(Json(List { items, next_cursor }))
}
