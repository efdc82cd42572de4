//! Queries and bodies, read strictly: what is repeated, unknown or out of range is refused by name and never guessed.

use crate::http::error::{ApiError, FieldError};
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use base64::Engine as _;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// Most bytes of a request's body.
pub const BODY_BYTES: usize = 1 << 20;

/// The query of a request as `T`, which should deny unknown fields.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or("");
        let mut seen = BTreeSet::new();
        for (name, _) in url::form_urlencoded::parse(query.as_bytes()) {
            if seen.contains(&name) {
                return Err(bad("param.repeated", format!("{name} was sent more than once.")));
            }
            seen.insert(name);
        }
        let Query(value) = Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| {
            let cause = innermost(&rejection);
            match cause.split('`').nth(1) {
                Some(name) if cause.contains("unknown field") => {
                    bad("param.unknown", format!("There is no parameter {name} here."))
                }
                _ => bad("param.invalid", format!("The query cannot be read: {cause}.")),
            }
        })?;
        Ok(Self(value))
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn bad(code: &str, detail: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, code, detail)
}

/// A JSON body as `T`, which should deny unknown fields.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json =
            request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|text| {
                text.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json")
            });
        let bytes = read_bytes(request, state).await?;
        // An empty body asks for nothing special, whatever it calls itself.
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        if !is_json && bytes.as_ref() != b"{}" {
            let detail = "Send the body as application/json.";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "body.content_type", detail));
        }
        parse(&bytes).map(Self)
    }
}

async fn read_bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("Body exceeds {BODY_BYTES} bytes.");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body.too_large", detail)
        }
        _ => bad("body.unreadable", "The body could not be read to its end."),
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        match cause.classify() {
            serde_json::error::Category::Data => ApiError::fields(vec![wrong_field(&path, &cause.to_string())]),
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => {
                let (line, column) = (cause.line(), cause.column());
                bad("body.json", format!("Body is not valid JSON (line {line} column {column})."))
            }
        }
    })
}

fn wrong_field(path: &str, cause: &str) -> FieldError {
    let cause = cause.split(" at line ").next().unwrap_or(cause);
    let named = cause.split('`').nth(1).unwrap_or(path).to_owned();
    if cause.starts_with("unknown field") {
        return FieldError {
            detail: format!("There is no field {named}."),
            field: named,
            code: "field.unknown".into(),
        };
    }
    if cause.starts_with("missing field") {
        return FieldError { detail: format!("{named} is required."), field: named, code: "field.required".into() };
    }
    FieldError { field: path.to_owned(), code: "field.type".into(), detail: format!("{path}: {cause}.") }
}

/// Which page of a list: `limit` at most 100, and the cursor the page before answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How many.
    pub limit: usize,
    /// After which id.
    pub after: Option<String>,
}

/// How many where nothing is said.
const LIMIT: usize = 30;

impl Page {
    /// Reads the two parameters every list has.
    pub fn new(limit: Option<&str>, cursor: Option<&str>) -> Result<Self, ApiError> {
        let limit = match limit {
            None => LIMIT,
            Some(text) => match text.parse() {
                Ok(n @ 1..=100) => n,
                _ => return Err(bad("param.range", "limit must be 1 to 100.")),
            },
        };
        let after = cursor.map(decode_cursor).transpose()?;
        Ok(Self { limit, after })
    }

    /// The page of `rows`, of which one more than `limit` was asked for.
    pub fn cut<T>(&self, mut rows: Vec<T>, id: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows.last().filter(|_| more).map(|last| encode_cursor(id(last)));
        (rows, next)
    }
}

fn encode_cursor(id: &str) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id)
}

fn decode_cursor(cursor: &str) -> Result<String, ApiError> {
    let invalid = || bad("param.cursor", "The cursor is not one this list gave out.");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
    String::from_utf8(bytes).ok().filter(|id| is_word(id)).ok_or_else(invalid)
}

fn is_word(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':');
    !id.is_empty() && id.len() <= 64 && id.chars().all(allowed)
}

/// Refuses an id no row could have; what looks like one is for the look-up to find or not.
pub fn check_id(id: &str) -> Result<(), ApiError> {
    let number = id.parse::<f64>().is_ok() && id.len() != 26;
    if is_word(id) && !number {
        return Ok(());
    }
    Err(bad("id.invalid", "This is not an id."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_junk_are_no_ids() {
        for id in ["1e9", "-1", "9223372036854775808", "", "a b", "../x", "nan"] {
            assert!(check_id(id).is_err(), "{id}");
        }
        for id in ["01jd3c8v6x0000000000000000", "nope", "0b1f8d5e-6a7c-4a3e-9a55-d34db33f0000"] {
            assert!(check_id(id).is_ok(), "{id}");
        }
    }

    #[test]
    fn a_limit_is_from_1_to_100() {
        for limit in ["0", "101", "1000000", "-1", "ten", ""] {
            assert_eq!(Page::new(Some(limit), None).unwrap_err().code, "param.range", "{limit}");
        }
        for limit in [1, 99, 100] {
            assert_eq!(Page::new(Some(&limit.to_string()), None).unwrap().limit, limit);
        }
    }

    #[test]
    fn a_cursor_is_given_only_where_more_follows() {
        let page = Page::new(Some("2"), None).unwrap();
        let (rows, next) = page.cut(vec!["c", "b", "a"], |id| id);
        assert_eq!(rows, ["c", "b"]);
        let next = Page::new(None, next.as_deref()).unwrap();
        assert_eq!(next.after.as_deref(), Some("b"));
        assert_eq!(page.cut(vec!["c", "b"], |id| id).1, None);
        assert_eq!(Page::new(None, Some("%%")).unwrap_err().code, "param.cursor");
    }
}
