//! Jobs as runners see them: claimed by one statement, held under an epoch, renewed by heartbeats.

use super::repos::Repo;
use super::runs::job_columns;
use super::standing::{Silence, StandsBeside, stands_beside};
use super::{Error, Json, Result, Tx, with_conn};
use crate::model::ids::{JobId, RunId, RunnerId, StageId};
use crate::model::job::Job;
use crate::model::run::Run;
use crate::model::stage::Stage;
use crate::model::time::Timestamp;
use pipelines_spec::plan::Plan;
use pipelines_spec::protocol::{HeldJob, Sources};
use sqlx::AssertSqlSafe;
use std::fmt::Write as _;

/// A job as held by a runner: what every write of a runner's names.
#[derive(Debug, Clone, Copy)]
pub struct Hold<'a> {
    /// The job.
    pub job: &'a JobId,
    /// Who says to hold it.
    pub runner: &'a RunnerId,
    /// Under which number.
    pub epoch: i64,
}

/// What a runner asks for when it claims.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Who asks.
    pub runner: &'a RunnerId,
    /// The runner's name of this claim.
    pub claim_id: &'a str,
    /// The label sets it satisfies.
    pub label_sets: &'a [String],
    /// Whether it offers its own machine.
    pub host: bool,
    /// Whether it offers to isolate.
    pub isolating: bool,
    /// At most so many jobs.
    pub limit: i64,
    /// Until when they are its own.
    pub lease_until: Timestamp,
}

/// The label sets of queued jobs, and when the next job that is not available yet will be.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    /// Label sets with a job that may be claimed now.
    pub label_sets: Vec<String>,
    /// When to look again.
    pub next: Option<Timestamp>,
}

/// What a job's payload is made of, beside the job.
#[derive(Debug, Clone)]
pub struct JobParts {
    /// Its run.
    pub run: Run,
    /// The run's plan.
    pub plan: Plan,
    /// The definition files.
    pub sources: Sources,
    /// Its stage.
    pub stage: Stage,
    /// The stages it depends on.
    pub needed: Vec<Stage>,
    /// Its repository.
    pub repo: Repo,
    /// Why nothing may be asked about that, if that is so.
    pub silence: Option<Silence>,
}

#[derive(sqlx::FromRow)]
struct RunParts {
    #[sqlx(flatten)]
    run: Run,
    plan: Json<Plan>,
    sources: Json<Sources>,
    #[sqlx(flatten)]
    stands: StandsBeside,
}

/// A queued job that may be claimed. **The gate** is here and nowhere else: a stranger's run needs a yes to exactly its
/// commit and plan, a gated stage as many of its own as it asks for, each of somebody else; the forge must have vouched for
/// everybody who said yes within the last 15 minutes ([`crate::model::approval::FRESH_MILLIS`]); and nobody deploys to an
/// environment while it is locked (what was begun may be undone, and a rollback that said so goes through). Of jobs of
/// equal priority, one of the repository with the fewest live jobs is first; of a claim for several, each that is taken
/// counts as one more ([`TURNS`]).
const PICK: &str = "FROM job
    JOIN run ON run.id = job.run_id
    JOIN stage ON stage.id = job.stage_id
    LEFT JOIN (SELECT repo_id, COUNT(*) AS jobs FROM job WHERE state IN ('claimed', 'running') GROUP BY repo_id) AS live
        ON live.repo_id = job.repo_id
    WHERE job.state = 'queued' AND job.available_at <= $1 AND NOT job.cancel_requested
      AND run.finished_at IS NULL AND NOT run.cancel_requested
      AND ($2 OR ($3 AND job.executor IS NULL AND run.trust = 'trusted'))
      AND (run.trust = 'trusted' OR EXISTS (
              SELECT 1 FROM approval
              WHERE approval.run_id = run.id AND approval.stage_id IS NULL AND approval.decision = 'approve'
                AND approval.sha = run.sha AND approval.plan_digest = run.plan_digest AND approval.voided_at IS NULL
                AND approval.expires_at > $1 AND (approval.asked_at IS NULL OR approval.asked_at > $1 - 900000)))
      AND (NOT job.gated OR job.kind = 'rollback' OR (stage.approved AND stage.approvals_needed <= (
              SELECT COUNT(DISTINCT approval.approver) FROM approval
              WHERE approval.stage_id = stage.id AND approval.decision = 'approve'
                AND approval.sha = run.sha AND approval.plan_digest = run.plan_digest AND approval.voided_at IS NULL
                AND approval.expires_at > $1 AND (approval.asked_at IS NULL OR approval.asked_at > $1 - 900000))))
      AND (job.environment IS NULL OR job.kind = 'rollback' OR NOT EXISTS (
              SELECT 1 FROM environment
              WHERE environment.repo_id = job.repo_id AND environment.name_key = job.environment
                AND environment.locked_at IS NOT NULL AND environment.locked_run_id IS DISTINCT FROM run.id
                AND (run.through_lock IS NULL OR run.through_lock < environment.locked_at)))";

/// The turn of each eligible job: the live jobs of its repository and those before it. Ranked apart from the locking, which
/// Postgres does not do in one step; what may have changed meanwhile is asked again there.
const TURNS: &str = "job.id, job.priority, COALESCE(live.jobs, 0)
    + ROW_NUMBER() OVER (PARTITION BY job.repo_id ORDER BY job.priority DESC, job.id) AS turn";

impl Tx {
    /// What is queued at `now`.
    pub async fn queue(&mut self, now: Timestamp) -> Result<Queue> {
        let sql = "SELECT label_set, MIN(available_at), MIN(CASE WHEN available_at > $1 THEN available_at END)
                   FROM job WHERE state = 'queued' GROUP BY label_set";
        let rows: Vec<(String, Timestamp, Option<Timestamp>)> =
            with_conn!(self, conn => sqlx::query_as(sql).bind(now).fetch_all(conn).await?);
        let next = rows.iter().filter_map(|(_, _, next)| *next).min();
        let label_sets = rows.into_iter().filter(|(_, first, _)| *first <= now).map(|(set, _, _)| set).collect();
        Ok(Queue { label_sets, next })
    }

    /// Gives queued jobs to a runner, in one statement: whoever comes second finds them taken.
    pub async fn claim_jobs(&mut self, wanted: &Wanted<'_>, now: Timestamp) -> Result<Vec<Job>> {
        let lock = if self.is_postgres() { "FOR UPDATE OF job SKIP LOCKED" } else { "" };
        let sets = placeholders(8, wanted.label_sets.len());
        // One job needs no ranking, which is dear where much is queued.
        let picked = match wanted.limit {
            1 => format!(
                "picked AS MATERIALIZED (SELECT job.id {PICK} AND job.label_set IN ({sets})
                     ORDER BY job.priority DESC, COALESCE(live.jobs, 0), job.id LIMIT $4 {lock})"
            ),
            _ => format!(
                "eligible AS MATERIALIZED (SELECT {TURNS} {PICK} AND job.label_set IN ({sets})),
                 picked AS MATERIALIZED (SELECT job.id FROM job JOIN eligible ON eligible.id = job.id
                     WHERE job.state = 'queued' AND NOT job.cancel_requested
                     ORDER BY eligible.priority DESC, eligible.turn, job.id LIMIT $4 {lock})"
            ),
        };
        let sql = format!(
            "WITH {picked}
             UPDATE job SET state = 'claimed', epoch = epoch + 1, runner_id = $5, claim_id = $6, lease_until = $7,
                            claimed_at = $1
             WHERE id IN (SELECT id FROM picked) AND state = 'queued' RETURNING *"
        );
        let mut jobs: Vec<Job> = with_conn!(self, conn => {
            let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(now).bind(wanted.isolating).bind(wanted.host);
            query = query.bind(wanted.limit).bind(wanted.runner).bind(wanted.claim_id).bind(wanted.lease_until);
            for set in wanted.label_sets {
                query = query.bind(set);
            }
            query.fetch_all(conn).await?
        });
        jobs.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.id.cmp(&b.id)));
        Ok(jobs)
    }

    /// Those of `runs` with jobs some runner holds.
    pub async fn runs_under_way(&mut self, runs: &[RunId]) -> Result<Vec<RunId>> {
        let names = placeholders(1, runs.len());
        let sql =
            format!("SELECT DISTINCT run_id FROM job WHERE run_id IN ({names}) AND state IN ('claimed', 'running')");
        Ok(with_conn!(self, conn => {
            let mut query = sqlx::query_scalar(AssertSqlSafe(sql));
            for run in runs {
                query = query.bind(run);
            }
            query.fetch_all(conn).await?
        }))
    }

    /// The jobs a runner got by this claim and still holds.
    pub async fn jobs_of_claim(&mut self, runner: &RunnerId, claim_id: &str) -> Result<Vec<Job>> {
        let sql = "SELECT * FROM job WHERE claim_id = $2 AND runner_id = $1 AND state IN ('claimed', 'running')
                   ORDER BY priority DESC, id";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(runner).bind(claim_id).fetch_all(conn).await?))
    }

    /// Puts back a claimed job whose code has not started, as if it had not been claimed; the number stays used. `false`
    /// where it is no longer held so, or its end is asked for.
    pub async fn give_job_back(&mut self, held: &Hold<'_>, available_at: Timestamp) -> Result<bool> {
        let sql = "UPDATE job SET state = 'queued', runner_id = NULL, claim_id = NULL, lease_until = NULL,
                                  claimed_at = NULL, available_at = $4
                   WHERE id = $1 AND runner_id = $2 AND epoch = $3 AND state = 'claimed' AND NOT cancel_requested";
        let done = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(held.job).bind(held.runner).bind(held.epoch).bind(available_at);
            query.execute(conn).await?.rows_affected()
        });
        Ok(done > 0)
    }

    /// Renews, in one statement, the leases of those of `held` that are `runner`'s, and answers which those are and whether
    /// their end is asked for.
    pub async fn renew_leases(
        &mut self,
        runner: &RunnerId,
        held: &[HeldJob],
        lease_until: Timestamp,
    ) -> Result<Vec<(JobId, bool)>> {
        if held.is_empty() {
            return Ok(vec![]);
        }
        let mut each = String::new();
        for index in 0..held.len() {
            let or = if index == 0 { "" } else { " OR " };
            let _ = write!(each, "{or}(id = ${} AND epoch = ${})", 2 * index + 3, 2 * index + 4);
        }
        // Rows are locked in the order of their ids, as everywhere, so that nobody waits in a circle.
        let lock = if self.is_postgres() { "ORDER BY id FOR UPDATE" } else { "" };
        let sql = format!(
            "WITH mine AS MATERIALIZED (SELECT id FROM job
                 WHERE runner_id = $1 AND state IN ('claimed', 'running') AND ({each}) {lock})
             UPDATE job SET lease_until = $2 WHERE id IN (SELECT id FROM mine) RETURNING id, cancel_requested"
        );
        Ok(with_conn!(self, conn => {
            let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(runner).bind(lease_until);
            for job in held {
                query = query.bind(&job.id).bind(job.epoch);
            }
            query.fetch_all(conn).await?
        }))
    }

    /// The job with this id.
    pub async fn job(&mut self, id: &JobId) -> Result<Job> {
        let sql = concat!("SELECT ", job_columns!(), " FROM job WHERE id = $1");
        let found = with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }

    /// What a job's payload is made of.
    pub async fn job_parts(&mut self, job: &Job) -> Result<JobParts> {
        let RunParts { run, plan, sources, stands } = self.run_parts(&job.run_id).await?;
        let stage = self.stage_by_id(&job.stage_id).await?;
        let needed = self.stages_of_bases(&job.run_id, &stage.spec.0.stage.depends_on).await?;
        let (repo, silence) = stands.into_repo();
        Ok(JobParts { run, plan: plan.0, sources: sources.0, stage, needed, repo, silence })
    }

    async fn run_parts(&mut self, id: &RunId) -> Result<RunParts> {
        let sql = concat!(
            "SELECT run.*, bundle.sources, ",
            stands_beside!(),
            " FROM run JOIN bundle ON bundle.digest = run.bundle_digest JOIN repo ON repo.id = run.repo_id
             WHERE run.id = $1"
        );
        let found = with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }

    async fn stage_by_id(&mut self, id: &StageId) -> Result<Stage> {
        let sql = "SELECT * FROM stage WHERE id = $1";
        let found = with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }

    async fn stages_of_bases(&mut self, run: &RunId, bases: &[String]) -> Result<Vec<Stage>> {
        if bases.is_empty() {
            return Ok(vec![]);
        }
        let names = placeholders(2, bases.len());
        let sql = format!("SELECT * FROM stage WHERE run_id = $1 AND base IN ({names}) ORDER BY position, id");
        Ok(with_conn!(self, conn => {
            let mut query = sqlx::query_as(AssertSqlSafe(sql)).bind(run);
            for base in bases {
                query = query.bind(base);
            }
            query.fetch_all(conn).await?
        }))
    }
}

/// `$first, $first+1 …`, `count` of them.
fn placeholders(first: usize, count: usize) -> String {
    let names: Vec<String> = (first..first + count).map(|n| format!("${n}")).collect();
    names.join(", ")
}
