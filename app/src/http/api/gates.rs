//! What waits for people: to list, and to look at before one agrees. (Agreeing is `POST /runs/{id}/approvals`.)

use super::acts::known;
use super::shapes::List;
use crate::actions::review::{Review, review};
use crate::context::Context;
use crate::http::auth::Viewer;
use crate::http::error::ApiError;
use crate::http::params::{Page, Params};
use crate::model::ids::RunId;
use crate::model::time::Timestamp;
use crate::store::approvals::GateView;
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A stage that waits for people.
#[derive(Debug, Serialize, ToSchema)]
pub struct Gate {
    /// Its id; later ones sort after it.
    id: String,
    /// The run.
    run: String,
    /// Its number.
    number: i64,
    /// `owner/name`.
    repo: String,
    /// The pipeline's stem.
    pipeline: String,
    /// The stage.
    stage: String,
    /// The first line of the commit's message.
    title: String,
    /// The commit.
    sha: String,
    /// The pull request.
    pull_request: Option<i64>,
    /// Who caused the run.
    actor: String,
    /// `trusted`, or `untrusted` where the whole run waits to be let in.
    trust: String,
    /// Whom it waits for, and what to type.
    reason: String,
    /// When it closes by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Its page.
    url: String,
}

/// Where the gate's page is.
pub fn path(run: &RunId, stage: &str) -> String {
    let stage: String = url::form_urlencoded::byte_serialize(stage.as_bytes()).collect();
    format!("/runs/{run}/gates/{}", stage.replace('+', "%20"))
}

impl Gate {
    fn new(context: &Context, view: GateView) -> Self {
        Self {
            url: context.link(&path(&view.run_id, &view.stage)),
            id: view.stage_id.0,
            run: view.run_id.0,
            number: view.number,
            repo: format!("{}/{}", view.owner, view.repo_name),
            pipeline: view.pipeline,
            stage: view.stage,
            title: view.title,
            sha: view.sha,
            pull_request: view.pull_request,
            actor: view.actor,
            trust: view.trust,
            reason: view.reason,
            expires_at: view.expires_at,
        }
    }
}

/// Which gates.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GatesQuery {
    /// `owner/name`.
    repo: Option<String>,
    /// 1 to 100.
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What waits for people, oldest first.
#[utoipa::path(get, path = "/gates", tag = "gates", params(GatesQuery), responses((status = 200, body = List<Gate>)))]
pub async fn list(
    caller: Viewer,
    State(context): State<Context>,
    Params(query): Params<GatesQuery>,
) -> Result<Json<List<Gate>>, ApiError> {
    let page = Page::new(query.limit.as_deref(), query.cursor.as_deref())?;
    let mut tx = context.store.read().await?;
    let mut repos = vec![];
    if let Some(name) = &query.repo {
        repos.push(tx.find_repo(name).await?.filter(|_| caller.may_see(name)).ok_or_else(ApiError::not_found)?.id);
    } else if let Some(names) = caller.limited_to() {
        for name in names {
            repos.extend(tx.find_repo(name).await?.map(|repo| repo.id));
        }
    }
    let after = page.after.as_deref();
    let mut views = vec![];
    if query.repo.is_none() && caller.limited_to().is_none() {
        views = tx.view_gates(None, after, page.limit + 1).await?;
    }
    for repo in &repos {
        views.extend(tx.view_gates(Some(repo), after, page.limit + 1).await?);
    }
    views.sort_by(|a, b| a.stage_id.cmp(&b.stage_id));
    views.truncate(page.limit + 1);
    let (views, next_cursor) = page.cut(views, |view| view.stage_id.as_str());
    let items = views.into_iter().map(|view| Gate::new(&context, view)).collect();
    Ok(Json(List { items, next_cursor }))
}

/// Everything somebody should see before they agree.
#[utoipa::path(get, path = "/runs/{id}/gates/{stage}", tag = "gates", params(("id" = String, Path), ("stage" = String, Path)), responses((status = 200, body = Review), (status = 404, body = ApiError)))]
pub async fn get(
    caller: Viewer,
    State(context): State<Context>,
    Path((id, stage)): Path<(String, String)>,
) -> Result<Json<Review>, ApiError> {
    let run = known(&context, &caller, &id).await?;
    Ok(Json(review(&context, &run, &stage, Timestamp::now()).await?))
}
