//! A runner as stored: who may claim jobs.

use super::ids::{RunnerId, TokenId};
use super::time::Timestamp;
use crate::store::Json;
use pipelines_spec::plan::Label;
use pipelines_spec::protocol::{ExecutorKind, RunnerCommand};
use serde::{Deserialize, Serialize};

/// A machine that registered.
#[derive(Debug, Clone, sqlx::FromRow)]
#[expect(missing_docs, reason = "named after the columns of the runner table, which explains them")]
pub struct Runner {
    pub id: RunnerId,
    pub name: String,
    /// What it was granted when it registered.
    pub labels: Json<Vec<Label>>,
    pub executors: Json<Vec<ExecutorKind>>,
    pub version: String,
    pub state: RunnerState,
    pub last_seen_at: Timestamp,
    pub created_at: Timestamp,
}

/// Whether a runner is given work.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    sqlx::Type,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum RunnerState {
    /// It is.
    Active,
    /// Not until a person says so.
    Paused,
    /// No more: it finishes what it has and leaves.
    Draining,
    /// It said good-bye; it may come back by itself.
    Left,
    /// A person removed it: its token opens nothing.
    Removed,
}

impl RunnerState {
    /// What the runner is told.
    pub fn command(self) -> RunnerCommand {
        match self {
            Self::Active | Self::Left => RunnerCommand::None,
            Self::Paused => RunnerCommand::Pause,
            Self::Draining | Self::Removed => RunnerCommand::Drain,
        }
    }
}

impl Runner {
    /// The first of `labels` that it was not granted. What it says of its own machine needs no grant.
    pub fn not_granted<'a>(&self, labels: &'a [Label]) -> Option<&'a Label> {
        let own = |label: &Label| matches!(label.key.as_str(), "os" | "arch" | "executor");
        labels.iter().find(|label| !own(label) && !self.labels.0.contains(label))
    }
}

/// What lets a machine become a runner. Only its hash is kept.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct RegistrationToken {
    /// Its id.
    pub id: TokenId,
    /// What people call it.
    pub name: String,
    /// The labels it may grant; empty: whichever are asked for.
    pub labels: Json<Vec<Label>>,
    /// Whether it works only once.
    pub single_use: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was (last) used.
    pub used_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}
