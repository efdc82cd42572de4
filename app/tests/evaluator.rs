//! What the evaluator promises when its process misbehaves.

use pipelines_spec::evaluate::{Question, Request, Response};
use rivet::evaluator::Evaluator;
use serde_json::json;
use std::time::{Duration, Instant};

fn request(lua: &str) -> Request {
    let event = json!({ "name": "push", "repo": "acme/web", "default_branch": "main", "ref": "refs/heads/main", "sha": "0".repeat(40) });
    Request {
        sources: [(".rivet/ci.lua".to_owned(), lua.to_owned())].into(),
        file: ".rivet/ci.lua".to_owned(),
        event: serde_json::from_value(event).expect("an event"),
        question: Question::Pipeline,
    }
}

fn say(response: &Response) -> String {
    response.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// An evaluator whose process is a shell script.
fn shell(script: &str) -> Evaluator {
    Evaluator::with_args("/bin/sh", vec!["-c".into(), script.into()], Duration::from_secs(1))
}

#[tokio::test]
async fn a_crash_is_reported_with_its_signal() {
    let response = shell("kill -SEGV $$").ask(&request("return 1")).await;
    assert!(response.answer.is_none());
    insta::assert_snapshot!(say(&response), @".rivet/ci.lua:1: config.evaluator_crashed: the evaluator stopped (signal 11). This is a bug in Rivet; nothing was started.");
}

#[tokio::test]
async fn a_crash_is_not_remembered() {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("mark");
    let script = format!("test -e {0} && echo '{{\"answer\":null}}' && exit; : > {0}; kill -SEGV $$", mark.display());
    let evaluator = shell(&script);
    assert!(say(&evaluator.ask(&request("return 1")).await).contains("signal 11"));
    assert_eq!(say(&evaluator.ask(&request("return 1")).await), "");
}

#[tokio::test]
async fn an_answer_is_remembered() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = folder.path().join("count");
    let evaluator = shell(&format!("cat > /dev/null; echo x >> {}; echo '{{\"answer\":null}}'", count.display()));
    let (one, two, other) = (request("return 1"), request("return 1"), request("return 2"));
    tokio::join!(evaluator.ask(&one), evaluator.ask(&two));
    evaluator.ask(&one).await;
    evaluator.ask(&other).await;
    assert_eq!(std::fs::read_to_string(count).expect("the count").lines().count(), 2);
}

#[tokio::test]
async fn a_hang_ends_at_the_wall_limit() {
    let started = Instant::now();
    let response = shell("exec sleep 60").ask(&request("return 1")).await;
    assert!(started.elapsed() < Duration::from_secs(10));
    insta::assert_snapshot!(say(&response), @".rivet/ci.lua:1: config.timeout: evaluation took too long outside the sandbox and was stopped");
}

#[tokio::test]
async fn garbage_and_floods_are_not_answers() {
    let garbage = shell("echo hello").ask(&request("return 1")).await;
    insta::assert_snapshot!(say(&garbage), @".rivet/ci.lua:1: config.evaluator_crashed: the evaluator failed: it answered something that is no answer. This is a bug in Rivet; nothing was started.");
    let flood = shell("exec cat /dev/zero").ask(&request("return 1")).await;
    insta::assert_snapshot!(say(&flood), @".rivet/ci.lua:1: config.evaluator_crashed: the evaluator failed: it answered more than 4 MiB. This is a bug in Rivet; nothing was started.");
}

#[tokio::test]
async fn the_process_gets_no_environment_and_no_folder() {
    let evaluator = shell("[ \"$(pwd)\" = / ] && [ -z \"$HOME$CARGO$USER\" ] && echo '{\"answer\":null}'");
    assert_eq!(say(&evaluator.ask(&request("return 1")).await), "");
}

#[tokio::test]
async fn a_missing_program_is_reported() {
    let response = Evaluator::new("/nonexistent/rivet").ask(&request("return 1")).await;
    insta::assert_snapshot!(say(&response), @".rivet/ci.lua:1: config.evaluator_crashed: the evaluator could not be started (No such file or directory (os error 2)). This is a bug in Rivet; nothing was started.");
}

// From here on the real thing: hostile definitions through the real process.

const GOOD: &str = "return pipeline.define({ name = 'x', on = { manual = true }, stages = { { name = 'a', script = function() end } } })";

fn real() -> Evaluator {
    Evaluator::new(env!("CARGO_BIN_EXE_rivet"))
}

async fn problems_of(lua: &str) -> String {
    say(&real().ask(&request(lua)).await)
}

#[tokio::test]
async fn a_definition_is_evaluated() {
    let response = real().ask(&request(GOOD)).await;
    assert_eq!(say(&response), "");
    assert!(response.answer.is_some());
}

#[tokio::test]
async fn endless_definitions_end() {
    for endless in [
        "while true do end",
        "pcall(function() while true do end end) while true do end",
        "local s = string.rep('a', 200) for i = 1, 1e9 do string.find(s, ('.-'):rep(25) .. 'b') end",
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
    ] {
        let started = Instant::now();
        let said = problems_of(endless).await;
        assert!(said.contains("config.timeout"), "{endless}: {said}");
        assert!(started.elapsed() < Duration::from_secs(8), "{endless}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn hungry_definitions_starve() {
    assert!(problems_of("return string.rep('x', 2 ^ 30)").await.contains("config.memory"));
    let said = problems_of("local t = {} for i = 1, 1e9 do t[i] = tostring(i) .. 'x' end").await;
    assert!(said.contains("config.memory") || said.contains("config.timeout"), "{said}");
    let said = problems_of("local function f() return 1 + f() end f()").await;
    assert!(said.contains("config.stack"), "{said}");
    let said = problems_of(&format!("return {}1{}", "(".repeat(100_000), ")".repeat(100_000))).await;
    assert!(said.contains("config.syntax"), "{said}");
    let said = problems_of("error(('x'):rep(5e6))").await;
    assert!(said.contains("config.error") && said.len() < 10_000, "{}", said.len());
}

#[tokio::test]
async fn evaluations_share_nothing() {
    let evaluator = real();
    let poison = "local ok = pcall(function() string.upper = nil getmetatable('').__index = nil _G.left = 1 end) "
        .to_owned()
        + GOOD;
    evaluator.ask(&request(&poison)).await;
    let clean = format!("assert(left == nil and ('a'):upper() == 'A') {GOOD}");
    assert_eq!(say(&evaluator.ask(&request(&clean)).await), "");
}

#[tokio::test]
async fn a_thousand_evaluations_go_on_after_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("mark");
    // The first evaluation dies of a signal, the others are real.
    let script = format!(
        "if [ -e {0} ]; then exec {1} evaluate-definition; fi; : > {0}; kill -SEGV $$",
        mark.display(),
        env!("CARGO_BIN_EXE_rivet")
    );
    let evaluator = Evaluator::with_args("/bin/sh", vec!["-c".into(), script.into()], Duration::from_secs(5));
    assert!(say(&evaluator.ask(&request(GOOD)).await).contains("signal 11"));
    let asks: Vec<_> = (0..1000).map(|i| request(&format!("{GOOD} -- {i}"))).collect();
    let answers = futures::future::join_all(asks.iter().map(|r| evaluator.ask(r))).await;
    let bad = answers.iter().filter(|a| a.answer.is_none()).map(say).next();
    assert_eq!(bad, None);
}

/// Looks at the process while it is kept busy.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_process_is_confined_while_it_evaluates() {
    let busy = tokio::spawn(async { problems_of("while true do end").await });
    let status = loop {
        if let Some(status) = confined_child() {
            break status;
        }
        assert!(!busy.is_finished(), "no confined process was seen");
        tokio::task::yield_now().await;
    };
    let line =
        |name: &str| status.lines().find(|l| l.starts_with(name)).unwrap_or("").replace(char::is_whitespace, " ");
    insta::assert_snapshot!([line("NoNewPrivs:"), line("Seccomp:"), line("Threads:")].join("\n"), @r"
    NoNewPrivs: 1
    Seccomp: 2
    Threads: 1
    ");
    assert!(busy.await.expect("it ends").contains("config.timeout"));
}

/// The status of a child of this process that a system call filter holds.
#[cfg(target_os = "linux")]
fn confined_child() -> Option<String> {
    let parent = format!("PPid:\t{}\n", std::process::id());
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        (status.contains(&parent) && status.contains("Seccomp:\t2")).then_some(status)
    })
}
