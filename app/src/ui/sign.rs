//! Signing in with a token and out again, and choosing colours.

use super::page::{Frame, render};
use crate::context::Context;
use crate::http::auth::limit::FailureLimit;
use crate::http::auth::{by_token, session};
use crate::http::error::ApiError;
use crate::http::server::Peer;
use crate::model::time::Timestamp;
use askama::Template;
use axum::Extension;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    frame: Frame,
    title: &'static str,
    next: String,
    problem: String,
}

/// A path of ours to go to, or `/`: never another site, however it is written.
fn own_path(next: &str) -> &str {
    let bytes = next.as_bytes();
    let plain = next.bytes().all(|byte| byte > b' ' && byte != b'\\' && byte != 0x7f);
    if plain && bytes.first() == Some(&b'/') && !matches!(bytes.get(1), Some(b'/' | b'\\')) { next } else { "/" }
}

/// `GET /sign-in`.
pub async fn ask(uri: Uri, headers: HeaderMap) -> Response {
    let query = uri.query().unwrap_or("");
    let next = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "next");
    let next = next.map(|(_, value)| own_path(&value).to_owned()).unwrap_or_else(|| "/".to_owned());
    render(&SignIn { frame: Frame::anonymous(&uri, &headers), title: "Sign in", next, problem: String::new() })
}

/// The form.
#[derive(Deserialize)]
pub struct Credentials {
    token: String,
    #[serde(default)]
    next: String,
}

/// `POST /sign-in`: ten wrong tokens in a quarter of an hour, then none.
pub async fn enter(
    State(context): State<Context>,
    Extension(limit): Extension<FailureLimit>,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
    Form(sent): Form<Credentials>,
) -> Response {
    let now = Timestamp::now();
    let address = peer.map(|Extension(Peer(address))| address.ip());
    let refuse = |error: ApiError| super::page::refused(&Frame::anonymous(&uri, &headers), error);
    if let Err(error) = session::check_origin(&context, &headers) {
        return refuse(error);
    }
    if let Err(seconds) = limit.check(address, now) {
        let mut error =
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "login.rate", "Too many wrong tokens; try again later.");
        error.retry_after = Some(seconds);
        return refuse(error);
    }
    let caller = match by_token(&context, sent.token.trim(), now).await {
        Ok(caller) if caller.limited_to().is_none() => caller,
        Ok(_) => return again(&uri, &headers, &sent, "A token that is limited to some repositories cannot sign in."),
        Err(error) if error.status == 401 => {
            limit.failed(address, now);
            return again(&uri, &headers, &sent, &error.detail);
        }
        Err(error) => return refuse(error),
    };
    match session::begin(&context, &caller.actor, caller.role, now).await {
        Ok(cookie) => with_cookie(Redirect::to(own_path(&sent.next)).into_response(), cookie),
        Err(error) => refuse(error),
    }
}

fn again(uri: &Uri, headers: &HeaderMap, sent: &Credentials, problem: &str) -> Response {
    let page = SignIn {
        frame: Frame::anonymous(uri, headers),
        title: "Sign in",
        next: own_path(&sent.next).to_owned(),
        problem: problem.to_owned(),
    };
    let mut response = render(&page);
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response
}

fn with_cookie(mut response: Response, cookie: HeaderValue) -> Response {
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// The form of signing out.
#[derive(Deserialize)]
pub struct Leaving {
    csrf: String,
}

/// `POST /sign-out`.
pub async fn leave(
    visitor: super::page::Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    Form(sent): Form<Leaving>,
) -> Result<Response, Response> {
    session::check_origin(&context, &headers).map_err(visitor.refuse())?;
    session::check_csrf(&visitor.caller, &sent.csrf).map_err(visitor.refuse())?;
    let cookie = session::end(&context, &visitor.caller, Timestamp::now()).await.map_err(visitor.refuse())?;
    Ok(with_cookie(Redirect::to("/sign-in").into_response(), cookie))
}

/// The form of the colours.
#[derive(Deserialize)]
pub struct Colours {
    theme: String,
    #[serde(default)]
    next: String,
}

/// `POST /theme`: a cookie that holds no secret and changes nothing but colours.
pub async fn theme(State(context): State<Context>, Form(sent): Form<Colours>) -> Response {
    let theme = match sent.theme.as_str() {
        "dark" => "dark",
        "light" => "light",
        _ => "",
    };
    let secure = if context.config.public_url.scheme() == "https" { "; Secure" } else { "" };
    let cookie = format!("rivet-theme={theme}; Path=/; Max-Age=31536000; SameSite=Lax{secure}");
    let response = Redirect::to(own_path(&sent.next)).into_response();
    match HeaderValue::from_str(&cookie) {
        Ok(cookie) => with_cookie(response, cookie),
        Err(_) => response,
    }
}

#[cfg(test)]
mod tests {
    use super::own_path;

    #[test]
    fn only_paths_of_ours_are_gone_to() {
        for next in ["//evil", "/\\evil", "https:evil", "https://evil", "evil", "", "/a\nb", "\\\\evil", "/\t/evil"] {
            assert_eq!(own_path(next), "/", "{next}");
        }
        assert_eq!(own_path("/acme/shop?branch=a%2Fb"), "/acme/shop?branch=a%2Fb");
    }
}
