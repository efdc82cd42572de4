//! Hides secret values in everything that leaves a job, also where one is split between two reads.
//!
//! The rule is simple to state: every byte that belongs to an occurrence of a secret, in any of its usual encodings, is
//! hidden, and each unbroken stretch of hidden bytes is shown as `***`. What somebody does to a value on purpose
//! (reversing it, `xxd`) is not covered: this stops accidents, not attackers.

use aho_corasick::AhoCorasick;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What stands for a hidden value.
pub const MASK: &[u8] = b"***";
/// Shorter values are not hidden: the log would be unreadable, and nothing so short is a secret.
const SHORTEST_VALUE: usize = 4;
/// Shorter lines and encodings of a value are not hidden by themselves.
const SHORTEST_PART: usize = 6;

/// The values to hide.
#[derive(Debug, Clone)]
pub struct Patterns(Option<Arc<Compiled>>);

struct Compiled {
    automaton: AhoCorasick,
    /// Sorted, so that "does anything begin with these bytes" is one binary search.
    sorted: Vec<Vec<u8>>,
    longest: usize,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} patterns", self.sorted.len())
    }
}

impl Patterns {
    /// All forms of all `values`.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let forms: BTreeSet<Vec<u8>> = values.into_iter().flat_map(forms).collect();
        let sorted: Vec<Vec<u8>> = forms.into_iter().collect();
        if sorted.is_empty() {
            return Self(None);
        }
        let longest = sorted.iter().map(Vec::len).max().unwrap_or_default();
        // Fails only for more patterns than a machine has memory for; hiding everything would then be the safe answer,
        // but no job carries that many.
        let automaton = AhoCorasick::new(&sorted).ok();
        Self(automaton.map(|automaton| Arc::new(Compiled { automaton, sorted, longest })))
    }

    /// `text` with every value hidden.
    pub fn redact(&self, text: &str) -> String {
        let mut stream = Redactor::new(self.clone());
        let mut out = stream.push(text.as_bytes());
        out.extend(stream.finish());
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The same for every string in a JSON value, keys too.
    pub fn redact_json(&self, value: &mut Value) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                let text = number.to_string();
                let hidden = self.redact(&text);
                if hidden != text {
                    *value = Value::String(hidden);
                }
            }
            Value::String(text) => *text = self.redact(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json(item)),
            Value::Object(map) => {
                let entries = std::mem::take(map);
                for (key, mut item) in entries {
                    self.redact_json(&mut item);
                    map.insert(self.redact(&key), item);
                }
            }
        }
    }
}

/// One stream of bytes on its way out.
pub struct Redactor {
    patterns: Patterns,
    /// Bytes that may be the beginning of a value.
    held: Vec<u8>,
    /// How many of the held bytes are known to be hidden already.
    hidden: usize,
    /// Whether the last byte that went out was hidden, so that one stretch gives one mask.
    in_mask: bool,
}

impl Redactor {
    /// A stream from its beginning.
    pub fn new(patterns: Patterns) -> Self {
        Self { patterns, held: Vec::new(), hidden: 0, in_mask: false }
    }

    /// Takes the next bytes and gives those that can be told safe.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(compiled) = self.patterns.0.clone() else { return bytes.to_vec() };
        self.held.extend_from_slice(bytes);
        let keep_from = compiled.first_open_prefix(&self.held);
        self.release(&compiled, keep_from)
    }

    /// The stream has ended: gives what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        let Some(compiled) = self.patterns.0.clone() else { return Vec::new() };
        let end = self.held.len();
        let out = self.release(&compiled, end);
        self.in_mask = false;
        out
    }

    fn release(&mut self, compiled: &Compiled, until: usize) -> Vec<u8> {
        let mut hidden = vec![false; self.held.len()];
        hidden[..self.hidden].fill(true);
        for found in compiled.automaton.find_overlapping_iter(&self.held) {
            hidden[found.range()].fill(true);
        }
        let mut out = Vec::with_capacity(until);
        for (byte, hide) in self.held[..until].iter().zip(&hidden) {
            match (hide, self.in_mask) {
                (true, false) => out.extend_from_slice(MASK),
                (true, true) => {}
                (false, _) => out.push(*byte),
            }
            self.in_mask = *hide;
        }
        self.hidden = hidden[until..].iter().take_while(|hide| **hide).count();
        self.held.drain(..until);
        out
    }
}

impl Compiled {
    /// Where the longest end of `bytes` begins that could still grow into a value.
    fn first_open_prefix(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest - 1);
        (from..bytes.len()).find(|at| self.is_open_prefix(&bytes[*at..])).unwrap_or(bytes.len())
    }

    fn is_open_prefix(&self, bytes: &[u8]) -> bool {
        let at = self.sorted.partition_point(|pattern| pattern.as_slice() <= bytes);
        self.sorted.get(at).is_some_and(|pattern| pattern.starts_with(bytes))
    }
}

/// Every form a value may appear in.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    let trimmed = value.trim_end_matches(['\r', '\n']);
    for whole in [value, trimmed] {
        if whole.len() >= SHORTEST_VALUE {
            forms.push(whole.as_bytes().to_vec());
            forms.push(whole.replace("\r\n", "\n").into_bytes());
            forms.push(whole.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes());
        }
        if whole.len() >= SHORTEST_PART {
            forms.extend(encodings(whole));
        }
    }
    if trimmed.contains('\n') {
        let lines = trimmed.split('\n').map(|line| line.trim_end_matches('\r'));
        for line in lines.filter(|line| line.len() >= SHORTEST_PART) {
            forms.push(line.as_bytes().to_vec());
            forms.extend(encodings(line));
        }
    }
    forms
}

fn encodings(value: &str) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for shift in 0..3 {
        forms.push(base64_at(value, shift, &STANDARD_NO_PAD));
        forms.push(base64_at(value, shift, &URL_SAFE_NO_PAD));
    }
    forms.push(percent(value, false, "%20"));
    forms.push(percent(value, true, "%20"));
    forms.push(percent(value, false, "+"));
    let json = Value::String(value.to_owned()).to_string();
    forms.push(json.as_bytes()[1..json.len() - 1].to_vec());
    forms.retain(|form| form.len() >= SHORTEST_PART);
    forms
}

/// The characters of `value`'s base64 that do not depend on what stands around it, when it begins `shift` bytes into a
/// group of three.
fn base64_at(value: &str, shift: usize, engine: &impl base64::Engine) -> Vec<u8> {
    let mut padded = vec![0; shift];
    padded.extend_from_slice(value.as_bytes());
    let encoded = engine.encode(&padded).into_bytes();
    // Each character carries six bits: those that hold a bit of a neighbour are left out on both sides.
    let first = (shift * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    encoded[first.min(last)..last].to_vec()
}

fn percent(value: &str, lower: bool, space: &str) -> Vec<u8> {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push_str(space),
            _ if lower => out.push_str(&format!("%{byte:02x}")),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use proptest::prelude::*;

    /// Marks every byte of every occurrence, all at once.
    fn model(values: &[&str], text: &[u8]) -> Vec<u8> {
        let mut hidden = vec![false; text.len()];
        for form in values.iter().flat_map(|value| forms(value)) {
            for at in 0..text.len() {
                if text[at..].starts_with(&form) {
                    hidden[at..at + form.len()].fill(true);
                }
            }
        }
        let mut out = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            if !hidden[at] {
                out.push(*byte);
            } else if at == 0 || !hidden[at - 1] {
                out.extend_from_slice(MASK);
            }
        }
        out
    }

    fn streamed(values: &[&str], chunks: &[&[u8]]) -> Vec<u8> {
        streamed_with(&Patterns::new(values.iter().copied()), chunks)
    }

    fn streamed_with(patterns: &Patterns, chunks: &[&[u8]]) -> Vec<u8> {
        let mut redactor = Redactor::new(patterns.clone());
        let mut out: Vec<u8> = chunks.iter().flat_map(|chunk| redactor.push(chunk)).collect();
        out.extend(redactor.finish());
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_split_gives_what_the_whole_gives(
            values in prop::collection::vec("[abA ]{4,9}", 1..4),
            text in "[abA ]{0,16}",
            embed in 0_usize..4,
        ) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let text = format!("{text}{}{text}", values[embed % values.len()]);
            let expected = model(&values, text.as_bytes());
            let patterns = Patterns::new(values.iter().copied());
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    let (a, rest) = text.as_bytes().split_at(first);
                    let (b, c) = rest.split_at(second - first);
                    prop_assert_eq!(&streamed_with(&patterns, &[a, b, c]), &expected);
                }
            }
        }
    }

    #[test]
    fn every_encoding_is_hidden_at_every_split() {
        let secret = "p4ss/w\"rd&\nsecond line+";
        for (name, shown) in [
            ("raw", secret.to_owned()),
            ("crlf", secret.replace('\n', "\r\n")),
            ("one line", "second line+".to_owned()),
            ("url", url::form_urlencoded::byte_serialize(secret.as_bytes()).collect()),
            ("json", serde_json::to_string(secret).unwrap_or_default().trim_matches('"').to_owned()),
        ] {
            let text = format!("<{shown}>");
            for at in 0..=text.len() {
                let (a, b) = text.as_bytes().split_at(at);
                assert_eq!(streamed(&[secret], &[a, b]), b"<***>", "{name} split at {at}");
            }
        }
    }

    #[test]
    fn base64_is_hidden_wherever_it_begins() {
        let secret = "a-secret-value";
        for before in ["", "x", "xy", "xyz"] {
            let text = STANDARD_NO_PAD.encode(format!("{before}{secret}{before}"));
            let out = String::from_utf8_lossy(&streamed(&[secret], &[text.as_bytes()])).into_owned();
            assert!(out.contains("***"), "{text} became {out}");
            // At most the characters that also carry a neighbour's bits are left of it.
            assert!(out.len() <= 3 + 2 * (before.len() * 8).div_ceil(6) + 4, "{text} became {out}");
        }
    }

    #[test]
    fn a_longer_value_that_begins_like_a_shorter_one_is_hidden_whole() {
        assert_eq!(streamed(&["secret", "secret123"], &[b"my secret", b"123!"]), b"my ***!");
        assert_eq!(streamed(&["abcdef", "defghi"], &[b"abcd", b"efghi."]), b"***.");
    }

    #[test]
    fn values_too_short_to_hide_are_shown() {
        assert_eq!(streamed(&["yes", ""], &[b"yes"]), b"yes");
    }

    #[test]
    fn json_is_redacted_in_keys_and_values() {
        let patterns = Patterns::new(["hunter22"]);
        let mut value = serde_json::json!({"a hunter22": ["hunter22", 1, null, true]});
        patterns.redact_json(&mut value);
        assert_eq!(value, serde_json::json!({"a ***": ["***", 1, null, true]}));
    }
}
