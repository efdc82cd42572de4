//! What moves while somebody looks: server-sent events of runs and logs. A stream is woken by a hint and looks for
//! itself, so a lost hint costs a moment; it names its place in every event, so a lost connection costs nothing.

use crate::context::Context;
use crate::http::auth::Caller;
use crate::model::time::Timestamp;
use crate::store::wake::Topic;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use futures::Stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

/// How long a stream waits for a hint before it looks anyway.
const POLL: Duration = Duration::from_secs(2);
/// Hints come in bursts; looking once for all of one is enough.
const GATHER: Duration = Duration::from_millis(50);
const REAUTHORISE_MILLIS: i64 = 60_000;
const STREAMS: usize = 500;

/// Bounds how many streams one server holds open.
#[derive(Clone)]
pub struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS)))
    }
}

impl Streams {
    /// A place for one stream, given back when it is dropped.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

/// What a stream waits on.
pub struct Watch {
    context: Context,
    caller: Caller,
    hints: broadcast::Receiver<Topic>,
    authorised_at: Timestamp,
}

impl Watch {
    /// Begins to listen. To be made *before* the first look, or what happens between the two is missed.
    pub fn new(context: &Context, caller: &Caller) -> Self {
        Self {
            hints: context.store.wake.subscribe(),
            context: context.clone(),
            caller: caller.clone(),
            authorised_at: Timestamp::now(),
        }
    }

    /// Waits until it is worth looking again; `false` where the stream should end: the server stops, or the caller's
    /// credential no longer holds.
    pub async fn wait(&mut self) -> bool {
        let shutdown = self.context.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = self.hint() => {}
            () = tokio::time::sleep(POLL) => {}
        }
        let now = Timestamp::now();
        if now.since(self.authorised_at) < REAUTHORISE_MILLIS {
            return true;
        }
        self.authorised_at = now;
        // A database that does not answer is no reason to turn a reader away; the next look tells.
        self.caller.still_valid(&self.context, now).await.unwrap_or(true)
    }

    async fn hint(&mut self) {
        loop {
            match self.hints.recv().await {
                Ok(Topic::Live) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                Ok(Topic::Intake | Topic::Schedule | Topic::Jobs | Topic::Report | Topic::Settings) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
        tokio::time::sleep(GATHER).await;
        self.hints = self.hints.resubscribe();
    }
}

/// The stream as an answer that no proxy holds back.
pub fn respond<S>(stream: S) -> Response
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let sse = Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)).text("ping"));
    let mut response = sse.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// An event with a JSON body. Our shapes always serialise; one that did not would be an empty object.
pub fn json_event(name: &str, id: i64, body: &impl serde::Serialize) -> Event {
    let text = serde_json::to_string(body).unwrap_or_else(|_| "{}".to_owned());
    Event::default().event(name).id(id.to_string()).data(text)
}
