//! Where values of a definition are written.
//!
//! Lua does not say which line a table's key came from, so every table constructor of the sources is noted with the keys
//! and the literals it has, and a table of the definition is matched with the constructor that can have made it: the one
//! its parent's constructor holds, or else the one of the same shape. A place is for messages only: where none is found,
//! the place of what surrounds the value stands in.

use super::tokens::{Spot, Token, tokens};
use crate::problem::Location;
use crate::protocol::Sources;
use mlua::Value;
use std::collections::{BTreeMap, HashMap};

/// How many comparisons one definition may cost: it may be written by somebody hostile.
const COMPARISONS: usize = 1_000_000;

/// A constructor, known by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Constructor(usize);

#[derive(Debug, Default)]
struct Written {
    file: usize,
    open: Spot,
    fields: Vec<Field>,
    /// Numbers of the fields: by key, the last of its name as in Lua, and of list items in order.
    named: HashMap<String, usize>,
    listed: Vec<usize>,
}

#[derive(Debug)]
struct Field {
    key: Option<String>,
    at: Spot,
    value_at: Spot,
    value: Literal,
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Table(usize),
    Text(String),
    Number(f64),
    Bool(bool),
    Function,
    Other,
}

/// Every constructor of the sources.
#[derive(Default)]
pub(super) struct Places {
    files: Vec<String>,
    all: Vec<Written>,
    by_keys: HashMap<Vec<String>, Vec<usize>>,
    /// Fields and assignments by key: the constructor and the field's number in it.
    by_key: HashMap<String, Vec<(usize, usize)>>,
    comparisons: std::cell::Cell<usize>,
}

/// The place of what is no constructor.
const NOWHERE: Spot = (0, 0);

/// What is known of a table: its list items and its named values.
pub(super) struct Shape<'a> {
    pub numbered: &'a BTreeMap<i64, Value>,
    pub named: &'a BTreeMap<String, Value>,
}

impl Places {
    /// Notes the constructors of `file` and of the modules it may require.
    pub fn new(sources: &Sources, file: &str) -> Self {
        let mut places = Self::default();
        let modules = sources.iter().filter(|(path, _)| path.starts_with(".rivet/lib/") && path.ends_with(".lua"));
        for (path, source) in sources.get_key_value(file).into_iter().chain(modules) {
            let source = super::load::without_mark(source);
            let tokens = tokens(source);
            read(&tokens, places.files.len(), &mut places.all);
            places.all.push(assignments(&tokens, places.files.len()));
            places.files.push(path.clone());
        }
        places.all.iter_mut().for_each(Written::index);
        for (number, written) in places.all.iter().enumerate() {
            places.by_keys.entry(written.keys()).or_default().push(number);
            for (i, field) in written.fields.iter().enumerate() {
                if let Some(key) = &field.key {
                    places.by_key.entry(key.clone()).or_default().push((number, i));
                }
            }
        }
        places
    }

    fn written(&self, constructor: Constructor) -> &Written {
        &self.all[constructor.0]
    }

    fn location(&self, written: &Written, (line, column): Spot) -> Location {
        Location { file: self.files[written.file].clone(), line, column }
    }

    /// Where the constructor starts.
    pub fn open(&self, constructor: Constructor) -> Location {
        let written = self.written(constructor);
        self.location(written, written.open)
    }

    /// Where a named field's key and value are, and the constructor that is its value.
    pub fn field(&self, constructor: Constructor, key: &str) -> Option<(Location, Location, Option<Constructor>)> {
        let written = self.written(constructor);
        let field = &written.fields[*written.named.get(key)?];
        Some((self.location(written, field.at), self.location(written, field.value_at), field.table()))
    }

    /// Where a key that no constructor of its table has can only have been given: the one place that gives such a value.
    pub fn only(&self, key: &str, value: &Value) -> Option<(Location, Location, Option<Constructor>)> {
        let givers = self.by_key.get(key)?.iter().take(100).map(|(table, field)| {
            let written = &self.all[*table];
            (written, &written.fields[*field])
        });
        let mut givers = givers.filter(|(_, field)| field.value.agrees(value, field.value_at.0).is_some());
        let (written, field) = givers.next().filter(|_| givers.next().is_none())?;
        Some((self.location(written, field.at), self.location(written, field.value_at), field.table()))
    }

    /// Where a list item is, and the constructor that is it.
    pub fn item(&self, constructor: Constructor, number: i64) -> Option<(Location, Option<Constructor>)> {
        let written = self.written(constructor);
        let index = usize::try_from(number - 1).ok()?;
        let field = &written.fields[*written.listed.get(index)?];
        Some((self.location(written, field.value_at), field.table()))
    }

    /// The constructor that made a table of this shape: `expected` if it can have, else the likeliest of all.
    pub fn find(&self, shape: &Shape<'_>, expected: Option<Constructor>, near: &Location) -> Option<Constructor> {
        if let Some(expected) = expected.filter(|expected| self.written(*expected).score(shape).is_some()) {
            return Some(expected);
        }
        if shape.named.is_empty() && shape.numbered.is_empty() {
            return None;
        }
        let keys: Vec<String> = shape.named.keys().cloned().collect();
        let same = self.by_keys.get(&keys).map(Vec::as_slice).unwrap_or_default();
        let best = self.best(same.iter().copied(), shape, near);
        best.or_else(|| self.best((0..self.all.len()).filter(|_| !shape.named.is_empty()), shape, near))
    }

    fn best(&self, candidates: impl Iterator<Item = usize>, shape: &Shape<'_>, near: &Location) -> Option<Constructor> {
        let affordable = candidates.take_while(|number| {
            self.comparisons.set(self.comparisons.get() + 1 + self.all[*number].fields.len());
            self.comparisons.get() < COMPARISONS
        });
        let scored = affordable.filter_map(|number| {
            let written = &self.all[number];
            if written.open == NOWHERE {
                return None;
            }
            let score = written.score(shape).filter(|score| *score > 0)?;
            let distance =
                if self.files[written.file] == near.file { written.open.0.abs_diff(near.line) } else { u32::MAX };
            Some(((score, std::cmp::Reverse(distance), std::cmp::Reverse(number)), number))
        });
        scored.max_by_key(|(rank, _)| *rank).map(|(_, number)| Constructor(number))
    }
}

impl Field {
    fn table(&self) -> Option<Constructor> {
        match self.value {
            Literal::Table(number) => Some(Constructor(number)),
            _ => None,
        }
    }
}

impl Written {
    fn index(&mut self) {
        for (number, field) in self.fields.iter().enumerate() {
            match &field.key {
                Some(key) => drop(self.named.insert(key.clone(), number)),
                None => self.listed.push(number),
            }
        }
    }

    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.named.keys().cloned().collect();
        keys.sort();
        keys
    }

    /// How much speaks for this constructor having made such a table; nothing where something speaks against it.
    fn score(&self, shape: &Shape<'_>) -> Option<usize> {
        let mut score = 0;
        let mut position = 0;
        for field in &self.fields {
            let value = match &field.key {
                Some(key) => shape.named.get(key),
                None => {
                    position += 1;
                    shape.numbered.get(&position)
                }
            };
            score += match value {
                Some(value) => field.value.agrees(value, field.value_at.0)?,
                None if field.value == Literal::Other => 0,
                None => return None,
            };
        }
        // A constructor that explains less than half of what is there is another one.
        let explained = self.fields.len() * 2 >= shape.named.len() + shape.numbered.len();
        explained.then_some(score)
    }
}

impl Literal {
    /// How well a literal explains a value; nothing where it cannot have given it.
    fn agrees(&self, value: &Value, line: u32) -> Option<usize> {
        let agrees = match (self, value) {
            (Self::Other, _) => return Some(1),
            (Self::Table(_), Value::Table(_)) => return Some(2),
            // Escapes are not read, so a text with one may stand for any.
            (Self::Text(text), Value::String(value)) => text.contains('\\') || text.as_bytes() == &*value.as_bytes(),
            (Self::Number(number), Value::Integer(value)) => number.is_nan() || *number == *value as f64,
            (Self::Number(number), Value::Number(value)) => number.is_nan() || number == value,
            (Self::Bool(flag), Value::Boolean(value)) => flag == value,
            (Self::Function, Value::Function(function)) => {
                function.info().line_defined.is_none_or(|defined| u32::try_from(defined) == Ok(line))
            }
            _ => false,
        };
        agrees.then_some(4)
    }
}

/// What an open bracket or block is.
enum Frame {
    Table(usize),
    /// `(`, `[`: commas inside it separate no fields.
    Bracket,
    /// A function's body and the blocks inside it.
    Block,
}

fn read(tokens: &[(Token, Spot)], file: usize, all: &mut Vec<Written>) {
    let mut frames: Vec<Frame> = Vec::new();
    // Whether the next word starts a field of the innermost table.
    let mut field_starts = false;
    let mut skip = 0;
    for (i, (token, spot)) in tokens.iter().enumerate() {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        let ends = matches!(token, Token::Symbol('}' | ',' | ';'));
        if let (Some(Frame::Table(table)), true, false) = (frames.last(), field_starts, ends) {
            let table = *table;
            let (key, taken) = key(&tokens[i..]);
            let value_at = tokens.get(i + taken).map_or(*spot, |(_, spot)| *spot);
            let value = literal(&tokens[i + taken..], all.len());
            all[table].fields.push(Field { key, at: *spot, value_at, value });
            field_starts = false;
            if taken > 0 {
                skip = taken - 1;
                continue;
            }
        }
        match token {
            Token::Symbol('{') => {
                frames.push(Frame::Table(all.len()));
                all.push(Written { file, open: *spot, ..Written::default() });
                field_starts = true;
            }
            Token::Symbol('}') => {
                while frames.pop().is_some_and(|frame| !matches!(frame, Frame::Table(_))) {}
                field_starts = false;
            }
            Token::Symbol('(' | '[') => frames.push(Frame::Bracket),
            Token::Symbol(')' | ']') => drop(frames.pop_if(|frame| matches!(frame, Frame::Bracket))),
            Token::Symbol(',' | ';') => field_starts = matches!(frames.last(), Some(Frame::Table(_))),
            Token::Name(word) => match word.as_str() {
                "function" | "do" | "repeat" => frames.push(Frame::Block),
                "if" if is_statement(i.checked_sub(1).map(|before| &tokens[before].0)) => frames.push(Frame::Block),
                "end" | "until" => drop(frames.pop_if(|frame| matches!(frame, Frame::Block))),
                _ => {}
            },
            Token::Text(_) | Token::Number(_) | Token::Comparison | Token::Symbol(_) => {}
        }
    }
}

/// `table.key = value`, all of a file, as if one constructor had them; it is none, so it made no table.
fn assignments(tokens: &[(Token, Spot)], file: usize) -> Written {
    let mut written = Written { file, open: NOWHERE, ..Written::default() };
    for (i, window) in tokens.windows(4).enumerate() {
        if let [(Token::Symbol('.'), _), (Token::Name(key), at), (Token::Symbol('='), _), (_, value_at)] = window {
            let value = match literal(&tokens[i + 3..], 0) {
                Literal::Table(_) | Literal::Other => Literal::Other,
                // Whether a literal is all there is cannot be told without separators; a function is always.
                literal => literal,
            };
            written.fields.push(Field { key: Some(key.clone()), at: *at, value_at: *value_at, value });
        }
    }
    written
}

/// A field's key and how many words it takes, up to and with the `=`.
fn key(tokens: &[(Token, Spot)]) -> (Option<String>, usize) {
    match tokens {
        [(Token::Name(name), _), (Token::Symbol('='), _), ..] => (Some(name.clone()), 2),
        [(Token::Symbol('['), _), (Token::Text(name), _), (Token::Symbol(']'), _), (Token::Symbol('='), _), ..] => {
            (Some(name.clone()), 4)
        }
        _ => (None, 0),
    }
}

/// What the value that starts here is, if it is nothing but a literal. `next` is the number the next constructor gets.
fn literal(tokens: &[(Token, Spot)], next: usize) -> Literal {
    let alone = matches!(tokens.get(1), Some((Token::Symbol(',' | ';' | '}'), _)));
    match tokens.first() {
        Some((Token::Symbol('{'), _)) => Literal::Table(next),
        Some((Token::Name(word), _)) if word == "function" => Literal::Function,
        Some((Token::Text(text), _)) if alone => Literal::Text(text.clone()),
        Some((Token::Number(number), _)) if alone => Literal::Number(*number),
        Some((Token::Name(word), _)) if alone && (word == "true" || word == "false") => Literal::Bool(word == "true"),
        _ => Literal::Other,
    }
}

/// Whether an `if` after this word is a statement, which has an `end`, and not an expression, which has none.
fn is_statement(before: Option<&Token>) -> bool {
    match before {
        Some(Token::Symbol(c)) => matches!(c, ')' | ']' | '}' | ';'),
        Some(Token::Name(word)) => !matches!(word.as_str(), "return" | "and" | "or" | "not"),
        Some(Token::Comparison) => false,
        Some(Token::Text(_) | Token::Number(_)) | None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field with its place, a line each.
    fn fields(source: &str) -> String {
        let mut all = Vec::new();
        read(&tokens(source), 0, &mut all);
        let lines = all.iter().enumerate().flat_map(|(i, table)| {
            table
                .fields
                .iter()
                .map(move |f| format!("{i} {} {:?} {:?}", f.key.as_deref().unwrap_or("-"), f.at, f.value))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn fields_are_told_from_commas_and_keys_inside_functions() {
        let source = "local t = { -- c, d = 1\n  a = 'x', ['b c'] = f(1, { 2 }),\n  run = function(x, y)\n    local p, q = 1, 2\n    if p == q then return { z = if p then 1 else 2, } end\n    for i = 1, 2 do g() end\n  end,\n  n == 1, 'é', c = true }";
        insta::assert_snapshot!(fields(source), @r#"
    0 a (2, 3) Text("x")
    0 b c (2, 12) Other
    0 run (3, 3) Function
    0 - (8, 3) Other
    0 - (8, 11) Text("é")
    0 c (8, 16) Bool(true)
    1 - (2, 29) Number(2.0)
    2 z (5, 29) Other
    "#);
    }

    #[test]
    fn no_text_upsets_the_reader() {
        for source in ["}", "{", "end } )", "'", "[[", "[=", "--[[", "{ [", "{ a =", "{ a = }", "`{", "\\", "é{é=é}"]
        {
            fields(source);
        }
    }
}
