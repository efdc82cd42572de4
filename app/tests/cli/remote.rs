//! Commands that talk to a server.

use crate::program::{Did, Place};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// A server with one run; each look at it shows the next of its states.
struct Server {
    address: String,
    world: Arc<Mutex<World>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct World {
    states: Vec<Value>,
    launched: Vec<Value>,
    acted: Vec<String>,
}

type Shared = State<Arc<Mutex<World>>>;

impl Server {
    fn with(states: Vec<Value>) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let world = Arc::new(Mutex::new(World { states, ..World::default() }));
        let router = Router::new()
            .route("/api/v1/runs", get(list).post(launch))
            .route("/api/v1/runs/{id}", get(view))
            .route("/api/v1/runs/{id}/{verb}", post(act))
            .route("/api/v1/runs/{id}/stages/{stage}/logs", get(logs))
            .route("/api/v1/why", get(why))
            .with_state(world.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, world, _runtime: runtime }
    }

    fn place(&self) -> Place {
        Place::with_server(&self.address)
    }

    fn rivet(&self, args: &[&str]) -> Did {
        self.place().rivet(args)
    }
}

fn refused(status: StatusCode, code: &str, detail: &str) -> axum::response::Response {
    let body = json!({ "title": "x", "status": status.as_u16(), "detail": detail, "code": code, "request_id": "01r" });
    (status, [("content-type", "application/problem+json")], body.to_string()).into_response()
}

fn is_known(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|v| v == "Bearer rvt_test")
}

async fn list(State(world): Shared, headers: HeaderMap) -> axum::response::Response {
    if !is_known(&headers) {
        return refused(StatusCode::UNAUTHORIZED, "auth.invalid", "This token is not known.");
    }
    let world = world.lock().expect("the world");
    Json(json!({ "items": [world.states[0]], "next_cursor": null })).into_response()
}

async fn view(State(world): Shared, Path(id): Path<String>) -> axum::response::Response {
    let mut world = world.lock().expect("the world");
    if id != "01run" {
        return refused(StatusCode::NOT_FOUND, "not_found", "There is nothing here that you may see.");
    }
    let state = if world.states.len() > 1 { world.states.remove(0) } else { world.states[0].clone() };
    Json(state).into_response()
}

async fn launch(State(world): Shared, Json(body): Json<Value>) -> axum::response::Response {
    let mut world = world.lock().expect("the world");
    if body["inputs"]["replicas"] == "three" {
        let errors = json!([
            { "field": "inputs.replicas", "code": "input.type", "detail": "input 'replicas' is not a number" },
            { "field": "inputs.zone", "code": "input.unknown", "detail": "there is no input 'zone'" },
        ]);
        let body = json!({ "detail": "2 fields are wrong.", "code": "input.type", "errors": errors });
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response();
    }
    world.launched.push(body);
    (StatusCode::CREATED, Json(world.states[0].clone())).into_response()
}

async fn act(State(world): Shared, Path((_, verb)): Path<(String, String)>) -> axum::response::Response {
    let mut world = world.lock().expect("the world");
    if verb == "retry" {
        return refused(StatusCode::CONFLICT, "state", "The run has not ended; there is nothing to retry.");
    }
    world.acted.push(verb);
    Json(world.states[0].clone()).into_response()
}

async fn logs(Path((_, stage)): Path<(String, String)>, headers: HeaderMap) -> axum::response::Response {
    if headers.get("accept").is_some_and(|v| v == "text/event-stream") {
        let text = format!(
            "id: 8\nevent: log\ndata: one of {stage}\n\nid: 16\nevent: log\ndata: two\n\nevent: end\ndata:\n\n"
        );
        return ([("content-type", "text/event-stream")], text).into_response();
    }
    format!("one of {stage}\n\u{1b}[31mtwo\u{1b}[0m\n").into_response()
}

async fn why() -> Json<Value> {
    Json(json!({ "items": [
        { "pipeline": "ci", "outcome": "run", "reason": "on.push has the branch 'main'", "run": "01run" },
        { "pipeline": "docs", "outcome": "skip", "reason": "no changed file matches on.push.paths" },
    ] }))
}

fn stage(name: &str, state: &str) -> Value {
    let ran = matches!(state, "running" | "succeeded" | "failed");
    json!({
        "name": name, "state": state, "reason": format!("{name} is {state}"), "attempt": i32::from(ran), "max_attempts": 1,
        "depends_on": [], "started_at": ran.then_some("2026-11-24T00:00:01.000Z"),
        "finished_at": (ran && state != "running").then_some("2026-11-24T00:00:04.500Z"),
        "error": (state == "failed").then(|| json!({
            "class": "command_failed", "message": "`npm test` ended with 1", "command": "npm test", "exit_code": 1
        })),
    })
}

fn run(state: &str, build: &str, test: &str) -> Value {
    let ended = matches!(state, "completed" | "failed" | "cancelled");
    json!({
        "id": "01run", "number": 12, "repo": "acme/web", "pipeline": "ci", "event": "push", "ref": "refs/heads/main",
        "sha": "3f2a9c1d00000000000000000000000000000000", "title": "Fix \u{1b}[2Jthe door", "actor": "ada",
        "inputs": {}, "state": state, "reason": format!("the run is {state}"), "stages": [stage("build", build), stage("test", test)],
        "created_at": "2026-11-24T00:00:00.000Z", "started_at": "2026-11-24T00:00:01.000Z",
        "finished_at": ended.then_some("2026-11-24T00:00:35.000Z"), "url": "http://ci.example.org/runs/01run",
    })
}

fn failing() -> Vec<Value> {
    vec![
        run("running", "running", "pending"),
        run("running", "running", "pending"),
        run("running", "succeeded", "running"),
        run("failed", "succeeded", "failed"),
    ]
}

#[test]
fn watching_tells_each_change_and_ends_with_the_outcome() {
    let server = Server::with(failing());
    insta::assert_snapshot!(server.rivet(&["run", "watch", "01run"]).all(), @r"
    exit 1
    --- stderr
    ci #12 on main 3f2a9c1d “Fix the door”
      http://ci.example.org/runs/01run
    ● build running
    ✓ build 3.5 s
    ● test running
    ✗ test failed after 3.5 s: `npm test` ended with 1

    ✗ test
      command_failed: `npm test` ended with 1
      $ npm test (exit code 1)
      │ one of test
      │ two
      all of it: rivet run logs 01run --stage 'test'

    ✗ ci #12 failed in 34 s: 1 succeeded, 1 failed
      http://ci.example.org/runs/01run
    ");
}

#[test]
fn outcomes_are_exit_codes() {
    for (state, code) in [("completed", 0), ("failed", 1), ("cancelled", 3)] {
        let did = Server::with(vec![run(state, "succeeded", "succeeded")]).rivet(&["run", "watch", "01run"]);
        assert_eq!(did.code, code, "{state}: {}", did.err);
    }
    let going = Server::with(vec![run("running", "running", "pending")]);
    let did = going.rivet(&["run", "watch", "01run", "--timeout", "1"]);
    assert_eq!(did.code, 124);
    assert!(did.err.contains("the time is up; the run goes on: rivet run watch 01run"), "{}", did.err);
}

#[test]
fn json_is_data_and_progress_is_not() {
    let server = Server::with(failing());
    let did = server.rivet(&["run", "watch", "01run", "--json"]);
    let data: Value = serde_json::from_str(&did.out).expect("stdout is JSON alone");
    assert_eq!((data["schema_version"].clone(), data["state"].clone()), (json!(1), json!("failed")));
}

#[test]
fn a_run_is_shown_with_its_stages() {
    let server = Server::with(vec![run("failed", "succeeded", "failed")]);
    let did = server.rivet(&["run", "view", "#12"]);
    assert_eq!((did.code, did.err.as_str()), (0, ""));
    let stages = did.out.split_once("STATE").expect("a table").1;
    insta::assert_snapshot!(format!("STATE{stages}"), @r"
    STATE        STAGE  TOOK   TRY  WHY
    ✓ succeeded  build  3.5 s       build is succeeded
    ✗ failed     test   3.5 s       `npm test` ended with 1

    see why: rivet run logs 01run
    ");
}

#[test]
fn logs_go_to_stdout() {
    let server = Server::with(vec![run("failed", "succeeded", "failed")]);
    let did = server.rivet(&["run", "logs", "01run", "--stage", "build"]);
    assert_eq!((did.code, did.out.as_str()), (0, "one of build\n\u{1b}[31mtwo\u{1b}[0m\n"));
    let did = server.rivet(&["run", "logs", "01run", "-f", "--stage", "test"]);
    assert_eq!((did.code, did.out.as_str()), (1, "one of test\n\u{1b}[31mtwo\u{1b}[0m\n"));
    let begun = run("running", "running", "pending");
    let going = Server::with(vec![begun.clone(), begun, run("failed", "succeeded", "failed")]);
    let did = going.rivet(&["run", "logs", "01run", "-f"]);
    assert_eq!(did.code, 1, "{}", did.err);
    assert!(did.out.contains("build │ one of build") && did.out.contains("test │ two"), "{}", did.out);
    let did = server.rivet(&["run", "logs", "01run", "--stage", "tset"]);
    assert_eq!((did.code, did.err.as_str()), (5, "rivet: run #12 has no stage 'tset'; did you mean 'test'?\n"));
}

#[test]
fn launching_prints_id_and_address() {
    let server = Server::with(vec![run("pending", "pending", "pending")]);
    let did = server.rivet(&["launch", "ci", "--ref", "main", "-f", "replicas=3", "-f", "zone=a", "-f", "zone=b"]);
    insta::assert_snapshot!(did.all(), @r"
    exit 0
    --- stdout
    01run http://ci.example.org/runs/01run
    --- stderr
    ci #12 started
    ");
    let launched = server.world.lock().expect("the world").launched.clone();
    let inputs = json!({ "replicas": "3", "zone": ["a", "b"] });
    assert_eq!(launched, [json!({ "repo": "acme/web", "pipeline": "ci", "ref": "main", "inputs": inputs })]);
}

#[test]
fn every_wrong_input_is_told() {
    let server = Server::with(failing());
    insta::assert_snapshot!(server.rivet(&["launch", "ci", "-f", "replicas=three"]).all(), @r"
    exit 1
    --- stderr
    rivet: 2 fields are wrong.
    rivet: inputs.replicas: input 'replicas' is not a number
    rivet: inputs.zone: there is no input 'zone'
    ");
}

#[test]
fn refusals_say_what_to_do() {
    let server = Server::with(failing());
    insta::assert_snapshot!(server.rivet(&["run", "view", "01other"]).all(), @r"
    exit 5
    --- stderr
    rivet: there is no run '01other' that you may see; `rivet run list` shows them
    ");
    insta::assert_snapshot!(server.rivet(&["run", "retry", "01run"]).all(), @r"
    exit 1
    --- stderr
    rivet: The run has not ended; there is nothing to retry.
    ");
    let place = server.place();
    let mut anonymous = place.command(&["run", "list"]);
    let did = crate::program::did(anonymous.env_remove("RIVET_TOKEN").output().expect("it runs"));
    assert_eq!(did.code, 4);
    assert!(did.err.contains("sign in with `rivet auth login`, or set RIVET_TOKEN or RIVET_TOKEN_FILE"), "{}", did.err);
    let did = Place::with_server("http://127.0.0.1:9").rivet(&["run", "list"]);
    assert_eq!(did.code, 6);
    assert!(did.err.contains("http://127.0.0.1:9 cannot be reached"), "{}", did.err);
}

#[test]
fn why_tells_what_was_decided() {
    let server = Server::with(failing());
    let place = server.place();
    place.commit();
    insta::assert_snapshot!(place.rivet(&["run", "why"]).all(), @r"
    exit 0
    --- stdout
    ci: run: on.push has the branch 'main'
    docs: skip: no changed file matches on.push.paths
    ");
}

#[test]
fn a_token_is_kept_for_its_server() {
    let server = Server::with(failing());
    let place = Place::new();
    let login = ["auth", "login", "--url", &server.address];
    let did = place.rivet_with_input(&login, "rvt_wrong\n");
    assert_eq!(did.code, 4, "{}", did.err);
    assert!(!place.config().join("rivet/credentials.toml").exists());

    let did = place.rivet_with_input(&login, "rvt_test\n");
    assert_eq!(did.code, 0, "{}", did.err);
    assert!(!format!("{}{}", did.out, did.err).contains("rvt_test"));
    let did = place.rivet(&["auth", "status"]);
    assert_eq!(did.code, 0, "{}", did.err);
    assert!(did.out.contains("signed in: yes"), "{}", did.out);

    assert_eq!(place.rivet(&["auth", "logout"]).code, 0);
    assert_eq!(place.rivet(&["auth", "status", "--url", &server.address]).code, 4);
}

#[test]
fn raw_calls_print_the_answer() {
    let server = Server::with(failing());
    let did = server.rivet(&["api", "runs/01run"]);
    assert_eq!(did.code, 0, "{}", did.err);
    assert!(did.out.starts_with("{\"actor\":\"ada\""), "{}", did.out);
    let did = server.rivet(&["api", "GET", "/api/v1/runs/none"]);
    assert_eq!(did.code, 5);
    assert!(did.out.contains("not_found"), "{}", did.out);
    assert_eq!(server.rivet(&["api", "FETCH", "/api/v1/runs"]).code, 2);
}

#[test]
fn usage_is_code_2() {
    let place = Place::new();
    for wrong in [&["nonsense"][..], &["run", "watch", "--timeout", "soon"], &["launch"], &["launch", "ci", "-f", "x"]]
    {
        assert_eq!(place.rivet(wrong).code, 2, "{wrong:?}");
    }
    let did = place.rivet(&["run", "list"]);
    assert_eq!(did.code, 2);
    assert!(did.err.contains("say so with -R OWNER/REPO or RIVET_REPO"), "{}", did.err);
}

#[test]
fn the_program_describes_itself() {
    let place = Place::new();
    assert_eq!(place.rivet(&["version"]).out, format!("rivet {}\n", env!("CARGO_PKG_VERSION")));
    assert!(place.rivet(&["version", "--json"]).out.contains("\"schema_version\": 1"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.rivet(&["completion", shell]).out.contains("rivet"), "{shell}");
    }
    assert!(place.rivet(&["man"]).out.starts_with(".ie"));
}
