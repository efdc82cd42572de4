//! A Rivet with nothing but a database and a reporter: runs are written down as the engine would leave them.

use crate::fake_github::FakeGithub;
use crate::stores::Database;
use rivet::config::Config;
use rivet::context::Context;
use rivet::engine::reporter::{self, Reported};
use rivet::evaluator::Evaluator;
use rivet::forge::github::Github;
use rivet::forge::github::slot::Slot;
use rivet::forge::{Forges, RepoFacts};
use rivet::model::ids::{RunId, StageId};
use rivet::model::time::Timestamp;
use rivet::store::Tx;
use std::cell::Cell;

/// Runs one statement on whichever database it is.
macro_rules! sql {
    ($tx:expr, $text:expr $(, $bind:expr)* $(,)?) => {
        match &mut $tx {
            Tx::Postgres(tx) => { sqlx::query($text)$(.bind($bind))*.execute(&mut **tx).await.unwrap(); }
            Tx::Sqlite(tx) => { sqlx::query($text)$(.bind($bind))*.execute(&mut **tx).await.unwrap(); }
        }
    };
}

pub struct TestRivet {
    pub context: Context,
    pub github: FakeGithub,
    pub repo: RepoFacts,
    pub sha: String,
    now: Cell<Timestamp>,
    runs: Cell<i64>,
    _database: Database,
}

/// A client whose points are no limit: they come back by the machine's clock, which does not move in a test.
fn unhurried(github: &FakeGithub) -> Slot {
    let client = Github::new(&github.config()).unwrap();
    client.pace(1e9);
    client.into()
}

impl TestRivet {
    pub async fn new(database: Database) -> Self {
        let github = FakeGithub::start().await;
        let repo = github.repo("acme/app");
        let sha = github.commit(&repo, "main", &[("a", "1")]);
        let mut config = Config::embedded(database.folder.path(), ([127, 0, 0, 1], 8080).into());
        config.github = Some(github.config());
        let forges = Forges { github: unhurried(&github), ..Forges::default() };
        let context = Context::new(database.store.clone(), forges, Evaluator::new("unused"), config);
        let mut tx = context.store.begin().await.unwrap();
        tx.save_repo(&repo, Timestamp::now()).await.unwrap();
        tx.commit().await.unwrap();
        let now = Cell::new(Timestamp::now());
        Self { context, github, repo, sha, now, runs: Cell::new(0), _database: database }
    }

    pub fn now(&self) -> Timestamp {
        self.now.get()
    }

    /// Another server on the same database: it knows nothing of what this one's client learnt.
    pub fn another_instance(&self) -> Context {
        let forges = Forges { github: unhurried(&self.github), ..Forges::default() };
        Context { forges, ..self.context.clone() }
    }

    /// Another repository of the same installation, with one commit.
    pub async fn another_repo(&self, name: &str) -> (RepoFacts, String) {
        let repo = self.github.repo(name);
        let sha = self.github.commit(&repo, "main", &[("a", name)]);
        let mut tx = self.context.store.begin().await.unwrap();
        tx.save_repo(&repo, Timestamp::now()).await.unwrap();
        tx.commit().await.unwrap();
        (repo, sha)
    }

    /// Writes the script's notes on lines down.
    pub async fn notes(&self, run: &RunId, name: &str, notes: &serde_json::Value) {
        let mut tx = self.context.store.begin().await.unwrap();
        let text = notes.to_string();
        sql!(tx, "UPDATE stage SET annotations = $3 WHERE run_id = $1 AND name = $2", run.as_str(), name, text);
        tx.commit().await.unwrap();
    }

    /// Whether the forge shows everything that is stored.
    pub async fn is_equal(&self) -> bool {
        self.context.store.read().await.unwrap().next_report_times().await.unwrap() == (None, None)
    }

    /// Lets time pass.
    pub fn wait(&self, seconds: u64) {
        self.now.set(self.now().plus_seconds(seconds));
    }

    /// A run of a pipeline, its stages pending.
    pub async fn run(&self, pipeline: &str, stages: &[&str]) -> RunId {
        self.run_in(&self.repo, &self.sha, pipeline, stages).await
    }

    pub async fn run_in(&self, repo: &RepoFacts, sha: &str, pipeline: &str, stages: &[&str]) -> RunId {
        let run = RunId::generate();
        // Ids made within one millisecond do not sort by age.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let number = self.runs.get() + 1;
        self.runs.set(number);
        let mut tx = self.context.store.begin().await.unwrap();
        sql!(
            tx,
            "INSERT INTO run (id, repo_id, number, pipeline, name, file, event, facts, git_ref, sha, actor, title, trust,
                              state, reason, plan, plan_digest, bundle_digest, inputs, source_key, created_at)
             VALUES ($1, $2, $3, $4, $4, '.rivet/ci.lua', 'push', '{}', 'refs/heads/main', $5, 'ada', 'Change', 'trusted',
                     'running', 'Running.', '{}', '', '', '{}', $1, $6)",
            run.as_str(),
            repo.id().0,
            number,
            pipeline,
            sha,
            self.now().0
        );
        for (position, name) in (0_i64..).zip(stages) {
            let spec = r#"{"name":"x","base":"x","stage":{"name":"x","action":{"kind":"script"}}}"#;
            sql!(
                tx,
                "INSERT INTO stage (id, run_id, position, name, base, spec, state, reason)
                 VALUES ($1, $2, $3, $4, $4, $5, 'pending', 'Waiting for its turn.')",
                StageId::generate().0,
                run.as_str(),
                position,
                *name,
                spec
            );
        }
        tx.report_is_due(&run, self.now()).await.unwrap();
        tx.commit().await.unwrap();
        run
    }

    /// A stage changes as the engine would change it.
    pub async fn stage(&self, run: &RunId, name: &str, state: &str, reason: &str, attempt: i64) {
        let (queued, started, finished) = match state {
            "pending" => (None, None, None),
            "queued" => (Some(self.now().0), None, None),
            "running" => (Some(self.now().0 - 3_000), Some(self.now().0), None),
            _ => (Some(self.now().0 - 15_000), Some(self.now().0 - 12_000), Some(self.now().0)),
        };
        let mut tx = self.context.store.begin().await.unwrap();
        sql!(
            tx,
            "UPDATE stage SET state = $3, reason = $4, attempt = $5, queued_at = COALESCE($6, queued_at), started_at = $7,
                              finished_at = $8
             WHERE run_id = $1 AND name = $2",
            run.as_str(),
            name,
            state,
            reason,
            attempt,
            queued,
            started,
            finished
        );
        tx.report_is_due(run, self.now()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// A stage fails with an error as a runner reports it.
    pub async fn fails(&self, run: &RunId, name: &str, error: &serde_json::Value) {
        let mut tx = self.context.store.begin().await.unwrap();
        let text = error.to_string();
        sql!(tx, "UPDATE stage SET error = $3 WHERE run_id = $1 AND name = $2", run.as_str(), name, text);
        tx.commit().await.unwrap();
        self.stage(run, name, "failed", "make test ended with 2.", 1).await;
    }

    /// A try of a stage ended.
    pub async fn try_ended(&self, run: &RunId, name: &str, attempt: i64, conclusion: &str) {
        let mut tx = self.context.store.begin().await.unwrap();
        sql!(
            tx,
            "INSERT INTO job (id, run_id, stage_id, repo_id, kind, attempt, state, label_set, trust, available_at,
                              conclusion, created_at, started_at, finished_at)
             SELECT $1, run_id, id, $2, 'stage', $3, 'finished', '', 'trusted', 0, $4, $5, $5, $5
             FROM stage WHERE run_id = $6 AND name = $7",
            ulid::Ulid::new().to_string(),
            self.repo.id().0,
            attempt,
            conclusion,
            self.now().0,
            run.as_str(),
            name
        );
        tx.commit().await.unwrap();
    }

    pub async fn ends(&self, run: &RunId, state: &str, reason: &str) {
        let mut tx = self.context.store.begin().await.unwrap();
        sql!(tx, "UPDATE run SET state = $2, reason = $3 WHERE id = $1", run.as_str(), state, reason);
        tx.report_is_due(run, self.now()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// One pass, after the time in which updates are collected.
    pub async fn report_once(&self) -> Reported {
        self.wait(1);
        reporter::pass_at(&self.context, self.now()).await.unwrap()
    }

    /// Passes until there is nothing to do at this time; answers the checks page.
    pub async fn report(&self) -> String {
        while self.report_once().await.is_busy() {}
        self.github.checks(&self.sha)
    }

    /// The end of a test: the forge shows what is stored.
    pub async fn finish(&self) {
        let open = self.context.store.read().await.unwrap().next_report_times().await.unwrap();
        assert_eq!(open, (None, None), "something was not reported");
        self.github.finish();
    }
}
