//! What a delivery does not tell of its event, asked of the forge before anything is planned: a pull request's test merge
//! and its head's message, the commit a dispatch's branch points to, and what to compare the definitions with.

use crate::forge::pulls::PullRequest;
use crate::forge::{Forge, ForgeError, RepoFacts, Trigger};
use pipelines_spec::trigger::{EventKind, PullRequestFacts};
use std::time::Duration;

/// How long is waited between looks at a test merge that the forge is working out, before the delivery is put off.
const POLLS: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1)];

/// Why an event was not decided about.
#[derive(Debug, thiserror::Error)]
pub enum NotDecided {
    /// The forge did not answer.
    #[error(transparent)]
    Forge(#[from] ForgeError),
    /// The database did not.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// A run could not be moved.
    #[error("{0}")]
    Advance(#[from] crate::engine::advance::Error),
    /// The forge has not worked something out yet: what.
    #[error("{0}")]
    NotYet(String),
}

/// What an event is about, once everything is known.
#[derive(Debug, Clone)]
pub enum Prepared {
    /// Its pipelines can be planned.
    Ready(Box<Ready>),
    /// It starts nothing any more: why, in one sentence.
    Over(String),
}

/// An event of which everything is known.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The trigger, completed.
    pub trigger: Trigger,
    /// What is built.
    pub build: Build,
    /// What the definitions are compared with.
    pub base: Base,
}

/// What is built for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Build {
    /// The event's own commit.
    Commit,
    /// The test merge of a pull request; its id stands in the facts.
    Merge,
    /// A pull request's head itself: why.
    Head(String),
    /// A pull request's head itself, because the pull request is at this commit by now.
    Moved(String),
    /// There is no test merge: head and base conflict.
    Conflict,
}

/// What the definitions at an event's commit are compared with, to see whether a change lets itself pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing: the commit is taken at its word.
    Nothing,
    /// The definitions at this commit of the base branch.
    Commit(String),
    /// The default branch's definitions, where they are needed.
    DefaultBranch,
}

/// Asks for what is missing. With `may_wait` what the forge has not worked out yet is [`NotDecided::NotYet`]; without, it
/// is done without.
pub async fn prepare(forge: &Forge, trigger: &Trigger, may_wait: bool) -> Result<Prepared, NotDecided> {
    let facts = &trigger.facts;
    let ready = |base| Ok(Prepared::Ready(Box::new(Ready { trigger: trigger.clone(), build: Build::Commit, base })));
    match (facts.name, &facts.pull_request) {
        (EventKind::PullRequest, Some(pull)) => pull_request(forge, trigger, pull, may_wait).await,
        (EventKind::RepositoryDispatch, _) if facts.sha.is_empty() => dispatch(forge, trigger).await,
        (EventKind::MergeGroup, _) => ready(facts.before.clone().map_or(Base::Nothing, Base::Commit)),
        // The default branch's definitions are the ones others are compared with; a tag is no change that asks to be merged.
        (EventKind::Push, _) if facts.tag.is_none() && facts.branch.as_ref() != Some(&trigger.repo.default_branch) => {
            ready(Base::DefaultBranch)
        }
        (
            EventKind::Push
            | EventKind::PullRequest
            | EventKind::Comment
            | EventKind::Schedule
            | EventKind::Manual
            | EventKind::RepositoryDispatch
            | EventKind::Pipeline,
            _,
        ) => ready(Base::Nothing),
    }
}

/// A dispatch names a branch: it is about the commit that this points to now.
async fn dispatch(forge: &Forge, trigger: &Trigger) -> Result<Prepared, NotDecided> {
    let commit = match forge.resolve(&trigger.repo, &trigger.facts.git_ref).await {
        Err(ForgeError::NotFound(what)) => return Ok(Prepared::Over(format!("{what} was not found"))),
        other => other?,
    };
    let mut trigger = trigger.clone();
    trigger.facts.sha = commit.sha;
    trigger.facts.message = Some(commit.message);
    Ok(Prepared::Ready(Box::new(Ready { trigger, build: Build::Commit, base: Base::Nothing })))
}

async fn pull_request(
    forge: &Forge,
    trigger: &Trigger,
    told: &PullRequestFacts,
    may_wait: bool,
) -> Result<Prepared, NotDecided> {
    let (repo, head) = (&trigger.repo, trigger.facts.sha.clone());
    let now = match forge.pull_request(repo, told.number).await {
        Err(ForgeError::NotFound(_)) => {
            let build = Build::Head(format!("the forge tells nothing more of pull request {}", told.number));
            let base = Base::Commit(told.base_sha.clone());
            return Ok(Prepared::Ready(Box::new(Ready { trigger: trigger.clone(), build, base })));
        }
        other => other?,
    };
    if !now.open {
        let end = if now.merged { "merged" } else { "closed" };
        return Ok(Prepared::Over(format!("pull request {} is {end} by now", told.number)));
    }
    let mut trigger = trigger.clone();
    // Deliveries of pull requests do not hold the head's message, by which a commit may ask for no run.
    trigger.facts.message = match forge.commit_facts(repo, &head).await {
        Err(ForgeError::NotFound(_)) => None,
        found => Some(found?.message),
    };
    let merged = match now.facts.head_sha == head {
        true => test_merge(forge, repo, &now).await?,
        false => TestMerge::Moved(now.facts.head_sha.clone()),
    };
    // Which branch it would be merged into is the forge's word of now; label and draft are the event's own.
    let (mut base, mut base_sha, mut merge_sha) = (now.facts.base, now.facts.base_sha, None);
    let build = match merged {
        TestMerge::Of { merge, base } => {
            (base_sha, merge_sha) = (base, Some(merge));
            Build::Merge
        }
        TestMerge::Conflict => Build::Conflict,
        TestMerge::Moved(to) => Build::Moved(to),
        TestMerge::Unknown if may_wait => {
            let what = format!("the forge has not worked out the test merge of pull request {} yet", told.number);
            return Err(NotDecided::NotYet(what));
        }
        TestMerge::Unknown => Build::Head("the forge did not work out a test merge in time".to_owned()),
    };
    if let Some(pull) = &mut trigger.facts.pull_request {
        std::mem::swap(&mut pull.base, &mut base);
        pull.base_sha.clone_from(&base_sha);
        pull.merge_sha = merge_sha;
    }
    Ok(Prepared::Ready(Box::new(Ready { trigger, build, base: Base::Commit(base_sha) })))
}

/// What the forge knows of the test merge of a pull request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TestMerge {
    /// The merge, and the base's commit it was made with.
    Of {
        /// The merge.
        merge: String,
        /// The base.
        base: String,
    },
    /// There is none.
    Conflict,
    /// The pull request has another head by now.
    Moved(String),
    /// The forge works on it.
    Unknown,
}

/// Asks for the test merge until the forge has worked it out, for at most two seconds.
pub(super) async fn test_merge(forge: &Forge, repo: &RepoFacts, pull: &PullRequest) -> Result<TestMerge, ForgeError> {
    let (number, head) = (pull.facts.number, &pull.facts.head_sha);
    let mut seen = pull.clone();
    for wait in POLLS {
        if let Some(found) = settled(forge, repo, &seen, head).await? {
            return Ok(found);
        }
        tokio::time::sleep(wait).await;
        seen = forge.pull_request(repo, number).await?;
    }
    Ok(settled(forge, repo, &seen, head).await?.unwrap_or(TestMerge::Unknown))
}

/// What one look says, if it says something. A merge of another head is left over from before: GitHub does not say so.
async fn settled(
    forge: &Forge,
    repo: &RepoFacts,
    seen: &PullRequest,
    head: &String,
) -> Result<Option<TestMerge>, ForgeError> {
    if seen.facts.head_sha != *head {
        return Ok(Some(TestMerge::Moved(seen.facts.head_sha.clone())));
    }
    let merge = match (seen.mergeable, &seen.merge_sha) {
        (Some(false), _) => return Ok(Some(TestMerge::Conflict)),
        (Some(true), Some(merge)) => merge,
        (Some(true), None) | (None, _) => return Ok(None),
    };
    match forge.commit_facts(repo, merge).await {
        Err(ForgeError::NotFound(_)) => Ok(None),
        found => Ok(match found?.parents.as_slice() {
            [base, second] if second == head => Some(TestMerge::Of { merge: merge.clone(), base: base.clone() }),
            _ => None,
        }),
    }
}
