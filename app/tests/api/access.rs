//! Who may do what: every route, every role, from one table.

use crate::world::{ADMIN, RUN, World, on_both_databases};
use axum::body::Body;
use axum::http::{Method, Request};
use rivet::model::role::Role;
use rivet::model::time::Timestamp;
use std::collections::BTreeSet;

/// The least role of each operation; `None`: anybody.
const OPERATIONS: &[(&str, &str, Option<Role>)] = &[
    ("GET", "/api/v1/openapi.json", None),
    ("GET", "/api/v1/repos", Some(Role::Viewer)),
    ("GET", "/api/v1/repos/{owner}/{repo}", Some(Role::Viewer)),
    ("GET", "/api/v1/repos/{owner}/{repo}/pipelines", Some(Role::Viewer)),
    ("GET", "/api/v1/runs", Some(Role::Viewer)),
    ("POST", "/api/v1/runs", Some(Role::User)),
    ("GET", "/api/v1/runners", Some(Role::Viewer)),
    ("GET", "/api/v1/runners/registration-tokens", Some(Role::Admin)),
    ("POST", "/api/v1/runners/registration-tokens", Some(Role::Admin)),
    ("DELETE", "/api/v1/runners/registration-tokens/{id}", Some(Role::Admin)),
    ("DELETE", "/api/v1/runners/{id}", Some(Role::Admin)),
    ("POST", "/api/v1/runners/{id}/drain", Some(Role::Admin)),
    ("POST", "/api/v1/runners/{id}/pause", Some(Role::Admin)),
    ("POST", "/api/v1/runners/{id}/resume", Some(Role::Admin)),
    ("GET", "/api/v1/schemas/pipeline.json", None),
    ("GET", "/api/v1/runs/{id}", Some(Role::Viewer)),
    ("GET", "/api/v1/runs/{id}/history", Some(Role::Viewer)),
    ("GET", "/api/v1/runs/{id}/reports", Some(Role::Viewer)),
    ("POST", "/api/v1/runs/{id}/reports", Some(Role::User)),
    ("GET", "/api/v1/runs/{id}/events", Some(Role::Viewer)),
    ("GET", "/api/v1/runs/{id}/stages/{stage}/logs", Some(Role::Viewer)),
    ("POST", "/api/v1/runs/{id}/cancel", Some(Role::User)),
    ("POST", "/api/v1/runs/{id}/retry", Some(Role::User)),
    ("POST", "/api/v1/runs/{id}/rerun", Some(Role::User)),
    ("POST", "/api/v1/runs/{id}/approvals", Some(Role::User)),
    ("POST", "/api/v1/runs/{id}/rollback", Some(Role::User)),
    ("GET", "/api/v1/environments", Some(Role::Viewer)),
    ("GET", "/api/v1/gates", Some(Role::Viewer)),
    ("GET", "/api/v1/runs/{id}/gates/{stage}", Some(Role::Viewer)),
    ("GET", "/api/v1/environments/{name}", Some(Role::Viewer)),
    ("GET", "/api/v1/environments/{name}/deployments", Some(Role::Viewer)),
    ("POST", "/api/v1/environments/{name}/lock", Some(Role::User)),
    ("POST", "/api/v1/environments/{name}/unlock", Some(Role::User)),
    ("POST", "/api/v1/environments/{name}/rollback", Some(Role::User)),
    ("GET", "/api/v1/deliveries", Some(Role::Viewer)),
    ("GET", "/api/v1/deliveries/{id}", Some(Role::Viewer)),
    ("POST", "/api/v1/deliveries/{id}/redeliver", Some(Role::Admin)),
    ("GET", "/api/v1/why", Some(Role::Viewer)),
    ("GET", "/api/v1/schedules", Some(Role::Viewer)),
    ("GET", "/api/v1/schedules/{id}", Some(Role::Viewer)),
    ("POST", "/api/v1/schedules/{id}/pause", Some(Role::User)),
    ("POST", "/api/v1/schedules/{id}/resume", Some(Role::User)),
    ("POST", "/api/v1/schedules/{id}/run", Some(Role::User)),
    ("GET", "/api/v1/tokens", Some(Role::Admin)),
    ("POST", "/api/v1/tokens", Some(Role::Admin)),
    ("DELETE", "/api/v1/tokens/{id}", Some(Role::Admin)),
    ("POST", "/api/v1/check", Some(Role::User)),
];

on_both_databases!(every_route_asks_for_its_role, a_limited_token_sees_its_repositories_alone, only_live_tokens_count);

/// Every operation the router has, from its own description.
fn described() -> BTreeSet<(String, String)> {
    let description = serde_json::to_value(rivet::http::api::description()).unwrap();
    let mut operations = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            operations.insert((method.to_uppercase(), path.clone()));
        }
    }
    operations
}

#[test]
fn every_operation_is_in_the_table() {
    let table = OPERATIONS.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(described(), table);
}

#[test]
fn the_description_is_openapi_3_1() {
    let description = serde_json::to_value(rivet::http::api::description()).unwrap();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"), "{}", description["openapi"]);
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let said = operation["summary"].as_str().or(operation["description"].as_str()).unwrap_or("");
            assert!(!said.is_empty(), "{method} {path} says nothing about itself");
        }
    }
}

fn concrete(path: &str) -> String {
    path.replace("{id}", "01jd3c8v6x0000000000000404")
        .replace("{owner}", "acme")
        .replace("{repo}", "nothing")
        .replace("{stage}", "build")
        .replace("{name}", "production")
}

async fn every_route_asks_for_its_role(world: World) {
    let (viewer, user) = (world.token(Role::Viewer, &[]).await, world.token(Role::User, &[]).await);
    for (method, path, least) in OPERATIONS {
        let Some(least) = least else { continue };
        let method: Method = method.parse().unwrap();
        let path = concrete(path);
        let anonymous = world.ask(method.clone(), &path, "", None).await;
        assert_eq!(anonymous.refusal(), "401 auth.required", "{method} {path}");
        let runner = world.ask(method.clone(), &path, "rvr_0123", None).await;
        assert_eq!(runner.refusal(), "401 token.invalid", "{method} {path}");
        for (role, token) in [(Role::Viewer, &viewer), (Role::User, &user), (Role::Admin, &ADMIN.to_owned())] {
            let answer = world.ask(method.clone(), &path, token, None).await;
            if role < *least {
                assert_eq!(answer.refusal(), "403 auth.role", "{method} {path} as {role}");
            } else {
                assert!(![401, 403].contains(&answer.status.as_u16()), "{method} {path} as {role}: {}", answer.text);
            }
        }
    }
}

async fn a_limited_token_sees_its_repositories_alone(world: World) {
    world.repo(1, "acme", "shop").await;
    world.repo(2, "acme", "secret").await;
    let run = world.run(2, 1, "running").await;
    assert_eq!(run, RUN);
    world.run(1, 2, "running").await;
    let token = world.token(Role::User, &["Acme/Shop"]).await;
    let ask = async |path: &str| world.ask(Method::GET, path, &token, None).await;

    let repos = ask("/api/v1/repos").await.json();
    assert_eq!(repos["items"].as_array().unwrap().len(), 1);
    let runs = ask("/api/v1/runs").await.json();
    assert_eq!(runs["items"].as_array().unwrap().len(), 1);
    assert_eq!(runs["items"][0]["repo"], "acme/shop");
    for (denied, absent) in [
        (format!("/api/v1/runs/{run}"), "/api/v1/runs/01jd3c8v6x0000000000000404"),
        ("/api/v1/repos/acme/secret".to_owned(), "/api/v1/repos/acme/nothing"),
        ("/api/v1/runs?repo=acme/secret".to_owned(), "/api/v1/runs?repo=acme/nothing"),
    ] {
        let (mut denied, mut absent) = (ask(&denied).await.json(), ask(absent).await.json());
        denied["request_id"].take();
        absent["request_id"].take();
        assert_eq!(denied, absent);
        assert_eq!(denied["code"], "not_found");
    }
    assert_eq!(ask("/api/v1/deliveries").await.refusal(), "403 auth.scope");
}

async fn only_live_tokens_count(world: World) {
    let token = world.token(Role::Viewer, &[]).await;
    let ask = async |token: &str| world.ask(Method::GET, "/api/v1/repos", token, None).await;
    assert_eq!(ask(&token).await.status, 200);
    assert_eq!(ask(&format!("{token}0")).await.refusal(), "401 token.invalid");
    world.sql(&format!("UPDATE api_token SET expires_at = {}", Timestamp::now().0 - 1)).await;
    assert_eq!(ask(&token).await.refusal(), "401 token.expired");
    world.sql("UPDATE api_token SET revoked_at = 5").await;
    assert_eq!(ask(&token).await.refusal(), "401 token.invalid");
    let twice = Request::get("/api/v1/repos").header("authorization", "Bearer a").header("authorization", "Bearer b");
    assert_eq!(world.send(twice.body(Body::empty()).unwrap()).await.refusal(), "400 header.repeated");
}
