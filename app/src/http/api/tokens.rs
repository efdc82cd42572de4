//! Tokens of the API.

use super::shapes::List;
use crate::context::Context;
use crate::http::auth::{Admin, hash, random_token};
use crate::http::error::{ApiError, FieldError};
use crate::http::params::{Body, check_id};
use crate::model::ids::TokenId;
use crate::model::role::Role;
use crate::model::time::Timestamp;
use crate::store::Json as Stored;
use crate::store::tokens::ApiToken;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const DAY_SECONDS: u64 = 24 * 3600;
const DAYS: u64 = 90;
const MOST_DAYS: u64 = 365;

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What people call it; its acts are recorded under this name.
    name: String,
    /// What it may do.
    role: Role,
    /// The repositories it is limited to, as `owner/name`; empty: all.
    #[serde(default)]
    repos: Vec<String>,
    /// How long it works: 1 to 365, 90 where unsaid.
    expires_in_days: Option<u64>,
}

/// A token that was made. This is the only time it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeToken {
    id: String,
    token: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// A token without what opens things.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    id: String,
    name: String,
    role: Role,
    repos: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// Makes a token.
#[utoipa::path(post, path = "/tokens", tag = "tokens", request_body = NewToken, responses((status = 201, body = MadeToken), (status = 422, body = ApiError)))]
pub async fn create(
    caller: Admin,
    State(context): State<Context>,
    Body(new): Body<NewToken>,
) -> Result<(StatusCode, Json<MadeToken>), ApiError> {
    caller.of_everything()?;
    check(&new)?;
    let now = Timestamp::now();
    let secret = random_token("rvk_");
    let token = ApiToken {
        id: TokenId::generate(),
        name: new.name,
        role: new.role,
        repos: Stored(new.repos),
        created_at: now,
        expires_at: Some(now.plus_seconds(new.expires_in_days.unwrap_or(DAYS) * DAY_SECONDS)),
        revoked_at: None,
    };
    let mut tx = context.store.begin().await?;
    tx.add_api_token(&token, &hash(&secret)).await?;
    tx.commit().await?;
    let made = MadeToken { id: token.id.0, token: secret, expires_at: token.expires_at };
    Ok((StatusCode::CREATED, Json(made)))
}

fn check(new: &NewToken) -> Result<(), ApiError> {
    let mut errors = vec![];
    let mut wrong = |field: &str, detail: String| {
        errors.push(FieldError { field: field.into(), code: "field.value".into(), detail });
    };
    if new.name.trim().is_empty() || new.name.chars().count() > 100 {
        wrong("name", "name must have 1 to 100 characters.".into());
    }
    for repo in &new.repos {
        if repo.split('/').filter(|part| !part.is_empty()).count() != 2 || repo.matches('/').count() != 1 {
            wrong("repos", format!("'{repo}' is not OWNER/NAME."));
        }
    }
    if !(1..=MOST_DAYS).contains(&new.expires_in_days.unwrap_or(DAYS)) {
        wrong("expires_in_days", format!("expires_in_days must be 1 to {MOST_DAYS}."));
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::fields(errors)) }
}

/// The tokens that work.
#[utoipa::path(get, path = "/tokens", tag = "tokens", responses((status = 200, body = List<Token>)))]
pub async fn list(caller: Admin, State(context): State<Context>) -> Result<Json<List<Token>>, ApiError> {
    caller.of_everything()?;
    let tokens = context.store.read().await?.api_tokens(Timestamp::now()).await?;
    let shown = |token: ApiToken| Token {
        id: token.id.0,
        name: token.name,
        role: token.role,
        repos: token.repos.0,
        created_at: token.created_at,
        expires_at: token.expires_at,
    };
    Ok(Json(List { items: tokens.into_iter().map(shown).collect(), next_cursor: None }))
}

/// Takes a token back.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens", params(("id" = String, Path)), responses((status = 204), (status = 404, body = ApiError)))]
pub async fn revoke(
    caller: Admin,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    check_id(&id)?;
    caller.of_everything()?;
    let mut tx = context.store.begin().await?;
    if !tx.revoke_api_token(&TokenId(id), Timestamp::now()).await? {
        return Err(ApiError::not_found());
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
