//! Reading typed values out of raw ones, noting everything that is not as it should be.

use super::values::parse_duration;
use super::{Dialect, Language};
use crate::problem::{Location, Problem};
use crate::raw::{Node, Raw, Table, number_text, quoted};
use crate::suggest::nearest;
use serde_json::Value;
use std::collections::BTreeMap;

/// Everything one validation carries along.
pub(super) struct Checker<'a> {
    pub problems: Vec<Problem>,
    pub dialect: Dialect,
    pub language: &'a dyn Language,
}

/// A table whose keys are known, under the name its fields are called by.
pub(super) struct Fields<'n> {
    table: &'n Table,
    /// Where the table starts.
    pub at: &'n Location,
    prefix: String,
}

impl<'n> Fields<'n> {
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.table.get(key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// How messages call the field.
    pub fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

impl Checker<'_> {
    pub fn report(&mut self, at: &Location, code: &str, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Problem::error(code, message).at(at.clone()));
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    /// Notes that `node` is not what `name` must be.
    pub fn mismatch(&mut self, node: &Node, name: &str, expected: &str) {
        let path = container(&node.path);
        match &node.value {
            Raw::Function | Raw::Foreign(_) => {
                let what = node.describe();
                let text = format!("{path} contains {what}; only strings, numbers, booleans and tables are allowed.");
                self.report(&node.at, "plan.value", text);
            }
            Raw::Unreadable(why) => {
                let text = format!("{} {why}.", node.path);
                self.report(&node.at, "plan.value", text);
            }
            Raw::Bool(_) | Raw::Number(_) | Raw::Text(_) | Raw::Table(_) => {
                let text = format!("{name} must be {expected}, got {}.", node.describe());
                self.report(&node.at, "plan.type", text);
            }
        }
    }

    /// The fields of a table that may have the `known` keys alone. `owner` is what an unknown key is said to be in.
    pub fn fields<'n>(&mut self, node: &'n Node, name: &str, owner: &str, known: &[&str]) -> Option<Fields<'n>> {
        let Raw::Table(table) = &node.value else {
            self.mismatch(node, name, "a table");
            return None;
        };
        if !table.items.is_empty() {
            self.mismatch(node, name, "a table with named keys");
            return None;
        }
        for entry in &table.entries {
            if !known.contains(&entry.key.as_str()) {
                self.unknown_key(&entry.key, &entry.at, owner, known);
            }
        }
        Some(Fields { table, at: &node.at, prefix: String::new() })
    }

    /// [`Self::fields`] of a table inside a stage or pipeline: its fields are called `name.KEY`.
    pub fn nested<'n>(&mut self, node: &'n Node, name: &str, known: &[&str]) -> Option<Fields<'n>> {
        let mut fields = self.fields(node, name, name, known)?;
        fields.prefix = format!("{name}.");
        Some(fields)
    }

    fn unknown_key(&mut self, key: &str, at: &Location, owner: &str, known: &[&str]) {
        let message = format!("unknown key {} in {owner}.", quoted(key));
        if self.problems.len() > super::PROBLEMS_LIMIT {
            // Nobody will see it; only that it was counted.
            self.report(at, "plan.unknown_key", message);
            return;
        }
        let hint = match elsewhere(key, known).or_else(|| nearest(key, known.iter().copied())) {
            Some(near) => format!("Did you mean '{near}'?"),
            None => format!("Known keys: {}.", known.join(", ")),
        };
        self.report(at, "plan.unknown_key", message).hint = Some(hint);
    }

    pub fn text(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        let node = fields.get(key)?;
        self.text_of(node, &fields.name(key))
    }

    pub fn text_of(&mut self, node: &Node, name: &str) -> Option<String> {
        match &node.value {
            Raw::Text(text) if text.contains('\0') => {
                self.report(&node.at, "plan.value", format!("{name} contains a NUL byte."));
                None
            }
            Raw::Text(text) => Some(text.clone()),
            _ => {
                self.mismatch(node, name, "a string");
                None
            }
        }
    }

    /// A string that must be there and not be empty.
    pub fn required_text(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        let Some(node) = fields.get(key) else {
            self.report(fields.at, "plan.missing", format!("{} is missing.", fields.name(key)));
            return None;
        };
        let text = self.text_of(node, &fields.name(key))?;
        if text.is_empty() {
            self.report(&node.at, "plan.type", format!("{} must not be empty.", fields.name(key)));
            return None;
        }
        Some(text)
    }

    pub fn flag(&mut self, fields: &Fields<'_>, key: &str) -> Option<bool> {
        let node = fields.get(key)?;
        if let Raw::Bool(value) = node.value {
            return Some(value);
        }
        self.mismatch(node, &fields.name(key), "true or false");
        None
    }

    /// A finite number from `min` to `max`.
    pub fn number(&mut self, fields: &Fields<'_>, key: &str, min: f64, max: f64) -> Option<f64> {
        let node = fields.get(key)?;
        match node.value {
            Raw::Number(value) if (min..=max).contains(&value) => Some(value),
            _ => {
                let expected = if min == f64::MIN {
                    "a number".to_owned()
                } else {
                    format!("a number from {} to {}", number_text(min), number_text(max))
                };
                self.mismatch(node, &fields.name(key), &expected);
                None
            }
        }
    }

    /// A whole number from `min` to `max`.
    pub fn whole(&mut self, fields: &Fields<'_>, key: &str, min: i32, max: i32) -> Option<i32> {
        let node = fields.get(key)?;
        match node.value {
            Raw::Number(value) if value.fract() == 0.0 && (f64::from(min)..=f64::from(max)).contains(&value) => {
                Some(value as i32)
            }
            _ => {
                self.mismatch(node, &fields.name(key), &format!("a whole number from {min} to {max}"));
                None
            }
        }
    }

    pub fn count(&mut self, fields: &Fields<'_>, key: &str, min: i32, max: i32) -> Option<u32> {
        self.whole(fields, key, min, max).and_then(|value| u32::try_from(value).ok())
    }

    /// Whole seconds, as a number or as text with units.
    pub fn seconds(&mut self, fields: &Fields<'_>, key: &str, max: u32) -> Option<u64> {
        let node = fields.get(key)?;
        let value = match &node.value {
            Raw::Number(value) => Some(*value),
            Raw::Text(text) => parse_duration(text),
            _ => None,
        };
        match value {
            Some(value) if value.fract() == 0.0 && (1.0..=f64::from(max)).contains(&value) => Some(value as u64),
            _ => {
                let name = fields.name(key);
                self.mismatch(node, &name, &format!("a whole number of seconds from 1 to {max}"));
                self.hint_durations(node);
                None
            }
        }
    }

    /// Seconds that need not be whole, as a number or as text with units.
    pub fn delay(&mut self, fields: &Fields<'_>, key: &str, max: u32) -> Option<f64> {
        let node = fields.get(key)?;
        let value = match &node.value {
            Raw::Number(value) => Some(*value),
            Raw::Text(text) => parse_duration(text),
            _ => None,
        };
        match value {
            Some(value) if (0.0..=f64::from(max)).contains(&value) => Some(value),
            _ => {
                self.mismatch(node, &fields.name(key), &format!("a number of seconds from 0 to {max}"));
                self.hint_durations(node);
                None
            }
        }
    }

    fn hint_durations(&mut self, node: &Node) {
        if let (Raw::Text(_), Some(last)) = (&node.value, self.problems.last_mut()) {
            last.hint = Some("Durations are written as '90s', '20m' or '1h30m'.".into());
        }
    }

    /// The items of a list.
    pub fn list<'n>(&mut self, node: &'n Node, name: &str, expected: &str) -> Option<&'n [Node]> {
        match &node.value {
            Raw::Table(table) if table.entries.is_empty() => Some(&table.items),
            _ => {
                self.mismatch(node, name, expected);
                None
            }
        }
    }

    pub fn texts(&mut self, fields: &Fields<'_>, key: &str) -> Option<Vec<String>> {
        let node = fields.get(key)?;
        self.texts_of(node, &fields.name(key))
    }

    pub fn texts_of(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        let items = self.list(node, name, "a list of strings")?;
        Some(
            items
                .iter()
                .enumerate()
                .filter_map(|(i, item)| self.text_of(item, &format!("{name}[{}]", i + 1)))
                .collect(),
        )
    }

    /// One string, or a list of them.
    pub fn text_or_texts(&mut self, node: &Node, name: &str) -> Option<Vec<String>> {
        match &node.value {
            Raw::Text(_) => self.text_of(node, name).map(|text| vec![text]),
            Raw::Table(table) if table.entries.is_empty() => self.texts_of(node, name),
            _ => {
                self.mismatch(node, name, "a string or a list of strings");
                None
            }
        }
    }

    /// The entries of a table whose keys are names.
    pub fn entries<'n>(&mut self, node: &'n Node, name: &str) -> Option<&'n [crate::raw::Entry]> {
        match &node.value {
            Raw::Table(table) if table.items.is_empty() => Some(&table.entries),
            _ => {
                self.mismatch(node, name, "a table with named keys");
                None
            }
        }
    }

    /// A value as JSON, whatever its shape.
    pub fn json(&mut self, node: &Node, name: &str) -> Option<Value> {
        match node.to_json() {
            Ok(value) => Some(value),
            Err(culprit) => {
                self.mismatch(culprit, name, "a finite number");
                None
            }
        }
    }

    /// A string, number or bool as JSON.
    pub fn scalar(&mut self, node: &Node, name: &str) -> Option<Value> {
        if let Raw::Table(_) = node.value {
            self.mismatch(node, name, "a string, a number or true or false");
            return None;
        }
        self.json(node, name)
    }

    /// One of the `known` words.
    pub fn choice(&mut self, node: &Node, name: &str, known: &[&str]) -> Option<String> {
        let text = self.text_of(node, name)?;
        if known.contains(&text.as_str()) {
            return Some(text);
        }
        let message = format!("{name} must be one of {}, got {}.", known.join(", "), quoted(&text));
        let hint = nearest(&text, known.iter().copied()).map(|near| format!("Did you mean '{near}'?"));
        self.report(&node.at, "plan.type", message).hint = hint;
        None
    }

    /// Environment variables: names, sizes and values as text.
    pub fn env(&mut self, fields: &Fields<'_>, key: &str) -> BTreeMap<String, String> {
        const VARIABLES: usize = 128;
        const VALUE: usize = 32 << 10;
        const TOTAL: usize = 256 << 10;
        let mut env = BTreeMap::new();
        let Some(node) = fields.get(key) else { return env };
        let name = fields.name(key);
        let Some(entries) = self.entries(node, &name) else { return env };
        if entries.len() > VARIABLES {
            self.report(
                &node.at,
                "plan.env",
                format!("{name} has {} variables; the limit is {VARIABLES}.", entries.len()),
            );
        }
        for entry in entries {
            if !super::values::is_variable(&entry.key) {
                let text = format!("variable name {} must match [A-Za-z_][A-Za-z0-9_]*.", quoted(&entry.key));
                self.report(&entry.at, "plan.name", text);
            }
            let value = match &entry.value.value {
                Raw::Bool(value) => Some(value.to_string()),
                Raw::Number(value) if value.is_finite() => Some(number_text(*value)),
                _ => self.text_of(&entry.value, &format!("{name}.{}", entry.key)),
            };
            let Some(value) = value else { continue };
            if value.len() > VALUE {
                let text = format!("{name}.{} is {} bytes; the limit is {VALUE}.", entry.key, value.len());
                self.report(&entry.value.at, "plan.env", text);
            }
            env.insert(entry.key.clone(), value);
        }
        let total: usize = env.iter().map(|(key, value)| key.len() + value.len()).sum();
        if total > TOTAL {
            self.report(&node.at, "plan.env", format!("{name} is {total} bytes; the limit is {TOTAL}."));
        }
        env
    }
}

/// What other tools, or our other language, call by the name `key`.
fn elsewhere(key: &str, known: &[&str]) -> Option<&'static str> {
    const NAMES: &[(&str, &str)] = &[
        ("stages", "steps"),
        ("steps", "stages"),
        ("jobs", "steps"),
        ("jobs", "stages"),
        ("condition", "if"),
        ("if", "condition"),
        ("when", "if"),
        ("when", "condition"),
        ("script", "run"),
        ("steps", "run"),
        ("commands", "run"),
        ("needs", "depends_on"),
        ("image", "container"),
        ("triggers", "on"),
        ("parameters", "inputs"),
        ("variables", "env"),
        ("labels", "runner"),
        ("runs_on", "runner"),
    ];
    NAMES.iter().find(|(theirs, ours)| *theirs == key && known.contains(ours)).map(|(_, ours)| *ours)
}

/// The path of the setting that `path` is inside of: `stages[2].env` for `stages[2].env.A`.
fn container(path: &str) -> String {
    let mut parts = path.split('.');
    let first = parts.next().unwrap_or_default();
    match parts.next() {
        Some(second) if first.contains('[') || first == "steps" || first == "inputs" || first == "on" => {
            let third = parts.next().filter(|_| first == "steps");
            let second = second.split('[').next().unwrap_or(second);
            third.map_or(format!("{first}.{second}"), |third| format!("{first}.{second}.{third}"))
        }
        _ => first.split('[').next().unwrap_or(first).to_owned(),
    }
}
