//! The author's function, found again in the definition's file by its stage's name.

use super::failure::{self, AuthorFiles};
use crate::attempt::job_error;
use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{Job, JobError, JobKind, Sources};

const LOADED: &str = "rivet.loaded";
const REMOVED: &[&str] = &["loadstring", "getfenv", "setfenv", "newproxy", "collectgarbage", "gcinfo", "require"];

/// A VM without anything of this machine in it.
pub(super) fn new_vm() -> mlua::Result<Lua> {
    let libraries =
        StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::COROUTINE | StdLib::UTF8 | StdLib::BIT | StdLib::BUFFER;
    let lua = Lua::new_with(libraries, LuaOptions::default())?;
    for name in REMOVED {
        lua.globals().raw_set(*name, Value::Nil)?;
    }
    Ok(lua)
}

/// Closes the VM, loads the file and finds the stage's function.
pub(super) fn script(lua: &Lua, job: &Job) -> Result<Function, JobError> {
    let definition = load(lua, job).map_err(|error| failure::from_error(&error))?;
    let missing = |what: &str| job_error(ErrorClass::DefinitionError, format!("{} has no {what}", job.file));
    let stages = definition.get::<Table>("stages").map_err(|_| missing("stages"))?;
    let stage = stages
        .sequence_values::<Table>()
        .flatten()
        .find(|stage| stage.get::<String>("name").is_ok_and(|name| name == job.base))
        .ok_or_else(|| missing(&format!("stage '{}'", job.base)))?;
    let found = match job.kind {
        JobKind::Stage => stage.get::<Function>("script"),
        JobKind::Rollback => stage
            .get::<Function>("rollback")
            .or_else(|_| stage.get::<Table>("rollback").and_then(|rollback| rollback.get::<Function>("script"))),
    };
    found.map_err(|_| missing(&format!("function for stage '{}'", job.base)))
}

fn load(lua: &Lua, job: &Job) -> mlua::Result<Table> {
    lua.set_app_data(AuthorFiles::of(&job.sources));
    let pipeline = lua.create_table()?;
    pipeline.set("define", lua.create_function(|_, definition: Table| Ok(definition))?)?;
    lua.globals().set("pipeline", pipeline)?;
    lua.set_named_registry_value(LOADED, lua.create_table()?)?;
    let sources = job.sources.clone();
    lua.globals().set("require", lua.create_function(move |lua, name: String| require(lua, &sources, &name))?)?;
    lua.sandbox(true)?;
    compile(lua, &job.sources, &job.file)?.call(())
}

fn require(lua: &Lua, sources: &Sources, name: &str) -> mlua::Result<Value> {
    let file = format!(".rivet/{name}.lua");
    let loaded: Table = lua.named_registry_value(LOADED)?;
    if let known @ (Value::Table(_) | Value::Function(_)) = loaded.get::<Value>(file.as_str())? {
        return Ok(known);
    }
    let value: Value = compile(lua, sources, &file)?.call(())?;
    loaded.set(file, value.clone())?;
    Ok(value)
}

fn compile(lua: &Lua, sources: &Sources, file: &str) -> mlua::Result<Function> {
    let source = sources.get(file).ok_or_else(|| mlua::Error::runtime(format!("module '{file}' is not in .rivet/")))?;
    lua.load(source.as_str()).set_mode(ChunkMode::Text).set_name(format!("={file}")).into_function()
}
