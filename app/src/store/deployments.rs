//! The ledger of each environment. It is written in the transaction that saves the run it tells of, and nowhere else, so no
//! kill can come between what a stage did and what the ledger says.

use super::{Json, Result, Tx, with_conn};
use crate::model::approval::Verdict;
use crate::model::deployment::{Change, Deployment, DeploymentState, Environment, Freeze, changes, environment_key};
use crate::model::ids::{DeploymentId, RepoId, RunId, StageId};
use crate::model::run::Run;
use crate::model::settle::Graph;
use crate::model::stage::Stage;
use crate::model::state::StageState;
use crate::model::time::Timestamp;
use std::collections::BTreeSet;

macro_rules! columns {
    () => {
        "id, repo_id, environment, number, run_id, stage_id, stage, attempt, pipeline, git_ref, sha, plan_digest, inputs,
         artifacts, actor, approvers, rollback_to, state, reason, started_at, finished_at"
    };
}

impl Tx {
    /// The newest deployments to an environment, newest first; only those with a smaller number than `before`.
    pub async fn deployments(
        &mut self,
        repo: &RepoId,
        environment: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Deployment>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM deployment WHERE repo_id = $1 AND environment = $2 AND number < $3 ORDER BY number DESC LIMIT $4"
        );
        let (key, limit) = (environment_key(environment), i64::try_from(limit).unwrap_or(i64::MAX));
        let before = before.unwrap_or(i64::MAX);
        Ok(with_conn!(self, conn => {
            sqlx::query_as(sql).bind(repo).bind(key).bind(before).bind(limit).fetch_all(conn).await?
        }))
    }

    /// The deployment that stands in an environment as far as is known: the newest that succeeded and was not undone.
    pub async fn last_deployment(&mut self, repo: &RepoId, environment: &str) -> Result<Option<Deployment>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM deployment WHERE repo_id = $1 AND environment = $2 AND state IN ('succeeded', 'superseded')
              ORDER BY number DESC LIMIT 1"
        );
        let key = environment_key(environment);
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(repo).bind(key).fetch_optional(conn).await?))
    }

    /// The deployment with this number.
    pub async fn deployment_by_number(
        &mut self,
        repo: &RepoId,
        environment: &str,
        number: i64,
    ) -> Result<Option<Deployment>> {
        let sql =
            concat!("SELECT ", columns!(), " FROM deployment WHERE repo_id = $1 AND environment = $2 AND number = $3");
        let key = environment_key(environment);
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(repo).bind(key).bind(number).fetch_optional(conn).await?))
    }

    /// The deployment with this id.
    pub async fn deployment(&mut self, id: &DeploymentId) -> Result<Option<Deployment>> {
        let sql = concat!("SELECT ", columns!(), " FROM deployment WHERE id = $1");
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?))
    }

    /// The deployments of a run, in the order they began.
    pub async fn deployments_of_run(&mut self, run: &RunId) -> Result<Vec<Deployment>> {
        let sql = concat!("SELECT ", columns!(), " FROM deployment WHERE run_id = $1 ORDER BY environment, number");
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(run).fetch_all(conn).await?))
    }

    /// Brings the ledger in line with a run whose change was just saved in this transaction.
    pub(super) async fn keep_ledger(&mut self, graph: &Graph) -> Result<()> {
        if graph.stages.iter().all(|stage| stage.environment_key().is_none()) {
            return Ok(());
        }
        let known = self.deployments_of_run(&graph.run.id).await?;
        let changes = changes(&graph.stages, &known);
        if changes.is_empty() && graph.freeze.is_none() {
            return Ok(());
        }
        // Every writer of an environment's ledger holds its row, and takes the rows in the same order.
        let names: BTreeSet<String> = graph.stages.iter().filter_map(Stage::environment_key).collect();
        for key in &names {
            self.hold_environment(&graph.run.repo_id, key).await?;
        }
        if let Some(freeze) = &graph.freeze {
            self.freeze_undone(graph, freeze).await?;
        }
        for change in changes {
            match change {
                Change::Begin { stage, state, reason } => {
                    self.begin_deployment(graph, &graph.stages[stage], state, &reason).await?;
                }
                Change::Become { id, state, reason } => {
                    if let Some(entry) = known.iter().find(|entry| entry.id == id) {
                        self.move_deployment(entry, state, &reason, graph.now).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn hold_environment(&mut self, repo: &RepoId, key: &str) -> Result<()> {
        if self.is_postgres() {
            let sql = "SELECT name_key FROM environment WHERE repo_id = $1 AND name_key = $2 FOR UPDATE";
            let _: Option<String> =
                with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(key).fetch_optional(conn).await?);
        }
        Ok(())
    }

    async fn freeze_undone(&mut self, graph: &Graph, freeze: &Freeze) -> Result<()> {
        let undone = |stage: &&Stage| match stage.state {
            StageState::RollingBack => true,
            StageState::Succeeded => !stage.set_aside && stage.spec.0.stage.rollback.is_some(),
            StageState::Pending
            | StageState::AwaitingApproval
            | StageState::Queued
            | StageState::Running
            | StageState::Sleeping
            | StageState::Failed
            | StageState::Skipped
            | StageState::Cancelled
            | StageState::RolledBack => false,
        };
        let names: BTreeSet<String> = graph.stages.iter().filter(undone).filter_map(Stage::environment_key).collect();
        for key in names {
            self.lock_environment(&graph.run.repo_id, &key, freeze, Some(&graph.run.id), graph.now).await?;
        }
        Ok(())
    }

    /// Writes the entry of a stage's current attempt.
    async fn begin_deployment(
        &mut self,
        graph: &Graph,
        stage: &Stage,
        state: DeploymentState,
        reason: &str,
    ) -> Result<()> {
        let (run, now) = (&graph.run, graph.now);
        let name = stage.spec.0.stage.environment.as_deref().unwrap_or_default();
        let key = environment_key(name);
        self.know_environment(&run.repo_id, name, now).await?;
        let number = self.take_deployment_number(&run.repo_id, &key).await?;
        let again = match &run.rollback_to {
            Some(id) => self.deployment(id).await?.map(|entry| entry.number),
            None => None,
        };
        let entry = Deployment {
            id: DeploymentId::generate(),
            repo_id: run.repo_id.clone(),
            environment: key,
            number,
            run_id: run.id.clone(),
            stage_id: stage.id.clone(),
            stage: stage.name.clone(),
            attempt: stage.attempt,
            pipeline: run.pipeline.clone(),
            git_ref: run.git_ref.clone(),
            sha: run.sha.clone(),
            plan_digest: run.plan_digest.clone(),
            inputs: run.inputs.clone(),
            artifacts: Json(std::collections::BTreeMap::new()),
            actor: run.actor.clone(),
            approvers: Json(self.approvers(run, &stage.id).await?),
            rollback_to: again,
            state,
            reason: reason.to_owned(),
            started_at: stage.started_at.unwrap_or(now),
            finished_at: (state != DeploymentState::InProgress).then_some(now),
        };
        self.insert_deployment(&entry).await?;
        if let Some(number) = again {
            self.freeze_for_rollback(run, &entry, number, now).await?;
        }
        if state == DeploymentState::Succeeded { self.supersede(&entry, now).await } else { Ok(()) }
    }

    /// From the moment an earlier deployment is made again nothing rolls forward until somebody says so.
    async fn freeze_for_rollback(&mut self, run: &Run, entry: &Deployment, to: i64, now: Timestamp) -> Result<()> {
        let reason =
            format!("rolled back to deployment {to} by run #{}; unlock it to deploy forward again.", run.number);
        let freeze = Freeze { actor: run.actor.clone(), reason };
        self.lock_environment(&run.repo_id, &entry.environment, &freeze, Some(&run.id), now).await?;
        Ok(())
    }

    async fn take_deployment_number(&mut self, repo: &RepoId, key: &str) -> Result<i64> {
        let sql = "UPDATE environment SET next_number = next_number + 1 WHERE repo_id = $1 AND name_key = $2
                   RETURNING next_number - 1";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(key).fetch_one(conn).await?))
    }

    /// Who let a stage run, in the order they did.
    async fn approvers(&mut self, run: &Run, stage: &StageId) -> Result<Vec<String>> {
        let mut names: Vec<String> = vec![];
        for approval in self.approvals(&run.id).await? {
            let counts = approval.stage_id.as_ref() == Some(stage)
                && approval.decision == Verdict::Approve
                && approval.voided_at.is_none()
                && approval.sha == run.sha
                && approval.plan_digest == run.plan_digest;
            if counts && !names.contains(&approval.actor) {
                names.push(approval.actor);
            }
        }
        Ok(names)
    }

    async fn insert_deployment(&mut self, entry: &Deployment) -> Result<()> {
        let sql = concat!(
            "INSERT INTO deployment (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
        );
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&entry.id).bind(&entry.repo_id).bind(&entry.environment).bind(entry.number);
            let query = query.bind(&entry.run_id).bind(&entry.stage_id).bind(&entry.stage).bind(entry.attempt);
            let query = query.bind(&entry.pipeline).bind(&entry.git_ref).bind(&entry.sha).bind(&entry.plan_digest);
            let query = query.bind(&entry.inputs).bind(&entry.artifacts).bind(&entry.actor).bind(&entry.approvers);
            let query = query.bind(entry.rollback_to).bind(entry.state).bind(&entry.reason).bind(entry.started_at);
            query.bind(entry.finished_at).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    async fn move_deployment(
        &mut self,
        entry: &Deployment,
        state: DeploymentState,
        reason: &str,
        now: Timestamp,
    ) -> Result<()> {
        let sql =
            "UPDATE deployment SET state = $2, reason = $3, finished_at = COALESCE(finished_at, $4) WHERE id = $1";
        with_conn!(self, conn => {
            sqlx::query(sql).bind(&entry.id).bind(state).bind(reason).bind(now).execute(conn).await?.rows_affected()
        });
        match state {
            DeploymentState::Succeeded => self.supersede(entry, now).await,
            DeploymentState::RolledBack => self.reinstate(entry, now).await,
            DeploymentState::InProgress | DeploymentState::Failed | DeploymentState::Superseded => Ok(()),
        }
    }

    /// What the same pipeline's other runs deployed no longer stands.
    async fn supersede(&mut self, by: &Deployment, now: Timestamp) -> Result<()> {
        let sql = "UPDATE deployment SET state = 'superseded', reason = $5
                   WHERE repo_id = $1 AND environment = $2 AND pipeline = $3 AND run_id <> $4 AND state = 'succeeded'
                   RETURNING run_id";
        let reason = format!("Deployment {} came after it.", by.number);
        let runs: Vec<RunId> = with_conn!(self, conn => {
            let query = sqlx::query_scalar(sql).bind(&by.repo_id).bind(&by.environment).bind(&by.pipeline);
            query.bind(&by.run_id).bind(reason).fetch_all(conn).await?
        });
        self.reports_are_due(runs, now).await
    }

    /// When all that one run deployed was undone, what stood before it stands again.
    async fn reinstate(&mut self, undone: &Deployment, now: Timestamp) -> Result<()> {
        let sql = "UPDATE deployment SET state = 'succeeded', reason = $4
                   WHERE repo_id = $1 AND environment = $2 AND state = 'superseded' AND run_id = (
                       SELECT run_id FROM deployment WHERE repo_id = $1 AND environment = $2 AND pipeline = $3
                           AND state = 'superseded' AND number < $5 ORDER BY number DESC LIMIT 1)
                     AND NOT EXISTS (SELECT 1 FROM deployment AS other WHERE other.repo_id = $1
                           AND other.environment = $2 AND other.pipeline = $3 AND other.state = 'succeeded')
                   RETURNING run_id";
        let reason = format!("It stands again: deployment {} was undone.", undone.number);
        let runs: Vec<RunId> = with_conn!(self, conn => {
            let query = sqlx::query_scalar(sql).bind(&undone.repo_id).bind(&undone.environment).bind(&undone.pipeline);
            query.bind(reason).bind(undone.number).fetch_all(conn).await?
        });
        self.reports_are_due(runs, now).await
    }

    async fn reports_are_due(&mut self, mut runs: Vec<RunId>, now: Timestamp) -> Result<()> {
        runs.sort();
        runs.dedup();
        for run in runs {
            self.report_is_due(&run, now).await?;
        }
        Ok(())
    }
}

/// An environment with what stands there.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Which.
    pub environment: Environment,
    /// What was deployed last, whatever became of it.
    pub last: Option<Deployment>,
    /// What stands there as far as is known.
    pub current: Option<Deployment>,
}

impl Tx {
    /// The environments of a repository and what stands in each.
    pub async fn standings(&mut self, repo: &RepoId) -> Result<Vec<Standing>> {
        let mut standings = vec![];
        for environment in self.environments(repo).await? {
            standings.push(self.standing(environment).await?);
        }
        Ok(standings)
    }

    /// An environment with what stands there.
    pub async fn standing(&mut self, environment: Environment) -> Result<Standing> {
        let (repo, key) = (&environment.repo_id, &environment.name_key);
        let last = self.deployments(repo, key, None, 1).await?.into_iter().next();
        let current = self.last_deployment(repo, key).await?;
        Ok(Standing { environment, last, current })
    }

    /// Marks a new run as one that makes a deployment again.
    pub async fn mark_rollback(
        &mut self,
        run: &RunId,
        deployment: &DeploymentId,
        through_lock: Option<Timestamp>,
    ) -> Result<()> {
        let sql = "UPDATE run SET rollback_to = $2, through_lock = $3 WHERE id = $1";
        with_conn!(self, conn => {
            sqlx::query(sql).bind(run).bind(deployment).bind(through_lock).execute(conn).await?.rows_affected()
        });
        Ok(())
    }
}
