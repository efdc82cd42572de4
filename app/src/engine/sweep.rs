//! Looks where branches, tags and pull requests are, for what no delivery ever told of: GitHub sends none for a push of more
//! than three tags, forgets failed ones after three days, and whole repositories may have been out of reach.
//!
//! What is found becomes a delivery of our own, shaped like GitHub's and kept like one: it is decided about, shown and tried
//! again like any other. Its id is made from what was found, so it is found once. A first look only remembers: what stood
//! before Rivet came starts nothing.

use super::Progress;
use crate::context::Context;
use crate::forge::people::Account;
use crate::forge::pulls::PullRequest;
use crate::forge::{Forge, ForgeError, RepoFacts, Trigger};
use crate::http::webhook::fetched;
use crate::model::ids::ForgeKind;
use crate::model::time::Timestamp;
use crate::store::deliveries::NewDelivery;
use crate::store::repos::Repo;
use crate::store::sweeps::{Head, Heads};
use crate::store::wake::Topic;
use crate::store::{Error, Tx};
use pipelines_spec::trigger::EventKind;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How often some repositories are looked at, and how many: 240 an hour, three calls or a few more each.
const TURN_MILLIS: i64 = 30_000;
const REPOS: i64 = 2;
/// How long a turn may take.
const HELD_MILLIS: i64 = 4 * 60_000;
/// How often one repository is looked at, at most.
const EVERY_MILLIS: i64 = 30 * 60_000;
/// How long a head may stand unexplained before it counts as missed: its delivery may be on its way, or asked for again.
const GRACE_MILLIS: i64 = 12 * 60_000;
/// Unexplained heads that are seen to in one look; the rest is left for the next one.
const MOST: usize = 50;
/// What ids of our own deliveries begin with.
const OURS: &str = "sweep-";

/// Looks at the repositories whose turn it is.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let Ok(forge) = context.forges.of(ForgeKind::Github) else { return Ok(Progress::Idle) };
    let mut tx = context.store.begin().await?;
    let lease = tx.take_lease("sweep", HELD_MILLIS, now).await?;
    let repos = match &lease {
        Some(_) => tx.repos_to_sweep(now, REPOS).await?,
        None => vec![],
    };
    tx.commit().await?;
    let Some(lease) = lease else { return Ok(Progress::Idle) };
    for (repo, known) in repos {
        if let Err(Trouble::Store(error)) = look_at(context, &forge, &repo, known, now).await {
            return Err(error.into());
        }
    }
    let mut tx = context.store.begin().await?;
    tx.release_lease(&lease, now.plus_millis(TURN_MILLIS)).await?;
    tx.commit().await?;
    Ok(Progress::Idle)
}

enum Trouble {
    Forge(ForgeError),
    Store(Error),
}

impl From<ForgeError> for Trouble {
    fn from(error: ForgeError) -> Self {
        Self::Forge(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// One look at one repository, and when the next one is.
async fn look_at(
    context: &Context,
    forge: &Forge,
    repo: &Repo,
    known: Option<Heads>,
    now: Timestamp,
) -> Result<(), Trouble> {
    let outcome = look(context, forge, repo, known.as_ref(), now).await;
    let mut tx = context.store.begin().await?;
    match &outcome {
        Ok((heads, found)) => {
            tx.record_deliveries(found).await?;
            let unexplained = heads.values().any(|head| head.since.is_some());
            let wait = if unexplained { GRACE_MILLIS } else { EVERY_MILLIS };
            tx.save_sweep(&repo.id, Some(heads), now.plus_millis(wait)).await?;
        }
        Err(Trouble::Forge(error)) => {
            let at = match error {
                ForgeError::RateLimited { until } => *until,
                _ => now.plus_millis(EVERY_MILLIS),
            };
            tracing::warn!(repo = %repo.full_name(), %error, "{} was not looked at: {error}", repo.full_name());
            tx.save_sweep(&repo.id, known.as_ref(), at).await?;
        }
        Err(Trouble::Store(_)) => return outcome.map(|_| ()),
    }
    tx.commit().await?;
    if let Ok((_, found)) = &outcome
        && !found.is_empty()
    {
        tracing::warn!(found = found.len(), "{}: {} heads nobody told of", repo.full_name(), found.len());
        context.store.wake.notify(Topic::Intake).await;
    }
    Ok(())
}

/// What stands at the forge now, and deliveries for what nobody told of.
async fn look(
    context: &Context,
    forge: &Forge,
    repo: &Repo,
    known: Option<&Heads>,
    now: Timestamp,
) -> Result<(Heads, Vec<NewDelivery>), Trouble> {
    let facts = repo.facts();
    let refs = forge.refs(&facts).await?;
    let pulls = forge.open_pull_requests(&facts).await?;
    let pull_ref = |pull: &PullRequest| format!("refs/pull/{}/head", pull.facts.number);
    let listed = refs.into_iter().chain(pulls.iter().map(|pull| (pull_ref(pull), pull.facts.head_sha.clone())));
    let (mut heads, suspects) = compare(known, listed, now);
    let mut found = vec![];
    for git_ref in suspects {
        let Some(head) = heads.get(&git_ref).cloned() else { continue };
        let pull = pulls.iter().find(|pull| pull_ref(pull) == git_ref);
        let commit = match pull {
            Some(_) => head.sha.clone(),
            // An annotated tag is told by its object, and decided about by its commit.
            None => forge.resolve(&facts, &git_ref).await?.sha,
        };
        let mut tx = context.store.read().await?;
        let told = tx.is_explained(&repo.id, &git_ref, &commit).await?;
        let pending = tx.has_pending_deliveries(&repo.id).await?;
        drop(tx);
        let waited = head.since.is_some_and(|since| now.since(Timestamp(since)) >= GRACE_MILLIS);
        if !told && (!waited || pending) {
            continue;
        }
        if !told {
            found.push(match pull {
                Some(pull) => pull_delivery(&facts, &head, pull, now)?,
                None => push_delivery(forge, &facts, &git_ref, &head, &commit, now).await?,
            });
        }
        heads.insert(git_ref, Head { since: None, before: None, ..head });
    }
    Ok((heads, found))
}

/// The heads as they are now, and those of them that moved without our having seen why, at most [`MOST`].
fn compare(
    known: Option<&Heads>,
    listed: impl Iterator<Item = (String, String)>,
    now: Timestamp,
) -> (Heads, Vec<String>) {
    let mut heads = Heads::new();
    let mut suspects = vec![];
    for (git_ref, sha) in listed {
        let earlier = known.and_then(|known| known.get(&git_ref));
        let head = match (known, earlier) {
            (None, _) => Head { sha, since: None, before: None },
            (Some(_), Some(earlier)) if earlier.sha == sha => earlier.clone(),
            (Some(_), earlier) => Head { sha, since: Some(now.0), before: earlier.map(|head| head.sha.clone()) },
        };
        if head.since.is_some() && suspects.len() < MOST {
            suspects.push(git_ref.clone());
        }
        heads.insert(git_ref, head);
    }
    (heads, suspects)
}

/// The same find has the same id, however often it is found.
fn id_of(repo: &RepoFacts, git_ref: &str, head: &Head) -> String {
    let text = format!("{}|{git_ref}|{}|{}", repo.forge_id, head.sha, head.since.unwrap_or_default());
    format!("{OURS}{}", &hex::encode(Sha256::digest(text))[..32])
}

fn common(repo: &RepoFacts, sender: &Account) -> Value {
    json!({
        "repository": {
            "id": repo.forge_id, "name": repo.name, "full_name": repo.full_name(), "private": repo.private,
            "owner": { "login": repo.owner }, "default_branch": repo.default_branch,
        },
        "installation": repo.installation_id.map(|id| json!({ "id": id })),
        "sender": { "login": sender.login, "id": sender.id, "type": if sender.is_bot { "Bot" } else { "User" } },
    })
}

/// A push as GitHub would have told of it. Who pushed is not known any more, and whether it was forced neither: the careful
/// answer is that it was.
async fn push_delivery(
    forge: &Forge,
    repo: &RepoFacts,
    git_ref: &str,
    head: &Head,
    commit: &str,
    now: Timestamp,
) -> Result<NewDelivery, Trouble> {
    let message = forge.resolve(repo, commit).await?.message;
    let mut payload = common(repo, &Account::ghost());
    payload["ref"] = git_ref.into();
    payload["before"] = head.before.clone().unwrap_or_else(|| "0".repeat(head.sha.len())).into();
    payload["after"] = head.sha.as_str().into();
    payload["created"] = head.before.is_none().into();
    payload["deleted"] = false.into();
    payload["forced"] = head.before.is_some().into();
    payload["head_commit"] = json!({ "id": commit, "message": message });
    made(&id_of(repo, git_ref, head), "push", &payload, now)
}

/// A pull request's being opened or pushed to, as GitHub would have told of it.
fn pull_delivery(repo: &RepoFacts, head: &Head, pull: &PullRequest, now: Timestamp) -> Result<NewDelivery, Trouble> {
    let facts = &pull.facts;
    let mut payload = common(repo, &pull.author);
    let own = payload["repository"].clone();
    // Only the base repository's own number makes a head trusted; a fork's is not told by the list, and not needed.
    let head_repo = match (facts.fork, &pull.head_repo) {
        (false, _) => own.clone(),
        (true, Some(name)) => json!({ "full_name": name }),
        (true, None) => Value::Null,
    };
    payload["action"] = if head.before.is_some() { "synchronize" } else { "opened" }.into();
    payload["number"] = facts.number.into();
    payload["pull_request"] = json!({
        "number": facts.number, "title": facts.title, "state": "open", "draft": facts.draft, "merged": false,
        "updated_at": pull.updated_at,
        "labels": facts.labels.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "user": payload["sender"],
        "head": { "ref": facts.head, "sha": facts.head_sha, "repo": head_repo },
        "base": { "ref": facts.base, "sha": facts.base_sha, "repo": own },
    });
    let git_ref = format!("refs/pull/{}/head", facts.number);
    made(&id_of(repo, &git_ref, head), "pull_request", &payload, now)
}

fn made(id: &str, event: &str, payload: &Value, now: Timestamp) -> Result<NewDelivery, Trouble> {
    fetched(id, event, payload, now).map_err(|problem| Trouble::Forge(ForgeError::Refused(problem.to_string())))
}

/// Why a delivery starts nothing more: the sweep found the same head before it came, and the ref was not anywhere else since.
pub async fn found_before(tx: &mut Tx, repo: &Repo, guid: &str, trigger: &Trigger) -> Result<Option<String>, Error> {
    let told = match trigger.facts.name {
        EventKind::Push => true,
        EventKind::PullRequest => matches!(trigger.facts.action.as_deref(), Some("opened" | "synchronize")),
        _ => false,
    };
    if !told || guid.starts_with(OURS) {
        return Ok(None);
    }
    let last = tx.last_decided(&repo.id, &trigger.facts.git_ref).await?;
    let same = last.filter(|(delivery, sha)| delivery.0.starts_with(OURS) && *sha == trigger.facts.sha);
    Ok(same.map(|(delivery, _)| format!("it came late: the sweep had found the same, see delivery {delivery}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn listed(all: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        let all: Vec<_> = all.iter().map(|(git_ref, sha)| ((*git_ref).to_owned(), (*sha).to_owned())).collect();
        all.into_iter()
    }

    #[test]
    fn a_first_look_only_remembers_and_a_later_one_sees_what_moved() {
        let (heads, suspects) = compare(None, listed(&[("refs/heads/main", "a"), ("refs/tags/v1", "b")]), NOW);
        assert_eq!(suspects, Vec::<String>::new());
        let later = NOW.plus_seconds(60);
        let (heads, suspects) =
            compare(Some(&heads), listed(&[("refs/heads/main", "c"), ("refs/tags/v2", "b")]), later);
        assert_eq!(suspects, ["refs/heads/main", "refs/tags/v2"]);
        assert_eq!(heads["refs/heads/main"].before.as_deref(), Some("a"));
        assert!(!heads.contains_key("refs/tags/v1"), "it is gone");
        // It stands unexplained since it was first seen so, not since the last look.
        let (heads, _) = compare(Some(&heads), listed(&[("refs/heads/main", "c")]), later.plus_seconds(60));
        assert_eq!(heads["refs/heads/main"].since, Some(later.0));
    }
}
