//! Typed inputs, and whether what starts the pipeline can give them.

use super::checker::{Checker, Fields};
use super::values::is_identifier;
use crate::inputs::{check_spec, typed};
use crate::plan::{InputSpec, InputType};
use crate::problem::Location;
use crate::raw::{Node, quoted};
use crate::trigger::Triggers;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const KEYS: &[&str] = &[
    "type",
    "items",
    "description",
    "default",
    "required",
    "options",
    "min",
    "max",
    "pattern",
    "min_items",
    "max_items",
    "validate",
    "secret",
];

pub(super) fn inputs(c: &mut Checker<'_>, node: &Node) -> BTreeMap<String, InputSpec> {
    let mut inputs = BTreeMap::new();
    let Some(entries) = c.entries(node, "inputs") else { return inputs };
    for entry in entries {
        if !is_identifier(&entry.key) {
            let text = format!("input name {} must match [A-Za-z_][A-Za-z0-9_-]{{0,62}}.", quoted(&entry.key));
            c.report(&entry.at, "plan.name", text);
        }
        if let Some(spec) = c.input(&entry.value, &entry.key) {
            inputs.insert(entry.key.clone(), spec);
        }
    }
    inputs
}

impl Checker<'_> {
    fn input(&mut self, node: &Node, name: &str) -> Option<InputSpec> {
        let owner = format!("input '{name}'");
        let fields = self.fields(node, &owner, &owner, KEYS)?;
        let Some(kind_node) = fields.get("type") else {
            self.report(fields.at, "plan.missing", format!("{owner} has no type."));
            return None;
        };
        let kind: InputType = self.choice(kind_node, "type", &["string", "number", "bool", "array"])?.parse().ok()?;
        let items = fields.get("items").and_then(|node| self.choice(node, "items", &["string", "number", "bool"]));
        let validate = fields.get("validate").is_some_and(|node| {
            if !node.is_function() {
                self.mismatch(node, "validate", "a function");
            }
            node.is_function()
        });
        let default = fields.get("default").and_then(|node| self.json(node, "default"));
        let spec = InputSpec {
            kind,
            items: items.and_then(|items| items.parse().ok()),
            description: self.text(&fields, "description"),
            required: self.flag(&fields, "required").unwrap_or(!fields.has("default")),
            default: default.map(|value| as_list(value, kind)),
            options: self.options(&fields),
            min: self.number(&fields, "min", f64::MIN, f64::MAX),
            max: self.number(&fields, "max", f64::MIN, f64::MAX),
            pattern: self.text(&fields, "pattern"),
            min_items: self.count(&fields, "min_items", 0, 10_000),
            max_items: self.count(&fields, "max_items", 0, 10_000),
            validate,
            secret: self.flag(&fields, "secret").unwrap_or(false),
        };
        self.check_rules(&fields, name, &spec);
        Some(spec)
    }

    fn options(&mut self, fields: &Fields<'_>) -> Vec<Value> {
        let Some(node) = fields.get("options") else { return Vec::new() };
        let Some(items) = self.list(node, "options", "a list of values") else { return Vec::new() };
        if items.is_empty() {
            self.report(&node.at, "plan.type", "options must have at least one value.");
        }
        items.iter().filter_map(|item| self.scalar(item, "options")).collect()
    }

    /// Whether the rules fit the type and each other, and the default keeps them.
    fn check_rules(&mut self, fields: &Fields<'_>, name: &str, spec: &InputSpec) {
        if let (Some(default), Some(node)) = (&spec.default, fields.get("default"))
            && !is_a(default, spec.kind)
        {
            let text = format!("the default of input '{name}' must be of type {}, got {}.", spec.kind, node.describe());
            self.report(&node.at, "plan.default", text);
            return;
        }
        for error in check_spec(name, spec) {
            let (code, key) = match error.detail.as_str() {
                text if text.contains(" has a default ") => ("plan.default", "default"),
                text if text.contains(" has an option ") => ("plan.type", "options"),
                text if text.contains(" has a pattern ") => ("plan.pattern", "pattern"),
                // The first word in quotes after the input's name is the key that does not fit.
                text => ("plan.conflict", text.split('\'').nth(3).unwrap_or("type")),
            };
            let at = fields.get(key).map_or(fields.at, |node| &node.at);
            self.report(at, code, format!("{}.", error.detail));
        }
    }
}

/// Lua's `{}` is a map to JSON, and an empty list to whoever wrote it.
fn as_list(value: Value, kind: InputType) -> Value {
    match value {
        Value::Object(map) if map.is_empty() && kind == InputType::Array => Value::Array(Vec::new()),
        value => value,
    }
}

fn is_a(value: &Value, kind: InputType) -> bool {
    match kind {
        InputType::String => value.is_string(),
        InputType::Number => value.is_number(),
        InputType::Bool => value.is_boolean(),
        InputType::Array => value.is_array(),
    }
}

/// A required input without a default must not meet a trigger that has nobody to ask; a schedule's inputs must exist.
pub(super) fn check_triggers(
    c: &mut Checker<'_>,
    fields: &Fields<'_>,
    on: &Triggers,
    inputs: &BTreeMap<String, InputSpec>,
) {
    let silent = *on == Triggers::default();
    let by_itself = [
        ("a push", on.push.is_some() || silent),
        ("a pull request", on.pull_request.is_some()),
        ("a comment", !on.comment.is_empty()),
        ("a merge queue", on.merge_group.is_some()),
        ("a repository_dispatch", on.repository_dispatch.is_some()),
    ];
    let starter = by_itself.iter().find(|(_, starts)| *starts).map(|(what, _)| *what);
    for (name, _) in inputs.iter().filter(|(_, spec)| spec.required && spec.default.is_none()) {
        let unfed = on.schedule.iter().any(|schedule| !schedule.inputs.contains_key(name));
        let Some(starter) = starter.or(unfed.then_some("a schedule")) else { continue };
        let at =
            fields.get("inputs").and_then(|node| node.table()?.entries.iter().find(|e| e.key == *name).map(|e| &e.at));
        let text = format!(
            "input '{name}' is required and has no default, but {starter} starts the pipeline with nobody to ask."
        );
        c.report(at.unwrap_or(fields.at), "plan.required_input", text).hint =
            Some("Give it a default, or set required = false.".into());
    }
    let Some(schedules) = fields.get("on").and_then(|node| node.table()?.get("schedule")) else { return };
    for (i, schedule) in on.schedule.iter().enumerate() {
        for (name, value) in &schedule.inputs {
            let at = schedule_place(schedules, i, name);
            let Some(spec) = inputs.get(name) else {
                let hint = crate::suggest::nearest(name, inputs.keys().map(String::as_str));
                let text = format!("the schedule gives input {}, which does not exist.", quoted(name));
                c.report(&at, "plan.unknown_input", text).hint = hint.map(|near| format!("Did you mean '{near}'?"));
                continue;
            };
            if let Err((_, why)) = typed(spec, value) {
                c.report(&at, "plan.default", format!("the schedule's value of input '{name}' {why}."));
            }
        }
    }
}

fn schedule_place(schedules: &Node, index: usize, name: &str) -> Location {
    let table = schedules.table().and_then(|table| table.items.get(index)).unwrap_or(schedules);
    let inputs = table.table().and_then(|table| table.get("inputs"));
    inputs.and_then(|node| node.table()?.get(name)).map_or_else(|| table.at.clone(), |node| node.at.clone())
}
