//! Everything spoken over HTTP, on one port. Routers are named by their caller.

pub mod api;
pub mod auth;
pub mod error;
pub mod health;
pub mod layers;
pub mod live;
pub mod local;
pub mod params;
pub mod runner_api;
pub mod server;
pub mod webhook;

use crate::context::Context;
use axum::Router;

/// Every route of the server.
#[expect(clippy::needless_pass_by_value, reason = "a context is cheap to clone, and a router is made from its own")]
pub fn router(context: Context) -> Router {
    let routes = Router::new()
        .merge(webhook::router())
        .merge(runner_api::router())
        .merge(api::router())
        .merge(local::router())
        .merge(health::router())
        .merge(crate::ui::router())
        .with_state(context.clone());
    layers::around(routes, &context)
}
