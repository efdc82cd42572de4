//! Environments: what stands in each, their ledgers, their locks, and going back.

use super::acts::{known, shown};
use super::repos::find;
use super::shapes::{List, Run};
use crate::actions::rollback::{self, Wish};
use crate::actions::{self};
use crate::context::Context;
use crate::http::auth::{Caller, User, Viewer};
use crate::http::error::ApiError;
use crate::http::params::{Body, Page, Params};
use crate::model::deployment as model;
use crate::model::ids::RepoId;
use crate::model::time::Timestamp;
use crate::store::Tx;
use crate::store::deployments::Standing;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// An environment of a repository.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Environment {
    /// Its name.
    pub name: String,
    /// `owner/name`.
    pub repo: String,
    /// Its lock; `null` where it is not locked.
    pub lock: Option<Lock>,
    /// What stands there as far as is known: the newest deployment that succeeded and was not undone.
    pub current: Option<Deployment>,
    /// What was deployed last, whatever became of it.
    pub last: Option<Deployment>,
    /// Why the forge does not show its deployments, where it refuses to.
    pub forge_error: Option<String>,
    /// Its page.
    pub url: String,
}

/// A lock.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Lock {
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// An entry of an environment's ledger: one attempt of a stage that deployed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Deployment {
    /// Counts in the environment, from 1.
    pub number: i64,
    /// `in_progress`, `succeeded`, `failed`, `rolled_back`, `superseded`.
    pub state: String,
    /// Why, in one sentence.
    pub reason: String,
    /// The run.
    pub run: String,
    /// The stage.
    pub stage: String,
    /// Which try of the stage.
    pub attempt: i64,
    /// The pipeline's stem.
    pub pipeline: String,
    /// The full ref.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The commit.
    pub sha: String,
    /// Digest of the plan.
    pub plan_digest: String,
    /// Digests of what was deployed, by name.
    pub artifacts: BTreeMap<String, String>,
    /// Who caused the run.
    pub actor: String,
    /// Who let the stage run.
    pub approvers: Vec<String>,
    /// The number of the deployment this one made again.
    pub rollback_to: Option<i64>,
    /// When its code began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The run's page.
    pub url: String,
}

impl Deployment {
    fn new(context: &Context, entry: &model::Deployment) -> Self {
        Self {
            number: entry.number,
            state: entry.state.to_string(),
            reason: entry.reason.clone(),
            run: entry.run_id.0.clone(),
            stage: entry.stage.clone(),
            attempt: entry.attempt,
            pipeline: entry.pipeline.clone(),
            git_ref: entry.git_ref.clone(),
            sha: entry.sha.clone(),
            plan_digest: entry.plan_digest.clone(),
            artifacts: entry.artifacts.0.clone(),
            actor: entry.actor.clone(),
            approvers: entry.approvers.0.clone(),
            rollback_to: entry.rollback_to,
            started_at: entry.started_at,
            finished_at: entry.finished_at,
            url: context.run_url(&entry.run_id),
        }
    }
}

impl Environment {
    fn new(context: &Context, repo: &str, standing: &Standing) -> Self {
        let environment = &standing.environment;
        let lock = environment.locked_at.map(|since| Lock {
            by: environment.locked_by.clone().unwrap_or_default(),
            reason: environment.locked_reason.clone().unwrap_or_default(),
            since,
        });
        Self {
            name: environment.name.clone(),
            repo: repo.to_owned(),
            lock,
            current: standing.current.as_ref().map(|entry| Deployment::new(context, entry)),
            last: standing.last.as_ref().map(|entry| Deployment::new(context, entry)),
            forge_error: environment.forge_error.clone(),
            url: context.link(&page_of(repo, &environment.name)),
        }
    }
}

/// The path of an environment's page.
pub fn page_of(repo: &str, name: &str) -> String {
    format!("/{repo}/environments/{}", super::shapes::path_segment(name))
}

/// Of which repository.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfRepo {
    /// `owner/name`.
    repo: String,
}

/// Which part of a ledger.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LedgerQuery {
    /// `owner/name`.
    repo: String,
    /// 1 to 100.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The environments of a repository, by name.
#[utoipa::path(get, path = "/environments", tag = "environments", params(OfRepo), responses((status = 200, body = List<Environment>), (status = 404, body = ApiError)))]
pub async fn list(
    caller: Viewer,
    State(context): State<Context>,
    Params(query): Params<OfRepo>,
) -> Result<Json<List<Environment>>, ApiError> {
    let mut tx = context.store.read().await?;
    let repo = find(&mut tx, &caller, &query.repo).await?;
    let standings = tx.standings(&repo.id).await?;
    let items = standings.iter().map(|standing| Environment::new(&context, &repo.full_name(), standing)).collect();
    Ok(Json(List { items, next_cursor: None }))
}

/// The environment of this name in a repository the caller may see, as it stands.
pub async fn standing(tx: &mut Tx, repo: &RepoId, name: &str) -> Result<Standing, ApiError> {
    let environment = tx.environment(repo, name).await?.ok_or_else(ApiError::not_found)?;
    Ok(tx.standing(environment).await?)
}

async fn one(context: &Context, caller: &Caller, repo: &str, name: &str) -> Result<Json<Environment>, ApiError> {
    let mut tx = context.store.read().await?;
    let repo = find(&mut tx, caller, repo).await?;
    let standing = standing(&mut tx, &repo.id, name).await?;
    Ok(Json(Environment::new(context, &repo.full_name(), &standing)))
}

/// One environment.
#[utoipa::path(get, path = "/environments/{name}", tag = "environments", params(("name" = String, Path), OfRepo), responses((status = 200, body = Environment), (status = 404, body = ApiError)))]
pub async fn get(
    caller: Viewer,
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(query): Params<OfRepo>,
) -> Result<Json<Environment>, ApiError> {
    one(&context, &caller, &query.repo, &name).await
}

/// The ledger of an environment, newest first.
#[utoipa::path(get, path = "/environments/{name}/deployments", tag = "environments", params(("name" = String, Path), LedgerQuery), responses((status = 200, body = List<Deployment>), (status = 404, body = ApiError)))]
pub async fn deployments(
    caller: Viewer,
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(query): Params<LedgerQuery>,
) -> Result<Json<List<Deployment>>, ApiError> {
    let page = Page::new(query.limit.as_deref(), query.cursor.as_deref())?;
    let before = page.after.as_deref().map(|number| number.parse().unwrap_or(0));
    let mut tx = context.store.read().await?;
    let repo = find(&mut tx, &caller, &query.repo).await?;
    let environment = tx.environment(&repo.id, &name).await?.ok_or_else(ApiError::not_found)?;
    let entries = tx.deployments(&repo.id, &environment.name_key, before, page.limit + 1).await?;
    let numbered = entries.into_iter().map(|entry| (entry.number.to_string(), entry)).collect();
    let (entries, next_cursor) = page.cut(numbered, |(number, _)| number);
    let items = entries.iter().map(|(_, entry)| Deployment::new(&context, entry)).collect();
    Ok(Json(List { items, next_cursor }))
}

/// Why an environment is locked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// For those who will wait.
    reason: String,
}

/// Locks an environment: nothing is deployed to it until it is unlocked.
#[utoipa::path(post, path = "/environments/{name}/lock", tag = "environments", params(("name" = String, Path), OfRepo), request_body = Reason, responses((status = 200, body = Environment), (status = 409, body = ApiError)))]
pub async fn lock(
    caller: User,
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(query): Params<OfRepo>,
    Body(asked): Body<Reason>,
) -> Result<Json<Environment>, ApiError> {
    let repo = find(&mut context.store.read().await?, &caller, &query.repo).await?;
    actions::environment::lock(&context, &repo.id, &name, &caller.actor, &asked.reason, Timestamp::now()).await?;
    one(&context, &caller, &query.repo, &name).await
}

/// Unlocks an environment: what waits for it goes on.
#[utoipa::path(post, path = "/environments/{name}/unlock", tag = "environments", params(("name" = String, Path), OfRepo), responses((status = 200, body = Environment), (status = 409, body = ApiError)))]
pub async fn unlock(
    caller: User,
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(query): Params<OfRepo>,
) -> Result<Json<Environment>, ApiError> {
    let repo = find(&mut context.store.read().await?, &caller, &query.repo).await?;
    actions::environment::unlock(&context, &repo.id, &name, &caller.actor, Timestamp::now()).await?;
    one(&context, &caller, &query.repo, &name).await
}

/// How to go back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Back {
    /// The number of the deployment to make again; the one that stood before the last where unsaid.
    to: Option<i64>,
    /// Whether it goes through the lock that is there now.
    through_lock: bool,
}

/// Makes an earlier deployment again, as a run of its own under its own approval.
#[utoipa::path(post, path = "/environments/{name}/rollback", tag = "environments", params(("name" = String, Path), OfRepo), request_body = Back, responses((status = 201, body = Run), (status = 409, body = ApiError)))]
pub async fn roll_back(
    caller: User,
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(query): Params<OfRepo>,
    Body(asked): Body<Back>,
) -> Result<(StatusCode, Json<Run>), ApiError> {
    let repo = find(&mut context.store.read().await?, &caller, &query.repo).await?;
    let wish = Wish {
        repo: repo.id,
        environment: name,
        to: asked.to,
        through_lock: asked.through_lock,
        actor: caller.actor.clone(),
        key: None,
    };
    let run = rollback::environment(&context, &wish, Timestamp::now()).await?;
    Ok((StatusCode::CREATED, shown(&context, &run).await?))
}

/// How to undo a run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Undo {
    /// Whether it goes through the locks of environments.
    through_lock: bool,
}

/// Undoes what a completed run did: the rollbacks of its stages, the last one first.
#[utoipa::path(post, path = "/runs/{id}/rollback", tag = "acts", params(("id" = String, Path)), request_body = Undo, responses((status = 200, body = Run), (status = 409, body = ApiError)))]
pub async fn undo_run(
    caller: User,
    State(context): State<Context>,
    Path(id): Path<String>,
    Body(asked): Body<Undo>,
) -> Result<Json<Run>, ApiError> {
    let run = known(&context, &caller, &id).await?;
    rollback::undo(&context, &run, &caller.actor, asked.through_lock, Timestamp::now()).await?;
    shown(&context, &run).await
}
