//! Comments on pull requests, and what a new one means.

use super::RepoFacts;
use super::people::Account;
use serde::{Deserialize, Serialize};

/// A comment as it stands at the forge now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its id.
    pub id: i64,
    /// Who wrote it.
    pub author: Account,
    /// Its text, Markdown.
    pub body: String,
    /// When it was written, as the forge wrote it.
    pub created_at: String,
    /// When it was last changed, as the forge wrote it: the same as `created_at` if never.
    pub updated_at: String,
}

/// Somebody wrote a new comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentEvent {
    /// Where.
    pub repo: RepoFacts,
    /// The comment's id.
    pub id: i64,
    /// The or pull request's number.
    pub number: i64,
    /// Whether it is on a pull request.
    pub on_pull_request: bool,
    /// Whether that is open.
    pub open: bool,
    /// Who wrote it.
    pub author: Account,
    /// The first 64 KiB of its text.
    pub body: String,
    /// When it was written, as the forge wrote it.
    pub created_at: String,
    /// When it was last changed, as the forge wrote it.
    pub updated_at: String,
    /// The App it was written through, if any.
    pub via_app: Option<i64>,
}

/// A receipt on a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// Seen.
    #[strum(serialize = "eyes")]
    Eyes,
    /// Done.
    #[strum(serialize = "rocket")]
    Rocket,
    /// Not understood, or not possible.
    #[strum(serialize = "confused")]
    Confused,
    /// Agreed.
    #[strum(serialize = "+1")]
    PlusOne,
    /// Refused.
    #[strum(serialize = "-1")]
    MinusOne,
}
