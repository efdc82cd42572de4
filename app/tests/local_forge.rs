//! The local forge as a team of one uses it: `rivet up`, a bare repository, and `git push`.

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const GOOD: &str =
    r#"return pipeline.define({ stages = { { name = "build", script = function() process.run("echo built") end } } })"#;
const FAILS: &str =
    r#"return pipeline.define({ stages = { { name = "build", script = function() process.run("exit 3") end } } })"#;

/// A data directory with one bare repository and a clone of it, and a server that can be started and killed.
struct World {
    folder: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let world = Self { folder, port, server: None };
        let bare = world.path("data/repositories/acme/app.git");
        std::fs::create_dir_all(&bare).unwrap();
        git(&bare, &["init", "--quiet", "--bare", "--initial-branch=main", "."]);
        let clone = world.clone_folder();
        std::fs::create_dir_all(&clone).unwrap();
        git(&clone, &["init", "--quiet", "--initial-branch=main"]);
        git(&clone, &["remote", "add", "origin", bare.to_str().unwrap()]);
        git(&clone, &["config", "user.name", "Alice"]);
        git(&clone, &["config", "user.email", "alice@example.org"]);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn clone_folder(&self) -> PathBuf {
        self.path("clone")
    }

    fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rivet"));
        command
            .arg("up")
            .arg("--data-dir")
            .arg(self.path("data"))
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", self.port));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().unwrap());
        until("the server is ready", || self.get("/readyz").is_some_and(|(status, _)| status == 200));
    }

    fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let token = std::fs::read_to_string(self.path("data/admin-token")).unwrap_or_default();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let port = self.port;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    fn items(&self, path: &str, key: &str) -> Vec<Value> {
        let (status, body) = self.get(path).expect("the server answers");
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        answer[key].as_array().unwrap_or_else(|| panic!("no {key} in {body}")).clone()
    }

    fn runs(&self) -> Vec<Value> {
        self.items("/api/v1/runs?repo=acme%2Fapp&limit=100", "items")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.clone_folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn commit(&self) -> String {
        git(&self.clone_folder(), &["add", "--all"]);
        git(&self.clone_folder(), &["commit", "--quiet", "--allow-empty", "-m", "Change"]);
        git(&self.clone_folder(), &["rev-parse", "HEAD"]).trim().to_owned()
    }

    fn push(&self, options: &[&str]) -> String {
        let mut args = vec!["push"];
        args.extend(options);
        args.extend(["origin", "HEAD"]);
        git(&self.clone_folder(), &args)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.path("log")).unwrap_or_default());
        }
    }
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output =
        Command::new("git").arg("-C").arg(folder).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "git {args:?}: {said}");
    said
}

/// Looks until it is so; a machine that runs other tests too may be slow.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(150), "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_repository_made_by_hand_is_served_without_a_restart() {
    let mut world = World::new();
    world.start();
    let bare = world.path("data/repositories/acme/later.git");
    std::fs::create_dir_all(&bare).unwrap();
    git(&bare, &["init", "--quiet", "--bare", "--initial-branch=main", "."]);
    until("its hook is there", || bare.join("hooks/post-receive").exists());
    let listed = || world.items("/api/v1/repos", "items").iter().any(|repo| repo["full_name"] == "acme/later");
    until("it is listed", listed);
    git(&world.clone_folder(), &["remote", "set-url", "origin", bare.to_str().unwrap()]);
    world.write(".rivet/ci.lua", GOOD);
    world.commit();
    world.push(&[]);
    let done = || {
        let runs = world.items("/api/v1/runs?repo=acme%2Flater&limit=100", "items");
        runs.len() == 1 && runs[0]["state"] == "completed"
    };
    until("its push has run", done);
}

#[test]
fn a_push_tells_its_pusher_of_the_run_and_waits_where_asked() {
    let mut world = World::new();
    world.start();
    world.write(".rivet/ci.lua", GOOD);
    world.commit();
    let said = world.push(&[]);
    assert!(said.contains(&format!("remote: rivet: ci #1: http://127.0.0.1:{}/runs/", world.port)), "{said}");

    world.commit();
    let said = world.push(&["-o", "wait"]);
    assert!(said.contains("rivet: ci #2 COMPLETED:"), "{said}");

    world.write(".rivet/ci.lua", FAILS);
    world.commit();
    let said = world.push(&["-o", "wait"]);
    assert!(said.contains("rivet: ci #3 FAILED:"), "{said}");

    // Branches and tags without an event of use are answered, not run.
    let said = git(&world.clone_folder(), &["push", "origin", "HEAD:refs/heads/gone"]);
    assert!(said.contains("ci #4"), "{said}");
    let said = git(&world.clone_folder(), &["push", "origin", ":refs/heads/gone"]);
    assert!(said.contains("branch deleted"), "{said}");
    assert_eq!(world.runs().len(), 4);
}

#[test]
fn one_bad_definition_does_not_hold_up_the_others() {
    let mut world = World::new();
    world.start();
    world.write(".rivet/ci.lua", GOOD);
    world.write(".rivet/broken.lua", "return pipeline.define({ stages = { { name = 'a b' } } })\n");
    world.write(".rivet/skipped.lua", &GOOD.replace("{ stages", "{ on = { push = { tags = { 'v*' } } }, stages"));
    let sha = world.commit();
    let said = world.push(&["-o", "wait"]);
    assert!(said.contains("rivet: ci #1 COMPLETED:"), "{said}");
    assert!(said.contains("rivet: broken: the definition has"), "{said}");
    assert!(said.contains("rivet: skipped: branch 'main' was pushed, and on.push names tags only"), "{said}");
    let decisions = world.items(&format!("/api/v1/why?repo=acme%2Fapp&sha={sha}"), "items");
    let mut outcomes: Vec<String> = decisions
        .iter()
        .map(|d| format!("{} {}", d["pipeline"].as_str().unwrap(), d["outcome"].as_str().unwrap()))
        .collect();
    outcomes.sort();
    assert_eq!(outcomes, ["broken error", "ci run", "skipped skip"]);
}

#[test]
fn a_push_without_a_server_is_kept_for_it() {
    let mut world = World::new();
    world.start();
    world.kill();
    world.write(".rivet/ci.lua", GOOD);
    let sha = world.commit();
    let said = world.push(&[]);
    assert!(said.contains("DID NOT TAKE THIS PUSH"), "{said}");
    world.start();
    until("the run of the kept push", || world.runs().iter().any(|run| run["sha"] == sha.as_str()));
    assert_eq!(world.runs().len(), 1);
}

/// R1, R5: whenever the server dies, every push that was taken becomes exactly one run.
#[test]
fn killing_the_server_between_push_and_run_loses_nothing_and_doubles_nothing() {
    let mut world = World::new();
    world.start();
    world.write(".rivet/ci.lua", GOOD);
    let mut pushed = vec![];
    for delay in [0, 15, 30, 50, 80] {
        pushed.push(world.commit());
        let clone = world.clone_folder();
        let pusher = std::thread::spawn(move || git(&clone, &["push", "origin", "HEAD"]));
        std::thread::sleep(Duration::from_millis(delay));
        world.kill();
        pusher.join().unwrap();
        world.start();
    }
    let count = |sha: &str, runs: &[Value]| runs.iter().filter(|run| run["sha"] == sha).count();
    until("every push has its run", || {
        let runs = world.runs();
        pushed.iter().all(|sha| count(sha, &runs) > 0)
    });
    let runs = world.runs();
    for sha in &pushed {
        assert_eq!(count(sha, &runs), 1, "runs of {sha}");
    }
}
