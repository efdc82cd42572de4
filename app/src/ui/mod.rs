//! The web pages: rendered here, complete without JavaScript. Whatever comes from outside is cleaned of what deceives
//! readers ([`text::clean`]) and escaped by the templates; nothing is ever marked safe but what [`ansi`] escaped itself.

pub mod acts;
pub mod ansi;
pub mod assets;
pub mod environments;
pub mod events;
pub mod gate;
pub mod graph;
pub mod lists;
pub mod log;
pub mod page;
pub mod rows;
pub mod run;
pub mod schedules;
pub mod setup;
pub mod sign;
pub mod stage;
pub mod status;
pub mod text;

use crate::context::Context;
use crate::http::auth::limit::FailureLimit;
use crate::http::error::ApiError;
use crate::http::live::Streams;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};

/// Most bytes of a form.
const FORM_BYTES: usize = 64 * 1024;

/// The routes, and the answer to every address nobody else has.
pub fn router() -> Router<Context> {
    Router::new()
        .route("/", get(lists::home))
        .route("/runs/{id}", get(run::run))
        .route("/runs/{id}/gates/{stage}", get(gate::gate))
        .route("/runs/{id}/stages/{stage}", get(stage::stage))
        .route("/runs/{id}/stages/{stage}/lines", get(stage::lines))
        .route("/runs/{id}/stages/{stage}/live", get(stage::follow))
        .route("/runs/{id}/{verb}", post(acts::act))
        .route("/deliveries", get(events::deliveries))
        .route("/deliveries/{id}", get(events::delivery))
        .route("/deliveries/{id}/redeliver", post(events::redeliver))
        .route("/why/{owner}/{repo}/{sha}", get(events::why))
        .route("/schedules", get(schedules::schedules))
        .route("/schedules/{id}/{verb}", post(schedules::act))
        .route("/why/{owner}/{repo}/pull/{number}", get(events::why_pull))
        .route("/{owner}/{repo}/commits/{sha}", get(events::why))
        .route("/runners", get(events::runners))
        .route("/sign-in", get(sign::ask).post(sign::enter))
        .route("/sign-out", post(sign::leave))
        .route("/theme", post(sign::theme))
        .merge(setup::router())
        .route("/assets/{digest}/{name}", get(assets::serve))
        .route("/{owner}/{repo}", get(lists::repo))
        .route("/{owner}/{repo}/environments", get(environments::list))
        .route("/{owner}/{repo}/environments/{name}", get(environments::one))
        .route("/{owner}/{repo}/environments/{name}/{verb}", post(environments::act))
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .layer(Extension(FailureLimit::default()))
        .layer(Extension(Streams::default()))
        .layer(Extension(log::Indexes::default()))
        .fallback(nothing_here)
}

/// Programs get the API's error, people a page.
async fn nothing_here(uri: Uri, headers: HeaderMap) -> Response {
    let error = ApiError::not_found();
    if uri.path().starts_with("/api/") || uri.path().starts_with("/webhooks/") {
        return error.into_response();
    }
    page::refused(&page::Frame::anonymous(&uri, &headers), error)
}
