//! What repositories' branches, tags and pull requests were when they were last looked at, and which of them a delivery told of.

use super::repos::Repo;
use super::{Json, Result, Tx, with_conn};
use crate::model::ids::{DeliveryId, RepoId};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A head as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Where it pointed (an annotated tag: to its object).
    pub sha: String,
    /// Since when it points there without anything having told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Where it pointed before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// The heads of a repository by full ref (`refs/pull/N/head` for a pull request).
pub type Heads = BTreeMap<String, Head>;

impl Tx {
    /// Enabled repositories of GitHub whose turn has come, the one looked at longest ago first, at most `limit`; of
    /// installations that let us in. With what was seen last, where something was.
    pub async fn repos_to_sweep(&mut self, now: Timestamp, limit: i64) -> Result<Vec<(Repo, Option<Heads>)>> {
        let sql = "SELECT repo.id FROM repo LEFT JOIN sweep ON sweep.repo_id = repo.id
                   WHERE repo.forge = 'github' AND repo.enabled AND (sweep.repo_id IS NULL OR sweep.next_at <= $1)
                     AND NOT EXISTS (SELECT 1 FROM installation WHERE installation.id = repo.installation_id
                                     AND (installation.suspended OR installation.removed))
                   ORDER BY COALESCE(sweep.next_at, 0), repo.id LIMIT $2";
        let ids: Vec<RepoId> =
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(now).bind(limit).fetch_all(conn).await?);
        let mut found = vec![];
        for id in ids {
            let sql = "SELECT heads FROM sweep WHERE repo_id = $1";
            let heads: Option<Json<Option<Heads>>> =
                with_conn!(self, conn => sqlx::query_scalar(sql).bind(&id).fetch_optional(conn).await?);
            found.push((self.repo(&id).await?, heads.and_then(|heads| heads.0)));
        }
        Ok(found)
    }

    /// Remembers what was seen, and when the repository is looked at again. (`None`: it could not be looked at for the
    /// first time, and still has not been.)
    pub async fn save_sweep(&mut self, repo: &RepoId, heads: Option<&Heads>, next_at: Timestamp) -> Result<()> {
        let sql = "INSERT INTO sweep (repo_id, next_at, heads) VALUES ($1, $2, $3)
                   ON CONFLICT (repo_id) DO UPDATE SET next_at = excluded.next_at, heads = excluded.heads";
        with_conn!(self, conn => {
            sqlx::query(sql).bind(repo).bind(next_at).bind(Json(heads)).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Whether it was decided what this ref's being at this commit starts (or a run of it exists).
    pub async fn is_explained(&mut self, repo: &RepoId, git_ref: &str, sha: &str) -> Result<bool> {
        let sql = "SELECT (SELECT COUNT(*) FROM decision WHERE repo_id = $1 AND sha = $3 AND git_ref = $2)
                        + (SELECT COUNT(*) FROM run WHERE repo_id = $1 AND sha = $3 AND git_ref = $2)";
        let count: i64 = with_conn!(self, conn => {
            sqlx::query_scalar(sql).bind(repo).bind(git_ref).bind(sha).fetch_one(conn).await?
        });
        Ok(count > 0)
    }

    /// Whether deliveries about a repository wait to be decided about.
    pub async fn has_pending_deliveries(&mut self, repo: &RepoId) -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM delivery WHERE repo_id = $1 AND state = 'pending'";
        let count: i64 = with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).fetch_one(conn).await?);
        Ok(count > 0)
    }

    /// The delivery after which a ref was last decided about, with the commit it was at then.
    pub async fn last_decided(&mut self, repo: &RepoId, git_ref: &str) -> Result<Option<(DeliveryId, String)>> {
        let sql = "SELECT delivery_id, sha FROM decision
                   WHERE repo_id = $1 AND git_ref = $2 AND delivery_id IS NOT NULL AND sha IS NOT NULL
                   ORDER BY created_at DESC, id DESC LIMIT 1";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(repo).bind(git_ref).fetch_optional(conn).await?))
    }
}
