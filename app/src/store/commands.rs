//! Commands of comments and pressed buttons: each is begun once, ends once, and keeps its answer, so that a delivery that
//! is worked on again repeats nothing.

use super::{Error, Json, Result, Tx, with_conn};
use crate::model::ids::{RepoId, RunId};
use crate::model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, sqlx::Type)]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum CommandOutcome {
    /// It took effect.
    Done,
    /// It was a question, and is answered.
    Answered,
    /// It did not take effect; the answer says why.
    Refused,
    /// No pipeline has this word: it was no command at all.
    Unknown,
    /// Somebody said it who may not.
    Stranger,
}

/// Which command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandKey {
    /// Where.
    pub repo_id: RepoId,
    /// `comment:123`, or `delivery:GUID`.
    pub source: String,
    /// Which of a comment's, from 0.
    pub position: i64,
}

/// A command that begins.
#[derive(Debug, Clone)]
pub struct NewCommand {
    /// Which.
    pub key: CommandKey,
    /// On which pull request, where one is meant.
    pub pull_request: Option<i64>,
    /// In which comment, where it was one.
    pub comment_id: Option<i64>,
    /// Who.
    pub actor: String,
    /// The forge's number of who.
    pub actor_forge_id: i64,
    /// As it was written.
    pub line: String,
}

/// A run that a command acts on, as it stood when that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aim {
    /// The run.
    pub run: RunId,
    /// Its version.
    pub version: i64,
}

/// A command as stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct CommandRow {
    /// In which comment.
    pub comment_id: Option<i64>,
    /// Who.
    pub actor: String,
    /// As it was written.
    pub line: String,
    /// What it acts on, once that was decided.
    pub aims: Option<Json<Vec<Aim>>>,
    /// How it ended, once it did.
    pub outcome: Option<CommandOutcome>,
    /// What is to be read about it.
    pub answer: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
}

impl CommandRow {
    /// The run it started, where it started one.
    pub fn aimed_run(&self) -> Option<RunId> {
        // A run that is acted on has been there before, and so has a version.
        let started = self.aims.iter().flat_map(|aims| &aims.0).find(|aim| aim.version == Aim::NEW);
        started.map(|aim| aim.run.clone())
    }
}

impl Aim {
    /// Stands for the version of a run that the command itself started.
    pub const NEW: i64 = -1;
}

impl Tx {
    /// Begins a command, unless it was begun before; answers how it stands and whether this is the first time.
    pub async fn begin_command(&mut self, new: &NewCommand, now: Timestamp) -> Result<(CommandRow, bool)> {
        let sql =
            "INSERT INTO command (repo_id, source, position, pull_request, comment_id, actor, actor_forge_id, line,
                       created_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
        let fresh = with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&new.key.repo_id).bind(&new.key.source).bind(new.key.position);
            let query = query.bind(new.pull_request).bind(new.comment_id).bind(&new.actor).bind(new.actor_forge_id);
            query.bind(&new.line).bind(now).execute(conn).await?.rows_affected()
        });
        let row = self.command(&new.key).await?.ok_or(Error::NotFound)?;
        Ok((row, fresh > 0))
    }

    /// A command as it stands.
    pub async fn command(&mut self, key: &CommandKey) -> Result<Option<CommandRow>> {
        let sql = "SELECT comment_id, actor, line, aims, outcome, answer, created_at FROM command
                   WHERE repo_id = $1 AND source = $2 AND position = $3";
        Ok(with_conn!(self, conn => {
            let query = sqlx::query_as(sql).bind(&key.repo_id).bind(&key.source).bind(key.position);
            query.fetch_optional(conn).await?
        }))
    }

    /// Writes down what a command acts on, before it does: the first to say so decides.
    pub async fn aim_command(&mut self, key: &CommandKey, aims: &[Aim]) -> Result<()> {
        let sql = "UPDATE command SET aims = $4 WHERE repo_id = $1 AND source = $2 AND position = $3 AND aims IS NULL";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&key.repo_id).bind(&key.source).bind(key.position);
            query.bind(Json(aims)).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// Ends a command, once.
    pub async fn end_command(
        &mut self,
        key: &CommandKey,
        outcome: CommandOutcome,
        answer: Option<&str>,
        now: Timestamp,
    ) -> Result<()> {
        let sql = "UPDATE command SET outcome = $4, answer = $5, done_at = $6
                   WHERE repo_id = $1 AND source = $2 AND position = $3 AND outcome IS NULL";
        with_conn!(self, conn => {
            let query = sqlx::query(sql).bind(&key.repo_id).bind(&key.source).bind(key.position);
            query.bind(outcome).bind(answer).bind(now).execute(conn).await?.rows_affected()
        });
        Ok(())
    }

    /// The newest comments of a pull request that were answered, newest first: their commands with an answer.
    pub async fn answered_commands(&mut self, repo: &RepoId, pull: i64, limit: i64) -> Result<Vec<CommandRow>> {
        let sql = "SELECT comment_id, actor, line, aims, outcome, answer, created_at FROM command
                   WHERE repo_id = $1 AND pull_request = $2 AND answer IS NOT NULL AND comment_id IS NOT NULL
                   ORDER BY comment_id DESC, position LIMIT $3";
        Ok(with_conn!(self, conn => sqlx::query_as(sql).bind(repo).bind(pull).bind(limit).fetch_all(conn).await?))
    }

    /// How many commands somebody gave in other comments of a repository since a time.
    pub async fn commands_since(&mut self, key: &CommandKey, actor_forge_id: i64, since: Timestamp) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM command WHERE repo_id = $1 AND actor_forge_id = $2 AND created_at > $3
                   AND comment_id IS NOT NULL AND source <> $4";
        Ok(with_conn!(self, conn => {
            let query = sqlx::query_scalar(sql).bind(&key.repo_id).bind(actor_forge_id).bind(since).bind(&key.source);
            query.fetch_one(conn).await?
        }))
    }

    /// How many comments of strangers a pull request got a receipt for since a time, but for one of them.
    pub async fn strangers_since(&mut self, key: &CommandKey, pull: i64, since: Timestamp) -> Result<i64> {
        let sql = "SELECT COUNT(*) FROM command WHERE repo_id = $1 AND pull_request = $2 AND outcome = 'stranger'
                   AND created_at > $3 AND source <> $4";
        Ok(with_conn!(self, conn => {
            let query = sqlx::query_scalar(sql).bind(&key.repo_id).bind(pull).bind(since).bind(&key.source);
            query.fetch_one(conn).await?
        }))
    }

    /// The newest runs people see on a pull request, newest first: its own, and those of pushes of its head. Children
    /// belong to the stage that started them.
    pub async fn runs_on_pull_request(&mut self, repo: &RepoId, pull: i64, head_sha: &str) -> Result<Vec<RunId>> {
        let sql = "SELECT id FROM run WHERE repo_id = $1 AND parent_stage_id IS NULL
                   AND (pull_request = $2 OR (pull_request IS NULL AND sha = $3)) ORDER BY number DESC LIMIT 200";
        Ok(
            with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(pull).bind(head_sha).fetch_all(conn).await?),
        )
    }

    /// The runs whose checks or statuses a commit shows, newest first.
    pub async fn runs_shown_on(&mut self, repo: &RepoId, sha: &str) -> Result<Vec<RunId>> {
        let sql = "SELECT DISTINCT run_id FROM report WHERE repo_id = $1 AND sha = $2 AND run_id IS NOT NULL
                   ORDER BY run_id DESC LIMIT 200";
        Ok(with_conn!(self, conn => sqlx::query_scalar(sql).bind(repo).bind(sha).fetch_all(conn).await?))
    }
}
