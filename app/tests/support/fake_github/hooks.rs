//! Deliveries as GitHub sends them: signed, with its headers, and written down.

use super::{Delivered, FakeGithub, INSTALLATION, Pull, Repo};
use rivet::forge::RepoFacts;
use rivet::http::webhook::sign;
use serde_json::{Value, json};

impl FakeGithub {
    /// Sends deliveries to `http://ADDRESS/webhooks/github` from now on.
    pub fn connect(&self, server: &str) {
        self.world().hook = Some(format!("{}/webhooks/github", server.trim_end_matches('/')));
    }

    /// Commits files, pushes them and delivers the push; answers the commit.
    pub async fn push(&self, repo: &RepoFacts, branch: &str, files: &[(&str, &str)]) -> String {
        let before = self.git(repo).find(&format!("heads/{branch}"));
        let after = self.commit(repo, branch, files);
        self.deliver("push", &self.push_payload(repo, branch, before.as_deref(), &after)).await;
        after
    }

    pub fn push_payload(&self, repo: &RepoFacts, branch: &str, before: Option<&str>, after: &str) -> Value {
        let message = self.git(repo).message(after);
        let mut payload = self.common(repo);
        payload["ref"] = format!("refs/heads/{branch}").into();
        payload["before"] = before.map_or("0".repeat(40), str::to_owned).into();
        payload["after"] = after.into();
        payload["created"] = before.is_none().into();
        payload["deleted"] = false.into();
        payload["forced"] = false.into();
        payload["head_commit"] = json!({ "id": after, "message": message });
        payload["repository"]["pushed_at"] = self.world().id().into();
        payload["pusher"] = json!({ "name": "ada" });
        payload
    }

    /// Opens a pull request of a branch (of a fork of `repo`, if wanted) and delivers that; answers its number.
    pub async fn open_pull_request(&self, repo: &RepoFacts, head: &str, fork: bool) -> i64 {
        let head_sha = self.git(repo).find(&format!("heads/{head}")).expect("the branch exists");
        let number = {
            let mut world = self.world();
            let number = world.pulls.iter().filter(|p| p.repo == repo.forge_id).count() as i64 + 1;
            let (head, base) = (head.to_owned(), repo.default_branch.clone());
            let pull = Pull {
                repo: repo.forge_id,
                number,
                title: format!("Merge {head}"),
                author: if fork { "eve" } else { "ada" }.into(),
                head,
                head_sha,
                base,
                fork,
                updates: 0,
                open: true,
                merged: false,
                draft: false,
                labels: vec![],
                head_gone: false,
                unindexed: false,
                mergeable: None,
                merge_sha: None,
            };
            world.pulls.push(pull);
            number
        };
        self.deliver("pull_request", &self.pull_request_payload(repo, number, "opened")).await;
        number
    }

    /// Delivers that a pull request has the newest commit of its branch now.
    pub async fn synchronize(&self, repo: &RepoFacts, number: i64) {
        let git = self.git(repo);
        {
            let mut world = self.world();
            let pull = world.pulls.iter_mut().find(|p| p.repo == repo.forge_id && p.number == number).unwrap();
            pull.head_sha = git.find(&format!("heads/{}", pull.head)).unwrap();
            pull.updates += 1;
            (pull.mergeable, pull.merge_sha) = (None, None);
        }
        self.deliver("pull_request", &self.pull_request_payload(repo, number, "synchronize")).await;
    }

    pub fn pull_request_payload(&self, repo: &RepoFacts, number: i64, action: &str) -> Value {
        let mut payload = self.common(repo);
        let pull = self.world().pulls.iter().find(|p| p.repo == repo.forge_id && p.number == number).cloned().unwrap();
        let own = payload["repository"].clone();
        payload["action"] = action.into();
        payload["number"] = number.into();
        // Who pushes to a fork is its owner.
        payload["sender"] = self.world().user(&pull.author);
        let git = self.git(repo);
        payload["pull_request"] = super::pulls::body(&self.world(), &Repo { facts: repo.clone(), git }, &pull, &own);
        payload
    }

    pub fn common(&self, repo: &RepoFacts) -> Value {
        json!({
            "repository": {
                "id": repo.forge_id, "name": repo.name, "full_name": repo.full_name(), "private": repo.private,
                "owner": { "login": repo.owner, "id": 1 }, "default_branch": repo.default_branch,
            },
            "installation": { "id": INSTALLATION },
            "sender": self.world().user("ada"),
        })
    }

    /// Signs and posts a delivery under a fresh id; answers status and body.
    pub async fn deliver(&self, event: &str, payload: &Value) -> (u16, Value) {
        let hex = format!("{:032x}", u128::from(ulid::Ulid::new()));
        let guid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        self.redeliver(&guid, event, payload).await
    }

    /// The same under a known id.
    pub async fn redeliver(&self, guid: &str, event: &str, payload: &Value) -> (u16, Value) {
        self.try_delivery(guid, event, payload, false).await
    }

    /// Delivers everything that was asked for through the API since; answers how many.
    pub async fn deliver_again(&self) -> usize {
        let wanted = std::mem::take(&mut self.world().wanted_again);
        for delivered in &wanted {
            self.try_delivery(&delivered.guid, &delivered.event, &delivered.payload, true).await;
        }
        wanted.len()
    }

    async fn try_delivery(&self, guid: &str, event: &str, payload: &Value, redelivery: bool) -> (u16, Value) {
        let hook = self.world().hook.clone();
        let secret = self.world().app.secret.clone();
        let lost = {
            let mut world = self.world();
            let lost = world.faults.lose_deliveries > 0 || hook.is_none();
            world.faults.lose_deliveries = world.faults.lose_deliveries.saturating_sub(1);
            lost
        };
        let (status, answer) = match hook.filter(|_| !lost) {
            Some(hook) => post(&hook, &secret, guid, event, payload).await,
            None => (0, Value::Null),
        };
        let mut world = self.world();
        let (id, at) = (world.id(), chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        let (guid, event, payload) = (guid.to_owned(), event.to_owned(), payload.clone());
        world.delivered.push(Delivered { id, guid, event, payload, status, redelivery, at });
        (status, answer)
    }
}

/// A signed delivery. Status 0 where nobody answers.
async fn post(hook: &str, secret: &str, guid: &str, event: &str, payload: &Value) -> (u16, Value) {
    let body = payload.to_string();
    let request = reqwest::Client::new()
        .post(hook)
        .header("content-type", "application/json")
        .header("user-agent", "GitHub-Hookshot/044aadd")
        .header("x-github-event", event)
        .header("x-github-delivery", guid)
        .header("x-hub-signature-256", sign(secret.as_bytes(), body.as_bytes()))
        .body(body);
    match request.send().await {
        Ok(response) => (response.status().as_u16(), response.json().await.unwrap_or_default()),
        Err(_) => (0, Value::Null),
    }
}
