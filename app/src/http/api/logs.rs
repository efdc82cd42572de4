//! Logs: as bytes, or live. A live reader is told lines with the offset behind them, so it can go on from any of them.

use super::runs;
use crate::context::Context;
use crate::http::auth::{Caller, Viewer};
use crate::http::error::ApiError;
use crate::http::live::{self, Streams, Watch};
use crate::http::params::Params;
use crate::model::ids::{JobId, RunId};
use crate::store::views::{JobView, StageView};
use crate::store::{Error, Tx};
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures::Stream;
use serde::Deserialize;
use std::convert::Infallible;
use utoipa::IntoParams;

/// How many chunks are read at once.
const CHUNKS: i64 = 16;
/// The longest piece of a line without an end that is held back.
const PENDING_BYTES: usize = 256 * 1024;

/// Which try.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// From 1; the newest where unsaid.
    pub attempt: Option<String>,
}

/// A stage's log. `text/plain` is what is stored, byte for byte. With `Accept: text/event-stream` it is live: each `log`
/// event's data is one or more whole lines, its id the offset behind them (send it back as `Last-Event-ID` to go on from
/// there), and an `end` event says that no more will come.
#[utoipa::path(get, path = "/runs/{id}/stages/{stage}/logs", tag = "logs", params(("id" = String, Path), ("stage" = String, Path, description = "Percent-encoded where it holds other characters than letters and digits"), LogQuery), responses((status = 200, content((String = "text/plain"), (String = "text/event-stream"))), (status = 404, body = ApiError)))]
pub async fn read(
    caller: Viewer,
    State(context): State<Context>,
    Extension(streams): Extension<Streams>,
    Path((id, stage)): Path<(String, String)>,
    Params(query): Params<LogQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let attempt = parse_attempt(query.attempt.as_deref())?;
    let mut tx = context.store.read().await?;
    let run = runs::find(&mut tx, &caller, &id).await?;
    let stage = find_stage(&mut tx, &run.id, &stage).await?;
    let job = find_job(&mut tx, &run.id, &stage, attempt).await?;
    if attempt.is_some() && job.is_none() {
        return Err(ApiError::not_found());
    }
    drop(tx);
    if wants_events(&headers) {
        let from = last_event_id(&headers)?;
        let Some(place) = streams.take() else { return Err(ApiError::unavailable(5)) };
        let follower = Follower { run: run.id, stage: stage.name, attempt, offset: from, place };
        return Ok(live::respond(follower.stream(context, Caller::clone(&caller))));
    }
    Ok(as_text(context, &run.id, &stage.name, job))
}

fn parse_attempt(attempt: Option<&str>) -> Result<Option<i64>, ApiError> {
    let wrong = || ApiError::new(StatusCode::BAD_REQUEST, "param.range", "attempt must be a number from 1.");
    let parse = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 1).ok_or_else(wrong);
    attempt.map(parse).transpose()
}

fn wants_events(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| {
        accept.split(',').any(|kind| kind.split(';').next().unwrap_or("").trim() == "text/event-stream")
    })
}

/// Where a reader left off.
pub fn last_event_id(headers: &HeaderMap) -> Result<i64, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(0) };
    let text = value.to_str().unwrap_or("");
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.parse::<i64>().ok().filter(|n| *n >= 0);
    number.ok_or_else(|| {
        ApiError::new(StatusCode::BAD_REQUEST, "sse.cursor", "Last-Event-ID is not one this stream gave out.")
    })
}

/// The stage of a run by its name.
pub async fn find_stage(tx: &mut Tx, run: &RunId, name: &str) -> Result<StageView, ApiError> {
    let stages = tx.view_stages(run).await?;
    stages.into_iter().find(|stage| stage.name == name).ok_or_else(ApiError::not_found)
}

/// The newest job of a stage, of `attempt` where one is named. (A try that the machinery lost is tried again under the
/// same number, so the newest of a number is what counts.)
pub async fn find_job(
    tx: &mut Tx,
    run: &RunId,
    stage: &StageView,
    attempt: Option<i64>,
) -> Result<Option<JobView>, Error> {
    let jobs = tx.view_jobs(run).await?;
    let of_stage = |job: &JobView| job.stage_id == stage.id && job.kind == "stage";
    Ok(jobs.into_iter().rfind(|job| of_stage(job) && attempt.is_none_or(|attempt| job.attempt == attempt)))
}

fn as_text(context: Context, run: &RunId, stage: &str, job: Option<JobView>) -> Response {
    let body = match job {
        Some(job) => Body::from_stream(stored_bytes(context, job.id)),
        None => Body::empty(),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // Whatever a log says, a browser that opens it runs none of it.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    let safe: String = stage.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{run}-{safe}.log\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// The log as far as it is stored now, a few chunks in memory at a time.
fn stored_bytes(context: Context, job: JobId) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    async_stream::try_stream! {
        let mut offset = 0;
        loop {
            let bytes = next_bytes(&context, &job, offset).await?;
            if bytes.is_empty() {
                break;
            }
            offset += i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            yield Bytes::from(bytes);
        }
    }
}

/// The bytes from `offset` on, as many as some chunks hold; none where the log ends there.
pub async fn next_bytes(context: &Context, job: &JobId, offset: i64) -> Result<Vec<u8>, Error> {
    let chunks = context.store.read().await?.view_log(job, offset, CHUNKS).await?;
    let mut bytes = Vec::new();
    for (position, chunk) in chunks {
        let skip = usize::try_from(offset - position).unwrap_or(0);
        bytes.extend_from_slice(chunk.get(skip.min(chunk.len())..).unwrap_or_default());
    }
    Ok(bytes)
}

/// One live reader.
struct Follower {
    run: RunId,
    stage: String,
    attempt: Option<i64>,
    offset: i64,
    place: tokio::sync::OwnedSemaphorePermit,
}

/// What a look found.
struct Look {
    bytes: Vec<u8>,
    /// Set where nothing will follow.
    end: Option<End>,
}

/// What the last event says.
#[derive(serde::Serialize)]
struct End {
    attempt: i64,
    state: String,
    bytes: i64,
    complete: bool,
}

impl Follower {
    fn stream(
        mut self,
        context: Context,
        caller: Caller,
    ) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
        async_stream::stream! {
            let mut watch = Watch::new(&context, &caller);
            let mut pending = Vec::new();
            loop {
                let Ok(look) = self.look(&context, pending.len()).await else {
                    // The reader comes back by itself and names its place.
                    break;
                };
                let more = !look.bytes.is_empty();
                pending.extend_from_slice(&look.bytes);
                if let Some(event) = self.take_lines(&mut pending, look.end.is_some() && !more) {
                    yield Ok(event);
                }
                if let Some(end) = look.end.filter(|_| !more) {
                    yield Ok(live::json_event("end", self.offset, &end));
                    break;
                }
                if !more && !watch.wait().await {
                    break;
                }
            }
            drop(self.place);
        }
    }

    /// What came since. The state is read before the bytes: a job that had ended by then has no more to come.
    async fn look(&mut self, context: &Context, pending: usize) -> Result<Look, ApiError> {
        let mut tx = context.store.read().await?;
        let stage = find_stage(&mut tx, &self.run, &self.stage).await?;
        let job = find_job(&mut tx, &self.run, &stage, self.attempt).await?;
        let Some(job) = job else {
            let ended = stage.finished_at.is_some();
            let end = End { attempt: stage.attempt, state: stage.state, bytes: 0, complete: true };
            return Ok(Look { bytes: vec![], end: ended.then_some(end) });
        };
        drop(tx);
        // Whoever follows the newest try stays with it when another begins.
        self.attempt = Some(job.attempt);
        let held = i64::try_from(pending).unwrap_or(0);
        let bytes = next_bytes(context, &job.id, self.offset + held).await?;
        let ended = job.state == "finished";
        let end = End {
            attempt: job.attempt,
            state: job.conclusion.unwrap_or(job.state),
            bytes: job.log_bytes,
            complete: job.log_complete,
        };
        Ok(Look { bytes, end: ended.then_some(end) })
    }

    /// The whole lines of `pending` as one event; at the log's end whatever is left.
    fn take_lines(&mut self, pending: &mut Vec<u8>, at_end: bool) -> Option<Event> {
        let whole = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let take = if at_end || pending.len() > PENDING_BYTES { pending.len() } else { whole };
        if take == 0 {
            return None;
        }
        let lines: Vec<u8> = pending.drain(..take).collect();
        self.offset += i64::try_from(take).unwrap_or(0);
        let text = String::from_utf8_lossy(&lines);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        // An event cannot carry a carriage return, so of a line that was written over its last face is sent.
        let shown: Vec<&str> = text.split('\n').map(last_face).collect();
        Some(Event::default().event("log").id(self.offset.to_string()).data(shown.join("\n")))
    }
}

/// What a terminal would show of a line with carriage returns, near enough.
fn last_face(line: &str) -> &str {
    let line = line.strip_suffix('\r').unwrap_or(line);
    line.rsplit('\r').next().unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_written_over_shows_its_last_face() {
        assert_eq!(last_face("10%\r50%\r100%"), "100%");
        assert_eq!(last_face("windows\r"), "windows");
        assert_eq!(last_face("plain"), "plain");
    }
}
