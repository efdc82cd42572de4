//! Repositories and the pipelines they define.

use super::shapes::List;
use crate::context::Context;
use crate::definitions::{self, Defined};
use crate::forge::{ForgeError, RepoFacts};
use crate::http::auth::{Caller, Viewer};
use crate::http::error::ApiError;
use crate::http::params::{Page, Params};
use crate::model::time::Timestamp;
use crate::store::Tx;
use crate::store::repos::Repo as Stored;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use pipelines_spec::plan::Pipeline;
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::Sources;
use pipelines_spec::trigger::{EventFacts, EventKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// A repository.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Repo {
    /// Its id here.
    pub id: String,
    /// `github` or `local`.
    pub forge: String,
    /// Its owner's login.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// `owner/name`.
    pub full_name: String,
    /// Its default branch.
    pub default_branch: String,
    /// Whether it is private.
    pub private: bool,
    /// Whether its events start runs.
    pub enabled: bool,
    /// When Rivet first heard of it.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Its page.
    pub url: String,
}

impl Repo {
    fn new(context: &Context, repo: &Stored) -> Self {
        Self {
            id: repo.id.0.clone(),
            forge: repo.forge.to_string(),
            owner: repo.owner.clone(),
            name: repo.name.clone(),
            full_name: repo.full_name(),
            default_branch: repo.default_branch.clone(),
            private: repo.private,
            enabled: repo.enabled,
            created_at: repo.created_at,
            url: context.link(&format!("/{}", repo.full_name())),
        }
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// 1 to 100.
    pub limit: Option<String>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// The repositories Rivet knows.
#[utoipa::path(get, path = "/repos", tag = "repositories", params(PageQuery), responses((status = 200, body = List<Repo>)))]
pub async fn list(
    caller: Viewer,
    State(context): State<Context>,
    Params(query): Params<PageQuery>,
) -> Result<Json<List<Repo>>, ApiError> {
    let page = Page::new(query.limit.as_deref(), query.cursor.as_deref())?;
    let mut tx = context.store.read().await?;
    let repos = visible(&mut tx, &caller, &page).await?;
    let (repos, next_cursor) = page.cut(repos, |repo| repo.id.as_str());
    Ok(Json(List { items: repos.iter().map(|repo| Repo::new(&context, repo)).collect(), next_cursor }))
}

/// One more repository than the page holds, of those the caller may see.
pub async fn visible(tx: &mut Tx, caller: &Caller, page: &Page) -> Result<Vec<Stored>, ApiError> {
    let Some(names) = caller.limited_to() else {
        return Ok(tx.repos_after(page.after.as_deref(), page.limit + 1).await?);
    };
    let mut repos = Vec::new();
    for name in names {
        repos.extend(tx.find_repo(name).await?);
    }
    repos.sort_by(|a, b| a.id.cmp(&b.id));
    repos.retain(|repo| page.after.as_deref().is_none_or(|after| repo.id.as_str() > after));
    repos.truncate(page.limit + 1);
    Ok(repos)
}

/// The repository with this name, where the caller may know of it.
pub async fn find(tx: &mut Tx, caller: &Caller, full_name: &str) -> Result<Stored, ApiError> {
    let repo = tx.find_repo(full_name).await?;
    repo.filter(|repo| caller.may_see(&repo.full_name())).ok_or_else(ApiError::not_found)
}

/// The repository an address names; one that is called something else now is a redirect there.
pub async fn at(tx: &mut Tx, caller: &Caller, full_name: &str) -> Result<Stored, ApiError> {
    let repo = find(tx, caller, full_name).await?;
    match repo.full_name() {
        now if now.eq_ignore_ascii_case(full_name) => Ok(repo),
        now => Err(ApiError::renamed(full_name, &now)),
    }
}

/// One repository.
#[utoipa::path(get, path = "/repos/{owner}/{repo}", tag = "repositories", params(("owner" = String, Path), ("repo" = String, Path)), responses((status = 200, body = Repo), (status = 404, body = ApiError)))]
pub async fn get(
    caller: Viewer,
    State(context): State<Context>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Json<Repo>, ApiError> {
    let repo = at(&mut context.store.read().await?, &caller, &format!("{owner}/{name}")).await?;
    Ok(Json(Repo::new(&context, &repo)))
}

/// At which ref.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RefQuery {
    /// A branch, a tag, a full ref or a commit; the default branch where unsaid.
    #[serde(rename = "ref")]
    #[param(rename = "ref")]
    git_ref: Option<String>,
}

/// The pipelines a commit defines.
#[derive(Debug, Serialize, ToSchema)]
pub struct Definitions {
    /// The pipelines, by file.
    items: Vec<Definition>,
    /// Always `null`: a commit's pipelines are one page.
    next_cursor: Option<String>,
    /// The full ref that was meant.
    #[serde(rename = "ref")]
    git_ref: String,
    /// The commit.
    sha: String,
    /// What is wrong with the files as a whole.
    #[schema(value_type = Vec<Object>)]
    problems: Vec<Problem>,
}

/// One file's pipeline. Where the file cannot be read, only `pipeline`, `file` and `problems` say something.
#[derive(Debug, Serialize, ToSchema)]
pub struct Definition {
    /// What it is launched by: the file's stem.
    pub pipeline: String,
    /// Its name for people.
    pub name: String,
    /// Its file.
    pub file: String,
    /// What it says of itself.
    pub description: Option<String>,
    /// Whether people may launch it.
    pub manual: bool,
    /// What starts it.
    #[schema(value_type = Option<Object>)]
    pub triggers: Option<Value>,
    /// Its typed inputs by name: `type`, `description`, `default`, `required`, `options` and bounds.
    #[schema(value_type = Object)]
    pub inputs: Value,
    /// The names of its stages.
    pub stages: Vec<String>,
    /// What is wrong with it.
    #[schema(value_type = Vec<Object>)]
    pub problems: Vec<Problem>,
}

/// The pipelines of a ref, evaluated now.
#[utoipa::path(get, path = "/repos/{owner}/{repo}/pipelines", tag = "repositories", params(("owner" = String, Path), ("repo" = String, Path), RefQuery), responses((status = 200, body = Definitions), (status = 404, body = ApiError)))]
pub async fn pipelines(
    caller: Viewer,
    State(context): State<Context>,
    Path((owner, name)): Path<(String, String)>,
    Params(query): Params<RefQuery>,
) -> Result<Json<Definitions>, ApiError> {
    let repo = at(&mut context.store.read().await?, &caller, &format!("{owner}/{name}")).await?;
    let facts = repo.facts();
    let git_ref = query.git_ref.unwrap_or_else(|| repo.default_branch.clone());
    let forge = context.forges.of(facts.forge).map_err(forge_refused)?;
    let commit = forge.resolve(&facts, &git_ref).await.map_err(forge_refused)?;
    let loaded = forge.sources(&facts, &commit.sha).await.map_err(forge_refused)?;
    let event = event_of(&facts, &commit.git_ref, &commit.sha, &caller.actor);
    let all = definitions::evaluate(&context.evaluator, &loaded.sources, &event).await;
    let items = all.into_iter().map(described).collect();
    Ok(Json(Definitions {
        items,
        next_cursor: None,
        git_ref: commit.git_ref,
        sha: commit.sha,
        problems: loaded.problems,
    }))
}

/// What one file defines.
pub async fn define(context: &Context, sources: &Sources, file: &str, event: &EventFacts) -> Definition {
    described(definitions::evaluate_one(&context.evaluator, sources, file, event).await)
}

/// A definition as the API tells it.
fn described(defined: Defined) -> Definition {
    match defined.pipeline {
        Some(pipeline) => describe(&pipeline, defined.problems),
        None => Definition {
            pipeline: defined.stem.clone(),
            name: defined.stem,
            file: defined.file,
            description: None,
            manual: false,
            triggers: None,
            inputs: Value::Object(serde_json::Map::new()),
            stages: vec![],
            problems: defined.problems,
        },
    }
}

fn describe(pipeline: &Pipeline, problems: Vec<Problem>) -> Definition {
    Definition {
        pipeline: pipeline.stem.clone(),
        name: pipeline.name.clone(),
        file: pipeline.file.clone(),
        description: pipeline.description.clone(),
        manual: pipeline.on.manual,
        triggers: serde_json::to_value(&pipeline.on).ok(),
        inputs: serde_json::to_value(&pipeline.inputs).unwrap_or_default(),
        stages: pipeline.stages.iter().map(|stage| stage.name.clone()).collect(),
        problems,
    }
}

/// What a definition that is only looked at may read as `event`: as if a person launched it.
pub fn event_of(repo: &RepoFacts, git_ref: &str, sha: &str, actor: &str) -> EventFacts {
    EventFacts {
        name: EventKind::Manual,
        action: None,
        repo: repo.full_name(),
        default_branch: repo.default_branch.clone(),
        git_ref: git_ref.to_owned(),
        branch: git_ref.strip_prefix("refs/heads/").map(str::to_owned),
        tag: git_ref.strip_prefix("refs/tags/").map(str::to_owned),
        sha: sha.to_owned(),
        before: None,
        forced: false,
        actor: actor.to_owned(),
        message: None,
        pull_request: None,
        dispatch_type: None,
        extra: BTreeMap::new(),
    }
}

/// A forge's refusal as an answer of ours.
pub fn forge_refused(error: ForgeError) -> ApiError {
    match error {
        ForgeError::NotFound(what) => {
            ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("{what} was not found."))
        }
        ForgeError::RateLimited { until } => {
            let mut error = ApiError::unavailable(60);
            error.detail = format!("The forge's rate limit is reached until {}.", until.rfc3339());
            error
        }
        ForgeError::Unavailable(_) => ApiError::unavailable(30),
        ForgeError::Refused(why) => ApiError::new(StatusCode::BAD_GATEWAY, "forge.refused", why),
        ForgeError::NotConfigured(kind) => {
            ApiError::new(StatusCode::CONFLICT, "forge.not_configured", format!("No {kind} forge is set up."))
        }
    }
}
