//! Lists, runs, logs as text, errors.

use crate::world::{ADMIN, RUN, SHA, World, on_both_databases};
use axum::http::Method;
use insta::assert_json_snapshot;
use serde_json::json;

on_both_databases!(
    a_run_has_the_promised_shape,
    lists_go_from_new_to_old_page_by_page,
    runs_are_filtered,
    a_log_is_what_was_stored,
    why_tells_the_stored_decisions,
    tokens_are_shown_once_and_can_be_taken_back,
    what_is_wrong_is_named,
    runners_are_told_what_to_do,
    a_definition_is_checked_without_running,
    a_launch_tells_all_that_is_wrong,
);

async fn a_run_has_the_promised_shape(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = world.run(1, 1, "running").await;
    assert_eq!(run, RUN);
    world.stage(&run, 0, "build", "succeeded", &[]).await;
    world.stage(&run, 1, "test (db=sqlite)", "failed", &["build"]).await;
    let answer = world.get(&format!("/api/v1/runs/{run}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    insta::allow_duplicates! {
        assert_json_snapshot!(answer.json(), @r#"
        {
          "actor": "alice",
          "branch": "main",
          "created_at": "1970-01-01T00:00:01.000Z",
          "event": "push",
          "finished_at": null,
          "id": "01jd3c8v6x0000000000000001",
          "inputs": {
            "key": "***",
            "replicas": 2
          },
          "merge_sha": null,
          "name": "CI",
          "number": 1,
          "pipeline": "ci",
          "plan_digest": "d1",
          "pull_request": null,
          "reason": "Stage test is running on oak.",
          "ref": "refs/heads/main",
          "repo": "acme/shop",
          "rerun_of": null,
          "sha": "0123456789abcdef0123456789abcdef01234567",
          "stages": [
            {
              "attempt": 1,
              "base": "build",
              "child_run": null,
              "container": "rust:1",
              "depends_on": [],
              "environment": null,
              "error": null,
              "finished_at": "1970-01-01T00:00:09.500Z",
              "labels": [
                "os=linux"
              ],
              "matrix": {},
              "max_attempts": 3,
              "name": "build",
              "outputs": null,
              "queued_at": "1970-01-01T00:00:02.500Z",
              "reason": "It is succeeded.",
              "rollback": null,
              "started_at": "1970-01-01T00:00:03.000Z",
              "state": "succeeded",
              "url": "http://rivet.test/runs/01jd3c8v6x0000000000000001/stages/build"
            },
            {
              "attempt": 1,
              "base": "test",
              "child_run": null,
              "container": "rust:1",
              "depends_on": [
                "build"
              ],
              "environment": null,
              "error": {
                "class": "command_failed",
                "command": "cargo test",
                "exit_code": 101,
                "message": "cargo test ended with exit code 101",
                "tail": "assertion failed: <b>left</b> == right"
              },
              "finished_at": "1970-01-01T00:00:09.500Z",
              "labels": [
                "os=linux"
              ],
              "matrix": {},
              "max_attempts": 3,
              "name": "test (db=sqlite)",
              "outputs": null,
              "queued_at": "1970-01-01T00:00:02.500Z",
              "reason": "It is failed.",
              "rollback": null,
              "started_at": "1970-01-01T00:00:03.000Z",
              "state": "failed",
              "url": "http://rivet.test/runs/01jd3c8v6x0000000000000001/stages/test%20%28db%3Dsqlite%29"
            }
          ],
          "started_at": "1970-01-01T00:00:02.000Z",
          "state": "running",
          "title": "Say hello",
          "trust": "trusted",
          "url": "http://rivet.test/runs/01jd3c8v6x0000000000000001"
        }
        "#);
    }
    let list = world.get("/api/v1/runs").await.json();
    assert_eq!(list, json!({"items": [answer.json()], "next_cursor": null}));
}

async fn lists_go_from_new_to_old_page_by_page(world: World) {
    world.repo(1, "acme", "shop").await;
    for n in 1..=5 {
        world.run(1, n, "completed").await;
    }
    for repo in ["", "repo=acme/SHOP&"] {
        let mut seen = vec![];
        let mut cursor = String::new();
        loop {
            let page = world.get(&format!("/api/v1/runs?{repo}limit=2{cursor}")).await.json();
            let items = page["items"].as_array().unwrap().clone();
            assert!(items.len() <= 2);
            seen.extend(items.iter().map(|run| run["number"].as_i64().unwrap()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, [5, 4, 3, 2, 1]);
    }
    let repos = world.get("/api/v1/repos").await.json();
    assert_eq!(repos["items"][0]["full_name"], "acme/shop");
    assert_eq!(world.get("/api/v1/repos/acme/shop").await.json(), repos["items"][0]);
}

async fn runs_are_filtered(world: World) {
    world.repo(1, "acme", "shop").await;
    world.repo(2, "acme", "other").await;
    world.run(1, 1, "completed").await;
    world.run_with(1, 2, "failed", "topic", "x").await;
    world.run(2, 3, "running").await;
    for (query, expected) in [
        ("", vec![3, 2, 1]),
        ("?repo=acme/shop", vec![2, 1]),
        ("?state=failed", vec![2]),
        ("?branch=topic", vec![2]),
        ("?event=push&pipeline=ci&repo=acme/other", vec![3]),
        ("?event=schedule", vec![]),
        (&format!("?sha={SHA}"), vec![3, 2, 1]),
        ("?sha=0123456", vec![3, 2, 1]),
        ("?sha=fff", vec![]),
    ] {
        let list = world.get(&format!("/api/v1/runs{query}")).await.json();
        let numbers: Vec<i64> =
            list["items"].as_array().unwrap().iter().map(|run| run["number"].as_i64().unwrap()).collect();
        assert_eq!(numbers, expected, "{query}");
    }
    assert_eq!(world.get("/api/v1/runs?repo=acme/none").await.refusal(), "404 not_found");
}

async fn a_log_is_what_was_stored(world: World) {
    world.repo(1, "acme", "shop").await;
    let run = world.run(1, 1, "running").await;
    let stage = world.stage(&run, 0, "test (db=sqlite)", "running", &[]).await;
    let path = format!("/api/v1/runs/{run}/stages/test%20%28db%3Dsqlite%29/logs");
    assert_eq!(world.get(&path).await.text, "", "nothing began yet");
    let first = world.job(&run, &stage, 1, "finished").await;
    world.log(&first, 0, "one\n").await;
    world.log(&first, 4, "\u{1b}[31mtwo\u{1b}[0m\r\n").await;
    let second = world.job(&run, &stage, 2, "running").await;
    world.log(&second, 0, "again").await;
    let answer = world.get(&path).await;
    assert_eq!((answer.text.as_str(), answer.header("content-type")), ("again", "text/plain; charset=utf-8"));
    assert_eq!(world.get(&format!("{path}?attempt=1")).await.text, "one\n\u{1b}[31mtwo\u{1b}[0m\r\n");
    assert_eq!(world.get(&format!("{path}?attempt=3")).await.refusal(), "404 not_found");
    assert_eq!(world.get(&format!("{path}?attempt=0")).await.refusal(), "400 param.range");
    assert_eq!(world.get(&format!("/api/v1/runs/{run}/stages/none/logs")).await.refusal(), "404 not_found");
}

async fn why_tells_the_stored_decisions(world: World) {
    world.repo(1, "acme", "shop").await;
    for (n, pipeline, outcome) in [(1, "'ci'", "run"), (2, "'docs'", "skip"), (3, "NULL", "skip")] {
        world
            .sql(&format!(
                "INSERT INTO decision (id, delivery_id, repo_id, pipeline, sha, outcome, reason, created_at)
                 VALUES ('d{n}', 'g1', 'local:1', {pipeline}, '{SHA}', '{outcome}', 'because {n}', 1000)"
            ))
            .await;
    }
    world
        .sql(
            "INSERT INTO delivery (id, forge, guid, event, headers, payload, state, available_at, received_at)
              VALUES ('g1', 'local', 'g1', 'push', '{}', '', 'done', 0, 1000)",
        )
        .await;
    let by_commit = world.get(&format!("/api/v1/why?repo=acme/shop&sha={}", &SHA[..8])).await.json();
    let told: Vec<String> = by_commit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| format!("{} {} {}", d["pipeline"], d["outcome"], d["reason"]))
        .collect();
    assert_eq!(
        told,
        ["\"ci\" \"run\" \"because 1\"", "\"docs\" \"skip\" \"because 2\"", "null \"skip\" \"because 3\""]
    );
    assert_eq!(world.get("/api/v1/why?delivery=g1").await.json(), by_commit);
    assert_eq!(world.get("/api/v1/deliveries/g1").await.json()["decisions"], by_commit["items"]);
    assert_eq!(world.get("/api/v1/deliveries").await.json()["items"][0]["state"], "done");
    let again = world.ask(Method::POST, "/api/v1/deliveries/g1/redeliver", ADMIN, None).await;
    assert_eq!((again.status.as_u16(), again.json()["state"].as_str()), (202, Some("pending")));
    assert_eq!(world.get("/api/v1/why?repo=acme/shop").await.refusal(), "400 param.required");
    assert_eq!(world.get("/api/v1/why?delivery=g2").await.refusal(), "404 not_found");
}

async fn tokens_are_shown_once_and_can_be_taken_back(world: World) {
    world.repo(1, "acme", "shop").await;
    let body = json!({"name": "deploys", "role": "viewer", "repos": ["acme/shop"]});
    let made = world.ask(Method::POST, "/api/v1/tokens", ADMIN, Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("rvk_"));
    assert_eq!(world.ask(Method::GET, "/api/v1/repos/acme/shop", &token, None).await.status, 200);
    let list = world.get("/api/v1/tokens").await;
    assert!(!list.text.contains(&token));
    let path = format!("/api/v1/tokens/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(world.ask(Method::DELETE, &path, ADMIN, None).await.status, 204);
    assert_eq!(world.ask(Method::GET, "/api/v1/repos", &token, None).await.refusal(), "401 token.invalid");
    assert_eq!(world.ask(Method::DELETE, &path, ADMIN, None).await.refusal(), "404 not_found");
}

async fn what_is_wrong_is_named(world: World) {
    for (path, refusal) in [
        ("/api/v1/runs?limit=1000000", "400 param.range"),
        ("/api/v1/runs?limit=0", "400 param.range"),
        ("/api/v1/runs?repo=a/b&repo=c/d", "400 param.repeated"),
        ("/api/v1/runs?brnach=main", "400 param.unknown"),
        ("/api/v1/runs?cursor=!!", "400 param.cursor"),
        ("/api/v1/runs?token=x", "400 auth.in_url"),
        ("/api/v1/runs/1e9", "400 id.invalid"),
        ("/api/v1/runs/-1", "400 id.invalid"),
        ("/api/v1/runs/9223372036854775808", "400 id.invalid"),
        ("/api/v1/runs/01jd3c8v6x0000000000000009", "404 not_found"),
        ("/api/v1/nothing", "404 not_found"),
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.refusal(), refusal, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    }
    for (body, refusal, field) in [
        (json!({"name": "x", "role": "viewer", "rules": 1}), "422 field.unknown", "rules"),
        (json!({"role": "viewer"}), "422 field.required", "name"),
        (json!({"name": "x", "role": "king"}), "422 field.type", "role"),
        (json!({"name": "", "role": "viewer"}), "422 field.value", "name"),
    ] {
        let answer = world.ask(Method::POST, "/api/v1/tokens", ADMIN, Some(body)).await;
        assert_eq!(answer.refusal(), refusal);
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
    let deep = serde_json::from_str(&format!("{}{}", "[".repeat(100), "]".repeat(100))).unwrap();
    assert_eq!(world.ask(Method::POST, "/api/v1/tokens", ADMIN, Some(deep)).await.refusal(), "422 field.type");
    let large = json!({"name": "x".repeat(1 << 20), "role": "viewer"});
    assert_eq!(world.ask(Method::POST, "/api/v1/tokens", ADMIN, Some(large)).await.refusal(), "413 body.too_large");
    let wrong = world.ask(Method::DELETE, "/api/v1/runs", ADMIN, None).await;
    assert_eq!(wrong.refusal(), "405 method");
}

async fn runners_are_told_what_to_do(world: World) {
    world
        .sql(
            "INSERT INTO runner (id, name, token_hash, labels, executors, version, state, last_seen_at, created_at)
              VALUES ('r1', 'oak', 'h', '[{\"key\":\"os\",\"value\":\"linux\"}]', '[\"podman\"]', '1.0.0', 'active', 5, 5)",
        )
        .await;
    let list = world.get("/api/v1/runners").await.json();
    assert_eq!(
        list["items"][0],
        json!({"id": "r1", "name": "oak", "state": "active", "labels": ["os=linux"], "executors": ["podman"],
            "version": "1.0.0", "busy": 0, "last_seen_at": "1970-01-01T00:00:00.005Z",
            "created_at": "1970-01-01T00:00:00.005Z"})
    );
    for (verb, state) in [("pause", "paused"), ("resume", "active"), ("drain", "draining")] {
        let answer = world.ask(Method::POST, &format!("/api/v1/runners/r1/{verb}"), ADMIN, None).await;
        assert_eq!(answer.json()["state"], state, "{}", answer.text);
    }
    assert_eq!(world.ask(Method::DELETE, "/api/v1/runners/r1", ADMIN, None).await.status, 204);
    assert_eq!(world.get("/api/v1/runners").await.json()["items"], json!([]));
    assert_eq!(world.ask(Method::POST, "/api/v1/runners/r2/drain", ADMIN, None).await.refusal(), "404 not_found");

    let path = "/api/v1/runners/registration-tokens";
    let made = world.ask(Method::POST, path, ADMIN, Some(json!({"name": "oak", "labels": ["os=linux"]}))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("rvg_"));
    let listed = world.get(path).await;
    assert!(!listed.text.contains(&token) && listed.text.contains("os=linux"));
    let one = format!("{path}/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(world.ask(Method::DELETE, &one, ADMIN, None).await.status, 204);
    assert_eq!(world.ask(Method::DELETE, &one, ADMIN, None).await.refusal(), "404 not_found");
    let wrong = world.ask(Method::POST, path, ADMIN, Some(json!({"labels": ["linux"]}))).await;
    assert_eq!(wrong.refusal(), "422 field.value");
}

async fn a_definition_is_checked_without_running(world: World) {
    let source = "[steps.test]\nrun = \"make test\"\ntimout = 5\n";
    let body = json!({"source": source, "language": "toml"});
    let answer = world.ask(Method::POST, "/api/v1/check", ADMIN, Some(body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["valid"], false);
    let problem = answer.json()["problems"][0].clone();
    assert!(problem["message"].as_str().unwrap().contains("timout"), "{problem}");
    let wrong = world.ask(Method::POST, "/api/v1/check", ADMIN, Some(json!({"source": "", "language": "cobol"}))).await;
    assert_eq!(wrong.refusal(), "422 field.type");
    assert_eq!(world.get("/api/v1/schemas/pipeline.json").await.status, 200);
}

async fn a_launch_tells_all_that_is_wrong(world: World) {
    world.repo(1, "acme", "shop").await;
    let launch = async |body| world.ask(Method::POST, "/api/v1/runs", ADMIN, Some(body)).await;
    assert_eq!(launch(json!({"repo": "acme/none", "pipeline": "ci"})).await.refusal(), "404 not_found");
    assert_eq!(launch(json!({"repo": "acme/shop"})).await.refusal(), "422 field.required");
    // No forge is set up here, so nothing can be read.
    assert_eq!(launch(json!({"repo": "acme/shop", "pipeline": "ci"})).await.refusal(), "409 forge.not_configured");
}
