//! What an editor needs to know of the language: `LuaCATS` stubs for lua-language-server and `EmmyLua`, and its settings.

use crate::lua::modules::{ALIASES, CLASSES, Class, Field, Function, MODULES, Module, Scope};
use std::fmt::Write as _;

/// Where the stubs go, from the repository's root.
pub const STUBS_PATH: &str = ".rivet/stubs/rivet.d.lua";
/// Where the settings go.
pub const SETTINGS_PATH: &str = ".luarc.json";

/// The stubs: every module, class and builder method with types and doc texts.
pub fn stubs() -> String {
    let mut out = String::from(
        "---@meta\n\n-- Written by `rivet init lua`. What Rivet's definitions and stage scripts can use.\n",
    );
    for (name, kind) in ALIASES {
        let _ = write!(out, "\n---@alias {name} {kind}\n");
    }
    CLASSES.iter().for_each(|class| write_class(&mut out, class));
    MODULES.iter().for_each(|module| write_module(&mut out, module));
    out
}

/// Settings under which the stubs work: scripts are Lua 5.1 to an editor, and nothing of the host's Lua is there.
pub fn settings() -> String {
    let settings = serde_json::json!({
        "$schema": "https://raw.githubusercontent.com/LuaLS/vscode-lua/master/setting/schema.json",
        "runtime.version": "Lua 5.1",
        "runtime.path": [".rivet/?.lua", ".rivet/?/init.lua"],
        "runtime.nonstandardSymbol": ["continue", "+=", "-=", "*=", "/="],
        "runtime.builtin": {
            "basic": "enable", "string": "enable", "table": "enable", "math": "enable", "coroutine": "enable",
            "bit": "disable", "bit32": "disable", "debug": "disable", "ffi": "disable", "io": "disable", "jit": "disable",
            "os": "disable", "package": "disable", "utf8": "enable",
        },
        "workspace.library": [".rivet/stubs"],
        "workspace.checkThirdParty": false,
        "completion.callSnippet": "Replace",
    });
    format!("{settings:#}\n")
}

fn write_class(out: &mut String, class: &Class) {
    out.push('\n');
    write_doc(out, class.doc);
    let local = class.name.rsplit('.').next().unwrap_or(class.name);
    // Only what is declared may be written: a typo in a definition is an error in the editor too.
    let open = class.fields.iter().any(|f| f.name.starts_with('['));
    let exact = if open || class.fields.is_empty() { "" } else { "(exact) " };
    let _ = writeln!(out, "---@class {exact}{}", class.name);
    class.fields.iter().for_each(|field| write_field(out, field));
    if !class.methods.is_empty() {
        let _ = writeln!(out, "local {local} = {{}}");
        class.methods.iter().for_each(|method| write_function(out, &format!("{local}:"), method));
    }
}

fn write_doc(out: &mut String, doc: &str) {
    for line in doc.lines().filter(|line| !line.is_empty()) {
        let _ = writeln!(out, "---{line}");
    }
}

fn write_field(out: &mut String, field: &Field) {
    let optional = if field.optional && !field.name.starts_with('[') { "?" } else { "" };
    // A union has to be in brackets, or the doc text would be read as one of it.
    let kind = if field.kind.contains("fun(") { format!("({})", field.kind) } else { field.kind.to_owned() };
    let _ = writeln!(out, "---@field {}{optional} {kind} {}", field.name, one_line(field.doc));
}

fn one_line(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn write_module(out: &mut String, module: &Module) {
    let _ = write!(out, "\n---{}\n", one_line(module.doc));
    match module.scope {
        Scope::Definition => {}
        Scope::Decision => out.push_str("---\n---In conditions, axis functions, validators and stage scripts.\n"),
        Scope::Script => out.push_str("---\n---In stage scripts and rollbacks.\n"),
    }
    if let [function] = module.functions
        && function.name.is_empty()
    {
        write_signature(out, function);
        let _ = writeln!(out, "function {}({}) end", module.name, params(function));
        return;
    }
    if module.functions.is_empty() && !module.fields.is_empty() {
        if let Some(class) = same_fields(module) {
            let _ = writeln!(out, "---@type {class}\n{} = {{}}", module.name);
            return;
        }
        if let [field] = module.fields
            && field.name == "[string]"
        {
            let _ = writeln!(out, "---@type table<string, {}>\n{} = {{}}", field.kind, module.name);
            return;
        }
    }
    let _ = writeln!(out, "---@class rivetlib.{}", module.name);
    module.fields.iter().for_each(|field| write_field(out, field));
    let _ = writeln!(out, "{} = {{}}", module.name);
    module.functions.iter().for_each(|function| write_function(out, &format!("{}.", module.name), function));
}

/// The class that describes a module which is plain data.
fn same_fields(module: &Module) -> Option<&'static str> {
    let names = |fields: &'static [Field]| fields.iter().map(|f| (f.name, f.kind));
    CLASSES.iter().find(|class| names(class.fields).eq(names(module.fields))).map(|class| class.name)
}

fn write_function(out: &mut String, owner: &str, function: &Function) {
    out.push('\n');
    write_doc(out, function.doc);
    write_signature(out, function);
    let _ = writeln!(out, "function {owner}{}({}) end", function.name, params(function));
}

fn write_signature(out: &mut String, function: &Function) {
    for param in function.params {
        let optional = if param.optional && param.name != "..." { "?" } else { "" };
        let kind = if param.kind.contains("fun(") { format!("({})", param.kind) } else { param.kind.to_owned() };
        let _ = writeln!(out, "---@param {}{optional} {kind} {}", safe(param.name), one_line(param.doc));
    }
    if !function.returns.is_empty() {
        let _ = writeln!(out, "---@return {}", function.returns);
    }
}

fn params(function: &Function) -> String {
    function.params.iter().map(|p| safe(p.name)).collect::<Vec<_>>().join(", ")
}

/// A parameter's name that is no word of Lua.
fn safe(name: &str) -> &str {
    match name {
        "end" => "finish",
        "function" => "fn",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cats::{Type, parse};
    use std::collections::BTreeSet;

    #[test]
    fn every_module_and_class_is_there() {
        let stubs = stubs();
        for class in CLASSES {
            assert!(stubs.contains(&format!(" {}\n", class.name)), "{}", class.name);
        }
        for module in MODULES {
            let there = [format!("\n{} = {{}}", module.name), format!("function {}(", module.name)];
            assert!(there.iter().any(|t| stubs.contains(t.as_str())), "{}", module.name);
        }
    }

    #[test]
    fn it_is_lua_that_runs() {
        mlua::Lua::new().load(stubs()).set_name("rivet.d.lua").exec().unwrap();
    }

    #[test]
    fn every_type_that_is_used_is_declared() {
        let declared: BTreeSet<&str> =
            CLASSES.iter().map(|c| c.name).chain(ALIASES.iter().map(|(name, _)| *name)).collect();
        let functions = MODULES.iter().flat_map(|m| m.functions).chain(CLASSES.iter().flat_map(|c| c.methods));
        let kinds = functions.flat_map(|f| f.params.iter().map(|p| p.kind).chain([f.returns]));
        let kinds = kinds.chain(CLASSES.iter().flat_map(|c| c.fields).map(|f| f.kind));
        for kind in kinds.filter(|kind| !kind.is_empty()) {
            names(&parse(kind).unwrap(), &mut |name| {
                let builtin = ["string", "number", "integer", "boolean", "any", "nil", "table"].contains(&name);
                assert!(builtin || declared.contains(name), "{name} in {kind}");
            });
        }
    }

    fn names(kind: &Type, see: &mut dyn FnMut(&str)) {
        match kind {
            Type::Name(name) => see(name),
            Type::List(inner) | Type::Map(inner) => names(inner, see),
            Type::Union(members) => members.iter().for_each(|m| names(m, see)),
            Type::Shape(fields) => fields.iter().for_each(|(_, _, kind)| names(kind, see)),
            Type::Literal(_) | Type::Function => {}
        }
    }

    #[test]
    fn the_settings_are_json() {
        let settings: serde_json::Value = serde_json::from_str(&settings()).unwrap();
        assert_eq!(settings["workspace.library"][0], ".rivet/stubs");
    }
}
