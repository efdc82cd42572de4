//! What is remembered about triggers: which commits of which refs were decided about, which runs an event speaks for, and
//! how often a delivery had to wait.

use super::{Result, Tx, with_conn};
use crate::model::ids::{DeliveryId, RepoId, RunId};
use crate::model::run::Run;
use crate::model::time::Timestamp;

impl Tx {
    /// Remembers that a commit of a ref was decided about. Of two instances that do so at once one waits for the other.
    pub async fn decided_about(&mut self, repo: &RepoId, git_ref: &str, sha: &str, now: Timestamp) -> Result<()> {
        let sql = "INSERT INTO decided_ref (repo_id, git_ref, sha, decided_at) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (repo_id, git_ref, sha) DO UPDATE SET decided_at = excluded.decided_at";
        with_conn!(self, conn => {
            sqlx::query(sql).bind(repo).bind(git_ref).bind(sha).bind(now).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// The same, if it was not; answers whether it was not.
    pub async fn first_decided_about(
        &mut self,
        repo: &RepoId,
        git_ref: &str,
        sha: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let sql = "INSERT INTO decided_ref (repo_id, git_ref, sha, decided_at) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (repo_id, git_ref, sha) DO NOTHING";
        let new = with_conn!(self, conn => {
            sqlx::query(sql).bind(repo).bind(git_ref).bind(sha).bind(now).execute(conn).await?.rows_affected()
        });
        Ok(new > 0)
    }

    /// Whether this commit of this ref was decided about.
    pub async fn is_decided(&mut self, repo: &RepoId, git_ref: &str, sha: &str) -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM decided_ref WHERE repo_id = $1 AND git_ref = $2 AND sha = $3";
        let found: i64 = with_conn!(self, conn => {
            sqlx::query_scalar(sql).bind(repo).bind(git_ref).bind(sha).fetch_one(conn).await?
        });
        Ok(found > 0)
    }

    /// Marks a run whose own change could have made it skip everything.
    pub async fn mark_unproven(&mut self, run: &RunId) -> Result<()> {
        let sql = "UPDATE run SET unproven = TRUE WHERE id = $1";
        with_conn!(self, conn => sqlx::query(sql).bind(run).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Whether a run, or the one it repeats, is marked so.
    pub async fn is_unproven(&mut self, run: &RunId) -> Result<bool> {
        let sql = "WITH RECURSIVE line (id, unproven, rerun_of) AS (
                       SELECT id, unproven, rerun_of FROM run WHERE id = $1
                       UNION SELECT run.id, run.unproven, run.rerun_of FROM run JOIN line ON run.id = line.rerun_of)
                   SELECT COUNT(*) FROM line WHERE unproven";
        let found: i64 = with_conn!(self, conn => sqlx::query_scalar(sql).bind(run).fetch_one(conn).await?);
        Ok(found > 0)
    }

    /// Whether a pull request's event started a run of this pipeline for this head.
    pub async fn has_run_for_pull(&mut self, repo: &RepoId, pipeline: &str, number: i64, sha: &str) -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM run WHERE repo_id = $1 AND pipeline = $2 AND pull_request = $3 AND sha = $4";
        let found: i64 = with_conn!(self, conn => {
            sqlx::query_scalar(sql).bind(repo).bind(pipeline).bind(number).bind(sha).fetch_one(conn).await?
        });
        Ok(found > 0)
    }

    /// Runs that pushes of this commit started and that no runner has begun.
    pub async fn unbegun_push_runs(&mut self, repo: &RepoId, pipeline: &str, sha: &str) -> Result<Vec<RunId>> {
        let sql = "SELECT id FROM run WHERE repo_id = $1 AND pipeline = $2 AND sha = $3 AND event = 'push'
                   AND branch IS NOT NULL AND finished_at IS NULL AND parent_stage_id IS NULL
                   AND NOT EXISTS (SELECT 1 FROM job WHERE job.run_id = run.id AND job.claimed_at IS NOT NULL)
                   ORDER BY number";
        Ok(with_conn!(self, conn => {
            sqlx::query_scalar(sql).bind(repo).bind(pipeline).bind(sha).fetch_all(conn).await?
        }))
    }

    /// Runs of a ref that are not over.
    pub async fn open_runs_of_ref(&mut self, repo: &RepoId, git_ref: &str) -> Result<Vec<RunId>> {
        let sql = "SELECT id FROM run WHERE repo_id = $1 AND git_ref = $2 AND finished_at IS NULL ORDER BY number";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(git_ref).fetch_all(conn).await?))
    }

    /// Runs of a repository that are not over.
    pub async fn open_runs_of_repo(&mut self, repo: &RepoId) -> Result<Vec<RunId>> {
        let sql = "SELECT id FROM run WHERE repo_id = $1 AND finished_at IS NULL ORDER BY number";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).fetch_all(conn).await?))
    }

    /// Runs of an installation's repositories that are not over, and of which no runner holds a job.
    pub async fn idle_runs_of_installation(&mut self, installation: i64) -> Result<Vec<RunId>> {
        let sql = "SELECT run.id FROM run JOIN repo ON repo.id = run.repo_id
                   WHERE repo.installation_id = $1 AND run.finished_at IS NULL AND NOT EXISTS (
                       SELECT 1 FROM job WHERE job.run_id = run.id AND job.state IN ('claimed', 'running'))
                   ORDER BY run.id";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(installation).fetch_all(conn).await?))
    }

    /// Runs a merge queue asked for on this commit that are not over.
    pub async fn open_runs_of_merge_group(&mut self, repo: &RepoId, sha: &str) -> Result<Vec<RunId>> {
        let sql = "SELECT id FROM run WHERE repo_id = $1 AND sha = $2 AND event = 'merge_group' AND finished_at IS NULL
                   ORDER BY number";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(sha).fetch_all(conn).await?))
    }

    /// Runs of a pull request that are not over and were made for another base branch than `base`.
    pub async fn open_runs_of_other_bases(&mut self, repo: &RepoId, number: i64, base: &str) -> Result<Vec<RunId>> {
        let mut found = vec![];
        for id in self.open_runs_of_pull_request(repo, number).await? {
            let run: Run = self.run(&id).await?;
            if run.facts.0.pull_request.is_some_and(|pull| pull.base != base) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Puts a delivery off that waits for the forge to work something out, and counts that.
    pub async fn wait_delivery(&mut self, id: &DeliveryId, reason: &str, at: Timestamp) -> Result<()> {
        let sql = "UPDATE delivery SET available_at = $2, reason = $3, attempts = attempts - 1, waits = waits + 1
                   WHERE id = $1 AND state = 'pending'";
        with_conn!(self, conn => sqlx::query(sql).bind(id).bind(at).bind(reason).execute(conn).await?.rows_affected());
        Ok(())
    }
}
