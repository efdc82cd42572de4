//! Reading a body that nobody has vouched for yet: its size, its time, and the memory and the disk of all bodies together
//! are bounded.

use super::spool::{SMALL_BYTES, Spool};
use super::verify::Check;
use super::{Refusal, refuse};
use crate::http::error::ApiError;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// GitHub's own cap: it delivers nothing larger.
pub const MAX_BODY_BYTES: usize = 25 << 20;
/// The most bytes of all unfinished deliveries together.
pub const MAX_IN_FLIGHT_BYTES: usize = 256 << 20;
/// What large bodies may use together: the rest stays for small ones, which are nearly all that matter.
const MAX_LARGE_BYTES: usize = 192 << 20;
/// Large bodies that are in memory at once, to be read and stored; the others wait in their files.
const LARGE_IN_MEMORY: usize = 2;
/// How long a large body waits for that: who sent it gives up soon after.
const TURN_TIME: Duration = Duration::from_secs(8);
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(20);
/// How long a body may say nothing, and from when on it must have come at [`LEAST_RATE`].
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes a second.
const LEAST_RATE: u64 = 1024;

/// What bodies may use.
pub(super) struct Budget {
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        let of = |permits| Arc::new(Semaphore::new(permits));
        Self { all: of(MAX_IN_FLIGHT_BYTES), large: of(MAX_LARGE_BYTES), turns: of(LARGE_IN_MEMORY) }
    }
}

/// An authenticated body; what it takes of the budget is given back when it is dropped.
pub(super) struct Authentic {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    _held: Held,
}

#[derive(Default)]
struct Held(Vec<OwnedSemaphorePermit>);

impl Held {
    /// Takes `more` bytes of the budget for a body of which `so_far` were read.
    fn take(&mut self, budget: &Budget, so_far: usize, more: usize) -> Result<(), Refusal> {
        self.take_of(&budget.all, more)?;
        let large = (so_far + more).saturating_sub(so_far.max(SMALL_BYTES));
        self.take_of(&budget.large, large)
    }

    fn take_of(&mut self, semaphore: &Arc<Semaphore>, bytes: usize) -> Result<(), Refusal> {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        match semaphore.clone().try_acquire_many_owned(count) {
            Ok(permit) => {
                self.0.push(permit);
                Ok(())
            }
            Err(_) => {
                tracing::warn!("too many bytes of deliveries are on their way at once");
                Err(Refusal { error: ApiError::unavailable(30), close: true })
            }
        }
    }

    /// Waits until a large body may come into memory.
    async fn take_turn(&mut self, budget: &Budget) -> Result<(), Refusal> {
        match tokio::time::timeout(TURN_TIME, budget.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => {
                self.0.push(turn);
                Ok(())
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("too many large deliveries wait to be stored at once");
                Err(ApiError::unavailable(30).into())
            }
        }
    }
}

/// Reads the body while its signature is computed, and answers it only when that matches. Until then a large one is in a
/// file in `folder`.
pub(super) async fn read(
    budget: &Budget,
    folder: &Path,
    headers: &HeaderMap,
    body: Body,
    check: Check,
) -> Result<Authentic, Refusal> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if declared.is_some_and(|length: usize| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    let spool = Spool::new(folder, declared.unwrap_or_default());
    let reading = read_all(budget, spool, body, check);
    let (spool, mut held) = tokio::time::timeout(BODY_TIME, reading).await.map_err(|_| slow())??;
    if spool.is_large() {
        held.take_turn(budget).await?;
    }
    let bytes = spool.into_bytes().await.map_err(|why| no_file(&why))?;
    Ok(Authentic { bytes, _held: held })
}

fn slow() -> Refusal {
    let detail = "The body came too slowly: all of it within 20 seconds, and at least 1 KiB a second.";
    Refusal { error: refuse(StatusCode::REQUEST_TIMEOUT, "webhook.slow", detail), close: true }
}

async fn read_all(
    budget: &Budget,
    mut spool: Spool,
    mut body: Body,
    mut check: Check,
) -> Result<(Spool, Held), Refusal> {
    let mut held = Held::default();
    let begun = Instant::now();
    while let Some(frame) = tokio::time::timeout(SILENCE, body.frame()).await.map_err(|_| slow())? {
        let frame = frame.map_err(|_| Refusal {
            error: refuse(StatusCode::BAD_REQUEST, "webhook.body", "The body ended early."),
            close: true,
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if spool.len() + data.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        held.take(budget, spool.len(), data.len())?;
        check.update(&data);
        spool.add(&data).await.map_err(|why| no_file(&why))?;
        let so_far = begun.elapsed();
        if so_far > SILENCE && (spool.len() as u64) < so_far.as_secs() * LEAST_RATE {
            return Err(slow());
        }
    }
    check.finish()?;
    Ok((spool, held))
}

/// The disk is full, or the data folder cannot be written: the sender is asked to try again.
fn no_file(why: &std::io::Error) -> Refusal {
    tracing::error!(error = %why, "a large delivery cannot be kept in the data folder while it comes: {why}");
    Refusal { error: ApiError::unavailable(30), close: true }
}

fn too_large() -> Refusal {
    let detail = format!("Body exceeds {MAX_BODY_BYTES} bytes.");
    Refusal { error: refuse(StatusCode::PAYLOAD_TOO_LARGE, "webhook.too_large", detail), close: true }
}
