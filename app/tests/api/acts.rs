//! Cancelling, retrying, repeating, approving: over the API and by the forms of the pages.

use crate::pages::Browser;
use crate::world::{ADMIN, World, on_both_databases};
use axum::http::Method;
use pipelines_spec::protocol::Trust;
use rivet::actions::start_run::{Started, began, start_run};
use rivet::model::ids::{RepoId, RunId};
use rivet::model::role::Role;
use rivet::model::run::NewRun;
use rivet::model::time::Timestamp;
use serde_json::{Value, json};

on_both_databases!(
    a_run_is_cancelled_once_and_repeated,
    a_gate_opens_for_the_commit_that_was_reviewed,
    buttons_do_what_the_api_does,
);

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// Starts a run of one stage, which waits for approval where `gated`.
async fn start(world: &World, key: &str, gated: bool) -> String {
    let mut stage = json!({"name": "deploy", "action": {"kind": "run", "run": ["true"]}});
    if gated {
        stage["approval"] = json!({"required": true, "count": 1, "prevent_self": false});
    }
    let plan = json!({"pipeline": "ci", "file": ".rivet/ci.lua", "name": "CI",
        "stages": [{"name": "deploy", "base": "deploy", "stage": stage}]});
    let facts = json!({"name": "push", "repo": "acme/shop", "default_branch": "main", "ref": "refs/heads/main",
        "branch": "main", "sha": SHA, "actor": "alice", "message": "Say hello"});
    let new = NewRun {
        repo_id: RepoId::from("local:1"),
        plan: serde_json::from_value(plan).unwrap(),
        bundle_digest: "b1".into(),
        facts: serde_json::from_value(facts).unwrap(),
        source_key: key.into(),
        trust: Trust::Trusted,
        trust_reason: None,
        caused_by: vec![],
        delivery_id: None,
        parent_stage_id: None,
        rerun_of: None,
    };
    let now = Timestamp::now();
    let mut tx = world.context.store.begin().await.unwrap();
    let (Started::Created(id) | Started::Existing(id)) = start_run(&mut tx, &new, now).await.unwrap();
    tx.commit().await.unwrap();
    began(&world.context, &id, now).await;
    let RunId(id) = id;
    id
}

async fn post(world: &World, path: &str, body: Value) -> crate::world::Answer {
    world.ask(Method::POST, path, ADMIN, Some(body)).await
}

async fn a_run_is_cancelled_once_and_repeated(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = start(&world, "one", false).await;
    let answer = post(&world, &format!("/api/v1/runs/{run}/retry"), json!({})).await;
    assert_eq!(answer.refusal(), "409 state", "it is not over");
    let answer = post(&world, &format!("/api/v1/runs/{run}/cancel"), json!({"reason": "not now"})).await;
    assert_eq!((answer.status.as_u16(), answer.json()["state"].as_str()), (200, Some("cancelled")), "{}", answer.text);
    assert_eq!(answer.json()["stages"][0]["state"], "cancelled");
    assert_eq!(post(&world, &format!("/api/v1/runs/{run}/cancel"), json!({})).await.refusal(), "409 state");

    let again = world.ask(Method::POST, &format!("/api/v1/runs/{run}/rerun"), ADMIN, None).await;
    assert_eq!(again.status, 201, "{}", again.text);
    assert_eq!((&again.json()["rerun_of"], &again.json()["number"]), (&json!(run), &json!(2)));
    let wrong = post(&world, &format!("/api/v1/runs/{run}/cancel"), json!({"why": 1})).await;
    assert_eq!(wrong.refusal(), "422 field.unknown");
    let retried = post(&world, &format!("/api/v1/runs/{run}/retry"), json!({"stage": "deploy"})).await;
    assert_eq!(retried.status, 200, "{}", retried.text);
    assert_eq!(retried.json()["finished_at"], Value::Null);
    let kinds: Vec<String> = world.get(&format!("/api/v1/runs/{run}/history")).await.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap().to_owned())
        .collect();
    assert!(kinds.contains(&"cancel_requested".to_owned()) && kinds.contains(&"retried".to_owned()), "{kinds:?}");
}

async fn a_gate_opens_for_the_commit_that_was_reviewed(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = start(&world, "one", true).await;
    let path = format!("/api/v1/runs/{run}/approvals");
    assert_eq!(world.get(&format!("/api/v1/runs/{run}")).await.json()["stages"][0]["state"], "awaiting_approval");
    let other = json!({"decision": "approve", "sha": "fffffffffffffff"});
    assert_eq!(post(&world, &path, other).await.refusal(), "409 state");
    assert_eq!(post(&world, &path, json!({"decision": "perhaps"})).await.refusal(), "422 field.type");
    let yes = post(&world, &path, json!({"stage": "deploy", "decision": "approve", "sha": SHA})).await;
    assert_eq!((yes.status.as_u16(), yes.json()["stages"][0]["state"].as_str()), (200, Some("queued")), "{}", yes.text);
    assert_eq!(post(&world, &path, json!({"decision": "approve"})).await.refusal(), "409 state");
    let limited = world.token(Role::User, &["acme/other"]).await;
    let hidden = world.ask(Method::POST, &path, &limited, Some(json!({"decision": "approve"}))).await;
    assert_eq!(hidden.refusal(), "404 not_found");
}

async fn buttons_do_what_the_api_does(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = start(&world, "one", true).await;
    let browser = Browser::signed_in(&world).await;
    let page = browser.get(&format!("/runs/{run}")).await.text;
    assert!(page.contains("Needs approval") && page.contains(">Cancel</button>"), "{page}");
    let csrf = browser.csrf().await;
    let path = format!("/runs/{run}");
    assert_eq!(browser.post(&format!("{path}/cancel"), "csrf=wrong").await.status, 403);
    let form = format!("csrf={csrf}&stage=deploy&sha={SHA}&decision=approve&comment=");
    let answer = browser.post(&format!("{path}/approvals"), &form).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, path.as_str()), "{}", answer.text);
    assert!(browser.get(&path).await.text.contains("Queued"));
    assert_eq!(browser.post(&format!("{path}/cancel"), &format!("csrf={csrf}")).await.status, 303);
    let refused = browser.post(&format!("{path}/cancel"), &format!("csrf={csrf}")).await;
    assert_eq!(refused.status, 409);
    assert!(refused.text.contains("is cancelled already"), "{}", refused.text);
    let again = browser.post(&format!("{path}/rerun"), &format!("csrf={csrf}")).await;
    assert_ne!(again.header("location"), path);
    assert_eq!(browser.get(again.header("location")).await.status, 200);
    assert_eq!(browser.post(&format!("{path}/explode"), &format!("csrf={csrf}")).await.status, 404);
}
