//! Whether what an event would run may be trusted: as much as the least trusted of the head's repository, the pull
//! request's author, and whoever caused the event. What nobody can tell is not trusted.

use super::planner::{Outcome, Planned, Skip};
use crate::forge::people::{Account, Permission};
use crate::forge::{Forge, ForgeError, RepoFacts, Trigger};
use crate::store::reports::StatusState;
use pipelines_spec::protocol::Trust;
use pipelines_spec::trigger::{EventFacts, EventKind};

/// The most runs of strangers that wait in a repository to be let in.
pub const MOST_STRANGERS: i64 = 100;

/// The same trigger, judged by what the forge says now. A forge that gives no answer is asked again later: nothing is
/// guessed.
pub async fn judged(forge: &Forge, trigger: Trigger) -> Result<Trigger, ForgeError> {
    if trigger.trust != Trust::Trusted {
        return Ok(trigger);
    }
    let distrust = match trigger.facts.name {
        // A commit, a tag or a dispatch is there because its author may write; the queue takes only what writers add.
        EventKind::Push | EventKind::MergeGroup | EventKind::RepositoryDispatch => None,
        // Their runs have the trust of what started them.
        EventKind::Schedule | EventKind::Manual | EventKind::Pipeline => None,
        EventKind::PullRequest | EventKind::Comment => {
            let author = trigger.author.clone().unwrap_or_else(Account::ghost);
            let pushed = matches!(trigger.facts.action.as_deref(), Some("opened" | "synchronize"));
            distrust(forge, &trigger.repo, &author, &trigger.actor, pushed).await?
        }
    };
    let trust = if distrust.is_some() { Trust::Untrusted } else { Trust::Trusted };
    Ok(Trigger { trust, trust_reason: distrust, ..trigger })
}

/// Why a pull request whose head is in the repository itself is not trusted even so. `pushed`: what `actor` did put commits
/// there, which nobody can who may not write; so a bot counts by its push, and by nothing else.
pub async fn distrust(
    forge: &Forge,
    repo: &RepoFacts,
    author: &Account,
    actor: &Account,
    pushed: bool,
) -> Result<Option<String>, ForgeError> {
    // A bot's own pull request: its commits are in this repository, where only a writer can put them.
    if !author.is_bot
        && let Some(why) = doubt(forge, repo, author, "who opened the pull request").await?
    {
        return Ok(Some(why));
    }
    if actor.is(author) && (!actor.is_bot || pushed) {
        return Ok(None);
    }
    match actor.is_bot {
        true if pushed => Ok(None),
        true => Ok(Some(format!("{}, which caused this, is a bot", actor.login))),
        false => doubt(forge, repo, actor, "who caused this").await,
    }
}

async fn doubt(forge: &Forge, repo: &RepoFacts, who: &Account, role: &str) -> Result<Option<String>, ForgeError> {
    if who.id <= 0 {
        return Ok(Some(format!("nobody can tell {role}")));
    }
    let (permission, account) = forge.permission(repo, &who.login).await?;
    if permission < Permission::Write {
        return Ok(Some(format!("{}, {role}, may not write in {}", who.login, repo.full_name())));
    }
    Ok((!account.is(who)).then(|| format!("{}, {role}, is not the account of that name any more", who.login)))
}

/// Whether a commit that somebody names is one of the repository's own: a branch, a tag, or a commit on the way to the
/// default branch. GitHub also finds commits of forks, by their ids and as `refs/pull/…`; nobody who may write put those
/// there.
pub async fn is_ours(forge: &Forge, repo: &RepoFacts, facts: &EventFacts) -> Result<bool, ForgeError> {
    if facts.branch.is_some() || facts.tag.is_some() {
        return Ok(true);
    }
    if facts.git_ref != facts.sha {
        return Ok(false);
    }
    let refs = forge.refs(repo).await?;
    if refs.iter().any(|(_, sha)| *sha == facts.sha) {
        return Ok(true);
    }
    let default = format!("refs/heads/{}", repo.default_branch);
    let Some((_, tip)) = refs.iter().find(|(name, _)| *name == default) else { return Ok(false) };
    match forge.commits_between(repo, tip, &facts.sha).await {
        Ok(commits) => Ok(commits.total == 0),
        Err(ForgeError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Holds back what would be one more run of a stranger than may wait in a repository.
pub fn hold_back(planned: &mut Planned, trigger: &Trigger, mut waiting: i64) {
    if trigger.trust == Trust::Trusted {
        return;
    }
    for verdict in &mut planned.verdicts {
        if !matches!(verdict.outcome, Outcome::Start(_)) {
            continue;
        }
        if waiting < MOST_STRANGERS {
            waiting += 1;
            continue;
        }
        let why = format!("{waiting} runs of strangers wait to be let in already; the limit is {MOST_STRANGERS}");
        verdict.outcome = Outcome::Skip(Skip::NotMeant);
        // Reported as pending: nothing passes by it.
        verdict.required = Some((StatusState::Pending, format!("Not run: {why}")));
        verdict.because = why;
    }
}
