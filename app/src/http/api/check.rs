//! Checking a definition without running it.

use super::repos::{Definition, define, event_of};
use crate::context::Context;
use crate::forge::RepoFacts;
use crate::http::auth::User;
use crate::http::error::{ApiError, FieldError};
use crate::http::params::Body;
use crate::model::ids::ForgeKind;
use axum::Json;
use axum::extract::State;
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::Sources;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most bytes of a definition.
const SOURCE_BYTES: usize = 256 * 1024;

/// A definition to check.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its text.
    source: String,
    /// What it is written in.
    language: Language,
}

/// What definitions are written in.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Lua.
    Lua,
    /// TOML.
    Toml,
}

/// What the check found.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checked {
    /// Whether it could be used: nothing is wrong, warnings aside.
    valid: bool,
    /// What is wrong, with places, codes and hints.
    #[schema(value_type = Vec<Object>)]
    problems: Vec<Problem>,
    /// What it defines, where it is valid.
    pipeline: Option<Definition>,
}

/// Checks a definition. A wrong one is an answer, not an error.
#[utoipa::path(post, path = "/check", tag = "definitions", request_body = Source, responses((status = 200, body = Checked), (status = 422, body = ApiError)))]
pub async fn check(
    caller: User,
    State(context): State<Context>,
    Body(source): Body<Source>,
) -> Result<Json<Checked>, ApiError> {
    if source.source.len() > SOURCE_BYTES {
        let detail = format!("source is {} bytes; the limit is {SOURCE_BYTES}.", source.source.len());
        return Err(ApiError::fields(vec![FieldError {
            field: "source".into(),
            code: "config.too_large".into(),
            detail,
        }]));
    }
    let file = match source.language {
        Language::Lua => ".rivet/check.lua",
        Language::Toml => ".rivet/check.toml",
    };
    let sources = Sources::from([(file.to_owned(), source.source)]);
    let event = event_of(&nowhere(), "refs/heads/main", &"0".repeat(40), &caller.actor);
    let mut pipeline = define(&context, &sources, file, &event).await;
    let problems = std::mem::take(&mut pipeline.problems);
    let valid = !problems.iter().any(Problem::is_error);
    Ok(Json(Checked { valid, problems, pipeline: valid.then_some(pipeline) }))
}

/// The repository of a definition that is in none.
fn nowhere() -> RepoFacts {
    RepoFacts {
        forge: ForgeKind::Local,
        forge_id: 0,
        owner: "local".into(),
        name: "check".into(),
        default_branch: "main".into(),
        private: true,
        installation_id: None,
    }
}

/// The JSON Schema of a definition in TOML, for editors.
#[utoipa::path(get, path = "/schemas/pipeline.json", tag = "definitions", security(()), responses((status = 200, body = Object)))]
pub async fn pipeline_schema() -> Json<serde_json::Value> {
    Json(pipelines_spec::schema::pipeline_schema())
}
