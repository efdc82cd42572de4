//! The TOML front end: from a document to values with places. What they mean is the validation's business.

use crate::problem::{Location, Problem};
use crate::raw::{Entry, Node, Raw, Table};
use serde_spanned::Spanned;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// How deep a document may nest.
const DEPTH: usize = 32;

/// Reads a document, or the first thing that is wrong with its syntax: what follows is mostly of its making.
pub(crate) fn read(file: &str, source: &str) -> Result<Node, Problem> {
    let lines = Lines::new(file, source);
    let document = DeTable::parse(source).map_err(|error| lines.problem(&error))?;
    let at = lines.locate(0);
    let table = Raw::Table(lines.table(document.get_ref(), "", 0));
    Ok(Node { value: table, at, path: String::new() })
}

/// Finds lines and columns of byte offsets.
struct Lines<'s> {
    file: &'s str,
    source: &'s str,
    starts: Vec<usize>,
}

impl<'s> Lines<'s> {
    fn new(file: &'s str, source: &'s str) -> Self {
        let starts = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, source, starts }
    }

    fn locate(&self, offset: usize) -> Location {
        let offset = offset.min(self.source.len());
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let column = self.source.get(self.starts[line - 1]..offset).map_or(0, |before| before.chars().count()) + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Location { file: self.file.to_owned(), line: number(line), column: number(column) }
    }

    fn problem(&self, error: &toml::de::Error) -> Problem {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        let at = self.locate(error.span().map_or(0, |span| span.start));
        Problem::error("config.syntax", message).at(at)
    }

    fn node(&self, value: &Spanned<DeValue<'_>>, path: String, depth: usize) -> Node {
        let at = self.locate(value.span().start);
        let raw = match value.get_ref() {
            DeValue::String(text) => Raw::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(value) => Raw::Number(value as f64),
                Err(_) => Raw::Foreign("a number beyond 64 bits"),
            },
            DeValue::Float(number) => Raw::Number(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => Raw::Bool(*value),
            DeValue::Datetime(_) => Raw::Foreign("a date"),
            DeValue::Array(items) if depth < DEPTH => {
                let nodes =
                    items.iter().enumerate().map(|(i, item)| self.node(item, format!("{path}[{}]", i + 1), depth + 1));
                Raw::Table(Table { items: nodes.collect(), entries: Vec::new() })
            }
            DeValue::Table(table) if depth < DEPTH => Raw::Table(self.table(table, &path, depth)),
            DeValue::Array(_) | DeValue::Table(_) => Raw::Unreadable(format!("is nested more than {DEPTH} deep")),
        };
        Node { value: raw, at, path }
    }

    /// A table's entries in the order of the file: the parser sorts them by name.
    fn table(&self, table: &DeTable<'_>, path: &str, depth: usize) -> Table {
        let mut sorted: Vec<(Range<usize>, _, _)> = table.iter().map(|(key, value)| (key.span(), key, value)).collect();
        sorted.sort_by_key(|(span, _, _)| span.start);
        let entries = sorted.into_iter().map(|(span, key, value)| {
            let key = key.get_ref().to_string();
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            Entry { at: self.locate(span.start), value: self.node(value, path, depth + 1), key }
        });
        Table { items: Vec::new(), entries: entries.collect() }
    }
}
