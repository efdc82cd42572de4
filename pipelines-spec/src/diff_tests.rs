//! What a change of definitions says of itself.

#![expect(clippy::needless_pass_by_value, reason = "tables of values read better without borrows")]

use crate::diff::changes;
use crate::plan::Pipeline;
use serde_json::{Value, json};

fn pipeline(stem: &str, on: Value, runner: Value, stages: Value) -> Pipeline {
    let pipeline = json!({ "stem": stem, "file": format!(".rivet/{stem}.lua"), "name": stem, "on": on,
        "runner": runner, "stages": stages });
    serde_json::from_value(pipeline).expect("a pipeline")
}

fn stage(name: &str, more: Value) -> Value {
    let mut stage = json!({ "name": name, "action": { "kind": "script" } });
    stage.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    stage
}

fn said(base: &[Pipeline], head: &[Pipeline]) -> String {
    changes(base, head).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn linux() -> Value {
    json!([{ "key": "os", "value": "linux" }])
}

fn before() -> Pipeline {
    let approval = json!({ "required": true, "reviewers": ["@acme/release"], "count": 2, "prevent_self": true });
    let stages = json!([
        stage("build", json!({ "container": "rust:1", "secrets": ["OLD"] })),
        stage("deploy", json!({ "environment": "staging", "approval": approval })),
        stage("gone", json!({})),
    ]);
    pipeline("ci", json!({ "manual": true }), linux(), stages)
}

#[test]
fn the_same_says_nothing() {
    let mut moved = before();
    moved.stages[0].at = Some(crate::problem::Location::line(".rivet/ci.lua", 9));
    assert_eq!(said(&[before()], &[moved]), "");
    assert_eq!(said(&[], &[]), "");
}

#[test]
fn what_is_gained_is_said() {
    let weak = json!({ "required": true, "reviewers": ["@acme/release", "eve"], "count": 1, "prevent_self": false });
    let stages = json!([
        stage("build", json!({ "secrets": ["DEPLOY_KEY"], "timeout": 60 })),
        stage("deploy", json!({ "environment": "production", "approval": weak })),
        stage("extra", json!({ "secrets": ["TOKEN"], "environment": "production" })),
    ]);
    let after = pipeline("ci", json!({ "manual": false }), json!([{ "key": "pool", "value": "prod" }]), stages);
    insta::assert_snapshot!(said(&[before()], std::slice::from_ref(&after)), @"
    gains: ci has other triggers
    gains: ci / build reads the secret DEPLOY_KEY
    ci / build does not read the secret OLD any more
    gains: ci / build asks for a runner with pool=prod, not os=linux
    gains: ci / build runs in no container any more, not in rust:1
    ci / build does something else
    gains: ci / deploy deploys to production, not to staging
    gains: ci / deploy needs 1 instead of 2 approvals
    gains: ci / deploy may be approved by eve too
    gains: ci / deploy may be approved by who caused the run
    gains: ci / deploy asks for a runner with pool=prod, not os=linux
    ci / extra is new
    gains: ci / extra reads the secret TOKEN
    gains: ci / extra deploys to production
    ci / extra asks for a runner with pool=prod
    ci / gone is removed
    ");
    // The other way round the same is lost, not gained.
    insta::assert_snapshot!(said(&[after], &[before()]), @"
    gains: ci has other triggers
    gains: ci / build reads the secret OLD
    ci / build does not read the secret DEPLOY_KEY any more
    gains: ci / build asks for a runner with os=linux, not pool=prod
    ci / build runs in rust:1
    ci / build does something else
    gains: ci / deploy deploys to staging, not to production
    ci / deploy is guarded more: before, it needs 1 instead of 2 approvals
    ci / deploy is guarded more: before, it may be approved by eve too
    ci / deploy is guarded more: before, it may be approved by who caused the run
    gains: ci / deploy asks for a runner with os=linux, not pool=prod
    ci / gone is new
    ci / gone asks for a runner with os=linux
    ci / extra is removed
    ");
}

#[test]
fn pipelines_come_and_go() {
    let deploy = pipeline("deploy", json!({}), linux(), json!([stage("go", json!({ "environment": "production" }))]));
    insta::assert_snapshot!(said(&[before()], &[deploy]), @"
ci is removed
deploy is new
deploy / go is new
gains: deploy / go deploys to production
deploy / go asks for a runner with os=linux
");
    let open = json!({ "required": false, "count": 1, "prevent_self": false });
    let mut unguarded = before();
    unguarded.stages[1].approval = serde_json::from_value(open).expect("an approval");
    insta::assert_snapshot!(said(&[before()], &[unguarded]), @"gains: ci / deploy needs no approval");
}
