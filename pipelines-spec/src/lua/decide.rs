//! What a definition decides later: conditions, axes that are functions, and validators. Each is asked of a VM into which
//! the file was loaded again.

use super::failure::raise;
use super::load::{Definition, Evaluation, to_lua, unavailable};
use super::sandbox::{EXPRESSION_NAME, Mode, iterate_as, load_text, original};
use crate::evaluate::Context;
use crate::inputs::text;
use crate::problem::Problem;
use crate::trigger::EventFacts;
use mlua::{Function, Lua, MultiValue, Table, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// What may be looked at now; `nil` while the file is loaded.
const NOW: &str = "rivet.now";
/// Set where a condition asked about its dependencies' outcome; unset, it holds only if they all succeeded.
const WIDENED: &str = "widened";
/// Most values one axis function may return.
const AXIS_LIMIT: usize = crate::validate::LEGS_LIMIT;

/// Adds `input`, `inputs`, `needs`, `matrix` and the helpers, none of which may be used before there is something to see.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let globals = lua.globals();
    for name in ["inputs", "needs", "matrix"] {
        globals.raw_set(name, window(lua, name)?)?;
    }
    let input = lua.create_table()?;
    input.raw_set("get", lua.create_function(input_get)?)?;
    globals.raw_set("input", input)?;
    globals.raw_set(
        "always",
        lua.create_function(|lua, ()| now(lua, "always").and_then(|now| widen(&now)).map(|()| true))?,
    )?;
    globals.raw_set("failed", lua.create_function(|lua, stage: Option<String>| failed(lua, stage.as_deref()))?)?;
    globals.raw_set("succeeded", lua.create_function(|lua, stage: Option<String>| succeeded(lua, stage.as_deref()))?)
}

fn now(lua: &Lua, name: &'static str) -> mlua::Result<Table> {
    match lua.named_registry_value::<Value>(NOW)? {
        Value::Table(now) => Ok(now),
        _ => Err(raise(lua, unavailable(name, Mode::Definition, false))),
    }
}

/// Notes that a condition decides for itself about stages that did not succeed: it asked a helper, or looked at `needs`.
fn widen(now: &Table) -> mlua::Result<()> {
    now.raw_set(WIDENED, true)
}

/// Whether the file is loaded and asked something.
pub(super) fn deciding(lua: &Lua) -> bool {
    matches!(lua.named_registry_value::<Value>(NOW), Ok(Value::Table(_)))
}

/// A read-only view of one of the tables of now.
fn window(lua: &Lua, name: &'static str) -> mlua::Result<Table> {
    let meta = lua.create_table()?;
    let index = lua.create_function(move |lua, (_, key): (Value, Value)| {
        let now = now(lua, name)?;
        if name == "needs" {
            widen(&now)?;
        }
        now.raw_get::<Table>(name)?.raw_get::<Value>(key)
    })?;
    meta.raw_set("__index", index)?;
    let iterate = lua.create_function(move |lua, _: Value| {
        original(lua, "pairs")?.call::<MultiValue>(now(lua, name)?.raw_get::<Table>(name)?)
    })?;
    meta.raw_set("__iter", iterate)?;
    meta.raw_set("__metatable", false)?;
    let view = lua.create_table()?;
    view.set_metatable(Some(meta))?;
    view.set_readonly(true);
    iterate_as(lua, &view, lua.create_function(move |lua, ()| now(lua, name)?.raw_get::<Table>(name))?)?;
    Ok(view)
}

fn input_get(lua: &Lua, (name, fallback): (Value, Value)) -> mlua::Result<Value> {
    let now = now(lua, "input")?;
    let texts: Table = now.raw_get("texts")?;
    Ok(match texts.raw_get::<Value>(name)? {
        Value::Nil => fallback,
        text => text,
    })
}

fn states(lua: &Lua, name: &'static str, stage: Option<&str>) -> mlua::Result<Vec<String>> {
    let now = now(lua, name)?;
    widen(&now)?;
    let needs: Table = now.raw_get("needs")?;
    let mut states = Vec::new();
    for pair in needs.pairs::<String, Table>() {
        let (need, facts) = pair?;
        if stage.is_none_or(|stage| stage == need) {
            states.push(facts.raw_get::<Option<String>>("state")?.unwrap_or_default());
        }
    }
    if let (Some(stage), true) = (stage, states.is_empty()) {
        let text = format!("{name}('{stage}') asks for a stage this one does not depend on.");
        return Err(raise(lua, Problem::error("plan.unknown_stage", text)));
    }
    Ok(states)
}

fn failed(lua: &Lua, stage: Option<&str>) -> mlua::Result<bool> {
    let bad = ["failed", "rolling_back", "rolled_back"];
    Ok(states(lua, "failed", stage)?.iter().any(|state| bad.contains(&state.as_str())))
}

fn succeeded(lua: &Lua, stage: Option<&str>) -> mlua::Result<bool> {
    Ok(states(lua, "succeeded", stage)?.iter().all(|state| state == "succeeded"))
}

/// Compiles a Lua expression.
pub(super) fn compile(lua: &Lua, expression: &str) -> mlua::Result<Function> {
    load_text(lua, &format!("return {expression}\n"), EXPRESSION_NAME)
}

/// Lets the language look at `context`, and returns what functions are given as `ctx`.
fn show(lua: &Lua, event: &EventFacts, context: &Context) -> mlua::Result<Table> {
    let now = lua.create_table()?;
    now.raw_set("inputs", to_lua(lua, &context.inputs)?)?;
    now.raw_set("needs", to_lua(lua, &context.needs)?)?;
    now.raw_set("matrix", to_lua(lua, &context.matrix)?)?;
    let texts: BTreeMap<&String, String> =
        context.inputs.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, text(value))).collect();
    now.raw_set("texts", to_lua(lua, &texts)?)?;
    lua.set_named_registry_value(NOW, &now)?;
    let ctx = lua.create_table()?;
    for key in ["inputs", "matrix"] {
        ctx.raw_set(key, now.raw_get::<Value>(key)?)?;
    }
    ctx.raw_set("needs", window(lua, "needs")?)?;
    ctx.raw_set("event", to_lua(lua, event)?)?;
    Ok(ctx)
}

fn host(evaluation: &Evaluation, error: &mlua::Error) -> Problem {
    super::failure::from_error(&evaluation.lua, error)
}

/// The stage's condition, where it is a function.
pub(crate) fn condition_function(definition: &Definition, stage: &str) -> Result<Function, Problem> {
    definition.function(stage, "condition").ok_or_else(|| missing(stage, "condition"))
}

/// A condition that is an expression.
pub(crate) fn expression(evaluation: &Evaluation, expression: &str) -> Result<Function, Problem> {
    compile(&evaluation.lua, expression).map_err(|error| host(evaluation, &error))
}

/// Whether a condition holds.
pub(crate) fn condition(
    evaluation: &Evaluation,
    function: &Function,
    event: &EventFacts,
    context: &Context,
) -> Result<bool, Problem> {
    let ctx = show(&evaluation.lua, event, context).map_err(|error| host(evaluation, &error))?;
    let results = evaluation.protect(function, MultiValue::from_vec(vec![Value::Table(ctx)]))?;
    Ok(!matches!(results.front(), None | Some(Value::Nil | Value::Boolean(false))))
}

fn missing(stage: &str, what: &str) -> Problem {
    Problem::error("plan.missing", format!("stage '{stage}' has no {what} function."))
}

/// The values of each axis of the stage that is a function.
pub(crate) fn axes(
    evaluation: &Evaluation,
    definition: &Definition,
    stage: &str,
    event: &EventFacts,
    context: &Context,
) -> Result<BTreeMap<String, Vec<Json>>, Problem> {
    let table = definition.stage(stage).ok_or_else(|| missing(stage, "matrix"))?;
    let matrix: Table = table.raw_get("matrix").map_err(|error| host(evaluation, &error))?;
    let ctx = show(&evaluation.lua, event, context).map_err(|error| host(evaluation, &error))?;
    let mut axes = BTreeMap::new();
    for pair in matrix.pairs::<Value, Value>() {
        if let Ok((Value::String(axis), Value::Function(function))) = pair {
            let axis = axis.to_string_lossy();
            let results = evaluation.protect(&function, MultiValue::from_vec(vec![Value::Table(ctx.clone())]))?;
            axes.insert(axis.clone(), axis_values(stage, &axis, results.front())?);
        }
    }
    Ok(axes)
}

fn axis_values(stage: &str, axis: &str, value: Option<&Value>) -> Result<Vec<Json>, Problem> {
    let wrong = |got: &str| {
        let text = format!(
            "the function of matrix.{axis} of stage '{stage}' must return a list of strings, numbers or booleans, got {got}."
        );
        Problem::error("plan.type", text)
    };
    let Some(Value::Table(list)) = value else {
        return Err(wrong(&super::define::article(value.map_or("nil", Value::type_name))));
    };
    let mut values = Vec::new();
    for item in list.sequence_values::<Value>() {
        if values.len() == AXIS_LIMIT {
            let text = format!(
                "matrix.{axis} of stage '{stage}' makes more than {AXIS_LIMIT} legs; the limit is {AXIS_LIMIT}."
            );
            return Err(Problem::error("plan.too_many_stages", text));
        }
        values.push(match item {
            Ok(Value::Boolean(value)) => Json::Bool(value),
            Ok(Value::Integer(value)) => Json::from(value),
            Ok(Value::Number(value)) if value.is_finite() => crate::raw::number_json(value),
            Ok(Value::String(text)) => Json::String(text.to_string_lossy()),
            Ok(other) => return Err(wrong(&format!("a list with {}", super::define::article(other.type_name())))),
            Err(_) => return Err(wrong("a list that cannot be read")),
        });
    }
    Ok(values)
}

/// What the `validate` functions say of `inputs`, by input; nothing where all is well.
pub(crate) fn validate(
    evaluation: &Evaluation,
    definition: &Definition,
    event: &EventFacts,
    inputs: &serde_json::Map<String, Json>,
) -> Result<BTreeMap<String, String>, Problem> {
    let mut errors = BTreeMap::new();
    let Some(specs) = definition.inputs() else { return Ok(errors) };
    let context = Context { inputs: inputs.clone(), ..Context::default() };
    show(&evaluation.lua, event, &context).map_err(|error| host(evaluation, &error))?;
    for (name, value) in inputs.iter().filter(|(_, value)| !value.is_null()) {
        let Ok(spec) = specs.raw_get::<Table>(name.as_str()) else { continue };
        let Ok(Value::Function(function)) = spec.raw_get::<Value>("validate") else { continue };
        let value = to_lua(&evaluation.lua, value).map_err(|error| host(evaluation, &error))?;
        let results = evaluation.protect(&function, MultiValue::from_vec(vec![value]))?;
        if matches!(results.front(), None | Some(Value::Nil | Value::Boolean(false))) {
            let why = results.get(1).and_then(|why| why.as_string().map(mlua::LuaString::to_string_lossy));
            errors.insert(name.clone(), why.unwrap_or_else(|| "is not valid".into()));
        }
    }
    Ok(errors)
}
