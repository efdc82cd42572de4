//! What was deployed where: the ledger's entries, and the pure rules of what a run's stages make of them.

use super::ids::{DeploymentId, RepoId, RunId, StageId};
use super::run::Run;
use super::stage::{RollbackState, Stage};
use super::state::StageState;
use super::time::Timestamp;
use crate::store::Json;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Where a deployment stands.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    strum::Display,
    strum::EnumString,
    sqlx::Type,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum DeploymentState {
    /// Its code runs.
    InProgress,
    /// It is what stands there.
    Succeeded,
    /// It went wrong; nobody knows what stands there.
    Failed,
    /// It was undone.
    RolledBack,
    /// It succeeded, and another one came after it.
    Superseded,
}

impl DeploymentState {
    /// Whether it did what it should, and was not undone: what may be gone back to.
    pub fn is_good(self) -> bool {
        match self {
            Self::Succeeded | Self::Superseded => true,
            Self::InProgress | Self::Failed | Self::RolledBack => false,
        }
    }
}

/// An entry of an environment's ledger: one attempt of a stage that deploys.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the deployment table, which explains them")]
pub struct Deployment {
    pub id: DeploymentId,
    pub repo_id: RepoId,
    pub environment: String,
    pub number: i64,
    pub run_id: RunId,
    pub stage_id: StageId,
    pub stage: String,
    pub attempt: i64,
    pub pipeline: String,
    pub git_ref: String,
    pub sha: String,
    pub plan_digest: String,
    pub inputs: Json<Map<String, Value>>,
    pub artifacts: Json<BTreeMap<String, String>>,
    pub actor: String,
    pub approvers: Json<Vec<String>>,
    pub rollback_to: Option<i64>,
    pub state: DeploymentState,
    pub reason: String,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// An environment of a repository.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the environment table, which explains them")]
pub struct Environment {
    pub repo_id: RepoId,
    pub name_key: String,
    pub name: String,
    pub locked_at: Option<Timestamp>,
    pub locked_by: Option<String>,
    pub locked_reason: Option<String>,
    pub locked_run_id: Option<RunId>,
    pub lock_changed_at: Option<Timestamp>,
    pub forge_error: Option<String>,
    pub created_at: Timestamp,
}

impl Environment {
    /// What a lock says, while there is one: `Environment production is locked by alice: freeze`.
    pub fn lock(&self) -> Option<String> {
        self.locked_at?;
        let by = self.locked_by.as_deref().unwrap_or("somebody");
        let why = self.locked_reason.as_deref().unwrap_or_default().trim_end_matches('.');
        Some(format!("Environment {} is locked by {by}: {why}.", self.name))
    }

    /// Whether its lock holds the stages of `run`. The claim query asks the same.
    pub fn holds(&self, run: &Run) -> bool {
        let Some(since) = self.locked_at else { return false };
        self.locked_run_id.as_ref() != Some(&run.id) && run.through_lock.is_none_or(|said| said < since)
    }
}

/// A lock that a change brings with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// By whom.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// What tells environments of a repository apart: forges do not tell upper from lower case in their names.
pub fn environment_key(name: &str) -> String {
    name.to_lowercase()
}

/// Something the ledger must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The current attempt of this stage (by its place in the run) is a new entry.
    Begin {
        /// Which stage.
        stage: usize,
        /// How it stands.
        state: DeploymentState,
        /// Why.
        reason: String,
    },
    /// An entry stands otherwise now.
    Become {
        /// Which.
        id: DeploymentId,
        /// How it stands.
        state: DeploymentState,
        /// Why.
        reason: String,
    },
}

/// What a run's stages, as they stand, make of the entries the ledger has of the run. An attempt that is in the ledger
/// already never becomes a second entry.
pub fn changes(stages: &[Stage], known: &[Deployment]) -> Vec<Change> {
    let mut changes = vec![];
    for (index, stage) in stages.iter().enumerate() {
        if stage.environment_key().is_none() || stage.set_aside {
            continue;
        }
        let entries = known.iter().filter(|entry| entry.stage_id == stage.id);
        for (entry, (state, reason)) in entries.clone().filter_map(|entry| Some((entry, becomes(stage, entry)?))) {
            changes.push(Change::Become { id: entry.id.clone(), state, reason });
        }
        let begins = entries.clone().all(|entry| entry.attempt != stage.attempt);
        if begins && let Some((state, reason)) = begun(stage) {
            changes.push(Change::Begin { stage: index, state, reason });
        }
    }
    changes
}

/// How a new entry of the stage's current attempt stands; `None` where its code has not begun.
fn begun(stage: &Stage) -> Option<(DeploymentState, String)> {
    match stage.state {
        StageState::Running | StageState::Sleeping => {
            Some((DeploymentState::InProgress, "It is under way.".to_owned()))
        }
        // A runner may tell of the end without having told of the beginning.
        StageState::Succeeded => Some((DeploymentState::Succeeded, stage.reason.clone())),
        // It succeeded, and its rollback began in the same step.
        StageState::RollingBack if stage.completion.is_some() => {
            Some((DeploymentState::Succeeded, "It succeeded.".to_owned()))
        }
        StageState::Pending
        | StageState::AwaitingApproval
        | StageState::Queued
        | StageState::Failed
        | StageState::Skipped
        | StageState::Cancelled
        | StageState::RollingBack
        | StageState::RolledBack => None,
    }
}

/// What an entry becomes, where it does not stay as it is.
fn becomes(stage: &Stage, entry: &Deployment) -> Option<(DeploymentState, String)> {
    use DeploymentState as D;
    let open = entry.state == D::InProgress;
    if entry.attempt < stage.attempt {
        return open.then(|| (D::Failed, failure(stage, "It was tried again.")));
    }
    let given_up = stage.rollback_state == Some(RollbackState::Failed) && entry.state.is_good();
    let next = match stage.state {
        // How it ended and the beginning of its rollback may be one step.
        StageState::RollingBack if open && stage.completion.is_some() => {
            return Some((D::Succeeded, "It succeeded.".to_owned()));
        }
        StageState::RollingBack if open => return Some((D::Failed, failure(stage, "It failed."))),
        StageState::Succeeded if open => D::Succeeded,
        StageState::Failed if open || given_up => D::Failed,
        StageState::Cancelled if open => D::Failed,
        StageState::RolledBack if entry.state != D::RolledBack => D::RolledBack,
        StageState::Pending
        | StageState::AwaitingApproval
        | StageState::Queued
        | StageState::Running
        | StageState::Sleeping
        | StageState::Succeeded
        | StageState::Failed
        | StageState::Skipped
        | StageState::Cancelled
        | StageState::RollingBack
        | StageState::RolledBack => return None,
    };
    Some((next, stage.reason.clone()))
}

/// What went wrong with a stage, where that is known.
fn failure(stage: &Stage, otherwise: &str) -> String {
    stage.error.as_ref().map_or_else(|| otherwise.to_owned(), |error| format!("{}: {}", error.0.class, error.0.message))
}

/// The entry to go back to, of an environment's `entries` (the newest first): the one of this number, or the one that
/// stood before what was deployed last. What makes an earlier deployment again stands for that one.
///
/// # Errors
/// A sentence for people: why there is none.
pub fn rollback_target<'a>(name: &str, entries: &'a [Deployment], to: Option<i64>) -> Result<&'a Deployment, String> {
    let Some(last) = entries.first() else { return Err(format!("Nothing was ever deployed to {name}.")) };
    if let Some(open) = entries.iter().find(|entry| entry.state == DeploymentState::InProgress) {
        return Err(format!(
            "Deployment {} to {name} is under way (stage {} at {}): let it end, or cancel its run first.",
            open.number,
            open.stage,
            short(&open.sha)
        ));
    }
    let of = |number: i64| entries.iter().find(|entry| entry.number == number);
    let origin = |entry: &'a Deployment| entry.rollback_to.and_then(of).unwrap_or(entry);
    if let Some(number) = to {
        let named = of(number).ok_or_else(|| format!("{name} has no deployment {number}. {}", choice(entries)))?;
        if !named.state.is_good() {
            let became = if named.state == DeploymentState::Failed { "failed" } else { "was rolled back" };
            return Err(format!(
                "Deployment {number} to {name} {became}: it is nothing to go back to. {}",
                choice(entries)
            ));
        }
        return Ok(origin(named));
    }
    // All that one run deployed is gone back from together.
    let from = if last.state.is_good() { origin(last) } else { last };
    let before = from.number;
    let earlier = |entry: &&Deployment| {
        entry.number < before && entry.pipeline == last.pipeline && entry.run_id != from.run_id && entry.state.is_good()
    };
    let found = entries.iter().find(earlier).map(origin);
    found.ok_or_else(|| format!("Nothing that succeeded was deployed to {name} before deployment {before}."))
}

/// `Those that succeeded: 3, 2, 1.`
fn choice(entries: &[Deployment]) -> String {
    let good: Vec<String> =
        entries.iter().filter(|entry| entry.state.is_good()).take(10).map(|entry| entry.number.to_string()).collect();
    if good.is_empty() { "None succeeded.".to_owned() } else { format!("Those that succeeded: {}.", good.join(", ")) }
}

fn short(sha: &str) -> &str {
    sha.get(..8).unwrap_or(sha)
}
