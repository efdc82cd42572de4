//! Runners, found by the hash of their token.

use super::{Error, Json, Result, Tx, with_conn};
use crate::model::ids::RunnerId;
use crate::model::runner::{Runner, RunnerState};
use crate::model::time::Timestamp;
use pipelines_spec::protocol::RegisterRequest;

impl Tx {
    /// Stores a runner under its name with the hash of its new token. One that has the name already is the same runner with
    /// new credentials; it stays paused if a person paused it.
    pub async fn save_runner(&mut self, request: &RegisterRequest, hash: &str, now: Timestamp) -> Result<Runner> {
        let sql =
            "INSERT INTO runner (id, name, token_hash, labels, executors, version, state, last_seen_at, created_at)
                   VALUES ($1, $2, $3, $4, $5, $6, 'active', $7, $7)
                   ON CONFLICT (name) DO UPDATE SET token_hash = excluded.token_hash, labels = excluded.labels,
                       executors = excluded.executors, version = excluded.version, last_seen_at = excluded.last_seen_at,
                       state = CASE WHEN runner.state = 'paused' THEN 'paused' ELSE 'active' END
                   RETURNING *";
        Ok(with_conn!(self, conn => {
            let query = sqlx::query_as(sql).bind(RunnerId::generate()).bind(&request.name).bind(hash);
            let query = query.bind(Json(&request.labels)).bind(Json(&request.executors)).bind(&request.version);
            query.bind(now).fetch_one(conn).await?
        }))
    }

    /// The runner whose token has this hash, unless it was removed.
    pub async fn runner_by_hash(&mut self, hash: &str) -> Result<Option<Runner>> {
        let sql = "SELECT * FROM runner WHERE token_hash = $1 AND state <> 'removed'";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(hash).fetch_optional(conn).await?))
    }

    /// The runner with this id, removed or not.
    pub async fn runner(&mut self, id: &RunnerId) -> Result<Runner> {
        let sql = "SELECT * FROM runner WHERE id = $1";
        let found = with_conn!(self, conn => sqlx::query_as(sql).bind(id).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }

    /// Every runner that was not removed, by name.
    pub async fn runners(&mut self) -> Result<Vec<Runner>> {
        let sql = "SELECT * FROM runner WHERE state <> 'removed' ORDER BY name";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).fetch_all(conn).await?))
    }

    /// Notes that a runner was heard of (which brings back one that had left) and answers it as it stands. Until the end of
    /// this transaction no other one sees to the same runner, so its claims happen one after the other.
    pub async fn see_runner(&mut self, id: &RunnerId, now: Timestamp) -> Result<Runner> {
        let sql = "UPDATE runner SET last_seen_at = $2, state = CASE WHEN state = 'left' THEN 'active' ELSE state END
                   WHERE id = $1 AND state <> 'removed' RETURNING *";
        let found = with_conn!(self, conn => sqlx::query_as(sql).bind(id).bind(now).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }

    /// [`Tx::see_runner`] by the hash of its token.
    pub async fn see_runner_by_hash(&mut self, hash: &str, now: Timestamp) -> Result<Runner> {
        let sql = "UPDATE runner SET last_seen_at = $2, state = CASE WHEN state = 'left' THEN 'active' ELSE state END
                   WHERE token_hash = $1 AND state <> 'removed' RETURNING *";
        let found = with_conn!(self, conn => sqlx::query_as(sql).bind(hash).bind(now).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }

    /// Sets what a runner is given from now on. A removed one stays removed.
    pub async fn set_runner_state(&mut self, id: &RunnerId, state: RunnerState) -> Result<Runner> {
        let sql = "UPDATE runner SET state = $2 WHERE id = $1 AND state <> 'removed' RETURNING *";
        let found = with_conn!(self, conn => sqlx::query_as(sql).bind(id).bind(state).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }
}
