//! The lines of a comment that can be commands: they begin, in the first column, as plain text of a paragraph of the
//! comment itself. The comment is read as the Markdown it is, so nothing that people see as a quotation, as code, as a
//! heading, list, link, table or footnote, folded away or struck out, is ever one.

use super::html::OpenElements;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use std::ops::Range;

/// What GitHub's comments know beyond `CommonMark`: each of these can hide a line.
const OPTIONS: Options = Options::ENABLE_TABLES
    .union(Options::ENABLE_FOOTNOTES)
    .union(Options::ENABLE_STRIKETHROUGH)
    .union(Options::ENABLE_TASKLISTS)
    .union(Options::ENABLE_MATH)
    .union(Options::ENABLE_GFM);

/// Lines that begin with `/` and are nothing but text, in their order.
pub(super) fn candidates(body: &str) -> Vec<&str> {
    let mut reader = Reader::default();
    for (event, range) in Parser::new_ext(body, OPTIONS).into_offset_iter() {
        reader.read(body, &event, range);
    }
    reader.lines(body)
}

#[derive(Default)]
struct Reader {
    /// How many elements are open, but for a paragraph at the top.
    depth: usize,
    /// Whether a paragraph at the top is open.
    paragraph: bool,
    html: OpenElements,
    block: String,
    /// Where lines begin as text.
    starts: Vec<usize>,
    /// What is more than text within paragraphs: code, links, emphasis …
    spans: Vec<Range<usize>>,
}

impl Reader {
    fn read(&mut self, body: &str, event: &Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(Tag::Paragraph) if self.depth == 0 => self.paragraph = true,
            Event::End(TagEnd::Paragraph) if self.depth == 0 => self.paragraph = false,
            Event::Start(_) => {
                self.depth += 1;
                self.spans.push(range);
            }
            Event::End(end) => {
                self.depth = self.depth.saturating_sub(1);
                if *end == TagEnd::HtmlBlock {
                    // A tag may go on in the next line of its block.
                    self.html.read(&std::mem::take(&mut self.block));
                }
            }
            Event::Html(text) => self.block.push_str(text),
            Event::InlineHtml(text) => {
                self.html.read(text);
                self.spans.push(range);
            }
            Event::Code(_) | Event::InlineMath(_) | Event::DisplayMath(_) => self.spans.push(range),
            Event::Text(_) => {
                if self.paragraph && self.depth == 0 && self.html.none() && begins_line(body, range.start) {
                    self.starts.push(range.start);
                }
            }
            Event::FootnoteReference(_)
            | Event::SoftBreak
            | Event::HardBreak
            | Event::Rule
            | Event::TaskListMarker(_) => {}
        }
    }

    fn lines(mut self, body: &str) -> Vec<&str> {
        self.spans.sort_by_key(|span| span.start);
        let line = |start: usize| {
            let end = body[start..].find(['\n', '\r']).map_or(body.len(), |length| start + length);
            let first = self.spans.partition_point(|span| span.start < start);
            let mut within = self.spans[first..].iter().take_while(|span| span.start < end);
            // Where code or a link begins in this line and ends in a later one, the line is not the whole of anything.
            let whole = within.all(|span| span.end <= end);
            whole.then(|| body[start..end].trim_end_matches([' ', '\t']))
        };
        self.starts.iter().filter_map(|start| line(*start)).collect()
    }
}

fn begins_line(body: &str, at: usize) -> bool {
    let bytes = body.as_bytes();
    bytes.get(at) == Some(&b'/') && (at == 0 || matches!(bytes[at - 1], b'\n' | b'\r'))
}
