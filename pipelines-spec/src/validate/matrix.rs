//! The axes a stage is multiplied by.

use super::Dialect;
use super::checker::Checker;
use super::values::is_identifier;
use crate::matrix::{fixed_axes, legs};
use crate::plan::{Axis, Matrix};
use crate::raw::{Node, quoted};
use serde_json::Value;
use std::collections::BTreeMap;

impl Checker<'_> {
    pub(super) fn matrix(&mut self, node: &Node, stage: &str) -> Option<Matrix> {
        let problems = self.problems.len();
        let entries = self.entries(node, "matrix")?;
        let mut matrix = Matrix {
            axes: BTreeMap::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            max_parallel: None,
            fail_fast: true,
        };
        let known: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let fields = self.nested(node, "matrix", &known)?;
        for entry in entries {
            match entry.key.as_str() {
                "include" => matrix.include = self.legs(&entry.value, "matrix.include"),
                "exclude" => matrix.exclude = self.legs(&entry.value, "matrix.exclude"),
                "max_parallel" => matrix.max_parallel = self.count(&fields, "max_parallel", 1, 256),
                "fail_fast" => matrix.fail_fast = self.flag(&fields, "fail_fast").unwrap_or(true),
                axis => {
                    if !is_identifier(axis) {
                        let text = format!("axis name {} must match [A-Za-z_][A-Za-z0-9_-]{{0,62}}.", quoted(axis));
                        self.report(&entry.at, "plan.name", text);
                    }
                    if let Some(values) = self.axis(&entry.value, &format!("matrix.{axis}")) {
                        matrix.axes.insert(axis.to_owned(), values);
                    }
                }
            }
        }
        self.check_excludes(node, &matrix);
        if self.problems.len() == problems {
            self.count_legs(node, stage, &matrix);
        }
        Some(matrix)
    }

    /// Whether the legs that are known already can be made.
    fn count_legs(&mut self, node: &Node, stage: &str, matrix: &Matrix) {
        let Some(axes) = fixed_axes(matrix) else { return };
        match legs(stage, &axes, matrix) {
            Ok(legs) if legs.is_empty() => {
                self.report(&node.at, "plan.missing", format!("the matrix of stage '{stage}' makes no legs."));
            }
            Ok(_) => {}
            Err(why) if why.contains("the limit is") => {
                self.report(&node.at, "plan.too_many_stages", why);
            }
            Err(why) => {
                self.report(&node.at, "plan.matrix", why);
            }
        }
    }

    fn axis(&mut self, node: &Node, name: &str) -> Option<Axis> {
        if node.is_function() && self.dialect == Dialect::Lua {
            return Some(Axis::Function);
        }
        let expected = match self.dialect {
            Dialect::Lua => "a list of values or a function",
            Dialect::Toml => "a list of values",
        };
        let items = self.list(node, name, expected)?;
        if items.is_empty() {
            self.report(&node.at, "plan.type", format!("{name} must have at least one value."));
        }
        let named = items.iter().enumerate().map(|(i, item)| (format!("{name}[{}]", i + 1), item));
        let mut values: Vec<Value> = Vec::new();
        for (name, item) in named {
            let Some(value) = self.scalar(item, &name) else { continue };
            if values.contains(&value) {
                self.report(&item.at, "plan.duplicate", format!("{name} repeats the value {value}."));
            }
            values.push(value);
        }
        Some(Axis::Values { values })
    }

    fn legs(&mut self, node: &Node, name: &str) -> Vec<BTreeMap<String, Value>> {
        let Some(items) = self.list(node, name, "a list of tables") else { return Vec::new() };
        let mut legs = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let name = format!("{name}[{}]", i + 1);
            let Some(entries) = self.entries(item, &name) else { continue };
            let pairs = entries.iter().filter_map(|entry| {
                Some((entry.key.clone(), self.scalar(&entry.value, &format!("{name}.{}", entry.key))?))
            });
            legs.push(pairs.collect());
        }
        legs
    }

    fn check_excludes(&mut self, node: &Node, matrix: &Matrix) {
        let Some(list) = node.table().and_then(|t| t.get("exclude")).and_then(Node::table) else { return };
        let axes: Vec<&str> = matrix.axes.keys().map(String::as_str).collect();
        for item in &list.items {
            for entry in item.table().map(|table| table.entries.as_slice()).unwrap_or_default() {
                if !axes.contains(&entry.key.as_str()) {
                    let hint = crate::suggest::nearest(&entry.key, axes.iter().copied());
                    let hint = hint.map(|near| format!("Did you mean '{near}'?"));
                    let text = format!("matrix.exclude names the axis {}, which does not exist.", quoted(&entry.key));
                    self.report(&entry.at, "plan.unknown_key", text).hint = hint;
                }
            }
        }
    }
}
