//! What a job does, from its claim to its end, by a real runner against a server in memory.

mod support;

use insta::assert_snapshot;
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{Conclusion, Job, Trust};
use runner::attempt::Options;
use runner::stop::Stop;
use std::sync::{Arc, Mutex};
use support::{FakeServer, Repo, TestRunner, job, script};

async fn run(job: Job) -> (pipelines_spec::protocol::FinishRequest, String) {
    let server = FakeServer::start().await;
    let id = job.id.clone();
    server.queue(job);
    let runner = TestRunner::start(&server);
    let finish = server.finished(&id).await;
    let log = server.log(&id);
    assert_eq!(finish.log_bytes, log.len() as u64, "the whole log arrived");
    runner.end().await;
    (finish, log)
}

#[tokio::test]
async fn shell_lines_run_in_order_in_the_checked_out_commit() {
    let repo = Repo::new(&[("greeting.txt", "hello from the commit\n")]);
    let (finish, log) = run(Job {
        checkout: repo.checkout(),
        env: [("WHO".into(), "world".into())].into(),
        ..job(
            "j1",
            &["cat greeting.txt", "echo hello $WHO from $RIVET_STAGE >&2", "test -z \"$(git status --porcelain)\""],
        )
    })
    .await;
    assert_eq!(finish.outcome.conclusion, Conclusion::Succeeded);
    assert_snapshot!(log.replace(&repo.sha, "SHA"), @r#"
    Stage build of ci #7, attempt 1 of 1, on test-runner
    Checking out acme/widgets at SHA
    $ cat greeting.txt
    hello from the commit
    $ echo hello $WHO from $RIVET_STAGE >&2
    hello world from build
    $ test -z "$(git status --porcelain)"
    "#);
}

#[tokio::test]
async fn the_first_failing_line_ends_the_job_with_its_code_and_tail() {
    let (finish, log) = run(job("j1", &["echo before", "echo oops >&2; exit 3", "echo never"])).await;
    assert_eq!(finish.outcome.conclusion, Conclusion::Failed);
    let error = finish.outcome.error.expect("an error");
    assert_eq!(error.class, ErrorClass::CommandFailed);
    assert_eq!(error.exit_code, Some(3));
    assert_eq!(error.tail.as_deref(), Some("oops"));
    assert_eq!(error.message, "`echo oops >&2; exit 3` exited with code 3");
    assert!(!log.contains("never"), "{log}");
}

#[tokio::test]
async fn a_script_runs_commands_and_returns_outputs() {
    let body = r#"
        log.info("Using " .. input.get("jobs", "1") .. " jobs for " .. ctx.event.ref)
        local out = process.run({ cmd = "echo", args = { "built", ctx.matrix.db, inputs.jobs } })
        local version = ctx.step("release", function() return process.run("printf 1.2.3").stdout end)
        local missing = process.run({ "sh", "-c", "exit 4", check = false })
        log.annotate({ path = "src/lib.rs", line = 3, message = "look here" })
        return { version = version, said = out.stdout, code = missing.code, data = json.decode('{"a":[1,2]}') }
    "#;
    let job = Job {
        inputs: serde_json::from_str(r#"{"jobs": 4}"#).expect("inputs"),
        matrix: serde_json::from_str(r#"{"db": "sqlite"}"#).expect("a matrix"),
        ..script("j1", body)
    };
    let (finish, log) = run(job).await;
    assert_eq!(finish.outcome.error, None, "{log}");
    assert_eq!(
        serde_json::Value::Object(finish.outcome.outputs),
        serde_json::json!({"version": "1.2.3", "said": "built sqlite 4\n", "code": 4, "data": {"a": [1, 2]}})
    );
    assert_eq!(finish.outcome.annotations.len(), 1);
    assert_snapshot!(log, @r"
    Stage build of ci #7, attempt 1 of 1, on test-runner
    Using 4 jobs for refs/heads/main
    $ echo built sqlite 4
    built sqlite 4
    ::group::release
    $ printf 1.2.3
    1.2.3
    ::endgroup::
    $ sh -c 'exit 4'
    ");
}

#[tokio::test]
async fn code_nobody_reviewed_never_runs_on_the_host() {
    let (finish, log) = run(Job { trust: Trust::Untrusted, ..job("j1", &["echo pwned"]) }).await;
    assert_eq!(finish.outcome.error.expect("an error").class, ErrorClass::InfraError);
    assert!(!log.contains("$ echo pwned"), "{log}");
}

#[tokio::test]
async fn a_job_runs_in_a_working_tree_without_a_server() {
    let tree = tempfile::tempdir().expect("a directory");
    let scratch = tempfile::tempdir().expect("a directory");
    std::fs::write(tree.path().join("here"), "in the tree\n").expect("a file");
    let said: Arc<Mutex<Vec<u8>>> = Arc::default();
    let target = said.clone();
    let sink = Box::new(move |bytes: &[u8]| target.lock().expect("the log").extend_from_slice(bytes));
    let options = Options::local(tree.path().to_owned(), scratch.path()).expect("options");
    let outcome =
        runner::run_local(job("local", &["cat here; sleep 300 &", "echo $HOME"]), options, sink, Stop::default());
    let outcome = outcome.await;
    assert_eq!(outcome.conclusion, Conclusion::Succeeded);
    let said = String::from_utf8_lossy(&said.lock().expect("the log")).into_owned();
    assert!(said.contains("in the tree\n") && said.contains(&scratch.path().display().to_string()), "{said}");
    assert!(tree.path().join("here").exists());
}
