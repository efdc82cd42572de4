//! A command's two streams on their way into the log, and into memory where they are wanted.

use super::{CAPTURE_BYTES, ExecError};
use crate::log::Stream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::task::JoinHandle;

/// How long an unfinished line waits for its end before it is shown: two streams share one log, and lines read better whole.
const LINE_PATIENCE: Duration = Duration::from_millis(100);
/// How long after a command's end its streams may stay open: something it left in the background may hold them for ever.
const LINGER: Duration = Duration::from_millis(250);

/// One stream being read.
pub struct Pump {
    task: JoinHandle<()>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    overflow: bool,
}

impl Pump {
    /// Reads `source` to its end into `stream`.
    pub fn start(source: impl AsyncRead + Unpin + Send + 'static, stream: Stream, capture: bool) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let task = tokio::spawn(pump(source, stream, capture.then(|| kept.clone())));
        Self { task, kept }
    }

    /// What it said, once the command has ended.
    pub async fn finish(self) -> Result<Vec<u8>, ExecError> {
        // Not reaching the end is fine: the task goes on and logs what a background process still says.
        let _ = tokio::time::timeout(LINGER, self.task).await;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.overflow {
            return Err(ExecError::TooMuchOutput);
        }
        Ok(std::mem::take(&mut kept.bytes))
    }
}

async fn pump(mut source: impl AsyncRead + Unpin, mut stream: Stream, kept: Option<Arc<Mutex<Kept>>>) {
    let mut buffer = vec![0; 64 << 10];
    let mut partial: Vec<u8> = Vec::new();
    loop {
        let read = if partial.is_empty() {
            source.read(&mut buffer).await
        } else {
            match tokio::time::timeout(LINE_PATIENCE, source.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => {
                    stream.push(&std::mem::take(&mut partial));
                    continue;
                }
            }
        };
        // A stream that cannot be read any more has ended, whatever the reason.
        let Ok(length @ 1..) = read else { break };
        if let Some(kept) = &kept {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..length]);
        }
        partial.extend_from_slice(&buffer[..length]);
        let complete = partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let ready = if partial.len() - complete > crate::log::LINE_BYTES { partial.len() } else { complete };
        stream.push(&partial[..ready]);
        partial.drain(..ready);
    }
    stream.push(&partial);
    stream.finish();
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > CAPTURE_BYTES {
            self.overflow = true;
            self.bytes = Vec::new();
        }
        if !self.overflow {
            self.bytes.extend_from_slice(bytes);
        }
    }
}
