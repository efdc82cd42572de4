//! `post-receive`: what git runs after a push, in the pusher's own process. It sends a delivery of GitHub's shape for each
//! branch and tag, tells the pusher where the runs are, and with `git push -o wait` follows them to their end.
//!
//! git has taken the push by then: a hook can say that a run failed, it cannot refuse the push for it.

use super::repositories::HookTarget;
use super::spool::{self, Spooled};
use crate::forge::RepoFacts;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file beside a repository's hook that holds what the hook needs to know.
const FILE: &str = "rivet-hook.json";
/// How long one request may take.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// How long the hook waits for the runs of a push to be known, so that it can print their addresses.
const DECISION_TIME: Duration = Duration::from_secs(5);
/// Between two looks at a run that is followed.
const LOOK: Duration = Duration::from_millis(250);

/// What the hook of one repository needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub struct HookFile {
    url: String,
    secret_file: PathBuf,
    program: PathBuf,
    root: PathBuf,
    repo_id: i64,
    owner: String,
    name: String,
}

impl HookFile {
    pub(super) fn new(repo: &RepoFacts, target: &HookTarget, root: &Path) -> Self {
        Self {
            url: target.url.clone(),
            secret_file: target.secret_file.clone(),
            program: target.program.clone(),
            root: std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned()),
            repo_id: repo.forge_id,
            owner: repo.owner.clone(),
            name: repo.name.clone(),
        }
    }

    /// Writes the file and the hook, in place of whatever an earlier start left there.
    pub(super) fn install(&self, folder: &Path) -> std::io::Result<()> {
        write_whole(&folder.join(FILE), &serde_json::to_vec_pretty(self)?, 0o600)?;
        let hooks = folder.join("hooks");
        std::fs::create_dir_all(&hooks)?;
        let program = quote(&self.program.display().to_string());
        let script = format!(
            "#!/bin/sh\n# Written by rivet at every start: it tells the server of this push.\nexec {program} hook post-receive\n"
        );
        write_whole(&hooks.join("post-receive"), script.as_bytes(), 0o755)
    }
}

fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let half = path.with_extension("new");
    std::fs::write(&half, bytes)?;
    std::fs::set_permissions(&half, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(half, path)
}

/// One word for a shell, whatever is in it.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// One ref a push changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Update {
    before: String,
    after: String,
    name: String,
}

/// The hook: reads what was pushed from standard input. Answers false where a followed run did not succeed.
pub fn post_receive() -> Result<bool, String> {
    let folder = std::env::var_os("GIT_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let file = std::fs::read(folder.join(FILE)).map_err(|e| format!("{FILE}: {e}"))?;
    let hook: HookFile = serde_json::from_slice(&file).map_err(|e| format!("{FILE}: {e}"))?;
    let wait = push_options().iter().any(|option| option == "wait");
    let mut ids = vec![];
    for update in updates(std::io::stdin().lock()) {
        if let Some(payload) = payload(&hook, &folder, &update)
            && let Some(id) = hook.deliver("push", &payload)
        {
            ids.push((update.name, id));
        }
    }
    let mut fine = true;
    for (name, id) in ids {
        fine &= hook.tell(&name, &id, wait);
    }
    Ok(fine)
}

/// `git push -o TEXT`, as git hands it to hooks.
fn push_options() -> Vec<String> {
    let count: usize = std::env::var("GIT_PUSH_OPTION_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    (0..count.min(64)).filter_map(|n| std::env::var(format!("GIT_PUSH_OPTION_{n}")).ok()).collect()
}

fn updates(input: impl std::io::BufRead) -> Vec<Update> {
    let update = |line: String| {
        let mut words = line.splitn(3, ' ');
        let (before, after, name) = (words.next()?, words.next()?, words.next()?);
        Some(Update { before: before.to_owned(), after: after.to_owned(), name: name.to_owned() })
    };
    input.lines().map_while(Result::ok).filter_map(update).collect()
}

/// GitHub's `push`, with the fields that are read.
fn payload(hook: &HookFile, folder: &Path, update: &Update) -> Option<Value> {
    let zero = |sha: &str| sha.bytes().all(|b| b == b'0');
    if !update.name.starts_with("refs/heads/") && !update.name.starts_with("refs/tags/") {
        return None;
    }
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").arg("--git-dir").arg(folder).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    };
    let deleted = zero(&update.after);
    let head = match deleted {
        true => Value::Null,
        false => {
            let text = git(&["show", "-s", "--format=%H%n%an%n%ae%n%cI%n%B", &format!("{}^{{commit}}", update.after)])?;
            let mut lines = text.splitn(5, '\n');
            let mut line = || lines.next().unwrap_or_default().to_owned();
            let (id, name, email, time, message) = (line(), line(), line(), line(), line());
            json!({"id": id, "message": message, "timestamp": time, "author": {"name": name, "email": email}})
        }
    };
    let created = zero(&update.before);
    let forced = !created && !deleted && git(&["merge-base", "--is-ancestor", &update.before, &update.after]).is_none();
    let default_branch = git(&["symbolic-ref", "--short", "HEAD"]).unwrap_or_else(|| "main".to_owned());
    let pusher = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "local".to_owned());
    let now = chrono::Utc::now().timestamp_millis();
    Some(json!({
        "ref": update.name,
        "before": update.before,
        "after": update.after,
        "created": created,
        "deleted": deleted,
        "forced": forced,
        "head_commit": head,
        "repository": {
            "id": hook.repo_id,
            "name": hook.name,
            "full_name": format!("{}/{}", hook.owner, hook.name),
            "owner": {"login": hook.owner},
            "default_branch": default_branch,
            "private": true,
            "pushed_at": now,
        },
        "pusher": {"name": pusher},
        "sender": {"login": pusher},
    }))
}

/// What [`crate::http::local`] answers about a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Whether it is decided about.
    pub decided: bool,
    /// Decisions that started nothing: the pipeline (or none) and the sentence.
    pub others: Vec<(Option<String>, String)>,
    /// The runs.
    pub runs: Vec<FollowedRun>,
}

/// One run of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedRun {
    /// Its pipeline.
    pub pipeline: String,
    /// Its number.
    pub number: i64,
    /// Its state.
    pub state: String,
    /// Why it is in that state.
    pub reason: String,
    /// Whether it ended.
    pub ended: bool,
    /// Its page.
    pub url: String,
    /// Its stages: name and state.
    pub stages: Vec<(String, String)>,
}

impl HookFile {
    /// Sends a delivery and answers its id; keeps it for later where no server takes it.
    fn deliver(&self, event: &str, payload: &Value) -> Option<String> {
        let guid = uuid();
        let body = payload.to_string();
        let outcome =
            self.post("/webhooks/local", body.as_bytes(), &[("X-GitHub-Event", event), ("X-GitHub-Delivery", &guid)]);
        match outcome {
            Ok((200..=299, _)) => Some(guid),
            Ok((status @ 400..=499, answer)) => {
                let detail: Value = serde_json::from_slice(&answer).unwrap_or_default();
                say(&format!(
                    "the server refused to hear of this push ({status}): {}",
                    detail["detail"].as_str().unwrap_or("no reason given")
                ));
                None
            }
            Ok((status, _)) => self.keep(event, guid, body, &format!("it answered {status}")),
            Err(error) => self.keep(event, guid, body, &error),
        }
    }

    fn keep(&self, event: &str, guid: String, payload: String, why: &str) -> Option<String> {
        say(&format!("THE RIVET SERVER AT {} DID NOT TAKE THIS PUSH ({why}).", self.url));
        match spool::keep(&self.root, &Spooled { guid, event: event.to_owned(), payload }) {
            Ok(()) => say("The push itself is fine; its pipelines start when the server is back."),
            Err(error) => say(&format!("It could not be kept for later either ({error}); push again when it is back.")),
        }
        None
    }

    /// Prints where the runs are; with `wait` also what becomes of them. Answers false where one did not succeed.
    fn tell(&self, name: &str, id: &str, wait: bool) -> bool {
        let begun = Instant::now();
        let followed = loop {
            match self.follow(id) {
                Ok(followed) if followed.decided => break followed,
                Ok(_) if begun.elapsed() < DECISION_TIME => std::thread::sleep(Duration::from_millis(20)),
                Ok(_) => {
                    say(&format!("{name}: taken; Rivet has not decided about it yet, see {}", self.url));
                    return true;
                }
                Err(error) => {
                    say(&format!("{name}: taken; what became of it is not known ({error})"));
                    return true;
                }
            }
        };
        for (pipeline, reason) in &followed.others {
            say(&format!("{}: {reason}", pipeline.as_deref().unwrap_or(name)));
        }
        for run in &followed.runs {
            say(&format!("{} #{}: {}", run.pipeline, run.number, run.url));
        }
        !wait || self.wait(id, followed)
    }

    fn wait(&self, id: &str, mut last: Followed) -> bool {
        let mut told: Vec<(String, String)> = vec![];
        loop {
            for run in &last.runs {
                for (stage, state) in &run.stages {
                    let line = (format!("{} / {stage}", run.pipeline), state.clone());
                    let worth = !matches!(state.as_str(), "pending" | "queued");
                    if worth && !told.contains(&line) {
                        say(&format!("  {}: {}", line.0, line.1));
                        told.push(line);
                    }
                }
            }
            if last.runs.iter().all(|run| run.ended) {
                break;
            }
            std::thread::sleep(LOOK);
            match self.follow(id) {
                Ok(followed) => last = followed,
                Err(error) => {
                    say(&format!("the server is gone ({error}); the runs go on when it is back"));
                    return false;
                }
            }
        }
        for run in &last.runs {
            say(&format!("{} #{} {}: {} {}", run.pipeline, run.number, run.state.to_uppercase(), run.reason, run.url));
        }
        last.runs.iter().all(|run| run.state == "completed")
    }

    fn follow(&self, id: &str) -> Result<Followed, String> {
        let body = json!({ "delivery": id }).to_string();
        match self.post("/webhooks/local/follow", body.as_bytes(), &[])? {
            (200, answer) => serde_json::from_slice(&answer).map_err(|e| e.to_string()),
            (status, _) => Err(format!("the server answered {status}")),
        }
    }

    /// One signed POST. The server is this machine's own, so plain HTTP/1.1 with nothing kept open is all it takes.
    fn post(&self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Result<(u16, Vec<u8>), String> {
        let secret =
            std::fs::read_to_string(&self.secret_file).map_err(|e| format!("{}: {e}", self.secret_file.display()))?;
        let host = self.url.strip_prefix("http://").unwrap_or(&self.url).trim_end_matches('/');
        let address = host.to_socket_addrs().map_err(|e| e.to_string())?.next().ok_or("its address is not known")?;
        let mut stream = TcpStream::connect_timeout(&address, REQUEST_TIME).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(REQUEST_TIME)).map_err(|e| e.to_string())?;
        stream.set_write_timeout(Some(REQUEST_TIME)).map_err(|e| e.to_string())?;
        let mut head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nX-Hub-Signature-256: {}\r\n",
            body.len(),
            signature(secret.trim().as_bytes(), body)
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut answer = vec![];
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).map_err(|e| e.to_string())?;
        stream.read_to_end(&mut answer).map_err(|e| e.to_string())?;
        response(&answer).ok_or_else(|| "its answer is not HTTP".to_owned())
    }
}

/// Status and body of an HTTP/1.1 answer that ended with the connection.
fn response(bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, bytes[end + 4..].to_vec()))
}

/// `sha256=` and the HMAC of `body`, as GitHub signs.
pub fn signature(secret: &[u8], body: &[u8]) -> String {
    match Hmac::<Sha256>::new_from_slice(secret) {
        Ok(mut mac) => {
            mac.update(body);
            format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
        }
        Err(_) => unreachable!("an HMAC takes keys of every length"),
    }
}

/// A new id in the form GitHub gives its deliveries.
fn uuid() -> String {
    let hex = format!("{:032x}", ulid::Ulid::new().0);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A line for the pusher; git puts `remote:` before it. Control characters stay out of the terminal.
fn say(line: &str) {
    let clean: String = line.chars().filter(|c| !c.is_control()).collect();
    // A pusher that went away needs no words.
    let _ = writeln!(std::io::stderr(), "rivet: {clean}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_read_line_by_line() {
        let read = updates(&b"a b refs/heads/main\nc d refs/heads/with space\n"[..]);
        assert_eq!(read[1], Update { before: "c".into(), after: "d".into(), name: "refs/heads/with space".into() });
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        assert_eq!(quote("/a b/$(id)/it's"), r"'/a b/$(id)/it'\''s'");
    }

    #[test]
    fn ids_have_the_form_of_githubs() {
        let id = uuid();
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }

    #[test]
    fn an_answer_is_read_to_its_body() {
        assert_eq!(response(b"HTTP/1.1 202 Accepted\r\na: b\r\n\r\n{}"), Some((202, b"{}".to_vec())));
        assert_eq!(response(b"hello"), None);
    }
}
