//! Real bare repositories: what trees, blobs and comparisons are answered from, and what runners fetch over HTTP.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A file of a commit: path, git's mode and bytes.
pub type File<'a> = (&'a str, &'a str, &'a [u8]);

/// One bare repository.
#[derive(Debug, Clone)]
pub struct Git(pub PathBuf, Arc<Mutex<Known>>);

/// What git said once and would always say: objects never change. A process for each question would make the fake, and
/// not what is tested with it, the slowest part of a load.
#[derive(Debug, Default)]
struct Known {
    commits: HashSet<String>,
    trees: HashMap<(String, bool), Value>,
    has_main: bool,
}

fn is_id(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Git {
    pub fn init(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let git = Self(path, Arc::default());
        git.run(&["init", "--quiet", "--bare", "--initial-branch=main", "."]).unwrap();
        git.run(&["config", "http.receivepack", "false"]).unwrap();
        git.run(&["config", "uploadpack.allowAnySHA1InWant", "true"]).unwrap();
        git
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(&self.0).args(args).env_clear().env("PATH", std::env::var("PATH").unwrap());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", "/nonexistent");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "GitHub").env(format!("GIT_{who}_EMAIL"), "noreply@github.com");
            command.env(format!("GIT_{who}_DATE"), "1764000000 +0000");
        }
        command
    }

    /// What git says, or `None` where it fails.
    pub fn run(&self, args: &[&str]) -> Option<String> {
        let output = self.command(args).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Puts a commit with these files changed on a branch (which begins at `from` if it is new) and answers its id.
    pub fn commit(&self, branch: &str, from: Option<&str>, files: &[File<'_>], message: &str) -> String {
        let reference = format!("refs/heads/{branch}");
        let mut stream = format!("commit {reference}\ncommitter Ada <ada@example.com> 1764000000 +0000\n").into_bytes();
        write!(stream, "data {}\n{message}\n", message.len()).unwrap();
        if let Some(parent) = self.run(&["rev-parse", "--verify", "--quiet", &reference]).or(from.map(str::to_owned)) {
            writeln!(stream, "from {parent}").unwrap();
        }
        for (path, mode, bytes) in files {
            match *mode {
                "delete" => writeln!(stream, "D {path}").unwrap(),
                _ => inline(&mut stream, mode, path, bytes),
            }
        }
        self.import(&stream);
        self.run(&["rev-parse", &reference]).unwrap()
    }

    fn import(&self, stream: &[u8]) {
        let mut child = self.command(&["fast-import", "--quiet", "--force"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stream).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// A series of commits on `main`, each saying another thing and all with these files, in one go; answers their ids.
    pub fn commits(&self, files: &[File<'_>], messages: &[String]) -> Vec<String> {
        let mut stream = vec![];
        for (index, message) in messages.iter().enumerate() {
            write!(stream, "commit refs/heads/main\ncommitter Ada <ada@example.com> 1764000000 +0000\n").unwrap();
            write!(stream, "data {}\n{message}\n", message.len()).unwrap();
            for (path, mode, bytes) in files.iter().filter(|_| index == 0) {
                inline(&mut stream, mode, path, bytes);
            }
        }
        self.import(&stream);
        let listed = self.run(&["rev-list", "--reverse", "refs/heads/main"]).unwrap();
        let ids: Vec<String> = listed.lines().map(str::to_owned).collect();
        // All have the first one's tree.
        let tree = self.tree(&ids[0], false).unwrap();
        let mut known = self.1.lock().unwrap();
        for id in &ids {
            known.commits.insert(id.clone());
            known.trees.insert((id.clone(), false), tree.clone());
        }
        known.has_main = true;
        ids
    }

    /// Whether nothing was ever pushed.
    pub fn is_empty(&self) -> bool {
        if self.1.lock().unwrap().has_main {
            return false;
        }
        let found = self.find("heads/main").is_some();
        self.1.lock().unwrap().has_main = found;
        !found
    }

    pub fn tree(&self, sha: &str, deep: bool) -> Option<Value> {
        let key = (sha.to_owned(), deep);
        if let Some(known) = self.1.lock().unwrap().trees.get(&key) {
            return Some(known.clone());
        }
        let tree = self.read_tree(sha, deep)?;
        if is_id(sha) {
            self.1.lock().unwrap().trees.insert(key, tree.clone());
        }
        Some(tree)
    }

    fn read_tree(&self, sha: &str, deep: bool) -> Option<Value> {
        let mut args = vec!["ls-tree", "-l", "-z", "--full-tree"];
        if deep {
            args.extend(["-r", "-t"]);
        }
        args.push(sha);
        let listed = self.run(&args)?;
        let entries = listed.split('\0').filter(|line| !line.is_empty()).map(|line| {
            let (meta, path) = line.split_once('\t').unwrap();
            let meta: Vec<&str> = meta.split_whitespace().collect();
            let mut entry = json!({ "path": path, "mode": meta[0], "type": meta[1], "sha": meta[2] });
            if let Ok(size) = meta[3].parse::<u64>() {
                entry["size"] = size.into();
            }
            entry
        });
        Some(json!({ "sha": sha, "url": "", "tree": entries.collect::<Vec<_>>(), "truncated": false }))
    }

    pub fn blob(&self, sha: &str) -> Option<Vec<u8>> {
        let output = self.command(&["cat-file", "blob", sha]).output().unwrap();
        output.status.success().then_some(output.stdout)
    }

    /// The commit GitHub understands under a name: `heads/x`, `tags/x`, an id, a branch.
    pub fn find(&self, name: &str) -> Option<String> {
        if self.1.lock().unwrap().commits.contains(name) {
            return Some(name.to_owned());
        }
        let found = self.look_up(name)?;
        if is_id(name) && found == name {
            self.1.lock().unwrap().commits.insert(found.clone());
        }
        Some(found)
    }

    fn look_up(&self, name: &str) -> Option<String> {
        let verify = |name: String| self.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &name]);
        [format!("refs/{name}^{{commit}}"), format!("refs/heads/{name}^{{commit}}"), format!("{name}^{{commit}}")]
            .into_iter()
            .find_map(verify)
    }

    /// GitHub's comparison: files of the second commit since both parted.
    pub fn compare(&self, base: &str, head: &str) -> Option<Value> {
        let (base, head) = (self.find(base)?, self.find(head)?);
        let counts = self.run(&["rev-list", "--left-right", "--count", &format!("{base}...{head}")])?;
        let (behind, ahead) = counts.split_once('\t')?;
        let status = match (behind, ahead) {
            ("0", "0") => "identical",
            ("0", _) => "ahead",
            (_, "0") => "behind",
            _ => "diverged",
        };
        let listed = self.run(&["diff", "--name-status", "-M", "-z", &format!("{base}...{head}")])?;
        let mut parts = listed.split('\0').filter(|part| !part.is_empty());
        let mut files = vec![];
        while let (Some(kind), Some(path)) = (parts.next(), parts.next()) {
            match kind.starts_with('R') {
                true => {
                    files.push(json!({ "filename": parts.next()?, "previous_filename": path, "status": "renamed" }));
                }
                false => files.push(json!({ "filename": path, "status": "modified" })),
            }
        }
        files.truncate(300);
        let parted = self.run(&["merge-base", &base, &head]).map(|sha| json!({ "sha": sha }));
        let commits = self.run(&["log", "-z", "--reverse", "--format=%H%n%B", &format!("{base}..{head}")])?;
        let commits: Vec<Value> = commits
            .split('\0')
            .filter_map(|entry| entry.split_once('\n'))
            .map(|(sha, message)| json!({ "sha": sha, "commit": { "message": message.trim_end() } }))
            .collect();
        Some(
            json!({ "status": status, "files": files, "total_commits": commits.len(), "commits": commits, "merge_base_commit": parted }),
        )
    }

    /// Refs that begin with `prefix` (`heads/`), as `git/matching-refs` lists them.
    pub fn refs(&self, prefix: &str) -> Vec<Value> {
        let listed = self.run(&["for-each-ref", "--format=%(refname) %(objectname)"]).unwrap_or_default();
        let full = format!("refs/{prefix}");
        listed
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(name, _)| name.starts_with(&full))
            .map(|(name, sha)| json!({ "ref": name, "object": { "sha": sha, "type": "commit" } }))
            .collect()
    }

    /// The test merge of a pull request, under `refs/pull/N/merge`; `None` where both sides conflict.
    pub fn merge(&self, base: &str, head: &str, number: i64) -> Option<String> {
        let (base, head) = (self.find(base)?, self.find(head)?);
        let tree = self.run(&["merge-tree", "--write-tree", &base, &head])?;
        let tree = tree.lines().next()?.to_owned();
        let message = format!("Merge {head} into {base}");
        let commit = self.run(&["commit-tree", &tree, "-p", &base, "-p", &head, "-m", &message])?;
        self.run(&["update-ref", &format!("refs/pull/{number}/merge"), &commit])?;
        Some(commit)
    }

    /// A commit as the git database's API shows it.
    pub fn facts(&self, sha: &str) -> Option<Value> {
        let found = self.run(&["log", "-1", "--format=%P%n%B", "--end-of-options", sha])?;
        let (parents, message) = found.split_once('\n')?;
        let parents: Vec<Value> = parents.split_whitespace().map(|parent| json!({ "sha": parent })).collect();
        Some(json!({ "sha": sha, "message": message.trim_end(), "parents": parents }))
    }

    /// Moves a ref, as a forced push does.
    pub fn set(&self, name: &str, sha: &str) {
        self.run(&["update-ref", &format!("refs/{name}"), sha]).expect("the ref moves");
    }

    pub fn message(&self, sha: &str) -> String {
        self.run(&["log", "-1", "--format=%B", sha]).unwrap_or_default()
    }
}

/// Serves `git fetch` of the repositories under `root` by git's own CGI program.
pub async fn http_backend(
    root: PathBuf,
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let run = tokio::task::spawn_blocking(move || backend(&root, &method, &path, &query, &headers, &body));
    let output = run.await.unwrap();
    let split = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(output.len());
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..split]).lines() {
        match line.split_once(": ") {
            Some(("Status", code)) => response = response.status(code[..3].parse::<u16>().unwrap()),
            Some((name, value)) => response = response.header(name, value),
            None => {}
        }
    }
    let body = output.get(split + 4..).unwrap_or_default().to_vec();
    response
        .body(Body::from(body))
        .unwrap_or_else(|_| Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body(Body::empty()).unwrap())
}

fn backend(root: &Path, method: &str, path: &str, query: &str, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut child = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let body = body.to_vec();
    let feeder = std::thread::spawn(move || {
        let _ = input.write_all(&body);
    });
    let output = child.wait_with_output().unwrap().stdout;
    feeder.join().unwrap();
    output
}

/// A file with its contents, in the words of `fast-import`.
fn inline(stream: &mut Vec<u8>, mode: &str, path: &str, bytes: &[u8]) {
    write!(stream, "M {mode} inline {path}\ndata {}\n", bytes.len()).unwrap();
    stream.extend_from_slice(bytes);
    stream.push(b'\n');
}
