//! A Lua in which nothing can be reached, nothing lasts and nothing is left to chance.
//!
//! The recipe was measured against some hundred and fifty attack scripts: Luau's own libraries without `os`, `io` and
//! `debug`, source text only, a memory limit, an interrupt that keeps on failing once the deadline has passed, and own
//! versions of the three library functions that run for long without being interrupted.

use super::failure::{self, Place};
use crate::problem::Problem;
use memchr::memmem;
use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, LuaOptions, LuaString, MultiValue, StdLib, Table, Value, VmState};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes one evaluation may use.
pub const MEMORY_LIMIT: usize = 64 << 20;
/// How long one evaluation may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(1);
/// Most bytes of one definition file.
pub const FILE_LIMIT: usize = 256 << 10;
/// Most definition files of one commit.
pub const FILES_LIMIT: usize = 64;
/// Most bytes of all definition files of one commit.
pub const TOTAL_LIMIT: usize = 1 << 20;
/// Most items `table.move` moves at once: it cannot be interrupted.
const MOVE_LIMIT: f64 = 1e6;
/// The prelude's chunk name; its frames are never an author's line.
pub(super) const PRELUDE_NAME: &str = "rivet";

/// The chunk name of a condition that is an expression.
pub(super) const EXPRESSION_NAME: &str = "condition";

/// What a VM is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Evaluating a definition: core modules are errors, nothing is random.
    Definition,
    /// Running a stage's script: the host registers the core modules as globals before the definition is loaded.
    Runtime,
}

/// Globals that are not there, and what to use instead.
const FORBIDDEN: &[(&str, Kind, &str)] = &[
    ("io", Kind::Table, "use fs inside a stage."),
    ("os", Kind::Table, "use process inside a stage."),
    ("debug", Kind::Table, "errors show where they come from by themselves."),
    ("package", Kind::Table, "use require for files under .rivet/lib."),
    ("load", Kind::Function, "use require for files under .rivet/lib."),
    ("loadstring", Kind::Function, "use require for files under .rivet/lib."),
    ("loadfile", Kind::Function, "use require for files under .rivet/lib."),
    ("dofile", Kind::Function, "use require for files under .rivet/lib."),
    ("getfenv", Kind::Function, "pass values as parameters."),
    ("setfenv", Kind::Function, "pass values as parameters."),
    ("newproxy", Kind::Function, "use a table with a metatable."),
    ("collectgarbage", Kind::Function, "memory is looked after for you."),
    ("gcinfo", Kind::Function, "memory is looked after for you."),
    ("print", Kind::Function, "use log.info inside a stage."),
];

#[derive(Clone, Copy)]
enum Kind {
    Table,
    Function,
}

/// A new VM with everything hardened and nothing of Rivet's in it yet. It is not closed: the caller adds its globals, and
/// [`super::load_definition`] closes it.
pub fn new_vm(mode: Mode) -> mlua::Result<Lua> {
    let libraries =
        StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::COROUTINE | StdLib::UTF8 | StdLib::BIT | StdLib::BUFFER;
    let lua = Lua::new_with(libraries, LuaOptions::default())?;
    harden(&lua, mode)?;
    Ok(lua)
}

/// Replaces and removes what a script must not have.
pub fn harden(lua: &Lua, mode: Mode) -> mlua::Result<()> {
    let globals = lua.globals();
    let prelude: Table = load_text(lua, include_str!("prelude.lua"), PRELUDE_NAME)?.call(())?;
    for name in ["pairs", "next", "tostring"] {
        globals.raw_set(name, prelude.get::<Function>(name)?)?;
    }
    lua.set_named_registry_value(ITERATE, prelude.get::<Function>("iterate")?)?;
    // Kept aside, because a definition may overwrite its own globals.
    for name in [PROTECTED_CALL, "tostring", "pairs"] {
        lua.set_named_registry_value(&format!("rivet.{name}"), globals.raw_get::<Function>(name)?)?;
    }
    globals.raw_set("require", Value::Nil)?;
    for (name, kind, instead) in FORBIDDEN {
        globals.raw_set(*name, forbidden(lua, name, *kind, instead)?)?;
    }
    let string: Table = globals.get("string")?;
    string.raw_set("format", prelude.get::<Function>("format")?)?;
    string.raw_set("find", bounded_find(lua, string.get("find")?)?)?;
    string.raw_set("split", bounded_split(lua)?)?;
    let table: Table = globals.get("table")?;
    table.raw_set("move", bounded_move(lua, table.get("move")?)?)?;
    if mode == Mode::Definition {
        let math: Table = globals.get("math")?;
        for name in ["random", "randomseed"] {
            let full = format!("math.{name}");
            math.raw_set(
                name,
                raising(lua, move |_| forbidden_problem(&full, "a definition must always give the same plan."))?,
            )?;
        }
    }
    Ok(())
}

const ITERATE: &str = "rivet.iterate";
const PROTECTED_CALL: &str = "xpcall";

/// One of the library's functions as it was before any definition ran.
pub(super) fn original(lua: &Lua, name: &str) -> mlua::Result<Function> {
    lua.named_registry_value(&format!("rivet.{name}"))
}

/// Lets `pairs(proxy)` go through the table that `entries` returns.
pub(super) fn iterate_as(lua: &Lua, proxy: &Table, entries: Function) -> mlua::Result<()> {
    lua.named_registry_value::<Function>(ITERATE)?.call((proxy, entries))
}

/// Compiles source text: never bytecode, which could break out of the VM.
pub fn load_text(lua: &Lua, source: &str, name: &str) -> mlua::Result<Function> {
    lua.load(source).set_mode(ChunkMode::Text).set_name(format!("={name}")).into_function()
}

fn forbidden_problem(name: &str, instead: &str) -> Problem {
    Problem::error("config.forbidden", format!("'{name}' is not available in Rivet; {instead}"))
}

fn forbidden(lua: &Lua, name: &'static str, kind: Kind, instead: &'static str) -> mlua::Result<Value> {
    let problem = move |_: &Lua| forbidden_problem(name, instead);
    match kind {
        Kind::Function => Ok(Value::Function(raising(lua, problem)?)),
        Kind::Table => Ok(Value::Table(trap(lua, problem)?)),
    }
}

/// A function that raises a problem.
pub(super) fn raising(lua: &Lua, problem: impl Fn(&Lua) -> Problem + Send + Sync + 'static) -> mlua::Result<Function> {
    lua.create_function(move |lua, _: MultiValue| -> mlua::Result<()> { Err(failure::raise(lua, problem(lua))) })
}

/// A table whose every use raises a problem.
pub(super) fn trap(lua: &Lua, problem: impl Fn(&Lua) -> Problem + Send + Sync + 'static) -> mlua::Result<Table> {
    let raise = raising(lua, problem)?;
    let meta = lua.create_table()?;
    for event in ["__index", "__newindex", "__call", "__iter", "__len"] {
        meta.raw_set(event, &raise)?;
    }
    meta.raw_set("__metatable", false)?;
    let table = lua.create_table()?;
    table.set_metatable(Some(meta))?;
    iterate_as(lua, &table, raise)?;
    Ok(table)
}

/// `string.find` whose plain search takes linear time: Luau's own takes the product of both lengths, uninterrupted.
fn bounded_find(lua: &Lua, native: Function) -> mlua::Result<Function> {
    lua.create_function(move |_, args: MultiValue| {
        let plain_search = match (args.front(), args.get(1)) {
            (Some(Value::String(text)), Some(Value::String(pattern))) => {
                let is_plain = args.get(3).is_some_and(|v| !matches!(v, Value::Nil | Value::Boolean(false)))
                    || !pattern.as_bytes().iter().any(|b| b"^$*+?.([%-".contains(b));
                is_plain.then(|| (text.clone(), pattern.clone()))
            }
            _ => None,
        };
        let Some((text, pattern)) = plain_search else { return native.call::<MultiValue>(args) };
        let start = match args.get(2) {
            None | Some(Value::Nil) => 1.0,
            Some(Value::Integer(n)) => *n as f64,
            Some(Value::Number(n)) => *n,
            Some(_) => return native.call::<MultiValue>(args),
        };
        Ok(plain_find(&text.as_bytes(), &pattern.as_bytes(), start))
    })
}

fn plain_find(text: &[u8], pattern: &[u8], start: f64) -> MultiValue {
    let length = text.len() as f64;
    let first = if start < 0.0 { (length + start).max(0.0) } else { (start - 1.0).max(0.0) };
    let found = if first > length { None } else { memmem::find(&text[first as usize..], pattern) };
    match found {
        None => MultiValue::from_vec(vec![Value::Nil]),
        Some(at) => {
            let from = first + at as f64 + 1.0;
            MultiValue::from_vec(vec![Value::Number(from), Value::Number(from + pattern.len() as f64 - 1.0)])
        }
    }
}

/// `string.split` in linear time, for the same reason.
fn bounded_split(lua: &Lua) -> mlua::Result<Function> {
    lua.create_function(|lua, (text, separator): (LuaString, Option<LuaString>)| {
        let parts = lua.create_table()?;
        let bytes = text.as_bytes();
        let separator = separator.as_ref().map_or_else(|| b",".to_vec(), |s| s.as_bytes().to_vec());
        if separator.is_empty() {
            for byte in bytes.iter() {
                parts.raw_push(lua.create_string([*byte])?)?;
            }
            return Ok(parts);
        }
        let mut from = 0;
        for at in memmem::find_iter(&bytes, &separator) {
            parts.raw_push(lua.create_string(&bytes[from..at])?)?;
            from = at + separator.len();
        }
        parts.raw_push(lua.create_string(&bytes[from..])?)?;
        Ok(parts)
    })
}

/// `table.move` of a bounded range: Luau's own walks a huge empty one for seconds, uninterrupted.
fn bounded_move(lua: &Lua, native: Function) -> mlua::Result<Function> {
    lua.create_function(move |_, args: MultiValue| {
        let number = |index: usize| match args.get(index) {
            Some(Value::Integer(n)) => *n as f64,
            Some(Value::Number(n)) => *n,
            _ => 0.0,
        };
        if number(2) - number(1) > MOVE_LIMIT {
            return Err(mlua::Error::runtime("table.move moves at most 1000000 items at once"));
        }
        native.call::<MultiValue>(args)
    })
}

/// When an evaluation must end, and whether it has.
#[derive(Debug)]
pub struct Deadline {
    at: Instant,
    calls: AtomicU32,
    expired: AtomicBool,
    place: Mutex<Option<Place>>,
}

impl Deadline {
    /// Makes every further step of `lua` fail once `limit` has passed since `start`: also inside `pcall`, whose error
    /// handling would otherwise let a loop go on.
    pub fn install(lua: &Lua, start: Instant, limit: Duration) -> Arc<Self> {
        let deadline = Arc::new(Self {
            at: start + limit,
            calls: AtomicU32::new(0),
            expired: AtomicBool::new(false),
            place: Mutex::new(None),
        });
        let shared = Arc::clone(&deadline);
        lua.set_interrupt(move |lua| shared.check(lua));
        deadline
    }

    fn check(&self, lua: &Lua) -> mlua::Result<VmState> {
        // The clock is read at every sixteenth call only: a process that may start no thread has no cheaper watchdog.
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        if !self.expired.load(Ordering::Relaxed) {
            if !calls.is_multiple_of(16) || Instant::now() < self.at {
                return Ok(VmState::Continue);
            }
            self.expired.store(true, Ordering::Relaxed);
            if let Ok(mut place) = self.place.lock() {
                *place = failure::author_place(lua);
            }
        }
        Err(mlua::Error::runtime("evaluation exceeded its time"))
    }

    /// Where it was when the time was up; `None` while it is not.
    pub fn expired(&self) -> Option<Option<Place>> {
        let expired = self.expired.load(Ordering::Relaxed);
        expired.then(|| self.place.lock().ok().and_then(|place| place.clone()))
    }
}
