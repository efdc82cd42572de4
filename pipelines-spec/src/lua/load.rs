//! Loading a definition into a VM, for whoever asks: the evaluator or a runner.

use super::convert::convert;
use super::failure::{AuthorFiles, complete_columns, protect};
use super::modules::{CORE_NAMES, Scope, module};
use super::sandbox::{
    Deadline, EXPRESSION_NAME, FILE_LIMIT, FILES_LIMIT, MEMORY_LIMIT, Mode, TOTAL_LIMIT, load_text, new_vm, trap,
};
use super::{decide, define, require};
use crate::problem::{Location, Problem};
use crate::protocol::Sources;
use crate::raw::Node;
use crate::trigger::EventFacts;
use crate::validate::Language;
use mlua::serde::SerializeOptions;
use mlua::{Function, Lua, LuaSerdeExt as _, MultiValue, Table, Value};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A definition loaded into a VM: its functions, found again by the names of stages.
#[derive(Clone)]
pub struct Definition {
    table: Table,
    file: String,
    defined: define::Definition,
}

impl std::fmt::Debug for Definition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Definition").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Definition {
    /// The function that is the stage's `script`.
    pub fn script(&self, stage: &str) -> Option<Function> {
        self.function(stage, "script")
    }

    /// The function that is the stage's `rollback`, or its rollback's `script`.
    pub fn rollback(&self, stage: &str) -> Option<Function> {
        match self.stage(stage)?.raw_get::<Value>("rollback").ok()? {
            Value::Function(function) => Some(function),
            Value::Table(table) => table.raw_get("script").ok(),
            _ => None,
        }
    }

    pub(super) fn function(&self, stage: &str, key: &str) -> Option<Function> {
        match self.stage(stage)?.raw_get::<Value>(key).ok()? {
            Value::Function(function) => Some(function),
            _ => None,
        }
    }

    pub(super) fn stage(&self, name: &str) -> Option<Table> {
        let stages: Table = self.table.raw_get("stages").ok()?;
        stages.sequence_values::<Table>().flatten().find(|stage| {
            matches!(stage.raw_get::<Value>("name"), Ok(Value::String(found)) if found.as_bytes() == name.as_bytes())
        })
    }

    pub(super) fn inputs(&self) -> Option<Table> {
        self.table.raw_get("inputs").ok()
    }

    /// The definition as values with places.
    pub(crate) fn node(&self, sources: &Sources) -> Result<Node, Problem> {
        convert(&self.defined, &Location::line(&self.file, 1), sources)
    }
}

/// Loads `file` of `sources` into `lua`, a VM of [`new_vm`] to which the host has added its own globals, closes the sandbox
/// and returns what the file defines. With [`Mode::Runtime`] the core modules the host registered stay; every other one
/// is a table whose use is an error.
pub fn load_definition(
    lua: &Lua,
    sources: &Sources,
    file: &str,
    event: &EventFacts,
    mode: Mode,
) -> Result<Definition, Problem> {
    let definition = load(lua, sources, file, event, mode, None);
    definition.map_err(|problem| {
        let mut problems = [problem];
        complete_columns(&mut problems, sources);
        let [problem] = problems;
        problem
    })
}

fn load(
    lua: &Lua,
    sources: &Sources,
    file: &str,
    event: &EventFacts,
    mode: Mode,
    deadline: Option<&Deadline>,
) -> Result<Definition, Problem> {
    let source = check_sources(sources, file)?;
    prepare(lua, sources, event, mode).map_err(|error| super::failure::from_error(lua, &error))?;
    let chunk = load_text(lua, without_mark(source), file).map_err(|error| super::failure::from_error(lua, &error))?;
    let returned = protect(lua, deadline, &chunk, MultiValue::new())?;
    let defined = define::find(lua, returned.front(), file)?;
    Ok(Definition { table: defined.table.clone(), file: file.to_owned(), defined })
}

/// Adds the definition language's globals and closes the sandbox.
fn prepare(lua: &Lua, sources: &Sources, event: &EventFacts, mode: Mode) -> mlua::Result<()> {
    lua.set_app_data(AuthorFiles(sources.keys().cloned().collect()));
    define::install(lua)?;
    require::install(lua, sources)?;
    let facts = to_lua(lua, event)?;
    freeze(&facts)?;
    lua.globals().raw_set("event", facts)?;
    if mode == Mode::Definition {
        decide::install(lua)?;
    }
    for name in CORE_NAMES {
        if lua.globals().raw_get::<Value>(*name)?.is_nil() {
            let stub = trap(lua, move |lua| unavailable(name, mode, decide::deciding(lua)))?;
            lua.globals().raw_set(*name, stub)?;
        }
    }
    lua.sandbox(true)
}

/// The problem of using a core module where it is not.
pub(super) fn unavailable(name: &str, mode: Mode, deciding: bool) -> Problem {
    let decides = module(name).is_some_and(|module| module.scope == Scope::Decision);
    let text = match mode {
        Mode::Definition if deciding => {
            format!(
                "core module '{name}' is not available in conditions, axes and validators; use it inside a stage's script."
            )
        }
        Mode::Definition if decides => {
            format!("'{name}' is not available at definition time; use it inside a condition or a stage's script.")
        }
        Mode::Definition => {
            format!("core module '{name}' is not available at definition time; use it inside a stage's script.")
        }
        Mode::Runtime => format!("core module '{name}' is not available on this runner."),
    };
    Problem::error("config.forbidden", text)
}

/// A value of the host as Lua sees it: no markers for what is absent.
pub(super) fn to_lua(lua: &Lua, value: &impl Serialize) -> mlua::Result<Value> {
    let options =
        SerializeOptions::new().set_array_metatable(false).serialize_none_to_null(false).serialize_unit_to_null(false);
    lua.to_value_with(value, options)
}

fn freeze(value: &Value) -> mlua::Result<()> {
    if let Value::Table(table) = value {
        for pair in table.pairs::<Value, Value>() {
            freeze(&pair?.1)?;
        }
        table.set_readonly(true);
    }
    Ok(())
}

/// Checks the limits on files and returns the source of `file`.
pub(crate) fn check_sources<'s>(sources: &'s Sources, file: &str) -> Result<&'s str, Problem> {
    let Some(source) = sources.get(file) else {
        return Err(Problem::error("config.not_found", format!("{file} is not among the definition files.")));
    };
    let start = Location { file: file.to_owned(), line: 1, column: 1 };
    if sources.len() > FILES_LIMIT {
        let text = format!(".rivet has {} files; the limit is {FILES_LIMIT}.", sources.len());
        return Err(Problem::error("config.too_large", text).at(start));
    }
    check_source(file, source, FILE_LIMIT)?;
    let total: usize = sources.values().map(String::len).sum();
    if total > TOTAL_LIMIT {
        let text = format!(".rivet is {total} bytes in all; the limit is {TOTAL_LIMIT}.");
        return Err(Problem::error("config.too_large", text).at(start));
    }
    Ok(source)
}

/// Checks one file's size, and that it is text.
pub(super) fn check_source(file: &str, source: &str, limit: usize) -> Result<(), Problem> {
    let start = Location { file: file.to_owned(), line: 1, column: 1 };
    if source.len() > limit {
        let text = format!("{file} is {} bytes; the limit is {limit}.", source.len());
        return Err(Problem::error("config.too_large", text).at(start));
    }
    // Compiled Lua starts with an escape; compiled Luau with its version, a byte below a tab.
    if source.bytes().next().is_some_and(|first| first == 0x1b || first < b'\t') {
        let text = "binary chunks are not accepted; commit Lua source text.";
        return Err(Problem::error("config.binary", text).at(start));
    }
    Ok(())
}

/// The source without a byte order mark.
pub(crate) fn without_mark(source: &str) -> &str {
    source.strip_prefix('\u{feff}').unwrap_or(source)
}

/// One evaluation: a VM of its own, and the time it has.
pub(crate) struct Evaluation {
    pub lua: Lua,
    pub deadline: Arc<Deadline>,
}

impl Evaluation {
    /// A fresh VM for which `limit` starts to run at `start`.
    pub fn new(start: Instant, limit: Duration) -> Result<Self, Problem> {
        let broken = |error: mlua::Error| Problem::error("config.error", format!("the Lua VM did not start: {error}"));
        let lua = new_vm(Mode::Definition).map_err(broken)?;
        lua.set_memory_limit(MEMORY_LIMIT).map_err(broken)?;
        let deadline = Deadline::install(&lua, start, limit);
        Ok(Self { lua, deadline })
    }

    pub fn load(&self, sources: &Sources, file: &str, event: &EventFacts) -> Result<Definition, Problem> {
        load(&self.lua, sources, file, event, Mode::Definition, Some(&self.deadline))
    }

    /// Makes the VM ready for a file that is not Lua: its conditions are Lua expressions all the same.
    pub fn prepare(&self, sources: &Sources, event: &EventFacts) -> Result<(), Problem> {
        prepare(&self.lua, sources, event, Mode::Definition)
            .map_err(|error| super::failure::from_error(&self.lua, &error))
    }

    pub fn protect(&self, function: &Function, args: MultiValue) -> Result<MultiValue, Problem> {
        protect(&self.lua, Some(&self.deadline), function, args)
    }
}

/// What the validation asks of Lua, answered by the VM of an evaluation.
pub(crate) struct LuaLanguage<'a>(pub &'a Evaluation);

impl Language for LuaLanguage<'_> {
    fn check_expression(&self, expression: &str) -> Result<(), String> {
        decide::compile(&self.0.lua, expression).map(drop).map_err(|error| first_line(&error))
    }
}

fn first_line(error: &mlua::Error) -> String {
    let text = match error {
        mlua::Error::CallbackError { cause, .. } => cause.to_string(),
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("runtime error: ").unwrap_or(line);
    // What comes before the sentence is a chunk's name and line, which say nothing here.
    let line =
        line.split_once(": ").filter(|(place, _)| place.starts_with(EXPRESSION_NAME)).map_or(line, |(_, rest)| rest);
    super::failure::lower(line)
}
