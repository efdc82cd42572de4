//! `require` over the definition files of the commit, and nothing else.

use super::failure::raise;
use super::modules::CORE_NAMES;
use super::sandbox::{FILE_LIMIT, load_text};
use crate::problem::Problem;
use crate::protocol::Sources;
use crate::raw::quoted;
use crate::suggest::nearest;
use mlua::{Lua, LuaString, Value};
use std::collections::BTreeMap;

/// How deep modules may require each other.
const DEPTH: usize = 16;

/// What is loaded, and what is being loaded.
#[derive(Default)]
struct Modules {
    loaded: BTreeMap<String, Value>,
    loading: Vec<String>,
}

/// Makes the global `require`.
pub(super) fn install(lua: &Lua, sources: &Sources) -> mlua::Result<()> {
    lua.set_app_data(Modules::default());
    let sources = sources.clone();
    let require = lua.create_function(move |lua, name: LuaString| {
        let name = name.to_string_lossy();
        if CORE_NAMES.contains(&name.as_str()) {
            return lua.globals().get(name);
        }
        match sources.get(&path(&name)).filter(|_| is_module(&name)) {
            Some(source) => module(lua, &name, source),
            None => Err(raise(lua, not_found(&name, &sources))),
        }
    })?;
    lua.globals().raw_set("require", require)
}

fn path(name: &str) -> String {
    format!(".rivet/{name}.lua")
}

/// `lib/name`, `lib/deploy/helm`: nothing that could leave the folder.
fn is_module(name: &str) -> bool {
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    name.starts_with("lib/") && name.split('/').all(word)
}

fn not_found(name: &str, sources: &Sources) -> Problem {
    let text = format!(
        "module {} is not in .rivet/ and not a core module (process, container, fs, http, secret, artifact, cache, log).",
        quoted(name)
    );
    let problem = Problem::error("module.not_found", text);
    let known = sources.keys().filter_map(|path| path.strip_prefix(".rivet/")?.strip_suffix(".lua"));
    match nearest(name, known.filter(|known| known.starts_with("lib/"))) {
        Some(near) => problem.hint(format!("Did you mean '{near}'?")),
        None => problem,
    }
}

fn module(lua: &Lua, name: &str, source: &str) -> mlua::Result<Value> {
    if let Some(mut modules) = lua.app_data_mut::<Modules>() {
        if let Some(loaded) = modules.loaded.get(name) {
            return Ok(loaded.clone());
        }
        if let Some(from) = modules.loading.iter().position(|loading| loading == name) {
            let ring: Vec<&str> = modules.loading[from..].iter().map(String::as_str).chain([name]).collect();
            let text = format!("modules require each other in a cycle: {}.", ring.join(" → "));
            return Err(raise(lua, Problem::error("module.cycle", text)));
        }
        if modules.loading.len() >= DEPTH {
            let text = format!("require goes more than {DEPTH} modules deep, at '{name}'.");
            return Err(raise(lua, Problem::error("module.depth", text)));
        }
        modules.loading.push(name.to_owned());
    }
    let result = load(lua, name, source);
    if let Some(mut modules) = lua.app_data_mut::<Modules>() {
        modules.loading.pop();
        if let Ok(value) = &result {
            modules.loaded.insert(name.to_owned(), value.clone());
        }
    }
    result
}

fn load(lua: &Lua, name: &str, source: &str) -> mlua::Result<Value> {
    super::load::check_source(&path(name), source, FILE_LIMIT).map_err(|problem| raise(lua, problem))?;
    let value: Value = load_text(lua, super::load::without_mark(source), &path(name))?.call(())?;
    Ok(if value.is_nil() { Value::Boolean(true) } else { value })
}
