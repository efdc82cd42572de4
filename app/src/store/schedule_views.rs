//! Schedules as pages and the API show them: with their repository's standing, and what became of them last.

use super::schedules::schedule_columns;
use super::{Json, Result, Tx, with_conn};
use crate::model::ids::{RepoId, RunId, ScheduleId};
use crate::model::schedule::{FiringState, Schedule, Standing};
use serde_json::{Map, Value};

/// A schedule with everything people are told about it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct ScheduleView {
    /// The schedule.
    #[sqlx(flatten)]
    pub schedule: Schedule,
    /// Its repository's standing.
    #[sqlx(flatten)]
    pub standing: Standing,
    /// Its inputs with the secret ones hidden.
    pub shown_inputs: Json<Map<String, Value>>,
    /// Why the default branch could not be read lately.
    pub definitions_problem: Option<String>,
    /// The default branch.
    pub default_branch: String,
    /// What became of its last firing.
    pub last_state: Option<FiringState>,
    /// Why.
    pub last_reason: Option<String>,
    /// The run it started.
    pub last_run: Option<RunId>,
    /// That run's number.
    pub last_run_number: Option<i64>,
    /// That run's state.
    pub last_run_state: Option<String>,
}

impl ScheduleView {
    /// `owner/name`.
    pub fn repo(&self) -> String {
        format!("{}/{}", self.standing.owner, self.standing.name)
    }
}

macro_rules! view {
    () => {
        concat!(
            "SELECT ",
            schedule_columns!(),
            ", repo.owner, repo.name, repo.enabled, installation.suspended, installation.removed,
               schedule.shown_inputs, repo.definitions_problem, repo.default_branch, firing.state AS last_state,
               firing.reason AS last_reason, firing.run_id AS last_run, run.number AS last_run_number,
               run.state AS last_run_state
             FROM schedule JOIN repo ON repo.id = schedule.repo_id
             LEFT JOIN installation ON installation.id = repo.installation_id
             LEFT JOIN firing ON firing.schedule_id = schedule.id AND firing.due_at = schedule.last_due_at
             LEFT JOIN run ON run.id = firing.run_id "
        )
    };
}

const ONE: &str = concat!(view!(), "WHERE schedule.id = $1");
const SOME: &str = concat!(
    view!(),
    "WHERE ($1 IS NULL OR schedule.repo_id = $1) AND ($2 IS NULL OR schedule.pipeline = $2)
     AND ($3 IS NULL OR schedule.id > $3) ORDER BY schedule.id LIMIT $4"
);

impl Tx {
    /// One schedule.
    pub async fn view_schedule(&mut self, id: &ScheduleId) -> Result<Option<ScheduleView>> {
        Ok(with_conn!(self, conn => sqlx::query_as(ONE).bind(id).fetch_optional(conn).await?))
    }

    /// Schedules after the one with the id `after`, by id; of one repository or pipeline where these are said.
    pub async fn view_schedules(
        &mut self,
        repo: Option<&RepoId>,
        pipeline: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ScheduleView>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(with_conn!(self, conn => {
            sqlx::query_as(SOME).bind(repo).bind(pipeline).bind(after).bind(limit).fetch_all(conn).await?
        }))
    }
}
