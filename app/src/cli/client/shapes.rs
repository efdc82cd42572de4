//! What the server answers, as far as the command line reads it. Lenient: a server may be older or newer.

use crate::model::time::Timestamp;
use pipelines_spec::protocol::JobError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A page of a list.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to send as `cursor` for more.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// A run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Its number in the repository.
    pub number: i64,
    /// `owner/name`.
    pub repo: String,
    /// The pipeline's stem.
    pub pipeline: String,
    /// What kind of event started it.
    pub event: String,
    /// The full ref.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The commit.
    pub sha: String,
    /// The first line of the commit's message.
    pub title: String,
    /// Who caused it.
    pub actor: String,
    /// The typed inputs.
    pub inputs: Map<String, Value>,
    /// Where it stands.
    pub state: String,
    /// Why, in one sentence.
    pub reason: String,
    /// Its stages in the plan's order.
    pub stages: Vec<Stage>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When its first stage started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its page.
    pub url: String,
    /// What later versions add.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A stage of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: String,
    /// Why, in one sentence.
    pub reason: String,
    /// The current or last try, from 1.
    pub attempt: i64,
    /// Tries in all.
    pub max_attempts: i64,
    /// The stages it waits for.
    pub depends_on: Vec<String>,
    /// When its code started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it did not succeed.
    pub error: Option<JobError>,
    /// What its script returned.
    pub outputs: Option<Value>,
    /// What later versions add.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Run {
    /// Whether it has ended, or waits for a person to resolve it: nothing more happens by itself.
    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "failed" | "cancelled" | "diverged" | "stuck")
    }

    /// The short name of its branch or tag, or the ref.
    pub fn branch(&self) -> &str {
        let short = |prefix| self.git_ref.strip_prefix(prefix);
        short("refs/heads/").or_else(|| short("refs/tags/")).unwrap_or(&self.git_ref)
    }

    /// The first digits of its commit.
    pub fn short_sha(&self) -> &str {
        self.sha.get(..8).unwrap_or(&self.sha)
    }
}

impl Stage {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "skipped" | "cancelled" | "rolled_back")
    }

    /// Milliseconds its last attempt took, or takes until `now`.
    pub fn took(&self, now: Timestamp) -> Option<i64> {
        Some(self.finished_at.unwrap_or(now).since(self.started_at?))
    }
}
