//! `/setup`: a fresh instance is claimed with its one-time token, an App is made on GitHub or named, and its state is shown
//! until repositories are there. Afterwards the same page looks after the App.

mod address;
mod app;
mod claim;
mod forms;
mod start;

use super::page::{Visitor, refused};
use crate::actions::setup::SetupError;
use crate::context::Context;
use crate::http::auth::session::{check_csrf, check_origin};
use crate::http::error::ApiError;
use crate::model::role::Role;
use axum::Router;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};

/// The routes of the set-up.
pub fn router() -> Router<Context> {
    Router::new()
        .route("/setup", get(show))
        .route("/setup/claim", post(claim::claim))
        .route("/setup/app", post(start::leave))
        .route("/setup/created", get(start::created))
        .route("/setup/connect", post(start::connect))
        .route("/setup/test", post(app::test))
        .route("/setup/hook", post(app::point_hook_here))
        .route("/setup/webhook-secret", post(app::webhook_secret))
        .route("/setup/key", post(app::key))
        .route("/setup/disconnect", post(app::disconnect))
}

/// `GET /setup`: what is to be done next.
async fn show(State(context): State<Context>, request: Request) -> Result<Response, Response> {
    let (mut parts, _) = request.into_parts();
    match Visitor::from_request_parts(&mut parts, &context).await {
        Ok(visitor) => next(&context, &admin(visitor)?, &parts.uri, &parts.headers).await,
        // Nobody is signed in: whoever has the token may claim, others sign in.
        Err(to_sign_in) => claim::ask(&context, &parts.uri, &parts.headers, to_sign_in).await,
    }
}

async fn next(
    context: &Context,
    visitor: &Visitor,
    uri: &axum::http::Uri,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    match context.forges.github.in_use() {
        Some(app) => app::show(context, visitor, &app, uri).await,
        None => start::show(context, visitor, headers, &start::Filled::default(), vec![]),
    }
}

/// The set-up is the admin's.
fn admin(visitor: Visitor) -> Result<Visitor, Response> {
    if visitor.caller.role >= Role::Admin {
        return Ok(visitor);
    }
    let error = ApiError::new(StatusCode::FORBIDDEN, "auth.role", "This needs the admin role.");
    Err(refused(&visitor.frame, error))
}

/// Refuses a form that is not of this session's own page.
fn own_form(context: &Context, visitor: &Visitor, headers: &HeaderMap, csrf: &str) -> Result<(), Response> {
    check_origin(context, headers).map_err(visitor.refuse())?;
    check_csrf(&visitor.caller, csrf).map_err(visitor.refuse())
}

/// What was wrong, as sentences for the page; faults of ours become the usual error page instead.
fn sentences(visitor: &Visitor, error: SetupError) -> Result<Vec<String>, Response> {
    match error {
        SetupError::Wrong(problems) => Ok(problems),
        error @ (SetupError::Refused(_) | SetupError::Forge(_) | SetupError::Secrets(_)) => {
            let mut text = error.to_string();
            if !text.ends_with(['.', ')']) {
                text.push('.');
            }
            // The first letter of errors is small elsewhere, where they stand in a chain.
            let first = text.get(..1).map(str::to_uppercase).unwrap_or_default();
            Ok(vec![format!("{first}{}", text.get(1..).unwrap_or(""))])
        }
        SetupError::Store(error) => Err(visitor.refuse()(error.into())),
    }
}
