//! How much there is of what, for metrics and for whoever looks after a server.

use super::{Result, Tx, with_conn};
use crate::model::time::Timestamp;

/// Counts of what is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Runs that have not ended, by state.
    pub open_runs: Vec<(String, i64)>,
    /// Jobs that have not ended, by state.
    pub open_jobs: Vec<(String, i64)>,
    /// Since when the longest waiting job could have been claimed.
    pub oldest_queued: Option<Timestamp>,
    /// Deliveries that are pending or dead.
    pub open_deliveries: Vec<(String, i64)>,
    /// Checks and statuses to be told.
    pub open_reports: i64,
    /// Runners that were not removed, by state.
    pub runners: Vec<(String, i64)>,
}

impl Tx {
    /// Whether the database answers.
    pub async fn ping(&mut self) -> Result<()> {
        let one: i64 = with_conn!(self, conn => sqlx::query_scalar("SELECT CAST(1 AS BIGINT)").fetch_one(conn).await?);
        debug_assert_eq!(one, 1);
        Ok(())
    }

    /// Counts what is open.
    pub async fn stats(&mut self) -> Result<Stats> {
        let by_state = [
            "SELECT state, COUNT(*) FROM run WHERE finished_at IS NULL GROUP BY state ORDER BY state",
            "SELECT state, COUNT(*) FROM job WHERE state IN ('queued', 'claimed', 'running') GROUP BY state ORDER BY state",
            "SELECT state, COUNT(*) FROM delivery WHERE state IN ('pending', 'dead') GROUP BY state ORDER BY state",
            "SELECT state, COUNT(*) FROM runner WHERE state <> 'removed' GROUP BY state ORDER BY state",
        ];
        let mut counts: Vec<Vec<(String, i64)>> = Vec::with_capacity(by_state.len());
        for sql in by_state {
            counts.push(with_conn!(self, conn => sqlx::query_as(sql).fetch_all(conn).await?));
        }
        let oldest = "SELECT MIN(available_at) FROM job WHERE state = 'queued'";
        let oldest_queued: Option<Timestamp> =
            with_conn!(self, conn => sqlx::query_scalar(oldest).fetch_one(conn).await?);
        let reports = "SELECT COUNT(*) FROM report WHERE open";
        let open_reports: i64 = with_conn!(self, conn => sqlx::query_scalar(reports).fetch_one(conn).await?);
        let mut counts = counts.into_iter();
        let mut next = || counts.next().unwrap_or_default();
        let (open_runs, open_jobs, open_deliveries, runners) = (next(), next(), next(), next());
        Ok(Stats { open_runs, open_jobs, oldest_queued, open_deliveries, open_reports, runners })
    }
}
