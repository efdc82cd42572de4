//! Sessions of browsers: a random id in a cookie, everything else on the server. A form is believed where its `Origin`
//! is ours and it carries the session's own word.

use super::{Caller, Credential, hash, random_token};
use crate::context::Context;
use crate::http::error::ApiError;
use crate::model::role::Role;
use crate::model::time::Timestamp;
use crate::store::sessions::Session;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use subtle::ConstantTimeEq;

const IDLE_SECONDS: u64 = 12 * 3600;
const ABSOLUTE_SECONDS: u64 = 7 * 24 * 3600;
const TOUCH_MILLIS: i64 = 60_000;

/// The cookie's name. `__Host-` makes browsers refuse one that another site or a plain connection set; they accept it
/// over https only, so an instance on this machine's loopback goes without.
fn cookie_name(context: &Context) -> &'static str {
    if is_https(context) { "__Host-rivet" } else { "rivet" }
}

fn is_https(context: &Context) -> bool {
    context.config.public_url.scheme() == "https"
}

/// A cookie's value, wherever it stands among the others.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Whether a session may still be used.
pub(super) fn is_live(session: &Session, now: Timestamp) -> bool {
    session.expires_at > now && session.last_seen_at.plus_seconds(IDLE_SECONDS) > now
}

/// The caller the request's cookie stands for.
pub async fn by_cookie(context: &Context, headers: &HeaderMap, now: Timestamp) -> Result<Option<Caller>, ApiError> {
    let Some(id) = cookie(headers, cookie_name(context)) else { return Ok(None) };
    let id_hash = hash(id);
    let session = context.store.read().await?.session(&id_hash).await?;
    let Some(session) = session.filter(|session| is_live(session, now)) else { return Ok(None) };
    if now.since(session.last_seen_at) > TOUCH_MILLIS {
        let mut tx = context.store.begin().await?;
        tx.touch_session(&id_hash, now).await?;
        tx.commit().await?;
    }
    Ok(Some(Caller {
        actor: session.actor,
        role: session.role,
        repos: None,
        credential: Credential::Session { id_hash, csrf: session.csrf },
    }))
}

/// Begins a session and answers its cookie. Always under a new id: one that was there before the sign-in may be known
/// to somebody else.
pub async fn begin(context: &Context, actor: &str, role: Role, now: Timestamp) -> Result<HeaderValue, ApiError> {
    let id = random_token("");
    let session = Session {
        role,
        actor: actor.to_owned(),
        csrf: random_token(""),
        created_at: now,
        last_seen_at: now,
        expires_at: now.plus_seconds(ABSOLUTE_SECONDS),
    };
    let mut tx = context.store.begin().await?;
    tx.add_session(&hash(&id), &session).await?;
    tx.commit().await?;
    set_cookie(context, &id, ABSOLUTE_SECONDS)
}

/// Ends a session on the server and answers the cookie that forgets it.
pub async fn end(context: &Context, caller: &Caller, now: Timestamp) -> Result<HeaderValue, ApiError> {
    if let Some(id_hash) = caller.session_hash() {
        let mut tx = context.store.begin().await?;
        tx.end_session(id_hash, now).await?;
        tx.commit().await?;
    }
    set_cookie(context, "", 0)
}

fn set_cookie(context: &Context, value: &str, seconds: u64) -> Result<HeaderValue, ApiError> {
    let name = cookie_name(context);
    let secure = if is_https(context) { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).map_err(|error| ApiError::internal(&error))
}

/// Refuses a form whose page was not ours. Browsers send `Origin` with every POST, so none is a refusal too.
pub fn check_origin(context: &Context, headers: &HeaderMap) -> Result<(), ApiError> {
    let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let public = context.config.public_url.origin().ascii_serialization();
    let scheme = context.config.public_url.scheme();
    match origin {
        Some(origin) if origin == public => Ok(()),
        // The same machine by another name, such as localhost for 127.0.0.1.
        Some(origin) if host.is_some_and(|host| origin == format!("{scheme}://{host}")) => Ok(()),
        _ => Err(csrf_refused()),
    }
}

/// Refuses a form without the session's word.
pub fn check_csrf(caller: &Caller, sent: &str) -> Result<(), ApiError> {
    let expected = caller.csrf().unwrap_or("");
    if !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(sent.as_bytes())) {
        return Ok(());
    }
    Err(csrf_refused())
}

fn csrf_refused() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "csrf", "Reload the page and try again.")
}
