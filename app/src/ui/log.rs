//! The page of a log. Lines are rendered on reading, 500 at a time; an index of where each 500 begin (and how text
//! looked there) is kept for logs that are read often and grows with them.

use super::ansi::{Renderer, Style, escape};
use crate::context::Context;
use crate::http::api::logs::next_bytes;
use crate::http::error::ApiError;
use crate::model::ids::JobId;
use moka::future::Cache;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Lines in one chunk of the page.
pub const CHUNK: usize = 500;
/// How many logs' indexes are kept.
const INDEXES: u64 = 2_000;
/// What a line shows at the most.
const LINE_BYTES: usize = 16 * 1024;

/// The indexes of logs that were looked at.
#[derive(Clone)]
pub struct Indexes(Cache<JobId, Arc<Mutex<Index>>>);

impl Default for Indexes {
    fn default() -> Self {
        Self(Cache::new(INDEXES))
    }
}

/// Where each chunk of a log begins. Covers the log's whole lines up to `offset`.
#[derive(Debug, Clone)]
pub struct Index {
    marks: Vec<Mark>,
    /// Whole lines so far.
    pub lines: usize,
    offset: i64,
    style: Style,
}

/// A chunk's beginning.
#[derive(Debug, Clone, Copy)]
struct Mark {
    offset: i64,
    style: Style,
}

impl Default for Index {
    fn default() -> Self {
        let style = Style::default();
        Self { marks: vec![Mark { offset: 0, style }], lines: 0, offset: 0, style }
    }
}

impl Index {
    /// Takes in more of the log, which begins at `self.offset`; a last line without its end is left for later.
    fn extend(&mut self, bytes: &[u8]) {
        let mut renderer = Renderer::new(self.style);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            renderer.skip(&bytes[start..end]);
            start = end + 1;
            self.lines += 1;
            if self.lines.is_multiple_of(CHUNK) {
                let offset = self.offset + i64::try_from(start).unwrap_or(0);
                self.marks.push(Mark { offset, style: renderer.style });
            }
        }
        self.offset += i64::try_from(start).unwrap_or(0);
        self.style = renderer.style;
    }

    fn mark(&self, chunk: usize) -> Option<Mark> {
        self.marks.get(chunk).copied()
    }
}

impl Indexes {
    /// The index of a job's log as far as it is stored now.
    pub async fn of(&self, context: &Context, job: &JobId) -> Result<Index, ApiError> {
        let kept = self.0.get_with(job.clone(), async { Arc::default() }).await;
        let mut index = kept.lock().await;
        loop {
            let bytes = next_bytes(context, job, index.offset).await?;
            let before = index.offset;
            index.extend(&bytes);
            if index.offset == before {
                break;
            }
        }
        Ok(index.clone())
    }
}

/// One line, rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Text(String),
    GroupBegins(String),
    GroupEnds,
}

impl Line {
    fn new(number: usize, renderer: &mut Renderer, bytes: &[u8]) -> Self {
        let cut = bytes.len() > LINE_BYTES;
        let (mut html, text) = renderer.line(bytes.get(..LINE_BYTES).unwrap_or(bytes));
        if cut {
            html.push_str("<span class=\"d\"> … [truncated]</span>");
        }
        let kind = match text.strip_prefix("::group::") {
            Some(name) => Kind::GroupBegins(name.to_owned()),
            None if text.trim_end() == "::endgroup::" => Kind::GroupEnds,
            None => Kind::Text(html),
        };
        Self { number, kind }
    }

    fn write(&self, html: &mut String) {
        let n = self.number;
        let (class, body) = match &self.kind {
            Kind::Text(body) => ("ln", body.clone()),
            Kind::GroupBegins(name) => {
                let mut body = String::new();
                escape(&mut body, name);
                ("ln gh", body)
            }
            Kind::GroupEnds => ("ln ge", String::new()),
        };
        let _ = write!(
            html,
            "<div class=\"{class}\" id=\"L{n}\"><a href=\"#L{n}\" data-n=\"{n}\" aria-label=\"Line {n}\"></a><span>{body}</span></div>"
        );
    }
}

/// How groups of lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// As headings; for lines that still come.
    Flat,
    /// To be opened.
    Folded,
    /// To be closed.
    Open,
}

/// Lines as HTML. A group that goes beyond them ends with them; what follows stands by itself.
pub fn html(lines: &[Line], groups: Groups) -> String {
    let mut html = String::with_capacity(lines.len() * 120);
    let mut inside = false;
    for line in lines {
        match (&line.kind, groups) {
            (Kind::GroupBegins(_), Groups::Folded | Groups::Open) => {
                if inside {
                    html.push_str("</details>");
                }
                let open = if groups == Groups::Open { " open" } else { "" };
                let _ = write!(html, "<details{open}><summary>");
                line.write(&mut html);
                html.push_str("</summary>");
                inside = true;
            }
            (Kind::GroupEnds, Groups::Folded | Groups::Open) => {
                line.write(&mut html);
                if inside {
                    html.push_str("</details>");
                }
                inside = false;
            }
            (Kind::Text(_), _) | (_, Groups::Flat) => line.write(&mut html),
        }
    }
    if inside {
        html.push_str("</details>");
    }
    html
}

/// Reads rendered lines one after the other.
pub struct Lines {
    context: Context,
    job: JobId,
    renderer: Renderer,
    /// Where `pending` begins.
    offset: i64,
    pending: Vec<u8>,
    number: usize,
}

impl Lines {
    /// From the chunk with `line` on; lines before it in the chunk are passed over when they are read.
    pub fn from(context: &Context, job: &JobId, index: &Index, line: usize) -> Self {
        let chunk = line.saturating_sub(1) / CHUNK;
        let (chunk, mark) = match index.mark(chunk) {
            Some(mark) => (chunk, mark),
            None => (0, Mark { offset: 0, style: Style::default() }),
        };
        Self {
            context: context.clone(),
            job: job.clone(),
            renderer: Renderer::new(mark.style),
            offset: mark.offset,
            pending: vec![],
            number: chunk * CHUNK + 1,
        }
    }

    /// The next lines, at most `most`; fewer, or none, where the log has no more now. With `ended` the last line needs
    /// no end.
    pub async fn next(&mut self, most: usize, ended: bool) -> Result<Vec<Line>, ApiError> {
        let mut lines = self.take(most);
        while lines.len() < most {
            let held = i64::try_from(self.pending.len()).unwrap_or(0);
            let bytes = next_bytes(&self.context, &self.job, self.offset + held).await?;
            if bytes.is_empty() {
                if ended && !self.pending.is_empty() {
                    let last = std::mem::take(&mut self.pending);
                    self.offset += held;
                    lines.push(Line::new(self.number, &mut self.renderer, &last));
                    self.number += 1;
                }
                break;
            }
            self.pending.extend_from_slice(&bytes);
            lines.extend(self.take(most - lines.len()));
        }
        Ok(lines)
    }

    fn take(&mut self, most: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &self.pending) {
            if lines.len() == most {
                break;
            }
            lines.push(Line::new(self.number, &mut self.renderer, &self.pending[start..end]));
            self.number += 1;
            start = end + 1;
        }
        self.pending.drain(..start);
        self.offset += i64::try_from(start).unwrap_or(0);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        let mut renderer = Renderer::default();
        text.lines().enumerate().map(|(n, line)| Line::new(n + 1, &mut renderer, line.as_bytes())).collect()
    }

    #[test]
    fn groups_fold_and_never_overlap() {
        let shown = html(&lines("::group::a <b>\nx\n::group::c\ny\n::endgroup::\n::endgroup::\nz"), Groups::Folded);
        assert_eq!(shown.matches("<details>").count(), 2);
        assert_eq!(shown.matches("</details>").count(), 2);
        assert!(shown.contains("a &lt;b&gt;"));
        assert!(!html(&lines("::group::a\nx"), Groups::Flat).contains("<details"));
        assert!(html(&lines("::group::a\nx"), Groups::Open).ends_with("</details>"));
    }

    #[test]
    fn an_index_marks_every_five_hundredth_line_however_it_comes() {
        let text: String = (0..1200).map(|n| format!("line {n}\x1b[3{}m\n", n % 8)).collect();
        let mut whole = Index::default();
        whole.extend(text.as_bytes());
        let mut pieces = Index::default();
        let mut taken = 0;
        while taken < text.len() {
            let end = (taken + 700).min(text.len());
            pieces.extend(&text.as_bytes()[usize::try_from(pieces.offset).unwrap()..end]);
            taken = end;
        }
        assert_eq!((whole.lines, whole.marks.len()), (1200, 3));
        assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    }
}
