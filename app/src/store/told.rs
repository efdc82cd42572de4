//! How far the forge was told about a run, for people; and telling it once more because somebody asks.

use super::{Result, Tx, with_conn};
use crate::model::ids::RunId;
use crate::model::time::Timestamp;

/// After this long something that is not told is called so.
const LATE_MILLIS: i64 = 24 * 3_600_000;

/// Where a report stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Told {
    /// The forge shows it.
    Told,
    /// It is on its way, or waits for the forge.
    Waiting,
    /// For a day the forge could not be told.
    NotReported,
}

/// One check run or commit status of a run.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the report table")]
pub struct ReportView {
    pub name: String,
    pub kind: String,
    pub sha: String,
    pub open: bool,
    pub attempts: i64,
    pub last_error: Option<String>,
    pub next_try_at: Timestamp,
    pub gave_up_at: Option<Timestamp>,
    pub updated_at: Timestamp,
}

impl ReportView {
    /// Where it stands at `now`.
    pub fn told(&self, now: Timestamp) -> Told {
        match (self.gave_up_at, self.open) {
            (Some(_), _) => Told::NotReported,
            (None, true) if now.since(self.updated_at) > LATE_MILLIS => Told::NotReported,
            (None, true) => Told::Waiting,
            (None, false) => Told::Told,
        }
    }

    /// Whether people should hear of it: something went wrong, and it is not told yet.
    pub fn is_trouble(&self, now: Timestamp) -> bool {
        match self.told(now) {
            Told::Told => false,
            Told::Waiting => self.last_error.is_some(),
            Told::NotReported => true,
        }
    }
}

impl Tx {
    /// The reports of a run, in the order the forge shows them.
    pub async fn view_reports(&mut self, run: &RunId) -> Result<Vec<ReportView>> {
        let sql = "SELECT name, kind, sha, open, attempts, last_error, next_try_at, gave_up_at, updated_at
                   FROM report WHERE run_id = $1 ORDER BY id";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(run).fetch_all(conn).await?))
    }

    /// Has everything the forge should show of a run told anew, as if nobody knew what it shows; answers how much that is.
    pub async fn tell_again(&mut self, run: &RunId, now: Timestamp) -> Result<u64> {
        let sql = "UPDATE report SET told = NULL, open = TRUE, gave_up_at = NULL, last_error = NULL, updated_at = $2,
                       next_try_at = $2 WHERE run_id = $1";
        Ok(with_conn!(self, conn => sqlx::query(sql).bind(run).bind(now).execute(conn).await?.rows_affected()))
    }
}
