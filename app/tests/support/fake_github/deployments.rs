//! Deployments and their statuses.

use super::api::{Answer, Call, not_found};
use super::{FakeGithub, Repo, World};
use rivet::forge::RepoFacts;
use serde_json::{Value, json};

pub struct Deployment {
    pub id: i64,
    pub repo: i64,
    pub body: Value,
    pub statuses: Vec<Value>,
}

impl FakeGithub {
    /// The deployments page of a repository: a line each, with every status it had.
    pub fn deployments(&self, repo: &RepoFacts) -> String {
        let world = self.world();
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let mut lines = vec![];
        for deployment in world.deployments.iter().filter(|d| d.repo == repo.forge_id) {
            let body = &deployment.body;
            let statuses: Vec<String> = deployment.statuses.iter().map(|s| text(&s["state"])).collect();
            let (environment, task) = (text(&body["environment"]), text(&body["task"]));
            lines.push(format!("{environment} {task} {}: {}", text(&body["description"]), statuses.join(" → ")));
        }
        lines.join("\n")
    }
}

/// Calls below `/repos/…/deployments`.
pub fn deployments(world: &mut World, call: &Call, repo: &Repo, rest: &[&str]) -> Answer {
    let mine = |d: &&Deployment| d.repo == repo.facts.forge_id;
    match (call.method.as_str(), rest) {
        ("GET", []) => {
            let wanted = |d: &&Deployment| {
                call.query("sha").is_none_or(|sha| d.body["ref"] == sha)
                    && call.query("environment").is_none_or(|name| d.body["environment"] == name)
            };
            // GitHub lists the newest first.
            let all = world.deployments.iter().rev().filter(mine).filter(wanted);
            let all = all.map(|d| json!({ "id": d.id, "payload": d.body["payload"], "sha": d.body["ref"] })).collect();
            Ok((200, call.page(all).into()))
        }
        ("POST", []) => {
            let sha = call.body["ref"].as_str().unwrap_or_default();
            if repo.git.find(sha).is_none() {
                return Err((422, format!("No ref found for: {sha}")));
            }
            let again = |d: &&Deployment| d.body["payload"] == call.body["payload"];
            if world.deployments.iter().filter(mine).any(|d| again(&d)) {
                world.violations.push(format!("a second deployment for {}", call.body["payload"]));
            }
            let id = world.id();
            let (repo, body) = (repo.facts.forge_id, call.body.clone());
            world.deployments.push(Deployment { id, repo, body, statuses: vec![] });
            Ok((201, json!({ "id": id, "payload": call.body["payload"] })))
        }
        ("POST", [id, "statuses"]) => {
            let new = world.id();
            let found = world.deployments.iter_mut().find(|d| d.repo == repo.facts.forge_id && d.id.to_string() == *id);
            found.ok_or_else(not_found)?.statuses.push(call.body.clone());
            Ok((201, json!({ "id": new, "state": call.body["state"] })))
        }
        _ => Err(not_found()),
    }
}
