//! What starts a pipeline, what is known of an event, and the pure decision between the two.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub use crate::decide::{Changed, Decision, comment_trigger, decide, marked_to_skip, needs_paths, skip_marker};

/// Everything that starts a pipeline. A file without `on` starts on every push and every pull request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Triggers {
    /// Pushes to branches and tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushTrigger>,
    /// Pull requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequestTrigger>,
    /// Clock times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Schedule>,
    /// Comments that start it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comment: Vec<CommentTrigger>,
    /// Merge queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_group: Option<MergeGroupTrigger>,
    /// `repository_dispatch` event types; an empty list: every type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_dispatch: Option<Vec<String>>,
    /// Whether people may launch it.
    #[serde(default)]
    pub manual: bool,
}

/// Filters of pushes. Each list holds globs in order, `!` takes back; an absent list matches everything, except that
/// `tags` alone excludes branches and `branches` alone excludes tags.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PushTrigger {
    /// Branch globs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<String>>,
    /// Tag globs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Path globs; matches where one changed file matches. Not applied to tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Whether a push to a branch with an open pull request starts it too, although the pull request does: it then runs twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_pull_request: bool,
}

/// Filters of pull requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequestTrigger {
    /// Globs of the base branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<String>>,
    /// Path globs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Actions that start it; `None`: opened, synchronize, reopened, `ready_for_review`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// Labels of which one must be set; `None`: no such rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Whether drafts start it too.
    #[serde(default = "yes")]
    pub drafts: bool,
    /// Whether the test merge of head and base is built, and not the head alone.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub merge: bool,
}

impl Default for PullRequestTrigger {
    fn default() -> Self {
        Self { branches: None, paths: None, types: None, labels: None, drafts: true, merge: true }
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_yes(flag: &bool) -> bool {
    *flag
}

/// Filters of merge queues.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MergeGroupTrigger {
    /// Globs of the base branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<String>>,
}

/// One clock entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Five POSIX fields, or `@daily` and its kin.
    pub cron: String,
    /// An IANA zone; UTC where unsaid.
    pub timezone: String,
    /// Inputs of its runs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<String, Value>,
    /// Whether one missed firing is made up after an outage.
    #[serde(default = "yes")]
    pub catch_up: bool,
}

/// A comment that starts the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommentTrigger {
    /// The command's first word, such as `/bench`.
    pub command: String,
    /// The least permission its author needs: `read`, `write` or `admin`.
    pub permission: String,
}

/// The kind of thing that started a run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString, strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// Commits or a tag arrived.
    Push,
    /// A pull request changed.
    PullRequest,
    /// A merge queue asks.
    MergeGroup,
    /// A comment's command.
    Comment,
    /// A clock time.
    Schedule,
    /// A person or a program asked.
    Manual,
    /// A `repository_dispatch`.
    RepositoryDispatch,
    /// A stage of another run.
    Pipeline,
}

/// What a pipeline may know of what started it: `event` in Lua, and what triggers are matched against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventFacts {
    /// What kind.
    pub name: EventKind,
    /// The forge's own action, such as `opened`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// `owner/name`.
    pub repo: String,
    /// The repository's default branch.
    pub default_branch: String,
    /// The full ref: `refs/heads/main`, `refs/tags/v1`, `refs/pull/5/head`.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The branch's short name: pushed to, or a pull request's head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The tag's short name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The commit that is reported on, and built unless [`EventFacts::build_sha`] names another.
    pub sha: String,
    /// The ref's commit before a push; `None` for a new ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Whether a push was forced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// Login of who caused it.
    #[serde(default)]
    pub actor: String,
    /// The head commit's message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The pull request, where one is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequestFacts>,
    /// A dispatch's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch_type: Option<String>,
    /// Further data: a dispatch's payload, a comment's words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Value>,
}

impl EventFacts {
    /// The commit that is built: a pull request's test merge where it is known, else the commit itself.
    pub fn build_sha(&self) -> &str {
        self.pull_request.as_ref().and_then(|pull| pull.merge_sha.as_deref()).unwrap_or(&self.sha)
    }
}

/// What is known of a pull request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PullRequestFacts {
    /// Its number.
    pub number: i64,
    /// Its title.
    #[serde(default)]
    pub title: String,
    /// Author's login.
    #[serde(default)]
    pub author: String,
    /// The base branch's short name.
    pub base: String,
    /// The base branch's commit.
    pub base_sha: String,
    /// The head branch's short name.
    pub head: String,
    /// The head's commit.
    pub head_sha: String,
    /// The test merge of head and base, where that is what is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_sha: Option<String>,
    /// Whether it is a draft.
    #[serde(default)]
    pub draft: bool,
    /// Whether its head is in another repository (or that one is gone).
    #[serde(default)]
    pub fork: bool,
    /// Its labels.
    #[serde(default)]
    pub labels: Vec<String>,
}
