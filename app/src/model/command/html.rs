//! Which HTML elements a comment has open. What stands inside of one is never a command, so every doubt is decided for
//! "still open": the worst of it is that somebody has to write a command again.

/// Elements without an end.
const VOID: [&str; 14] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"];

/// The elements that are open, outermost first.
#[derive(Debug, Default)]
pub(super) struct OpenElements {
    names: Vec<String>,
    /// A tag or a comment began and did not end within its piece of HTML.
    torn: bool,
}

impl OpenElements {
    /// Whether what follows stands in no element.
    pub(super) fn none(&self) -> bool {
        self.names.is_empty() && !self.torn
    }

    /// Reads a whole block of HTML, or one inline tag.
    pub(super) fn read(&mut self, html: &str) {
        let mut rest = html;
        while let Some(at) = rest.find('<') {
            rest = &rest[at..];
            let taken = if rest.starts_with("<!--") {
                rest.find("-->").map(|end| end + 3)
            } else if let Some(name) = name_after(rest, "</") {
                self.close(&name);
                tag_end(rest)
            } else if let Some(name) = name_after(rest, "<") {
                let end = tag_end(rest);
                self.open(name, end.is_some_and(|end| rest[..end].ends_with("/>")));
                end
            } else if rest.starts_with("<!") || rest.starts_with("<?") {
                rest.find('>').map(|end| end + 1)
            } else {
                Some(1)
            };
            let Some(taken) = taken else {
                self.torn = true;
                return;
            };
            rest = &rest[taken..];
        }
    }

    fn open(&mut self, name: String, closes_itself: bool) {
        if !closes_itself && !VOID.contains(&name.as_str()) {
            self.names.push(name);
        }
    }

    fn close(&mut self, name: &str) {
        if let Some(at) = self.names.iter().rposition(|open| open == name) {
            self.names.truncate(at);
        }
    }
}

/// The element's name, in lower case, where `text` is a tag that begins with `prefix`.
fn name_after(text: &str, prefix: &str) -> Option<String> {
    let text = text.strip_prefix(prefix).filter(|text| text.starts_with(|c: char| c.is_ascii_alphabetic()))?;
    let end = text.find(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>').unwrap_or(text.len());
    Some(text[..end].to_ascii_lowercase())
}

/// Where the tag that `text` begins with ends: at the first `>` outside of quotes.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, sign) in text.char_indices() {
        match (quote, sign) {
            (None, '>') => return Some(at + 1),
            (None, '"' | '\'') => quote = Some(sign),
            (Some(open), sign) if open == sign => quote = None,
            (None | Some(_), _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_open_until_its_own_end() {
        let open = |pieces: &[&str]| {
            let mut elements = OpenElements::default();
            pieces.iter().for_each(|piece| elements.read(piece));
            !elements.none()
        };
        for (pieces, expected) in [
            (&["<details>"][..], true),
            (&["<details>", "</details>"], false),
            (&["<DETAILS open><summary>x</summary>\n"], true),
            (&["<a title=\"</a>\">"], true),
            (&["<details><p>", "</details>"], false),
            (&["<details>", "</p>"], true),
            (&["<br>", "<img src='x'>", "<x />", "</details>"], false),
            (&["<!-- <details> -->"], false),
            (&["<!-- <details>"], true),
            (&["<a href='x"], true),
            (&["1 < 2"], false),
        ] {
            assert_eq!(open(pieces), expected, "{pieces:?}");
        }
    }
}
