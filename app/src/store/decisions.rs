//! Decisions: for each delivery and each pipeline, whether it ran and why, in one sentence. What `rivet why` shows.

use super::{Result, Tx, with_conn};
use crate::model::ids::{DeliveryId, EntryId, RepoId, RunId};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum DecisionOutcome {
    /// A run was started (or the same trigger had started it before).
    Run,
    /// It was not meant to run.
    Skip,
    /// It should have been looked at and could not be.
    Error,
    /// What a person asked for was done.
    Done,
    /// What a person asked for was not done.
    Refused,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Decision {
    /// Its id.
    pub id: EntryId,
    /// The delivery it answers; none for a launch by hand.
    pub delivery_id: Option<DeliveryId>,
    /// Where.
    pub repo_id: RepoId,
    /// Which pipeline; none where the decision is about the delivery as a whole.
    pub pipeline: Option<String>,
    /// On which commit.
    pub sha: Option<String>,
    /// What.
    pub outcome: DecisionOutcome,
    /// Why, in one sentence.
    pub reason: String,
    /// The run, where there is one.
    pub run_id: Option<RunId>,
    /// When.
    pub created_at: Timestamp,
    /// The ref that was there.
    pub git_ref: Option<String>,
    /// The pull request's number.
    pub pull_request: Option<i64>,
    /// The pipeline's file.
    pub file: Option<String>,
    /// Whether what it would run is trusted: `trusted`, or why not.
    pub trust: Option<String>,
}

impl Tx {
    /// Stores what was decided about a delivery, in place of what was decided about it before: a delivery that is worked
    /// on again is decided about once more as a whole.
    pub async fn replace_decisions(&mut self, delivery: &DeliveryId, decisions: &[Decision]) -> Result<()> {
        let clear = "DELETE FROM decision WHERE delivery_id = $1";
        with_conn!(self, conn => sqlx::query(clear).bind(delivery).execute(conn).await?.rows_affected());
        for decision in decisions {
            self.record_decision(decision).await?;
        }
        Ok(())
    }

    /// Stores one decision.
    pub async fn record_decision(&mut self, decision: &Decision) -> Result<()> {
        let sql = "INSERT INTO decision (id, delivery_id, repo_id, pipeline, sha, outcome, reason, run_id, created_at,
                                         git_ref, pull_request, file, trust)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&decision.id).bind(&decision.delivery_id).bind(&decision.repo_id);
            let query = query.bind(&decision.pipeline).bind(&decision.sha).bind(decision.outcome);
            let query = query.bind(&decision.reason).bind(&decision.run_id).bind(decision.created_at);
            let query = query.bind(&decision.git_ref).bind(decision.pull_request).bind(&decision.file);
            query.bind(&decision.trust).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// What was decided about a delivery.
    pub async fn decisions_of(&mut self, delivery: &DeliveryId) -> Result<Vec<Decision>> {
        let sql = "SELECT id, delivery_id, repo_id, pipeline, sha, outcome, reason, run_id, created_at, git_ref,
                          pull_request, file, trust FROM decision WHERE delivery_id = $1 ORDER BY id";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(delivery).fetch_all(conn).await?))
    }

    /// What was decided about a commit, oldest first.
    pub async fn decisions_about(&mut self, repo: &RepoId, sha: &str) -> Result<Vec<Decision>> {
        let sql = "SELECT id, delivery_id, repo_id, pipeline, sha, outcome, reason, run_id, created_at, git_ref,
                          pull_request, file, trust FROM decision WHERE repo_id = $1 AND sha = $2 ORDER BY created_at, id";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(repo).bind(sha).fetch_all(conn).await?))
    }
}
