//! `json`: text to tables and back.

use mlua::{Lua, LuaSerdeExt as _, Table, Value};

pub(super) fn register(lua: &Lua) -> mlua::Result<()> {
    let json = lua.create_table()?;
    let encode = |lua: &Lua, (value, options): (Value, Option<Table>)| {
        // Through a JSON value, because that keeps keys sorted: the same table always gives the same text.
        let value: serde_json::Value = lua.from_value(value)?;
        let pretty = options.is_some_and(|options| options.get::<bool>("pretty").unwrap_or_default());
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        text.map_err(mlua::Error::external)
    };
    // Lists keep a mark, so that an empty one is encoded as a list again.
    let decode = |lua: &Lua, text: mlua::LuaString| {
        let value: serde_json::Value = serde_json::from_slice(&text.as_bytes())
            .map_err(|error| mlua::Error::runtime(format!("json.decode: {error}")))?;
        lua.to_value(&value)
    };
    json.set("encode", lua.create_function(encode)?)?;
    json.set("decode", lua.create_function(decode)?)?;
    json.set("null", lua.null())?;
    lua.globals().set("json", json)
}
