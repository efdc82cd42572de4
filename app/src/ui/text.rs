//! Words for people, and strings from outside made harmless to read. (Escaping for HTML is the templates' own.)

use crate::model::time::Timestamp;

/// Text as it may be shown: characters that reorder, hide or control what is around them become `�`.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_deceptive(c) { '\u{fffd}' } else { c }).collect()
}

/// Whether a character could make text look like what it is not.
pub fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        | '\u{feff}')
}

/// A duration in the two units that matter: `0.4 s`, `12 s`, `3 min 4 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(millis: i64) -> String {
    let millis = millis.max(0);
    let seconds = millis / 1000;
    match seconds {
        0..=9 => format!("{}.{} s", seconds, millis % 1000 / 100),
        10..=59 => format!("{seconds} s"),
        60..=3599 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..=86_399 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
}

/// A moment, as people say it and as machines read it.
#[derive(Debug, Clone)]
pub struct Moment {
    /// `3 min ago`.
    pub ago: String,
    /// RFC 3339.
    pub exact: String,
}

impl Moment {
    /// `time` as seen from `now`.
    pub fn new(time: Timestamp, now: Timestamp) -> Self {
        Self { ago: ago(now.since(time)), exact: time.rfc3339() }
    }
}

fn ago(millis: i64) -> String {
    let seconds = millis / 1000;
    match seconds {
        ..=4 => "just now".to_owned(),
        5..=59 => format!("{seconds} s ago"),
        60..=3599 => format!("{} min ago", seconds / 60),
        3600..=86_399 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// The first digits of a commit.
pub fn short_sha(sha: &str) -> String {
    clean(sha.get(..8).unwrap_or(sha))
}

/// At most `most` characters, with `…` where more were.
pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_the_most() {
        let shown: Vec<String> =
            [-5, 430, 9_999, 12_300, 60_000, 184_000, 7_500_000, 277_000_000].into_iter().map(duration).collect();
        assert_eq!(shown, ["0.0 s", "0.4 s", "9.9 s", "12 s", "1 min", "3 min 4 s", "2 h 5 min", "3 d 4 h"]);
    }

    #[test]
    fn what_reorders_or_hides_text_is_made_visible() {
        assert_eq!(clean("main\u{202e}nigol\u{2066}\u{7}"), "main\u{fffd}nigol\u{fffd}\u{fffd}");
        assert_eq!(clean("größe → 日本 👩‍🚀\tx"), "größe → 日本 👩‍🚀\tx");
    }
}
