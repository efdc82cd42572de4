//! No App yet: one is made on GitHub from a manifest, or one that exists is named.

use super::address::Address;
use super::forms::Fields;
use super::{admin, own_form, sentences};
use crate::actions::setup::connect::{self, Given};
use crate::actions::setup::manifest::{self, Departure, Wanted};
use crate::context::Context;
use crate::forge::github::needs::{EVENTS, Event, PERMISSIONS, Permission};
use crate::model::time::Timestamp;
use crate::ui::page::{Frame, Visitor, render};
use askama::Template;
use axum::extract::{Form, Multipart, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

/// What is in the forms: what was sent and refused comes back, but for secrets.
#[derive(Default)]
pub struct Filled {
    organization: String,
    name: String,
    host: String,
    app_id: String,
    existing: bool,
}

#[derive(Template)]
#[template(path = "setup_start.html")]
struct Start<'a> {
    frame: &'a Frame,
    title: &'static str,
    address: Address,
    problems: Vec<String>,
    filled: &'a Filled,
    usual_name: String,
    /// Where GitHub is, where the settings say so.
    fixed_host: Option<String>,
    permissions: &'static [Permission],
    events: &'static [Event],
}

/// The page with both ways.
pub fn show(
    context: &Context,
    visitor: &Visitor,
    headers: &HeaderMap,
    filled: &Filled,
    problems: Vec<String>,
) -> Result<Response, Response> {
    let wrong = !problems.is_empty();
    let hosts = context.config.github_hosts.as_ref();
    let mut response = render(&Start {
        frame: &visitor.frame,
        title: "Connect GitHub",
        address: Address::of(context, headers),
        problems,
        filled,
        usual_name: manifest::usual_name(&context.config),
        fixed_host: hosts.map(|hosts| hosts.server_url.as_str().trim_end_matches('/').to_owned()),
        permissions: PERMISSIONS,
        events: EVENTS,
    });
    if wrong {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// The form of a new App.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct NewApp {
    csrf: String,
    organization: String,
    name: String,
    host: String,
}

#[derive(Template)]
#[template(path = "setup_leave.html")]
struct Leave<'a> {
    frame: &'a Frame,
    title: &'static str,
    departure: &'a Departure,
    pretty: String,
}

/// `POST /setup/app`: the page whose button leaves for GitHub, with everything it takes there in sight.
pub async fn leave(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    Form(sent): Form<NewApp>,
) -> Result<Response, Response> {
    let visitor = admin(visitor)?;
    own_form(&context, &visitor, &headers, &sent.csrf)?;
    let wanted = Wanted { organization: sent.organization.clone(), name: sent.name.clone(), host: sent.host.clone() };
    let session = visitor.caller.session_hash().unwrap_or("");
    match manifest::begin(&context, session, &wanted, Timestamp::now()).await {
        Ok(departure) => Ok(leaving(&visitor, &departure)),
        Err(error) => {
            let filled =
                Filled { organization: sent.organization, name: sent.name, host: sent.host, ..Filled::default() };
            show(&context, &visitor, &headers, &filled, sentences(&visitor, error)?)
        }
    }
}

fn leaving(visitor: &Visitor, departure: &Departure) -> Response {
    let pretty: serde_json::Value = serde_json::from_str(&departure.manifest).unwrap_or_default();
    let pretty = serde_json::to_string_pretty(&pretty).unwrap_or_default();
    let mut response = render(&Leave { frame: &visitor.frame, title: "Continue on GitHub", departure, pretty });
    // The one page whose form may leave this site, and only for the host that was just checked.
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         form-action 'self' {}; base-uri 'none'; frame-ancestors 'none'",
        departure.origin
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// `GET /setup/created`: back from GitHub with a code. The session's cookie comes along, for this is a link somebody follows;
/// the state proves that this session left.
pub async fn created(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Response> {
    let visitor = admin(visitor)?;
    let (mut code, mut state) = (String::new(), String::new());
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
        match name.as_ref() {
            "code" => code = value.into_owned(),
            "state" => state = value.into_owned(),
            _ => {}
        }
    }
    let session = visitor.caller.session_hash().unwrap_or("");
    let actor = visitor.caller.actor.as_str();
    match manifest::finish(&context, session, (&code, &state), actor, Timestamp::now()).await {
        Ok(_) => Ok(Redirect::to("/setup?done=connected").into_response()),
        Err(error) => {
            let problems = sentences(&visitor, error)?;
            match context.forges.github.in_use() {
                Some(app) => super::app::show_with(&context, &visitor, &app, problems).await,
                None => show(&context, &visitor, &headers, &Filled::default(), problems),
            }
        }
    }
}

/// `POST /setup/connect`: an App that exists.
pub async fn connect(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    form: Multipart,
) -> Result<Response, Response> {
    let visitor = admin(visitor)?;
    let fields = Fields::read(form).await.map_err(visitor.refuse())?;
    own_form(&context, &visitor, &headers, fields.get("csrf"))?;
    let given = Given {
        app_id: fields.get("app_id").to_owned(),
        private_key: fields.or_file("private_key").into(),
        webhook_secret: fields.get("webhook_secret").into(),
        host: fields.get("host").to_owned(),
    };
    match connect::connect(&context, &given, &visitor.caller.actor, Timestamp::now()).await {
        Ok(_) => Ok(Redirect::to("/setup?done=connected").into_response()),
        Err(error) => {
            let filled = Filled { app_id: given.app_id, host: given.host, existing: true, ..Filled::default() };
            show(&context, &visitor, &headers, &filled, sentences(&visitor, error)?)
        }
    }
}
