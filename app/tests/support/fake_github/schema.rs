//! Checks every request against GitHub's own `OpenAPI` description: a call GitHub does not offer, a query it does not know
//! or a body it would refuse is a violation, and fails the test at its end.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// GitHub's description and the compiled schemas of bodies.
pub struct Schema {
    spec: Value,
    bodies: Mutex<HashMap<String, Arc<jsonschema::Validator>>>,
    /// Which template a path of this shape is of.
    shapes: Mutex<HashMap<String, Option<String>>>,
}

impl Schema {
    pub fn load() -> Self {
        let text = include_str!("../../fixtures/github/rest-api.openapi.json");
        Self { spec: serde_json::from_str(text).unwrap(), bodies: Mutex::default(), shapes: Mutex::default() }
    }

    /// Everything that is wrong with a request.
    pub fn problems(&self, method: &str, path: &str, query: &[(String, String)], body: &Value) -> Vec<String> {
        let what = format!("{method} {path}");
        let Some((template, operation)) = self.operation(method, path) else {
            return vec![format!("{what}: GitHub has no such call")];
        };
        let mut problems = vec![];
        let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
        let parameters: Vec<&Value> = parameters.into_iter().map(|p| self.resolved(p)).collect();
        for (name, value) in query {
            match parameters.iter().find(|p| p["in"] == "query" && p["name"] == name.as_str()) {
                None => problems.push(format!("{what}: unknown query '{name}'")),
                Some(parameter) => {
                    let schema = self.resolved(&parameter["schema"]);
                    let fits = match schema["type"].as_str() {
                        Some("integer") => value.parse::<i64>().is_ok(),
                        Some("boolean") => value.parse::<bool>().is_ok(),
                        _ => schema["enum"].as_array().is_none_or(|all| all.iter().any(|v| v == value.as_str())),
                    };
                    if !fits {
                        problems.push(format!("{what}: query {name}={value} does not fit"));
                    }
                }
            }
        }
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if !schema.is_null() {
            problems.extend(self.body_problems(&format!("{method} {template}"), schema, body));
        }
        problems
    }

    /// Whether an App can be given this permission.
    pub fn is_permission(&self, name: &str, access: &str) -> bool {
        let known = &self.spec["components"]["schemas"]["app-permissions"]["properties"][name]["enum"];
        known.as_array().is_some_and(|all| all.iter().any(|one| one == access))
    }

    fn body_problems(&self, operation: &str, schema: &Value, body: &Value) -> Vec<String> {
        let validator = {
            let mut bodies = self.bodies.lock().unwrap();
            let compile = || {
                let whole = json!({ "allOf": [schema], "components": self.spec["components"] });
                Arc::new(jsonschema::draft4::new(&whole).unwrap())
            };
            bodies.entry(operation.to_owned()).or_insert_with(compile).clone()
        };
        let mut problems: Vec<String> =
            validator.iter_errors(body).map(|e| format!("{operation}: body{}: {e}", e.instance_path())).collect();
        // The description allows unknown fields; a field GitHub would silently drop is a mistake of ours.
        let known = &self.resolved(schema)["properties"];
        for name in body.as_object().into_iter().flatten().map(|(name, _)| name) {
            if known[name.as_str()].is_null() {
                problems.push(format!("{operation}: unknown field '{name}'"));
            }
        }
        problems
    }

    fn operation(&self, method: &str, path: &str) -> Option<(String, &Value)> {
        let method = method.to_lowercase();
        let shape = format!("{method} {}", shape(path));
        let known = self.shapes.lock().unwrap().get(&shape).cloned();
        let template = match known {
            Some(known) => known,
            None => {
                let found = self.template(&method, path);
                self.shapes.lock().unwrap().insert(shape, found.clone());
                found
            }
        }?;
        let operation = &self.spec["paths"][&template][&method];
        Some((template, operation))
    }

    fn template(&self, method: &str, path: &str) -> Option<String> {
        let paths = self.spec["paths"].as_object()?;
        let fitting = paths.iter().filter(|(template, item)| item[method].is_object() && fits(template, path));
        // The one that leaves the least open is meant.
        let best = fitting.min_by_key(|(t, _)| (t.matches('{').count(), std::cmp::Reverse(t.len())));
        best.map(|(template, _)| template.clone())
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
            Some(pointer) => self.spec.pointer(pointer).unwrap(),
            None => value,
        }
    }
}

/// A path with what certainly is a value left out: numbers, ids of commits, owner and name.
fn shape(path: &str) -> String {
    let of_repo = path.starts_with("/repos/");
    let parts = path.split('/').enumerate().map(|(place, part)| match part {
        "" => "",
        _ if of_repo && matches!(place, 2 | 3) => "*",
        _ if part.bytes().all(|byte| byte.is_ascii_digit()) => "*",
        _ if part.len() == 40 && part.bytes().all(|byte| byte.is_ascii_hexdigit()) => "*",
        _ => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Whether a path is one of a template's. Only a ref may hold slashes.
fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/').peekable(), path.split('/').peekable());
    while let Some(part) = wanted.next() {
        match part {
            "{ref}" | "{path}" if wanted.peek().is_none() => return given.peek().is_some_and(|g| !g.is_empty()),
            _ if part.starts_with('{') => {
                if given.next().is_none_or(str::is_empty) {
                    return false;
                }
            }
            _ => {
                if given.next() != Some(part) {
                    return false;
                }
            }
        }
    }
    given.next().is_none()
}
