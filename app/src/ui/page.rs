//! What every page has: who looks at it, in which colours, and how it becomes an answer.

use super::assets;
use crate::context::Context;
use crate::http::auth::{Caller, session};
use crate::http::error::ApiError;
use crate::model::role::Role;
use crate::model::time::Timestamp;
use askama::Template;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Redirect, Response};

/// The frame of a page.
#[derive(Debug, Clone)]
pub struct Frame {
    /// `light`, `dark`, or empty: what the system says.
    pub theme: &'static str,
    /// Who is signed in; empty: nobody.
    pub actor: String,
    /// The word every form carries.
    pub csrf: String,
    /// Whether they may start and stop things.
    pub may_act: bool,
    /// Whether they may run the instance.
    pub is_admin: bool,
    /// Where the style is.
    pub style: String,
    /// Where the script is.
    pub script: String,
    /// Where the icon is.
    pub icon: String,
    /// This page's own path and query, to come back to.
    pub here: String,
}

impl Frame {
    /// The frame for nobody in particular.
    pub fn anonymous(uri: &Uri, headers: &HeaderMap) -> Self {
        Self {
            theme: theme(uri, headers),
            actor: String::new(),
            csrf: String::new(),
            may_act: false,
            is_admin: false,
            style: assets::address("rivet.css"),
            script: assets::address("rivet.js"),
            icon: assets::address("icon.svg"),
            here: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        }
    }

    fn of(caller: &Caller, uri: &Uri, headers: &HeaderMap) -> Self {
        Self {
            actor: super::text::clean(&caller.actor),
            csrf: caller.csrf().unwrap_or("").to_owned(),
            may_act: caller.role >= Role::User,
            is_admin: caller.role >= Role::Admin,
            ..Self::anonymous(uri, headers)
        }
    }
}

/// `?theme=` for one look, else the cookie.
fn theme(uri: &Uri, headers: &HeaderMap) -> &'static str {
    let query = uri.query().unwrap_or("");
    let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "theme").map(|(_, value)| value);
    match asked.as_deref().or_else(|| session::cookie(headers, "rivet-theme")) {
        Some("dark") => "dark",
        Some("light") => "light",
        _ => "",
    }
}

/// A signed-in person at a page. Whoever is not is sent to sign in and back again.
pub struct Visitor {
    /// Who.
    pub caller: Caller,
    /// The frame for them.
    pub frame: Frame,
}

impl FromRequestParts<Context> for Visitor {
    type Rejection = Response;
    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Response> {
        let found = session::by_cookie(context, &parts.headers, Timestamp::now()).await;
        match found.map_err(|error| refused(&Frame::anonymous(&parts.uri, &parts.headers), error))? {
            Some(caller) => Ok(Self { frame: Frame::of(&caller, &parts.uri, &parts.headers), caller }),
            None => {
                let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
                let next: String = url::form_urlencoded::byte_serialize(here.as_bytes()).collect();
                Err(Redirect::to(&format!("/sign-in?next={next}")).into_response())
            }
        }
    }
}

impl Visitor {
    /// A refusal as a page for them.
    pub fn refuse(&self) -> impl Fn(ApiError) -> Response + '_ {
        |error| refused(&self.frame, error)
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: &'a Frame,
    title: String,
    error: &'a ApiError,
}

/// A refusal as a page: what is wrong, and the id the log knows it by.
pub fn refused(frame: &Frame, mut error: ApiError) -> Response {
    if error.code == "not_found" {
        error.title = "Not found".to_owned();
        error.detail = "There is nothing at this address, or it belongs to a repository you may not see.".to_owned();
    }
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let page = ErrorPage { frame, title: error.title.clone(), error: &error };
    let mut response = render(&page);
    *response.status_mut() = status;
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(moved) = error.moved {
        response.extensions_mut().insert(*moved);
    }
    response
}

/// A template as an answer that nobody keeps: it shows what a session may see.
pub fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => {
            let mut response = Html(html).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) => ApiError::internal(&error).into_response(),
    }
}
