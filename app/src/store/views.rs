//! What pages and the API show: rows joined for reading, never for writing.

use super::{Json, Result, Tx, with_conn};
use crate::model::ids::{DeploymentId, JobId, RepoId, RunId, RunnerId, StageId};
use crate::model::time::Timestamp;
use pipelines_spec::plan::MergeCommit;
use pipelines_spec::plan::{Label, PlannedStage};
use pipelines_spec::protocol::{Annotation, ExecutorKind, JobError};
use pipelines_spec::trigger::EventFacts;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A run with its repository's name.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the run table")]
pub struct RunView {
    pub id: RunId,
    pub repo_id: RepoId,
    pub owner: String,
    pub repo_name: String,
    pub number: i64,
    pub pipeline: String,
    pub name: String,
    pub event: String,
    pub git_ref: String,
    pub branch: Option<String>,
    pub sha: String,
    pub pull_request: Option<i64>,
    pub actor: String,
    pub title: String,
    pub trust: String,
    pub trust_reason: Option<String>,
    pub state: String,
    pub reason: String,
    pub plan: Json<PlanHead>,
    pub plan_digest: String,
    pub inputs: Json<Map<String, Value>>,
    pub rerun_of: Option<RunId>,
    pub rollback_to: Option<DeploymentId>,
    pub parent_stage_id: Option<StageId>,
    pub cancel_requested: bool,
    pub version: i64,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

impl RunView {
    /// `owner/name`.
    pub fn repo(&self) -> String {
        format!("{}/{}", self.owner, self.repo_name)
    }

    /// The inputs with the secret ones hidden.
    pub fn shown_inputs(&self) -> Map<String, Value> {
        let mut inputs = self.inputs.0.clone();
        for name in &self.plan.0.secret_inputs {
            if let Some(value) = inputs.get_mut(name) {
                *value = Value::String("***".to_owned());
            }
        }
        inputs
    }
}

/// The little of a plan that a view needs beside its stages.
#[derive(Debug, Clone, PartialEq, Deserialize, serde::Serialize)]
pub struct PlanHead {
    /// Names of inputs whose values are hidden.
    #[serde(default)]
    pub secret_inputs: Vec<String>,
    /// The test merge that is built, where one is.
    #[serde(default)]
    pub merge: Option<MergeCommit>,
}

/// A stage of a run.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the stage table")]
pub struct StageView {
    pub id: StageId,
    pub position: i64,
    pub name: String,
    pub base: String,
    pub spec: Json<PlannedStage>,
    pub state: String,
    pub reason: String,
    pub attempt: i64,
    pub max_attempts: i64,
    pub rollback_state: Option<String>,
    pub error: Option<Json<JobError>>,
    pub outputs: Option<Json<Value>>,
    pub annotations: Option<Json<Vec<Annotation>>>,
    pub child_run_id: Option<RunId>,
    pub version: i64,
    pub queued_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// One try of a stage (or its rollback), with the name of the runner that had it.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the job table")]
pub struct JobView {
    pub id: JobId,
    pub stage_id: StageId,
    pub kind: String,
    pub attempt: i64,
    pub state: String,
    pub runner: Option<String>,
    pub conclusion: Option<String>,
    pub log_bytes: i64,
    pub log_complete: bool,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// What was decided about one pipeline (or a delivery as a whole).
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the decision table")]
pub struct DecisionView {
    pub id: String,
    pub delivery_id: Option<String>,
    pub owner: String,
    pub repo_name: String,
    pub pipeline: Option<String>,
    pub sha: Option<String>,
    pub outcome: String,
    pub reason: String,
    pub run_id: Option<RunId>,
    pub created_at: Timestamp,
    pub git_ref: Option<String>,
    pub pull_request: Option<i64>,
    pub file: Option<String>,
    pub trust: Option<String>,
}

/// Something that happened to a run.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the run_event table")]
pub struct RunEventView {
    pub id: String,
    pub stage: Option<String>,
    pub kind: String,
    pub message: String,
    pub created_at: Timestamp,
}

/// A runner with the number of jobs it has.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the runner table")]
pub struct RunnerView {
    pub id: RunnerId,
    pub name: String,
    pub labels: Json<Vec<Label>>,
    pub executors: Json<Vec<ExecutorKind>>,
    pub version: String,
    pub state: String,
    pub busy: i64,
    pub last_seen_at: Timestamp,
    pub created_at: Timestamp,
}

/// Which runs to list; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only of this repository.
    pub repo: Option<RepoId>,
    /// Only in this state.
    pub state: Option<String>,
    /// Only of this branch.
    pub branch: Option<String>,
    /// Only started by this kind of event.
    pub event: Option<String>,
    /// Only of the pipeline with this stem.
    pub pipeline: Option<String>,
    /// Only on the commit this begins.
    pub sha: Option<String>,
    /// Only older than this run.
    pub before: Option<RunId>,
    /// Only those that have not ended.
    pub open: bool,
}

macro_rules! run_columns {
    () => {
        "run.id, run.repo_id, repo.owner, repo.name AS repo_name, run.number, run.pipeline, run.name, run.event,
         run.git_ref, run.branch, run.sha, run.pull_request, run.actor, run.title, run.trust, run.trust_reason, run.state, run.reason,
         run.plan, run.plan_digest, run.inputs, run.rerun_of, run.rollback_to, run.parent_stage_id, run.cancel_requested, run.version, run.created_at,
         run.started_at, run.finished_at FROM run JOIN repo ON repo.id = run.repo_id"
    };
}

macro_rules! run_filters {
    () => {
        " AND ($2 IS NULL OR run.state = $2) AND ($3 IS NULL OR run.branch = $3) AND ($4 IS NULL OR run.event = $4)
          AND ($5 IS NULL OR run.pipeline = $5) AND ($6 IS NULL OR substr(run.sha, 1, length($6)) = $6)"
    };
}

// Numbers of one repository and ids of all of them both grow with time, so each list follows an index and stops early.
const RUNS_OF_REPO: &str = concat!(
    "SELECT ",
    run_columns!(),
    " WHERE run.repo_id = $1 AND ($7 IS NULL OR run.number < (SELECT number FROM run WHERE id = $7))",
    run_filters!(),
    " ORDER BY run.number DESC LIMIT $8"
);
const RUNS: &str = concat!(
    "SELECT ",
    run_columns!(),
    " WHERE ($1 IS NULL OR run.repo_id = $1) AND ($7 IS NULL OR run.id < $7)",
    run_filters!(),
    " ORDER BY run.id DESC LIMIT $8"
);
const OPEN_RUNS: &str = concat!(
    "SELECT ",
    run_columns!(),
    " WHERE run.finished_at IS NULL AND ($1 IS NULL OR run.repo_id = $1) AND ($7 IS NULL OR run.id < $7)",
    run_filters!(),
    " ORDER BY run.id DESC LIMIT $8"
);
const ONE_RUN: &str = concat!("SELECT ", run_columns!(), " WHERE run.id = $1");

macro_rules! job_columns {
    () => {
        "SELECT job.id, job.stage_id, job.kind, job.attempt, job.state, runner.name AS runner, job.conclusion,
         job.log_bytes, job.log_complete, job.created_at, job.started_at, job.finished_at
         FROM job LEFT JOIN runner ON runner.id = job.runner_id"
    };
}

macro_rules! runner_columns {
    () => {
        "SELECT id, name, labels, executors, version, state, last_seen_at, created_at,
                (SELECT COUNT(*) FROM job WHERE job.runner_id = runner.id AND job.state IN ('claimed', 'running')) AS busy
         FROM runner"
    };
}

impl Tx {
    /// Runs, newest first.
    pub async fn view_runs(&mut self, filter: &RunFilter, limit: usize) -> Result<Vec<RunView>> {
        let sql = match filter {
            RunFilter { open: true, .. } => OPEN_RUNS,
            RunFilter { repo: Some(_), .. } => RUNS_OF_REPO,
            RunFilter { repo: None, .. } => RUNS,
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(with_conn!(self, conn => sqlx::query_as(sql)
            .bind(&filter.repo)
            .bind(&filter.state)
            .bind(&filter.branch)
            .bind(&filter.event)
            .bind(&filter.pipeline)
            .bind(&filter.sha)
            .bind(&filter.before)
            .bind(limit)
            .fetch_all(conn)
            .await?))
    }

    /// One run.
    pub async fn view_run(&mut self, id: &RunId) -> Result<Option<RunView>> {
        Ok(with_conn!(self, conn => sqlx::query_as(ONE_RUN).bind(id).fetch_optional(conn).await?))
    }

    /// What started a run, as its pipeline saw it.
    pub async fn view_run_facts(&mut self, id: &RunId) -> Result<Option<EventFacts>> {
        let sql = "SELECT facts FROM run WHERE id = $1";
        let facts: Option<(Json<EventFacts>,)> =
            with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?);
        Ok(facts.map(|(facts,)| facts.0))
    }

    /// The stages of a run in the plan's order.
    pub async fn view_stages(&mut self, run: &RunId) -> Result<Vec<StageView>> {
        let sql = "SELECT id, position, name, base, spec, state, reason, attempt, max_attempts, rollback_state, error,
                          outputs, annotations, child_run_id, version, queued_at, started_at, finished_at
                   FROM stage WHERE run_id = $1 ORDER BY position, id";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(run).fetch_all(conn).await?))
    }

    /// What grows whenever a run or one of its stages changes: cheap to ask for, so that followers may ask often.
    pub async fn view_run_revision(&mut self, run: &RunId) -> Result<Option<i64>> {
        let sql = "SELECT run.version + (SELECT COUNT(*) FROM stage WHERE run_id = $1)
                        + (SELECT CAST(COALESCE(SUM(version), 0) AS BIGINT) FROM stage WHERE run_id = $1)
                   FROM run WHERE run.id = $1";
        let revision: Option<(i64,)> =
            with_conn!(self, conn => sqlx::query_as(sql).bind(run).fetch_optional(conn).await?);
        Ok(revision.map(|(revision,)| revision))
    }

    /// Every try of every stage of a run, oldest first.
    pub async fn view_jobs(&mut self, run: &RunId) -> Result<Vec<JobView>> {
        let sql = concat!(job_columns!(), " WHERE job.run_id = $1 ORDER BY job.id");
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(run).fetch_all(conn).await?))
    }

    /// One try, as it stands now.
    pub async fn view_job(&mut self, id: &JobId) -> Result<Option<JobView>> {
        let sql = concat!(job_columns!(), " WHERE job.id = $1");
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?))
    }

    /// Chunks of a job's log from the one that holds byte `from` (or the last one, where the log ends before it).
    pub async fn view_log(&mut self, job: &JobId, from: i64, chunks: i64) -> Result<Vec<(i64, Vec<u8>)>> {
        // By position alone: reading `length` would walk over the bytes before it.
        let sql = "SELECT position, bytes FROM log_chunk WHERE job_id = $1 AND position >= (
                       SELECT COALESCE(MAX(position), 0) FROM log_chunk WHERE job_id = $1 AND position <= $2)
                   ORDER BY position LIMIT $3";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(job).bind(from).bind(chunks).fetch_all(conn).await?))
    }

    /// What was decided about the deliveries of a commit, oldest first.
    pub async fn view_decisions_of_commit(&mut self, repo: &RepoId, sha: &str) -> Result<Vec<DecisionView>> {
        let sql = "SELECT decision.id, delivery_id, repo.owner, repo.name AS repo_name, pipeline, sha, outcome, reason,
                          run_id, decision.created_at, git_ref, pull_request, file, trust
                   FROM decision JOIN repo ON repo.id = decision.repo_id
                   WHERE decision.repo_id = $1 AND substr(sha, 1, length($2)) = $2 ORDER BY decision.id LIMIT 500";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(repo).bind(sha).fetch_all(conn).await?))
    }

    /// What was decided about a delivery, oldest first.
    pub async fn view_decisions_of_delivery(&mut self, delivery: &str) -> Result<Vec<DecisionView>> {
        let sql = "SELECT decision.id, delivery_id, repo.owner, repo.name AS repo_name, pipeline, sha, outcome, reason,
                          run_id, decision.created_at, git_ref, pull_request, file, trust
                   FROM decision JOIN repo ON repo.id = decision.repo_id
                   WHERE decision.delivery_id = $1 ORDER BY decision.id LIMIT 500";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(delivery).fetch_all(conn).await?))
    }

    /// What was decided about a pull request, newest 500, oldest first.
    pub async fn view_decisions_of_pull(&mut self, repo: &RepoId, number: i64) -> Result<Vec<DecisionView>> {
        let sql = "SELECT decision.id, delivery_id, repo.owner, repo.name AS repo_name, pipeline, sha, outcome, reason,
                          run_id, decision.created_at, git_ref, pull_request, file, trust
                   FROM decision JOIN repo ON repo.id = decision.repo_id
                   WHERE decision.repo_id = $1 AND pull_request = $2 ORDER BY decision.id DESC LIMIT 500";
        let mut found: Vec<DecisionView> =
            with_conn!(self, conn => sqlx::query_as(sql).bind(repo).bind(number).fetch_all(conn).await?);
        found.reverse();
        Ok(found)
    }

    /// What happened to a run, oldest first.
    pub async fn view_history(&mut self, run: &RunId, after: Option<&str>, limit: usize) -> Result<Vec<RunEventView>> {
        let sql = "SELECT id, stage, kind, message, created_at FROM run_event
                   WHERE run_id = $1 AND ($2 IS NULL OR id > $2) ORDER BY id LIMIT $3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(run).bind(after).bind(limit).fetch_all(conn).await?))
    }

    /// One runner, removed or not.
    pub async fn view_runner(&mut self, id: &RunnerId) -> Result<Option<RunnerView>> {
        let sql = concat!(runner_columns!(), " WHERE id = $1");
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?))
    }

    /// Runners after the one with the id `after`, by id; removed ones are left out.
    pub async fn view_runners(&mut self, after: Option<&str>, limit: usize) -> Result<Vec<RunnerView>> {
        let sql =
            concat!(runner_columns!(), " WHERE state <> 'removed' AND ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(after).bind(limit).fetch_all(conn).await?))
    }
}
