//! The JSON Schema of the TOML format, for editors: made from the table that describes the language, so that a key that is
//! added there completes everywhere.

use crate::cats::{Type, parse};
use crate::lua::modules::{CLASSES, Class, Field};
use serde_json::{Map, Value, json};

/// Where the schema is published.
pub const ID: &str = "https://rivet-ci.dev/schemas/pipeline.json";
const STAGE_NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$";
const INPUT_NAME: &str = "^[A-Za-z_][A-Za-z0-9_-]{0,62}$";
const DURATION: &str = "^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d))+$";

/// The schema of `.rivet/*.toml` (JSON Schema, draft 2020-12). Strict: a key it does not know is an error.
pub fn pipeline_schema() -> Value {
    let mut definitions = Map::new();
    for class in CLASSES.iter().filter(|class| is_written(class)) {
        definitions.insert(short(class.name), class_schema(class));
    }
    definitions.insert(
        "Duration".into(),
        json!({
            "description": "A time span: seconds, or text such as \"5s\", \"20m\", \"1h30m\", \"2d\".",
            "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": DURATION }],
        }),
    );
    let mut root = toml_root(definitions.remove("Definition").unwrap_or_default());
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["$id"] = ID.into();
    root["title"] = "Rivet pipeline".into();
    root["$defs"] = Value::Object(definitions);
    root
}

/// The schema as the file in the repository holds it.
pub fn pipeline_schema_text() -> String {
    format!("{:#}\n", pipeline_schema())
}

/// Classes people write into a definition; the others are what scripts are handed.
fn is_written(class: &Class) -> bool {
    matches!(
        short(class.name).as_str(),
        "Definition"
            | "Stage"
            | "Triggers"
            | "Schedule"
            | "CommentTrigger"
            | "Concurrency"
            | "Input"
            | "Label"
            | "Matrix"
            | "Retry"
            | "Backoff"
            | "Approval"
            | "Rollback"
            | "Service"
            | "Ready"
    )
}

fn short(name: &str) -> String {
    name.strip_prefix("rivet.").unwrap_or(name).to_owned()
}

/// In TOML the stages are a table by name, called steps, and the file may say which version of the format it is.
fn toml_root(mut root: Value) -> Value {
    let steps = json!({
        "description": "The steps by name; one without `depends_on` starts at once.",
        "type": "object", "minProperties": 1, "propertyNames": { "pattern": STAGE_NAME },
        "additionalProperties": { "$ref": "#/$defs/Stage" },
    });
    if let Some(properties) = root["properties"].as_object_mut() {
        properties.remove("stages");
        properties.insert("steps".into(), steps);
        properties.insert("version".into(), json!({ "description": "The format's version.", "const": 1 }));
    }
    root["properties"]["inputs"]["propertyNames"] = json!({ "pattern": INPUT_NAME });
    root["required"] = json!(["steps"]);
    root
}

fn class_schema(class: &Class) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut others = Value::Bool(false);
    for field in class.fields {
        let Some(schema) = field_schema(class, field) else { continue };
        if field.name.starts_with('[') {
            others = schema;
            continue;
        }
        let name = toml_name(class, field.name);
        if !field.optional && name != "name" {
            required.push(Value::from(name));
        }
        properties.insert(name.to_owned(), schema);
    }
    if class.name == "rivet.Stage" {
        properties.remove("name");
    }
    let mut schema = json!({
        "description": class.doc, "type": "object", "properties": properties, "additionalProperties": others,
    });
    if !required.is_empty() {
        schema["required"] = Value::Array(required);
    }
    if class.name == "rivet.Stage" {
        schema["oneOf"] = json!([{ "required": ["run"] }, { "required": ["pipeline"] }]);
    }
    if class.name == "rivet.Rollback" {
        schema["required"] = json!(["run"]);
    }
    schema
}

/// `if` is a word of Lua, so Lua calls it `condition`.
fn toml_name<'a>(class: &Class, name: &'a str) -> &'a str {
    if class.name == "rivet.Stage" && name == "condition" { "if" } else { name }
}

/// A field's schema; `None` where only Lua can have it.
fn field_schema(class: &Class, field: &Field) -> Option<Value> {
    // Every type of the table can be read; a test holds it to that.
    let mut schema = type_schema(&parse(field.kind)?)?;
    refine(class, field.name, &mut schema);
    let described = schema.as_object_mut()?;
    described.insert("description".into(), field.doc.into());
    Some(schema)
}

/// What a type alone does not say.
fn refine(class: &Class, name: &str, schema: &mut Value) {
    let bounds = match (class.name, name) {
        ("rivet.Retry", "max_attempts") => json!({ "minimum": 1, "maximum": 100 }),
        ("rivet.Matrix", "max_parallel") | ("rivet.Approval", "count") => json!({ "minimum": 1 }),
        ("rivet.Input", "min_items" | "max_items") => json!({ "minimum": 0 }),
        ("rivet.Backoff", "factor") => json!({ "minimum": 1 }),
        ("rivet.Backoff", "jitter") => json!({ "minimum": 0, "maximum": 1 }),
        ("rivet.CommentTrigger", "command") => json!({ "pattern": "^/[a-z0-9_-]+$" }),
        _ => return,
    };
    if let (Some(schema), Value::Object(bounds)) = (schema.as_object_mut(), bounds) {
        schema.extend(bounds);
    }
}

fn type_schema(kind: &Type) -> Option<Value> {
    Some(match kind {
        Type::Function => return None,
        Type::Literal(text) => json!({ "const": text }),
        Type::List(item) => json!({ "type": "array", "items": type_schema(item)? }),
        Type::Map(value) => json!({ "type": "object", "additionalProperties": type_schema(value)? }),
        Type::Name(name) => match name.as_str() {
            "any" => json!({}),
            "nil" => return None,
            "string" | "number" | "integer" | "boolean" => json!({ "type": name }),
            class => json!({ "$ref": format!("#/$defs/{}", short(class)) }),
        },
        Type::Shape(fields) => shape(fields)?,
        Type::Union(members) => union(members)?,
    })
}

fn shape(fields: &[(String, bool, Type)]) -> Option<Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, optional, kind) in fields {
        properties.insert(name.clone(), type_schema(kind)?);
        if !optional {
            required.push(name.clone());
        }
    }
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    Some(schema)
}

/// What is left of a union without what only Lua has.
fn union(members: &[Type]) -> Option<Value> {
    let literals: Vec<&String> = members
        .iter()
        .filter_map(|m| match m {
            Type::Literal(text) => Some(text),
            _ => None,
        })
        .collect();
    if literals.len() == members.len() {
        return Some(json!({ "enum": literals }));
    }
    let mut schemas: Vec<Value> = members.iter().filter_map(type_schema).collect();
    match schemas.len() {
        0 | 1 => schemas.pop(),
        _ => Some(json!({ "anyOf": schemas })),
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
