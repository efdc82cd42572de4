//! Pull requests, and the commits between two of a repository's, as a forge tells them.

use super::Commit;
use super::people::Account;
use pipelines_spec::trigger::PullRequestFacts;

/// A pull request as it stands at the forge now.
#[derive(Debug, Clone, PartialEq)]
pub struct PullRequest {
    /// What pipelines may know of it.
    pub facts: PullRequestFacts,
    /// Who opened it.
    pub author: Account,
    /// Whether it is open.
    pub open: bool,
    /// Whether it was merged.
    pub merged: bool,
    /// The head's repository, `owner/name`; `None` where it is gone.
    pub head_repo: Option<String>,
    /// Whether it can be merged; `None` while the forge has not worked it out.
    pub mergeable: Option<bool>,
    /// The test merge of head and base. Only meaningful where `mergeable` is `Some(true)`; lists do not tell it.
    pub merge_sha: Option<String>,
    /// When it last changed, as the forge wrote it.
    pub updated_at: String,
}

/// A commit by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitFacts {
    /// Its message.
    pub message: String,
    /// The commits it follows: of a test merge the base first, then the head.
    pub parents: Vec<String>,
}

/// What leads from one commit to another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commits {
    /// The commits, oldest first; the newest 250 at most. Their `git_ref` is empty.
    pub list: Vec<Commit>,
    /// How many there are.
    pub total: i64,
    /// The files they changed; `None` where the forge did not list all.
    pub files: Option<Vec<String>>,
}
