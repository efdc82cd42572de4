//! Log bytes to lines of harmless, coloured text. Of what terminals understand only colours, carriage returns,
//! backspace and erasing the line are kept; links, titles, cursors and everything else is dropped.

use super::text::is_deceptive;
use std::fmt::Write as _;
use vte::{Params, Parser, Perform};

/// How text looks at one place; carries over from line to line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// 1 to 16: one of the sixteen colours.
    foreground: u8,
    background: u8,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
}

impl Style {
    /// The classes that make it so; empty for plain text.
    fn classes(self) -> String {
        let mut classes = String::new();
        let mut add = |wanted: bool, class: &str| {
            if wanted {
                let space = if classes.is_empty() { "" } else { " " };
                let _ = write!(classes, "{space}{class}");
            }
        };
        add(self.bold, "b");
        add(self.dim, "d");
        add(self.italic, "i");
        add(self.underline, "u");
        add(self.foreground > 0, &format!("f{}", self.foreground.saturating_sub(1)));
        add(self.background > 0, &format!("g{}", self.background.saturating_sub(1)));
        classes
    }

    fn apply(&mut self, params: &Params) {
        let mut codes = params.iter().map(<[u16]>::to_vec);
        while let Some(group) = codes.next() {
            match group.first().copied().unwrap_or(0) {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                n @ 30..=37 => self.foreground = (n - 29) as u8,
                n @ 90..=97 => self.foreground = (n - 81) as u8,
                n @ 40..=47 => self.background = (n - 39) as u8,
                n @ 100..=107 => self.background = (n - 91) as u8,
                39 => self.foreground = 0,
                49 => self.background = 0,
                38 => self.foreground = extended(&group, &mut codes).unwrap_or(self.foreground),
                48 => self.background = extended(&group, &mut codes).unwrap_or(self.background),
                _ => {}
            }
        }
    }
}

/// The nearest of the sixteen colours to one of 256 or of all: `38;5;n`, `38;2;r;g;b` or with colons.
fn extended(group: &[u16], rest: &mut impl Iterator<Item = Vec<u16>>) -> Option<u8> {
    let mut numbers: Vec<u16> = group.get(1..).unwrap_or_default().to_vec();
    if numbers.is_empty() {
        let kind = rest.next()?.first().copied()?;
        let more = if kind == 5 { 1 } else { 3 };
        numbers.push(kind);
        numbers.extend(rest.take(more).filter_map(|group| group.first().copied()));
    }
    match numbers.as_slice() {
        [5, n @ 0..=15] => Some(*n as u8 + 1),
        [5, n @ 16..=231] => {
            let n = n - 16;
            Some(nearest(n / 36 * 51, n / 6 % 6 * 51, n % 6 * 51))
        }
        [5, n @ 232..=255] => Some(nearest((n - 232) * 10 + 8, (n - 232) * 10 + 8, (n - 232) * 10 + 8)),
        [2, .., r, g, b] => Some(nearest(*r, *g, *b)),
        _ => None,
    }
}

fn nearest(r: u16, g: u16, b: u16) -> u8 {
    let bright = r.max(g).max(b);
    if bright < 50 {
        return 1;
    }
    let on = |part: u16| u8::from(part * 2 > bright);
    let colour = on(r) | on(g) << 1 | on(b) << 2;
    let vivid = bright > 170 && !(colour == 7 && bright < 220);
    colour + 1 + if vivid { 8 } else { 0 }
}

/// Lines one after the other, the style carried from each to the next.
#[derive(Default)]
pub struct Renderer {
    /// How the next character looks.
    pub style: Style,
}

impl Renderer {
    /// A renderer that goes on where text looked like `style`.
    pub fn new(style: Style) -> Self {
        Self { style }
    }

    /// One line (without its newline) as HTML, and as plain text.
    pub fn line(&mut self, bytes: &[u8]) -> (String, String) {
        let mut screen = Screen { style: self.style, ..Screen::default() };
        let mut parser = Parser::new();
        parser.advance(&mut screen, bytes);
        self.style = screen.style;
        screen.finish()
    }

    /// Only what a line does to the style of those that follow. Logs are long and most lines set colours back at their
    /// end, so nothing before the last reset is looked at.
    pub fn skip(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        for reset in [&b"\x1b[0m"[..], b"\x1b[m"] {
            if let Some(at) = memchr::memmem::rfind(rest, reset) {
                self.style = Style::default();
                rest = &rest[at + reset.len()..];
            }
        }
        for at in memchr::memchr_iter(0x1b, rest) {
            if let Some(sequence) = colour_sequence(&rest[at..]) {
                let mut screen = Screen { style: self.style, ..Screen::default() };
                Parser::new().advance(&mut screen, sequence);
                self.style = screen.style;
            }
        }
    }
}

/// `ESC [ numbers m` at the beginning of `bytes`.
fn colour_sequence(bytes: &[u8]) -> Option<&[u8]> {
    let numbers = bytes.strip_prefix(b"\x1b[")?;
    let end = numbers.iter().take(64).position(|byte| !matches!(byte, b'0'..=b';'))?;
    (numbers.get(end) == Some(&b'm')).then(|| &bytes[..end + 3])
}

/// One line of a terminal that is as wide as needed.
#[derive(Default)]
struct Screen {
    style: Style,
    cells: Vec<(char, Style)>,
    /// A carriage return came: what is printed next replaces the line.
    returned: bool,
}

impl Perform for Screen {
    fn print(&mut self, c: char) {
        if self.returned {
            self.cells.clear();
            self.returned = false;
        }
        let c = if is_deceptive(c) { '\u{fffd}' } else { c };
        self.cells.push((c, self.style));
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\t' => self.print('\t'),
            b'\r' => self.returned = true,
            0x08 => {
                self.cells.pop();
            }
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _ignore: bool, action: char) {
        if !intermediates.is_empty() {
            return;
        }
        match action {
            'm' => self.style.apply(params),
            // Erasing the line: progress bars do it before they write the next face.
            'K' if self.returned || params.iter().next().is_some_and(|p| p.first() == Some(&2)) => self.cells.clear(),
            _ => {}
        }
    }
}

impl Screen {
    fn finish(self) -> (String, String) {
        let text: String = self.cells.iter().map(|(c, _)| *c).collect();
        let mut html = String::with_capacity(text.len() + 32);
        let mut cells = self.cells.as_slice();
        while let Some((_, style)) = cells.first() {
            let end = cells.iter().position(|(_, other)| other != style).unwrap_or(cells.len());
            let (piece, rest) = cells.split_at(end);
            let piece: String = piece.iter().map(|(c, _)| *c).collect();
            let classes = style.classes();
            if classes.is_empty() {
                linked(&mut html, &piece);
            } else {
                let _ = write!(html, "<span class=\"{classes}\">");
                linked(&mut html, &piece);
                html.push_str("</span>");
            }
            cells = rest;
        }
        (html, text)
    }
}

/// Text with its `http` and `https` addresses as links.
fn linked(html: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = next_address(rest) {
        let (before, from) = rest.split_at(at);
        escape(html, before);
        let stop = |c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\'' | '`' | '\u{fffd}');
        let end = from.find(stop).unwrap_or(from.len());
        let address = from[..end].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}']);
        html.push_str("<a href=\"");
        escape(html, address);
        html.push_str("\" rel=\"noopener noreferrer nofollow\">");
        escape(html, address);
        html.push_str("</a>");
        rest = &from[address.len()..];
    }
    escape(html, rest);
}

fn next_address(text: &str) -> Option<usize> {
    let found = |scheme: &str| text.match_indices(scheme).find(|(at, _)| text.len() > at + scheme.len() + 1);
    let places = [found("https://"), found("http://")];
    places.into_iter().flatten().map(|(at, _)| at).min()
}

/// Escapes text for HTML, attributes included.
pub fn escape(html: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str) -> String {
        Renderer::default().line(text.as_bytes()).0
    }

    #[test]
    fn colours_become_classes_and_carry_over() {
        let mut renderer = Renderer::default();
        assert_eq!(renderer.line(b"a \x1b[1;31mred").0, "a <span class=\"b f1\">red</span>");
        assert_eq!(renderer.line(b"still\x1b[0m plain").0, "<span class=\"b f1\">still</span> plain");
        assert_eq!(html("\x1b[38;5;196mx\x1b[48;2;0;0;200my"), {
            "<span class=\"f9\">x</span><span class=\"f9 g12\">y</span>"
        });
        assert_eq!(html("\x1b[92mok\x1b[39m."), "<span class=\"f10\">ok</span>.");
    }

    #[test]
    fn nothing_else_of_a_terminal_gets_through() {
        assert_eq!(html("\x1b]8;;javascript:alert(1)\x07click\x1b]8;;\x07"), "click");
        assert_eq!(html("\x1b]0;title\x1b\\x\x1bP1q#0\x1b\\y\x1b[2Jz\x1b[5;5Hw"), "xyzw");
        assert_eq!(html("<script>alert('x')</script>"), "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;");
        assert_eq!(html("a\u{202e}b\u{2066}c\u{9b}31md"), "a\u{fffd}b\u{fffd}c31md");
        assert_eq!(html("cut off \x1b[3"), "cut off ");
        assert_eq!(Renderer::default().line(b"bad \xff utf-8").0, "bad \u{fffd} utf-8");
    }

    #[test]
    fn passing_over_lines_leaves_the_same_style_as_showing_them() {
        for line in ["a \x1b[1;31mred", "\x1b[32mok\x1b[0m", "\x1b[m\x1b[4mx", "\x1b[31mx\x1b[0my\x1b[44m", "plain"] {
            for before in ["", "\x1b[3;96m"] {
                let (mut shown, mut passed) = (Renderer::default(), Renderer::default());
                shown.line(before.as_bytes());
                shown.line(line.as_bytes());
                passed.skip(before.as_bytes());
                passed.skip(line.as_bytes());
                assert_eq!(shown.style, passed.style, "{line:?}");
            }
        }
    }

    #[test]
    fn progress_shows_its_last_face() {
        assert_eq!(html("10%\r50%\r100%"), "100%");
        assert_eq!(html("windows line\r"), "windows line");
        assert_eq!(html("old\r\x1b[Knew"), "new");
        assert_eq!(html("old\x1b[2K\rnew"), "new");
        assert_eq!(html("ab\x08c"), "ac");
    }

    #[test]
    fn addresses_are_links_to_the_web_only() {
        let rel = "rel=\"noopener noreferrer nofollow\"";
        assert_eq!(html("see https://a.b/c?d=1&e."), {
            format!("see <a href=\"https://a.b/c?d=1&amp;e\" {rel}>https://a.b/c?d=1&amp;e</a>.")
        });
        assert_eq!(html("javascript:alert(1)"), "javascript:alert(1)");
        assert_eq!(html("https://"), "https://");
        assert!(!html("https://a\"onmouseover=x").contains("\"onmouseover"));
    }
}
