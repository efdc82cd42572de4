//! Runners and the tokens they register with.

use super::repos::PageQuery;
use super::shapes::List;
use crate::actions::runners;
use crate::context::Context;
use crate::http::auth::{Admin, Caller, Viewer};
use crate::http::error::{ApiError, FieldError};
use crate::http::params::{Body, Page, Params, check_id};
use crate::model::ids::{RunnerId, TokenId};
use crate::model::runner::{RegistrationToken, RunnerState};
use crate::model::time::Timestamp;
use crate::store::views::RunnerView;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use pipelines_spec::plan::Label;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A runner.
#[derive(Debug, Serialize, ToSchema)]
pub struct Runner {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
    /// `active`, `paused`, `draining`, `left` or `removed`.
    state: String,
    /// What it can do, each `key=value`.
    labels: Vec<String>,
    /// Where it runs commands.
    executors: Vec<String>,
    /// Its program's version.
    version: String,
    /// How many jobs it has now.
    busy: i64,
    /// When it was last heard of.
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: Timestamp,
    /// When it registered.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<RunnerView> for Runner {
    fn from(row: RunnerView) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            state: row.state,
            labels: row.labels.0.iter().map(ToString::to_string).collect(),
            executors: row.executors.0.iter().map(ToString::to_string).collect(),
            version: row.version,
            busy: row.busy,
            last_seen_at: row.last_seen_at,
            created_at: row.created_at,
        }
    }
}

/// The runners that were not removed.
#[utoipa::path(get, path = "/runners", tag = "runners", params(PageQuery), responses((status = 200, body = List<Runner>)))]
pub async fn list(
    caller: Viewer,
    State(context): State<Context>,
    Params(query): Params<PageQuery>,
) -> Result<Json<List<Runner>>, ApiError> {
    Caller::clone(&caller).require_unlimited()?;
    let page = Page::new(query.limit.as_deref(), query.cursor.as_deref())?;
    let rows = context.store.read().await?.view_runners(page.after.as_deref(), page.limit + 1).await?;
    let (rows, next_cursor) = page.cut(rows, |row| row.id.as_str());
    Ok(Json(List { items: rows.into_iter().map(Runner::from).collect(), next_cursor }))
}

async fn set(caller: &Admin, context: &Context, id: String, state: RunnerState) -> Result<Json<Runner>, ApiError> {
    check_id(&id)?;
    caller.of_everything()?;
    let id = RunnerId(id);
    let mut tx = context.store.begin().await?;
    match state {
        RunnerState::Active => runners::resume(&mut tx, &id).await?,
        RunnerState::Paused => runners::pause(&mut tx, &id).await?,
        RunnerState::Draining | RunnerState::Left => runners::drain(&mut tx, &id).await?,
        RunnerState::Removed => runners::remove(&mut tx, &id).await?,
    };
    let row = tx.view_runner(&id).await?.ok_or_else(ApiError::not_found)?;
    tx.commit().await?;
    context.known_runners.invalidate_all();
    Ok(Json(row.into()))
}

/// It takes no more, finishes what it has and leaves.
#[utoipa::path(post, path = "/runners/{id}/drain", tag = "runners", params(("id" = String, Path)), responses((status = 200, body = Runner), (status = 404, body = ApiError)))]
pub async fn drain(
    caller: Admin,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Runner>, ApiError> {
    set(&caller, &context, id, RunnerState::Draining).await
}

/// It takes no more until it is resumed.
#[utoipa::path(post, path = "/runners/{id}/pause", tag = "runners", params(("id" = String, Path)), responses((status = 200, body = Runner), (status = 404, body = ApiError)))]
pub async fn pause(
    caller: Admin,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Runner>, ApiError> {
    set(&caller, &context, id, RunnerState::Paused).await
}

/// It takes jobs again.
#[utoipa::path(post, path = "/runners/{id}/resume", tag = "runners", params(("id" = String, Path)), responses((status = 200, body = Runner), (status = 404, body = ApiError)))]
pub async fn resume(
    caller: Admin,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Runner>, ApiError> {
    set(&caller, &context, id, RunnerState::Active).await
}

/// Takes its credentials away.
#[utoipa::path(delete, path = "/runners/{id}", tag = "runners", params(("id" = String, Path)), responses((status = 204), (status = 404, body = ApiError)))]
pub async fn remove(
    caller: Admin,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let Json(_) = set(&caller, &context, id, RunnerState::Removed).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A registration token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewRegistrationToken {
    /// What it is for.
    name: String,
    /// What it may grant, each `key=value`; empty: whatever the runner offers.
    labels: Vec<String>,
    /// Whether it registers one runner only, within an hour.
    single_use: bool,
}

impl Default for NewRegistrationToken {
    fn default() -> Self {
        Self { name: "runner".to_owned(), labels: vec![], single_use: true }
    }
}

/// A registration token. The token itself is shown only when it is made.
#[derive(Debug, Serialize, ToSchema)]
pub struct RegistrationTokenShape {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    labels: Vec<String>,
    single_use: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    used_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
}

impl From<RegistrationToken> for RegistrationTokenShape {
    fn from(row: RegistrationToken) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            token: None,
            labels: row.labels.0.iter().map(ToString::to_string).collect(),
            single_use: row.single_use,
            created_at: row.created_at,
            expires_at: row.expires_at,
            used_at: row.used_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// Makes a registration token.
#[utoipa::path(post, path = "/runners/registration-tokens", tag = "runners", request_body = NewRegistrationToken, responses((status = 201, body = RegistrationTokenShape), (status = 422, body = ApiError)))]
pub async fn create_token(
    caller: Admin,
    State(context): State<Context>,
    Body(new): Body<NewRegistrationToken>,
) -> Result<(StatusCode, Json<RegistrationTokenShape>), ApiError> {
    caller.of_everything()?;
    if new.name.chars().count() > 100 {
        let detail = "name must have at most 100 characters.".to_owned();
        return Err(ApiError::fields(vec![FieldError { field: "name".into(), code: "field.value".into(), detail }]));
    }
    let labels = new.labels.iter().map(|label| parse_label(label)).collect::<Result<Vec<Label>, ApiError>>()?;
    let now = Timestamp::now();
    let mut tx = context.store.begin().await?;
    let (id, secret) = runners::create_registration_token(&mut tx, &new.name, labels, new.single_use, now).await?;
    let made = tx.registration_tokens(now).await?.into_iter().find(|token| token.id == id);
    tx.commit().await?;
    let mut made = RegistrationTokenShape::from(made.ok_or_else(ApiError::not_found)?);
    made.token = Some(secret);
    Ok((StatusCode::CREATED, Json(made)))
}

fn parse_label(text: &str) -> Result<Label, ApiError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok(Label { key: key.to_owned(), value: value.to_owned() })
        }
        _ => Err(ApiError::fields(vec![FieldError {
            field: "labels".into(),
            code: "field.value".into(),
            detail: format!("'{text}' is not KEY=VALUE."),
        }])),
    }
}

/// The registration tokens that still work.
#[utoipa::path(get, path = "/runners/registration-tokens", tag = "runners", responses((status = 200, body = List<RegistrationTokenShape>)))]
pub async fn list_tokens(
    caller: Admin,
    State(context): State<Context>,
) -> Result<Json<List<RegistrationTokenShape>>, ApiError> {
    caller.of_everything()?;
    let tokens = runners::list_registration_tokens(&mut context.store.read().await?, Timestamp::now()).await?;
    Ok(Json(List { items: tokens.into_iter().map(RegistrationTokenShape::from).collect(), next_cursor: None }))
}

/// Takes a registration token back; runners that registered with it stay.
#[utoipa::path(delete, path = "/runners/registration-tokens/{id}", tag = "runners", params(("id" = String, Path)), responses((status = 204), (status = 404, body = ApiError)))]
pub async fn revoke_token(
    caller: Admin,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    check_id(&id)?;
    caller.of_everything()?;
    let mut tx = context.store.begin().await?;
    if !runners::revoke_registration_token(&mut tx, &TokenId(id), Timestamp::now()).await? {
        return Err(ApiError::not_found());
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
