//! Starting a run by hand.

use super::acts::shown;
use super::repos::forge_refused;
use super::shapes::Run;
use crate::context::Context;
use crate::engine::launch::{LaunchError, launch};
use crate::http::auth::User;
use crate::http::error::{ApiError, FieldError};
use crate::http::params::Body;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use pipelines_spec::problem::Problem;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A run to be started.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// `owner/name`.
    repo: String,
    /// The pipeline's stem.
    pipeline: String,
    /// A branch, a tag, a full ref or a commit; the default branch where unsaid.
    #[serde(rename = "ref", default)]
    git_ref: Option<String>,
    /// Values of its inputs, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    inputs: Map<String, Value>,
}

/// Starts a run. Every input that is wrong is an entry in `errors`.
#[utoipa::path(post, path = "/runs", tag = "runs", request_body = Launch, responses((status = 201, body = Run), (status = 404, body = ApiError), (status = 422, body = ApiError)))]
pub async fn launch_run(
    caller: User,
    State(context): State<Context>,
    Body(asked): Body<Launch>,
) -> Result<(StatusCode, Json<Run>), ApiError> {
    let repo = context.store.read().await?.repo_named(&asked.repo).await?;
    if !caller.may_see(&repo.full_name()) {
        return Err(ApiError::not_found());
    }
    let git_ref = asked.git_ref.as_deref().unwrap_or("");
    let run = launch(&context, &repo, &asked.pipeline, git_ref, &asked.inputs, &caller.actor).await.map_err(refused)?;
    Ok((StatusCode::CREATED, shown(&context, &run).await?))
}

/// Why a run was not started, as an answer of ours.
pub fn refused(error: LaunchError) -> ApiError {
    match error {
        LaunchError::NotFound(what) => ApiError::new(StatusCode::NOT_FOUND, "not_found", sentence(&what)),
        LaunchError::NotAllowed(why) => {
            ApiError::fields(vec![field("pipeline", "pipeline.not_manual", &sentence(&why))])
        }
        LaunchError::Inputs(errors) => {
            ApiError::fields(errors.iter().map(|e| field(&format!("inputs.{}", e.field), &e.code, &e.detail)).collect())
        }
        LaunchError::Definition(problems) => ApiError::fields(problems.iter().map(problem).collect()),
        LaunchError::Forge(error) => forge_refused(error),
        LaunchError::Store(error) => error.into(),
    }
}

/// A fragment of an error as a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

fn field(field: &str, code: &str, detail: &str) -> FieldError {
    FieldError { field: field.to_owned(), code: code.to_owned(), detail: detail.to_owned() }
}

fn problem(problem: &Problem) -> FieldError {
    let place = problem.at.as_ref().map(|at| format!("{}:{}", at.file, at.line));
    let hint = problem.hint.as_ref().map(|hint| format!(" {hint}")).unwrap_or_default();
    field(place.as_deref().unwrap_or("pipeline"), &problem.code, &format!("{}{hint}", problem.message))
}
