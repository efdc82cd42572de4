//! The words of a command's line: names, commits, numbers, and inputs with their quotation marks.

use super::{LEAST_DIGITS, Misuse};

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// `NAME=VALUE`, `NAME="a b"`.
    Input(String, String),
    /// Anything else.
    Word(String),
}

/// What a stage or a pipeline may be called.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    text.len() <= 63 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(plain)
}

/// Lower-case hex digits, at least so many.
pub(super) fn is_commit(text: &str, least: usize) -> bool {
    (least..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A commit that is named well enough to be told from others.
pub(super) fn commit_or_short(text: &str) -> Result<String, Misuse> {
    if is_commit(text, LEAST_DIGITS) { Ok(text.to_owned()) } else { Err(Misuse::Commit) }
}

/// A run's number, with or without its sign.
pub(super) fn run_number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// What people can read and nothing hides in: no control signs, no other blanks, nothing without a width or that turns
/// the direction of reading.
pub(super) fn is_readable(sign: char) -> bool {
    !sign.is_control()
        && !sign.is_whitespace()
        && !matches!(sign,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Splits at blanks outside of quotation marks, in which `\"` and `\\` stand for the sign itself.
pub(super) fn split(text: &str) -> Result<Vec<Given>, Misuse> {
    let mut tokens = vec![];
    let mut signs = text.chars().peekable();
    loop {
        while signs.next_if(char::is_ascii_whitespace).is_some() {}
        if signs.peek().is_none() {
            return Ok(tokens);
        }
        let mut word = String::new();
        // Where the name of an input ends, if one began.
        let mut equals = None;
        let mut quoted = false;
        while let Some(sign) = signs.next_if(|c| quoted || !c.is_ascii_whitespace()) {
            match sign {
                '"' if equals.is_some() => quoted = !quoted,
                '\\' if quoted => word.push(signs.next_if(|c| matches!(c, '"' | '\\')).unwrap_or('\\')),
                '=' if equals.is_none() => {
                    equals = Some(word.len());
                    word.push('=');
                }
                other => word.push(other),
            }
        }
        if quoted {
            return Err(Misuse::Quote);
        }
        let input = equals.map(|at| (word[..at].to_owned(), word[at + 1..].to_owned()));
        tokens.push(match input.filter(|(name, _)| is_input(name)) {
            Some((name, value)) => Given::Input(name, value),
            None => Given::Word(word),
        });
    }
}

fn is_input(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.len() <= 63 && name.bytes().all(plain)
}

/// Inputs, each given once.
pub(super) fn inputs(
    given: impl Iterator<Item = Result<(String, String), Misuse>>,
) -> Result<Vec<(String, String)>, Misuse> {
    let mut all: Vec<(String, String)> = vec![];
    for input in given {
        let (name, value) = input?;
        if all.iter().any(|(known, _)| *known == name) {
            return Err(Misuse::Twice(name));
        }
        all.push((name, value));
    }
    Ok(all)
}
