//! Logs as runners send them: chunks whose offsets join without gap or overlap.

use super::{Result, Tx, with_conn};
use crate::model::ids::JobId;
use crate::model::time::Timestamp;

impl Tx {
    /// Adds `bytes` at `offset` to the log of a job that `runner` holds under `epoch`, if that is where the log ends; answers
    /// whether it is.
    pub async fn append_log(
        &mut self,
        held: &super::jobs::Hold<'_>,
        offset: i64,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<bool> {
        let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let grow = "UPDATE job SET log_bytes = log_bytes + $5
                    WHERE id = $1 AND runner_id = $2 AND epoch = $3 AND log_bytes = $4 AND state IN ('claimed', 'running')";
        let grown = with_conn!(self, conn => {
            let query = sqlx::query(grow).bind(held.job).bind(held.runner).bind(held.epoch).bind(offset).bind(length);
            query.execute(conn).await?.rows_affected()
        });
        if grown == 0 {
            return Ok(false);
        }
        if !bytes.is_empty() {
            let add = "INSERT INTO log_chunk (job_id, position, bytes, length, created_at) VALUES ($1, $2, $3, $4, $5)";
            with_conn!(self, conn => {
                let query = sqlx::query(add).bind(held.job).bind(offset).bind(bytes).bind(length).bind(now);
                query.execute(conn).await?.rows_affected()
            });
        }
        Ok(true)
    }

    /// The stored bytes of a log from `from` up to (not including) `to`.
    pub async fn log_range(&mut self, job: &JobId, from: i64, to: i64) -> Result<Vec<u8>> {
        let sql = "SELECT position, bytes FROM log_chunk
                   WHERE job_id = $1 AND position < $3 AND position + length > $2 ORDER BY position";
        let chunks: Vec<(i64, Vec<u8>)> = with_conn!(self, conn => {
            sqlx::query_as(sql).bind(job).bind(from).bind(to).fetch_all(conn).await?
        });
        let mut range = Vec::new();
        for (position, bytes) in chunks {
            let within = |at: i64| usize::try_from((at - position).max(0)).unwrap_or(0).min(bytes.len());
            range.extend_from_slice(&bytes[within(from)..within(to)]);
        }
        Ok(range)
    }
}
