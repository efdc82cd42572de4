//! Environments of repositories, and their locks.

use super::{Result, Tx, with_conn};
use crate::model::deployment::{Environment, Freeze, environment_key};
use crate::model::ids::{RepoId, RunId};
use crate::model::time::Timestamp;
use serde_json::json;

const ONE: &str = "SELECT repo_id, name_key, name, locked_at, locked_by, locked_reason, locked_run_id, lock_changed_at,
    forge_error, created_at FROM environment WHERE repo_id = $1 AND name_key = $2";
const ALL: &str = "SELECT repo_id, name_key, name, locked_at, locked_by, locked_reason, locked_run_id, lock_changed_at,
    forge_error, created_at FROM environment WHERE repo_id = $1 ORDER BY name_key";
const LOCKED: &str =
    "SELECT repo_id, name_key, name, locked_at, locked_by, locked_reason, locked_run_id, lock_changed_at,
    forge_error, created_at FROM environment WHERE repo_id = $1 AND locked_at IS NOT NULL ORDER BY name_key";

impl Tx {
    /// The environments of a repository, by name.
    pub async fn environments(&mut self, repo: &RepoId) -> Result<Vec<Environment>> {
        Ok(with_conn!(self, conn => sqlx::query_as(ALL).bind(repo).fetch_all(conn).await?))
    }

    /// Those of them that are locked.
    pub async fn locked_environments(&mut self, repo: &RepoId) -> Result<Vec<Environment>> {
        Ok(with_conn!(self, conn => sqlx::query_as(LOCKED).bind(repo).fetch_all(conn).await?))
    }

    /// The environment of this name, however it is written.
    pub async fn environment(&mut self, repo: &RepoId, name: &str) -> Result<Option<Environment>> {
        let key = environment_key(name);
        Ok(with_conn!(self, conn => sqlx::query_as(ONE).bind(repo).bind(key).fetch_optional(conn).await?))
    }

    /// Remembers that there is an environment of this name.
    pub async fn know_environment(&mut self, repo: &RepoId, name: &str, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO environment (repo_id, name_key, name, created_at) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (repo_id, name_key) DO NOTHING";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(repo).bind(environment_key(name)).bind(name).bind(now);
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Locks an environment, unless it is locked already: answers whether it was not. `run` is the rollback that leaves the
    /// lock behind, whose own jobs pass it. The audit log is told in the same transaction.
    pub async fn lock_environment(
        &mut self,
        repo: &RepoId,
        key: &str,
        freeze: &Freeze,
        run: Option<&RunId>,
        now: Timestamp,
    ) -> Result<bool> {
        let sql = "UPDATE environment SET locked_at = $3, locked_by = $4, locked_reason = $5, locked_run_id = $6,
                       lock_changed_at = $3
                   WHERE repo_id = $1 AND name_key = $2 AND locked_at IS NULL";
        let done = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(repo).bind(key).bind(now).bind(&freeze.actor).bind(&freeze.reason);
            query.bind(run).execute(conn).await?.rows_affected()
        });
        if done > 0 {
            let details = json!({ "reason": freeze.reason, "run_id": run });
            self.audit(&freeze.actor, "environment.lock", &audited(repo, key), &details, now).await?;
        }
        Ok(done > 0)
    }

    /// Unlocks an environment: answers whether it was locked. The audit log is told in the same transaction.
    pub async fn unlock_environment(&mut self, repo: &RepoId, key: &str, actor: &str, now: Timestamp) -> Result<bool> {
        let sql =
            "UPDATE environment SET locked_at = NULL, locked_by = NULL, locked_reason = NULL, locked_run_id = NULL,
                       lock_changed_at = $3
                   WHERE repo_id = $1 AND name_key = $2 AND locked_at IS NOT NULL";
        let done = with_conn!(self, conn => sqlx::query(sql).bind(repo).bind(key).bind(now).execute(conn).await?.rows_affected());
        if done > 0 {
            self.audit(actor, "environment.unlock", &audited(repo, key), &json!({}), now).await?;
        }
        Ok(done > 0)
    }

    /// Runs with a job that waits for a runner and deploys to this environment.
    pub async fn runs_waiting_for_environment(&mut self, repo: &RepoId, key: &str) -> Result<Vec<RunId>> {
        let sql = "SELECT DISTINCT run_id FROM job WHERE repo_id = $1 AND environment = $2 AND state = 'queued'
                   ORDER BY run_id";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(key).fetch_all(conn).await?))
    }

    /// Remembers why the forge refuses to be told of an environment's deployments (`None`: it no longer does); answers
    /// whether that is news.
    pub async fn environment_refused(&mut self, repo: &RepoId, key: &str, error: Option<&str>) -> Result<bool> {
        let sql = "UPDATE environment SET forge_error = $3
                   WHERE repo_id = $1 AND name_key = $2 AND forge_error IS DISTINCT FROM $3";
        let done = with_conn!(self, conn => sqlx::query(sql).bind(repo).bind(key).bind(error).execute(conn).await?.rows_affected());
        Ok(done > 0)
    }
}

/// What the audit log calls an environment: its repository's id, which outlives a renaming, and its name in lower case.
pub fn audited(repo: &RepoId, key: &str) -> String {
    format!("{repo}/{key}")
}
