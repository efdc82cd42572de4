//! The log of one job while it is written: lines of the runner itself and what commands say, in the order they come,
//! redacted, with bounds on a line and on the whole.

use crate::redact::{Patterns, Redactor};
use crate::stop::{Stop, StopReason};
use pipelines_spec::protocol::LOG_JOB_BYTES;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most bytes of one line; the rest of it is left out, and the log says so.
pub const LINE_BYTES: usize = 16 << 10;
/// Kept free for the runner's own last words.
const RESERVE: u64 = 16 << 10;
const TAIL_BYTES: usize = 4 << 10;
const TAIL_LINES: usize = 20;

/// Where a log's bytes go.
pub type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// One job's log.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Mutex<Inner>>,
    patterns: Patterns,
    stop: Stop,
}

struct Inner {
    sink: Sink,
    written: u64,
    limit: u64,
    /// Whether the last byte ended a line, so that the runner's own lines begin on one.
    at_line_start: bool,
}

impl Log {
    /// A log that hides `patterns` and asks `stop` for the end when it is full.
    pub fn new(patterns: Patterns, stop: Stop, sink: Sink) -> Self {
        let inner = Inner { sink, written: 0, limit: LOG_JOB_BYTES, at_line_start: true };
        Self { inner: Arc::new(Mutex::new(inner)), patterns, stop }
    }

    /// Writes a line of the runner's own.
    pub fn line(&self, text: &str) {
        let text = shorten(&self.patterns.redact(text));
        let mut inner = self.lock();
        let start = if inner.at_line_start { "" } else { "\n" };
        let bytes = format!("{start}{text}\n");
        if self.stop.reason().is_some() {
            // The last words have room kept for them.
            inner.write(bytes.as_bytes());
        } else {
            self.bounded(&mut inner, bytes.as_bytes());
        }
    }

    /// A log that hides the same and shows nothing: for what the runner itself calls, whose last words are kept as a tail.
    pub fn silent(&self) -> Self {
        Self::new(self.patterns.clone(), self.stop.clone(), Box::new(|_| {}))
    }

    /// `text` with every secret hidden.
    pub fn redact(&self, text: &str) -> String {
        self.patterns.redact(text)
    }

    /// What this log hides.
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// A stream of a command's output; `tail` remembers its last lines.
    pub fn stream(&self, tail: Tail) -> Stream {
        Stream { log: self.clone(), redactor: Redactor::new(self.patterns.clone()), line: 0, tail }
    }

    fn output(&self, bytes: &[u8]) {
        self.bounded(&mut self.lock(), bytes);
    }

    fn bounded(&self, inner: &mut Inner, bytes: &[u8]) {
        if inner.written + bytes.len() as u64 + RESERVE > inner.limit {
            let first = self.stop.reason() != Some(StopReason::LogLimit);
            self.stop.request(StopReason::LogLimit);
            if first && self.stop.reason() == Some(StopReason::LogLimit) {
                let limit = inner.limit;
                inner.write(
                    format!("\nThe log has reached its limit of {limit} bytes; the job is stopped.\n").as_bytes(),
                );
            }
            return;
        }
        inner.write(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.at_line_start = *last == b'\n';
            if self.written + bytes.len() as u64 <= self.limit {
                self.written += bytes.len() as u64;
                (self.sink)(bytes);
            }
        }
    }
}

fn shorten(text: &str) -> String {
    text.split('\n').map(shorten_line).collect::<Vec<_>>().join("\n")
}

fn shorten_line(line: &str) -> String {
    if line.len() <= LINE_BYTES {
        return line.to_owned();
    }
    let end = (0..=LINE_BYTES).rev().find(|at| line.is_char_boundary(*at)).unwrap_or_default();
    format!("{}… [truncated]", &line[..end])
}

/// One stream of a command's output on its way into the log.
pub struct Stream {
    log: Log,
    redactor: Redactor,
    /// Bytes of the current line so far.
    line: usize,
    tail: Tail,
}

impl Stream {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let safe = self.redactor.push(bytes);
        self.write(&safe);
    }

    /// Ends the stream.
    pub fn finish(&mut self) {
        let rest = self.redactor.finish();
        self.write(&rest);
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut out = Vec::with_capacity(bytes.len());
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES.saturating_sub(self.line);
            let (text, end) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            out.extend_from_slice(&text[..text.len().min(room)]);
            if self.line <= LINE_BYTES && self.line + text.len() > LINE_BYTES {
                out.extend_from_slice("… [truncated]".as_bytes());
            }
            self.line += text.len();
            if end {
                out.push(b'\n');
                self.line = 0;
            }
        }
        if !out.is_empty() {
            self.tail.push(&out);
            self.log.output(&out);
        }
    }
}

/// The last lines of a command's output, redacted.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let surplus = kept.len().saturating_sub(TAIL_BYTES);
        kept.drain(..surplus);
    }

    /// As text; `None` where nothing was said.
    pub fn text(&self) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        (!last.is_empty()).then(|| last.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(secrets: &[&str]) -> (Log, Arc<Mutex<Vec<u8>>>, Stop) {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let stop = Stop::default();
        let target = bytes.clone();
        let sink: Sink =
            Box::new(move |new| target.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(new));
        (Log::new(Patterns::new(secrets.iter().copied()), stop.clone(), sink), bytes, stop)
    }

    fn text(bytes: &Mutex<Vec<u8>>) -> String {
        String::from_utf8_lossy(&bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    #[test]
    fn a_secret_split_between_reads_is_hidden_and_the_tail_too() {
        let (log, bytes, _) = log(&["hunter22"]);
        let tail = Tail::default();
        let mut stream = log.stream(tail.clone());
        stream.push(b"token=hunt");
        stream.push(b"er22 done\n");
        stream.finish();
        assert_eq!(text(&bytes), "token=*** done\n");
        assert_eq!(tail.text().as_deref(), Some("token=*** done"));
    }

    #[test]
    fn a_long_line_is_cut_with_a_note_and_the_next_is_whole() {
        let (log, bytes, _) = log(&[]);
        let mut stream = log.stream(Tail::default());
        for _ in 0..3 {
            stream.push(&[b'x'; 10_000]);
        }
        stream.push(b"\nnext\n");
        assert_eq!(text(&bytes), format!("{}… [truncated]\nnext\n", "x".repeat(LINE_BYTES)));
        let exact = "y".repeat(LINE_BYTES);
        stream.push(format!("{exact}\n").as_bytes());
        assert!(text(&bytes).ends_with(&format!("\n{exact}\n")));
    }

    #[test]
    fn a_full_log_stops_the_job_and_says_so_once() {
        let (log, bytes, stop) = log(&[]);
        let mut stream = log.stream(Tail::default());
        let line = [&[b'z'; 8_191][..], b"\n"].concat();
        for _ in 0..(LOG_JOB_BYTES / 8_192 + 3) {
            stream.push(&line);
        }
        assert_eq!(stop.reason(), Some(StopReason::LogLimit));
        log.line("last words");
        let text = text(&bytes);
        assert!(text.len() as u64 <= LOG_JOB_BYTES);
        assert_eq!(text.matches("has reached its limit").count(), 1);
        assert!(text.ends_with("the job is stopped.\nlast words\n"));
    }

    #[test]
    fn a_script_that_only_logs_fills_the_log_too() {
        let (log, bytes, stop) = log(&[]);
        let line = "y".repeat(8_191);
        for _ in 0..(LOG_JOB_BYTES / 8_192 + 3) {
            log.line(&line);
        }
        assert_eq!(stop.reason(), Some(StopReason::LogLimit));
        assert_eq!(text(&bytes).matches("has reached its limit").count(), 1);
    }

    #[test]
    fn the_runners_own_lines_begin_on_a_line() {
        let (log, bytes, _) = log(&[]);
        log.stream(Tail::default()).push(b"no newline");
        log.line("$ next");
        assert_eq!(text(&bytes), "no newline\n$ next\n");
    }
}
