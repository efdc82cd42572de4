//! Deliveries as GitHub sends them: signed, with its headers, and written down.

use super::{FakeGithub, INSTALLATION, Pull, WEBHOOK_SECRET};
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
                author: "ada".into(),
                head,
                head_sha,
                base,
                fork,
                updates: 0,
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
        }
        self.deliver("pull_request", &self.pull_request_payload(repo, number, "synchronize")).await;
    }

    pub fn pull_request_payload(&self, repo: &RepoFacts, number: i64, action: &str) -> Value {
        let mut payload = self.common(repo);
        let pull = self.world().pulls.iter().find(|p| p.repo == repo.forge_id && p.number == number).cloned().unwrap();
        let base_sha = self.git(repo).find(&format!("heads/{}", pull.base)).unwrap();
        let own = payload["repository"].clone();
        let mut head_repo = own.clone();
        if pull.fork {
            head_repo["id"] = (repo.forge_id + 500_000).into();
            head_repo["full_name"] = format!("eve/{}", repo.name).into();
        }
        payload["action"] = action.into();
        payload["number"] = number.into();
        payload["pull_request"] = json!({
            "number": number, "title": pull.title, "draft": false, "merged": false, "labels": [],
            "user": { "login": pull.author, "id": 11 },
            "updated_at": format!("2026-11-24T00:00:{:02}Z", pull.updates),
            "head": { "ref": pull.head, "sha": pull.head_sha, "repo": head_repo },
            "base": { "ref": pull.base, "sha": base_sha, "repo": own },
        });
        payload
    }

    fn common(&self, repo: &RepoFacts) -> Value {
        json!({
            "repository": {
                "id": repo.forge_id, "name": repo.name, "full_name": repo.full_name(), "private": repo.private,
                "owner": { "login": repo.owner, "id": 1 }, "default_branch": repo.default_branch,
            },
            "installation": { "id": INSTALLATION },
            "sender": { "login": "ada", "id": 11, "type": "User" },
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
        let hook = self.world().hook.clone().expect("a server to deliver to: call connect");
        let body = payload.to_string();
        let request = reqwest::Client::new()
            .post(hook)
            .header("content-type", "application/json")
            .header("user-agent", "GitHub-Hookshot/044aadd")
            .header("x-github-event", event)
            .header("x-github-delivery", guid)
            .header("x-hub-signature-256", sign(WEBHOOK_SECRET.as_bytes(), body.as_bytes()))
            .body(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }
}
