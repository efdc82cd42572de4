//! `ctx`: what this attempt is about, and `ctx.step`.
//!
//! `ctx.step(name, fn)` runs `fn` each time the script comes by, logs it as a group and returns its value. It records
//! nothing: an attempt that is tried again runs its steps again.

use super::Host;
use super::facts::plain;
use mlua::{Function, Lua, Table};

pub(super) fn register(lua: &Lua, host: &Host) -> mlua::Result<()> {
    let job = &host.attempt.job;
    let ctx = lua.create_table()?;
    ctx.set("event", plain(lua, &job.event)?)?;
    ctx.set("inputs", plain(lua, &job.inputs)?)?;
    ctx.set("matrix", plain(lua, &job.matrix)?)?;
    ctx.set("needs", plain(lua, &job.needs)?)?;
    ctx.set("run", plain(lua, &job.run)?)?;
    ctx.set("stage", job.stage.as_str())?;
    ctx.set("attempt", job.attempt)?;
    ctx.set("max_attempts", job.max_attempts)?;
    ctx.set("workspace", host.attempt.workspace.as_str())?;
    if let Some(outputs) = &job.outputs {
        ctx.set("outputs", plain(lua, outputs)?)?;
    }
    let group: Function = lua.globals().get::<Table>("log")?.get("group")?;
    ctx.set("step", group)?;
    lua.globals().set("ctx", ctx)
}
