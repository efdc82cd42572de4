//! Who tells an installation's reports, and how much may be created for it: GitHub asks for one caller at a time, and for
//! few creations. Both are kept in rows, so that any number of instances obeys them together.
//!
//! A writer is an installation (or, where none is known, a repository). Whoever takes it holds it for [`HELD_MILLIS`] from
//! the last sign of life; whoever finds it taken from under them leaves what they told to be told again.

use super::reports::{COLUMNS, Report};
use super::{Result, Tx, with_conn};
use crate::model::ids::{EntryId, RepoId, ReportId};
use crate::model::time::Timestamp;
use sqlx::AssertSqlSafe;

/// How long a writer is held without a sign of life: longer than one report may take.
pub const HELD_MILLIS: i64 = 60_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;

/// Of which writer a report is. One text, so that every statement means the same.
macro_rules! writer {
    () => {
        "COALESCE('installation:' || CAST(repo.installation_id AS TEXT), repo.id)"
    };
}

/// A writer somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub writer: String,
    /// By whom: another one each time.
    pub holder: String,
    /// Answers of the forge that did not come, in a row.
    pub failures: i64,
}

/// How much may be created at a forge for one installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Within any minute.
    pub minute: i64,
    /// Within any hour.
    pub hour: i64,
}

impl Rates {
    /// So many an hour; of these a good seventh within one minute, as GitHub's own limits relate.
    pub fn hourly(hour: i64) -> Self {
        Self { minute: (hour * 3 / 20).max(1), hour }
    }
}

/// What may still be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Now.
    pub now: i64,
    /// Within the hour, as a part of what an hour allows: 1000 is all of it.
    pub permille: i64,
}

impl Left {
    /// Where nothing limits it.
    pub const UNLIMITED: Self = Self { now: i64::MAX, permille: 1000 };

    /// What is left of `rates` where so much was created within the last minute and hour. Windows that slide, not buckets
    /// that refill: a full bucket and its refill within the same minute would be twice what is allowed.
    pub fn of(rates: Rates, within_minute: i64, within_hour: i64) -> Self {
        let hour = (rates.hour - within_hour).max(0);
        let minute = (rates.minute - within_minute).max(0);
        Self { now: minute.min(hour), permille: hour * 1000 / rates.hour.max(1) }
    }

    /// How long what nobody waits for has to stand before it is created. While there is plenty, at once; the less is left,
    /// the more is told by its end alone.
    pub fn patience_millis(self) -> i64 {
        match self.permille {
            500.. => 0,
            250..500 => 30_000,
            _ => 5 * MINUTE,
        }
    }
}

/// Whether a forge minds how much is created: the local one is ours.
fn is_limited(writer: &str) -> bool {
    !writer.starts_with("local:")
}

impl Tx {
    /// Writers with something to tell that nobody holds and that need not be silent, the one served longest ago first.
    pub async fn waiting_writers(&mut self, now: Timestamp, limit: i64) -> Result<Vec<String>> {
        let sql = concat!(
            "SELECT waiting.writer FROM (SELECT DISTINCT ",
            writer!(),
            " AS writer FROM report JOIN repo ON repo.id = report.repo_id WHERE report.open AND report.next_try_at <= $1)
              AS waiting LEFT JOIN report_writer ON report_writer.writer = waiting.writer
             WHERE report_writer.writer IS NULL OR (report_writer.held_until <= $1 AND report_writer.silent_until <= $1)
             ORDER BY COALESCE(report_writer.served_at, 0), waiting.writer LIMIT $2"
        );
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(now).bind(limit).fetch_all(conn).await?))
    }

    /// Takes a writer, unless somebody else has it or it must be silent; answers what may still be created for it. While it
    /// is held, nobody spends but who creates comments.
    pub async fn take_writer(&mut self, writer: &str, rates: Rates, now: Timestamp) -> Result<Option<(Held, Left)>> {
        let sql = "INSERT INTO report_writer (writer, holder, held_until, silent_until, served_at)
                   VALUES ($1, $2, $3, 0, $4)
                   ON CONFLICT (writer) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until,
                       served_at = excluded.served_at
                   WHERE report_writer.held_until <= $4 AND report_writer.silent_until <= $4
                   RETURNING failures,
                       (SELECT CAST(COALESCE(SUM(creations), 0) AS BIGINT) FROM report_spending
                        WHERE report_spending.writer = $1 AND spent_at > $5),
                       (SELECT CAST(COALESCE(SUM(creations), 0) AS BIGINT) FROM report_spending
                        WHERE report_spending.writer = $1 AND spent_at > $6)";
        let holder = EntryId::generate().0;
        let until = now.plus_millis(HELD_MILLIS);
        let (minute_ago, hour_ago) = (now.plus_millis(-MINUTE), now.plus_millis(-HOUR));
        let taken: Option<(i64, i64, i64)> = with_conn!(self, conn => {
            let query = sqlx::query_as(sql).bind(writer).bind(&holder).bind(until).bind(now);
            query.bind(minute_ago).bind(hour_ago).fetch_optional(conn).await?
        });
        Ok(taken.map(|(failures, minute, hour)| {
            let left = if is_limited(writer) { Left::of(rates, minute, hour) } else { Left::UNLIMITED };
            (Held { writer: writer.to_owned(), holder, failures }, left)
        }))
    }

    /// Forgets what was created too long ago to count.
    pub async fn forget_spending(&mut self, now: Timestamp) -> Result<u64> {
        let sql = "DELETE FROM report_spending WHERE spent_at <= $1";
        let hour_ago = now.plus_millis(-HOUR);
        Ok(with_conn!(self, conn => sqlx::query(sql).bind(hour_ago).execute(conn).await?.rows_affected()))
    }

    /// A sign of life; `false` where somebody else has taken the writer over. Where it answers `true`, nobody can until
    /// this transaction ends.
    pub async fn keep_writer(&mut self, held: &Held, now: Timestamp) -> Result<bool> {
        let sql = "UPDATE report_writer SET held_until = $3 WHERE writer = $1 AND holder = $2";
        let until = now.plus_millis(HELD_MILLIS);
        let kept = with_conn!(self, conn => {
            sqlx::query(sql).bind(&held.writer).bind(&held.holder).bind(until).execute(conn).await?.rows_affected()
        });
        Ok(kept > 0)
    }

    /// Gives a writer back, to be silent until `silent_until`.
    pub async fn release_writer(&mut self, held: &Held, silent_until: Timestamp) -> Result<()> {
        let sql = "UPDATE report_writer SET holder = NULL, held_until = 0, silent_until = $3, failures = $4
                   WHERE writer = $1 AND holder = $2";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&held.writer).bind(&held.holder).bind(silent_until).bind(held.failures);
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// The forge asked for silence on an installation's behalf.
    pub async fn silence_writer(&mut self, installation: i64, until: Timestamp) -> Result<()> {
        let sql = "INSERT INTO report_writer (writer, held_until, silent_until) VALUES ($1, 0, $2)
                   ON CONFLICT (writer) DO UPDATE SET silent_until = excluded.silent_until
                   WHERE report_writer.silent_until < excluded.silent_until";
        let writer = format!("installation:{installation}");
        with_conn!(self, conn => sqlx::query(sql).bind(writer).bind(until).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Installations that have to be silent because the forge asked for it (and not because it does not answer).
    pub async fn silent_writers(&mut self, now: Timestamp) -> Result<Vec<(i64, Timestamp)>> {
        let sql = "SELECT CAST(substr(writer, 14) AS BIGINT), silent_until FROM report_writer
                   WHERE substr(writer, 1, 13) = 'installation:' AND silent_until > $1 AND failures = 0";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(now).fetch_all(conn).await?))
    }

    /// Notes that so much is created for a writer; a negative number was not created after all.
    pub async fn spend(&mut self, writer: &str, creations: i64, now: Timestamp) -> Result<()> {
        if creations == 0 || !is_limited(writer) {
            return Ok(());
        }
        let sql = "INSERT INTO report_spending (writer, spent_at, creations) VALUES ($1, $2, $3)";
        with_conn!(self, conn => {
            sqlx::query(sql).bind(writer).bind(now).bind(creations).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Notes that one thing (a comment, a deployment) is created in a repository by somebody else than the reporter: it
    /// counts against the same limit.
    pub async fn spend_in(&mut self, repo: &RepoId, now: Timestamp) -> Result<()> {
        let sql = concat!(
            "INSERT INTO report_spending (writer, spent_at, creations) SELECT ",
            writer!(),
            ", $2, 1 FROM repo WHERE repo.id = $1"
        );
        with_conn!(self, conn => sqlx::query(sql).bind(repo).bind(now).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Takes a held writer's open reports whose time has come: at most `left.now` that create something, and at most
    /// `limit` in all. The repositories take turns, and what people wait for goes first. A taken row counts one more
    /// attempt: whoever finds it with two knows that an answer may have been lost.
    pub async fn claim_reports(&mut self, held: &Held, left: Left, limit: i64, now: Timestamp) -> Result<Vec<Report>> {
        // While the writer is held nobody else takes its reports; the time is for the case that the holder dies.
        const CLAIM: &str = concat!(
            "UPDATE report SET next_try_at = $2, attempts = attempts + 1 WHERE id IN (
                 SELECT id FROM (SELECT id, urgency, turn, creates,
                     ROW_NUMBER() OVER (PARTITION BY creates ORDER BY turn, urgency, id) AS place
                     FROM (SELECT report.id, report.urgency, report.forge_id IS NULL AS creates,
                               ROW_NUMBER() OVER (PARTITION BY report.repo_id, report.forge_id IS NULL
                                   ORDER BY report.urgency, report.next_try_at, report.id) AS turn
                           FROM report JOIN repo ON repo.id = report.repo_id
                           WHERE report.open AND report.next_try_at <= $1 AND ",
            writer!(),
            " = $3 AND (report.urgency = 0 OR report.forge_id IS NOT NULL OR report.updated_at <= $4)) AS waiting)
                     AS placed
                 WHERE NOT creates OR place <= $5 ORDER BY turn, urgency, id LIMIT $6) RETURNING "
        );
        let settled = now.plus_millis(-left.patience_millis());
        let until = now.plus_millis(HELD_MILLIS);
        let sql = format!("{CLAIM}{COLUMNS}");
        let mut taken: Vec<Report> = with_conn!(self, conn => {
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(now).bind(until).bind(&held.writer);
            query.bind(settled).bind(left.now).bind(limit).fetch_all(conn).await?
        });
        taken.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(taken)
    }

    /// Leaves a report to be told again: what the forge shows now is not known, because somebody else wrote meanwhile.
    pub async fn report_unsure(&mut self, id: &ReportId) -> Result<()> {
        let sql = "UPDATE report SET told = NULL, open = TRUE, gave_up_at = NULL WHERE id = $1";
        with_conn!(self, conn => sqlx::query(sql).bind(id).execute(conn).await?.rows_affected());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    #[test]
    fn no_minute_and_no_hour_sees_more_than_it_may() {
        let rates = Rates::hourly(400);
        assert_eq!(rates, Rates { minute: 60, hour: 400 });
        // As much as is allowed, as often as it is asked for, for three hours.
        let mut spent: Vec<(Timestamp, i64)> = vec![];
        for second in 0..10_800 {
            let now = NOW.plus_seconds(second);
            let since = |millis: i64| spent.iter().filter(|(at, _)| now.since(*at) < millis).map(|(_, n)| n).sum();
            let left = Left::of(rates, since(MINUTE), since(HOUR)).now;
            if left > 0 {
                spent.push((now, left.min(16)));
            }
        }
        for (start, _) in &spent {
            let within = |millis: i64| -> i64 {
                spent.iter().filter(|(at, _)| (0..millis).contains(&at.since(*start))).map(|(_, n)| n).sum()
            };
            assert!(within(MINUTE) <= 60 && within(HOUR) <= 400, "{} {}", within(MINUTE), within(HOUR));
        }
        assert_eq!(spent.iter().map(|(_, n)| n).sum::<i64>(), 1200, "and all of it is used");
    }

    #[test]
    fn patience_grows_as_the_rest_shrinks() {
        let rates = Rates::hourly(400);
        let left = |hour| Left::of(rates, 0, hour);
        assert_eq!((left(200).now, left(200).permille, left(200).patience_millis()), (60, 500, 0));
        assert_eq!((left(250).now, left(250).patience_millis()), (60, 30_000));
        assert_eq!((left(399).now, left(399).patience_millis()), (1, 300_000));
        assert_eq!(left(500).now, 0);
    }
}
