//! The forges: where deliveries come from and where results are shown. The only part that names octocrab.
//!
//! GitHub and the local forge offer the same operations, so everything above deals with [`Forge`] alone.

pub mod comments;
pub mod deployments;
pub mod github;
pub mod local;
pub mod markdown;
pub mod people;
pub mod pulls;
pub mod tree;

use crate::model::ids::{ForgeKind, RepoId};
use crate::model::time::Timestamp;
use comments::{Comment, CommentEvent, Reaction};
use deployments::{Deployment, DeploymentStatus};
use people::{Account, Permission};
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::{Annotation, Checkout, Sources, Trust};
use pipelines_spec::trigger::EventFacts;
use pulls::{CommitFacts, Commits, PullRequest};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the forge says a repository is. Keyed by the numeric id, so renames and transfers change nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoFacts {
    /// Which forge.
    pub forge: ForgeKind,
    /// Its numeric id there.
    pub forge_id: i64,
    /// The owner's login.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// Its default branch.
    pub default_branch: String,
    /// Whether it is private.
    pub private: bool,
    /// The installation that gives access.
    pub installation_id: Option<i64>,
}

impl RepoFacts {
    /// Our id of it.
    pub fn id(&self) -> RepoId {
        RepoId::new(self.forge, self.forge_id)
    }

    /// `owner/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

/// What a delivery means.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Something that may start pipelines.
    Trigger(Box<Trigger>),
    /// A pull request was closed: its runs end.
    PullRequestClosed {
        /// Where.
        repo: RepoFacts,
        /// Which.
        number: i64,
        /// Whether it was merged.
        merged: bool,
    },
    /// An installation was created, removed, suspended or given back.
    Installation(Box<InstallationEvent>),
    /// A repository was renamed, transferred, made private …
    Repository(RepoFacts),
    /// A repository was archived, deleted, or given back.
    RepositoryStands {
        /// Which.
        repo: RepoFacts,
        /// How it stands now.
        standing: Standing,
    },
    /// A branch or a tag was deleted.
    RefDeleted {
        /// Where.
        repo: RepoFacts,
        /// Its full name.
        git_ref: String,
    },
    /// A merge queue no longer wants to know about a commit.
    MergeGroupDestroyed {
        /// Where.
        repo: RepoFacts,
        /// The group's commit.
        sha: String,
        /// The forge's own word for why: `merged`, `invalidated`, `dequeued`.
        reason: String,
    },
    /// Somebody asks for a re-run of what a check run stands for (by its `external_id`), or pressed one of its buttons.
    CheckAction {
        /// Where.
        repo: RepoFacts,
        /// Our external id.
        external_id: String,
        /// The commit the check stands on, where the delivery tells.
        sha: Option<String>,
        /// `rerequested`, or the pressed button's identifier.
        action: String,
        /// Who did. What they may do is not known yet.
        actor: Account,
    },
    /// Somebody asks for a re-run of everything a commit's check suite stands for.
    SuiteRerequested {
        /// Where.
        repo: RepoFacts,
        /// The commit.
        sha: String,
        /// The App the suite belongs to: GitHub tells every App of every suite, so another's is none of ours.
        app_id: Option<i64>,
        /// Who did. What they may do is not known yet.
        actor: Account,
    },
    /// Somebody wrote a new comment.
    Comment(Box<CommentEvent>),
    /// Nothing to do, and why.
    Ignored {
        /// In one sentence, such as "branch deleted".
        reason: String,
    },
}

/// What is told of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationEvent {
    /// Its id.
    pub id: i64,
    /// Its account's login.
    pub account: String,
    /// Suspended now.
    pub suspended: bool,
    /// Removed now.
    pub removed: bool,
    /// Repositories it now reaches, where the delivery tells. Their default branch is not told here and left empty.
    pub repositories: Vec<RepoFacts>,
    /// Repositories it no longer reaches.
    pub lost: Vec<RepoFacts>,
}

/// How a repository stands at its forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, sqlx::Type)]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "TEXT", rename_all = "snake_case")]
pub enum Standing {
    /// It can be used.
    Active,
    /// It can only be read.
    Archived,
    /// It is gone.
    Deleted,
}

/// Something that may start pipelines.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// Where.
    pub repo: RepoFacts,
    /// What.
    pub facts: EventFacts,
    /// What makes it one trigger however often it is delivered: unique with repository and pipeline.
    pub source_key: String,
    /// Whether what it would run may be trusted.
    pub trust: Trust,
    /// Why not, in one sentence.
    pub trust_reason: Option<String>,
    /// Who caused it.
    pub actor: Account,
    /// Who opened the pull request, where one is meant.
    pub author: Option<Account>,
}

/// The definition files at a commit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// Files under `.rivet/` that are Lua or TOML, by path from the root. Empty: there are none.
    pub sources: Sources,
    /// What is wrong with the tree itself (links, sizes, encodings, names that collide).
    pub problems: Vec<Problem>,
}

/// A commit a ref points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub sha: String,
    /// The full ref that was resolved.
    pub git_ref: String,
    /// Its message.
    pub message: String,
}

/// One check run as the forge should show it. GitHub's own words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckRun {
    /// `PIPELINE / STAGE`.
    pub name: String,
    /// The commit it is shown on.
    pub head_sha: String,
    /// `RUN_ID:STAGE:ATTEMPT`.
    pub external_id: String,
    /// Its page.
    pub details_url: String,
    /// `queued`, `in_progress` or `completed`.
    pub status: String,
    /// Only when completed: `success`, `failure`, `neutral`, `cancelled`, `skipped`, `timed_out`, `action_required`.
    pub conclusion: Option<String>,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// What to do next, in a few words.
    pub title: String,
    /// Markdown, at most 65,535 bytes.
    pub summary: String,
    /// Notes on lines.
    #[serde(default)]
    pub annotations: Vec<Annotation>,
    /// Buttons, at most 3: label ≤ 20, description ≤ 40, identifier ≤ 20 characters.
    #[serde(default)]
    pub actions: Vec<CheckButton>,
}

/// A button of a check run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckButton {
    /// What it says.
    pub label: String,
    /// What it does.
    pub description: String,
    /// What comes back when it is pressed.
    pub identifier: String,
}

/// One commit status as the forge should show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitStatus {
    /// `rivet/PIPELINE`.
    pub context: String,
    /// `pending`, `success`, `failure` or `error`.
    pub state: String,
    /// At most 140 characters.
    pub description: String,
    /// Its page.
    pub target_url: String,
}

/// Why a forge did not do what was asked.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ForgeError {
    /// There is no such repository, commit, ref or check (or we may not see it).
    #[error("{0} was not found")]
    NotFound(String),
    /// A limit was reached: nothing before `until`.
    #[error("the forge's rate limit is reached until {}", .until.rfc3339())]
    RateLimited {
        /// When to ask again.
        until: Timestamp,
    },
    /// It refuses and asking again will not help: what it said.
    #[error("the forge refused: {0}")]
    Refused(String),
    /// It did not answer, or with a 5xx: ask again later.
    #[error("the forge is not available: {0}")]
    Unavailable(String),
    /// No such forge is set up.
    #[error("no {0} forge is set up")]
    NotConfigured(ForgeKind),
}

/// One forge.
#[derive(Clone)]
pub enum Forge {
    /// GitHub through its API.
    Github(Arc<github::Github>),
    /// Bare repositories on this machine.
    Local(Arc<local::LocalForge>),
}

/// The forges that are set up.
#[derive(Clone, Default)]
pub struct Forges {
    /// GitHub's slot: empty until an App is known, and what is in it may change while the server runs.
    pub github: github::slot::Slot,
    /// The local forge.
    pub local: Option<Arc<local::LocalForge>>,
}

impl Forges {
    /// The forge of `kind`.
    pub fn of(&self, kind: ForgeKind) -> Result<Forge, ForgeError> {
        let forge = match kind {
            ForgeKind::Github => self.github.client().map(Forge::Github),
            ForgeKind::Local => self.local.clone().map(Forge::Local),
        };
        forge.ok_or(ForgeError::NotConfigured(kind))
    }
}

macro_rules! each {
    ($self:expr, $forge:ident => $call:expr) => {
        match $self {
            Forge::Github($forge) => $call.await,
            Forge::Local($forge) => $call.await,
        }
    };
}

impl Forge {
    /// The number of the App that we are at this forge, where it has such.
    pub fn app_id(&self) -> Option<i64> {
        match self {
            Self::Github(github) => i64::try_from(github.app_id).ok(),
            Self::Local(_) => None,
        }
    }

    /// The definition files of `repo` at `sha`, by trees and blobs; never by a branch's name.
    pub async fn sources(&self, repo: &RepoFacts, sha: &str) -> Result<Loaded, ForgeError> {
        each!(self, forge => forge.sources(repo, sha))
    }

    /// The files an event changed; `None` where that cannot be known completely.
    pub async fn changed_files(&self, repo: &RepoFacts, facts: &EventFacts) -> Result<Option<Vec<String>>, ForgeError> {
        each!(self, forge => forge.changed_files(repo, facts))
    }

    /// The commit a branch, a tag, a full ref or a sha names.
    pub async fn resolve(&self, repo: &RepoFacts, git_ref: &str) -> Result<Commit, ForgeError> {
        each!(self, forge => forge.resolve(repo, git_ref))
    }

    /// What a runner fetches `sha` with: an address, and a token of its own that reads this one repository.
    pub async fn checkout(&self, repo: &RepoFacts, sha: &str) -> Result<Checkout, ForgeError> {
        each!(self, forge => forge.checkout(repo, sha))
    }

    /// Ends a token of [`Forge::checkout`] before its time. One that has ended already is no error.
    pub async fn revoke(&self, repo: &RepoFacts, token: &str) -> Result<(), ForgeError> {
        match self {
            Self::Github(forge) => forge.revoke(repo, token).await,
            // Its checkouts have none.
            Self::Local(_) => Ok(()),
        }
    }

    /// The check run with this `external_id` on its commit, if the forge already has it (an earlier creation whose answer was lost).
    pub async fn find_check(&self, repo: &RepoFacts, check: &CheckRun) -> Result<Option<i64>, ForgeError> {
        each!(self, forge => forge.find_check(repo, check))
    }

    /// How many annotations check run `id` has: after a lost answer, what arrived must not be added once more.
    pub async fn count_annotations(&self, repo: &RepoFacts, id: i64) -> Result<usize, ForgeError> {
        each!(self, forge => forge.count_annotations(repo, id))
    }

    /// Creates a check run (with its first 50 annotations) and answers its id.
    pub async fn create_check(&self, repo: &RepoFacts, check: &CheckRun) -> Result<i64, ForgeError> {
        each!(self, forge => forge.create_check(repo, check))
    }

    /// Makes check run `id` equal to `check`; `annotations` are the ones still to be added, at most 50.
    pub async fn update_check(
        &self,
        repo: &RepoFacts,
        id: i64,
        check: &CheckRun,
        annotations: &[Annotation],
    ) -> Result<(), ForgeError> {
        each!(self, forge => forge.update_check(repo, id, check, annotations))
    }

    /// Sets a commit status.
    pub async fn set_status(&self, repo: &RepoFacts, sha: &str, status: &CommitStatus) -> Result<(), ForgeError> {
        each!(self, forge => forge.set_status(repo, sha, status))
    }

    /// What `login` may do in `repo` now, and who that is. Somebody the forge does not know may nothing.
    pub async fn permission(&self, repo: &RepoFacts, login: &str) -> Result<(Permission, Account), ForgeError> {
        each!(self, forge => forge.permission(repo, login))
    }

    /// Whether `login` is an active member of the team `org/team`. A team nobody knows has no members.
    pub async fn is_team_member(
        &self,
        repo: &RepoFacts,
        org: &str,
        team: &str,
        login: &str,
    ) -> Result<bool, ForgeError> {
        each!(self, forge => forge.is_team_member(repo, org, team, login))
    }

    /// A pull request as it stands now.
    pub async fn pull_request(&self, repo: &RepoFacts, number: i64) -> Result<PullRequest, ForgeError> {
        each!(self, forge => forge.pull_request(repo, number))
    }

    /// Every open pull request, without what only [`Forge::pull_request`] tells (`mergeable`, `merge_sha`).
    pub async fn open_pull_requests(&self, repo: &RepoFacts) -> Result<Vec<PullRequest>, ForgeError> {
        each!(self, forge => forge.open_pull_requests(repo))
    }

    /// The open pull requests whose head is `sha`.
    pub async fn pull_requests_of(&self, repo: &RepoFacts, sha: &str) -> Result<Vec<PullRequest>, ForgeError> {
        each!(self, forge => forge.pull_requests_of(repo, sha))
    }

    /// The open pull requests of the repository's own branch `branch`, without what only [`Forge::pull_request`] tells.
    pub async fn pull_requests_from(&self, repo: &RepoFacts, branch: &str) -> Result<Vec<PullRequest>, ForgeError> {
        each!(self, forge => forge.pull_requests_from(repo, branch))
    }

    /// A commit's message and parents.
    pub async fn commit_facts(&self, repo: &RepoFacts, sha: &str) -> Result<CommitFacts, ForgeError> {
        each!(self, forge => forge.commit_facts(repo, sha))
    }

    /// Every branch and tag with what it points to (a tag object, where a tag is annotated), as full refs.
    pub async fn refs(&self, repo: &RepoFacts) -> Result<Vec<(String, String)>, ForgeError> {
        each!(self, forge => forge.refs(repo))
    }

    /// What leads from commit `from` to commit `to`.
    pub async fn commits_between(&self, repo: &RepoFacts, from: &str, to: &str) -> Result<Commits, ForgeError> {
        each!(self, forge => forge.commits_between(repo, from, to))
    }

    /// A comment as it stands now.
    pub async fn comment(&self, repo: &RepoFacts, id: i64) -> Result<Comment, ForgeError> {
        each!(self, forge => forge.comment(repo, id))
    }

    /// The comments of a pull request, oldest first, at most 1,000.
    pub async fn comments(&self, repo: &RepoFacts, number: i64) -> Result<Vec<Comment>, ForgeError> {
        each!(self, forge => forge.comments(repo, number))
    }

    /// Writes a comment on a pull request and answers its id.
    pub async fn post_comment(&self, repo: &RepoFacts, number: i64, body: &str) -> Result<i64, ForgeError> {
        each!(self, forge => forge.post_comment(repo, number, body))
    }

    /// Changes a comment of ours.
    pub async fn edit_comment(&self, repo: &RepoFacts, id: i64, body: &str) -> Result<(), ForgeError> {
        each!(self, forge => forge.edit_comment(repo, id, body))
    }

    /// Leaves a receipt on a comment; a second time changes nothing.
    pub async fn react(&self, repo: &RepoFacts, comment: i64, reaction: Reaction) -> Result<(), ForgeError> {
        each!(self, forge => forge.react(repo, comment, reaction))
    }

    /// The deployment with our id, if the forge already has it (an earlier creation whose answer was lost).
    pub async fn find_deployment(&self, repo: &RepoFacts, wanted: &Deployment) -> Result<Option<i64>, ForgeError> {
        each!(self, forge => forge.find_deployment(repo, wanted))
    }

    /// Creates a deployment and answers its id.
    pub async fn create_deployment(&self, repo: &RepoFacts, wanted: &Deployment) -> Result<i64, ForgeError> {
        each!(self, forge => forge.create_deployment(repo, wanted))
    }

    /// Says how a deployment stands.
    pub async fn set_deployment_status(
        &self,
        repo: &RepoFacts,
        id: i64,
        status: &DeploymentStatus,
    ) -> Result<(), ForgeError> {
        each!(self, forge => forge.set_deployment_status(repo, id, status))
    }
}
