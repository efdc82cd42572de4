//! Triggers for what no delivery told of: more than three tags in one push, an outage that outlasted every repetition. A
//! sweep compares a forge's refs and pull requests with what was decided about, and has these decided.

use super::decide::decide;
use super::inquiry::Patience;
use super::prepare::NotDecided;
use super::record::swept;
use crate::context::Context;
use crate::forge::people::Account;
use crate::forge::pulls::PullRequest;
use crate::forge::{Forge, ForgeError, Trigger};
use crate::model::ids::RunId;
use crate::model::time::Timestamp;
use crate::store::repos::Repo;
use pipelines_spec::protocol::Trust;
use pipelines_spec::trigger::{EventFacts, EventKind};
use std::collections::BTreeMap;

/// The push that must have brought a branch or a tag (`refs/…`) to where the forge says it is. Who pushed is not known, nor
/// what the ref was before: path filters compare with the default branch.
pub async fn push_of(forge: &Forge, repo: &Repo, git_ref: &str) -> Result<Trigger, ForgeError> {
    let commit = forge.resolve(&repo.facts(), git_ref).await?;
    let short = |prefix: &str| git_ref.strip_prefix(prefix).map(str::to_owned);
    let facts = EventFacts {
        branch: short("refs/heads/"),
        tag: short("refs/tags/"),
        message: Some(commit.message),
        ..nothing_known(EventKind::Push, repo, git_ref.to_owned(), commit.sha)
    };
    Ok(trigger(repo, facts, None, None))
}

/// The event that must have told of an open pull request's head.
pub fn head_of(repo: &Repo, pull: &PullRequest) -> Trigger {
    let number = pull.facts.number;
    let head = pull.facts.head_sha.clone();
    let facts = EventFacts {
        action: Some("synchronize".to_owned()),
        branch: Some(pull.facts.head.clone()),
        pull_request: Some(pull.facts.clone()),
        ..nothing_known(EventKind::PullRequest, repo, format!("refs/pull/{number}/head"), head)
    };
    let distrust = match (&pull.head_repo, pull.facts.fork) {
        (None, _) => Some("head repository is gone".to_owned()),
        (Some(_), false) => None,
        (Some(name), true) => Some(format!("the head is in {name}, a fork")),
    };
    trigger(repo, facts, distrust, Some(pull.author.clone()))
}

/// Decides about a trigger a sweep made; nothing happens where its commit was decided about meanwhile.
pub async fn make_up(
    context: &Context,
    repo: &Repo,
    trigger: &Trigger,
    now: Timestamp,
) -> Result<Vec<RunId>, NotDecided> {
    decide(context, repo, trigger, None, Patience::none(), now).await
}

fn trigger(repo: &Repo, facts: EventFacts, distrust: Option<String>, author: Option<Account>) -> Trigger {
    let trust = if distrust.is_some() { Trust::Untrusted } else { Trust::Trusted };
    // Of a pull request the author is who can be held responsible; of a push nobody can be named.
    let actor = author.clone().unwrap_or_else(Account::ghost);
    let facts = EventFacts { actor: actor.login.clone(), ..facts };
    let (repo, source_key) = (repo.facts(), swept(&facts));
    Trigger { repo, source_key, facts, trust, trust_reason: distrust, actor, author }
}

fn nothing_known(name: EventKind, repo: &Repo, git_ref: String, sha: String) -> EventFacts {
    EventFacts {
        name,
        action: None,
        repo: repo.full_name(),
        default_branch: repo.default_branch.clone(),
        git_ref,
        branch: None,
        tag: None,
        sha,
        before: None,
        forced: false,
        actor: String::new(),
        message: None,
        pull_request: None,
        dispatch_type: None,
        extra: BTreeMap::new(),
    }
}
