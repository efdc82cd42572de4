//! Reading a body that nobody has vouched for yet: its size, its time and the memory of all bodies together are bounded.

use super::verify::Check;
use super::{Refusal, refuse};
use crate::http::error::ApiError;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// GitHub's own cap: it delivers nothing larger.
pub const MAX_BODY_BYTES: usize = 25 << 20;
/// The most bytes of all unfinished deliveries together.
pub const MAX_IN_FLIGHT_BYTES: usize = 256 << 20;
/// What a body may use before it counts as large.
const SMALL_BYTES: usize = 1 << 20;
/// What large bodies may use together: the rest stays for small ones, which are nearly all that matter.
const MAX_LARGE_BYTES: usize = 192 << 20;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(20);
/// How long a body may say nothing, and from when on it must have come at [`LEAST_RATE`].
const SILENCE: Duration = Duration::from_secs(5);
/// Bytes a second.
const LEAST_RATE: u64 = 1024;

/// The memory bodies may use.
pub(super) struct Budget {
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(MAX_IN_FLIGHT_BYTES)), large: Arc::new(Semaphore::new(MAX_LARGE_BYTES)) }
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
}

/// Reads the body into memory while its signature is computed, and answers it only when that matches.
pub(super) async fn read(budget: &Budget, headers: &HeaderMap, body: Body, check: Check) -> Result<Authentic, Refusal> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if declared.is_some_and(|length: usize| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    tokio::time::timeout(BODY_TIME, read_all(budget, declared, body, check)).await.map_err(|_| slow())?
}

fn slow() -> Refusal {
    let detail = "The body came too slowly: all of it within 20 seconds, and at least 1 KiB a second.";
    Refusal { error: refuse(StatusCode::REQUEST_TIMEOUT, "webhook.slow", detail), close: true }
}

async fn read_all(
    budget: &Budget,
    declared: Option<usize>,
    mut body: Body,
    mut check: Check,
) -> Result<Authentic, Refusal> {
    // A declared length is a claim, not yet memory: only small ones are reserved at once.
    let mut bytes = Vec::with_capacity(declared.unwrap_or_default().min(64 << 10));
    let mut held = Held::default();
    let begun = Instant::now();
    while let Some(frame) = tokio::time::timeout(SILENCE, body.frame()).await.map_err(|_| slow())? {
        let frame = frame.map_err(|_| Refusal {
            error: refuse(StatusCode::BAD_REQUEST, "webhook.body", "The body ended early."),
            close: true,
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        held.take(budget, bytes.len(), data.len())?;
        check.update(&data);
        bytes.extend_from_slice(&data);
        let so_far = begun.elapsed();
        if so_far > SILENCE && (bytes.len() as u64) < so_far.as_secs() * LEAST_RATE {
            return Err(slow());
        }
    }
    check.finish()?;
    Ok(Authentic { bytes, _held: held })
}

fn too_large() -> Refusal {
    let detail = format!("Body exceeds {MAX_BODY_BYTES} bytes.");
    Refusal { error: refuse(StatusCode::PAYLOAD_TOO_LARGE, "webhook.too_large", detail), close: true }
}
