//! The first page, and a repository's runs.

use super::page::{Frame, Visitor, render};
use super::rows::RunRow;
use super::schedules::{self, ScheduleRow};
use super::status::Status;
use super::text::clean;
use crate::context::Context;
use crate::http::api::repos;
use crate::http::api::runs::{RunsQuery, visible_runs};
use crate::http::auth::Caller;
use crate::http::error::ApiError;
use crate::http::params::{Page, Params};
use crate::model::ids::RunId;
use crate::model::time::Timestamp;
use crate::store::Tx;
use crate::store::repos::Repo;
use crate::store::views::RunFilter;
use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

/// A repository on the first page: its newest runs on the default branch as dots.
struct RepoRow {
    href: String,
    name: String,
    branch: String,
    last: Option<RunRow>,
    dots: Vec<RunRow>,
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    frame: &'a Frame,
    title: String,
    waiting: Vec<RunRow>,
    running: Vec<RunRow>,
    repos: Vec<RepoRow>,
    recent: Vec<RunRow>,
    more_repos: bool,
}

/// How many repositories the first page lists.
const REPOS: usize = 50;
const DOTS: usize = 12;

/// `/`: what waits for somebody, what runs, the repositories, what ran.
pub async fn home(visitor: Visitor, State(context): State<Context>) -> Result<Response, Response> {
    let page = read_home(&visitor, &context).await.map_err(visitor.refuse())?;
    Ok(render(&page))
}

async fn read_home<'a>(visitor: &'a Visitor, context: &Context) -> Result<Home<'a>, ApiError> {
    let now = Timestamp::now();
    let caller = &visitor.caller;
    let mut tx = context.store.read().await?;
    let open = RunFilter { open: true, ..RunFilter::default() };
    let open = tx.view_runs(&open, 100).await?;
    let (mut waiting, mut running) = (vec![], vec![]);
    for run in open.iter().filter(|run| caller.may_see(&run.repo())) {
        let row = RunRow::new(run, now);
        // A person is needed where nothing moves the run by itself.
        let needs_somebody = matches!(run.state.as_str(), "diverged" | "stuck")
            || tx.view_stages(&run.id).await?.iter().any(|stage| stage.state == "awaiting_approval");
        if needs_somebody { waiting.push(row) } else { running.push(row) }
    }
    let recent = visible_runs(&mut tx, caller, &RunsQuery::default(), &Page { limit: 30, after: None }).await?;
    let mut found = repos::visible(&mut tx, caller, &Page { limit: REPOS, after: None }).await?;
    let more_repos = found.len() > REPOS;
    found.truncate(REPOS);
    let mut rows = vec![];
    for repo in &found {
        rows.push(repo_row(&mut tx, repo, now).await?);
    }
    let title = match running.len() {
        0 => "Rivet".to_owned(),
        n => format!("({n}) Rivet"),
    };
    Ok(Home {
        frame: &visitor.frame,
        title,
        waiting,
        running,
        repos: rows,
        recent: recent
            .iter()
            .filter(|run| run.finished_at.is_some())
            .take(15)
            .map(|run| RunRow::new(run, now))
            .collect(),
        more_repos,
    })
}

async fn repo_row(tx: &mut Tx, repo: &Repo, now: Timestamp) -> Result<RepoRow, ApiError> {
    let filter = RunFilter { repo: Some(repo.id.clone()), ..RunFilter::default() };
    let runs = tx.view_runs(&filter, DOTS).await?;
    let mut dots: Vec<RunRow> = runs.iter().map(|run| RunRow::new(run, now)).collect();
    let last = dots.first().cloned();
    dots.reverse();
    Ok(RepoRow {
        href: format!("/{}", repo.full_name()),
        name: clean(&repo.full_name()),
        branch: clean(&repo.default_branch),
        last,
        dots,
    })
}

#[derive(Template)]
#[template(path = "repo.html")]
struct RepoPage<'a> {
    frame: &'a Frame,
    title: String,
    repo: String,
    href: String,
    branch: String,
    private: bool,
    query: RunsQuery,
    filtered: bool,
    states: Vec<(&'static str, &'static str)>,
    runs: Vec<RunRow>,
    older: Option<String>,
    schedules: Vec<ScheduleRow>,
}

const STATES: [&str; 9] =
    ["pending", "running", "sleeping", "rolling_back", "completed", "failed", "cancelled", "diverged", "stuck"];

/// `/OWNER/REPO`: its runs, filtered by what the address says.
pub async fn repo(
    visitor: Visitor,
    State(context): State<Context>,
    Path((owner, name)): Path<(String, String)>,
    query: Result<Params<RepoQuery>, ApiError>,
) -> Result<Response, Response> {
    let query = query.map_err(visitor.refuse())?.0;
    let page = read_repo(&visitor, &context, &format!("{owner}/{name}"), &query).await.map_err(visitor.refuse())?;
    Ok(render(&page))
}

/// Filters of a repository's page. Empty fields, which forms send, do not matter.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct RepoQuery {
    state: String,
    branch: String,
    event: String,
    pipeline: String,
    sha: String,
    cursor: String,
}

fn some(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

async fn read_repo<'a>(
    visitor: &'a Visitor,
    context: &Context,
    name: &str,
    query: &RepoQuery,
) -> Result<RepoPage<'a>, ApiError> {
    let now = Timestamp::now();
    let mut tx = context.store.read().await?;
    let repo = repos::at(&mut tx, &visitor.caller, name).await?;
    let query = RunsQuery {
        repo: Some(repo.full_name()),
        state: some(&query.state),
        branch: some(&query.branch),
        event: some(&query.event),
        pipeline: some(&query.pipeline),
        sha: some(&query.sha),
        limit: None,
        cursor: some(&query.cursor),
    };
    let page = Page::new(Some("50"), query.cursor.as_deref())?;
    let runs = visible_runs(&mut tx, &visitor.caller, &query, &page).await?;
    let (runs, next) = page.cut(runs, |run| run.id.as_str());
    let rows: Vec<RunRow> = runs.iter().map(|run| RunRow::new(run, now)).collect();
    let schedules = schedules::of_repo(&mut tx, context, &repo.id, now).await?;
    let path = repo.full_name();
    let shape = rows.first().map(|row| row.status.word).unwrap_or("no runs");
    Ok(RepoPage {
        frame: &visitor.frame,
        title: format!("{shape} · {}", clean(&path)),
        href: format!("/{path}"),
        branch: clean(&repo.default_branch),
        private: repo.private,
        filtered: [&query.state, &query.branch, &query.event, &query.pipeline, &query.sha].iter().any(|q| q.is_some()),
        states: STATES.iter().map(|state| (*state, Status::of(state).word)).collect(),
        older: next.map(|cursor| older(&path, &query, &cursor)),
        repo: clean(&path),
        query,
        runs: rows,
        schedules,
    })
}

fn older(path: &str, query: &RunsQuery, cursor: &str) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    let fields = [
        ("state", &query.state),
        ("branch", &query.branch),
        ("event", &query.event),
        ("pipeline", &query.pipeline),
        ("sha", &query.sha),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            pairs.append_pair(name, value);
        }
    }
    format!("/{path}?{}", pairs.append_pair("cursor", cursor).finish())
}

/// The runs just before and after one in its repository.
pub async fn neighbours(
    tx: &mut Tx,
    _: &Caller,
    run: &crate::store::views::RunView,
) -> Result<Option<RunId>, ApiError> {
    let before = RunFilter {
        repo: Some(run.repo_id.clone()),
        pipeline: Some(run.pipeline.clone()),
        branch: run.branch.clone(),
        before: Some(run.id.clone()),
        ..RunFilter::default()
    };
    Ok(tx.view_runs(&before, 1).await?.into_iter().next().map(|run| run.id))
}
