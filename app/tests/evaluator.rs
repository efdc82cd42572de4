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
