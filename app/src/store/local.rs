//! The local forge's own shelf: the check runs and commit statuses GitHub would keep, and the numbers of repositories.

use super::{Error, Json, Result, Tx, with_conn};
use crate::forge::{CheckRun, CommitStatus};
use crate::model::ids::{DeliveryId, RepoId, RunId};
use crate::model::time::Timestamp;

impl Tx {
    /// A number no local repository has.
    pub async fn next_local_number(&mut self) -> Result<i64> {
        let sql = "SELECT COALESCE(MAX(forge_id), 0) + 1 FROM repo WHERE forge = 'local'";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).fetch_one(conn).await?))
    }

    /// The newest check with this external id on this commit.
    pub async fn find_local_check(&mut self, repo: &RepoId, sha: &str, external_id: &str) -> Result<Option<i64>> {
        let sql = "SELECT MAX(id) FROM local_check WHERE repo_id = $1 AND sha = $2 AND external_id = $3";
        Ok(
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(sha).bind(external_id).fetch_one(conn).await?),
        )
    }

    /// Creates a check and answers its id.
    pub async fn create_local_check(&mut self, repo: &RepoId, check: &CheckRun, now: Timestamp) -> Result<i64> {
        let sql = "INSERT INTO local_check (id, repo_id, sha, name, external_id, body, updated_at)
                   SELECT COALESCE(MAX(id), 0) + 1, $1, $2, $3, $4, $5, $6 FROM local_check RETURNING id";
        Ok(with_conn!(self, conn => {
            let query = sqlx::query_scalar(sql).bind(repo).bind(&check.head_sha).bind(&check.name);
            query.bind(&check.external_id).bind(Json(check)).bind(now).fetch_one(conn).await?
        }))
    }

    /// One check.
    pub async fn local_check(&mut self, repo: &RepoId, id: i64) -> Result<CheckRun> {
        let sql = "SELECT body FROM local_check WHERE repo_id = $1 AND id = $2";
        let found: Option<Json<CheckRun>> =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(id).fetch_optional(conn).await?);
        found.map(|Json(check)| check).ok_or(Error::NotFound)
    }

    /// Replaces a check's body.
    pub async fn update_local_check(&mut self, repo: &RepoId, id: i64, check: &CheckRun, now: Timestamp) -> Result<()> {
        let sql = "UPDATE local_check SET name = $3, body = $4, updated_at = $5 WHERE repo_id = $1 AND id = $2";
        let changed = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(repo).bind(id).bind(&check.name).bind(Json(check)).bind(now);
            query.execute(conn).await?.rows_affected()
        });
        if changed == 0 { Err(Error::NotFound) } else { Ok(()) }
    }

    /// Every check of a commit in the order of creation.
    pub async fn local_checks(&mut self, repo: &RepoId, sha: &str) -> Result<Vec<CheckRun>> {
        let sql = "SELECT body FROM local_check WHERE repo_id = $1 AND sha = $2 ORDER BY id";
        let found: Vec<Json<CheckRun>> =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(sha).fetch_all(conn).await?);
        Ok(found.into_iter().map(|Json(check)| check).collect())
    }

    /// Sets a commit status.
    pub async fn save_local_status(
        &mut self,
        repo: &RepoId,
        sha: &str,
        status: &CommitStatus,
        now: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO local_status (repo_id, sha, context, body, updated_at) VALUES ($1, $2, $3, $4, $5)
                   ON CONFLICT (repo_id, sha, context) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(repo).bind(sha).bind(&status.context).bind(Json(status)).bind(now);
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Every status of a commit, by context.
    pub async fn local_statuses(&mut self, repo: &RepoId, sha: &str) -> Result<Vec<CommitStatus>> {
        let sql = "SELECT body FROM local_status WHERE repo_id = $1 AND sha = $2 ORDER BY updated_at, context";
        let found: Vec<Json<CommitStatus>> =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(sha).fetch_all(conn).await?);
        Ok(found.into_iter().map(|Json(status)| status).collect())
    }
}

/// A run a delivery started, as its pusher is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedRun {
    /// Its id.
    pub id: RunId,
    /// Its pipeline.
    pub pipeline: String,
    /// Its number.
    pub number: i64,
    /// Its state.
    pub state: String,
    /// Why.
    pub reason: String,
    /// Whether it ended.
    pub ended: bool,
    /// Its stages in order: name and state.
    pub stages: Vec<(String, String)>,
}

impl Tx {
    /// The runs a delivery started (or would have, had not the same trigger started them before).
    pub async fn runs_of_delivery(&mut self, delivery: &DeliveryId) -> Result<Vec<PushedRun>> {
        let sql = "SELECT id, pipeline, number, state, reason, finished_at IS NOT NULL FROM run
                   WHERE id IN (SELECT run_id FROM decision WHERE delivery_id = $1) ORDER BY number";
        let stages = "SELECT name, state FROM stage WHERE run_id = $1 ORDER BY position";
        let rows: Vec<(RunId, String, i64, String, String, bool)> =
            with_conn!(self, conn => sqlx::query_as(sql).bind(delivery).fetch_all(conn).await?);
        let mut runs = Vec::with_capacity(rows.len());
        for (id, pipeline, number, state, reason, ended) in rows {
            let stages = with_conn!(self, conn => sqlx::query_as(stages).bind(&id).fetch_all(conn).await?);
            runs.push(PushedRun { id, pipeline, number, state, reason, ended, stages });
        }
        Ok(runs)
    }
}
