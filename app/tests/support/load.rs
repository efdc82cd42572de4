//! A whole server under load: real HTTP on both sides, the passes as the supervisor runs them, a GitHub with many
//! repositories, and runners that speak the protocol and do nothing.

#![allow(dead_code, reason = "each user needs another part of it")]

use crate::fake_github::{FakeGithub, WEBHOOK_SECRET};
use rivet::config::Config;
use rivet::context::Context;
use rivet::engine::supervisor;
use rivet::evaluator::Evaluator;
use rivet::forge::github::Github;
use rivet::forge::{Forges, RepoFacts};
use rivet::http::webhook::sign;
use rivet::store::reports::Wanted;
use rivet::store::writers::Rates;
use rivet::store::{DatabaseUrl, Store, Tx};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// More than anybody can spend.
const POINTS: f64 = 1e12;
const JOIN: &str = "rvg_a-token-for-tests-only";

/// Two stages, one after the other.
pub const PIPELINE: &str = r#"return pipeline.define({
    on = { push = true },
    stages = {
        { name = "build", script = function() end },
        { name = "test", depends_on = { "build" }, script = function() end },
    },
})
"#;
pub const STAGES: usize = 2;

/// A repository and the commits that will be pushed to it.
pub struct Pushes {
    pub repo: RepoFacts,
    pub commits: Vec<String>,
}

/// When the first job of each commit was given to a runner.
pub type Begun = Arc<Mutex<HashMap<String, Instant>>>;

pub struct Load {
    pub context: Context,
    pub github: FakeGithub,
    pub url: String,
    pub begun: Begun,
    http: reqwest::Client,
    passes: tokio::task::JoinHandle<()>,
    runners: Vec<tokio::task::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Load {
    /// A server on this database with so many runners of so many slots each.
    pub async fn start(database: DatabaseUrl, folder: tempfile::TempDir, runners: usize, slots: usize) -> Self {
        let github = FakeGithub::start().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config {
            database: database.clone(),
            public_url: format!("http://{address}").parse().unwrap(),
            runner_token: Some(JOIN.into()),
            // GitHub's limits would stretch this over hours; what they do is tested where reporting is.
            rates: Rates::hourly(100_000_000),
            points_a_minute: POINTS,
            ..Config::embedded(folder.path(), address)
        };
        config.github = Some(github.config());
        let forges = Forges { github: Github::new(&github.config()).unwrap().into(), ..Forges::default() };
        forges.github.client().expect("there is an App").pace(POINTS);
        let store = Store::open(&database).await.unwrap();
        let context = Context::new(store, forges, Evaluator::new(env!("CARGO_BIN_EXE_rivet")), config);
        let router = rivet::http::router(context.clone());
        tokio::spawn(rivet::http::server::serve(listener, router, context.shutdown.clone()));
        let passes = tokio::spawn(supervisor::run(context.clone()));
        let url = format!("http://{address}");
        let (begun, http) = (Begun::default(), reqwest::Client::new());
        let mut load = Self { context, github, url, begun, http, passes, runners: vec![], _folder: folder };
        for number in 0..runners {
            let runner = Runner::register(&load.url, &format!("runner-{number}")).await;
            load.runners.push(tokio::spawn(runner.work(slots, load.begun.clone())));
        }
        load
    }

    /// A repository with the pipeline and `count` commits.
    pub fn repo(&self, full_name: &str, count: usize) -> Pushes {
        let repo = self.github.repo(full_name);
        let messages: Vec<String> = (0..count).map(|number| format!("Change {number} of {full_name}")).collect();
        let files = [(".rivet/ci.lua", "100644", PIPELINE.as_bytes())];
        let commits = self.github.git(&repo).commits(&files, &messages);
        Pushes { repo, commits }
    }

    /// Delivers the push of a repository's commit number `index`; answers when it was accepted.
    pub async fn push(&self, pushes: &Pushes, index: usize) -> Instant {
        let mut payload = self.github.common(&pushes.repo);
        let (before, after) = (index.checked_sub(1).map(|before| &pushes.commits[before]), &pushes.commits[index]);
        payload["ref"] = "refs/heads/main".into();
        payload["before"] = before.map_or("0".repeat(40), Clone::clone).into();
        payload["after"] = after.as_str().into();
        payload["head_commit"] = json!({ "id": after, "message": format!("Change {index}") });
        payload["pusher"] = json!({ "name": "ada" });
        let body = payload.to_string();
        let hex = format!("{:032x}", u128::from(ulid::Ulid::new()));
        let guid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        let request = self.http.post(format!("{}/webhooks/github", self.url));
        let request = request.header("content-type", "application/json").header("x-github-event", "push");
        let request = request.header("x-github-delivery", guid);
        let request = request.header("x-hub-signature-256", sign(WEBHOOK_SECRET.as_bytes(), body.as_bytes()));
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 202);
        Instant::now()
    }

    /// Pushes everything, the first of each repository first, `senders` at a time.
    pub async fn push_all(&self, all: &[Pushes], senders: usize) {
        use futures::StreamExt as _;
        let most = all.iter().map(|pushes| pushes.commits.len()).max().unwrap_or_default();
        let each = (0..most).flat_map(|index| all.iter().map(move |pushes| (pushes, index)));
        let each = each.filter(|(pushes, index)| *index < pushes.commits.len());
        let sent = futures::stream::iter(each).map(|(pushes, index)| self.push(pushes, index));
        sent.buffer_unordered(senders).for_each(|_| async {}).await;
    }

    /// Waits until the first job of `commit` was given to a runner.
    pub async fn begun(&self, commit: &str) -> Instant {
        let given = || async { self.begun.lock().unwrap().get(commit).copied() };
        eventually(Duration::from_millis(1), "the job is given away", given).await
    }

    /// Waits until nothing is left to do: every delivery decided about, every run over, every report acknowledged.
    pub async fn equal(&self) {
        let rest = || async {
            let mut tx = self.context.store.read().await.unwrap();
            let open = tx.next_report_times().await.unwrap() != (None, None);
            let waiting = tx.pending_deliveries().await.unwrap() > 0;
            (!open && !waiting && number(&mut tx, "SELECT COUNT(*) FROM run WHERE finished_at IS NULL").await == 0)
                .then_some(())
        };
        eventually(Duration::from_millis(20), "everything is told", rest).await;
    }

    /// Waits until every delivery is decided about and what there is to tell is told, and ends the passes: from now on only
    /// requests do something.
    pub async fn rest(&mut self) {
        let decided = || async {
            let mut tx = self.context.store.read().await.unwrap();
            let open = tx.next_report_times().await.unwrap() != (None, None);
            (!open && tx.pending_deliveries().await.unwrap() == 0).then_some(())
        };
        eventually(Duration::from_millis(20), "everything is decided about", decided).await;
        self.passes.abort();
    }

    /// Compares what the fake GitHub shows with what is stored, line by line; answers how many runs there are. Every one of
    /// `all` has to have succeeded and to show so.
    pub async fn assert_equal(&self, all: &[Pushes]) -> usize {
        let mut tx = self.context.store.read().await.unwrap();
        let runs = runs(&mut tx).await;
        let world = self.github.world();
        let shown_checks: HashMap<i64, &Value> = world.checks.iter().map(|check| (check.id, &check.body)).collect();
        let newest: HashMap<(&str, String), &Value> =
            world.statuses.iter().map(|s| ((s.sha.as_str(), s.body["context"].to_string()), &s.body)).collect();
        let (mut checks, mut statuses) = (0, 0);
        for (run, sha) in &runs {
            // The lock is ours alone: nobody else asks the fake any more.
            for report in futures::executor::block_on(tx.reports_of(&run.as_str().into())).unwrap() {
                assert_eq!(report.told.as_ref(), Some(&report.wanted), "{} was not told", report.external_id);
                match &report.wanted.0 {
                    Wanted::Check(wanted) => {
                        let shown = shown_checks[&report.forge_id.expect("a check run has an id")];
                        let is =
                            (shown["status"].as_str(), shown["conclusion"].as_str(), shown["output"]["title"].as_str());
                        assert_eq!(is, (Some(&*wanted.status), wanted.conclusion.as_deref(), Some(&*wanted.title)));
                        assert_eq!(
                            (shown["head_sha"].as_str(), wanted.conclusion.as_deref()),
                            (Some(&**sha), Some("success"))
                        );
                        checks += 1;
                    }
                    Wanted::Status(wanted) => {
                        let shown = newest[&(sha.as_str(), format!("\"{}\"", wanted.context))];
                        let is = (shown["state"].as_str(), shown["description"].as_str());
                        assert_eq!(is, (Some(&*wanted.state), Some(&*wanted.description)));
                        assert_eq!(wanted.state, "success");
                        statuses += 1;
                    }
                    Wanted::Comment(_) | Wanted::Receipt { .. } | Wanted::Deployment(_) => {
                        panic!("nobody asked for it")
                    }
                }
            }
        }
        let pushed: usize = all.iter().map(|pushes| pushes.commits.len()).sum();
        assert_eq!((runs.len(), statuses, checks), (pushed, pushed, pushed * STAGES), "runs, statuses, check runs");
        assert_eq!(world.checks.len(), checks, "nothing else is shown");
        drop(world);
        self.github.finish();
        pushed
    }

    /// Ends the runners and the server.
    pub async fn stop(self) {
        self.context.shutdown.cancel();
        self.runners.iter().for_each(tokio::task::JoinHandle::abort);
        let _ = self.passes.await;
        self.context.store.close().await;
    }
}

/// A runner that does nothing, as the protocol wants it.
pub struct Runner {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl Runner {
    pub async fn register(url: &str, name: &str) -> Self {
        let body = json!({ "name": name, "labels": [], "executors": ["host", "podman"], "version": "0.1.0" });
        let runner = Self { http: reqwest::Client::new(), url: url.to_owned(), token: JOIN.to_owned() };
        let answer = runner.call("register", body.to_string()).await;
        let token = answer["token"].as_str().expect("a token").to_owned();
        Self { token, ..runner }
    }

    /// One call, which has to succeed.
    pub async fn call(&self, path: &str, body: impl Into<reqwest::Body>) -> Value {
        let request = self.http.post(format!("{}/api/runner/v1/{path}", self.url)).bearer_auth(&self.token);
        let request = request.header("rivet-protocol", "1").header("content-type", "application/json");
        let answer = request.body(body).send().await.expect("the server answers");
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    pub async fn claim(&self, slots: usize, wait_seconds: u64) -> Vec<Value> {
        let body = json!({ "claim_id": ulid::Ulid::new().to_string(), "slots": slots, "wait_seconds": wait_seconds,
            "executors": ["host", "podman"], "labels": [] });
        let mut answer = self.call("claim", body.to_string()).await;
        match answer["jobs"].take() {
            Value::Array(jobs) => jobs,
            _ => vec![],
        }
    }

    /// Start, one piece of log, finish; answers how long each took.
    pub async fn run(&self, job: &Value) -> [Duration; 3] {
        let (id, epoch) = (job["id"].as_str().expect("a job has an id"), &job["epoch"]);
        let begun = Instant::now();
        self.call(&format!("jobs/{id}/start"), json!({ "epoch": epoch }).to_string()).await;
        let started = begun.elapsed();
        self.call(&format!("jobs/{id}/logs?epoch={epoch}&offset=0"), "hello\n").await;
        let logged = begun.elapsed();
        let outcome = json!({ "conclusion": "succeeded", "outputs": {} });
        let finish = json!({ "epoch": epoch, "outcome": outcome, "log_bytes": 6 });
        self.call(&format!("jobs/{id}/finish"), finish.to_string()).await;
        [started, logged - started, begun.elapsed() - logged]
    }

    /// Does whatever there is, in `slots` slots, until it is aborted.
    async fn work(self, slots: usize, begun: Begun) {
        let runner = Arc::new(self);
        let free = Arc::new(tokio::sync::Semaphore::new(slots));
        loop {
            let Ok(first) = free.clone().acquire_owned().await else { return };
            let mut mine = vec![first];
            while let Ok(more) = free.clone().try_acquire_owned() {
                mine.push(more);
            }
            let jobs = runner.claim(mine.len(), 20).await;
            let now = Instant::now();
            for job in jobs {
                let sha = job["event"]["sha"].as_str().unwrap_or_default().to_owned();
                begun.lock().unwrap().entry(sha).or_insert(now);
                let (runner, slot) = (runner.clone(), mine.pop());
                tokio::spawn(async move {
                    runner.run(&job).await;
                    drop(slot);
                });
            }
        }
    }
}

/// Looks again and again until there is something, at most ten minutes.
pub async fn eventually<T, F: Future<Output = Option<T>>>(pause: Duration, what: &str, look: impl Fn() -> F) -> T {
    let end = Instant::now() + Duration::from_secs(600);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "it takes too long until {what}");
        tokio::time::sleep(pause).await;
    }
}

async fn number(tx: &mut Tx, sql: &'static str) -> i64 {
    match tx {
        Tx::Postgres(tx) => sqlx::query_scalar(sql).fetch_one(&mut **tx).await.unwrap(),
        Tx::Sqlite(tx) => sqlx::query_scalar(sql).fetch_one(&mut **tx).await.unwrap(),
    }
}

/// Every run's id and commit.
async fn runs(tx: &mut Tx) -> Vec<(String, String)> {
    let sql = "SELECT id, sha FROM run ORDER BY id";
    match tx {
        Tx::Postgres(tx) => sqlx::query_as(sql).fetch_all(&mut **tx).await.unwrap(),
        Tx::Sqlite(tx) => sqlx::query_as(sql).fetch_all(&mut **tx).await.unwrap(),
    }
}

/// The `permille`-th smallest of a thousand.
pub fn quantile(times: &[Duration], permille: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * permille / 1000).min(sorted.len() - 1)]
}
