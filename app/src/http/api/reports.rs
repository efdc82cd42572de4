//! What the forge was told about a run, and telling it once more.

use super::acts::{Nothing, known};
use super::shapes::List;
use crate::actions::tell_again::tell_again;
use crate::context::Context;
use crate::http::auth::{User, Viewer};
use crate::http::error::ApiError;
use crate::http::params::Body;
use crate::model::ids::RunId;
use crate::model::time::Timestamp;
use crate::store::told::{ReportView, Told};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

/// A check run or a commit status the forge should show.
#[derive(Debug, Serialize, ToSchema)]
pub struct Report {
    /// The check run's name or the status's context.
    pub name: String,
    /// `check` or `status`.
    pub kind: String,
    /// The commit it is shown on.
    pub sha: String,
    /// `told`, `waiting`, or `not_reported`: for a day the forge could not be told.
    pub state: String,
    /// Since when the forge should show it as it is.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Tries since the last success.
    pub attempts: i64,
    /// What went wrong last.
    pub error: Option<String>,
    /// When it is tried again; `null` where it is told, or only tried if somebody asks.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_try_at: Option<Timestamp>,
}

impl Report {
    fn new(row: ReportView, now: Timestamp) -> Self {
        let told = row.told(now);
        Self {
            state: told.to_string(),
            attempts: row.attempts,
            error: row.last_error.filter(|_| told != Told::Told),
            next_try_at: row.open.then_some(row.next_try_at),
            since: row.updated_at,
            name: row.name,
            kind: row.kind,
            sha: row.sha,
        }
    }
}

async fn reports(context: &Context, run: &RunId) -> Result<Json<List<Report>>, ApiError> {
    let now = Timestamp::now();
    let rows = context.store.read().await?.view_reports(run).await?;
    Ok(Json(List { items: rows.into_iter().map(|row| Report::new(row, now)).collect(), next_cursor: None }))
}

/// What the forge was told about a run, and what not yet and why.
#[utoipa::path(get, path = "/runs/{id}/reports", tag = "runs", params(("id" = String, Path)), responses((status = 200, body = List<Report>), (status = 404, body = ApiError)))]
pub async fn list(
    caller: Viewer,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<List<Report>>, ApiError> {
    let run = known(&context, &caller, &id).await?;
    reports(&context, &run).await
}

/// Has the forge told once more what it should show of a run.
#[utoipa::path(post, path = "/runs/{id}/reports", tag = "acts", params(("id" = String, Path)), request_body = Nothing, responses((status = 202, body = List<Report>), (status = 404, body = ApiError)))]
pub async fn again(
    caller: User,
    State(context): State<Context>,
    Path(id): Path<String>,
    Body(_): Body<Nothing>,
) -> Result<(StatusCode, Json<List<Report>>), ApiError> {
    let run = known(&context, &caller, &id).await?;
    tell_again(&context, &run, Timestamp::now()).await?;
    Ok((StatusCode::ACCEPTED, reports(&context, &run).await?))
}
