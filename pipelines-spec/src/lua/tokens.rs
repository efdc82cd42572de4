//! The words of a Lua source with their places: just enough of a lexer to find table constructors.

/// A word of the source.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Number(f64),
    /// One character, or `==` and its kin, which are not assignments.
    Symbol(char),
    Comparison,
}

/// Line and column, from 1.
pub(super) type Spot = (u32, u32);

/// Splits a source into words. Never fails: what it does not know it takes character by character.
pub(super) fn tokens(source: &str) -> Vec<(Token, Spot)> {
    let mut lexer = Lexer { rest: source, line: 1, column: 1 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    tokens
}

struct Lexer<'s> {
    rest: &'s str,
    line: u32,
    column: u32,
}

impl<'s> Lexer<'s> {
    /// Takes `bytes` bytes and moves the place on.
    fn take(&mut self, bytes: usize) -> &'s str {
        let (taken, rest) = self.rest.split_at(bytes);
        for c in taken.chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'s str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn next(&mut self) -> Option<(Token, Spot)> {
        self.skip();
        let spot = (self.line, self.column);
        let first = self.rest.chars().next()?;
        let token = match first {
            'a'..='z' | 'A'..='Z' | '_' => {
                Token::Name(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned())
            }
            '0'..='9' => {
                let text = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.').replace('_', "");
                Token::Number(text.parse().unwrap_or(f64::NAN))
            }
            '"' | '\'' | '`' => Token::Text(self.quoted(first)),
            '[' => match self.long_bracket() {
                Some(text) => Token::Text(text),
                None => self.symbol(first),
            },
            '=' | '~' | '<' | '>' | '!' if self.rest[1..].starts_with('=') => {
                self.take(2);
                Token::Comparison
            }
            other => self.symbol(other),
        };
        Some((token, spot))
    }

    fn symbol(&mut self, c: char) -> Token {
        self.take(c.len_utf8());
        Token::Symbol(c)
    }

    /// Skips white space and comments.
    fn skip(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest.starts_with("--") {
                return;
            }
            self.take(2);
            if !self.rest.starts_with('[') || self.long_bracket().is_none() {
                self.take_while(|c| c != '\n');
            }
        }
    }

    /// `[[…]]`, `[==[…]==]`, if one starts here.
    fn long_bracket(&mut self) -> Option<String> {
        let level = self.rest[1..].find(|c| c != '=')?;
        if !self.rest[1 + level..].starts_with('[') {
            return None;
        }
        let close = format!("]{}]", "=".repeat(level));
        let text = &self.rest[level + 2..];
        let end = text.find(&close).unwrap_or(text.len());
        let total = (level + 2 + end + close.len()).min(self.rest.len());
        // The line break after the bracket is not part of the string.
        let text = text[..end].trim_start_matches('\r');
        let text = text.strip_prefix('\n').unwrap_or(text).to_owned();
        self.take(total);
        Some(text)
    }

    /// A quoted string's content; escapes stay as they are written.
    fn quoted(&mut self, quote: char) -> String {
        let mut escaped = false;
        let end = self.rest[1..].find(|c: char| {
            let ends = !escaped && (c == quote || (c == '\n' && quote != '`'));
            escaped = !escaped && c == '\\';
            ends
        });
        let end = end.map_or(self.rest.len(), |end| end + 1);
        // An interpolated string is not what it says, so it is marked as holding an escape.
        let mark = if quote == '`' { "\\" } else { "" };
        let text = format!("{mark}{}", &self.rest[1..end]);
        self.take((end + 1).min(self.rest.len()));
        text
    }
}
