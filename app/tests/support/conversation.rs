//! A whole Rivet to talk with: its router over real HTTP, a GitHub that checks what it is told, every pass run by hand, and
//! a runner that speaks the protocol and does as the test says. `rivet.comment(…)`, then a snapshot.

#![allow(dead_code, reason = "each test binary uses another part of it")]

use crate::databases::{self, Kind};
use crate::fake_github::FakeGithub;
use rivet::config::Config;
use rivet::context::Context;
use rivet::engine::{Progress, intake, reaper, recheck, reporter, scheduler};
use rivet::evaluator::Evaluator;
use rivet::forge::github::Github;
use rivet::forge::{Forges, RepoFacts};
use rivet::model::time::Timestamp;
use rivet::store::{Store, Tx};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use std::cell::Cell;
use std::future::Future;

/// The admin's token.
pub const ADMIN: &str = "an-admin-token-for-tests-only-0001";
const JOIN: &str = "rvg_a-token-for-tests-only";

/// Makes each named function, which is given a [`Rivet`], a test on SQLite and one on Postgres.
macro_rules! conversations {
    ($($name:ident),* $(,)?) => {
        $crate::databases::on_both_databases!($crate::conversation::run; $($name),*);
    };
}
pub(crate) use conversations;

pub fn run<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Rivet) -> F) {
    databases::block_on(async { Box::pin(test(Box::pin(Rivet::new(kind)).await)).await });
}

/// A server, its GitHub, a repository `acme/app` with nothing in it, and one runner.
pub struct Rivet {
    pub context: Context,
    pub github: FakeGithub,
    pub repo: RepoFacts,
    pub url: String,
    http: reqwest::Client,
    runner: String,
    /// How far the passes' clock is ahead, in milliseconds.
    ahead: Cell<i64>,
    _folder: tempfile::TempDir,
}

impl Rivet {
    pub async fn new(kind: Kind) -> Self {
        Self::with(kind, |_| {}).await
    }

    /// With other settings.
    pub async fn with(kind: Kind, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = databases::fresh(kind, folder.path()).await;
        let github = FakeGithub::start().await;
        let repo = github.repo("acme/app");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config {
            database: database.clone(),
            public_url: format!("http://{address}").parse().unwrap(),
            admin_token: Some(ADMIN.into()),
            runner_token: Some(JOIN.into()),
            ..Config::embedded(folder.path(), address)
        };
        config.github = Some(github.config());
        change(&mut config);
        let forges = Forges { github: Github::new(&github.config()).unwrap().into(), ..Forges::default() };
        let store = Store::open(&database).await.unwrap();
        let context = Context::new(store, forges, Evaluator::new(env!("CARGO_BIN_EXE_rivet")), config);
        let router = rivet::http::router(context.clone());
        tokio::spawn(rivet::http::server::serve(listener, router, context.shutdown.clone()));
        let url = format!("http://{address}");
        github.connect(&url);
        let http = reqwest::Client::new();
        let runner = register(&http, &url).await;
        Self { context, github, repo, url, http, runner, ahead: Cell::new(0), _folder: folder }
    }

    /// The passes' time.
    pub fn now(&self) -> Timestamp {
        Timestamp::now().plus_millis(self.ahead.get())
    }

    /// Lets time pass for the passes.
    pub fn wait(&self, seconds: i64) {
        self.ahead.set(self.ahead.get() + seconds * 1000);
        self.github.world().ahead = self.ahead.get();
    }

    /// Runs every pass until none has anything to do at this time.
    pub async fn settle(&self) {
        for _ in 0..200 {
            let now = self.now();
            // On the heap: a long conversation's own future would not fit on a test's stack.
            let intake = Box::pin(intake::pass(&self.context, now)).await.unwrap();
            let scheduler = Box::pin(scheduler::pass(&self.context, now)).await.unwrap();
            let reaper = Box::pin(reaper::sweep(&self.context, now)).await.unwrap();
            // After the time in which updates are collected.
            let reporter = Box::pin(reporter::pass_at(&self.context, now.plus_seconds(1))).await.unwrap();
            let recheck = Box::pin(recheck::pass(&self.context, now)).await.unwrap();
            let worked = [intake, scheduler, reaper, recheck].into_iter().any(|p| matches!(p, Progress::Worked));
            if !worked && !reporter.is_busy() {
                return;
            }
        }
        panic!("the passes did not come to rest");
    }

    /// A pipeline file for the repository.
    pub fn pipeline(lua: &str) -> (&'static str, &str) {
        (".rivet/ci.lua", lua)
    }

    /// Ada pushes files to a branch; answers the commit.
    pub async fn push(&self, branch: &str, files: &[(&str, &str)]) -> String {
        let sha = self.github.push(&self.repo, branch, files).await;
        self.settle().await;
        sha
    }

    /// Somebody opens a pull request: Ada from a branch, or Eve from her fork. Answers number and head.
    pub async fn open_pull(&self, branch: &str, fork: bool, files: &[(&str, &str)]) -> (i64, String) {
        let head = self.github.commit(&self.repo, branch, files);
        let number = self.github.open_pull_request(&self.repo, branch, fork).await;
        self.settle().await;
        (number, head)
    }

    /// A push to a pull request's branch; answers the new head.
    pub async fn push_to_pull(&self, number: i64, files: &[(&str, &str)]) -> String {
        let head = self.github.push_to_pull(&self.repo, number, files).await;
        self.settle().await;
        head
    }

    /// `login` comments on a pull request.
    pub async fn comment(&self, number: i64, login: &str, body: &str) -> i64 {
        let id = self.github.comment(&self.repo, number, login, body).await;
        self.settle().await;
        id
    }

    /// Somebody presses a button of the newest check run of this name (`ci / deploy`), or asks for its re-run.
    pub async fn press(&self, login: &str, check: &str, button: &str) {
        let mut payload = self.github.common(&self.repo);
        {
            let world = self.github.world();
            let found = world.checks.iter().rev().find(|c| c.body["name"] == check).expect("a check run of this name");
            payload["check_run"] = json!({
                "id": found.id, "name": check, "external_id": found.body["external_id"],
                "head_sha": found.body["head_sha"], "check_suite": { "id": 1, "head_sha": found.body["head_sha"] },
                "app": { "id": crate::fake_github::APP_ID },
            });
            payload["sender"] = world.user(login);
        }
        match button {
            "rerequested" => payload["action"] = "rerequested".into(),
            button => {
                payload["action"] = "requested_action".into();
                payload["requested_action"] = json!({ "identifier": button });
            }
        }
        self.github.deliver("check_run", &payload).await;
        self.settle().await;
    }

    /// The checks page of a commit, run ids taken out.
    pub fn checks(&self, sha: &str) -> String {
        self.github.checks(sha)
    }

    /// What is below a pull request: comments and reactions.
    pub fn conversation(&self, number: i64) -> String {
        self.github.conversation(&self.repo, number)
    }

    /// Every run, oldest first: `#1 ci push main completed: All 2 stages succeeded.` and its stages.
    pub async fn runs(&self) -> String {
        let mut listed = self.api("GET", "/api/v1/runs?limit=100", None).await.1["items"].as_array().unwrap().clone();
        listed.sort_by_key(|run| run["number"].as_i64());
        let mut lines = vec![];
        for run in listed {
            let run = self.api("GET", &format!("/api/v1/runs/{}", text(&run["id"])), None).await.1;
            let pull = run["pull_request"].as_i64().map(|n| format!(" of pull request {n}")).unwrap_or_default();
            let (number, pipeline, event) = (&run["number"], text(&run["pipeline"]), text(&run["event"]));
            lines.push(format!("#{number} {pipeline} {event}{pull} {}: {}", text(&run["state"]), text(&run["reason"])));
            for stage in run["stages"].as_array().into_iter().flatten() {
                let (name, state, reason) = (text(&stage["name"]), text(&stage["state"]), text(&stage["reason"]));
                lines.push(format!("  {name} {state}: {reason}"));
            }
        }
        lines.join("\n")
    }

    /// The id of run `number`.
    pub async fn run_id(&self, number: i64) -> String {
        let listed = self.api("GET", "/api/v1/runs?limit=100", None).await.1;
        let found = listed["items"].as_array().unwrap().iter().find(|run| run["number"] == number).cloned();
        text(&found.expect("a run of this number")["id"])
    }

    /// The stored decision about each pipeline for a commit.
    pub async fn why(&self, sha: &str) -> String {
        let path = format!("/api/v1/why?repo={}&sha={sha}", self.repo.full_name());
        let told = self.api("GET", &path, None).await.1;
        let line = |d: &Value| format!("{} {}: {}", text(&d["pipeline"]), text(&d["outcome"]), text(&d["reason"]));
        let items = told["items"].as_array().or(told["decisions"].as_array()).cloned().unwrap_or_default();
        items.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Asks the API as the admin.
    pub async fn api(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.api_as(ADMIN, method, path, body).await
    }

    /// Asks the API with a token.
    pub async fn api_as(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse::<reqwest::Method>().unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    async fn runner_post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}/api/runner/v1/{path}", self.url)).bearer_auth(&self.runner);
        let response = request.header("rivet-protocol", "1").json(body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// The runner claims what it may have, at most `slots` jobs.
    pub async fn claim(&self, slots: u32) -> Vec<Value> {
        if self.ahead.get() > 0 {
            // Claims go by the machine's clock: what is available by the passes' is made so by that one.
            let due =
                format!("UPDATE job SET available_at = 0 WHERE state = 'queued' AND available_at <= {}", self.now().0);
            self.sql(&due).await;
        }
        let body = json!({ "claim_id": ulid::Ulid::new().to_string(), "slots": slots, "wait_seconds": 0,
            "executors": ["host", "podman"], "labels": [] });
        let (status, answer) = self.runner_post("claim", &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["jobs"].as_array().unwrap().clone()
    }

    /// The runner starts a job.
    pub async fn start(&self, job: &Value) {
        let (status, answer) =
            self.runner_post(&format!("jobs/{}/start", text(&job["id"])), &json!({ "epoch": job["epoch"] })).await;
        assert!(status < 300, "{status} {answer}");
    }

    /// The runner ends a job: `succeeded`, `failed` …
    pub async fn end(&self, job: &Value, conclusion: &str, outputs: Value) {
        let mut outcome = json!({ "conclusion": conclusion, "outputs": outputs });
        if conclusion == "failed" {
            outcome = json!({ "conclusion": "failed",
                "error": { "class": "command_failed", "message": "make ended with 2" } });
        }
        let body = json!({ "epoch": job["epoch"], "outcome": outcome, "log_bytes": 0 });
        let (status, answer) = self.runner_post(&format!("jobs/{}/finish", text(&job["id"])), &body).await;
        assert!(status < 300, "{status} {answer}");
    }

    /// The runner does everything it may have until there is nothing more; answers the stages in order.
    pub async fn work(&self) -> Vec<String> {
        self.work_with(|_| "succeeded").await
    }

    /// The same with an outcome for each stage.
    pub async fn work_with(&self, outcome: impl Fn(&str) -> &'static str) -> Vec<String> {
        let mut done = vec![];
        loop {
            self.settle().await;
            let jobs = self.claim(1).await;
            let Some(job) = jobs.first() else { return done };
            let stage = text(&job["stage"]);
            self.start(job).await;
            self.end(job, outcome(&stage), json!({ "from": stage })).await;
            done.push(stage);
        }
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

    /// The end of a conversation: everything was told, nothing is held, and nothing was asked that GitHub would refuse.
    pub async fn finish(&self) {
        self.settle().await;
        let open = self.context.store.read().await.unwrap().next_report_times().await.unwrap();
        assert_eq!(open, (None, None), "something was not reported");
        let waiting = self.context.store.read().await.unwrap().pending_deliveries().await.unwrap();
        assert_eq!(waiting, 0, "a delivery was not decided about");
        self.github.finish();
    }
}

async fn register(http: &reqwest::Client, url: &str) -> String {
    let body = json!({ "name": "oak", "labels": [], "executors": ["host", "podman"], "version": "0.1.0" });
    let request = http.post(format!("{url}/api/runner/v1/register")).bearer_auth(JOIN).header("rivet-protocol", "1");
    let answer: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
    text(&answer["token"])
}

/// A value as text; `-` where it is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
