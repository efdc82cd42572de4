//! The page of a stage: its log.

use super::log::{CHUNK, Groups, Index, Indexes, Lines, html};
use super::page::{Frame, Visitor, render};
use super::rows::{Failure, RunRow, StageRow};
use super::text::clean;
use crate::context::Context;
use crate::http::api::logs::{find_job, find_stage, last_event_id};
use crate::http::api::runs;
use crate::http::api::shapes::{Run, path_segment};
use crate::http::error::ApiError;
use crate::http::live::{self, Streams, Watch};
use crate::http::params::Params;
use crate::model::ids::{JobId, RunId};
use crate::model::time::Timestamp;
use crate::store::views::{JobView, StageView};
use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::Event;
use axum::response::{Html, IntoResponse as _, Response};
use futures::Stream;
use pipelines_spec::protocol::{Annotation, AnnotationLevel};
use serde::Deserialize;
use std::convert::Infallible;

/// A part of the log that is not in the page yet.
struct Gap {
    from: usize,
    to: usize,
}

struct Attempt {
    number: i64,
    current: bool,
    word: String,
}

#[derive(Template)]
#[template(path = "stage.html")]
struct StagePage<'a> {
    frame: &'a Frame,
    title: String,
    run: RunRow,
    run_href: String,
    stage: StageRow,
    failure: Option<Failure>,
    attempts: Vec<Attempt>,
    runner: String,
    /// The path of this stage's other addresses.
    base: String,
    raw: String,
    attempt: i64,
    began: bool,
    incomplete: bool,
    before: Vec<Gap>,
    lines: String,
    first: usize,
    after: Vec<Gap>,
    total: usize,
    live: bool,
    siblings: Vec<StageRow>,
    notes: Vec<Note>,
}

/// What the script wants shown on a line.
struct Note {
    place: String,
    level: String,
    tone: &'static str,
    title: String,
    message: String,
}

impl Note {
    /// All of them: a forge shows 500 at most and links here for the rest.
    fn all(stage: &StageView) -> Vec<Self> {
        let one = |note: &Annotation| Self {
            place: format!("{}:{}", clean(&note.path), note.line),
            level: note.level.to_string(),
            tone: match note.level {
                AnnotationLevel::Failure => "bad",
                AnnotationLevel::Warning => "ask",
                AnnotationLevel::Notice => "dim",
            },
            title: clean(note.title.as_deref().unwrap_or("")),
            message: clean(&note.message),
        };
        stage.annotations.iter().flat_map(|notes| &notes.0).map(one).collect()
    }
}

/// Which part of which attempt.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    attempt: Option<i64>,
    from: Option<usize>,
    to: Option<usize>,
    /// The last line somebody has already.
    after: Option<usize>,
}

/// `/runs/{id}/stages/{stage}`.
pub async fn stage(
    visitor: Visitor,
    State(context): State<Context>,
    Extension(indexes): Extension<Indexes>,
    Path((id, name)): Path<(String, String)>,
    query: Result<Params<LogQuery>, ApiError>,
) -> Result<Response, Response> {
    let query = query.map_err(visitor.refuse())?.0;
    let page = read(&visitor, &context, &indexes, (&id, &name), &query).await.map_err(visitor.refuse())?;
    Ok(render(&page))
}

/// A job's log as far as it goes now.
struct Log {
    job: JobView,
    index: Index,
    /// Lines, one without an end counted where no more will come.
    total: usize,
    ended: bool,
}

async fn open(context: &Context, indexes: &Indexes, job: JobView) -> Result<Log, ApiError> {
    let ended = job.state == "finished";
    let index = indexes.of(context, &job.id).await?;
    let rest = Lines::from(context, &job.id, &index, index.lines + 1).next(CHUNK + 1, ended).await?;
    let total = rest.last().map_or(index.lines, |line| line.number);
    Ok(Log { job, index, total, ended })
}

async fn read<'a>(
    visitor: &'a Visitor,
    context: &Context,
    indexes: &Indexes,
    (id, name): (&str, &str),
    query: &LogQuery,
) -> Result<StagePage<'a>, ApiError> {
    let now = Timestamp::now();
    let mut tx = context.store.read().await?;
    let view = runs::find(&mut tx, &visitor.caller, id).await?;
    let stages = tx.view_stages(&view.id).await?;
    let jobs = tx.view_jobs(&view.id).await?;
    drop(tx);
    let at = stages.iter().position(|stage| stage.name == name).ok_or_else(ApiError::not_found)?;
    let jobs: Vec<JobView> =
        jobs.into_iter().filter(|job| job.stage_id == stages[at].id && job.kind == "stage").collect();
    let job = jobs.iter().rfind(|job| query.attempt.is_none_or(|attempt| job.attempt == attempt)).cloned();
    if query.attempt.is_some() && job.is_none() {
        return Err(ApiError::not_found());
    }
    let run = Run::new(context, &view, &stages);
    let mut siblings = StageRow::all(&run, now);
    let stage = siblings[at].clone();
    siblings.truncate(200);
    let log = match job {
        Some(job) => Some(open(context, indexes, job).await?),
        None => None,
    };
    let row = RunRow::new(&view, now);
    let base = format!("/runs/{}/stages/{}", view.id, path_segment(name));
    let failed = run.stages[at].state == "failed";
    let mut page = StagePage {
        notes: Note::all(&stages[at]),
        frame: &visitor.frame,
        title: format!("{} · {} · {} #{}", stage.status.word, stage.name, row.pipeline, row.number),
        run_href: format!("/runs/{}", view.id),
        run: row,
        failure: Failure::all(&run).into_iter().find(|failure| failure.name == stage.name),
        attempts: attempts(&jobs, log.as_ref()),
        runner: String::new(),
        raw: format!("/api/v1{base}/logs"),
        base,
        attempt: 0,
        began: false,
        incomplete: false,
        before: vec![],
        lines: String::new(),
        first: 1,
        after: vec![],
        total: 0,
        live: stage.status.live,
        siblings,
        stage,
    };
    if let Some(log) = log {
        fill(context, &mut page, &log, query.from, failed).await?;
    }
    Ok(page)
}

fn attempts(jobs: &[JobView], log: Option<&Log>) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = vec![];
    for job in jobs {
        attempts.retain(|attempt| attempt.number != job.attempt);
        let word = job.conclusion.clone().unwrap_or_else(|| job.state.clone());
        let current = log.is_some_and(|log| log.job.attempt == job.attempt);
        attempts.push(Attempt { number: job.attempt, current, word: super::text::clean(&word) });
    }
    attempts
}

/// Puts the chunk with line `from` into the page and leaves gaps for the others.
async fn fill(
    context: &Context,
    page: &mut StagePage<'_>,
    log: &Log,
    from: Option<usize>,
    failed: bool,
) -> Result<(), ApiError> {
    let from = from.unwrap_or(1).clamp(1, log.total.max(1));
    let first = (from - 1) / CHUNK * CHUNK + 1;
    let lines = Lines::from(context, &log.job.id, &log.index, first).next(CHUNK, log.ended).await?;
    let next = lines.last().map_or(first, |line| line.number + 1);
    page.lines = html(&lines, groups(log.ended, failed));
    page.before = gaps(1, first);
    page.after = gaps(next, log.total + 1);
    page.first = first;
    page.total = log.total;
    page.attempt = log.job.attempt;
    page.runner = super::text::clean(log.job.runner.as_deref().unwrap_or(""));
    page.began = true;
    page.incomplete = log.ended && !log.job.log_complete;
    page.live = !log.ended;
    page.raw = format!("{}?attempt={}", page.raw, log.job.attempt);
    Ok(())
}

fn groups(ended: bool, failed: bool) -> Groups {
    match (ended, failed) {
        (false, _) => Groups::Flat,
        (true, true) => Groups::Open,
        (true, false) => Groups::Folded,
    }
}

fn gaps(from: usize, end: usize) -> Vec<Gap> {
    (from..end).step_by(CHUNK).map(|from| Gap { from, to: (from + CHUNK - 1).min(end - 1) }).collect()
}

/// `/runs/{id}/stages/{stage}/lines?from=&to=`: some lines as HTML, at most two chunks of them.
pub async fn lines(
    visitor: Visitor,
    State(context): State<Context>,
    Extension(indexes): Extension<Indexes>,
    Path((id, name)): Path<(String, String)>,
    query: Result<Params<LogQuery>, ApiError>,
) -> Result<Response, ApiError> {
    let query = query?.0;
    let mut tx = context.store.read().await?;
    let run = runs::find(&mut tx, &visitor.caller, &id).await?;
    let stage = find_stage(&mut tx, &run.id, &name).await?;
    let job = find_job(&mut tx, &run.id, &stage, query.attempt).await?.ok_or_else(ApiError::not_found)?;
    drop(tx);
    let log = open(&context, &indexes, job).await?;
    let from = query.from.unwrap_or(1).max(1);
    let to = query.to.unwrap_or(from + CHUNK - 1);
    if to < from || to - from >= 2 * CHUNK {
        let detail = format!("from and to must name 1 to {} lines.", 2 * CHUNK);
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "param.range", detail));
    }
    let mut reader = Lines::from(&context, &log.job.id, &log.index, from);
    let mut found = reader.next(to - from + CHUNK, log.ended).await?;
    found.retain(|line| (from..=to).contains(&line.number));
    let mut response = Html(html(&found, groups(log.ended, stage.state == "failed"))).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `/runs/{id}/stages/{stage}/live?after=`: lines as they come, rendered. An event's id is the number of its last line.
pub async fn follow(
    visitor: Visitor,
    State(context): State<Context>,
    Extension(indexes): Extension<Indexes>,
    Extension(streams): Extension<Streams>,
    Path((id, name)): Path<(String, String)>,
    query: Result<Params<LogQuery>, ApiError>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = query?.0;
    let mut tx = context.store.read().await?;
    let run = runs::find(&mut tx, &visitor.caller, &id).await?;
    let stage = find_stage(&mut tx, &run.id, &name).await?;
    let job = find_job(&mut tx, &run.id, &stage, query.attempt).await?.ok_or_else(ApiError::not_found)?;
    drop(tx);
    let told = usize::try_from(last_event_id(&headers)?).unwrap_or(0);
    let Some(place) = streams.take() else { return Err(ApiError::unavailable(5)) };
    let watch = Watch::new(&context, &visitor.caller);
    let index = indexes.of(&context, &job.id).await?;
    let after = told.max(query.after.unwrap_or(0));
    let reader = Lines::from(&context, &job.id, &index, after + 1);
    let follower = Follower { context, run: run.id, job: job.id, after, reader };
    Ok(live::respond(follower.stream(watch, place)))
}

struct Follower {
    context: Context,
    run: RunId,
    job: JobId,
    /// The last line that was told.
    after: usize,
    reader: Lines,
}

impl Follower {
    fn stream(
        mut self,
        mut watch: Watch,
        place: tokio::sync::OwnedSemaphorePermit,
    ) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
        async_stream::stream! {
            loop {
                let Ok((lines, ended)) = self.look().await else { break };
                let more = !lines.is_empty();
                if more {
                    let data = html(&lines, Groups::Flat);
                    yield Ok(Event::default().event("lines").id(self.after.to_string()).data(data));
                }
                if ended && !more {
                    yield Ok(Event::default().event("end").id(self.after.to_string()).data(self.run.as_str()));
                    break;
                }
                if !more && !watch.wait().await {
                    break;
                }
            }
            drop(place);
        }
    }

    /// The state first, then the lines: a job that had ended by then has no more to come.
    async fn look(&mut self) -> Result<(Vec<super::log::Line>, bool), ApiError> {
        let job = self.context.store.read().await?.view_job(&self.job).await?.ok_or_else(ApiError::not_found)?;
        let ended = job.state == "finished";
        loop {
            let mut lines = self.reader.next(CHUNK, ended).await?;
            let any = !lines.is_empty();
            lines.retain(|line| line.number > self.after);
            if let Some(last) = lines.last() {
                self.after = last.number;
            }
            if !any || !lines.is_empty() {
                return Ok((lines, ended));
            }
        }
    }
}
