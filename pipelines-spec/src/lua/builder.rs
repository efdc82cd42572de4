//! `pipeline.builder()`: the same definition call by call. It only fills the table that `define` would be given.

use super::define::{article, remember};
use super::failure::{author_place, raise};
use super::modules::BUILDER_METHODS;
use crate::problem::{Location, Problem};
use crate::raw::quoted;
use crate::suggest::nearest;
use mlua::{Lua, MultiValue, Table, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

type Places = Arc<Mutex<BTreeMap<String, Location>>>;

/// How a method fills the table.
#[derive(Clone, Copy)]
enum Fill {
    /// Sets `key` once.
    Set(&'static str),
    /// Appends to the list at `key`.
    Append(&'static str),
    /// Sets a named entry of the table at `key`.
    Named(&'static str),
}

const METHODS: &[(&str, Fill)] = &[
    ("name", Fill::Set("name")),
    ("description", Fill::Set("description")),
    ("on", Fill::Set("on")),
    ("concurrency", Fill::Set("concurrency")),
    ("runner", Fill::Set("runner")),
    ("env", Fill::Set("env")),
    ("timeout", Fill::Set("timeout")),
    ("tag", Fill::Append("tags")),
    ("stage", Fill::Append("stages")),
    ("input", Fill::Named("inputs")),
];

/// The names of the methods that fill the table.
#[cfg(test)]
pub(crate) fn builder_methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(name, _)| *name)
}

/// A new builder.
pub(super) fn builder(lua: &Lua) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let places: Places = Arc::default();
    let methods = lua.create_table()?;
    for (name, fill) in METHODS {
        let (table, places) = (table.clone(), Arc::clone(&places));
        let method = lua.create_function(move |lua, args: MultiValue| {
            apply(lua, &table, &places, name, *fill, &args)?;
            Ok(args.into_iter().next())
        })?;
        methods.raw_set(*name, method)?;
    }
    let build = lua.create_function(move |lua, _: MultiValue| {
        let keys = places.lock().map(|places| places.clone()).unwrap_or_default();
        remember(lua, table.clone(), keys)
    })?;
    methods.raw_set("build", build)?;
    let meta = lua.create_table()?;
    meta.raw_set("__index", lua.create_function(move |lua, (_, key): (Value, Value)| lookup(lua, &methods, &key))?)?;
    meta.raw_set("__metatable", "pipeline builder")?;
    let builder = lua.create_table()?;
    builder.set_metatable(Some(meta))?;
    builder.set_readonly(true);
    Ok(builder)
}

fn lookup(lua: &Lua, methods: &Table, key: &Value) -> mlua::Result<Value> {
    let found: Value = methods.raw_get(key)?;
    if !found.is_nil() {
        return Ok(found);
    }
    let name = key.as_string().map(mlua::LuaString::to_string_lossy).unwrap_or_default();
    let problem = Problem::error("plan.unknown_key", format!("the builder has no method {}.", quoted(&name)));
    let known = BUILDER_METHODS.iter().map(|method| method.name);
    Err(raise(
        lua,
        match nearest(&name, known) {
            Some(near) => problem.hint(format!("Did you mean '{near}'?")),
            None => problem,
        },
    ))
}

fn apply(lua: &Lua, table: &Table, places: &Places, name: &str, fill: Fill, args: &MultiValue) -> mlua::Result<()> {
    let value = args.get(1).cloned().unwrap_or(Value::Nil);
    if !matches!(args.front(), Some(Value::Table(_))) || value.is_nil() {
        let text = format!("call the builder's methods with a colon and a value: builder:{name}(…).");
        return Err(raise(lua, Problem::error("plan.type", text)));
    }
    let note = |key: &str| {
        if let (Ok(mut places), Some(place)) = (places.lock(), author_place(lua)) {
            places.insert(key.to_owned(), place.into());
        }
    };
    match fill {
        Fill::Set(key) => {
            if table.raw_get::<Value>(key)? != Value::Nil {
                return Err(twice(lua, &format!("builder:{name}")));
            }
            note(key);
            table.raw_set(key, value)
        }
        Fill::Append(key) => {
            let list = child(lua, table, key)?;
            note(&format!("{key}[{}]", list.raw_len() + 1));
            list.raw_push(value)
        }
        Fill::Named(key) => {
            let Value::String(entry) = &value else {
                let text = format!("builder:{name} takes a name first, got {}.", article(value.type_name()));
                return Err(raise(lua, Problem::error("plan.type", text)));
            };
            let map = child(lua, table, key)?;
            if map.raw_get::<Value>(entry)? != Value::Nil {
                return Err(twice(lua, &format!("{name} {}", quoted(&entry.to_string_lossy()))));
            }
            note(&format!("{key}.{}", entry.to_string_lossy()));
            map.raw_set(entry, args.get(2).cloned().unwrap_or(Value::Nil))
        }
    }
}

fn child(lua: &Lua, table: &Table, key: &str) -> mlua::Result<Table> {
    if let Value::Table(child) = table.raw_get(key)? {
        return Ok(child);
    }
    let child = lua.create_table()?;
    table.raw_set(key, &child)?;
    Ok(child)
}

fn twice(lua: &Lua, what: &str) -> mlua::Error {
    raise(lua, Problem::error("plan.duplicate", format!("{what} is given twice.")))
}
