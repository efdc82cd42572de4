//! A job's log on its way to the server: first into a file, then in numbered pieces, each sent until it is acknowledged.
//!
//! The file makes both ends simple: the job never waits for the server, and a piece the server asks for again is there.

use crate::client::{Backoff, Client, ClientError};
use anyhow::Context as _;
use bytes::Bytes;
use pipelines_spec::protocol::{LOG_CHUNK_BYTES, LOG_JOB_BYTES};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// So much is sent at once without waiting for more.
const ENOUGH: u64 = 64 << 10;

/// The end of the log that is written.
pub struct Spool {
    file: Arc<File>,
    state: watch::Sender<State>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    length: u64,
    closed: bool,
}

/// The end that is sent.
pub struct Shipper {
    file: Arc<File>,
    state: watch::Receiver<State>,
    client: Client,
    job: String,
    epoch: i64,
    flush: Duration,
    backoff: (Duration, Duration),
}

/// Why a log was not sent to its end.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The server refuses the job's writes.
    #[error(transparent)]
    Refused(ClientError),
    /// This machine's disk failed.
    #[error("the log's file cannot be read: {0}")]
    Disk(#[from] std::io::Error),
}

impl Spool {
    /// A log kept in a new file at `path`, and what sends it.
    pub fn create(
        path: &Path,
        client: Client,
        (job, epoch): (&str, i64),
        flush: Duration,
        retry: Duration,
    ) -> anyhow::Result<(Self, Shipper)> {
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = Arc::new(file.with_context(|| format!("could not make {}", path.display()))?);
        let (state, receiver) = watch::channel(State::default());
        let backoff = (retry, Duration::from_secs(5).max(retry));
        let job = job.to_owned();
        let shipper = Shipper { file: file.clone(), state: receiver, client, job, epoch, flush, backoff };
        Ok((Self { file, state }, shipper))
    }

    /// Adds bytes; beyond the bound of a log they are dropped, which the job process prevents already.
    pub fn append(&self, bytes: &[u8]) -> std::io::Result<()> {
        if self.length() + bytes.len() as u64 > LOG_JOB_BYTES {
            return Ok(());
        }
        (&*self.file).write_all(bytes)?;
        self.state.send_modify(|state| state.length += bytes.len() as u64);
        Ok(())
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.state.borrow().length
    }

    /// Says that there will be no more.
    pub fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }
}

impl Shipper {
    /// Sends everything until the log is closed and the server has all of it. Does not give up on a server that cannot be
    /// reached: whoever calls knows how long there is sense in trying.
    pub async fn run(mut self) -> Result<(), ShipError> {
        let mut offset = 0;
        let mut backoff = Backoff::new(self.backoff.0, self.backoff.1);
        loop {
            let state = self.wait_for_more(offset).await;
            if state.closed && state.length == offset {
                return Ok(());
            }
            let chunk = self.chunk(offset, state.length)?;
            match self.client.log(&self.job, self.epoch, offset, chunk).await {
                Ok(next) => {
                    offset = next.min(state.length);
                    backoff = Backoff::new(self.backoff.0, self.backoff.1);
                }
                Err(ClientError::Conflict(problem)) if problem.code == "log.gap" => {
                    // The server lost what it had acknowledged (it was restored, say): the file still has it.
                    let expected = problem.expected_offset.or_else(|| expected_offset(&problem.detail));
                    offset = expected.filter(|at| *at <= state.length).unwrap_or_default();
                    tokio::time::sleep(backoff.delay()).await;
                }
                Err(error) if error.is_transient() => tokio::time::sleep(backoff.delay()).await,
                Err(error) => return Err(ShipError::Refused(error)),
            }
        }
    }

    async fn wait_for_more(&mut self, offset: u64) -> State {
        // A writer that is gone without closing means that the job was given up, and this task with it.
        let more = |state: &State| state.closed || state.length > offset;
        let Ok(state) = self.state.wait_for(more).await.map(|state| *state) else {
            return std::future::pending().await;
        };
        if state.closed || state.length - offset >= ENOUGH {
            return state;
        }
        let plenty = self.state.wait_for(|state| state.closed || state.length - offset >= ENOUGH);
        let _ = tokio::time::timeout(self.flush, plenty).await;
        *self.state.borrow()
    }

    fn chunk(&self, offset: u64, length: u64) -> std::io::Result<Bytes> {
        let size = usize::try_from(length - offset).unwrap_or(LOG_CHUNK_BYTES).min(LOG_CHUNK_BYTES);
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

/// The number in "expected offset 4096, got 8192".
fn expected_offset(detail: &str) -> Option<u64> {
    let rest = detail.split_once("expected offset ")?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_offset_is_read_from_the_servers_sentence() {
        assert_eq!(expected_offset("expected offset 4096, got 8192."), Some(4096));
        assert_eq!(expected_offset("something else"), None);
    }
}
