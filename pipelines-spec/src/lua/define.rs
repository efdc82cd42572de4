//! `pipeline.define` and what it leaves behind: a marker that the file returns, and the table that was given.

use super::failure::{author_place, raise};
use crate::problem::{Location, Problem};
use mlua::{Lua, MultiValue, Table, Value};
use std::collections::BTreeMap;

/// What has been defined so far in this VM.
#[derive(Default)]
pub(super) struct Defined(pub Vec<Definition>);

/// One call of `define`, or one `build`.
#[derive(Clone)]
pub(super) struct Definition {
    /// What the call returned: the file is to return it too.
    pub marker: Table,
    /// What it was given.
    pub table: Table,
    /// Where the call is.
    pub at: Option<Location>,
    /// Where each key was set, where calls set them one by one.
    pub keys: BTreeMap<String, Location>,
}

/// Makes the global `pipeline`.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    lua.set_app_data(Defined::default());
    let module = lua.create_table()?;
    module.raw_set("define", lua.create_function(|lua, args: MultiValue| define(lua, &args))?)?;
    module.raw_set("builder", lua.create_function(|lua, _: MultiValue| super::builder::builder(lua))?)?;
    lua.globals().raw_set("pipeline", module)
}

fn define(lua: &Lua, args: &MultiValue) -> mlua::Result<Table> {
    let given = args.front().cloned().unwrap_or(Value::Nil);
    if args.len() > 1 {
        let text = "pipeline.define takes one table; call it with a dot: pipeline.define({ … }).";
        return Err(raise(lua, Problem::error("plan.type", text)));
    }
    let Value::Table(table) = given else {
        let text = format!("pipeline.define takes a table, got {}.", article(given.type_name()));
        return Err(raise(lua, Problem::error("plan.type", text)));
    };
    remember(lua, table, BTreeMap::new())
}

/// Keeps what was defined and makes the marker for it.
pub(super) fn remember(lua: &Lua, table: Table, keys: BTreeMap<String, Location>) -> mlua::Result<Table> {
    let marker = lua.create_table()?;
    let meta = lua.create_table()?;
    meta.raw_set("__metatable", "pipeline")?;
    marker.set_metatable(Some(meta))?;
    marker.set_readonly(true);
    let at = author_place(lua).map(Location::from);
    let definition = Definition { marker: marker.clone(), table, at, keys };
    if let Some(mut defined) = lua.app_data_mut::<Defined>() {
        defined.0.push(definition);
    }
    Ok(marker)
}

/// The definition that `returned` is the marker of.
pub(super) fn find(lua: &Lua, returned: Option<&Value>, file: &str) -> Result<Definition, Problem> {
    let defined = lua.app_data_ref::<Defined>();
    let all = defined.as_ref().map(|defined| defined.0.as_slice()).unwrap_or_default();
    if let Some(Value::Table(table)) = returned
        && let Some(found) = all.iter().find(|definition| definition.marker == *table)
    {
        return Ok(found.clone());
    }
    let at = all.last().and_then(|last| last.at.clone()).unwrap_or_else(|| Location::line(file, 1));
    let problem = Problem::error("plan.missing", "the file returns no pipeline.").at(at);
    Err(match (returned, all.is_empty()) {
        (_, false) => problem.hint("Write 'return' before pipeline.define."),
        (Some(Value::Table(_)), true) => problem.hint("Return pipeline.define({ … }) instead of a plain table."),
        (_, true) => problem.hint("End it with: return pipeline.define({ … })."),
    })
}

/// `a table`, `an integer`.
pub(super) fn article(kind: &str) -> String {
    match kind {
        "nil" => "nothing".into(),
        kind if kind.starts_with(['a', 'e', 'i', 'o']) => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}
