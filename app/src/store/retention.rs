//! Removing what is old.

use super::{Result, Tx, with_conn};
use crate::model::time::Timestamp;

impl Tx {
    /// Removes deliveries that were decided about and received before `before`, with their decisions; answers how many.
    pub async fn remove_old_deliveries(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
        let chosen =
            "SELECT id FROM delivery WHERE received_at < $1 AND state <> 'pending' ORDER BY received_at LIMIT $2";
        let ids: Vec<String> =
            with_conn!(self, conn => sqlx::query_scalar(chosen).bind(before).bind(limit).fetch_all(conn).await?);
        for id in &ids {
            for sql in ["DELETE FROM decision WHERE delivery_id = $1", "DELETE FROM delivery WHERE id = $1"] {
                with_conn!(self, conn => sqlx::query(sql).bind(id).execute(conn).await?.rows_affected());
            }
        }
        Ok(ids.len() as u64)
    }

    /// Removes sessions that ended; answers how many.
    pub async fn remove_ended_sessions(&mut self, now: Timestamp, limit: i64) -> Result<u64> {
        let sql = "DELETE FROM session WHERE id_hash IN (SELECT id_hash FROM session WHERE expires_at < $1 LIMIT $2)";
        Ok(with_conn!(self, conn => sqlx::query(sql).bind(now).bind(limit).execute(conn).await?.rows_affected()))
    }
}
