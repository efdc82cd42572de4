//! The runner protocol over HTTP (`pipelines_spec::protocol`): who is calling, and what refusals look like. The rules are
//! the actions'.

use crate::actions::append_log::{LogError, append_log};
use crate::actions::claim::{ClaimError, claim};
use crate::actions::finish_job::finish_job;
use crate::actions::heartbeat::heartbeat;
use crate::actions::held::HeldError;
use crate::actions::register_runner::{RegisterError, register_runner};
use crate::actions::runners;
use crate::actions::start_job::start_job;
use crate::context::Context;
use crate::http::auth::{bearer, hash};
use crate::http::error::{ApiError, FieldError};
use crate::http::params::{BODY_BYTES, Body, Params, check_id};
use crate::model::ids::JobId;
use crate::model::runner::Runner;
use crate::model::time::Timestamp;
use crate::store;
use crate::store::jobs::Hold;
use axum::extract::{DefaultBodyLimit, FromRequest as _, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use pipelines_spec::protocol::{
    ClaimRequest, ClaimResponse, FinishRequest, HeartbeatRequest, HeartbeatResponse, LOG_CHUNK_BYTES, LogResponse,
    RegisterRequest, RegisterResponse, StartRequest, VERSION, VERSION_HEADER,
};
use std::time::Duration;

/// A heartbeat is answered within this part of a lease (five seconds of thirty), whatever the database does: a runner that
/// hears "hold" goes on, and one that hears nothing ends its jobs.
const HEARTBEAT_PART: u64 = 6;
/// Jobs one runner may hold.
const MOST_HELD: usize = 1000;

/// The routes.
pub fn router() -> Router<Context> {
    let calls = Router::new()
        .route("/register", post(register))
        .route("/claim", post(claims))
        .route("/heartbeat", post(beat))
        .route("/jobs/{id}/start", post(start))
        .route("/jobs/{id}/finish", post(finish))
        .route("/jobs/{id}/logs", post(logs).layer(DefaultBodyLimit::max(LOG_CHUNK_BYTES)))
        .route("/leave", post(leave))
        .layer(DefaultBodyLimit::max(BODY_BYTES));
    Router::new().nest("/api/runner/v1", calls)
}

/// The runner that calls. Proven by its token alone; what it says of itself in a body counts for nothing.
struct Calling(Runner);

impl FromRequestParts<Context> for Calling {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        check_version(&parts.headers)?;
        Ok(Self(identify(context, &parts.headers).await?))
    }
}

async fn identify(context: &Context, headers: &HeaderMap) -> Result<Runner, ApiError> {
    let hash = hash(token(headers)?);
    if let Some(known) = context.known_runners.get(&hash).await {
        return Ok(known);
    }
    let found = context.store.read().await?.runner_by_hash(&hash).await?.ok_or_else(unknown)?;
    context.known_runners.insert(hash, found.clone()).await;
    Ok(found)
}

fn token(headers: &HeaderMap) -> Result<&str, ApiError> {
    let missing = || ApiError::new(StatusCode::UNAUTHORIZED, "auth.required", "Send a token: Authorization: Bearer …");
    bearer(headers)?.ok_or_else(missing)
}

fn unknown() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "token.invalid", "The token is not valid.")
}

fn check_version(headers: &HeaderMap) -> Result<(), ApiError> {
    let sent = headers.get(VERSION_HEADER).map(|value| value.to_str().unwrap_or("").trim().to_owned());
    let detail = match sent.as_deref().map(str::parse::<u32>) {
        Some(Ok(VERSION)) => return Ok(()),
        Some(Ok(sent)) if sent > VERSION => {
            format!("Server speaks {VERSION}, runner {sent}. Upgrade the server, or use an older runner.")
        }
        Some(Ok(sent)) => format!("Server speaks {VERSION}, runner {sent}. Upgrade the runner."),
        Some(Err(_)) | None => format!("Server speaks {VERSION}; say which the runner does in {VERSION_HEADER}."),
    };
    Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "runner.version", detail))
}

async fn register(
    State(context): State<Context>,
    headers: HeaderMap,
    request: Request,
) -> Result<(StatusCode, Json<RegisterResponse>), ApiError> {
    check_version(&headers)?;
    let token = token(&headers)?.to_owned();
    let Body(body) = Body::<RegisterRequest>::from_request(request, &context).await?;
    match register_runner(&context, &token, &body, Timestamp::now()).await {
        Ok(answer) => {
            // Who had the name before has other credentials now.
            context.known_runners.invalidate_all();
            Ok((StatusCode::CREATED, Json(answer)))
        }
        Err(error @ RegisterError::Token) => {
            Err(ApiError::new(StatusCode::UNAUTHORIZED, "register.token", error.to_string()))
        }
        Err(error @ RegisterError::Label(_)) => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "runner.label", error.to_string()))
        }
        Err(RegisterError::Field(field, detail)) => Err(wrong_field(field, detail)),
        Err(RegisterError::Store(error)) => Err(error.into()),
    }
}

fn wrong_field(field: &str, detail: String) -> ApiError {
    ApiError::fields(vec![FieldError { field: field.to_owned(), code: "field".to_owned(), detail }])
}

async fn claims(
    State(context): State<Context>,
    Calling(runner): Calling,
    Body(request): Body<ClaimRequest>,
) -> Result<Json<ClaimResponse>, ApiError> {
    if request.claim_id.is_empty() || request.claim_id.len() > 64 || !request.claim_id.is_ascii() {
        return Err(wrong_field("claim_id", "A claim's id is 1 to 64 characters.".to_owned()));
    }
    match claim(&context, &runner, &request).await {
        Ok(answer) => {
            context.metrics.claim(answer.jobs.len());
            Ok(Json(answer))
        }
        Err(error @ ClaimError::Label(_)) => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "runner.label", error.to_string()))
        }
        Err(ClaimError::Removed) => Err(unknown()),
        Err(ClaimError::Store(error)) => Err(error.into()),
    }
}

/// Does not look its runner up before, because even that may fail for want of a database, and a runner must hear "hold" then.
async fn beat(
    State(context): State<Context>,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<HeartbeatResponse>, ApiError> {
    check_version(&headers)?;
    let secret_hash = hash(token(&headers)?);
    let Body(body) = Body::<HeartbeatRequest>::from_request(request, &context).await?;
    if body.jobs.len() > MOST_HELD {
        return Err(wrong_field("jobs", format!("A runner holds at most {MOST_HELD} jobs.")));
    }
    let renewing = heartbeat(&context, &secret_hash, &body, Timestamp::now());
    let patience = Duration::from_millis(context.config.timers.lease.unsigned_abs() / HEARTBEAT_PART);
    match tokio::time::timeout(patience, renewing).await {
        Ok(Ok(answer)) => Ok(Json(answer)),
        Ok(Err(store::Error::NotFound)) => {
            context.known_runners.invalidate(&secret_hash).await;
            Err(unknown())
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "leases cannot be renewed");
            Err(hold())
        }
        Err(_) => {
            tracing::warn!("leases cannot be renewed: the database does not answer");
            Err(hold())
        }
    }
}

fn hold() -> ApiError {
    let detail = "Leases cannot be renewed just now, nor jobs given away; go on and ask again.";
    let mut error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "hold", detail);
    error.retry_after = Some(5);
    error
}

async fn start(
    State(context): State<Context>,
    Calling(runner): Calling,
    Path(id): Path<String>,
    Body(request): Body<StartRequest>,
) -> Result<StatusCode, ApiError> {
    let job = job_id(id)?;
    let hold = Hold { job: &job, runner: &runner.id, epoch: request.epoch };
    start_job(&context, &hold, Timestamp::now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn finish(
    State(context): State<Context>,
    Calling(runner): Calling,
    Path(id): Path<String>,
    Body(request): Body<FinishRequest>,
) -> Result<StatusCode, ApiError> {
    let job = job_id(id)?;
    finish_job(&context, &runner.id, &job, request, Timestamp::now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    epoch: i64,
    offset: u64,
}

async fn logs(
    State(context): State<Context>,
    Calling(runner): Calling,
    Path(id): Path<String>,
    Params(query): Params<LogQuery>,
    request: Request,
) -> Result<Json<LogResponse>, ApiError> {
    let job = job_id(id)?;
    let bytes = Bytes::from_request(request, &context).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("A piece of a log is at most {LOG_CHUNK_BYTES} bytes.");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body.too_large", detail)
        }
        _ => ApiError::new(StatusCode::BAD_REQUEST, "body.unreadable", "The body could not be read to its end."),
    })?;
    let hold = Hold { job: &job, runner: &runner.id, epoch: query.epoch };
    match append_log(&context.store, &hold, query.offset, &bytes, Timestamp::now()).await {
        Ok(next_offset) => {
            context.metrics.log_bytes(bytes.len());
            Ok(Json(LogResponse { next_offset }))
        }
        Err(LogError::Held(error)) => Err(error.into()),
        Err(error @ LogError::Gap { .. }) => Err(ApiError::new(StatusCode::CONFLICT, "log.gap", error.to_string())),
        Err(error @ LogError::Conflict(_)) => {
            tracing::warn!(job.id = %job, runner.id = %runner.id, "{error}");
            Err(ApiError::new(StatusCode::CONFLICT, "log.conflict", error.to_string()))
        }
        Err(error @ LogError::Limit) => {
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "log.limit", error.to_string()))
        }
    }
}

fn job_id(id: String) -> Result<JobId, ApiError> {
    check_id(&id)?;
    Ok(JobId(id))
}

async fn leave(State(context): State<Context>, Calling(runner): Calling) -> Result<StatusCode, ApiError> {
    let mut tx = context.store.begin().await?;
    runners::leave(&mut tx, &runner).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<HeldError> for ApiError {
    fn from(error: HeldError) -> Self {
        let detail = error.to_string();
        match error {
            HeldError::NotFound => Self::new(StatusCode::NOT_FOUND, "job.not_found", detail),
            HeldError::Stale { .. } => Self::new(StatusCode::CONFLICT, "lease.stale", detail),
            HeldError::Finished { .. } => Self::new(StatusCode::CONFLICT, "job.finished", detail),
            HeldError::Store(error) => error.into(),
            HeldError::Run(error) => error.into(),
        }
    }
}
