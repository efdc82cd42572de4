//! PLACEHOLDER.

use crate::context::Context;
use axum::Router;

/// The routes.
pub fn router() -> Router<Context> {
    Router::new()
}
