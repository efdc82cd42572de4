//! What both front ends hand to the validation: values as written, each with its place. Here nothing means anything yet.

use crate::problem::Location;
use serde_json::{Map, Value};

/// A value as written.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub value: Raw,
    /// Where the value is.
    pub at: Location,
    /// How one gets to it from the top: `stages[2].env`.
    pub path: String,
}

/// The kinds of values there are.
#[derive(Debug, Clone)]
pub(crate) enum Raw {
    Bool(bool),
    Number(f64),
    Text(String),
    Table(Table),
    /// A Lua function.
    Function,
    /// Something no definition may hold, said with its article: `a coroutine`.
    Foreign(&'static str),
    /// A table that cannot be read: the sentence that says why, after its path.
    Unreadable(String),
}

/// A list, a map, or (as only Lua's `{}`) an empty table that may be either.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub items: Vec<Node>,
    pub entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub key: String,
    pub at: Location,
    pub value: Node,
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.entries.is_empty()
    }
}

impl Node {
    pub fn table(&self) -> Option<&Table> {
        match &self.value {
            Raw::Table(table) => Some(table),
            _ => None,
        }
    }

    pub fn is_function(&self) -> bool {
        matches!(self.value, Raw::Function)
    }

    /// What it is, for "got …".
    pub fn describe(&self) -> String {
        match &self.value {
            Raw::Bool(value) => value.to_string(),
            Raw::Number(value) => number_text(*value),
            Raw::Text(text) => quoted(text),
            Raw::Table(table) if table.is_empty() => "an empty table".into(),
            Raw::Table(table) if table.entries.is_empty() => "a list".into(),
            Raw::Table(_) | Raw::Unreadable(_) => "a table".into(),
            Raw::Function => "a function".into(),
            Raw::Foreign(what) => (*what).into(),
        }
    }

    /// The same as JSON, or the first node that JSON cannot hold.
    pub fn to_json(&self) -> Result<Value, &Node> {
        match &self.value {
            Raw::Bool(value) => Ok(Value::Bool(*value)),
            Raw::Number(value) if value.is_finite() => Ok(number_json(*value)),
            Raw::Text(text) => Ok(Value::String(text.clone())),
            Raw::Table(table) if table.entries.is_empty() => {
                table.items.iter().map(Node::to_json).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            Raw::Table(table) => {
                let pairs = table.entries.iter().map(|e| Ok((e.key.clone(), e.value.to_json()?)));
                pairs.collect::<Result<Map<_, _>, _>>().map(Value::Object)
            }
            Raw::Number(_) | Raw::Function | Raw::Foreign(_) | Raw::Unreadable(_) => Err(self),
        }
    }
}

/// `'text'`, cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    if text.chars().count() <= 80 {
        return format!("'{text}'");
    }
    format!("'{}…'", text.chars().take(79).collect::<String>())
}

/// A number as one writes it: `4`, `0.5`, `nan`.
pub(crate) fn number_text(value: f64) -> String {
    if value.is_nan() {
        "nan".into()
    } else if value.abs() >= 1e16 && value.is_finite() {
        format!("{value:e}")
    } else {
        value.to_string()
    }
}

/// A number as JSON: whole ones without a fraction.
pub(crate) fn number_json(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT { Value::from(value as i64) } else { Value::from(value) }
}
