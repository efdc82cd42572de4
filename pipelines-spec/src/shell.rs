//! Where in a shell line one stands: what quotes, substitutions and here-documents are open. Just enough of POSIX `sh` to
//! write a variable's reference so that it stays one word; where this reader is mistaken, a value may be split into words,
//! but it is never read as code, because only its variable's name is in the line.

/// A reader of one shell line that is fed piece by piece.
#[derive(Debug, Default)]
pub struct Quoting {
    /// What is open, innermost last.
    open: Vec<Open>,
    /// Here-documents announced on this line, whose bodies begin after it.
    announced: Vec<Document>,
    /// The body being read, with the text of its current line so far.
    body: Option<(Document, String)>,
    /// Characters that were read but not yet understood, because more may belong to them.
    pending: String,
    /// Whether the last character could not end a word, so that `#` begins no comment.
    in_word: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Single,
    Double,
    /// `$(…)` or `(…)`.
    Parenthesis,
    /// `$((…))`.
    Arithmetic,
    /// `${…}`, inside double quotes or not.
    Brace,
    Backtick,
    Comment,
}

#[derive(Debug)]
struct Document {
    delimiter: String,
    quoted: bool,
    /// `<<-`: tabs before the lines do not count.
    tabs: bool,
}

impl Quoting {
    /// Reads more of the line.
    pub fn read(&mut self, text: &str) {
        self.pending.push_str(text);
        let chars: Vec<char> = std::mem::take(&mut self.pending).chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let rest = &chars[at..];
            match self.body.is_some() {
                true => at += self.body_char(rest[0]),
                false => match self.step(rest) {
                    Some(taken) => at += taken,
                    None => {
                        self.pending = rest.iter().collect();
                        return;
                    }
                },
            }
        }
    }

    /// Whether the next character is escaped by a backslash.
    pub fn is_escaped(&self) -> bool {
        self.pending == "\\"
    }

    /// How to write the value of `variable` here; `None` where nothing is expanded.
    pub fn reference(&mut self, variable: &str) -> Option<String> {
        // What waited for more text has a reference after it: of all that waits, only `$(` opened something.
        if std::mem::take(&mut self.pending) == "$(" {
            self.open.push(Open::Parenthesis);
        }
        if let Some((document, line)) = &mut self.body {
            line.push('$');
            return (!document.quoted).then(|| format!("${{{variable}}}"));
        }
        self.in_word = true;
        Some(match self.open.last() {
            Some(Open::Single) => format!("'\"${{{variable}}}\"'"),
            Some(Open::Double | Open::Arithmetic) => format!("${{{variable}}}"),
            Some(Open::Brace) if self.open.contains(&Open::Double) => format!("${{{variable}}}"),
            Some(Open::Brace | Open::Parenthesis | Open::Backtick | Open::Comment) | None => {
                format!("\"${{{variable}}}\"")
            }
        })
    }

    /// Understands the next characters; `None` where more must be read first.
    fn step(&mut self, rest: &[char]) -> Option<usize> {
        match self.open.last() {
            Some(Open::Single) => {
                if rest[0] == '\'' {
                    self.open.pop();
                }
                Some(1)
            }
            Some(Open::Comment) => {
                if rest[0] == '\n' {
                    self.open.pop();
                    self.line_ends();
                }
                Some(1)
            }
            Some(Open::Double) => self.double(rest),
            Some(Open::Parenthesis | Open::Arithmetic | Open::Brace | Open::Backtick) | None => self.plain(rest),
        }
    }

    fn double(&mut self, rest: &[char]) -> Option<usize> {
        match rest[0] {
            '\\' => (rest.len() > 1).then_some(2),
            '"' => {
                self.open.pop();
                self.in_word = true;
                Some(1)
            }
            '$' => self.dollar(rest),
            '`' => Some(self.backtick()),
            _ => Some(1),
        }
    }

    fn plain(&mut self, rest: &[char]) -> Option<usize> {
        let c = rest[0];
        let starts_word = !self.in_word;
        self.in_word = !(c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '<' | '>'));
        match c {
            '\\' => return (rest.len() > 1).then_some(2),
            '\'' if !self.in_quoted_brace() => self.open.push(Open::Single),
            '"' => self.open.push(Open::Double),
            '`' => return Some(self.backtick()),
            '$' => return self.dollar(rest),
            '#' if starts_word && self.open.last() != Some(&Open::Brace) => self.open.push(Open::Comment),
            '(' => self.open.push(Open::Parenthesis),
            ')' => return self.close_parenthesis(rest),
            '}' if self.open.last() == Some(&Open::Brace) => {
                self.open.pop();
            }
            '<' if self.open.last() != Some(&Open::Arithmetic) => return self.document(rest),
            '\n' => self.line_ends(),
            _ => {}
        }
        Some(1)
    }

    /// `"${x:-'a'}"`: the single quote is a character like others there.
    fn in_quoted_brace(&self) -> bool {
        self.open.last() == Some(&Open::Brace) && self.open.contains(&Open::Double)
    }

    fn dollar(&mut self, rest: &[char]) -> Option<usize> {
        match rest {
            ['$'] | ['$', '('] => None,
            ['$', '(', '(', ..] => {
                self.open.push(Open::Arithmetic);
                self.in_word = false;
                Some(3)
            }
            ['$', '(', ..] => {
                self.open.push(Open::Parenthesis);
                self.in_word = false;
                Some(2)
            }
            ['$', '{', ..] => {
                self.open.push(Open::Brace);
                Some(2)
            }
            // `$#`, `$$`, `$"`: the character after is part of the name, except a quote.
            ['$', '"' | '\'', ..] => Some(1),
            _ => Some(2),
        }
    }

    fn backtick(&mut self) -> usize {
        let inside = self.open.iter().rposition(|o| *o == Open::Backtick);
        match inside {
            Some(at) => self.open.truncate(at),
            None => self.open.push(Open::Backtick),
        }
        1
    }

    fn close_parenthesis(&mut self, rest: &[char]) -> Option<usize> {
        match self.open.last() {
            Some(Open::Arithmetic) => match rest {
                [')'] => None,
                [')', ')', ..] => {
                    self.open.pop();
                    self.in_word = true;
                    Some(2)
                }
                _ => Some(1),
            },
            Some(Open::Parenthesis) => {
                self.open.pop();
                self.in_word = true;
                Some(1)
            }
            _ => Some(1),
        }
    }

    /// `<<WORD`, `<<-WORD`, `<<'WORD'`. The word is complete once something follows it.
    fn document(&mut self, rest: &[char]) -> Option<usize> {
        match rest {
            ['<'] => return None,
            ['<', '<', ..] => {}
            _ => return Some(1),
        }
        let mut at = 2;
        let tabs = rest.get(at) == Some(&'-');
        at += usize::from(tabs);
        while rest.get(at).is_some_and(|c| matches!(c, ' ' | '\t')) {
            at += 1;
        }
        let mut document = Document { delimiter: String::new(), quoted: false, tabs };
        let mut quote = None;
        loop {
            let c = *rest.get(at)?;
            match quote {
                Some(q) if c == q => quote = None,
                Some(_) => document.delimiter.push(c),
                None if matches!(c, '\'' | '"') => {
                    quote = Some(c);
                    document.quoted = true;
                }
                None if c == '\\' => document.quoted = true,
                None if c.is_whitespace() || matches!(c, ';' | '&' | '|' | '<' | '>' | '(' | ')') => break,
                None => document.delimiter.push(c),
            }
            at += 1;
        }
        if !document.delimiter.is_empty() {
            self.announced.push(document);
        }
        Some(at)
    }

    fn line_ends(&mut self) {
        self.in_word = false;
        if !self.announced.is_empty() {
            self.body = Some((self.announced.remove(0), String::new()));
        }
    }

    fn body_char(&mut self, c: char) -> usize {
        let Some((document, line)) = &mut self.body else { return 1 };
        if c != '\n' {
            line.push(c);
            return 1;
        }
        let text = if document.tabs { line.trim_start_matches('\t') } else { line.as_str() };
        if text == document.delimiter {
            self.body = None;
            self.line_ends();
        } else {
            line.clear();
        }
        1
    }
}
