//! Pull requests: what people do with them, and what the API tells.

use super::api::{Answer, Call, not_found};
use super::{FakeGithub, Pull, Repo, World};
use rivet::forge::RepoFacts;
use serde_json::{Value, json};

impl FakeGithub {
    /// A pull request as it stands.
    pub fn pull(&self, repo: &RepoFacts, number: i64) -> Pull {
        find(&self.world(), repo.forge_id, number).expect("the pull request exists").clone()
    }

    /// Changes a pull request, and the time of its last change, without telling anybody.
    pub fn change_pull(&self, repo: &RepoFacts, number: i64, change: impl FnOnce(&mut Pull)) {
        let mut world = self.world();
        let pull = world.pulls.iter_mut().find(|p| p.repo == repo.forge_id && p.number == number).unwrap();
        change(pull);
        pull.updates += 1;
    }

    /// Delivers that something was done to a pull request: `closed`, `labeled`, `ready_for_review` …
    pub async fn deliver_pull(&self, repo: &RepoFacts, number: i64, action: &str) {
        self.deliver("pull_request", &self.pull_request_payload(repo, number, action)).await;
    }

    /// Commits files to a pull request's branch and delivers that; answers the new head.
    pub async fn push_to_pull(&self, repo: &RepoFacts, number: i64, files: &[(&str, &str)]) -> String {
        let head = self.pull(repo, number).head;
        let sha = self.commit(repo, &head, files);
        self.synchronize(repo, number).await;
        sha
    }

    /// Closes a pull request and delivers that.
    pub async fn close_pull(&self, repo: &RepoFacts, number: i64) {
        self.change_pull(repo, number, |pull| pull.open = false);
        self.deliver_pull(repo, number, "closed").await;
    }

    /// Sets a label and delivers that as `sender`.
    pub async fn label(&self, repo: &RepoFacts, number: i64, label: &str, sender: &str) {
        self.change_pull(repo, number, |pull| pull.labels.push(label.to_owned()));
        let mut payload = self.pull_request_payload(repo, number, "labeled");
        payload["label"] = json!({ "name": label });
        payload["sender"] = self.world().user(sender);
        self.deliver("pull_request", &payload).await;
    }
}

fn find(world: &World, repo: i64, number: i64) -> Option<&Pull> {
    world.pulls.iter().find(|p| p.repo == repo && p.number == number)
}

/// A pull request as the API and deliveries show it.
pub fn body(world: &World, repo: &Repo, pull: &Pull, own: &Value) -> Value {
    let base_sha = repo.git.find(&format!("heads/{}", pull.base)).unwrap_or_default();
    let mut head_repo = own.clone();
    if pull.fork {
        head_repo["id"] = (repo.facts.forge_id + 500_000).into();
        head_repo["full_name"] = format!("eve/{}", repo.facts.name).into();
    }
    if pull.head_gone {
        head_repo = Value::Null;
    }
    let labels: Vec<Value> = pull.labels.iter().map(|name| json!({ "name": name })).collect();
    json!({
        "number": pull.number, "title": pull.title, "draft": pull.draft, "merged": pull.merged, "labels": labels,
        "state": if pull.open { "open" } else { "closed" },
        "merged_at": if pull.merged { json!("2026-11-24T01:00:00Z") } else { Value::Null },
        "user": world.user(&pull.author),
        "updated_at": format!("2026-11-24T00:00:{:02}Z", pull.updates),
        "mergeable": pull.mergeable, "merge_commit_sha": pull.merge_sha,
        "head": { "ref": pull.head, "sha": pull.head_sha, "repo": head_repo },
        "base": { "ref": pull.base, "sha": base_sha, "repo": own },
    })
}

fn shown(world: &World, repo: &Repo, pull: &Pull) -> Value {
    body(world, repo, pull, &json!({ "id": repo.facts.forge_id, "full_name": repo.facts.full_name() }))
}

/// `GET /repos/…/pulls/N`. Whoever asks makes GitHub work out the test merge.
pub fn one(world: &mut World, repo: &Repo, number: &str) -> Answer {
    let number: i64 = number.parse().map_err(|_| not_found())?;
    let pull = find(world, repo.facts.forge_id, number).ok_or_else(not_found)?.clone();
    let answer = shown(world, repo, &pull);
    if pull.mergeable.is_none() && pull.open && !world.faults.no_merges {
        let merge = repo.git.merge(&pull.base, &pull.head_sha, number);
        let stored = world.pulls.iter_mut().find(|p| p.repo == repo.facts.forge_id && p.number == number).unwrap();
        stored.mergeable = Some(merge.is_some());
        stored.merge_sha = merge;
    }
    Ok((200, answer))
}

/// `GET /repos/…/pulls`.
pub fn list(world: &World, call: &Call, repo: &Repo) -> Answer {
    let open = call.query("state").unwrap_or("open") == "open";
    let owner = format!("{}:", repo.facts.owner);
    let wanted = call.query("head").map(|head| head.strip_prefix(&owner).unwrap_or_default());
    let is_wanted = |p: &&Pull| wanted.is_none_or(|head| p.head == head && !p.fork && !p.unindexed);
    let mine = world.pulls.iter().filter(|p| p.repo == repo.facts.forge_id && (p.open || !open)).filter(is_wanted);
    let all = mine.map(|pull| shown(world, repo, pull)).collect();
    Ok((200, call.page(all).into()))
}

/// `GET /repos/…/commits/SHA/pulls`.
pub fn of_commit(world: &World, call: &Call, repo: &Repo, sha: &str) -> Answer {
    if repo.git.find(sha).is_none() {
        return Err((404, "No commit found for SHA".to_owned()));
    }
    let mine = world.pulls.iter().filter(|p| p.repo == repo.facts.forge_id && p.head_sha == sha && !p.unindexed);
    let all = mine.map(|pull| shown(world, repo, pull)).collect();
    Ok((200, call.page(all).into()))
}
