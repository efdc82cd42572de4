//! A server's router on a database of its own, runs that were started as the engine starts them, and runners.

use crate::databases::{self, Kind};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use pipelines_spec::plan::Plan;
use pipelines_spec::protocol::Trust;
use rivet::actions::start_run::{Started, began, start_run};
use rivet::config::Config;
use rivet::context::Context;
use rivet::evaluator::Evaluator;
use rivet::forge::{Forges, RepoFacts};
use rivet::model::ids::{ForgeKind, JobId, RunId};
use rivet::model::job::Job;
use rivet::model::run::NewRun;
use rivet::model::time::Timestamp;
use rivet::store::{Store, Tx};
use serde_json::{Map, Value, json};
use sqlx::AssertSqlSafe;
use std::future::Future;
use std::sync::Arc;
use tower::ServiceExt as _;

/// The settings' registration token.
pub const TOKEN: &str = "rvg_a-token-for-tests-only";

/// Makes each named function, which is given a [`World`], a test on SQLite and one on Postgres.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => { crate::databases::on_both_databases!(crate::world::run; $($name),*); };
}
pub(crate) use on_both_databases;

pub fn run<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(World) -> F) {
    databases::block_on(async { test(World::new(kind).await).await });
}

pub struct World {
    pub context: Context,
    router: Router,
    folder: tempfile::TempDir,
}

/// An answer's status and body.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// `409 lease.stale: Job … Stop the job.`, or the status alone.
    pub fn text(&self) -> String {
        match self.body["code"].as_str() {
            Some(code) => format!("{} {code}: {}", self.status, self.body["detail"].as_str().unwrap_or("")),
            None => self.status.to_string(),
        }
    }

    /// `409 lease.stale`, or the status alone.
    pub fn code(&self) -> String {
        self.text().split(':').next().unwrap_or_default().to_owned()
    }
}

/// A runner with what it says of itself.
#[derive(Clone)]
pub struct TestRunner {
    pub id: String,
    pub token: String,
    pub labels: Value,
    pub executors: Value,
    router: Router,
}

/// A label as JSON.
pub fn label(text: &str) -> Value {
    let (key, value) = text.split_once('=').unwrap();
    json!({ "key": key, "value": value })
}

/// A stage that runs anywhere.
pub fn stage(name: &str) -> Value {
    stage_with(name, json!({}), &[])
}

/// A stage with further keys and labels.
pub fn stage_with(name: &str, more: Value, labels: &[&str]) -> Value {
    let mut stage = json!({ "name": name, "action": { "kind": "run", "run": ["true"] } });
    stage.as_object_mut().unwrap().extend(serde_json::from_value::<Map<String, Value>>(more).unwrap());
    let labels: Vec<Value> = labels.iter().map(|text| label(text)).collect();
    json!({ "name": name, "base": name, "labels": labels, "stage": stage })
}

impl World {
    async fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = databases::fresh(kind, folder.path()).await;
        let config = Config {
            database: database.clone(),
            public_url: "http://rivet.test".parse().unwrap(),
            runner_token: Some(TOKEN.into()),
            ..Config::embedded(folder.path(), "127.0.0.1:8080".parse().unwrap())
        };
        let evaluator = Evaluator::new(env!("CARGO_BIN_EXE_rivet"));
        let store = Store::open(&database).await.unwrap();
        let context = Context::new(store, Forges::default(), evaluator, config);
        Self { router: rivet::http::router(context.clone()), context, folder }
    }

    /// The same world with a local forge that has no repositories.
    pub fn with_empty_forge(mut self) -> Self {
        let forge = rivet::forge::local::LocalForge::new(self.folder.path().join("none"), self.context.store.clone());
        self.context.forges.local = Some(Arc::new(forge));
        self.router = rivet::http::router(self.context.clone());
        self
    }

    /// Starts a trusted run of repository `repo` with these stages.
    pub async fn run(&self, repo: i64, stages: Vec<Value>) -> RunId {
        let plan = json!({ "pipeline": "ci", "file": ".rivet/ci.lua", "name": "CI", "stages": stages });
        self.run_plan(repo, plan).await
    }

    /// Starts a trusted run of a plan.
    pub async fn run_plan(&self, repo: i64, plan: Value) -> RunId {
        let plan: Plan = serde_json::from_value(plan).unwrap();
        let sha = "0123456789abcdef0123456789abcdef01234567";
        let facts = json!({ "name": "push", "repo": "acme/shop", "default_branch": "main", "ref": "refs/heads/main",
            "branch": "main", "sha": sha, "actor": "alice", "message": "Say hello" });
        let now = Timestamp::now();
        let mut tx = self.context.store.begin().await.unwrap();
        let facts_of_repo = RepoFacts {
            forge: ForgeKind::Local,
            forge_id: repo,
            owner: "acme".to_owned(),
            name: format!("shop{repo}"),
            default_branch: "main".to_owned(),
            private: true,
            installation_id: None,
        };
        let repo = tx.save_repo(&facts_of_repo, now).await.unwrap();
        let sources = [(".rivet/ci.lua".to_owned(), "-- the definition".to_owned())].into();
        let new = NewRun {
            repo_id: repo.id,
            plan,
            bundle_digest: tx.save_bundle(&sources, now).await.unwrap(),
            facts: serde_json::from_value(facts).unwrap(),
            source_key: ulid::Ulid::new().to_string(),
            trust: Trust::Trusted,
            trust_reason: None,
            caused_by: vec![],
            delivery_id: None,
            parent_stage_id: None,
            rerun_of: None,
        };
        let started = start_run(&mut tx, &new, now).await.unwrap();
        tx.commit().await.unwrap();
        let Started::Created(id) = started else { panic!("the run existed already") };
        began(&self.context, &id, now).await;
        id
    }

    /// Registers a runner that offers its own machine and containers.
    pub async fn runner(&self, name: &str) -> TestRunner {
        self.runner_with(name, &[]).await
    }

    /// Registers a runner with labels.
    pub async fn runner_with(&self, name: &str, labels: &[&str]) -> TestRunner {
        let labels: Value = labels.iter().map(|text| label(text)).collect();
        let answer = self.register(TOKEN, name, &labels).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        TestRunner {
            id: answer.body["runner_id"].as_str().unwrap().to_owned(),
            token: answer.body["token"].as_str().unwrap().to_owned(),
            labels,
            executors: json!(["host", "podman"]),
            router: self.router.clone(),
        }
    }

    pub async fn register(&self, token: &str, name: &str, labels: &Value) -> Answer {
        let body = json!({ "name": name, "labels": labels, "executors": ["host"], "version": "0.1.0" });
        post(&self.router, "register", token, Some("1"), body.to_string().into()).await
    }

    /// Asks with any token and version.
    pub async fn post(&self, path: &str, token: &str, version: Option<&str>, body: Value) -> Answer {
        post(&self.router, path, token, version, body.to_string().into()).await
    }

    pub async fn tx(&self) -> Tx {
        self.context.store.begin().await.unwrap()
    }

    /// Runs one statement.
    pub async fn sql(&self, sql: &str) {
        let mut tx = self.tx().await;
        match &mut tx {
            Tx::Postgres(tx) => drop(sqlx::query(AssertSqlSafe(sql)).execute(&mut **tx).await.expect(sql)),
            Tx::Sqlite(tx) => drop(sqlx::query(AssertSqlSafe(sql)).execute(&mut **tx).await.expect(sql)),
        }
        tx.commit().await.unwrap();
    }

    pub async fn job(&self, id: &str) -> Job {
        self.context.store.read().await.unwrap().job(&JobId(id.to_owned())).await.unwrap()
    }

    /// The state and the reason of a run.
    pub async fn state_of(&self, run: &RunId) -> String {
        self.context.store.read().await.unwrap().run(run).await.unwrap().state.to_string()
    }

    /// The states of a run's stages, by name.
    pub async fn stages_of(&self, run: &RunId) -> Vec<(String, String)> {
        let stages = self.context.store.read().await.unwrap().stages(run).await.unwrap();
        stages.into_iter().map(|stage| (stage.name, stage.state.to_string())).collect()
    }
}

impl TestRunner {
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        post(&self.router, path, &self.token, Some("1"), body.to_string().into()).await
    }

    /// Claims without waiting, under a name of its own.
    pub async fn claim(&self, slots: u32) -> Vec<Value> {
        self.claim_as(&ulid::Ulid::new().to_string(), slots, 0).await
    }

    pub async fn claim_as(&self, claim_id: &str, slots: u32, wait: u64) -> Vec<Value> {
        let answer = self.claim_answer(claim_id, slots, wait).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["jobs"].as_array().unwrap().clone()
    }

    pub async fn claim_answer(&self, claim_id: &str, slots: u32, wait: u64) -> Answer {
        let body = json!({ "claim_id": claim_id, "slots": slots, "wait_seconds": wait, "executors": self.executors,
            "labels": self.labels });
        self.post("claim", body).await
    }

    /// Claims one job, which there must be.
    pub async fn one(&self) -> Value {
        let mut jobs = self.claim(1).await;
        assert_eq!(jobs.len(), 1, "there should be a job");
        jobs.remove(0)
    }

    pub async fn start(&self, job: &Value) -> Answer {
        self.post(&format!("jobs/{}/start", id(job)), json!({ "epoch": job["epoch"] })).await
    }

    pub async fn finish(&self, job: &Value, conclusion: &str) -> Answer {
        let outcome = json!({ "conclusion": conclusion, "outputs": { "version": "1.2" } });
        self.finish_with(job, outcome, 0).await
    }

    pub async fn finish_with(&self, job: &Value, outcome: Value, log_bytes: u64) -> Answer {
        let body = json!({ "epoch": job["epoch"], "outcome": outcome, "log_bytes": log_bytes });
        self.post(&format!("jobs/{}/finish", id(job)), body).await
    }

    pub async fn log(&self, job: &Value, offset: u64, bytes: &[u8]) -> Answer {
        let path = format!("jobs/{}/logs?epoch={}&offset={offset}", id(job), job["epoch"]);
        post(&self.router, &path, &self.token, Some("1"), bytes.to_vec()).await
    }

    pub async fn heartbeat(&self, jobs: &[&Value]) -> Answer {
        let jobs: Vec<Value> = jobs.iter().map(|job| json!({ "id": job["id"], "epoch": job["epoch"] })).collect();
        self.post("heartbeat", json!({ "jobs": jobs, "free_slots": 1 })).await
    }
}

/// A job's id.
pub fn id(job: &Value) -> &str {
    job["id"].as_str().unwrap()
}

/// The names of the stages of jobs.
pub fn names(jobs: &[Value]) -> Vec<&str> {
    jobs.iter().map(|job| job["stage"].as_str().unwrap()).collect()
}

async fn post(router: &Router, path: &str, token: &str, version: Option<&str>, body: Vec<u8>) -> Answer {
    let mut request = Request::builder().method("POST").uri(format!("/api/runner/v1/{path}"));
    request = request.header("host", "rivet.test").header("content-type", "application/json");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if let Some(version) = version {
        request = request.header("rivet-protocol", version);
    }
    let response = router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Answer { status, body }
}
