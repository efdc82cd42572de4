//! The REST API under `/api/v1`, described by itself.

pub mod acts;
pub mod check;
pub mod deliveries;
pub mod environments;
pub mod events;
pub mod gates;
pub mod launch;
pub mod logs;
pub mod reports;
pub mod repos;
pub mod runners;
pub mod runs;
pub mod schedules;
pub mod shapes;
pub mod tokens;

use crate::context::Context;
use crate::http::error::ApiError;
use crate::http::params::BODY_BYTES;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::{Extension, Json, Router};
use std::sync::Arc;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Description;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(
    info(title = "Rivet", description = "Runs pipelines that live in repositories. Every call carries `Authorization: Bearer …`."),
    components(schemas(ApiError)),
    security(("bearer" = []))
)]
struct Api;

fn described() -> (Router<Context>, Description) {
    let (router, mut description) =
        OpenApiRouter::with_openapi(Api::openapi()).nest("/api/v1", operations()).split_for_parts();
    let bearer =
        utoipa::openapi::security::HttpBuilder::new().scheme(utoipa::openapi::security::HttpAuthScheme::Bearer).build();
    if let Some(components) = &mut description.components {
        components.add_security_scheme("bearer", utoipa::openapi::security::SecurityScheme::Http(bearer));
    }
    (router, description)
}

fn operations() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(openapi))
        .routes(routes!(repos::list))
        .routes(routes!(repos::get))
        .routes(routes!(repos::pipelines))
        .routes(routes!(runs::list, launch::launch_run))
        .routes(routes!(runs::get))
        .routes(routes!(runs::history))
        .routes(routes!(acts::cancel_run))
        .routes(routes!(acts::retry_run))
        .routes(routes!(acts::rerun_run))
        .routes(routes!(acts::decide))
        .routes(routes!(environments::undo_run))
        .routes(routes!(environments::list))
        .routes(routes!(environments::get))
        .routes(routes!(environments::deployments))
        .routes(routes!(environments::lock))
        .routes(routes!(environments::unlock))
        .routes(routes!(environments::roll_back))
        .routes(routes!(gates::list))
        .routes(routes!(gates::get))
        .routes(routes!(reports::list, reports::again))
        .routes(routes!(events::follow))
        .routes(routes!(logs::read))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::get))
        .routes(routes!(deliveries::redeliver))
        .routes(routes!(deliveries::why))
        .routes(routes!(runners::list))
        .routes(routes!(runners::list_tokens, runners::create_token))
        .routes(routes!(runners::revoke_token))
        .routes(routes!(runners::remove))
        .routes(routes!(runners::drain))
        .routes(routes!(runners::pause))
        .routes(routes!(runners::resume))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::get))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(check::check))
        .routes(routes!(check::pipeline_schema))
}

/// What `GET /api/v1/openapi.json` answers.
pub fn description() -> Description {
    described().1
}

/// The routes.
pub fn router() -> Router<Context> {
    let (router, description) = described();
    router
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(Extension(Arc::new(description)))
        .layer(Extension(crate::http::live::Streams::default()))
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "This address does not take that method.")
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "description", security(()), responses((status = 200, body = Object)))]
async fn openapi(Extension(description): Extension<Arc<Description>>) -> Json<Description> {
    Json(description.as_ref().clone())
}
