//! What happens when answers are lost, tokens are revoked and secrets are printed.

mod support;

use base64::Engine as _;
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{Checkout, Conclusion, Job, RunnerCommand};
use std::sync::{Arc, Mutex};
use support::{FakeServer, Repo, TestRunner, job, script};

#[tokio::test]
async fn a_lost_claim_answer_is_asked_for_again_under_the_same_id() {
    let server = FakeServer::start().await;
    server.with(|world| world.lose_claims = 2);
    server.queue(job("j1", &["echo once >> ../../../ledger"]));
    let runner = TestRunner::start(&server);
    assert_eq!(server.finished("j1").await.outcome.conclusion, Conclusion::Succeeded);
    let ledger = std::fs::read_to_string(runner.data.join("ledger")).expect("the ledger");
    assert_eq!(ledger, "once\n");
    let first_three = server.with(|world| world.claim_ids[..3].to_vec());
    assert!(first_three.iter().all(|id| *id == first_three[0]), "{first_three:?}");
    runner.end().await;
}

#[tokio::test]
async fn lost_log_and_finish_answers_lose_and_double_nothing() {
    let server = FakeServer::start().await;
    server.with(|world| {
        world.lose_logs = 5;
        world.lose_finishes = 2;
    });
    server.queue(job(
        "j1",
        &["i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i of many, long enough to fill pieces; done"],
    ));
    let runner = TestRunner::start(&server);
    let finish = server.finished("j1").await;
    let log = server.log("j1");
    assert_eq!(finish.log_bytes, log.len() as u64);
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("line ")).collect();
    assert_eq!(lines.len(), 3000);
    assert!(lines[2999].starts_with("line 3000 "));
    runner.end().await;
}

#[tokio::test]
async fn a_server_that_lost_part_of_a_log_gets_it_again() {
    let server = FakeServer::start().await;
    server.queue(job("j1", &["echo first; while ! test -e go; do sleep 0.02; done; echo second"]));
    let runner = TestRunner::start(&server);
    server.says("j1", "\nfirst\n").await;
    server.with(|world| world.jobs.get_mut("j1").expect("the job").log.truncate(10));
    std::fs::write(runner.data.join("jobs/j1-1/workspace/go"), "").expect("a file");
    let finish = server.finished("j1").await;
    let log = server.log("j1");
    assert_eq!(finish.log_bytes, log.len() as u64);
    assert!(log.ends_with("\nfirst\nsecond\n"), "{log}");
    runner.end().await;
}

#[tokio::test]
async fn a_job_that_logs_too_much_is_stopped() {
    let server = FakeServer::start().await;
    server.queue(job("j1", &["yes this goes on and on | head -c 80000000", "echo never"]));
    let runner = TestRunner::start(&server);
    let finish = server.finished("j1").await;
    let error = finish.outcome.error.expect("an error");
    assert_eq!(error.class, ErrorClass::Limit);
    let log = server.log("j1");
    assert!(log.len() <= 64 << 20 && finish.log_bytes == log.len() as u64, "{}", log.len());
    assert!(log.contains("The log has reached its limit"));
    runner.end().await;
}

#[tokio::test]
async fn a_runner_whose_token_was_revoked_registers_again() {
    let server = FakeServer::start().await;
    let runner = TestRunner::start(&server);
    server.until("it registered", |world| (world.runners.len() == 1 && world.heartbeats > 0).then_some(())).await;
    server.with(|world| world.tokens.clear());
    server.until("it registered again", |world| (world.runners.len() == 2).then_some(())).await;
    server.queue(job("j1", &["true"]));
    server.finished("j1").await;
    runner.end().await;
}

#[tokio::test]
async fn a_runner_without_token_or_credentials_says_what_to_do() {
    let server = FakeServer::start().await;
    let runner = TestRunner::start_with(&server, |config| config.registration_token = None);
    let error = runner.fails().await;
    assert!(error.contains("RIVET_RUNNER_TOKEN"), "{error}");
    let runner =
        TestRunner::start_with(&server, |config| config.registration_token = Some("rvg_wrong".to_owned().into()));
    let error = runner.fails().await;
    assert!(error.contains("was used or has expired"), "{error}");
}

#[tokio::test]
async fn credentials_are_kept_and_used_again() {
    let server = FakeServer::start().await;
    let data = tempfile::tempdir().expect("a directory");
    for id in ["j1", "j2"] {
        server.queue(job(id, &["true"]));
        let runner = TestRunner::start_with(&server, |config| config.data_dir = data.path().to_owned());
        server.finished(id).await;
        runner.end().await;
    }
    assert_eq!(server.with(|world| world.runners.len()), 1);
}

#[tokio::test]
async fn two_runners_do_not_share_a_data_directory() {
    let server = FakeServer::start().await;
    let first = TestRunner::start(&server);
    server.until("it claims", |world| (!world.claim_ids.is_empty()).then_some(())).await;
    let second = TestRunner::start_with(&server, |config| config.data_dir = first.data.clone());
    assert!(second.fails().await.contains("another runner uses"));
    first.end().await;
}

#[tokio::test]
async fn the_server_can_drain_pause_and_resume_a_runner() {
    let server = FakeServer::start().await;
    server.with(|world| world.command = RunnerCommand::Pause);
    let runner = TestRunner::start(&server);
    server.until("it was told", |world| (world.heartbeats > 2).then_some(())).await;
    let claims = server.with(|world| world.claim_ids.len());
    let beats = server.with(|world| world.heartbeats);
    server.until("time passed", |world| (world.heartbeats > beats + 3).then_some(())).await;
    assert_eq!(server.with(|world| world.claim_ids.len()), claims, "a paused runner claims nothing");
    server.with(|world| world.command = RunnerCommand::None);
    server.queue(job("j1", &["true"]));
    server.finished("j1").await;
    server.with(|world| world.command = RunnerCommand::Drain);
    runner.ended().await;
    assert_eq!(server.with(|world| world.left), 1);
}

#[tokio::test]
async fn a_runner_for_one_job_ends_after_it() {
    let server = FakeServer::start().await;
    server.queue(job("j1", &["true"]));
    server.queue(job("j2", &["true"]));
    let runner = TestRunner::start_with(&server, |config| {
        config.once = true;
        config.slots = 4;
    });
    runner.ended().await;
    server.with(|world| {
        assert!(world.jobs["j1"].finished.is_some());
        assert_eq!(world.queue.len(), 1);
    });
}

#[tokio::test]
async fn slots_run_side_by_side() {
    let server = FakeServer::start().await;
    let meet = |mine: &str, theirs: &str| {
        format!("touch ../../../{mine}; while ! test -e ../../../{theirs}; do sleep 0.02; done")
    };
    server.queue(job("j1", &[&meet("a", "b")]));
    server.queue(job("j2", &[&meet("b", "a")]));
    let runner = TestRunner::start_with(&server, |config| config.slots = 2);
    for id in ["j1", "j2"] {
        assert_eq!(server.finished(id).await.outcome.conclusion, Conclusion::Succeeded);
    }
    runner.end().await;
}

#[tokio::test]
async fn a_secret_is_hidden_wherever_it_would_be_shown() {
    let secret = "hunter2-and-more";
    let body = r#"
        process.run("printf %s $S | head -c 7; sleep 0.3; printf %s $S | tail -c +8; echo; printf %s $S | base64")
        log.info("it is hunter2-and-more")
        log.annotate({ path = "a", line = 1, message = "hunter2-and-more" })
        if ctx.attempt == 1 then return { out = "hunter2-and-more", ["hunter2-and-more"] = { 1 } } end
        process.run("echo " .. "hunter2-and-more >&2; exit 1")
    "#;
    let hidden = |attempt: u32| Job {
        attempt,
        secrets: [("S".to_owned(), secret.to_owned())].into(),
        env: [("S".to_owned(), secret.to_owned())].into(),
        ..script(&format!("j{attempt}"), body)
    };
    let server = FakeServer::start().await;
    let runner = TestRunner::start(&server);
    for attempt in [1, 2] {
        let job = hidden(attempt);
        let id = job.id.clone();
        server.queue(job);
        let finish = server.finished(&id).await;
        let all = format!("{} {:?}", server.log(&id), finish.outcome);
        assert!(!all.contains(secret), "{all}");
        assert!(!all.contains(&base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret)[..18]), "{all}");
        assert!(all.contains("***"));
    }
    runner.end().await;
}

#[tokio::test]
async fn a_job_sees_nothing_of_its_runner_and_no_token_of_the_checkout() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let requests = seen.clone();
    let app = axum::Router::new().fallback(move |headers: axum::http::HeaderMap| {
        let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        requests.lock().expect("requests").push(authorization.to_owned());
        async { axum::http::StatusCode::NOT_FOUND }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/acme/widgets.git", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });

    let server = FakeServer::start().await;
    let runner = TestRunner::start(&server);
    let token = "ghs_a-token-nobody-may-see";
    let checkout = Checkout { url, sha: "ab".repeat(20), token: Some(token.into()) };
    server.queue(Job { checkout: Some(checkout), ..job("j1", &["true"]) });
    let finish = server.finished("j1").await;
    assert_eq!(finish.outcome.error.expect("an error").class, ErrorClass::InfraError);
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
    assert_eq!(seen.lock().expect("requests")[0], format!("Basic {basic}"));
    assert_eq!(server.with(|world| world.jobs["j1"].started), 0, "no code ran");

    let repo = Repo::new(&[("a", "b")]);
    let checkout = Checkout { token: Some(token.into()), ..repo.checkout().expect("a checkout") };
    let look = "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c 'GIT_CONFIG_VALUE' || true; grep -r ghs_ . ; cat .git/config";
    server.queue(Job { checkout: Some(checkout), ..job("j2", &[look]) });
    server.finished("j2").await;
    let log = server.log("j2");
    for name in ["ghs_", "rvr_", "rvg_", "CARGO_", "GIT_CONFIG", "x-access-token"] {
        let shown: Vec<&str> = log.lines().filter(|line| line.contains(name) && !line.starts_with("$ ")).collect();
        assert!(shown.is_empty(), "{name}: {shown:?}");
    }
    assert!(log.contains("\nCI=true\n"), "{log}");
    runner.end().await;
}
