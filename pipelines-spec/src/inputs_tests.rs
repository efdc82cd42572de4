//! Launches of the example pipeline: what people give, and what they get or are told.

#![expect(clippy::needless_pass_by_value, reason = "tests write their JSON in place")]

use super::*;
use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::json;

/// The inputs of the language's own example.
fn example() -> BTreeMap<String, InputSpec> {
    let spec = json!({
        "branch": { "type": "string", "default": "main", "required": false },
        "parallel_jobs": { "type": "number", "default": 4, "options": [1, 2, 4, 8, 16], "required": false },
        "skip_tests": { "type": "bool", "default": false, "required": false },
        "targets": { "type": "array", "items": "string", "default": ["x86_64"], "min_items": 1, "required": false },
        "version": { "type": "string", "pattern": "^v%d+%.%d+$", "required": false },
        "replicas": { "type": "number", "required": false, "min": 1, "max": 20, "validate": true },
    });
    serde_json::from_value(spec).unwrap()
}

fn launch(spec: &BTreeMap<String, InputSpec>, given: Value) -> String {
    let given = given.as_object().unwrap().clone();
    match parse(spec, &given) {
        Ok(values) => Value::Object(values).to_string(),
        Err(errors) => {
            errors.iter().map(|e| format!("{} {}: {}", e.field, e.code, e.detail)).collect::<Vec<_>>().join("\n")
        }
    }
}

fn one(spec: Value) -> BTreeMap<String, InputSpec> {
    let mut spec = spec;
    let map = spec.as_object_mut().unwrap();
    map.entry("required").or_insert(json!(true));
    BTreeMap::from([("x".to_owned(), serde_json::from_value(spec).unwrap())])
}

#[test]
fn defaults_fill_in_and_optional_inputs_stay_away() {
    assert_snapshot!(launch(&example(), json!({})), @r#"{"branch":"main","parallel_jobs":4,"skip_tests":false,"targets":["x86_64"]}"#);
}

#[test]
fn text_becomes_typed_values() {
    let given = json!({
        "parallel_jobs": "8", "skip_tests": "YES", "targets": "x86_64, aarch64", "version": "v1.2", "replicas": "3",
    });
    assert_snapshot!(launch(&example(), given), @r#"{"branch":"main","parallel_jobs":8,"replicas":3,"skip_tests":true,"targets":["x86_64","aarch64"],"version":"v1.2"}"#);
    let given = json!({ "targets": "[\"a,b\", \"c\"]", "branch": 7, "skip_tests": 0, "parallel_jobs": 16.0 });
    assert_snapshot!(launch(&example(), given), @r#"{"branch":"7","parallel_jobs":16,"skip_tests":false,"targets":["a,b","c"]}"#);
}

#[test]
fn everything_wrong_is_told_together() {
    let given = json!({
        "jobs": 4, "parallel_jobs": 3, "skip_tests": "maybe", "targets": "", "version": "1.2", "replicas": 21, "branch": ["a"],
    });
    assert_snapshot!(launch(&example(), given), @"
    jobs input.unknown: there is no input 'jobs'; did you mean 'parallel_jobs'?
    branch input.type: input 'branch' must be text, got a list
    parallel_jobs input.option: input 'parallel_jobs' must be one of 1, 2, 4, 8, 16, got 3
    replicas input.range: input 'replicas' must be at most 20, got 21
    skip_tests input.type: input 'skip_tests' must be true or false (yes/no, 1/0, on/off), got 'maybe'
    targets input.items: input 'targets' has 0 items; at least 1 are needed
    version input.pattern: input 'version' must match the Lua pattern ^v%d+%.%d+$, got '1.2'
    ");
    assert_snapshot!(launch(&one(json!({ "type": "string" })), json!({ "x": null })), @"x input.required: input 'x' is required");
    assert_snapshot!(launch(&BTreeMap::new(), json!({ "x": 1 })), @"x input.unknown: there is no input 'x'; the pipeline takes no inputs");
}

#[test]
fn numbers_are_finite_decimals() {
    let spec = one(json!({ "type": "number" }));
    for (given, expected) in [("0.5", "0.5"), (" 7 ", "7"), ("-3", "-3"), ("1e3", "1000"), ("2.0", "2")] {
        assert_eq!(launch(&spec, json!({ "x": given })), format!("{{\"x\":{expected}}}"));
    }
    for bad in ["", "inf", "nan", "0x10", "1e999", "1,5", "four"] {
        assert!(launch(&spec, json!({ "x": bad })).contains("input.type"), "{bad}");
    }
}

#[test]
fn items_of_a_list_keep_the_rules_one_by_one() {
    let spec = one(json!({ "type": "array", "items": "number", "min": 1, "max_items": 2 }));
    assert_snapshot!(launch(&spec, json!({ "x": "1,x" })), @"x input.type: input 'x' has an item 2 that must be a number, got 'x'");
    assert_snapshot!(launch(&spec, json!({ "x": [1, 0] })), @"x input.range: input 'x' has an item 2 that must be at least 1, got 0");
    assert_snapshot!(launch(&spec, json!({ "x": [1, 2, 3] })), @"x input.items: input 'x' has 3 items; at most 2 are allowed");
    assert_snapshot!(launch(&spec, json!({ "x": "[1" })), @"x input.type: input 'x' must be a list: what begins with '[' is read as JSON, and EOF while parsing a list at line 1 column 2");
}

#[test]
fn a_secret_is_in_no_message() {
    let spec = one(json!({ "type": "string", "secret": true, "pattern": "^k%d+$" }));
    assert_snapshot!(launch(&spec, json!({ "x": "hunter2" })), @"x input.pattern: input 'x' does not keep the rules of the definition");
    let spec = one(json!({ "type": "number", "secret": true }));
    assert_snapshot!(launch(&spec, json!({ "x": "hunter2" })), @"x input.type: input 'x' must be of type number");
}

#[test]
fn what_no_process_could_be_given_is_refused() {
    let spec = one(json!({ "type": "string" }));
    assert_snapshot!(launch(&spec, json!({ "x": "a\0b" })), @"x input.type: input 'x' must be text without NUL bytes");
    assert_snapshot!(launch(&spec, json!({ "x": "x".repeat(70_000) })), @"x input.too_long: input 'x' has 70000 bytes; the limit is 65536");
}

#[test]
fn a_specification_must_make_sense() {
    let said = |spec: Value| {
        let spec = one(spec);
        check_spec("x", &spec["x"]).iter().map(|e| e.detail.clone()).collect::<Vec<_>>().join("\n")
    };
    for (name, spec) in example() {
        assert_eq!(check_spec(&name, &spec), vec![]);
    }
    assert_snapshot!(said(json!({ "type": "number", "default": 3, "options": [1, 2] })), @"input 'x' has a default that breaks its own rules: it must be one of 1, 2, got 3");
    assert_snapshot!(said(json!({ "type": "string", "min": 2, "items": "string" })), @"
    input 'x' has 'min', which only numbers can have
    input 'x' has 'items', which only arrays can have
    ");
    assert_snapshot!(said(json!({ "type": "number", "min": 5, "max": 2 })), @"input 'x' has a 'min' that is greater than its 'max'");
    assert_snapshot!(said(json!({ "type": "string", "pattern": "[a" })), @"input 'x' has a pattern that misses a ']'");
    assert_snapshot!(said(json!({ "type": "number", "options": ["many"] })), @"input 'x' has an option that must be a number, got 'many'");
}

#[test]
fn the_text_form_is_what_scripts_compare_with() {
    assert_eq!(text(&json!(true)), "true");
    assert_eq!(text(&json!(4)), "4");
    assert_eq!(text(&json!(4.0)), "4");
    assert_eq!(text(&json!(0.25)), "0.25");
    assert_eq!(text(&json!(["a", 2])), "a,2");
    assert_eq!(text(&json!(null)), "");
}

proptest! {
    #[test]
    fn typed_values_survive_their_own_text_form(n in -1_000_000i64..1_000_000, b: bool, s in "[^\0]{0,30}", list in proptest::collection::vec("[a-z]{1,5}", 0..5)) {
        for (kind, value) in [("number", json!(n)), ("bool", json!(b)), ("string", json!(s)), ("array", json!(list))] {
            let spec = one(json!({ "type": kind }));
            let first = parse(&spec, &Map::from_iter([("x".to_owned(), value)])).unwrap();
            let again = parse(&spec, &Map::from_iter([("x".to_owned(), json!(text(&first["x"])))])).unwrap();
            prop_assert_eq!(first, again);
        }
    }

    #[test]
    fn nothing_panics(kind in prop_oneof![Just("number"), Just("bool"), Just("string"), Just("array")], text in ".{0,20}") {
        let _ = parse(&one(json!({ "type": kind })), &Map::from_iter([("x".to_owned(), json!(text))]));
    }
}
