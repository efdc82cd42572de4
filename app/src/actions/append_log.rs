//! A runner sends a piece of a job's log. The same piece again is harmless; a piece that does not join is refused.

use super::held::{HeldError, holds};
use crate::model::time::Timestamp;
use crate::store::Store;
use crate::store::jobs::Hold;
use crate::store::wake::Topic;
use pipelines_spec::protocol::LOG_JOB_BYTES;

/// Why a piece was not added.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The job is not the runner's to write about.
    #[error(transparent)]
    Held(#[from] HeldError),
    /// Bytes before it are missing.
    #[error("expected offset {expected}, got {got}.")]
    Gap {
        /// Where the log ends.
        expected: u64,
        /// Where the piece begins.
        got: u64,
    },
    /// Other bytes are stored there.
    #[error("other bytes are stored at offset {0}.")]
    Conflict(u64),
    /// The log would be too long.
    #[error("a job's log is at most {LOG_JOB_BYTES} bytes.")]
    Limit,
}

impl From<crate::store::Error> for LogError {
    fn from(error: crate::store::Error) -> Self {
        Self::Held(error.into())
    }
}

/// Adds `bytes` at `offset` and answers the offset the next piece must have.
pub async fn append_log(
    store: &Store,
    hold: &Hold<'_>,
    offset: u64,
    bytes: &[u8],
    now: Timestamp,
) -> Result<u64, LogError> {
    let end = offset.saturating_add(bytes.len() as u64);
    if end > LOG_JOB_BYTES {
        return Err(LogError::Limit);
    }
    let mut tx = store.begin().await?;
    // Both are at most LOG_JOB_BYTES, so the casts change nothing.
    if tx.append_log(hold, offset as i64, bytes, now).await? {
        tx.commit().await?;
        store.wake.notify(Topic::Live).await;
        return Ok(end);
    }
    let job = tx.job(hold.job).await?;
    holds(&job, hold)?;
    let stored = u64::try_from(job.log_bytes).unwrap_or(0);
    if offset > stored {
        return Err(LogError::Gap { expected: stored, got: offset });
    }
    let known = end.min(stored);
    let (same, rest) = bytes.split_at((known - offset) as usize);
    if tx.log_range(hold.job, offset as i64, known as i64).await? != same {
        return Err(LogError::Conflict(offset));
    }
    if rest.is_empty() {
        return Ok(stored);
    }
    // Another piece may have come meanwhile: then the runner is told where the log ends now, and goes on from there.
    if tx.append_log(hold, known as i64, rest, now).await? {
        tx.commit().await?;
        store.wake.notify(Topic::Live).await;
        return Ok(end);
    }
    Err(LogError::Gap { expected: stored, got: offset })
}
