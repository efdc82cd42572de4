//! `input`, `inputs`, `event` and `env`: what the run is about.

use super::Host;
use mlua::{Lua, LuaSerdeExt as _, Table, Value};
use serde::Serialize;
use std::path::Path;

pub(super) fn register(lua: &Lua, host: &Host) -> mlua::Result<()> {
    let job = &host.attempt.job;
    let globals = lua.globals();
    globals.set("event", plain(lua, &job.event)?)?;
    globals.set("inputs", plain(lua, &job.inputs)?)?;
    globals.set("env", plain(lua, &crate::facts::environment(job, Path::new(&host.attempt.workspace)))?)?;
    globals.set("needs", plain(lua, &job.needs)?)?;
    globals.set("matrix", plain(lua, &job.matrix)?)?;
    globals.set("input", input(lua, host)?)
}

/// Plain tables without markers: an absent value is nil, not a null.
pub(super) fn plain<T: Serialize + ?Sized>(lua: &Lua, value: &T) -> mlua::Result<Value> {
    let options = mlua::serde::ser::Options::new()
        .set_array_metatable(false)
        .serialize_none_to_null(false)
        .serialize_unit_to_null(false);
    lua.to_value_with(value, options)
}

fn input(lua: &Lua, host: &Host) -> mlua::Result<Table> {
    let inputs = host.attempt.job.inputs.clone();
    let input = lua.create_table()?;
    let get = move |_: &Lua, (name, fallback): (String, Option<String>)| {
        Ok(inputs.get(&name).and_then(text_form).or(fallback))
    };
    input.set("get", lua.create_function(get)?)?;
    Ok(input)
}

/// An input as text: `true`, `4`; a list has its items between commas.
fn text_form(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e15 => Some(format!("{whole:.0}")),
            _ => Some(number.to_string()),
        },
        serde_json::Value::Array(items) => Some(items.iter().filter_map(text_form).collect::<Vec<_>>().join(",")),
        serde_json::Value::Bool(_) | serde_json::Value::Object(_) => Some(value.to_string()),
    }
}
