//! The web pages: rendered here, complete without JavaScript.

use crate::context::Context;
use crate::http::error::ApiError;
use axum::Router;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};

/// The routes, and the answer to every address nobody else has.
pub fn router() -> Router<Context> {
    Router::new().fallback(nothing_here)
}

async fn nothing_here(_: Uri) -> Response {
    ApiError::not_found().into_response()
}
