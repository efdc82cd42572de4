//! A run as stored.

use super::ids::{DeliveryId, DeploymentId, RepoId, RunId, StageId};
use super::state::{Illegal, RunEvent, RunState};
use super::time::Timestamp;
use crate::forge::people::Account;
use crate::store::Json;
use pipelines_spec::plan::Plan;
use pipelines_spec::protocol::Trust;
use pipelines_spec::trigger::EventFacts;
use serde_json::{Map, Value};

/// One plan on one commit for one trigger.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the run table, which explains them")]
pub struct Run {
    pub id: RunId,
    pub repo_id: RepoId,
    pub number: i64,
    pub pipeline: String,
    pub name: String,
    pub file: String,
    pub event: String,
    pub facts: Json<EventFacts>,
    pub git_ref: String,
    pub branch: Option<String>,
    pub sha: String,
    pub pull_request: Option<i64>,
    pub actor: String,
    pub title: String,
    #[sqlx(try_from = "String")]
    pub trust: TrustText,
    pub state: RunState,
    pub reason: String,
    pub plan_digest: String,
    pub bundle_digest: String,
    pub inputs: Json<Map<String, Value>>,
    pub concurrency_group: Option<String>,
    pub cancel_in_progress: bool,
    pub delivery_id: Option<DeliveryId>,
    pub parent_stage_id: Option<StageId>,
    pub rerun_of: Option<RunId>,
    pub cancel_requested: bool,
    pub cancel_reason: Option<String>,
    pub version: i64,
    pub next_completion: i64,
    pub timeout_seconds: Option<i64>,
    pub deadline_at: Option<Timestamp>,
    pub due_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub rollback_to: Option<DeploymentId>,
    pub through_lock: Option<Timestamp>,
    pub trust_reason: Option<String>,
    pub caused_by: Json<Vec<Account>>,
    pub outdated: Option<String>,
    /// Whether it differs from what is stored.
    #[sqlx(skip)]
    pub dirty: bool,
}

/// [`Trust`] as a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustText(pub Trust);

impl TryFrom<String> for TrustText {
    type Error = strum::ParseError;
    fn try_from(text: String) -> Result<Self, strum::ParseError> {
        text.parse().map(Self)
    }
}

impl Run {
    /// Applies an event, and says why it stands where it then stands.
    pub fn apply(&mut self, event: RunEvent, reason: impl Into<String>) -> Result<(), Illegal> {
        let next = self.state.after(event)?;
        if next != self.state {
            self.state = next;
            self.reason = reason.into();
            self.dirty = true;
        }
        Ok(())
    }

    /// The commit people see: a pull request's head, else the commit itself.
    pub fn head(&self) -> &str {
        self.facts.0.pull_request.as_ref().map_or(&self.sha, |pull| &pull.head_sha)
    }

    /// The first 12 digits of [`Run::head`], as they are typed into a comment.
    pub fn short_head(&self) -> &str {
        let head = self.head();
        head.get(..12).unwrap_or(head)
    }

    /// Says anew why it stands where it stands.
    pub fn explain(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.reason != reason {
            self.reason = reason;
            self.dirty = true;
        }
    }
}

/// Everything needed to start a run.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Where.
    pub repo_id: RepoId,
    /// What.
    pub plan: Plan,
    /// The definition files it came from, stored as a bundle beforehand.
    pub bundle_digest: String,
    /// What started it.
    pub facts: EventFacts,
    /// Unique with repository and pipeline: the same trigger never starts two runs.
    pub source_key: String,
    /// Whether it may be trusted.
    pub trust: Trust,
    /// Why not, in one sentence.
    pub trust_reason: Option<String>,
    /// Who caused it, and who opened its pull request: none of them approves it where `prevent_self` is set.
    pub caused_by: Vec<Account>,
    /// The delivery it came with.
    pub delivery_id: Option<DeliveryId>,
    /// The stage that started it as a child.
    pub parent_stage_id: Option<StageId>,
    /// The run it repeats.
    pub rerun_of: Option<RunId>,
}
