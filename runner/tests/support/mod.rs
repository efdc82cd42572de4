//! A server that speaks the runner protocol from memory, and what tests need around it.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::result_large_err, reason = "the error is a whole response, made once")]

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use pipelines_spec::plan::Action;
use pipelines_spec::protocol::*;
use pipelines_spec::trigger::{EventFacts, EventKind};
use runner::agent::{self, Shutdown, ShutdownHandle};
use runner::{RunnerConfig, Timers};
use serde_json::{Map, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The registration token the server accepts.
pub const REGISTRATION: &str = "rvg_test";
const PATIENCE: Duration = Duration::from_secs(30);

/// What the server knows, and how it misbehaves.
#[derive(Default)]
pub struct World {
    pub queue: VecDeque<Job>,
    pub claims: HashMap<String, ClaimResponse>,
    pub claim_ids: Vec<String>,
    pub jobs: BTreeMap<String, JobRecord>,
    pub runners: Vec<RegisterRequest>,
    pub tokens: Vec<String>,
    pub left: u32,
    pub heartbeats: u32,
    pub command: RunnerCommand,
    /// So many answers to each call are lost after the call was done.
    pub lose_claims: u32,
    pub lose_logs: u32,
    pub lose_finishes: u32,
    /// Heartbeats go unanswered.
    pub deaf: bool,
    /// Heartbeats answer 503 `hold`.
    pub hold: bool,
}

/// One job as the server sees it.
#[derive(Default)]
pub struct JobRecord {
    pub epoch: i64,
    pub log: Vec<u8>,
    pub log_calls: u32,
    pub started: u32,
    pub finished: Option<FinishRequest>,
    pub command: Option<JobCommand>,
}

impl JobRecord {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.log).into_owned()
    }
}

/// The server.
#[derive(Clone)]
pub struct FakeServer {
    pub url: url::Url,
    world: Arc<Mutex<World>>,
    changed: Arc<Notify>,
}

impl FakeServer {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address")).parse().expect("a url");
        let server = Self { url, world: Arc::default(), changed: Arc::default() };
        let router = axum::Router::new()
            .route("/healthz", axum::routing::get(|| async { "ok" }))
            .route("/api/runner/v1/register", post(register))
            .route("/api/runner/v1/claim", post(claim))
            .route("/api/runner/v1/heartbeat", post(heartbeat))
            .route("/api/runner/v1/jobs/{id}/start", post(start))
            .route("/api/runner/v1/jobs/{id}/logs", post(logs))
            .route("/api/runner/v1/jobs/{id}/finish", post(finish))
            .route("/api/runner/v1/leave", post(leave))
            .layer(axum::extract::DefaultBodyLimit::max(4 << 20))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    /// Looks at the world, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        let result = look(&mut self.world.lock().expect("the world"));
        self.changed.notify_waiters();
        result
    }

    pub fn queue(&self, job: Job) {
        self.with(|world| world.queue.push_back(job));
    }

    /// Waits until something is so.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&mut World) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look(&mut self.world.lock().expect("the world")) {
                    return found;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => {
                let logs =
                    self.with(|world| world.jobs.values().map(JobRecord::text).collect::<Vec<_>>().join("\n---\n"));
                panic!("waited in vain until {what}; logs:\n{logs}")
            }
        }
    }

    /// Waits for a job's end.
    pub async fn finished(&self, id: &str) -> FinishRequest {
        self.until(&format!("{id} has ended"), |world| world.jobs.get(id)?.finished.clone()).await
    }

    /// Waits until a job's log holds a text.
    pub async fn says(&self, id: &str, text: &str) {
        self.until(&format!("{id} says {text}"), |world| world.jobs.get(id)?.text().contains(text).then_some(())).await;
    }

    /// Waits for `name=NUMBER` in a job's log.
    pub async fn number(&self, id: &str, name: &str) -> i32 {
        self.until(&format!("{id} says {name}="), |world| number(&world.jobs.get(id)?.text(), name)).await
    }

    pub fn log(&self, id: &str) -> String {
        self.with(|world| world.jobs.get(id).map(JobRecord::text).unwrap_or_default())
    }
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = json!({ "title": code, "status": status.as_u16(), "code": code, "detail": detail });
    (status, [("content-type", "application/problem+json")], body.to_string()).into_response()
}

fn lost() -> Response {
    problem(StatusCode::BAD_GATEWAY, "lost", "the answer was lost")
}

fn signed_in(server: &FakeServer, headers: &HeaderMap) -> Result<(), Response> {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let known = server.with(|world| token.is_some_and(|token| world.tokens.iter().any(|known| known == token)));
    if headers.get(VERSION_HEADER).is_none_or(|version| version != "1") {
        return Err(problem(StatusCode::UPGRADE_REQUIRED, "runner.version", "Server speaks 1."));
    }
    if known { Ok(()) } else { Err(problem(StatusCode::UNAUTHORIZED, "token.invalid", "The token is not valid.")) }
}

async fn register(State(server): State<FakeServer>, headers: HeaderMap, Json(body): Json<RegisterRequest>) -> Response {
    if headers.get("authorization").is_none_or(|value| value != &format!("Bearer {REGISTRATION}")) {
        return problem(StatusCode::UNAUTHORIZED, "register.token", "This registration token was used or has expired.");
    }
    let (runner_id, token) = server.with(|world| {
        world.runners.push(body);
        let number = world.runners.len();
        world.tokens.push(format!("rvr_{number}"));
        (format!("runner{number}"), format!("rvr_{number}"))
    });
    (StatusCode::CREATED, Json(RegisterResponse { runner_id, token })).into_response()
}

async fn claim(State(server): State<FakeServer>, headers: HeaderMap, Json(body): Json<ClaimRequest>) -> Response {
    if let Err(refusal) = signed_in(&server, &headers) {
        return refusal;
    }
    server.with(|world| world.claim_ids.push(body.claim_id.clone()));
    let ready = server.until("there is work", |world| {
        let known = world.claims.contains_key(&body.claim_id);
        (known || !world.queue.is_empty() || world.command != RunnerCommand::None).then_some(())
    });
    let _ = tokio::time::timeout(Duration::from_secs(body.wait_seconds), ready).await;
    server.with(|world| {
        let answer = match world.claims.get(&body.claim_id) {
            Some(answer) => answer.clone(),
            None => give(world, body.slots, &body.claim_id),
        };
        if !answer.jobs.is_empty() && world.lose_claims > 0 {
            world.lose_claims -= 1;
            return lost();
        }
        Json(answer).into_response()
    })
}

fn give(world: &mut World, slots: u32, claim_id: &str) -> ClaimResponse {
    let count = world.queue.len().min(slots as usize);
    let jobs: Vec<Job> = world.queue.drain(..count).collect();
    for job in &jobs {
        world.jobs.insert(job.id.clone(), JobRecord { epoch: job.epoch, ..JobRecord::default() });
    }
    let answer = ClaimResponse { jobs, command: world.command };
    if !answer.jobs.is_empty() {
        world.claims.insert(claim_id.to_owned(), answer.clone());
    }
    answer
}

async fn heartbeat(
    State(server): State<FakeServer>,
    headers: HeaderMap,
    Json(body): Json<HeartbeatRequest>,
) -> Response {
    if let Err(refusal) = signed_in(&server, &headers) {
        return refusal;
    }
    if server.with(|world| world.deaf) {
        std::future::pending::<()>().await;
    }
    server.with(|world| {
        world.heartbeats += 1;
        if world.hold {
            return problem(StatusCode::SERVICE_UNAVAILABLE, "hold", "The database is down.");
        }
        let commands = body.jobs.iter().map(|held| {
            let record = world.jobs.get(&held.id);
            let command = match record {
                Some(record) if record.epoch == held.epoch => record.command.unwrap_or(JobCommand::Continue),
                _ => JobCommand::Fenced,
            };
            (held.id.clone(), command)
        });
        Json(HeartbeatResponse { jobs: commands.collect(), command: world.command }).into_response()
    })
}

/// The job's record, or what is wrong with the call.
fn held<'a>(world: &'a mut World, id: &str, epoch: i64) -> Result<&'a mut JobRecord, Response> {
    let Some(record) = world.jobs.get_mut(id) else {
        return Err(problem(StatusCode::NOT_FOUND, "job.not_found", "There is no such job."));
    };
    if record.epoch != epoch {
        let detail = format!("Job {id} is now at epoch {}; you hold {epoch}. Stop the job.", record.epoch);
        return Err(problem(StatusCode::CONFLICT, "lease.stale", &detail));
    }
    Ok(record)
}

async fn start(
    State(server): State<FakeServer>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<StartRequest>,
) -> Response {
    if let Err(refusal) = signed_in(&server, &headers) {
        return refusal;
    }
    server.with(|world| match held(world, &id, body.epoch) {
        Ok(record) => {
            record.started += 1;
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refusal) => refusal,
    })
}

async fn logs(
    State(server): State<FakeServer>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, i64>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = signed_in(&server, &headers) {
        return refusal;
    }
    server.with(|world| {
        let offset = query["offset"] as usize;
        let record = match held(world, &id, query["epoch"]) {
            Ok(record) => record,
            Err(refusal) => return refusal,
        };
        record.log_calls += 1;
        let known = record.log.len();
        if offset > known {
            let detail = format!("expected offset {known}, got {offset}.");
            return problem(StatusCode::CONFLICT, "log.gap", &detail);
        }
        let overlap = (known - offset).min(body.len());
        if record.log[offset..offset + overlap] != body[..overlap] {
            return problem(StatusCode::CONFLICT, "log.conflict", "other bytes");
        }
        record.log.extend_from_slice(&body[overlap..]);
        let next_offset = record.log.len() as u64;
        if world.lose_logs > 0 {
            world.lose_logs -= 1;
            return lost();
        }
        Json(LogResponse { next_offset }).into_response()
    })
}

async fn finish(
    State(server): State<FakeServer>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json<FinishRequest>,
) -> Response {
    if let Err(refusal) = signed_in(&server, &headers) {
        return refusal;
    }
    server.with(|world| {
        let record = match held(world, &id, body.epoch) {
            Ok(record) => record,
            Err(refusal) => return refusal,
        };
        if record.finished.as_ref().is_some_and(|before| *before != body) {
            return problem(StatusCode::CONFLICT, "job.finished", "already finished");
        }
        record.finished = Some(body);
        if world.lose_finishes > 0 {
            world.lose_finishes -= 1;
            return lost();
        }
        StatusCode::NO_CONTENT.into_response()
    })
}

async fn leave(State(server): State<FakeServer>, headers: HeaderMap) -> Response {
    if let Err(refusal) = signed_in(&server, &headers) {
        return refusal;
    }
    server.with(|world| world.left += 1);
    StatusCode::NO_CONTENT.into_response()
}

/// A job that runs shell lines; change what the test is about.
pub fn job(id: &str, lines: &[&str]) -> Job {
    Job {
        id: id.into(),
        epoch: 1,
        run: RunInfo {
            id: "run1".into(),
            number: 7,
            url: "http://127.0.0.1/runs/run1".into(),
            repo: "acme/widgets".into(),
            pipeline: "ci".into(),
        },
        stage: "build".into(),
        base: "build".into(),
        kind: JobKind::Stage,
        attempt: 1,
        max_attempts: 1,
        action: Action::Run { run: lines.iter().map(|line| (*line).to_owned()).collect() },
        run_values: BTreeMap::new(),
        container: None,
        services: BTreeMap::new(),
        env: BTreeMap::new(),
        timeout_seconds: Some(60),
        file: ".rivet/ci.lua".into(),
        sources: BTreeMap::new(),
        event: event(),
        inputs: Map::new(),
        matrix: Map::new(),
        needs: Map::new(),
        outputs: None,
        checkout: None,
        secrets: BTreeMap::new(),
        redact: Vec::new(),
        trust: Trust::Trusted,
    }
}

/// A job that runs the stage `build` of a Lua file whose script is `body`.
pub fn script(id: &str, body: &str) -> Job {
    let source = format!(
        "return pipeline.define({{\n  name = \"CI\",\n  stages = {{ {{ name = \"build\", script = function(ctx)\n{body}\nend }} }},\n}})\n"
    );
    lua(id, &source)
}

/// A job that runs the stage `build` of a whole Lua file.
pub fn lua(id: &str, source: &str) -> Job {
    Job { action: Action::Script, sources: [(".rivet/ci.lua".into(), source.into())].into(), ..job(id, &[]) }
}

pub fn event() -> EventFacts {
    EventFacts {
        name: EventKind::Push,
        action: None,
        repo: "acme/widgets".into(),
        default_branch: "main".into(),
        git_ref: "refs/heads/main".into(),
        branch: Some("main".into()),
        tag: None,
        sha: "a".repeat(40),
        before: None,
        forced: false,
        actor: "alice".into(),
        message: None,
        pull_request: None,
        dispatch_type: None,
        extra: BTreeMap::new(),
    }
}

/// A git repository with one commit.
pub struct Repo {
    directory: TempDir,
    pub sha: String,
}

impl Repo {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a directory");
        let repo = Self { directory, sha: String::new() };
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        for (path, text) in files {
            let path = repo.directory.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        }
        repo.git(&["add", "."]);
        repo.git(&["commit", "--quiet", "--message", "first"]);
        let sha = repo.git(&["rev-parse", "HEAD"]).trim().to_owned();
        Self { sha, ..repo }
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .current_dir(self.directory.path())
            .output()
            .expect("git runs");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.directory.path().display())
    }

    pub fn checkout(&self) -> Option<Checkout> {
        Some(Checkout { url: self.url(), sha: self.sha.clone(), token: None })
    }
}

/// A runner in this process, its jobs in processes of their own.
pub struct TestRunner {
    pub data: PathBuf,
    _directory: TempDir,
    pub shutdown: ShutdownHandle,
    task: JoinHandle<anyhow::Result<()>>,
}

impl TestRunner {
    pub fn start(server: &FakeServer) -> Self {
        Self::start_with(server, |_| {})
    }

    pub fn start_with(server: &FakeServer, change: impl FnOnce(&mut RunnerConfig)) -> Self {
        let directory = TempDir::new().expect("a directory");
        let data = directory.path().join("data");
        let mut config = config(server, data.clone());
        change(&mut config);
        let (shutdown, ends) = Shutdown::new();
        let task = tokio::spawn(agent::run(config, ends));
        Self { data, _directory: directory, shutdown, task }
    }

    /// Drains it, and checks that nothing is left behind.
    pub async fn end(self) {
        self.shutdown.drain();
        self.ended().await;
    }

    /// Waits for its end.
    pub async fn ended(self) {
        let ended =
            tokio::time::timeout(PATIENCE, self.task).await.expect("the runner ends").expect("it does not panic");
        ended.expect("it ends well");
        let jobs = self.data.join("jobs");
        let left = std::fs::read_dir(jobs).map(Iterator::count).unwrap_or_default();
        assert_eq!(left, 0, "directories are left behind");
    }

    /// Waits for its end by an error.
    pub async fn fails(self) -> String {
        let ended =
            tokio::time::timeout(PATIENCE, self.task).await.expect("the runner ends").expect("it does not panic");
        format!("{:#}", ended.expect_err("it fails"))
    }
}

/// A configuration with short clocks.
pub fn config(server: &FakeServer, data: PathBuf) -> RunnerConfig {
    let job_command = vec![env!("CARGO_BIN_EXE_rivet-runner").into(), "run-job".into()];
    let mut config = RunnerConfig::new(server.url.clone(), data, job_command);
    config.name = "test-runner".into();
    config.registration_token = Some(REGISTRATION.to_owned().into());
    config.timers = Timers {
        heartbeat: Duration::from_millis(100),
        self_fence: Duration::from_secs(20),
        claim_wait_seconds: 5,
        grace: Duration::from_millis(500),
        log_flush: Duration::from_millis(20),
        retry: Duration::from_millis(20),
        reap: Duration::from_secs(60),
    };
    config
}

/// Whether a process lives (zombies do not).
pub fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap_or_default()..].starts_with(") Z"))
}

fn number(log: &str, name: &str) -> Option<i32> {
    let name = format!("{name}=");
    log.match_indices(&name).find_map(|(at, _)| {
        let rest = &log[at + name.len()..];
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        // A number that ends the log may be half of one.
        if digits.len() == rest.len() { None } else { digits.parse().ok() }
    })
}
