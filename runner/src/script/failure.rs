//! Errors of scripts: what a core module raises, and what becomes of what an author's line raises.

use crate::attempt::job_error;
use mlua::{Function, Lua, MultiValue, Table, Value};
use pipelines_spec::lua;
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{JobError, Sources};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

const META: &str = "rivet.failure";
const MESSAGE_BYTES: usize = 8 << 10;

/// The files whose lines are an author's.
pub(super) struct AuthorFiles(Vec<String>);

impl AuthorFiles {
    pub(super) fn of(sources: &Sources) -> Self {
        Self(sources.keys().cloned().collect())
    }
}

pub(super) fn register(lua: &Lua) -> mlua::Result<()> {
    let meta = lua.create_table()?;
    let text = lua.create_function(|_, failure: Table| failure.raw_get::<String>("message"))?;
    meta.raw_set("__tostring", text)?;
    meta.raw_set("__metatable", false)?;
    lua.set_named_registry_value(META, meta)
}

/// The table a core module raises: an author may catch it and read `class`, `message`, `exit_code` and the rest.
pub(super) fn to_table(lua: &Lua, error: &JobError) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("class", error.class.to_string())?;
    table.raw_set("message", error.message.as_str())?;
    table.raw_set("command", error.command.as_deref())?;
    table.raw_set("exit_code", error.exit_code)?;
    table.raw_set("tail", error.tail.as_deref())?;
    table.raw_set("at", error.at.clone().or_else(|| author_place(lua)))?;
    table.set_metatable(Some(lua.named_registry_value(META)?))?;
    Ok(table)
}

/// Calls an author's function; what it raises becomes an error at the author's line.
pub(super) fn protect(lua: &Lua, function: &Function, argument: Value) -> Result<Value, JobError> {
    let caught: Arc<Mutex<Option<JobError>>> = Arc::default();
    match call(lua, function, argument, &caught) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => {
            let error = caught.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(error.unwrap_or_else(|| job_error(ErrorClass::ScriptError, "the script failed without saying why")))
        }
        Err(error) => Err(from_error(&error)),
    }
}

fn call(
    lua: &Lua,
    function: &Function,
    argument: Value,
    caught: &Arc<Mutex<Option<JobError>>>,
) -> mlua::Result<Option<Value>> {
    let slot = caught.clone();
    let handler = lua.create_function(move |lua, error: Value| {
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(from_value(lua, &error));
        Ok(())
    })?;
    let xpcall: Function = lua.globals().get("xpcall")?;
    let mut results: MultiValue = xpcall.call((function, handler, argument))?;
    match results.pop_front() {
        Some(Value::Boolean(true)) => Ok(Some(results.pop_front().unwrap_or(Value::Nil))),
        _ => Ok(None),
    }
}

fn from_value(lua: &Lua, value: &Value) -> JobError {
    let error = match value {
        Value::Error(error) => from_error(error),
        Value::Table(table) => from_table(table),
        Value::String(text) => from_message(lua, &text.to_string_lossy()),
        other => job_error(ErrorClass::ScriptError, format!("the script raised a {}", other.type_name())),
    };
    if error.at.is_some() {
        return error;
    }
    let (at, message) = split_place(lua, &error.message);
    JobError { at: at.or_else(|| author_place(lua)), message, ..error }
}

fn from_table(table: &Table) -> JobError {
    let text = |key: &str| table.raw_get::<Option<String>>(key).ok().flatten();
    let class = text("class").and_then(|class| ErrorClass::from_str(&class).ok());
    let message = text("message").unwrap_or_else(|| "the script raised a table without a message".into());
    JobError {
        command: text("command"),
        exit_code: table.raw_get("exit_code").ok().flatten(),
        tail: text("tail"),
        at: text("at"),
        // Only what a runner can know; an author's own class is an error of the script.
        ..job_error(class.unwrap_or(ErrorClass::ScriptError), message)
    }
}

/// The error an error of the VM or of a host function stands for.
pub(super) fn from_error(error: &mlua::Error) -> JobError {
    match error {
        mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } => from_error(cause),
        mlua::Error::MemoryError(_) => job_error(ErrorClass::Limit, "the script used more than 512 MiB of memory"),
        mlua::Error::RuntimeError(message) => {
            let text = message.split("\nstack traceback:").next().unwrap_or(message);
            job_error(ErrorClass::ScriptError, cut(text))
        }
        other => job_error(ErrorClass::ScriptError, cut(&other.to_string())),
    }
}

fn from_message(lua: &Lua, text: &str) -> JobError {
    let (at, message) = split_place(lua, text);
    if message.starts_with("not enough memory") {
        return JobError { at, ..job_error(ErrorClass::Limit, "the script used more than 512 MiB of memory") };
    }
    JobError { at, ..job_error(ErrorClass::ScriptError, cut(&message)) }
}

fn cut(text: &str) -> String {
    let end = (0..=text.len().min(MESSAGE_BYTES)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    if end < text.len() { format!("{}… (truncated)", &text[..end]) } else { text.to_owned() }
}

/// The innermost line an author wrote, as `file:line`.
fn author_place(lua: &Lua) -> Option<String> {
    lua::failure::author_place(lua).map(|place| format!("{}:{}", place.file, place.line))
}

/// Splits `FILE:LINE: ` off a message where FILE is an author's.
fn split_place(lua: &Lua, message: &str) -> (Option<String>, String) {
    let files = lua.app_data_ref::<AuthorFiles>();
    for file in files.iter().flat_map(|files| &files.0) {
        let Some(rest) = message.strip_prefix(file.as_str()).and_then(|rest| rest.strip_prefix(':')) else { continue };
        if let Some((line, text)) = rest.split_once(": ")
            && line.bytes().all(|byte| byte.is_ascii_digit())
        {
            return (Some(format!("{file}:{line}")), text.to_owned());
        }
    }
    (None, message.to_owned())
}
