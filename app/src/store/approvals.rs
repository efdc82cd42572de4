//! Who agreed to what: an approval counts for exactly the commit and the plan it was given for.

use super::{Error, Result, Tx, with_conn};
use crate::model::approval::Approval;
use crate::model::ids::{ApprovalId, RepoId, RunId, StageId};
use crate::model::time::Timestamp;
use serde_json::json;

macro_rules! approval_columns {
    () => {
        "id, repo_id, run_id, stage_id, decision, actor, approver, actor_forge_id, permission, pull_request, sha, head_sha,
         base_sha, plan_digest, environment, inputs_digest, comment, via, created_at, expires_at, asked_at, unanswered,
         voided_at, void_reason"
    };
}

/// A run that waits for people, with what a list of them shows.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the run and stage tables")]
pub struct GateView {
    pub run_id: RunId,
    pub stage_id: StageId,
    pub repo_id: RepoId,
    pub owner: String,
    pub repo_name: String,
    pub number: i64,
    pub pipeline: String,
    pub title: String,
    pub sha: String,
    pub trust: String,
    pub stage: String,
    pub base: String,
    pub reason: String,
    pub actor: String,
    pub pull_request: Option<i64>,
    pub expires_at: Option<Timestamp>,
}

impl Tx {
    /// Stores a decision.
    pub(super) async fn insert_approval(&mut self, approval: &Approval) -> Result<()> {
        let sql = concat!(
            "INSERT INTO approval (",
            approval_columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                       $23, $24)"
        );
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&approval.id).bind(&approval.repo_id).bind(&approval.run_id);
            let query = query.bind(&approval.stage_id).bind(approval.decision).bind(&approval.actor);
            let query = query.bind(&approval.approver).bind(approval.actor_forge_id).bind(&approval.permission);
            let query = query.bind(approval.pull_request).bind(&approval.sha).bind(&approval.head_sha);
            let query = query.bind(&approval.base_sha).bind(&approval.plan_digest).bind(&approval.environment);
            let query = query.bind(&approval.inputs_digest).bind(&approval.comment).bind(&approval.via);
            let query = query.bind(approval.created_at).bind(approval.expires_at).bind(approval.asked_at);
            let query = query.bind(&approval.unanswered).bind(approval.voided_at).bind(&approval.void_reason);
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Saves what may change of a decision: whether it still stands, and what the forge last said.
    pub(super) async fn update_approval(&mut self, approval: &Approval) -> Result<()> {
        let sql = "UPDATE approval SET asked_at = $2, unanswered = $3, voided_at = $4, void_reason = $5 WHERE id = $1";
        let saved = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&approval.id).bind(approval.asked_at).bind(&approval.unanswered);
            query.bind(approval.voided_at).bind(&approval.void_reason).execute(conn).await?.rows_affected()
        });
        if saved == 1 { Ok(()) } else { Err(Error::Conflict) }
    }

    /// What the audit log says of a decision that was made, or that lost its effect.
    pub(super) async fn audit_approval(&mut self, approval: &Approval, now: Timestamp) -> Result<()> {
        let action = match (approval.fresh, approval.voided_at == Some(now)) {
            (true, _) => format!("gate.{}", approval.decision),
            (false, true) => "gate.void".to_owned(),
            // Who said yes was asked about again, and still may.
            (false, false) => return Ok(()),
        };
        let details = json!({
            "stage_id": approval.stage_id, "head_sha": approval.head_sha, "sha": approval.sha,
            "base_sha": approval.base_sha, "plan_digest": approval.plan_digest, "environment": approval.environment,
            "inputs_digest": approval.inputs_digest, "forge_id": approval.actor_forge_id,
            "permission": approval.permission, "via": approval.via, "why": approval.void_reason,
        });
        self.audit(&approval.actor, &action, approval.run_id.as_str(), &details, now).await
    }

    /// Every decision about a run, those without effect too, oldest first.
    pub async fn approvals(&mut self, run: &RunId) -> Result<Vec<Approval>> {
        let sql = concat!("SELECT ", approval_columns!(), " FROM approval WHERE run_id = $1 ORDER BY id");
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(run).fetch_all(conn).await?))
    }

    /// Takes approvals that queued jobs need and whose people were last asked about before `before`, and hides them from
    /// others until `until`.
    pub async fn take_stale_approvals(
        &mut self,
        now: Timestamp,
        before: Timestamp,
        until: Timestamp,
        limit: i64,
    ) -> Result<Vec<Approval>> {
        let sql = concat!(
            "UPDATE approval SET recheck_at = $3 WHERE id IN (
                 SELECT approval.id FROM approval JOIN job ON job.run_id = approval.run_id
                 WHERE job.state = 'queued' AND approval.decision = 'approve' AND approval.voided_at IS NULL
                   AND (approval.stage_id IS NULL OR approval.stage_id = job.stage_id)
                   AND approval.asked_at <= $2 AND approval.expires_at > $1
                   AND (approval.recheck_at IS NULL OR approval.recheck_at <= $1) LIMIT $4)
             AND (recheck_at IS NULL OR recheck_at <= $1) RETURNING ",
            approval_columns!()
        );
        let mut taken: Vec<Approval> = with_conn!(self, conn => {
            sqlx::query_as(sql).bind(now).bind(before).bind(until).bind(limit).fetch_all(conn).await?
        });
        taken.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(taken)
    }

    /// Lets an approval be asked about again at `at`.
    pub async fn recheck_approval_at(&mut self, id: &ApprovalId, at: Timestamp) -> Result<()> {
        let sql = "UPDATE approval SET recheck_at = $2 WHERE id = $1";
        with_conn!(self, conn => sqlx::query(sql).bind(id).bind(at).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Whether the forge showed, before `before`, that a stage waits for people, and still shows it.
    pub async fn gate_was_told(&mut self, stage: &StageId, before: Timestamp) -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM report WHERE stage_id = $1 AND gate_told_at < $2";
        let count: i64 =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(stage).bind(before).fetch_one(conn).await?);
        Ok(count > 0)
    }

    /// Runs of strangers in a repository that nobody let in yet.
    pub async fn count_strangers(&mut self, repo: &RepoId) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM run WHERE repo_id = $1 AND finished_at IS NULL AND trust <> 'trusted'
                   AND NOT EXISTS (SELECT 1 FROM approval WHERE approval.run_id = run.id AND approval.stage_id IS NULL
                                   AND approval.decision = 'approve' AND approval.voided_at IS NULL)";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).fetch_one(conn).await?))
    }

    /// What waits for people, oldest first, after the stage `after`.
    pub async fn view_gates(
        &mut self,
        repo: Option<&RepoId>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<GateView>> {
        let sql = "SELECT run.id AS run_id, stage.id AS stage_id, run.repo_id, repo.owner, repo.name AS repo_name,
                          run.number, run.pipeline, run.title, run.sha, run.trust, stage.name AS stage, stage.base,
                          stage.reason, run.actor, run.pull_request, stage.expires_at
                   FROM stage JOIN run ON run.id = stage.run_id JOIN repo ON repo.id = run.repo_id
                   WHERE stage.state = 'awaiting_approval' AND run.finished_at IS NULL
                     AND ($1 IS NULL OR run.repo_id = $1) AND ($2 IS NULL OR stage.id > $2)
                   ORDER BY stage.id LIMIT $3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(repo).bind(after).bind(limit).fetch_all(conn).await?))
    }
}
