//! Claiming a fresh instance: the token is looked at only when the button is pressed, so that whatever follows links before
//! a person does (a chat, a mail filter) does not use it up.

use super::address::Address;
use crate::actions::setup::{SetupError, token};
use crate::context::Context;
use crate::http::auth::limit::FailureLimit;
use crate::http::auth::session;
use crate::http::error::ApiError;
use crate::http::server::Peer;
use crate::model::role::Role;
use crate::model::time::Timestamp;
use crate::ui::page::{Frame, refused, render};
use askama::Template;
use axum::Extension;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

#[derive(Template)]
#[template(path = "setup_claim.html")]
struct Claim {
    frame: Frame,
    title: &'static str,
    token: String,
    problem: String,
    address: Address,
}

/// The page for nobody in particular: the token's form while there is one to be had, else the way to sign in.
pub async fn ask(
    context: &Context,
    uri: &Uri,
    headers: &HeaderMap,
    to_sign_in: Response,
) -> Result<Response, Response> {
    let failed = |error: ApiError| refused(&Frame::anonymous(uri, headers), error);
    let open = async {
        let mut tx = context.store.read().await.map_err(SetupError::from)?;
        token::is_open(context, &mut tx).await
    };
    match open.await {
        Ok(true) => {
            let query = url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes());
            let token = query.into_iter().find(|(name, _)| name == "token").map(|(_, value)| value.into_owned());
            Ok(page(context, uri, headers, token.unwrap_or_default(), String::new()))
        }
        Ok(false) if uri.query().is_some_and(|query| query.contains("token=")) => {
            let problem = "This address was used already. Sign in with the admin token, or make a new address on the \
                           server: rivet admin setup-url";
            let mut response = page(context, uri, headers, String::new(), problem.to_owned());
            *response.status_mut() = StatusCode::FORBIDDEN;
            Ok(response)
        }
        Ok(false) => Err(to_sign_in),
        Err(SetupError::Store(error)) => Err(failed(error.into())),
        Err(error) => Err(failed(ApiError::internal(&error))),
    }
}

fn page(context: &Context, uri: &Uri, headers: &HeaderMap, token: String, problem: String) -> Response {
    let mut frame = Frame::anonymous(uri, headers);
    // The colours' form comes back to the page, without the token in an address once more.
    frame.here = "/setup".to_owned();
    render(&Claim { frame, title: "Set up Rivet", token, problem, address: Address::of(context, headers) })
}

/// The form.
#[derive(Deserialize)]
pub struct Sent {
    token: String,
}

/// `POST /setup/claim`: the token for a session with the admin role, once. Guessing is slowed down like signing in.
pub async fn claim(
    State(context): State<Context>,
    Extension(limit): Extension<FailureLimit>,
    peer: Option<Extension<Peer>>,
    uri: Uri,
    headers: HeaderMap,
    Form(sent): Form<Sent>,
) -> Response {
    let now = Timestamp::now();
    let peer = peer.map(|Extension(Peer(address))| address.ip());
    let refuse = |error: ApiError| refused(&Frame::anonymous(&uri, &headers), error);
    if let Err(mut error) = session::check_origin(&context, &headers) {
        let address = Address::of(&context, &headers);
        if let Some(seen) = address.seen {
            error.detail = format!(
                "This page was reached as {seen}, and the settings say {}. Set RIVET_PUBLIC_URL to the address people \
                 and GitHub use, and start again.",
                address.public
            );
        }
        return refuse(error);
    }
    if let Err(seconds) = limit.check(peer, now) {
        let detail = "Too many wrong tokens; try again later.";
        let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "login.rate", detail);
        error.retry_after = Some(seconds);
        return refuse(error);
    }
    match token::claim(&context, sent.token.trim(), now).await {
        Ok(()) => match session::begin(&context, "setup", Role::Admin, now).await {
            Ok(cookie) => {
                let mut response = Redirect::to("/setup").into_response();
                response.headers_mut().append(header::SET_COOKIE, cookie);
                response
            }
            Err(error) => refuse(error),
        },
        Err(SetupError::Store(error)) => refuse(error.into()),
        Err(error) => {
            limit.failed(peer, now);
            let mut response = page(&context, &uri, &headers, String::new(), error.to_string());
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        }
    }
}
