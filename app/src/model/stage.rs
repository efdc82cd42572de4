//! A stage of a run as stored.

use super::deployment::environment_key;
use super::ids::{RunId, StageId};
use super::state::{Illegal, StageEvent, StageState};
use super::time::Timestamp;
use crate::store::Json;
use pipelines_spec::plan::{ErrorClass, PlannedStage};
use pipelines_spec::protocol::{Annotation, JobError};
use serde_json::Value;

/// A node of a run's graph.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the stage table, which explains them")]
pub struct Stage {
    pub id: StageId,
    pub run_id: RunId,
    pub position: i64,
    pub name: String,
    pub base: String,
    pub spec: Json<PlannedStage>,
    pub state: StageState,
    pub reason: String,
    pub attempt: i64,
    pub max_attempts: i64,
    pub user_failures: i64,
    pub infra_faults: i64,
    pub approved: bool,
    pub rollback_state: Option<RollbackState>,
    pub completion: Option<i64>,
    pub error: Option<Json<JobError>>,
    pub outputs: Option<Json<Value>>,
    pub annotations: Option<Json<Vec<Annotation>>>,
    pub child_run_id: Option<RunId>,
    pub version: i64,
    pub retry_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub queued_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub set_aside: bool,
    pub approvals_needed: i64,
    /// Whether it differs from what is stored.
    #[sqlx(skip)]
    pub dirty: bool,
    /// Whether it is not stored yet (a leg that was just made).
    #[sqlx(skip)]
    pub fresh: bool,
}

/// How far a stage's rollback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, sqlx::Type)]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum RollbackState {
    /// Its job is queued or running.
    Running,
    /// It succeeded.
    Done,
    /// It failed for good.
    Failed,
}

impl Stage {
    /// A stage that was planned and has not begun.
    pub fn planned(run_id: &RunId, position: i64, spec: PlannedStage) -> Self {
        let approvals_needed = spec.stage.approval.as_ref().map_or(1, |approval| i64::from(approval.count));
        let max_attempts = spec.stage.retry.as_ref().map_or(1, |retry| i64::from(retry.max_attempts));
        Self {
            id: StageId::generate(),
            run_id: run_id.clone(),
            position,
            name: spec.name.clone(),
            base: spec.base.clone(),
            spec: Json(spec),
            state: StageState::Pending,
            reason: String::new(),
            attempt: 0,
            max_attempts,
            user_failures: 0,
            infra_faults: 0,
            approved: false,
            rollback_state: None,
            completion: None,
            error: None,
            outputs: None,
            annotations: None,
            child_run_id: None,
            version: 0,
            retry_at: None,
            expires_at: None,
            queued_at: None,
            started_at: None,
            finished_at: None,
            set_aside: false,
            approvals_needed,
            dirty: false,
            fresh: true,
        }
    }

    /// A stage of a run that never runs there: with the state and outputs `old` ended with, where `keep` says so, else
    /// skipped.
    pub fn set_aside(run_id: &RunId, old: &Self, keep: bool, reason: String, now: Timestamp) -> Self {
        let mut stage = Self::planned(run_id, old.position, old.spec.0.clone());
        stage.set_aside = true;
        stage.state = StageState::Skipped;
        stage.reason = reason;
        stage.finished_at = Some(now);
        if keep {
            stage.state = old.state;
            stage.outputs.clone_from(&old.outputs);
            stage.error.clone_from(&old.error);
        }
        stage
    }

    /// Applies an event, and says why it stands where it then stands.
    pub fn apply(&mut self, event: StageEvent, reason: impl Into<String>, now: Timestamp) -> Result<(), Illegal> {
        let next = self.state.after(event)?;
        if next == self.state && event != StageEvent::Retry {
            return Ok(());
        }
        self.state = next;
        self.reason = reason.into();
        self.finished_at =
            next.is_over().then(|| self.finished_at.filter(|_| next == StageState::RolledBack).unwrap_or(now));
        self.dirty = true;
        Ok(())
    }

    /// Says anew why it stands where it stands.
    pub fn explain(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.reason != reason {
            self.reason = reason;
            self.dirty = true;
        }
    }

    /// Ends it with an error of ours.
    pub fn fail_with(
        &mut self,
        event: StageEvent,
        class: ErrorClass,
        message: &str,
        now: Timestamp,
    ) -> Result<(), Illegal> {
        self.apply(event, message, now)?;
        self.error = Some(Json(error(class, message)));
        Ok(())
    }

    /// What tells its environment apart, where it deploys.
    pub fn environment_key(&self) -> Option<String> {
        self.spec.0.stage.environment.as_deref().map(environment_key)
    }

    /// Whether people must agree first.
    pub fn needs_approval(&self) -> bool {
        self.spec.0.stage.approval.as_ref().is_some_and(|approval| approval.required)
    }
}

/// An error of the machinery, in the form a runner's has.
pub fn error(class: ErrorClass, message: &str) -> JobError {
    JobError { class, message: message.to_owned(), command: None, exit_code: None, tail: None, at: None }
}
