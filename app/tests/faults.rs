//! Everything may be killed at any moment: real servers, real runners, real git, a GitHub that checks what it is told. A
//! ledger counts what stages really did. At the end nothing is lost, nothing was done twice by one attempt, and what
//! GitHub shows is what is stored.

#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;

use databases::{Kind, block_on, fresh};
use fake_github::{FakeGithub, WEBHOOK_SECRET};
use rivet::forge::RepoFacts;
use rivet::store::DatabaseUrl;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ADMIN: &str = "the admin token of this test, long enough";
const JOIN: &str = "the runners' registration token of this test";

/// A process that is killed with this test.
struct Process {
    child: Child,
    start: Box<dyn Fn() -> Child>,
}

impl Process {
    fn new(start: impl Fn() -> Child + 'static) -> Self {
        Self { child: start(), start: Box::new(start) }
    }

    /// `kill -9`, then a new one in its place.
    fn kill_and_replace(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = (self.start)();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Site {
    folder: tempfile::TempDir,
    fake: FakeGithub,
    repo: RepoFacts,
    servers: Vec<Process>,
    runners: Vec<Process>,
    urls: Vec<String>,
    http: reqwest::Client,
}

fn rivet(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rivet"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command.current_dir(folder).stdin(Stdio::null());
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log);
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Site {
    async fn new(kind: Kind, servers: usize, runners: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = FakeGithub::start().await;
        let repo = fake.repo("acme/app");
        let database = match fresh(kind, folder.path()).await {
            DatabaseUrl::Postgres(url) => url,
            DatabaseUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        };
        let mut site = Self {
            folder,
            fake,
            repo,
            servers: vec![],
            runners: vec![],
            urls: vec![],
            http: reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap(),
        };
        for number in 0..servers {
            site.add_server(number, &database);
        }
        for number in 0..runners {
            site.add_runner(number);
        }
        site
    }

    fn home(&self, name: &str) -> PathBuf {
        let home = self.folder.path().join(name);
        std::fs::create_dir_all(&home).unwrap();
        home
    }

    fn add_server(&mut self, number: usize, database: &str) {
        let home = self.home(&format!("server-{number}"));
        let url = format!("http://127.0.0.1:{}", free_port());
        let github = self.fake.config();
        let settings: Vec<(&str, String)> = vec![
            ("RIVET_DATABASE_URL", database.to_owned()),
            ("RIVET_DATA_DIR", home.display().to_string()),
            ("RIVET_LISTEN", url.trim_start_matches("http://").to_owned()),
            ("RIVET_SECRET_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned()),
            ("RIVET_ADMIN_TOKEN", ADMIN.to_owned()),
            ("RIVET_RUNNER_TOKEN", JOIN.to_owned()),
            ("RIVET_GITHUB_APP_ID", github.app_id.to_string()),
            ("RIVET_GITHUB_PRIVATE_KEY", github.private_key.expose_secret().to_owned()),
            ("RIVET_GITHUB_WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
            ("RIVET_GITHUB_API_URL", github.api_url.to_string()),
            ("RIVET_GITHUB_SERVER_URL", github.server_url.to_string()),
        ];
        self.urls.push(url);
        self.servers.push(Process::new(move || {
            let mut command = rivet(&home);
            command.arg("serve").envs(settings.iter().map(|(name, value)| (*name, value)));
            command.spawn().unwrap()
        }));
    }

    fn add_runner(&mut self, number: usize) {
        let home = self.home(&format!("runner-{number}"));
        let url = self.urls[number % self.urls.len()].clone();
        self.runners.push(Process::new(move || {
            let mut command = rivet(&home);
            command.args([
                "runner",
                "start",
                "--executor",
                "host",
                "--slots",
                "2",
                "--name",
                &format!("runner-{number}"),
            ]);
            command.env("RIVET_URL", &url).env("RIVET_RUNNER_TOKEN", JOIN).env("RIVET_DATA_DIR", &home);
            command.spawn().unwrap()
        }));
    }

    async fn ready(&self) {
        for url in &self.urls {
            self.until("the server is ready", || async {
                self.http.get(format!("{url}/readyz")).send().await.is_ok_and(|answer| answer.status().is_success())
            })
            .await;
        }
    }

    /// Waits for something that must happen, or fails with the servers' and runners' logs.
    async fn until<F: Future<Output = bool>>(&self, what: &str, done: impl Fn() -> F) {
        let begun = Instant::now();
        while !done().await {
            if begun.elapsed() > Duration::from_secs(300) {
                panic!("waited too long until {what}\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What GitHub shows, and the ends of all logs.
    fn logs(&self) -> String {
        let shas: BTreeSet<String> = self.fake.world().statuses.iter().map(|status| status.sha.clone()).collect();
        let mut all: String = shas.iter().map(|sha| format!("== {sha}\n{}\n", self.fake.checks(sha))).collect();
        for entry in std::fs::read_dir(self.folder.path()).unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path().join("log")).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            all += &format!("== {}\n", entry.file_name().display());
            all += &tail.into_iter().rev().map(|line| format!("{line}\n")).collect::<String>();
        }
        all
    }

    /// Pushes a commit, delivering to one server after the other until one accepts, as an operator's redelivery would.
    async fn push(&self, files: &[(&str, &str)]) -> String {
        let before = self.fake.git(&self.repo).find("heads/main");
        let sha = self.fake.commit(&self.repo, "main", files);
        let payload = self.fake.push_payload(&self.repo, "main", before.as_deref(), &sha).to_string();
        let hex = &sha[..32];
        let guid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        let signature = rivet::http::webhook::sign(WEBHOOK_SECRET.as_bytes(), payload.as_bytes());
        for attempt in 0..600 {
            let url = format!("{}/webhooks/github", self.urls[attempt % self.urls.len()]);
            let request =
                self.http.post(url).header("content-type", "application/json").header("x-github-event", "push");
            let request = request.header("x-github-delivery", &guid).header("x-hub-signature-256", &signature);
            match request.body(payload.clone()).send().await {
                Ok(answer) if answer.status().is_success() => return sha,
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        panic!("no server accepted the delivery\n{}", self.logs());
    }

    /// Runs as the API shows them, asked of any server that answers.
    async fn runs(&self) -> Vec<Value> {
        for url in &self.urls {
            let request = self.http.get(format!("{url}/api/v1/runs?limit=100")).bearer_auth(ADMIN);
            if let Ok(answer) = request.send().await
                && let Ok(list) = answer.json::<Value>().await
            {
                return list["items"].as_array().cloned().unwrap_or_default();
            }
        }
        vec![]
    }

    /// Whether every run is over and GitHub shows the outcome of every commit.
    async fn is_settled(&self, commits: &[String]) -> bool {
        let runs = self.runs().await;
        let over = |run: &Value| matches!(run["state"].as_str(), Some("completed" | "failed" | "cancelled"));
        if runs.len() < commits.len() || !runs.iter().all(over) {
            return false;
        }
        commits.iter().all(|sha| {
            let shown = self.fake.checks(sha);
            shown.contains("rivet/ci: success") && !shown.contains(": queued") && !shown.contains(": in_progress")
        })
    }
}

/// Two stages; each writes to the ledger when it begins and when it ends.
fn pipeline(ledger: &Path) -> String {
    let stage = |name: &str, after: &str| {
        format!(
            r#"{{ name = "{name}", {after} script = function(ctx)
                local line = ctx.event.sha .. " {name} " .. ctx.attempt
                process.run("echo begin " .. line .. " >> {ledger}; sleep 0.3; echo end " .. line .. " >> {ledger}")
            end }},"#,
            ledger = ledger.display()
        )
    };
    format!("return pipeline.define({{ stages = {{ {} {} }} }})\n", stage("build", ""), stage("test", ""))
}

/// What the ledger and the API say when all is over.
async fn check(site: &Site, ledger: &Path, commits: &[String]) {
    let runs = site.runs().await;
    let mut of_commit: BTreeMap<&str, usize> = BTreeMap::new();
    for run in &runs {
        *of_commit.entry(run["sha"].as_str().unwrap()).or_default() += 1;
        assert_eq!(run["state"], "completed", "{}", run["reason"]);
    }
    assert!(commits.iter().all(|sha| of_commit.get(sha.as_str()) == Some(&1)), "one run a push: {of_commit:?}");

    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(ledger).unwrap_or_default().lines() {
        *lines.entry(line.to_owned()).or_default() += 1;
    }
    let doubled: Vec<_> = lines.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "no attempt does a thing twice: {doubled:?}");
    for sha in commits {
        for stage in ["build", "test"] {
            let ended = lines.keys().filter(|line| line.starts_with(&format!("end {sha} {stage} "))).count();
            assert!(ended >= 1, "{stage} of {sha} was lost");
        }
    }
    site.fake.finish();
}

async fn storm(kind: Kind, servers: usize, runners: usize, pushes: usize) {
    let mut site = Site::new(kind, servers, runners).await;
    site.ready().await;
    let ledger = site.folder.path().join("ledger");
    let definition = pipeline(&ledger);
    let mut commits = vec![];
    for number in 0..pushes {
        let text = number.to_string();
        commits.push(site.push(&[(".rivet/ci.lua", &definition), ("number", &text)]).await);
        // One server after the other, and now and then a runner, dies in the middle of whatever it does.
        let server = number % servers;
        site.servers[server].kill_and_replace();
        if number % 3 == 2 {
            let runner = (number / 3) % runners;
            site.runners[runner].kill_and_replace();
        }
    }
    site.until("all is settled", || site.is_settled(&commits)).await;
    check(&site, &ledger, &commits).await;
}

#[test]
fn two_servers_and_four_runners_are_killed_again_and_again_on_postgres() {
    block_on(storm(Kind::Postgres, 2, 4, 9));
}

#[test]
fn the_one_server_and_its_runners_are_killed_again_and_again_on_sqlite() {
    block_on(storm(Kind::Sqlite, 1, 2, 6));
}
