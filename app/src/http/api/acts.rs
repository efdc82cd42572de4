//! What people and programs do to runs. Each verb is the one function in `actions` that pages and comments call too.

use super::runs::find;
use super::shapes::Run;
use crate::actions::approve::{Decider, Decision, approve};
use crate::actions::{cancel, rerun, retry};
use crate::context::Context;
use crate::http::auth::{Caller, User};
use crate::http::error::ApiError;
use crate::http::params::Body;
use crate::model::ids::RunId;
use crate::model::time::Timestamp;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

/// The run with this id, where the caller may know of it.
pub async fn known(context: &Context, caller: &Caller, id: &str) -> Result<RunId, ApiError> {
    Ok(find(&mut context.store.read().await?, caller, id).await?.id)
}

/// A run as it stands after it was acted on.
pub async fn shown(context: &Context, id: &RunId) -> Result<Json<Run>, ApiError> {
    let mut tx = context.store.read().await?;
    let run = tx.view_run(id).await?.ok_or_else(ApiError::not_found)?;
    let stages = tx.view_stages(id).await?;
    Ok(Json(Run::new(context, &run, &stages)))
}

/// A cancellation.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cancel {
    /// Why, for people.
    reason: Option<String>,
}

/// Cancels a run. What nobody holds ends at once; what runs is told to stop.
#[utoipa::path(post, path = "/runs/{id}/cancel", tag = "acts", params(("id" = String, Path)), request_body = Cancel, responses((status = 200, body = Run), (status = 409, body = ApiError)))]
pub async fn cancel_run(
    caller: User,
    State(context): State<Context>,
    Path(id): Path<String>,
    Body(asked): Body<Cancel>,
) -> Result<Json<Run>, ApiError> {
    let run = known(&context, &caller, &id).await?;
    cancel::cancel(&context, &run, &cancel_reason(&caller, asked.reason.as_deref()), Timestamp::now()).await?;
    shown(&context, &run).await
}

/// What a cancelled run says of itself.
pub fn cancel_reason(caller: &Caller, said: Option<&str>) -> String {
    match said.map(str::trim).filter(|said| !said.is_empty()) {
        Some(said) => format!("{} cancelled it: {said}", caller.actor),
        None => format!("{} cancelled it.", caller.actor),
    }
}

/// A retry.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Only this stage (or all legs of it); all failed ones where unsaid.
    stage: Option<String>,
}

/// Tries failed stages again in the same run; what succeeded stays.
#[utoipa::path(post, path = "/runs/{id}/retry", tag = "acts", params(("id" = String, Path)), request_body = Retry, responses((status = 200, body = Run), (status = 409, body = ApiError)))]
pub async fn retry_run(
    caller: User,
    State(context): State<Context>,
    Path(id): Path<String>,
    Body(asked): Body<Retry>,
) -> Result<Json<Run>, ApiError> {
    let run = known(&context, &caller, &id).await?;
    retry::retry(&context, &run, asked.stage.as_deref(), &caller.actor, Timestamp::now()).await?;
    shown(&context, &run).await
}

/// Nothing needs to be said.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Runs the same plan on the same commit again, as a new run.
#[utoipa::path(post, path = "/runs/{id}/rerun", tag = "acts", params(("id" = String, Path)), request_body = Nothing, responses((status = 201, body = Run), (status = 409, body = ApiError)))]
pub async fn rerun_run(
    caller: User,
    State(context): State<Context>,
    Path(id): Path<String>,
    Body(_): Body<Nothing>,
) -> Result<(StatusCode, Json<Run>), ApiError> {
    let run = known(&context, &caller, &id).await?;
    let new = rerun::rerun(&context, &run, &caller.actor, Timestamp::now()).await?;
    Ok((StatusCode::CREATED, shown(&context, &new).await?))
}

/// A person's yes or no.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The stage; the only one that waits where unsaid.
    stage: Option<String>,
    /// Yes or no.
    decision: Answer,
    /// Why.
    comment: Option<String>,
    /// The commit that was reviewed, at least 12 digits.
    sha: Option<String>,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Yes.
    Approve,
    /// No.
    Reject,
}

/// Approves or rejects what waits. A decision holds for exactly the commit and the plan it was given for.
#[utoipa::path(post, path = "/runs/{id}/approvals", tag = "acts", params(("id" = String, Path)), request_body = Approval, responses((status = 200, body = Run), (status = 409, body = ApiError)))]
pub async fn decide(
    caller: User,
    State(context): State<Context>,
    Path(id): Path<String>,
    Body(asked): Body<Approval>,
) -> Result<Json<Run>, ApiError> {
    let run = known(&context, &caller, &id).await?;
    let decision = Decision {
        stage: asked.stage,
        approve: asked.decision == Answer::Approve,
        by: Decider::of(&caller),
        sha: asked.sha,
        said_at: None,
        comment: asked.comment,
        via: "api".to_owned(),
    };
    approve(&context, &run, &decision, Timestamp::now()).await?;
    shown(&context, &run).await
}
