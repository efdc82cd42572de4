//! The one HTTP error: `application/problem+json` (RFC 9457) with a code of the catalogue. It never shows internals.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// What a client is told when a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiError {
    /// The status's own words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What was wrong, for people.
    pub detail: String,
    /// The catalogue's code, such as `auth.required`.
    pub code: String,
    /// Names this request in the server's log.
    pub request_id: String,
    /// Every single thing that is wrong, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Seconds to wait, sent as `Retry-After`.
    #[serde(skip)]
    pub retry_after: Option<u64>,
    /// Where the same is found now, sent as `Location`.
    #[serde(skip)]
    pub moved: Option<Box<Moved>>,
}

/// A repository that is called something else now: the part of an address to put in the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// `owner/name` as it was asked for.
    pub from: String,
    /// `owner/name` as it is called now.
    pub to: String,
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Which, such as `inputs.replicas`.
    pub field: String,
    /// Its code.
    pub code: String,
    /// What is wrong with it.
    pub detail: String,
}

impl ApiError {
    /// A refusal with `status` and `code`.
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            request_id: ulid::Ulid::new().to_string().to_lowercase(),
            errors: vec![],
            retry_after: None,
            moved: None,
        }
    }

    /// 308: the repository in the address is called something else now.
    pub fn renamed(from: &str, to: &str) -> Self {
        let detail = format!("{from} is called {to} now.");
        let mut error = Self::new(StatusCode::PERMANENT_REDIRECT, "repo.renamed", detail);
        error.moved = Some(Box::new(Moved { from: from.to_owned(), to: to.to_owned() }));
        error
    }

    /// 404: it does not exist, or the caller may not know that it does.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here that you may see.")
    }

    /// 422 with each wrong field.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.detail.clone(),
            many => format!("{} fields are wrong.", many.len()),
        };
        let code = errors.first().map_or("field", |e| e.code.as_str()).to_owned();
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, &code, detail);
        error.errors = errors;
        error
    }

    /// 503: try again in `seconds`.
    pub fn unavailable(seconds: u64) -> Self {
        let mut error =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Rivet cannot do this just now; try again.");
        error.retry_after = Some(seconds);
        error
    }

    /// 500 for a fault of ours; the cause goes to the log under the request id, never to the client.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        let error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Rivet failed; the log has the cause.");
        tracing::error!(request_id = %error.request_id, %cause, "a request failed: {cause}");
        error
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (retry_after, moved) = (self.retry_after, self.moved.clone());
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(moved) = moved {
            response.extensions_mut().insert(*moved);
        }
        response
    }
}

impl From<crate::store::Error> for ApiError {
    fn from(error: crate::store::Error) -> Self {
        use crate::store::Error;
        match error {
            Error::NotFound => Self::not_found(),
            Error::Conflict => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                "Somebody else changed this at the same moment; look again and repeat.",
            ),
            Error::Illegal(why) => Self::new(StatusCode::CONFLICT, "state", why),
            Error::Database(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_)) => {
                Self::unavailable(30)
            }
            // The server ends (57P…), lost the connection (08…) or has no place left (53…).
            Error::Database(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| ["57P", "08", "53"].iter().any(|class| code.starts_with(class))) =>
            {
                Self::unavailable(30)
            }
            error @ (Error::Damaged(_) | Error::Database(_)) => Self::internal(&error),
        }
    }
}
