//! What a run costs, counted: a push through intake, a real evaluator, the runner protocol and the reporter to its end. The
//! statements are those sqlx reports, so that nothing in the store has to count; it does not report BEGIN.

#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use databases::{Kind, block_on, fresh};
use fake_github::{FakeGithub, WEBHOOK_SECRET};
use http_body_util::BodyExt as _;
use rivet::config::Config;
use rivet::context::Context;
use rivet::engine::{Progress, intake, reporter, revoker, scheduler};
use rivet::evaluator::Evaluator;
use rivet::forge::github::Github;
use rivet::forge::{Forges, RepoFacts};
use rivet::model::time::Timestamp;
use rivet::store::Store;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};
use tower::ServiceExt as _;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context as Of, Layer, SubscriberExt as _};

const JOIN: &str = "the runners' registration token of this test";
const STAGES: usize = 3;
/// From the delivery to the first job that can be claimed, with the first reports told.
const STATEMENTS_TO_BEGIN: usize = 50;
/// A claim, a start, two pieces of log, a heartbeat, a finish, two reports computed and told by the installation's one
/// writer, and the look whether the run's token may end.
const STATEMENTS_A_STAGE: usize = 58;

/// Statements by their first words.
static STATEMENTS: LazyLock<Mutex<BTreeMap<String, usize>>> = LazyLock::new(Mutex::default);

/// Counts what sqlx says of each statement.
struct Counter;

impl<S: tracing::Subscriber> Layer<S> for Counter {
    fn on_event(&self, event: &tracing::Event<'_>, _: Of<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            event.record(&mut Summary);
        }
    }
}

struct Summary;

impl Visit for Summary {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            *STATEMENTS.lock().unwrap().entry(value.to_owned()).or_default() += 1;
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// What was counted since the last time, by the statements' first words. Hints to other instances depend on the clock, and
/// what a new connection asks belongs to no run: both are left out.
#[derive(Default)]
struct Counted {
    statements: usize,
    /// Where sqlx reports them: on Postgres.
    commits: usize,
    words: String,
}

impl Counted {
    fn take() -> Self {
        let counted = std::mem::take(&mut *STATEMENTS.lock().unwrap());
        let aside = |text: &str| {
            ["pg_notify", "pg_type", "PRAGMA", "COMMIT", "ROLLBACK"].iter().any(|word| text.contains(word))
        };
        let commits = counted.get("COMMIT").copied().unwrap_or_default();
        let mut lines: Vec<(usize, String)> =
            counted.into_iter().filter(|(text, _)| !aside(text)).map(|(text, count)| (count, text)).collect();
        lines.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            commits,
            statements: lines.iter().map(|(count, _)| count).sum(),
            words: lines.iter().map(|(count, text)| format!("{count:4}  {text}\n")).collect(),
        }
    }
}

/// A chain of stages; the last one's condition is a function, so that the evaluator is asked once more.
const PIPELINE: &str = r#"return pipeline.define({
    on = { push = true },
    stages = {
        { name = "build", script = function() end },
        { name = "test", depends_on = { "build" }, script = function() end },
        { name = "deploy", depends_on = { "test" }, condition = function() return true end, script = function() end },
    },
})
"#;

struct Site {
    context: Context,
    router: Router,
    github: FakeGithub,
    repo: RepoFacts,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = fresh(kind, folder.path()).await;
        let github = FakeGithub::start().await;
        let repo = github.repo("acme/app");
        let config = Config {
            database: database.clone(),
            github: Some(github.config()),
            runner_token: Some(JOIN.into()),
            ..Config::embedded(folder.path(), "127.0.0.1:8080".parse().unwrap())
        };
        let forges = Forges { github: Github::new(&github.config()).unwrap().into(), ..Forges::default() };
        let evaluator = Evaluator::new(env!("CARGO_BIN_EXE_rivet"));
        let context = Context::new(Store::open(&database).await.unwrap(), forges, evaluator, config);
        Self { router: rivet::http::router(context.clone()), context, github, repo, _folder: folder }
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, Value) {
        let mut request = Request::builder().method("POST").uri(path).header("content-type", "application/json");
        request = request.header("rivet-protocol", "1").header("host", "rivet.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// One call of the runner protocol, which has to succeed.
    async fn call(&self, token: &str, path: &str, body: impl Into<Vec<u8>>) -> Value {
        let bearer = format!("Bearer {token}");
        let path = format!("/api/runner/v1/{path}");
        let (status, answer) = self.post(&path, &[("authorization", &bearer)], body.into()).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    async fn push(&self, number: usize) -> String {
        let before = self.github.git(&self.repo).find("heads/main");
        let files = [(".rivet/ci.lua", PIPELINE), ("number", &number.to_string())];
        let sha = self.github.commit(&self.repo, "main", &files);
        let payload = self.github.push_payload(&self.repo, "main", before.as_deref(), &sha).to_string();
        let signature = rivet::http::webhook::sign(WEBHOOK_SECRET.as_bytes(), payload.as_bytes());
        let guid = format!("00000000-0000-0000-0000-{number:012}");
        let headers = [("x-github-event", "push"), ("x-github-delivery", &*guid), ("x-hub-signature-256", &*signature)];
        let (status, answer) = self.post("/webhooks/github", &headers, payload.into()).await;
        assert_eq!(status, 202, "{answer}");
        sha
    }

    /// The reporter as the supervisor runs it when it is woken: until it finds nothing more.
    async fn report(&self) {
        while reporter::pass(&self.context, Timestamp::now()).await.unwrap() == Progress::Worked {}
    }

    /// One stage as a runner of one slot would do it: claim, start, two pieces of log, a heartbeat, finish.
    async fn stage(&self, token: &str, number: usize) {
        let claim = json!({ "claim_id": format!("claim-{number}"), "slots": 1, "wait_seconds": 5, "executors": ["host"],
            "labels": [] });
        let claimed = self.call(token, "claim", claim.to_string()).await;
        let job = &claimed["jobs"][0];
        let (id, epoch) = (job["id"].as_str().expect("there is a job"), &job["epoch"]);
        self.call(token, &format!("jobs/{id}/start"), json!({ "epoch": epoch }).to_string()).await;
        self.report().await;
        self.call(token, &format!("jobs/{id}/logs?epoch={epoch}&offset=0"), "hello\n").await;
        self.call(token, &format!("jobs/{id}/logs?epoch={epoch}&offset=6"), "world\n").await;
        let held = json!({ "jobs": [{ "id": id, "epoch": epoch }], "free_slots": 0 });
        self.call(token, "heartbeat", held.to_string()).await;
        let outcome = json!({ "conclusion": "succeeded", "outputs": { "version": "1.2" } });
        let finish = json!({ "epoch": epoch, "outcome": outcome, "log_bytes": 12 });
        self.call(token, &format!("jobs/{id}/finish"), finish.to_string()).await;
        self.report().await;
    }
}

async fn counted(kind: Kind) {
    let site = Site::new(kind).await;
    let register = json!({ "name": "oak", "labels": [], "executors": ["host"], "version": "0.1.0" }).to_string();
    let token = site.call(JOIN, "register", register).await["token"].as_str().unwrap().to_owned();
    // The first run also pays for what is remembered afterwards: two tokens, the folder of definitions, its file.
    for (round, remembered) in [(0, 4), (1, 0)] {
        Counted::take();
        site.github.take_calls("");
        let sha = site.push(round).await;
        while intake::pass(&site.context, Timestamp::now()).await.unwrap() == Progress::Worked {}
        site.report().await;
        let begun = Counted::take();
        for stage in 0..STAGES {
            site.stage(&token, round * STAGES + stage).await;
        }
        // The token runners fetched with ends when nothing of the run is under way any more.
        let end = Timestamp::now();
        for seconds in 0..=3 {
            revoker::pass(&site.context, end.plus_seconds(seconds)).await.unwrap();
        }
        let moved = Counted::take();
        let idle = scheduler::pass(&site.context, Timestamp::now()).await.unwrap();
        assert_eq!(idle, Progress::Idle, "nothing is left for the scheduler");
        let shown = site.github.checks(&sha);
        assert!(shown.contains("rivet/ci: success"), "{shown}");
        let calls = site.github.take_calls("");
        println!(
            "{kind:?}: {} statements until the first job can be claimed, then {:.1} a stage in {:.1} commits; \
             {} calls to the forge\n{}\n{}",
            begun.statements,
            moved.statements as f64 / STAGES as f64,
            moved.commits as f64 / STAGES as f64,
            calls.len(),
            begun.words,
            moved.words
        );
        // The root tree and two statuses; a token for the runners, minted and revoked; four updates of each check run, but
        // three of the first, which waits for nothing.
        assert!(calls.len() <= 4 * STAGES - 1 + 3 + 2 + remembered, "{} calls: {calls:#?}", calls.len());
        assert!(begun.statements <= STATEMENTS_TO_BEGIN, "{} statements\n{}", begun.statements, begun.words);
        assert!(moved.statements <= STATEMENTS_A_STAGE * STAGES, "{} statements\n{}", moved.statements, moved.words);
    }
    site.github.finish();
}

/// One count at a time, where one process runs both.
static ALONE: Mutex<()> = Mutex::new(());

fn test(kind: Kind) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let counting =
        tracing_subscriber::registry().with(Counter.with_filter(tracing_subscriber::filter::LevelFilter::DEBUG));
    // The other test may have set it already.
    let _ = tracing::subscriber::set_global_default(counting);
    block_on(counted(kind));
}

#[test]
fn a_run_costs_few_statements_and_calls_on_sqlite() {
    test(Kind::Sqlite);
}

#[test]
fn a_run_costs_few_statements_and_calls_on_postgres() {
    test(Kind::Postgres);
}
