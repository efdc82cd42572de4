//! `log`: lines of the author's own, groups, annotations.

use super::Host;
use mlua::{Function, Lua, LuaSerdeExt as _, MultiValue, Table, Value};
use pipelines_spec::protocol::{Annotation, AnnotationLevel};
use serde::Deserialize;
use std::sync::PoisonError;

/// Most annotations of one job.
const ANNOTATIONS: usize = 500;
/// Most characters of one annotation's message.
const ANNOTATION_CHARACTERS: usize = 4_096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnnotationTable {
    path: String,
    line: u32,
    end_line: Option<u32>,
    level: Option<AnnotationLevel>,
    title: Option<String>,
    message: String,
}

pub(super) fn register(lua: &Lua, host: &Host) -> mlua::Result<()> {
    let log = lua.create_table()?;
    for (name, prefix) in [("debug", "debug: "), ("info", ""), ("warn", "warning: "), ("error", "error: ")] {
        log.set(name, line(lua, host, prefix)?)?;
    }
    let (open, close) = (line(lua, host, "::group::")?, line(lua, host, "::endgroup::")?);
    let prelude = lua.load(include_str!("group.lua")).set_name("=rivet").into_function()?;
    log.set("group", prelude.call::<Function>((open, close))?)?;
    log.set("annotate", annotate(lua, host)?)?;
    log.set("progress", progress(lua, host)?)?;
    lua.globals().set("log", log)
}

fn line(lua: &Lua, host: &Host, prefix: &'static str) -> mlua::Result<Function> {
    let log = host.log.clone();
    lua.create_function(move |lua, values: MultiValue| {
        log.line(&format!("{prefix}{}", text(lua, values)?));
        Ok(())
    })
}

fn text(lua: &Lua, values: MultiValue) -> mlua::Result<String> {
    let tostring: Function = lua.globals().get("tostring")?;
    let words: mlua::Result<Vec<String>> =
        values.into_iter().map(|value| Ok(tostring.call::<mlua::LuaString>(value)?.to_string_lossy())).collect();
    Ok(words?.join(" "))
}

fn annotate(lua: &Lua, host: &Host) -> mlua::Result<Function> {
    let annotations = host.annotations.clone();
    lua.create_function(move |lua, table: Table| {
        let AnnotationTable { path, line, end_line, level, title, message } = lua.from_value(Value::Table(table))?;
        let mut annotations = annotations.lock().unwrap_or_else(PoisonError::into_inner);
        if annotations.len() == ANNOTATIONS {
            return Err(mlua::Error::runtime(format!("a job shows at most {ANNOTATIONS} annotations")));
        }
        let message = message.chars().take(ANNOTATION_CHARACTERS).collect();
        let level = level.unwrap_or(AnnotationLevel::Warning);
        annotations.push(Annotation { path, line, end_line, level, title, message });
        Ok(())
    })
}

fn progress(lua: &Lua, host: &Host) -> mlua::Result<Function> {
    let log = host.log.clone();
    lua.create_function(move |_, (done, total, message): (f64, Option<f64>, Option<String>)| {
        let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
        let what = message.map(|message| format!(": {message}")).unwrap_or_default();
        log.line(&format!("progress: {done}{of}{what}"));
        Ok(())
    })
}
