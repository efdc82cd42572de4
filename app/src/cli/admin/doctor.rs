//! `rivet admin doctor`: looks at everything a server needs, and says what to do about what is wrong.

mod app;

use crate::cli::{Exit, Failure, output};
use crate::config::Config;
use crate::evaluator::Evaluator;
use crate::model::time::Timestamp;
use crate::store::{ConnectError, DatabaseUrl, Migrations, Store};
use pipelines_spec::evaluate::{Question, Request};
use pipelines_spec::trigger::{EventFacts, EventKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use url::Url;

/// Less free space than this is worth a word.
const LITTLE_SPACE: u64 = 1 << 30;
/// The oldest git whose `--end-of-options` and partial fetches work.
const OLDEST_GIT: (u32, u32) = (2, 24);
/// A clock that is off by more breaks the App's tokens.
const CLOCK_LIMIT: i64 = 30_000;

/// What one look found.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    level: Level,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Good,
    Warning,
    Trouble,
    Skipped,
}

impl Finding {
    fn new(what: &'static str, level: Level, detail: impl Into<String>) -> Self {
        Self { what, level, detail: detail.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Runs every look; settings that are wrong are one finding, and what does not need them is looked at all the same.
pub async fn run(config: Result<Config, Failure>, redeliver: bool, json: bool) -> Result<Exit, Failure> {
    let mut findings = vec![git(), evaluator().await];
    match config {
        Ok(config) => {
            findings.insert(0, Finding::new("settings", Level::Good, "every setting is understood"));
            findings.extend(database(&config.database).await);
            findings.push(disk(&config.data_dir));
            findings.push(key(&config));
            let (of_app, api) = app::look(&config, redeliver).await;
            findings.extend(of_app);
            findings.push(clock(api).await);
        }
        Err(failure) => findings.insert(0, Finding::new("settings", Level::Trouble, failure.message)),
    }
    let healthy = findings.iter().all(|f| f.level != Level::Trouble);
    if json {
        output::print_json(&serde_json::json!({ "healthy": healthy, "findings": findings }));
    } else {
        findings.iter().for_each(|finding| output::print_data(&shown(finding)));
    }
    Ok(if healthy { Exit::Done } else { Exit::Failed })
}

fn shown(finding: &Finding) -> String {
    let (sign, colour) = match finding.level {
        Level::Good => ("✓", output::colour("succeeded")),
        Level::Warning => ("!", output::colour("awaiting_approval")),
        Level::Trouble => ("✗", output::colour("failed")),
        Level::Skipped => ("-", output::colour("skipped")),
    };
    let mut lines = finding.detail.lines();
    let first = output::clean(lines.next().unwrap_or(""));
    let mut text = format!("{} {:13} {first}\n", colour.apply_to(sign), finding.what);
    for line in lines.chain(finding.hint.as_deref().unwrap_or("").lines()) {
        text.push_str(&format!("                {}\n", output::clean(line)));
    }
    text
}

fn git() -> Finding {
    let found = Command::new("git").arg("--version").output().ok().filter(|o| o.status.success());
    let Some(found) = found else {
        return Finding::new("git", Level::Trouble, "git cannot be run").hint("install it; Rivet fetches with it");
    };
    let text = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let mut numbers = text.split_whitespace().nth(2).unwrap_or("").split('.').map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < OLDEST_GIT {
        let (major, minor) = OLDEST_GIT;
        return Finding::new("git", Level::Trouble, text).hint(format!("Rivet needs at least {major}.{minor}"));
    }
    Finding::new("git", Level::Good, text)
}

async fn evaluator() -> Finding {
    let text = "return pipeline.define({ name = 'x', stages = { { name = 'a', script = function() end } } })";
    let request = Request {
        sources: [(".rivet/doctor.lua".to_owned(), text.to_owned())].into(),
        file: ".rivet/doctor.lua".to_owned(),
        event: event(),
        question: Question::Pipeline,
    };
    let started = Instant::now();
    let response = Evaluator::default().ask(&request).await;
    match response.answer {
        Some(_) => {
            let took = started.elapsed().as_secs_f64() * 1000.0;
            Finding::new(
                "evaluator",
                Level::Good,
                format!("evaluates a definition in a process of its own in {took:.1} ms"),
            )
        }
        None => {
            let problems: Vec<String> = response.problems.iter().map(ToString::to_string).collect();
            Finding::new("evaluator", Level::Trouble, problems.join("\n"))
        }
    }
}

fn event() -> EventFacts {
    EventFacts {
        name: EventKind::Manual,
        action: None,
        repo: "local/doctor".to_owned(),
        default_branch: "main".to_owned(),
        git_ref: "refs/heads/main".to_owned(),
        branch: Some("main".to_owned()),
        tag: None,
        sha: "0".repeat(40),
        before: None,
        forced: false,
        actor: "doctor".to_owned(),
        message: None,
        pull_request: None,
        dispatch_type: None,
        extra: BTreeMap::new(),
    }
}

async fn database(url: &DatabaseUrl) -> Vec<Finding> {
    let found = match Migrations::of(url).await {
        Ok(found) => found,
        Err(error) => {
            let trouble = Finding::new("database", Level::Trouble, format!("{url}: {error}"));
            return vec![trouble.hint("is the address right, and does the server answer? see RIVET_DATABASE_URL")];
        }
    };
    let migrations = match (found.unknown().as_slice(), found.pending().as_slice()) {
        ([], []) => Finding::new("migrations", Level::Good, "up to date"),
        ([], pending) => Finding::new("migrations", Level::Warning, format!("{pending:?} are to be applied"))
            .hint("a starting server applies them; or run `rivet admin migrate`"),
        (unknown, _) => Finding::new("migrations", Level::Trouble, format!("a newer rivet applied {unknown:?}"))
            .hint("run that version, or restore a backup made before it"),
    };
    vec![reachable(url, &found).await, migrations]
}

async fn reachable(url: &DatabaseUrl, found: &Migrations) -> Finding {
    if found.applied.is_empty() {
        return Finding::new("database", Level::Good, format!("{url}: empty; a starting server fills it"));
    }
    if !found.pending().is_empty() || !found.unknown().is_empty() {
        return Finding::new("database", Level::Good, format!("{url}: reachable"));
    }
    // Opening changes nothing now.
    match Store::open(url).await {
        Ok(store) => {
            store.close().await;
            Finding::new("database", Level::Good, format!("{url}: opens"))
        }
        Err(ConnectError::InUse(_)) => {
            Finding::new("database", Level::Good, format!("{url}: in use by a running rivet"))
        }
        Err(error) => Finding::new("database", Level::Trouble, format!("{url}: {error}")),
    }
}

fn disk(folder: &Path) -> Finding {
    let existing = folder.ancestors().find(|f| f.exists()).unwrap_or(folder);
    let facts = match nix::sys::statvfs::statvfs(existing) {
        Ok(facts) => facts,
        Err(error) => return Finding::new("disk", Level::Trouble, format!("{}: {error}", folder.display())),
    };
    #[expect(clippy::useless_conversion, reason = "the type differs between systems")]
    let free = u64::from(facts.blocks_available()).saturating_mul(facts.fragment_size());
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let detail = format!("{}: {:.1} GiB free", folder.display(), free as f64 / (1u64 << 30) as f64);
    if free < LITTLE_SPACE {
        return Finding::new("disk", Level::Warning, detail).hint("logs and the database need room; make some");
    }
    Finding::new("disk", Level::Good, detail)
}

fn key(config: &Config) -> Finding {
    match (&config.secret_key, &config.database) {
        (Some(_), _) => Finding::new("key", Level::Good, "a key for secrets at rest is set"),
        (None, DatabaseUrl::Sqlite(_)) => Finding::new(
            "key",
            Level::Good,
            "the key for secrets at rest is made in the data directory at the first start",
        ),
        (None, DatabaseUrl::Postgres(_)) => Finding::new("key", Level::Trouble, "RIVET_SECRET_KEY is not set")
            .hint("with Postgres every instance needs the same one: openssl rand -base64 32"),
    }
}

/// Compares this clock with GitHub's, the only one that matters to it.
async fn clock(api: Option<Url>) -> Finding {
    let Some(api) = api else {
        return Finding::new("clock", Level::Skipped, "compared with GitHub's, once an App is set");
    };
    let client = reqwest::Client::new();
    let answer = client.head(api.clone()).timeout(std::time::Duration::from_secs(10)).send().await;
    let date = answer.ok().and_then(|a| {
        let text = a.headers().get("date")?.to_str().ok()?.to_owned();
        chrono::DateTime::parse_from_rfc2822(&text).ok()
    });
    let Some(date) = date else {
        return Finding::new("clock", Level::Skipped, format!("{api} does not tell the time"));
    };
    let off = Timestamp::now().since(Timestamp(date.timestamp_millis()));
    let detail = format!("{} from {api}'s", output::duration(off.abs()));
    if off.abs() > CLOCK_LIMIT {
        return Finding::new("clock", Level::Trouble, detail)
            .hint("set this machine's clock; GitHub refuses tokens from another time");
    }
    Finding::new("clock", Level::Good, detail)
}
