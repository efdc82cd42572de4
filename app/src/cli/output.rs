//! What commands print: data to stdout, everything else to stderr; text from outside never steers the terminal.

use crate::model::time::Timestamp;
use console::{Style, measure_text_width, style};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};

/// The version of what `--json` prints. Fields are added without changing it.
pub const SCHEMA_VERSION: u32 = 1;

/// Prints `value` as the command's answer for programs, with `schema_version`. A list becomes `{items: […]}`.
pub fn print_json<T: Serialize>(value: &T) {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    let mut object = match value {
        Value::Object(object) => object,
        Value::Array(items) => [("items".to_owned(), Value::Array(items))].into_iter().collect(),
        other => [("value".to_owned(), other)].into_iter().collect(),
    };
    object.insert("schema_version".to_owned(), json!(SCHEMA_VERSION));
    print_data(&format!("{:#}\n", Value::Object(object)));
}

/// Prints data. A reader that went away (`| head`) ends the output, not the command.
pub fn print_data(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Whether there is a person to ask: both ends are a terminal, and nobody said that this is a machine.
pub fn may_prompt() -> bool {
    let machine = ["CI", "RIVET_NO_PROMPT"].iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()));
    !machine && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether stderr can be animated.
pub fn is_live() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !dumb && std::io::stderr().is_terminal()
}

/// `text` on one line, without anything that a terminal would obey or that would turn its direction.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((_, length)) = escape(rest) {
            rest = &rest[length..];
            continue;
        }
        match c {
            '\n' | '\r' | '\t' => clean.push(' '),
            c if c.is_control() || is_steering(c) => {}
            c => clean.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    clean
}

fn is_steering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A log line for a terminal: colours stay (where they are wanted), everything else that moves the cursor, sets titles or
/// answers goes. What a progress bar overwrote is left out.
pub fn clean_log(line: &str, colours: bool) -> String {
    let line = line.trim_end_matches(['\r', '\n']);
    let shown = line.rsplit('\r').next().unwrap_or(line);
    let mut clean = String::with_capacity(shown.len());
    let mut rest = shown;
    while let Some(c) = rest.chars().next() {
        if let Some((colour, length)) = escape(rest) {
            clean.push_str(if colours { colour } else { "" });
            rest = &rest[length..];
            continue;
        }
        if c == '\t' || !(c.is_control() || is_steering(c)) {
            clean.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    if clean.contains('\u{1b}') {
        clean.push_str("\u{1b}[0m");
    }
    clean
}

/// The escape sequence `text` begins with: what to keep of it (all of a colour, nothing of others) and its length.
fn escape(text: &str) -> Option<(&str, usize)> {
    let rest = text.strip_prefix('\u{1b}')?;
    if let Some(body) = rest.strip_prefix('[') {
        let end = body.find(|c: char| !matches!(c, '\u{20}'..='\u{3f}'))?;
        let last = body[end..].chars().next()?;
        let length = 2 + end + last.len_utf8();
        let plain = body[..end].chars().all(|c| c.is_ascii_digit() || c == ';' || c == ':');
        let keep = if last == 'm' && plain { &text[..length] } else { "" };
        return Some((keep, length));
    }
    if let Some(body) = rest.strip_prefix(']') {
        // An operating system command goes on to BEL or ESC \; unfinished, it swallows the line.
        let end = body.find('\u{7}').map(|i| i + 1).or_else(|| body.find("\u{1b}\\").map(|i| i + 2));
        return Some(("", 2 + end.unwrap_or(body.len())));
    }
    let next = rest.chars().next().map_or(0, char::len_utf8);
    Some(("", 1 + next))
}

/// `0.4 s`, `12 s`, `3 m 04 s`, `1 h 02 m`.
pub fn duration(millis: i64) -> String {
    let millis = millis.max(0);
    let seconds = millis / 1000;
    match seconds {
        0..10 => format!("{}.{} s", seconds, millis % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `just now`, `5 min ago`, `3 h ago`, `2 days ago`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    match now.since(then).max(0) / 1000 {
        0..60 => "just now".to_owned(),
        s @ 60..3600 => format!("{} min ago", s / 60),
        s @ 3600..172_800 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86_400),
    }
}

/// The sign of a run's or stage's state. It always stands beside the word.
pub fn sign(state: &str) -> &'static str {
    match state {
        "succeeded" | "completed" => "✓",
        "failed" | "diverged" | "stuck" => "✗",
        "running" => "●",
        "awaiting_approval" => "‖",
        "skipped" => "»",
        "cancelled" => "⊘",
        "rolling_back" | "rolled_back" => "↺",
        "sleeping" => "◌",
        _ => "○",
    }
}

/// The colour of a state, on stderr or stdout.
pub fn colour(state: &str) -> Style {
    let plain = Style::new();
    match state {
        "succeeded" | "completed" => plain.green(),
        "failed" | "diverged" | "stuck" => plain.red(),
        "running" | "rolling_back" => plain.cyan(),
        "awaiting_approval" | "cancelled" | "rolled_back" => plain.yellow(),
        _ => plain.dim(),
    }
}

/// A state for people: sign and word, coloured for stdout.
pub fn state(state: &str) -> String {
    let word = state.replace('_', " ");
    colour(state).apply_to(format!("{} {}", sign(state), clean(&word))).to_string()
}

/// Says something to the person at the terminal.
pub fn note(text: &str) {
    eprintln!("{text}");
}

/// Warns the person at the terminal.
pub fn warn(text: &str) {
    eprintln!("{} {text}", style("warning:").for_stderr().yellow().bold());
}

/// Rows in columns, two blanks apart; the last one is not padded.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|h| measure_text_width(h)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(measure_text_width(cell));
        }
    }
    let head: Vec<String> = head.iter().map(|h| style(h).dim().to_string()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let last = row.len().saturating_sub(1);
        for (i, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if i < last {
                let width = widths.get(i).copied().unwrap_or_default();
                text.push_str(&" ".repeat(width.saturating_sub(measure_text_width(cell)) + 2));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let all: Vec<_> = [0, 420, 9_999, 12_345, 184_000, 3_720_000].into_iter().map(duration).collect();
        assert_eq!(all.join(" | "), "0.0 s | 0.4 s | 9.9 s | 12 s | 3 m 04 s | 1 h 02 m");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{202e}d\u{7}"), "ab cd");
    }

    #[test]
    fn logs_keep_colours_and_nothing_else() {
        assert_eq!(clean_log("\u{1b}[31mred\u{1b}[0m", true), "\u{1b}[31mred\u{1b}[0m\u{1b}[0m");
        assert_eq!(clean_log("a\u{1b}[2Jb\u{1b}]0;title\u{7}c\u{1b}c d", true), "abc d");
        assert_eq!(clean_log("10%\r50%\r100%\n", true), "100%");
        assert_eq!(clean_log("cut \u{1b}[", true), "cut [");
        assert_eq!(clean_log("\u{1b}[31mred\u{1b}[0m", false), "red");
        assert_eq!(clean_log("title \u{1b}]0;never ends", true), "title ");
    }
}
