//! From what Lua raises to what an author reads: a code, a sentence, and the line in the author's own file.

use super::sandbox::{Deadline, EXPRESSION_NAME, PRELUDE_NAME, original};
use crate::problem::{Location, Problem};
use crate::protocol::Sources;
use mlua::{Function, Lua, MultiValue, Value};
use std::sync::Mutex;

/// Most bytes of an error's message that are kept.
const MESSAGE_LIMIT: usize = 8192;
/// How many frames are looked through for an author's line.
const FRAMES: usize = 64;

/// Chunks whose lines are nowhere in an author's files.
const OWN_CHUNKS: [&str; 2] = [PRELUDE_NAME, EXPRESSION_NAME];

/// A line of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The chunk's name: the file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl From<Place> for Location {
    fn from(place: Place) -> Self {
        Self::line(place.file, place.line)
    }
}

/// A problem on its way through Lua as an error.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub(super) struct Raised(pub Problem);

/// An error that carries `problem`, at the author's line that is being run.
pub(super) fn raise(lua: &Lua, problem: Problem) -> mlua::Error {
    let at = problem.at.clone().or_else(|| author_place(lua).map(Location::from));
    mlua::Error::external(Raised(problem.at(at)))
}

/// The names of the chunks an author wrote, kept with the VM so that frames can be told apart.
#[derive(Debug, Default)]
pub(super) struct AuthorFiles(pub Vec<String>);

/// The innermost line an author wrote.
pub fn author_place(lua: &Lua) -> Option<Place> {
    let files = lua.app_data_ref::<AuthorFiles>()?;
    (0..FRAMES).find_map(|level| {
        lua.inspect_stack(level, |frame| {
            let source = frame.source();
            let file = source.short_src.as_deref()?;
            let known = files.0.iter().find(|known| known.as_str() == file)?;
            Some(Place { file: known.clone(), line: u32::try_from(frame.current_line()?).ok()? })
        })?
    })
}

/// Calls `function` and turns whatever it raises into a problem at the author's line.
pub(super) fn protect(
    lua: &Lua,
    deadline: Option<&Deadline>,
    function: &Function,
    args: MultiValue,
) -> Result<MultiValue, Problem> {
    let caught = std::sync::Arc::new(Mutex::new(None));
    let result = call_with_handler(lua, function, args, &caught);
    if let Some(place) = deadline.and_then(Deadline::expired) {
        return Err(timeout().at(place.map(Location::from)));
    }
    let problem = match result {
        Ok(Some(values)) => return Ok(values),
        Ok(None) => caught.lock().ok().and_then(|mut problem| problem.take()),
        Err(error) => Some(from_error(lua, &error)),
    };
    Err(problem.unwrap_or_else(|| Problem::error("config.error", "the evaluation failed without saying why")))
}

fn call_with_handler(
    lua: &Lua,
    function: &Function,
    args: MultiValue,
    caught: &std::sync::Arc<Mutex<Option<Problem>>>,
) -> mlua::Result<Option<MultiValue>> {
    let slot = std::sync::Arc::clone(caught);
    let handler = lua.create_function(move |lua, error: Value| {
        let problem = from_value(lua, &error);
        if let Ok(mut slot) = slot.lock() {
            *slot = Some(problem);
        }
        Ok(())
    })?;
    let xpcall = original(lua, "xpcall")?;
    let mut all = MultiValue::from_vec(vec![Value::Function(function.clone()), Value::Function(handler)]);
    all.extend(args);
    let mut results: MultiValue = xpcall.call(all)?;
    match results.pop_front() {
        Some(Value::Boolean(true)) => Ok(Some(results)),
        _ => Ok(None),
    }
}

fn timeout() -> Problem {
    Problem::error("config.timeout", "evaluation exceeded 1 s")
}

fn memory() -> Problem {
    Problem::error("config.memory", "evaluation exceeded 64 MiB")
}

/// The problem an error value stands for, at the place it was raised.
fn from_value(lua: &Lua, value: &Value) -> Problem {
    let place = author_place(lua);
    match value {
        Value::Error(error) => from_error(lua, error),
        Value::String(text) => from_message(lua, &text.as_bytes(), place),
        other => {
            let text = describe(lua, other);
            from_message(lua, text.as_bytes(), place)
        }
    }
}

/// What a value raised as an error says: its `message`, or itself as text.
fn describe(lua: &Lua, value: &Value) -> String {
    if let Value::Table(table) = value
        && let Ok(Value::String(message)) = table.raw_get::<Value>("message")
    {
        return message.to_string_lossy();
    }
    match original(lua, "tostring").and_then(|tostring| tostring.call::<mlua::LuaString>(value)) {
        Ok(text) => text.to_string_lossy(),
        Err(_) => format!("an error of type {}", value.type_name()),
    }
}

/// The problem an error of the host or the VM stands for.
pub(super) fn from_error(lua: &Lua, error: &mlua::Error) -> Problem {
    let place = author_place(lua);
    match error {
        mlua::Error::MemoryError(_) => memory().at(place.map(Location::from)),
        mlua::Error::SyntaxError { message, .. } => syntax(lua, message),
        mlua::Error::CallbackError { cause, .. } => from_error(lua, cause),
        mlua::Error::ExternalError(inner) => match inner.downcast_ref::<Raised>() {
            Some(Raised(problem)) if problem.at.is_some() => problem.clone(),
            Some(Raised(problem)) => problem.clone().at(place.map(Location::from)),
            None => from_message(lua, inner.to_string().as_bytes(), place),
        },
        mlua::Error::RuntimeError(message) => from_message(lua, without_traceback(message).as_bytes(), place),
        other => from_message(lua, other.to_string().as_bytes(), place),
    }
}

fn without_traceback(message: &str) -> &str {
    message.split("\nstack traceback:").next().unwrap_or(message)
}

fn from_message(lua: &Lua, message: &[u8], place: Option<Place>) -> Problem {
    let (named, text) = split_place(lua, message);
    let at = named.or(place).map(Location::from);
    if text.starts_with(b"not enough memory") {
        return memory().at(at);
    }
    if text.starts_with(b"stack overflow") || text.starts_with(b"C stack overflow") {
        return Problem::error("config.stack", "stack overflow").at(at);
    }
    Problem::error("config.error", shortened(text)).at(at)
}

fn shortened(text: &[u8]) -> String {
    let kept = String::from_utf8_lossy(&text[..text.len().min(MESSAGE_LIMIT)]).into_owned();
    if text.len() > MESSAGE_LIMIT { format!("{kept}… (truncated, {} bytes)", text.len()) } else { kept }
}

/// Splits `FILE:LINE: ` off a message where FILE is one an author wrote (or the prelude's, which is dropped).
fn split_place<'a>(lua: &Lua, message: &'a [u8]) -> (Option<Place>, &'a [u8]) {
    let files = lua.app_data_ref::<AuthorFiles>();
    let names = files.iter().flat_map(|files| files.0.iter().map(String::as_str));
    for name in names.chain(OWN_CHUNKS) {
        let Some(rest) = message.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b":")) else {
            continue;
        };
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let Some(text) = rest[digits..].strip_prefix(b": ") else { continue };
        let line = std::str::from_utf8(&rest[..digits]).ok().and_then(|digits| digits.parse().ok());
        let place = line.filter(|_| !OWN_CHUNKS.contains(&name));
        return (place.map(|line| Place { file: name.to_owned(), line }), text);
    }
    (None, message)
}

/// A syntax error: Luau's own sentence in our case, at its line.
fn syntax(lua: &Lua, message: &str) -> Problem {
    let (place, text) = split_place(lua, message.as_bytes());
    let text = lower(&String::from_utf8_lossy(text));
    Problem::error("config.syntax", shortened(text.as_bytes())).at(place.map(Location::from))
}

/// The text with its first letter small, as messages are here.
pub(super) fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// Gives every problem that knows only its line the column of what it speaks of: a word it quotes, or the first word.
pub(crate) fn complete_columns(problems: &mut [Problem], sources: &Sources) {
    for problem in problems {
        let Some(at) = problem.at.as_mut().filter(|at| at.column == 0) else { continue };
        let Some(source) = sources.get(&at.file) else { continue };
        let index = (at.line as usize).saturating_sub(1);
        let line = source.lines().nth(index).unwrap_or_default();
        let quoted = problem.message.rsplit_once("got '").and_then(|(_, rest)| rest.split_once('\''));
        let byte = quoted.and_then(|(word, _)| line.find(word)).or_else(|| line.find(|c: char| !c.is_whitespace()));
        let column = line[..byte.unwrap_or(0)].chars().count() + 1;
        at.column = u32::try_from(column).unwrap_or(1);
    }
}
