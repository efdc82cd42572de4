//! A server's router on a database of its own, and rows as the engine would have written them.

use crate::databases::{self, Kind};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use rivet::config::Config;
use rivet::context::Context;
use rivet::evaluator::Evaluator;
use rivet::forge::Forges;
use rivet::model::ids::TokenId;
use rivet::model::role::Role;
use rivet::model::time::Timestamp;
use rivet::store::tokens::ApiToken;
use rivet::store::{Json, Store, Tx};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use std::future::Future;
use tower::ServiceExt as _;

/// The admin's token of every test.
pub const ADMIN: &str = "an-admin-token-for-tests-only-0001";
pub const RUN: &str = "01jd3c8v6x0000000000000001";
pub const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

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
    pub router: Router,
    _folder: tempfile::TempDir,
}

/// An answer, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `401 auth.required`.
    pub fn refusal(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.json()["code"].as_str().unwrap_or(""))
    }
}

impl World {
    async fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = databases::fresh(kind, folder.path()).await;
        let store = Store::open(&database).await.unwrap();
        let config = Config {
            database,
            public_url: "http://rivet.test".parse().unwrap(),
            admin_token: Some(ADMIN.into()),
            ..Config::embedded(folder.path(), "127.0.0.1:8080".parse().unwrap())
        };
        let evaluator = Evaluator::new(env!("CARGO_BIN_EXE_rivet"));
        let context = Context::new(store, Forges::default(), evaluator, config);
        Self { router: rivet::http::router(context.clone()), context, _folder: folder }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    /// Asks with a token; an empty one sends none.
    pub async fn ask(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "rivet.test");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// Asks as the admin.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, ADMIN, None).await
    }

    /// A new token with `role`, limited to `repos` where there are any.
    pub async fn token(&self, role: Role, repos: &[&str]) -> String {
        let secret = rivet::http::auth::random_token("rvk_");
        let token = ApiToken {
            id: TokenId::generate(),
            name: format!("the {role}"),
            role,
            repos: Json(repos.iter().map(|repo| (*repo).to_owned()).collect()),
            created_at: Timestamp::now(),
            expires_at: Some(Timestamp::now().plus_seconds(3600)),
            revoked_at: None,
        };
        let mut tx = self.context.store.begin().await.unwrap();
        tx.add_api_token(&token, &rivet::http::auth::hash(&secret)).await.unwrap();
        tx.commit().await.unwrap();
        secret
    }

    /// Runs one statement, its values as text.
    pub async fn sql(&self, sql: &str) {
        let mut tx = self.context.store.begin().await.unwrap();
        match &mut tx {
            Tx::Postgres(tx) => drop(sqlx::query(AssertSqlSafe(sql)).execute(&mut **tx).await.expect(sql)),
            Tx::Sqlite(tx) => drop(sqlx::query(AssertSqlSafe(sql)).execute(&mut **tx).await.expect(sql)),
        }
        tx.commit().await.unwrap();
    }

    pub async fn repo(&self, number: i64, owner: &str, name: &str) {
        let key = format!("{owner}/{name}").to_lowercase();
        self.sql(&format!(
            "INSERT INTO repo (id, forge, forge_id, owner, name, full_name_key, default_branch, created_at, updated_at)
             VALUES ('local:{number}', 'local', {number}, '{owner}', '{name}', '{key}', 'main', 1000, 1000)"
        ))
        .await;
    }

    /// A run of repository `repo` with the id that ends in `n`.
    pub async fn run(&self, repo: i64, n: i64, state: &str) -> String {
        self.run_with(repo, n, state, "main", "Say hello").await
    }

    pub async fn run_with(&self, repo: i64, n: i64, state: &str, branch: &str, title: &str) -> String {
        let id = format!("01jd3c8v6x{n:016}");
        let finished = if ["completed", "failed", "cancelled"].contains(&state) { "62000" } else { "NULL" };
        let text = |value: &str| value.replace('\'', "''");
        let plan =
            json!({"pipeline": "ci", "file": ".rivet/ci.lua", "name": "CI", "secret_inputs": ["key"], "stages": []});
        let facts = json!({"name": "push", "repo": "acme/shop", "default_branch": "main",
            "ref": format!("refs/heads/{branch}"), "branch": branch, "sha": SHA, "actor": "alice", "message": title});
        self.sql(&format!(
            "INSERT INTO run (id, repo_id, number, pipeline, name, file, event, facts, git_ref, branch, sha, actor,
                title, trust, state, reason, plan, plan_digest, bundle_digest, inputs, source_key, created_at,
                started_at, finished_at)
             VALUES ('{id}', 'local:{repo}', {n}, 'ci', 'CI', '.rivet/ci.lua', 'push', '{facts}', 'refs/heads/{branch}',
                '{branch}', '{SHA}', 'alice', '{title}', 'trusted', '{state}', 'Stage test is running on oak.',
                '{plan}', 'd1', 'b1', '{inputs}', '{id}', 1000, 2000, {finished})",
            facts = text(&facts.to_string()),
            branch = text(branch),
            title = text(title),
            plan = plan,
            inputs = json!({"replicas": 2, "key": "hunter2"}),
        ))
        .await;
        id
    }

    pub async fn stage(&self, run: &str, position: i64, name: &str, state: &str, needs: &[&str]) -> String {
        let id = format!("{}s{position:03}", &run[..22]);
        let base = name.split(' ').next().unwrap();
        let spec = json!({"name": name, "base": base, "labels": [{"key": "os", "value": "linux"}],
            "stage": {"name": base, "depends_on": needs, "action": {"kind": "script"}, "container": "rust:1"}});
        let (started, finished) = match state {
            "succeeded" | "failed" => ("3000", "9500"),
            "running" => ("3000", "NULL"),
            _ => ("NULL", "NULL"),
        };
        let error = if state == "failed" {
            let error = json!({"class": "command_failed", "message": "cargo test ended with exit code 101",
                "command": "cargo test", "exit_code": 101, "tail": "assertion failed: <b>left</b> == right"});
            format!("'{error}'")
        } else {
            "NULL".to_owned()
        };
        self.sql(&format!(
            "INSERT INTO stage (id, run_id, position, name, base, spec, state, reason, attempt, max_attempts, error,
                queued_at, started_at, finished_at)
             VALUES ('{id}', '{run}', {position}, '{name}', '{base}', '{spec}', '{state}', 'It is {state}.', 1, 3,
                {error}, 2500, {started}, {finished})"
        ))
        .await;
        id
    }

    pub async fn job(&self, run: &str, stage: &str, attempt: i64, state: &str) -> String {
        let id = format!("{}j{}{attempt}", &stage[..21], &stage[23..]);
        let conclusion = if state == "finished" { "'succeeded'" } else { "NULL" };
        self.sql(&format!(
            "INSERT INTO job (id, run_id, stage_id, repo_id, kind, attempt, state, label_set, trust, available_at,
                conclusion, created_at)
             VALUES ('{id}', '{run}', '{stage}', 'local:1', 'stage', {attempt}, '{state}', '', 'trusted', 0,
                {conclusion}, 1000)"
        ))
        .await;
        id
    }

    /// Appends to a job's log.
    pub async fn log(&self, job: &str, position: i64, text: &str) {
        let mut tx = self.context.store.begin().await.unwrap();
        let sql = "INSERT INTO log_chunk (job_id, position, bytes, length, created_at) VALUES ($1, $2, $3, $4, 0)";
        let length = i64::try_from(text.len()).unwrap();
        match &mut tx {
            Tx::Postgres(tx) => {
                let query = sqlx::query(sql).bind(job).bind(position).bind(text.as_bytes()).bind(length);
                query.execute(&mut **tx).await.unwrap();
            }
            Tx::Sqlite(tx) => {
                let query = sqlx::query(sql).bind(job).bind(position).bind(text.as_bytes()).bind(length);
                query.execute(&mut **tx).await.unwrap();
            }
        }
        tx.commit().await.unwrap();
        self.sql(&format!("UPDATE job SET log_bytes = {} WHERE id = '{job}'", position + length)).await;
        self.context.store.wake.notify(rivet::store::wake::Topic::Live).await;
    }
}
