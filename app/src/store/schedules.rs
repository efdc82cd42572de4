//! Schedules: what the default branches define for clock times, and which of them are due. An order of locks holds
//! everywhere: repository, then schedule, then firing.

use super::{Error, Json, Result, Tx, with_conn};
use crate::model::ids::{RepoId, ScheduleId};
use crate::model::schedule::{Entry, Schedule, Standing};
use crate::model::time::Timestamp;
use crate::store::repos::{Repo, repo_columns};

/// How long one instance has a repository's definitions for itself.
const CLAIM_MILLIS: i64 = 120_000;

macro_rules! schedule_columns {
    () => {
        "schedule.id, schedule.repo_id, schedule.pipeline, schedule.cron, schedule.timezone, schedule.inputs,
         schedule.catch_up, schedule.paused_by, schedule.paused_at, schedule.problem, schedule.next_due_at,
         schedule.last_due_at, schedule.created_at"
    };
}
pub(super) use schedule_columns;

macro_rules! standing {
    () => {
        " repo.owner, repo.name, repo.enabled, installation.suspended, installation.removed
          FROM schedule JOIN repo ON repo.id = schedule.repo_id
          LEFT JOIN installation ON installation.id = repo.installation_id "
    };
}

const ONE: &str = concat!("SELECT ", schedule_columns!(), ",", standing!(), "WHERE schedule.id = $1");
const OF_REPO: &str =
    concat!("SELECT ", schedule_columns!(), " FROM schedule WHERE repo_id = $1 ORDER BY pipeline, created_at, id");
const DUE: &str = concat!(
    "SELECT ",
    schedule_columns!(),
    ",",
    standing!(),
    "WHERE schedule.next_due_at IS NOT NULL AND schedule.next_due_at <= $1
     ORDER BY schedule.next_due_at, schedule.id LIMIT $2"
);
const DUE_LOCKED: &str = concat!(
    "SELECT ",
    schedule_columns!(),
    ",",
    standing!(),
    "WHERE schedule.next_due_at IS NOT NULL AND schedule.next_due_at <= $1
     ORDER BY schedule.next_due_at, schedule.id LIMIT $2 FOR UPDATE OF schedule SKIP LOCKED"
);

macro_rules! claim {
    ($lock:literal) => {
        concat!(
            "UPDATE repo SET definitions_due_at = $2 WHERE id IN (
                 SELECT id FROM repo WHERE definitions_due_at <= $1 AND enabled AND default_branch <> ''
                 ORDER BY definitions_due_at, id LIMIT $3",
            $lock,
            ") RETURNING ",
            repo_columns!(),
            ", definitions_due_at, definitions_sha, definitions_attempts"
        )
    };
}

const CLAIM: &str = claim!("");
const CLAIM_LOCKED: &str = claim!(" FOR UPDATE SKIP LOCKED");

/// A schedule and whether its repository lets it fire.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Placed {
    /// The schedule.
    #[sqlx(flatten)]
    pub schedule: Schedule,
    /// Its repository's standing.
    #[sqlx(flatten)]
    pub standing: Standing,
}

/// A repository whose default branch is to be read.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Unread {
    /// The repository.
    #[sqlx(flatten)]
    pub repo: Repo,
    /// The mark of this claim; another one means that somebody wants it read again.
    pub definitions_due_at: Timestamp,
    /// The commit whose schedules are stored, where all of them could be read.
    pub definitions_sha: Option<String>,
    /// How often it was tried in vain.
    pub definitions_attempts: i64,
}

/// What came of reading a default branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The commit that was read, where all of it could be.
    pub sha: Option<String>,
    /// Why it could not be read.
    pub problem: Option<String>,
    /// When to read it again by itself.
    pub next: Timestamp,
    /// Tries in vain so far.
    pub attempts: i64,
}

impl Tx {
    /// Lets the schedules of a repository be read again soon.
    pub async fn definitions_changed(&mut self, repo: &RepoId) -> Result<()> {
        let sql = "UPDATE repo SET definitions_due_at = 0, definitions_attempts = 0 WHERE id = $1";
        with_conn!(self, conn => sqlx::query(sql).bind(repo).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Lets every repository's schedules be read again that were last read before `before`.
    pub async fn all_definitions_changed(&mut self, before: Timestamp) -> Result<()> {
        let sql = "UPDATE repo SET definitions_due_at = 0 WHERE enabled AND definitions_due_at > 0
                   AND definitions_read_at < $1";
        with_conn!(self, conn => sqlx::query(sql).bind(before).execute(conn).await?.rows_affected());
        Ok(())
    }

    /// Takes repositories whose default branch is to be read, each for one instance.
    pub async fn claim_definitions(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Unread>> {
        let sql = if self.is_postgres() { CLAIM_LOCKED } else { CLAIM };
        let until = now.plus_millis(CLAIM_MILLIS);
        Ok(with_conn!(self, conn => {
            sqlx::query_as(sql).bind(now).bind(until).bind(limit).fetch_all(conn).await?
        }))
    }

    /// Ends the reading of a default branch. `false`: it is to be read again (something changed meanwhile, or it took too
    /// long), and nothing that was read may be stored.
    pub async fn finish_definitions(&mut self, unread: &Unread, read: &Read, now: Timestamp) -> Result<bool> {
        let sql = "UPDATE repo SET definitions_due_at = $3, definitions_read_at = $4, definitions_attempts = $5,
                       definitions_sha = $6, definitions_problem = $7
                   WHERE id = $1 AND definitions_due_at = $2";
        let changed = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&unread.repo.id).bind(unread.definitions_due_at).bind(read.next).bind(now);
            let query = query.bind(read.attempts).bind(&read.sha).bind(&read.problem);
            query.execute(conn).await?.rows_affected()
        });
        Ok(changed == 1)
    }

    /// The schedules of a repository.
    pub async fn schedules_of(&mut self, repo: &RepoId) -> Result<Vec<Schedule>> {
        Ok(with_conn!(self, conn => sqlx::query_as(OF_REPO).bind(repo).fetch_all(conn).await?))
    }

    /// A schedule with its repository's standing.
    pub async fn schedule(&mut self, id: &ScheduleId) -> Result<Placed> {
        let found = with_conn!(self, conn => sqlx::query_as(ONE).bind(id).fetch_optional(conn).await?);
        found.ok_or(Error::NotFound)
    }

    /// Stores a new entry of a pipeline.
    pub async fn add_schedule(
        &mut self,
        repo: &RepoId,
        pipeline: &str,
        entry: &Entry,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<()> {
        let sql = "INSERT INTO schedule (id, repo_id, pipeline, cron, timezone, inputs, shown_inputs, entry, catch_up,
                       next_due_at, created_at, updated_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
                   ON CONFLICT (repo_id, pipeline, entry) DO NOTHING";
        let said = &entry.said;
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(ScheduleId::generate()).bind(repo).bind(pipeline).bind(&said.cron);
            let query = query.bind(&said.timezone).bind(Json(&said.inputs)).bind(Json(&entry.shown_inputs));
            let query = query.bind(entry.digest()).bind(said.catch_up).bind(next).bind(now);
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// What a definition says of a schedule beside what makes it the same one.
    pub async fn keep_schedule(&mut self, id: &ScheduleId, entry: &Entry, now: Timestamp) -> Result<()> {
        let sql = "UPDATE schedule SET catch_up = $2, shown_inputs = $3, problem = NULL, updated_at = $4 WHERE id = $1";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(id).bind(entry.said.catch_up).bind(Json(&entry.shown_inputs)).bind(now);
            query.execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Why the definition a schedule stands in cannot be read now.
    pub async fn schedule_problem(&mut self, id: &ScheduleId, problem: &str, now: Timestamp) -> Result<()> {
        let sql = "UPDATE schedule SET problem = $2, updated_at = $3 WHERE id = $1";
        with_conn!(self, conn => {
            sqlx::query(sql).bind(id).bind(problem).bind(now).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Removes a schedule and its firings; the runs they started stay.
    pub async fn remove_schedule(&mut self, id: &ScheduleId) -> Result<()> {
        for sql in ["DELETE FROM schedule WHERE id = $1", "DELETE FROM firing WHERE schedule_id = $1"] {
            with_conn!(self, conn => sqlx::query(sql).bind(id).execute(conn).await?.rows_affected());
        }
        Ok(())
    }

    /// Schedules that are due, locked: another instance takes others.
    pub async fn due_schedules(&mut self, now: Timestamp, limit: i64) -> Result<Vec<Placed>> {
        let sql = if self.is_postgres() { DUE_LOCKED } else { DUE };
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(now).bind(limit).fetch_all(conn).await?))
    }

    /// Moves a schedule on to its next due time. `false`: somebody else did, or paused or removed it.
    pub async fn move_schedule(
        &mut self,
        schedule: &Schedule,
        last: Option<Timestamp>,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool> {
        let sql = "UPDATE schedule SET next_due_at = $3, last_due_at = COALESCE($4, last_due_at), updated_at = $5
                   WHERE id = $1 AND next_due_at = $2";
        let changed = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&schedule.id).bind(schedule.next_due_at).bind(next).bind(last).bind(now);
            query.execute(conn).await?.rows_affected()
        });
        Ok(changed == 1)
    }

    /// Pauses a schedule, unless it is.
    pub async fn pause_schedule(&mut self, id: &ScheduleId, by: &str, now: Timestamp) -> Result<bool> {
        let sql = "UPDATE schedule SET paused_by = $2, paused_at = $3, next_due_at = NULL, updated_at = $3
                   WHERE id = $1 AND paused_at IS NULL";
        let changed =
            with_conn!(self, conn => sqlx::query(sql).bind(id).bind(by).bind(now).execute(conn).await?.rows_affected());
        Ok(changed == 1)
    }

    /// Lets a paused schedule fire again from `next` on.
    pub async fn resume_schedule(&mut self, id: &ScheduleId, next: Option<Timestamp>, now: Timestamp) -> Result<bool> {
        let sql = "UPDATE schedule SET paused_by = NULL, paused_at = NULL, next_due_at = $2, updated_at = $3
                   WHERE id = $1 AND paused_at IS NOT NULL";
        let changed = with_conn!(self, conn => sqlx::query(sql).bind(id).bind(next).bind(now).execute(conn).await?
            .rows_affected());
        Ok(changed == 1)
    }
}
