//! How jobs end early, and that nothing of them lives on.

mod support;

use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{Conclusion, Job, JobCommand};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;
use support::{FakeServer, TestRunner, config, is_alive, job, script};

/// Forks twice into a session of its own, ignores SIGTERM, loses its output, and stays.
const DAEMON: &str =
    "setsid sh -c 'trap \"\" TERM; sh -c \"trap \\\"\\\" TERM; echo daemon=\\$\\$; exec sleep 300\" & wait' &";

/// The same without the mark in its environment.
const NAMELESS: &str = "setsid env -i /bin/sh -c 'sh -c \"echo nameless=\\$\\$; exec sleep 300\" & wait' &";

#[tokio::test]
async fn what_a_job_leaves_behind_dies_with_it() {
    let server = FakeServer::start().await;
    server.queue(job("j1", &[DAEMON, NAMELESS, "while ! test -e go; do sleep 0.02; done"]));
    let runner = TestRunner::start(&server);
    let pids = [server.number("j1", "daemon").await, server.number("j1", "nameless").await];
    assert!(pids.iter().all(|pid| is_alive(*pid)), "what the test is about runs");
    std::fs::write(runner.data.join("jobs/j1-1/workspace/go"), "").expect("a file");
    let finish = server.finished("j1").await;
    assert_eq!(finish.outcome.conclusion, Conclusion::Succeeded);
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "nothing lives on");
    runner.end().await;
}

#[tokio::test]
async fn a_timeout_kills_the_whole_tree() {
    let server = FakeServer::start().await;
    let daemon = format!("process.run([==[{DAEMON} {NAMELESS} sleep 300]==])");
    server.queue(Job { timeout_seconds: Some(1), ..script("j1", &daemon) });
    let runner = TestRunner::start(&server);
    let finish = server.finished("j1").await;
    let error = finish.outcome.error.expect("an error");
    assert_eq!(error.class, ErrorClass::Timeout);
    assert!(!is_alive(server.number("j1", "daemon").await) && !is_alive(server.number("j1", "nameless").await));
    runner.end().await;
}

#[tokio::test]
async fn a_cancelled_job_is_asked_first_and_reports_it() {
    let server = FakeServer::start().await;
    server.queue(job(
        "j1",
        &["trap 'echo cleaning up; exit 0' TERM; echo waiting; while :; do sleep 0.02; done", "echo never"],
    ));
    let runner = TestRunner::start(&server);
    server.says("j1", "\nwaiting").await;
    server.with(|world| world.jobs.get_mut("j1").expect("the job").command = Some(JobCommand::Cancel));
    let finish = server.finished("j1").await;
    assert_eq!(finish.outcome.conclusion, Conclusion::Cancelled);
    assert_eq!(finish.outcome.error.expect("an error").class, ErrorClass::Cancelled);
    let log = server.log("j1");
    assert!(log.contains("cleaning up") && !log.contains("$ echo never"), "{log}");
    runner.end().await;
}

#[tokio::test]
async fn a_job_whose_lease_is_somebody_elses_is_killed_and_says_nothing() {
    let server = FakeServer::start().await;
    server.queue(job("j1", &["trap '' TERM; echo pid=$$; sleep 300"]));
    let runner = TestRunner::start(&server);
    let pid = server.number("j1", "pid").await;
    server.with(|world| world.jobs.get_mut("j1").expect("the job").epoch = 2);
    while is_alive(pid) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    runner.end().await;
    assert_eq!(server.with(|world| world.jobs["j1"].finished.clone()), None);
}

#[tokio::test]
async fn a_runner_that_hears_nothing_kills_its_jobs_before_anybody_else_starts_them() {
    let server = FakeServer::start().await;
    server.queue(job("j1", &["echo pid=$$; sleep 300"]));
    let runner = TestRunner::start_with(&server, |config| config.timers.self_fence = Duration::from_secs(1));
    let pid = server.number("j1", "pid").await;
    server.with(|world| world.deaf = true);
    let since = std::time::Instant::now();
    while is_alive(pid) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    runner.end().await;
    assert_eq!(server.with(|world| world.jobs["j1"].finished.clone()), None);
}

#[tokio::test]
async fn a_server_that_asks_to_hold_keeps_its_jobs() {
    let server = FakeServer::start().await;
    server.queue(job("j1", &["while ! test -e go; do sleep 0.02; done"]));
    let runner = TestRunner::start_with(&server, |config| config.timers.self_fence = Duration::from_millis(600));
    server.says("j1", "test -e go").await;
    server.with(|world| world.hold = true);
    let seen = server.with(|world| world.heartbeats);
    server.until("twelve heartbeats were held", |world| (world.heartbeats > seen + 12).then_some(())).await;
    std::fs::write(runner.data.join("jobs/j1-1/workspace/go"), "").expect("a file");
    assert_eq!(server.finished("j1").await.outcome.conclusion, Conclusion::Succeeded);
    server.with(|world| world.hold = false);
    runner.end().await;
}

#[tokio::test]
async fn a_job_dies_with_its_agent() {
    let server = FakeServer::start().await;
    let data = tempfile::tempdir().expect("a directory");
    let mut agent = agent(&server, data.path()).kill_on_drop(true).spawn().expect("the runner starts");
    server.queue(job("j1", &[DAEMON, "echo pid=$$; sleep 300"]));
    let pids = [server.number("j1", "pid").await, server.number("j1", "daemon").await];
    agent.start_kill().expect("it is killed");
    while pids.iter().any(|pid| is_alive(*pid)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(data.path().join("jobs/j1-1").exists(), "a killed agent cleans up nothing");
    // The next one does.
    let runner = TestRunner::start_with(&server, |config| config.data_dir = data.path().to_owned());
    server.queue(job("j2", &["true"]));
    server.finished("j2").await;
    assert!(!data.path().join("jobs/j1-1").exists());
    runner.end().await;
}

#[tokio::test]
async fn a_paused_agent_does_not_keep_its_job_alive() {
    let server = FakeServer::start().await;
    let data = tempfile::tempdir().expect("a directory");
    // A lease that is never renewed: the agent's own clock is stopped, the job process's is not.
    let job_command = vec![env!("CARGO_BIN_EXE_rivet-runner").into(), "run-job".into()];
    let mut config = config(&server, data.path().to_owned());
    config.job_command = job_command;
    config.timers.heartbeat = Duration::from_secs(60);
    config.timers.self_fence = Duration::from_secs(1);
    server.with(|world| world.deaf = true);
    server.queue(job("j1", &["echo pid=$$; sleep 300"]));
    let (shutdown, ends) = runner::agent::Shutdown::new();
    let task = tokio::spawn(runner::agent::run(config, ends));
    let pid = server.number("j1", "pid").await;
    while is_alive(pid) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.drain();
    task.await.expect("no panic").expect("a good end");
}

#[tokio::test]
async fn sigterm_finishes_what_runs_and_leaves() {
    let server = FakeServer::start().await;
    let data = tempfile::tempdir().expect("a directory");
    let mut agent = agent(&server, data.path()).kill_on_drop(true).spawn().expect("the runner starts");
    server.queue(job("j1", &["while ! test -e go; do sleep 0.02; done", "echo finished"]));
    server.says("j1", "test -e go").await;
    signal(&agent, nix::sys::signal::Signal::SIGTERM);
    let beats = server.with(|world| world.heartbeats);
    server.queue(job("j2", &["true"]));
    server.until("heartbeats go on", |world| (world.heartbeats > beats).then_some(())).await;
    std::fs::write(data.path().join("jobs/j1-1/workspace/go"), "").expect("a file");
    assert_eq!(server.finished("j1").await.outcome.conclusion, Conclusion::Succeeded);
    assert!(agent.wait().await.expect("it ends").success());
    server.with(|world| {
        assert_eq!(world.left, 1);
        assert_eq!(world.queue.len(), 1, "no more was taken");
    });
}

#[tokio::test]
async fn a_second_sigterm_stops_what_runs() {
    let server = FakeServer::start().await;
    let data = tempfile::tempdir().expect("a directory");
    let mut agent = agent(&server, data.path()).kill_on_drop(true).spawn().expect("the runner starts");
    server.queue(job("j1", &["echo pid=$$; sleep 300"]));
    let pid = server.number("j1", "pid").await;
    signal(&agent, nix::sys::signal::Signal::SIGTERM);
    signal(&agent, nix::sys::signal::Signal::SIGQUIT);
    let finish = server.finished("j1").await;
    assert_eq!(finish.outcome.error.expect("an error").class, ErrorClass::LostRunner);
    assert!(agent.wait().await.expect("it ends").success());
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn directories_nobody_may_write_are_removed() {
    let server = FakeServer::start().await;
    server.queue(job("j1", &["mkdir -p a/b && touch a/b/c && chmod 500 a/b a && chmod 0 a/b/c"]));
    let runner = TestRunner::start(&server);
    server.finished("j1").await;
    let mode = std::fs::metadata(&runner.data).expect("the data directory").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    runner.end().await;
}

fn agent(server: &FakeServer, data: &std::path::Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rivet-runner"));
    command
        .args(["start", "--executor", "host", "--name", "test-runner", "--url", server.url.as_str(), "--data-dir"])
        .arg(data)
        .env("RIVET_RUNNER_TOKEN", support::REGISTRATION)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn signal(agent: &tokio::process::Child, signal: nix::sys::signal::Signal) {
    let pid = agent.id().expect("it runs").cast_signed();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("a signal");
}
