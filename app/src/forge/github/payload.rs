//! What a delivery means: GitHub's payloads read leniently, and turned into [`Event`]s.
//!
//! Only fields that are used are read, every one may be missing, and a value GitHub adds tomorrow is no error: only what
//! could be used to do harm or would make a run impossible is refused, as a [`FieldProblem`].

mod standing;

use crate::forge::comments::CommentEvent;
use crate::forge::people::Account;
use crate::forge::{Event, RepoFacts, Trigger};
use crate::model::ids::ForgeKind;
use pipelines_spec::protocol::Trust;
use pipelines_spec::trigger::{EventFacts, EventKind, PullRequestFacts};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Characters of a title that are kept.
pub const TITLE_CHARS: usize = 200;
/// Bytes of a commit message that are kept: enough for every trailer anybody reads.
const MESSAGE_BYTES: usize = 16 << 10;
/// Bytes of a comment that are read.
const COMMENT_BYTES: usize = 64 << 10;

/// A field that cannot be what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {must}.")]
pub struct FieldProblem {
    /// Which, such as `repository.id`.
    pub field: String,
    /// What it must be, such as "must be a positive 63-bit integer".
    pub must: String,
}

impl FieldProblem {
    fn new(field: &str, must: &str) -> Self {
        Self { field: field.to_owned(), must: must.to_owned() }
    }
}

type Parsed<T> = Result<T, FieldProblem>;

/// What GitHub's delivery of event `name` with these bytes means.
pub fn event(name: &str, payload: &[u8]) -> Parsed<Event> {
    event_of(ForgeKind::Github, name, payload, "")
}

/// The same for any forge that speaks GitHub's payloads. `guid` is the delivery's id: it tells triggers apart whose
/// payload has nothing of its own that would.
pub fn event_of(forge: ForgeKind, name: &str, payload: &[u8], guid: &str) -> Parsed<Event> {
    if !is_used(name) {
        return Ok(unused(name));
    }
    let payload = read(payload)?;
    let source = Source { forge, payload: &payload, guid };
    match name {
        "push" => source.push(),
        "pull_request" => source.pull_request(),
        "merge_group" => source.merge_group(),
        "check_run" => source.check_run(),
        "check_suite" => source.check_suite(),
        "installation" => source.installation(),
        "installation_repositories" => source.installation_repositories(),
        "repository" => source.repository_event(),
        "issue_comment" => source.issue_comment(),
        "delete" => source.deletion(),
        _ => source.repository_dispatch(),
    }
}

/// Whether anything is done about deliveries of this event.
pub fn is_used(name: &str) -> bool {
    matches!(
        name,
        "push"
            | "pull_request"
            | "merge_group"
            | "check_run"
            | "check_suite"
            | "installation"
            | "installation_repositories"
            | "repository"
            | "repository_dispatch"
            | "issue_comment"
            | "delete"
    )
}

/// The installation a payload names, whatever its event.
pub fn installation_id(event: &Event) -> Option<i64> {
    match event {
        Event::Trigger(trigger) => trigger.repo.installation_id,
        Event::PullRequestClosed { repo, .. }
        | Event::Repository(repo)
        | Event::CheckAction { repo, .. }
        | Event::SuiteRerequested { repo, .. }
        | Event::RepositoryStands { repo, .. }
        | Event::RefDeleted { repo, .. }
        | Event::MergeGroupDestroyed { repo, .. } => repo.installation_id,
        Event::Comment(comment) => comment.repo.installation_id,
        Event::Installation(_) | Event::Ignored { .. } => None,
    }
}

/// Text as it may be stored and shown: without NUL, which Postgres cannot hold.
pub fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A title: one line of at most [`TITLE_CHARS`] characters.
pub fn title(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(TITLE_CHARS).collect();
    if short.len() < line.len() {
        short.pop();
        short.push('…');
    }
    clean(&short)
}

/// Whether `text` is a commit's id: 40 or 64 lower-case hex digits.
pub fn is_sha(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn unused(what: &str) -> Event {
    // The name comes from a header: it is data, and an unreasonable one is cut.
    Event::Ignored { reason: format!("event {} is not used", title(what)) }
}

fn ignored(reason: impl Into<String>) -> Parsed<Event> {
    Ok(Event::Ignored { reason: reason.into() })
}

/// Reads the payload; a field of another type than GitHub's is named.
fn read(bytes: &[u8]) -> Parsed<Payload> {
    if let Ok(payload) = serde_json::from_slice(bytes) {
        return Ok(payload);
    }
    // Only now pay for knowing where.
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let result: Result<Payload, _> = serde_path_to_error::deserialize(&mut json);
    result.map_err(|error| {
        let path = error.path().to_string();
        let must = if path == "." { "must be a JSON object" } else { expected(&path) };
        FieldProblem::new(if path == "." { "payload" } else { &path }, must)
    })
}

fn expected(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "id" | "number" => POSITIVE,
        "after" | "before" | "sha" | "head_sha" | "base_sha" => SHA,
        _ => "is of another type than GitHub documents",
    }
}

const POSITIVE: &str = "must be a positive 63-bit integer";
const SHA: &str = "must be 40 or 64 lower-case hex digits";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Payload {
    action: Option<String>,
    repository: Option<Repository>,
    sender: Option<User>,
    installation: Option<Installation>,
    // push, delete
    r#ref: Option<String>,
    ref_type: Option<String>,
    before: Option<String>,
    after: Option<String>,
    deleted: Option<bool>,
    forced: Option<bool>,
    head_commit: Option<HeadCommit>,
    pusher: Option<User>,
    // the others
    pull_request: Option<PullRequest>,
    changes: Option<Changes>,
    label: Option<Label>,
    merge_group: Option<MergeGroup>,
    reason: Option<Value>,
    check_run: Option<CheckRun>,
    check_suite: Option<CheckSuite>,
    requested_action: Option<RequestedAction>,
    repositories: Option<Vec<Repository>>,
    repositories_added: Option<Vec<Repository>>,
    repositories_removed: Option<Vec<Repository>>,
    issue: Option<Issue>,
    comment: Option<CommentBody>,
    branch: Option<String>,
    client_payload: Option<Map<String, Value>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Repository {
    id: Option<i64>,
    name: Option<String>,
    full_name: Option<String>,
    owner: Option<User>,
    default_branch: Option<String>,
    private: Option<bool>,
    /// Seconds in a push, RFC 3339 elsewhere.
    pushed_at: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    login: Option<String>,
    name: Option<String>,
    id: Option<i64>,
    r#type: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Issue {
    number: Option<i64>,
    state: Option<String>,
    pull_request: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CommentBody {
    id: Option<i64>,
    body: Option<String>,
    user: Option<User>,
    created_at: Option<String>,
    updated_at: Option<String>,
    performed_via_github_app: Option<App>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Installation {
    id: Option<i64>,
    account: Option<User>,
    suspended_at: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HeadCommit {
    id: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PullRequest {
    number: Option<i64>,
    title: Option<String>,
    user: Option<User>,
    draft: Option<bool>,
    merged: Option<bool>,
    updated_at: Option<String>,
    labels: Option<Vec<Label>>,
    head: Option<Side>,
    base: Option<Side>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Side {
    r#ref: Option<String>,
    sha: Option<String>,
    repo: Option<Repository>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Changes {
    base: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Label {
    name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MergeGroup {
    head_sha: Option<String>,
    head_ref: Option<String>,
    base_sha: Option<String>,
    base_ref: Option<String>,
    head_commit: Option<HeadCommit>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CheckRun {
    external_id: Option<String>,
    head_sha: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CheckSuite {
    head_sha: Option<String>,
    app: Option<App>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct App {
    id: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RequestedAction {
    identifier: Option<String>,
}

/// One payload on its way to an event.
struct Source<'a> {
    forge: ForgeKind,
    payload: &'a Payload,
    guid: &'a str,
}

impl Source<'_> {
    fn push(&self) -> Parsed<Event> {
        let payload = self.payload;
        let repo = self.repo()?;
        let after = sha(payload.after.as_deref(), "after")?;
        let before = match payload.before.as_deref() {
            None => None,
            Some(text) => Some(sha(Some(text), "before")?).filter(|sha| !is_zero(sha)),
        };
        let git_ref = clean(payload.r#ref.as_deref().unwrap_or_default());
        let branch = git_ref.strip_prefix("refs/heads/").filter(|b| !b.is_empty()).map(str::to_owned);
        let tag = git_ref.strip_prefix("refs/tags/").filter(|t| !t.is_empty()).map(str::to_owned);
        if branch.is_none() && tag.is_none() {
            return match git_ref.starts_with("refs/") {
                true => ignored(format!("{} is neither a branch nor a tag", title(&git_ref))),
                false => Err(FieldProblem::new("ref", "must be a full ref name")),
            };
        }
        if payload.deleted == Some(true) || is_zero(&after) {
            return ignored(if tag.is_some() { "tag deleted" } else { "branch deleted" });
        }
        let head = payload.head_commit.as_ref();
        // An annotated tag's `after` is the tag object; the commit it stands for is the head commit.
        let commit = match head.and_then(|h| h.id.as_deref()).filter(|_| tag.is_some()) {
            Some(id) => sha(Some(id), "head_commit.id")?,
            None => after.clone(),
        };
        // A forced push back to an earlier commit repeats ref, before and after, but not the time.
        let at = payload.repository.as_ref().and_then(|r| r.pushed_at.as_ref()).map(Value::to_string);
        let source_key = format!(
            "push:{git_ref}:{}:{after}:{}",
            before.as_deref().unwrap_or("new"),
            at.as_deref().unwrap_or_default().trim_matches('"')
        );
        let facts = EventFacts {
            branch,
            tag,
            before,
            forced: payload.forced == Some(true),
            message: message(head),
            ..self.facts(EventKind::Push, &repo, git_ref, commit)
        };
        Ok(self.trigger(repo, facts, source_key, None))
    }

    fn pull_request(&self) -> Parsed<Event> {
        let action = self.action();
        let retargeted = self.payload.changes.as_ref().is_some_and(|c| c.base.is_some());
        let known = matches!(
            action,
            "opened"
                | "synchronize"
                | "reopened"
                | "ready_for_review"
                | "converted_to_draft"
                | "labeled"
                | "unlabeled"
                | "edited"
                | "closed"
        );
        if !known || (action == "edited" && !retargeted) {
            return Ok(unused(&format!("pull_request.{action}")));
        }
        let repo = self.repo()?;
        let pull = self.payload.pull_request.as_ref();
        let pull = pull.ok_or_else(|| FieldProblem::new("pull_request", "must be present"))?;
        let number = positive(pull.number, "pull_request.number")?;
        if action == "closed" {
            return Ok(Event::PullRequestClosed { repo, number, merged: pull.merged == Some(true) });
        }
        let distrust = self.distrust(pull);
        let pull_facts = pull_request_facts(pull, number, distrust.is_some())?;
        let head_sha = pull_facts.head_sha.clone();
        let updated = pull.updated_at.as_deref().unwrap_or_default();
        let source_key = clean(&format!("pull_request:{number}:{action}:{updated}:{head_sha}"));
        let mut facts = EventFacts {
            action: Some(action.to_owned()),
            branch: Some(pull_facts.head.clone()),
            pull_request: Some(pull_facts),
            ..self.facts(EventKind::PullRequest, &repo, format!("refs/pull/{number}/head"), head_sha)
        };
        if let Some(label) = self.payload.label.as_ref().and_then(|l| l.name.as_deref()) {
            facts.extra.insert("label".to_owned(), clean(label).into());
        }
        Ok(self.trigger(repo, facts, source_key, distrust))
    }

    /// Why a pull request's head is not to be trusted: it is in another repository, in none any more, or nobody can tell.
    fn distrust(&self, pull: &PullRequest) -> Option<String> {
        let head = pull.head.as_ref().and_then(|side| side.repo.as_ref());
        let own = self.payload.repository.as_ref().and_then(|r| r.id);
        let base = pull.base.as_ref().and_then(|side| side.repo.as_ref()).and_then(|r| r.id).or(own);
        match head {
            None => Some("head repository is gone".to_owned()),
            Some(head) if head.id.is_some() && head.id == base && base == own => None,
            Some(head) => {
                let name = clean(head.full_name.as_deref().unwrap_or("another repository"));
                Some(format!("the head is in {name}, a fork"))
            }
        }
    }

    fn merge_group(&self) -> Parsed<Event> {
        if self.action() == "destroyed" {
            return self.merge_group_destroyed();
        }
        if self.action() != "checks_requested" {
            return Ok(unused(&format!("merge_group.{}", self.action())));
        }
        let repo = self.repo()?;
        let group = self.payload.merge_group.as_ref();
        let group = group.ok_or_else(|| FieldProblem::new("merge_group", "must be present"))?;
        let head_sha = sha(group.head_sha.as_deref(), "merge_group.head_sha")?;
        let base_sha = sha(group.base_sha.as_deref(), "merge_group.base_sha")?;
        let head_ref = clean(group.head_ref.as_deref().unwrap_or_default());
        let base_ref = clean(group.base_ref.as_deref().unwrap_or_default());
        let extra = [("base_ref", base_ref), ("base_sha", base_sha.clone())];
        let source_key = format!("merge_group:{head_ref}:{head_sha}");
        let facts = EventFacts {
            action: Some("checks_requested".to_owned()),
            branch: head_ref.strip_prefix("refs/heads/").map(str::to_owned),
            before: Some(base_sha),
            message: message(group.head_commit.as_ref()),
            extra: extra.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect(),
            ..self.facts(EventKind::MergeGroup, &repo, head_ref, head_sha)
        };
        Ok(self.trigger(repo, facts, source_key, None))
    }

    fn check_run(&self) -> Parsed<Event> {
        let action = match self.action() {
            "rerequested" => "rerequested".to_owned(),
            "requested_action" => {
                let pressed = self.payload.requested_action.as_ref().and_then(|a| a.identifier.as_deref());
                clean(pressed.ok_or_else(|| FieldProblem::new("requested_action.identifier", "must be present"))?)
            }
            other => return Ok(unused(&format!("check_run.{other}"))),
        };
        let repo = self.repo()?;
        let check = self.payload.check_run.as_ref();
        match check.and_then(|c| c.external_id.as_deref()) {
            Some(id) if !id.is_empty() => {
                let actor = account(self.payload.sender.as_ref());
                let sha = check.and_then(|c| c.head_sha.as_deref()).map(|text| sha(Some(text), "check_run.head_sha"));
                let sha = sha.transpose()?;
                Ok(Event::CheckAction { repo, external_id: clean(id), sha, action, actor })
            }
            _ => ignored("the check run is not one of ours"),
        }
    }

    fn check_suite(&self) -> Parsed<Event> {
        if self.action() != "rerequested" {
            return Ok(unused(&format!("check_suite.{}", self.action())));
        }
        let repo = self.repo()?;
        let suite = self.payload.check_suite.as_ref();
        let head_sha = sha(suite.and_then(|s| s.head_sha.as_deref()), "check_suite.head_sha")?;
        let app_id = suite.and_then(|s| s.app.as_ref()).and_then(|a| a.id);
        Ok(Event::SuiteRerequested { repo, sha: head_sha, app_id, actor: account(self.payload.sender.as_ref()) })
    }

    /// A dispatch names a branch and no commit: whoever handles it resolves the ref.
    fn repository_dispatch(&self) -> Parsed<Event> {
        let repo = self.repo()?;
        let kind = self.action();
        if kind.is_empty() || kind.chars().count() > 100 {
            return Err(FieldProblem::new("action", "must be an event type of 1 to 100 characters"));
        }
        let branch = clean(self.payload.branch.as_deref().unwrap_or(&repo.default_branch));
        let sent = self.payload.client_payload.clone().unwrap_or_default();
        is_small(&sent)?;
        let extra = BTreeMap::from([("client_payload".to_owned(), Value::Object(sent))]);
        // Two equal dispatches are two wishes; only the delivery's id tells a repeat of one.
        let told_apart = if self.guid.is_empty() { digest(&extra) } else { self.guid.to_owned() };
        let source_key = clean(&format!("repository_dispatch:{kind}:{told_apart}"));
        let facts = EventFacts {
            branch: Some(branch.clone()),
            dispatch_type: Some(clean(kind)),
            extra,
            ..self.facts(EventKind::RepositoryDispatch, &repo, format!("refs/heads/{branch}"), String::new())
        };
        Ok(self.trigger(repo, facts, source_key, None))
    }

    fn issue_comment(&self) -> Parsed<Event> {
        // An edited comment is never a command: what was reviewed with it is not what it says now.
        if self.action() != "created" {
            return Ok(unused(&format!("issue_comment.{}", self.action())));
        }
        let repo = self.repo()?;
        let issue = self.payload.issue.as_ref().ok_or_else(|| FieldProblem::new("issue", "must be present"))?;
        let comment = self.payload.comment.as_ref().ok_or_else(|| FieldProblem::new("comment", "must be present"))?;
        let body = comment.body.as_deref().unwrap_or_default();
        let text = |text: Option<&String>| clean(text.map(String::as_str).unwrap_or_default());
        Ok(Event::Comment(Box::new(CommentEvent {
            repo,
            id: positive(comment.id, "comment.id")?,
            number: positive(issue.number, "issue.number")?,
            on_pull_request: issue.pull_request.as_ref().is_some_and(|pull| !pull.is_null()),
            open: issue.state.as_deref() == Some("open"),
            author: account(comment.user.as_ref()),
            body: clean(&body[..body.floor_char_boundary(COMMENT_BYTES)]),
            created_at: text(comment.created_at.as_ref()),
            updated_at: text(comment.updated_at.as_ref()),
            via_app: comment.performed_via_github_app.as_ref().and_then(|app| app.id),
        })))
    }

    fn trigger(&self, repo: RepoFacts, facts: EventFacts, source_key: String, distrust: Option<String>) -> Event {
        let trust = if distrust.is_some() { Trust::Untrusted } else { Trust::Trusted };
        let author = self.payload.pull_request.as_ref().map(|pull| account(pull.user.as_ref()));
        let actor = account(self.payload.sender.as_ref());
        Event::Trigger(Box::new(Trigger { repo, facts, source_key, trust, trust_reason: distrust, actor, author }))
    }

    fn action(&self) -> &str {
        self.payload.action.as_deref().unwrap_or_default()
    }

    fn actor(&self) -> String {
        let sender = self.payload.sender.as_ref().and_then(|u| u.login.as_deref());
        let pusher = self.payload.pusher.as_ref().and_then(|u| u.name.as_deref());
        clean(sender.or(pusher).unwrap_or("ghost"))
    }

    fn account(&self) -> String {
        let account = self.payload.installation.as_ref().and_then(|i| i.account.as_ref());
        clean(account.and_then(|a| a.login.as_deref()).unwrap_or_default())
    }

    fn installation_id(&self) -> Option<i64> {
        self.payload.installation.as_ref().and_then(|i| i.id).filter(|id| *id > 0)
    }

    fn repo(&self) -> Parsed<RepoFacts> {
        let missing = Repository::default();
        self.repo_facts(self.payload.repository.as_ref().unwrap_or(&missing), "repository")
    }

    fn listed(&self, repositories: Option<&Vec<Repository>>) -> Parsed<Vec<RepoFacts>> {
        repositories.into_iter().flatten().map(|r| self.repo_facts(r, "repositories")).collect()
    }

    fn repo_facts(&self, repository: &Repository, field: &str) -> Parsed<RepoFacts> {
        let forge_id = positive(repository.id, &format!("{field}.id"))?;
        let full_name = repository.full_name.as_deref().unwrap_or_default();
        let (full_owner, short) = full_name.split_once('/').unwrap_or_default();
        let login = repository.owner.as_ref().and_then(|o| o.login.as_deref().or(o.name.as_deref()));
        let (owner, name) = (login.unwrap_or(full_owner), repository.name.as_deref().unwrap_or(short));
        if !is_name(owner) || !is_name(name) {
            return Err(FieldProblem::new(&format!("{field}.full_name"), "must be OWNER/NAME"));
        }
        Ok(RepoFacts {
            forge: self.forge,
            forge_id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            default_branch: clean(repository.default_branch.as_deref().unwrap_or_default()),
            private: repository.private.unwrap_or(true),
            installation_id: self.installation_id(),
        })
    }

    fn facts(&self, name: EventKind, repo: &RepoFacts, git_ref: String, sha: String) -> EventFacts {
        EventFacts {
            name,
            action: None,
            repo: repo.full_name(),
            default_branch: repo.default_branch.clone(),
            git_ref,
            branch: None,
            tag: None,
            sha,
            before: None,
            forced: false,
            actor: self.actor(),
            message: None,
            pull_request: None,
            dispatch_type: None,
            extra: BTreeMap::new(),
        }
    }
}

/// A user of a payload; one GitHub does not name is the ghost.
fn account(user: Option<&User>) -> Account {
    let Some(user) = user else { return Account::ghost() };
    let login = clean(user.login.as_deref().unwrap_or("ghost"));
    let is_bot = user.r#type.as_deref() == Some("Bot") || login.ends_with("[bot]");
    Account { login, id: user.id.unwrap_or_default(), is_bot }
}

fn pull_request_facts(pull: &PullRequest, number: i64, fork: bool) -> Parsed<PullRequestFacts> {
    let text = |text: Option<&str>| clean(text.unwrap_or_default());
    let (head, base) = (pull.head.as_ref(), pull.base.as_ref());
    let labels = pull.labels.iter().flatten().filter_map(|label| label.name.as_deref());
    Ok(PullRequestFacts {
        number,
        title: title(pull.title.as_deref().unwrap_or_default()),
        author: text(pull.user.as_ref().and_then(|u| u.login.as_deref())),
        base: text(base.and_then(|b| b.r#ref.as_deref())),
        base_sha: sha(base.and_then(|b| b.sha.as_deref()), "pull_request.base.sha")?,
        head: text(head.and_then(|h| h.r#ref.as_deref())),
        head_sha: sha(head.and_then(|h| h.sha.as_deref()), "pull_request.head.sha")?,
        merge_sha: None,
        draft: pull.draft == Some(true),
        fork,
        labels: labels.map(clean).collect(),
    })
}

fn message(commit: Option<&HeadCommit>) -> Option<String> {
    let text = commit?.message.as_deref()?;
    Some(clean(&text[..text.floor_char_boundary(MESSAGE_BYTES)]))
}

fn positive(number: Option<i64>, field: &str) -> Parsed<i64> {
    number.filter(|n| *n > 0).ok_or_else(|| FieldProblem::new(field, POSITIVE))
}

fn sha(text: Option<&str>, field: &str) -> Parsed<String> {
    match text {
        Some(text) if is_sha(text) => Ok(text.to_owned()),
        _ => Err(FieldProblem::new(field, SHA)),
    }
}

fn is_zero(sha: &str) -> bool {
    sha.bytes().all(|b| b == b'0')
}

/// Owners and repositories become parts of addresses and paths, so nothing but what GitHub allows passes.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 100 && text.bytes().all(plain) && !text.bytes().all(|b| b == b'.')
}

/// GitHub's own limits of a dispatch's payload: nothing it would have delivered is beyond them.
fn is_small(sent: &Map<String, Value>) -> Parsed<()> {
    if sent.len() > 10 {
        return Err(FieldProblem::new("client_payload", "must have at most 10 keys"));
    }
    let text = serde_json::to_string(sent).unwrap_or_default();
    match text.chars().count() > 65_535 {
        true => Err(FieldProblem::new("client_payload", "must be at most 65535 characters as JSON")),
        false => Ok(()),
    }
}

fn digest(extra: &BTreeMap<String, Value>) -> String {
    let text = serde_json::to_string(extra).unwrap_or_default();
    hex::encode(Sha256::digest(text.as_bytes()))
}
