//! A run as it moves.

use super::logs::last_event_id;
use super::runs;
use super::shapes::{Run, Stage};
use crate::context::Context;
use crate::http::auth::{Caller, Viewer};
use crate::http::error::ApiError;
use crate::http::live::{self, Streams, Watch};
use crate::model::ids::RunId;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use futures::Stream;
use std::convert::Infallible;

/// A run's changes as they happen: a `run` event with the whole run at first and whenever the run itself moves, a
/// `stage` event for each stage that moved, and `end` with the whole run when it has ended. Ids grow with every change.
#[utoipa::path(get, path = "/runs/{id}/events", tag = "runs", params(("id" = String, Path)), responses((status = 200, content_type = "text/event-stream", body = String), (status = 404, body = ApiError)))]
pub async fn follow(
    caller: Viewer,
    State(context): State<Context>,
    Extension(streams): Extension<Streams>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let run = runs::find(&mut context.store.read().await?, &caller, &id).await?;
    let seen = last_event_id(&headers)?;
    let Some(place) = streams.take() else { return Err(ApiError::unavailable(5)) };
    let stream = changes(context, Caller::clone(&caller), run.id, seen);
    Ok(live::respond(holding(place, stream)))
}

/// The stream, holding a place while it lives.
fn holding<S: Stream<Item = Result<Event, Infallible>>>(
    place: tokio::sync::OwnedSemaphorePermit,
    stream: S,
) -> impl Stream<Item = Result<Event, Infallible>> {
    async_stream::stream! {
        for await event in stream {
            yield event;
        }
        drop(place);
    }
}

fn changes(
    context: Context,
    caller: Caller,
    id: RunId,
    seen: i64,
) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
    async_stream::stream! {
        let mut watch = Watch::new(&context, &caller);
        let mut known: Option<Run> = None;
        let mut revision = seen;
        loop {
            // A failed look ends the stream; the reader comes back by itself and names its place.
            let Ok(Some((now_at, run))) = look(&context, &id, revision, known.is_none()).await else { break };
            if let Some(run) = run {
                for event in differences(known.as_ref().filter(|_| revision > 0), &run, now_at, seen) {
                    yield Ok(event);
                }
                let ended = run.finished_at.is_some();
                if ended {
                    yield Ok(live::json_event("end", now_at, &run));
                    break;
                }
                known = Some(run);
                revision = now_at;
            }
            if !watch.wait().await {
                break;
            }
        }
    }
}

/// The run where it has moved on from `revision` (or is wanted anyway). `None`: it is gone.
async fn look(
    context: &Context,
    id: &RunId,
    revision: i64,
    anyway: bool,
) -> Result<Option<(i64, Option<Run>)>, ApiError> {
    let mut tx = context.store.read().await?;
    let Some(now_at) = tx.view_run_revision(id).await? else { return Ok(None) };
    if now_at == revision && !anyway {
        return Ok(Some((now_at, None)));
    }
    let Some(run) = tx.view_run(id).await? else { return Ok(None) };
    let stages = tx.view_stages(id).await?;
    Ok(Some((now_at, Some(Run::new(context, &run, &stages)))))
}

/// What to tell somebody who knew `known`. A reader who was told of this very revision before its connection was lost
/// is told nothing again.
fn differences(known: Option<&Run>, run: &Run, revision: i64, seen: i64) -> Vec<Event> {
    let Some(known) = known else {
        return if seen == revision { vec![] } else { vec![live::json_event("run", revision, run)] };
    };
    let mut events: Vec<Event> = run
        .stages
        .iter()
        .filter(|stage| !known.stages.contains(stage))
        .map(|stage: &Stage| live::json_event("stage", revision, stage))
        .collect();
    let header = |run: &Run| (run.state.clone(), run.reason.clone(), run.started_at, run.stages.len());
    if header(known) != header(run) {
        events.push(live::json_event("run", revision, run));
    }
    events
}
