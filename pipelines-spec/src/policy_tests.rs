//! Policies: what is read, what is refused, what is joined.

#![expect(clippy::needless_pass_by_value, reason = "tables of values read better without borrows")]

use crate::plan::{Plan, Stage};
use crate::policy::Policy;
use crate::trigger::EventFacts;
use serde_json::{Value, json};

const POLICY: &str = r#"
[pull_requests]
runners = ["os=linux"]
executors = ["podman"]
secrets = ["TEST_TOKEN"]
environments = ["preview"]

[environments.production]
reviewers = ["@acme/release"]
count = 2
prevent_self = true
branches = ["main", "release/*"]

[environments.staging]
branches = ["main"]
"#;

fn policy() -> Policy {
    Policy::parse(POLICY).expect("a policy")
}

fn facts(name: &str, git_ref: &str) -> EventFacts {
    let mut facts = json!({ "name": name, "repo": "acme/app", "default_branch": "main", "ref": git_ref,
        "sha": "a".repeat(40), "branch": git_ref.strip_prefix("refs/heads/") });
    if name == "pull_request" {
        facts["branch"] = "main".into();
        facts["pull_request"] = json!({ "number": 7, "base": "main", "base_sha": "b".repeat(40), "head": "main",
            "head_sha": "a".repeat(40) });
    }
    serde_json::from_value(facts).expect("facts")
}

/// A plan of one stage `it` with further keys and labels.
fn plan(more: &Value, labels: Value) -> Plan {
    let mut stage = json!({ "name": "it", "action": { "kind": "script" } });
    for (key, value) in more.as_object().expect("an object") {
        stage[key] = value.clone();
    }
    let stages = json!([{ "name": "it", "base": "it", "labels": labels, "stage": stage }]);
    let plan = json!({ "pipeline": "ci", "file": ".rivet/ci.lua", "name": "CI", "stages": stages });
    serde_json::from_value(plan).expect("a plan")
}

fn said(more: Value, labels: Value, facts: &EventFacts) -> String {
    let mut plan = plan(&more, labels);
    let problems = policy().apply(&mut plan, facts);
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn joined(approval: Value, policy: &str) -> Value {
    let mut plan = plan(&json!({ "environment": "production", "approval": approval }), json!([]));
    let policy = Policy::parse(policy).expect("a policy");
    policy.apply(&mut plan, &facts("push", "refs/heads/main"));
    let stage: &Stage = &plan.stages[0].stage;
    serde_json::to_value(&stage.approval).expect("JSON")
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = r#"
[pull_request]
[pull_requests]
runner = ["os=linux"]
runners = ["linux", 5]
executors = ["hots"]
secrets = "ALL"
[environments]
production = 3
[environments.staging]
reviewer = ["a"]
reviewers = ["@acme/", "a b"]
count = 0
prevent_self = "yes"
branches = ["["]
"#;
    let problems = Policy::parse(text).expect_err("it is wrong");
    insta::assert_snapshot!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), @"
.rivet/config/policy.toml:2:2: policy.unknown_key: unknown key 'pull_request' in the policy. did you mean 'pull_requests'?
.rivet/config/policy.toml:4:1: policy.unknown_key: unknown key 'runner' in [pull_requests]. did you mean 'runners'?
.rivet/config/policy.toml:5:12: policy.value: pull_requests.runners must be a list of 'key=value' labels, got 'linux'.
.rivet/config/policy.toml:5:21: policy.value: pull_requests.runners must be a list of 'key=value' labels, got 5.
.rivet/config/policy.toml:6:14: policy.value: pull_requests.executors must be a list of 'host', 'podman' or 'kubernetes', got 'hots'.
.rivet/config/policy.toml:7:11: policy.value: pull_requests.secrets must be a list of names of secrets, got 'ALL'.
.rivet/config/policy.toml:9:14: policy.value: [environments.production] must be a table, got 3.
.rivet/config/policy.toml:11:1: policy.unknown_key: unknown key 'reviewer' in [environments.staging]. did you mean 'reviewers'?
.rivet/config/policy.toml:12:14: policy.value: environments.staging.reviewers must be a list of logins, groups or '@org/team's, got '@acme/'.
.rivet/config/policy.toml:12:24: policy.value: environments.staging.reviewers must be a list of logins, groups or '@org/team's, got 'a b'.
.rivet/config/policy.toml:15:13: policy.value: environments.staging.branches must be a list of globs, got '['.
.rivet/config/policy.toml:14:16: policy.value: environments.staging.prevent_self must be true or false, got 'yes'.
.rivet/config/policy.toml:13:9: policy.value: environments.staging.count must be a whole number from 1 to 100, got 0.
");
    let problems = Policy::parse("a = [").expect_err("it is wrong");
    insta::assert_snapshot!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), @".rivet/config/policy.toml:1:6: config.syntax: unclosed array, expected `]`");
    assert_eq!(Policy::parse(""), Ok(Policy::default()));
}

#[test]
fn a_pull_request_gets_no_more_than_the_policy_gives() {
    let pull = facts("pull_request", "refs/pull/7/head");
    let all = json!({ "secrets": ["TEST_TOKEN", "DEPLOY_KEY"], "environment": "production" });
    insta::assert_snapshot!(said(all.clone(), json!([{ "key": "pool", "value": "prod" }]), &pull), @"
    policy.runner_forbidden: stage 'it' asks for a runner with pool=prod, which pull requests may not use here. .rivet/config/policy.toml of the default branch allows os=linux
    policy.executor_forbidden: stage 'it' names no container, so it may run on the machine itself, which pull requests may not use here. .rivet/config/policy.toml of the default branch allows podman
    policy.secret_forbidden: stage 'it' reads the secret DEPLOY_KEY, which pull requests may not use here. .rivet/config/policy.toml of the default branch allows TEST_TOKEN
    policy.environment_forbidden: stage 'it' deploys to production, which pull requests may not use here. .rivet/config/policy.toml of the default branch allows preview
    policy.environment_forbidden: stage 'it' deploys to production, which only branches main, release/* may; this is refs/pull/7/head.
    ");
    let group = facts("merge_group", "refs/heads/gh-readonly-queue/main/pr-7");
    insta::assert_snapshot!(said(json!({ "container": "rust:1", "environment": "production" }), json!([]), &group), @"
    policy.environment_forbidden: stage 'it' deploys to production, which pull requests may not use here. .rivet/config/policy.toml of the default branch allows preview
    policy.environment_forbidden: stage 'it' deploys to production, which only branches main, release/* may; this is refs/heads/gh-readonly-queue/main/pr-7.
    ");
    let fine = json!({ "container": "rust:1", "secrets": ["TEST_TOKEN"], "environment": "preview" });
    assert_eq!(said(fine, json!([{ "key": "os", "value": "linux" }]), &pull), "");
    // What is merged is not limited; it only has to be a branch that may be deployed.
    assert_eq!(said(all.clone(), json!([{ "key": "pool", "value": "prod" }]), &facts("push", "refs/heads/main")), "");
    assert_eq!(said(all.clone(), json!([]), &facts("manual", "refs/heads/release/1")), "");
    insta::assert_snapshot!(said(all.clone(), json!([]), &facts("push", "refs/heads/release/1/x")), @"policy.environment_forbidden: stage 'it' deploys to production, which only branches main, release/* may; this is release/1/x.");
    insta::assert_snapshot!(said(all, json!([]), &facts("push", "refs/tags/v1")), @"policy.environment_forbidden: stage 'it' deploys to production, which only branches main, release/* may; this is refs/tags/v1.");
}

#[test]
fn an_environment_that_is_known_late_is_not_protected_late() {
    let late = json!({ "environment": "${matrix.to}" });
    insta::assert_snapshot!(said(late, json!([]), &facts("push", "refs/heads/main")), @"policy.environment_forbidden: environment '${matrix.to}' of stage 'it' is known only when the stage starts, and some environments are protected. write its name out");
}

#[test]
fn of_two_rules_the_stricter_wins() {
    let strict = "[environments.production]\nreviewers = [\"@acme/release\"]\ncount = 2\nprevent_self = true";
    let own = json!({ "required": true, "reviewers": ["bob"], "count": 3, "prevent_self": false, "expires": 60 });
    insta::assert_snapshot!(joined(own.clone(), strict), @r#"{"count":3,"expires":60,"policy_reviewers":["@acme/release"],"prevent_self":true,"required":true,"reviewers":["bob"]}"#);
    let weak = json!({ "required": false, "reviewers": ["eve"], "count": 1, "prevent_self": false });
    insta::assert_snapshot!(joined(weak, strict), @r#"{"count":2,"policy_reviewers":["@acme/release"],"prevent_self":true,"required":true,"reviewers":[]}"#);
    insta::assert_snapshot!(joined(Value::Null, strict), @r#"{"count":2,"policy_reviewers":["@acme/release"],"prevent_self":true,"required":true,"reviewers":[]}"#);
    // A policy that asks for nobody's word leaves the stage's own.
    let only_branches = "[environments.production]\nbranches = [\"main\"]\nprevent_self = false";
    insta::assert_snapshot!(joined(own, only_branches), @r#"{"count":3,"expires":60,"prevent_self":false,"required":true,"reviewers":["bob"]}"#);
    assert_eq!(joined(Value::Null, only_branches), Value::Null);
}
