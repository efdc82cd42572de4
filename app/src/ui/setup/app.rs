//! The App in use: how GitHub sees it, where it is installed, whether deliveries arrive, and what can be changed.

use super::forms::Fields;
use super::{admin, own_form, sentences};
use crate::actions::setup::inspect::{self, Inspection, Level, Note, Reach};
use crate::actions::setup::{SetupError, change};
use crate::context::Context;
use crate::forge::github::slot::{InUse, Origin};
use crate::model::time::Timestamp;
use crate::store::github_app::StoredApp;
use crate::ui::page::{Frame, Visitor, render};
use crate::ui::text::{Moment, clean};
use askama::Template;
use axum::extract::{Form, Multipart, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

/// A note as the page shows it.
struct Row {
    tone: &'static str,
    shape: &'static str,
    word: &'static str,
    what: &'static str,
    detail: String,
    hints: Vec<String>,
    link: Option<String>,
    action: &'static str,
}

impl Row {
    fn of(note: &Note) -> Self {
        let (tone, shape, word) = match note.level {
            Level::Good => ("good", "check", "good"),
            Level::Warning => ("ask", "bang", "warning"),
            Level::Trouble => ("bad", "cross", "trouble"),
        };
        let action = if note.what == "installations" { "Accept them on GitHub" } else { "Change it on GitHub" };
        let link = note.link.clone().filter(|_| note.level != Level::Good);
        let hints = note.hint.iter().flat_map(|hint| hint.lines()).map(clean).collect();
        Self { tone, shape, word, what: note.what, detail: clean(&note.detail), hints, link, action }
    }
}

struct Installed {
    account: String,
    selection: &'static str,
    suspended: bool,
    link: Option<String>,
}

#[derive(Template)]
#[template(path = "setup_app.html")]
struct App<'a> {
    frame: &'a Frame,
    title: &'static str,
    name: String,
    page: Option<String>,
    install: Option<String>,
    by_settings: bool,
    done: &'static str,
    problems: Vec<String>,
    notes: Vec<Row>,
    installed: Vec<Installed>,
    test: Option<Row>,
    asked: String,
    wrong_hook: bool,
    hook: String,
    changing_secret: bool,
    previous_until: Option<Moment>,
}

/// What a change that worked says.
fn done(key: &str) -> &'static str {
    match key {
        "connected" => "The App is in use, in every instance, without a restart. Install it on repositories next.",
        "secret-new" => "A new webhook secret is accepted from now on; GitHub is told in a few seconds.",
        "secret-set" => "The webhook secret is in use; the one before it is accepted for a day.",
        "key" => "The new private key is in use. Delete the old one in the App's settings on GitHub.",
        "hook" => "GitHub sends deliveries here now.",
        _ => "",
    }
}

fn asked_of(uri: &Uri, name: &str) -> String {
    let query = url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes());
    query.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// The page.
pub async fn show(context: &Context, visitor: &Visitor, app: &InUse, uri: &Uri) -> Result<Response, Response> {
    let asked = asked_of(uri, "asked");
    let test = match (asked.as_str(), asked.parse::<i64>()) {
        ("none", _) => {
            Some(Err("GitHub has not delivered anything yet. Install the App on a repository first.".to_owned()))
        }
        (_, Ok(id)) => Some(inspect::outcome(&app.client, &context.store, id).await.map_err(|e| e.to_string())),
        _ => None,
    };
    page(context, visitor, app, done(&asked_of(uri, "done")), vec![], (asked, test)).await
}

/// The page with problems at its top.
pub async fn show_with(
    context: &Context,
    visitor: &Visitor,
    app: &InUse,
    problems: Vec<String>,
) -> Result<Response, Response> {
    let mut response = page(context, visitor, app, "", problems, (String::new(), None)).await?;
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(response)
}

async fn page(
    context: &Context,
    visitor: &Visitor,
    app: &InUse,
    done: &'static str,
    problems: Vec<String>,
    (asked, test): (String, Option<Result<Reach, String>>),
) -> Result<Response, Response> {
    let read = async { context.store.read().await?.github_app().await };
    let stored = read.await.map_err(|error| visitor.refuse()(error.into()))?;
    let by_settings = app.origin == Origin::Settings;
    let stored = stored.filter(|_| !by_settings);
    let hook = context.link("/webhooks/github");
    let found = inspect::inspect(&app.client, &hook).await;
    let test = test.map(|test| match test {
        Ok(reach) => Row::of(&reach.note(&hook)),
        Err(said) => Row::of(&Note { what: "delivery", level: Level::Warning, detail: said, hint: None, link: None }),
    });
    let now = Timestamp::now();
    let page = facts_page(app, &found, stored.as_ref());
    Ok(render(&App {
        frame: &visitor.frame,
        title: "GitHub App",
        name: name(&found, stored.as_ref()),
        install: page.as_ref().map(|page| format!("{page}/installations/new")),
        page,
        by_settings,
        done,
        problems,
        installed: installed(app, &found),
        wrong_hook: found.notes.iter().any(|note| note.what == "webhook" && note.level != Level::Good),
        notes: found.notes.iter().map(Row::of).collect(),
        test,
        asked,
        hook,
        changing_secret: stored.as_ref().is_some_and(|app| app.next_secret_at.is_some()),
        previous_until: stored
            .and_then(|app| app.previous_secret_until)
            .filter(|until| *until > now)
            .map(|until| Moment::new(until, now)),
    }))
}

fn name(found: &Inspection, stored: Option<&StoredApp>) -> String {
    let name = found.facts.as_ref().map(|facts| facts.name.as_str()).or(stored.map(|app| app.name.as_str()));
    clean(name.unwrap_or("GitHub App"))
}

/// The App's page on GitHub, where it is one of GitHub's.
fn facts_page(app: &InUse, found: &Inspection, stored: Option<&StoredApp>) -> Option<String> {
    let told = found.facts.as_ref().map(|facts| facts.html_url.as_str()).or(stored.map(|app| app.html_url.as_str()));
    inspect::link(&app.client, told?)
}

fn installed(app: &InUse, found: &Inspection) -> Vec<Installed> {
    let row = |one: &crate::forge::github::InstallationFacts| Installed {
        account: one.account.clone(),
        selection: if one.selection == "all" { "all repositories" } else { "selected repositories" },
        suspended: one.suspended,
        link: inspect::link(&app.client, &one.html_url),
    };
    found.installations.iter().map(row).collect()
}

/// What the small forms send.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Sent {
    csrf: String,
    secret: String,
    sure: String,
}

/// Back to the page: with what was done, or with what was wrong.
async fn answer(
    context: &Context,
    visitor: &Visitor,
    done: Result<(), SetupError>,
    key: &str,
) -> Result<Response, Response> {
    match done {
        Ok(()) => Ok(Redirect::to(&format!("/setup?done={key}")).into_response()),
        Err(error) => {
            let problems = sentences(visitor, error)?;
            match context.forges.github.in_use() {
                Some(app) => show_with(context, visitor, &app, problems).await,
                None => Ok(Redirect::to("/setup").into_response()),
            }
        }
    }
}

/// `POST /setup/test`: asks GitHub to deliver once more; the page then tells what becomes of it.
pub async fn test(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    Form(sent): Form<Sent>,
) -> Result<Response, Response> {
    let visitor = admin(visitor)?;
    own_form(&context, &visitor, &headers, &sent.csrf)?;
    let Some(app) = context.forges.github.in_use() else { return Ok(Redirect::to("/setup").into_response()) };
    match inspect::ask_again(&app.client).await {
        Ok(asked) => {
            let asked = asked.map_or("none".to_owned(), |id| id.to_string());
            Ok(Redirect::to(&format!("/setup?asked={asked}")).into_response())
        }
        Err(error) => answer(&context, &visitor, Err(error.into()), "").await,
    }
}

/// `POST /setup/hook`.
pub async fn point_hook_here(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    Form(sent): Form<Sent>,
) -> Result<Response, Response> {
    let visitor = admin(visitor)?;
    own_form(&context, &visitor, &headers, &sent.csrf)?;
    let done = change::point_hook_here(&context, &visitor.caller.actor, Timestamp::now()).await;
    answer(&context, &visitor, done, "hook").await
}

/// `POST /setup/webhook-secret`: the one that was sent, or else a new one.
pub async fn webhook_secret(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    Form(sent): Form<Sent>,
) -> Result<Response, Response> {
    let visitor = admin(visitor)?;
    own_form(&context, &visitor, &headers, &sent.csrf)?;
    let (actor, now) = (visitor.caller.actor.as_str(), Timestamp::now());
    if sent.secret.is_empty() {
        let done = change::new_webhook_secret(&context, actor, now).await;
        return answer(&context, &visitor, done, "secret-new").await;
    }
    let done = change::set_webhook_secret(&context, &sent.secret.into(), actor, now).await;
    answer(&context, &visitor, done, "secret-set").await
}

/// `POST /setup/key`.
pub async fn key(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    form: Multipart,
) -> Result<Response, Response> {
    let visitor = admin(visitor)?;
    let fields = Fields::read(form).await.map_err(visitor.refuse())?;
    own_form(&context, &visitor, &headers, fields.get("csrf"))?;
    let key = fields.or_file("private_key").into();
    let done = change::replace_key(&context, &key, &visitor.caller.actor, Timestamp::now()).await;
    answer(&context, &visitor, done, "key").await
}

/// `POST /setup/disconnect`, with the box ticked.
pub async fn disconnect(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    Form(sent): Form<Sent>,
) -> Result<Response, Response> {
    let visitor = admin(visitor)?;
    own_form(&context, &visitor, &headers, &sent.csrf)?;
    if sent.sure != "yes" {
        let problem = "Tick the box if the App shall really be disconnected.".to_owned();
        return answer(&context, &visitor, Err(SetupError::Wrong(vec![problem])), "").await;
    }
    let done = change::disconnect(&context, &visitor.caller.actor, Timestamp::now()).await;
    answer(&context, &visitor, done, "disconnected").await
}
