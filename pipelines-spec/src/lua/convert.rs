//! From a definition's Lua table to values with places.

use super::define::Definition;
use super::places::{Constructor, Places, Shape};
use crate::problem::{Location, Problem};
use crate::protocol::Sources;
use crate::raw::{Entry, Node, Raw, Table};
use mlua::Value;
use std::collections::BTreeMap;

/// How deep a definition may nest.
const DEPTH: usize = 32;
/// How many values a definition may have in all.
const VALUES: usize = 100_000;

struct Converter<'a> {
    ancestors: Vec<*const std::ffi::c_void>,
    values: usize,
    keys: &'a BTreeMap<String, Location>,
    places: Places,
}

/// Reads the whole definition.
pub(super) fn convert(definition: &Definition, fallback: &Location, sources: &Sources) -> Result<Node, Problem> {
    let at = definition.at.clone().unwrap_or_else(|| fallback.clone());
    let places = Places::new(sources, &fallback.file);
    let mut converter = Converter { ancestors: Vec::new(), values: 0, keys: &definition.keys, places };
    let node = converter.node(&Value::Table(definition.table.clone()), String::new(), at.clone(), None);
    if converter.values > VALUES {
        let text = format!("the definition has more than {VALUES} values.");
        return Err(Problem::error("plan.too_large", text).at(at));
    }
    Ok(node)
}

impl Converter<'_> {
    fn node(&mut self, value: &Value, path: String, at: Location, expected: Option<Constructor>) -> Node {
        self.values += 1;
        let mut at = self.keys.get(&path).cloned().unwrap_or(at);
        let value = match value {
            Value::Boolean(value) => Raw::Bool(*value),
            Value::Integer(value) => Raw::Number(*value as f64),
            Value::Number(value) => Raw::Number(*value),
            Value::String(text) => match text.to_str() {
                Ok(text) => Raw::Text(text.to_owned()),
                Err(_) => Raw::Foreign("a string that is not UTF-8"),
            },
            Value::Table(table) => self.table(table, &path, &mut at, expected),
            Value::Function(_) => Raw::Function,
            Value::Thread(_) => Raw::Foreign("a coroutine"),
            Value::Buffer(_) => Raw::Foreign("a buffer"),
            Value::Vector(_) => Raw::Foreign("a vector"),
            Value::Nil | Value::LightUserData(_) | Value::UserData(_) | Value::Error(_) | Value::Other(_) => {
                Raw::Foreign("userdata")
            }
        };
        Node { value, at, path }
    }

    /// Reads a table and moves `at` to where it is written.
    fn table(&mut self, table: &mlua::Table, path: &str, at: &mut Location, expected: Option<Constructor>) -> Raw {
        if self.ancestors.contains(&table.to_pointer()) {
            return Raw::Unreadable("contains itself".into());
        }
        if self.ancestors.len() >= DEPTH {
            return Raw::Unreadable(format!("is nested more than {DEPTH} deep"));
        }
        self.ancestors.push(table.to_pointer());
        let read = split(table).and_then(|split| self.read(&split, path, at, expected));
        self.ancestors.pop();
        read.map_or_else(Raw::Unreadable, Raw::Table)
    }

    fn read(
        &mut self,
        (numbered, named): &Split,
        path: &str,
        at: &mut Location,
        expected: Option<Constructor>,
    ) -> Result<Table, String> {
        let made = self.places.find(&Shape { numbered, named }, expected, at);
        if let Some(made) = made {
            *at = self.places.open(made);
        }
        if !numbered.is_empty() && !named.is_empty() {
            return Err("mixes list items and named keys".into());
        }
        let mut result = Table::default();
        for (expected, (number, value)) in (1..).zip(numbered) {
            if *number != expected {
                return Err(format!("is a list without an item {expected}"));
            }
            if self.values > VALUES {
                break;
            }
            let place = made.and_then(|made| self.places.item(made, *number));
            let (value_at, inner) = place.unwrap_or_else(|| (at.clone(), None));
            result.items.push(self.node(value, format!("{path}[{number}]"), value_at, inner));
        }
        for (key, value) in named {
            if self.values > VALUES {
                break;
            }
            let place = made.and_then(|made| self.places.field(made, key)).or_else(|| self.places.only(key, value));
            let (key_at, value_at, inner) = match place {
                Some((key_at, value_at, inner)) => (Some(key_at), value_at, inner),
                None => (None, at.clone(), None),
            };
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let value = self.node(value, path, value_at, inner);
            result.entries.push(Entry { at: key_at.unwrap_or_else(|| value.at.clone()), key: key.clone(), value });
        }
        Ok(result)
    }
}

type Split = (BTreeMap<i64, Value>, BTreeMap<String, Value>);

fn split(table: &mlua::Table) -> Result<Split, String> {
    let (mut numbered, mut named) = Split::default();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|_| "cannot be read".to_owned())?;
        match key {
            Value::Integer(number) if number >= 1 => drop(numbered.insert(number, value)),
            Value::String(key) => match key.to_str() {
                Ok(key) => drop(named.insert(key.to_owned(), value)),
                Err(_) => return Err("has a key that is not UTF-8".into()),
            },
            other => {
                let text = match other {
                    Value::Integer(_) | Value::Number(_) => "a number that numbers no list item".into(),
                    other => super::define::article(other.type_name()),
                };
                return Err(format!("has a key that is {text}"));
            }
        }
    }
    Ok((numbered, named))
}
