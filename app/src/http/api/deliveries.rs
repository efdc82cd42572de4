//! Deliveries, what was decided about them, and having one decided about again.

use super::repos;
use super::shapes::List;
use crate::context::Context;
use crate::http::auth::{Admin, Caller, Viewer};
use crate::http::error::ApiError;
use crate::http::params::{Page, Params, check_id};
use crate::model::ids::DeliveryId;
use crate::model::time::Timestamp;
use crate::store::Tx;
use crate::store::deliveries::{DeliveryFilter, DeliveryRow};
use crate::store::views::DecisionView;
use crate::store::wake::Topic;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A delivery of the forge.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// Its id, which is the forge's own.
    pub id: String,
    /// `github` or `local`.
    pub forge: String,
    /// The event's name.
    pub event: String,
    /// Our id of the repository it is about.
    pub repo_id: Option<String>,
    /// Its name, `owner/name`.
    pub repo: Option<String>,
    /// `pending`, `done`, `ignored` or `dead`.
    pub state: String,
    /// Why.
    pub reason: Option<String>,
    /// How often it was tried.
    pub attempts: i64,
    /// When it came.
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    /// When it was decided about.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub done_at: Option<Timestamp>,
    /// What was decided; only where one delivery is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisions: Option<Vec<Decision>>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            id: row.id.0,
            forge: row.forge.to_string(),
            event: row.event,
            repo_id: row.repo_id.map(|id| id.0),
            repo: row.repo,
            state: row.state.to_string(),
            reason: row.reason,
            attempts: row.attempts,
            received_at: row.received_at,
            done_at: row.done_at,
            decisions: None,
        }
    }
}

/// Why a pipeline did or did not run.
#[derive(Debug, Serialize, ToSchema)]
pub struct Decision {
    /// The delivery it is about.
    pub delivery: Option<String>,
    /// `owner/name`.
    pub repo: String,
    /// The pipeline; `null` where it is about the delivery as a whole.
    pub pipeline: Option<String>,
    /// The file that defines it.
    pub file: Option<String>,
    /// The full ref.
    #[serde(rename = "ref")]
    pub git_ref: Option<String>,
    /// The pull request's number.
    pub pull_request: Option<i64>,
    /// `trusted`, or why it is not.
    pub trust: Option<String>,
    /// The commit.
    pub sha: Option<String>,
    /// `run`, `skip` or `error`.
    pub outcome: String,
    /// Why, in one sentence.
    pub reason: String,
    /// The run that was started.
    pub run: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl From<DecisionView> for Decision {
    fn from(row: DecisionView) -> Self {
        Self {
            repo: format!("{}/{}", row.owner, row.repo_name),
            delivery: row.delivery_id,
            pipeline: row.pipeline,
            file: row.file,
            git_ref: row.git_ref,
            pull_request: row.pull_request,
            trust: row.trust,
            sha: row.sha,
            outcome: row.outcome,
            reason: row.reason,
            run: row.run_id.map(|id| id.0),
            at: row.created_at,
        }
    }
}

/// Which deliveries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct DeliveriesQuery {
    /// `owner/name`.
    pub repo: Option<String>,
    /// The event's name, such as `push`.
    pub event: Option<String>,
    /// `pending`, `done`, `ignored` or `dead`.
    pub state: Option<String>,
    /// 1 to 100.
    pub limit: Option<String>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl DeliveriesQuery {
    /// What the store is asked for. A page's form sends what is left open as nothing.
    async fn filter(&self, tx: &mut Tx, caller: &Caller) -> Result<DeliveryFilter, ApiError> {
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let state = match said(&self.state).map(|state| state.parse()) {
            None => None,
            Some(Ok(state)) => Some(state),
            Some(Err(_)) => {
                let detail = "state must be pending, done, ignored or dead.";
                return Err(ApiError::new(StatusCode::BAD_REQUEST, "param.range", detail));
            }
        };
        let repo = match said(&self.repo) {
            None => None,
            Some(name) => Some(repos::find(tx, caller, &name).await?.id),
        };
        Ok(DeliveryFilter { repo, event: said(&self.event), state })
    }
}

/// Deliveries, newest first.
#[utoipa::path(get, path = "/deliveries", tag = "deliveries", params(DeliveriesQuery), responses((status = 200, body = List<Delivery>)))]
pub async fn list(
    caller: Viewer,
    State(context): State<Context>,
    Params(query): Params<DeliveriesQuery>,
) -> Result<Json<List<Delivery>>, ApiError> {
    let caller = Caller::clone(&caller).require_unlimited()?;
    let page = Page::new(query.limit.as_deref(), query.cursor.as_deref())?;
    let (rows, next_cursor) = page_of(&mut context.store.read().await?, &caller, &query, &page).await?;
    Ok(Json(List { items: rows.into_iter().map(Delivery::from).collect(), next_cursor }))
}

/// A page of deliveries; its cursor is the time and the id of the last one.
pub async fn page_of(
    tx: &mut Tx,
    caller: &Caller,
    query: &DeliveriesQuery,
    page: &Page,
) -> Result<(Vec<DeliveryRow>, Option<String>), ApiError> {
    let filter = query.filter(tx, caller).await?;
    let before = page
        .after
        .as_deref()
        .and_then(|after| after.split_once(':'))
        .and_then(|(time, id)| Some((Timestamp(time.parse().ok()?), DeliveryId::from(id))));
    let rows = tx.deliveries(&filter, before, i64::try_from(page.limit).unwrap_or(100) + 1).await?;
    let rows: Vec<(String, DeliveryRow)> =
        rows.into_iter().map(|row| (format!("{}:{}", row.received_at.0, row.id), row)).collect();
    let (rows, next) = page.cut(rows, |(place, _)| place);
    Ok((rows.into_iter().map(|(_, row)| row).collect(), next))
}

/// One delivery and what was decided about it.
#[utoipa::path(get, path = "/deliveries/{id}", tag = "deliveries", params(("id" = String, Path)), responses((status = 200, body = Delivery), (status = 404, body = ApiError)))]
pub async fn get(
    caller: Viewer,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Delivery>, ApiError> {
    check_id(&id)?;
    let caller = Caller::clone(&caller).require_unlimited()?;
    let mut tx = context.store.read().await?;
    let row = tx.delivery_row(&DeliveryId(id)).await?;
    let decisions = decisions_of(&mut tx, &caller, &row.id).await?;
    Ok(Json(Delivery { decisions: Some(decisions), ..Delivery::from(row) }))
}

/// Has a delivery decided about once more. Runs it already started are found again and not repeated.
#[utoipa::path(post, path = "/deliveries/{id}/redeliver", tag = "deliveries", params(("id" = String, Path)), responses((status = 202, body = Delivery), (status = 404, body = ApiError)))]
pub async fn redeliver(
    caller: Admin,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Delivery>), ApiError> {
    caller.of_everything()?;
    let row = decide_again(&context, &id, Timestamp::now()).await?;
    Ok((StatusCode::ACCEPTED, Json(Delivery::from(row))))
}

/// Has a delivery, dead or not, decided about once more.
pub async fn decide_again(context: &Context, id: &str, now: Timestamp) -> Result<DeliveryRow, ApiError> {
    check_id(id)?;
    let id = DeliveryId::from(id);
    let mut tx = context.store.begin().await?;
    tx.redeliver(&id, now).await?;
    let row = tx.delivery_row(&id).await?;
    tx.commit().await?;
    context.store.wake.notify(Topic::Intake).await;
    Ok(row)
}

/// What is asked about: a commit or a pull request of a repository, or a delivery.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WhyQuery {
    /// `owner/name`, with `sha` or `pull_request`.
    repo: Option<String>,
    /// A pull request's number.
    pull_request: Option<String>,
    /// A commit, or its first digits (at least 7).
    sha: Option<String>,
    /// A delivery.
    delivery: Option<String>,
}

/// Why each pipeline did or did not run, as it was decided then; oldest first.
#[utoipa::path(get, path = "/why", tag = "deliveries", params(WhyQuery), responses((status = 200, body = List<Decision>), (status = 404, body = ApiError)))]
pub async fn why(
    caller: Viewer,
    State(context): State<Context>,
    Params(query): Params<WhyQuery>,
) -> Result<Json<List<Decision>>, ApiError> {
    let mut tx = context.store.read().await?;
    let items = match (&query.repo, &query.sha, &query.pull_request, &query.delivery) {
        (Some(repo), Some(sha), None, None) => decisions_of_commit(&mut tx, &caller, repo, sha).await?,
        (Some(repo), None, Some(number), None) => decisions_of_pull(&mut tx, &caller, repo, number).await?,
        (None, None, None, Some(delivery)) => {
            check_id(delivery)?;
            let found = tx.delivery(&DeliveryId::from(delivery.as_str())).await?;
            decisions_of(&mut tx, &caller, &found.id).await?
        }
        _ => {
            let detail = "Ask with repo and sha, with repo and pull_request, or with delivery.";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "param.required", detail));
        }
    };
    Ok(Json(List { items, next_cursor: None }))
}

/// What was decided about a commit.
pub async fn decisions_of_commit(
    tx: &mut Tx,
    caller: &Caller,
    repo: &str,
    sha: &str,
) -> Result<Vec<Decision>, ApiError> {
    let repo = repos::find(tx, caller, repo).await?;
    let sha = sha.to_lowercase();
    if !(7..=64).contains(&sha.len()) || !sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "param.sha", "sha must be 7 to 64 hex digits."));
    }
    let rows = tx.view_decisions_of_commit(&repo.id, &sha).await?;
    Ok(rows.into_iter().map(Decision::from).collect())
}

/// What was decided about a pull request.
pub async fn decisions_of_pull(
    tx: &mut Tx,
    caller: &Caller,
    repo: &str,
    number: &str,
) -> Result<Vec<Decision>, ApiError> {
    let repo = repos::find(tx, caller, repo).await?;
    let Some(number) = number.parse::<i64>().ok().filter(|number| *number > 0) else {
        let detail = "pull_request must be a pull request's number.";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "param.range", detail));
    };
    let rows = tx.view_decisions_of_pull(&repo.id, number).await?;
    Ok(rows.into_iter().map(Decision::from).collect())
}

/// What was decided about a delivery, as far as the caller may know of its repositories.
pub async fn decisions_of(tx: &mut Tx, caller: &Caller, id: &DeliveryId) -> Result<Vec<Decision>, ApiError> {
    let rows = tx.view_decisions_of_delivery(id.as_str()).await?;
    let decisions = rows.into_iter().map(Decision::from);
    Ok(decisions.filter(|decision| caller.may_see(&decision.repo)).collect())
}
