//! Text from outside on its way into Markdown that a forge renders: inside a fence it cannot leave, with nothing that
//! acts on a terminal or a reader, and mentioning nobody.

/// Bytes of a summary: below GitHub's 65,535 with room to spare.
pub const SUMMARY_BYTES: usize = 60_000;

/// `text` in a fence one tick longer than any run of ticks inside. Of too long a text the end is kept, whole lines.
pub fn fenced(text: &str, limit: usize) -> String {
    let text = plain(text);
    let kept = tail(text.trim_end_matches('\n'), limit);
    let fence = "`".repeat(longest_run(kept).max(2) + 1);
    let cut = if kept.len() < text.trim_end_matches('\n').len() { "…\n" } else { "" };
    format!("{fence}text\n{cut}{kept}\n{fence}")
}

/// `text` for a sentence outside a fence: on one line, and with every sign Markdown or a mention begins with made inert.
pub fn sentence(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for sign in plain(text).chars() {
        match sign {
            '\n' | '\t' => safe.push(' '),
            // A word joiner after it: the sign is read, and no name follows it.
            '@' => safe.push_str("@\u{2060}"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '~' => {
                safe.push('\\');
                safe.push(sign);
            }
            other => safe.push(other),
        }
    }
    safe
}

/// `text` on one line of at most `limit` characters, as titles and descriptions are.
pub fn one_line(text: &str, limit: usize) -> String {
    let line: String = plain(text).chars().map(|sign| if sign.is_whitespace() { ' ' } else { sign }).collect();
    match line.char_indices().nth(limit) {
        None => line,
        Some(_) => line.chars().take(limit - 1).chain(['…']).collect(),
    }
}

/// Without escape sequences, control characters, and signs that turn the reading direction.
pub fn plain(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            // A control sequence ends with a letter; what is left of others loses its escape and is harmless text.
            '\u{1b}' if signs.peek() == Some(&'[') => {
                signs.next();
                while signs.next().is_some_and(|s| !('\u{40}'..='\u{7e}').contains(&s)) {}
            }
            '\n' | '\t' => clean.push(sign),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {}
            _ if sign.is_control() => {}
            _ => clean.push(sign),
        }
    }
    clean
}

fn tail(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let kept = &text[text.ceil_char_boundary(text.len() - limit)..];
    kept.find('\n').map_or(kept, |end| &kept[end + 1..])
}

fn longest_run(text: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for sign in text.chars() {
        run = if sign == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_cannot_be_left() {
        insta::assert_snapshot!(fenced("one\n````\n@acme/ops # not a title\n````\n", 100), @"
        `````text
        one
        ````
        @acme/ops # not a title
        ````
        `````
        ");
        insta::assert_snapshot!(fenced("first\nsecond\nthird", 8), @"
        ```text
        …
        third
        ```
        ");
    }

    #[test]
    fn a_sentence_mentions_nobody_and_is_one() {
        assert_eq!(sentence("ask @ops\n# <b>[x](y)</b>"), "ask @\u{2060}ops \\# \\<b\\>\\[x\\](y)\\</b\\>");
        assert_eq!(plain("a\u{1b}[31mred\u{1b}[0m\u{202e}b\u{0}\r\n"), "aredb\n");
        assert_eq!(one_line("a\nb", 10), "a b");
        assert_eq!(one_line(&"é".repeat(200), 140).chars().count(), 140);
    }
}
