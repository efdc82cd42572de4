//! Typed inputs: from what people type, or send as JSON, to values that keep every rule of the definition; all that is
//! wrong together.

use crate::lua_pattern;
use crate::plan::{InputSpec, InputType};
use crate::suggest::nearest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// Bytes one value may have as text: a process' environment takes no more in one variable.
pub const LONGEST_BYTES: usize = 64 * 1024;
/// Items an array may have.
pub const MOST_ITEMS: usize = 1000;

/// One thing wrong with one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputError {
    /// The input's name.
    pub field: String,
    /// `input.unknown`, `input.required`, `input.type`, `input.option`, `input.range`, `input.pattern`, `input.items`,
    /// `input.too_long`.
    pub code: String,
    /// One sentence.
    pub detail: String,
}

impl InputError {
    fn new(field: &str, code: &str, detail: impl Into<String>) -> Self {
        Self { field: field.to_owned(), code: format!("input.{code}"), detail: detail.into() }
    }
}

/// A rule that a value breaks: the code's last word, and what the value does wrong as the rest of a sentence.
type Broken = (&'static str, String);

/// The typed value of every input that has one: given, or by default. `null` counts as not given.
pub fn parse(
    spec: &BTreeMap<String, InputSpec>,
    given: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<InputError>> {
    let mut values = Map::new();
    let mut errors: Vec<InputError> =
        given.keys().filter(|name| !spec.contains_key(*name)).map(|name| unknown(name, spec)).collect();
    for (name, spec) in spec {
        let value = match given.get(name).filter(|v| !v.is_null()) {
            Some(value) => typed(spec, value),
            None => match &spec.default {
                Some(default) => typed(spec, default),
                None if spec.required => {
                    errors.push(InputError::new(name, "required", format!("input '{name}' is required")));
                    continue;
                }
                None => continue,
            },
        };
        match value {
            Ok(value) => {
                values.insert(name.clone(), value);
            }
            Err(broken) => errors.push(sentence(name, broken)),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

fn unknown(name: &str, spec: &BTreeMap<String, InputSpec>) -> InputError {
    let hint = match nearest(name, spec.keys().map(String::as_str)) {
        Some(near) => format!("; did you mean '{near}'?"),
        None if spec.is_empty() => "; the pipeline takes no inputs".to_owned(),
        None => format!("; there are {}", spec.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
    };
    InputError::new(name, "unknown", format!("there is no input '{}'{hint}", short(name)))
}

fn sentence(name: &str, (code, rest): Broken) -> InputError {
    InputError::new(name, code, format!("input '{name}' {rest}"))
}

/// `value` as the input's type, if it keeps every rule but the file's own `validate` function.
pub fn typed(spec: &InputSpec, value: &Value) -> Result<Value, Broken> {
    let value = coerce(spec, value).map_err(|broken| hide(spec, broken))?;
    keeps_rules(spec, &value).map_err(|broken| hide(spec, broken))?;
    Ok(value)
}

/// A secret's value is in no message.
fn hide(spec: &InputSpec, (code, text): Broken) -> Broken {
    if !spec.secret {
        return (code, text);
    }
    let text = match code {
        "type" => format!("must be of type {}", spec.kind),
        _ => "does not keep the rules of the definition".to_owned(),
    };
    (code, text)
}

fn coerce(spec: &InputSpec, value: &Value) -> Result<Value, Broken> {
    match spec.kind {
        InputType::Array => coerce_array(spec.items.unwrap_or(InputType::String), value),
        InputType::String | InputType::Number | InputType::Bool => coerce_scalar(spec.kind, value),
    }
}

fn coerce_scalar(kind: InputType, value: &Value) -> Result<Value, Broken> {
    let wrong = |what: &str| Err(("type", format!("must be {what}, got {}", show(value))));
    match kind {
        InputType::String => match value {
            Value::String(text) if text.contains('\0') => Err(("type", "must be text without NUL bytes".to_owned())),
            Value::String(text) if text.len() > LONGEST_BYTES => {
                Err(("too_long", format!("has {} bytes; the limit is {LONGEST_BYTES}", text.len())))
            }
            Value::String(_) => Ok(value.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(Value::String(text(value))),
            Value::Null | Value::Array(_) | Value::Object(_) => wrong("text"),
        },
        InputType::Number => match value {
            Value::Number(n) => n.as_f64().and_then(number).map_or_else(|| wrong("a number"), Ok),
            Value::String(text) => read_number(text).map_or_else(|| wrong("a number"), Ok),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => wrong("a number"),
        },
        InputType::Bool => match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::String(_) | Value::Number(_) => {
                read_bool(&text(value)).map_or_else(|| wrong("true or false (yes/no, 1/0, on/off)"), |b| Ok(b.into()))
            }
            Value::Null | Value::Array(_) | Value::Object(_) => wrong("true or false"),
        },
        InputType::Array => wrong("one value, not a list of lists"),
    }
}

fn coerce_array(items: InputType, value: &Value) -> Result<Value, Broken> {
    let raw = match value {
        Value::Array(raw) => raw.clone(),
        // Lua has one empty table for both.
        Value::Object(map) if map.is_empty() => Vec::new(),
        Value::String(text) => split(text)?,
        Value::Number(_) | Value::Bool(_) => vec![value.clone()],
        Value::Null | Value::Object(_) => return Err(("type", format!("must be a list, got {}", show(value)))),
    };
    if raw.len() > MOST_ITEMS {
        return Err(("items", format!("has {} items; the limit is {MOST_ITEMS}", raw.len())));
    }
    let one = |(i, item): (usize, &Value)| {
        coerce_scalar(items, item).map_err(|(code, text)| (code, format!("has an item {} that {text}", i + 1)))
    };
    let values = raw.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
    let array = Value::Array(values);
    match text(&array).len() {
        long if long > LONGEST_BYTES => Err(("too_long", format!("has {long} bytes; the limit is {LONGEST_BYTES}"))),
        _ => Ok(array),
    }
}

/// A list as people type it: a JSON array, or words with commas between them.
fn split(text: &str) -> Result<Vec<Value>, Broken> {
    let text = text.trim();
    if text.starts_with('[') {
        return serde_json::from_str(text)
            .map_err(|e| ("type", format!("must be a list: what begins with '[' is read as JSON, and {e}")));
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    Ok(text.split(',').map(|item| Value::String(item.trim().to_owned())).collect())
}

fn read_number(text: &str) -> Option<Value> {
    let text = text.trim();
    // `parse` also reads words such as "inf".
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if plain { text.parse().ok().and_then(number) } else { None }
}

/// A number in the one form it is kept in: whole ones as integers.
fn number(n: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if n.fract() == 0.0 && n.abs() <= EXACT {
        // Both bounds were just checked, so nothing is cut off.
        return Some(Value::from(n as i64));
    }
    Number::from_f64(n).map(Value::Number)
}

fn read_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" | "on" => Some(true),
        "false" | "no" | "0" | "off" => Some(false),
        _ => None,
    }
}

fn keeps_rules(spec: &InputSpec, value: &Value) -> Result<(), Broken> {
    let Value::Array(items) = value else { return scalar_keeps_rules(spec, spec.kind, value) };
    let count = items.len();
    if let Some(least) = spec.min_items.filter(|least| count < *least as usize) {
        return Err(("items", format!("has {}; at least {least} are needed", plural(count))));
    }
    if let Some(most) = spec.max_items.filter(|most| count > *most as usize) {
        return Err(("items", format!("has {}; at most {most} are allowed", plural(count))));
    }
    let kind = spec.items.unwrap_or(InputType::String);
    for (i, item) in items.iter().enumerate() {
        scalar_keeps_rules(spec, kind, item)
            .map_err(|(code, text)| (code, format!("has an item {} that {text}", i + 1)))?;
    }
    Ok(())
}

fn plural(count: usize) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}

fn scalar_keeps_rules(spec: &InputSpec, kind: InputType, value: &Value) -> Result<(), Broken> {
    let is_option = |option: &Value| coerce_scalar(kind, option).is_ok_and(|option| option == *value);
    if !spec.options.is_empty() && !spec.options.iter().any(is_option) {
        let options: Vec<_> = spec.options.iter().map(text).collect();
        return Err(("option", format!("must be one of {}, got {}", options.join(", "), show(value))));
    }
    if let Some(n) = value.as_f64() {
        if let Some(min) = spec.min.filter(|min| n < *min) {
            return Err(("range", format!("must be at least {min}, got {}", show(value))));
        }
        if let Some(max) = spec.max.filter(|max| n > *max) {
            return Err(("range", format!("must be at most {max}, got {}", show(value))));
        }
    }
    match (&spec.pattern, value) {
        (Some(pattern), Value::String(text)) => match lua_pattern::found(pattern, text) {
            Ok(true) => Ok(()),
            Ok(false) => Err(("pattern", format!("must match the Lua pattern {pattern}, got {}", show(value)))),
            Err(why) => Err(("pattern", format!("cannot be checked: the Lua pattern {pattern} {why}"))),
        },
        (Some(_) | None, _) => Ok(()),
    }
}

/// What is wrong with the specification itself: rules that do not fit the type or each other, a default that breaks them.
pub fn check_spec(name: &str, spec: &InputSpec) -> Vec<InputError> {
    let mut broken: Vec<Broken> = Vec::new();
    let scalar = if spec.kind == InputType::Array { spec.items.unwrap_or(InputType::String) } else { spec.kind };
    let mut misplaced = |there: bool, key: &str, fits: bool, owner: &str| {
        if there && !fits {
            broken.push(("type", format!("has '{key}', which only {owner} can have")));
        }
    };
    misplaced(spec.min.is_some(), "min", scalar == InputType::Number, "numbers");
    misplaced(spec.max.is_some(), "max", scalar == InputType::Number, "numbers");
    misplaced(spec.pattern.is_some(), "pattern", scalar == InputType::String, "text");
    for (there, key) in [
        (spec.items.is_some(), "items"),
        (spec.min_items.is_some(), "min_items"),
        (spec.max_items.is_some(), "max_items"),
    ] {
        misplaced(there, key, spec.kind == InputType::Array, "arrays");
    }
    if spec.items == Some(InputType::Array) {
        broken.push(("type", "has items of type array; a list of lists is not possible".to_owned()));
    }
    if spec.min.zip(spec.max).is_some_and(|(min, max)| min > max) {
        broken.push(("range", "has a 'min' that is greater than its 'max'".to_owned()));
    }
    if spec.min_items.zip(spec.max_items).is_some_and(|(min, max)| min > max) {
        broken.push(("items", "has a 'min_items' that is greater than its 'max_items'".to_owned()));
    }
    if let Some(why) = spec.pattern.as_ref().and_then(|p| lua_pattern::check(p).err()) {
        broken.push(("pattern", format!("has a pattern that {why}")));
    }
    for option in &spec.options {
        if let Err((code, text)) = coerce_scalar(scalar, option) {
            broken.push((code, format!("has an option that {text}")));
        }
    }
    // A default is only worth a look once the rules it must keep make sense.
    if broken.is_empty()
        && let Some(Err((code, text))) = spec.default.as_ref().map(|d| typed(spec, d))
    {
        broken.push((code, format!("has a default that breaks its own rules: it {text}")));
    }
    broken.into_iter().map(|b| sentence(name, b)).collect()
}

/// A value's text form: `true`, `4`, `0.5`; a list's items with commas between them; anything else as JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(n) => {
            n.as_f64().filter(|_| n.is_f64()).and_then(number).unwrap_or_else(|| value.clone()).to_string()
        }
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Bool(_) | Value::Object(_) => value.to_string(),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", short(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}

/// What somebody typed, cut to what a sentence can carry, without anything a terminal would act on.
fn short(text: &str) -> String {
    let clean: String = text.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().count() > 64 { format!("{clean}…") } else { clean }
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
