//! Comments on pull requests, receipts on them, and teams.

use super::api::{Answer, Call, not_found};
use super::{FakeGithub, Repo, World};
use rivet::forge::RepoFacts;
use serde_json::{Value, json};

/// A comment as it stands.
#[derive(Clone, Debug)]
pub struct Comment {
    pub id: i64,
    pub repo: i64,
    pub number: i64,
    pub author: String,
    pub body: String,
    /// When it was written.
    pub at: chrono::DateTime<chrono::Utc>,
    /// How often it was edited.
    pub edits: i64,
    /// By whom, and what.
    pub reactions: Vec<(String, String)>,
}

/// The login of the App's own user.
pub const BOT: &str = "rivet-test[bot]";

impl FakeGithub {
    /// `login` writes a comment on a pull request, and that is delivered; answers the comment's id.
    pub async fn comment(&self, repo: &RepoFacts, number: i64, login: &str, body: &str) -> i64 {
        let id = self.write_comment(repo, number, login, body);
        self.deliver_comment(repo, id, "created").await;
        id
    }

    /// The same without telling anybody.
    pub fn write_comment(&self, repo: &RepoFacts, number: i64, login: &str, body: &str) -> i64 {
        let mut world = self.world();
        let id = world.id();
        let (author, body) = (login.to_owned(), body.to_owned());
        let at = world.time();
        let comment = Comment { id, repo: repo.forge_id, number, author, body, at, edits: 0, reactions: vec![] };
        world.comments.push(comment);
        id
    }

    /// Somebody edits a comment, and that is not delivered.
    pub fn edit_comment(&self, id: i64, body: &str) {
        let mut world = self.world();
        let comment = world.comments.iter_mut().find(|c| c.id == id).unwrap();
        comment.body = body.to_owned();
        comment.edits += 1;
    }

    pub async fn deliver_comment(&self, repo: &RepoFacts, id: i64, action: &str) -> (u16, Value) {
        let payload = self.comment_payload(repo, id, action);
        self.deliver("issue_comment", &payload).await
    }

    pub fn comment_payload(&self, repo: &RepoFacts, id: i64, action: &str) -> Value {
        let mut payload = self.common(repo);
        let world = self.world();
        let comment = world.comments.iter().find(|c| c.id == id).unwrap();
        let pull = world.pulls.iter().find(|p| p.repo == comment.repo && p.number == comment.number);
        payload["action"] = action.into();
        payload["sender"] = world.user(&comment.author);
        payload["comment"] = shown(&world, comment);
        payload["issue"] = json!({
            "number": comment.number,
            "state": if pull.is_none_or(|p| p.open) { "open" } else { "closed" },
        });
        if pull.is_some() {
            payload["issue"]["pull_request"] = json!({ "url": "https://api.github.com/x" });
        }
        payload
    }

    /// What people see below a pull request: every comment but those of `people`, with the reactions on all.
    pub fn conversation(&self, repo: &RepoFacts, number: i64) -> String {
        let world = self.world();
        let mut lines = vec![];
        for comment in world.comments.iter().filter(|c| c.repo == repo.forge_id && c.number == number) {
            let reactions: String = comment.reactions.iter().map(|(_, what)| format!(" [{what}]")).collect();
            let edits = if comment.edits > 0 { format!(" (edited {} times)", comment.edits) } else { String::new() };
            lines.push(format!("{}{edits}: {}{reactions}", comment.author, comment.body.trim()));
        }
        lines.join("\n")
    }

    /// Makes a team of these members.
    pub fn team(&self, org: &str, team: &str, members: &[&str]) {
        let members = members.iter().map(|login| (*login).to_owned()).collect();
        self.world().teams.insert((org.to_owned(), team.to_owned()), members);
    }
}

fn shown(world: &World, comment: &Comment) -> Value {
    json!({
        "id": comment.id, "body": comment.body, "user": world.user(&comment.author),
        "created_at": seconds(comment.at),
        "updated_at": seconds(comment.at + chrono::Duration::seconds(comment.edits)),
    })
}

fn seconds(time: chrono::DateTime<chrono::Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Calls below `/repos/…/issues`.
pub fn issues(world: &mut World, call: &Call, repo: &Repo, rest: &[&str]) -> Answer {
    let number = |text: &str| text.parse::<i64>().map_err(|_| not_found());
    match (call.method.as_str(), rest) {
        ("GET", [issue, "comments"]) => {
            let issue = number(issue)?;
            let mine = world.comments.iter().filter(|c| c.repo == repo.facts.forge_id && c.number == issue);
            let all = mine.map(|comment| shown(world, comment)).collect();
            Ok((200, call.page(all).into()))
        }
        ("POST", [issue, "comments"]) => {
            let (issue, body) = (number(issue)?, call.body["body"].as_str().unwrap_or_default().to_owned());
            if !world.pulls.iter().any(|p| p.repo == repo.facts.forge_id && p.number == issue) {
                return Err(not_found());
            }
            if body.chars().count() > 65_536 {
                return Err((422, "Body is too long (maximum is 65536 characters)".to_owned()));
            }
            let (id, repo, author) = (world.id(), repo.facts.forge_id, BOT.to_owned());
            let at = world.time();
            let comment = Comment { id, repo, number: issue, author, body, at, edits: 0, reactions: vec![] };
            let answer = shown(world, &comment);
            world.comments.push(comment);
            Ok((201, answer))
        }
        ("GET", ["comments", id]) => {
            let id = number(id)?;
            let found = world.comments.iter().find(|c| c.id == id && c.repo == repo.facts.forge_id);
            Ok((200, shown(world, found.ok_or_else(not_found)?)))
        }
        ("PATCH", ["comments", id]) => {
            let id = number(id)?;
            let body = call.body["body"].as_str().unwrap_or_default().to_owned();
            let mine = |c: &&mut Comment| c.id == id && c.repo == repo.facts.forge_id;
            let comment = world.comments.iter_mut().find(mine).ok_or_else(not_found)?;
            if comment.author != BOT {
                return Err((403, "Resource not accessible by integration".to_owned()));
            }
            comment.body = body;
            comment.edits += 1;
            let comment = comment.clone();
            Ok((200, shown(world, &comment)))
        }
        ("POST", ["comments", id, "reactions"]) => {
            let (id, new) = (number(id)?, world.id());
            let what = call.body["content"].as_str().unwrap_or_default().to_owned();
            let mine = |c: &&mut Comment| c.id == id && c.repo == repo.facts.forge_id;
            let comment = world.comments.iter_mut().find(mine).ok_or_else(not_found)?;
            let reaction = (BOT.to_owned(), what.clone());
            let known = comment.reactions.contains(&reaction);
            if !known {
                comment.reactions.push(reaction);
            }
            Ok((if known { 200 } else { 201 }, json!({ "id": new, "content": what })))
        }
        _ => Err(not_found()),
    }
}

/// `GET /orgs/ORG/teams/TEAM/memberships/LOGIN`.
pub fn membership(world: &World, org: &str, team: &str, login: &str) -> Answer {
    let members = world.teams.get(&(org.to_owned(), team.to_owned())).ok_or_else(not_found)?;
    match members.iter().any(|member| member.eq_ignore_ascii_case(login)) {
        true => Ok((200, json!({ "state": "active", "role": "member" }))),
        false => Err(not_found()),
    }
}
