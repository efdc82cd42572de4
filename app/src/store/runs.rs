//! Runs with their stages and jobs: loaded together, changed together, saved by compare-and-set.

use super::{Error, Json, Result, Tx, with_conn};
use crate::model::ids::{EntryId, JobId, RepoId, RunId, StageId};
use crate::model::job::Job;
use crate::model::run::{NewRun, Run};
use crate::model::settle::{Graph, Note};
use crate::model::stage::Stage;
use crate::model::state::RunState;
use crate::model::time::Timestamp;
use pipelines_spec::plan::Plan;
use pipelines_spec::protocol::Trust;
use sqlx::AssertSqlSafe;
use std::collections::BTreeMap;
use std::fmt::Write as _;

macro_rules! run_columns {
    () => {
        "id, repo_id, number, pipeline, name, file, event, facts, git_ref, branch, sha, pull_request, actor, title, trust,
         state, reason, plan_digest, bundle_digest, inputs, concurrency_group, cancel_in_progress, delivery_id,
         parent_stage_id, rerun_of, cancel_requested, cancel_reason, version, next_completion, timeout_seconds,
         deadline_at, due_at, created_at, started_at, finished_at, rollback_to, through_lock,
         trust_reason, caused_by, outdated"
    };
}

macro_rules! stage_columns {
    () => {
        "id, run_id, position, name, base, spec, state, reason, attempt, max_attempts, user_failures, infra_faults,
         approved, rollback_state, completion, error, outputs, annotations, child_run_id, version, retry_at, expires_at,
         queued_at, started_at, finished_at, set_aside, approvals_needed"
    };
}

macro_rules! job_columns {
    () => {
        "id, run_id, stage_id, repo_id, kind, attempt, state, label_set, executor, trust, gated, priority, available_at,
         epoch, runner_id, claim_id, lease_until, cancel_requested, conclusion, result, log_bytes, log_complete,
         created_at, claimed_at, started_at, finished_at, environment"
    };
}
pub(super) use job_columns;

const LOCKED_RUN: &str = concat!("SELECT ", run_columns!(), " FROM run WHERE id = $1 FOR UPDATE");
const ONE_RUN: &str = concat!("SELECT ", run_columns!(), " FROM run WHERE id = $1");
const LOCKED_RUN_OF_JOB: &str =
    concat!("SELECT ", run_columns!(), " FROM run WHERE id = (SELECT run_id FROM job WHERE job.id = $1) FOR UPDATE");
const RUN_OF_JOB: &str =
    concat!("SELECT ", run_columns!(), " FROM run WHERE id = (SELECT run_id FROM job WHERE job.id = $1)");
const STAGES: &str = concat!("SELECT ", stage_columns!(), " FROM stage WHERE run_id = $1 ORDER BY position, id");
const OPEN_JOBS: &str =
    concat!("SELECT ", job_columns!(), " FROM job WHERE run_id = $1 AND state <> 'finished' ORDER BY id");
const INSERT_STAGE: &str = concat!(
    "INSERT INTO stage (",
    stage_columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
               $24, $25, $26, $27)"
);
const INSERT_JOB: &str = concat!(
    "INSERT INTO job (",
    job_columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
               $24, $25, $26, $27)"
);

/// Which run is meant.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// The one with this id.
    Run(&'a RunId),
    /// The one this job belongs to.
    Job(&'a JobId),
}

/// What became of a wish to start a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// There is a new run.
    Created(RunId),
    /// The same trigger had started this one already.
    Existing(RunId),
}

impl Tx {
    /// The run, without locking it.
    pub async fn run(&mut self, id: &RunId) -> Result<Run> {
        let found = with_conn!(self, conn => sqlx::query_as(ONE_RUN).bind(id).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }

    /// The stages of a run in the plan's order.
    pub async fn stages(&mut self, run: &RunId) -> Result<Vec<Stage>> {
        Ok(with_conn!(self, conn => sqlx::query_as(STAGES).bind(run).fetch_all(conn).await?))
    }

    /// The plan of a run.
    pub async fn run_plan(&mut self, id: &RunId) -> Result<Plan> {
        let sql = "SELECT plan FROM run WHERE id = $1";
        let found: Option<Json<Plan>> =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(id).fetch_optional(conn).await?);
        found.map(|plan| plan.0).ok_or(Error::NotFound)
    }

    /// Stores a run and its stages, unless the same trigger has started one already.
    pub async fn insert_run(&mut self, new: &NewRun, now: Timestamp) -> Result<Started> {
        let planned = |run: &RunId| {
            let specs = new.plan.stages.iter().cloned();
            (0..).zip(specs).map(|(position, spec)| Stage::planned(run, position, spec)).collect()
        };
        self.insert_run_of(new, planned, now).await
    }

    /// Stores a run with the stages `make` gives it, unless the same trigger has started one already.
    pub async fn insert_run_of(
        &mut self,
        new: &NewRun,
        make: impl FnOnce(&RunId) -> Vec<Stage>,
        now: Timestamp,
    ) -> Result<Started> {
        let sql = "SELECT id FROM run WHERE repo_id = $1 AND pipeline = $2 AND source_key = $3";
        let (repo, pipeline, key) = (&new.repo_id, &new.plan.pipeline, &new.source_key);
        // Taking the number locks the repository's row first, so that of two instances one sees the other's run.
        let number = self.take_run_number(repo).await?;
        let existing: Option<RunId> = with_conn!(self, conn => {
            sqlx::query_scalar(sql).bind(repo).bind(pipeline).bind(key).fetch_optional(conn).await?
        });
        if let Some(existing) = existing {
            // The number goes back: nobody else could take one while the row was locked.
            let sql = "UPDATE repo SET next_run_number = next_run_number - 1 WHERE id = $1";
            with_conn!(self, conn => sqlx::query(sql).bind(repo).execute(conn).await?.rows_affected());
            return Ok(Started::Existing(existing));
        }
        let id = RunId::generate();
        self.insert_run_row(&id, number, new, now).await?;
        let mut environments = BTreeMap::new();
        for stage in make(&id) {
            self.insert_stage(&stage).await?;
            if let Some(key) = stage.environment_key() {
                environments.insert(key, stage.spec.0.stage.environment.unwrap_or_default());
            }
        }
        // A stranger's file does not name environments before somebody lets it run.
        for name in environments.values().filter(|_| new.trust == Trust::Trusted) {
            self.know_environment(repo, name, now).await?;
        }
        Ok(Started::Created(id))
    }

    async fn take_run_number(&mut self, repo: &RepoId) -> Result<i64> {
        let sql = "UPDATE repo SET next_run_number = next_run_number + 1 WHERE id = $1 RETURNING next_run_number - 1";
        let number: Option<i64> =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).fetch_optional(conn).await?);
        number.ok_or(Error::NotFound)
    }

    async fn insert_run_row(&mut self, id: &RunId, number: i64, new: &NewRun, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO run (id, repo_id, number, pipeline, name, file, event, facts, git_ref, branch, sha,
                       pull_request, actor, title, trust, state, reason, plan, plan_digest, bundle_digest, inputs,
                       concurrency_group, cancel_in_progress, source_key, delivery_id, parent_stage_id, rerun_of,
                       timeout_seconds, due_at, created_at, trust_reason, caused_by)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                       $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)";
        let (plan, facts) = (&new.plan, &new.facts);
        let title: String =
            facts.message.as_deref().unwrap_or_default().lines().next().unwrap_or_default().chars().take(200).collect();
        let group = plan.concurrency.as_ref().map(|concurrency| &concurrency.group);
        let cancels = plan.concurrency.as_ref().is_some_and(|concurrency| concurrency.cancel_in_progress);
        let timeout = plan.timeout.and_then(|seconds| i64::try_from(seconds).ok());
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(id).bind(&new.repo_id).bind(number).bind(&plan.pipeline).bind(&plan.name);
            let query = query.bind(&plan.file).bind(facts.name.to_string()).bind(Json(facts)).bind(&facts.git_ref);
            let query = query.bind(&facts.branch).bind(&facts.sha).bind(facts.pull_request.as_ref().map(|pr| pr.number));
            let query = query.bind(&facts.actor).bind(title).bind(new.trust.to_string()).bind(RunState::Pending);
            let query = query.bind("It was just created.").bind(Json(plan)).bind(plan.digest()).bind(&new.bundle_digest);
            let query = query.bind(Json(&plan.inputs)).bind(group).bind(cancels).bind(&new.source_key);
            let query = query.bind(&new.delivery_id).bind(&new.parent_stage_id).bind(&new.rerun_of).bind(timeout);
            let query = query.bind(now).bind(now).bind(&new.trust_reason).bind(Json(&new.caused_by));
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    async fn insert_stage(&mut self, stage: &Stage) -> Result<()> {
        with_conn!(self, conn => {
            let query = sqlx::query(INSERT_STAGE).bind(&stage.id).bind(&stage.run_id).bind(stage.position);
            let query = query.bind(&stage.name).bind(&stage.base).bind(&stage.spec).bind(stage.state).bind(&stage.reason);
            let query = query.bind(stage.attempt).bind(stage.max_attempts).bind(stage.user_failures);
            let query = query.bind(stage.infra_faults).bind(stage.approved).bind(stage.rollback_state);
            let query = query.bind(stage.completion).bind(&stage.error).bind(&stage.outputs).bind(&stage.annotations);
            let query = query.bind(&stage.child_run_id).bind(stage.version).bind(stage.retry_at).bind(stage.expires_at);
            let query = query.bind(stage.queued_at).bind(stage.started_at).bind(stage.finished_at);
            query.bind(stage.set_aside).bind(stage.approvals_needed).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// A run with everything [`crate::model::settle`] looks at, its row locked until this transaction ends. `random` is a
    /// number from 0 to 1.
    pub async fn load_graph(&mut self, which: Which<'_>, now: Timestamp, random: f64) -> Result<Graph> {
        let (sql, id) = match (which, self.is_postgres()) {
            (Which::Run(run), true) => (LOCKED_RUN, run.as_str()),
            (Which::Run(run), false) => (ONE_RUN, run.as_str()),
            (Which::Job(job), true) => (LOCKED_RUN_OF_JOB, job.0.as_str()),
            (Which::Job(job), false) => (RUN_OF_JOB, job.0.as_str()),
        };
        let run: Option<Run> = with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?);
        let run = run.ok_or(Error::NotFound)?;
        let stages = self.stages(&run.id).await?;
        let mut jobs: Vec<Job> =
            with_conn!(self, conn => sqlx::query_as(OPEN_JOBS).bind(&run.id).fetch_all(conn).await?);
        for job in &mut jobs {
            job.stored_state = Some(job.state);
        }
        let blocked_by = self.group_blockers(&run).await?;
        let deploys = stages.iter().any(|stage| stage.environment_key().is_some());
        let locked = if deploys { self.locked_environments(&run.repo_id).await? } else { vec![] };
        // Most runs ask nobody.
        let asks = run.trust.0 != Trust::Trusted || stages.iter().any(Stage::needs_approval);
        let approvals = if asks { self.approvals(&run.id).await? } else { vec![] };
        let admitted = run.trust.0 == Trust::Trusted;
        Ok(Graph {
            run,
            stages,
            jobs,
            blocked_by,
            approvals,
            admitted,
            now,
            random,
            answers: BTreeMap::new(),
            asks: vec![],
            notes: vec![],
            happened: vec![],
            replaced: vec![],
            locked,
            freeze: None,
            withdrawn: vec![],
        })
    }

    /// Numbers of the runs a pending run waits for: older ones of its group, and those under way.
    async fn group_blockers(&mut self, run: &Run) -> Result<Vec<i64>> {
        let (RunState::Pending, Some(group)) = (run.state, &run.concurrency_group) else { return Ok(vec![]) };
        if self.is_postgres() {
            // Of two runs that look at the same time one must see the other begin.
            let sql = "SELECT id FROM repo WHERE id = $1 FOR UPDATE";
            let _: Option<RepoId> =
                with_conn!(self, conn => sqlx::query_scalar(sql).bind(&run.repo_id).fetch_optional(conn).await?);
        }
        let sql = "SELECT number FROM run WHERE repo_id = $1 AND concurrency_group = $2 AND finished_at IS NULL
                   AND id <> $3 AND (number < $4 OR state <> 'pending') ORDER BY number";
        Ok(with_conn!(self, conn => {
            let query = sqlx::query_scalar(sql).bind(&run.repo_id).bind(group).bind(&run.id).bind(run.number);
            query.fetch_all(conn).await?
        }))
    }

    /// Saves what changed in a graph. `Conflict`: a claim or another instance was faster; load it again.
    pub async fn save_graph(&mut self, graph: &mut Graph) -> Result<()> {
        for stage in &graph.replaced {
            let sql = "DELETE FROM stage WHERE id = $1";
            with_conn!(self, conn => sqlx::query(sql).bind(stage).execute(conn).await?.rows_affected());
        }
        for job in &graph.withdrawn {
            self.withdraw_job(job).await?;
        }
        graph.withdrawn.clear();
        let now = graph.now;
        for approval in &mut graph.approvals {
            if approval.fresh || approval.dirty {
                self.audit_approval(approval, now).await?;
            }
            if approval.fresh {
                self.insert_approval(approval).await?;
            } else if approval.dirty {
                self.update_approval(approval).await?;
            }
            (approval.fresh, approval.dirty) = (false, false);
        }
        for stage in &mut graph.stages {
            if stage.fresh {
                self.insert_stage(stage).await?;
            } else if stage.dirty {
                self.update_stage(stage).await?;
            }
            (stage.fresh, stage.dirty) = (false, false);
        }
        for job in &mut graph.jobs {
            if job.fresh {
                self.insert_job(job).await?;
            } else if job.dirty {
                self.update_job(job).await?;
            }
            (job.fresh, job.dirty, job.stored_state) = (false, false, Some(job.state));
        }
        if graph.run.dirty || !graph.notes.is_empty() {
            self.update_run(&mut graph.run).await?;
        }
        Box::pin(self.keep_ledger(graph)).await?;
        let notes = std::mem::take(&mut graph.notes);
        self.insert_notes(&graph.run.id, &notes, now).await
    }

    /// Takes a job back that nobody has: it was never begun, so nothing of it is kept.
    async fn withdraw_job(&mut self, job: &JobId) -> Result<()> {
        let sql = "DELETE FROM job WHERE id = $1 AND state = 'queued'";
        let gone = with_conn!(self, conn => sqlx::query(sql).bind(job).execute(conn).await?.rows_affected());
        if gone == 1 { Ok(()) } else { Err(Error::Conflict) }
    }

    async fn update_run(&mut self, run: &mut Run) -> Result<()> {
        let sql =
            "UPDATE run SET state = $3, reason = $4, cancel_requested = $5, cancel_reason = $6, next_completion = $7,
                       deadline_at = $8, due_at = $9, started_at = $10, finished_at = $11, outdated = $12,
                       version = version + 1
                   WHERE id = $1 AND version = $2";
        let saved = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&run.id).bind(run.version).bind(run.state).bind(&run.reason);
            let query = query.bind(run.cancel_requested).bind(&run.cancel_reason).bind(run.next_completion);
            let query = query.bind(run.deadline_at).bind(run.due_at).bind(run.started_at).bind(run.finished_at);
            query.bind(&run.outdated).execute(conn).await?.rows_affected()
        });
        run.version += 1;
        run.dirty = false;
        if saved == 1 { Ok(()) } else { Err(Error::Conflict) }
    }

    async fn update_stage(&mut self, stage: &mut Stage) -> Result<()> {
        let sql = "UPDATE stage SET state = $3, reason = $4, attempt = $5, user_failures = $6, infra_faults = $7,
                       approved = $8, rollback_state = $9, completion = $10, error = $11, outputs = $12, annotations = $13,
                       retry_at = $14, expires_at = $15, queued_at = $16, started_at = $17, finished_at = $18,
                       version = version + 1
                   WHERE id = $1 AND version = $2";
        let saved = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&stage.id).bind(stage.version).bind(stage.state).bind(&stage.reason);
            let query = query.bind(stage.attempt).bind(stage.user_failures).bind(stage.infra_faults);
            let query = query.bind(stage.approved).bind(stage.rollback_state).bind(stage.completion).bind(&stage.error);
            let query = query.bind(&stage.outputs).bind(&stage.annotations).bind(stage.retry_at).bind(stage.expires_at);
            let query = query.bind(stage.queued_at).bind(stage.started_at).bind(stage.finished_at);
            query.execute(conn).await?.rows_affected()
        });
        stage.version += 1;
        if saved == 1 { Ok(()) } else { Err(Error::Conflict) }
    }

    async fn insert_job(&mut self, job: &Job) -> Result<()> {
        with_conn!(self, conn => {
            let query = sqlx::query(INSERT_JOB).bind(&job.id).bind(&job.run_id).bind(&job.stage_id).bind(&job.repo_id);
            let query = query.bind(&job.kind).bind(job.attempt).bind(job.state).bind(&job.label_set).bind(&job.executor);
            let query = query.bind(&job.trust).bind(job.gated).bind(job.priority).bind(job.available_at).bind(job.epoch);
            let query = query.bind(&job.runner_id).bind(&job.claim_id).bind(job.lease_until).bind(job.cancel_requested);
            let query = query.bind(&job.conclusion).bind(&job.result).bind(job.log_bytes).bind(job.log_complete);
            let query = query.bind(job.created_at).bind(job.claimed_at).bind(job.started_at).bind(job.finished_at);
            query.bind(&job.environment).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Saves a job unless it was claimed, or changed hands, since it was loaded.
    async fn update_job(&mut self, job: &Job) -> Result<()> {
        let sql = "UPDATE job SET state = $4, cancel_requested = $5, conclusion = $6, result = $7, log_complete = $8,
                       started_at = $9, finished_at = $10, lease_until = $11
                   WHERE id = $1 AND epoch = $2 AND state = $3";
        // Heartbeats move the lease of a held job on without the run's lock; only an end may clear it.
        let keep = "UPDATE job SET state = $4, cancel_requested = $5, conclusion = $6, result = $7, log_complete = $8,
                       started_at = $9, finished_at = $10
                   WHERE id = $1 AND epoch = $2 AND state = $3";
        let ends = job.finished_at.is_some();
        let saved = with_conn!(self, conn => {
            let query = sqlx::query(if ends { sql } else { keep });
            let query = query.bind(&job.id).bind(job.epoch).bind(job.stored_state).bind(job.state);
            let query = query.bind(job.cancel_requested).bind(&job.conclusion).bind(&job.result).bind(job.log_complete);
            let query = query.bind(job.started_at).bind(job.finished_at);
            let query = if ends { query.bind(job.lease_until) } else { query };
            query.execute(conn).await?.rows_affected()
        });
        if saved == 1 { Ok(()) } else { Err(Error::Conflict) }
    }

    /// Writes lines of a run's history, a few hundred in a statement.
    pub async fn insert_notes(&mut self, run: &RunId, notes: &[Note], now: Timestamp) -> Result<()> {
        for notes in notes.chunks(200) {
            let mut sql = "INSERT INTO run_event (id, run_id, stage, kind, message, created_at) VALUES ".to_owned();
            for index in 0..notes.len() {
                let (comma, first) = (if index == 0 { "" } else { ", " }, 4 * index + 3);
                let _ = write!(sql, "{comma}(${first}, $1, ${}, ${}, ${}, $2)", first + 1, first + 2, first + 3);
            }
            with_conn!(self, conn => {
                // The text holds nothing but the numbers of its places.
                let mut query = sqlx::query(AssertSqlSafe(sql)).bind(run).bind(now);
                for note in notes {
                    query = query.bind(EntryId::generate()).bind(&note.stage).bind(&note.kind).bind(&note.message);
                }
                query.execute(conn).await?.rows_affected()
            });
        }
        Ok(())
    }

    /// Runs that somebody should look at again by now.
    pub async fn due_runs(&mut self, now: Timestamp, limit: i64) -> Result<Vec<RunId>> {
        let sql = "SELECT id FROM run WHERE due_at IS NOT NULL AND due_at <= $1 ORDER BY due_at LIMIT $2";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(now).bind(limit).fetch_all(conn).await?))
    }

    /// Puts off the next look at a run that could not be moved, so that it does not hold up those behind it.
    pub async fn postpone_run(&mut self, id: &RunId, until: Timestamp) -> Result<()> {
        let sql = "UPDATE run SET due_at = $2 WHERE id = $1 AND due_at IS NOT NULL";
        with_conn!(self, conn => sqlx::query(sql).bind(id).bind(until).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// When the next run is due.
    pub async fn next_due(&mut self) -> Result<Option<Timestamp>> {
        let sql = "SELECT MIN(due_at) FROM run WHERE due_at IS NOT NULL";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).fetch_one(conn).await?))
    }

    /// Runs of a concurrency group that are not over, oldest first.
    pub async fn open_runs_of_group(&mut self, repo: &RepoId, group: &str) -> Result<Vec<(RunId, i64, RunState)>> {
        let sql =
            "SELECT id, number, state FROM run WHERE repo_id = $1 AND concurrency_group = $2 AND finished_at IS NULL
                   ORDER BY number";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(repo).bind(group).fetch_all(conn).await?))
    }

    /// Runs of a pull request that are not over, with everything a decision about them needs.
    pub async fn runs_of_open_pull_request(&mut self, repo: &RepoId, number: i64) -> Result<Vec<Run>> {
        let sql = concat!(
            "SELECT ",
            run_columns!(),
            " FROM run WHERE repo_id = $1 AND pull_request = $2 AND finished_at IS NULL ORDER BY number"
        );
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(repo).bind(number).fetch_all(conn).await?))
    }

    /// Runs of a pull request that are not over.
    pub async fn open_runs_of_pull_request(&mut self, repo: &RepoId, number: i64) -> Result<Vec<RunId>> {
        let sql = "SELECT id FROM run WHERE repo_id = $1 AND pull_request = $2 AND finished_at IS NULL ORDER BY number";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(number).fetch_all(conn).await?))
    }

    /// Jobs whose lease ended before `now`, with their runs.
    pub async fn lost_jobs(&mut self, before: Timestamp, limit: i64) -> Result<Vec<(JobId, RunId)>> {
        let sql = "SELECT id, run_id FROM job WHERE state IN ('claimed', 'running') AND lease_until < $1
                   ORDER BY lease_until LIMIT $2";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(before).bind(limit).fetch_all(conn).await?))
    }

    /// The run a stage belongs to.
    pub async fn run_of_stage(&mut self, stage: &StageId) -> Result<RunId> {
        let sql = "SELECT run_id FROM stage WHERE id = $1";
        let found: Option<RunId> =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(stage).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }
}
