//! Who agreed to what: an approval counts for exactly the commit and the plan it was given for.

use super::{Result, Tx, with_conn};
use crate::model::ids::{ApprovalId, RunId, StageId};
use crate::model::run::Run;
use crate::model::time::Timestamp;

/// One person's decision.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the approval table")]
pub struct Approval {
    pub id: ApprovalId,
    pub run_id: RunId,
    pub stage_id: Option<StageId>,
    pub decision: String,
    pub actor: String,
    pub sha: String,
    pub plan_digest: String,
    pub comment: Option<String>,
    pub via: String,
    pub created_at: Timestamp,
}

impl Tx {
    /// Stores a decision.
    pub async fn insert_approval(&mut self, approval: &Approval) -> Result<()> {
        let sql =
            "INSERT INTO approval (id, run_id, stage_id, decision, actor, sha, plan_digest, comment, via, created_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&approval.id).bind(&approval.run_id).bind(&approval.stage_id);
            let query = query.bind(&approval.decision).bind(&approval.actor).bind(&approval.sha);
            let query = query.bind(&approval.plan_digest).bind(&approval.comment).bind(&approval.via);
            query.bind(approval.created_at).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// The decisions about a run that still stand, oldest first.
    pub async fn approvals(&mut self, run: &RunId) -> Result<Vec<Approval>> {
        let sql =
            "SELECT id, run_id, stage_id, decision, actor, sha, plan_digest, comment, via, created_at FROM approval
                   WHERE run_id = $1 AND voided_at IS NULL ORDER BY id";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(run).fetch_all(conn).await?))
    }

    /// Whether somebody let a stranger's run in, for exactly this commit and plan.
    pub async fn is_let_in(&mut self, run: &Run) -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM approval WHERE run_id = $1 AND stage_id IS NULL AND decision = 'approve'
                   AND sha = $2 AND plan_digest = $3 AND voided_at IS NULL";
        let count: i64 = with_conn!(self, conn => {
            sqlx::query_scalar(sql).bind(&run.id).bind(&run.sha).bind(&run.plan_digest).fetch_one(conn).await?
        });
        Ok(count > 0)
    }
}
