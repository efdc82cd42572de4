//! The environments of a repository: what stands in each, its ledger, its lock, and going back. The buttons are forms that
//! need no JavaScript.

use super::page::{Frame, Visitor, render};
use super::text::{Moment, clean, short_sha};
use crate::actions::rollback::{self, Wish};
use crate::actions::{self};
use crate::context::Context;
use crate::http::api::environments::{page_of, standing};
use crate::http::api::repos;
use crate::http::auth::session::{check_csrf, check_origin};
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::model::deployment::{Deployment, DeploymentState};
use crate::model::role::Role;
use crate::model::time::Timestamp;
use crate::store::deployments::Standing;
use askama::Template;
use axum::extract::{Form, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

/// How many entries a page shows.
const ENTRIES: usize = 50;

/// A deployment as a row.
struct Row {
    number: i64,
    word: &'static str,
    tone: &'static str,
    reason: String,
    href: String,
    stage: String,
    sha: String,
    branch: String,
    actor: String,
    approvers: String,
    again: Option<i64>,
    started: Moment,
    /// Whether it may be gone back to.
    good: bool,
}

impl Row {
    fn new(entry: &Deployment, now: Timestamp) -> Self {
        let (word, tone) = match entry.state {
            DeploymentState::InProgress => ("Under way", "run"),
            DeploymentState::Succeeded => ("Stands", "good"),
            DeploymentState::Failed => ("Failed", "bad"),
            DeploymentState::RolledBack => ("Rolled back", "warn"),
            DeploymentState::Superseded => ("Superseded", "dim"),
        };
        Self {
            number: entry.number,
            word,
            tone,
            reason: clean(&entry.reason),
            href: format!("/runs/{}", entry.run_id),
            stage: clean(&entry.stage),
            sha: short_sha(&entry.sha),
            branch: super::rows::branch_of(None, &entry.git_ref),
            actor: clean(&entry.actor),
            approvers: clean(&entry.approvers.0.join(", ")),
            again: entry.rollback_to,
            started: Moment::new(entry.started_at, now),
            good: entry.state.is_good(),
        }
    }
}

/// An environment as a page shows it.
struct Shown {
    name: String,
    href: String,
    /// What its lock says.
    lock: Option<String>,
    current: Option<Row>,
    last: Option<Row>,
    forge_error: Option<String>,
}

impl Shown {
    fn new(repo: &str, standing: &Standing, now: Timestamp) -> Self {
        let environment = &standing.environment;
        Self {
            name: clean(&environment.name),
            href: page_of(repo, &environment.name),
            lock: environment.lock().map(|lock| clean(&lock)),
            current: standing.current.as_ref().map(|entry| Row::new(entry, now)),
            last: standing.last.as_ref().map(|entry| Row::new(entry, now)),
            forge_error: environment.forge_error.as_deref().map(clean),
        }
    }
}

#[derive(Template)]
#[template(path = "environments.html")]
struct ListPage<'a> {
    frame: &'a Frame,
    title: String,
    repo: String,
    environments: Vec<Shown>,
}

#[derive(Template)]
#[template(path = "environment.html")]
struct OnePage<'a> {
    frame: &'a Frame,
    title: String,
    repo: String,
    environment: Shown,
    entries: Vec<Row>,
    older: Option<String>,
}

/// `/OWNER/REPO/environments`.
pub async fn list(
    visitor: Visitor,
    State(context): State<Context>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Response, Response> {
    let read = async {
        let now = Timestamp::now();
        let mut tx = context.store.read().await?;
        let repo = repos::find(&mut tx, &visitor.caller, &format!("{owner}/{name}")).await?.full_name();
        let id = repos::find(&mut tx, &visitor.caller, &repo).await?.id;
        let environments = tx.standings(&id).await?.iter().map(|s| Shown::new(&repo, s, now)).collect();
        let title = format!("Environments · {}", clean(&repo));
        Ok(ListPage { frame: &visitor.frame, title, repo: clean(&repo), environments })
    };
    let page = read.await.map_err(visitor.refuse())?;
    Ok(render(&page))
}

/// Which part of the ledger.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LedgerQuery {
    before: Option<i64>,
}

/// `/OWNER/REPO/environments/NAME`.
pub async fn one(
    visitor: Visitor,
    State(context): State<Context>,
    Path((owner, repo, name)): Path<(String, String, String)>,
    query: Result<Params<LedgerQuery>, ApiError>,
) -> Result<Response, Response> {
    let before = query.map_err(visitor.refuse())?.0.before;
    let read = async {
        let now = Timestamp::now();
        let mut tx = context.store.read().await?;
        let repo = repos::find(&mut tx, &visitor.caller, &format!("{owner}/{repo}")).await?;
        let standing = standing(&mut tx, &repo.id, &name).await?;
        let key = &standing.environment.name_key;
        let mut entries = tx.deployments(&repo.id, key, before, ENTRIES + 1).await?;
        let more = entries.len() > ENTRIES;
        entries.truncate(ENTRIES);
        let environment = Shown::new(&repo.full_name(), &standing, now);
        let last = entries.last().filter(|_| more);
        Ok(OnePage {
            frame: &visitor.frame,
            title: format!("{} · {}", environment.name, clean(&repo.full_name())),
            repo: clean(&repo.full_name()),
            older: last.map(|entry| format!("{}?before={}", environment.href, entry.number)),
            entries: entries.iter().map(|entry| Row::new(entry, now)).collect(),
            environment,
        })
    };
    let page = read.await.map_err(visitor.refuse())?;
    Ok(render(&page))
}

/// What the forms of an environment send.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sent {
    csrf: String,
    reason: String,
    to: Option<i64>,
    through_lock: Option<String>,
}

/// `POST /OWNER/REPO/environments/NAME/{lock,unlock,rollback}`, then back to the environment, or to the new run.
pub async fn act(
    visitor: Visitor,
    State(context): State<Context>,
    headers: HeaderMap,
    Path((owner, repo, name, verb)): Path<(String, String, String, String)>,
    Form(sent): Form<Sent>,
) -> Result<Response, Response> {
    let repo = format!("{owner}/{repo}");
    let to = perform(&visitor, &context, &headers, (&repo, &name, &verb), sent).await.map_err(visitor.refuse())?;
    Ok(Redirect::to(&to).into_response())
}

async fn perform(
    visitor: &Visitor,
    context: &Context,
    headers: &HeaderMap,
    (repo, name, verb): (&str, &str, &str),
    sent: Sent,
) -> Result<String, ApiError> {
    check_origin(context, headers)?;
    check_csrf(&visitor.caller, &sent.csrf)?;
    let caller = visitor.caller.clone().require(Role::User)?;
    let found = repos::find(&mut context.store.read().await?, &caller, repo).await?;
    let (id, now, actor) = (&found.id, Timestamp::now(), &caller.actor);
    match verb {
        "lock" => drop(actions::environment::lock(context, id, name, actor, &sent.reason, now).await?),
        "unlock" => drop(actions::environment::unlock(context, id, name, actor, now).await?),
        "rollback" => {
            let wish = Wish {
                repo: id.clone(),
                environment: name.to_owned(),
                to: sent.to,
                through_lock: sent.through_lock.is_some(),
                actor: actor.clone(),
                key: None,
            };
            return Ok(format!("/runs/{}", rollback::environment(context, &wish, now).await?));
        }
        _ => return Err(ApiError::not_found()),
    }
    Ok(page_of(&found.full_name(), name))
}
