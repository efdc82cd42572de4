//! What every answer gets: a request id, its count, the headers that protect a browser, and an answer even after a panic.

use super::error::{ApiError, Moved};
use crate::context::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

/// Names a request in the log and in the answer.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a page may load: itself, and nothing from anywhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Puts the layers around `router`.
pub fn around(router: Router, context: &Context) -> Router {
    router.layer(axum::middleware::from_fn_with_state(context.clone(), each_request))
}

async fn each_request(State(context): State<Context>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = ulid::Ulid::new().to_string().to_lowercase();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let asked = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    request.extensions_mut().insert(RequestId(id.clone()));
    // A panic is a fault of ours in one request; it must not become a closed connection, nor the end of others.
    let mut response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => ApiError::internal(&"a handler panicked").into_response(),
    };
    point_to(&mut response, &asked);
    protect(&mut response, context.config.public_url.scheme() == "https");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    let status = response.status().as_u16();
    context.metrics.request(&method, status, begun.elapsed());
    tracing::debug!(request_id = %id, %method, path, status, duration_ms = begun.elapsed().as_millis() as u64, "answered");
    response
}

/// Sends whoever asks about a repository by a name it had before to the same address under its name of now.
fn point_to(response: &mut Response, asked: &str) {
    let Some(Moved { from, to }) = response.extensions().get::<Moved>().cloned() else { return };
    let (path, query) = asked.split_once('?').map_or((asked, None), |(path, query)| (path, Some(query)));
    let mut place = path.replacen(&format!("/{from}"), &format!("/{to}"), 1);
    if let Some(query) = query {
        place = format!("{place}?{query}");
    }
    // An address that does not hold the name as it was asked for would lead back to itself.
    if place != asked
        && let Ok(place) = HeaderValue::from_str(&place)
    {
        response.headers_mut().insert(header::LOCATION, place);
    }
}

/// Sets the headers an answer does not set itself: a raw log or a download has a stricter policy of its own.
fn protect(response: &mut Response, https: bool) {
    let page = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.starts_with("text/html"));
    let mut set = |name: HeaderName, value: &'static str| {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "same-origin");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(header::CONTENT_SECURITY_POLICY, if page { POLICY } else { "default-src 'none'; frame-ancestors 'none'" });
    if https {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}
