//! Definitions made concrete for an event.

#![expect(clippy::needless_pass_by_value, reason = "tests write their JSON in place")]

use super::*;
use insta::assert_snapshot;
use serde_json::json;

fn event() -> EventFacts {
    serde_json::from_value(json!({
        "name": "push", "repo": "acme/app", "default_branch": "main", "ref": "refs/heads/main", "branch": "main",
        "sha": "abc123", "actor": "alice",
    }))
    .unwrap()
}

fn pipeline(more: Value) -> Pipeline {
    let mut whole = json!({ "stem": "ci", "file": ".rivet/ci.lua", "name": "CI" });
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn run(lines: &[&str]) -> Value {
    json!({ "kind": "run", "run": lines })
}

fn plan(pipeline: &Pipeline, inputs: Value) -> Plan {
    instantiate(pipeline, &event(), inputs.as_object().unwrap().clone()).unwrap()
}

fn problems(pipeline: &Pipeline) -> String {
    let found = instantiate(pipeline, &event(), Map::new()).unwrap_err();
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn names(stages: &[PlannedStage]) -> String {
    stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join("\n")
}

fn values(axis: &[&str]) -> Value {
    json!({ "kind": "values", "values": axis })
}

#[test]
fn every_string_is_filled_in() {
    let p = pipeline(json!({
        "concurrency": { "group": "ci-${ref}", "cancel_in_progress": true },
        "inputs": { "who": { "type": "string", "required": false }, "key": { "type": "string", "required": false, "secret": true } },
        "runner": [{ "key": "os", "value": "linux" }],
        "tags": [{ "key": "capability", "value": "docker" }],
        "env": { "WHO": "${input.who}", "SAME": "pipeline" },
        "stages": [{
            "name": "build", "action": run(&["make ${input.who} $HOME", "echo ${sha} ${input.who}"]),
            "container": "registry.local/${event.repo}:${sha}", "environment": "env-${branch}",
            "env": { "SAME": "stage", "KEY": "${input.key}", "PLAIN": "$${x}" },
            "services": { "db": { "image": "postgres:${input.who}", "command": ["sh", "-c", "echo ${HOME}"] } },
            "runner": [{ "key": "os", "value": "linux" }, { "key": "arch", "value": "${input.who}" }],
            "rollback": { "action": run(&["undo '${input.who}'"]) },
        }],
    }));
    let plan = plan(&p, json!({ "who": "x86", "key": "s3cret" }));
    let stage = &plan.stages[0];
    assert_eq!(plan.concurrency.as_ref().unwrap().group, "ci-main");
    assert_eq!(plan.secret_inputs, ["key"]);
    assert_eq!(secret_texts(&plan), ["s3cret"]);
    let labels: Vec<_> = stage.labels.iter().map(ToString::to_string).collect();
    assert_eq!(labels, ["arch=x86", "capability=docker", "os=linux"]);
    insta::assert_json_snapshot!(&json!({ "stage": stage.stage, "run_values": stage.run_values }), @r#"
    {
      "run_values": {
        "RIVET_V_1": "x86",
        "RIVET_V_2": "abc123"
      },
      "stage": {
        "action": {
          "kind": "run",
          "run": [
            "make \"${RIVET_V_1}\" $HOME",
            "echo \"${RIVET_V_2}\" \"${RIVET_V_1}\""
          ]
        },
        "container": "registry.local/acme/app:abc123",
        "depends_on": [],
        "env": {
          "KEY": "s3cret",
          "PLAIN": "${x}",
          "SAME": "stage",
          "WHO": "x86"
        },
        "environment": "env-main",
        "name": "build",
        "rollback": {
          "action": {
            "kind": "run",
            "run": [
              "undo ''\"${RIVET_V_1}\"''"
            ]
          }
        },
        "runner": [
          {
            "key": "os",
            "value": "linux"
          },
          {
            "key": "arch",
            "value": "x86"
          }
        ],
        "services": {
          "db": {
            "command": [
              "sh",
              "-c",
              "echo ${HOME}"
            ],
            "image": "postgres:x86"
          }
        }
      }
    }
    "#);
}

#[test]
fn a_matrix_becomes_legs_with_their_own_values() {
    let p = pipeline(json!({ "stages": [
        { "name": "test", "action": run(&["cargo test --features ${matrix.db}"]), "container": "rust:${matrix.rust}",
          "matrix": { "axes": { "rust": values(&["1.95", "nightly"]), "db": values(&["sqlite", "postgres"]) },
                      "exclude": [{ "db": "postgres", "rust": "nightly" }], "max_parallel": 2 } },
        { "name": "deploy", "depends_on": ["test"], "action": run(&["./deploy.sh"]) },
    ] }));
    let plan = plan(&p, json!({}));
    assert_snapshot!(names(&plan.stages), @"
    test (db=sqlite, rust=1.95)
    test (db=sqlite, rust=nightly)
    test (db=postgres, rust=1.95)
    deploy
    ");
    let leg = &plan.stages[2];
    assert_eq!(leg.base, "test");
    assert_eq!(leg.stage.container.as_deref(), Some("rust:1.95"));
    assert_eq!(leg.run_values["RIVET_V_1"], "postgres");
    assert_eq!((leg.max_parallel, leg.fail_fast), (Some(2), true));
    assert!(!plan.stages[3].fail_fast);
}

#[test]
fn axes_that_are_functions_become_legs_later() {
    let p = pipeline(json!({
        "env": { "SHARD": "${matrix.shard}" },
        "stages": [{ "name": "shards", "action": run(&["./run ${matrix.shard}"]),
            "runner": [{ "key": "size", "value": "${matrix.size}" }],
            "matrix": { "axes": { "shard": { "kind": "function" }, "size": values(&["big"]) } } }],
    }));
    let plan = plan(&p, json!({}));
    let waiting = &plan.stages[0];
    assert_eq!((plan.stages.len(), waiting.name.as_str(), waiting.dynamic.is_some()), (1, "shards", true));

    let axes = |shards: Value| BTreeMap::from([("shard".to_owned(), serde_json::from_value(shards).unwrap())]);
    let legs = expand_dynamic(waiting, axes(json!([1, 2])), &event(), &plan.inputs).unwrap();
    assert_snapshot!(names(&legs), @"
    shards (shard=1, size=big)
    shards (shard=2, size=big)
    ");
    assert_eq!(legs[1].run_values["RIVET_V_1"], "2");
    assert_eq!(legs[1].stage.env["SHARD"], "2");
    assert_eq!(legs[1].labels[0].to_string(), "size=big");
    assert!(legs[1].dynamic.is_none());
    assert!(expand_dynamic(waiting, axes(json!([])), &event(), &plan.inputs).unwrap().is_empty());
    assert!(expand_dynamic(waiting, BTreeMap::new(), &event(), &plan.inputs).is_err());
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let p = pipeline(json!({
        "concurrency": { "group": "${reff}" },
        "inputs": { "key": { "type": "string", "required": false, "secret": true } },
        "stages": [
            { "name": "a", "action": run(&["echo ${input.x} ${HOME}"]), "container": "rust:${matrix.v}",
              "at": { "file": ".rivet/ci.lua", "line": 7, "column": 5 } },
            { "name": "b", "action": run(&[]), "environment": "${input.key}",
              "matrix": { "axes": { "v": { "kind": "function" } } }, "container": "x:${matrix.w}",
              "at": { "file": ".rivet/ci.lua", "line": 9 } },
            { "name": "c", "action": run(&[]), "container": "${event.actor} x" },
        ],
    }));
    assert_snapshot!(problems(&p), @"
    .rivet/ci.lua:7:5: plan.unknown_name: unknown name 'matrix.v' in ${matrix.v}, in 'container'. Write $${matrix.v} for the plain text.
    .rivet/ci.lua:7:5: plan.unknown_name: unknown name 'input.x' in ${input.x}, in 'run'. Write $${input.x} for the plain text.
    .rivet/ci.lua:9: plan.unknown_name: unknown name 'matrix.w' in ${matrix.w}, in 'container'. Did you mean '${matrix.v}'?
    .rivet/ci.lua:9: plan.unknown_name: the secret value of ${input.key} would be shown here, in 'environment'. Secret inputs can be used in 'env' and in 'run' lines.
    plan.image: 'alice x' is not an image reference, in stage 'c'.
    .rivet/ci.lua:1: plan.unknown_name: unknown name 'reff' in ${reff}, in 'concurrency.group'. Did you mean '${ref}'?
    ");
}

#[test]
fn what_came_from_outside_cannot_become_an_option_or_a_label() {
    let p = pipeline(json!({ "stages": [{
        "name": "a", "action": run(&[]), "container": "${input.image}", "runner": [{ "key": "os", "value": "${input.os}" }],
    }], "inputs": { "image": { "type": "string", "required": false }, "os": { "type": "string", "required": false } } }));
    let said = |image: &str, os: &str| {
        let inputs = json!({ "image": image, "os": os }).as_object().unwrap().clone();
        instantiate(&p, &event(), inputs).map(|_| ()).map_err(|found| found.iter().map(|p| p.code.clone()).collect())
    };
    assert_eq!(said("rust:1", "linux"), Ok(()));
    assert_eq!(said("-v/:/h", "linux"), Err(vec!["plan.image".to_owned()]));
    assert_eq!(said("rust", "a b"), Err(vec!["plan.label".to_owned()]));
    assert_eq!(said("", ""), Err(vec!["plan.image".to_owned(), "plan.label".to_owned()]));
}

#[test]
fn limits_are_definition_errors() {
    let numbers: Vec<u32> = (0..257).collect();
    let p = pipeline(json!({ "stages": [{ "name": "t", "action": run(&[]),
        "matrix": { "axes": { "n": { "kind": "values", "values": numbers } } } }] }));
    assert_snapshot!(problems(&p), @"plan.too_many_stages: stage 't' makes 257 legs; the limit is 256.");
    let stages: Vec<_> = (0..513).map(|n| json!({ "name": format!("s{n}"), "action": run(&[]) })).collect();
    assert_snapshot!(problems(&pipeline(json!({ "stages": stages }))), @".rivet/ci.lua:1: plan.too_many_stages: pipeline 'ci' makes 513 stages; the limit is 512.");
}

#[test]
fn the_digest_is_stable_and_blind_to_places() {
    let stage = |line: u32, command: &str| {
        pipeline(
            json!({ "stages": [{ "name": "a", "action": run(&[command]), "at": { "file": ".rivet/ci.lua", "line": line } }] }),
        )
    };
    let digest = |p: &Pipeline| plan(p, json!({})).digest();
    assert_snapshot!(digest(&stage(1, "make")), @"47e0688187f326012c884d74775e3e7b292193a2a062c91740f9157f9ba63016");
    assert_eq!(digest(&stage(1, "make")), digest(&stage(9, "make")));
    assert_ne!(digest(&stage(1, "make")), digest(&stage(1, "make all")));
}
