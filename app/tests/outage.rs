//! The database goes away while a job runs: its runner is told to hold and goes on, its log waits on its disk, and when the
//! database is back the job ends as if nothing had been. Real HTTP, a real runner, a Postgres that is killed.

#[path = "support/databases.rs"]
mod databases;

use pipelines_spec::plan::Plan;
use pipelines_spec::protocol::Trust;
use rivet::actions::start_run::{Started, began, start_run};
use rivet::config::{Config, Timers};
use rivet::context::Context;
use rivet::engine::{reaper, supervisor};
use rivet::evaluator::Evaluator;
use rivet::forge::{Forges, RepoFacts};
use rivet::model::ids::{ForgeKind, RunId};
use rivet::model::run::NewRun;
use rivet::model::time::Timestamp;
use rivet::store::Store;
use runner::agent::{self, Shutdown};
use runner::{RunnerConfig, Timers as RunnerTimers};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

const JOIN: &str = "the runners' registration token of this test";
/// A lease; the outage lasts three of them.
const LEASE: u64 = 2_000;

struct Site {
    context: Context,
    url: String,
    folder: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // It is stopped as by a crash: what it acknowledged a moment before has to be there afterwards.
        databases::be_durable();
        let database = databases::fresh_on_own_cluster().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lease = i64::try_from(LEASE).unwrap();
        let config = Config {
            database: database.clone(),
            runner_token: Some(JOIN.into()),
            timers: Timers { lease, takeover_grace: 300, poll: 100, report_coalesce: 50 },
            ..Config::embedded(folder.path(), address)
        };
        let store = Store::open(&database).await.unwrap();
        let context = Context::new(store, Forges::default(), Evaluator::new("unused"), config);
        tokio::spawn(rivet::http::server::serve(
            listener,
            rivet::http::router(context.clone()),
            context.shutdown.clone(),
        ));
        tokio::spawn(supervisor::run(context.clone()));
        // The supervisor looks less often while passes fail; this one looks all the time.
        let eager = context.clone();
        tokio::spawn(async move {
            loop {
                let _ = reaper::pass(&eager, Timestamp::now()).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { context, url: format!("http://{address}"), folder }
    }

    /// A runner with one slot on this machine.
    fn runner(&self) {
        let job = vec![env!("CARGO_BIN_EXE_rivet").into(), "runner-job".into()];
        let mut config = RunnerConfig::new(self.url.parse().unwrap(), self.folder.path().join("runner"), job);
        config.registration_token = Some(JOIN.to_owned().into());
        config.timers = RunnerTimers {
            heartbeat: Duration::from_millis(LEASE / 4),
            self_fence: Duration::from_millis(LEASE - 400),
            retry: Duration::from_millis(50),
            log_flush: Duration::from_millis(20),
            claim_wait_seconds: 5,
            ..RunnerTimers::default()
        };
        let (handle, shutdown) = Shutdown::new();
        tokio::spawn(async move {
            let _handle = handle;
            agent::run(config, shutdown).await.unwrap();
        });
    }

    /// A run of one stage with this command.
    async fn run(&self, command: &str) -> RunId {
        let stage = json!({ "name": "build", "base": "build", "labels": [],
            "stage": { "name": "build", "action": { "kind": "run", "run": [command] } } });
        let plan = json!({ "pipeline": "ci", "file": ".rivet/ci.lua", "name": "CI", "stages": [stage] });
        let plan: Plan = serde_json::from_value(plan).unwrap();
        let facts = json!({ "name": "push", "repo": "acme/shop", "default_branch": "main", "ref": "refs/heads/main",
            "sha": "0123456789abcdef0123456789abcdef01234567", "actor": "alice" });
        let repo = RepoFacts {
            forge: ForgeKind::Local,
            forge_id: 1,
            owner: "acme".to_owned(),
            name: "shop".to_owned(),
            default_branch: "main".to_owned(),
            private: true,
            installation_id: None,
        };
        let now = Timestamp::now();
        let mut tx = self.context.store.begin().await.unwrap();
        let repo = tx.save_repo(&repo, now).await.unwrap();
        let new = NewRun {
            repo_id: repo.id,
            plan,
            bundle_digest: tx.save_bundle(&[(".rivet/ci.lua".into(), String::new())].into(), now).await.unwrap(),
            facts: serde_json::from_value(facts).unwrap(),
            source_key: "once".to_owned(),
            trust: Trust::Trusted,
            trust_reason: None,
            caused_by: vec![],
            delivery_id: None,
            parent_stage_id: None,
            rerun_of: None,
        };
        let Started::Created(run) = start_run(&mut tx, &new, now).await.unwrap() else { panic!("a new database") };
        tx.commit().await.unwrap();
        began(&self.context, &run, now).await;
        run
    }

    async fn status(&self, path: &str) -> u16 {
        reqwest::get(format!("{}{path}", self.url)).await.unwrap().status().as_u16()
    }

    /// The state of the run, `None` while the database is away.
    async fn state(&self, run: &RunId) -> Option<String> {
        let mut tx = self.context.store.read().await.ok()?;
        Some(tx.run(run).await.ok()?.state.to_string())
    }
}

async fn until<F: Future<Output = bool>>(what: &str, done: impl Fn() -> F) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

async fn a_job_outlives_an_outage_of_the_database() {
    let site = Site::new().await;
    site.runner();
    let (ledger, go) = (site.folder.path().join("ledger"), site.folder.path().join("go"));
    let command = format!(
        "echo begin >> {ledger}; n=0; while ! test -e {go}; do n=$((n+1)); echo tick $n; sleep 0.05; done; \
         echo end >> {ledger}",
        ledger = ledger.display(),
        go = go.display()
    );
    let run = site.run(&command).await;
    until("the job runs", || async { read(&ledger) == "begin\n" }).await;

    databases::stop_own_cluster().await;
    assert_eq!((site.status("/healthz").await, site.status("/readyz").await), (200, 503));
    // Three leases go by; a runner that was not told to hold would have killed the job long before.
    tokio::time::sleep(Duration::from_millis(3 * LEASE)).await;
    std::fs::write(&go, "").unwrap();
    until("the job's code ends", || async { read(&ledger) == "begin\nend\n" }).await;
    databases::start_own_cluster();

    until("the run ends", || async { site.state(&run).await.as_deref() == Some("completed") }).await;
    assert_eq!(read(&ledger), "begin\nend\n", "it ran once");
    assert_eq!(site.status("/readyz").await, 200);
    let mut tx = site.context.store.read().await.unwrap();
    let jobs = tx.view_jobs(&run).await.unwrap();
    assert_eq!(jobs.len(), 1, "nothing was lost and tried again: {jobs:?}");
    assert!(jobs[0].log_complete, "what was said meanwhile was kept");
    let log = tx.log_range(&jobs[0].id, 0, jobs[0].log_bytes).await.unwrap();
    let log = String::from_utf8(log).unwrap();
    let ticks: Vec<u32> = log.lines().filter_map(|line| line.strip_prefix("tick ")?.parse().ok()).collect();
    assert!(ticks.len() > 50 && ticks.iter().copied().eq(1..=u32::try_from(ticks.len()).unwrap()), "{log}");
}

#[test]
fn a_job_outlives_an_outage_of_postgres() {
    databases::block_on(a_job_outlives_an_outage_of_the_database());
}
