//! A GitHub that fits in a test: real git, real HTTP, real signatures, GitHub's own description of its API, and switches
//! for everything that goes wrong. It answers only what is read, and remembers all it was told.

#![allow(dead_code, reason = "each test binary uses another part of it")]

mod api;
pub mod app;
pub mod comments;
pub mod deployments;
pub mod git;
mod hooks;
pub mod pulls;
mod schema;

use git::{File, Git};
use rivet::config::GithubConfig;
use rivet::forge::RepoFacts;
use rivet::model::ids::ForgeKind;
use schema::Schema;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub const APP_ID: u64 = 99;
pub const INSTALLATION: i64 = 7;
pub const WEBHOOK_SECRET: &str = "a webhook secret of at least thirty-two bytes";
pub const PRIVATE_KEY: &str = include_str!("../../fixtures/github/test-app.pem");
const PUBLIC_KEY: &str = include_str!("../../fixtures/github/test-app.pub.pem");

/// The server and what it knows. Cheap to clone.
#[derive(Clone)]
pub struct FakeGithub {
    pub address: SocketAddr,
    world: Arc<Mutex<World>>,
    schema: Arc<Schema>,
    folder: Arc<tempfile::TempDir>,
}

/// Everything GitHub would keep.
#[derive(Default)]
pub struct World {
    pub repos: Vec<Repo>,
    pub tokens: HashMap<String, Token>,
    pub pulls: Vec<Pull>,
    pub checks: Vec<Check>,
    index: Index,
    pub statuses: Vec<Status>,
    pub comments: Vec<comments::Comment>,
    pub deployments: Vec<deployments::Deployment>,
    /// Members by organisation and team.
    pub teams: HashMap<(String, String), Vec<String>>,
    /// Every try to deliver, newest last.
    pub delivered: Vec<Delivered>,
    /// What was asked to be delivered once more; [`FakeGithub::deliver_again`] does it.
    pub wanted_again: Vec<Delivered>,
    /// Permission and id, by repository and login.
    pub permissions: HashMap<(i64, String), (String, i64)>,
    /// Every call that was made: `POST /repos/…`.
    pub calls: Vec<String>,
    /// What GitHub would not have accepted, or what must not be done.
    pub violations: Vec<String>,
    pub faults: Faults,
    /// The App itself.
    pub app: app::App,
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    /// Where deliveries are sent.
    pub hook: Option<String>,
    /// How far its clock is ahead, in milliseconds.
    pub ahead: i64,
    next_id: i64,
    /// How long it has worked on answers.
    pub busy: Duration,
}

/// Where check runs are, so that thousands cost no more than a few.
#[derive(Default)]
struct Index {
    /// So many are in it.
    upto: usize,
    by_id: HashMap<(i64, i64), usize>,
    /// Repository, external id, commit.
    known: HashSet<(i64, String, String)>,
}

/// How often, the status, the headers, the message.
pub type Refusal = (usize, u16, Vec<(&'static str, String)>, &'static str);

/// What goes wrong, and how often.
#[derive(Default)]
pub struct Faults {
    /// Nothing is done; a proxy's page is the answer.
    pub down: bool,
    /// So many writes are done, but their answers are lost.
    pub lose_answers: usize,
    /// So many calls are refused with this status and these headers.
    pub refuse: Option<Refusal>,
    /// Every call takes this much longer.
    pub slow: Option<Duration>,
    /// Recursive trees are cut off.
    pub truncate_trees: bool,
    /// Test merges are never worked out.
    pub no_merges: bool,
    /// So many deliveries get lost on their way.
    pub lose_deliveries: usize,
    /// Questions about people's permissions are answered with this status.
    pub permissions: Option<u16>,
    /// Logins belong to others than they did when events were written.
    pub other_account: bool,
    /// The App was not given the permission `deployments: write`.
    pub no_deployments: bool,
}

/// One try to deliver, as `GET /app/hook/deliveries` lists it.
#[derive(Clone)]
pub struct Delivered {
    pub id: i64,
    pub guid: String,
    pub event: String,
    pub payload: Value,
    /// What the server answered; 0 where it did not.
    pub status: u16,
    pub redelivery: bool,
    pub at: String,
}

#[derive(Clone)]
pub struct Repo {
    pub facts: RepoFacts,
    pub git: Git,
}

pub struct Token {
    pub repositories: Vec<i64>,
    pub permissions: BTreeMap<String, String>,
}

#[derive(Clone)]
pub struct Pull {
    pub repo: i64,
    pub number: i64,
    pub title: String,
    pub author: String,
    pub head: String,
    pub head_sha: String,
    pub base: String,
    pub fork: bool,
    pub updates: i64,
    pub open: bool,
    pub merged: bool,
    pub draft: bool,
    pub labels: Vec<String>,
    /// The fork was deleted.
    pub head_gone: bool,
    /// GitHub does not find it by its commit or its branch yet.
    pub unindexed: bool,
    /// Whether head and base can be merged; `None` until somebody asks.
    pub mergeable: Option<bool>,
    pub merge_sha: Option<String>,
}

pub struct Check {
    pub id: i64,
    pub repo: i64,
    pub body: Value,
    pub annotations: Vec<Value>,
    pub updates: usize,
}

pub struct Status {
    pub repo: i64,
    pub sha: String,
    pub body: Value,
}

impl FakeGithub {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = World { next_id: 1000, address: format!("http://{address}"), ..World::default() };
        let fake = Self {
            address,
            world: Arc::new(Mutex::new(world)),
            schema: Arc::new(Schema::load()),
            folder: Arc::new(tempfile::tempdir().unwrap()),
        };
        let router = axum::Router::new().fallback(api::answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        fake
    }

    /// The settings that make Rivet talk to this server.
    pub fn config(&self) -> GithubConfig {
        GithubConfig {
            app_id: APP_ID,
            private_key: PRIVATE_KEY.into(),
            webhook_secret: WEBHOOK_SECRET.into(),
            api_url: format!("http://{}/api/v3", self.address).parse().unwrap(),
            server_url: format!("http://{}", self.address).parse().unwrap(),
        }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// A new, empty, private repository `owner/name` that the App may see.
    pub fn repo(&self, full_name: &str) -> RepoFacts {
        let (owner, name) = full_name.split_once('/').unwrap();
        let mut world = self.world();
        let facts = RepoFacts {
            forge: ForgeKind::Github,
            forge_id: world.id(),
            owner: owner.to_owned(),
            name: name.to_owned(),
            default_branch: "main".to_owned(),
            private: true,
            installation_id: Some(INSTALLATION),
        };
        let git = Git::init(self.folder.path().join(format!("{full_name}.git")));
        world.repos.push(Repo { facts: facts.clone(), git });
        // Ada, who does everything nobody else is named for, may push.
        world.permissions.insert((facts.forge_id, "ada".to_owned()), ("write".to_owned(), 11));
        facts
    }

    pub fn git(&self, repo: &RepoFacts) -> Git {
        self.world().repos.iter().find(|r| r.facts.forge_id == repo.forge_id).unwrap().git.clone()
    }

    /// Commits text files on a branch (which begins at the default branch if it is new) without telling anybody.
    pub fn commit(&self, repo: &RepoFacts, branch: &str, files: &[(&str, &str)]) -> String {
        let files: Vec<File<'_>> = files.iter().map(|(path, text)| (*path, "100644", text.as_bytes())).collect();
        self.commit_files(repo, branch, &files)
    }

    pub fn commit_files(&self, repo: &RepoFacts, branch: &str, files: &[File<'_>]) -> String {
        let git = self.git(repo);
        let from = git.find(&format!("heads/{}", repo.default_branch));
        git.commit(branch, from.as_deref(), files, &format!("Change {}", files.first().map_or("nothing", |f| f.0)))
    }

    pub fn permit(&self, repo: &RepoFacts, login: &str, permission: &str, id: i64) {
        self.world().permissions.insert((repo.forge_id, login.to_owned()), (permission.to_owned(), id));
    }

    /// The checks page of a commit: check runs in the order of their creation, then statuses, newest of each context.
    pub fn checks(&self, sha: &str) -> String {
        let world = self.world();
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let mut lines = vec![];
        for check in world.checks.iter().filter(|c| c.body["head_sha"] == sha) {
            let body = &check.body;
            let state = match body["conclusion"].as_str() {
                Some(conclusion) => format!("{} {conclusion}", text(&body["status"])),
                None => text(&body["status"]),
            };
            let buttons = body["actions"].as_array().into_iter().flatten().map(|a| format!(" [{}]", text(&a["label"])));
            let buttons: String = buttons.collect();
            lines.push(format!("{}: {state}: {}{buttons}", text(&body["name"]), text(&body["output"]["title"])));
            for note in &check.annotations {
                lines.push(format!("  {}:{}: {}", text(&note["path"]), note["start_line"], text(&note["message"])));
            }
        }
        let mut contexts: BTreeMap<String, String> = BTreeMap::new();
        for status in world.statuses.iter().filter(|s| s.sha == sha) {
            let line = format!("{}: {}", text(&status.body["state"]), text(&status.body["description"]));
            contexts.insert(text(&status.body["context"]).to_lowercase(), line);
        }
        lines.extend(contexts.into_iter().map(|(context, line)| format!("{context}: {line}")));
        lines.join("\n")
    }

    /// The summary of the newest check run of this name.
    pub fn summary(&self, name: &str) -> String {
        let world = self.world();
        let check = world.checks.iter().rev().find(|c| c.body["name"] == name).unwrap();
        check.body["output"]["summary"].as_str().unwrap_or_default().to_owned()
    }

    /// Calls whose text holds `part`, and forgets all so far.
    pub fn take_calls(&self, part: &str) -> Vec<String> {
        let calls = std::mem::take(&mut self.world().calls);
        calls.into_iter().filter(|call| call.contains(part)).collect()
    }

    /// The end of a test: nothing was asked that GitHub would have refused.
    pub fn finish(&self) {
        let violations = std::mem::take(&mut self.world().violations);
        assert!(violations.is_empty(), "GitHub would not have accepted:\n{}", violations.join("\n"));
    }
}

impl World {
    /// A user as payloads and answers show them. A login nobody gave a permission has a number made from its letters.
    pub fn user(&self, login: &str) -> Value {
        let known = self.permissions.iter().find(|((_, name), _)| name == login).map(|(_, (_, id))| *id);
        let made = 10_000 + login.bytes().fold(0_i64, |n, byte| (n * 31 + i64::from(byte)) % 900_000);
        let id = match login {
            "ada" => 11,
            _ => known.unwrap_or(made),
        };
        let kind = if login.ends_with("[bot]") { "Bot" } else { "User" };
        serde_json::json!({ "login": login, "id": id, "type": kind })
    }

    /// The time at which people write: a few seconds after they saw what the passes told until now.
    pub fn time(&self) -> chrono::DateTime<chrono::Utc> {
        chrono::Utc::now() + chrono::Duration::milliseconds(self.ahead) + chrono::Duration::seconds(3)
    }

    /// The check run with this id in a repository.
    fn check(&mut self, repo: i64, id: i64) -> Option<&mut Check> {
        self.look_over_checks();
        let place = *self.index.by_id.get(&(repo, id))?;
        self.checks.get_mut(place)
    }

    /// Whether there is a check run of this name of ours on the commit already.
    fn has_check(&mut self, repo: i64, body: &Value) -> bool {
        self.look_over_checks();
        self.index.known.contains(&key(repo, body))
    }

    /// Takes into the index what a test may have put there by hand.
    fn look_over_checks(&mut self) {
        for (place, check) in self.checks.iter().enumerate().skip(self.index.upto) {
            self.index.by_id.insert((check.repo, check.id), place);
            self.index.known.insert(key(check.repo, &check.body));
        }
        self.index.upto = self.checks.len();
    }

    pub fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }
}

fn key(repo: i64, body: &Value) -> (i64, String, String) {
    (repo, body["external_id"].to_string(), body["head_sha"].to_string())
}
