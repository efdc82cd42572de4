//! Who gets which job, once.

use crate::world::{World, id, label, names, on_both_databases, stage, stage_with};
use rivet::model::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

on_both_databases!(
    a_job_has_everything_a_runner_needs,
    what_earlier_stages_gave_and_secret_inputs_come_along,
    a_repeated_claim_gets_the_same_jobs,
    two_requests_of_one_claim_get_the_same_jobs,
    many_claimers_get_each_job_once,
    labels_must_be_had_and_granted,
    containers_go_where_containers_run,
    priority_then_fairness_then_age,
    a_claim_for_many_is_shared_between_repositories,
    a_waiting_claim_is_woken,
    a_waiting_claim_sees_a_job_that_becomes_available,
    a_waiting_claim_ends_with_its_time_and_with_the_server,
    what_is_over_or_cancelled_is_not_claimed,
    a_commit_that_is_gone_ends_the_attempt,
);

async fn a_job_has_everything_a_runner_needs(world: World) {
    let more = json!({"env": {"A": "b"}, "timeout": 60, "retry": {"max_attempts": 3}});
    let run = world.run(7, vec![stage_with("build", more, &["os=linux"])]).await;
    let runner = world.runner_with("oak", &["os=linux"]).await;
    let mut job = runner.one().await;
    let job_id = id(&job).to_owned();
    assert_eq!(world.job(&job_id).await.state.to_string(), "claimed");
    job["id"] = json!("JOB");
    job["run"]["id"] = json!(job["run"]["id"].as_str().unwrap().replace(run.as_str(), "RUN"));
    job["run"]["url"] = json!(job["run"]["url"].as_str().unwrap().replace(run.as_str(), "RUN"));
    let event = job.as_object_mut().unwrap().remove("event").unwrap();
    assert_eq!(event["branch"], "main");
    assert_eq!(
        job,
        json!({
            "id": "JOB", "epoch": 1, "stage": "build", "base": "build", "kind": "stage", "attempt": 1, "max_attempts": 3,
            "run": {"id": "RUN", "number": 1, "url": "http://rivet.test/runs/RUN", "repo": "acme/shop7", "pipeline": "ci"},
            "action": {"kind": "run", "run": ["true"]}, "run_values": {}, "container": null, "services": {},
            "env": {"A": "b"}, "timeout_seconds": 60, "file": ".rivet/ci.lua",
            "sources": {".rivet/ci.lua": "-- the definition"}, "inputs": {}, "matrix": {}, "needs": {}, "outputs": null,
            "checkout": null, "secrets": {}, "redact": [], "trust": "trusted",
        })
    );
}

async fn what_earlier_stages_gave_and_secret_inputs_come_along(world: World) {
    let plan = json!({ "pipeline": "ci", "file": ".rivet/ci.lua", "name": "CI", "inputs": {"key": "hunter2", "n": 2},
        "secret_inputs": ["key"],
        "stages": [stage("build"), stage_with("test", json!({"depends_on": ["build"]}), &[])] });
    world.run_plan(1, plan).await;
    let runner = world.runner("oak").await;
    let build = runner.one().await;
    runner.start(&build).await;
    assert_eq!(runner.finish(&build, "succeeded").await.status, 204);
    let test = runner.one().await;
    assert_eq!(test["needs"], json!({"build": {"state": "succeeded", "outputs": {"version": "1.2"}}}));
    assert_eq!(test["inputs"], json!({"key": "hunter2", "n": 2}));
    assert_eq!(test["redact"], json!(["hunter2"]));
}

async fn a_repeated_claim_gets_the_same_jobs(world: World) {
    world.run(1, vec![stage("a"), stage("b"), stage("c")]).await;
    let runner = world.runner("oak").await;
    let first = runner.claim_as("c1", 2, 0).await;
    assert_eq!(names(&first), ["a", "b"]);
    // The answer was lost; the runner asks again by the same name.
    assert_eq!(runner.claim_as("c1", 2, 0).await, first);
    assert_eq!(names(&runner.claim_as("c2", 2, 0).await), ["c"]);
    assert!(world.runner("elm").await.claim_as("c1", 2, 0).await.is_empty(), "another runner's claim is its own");
}

async fn two_requests_of_one_claim_get_the_same_jobs(world: World) {
    world.run(1, (0..8).map(|n| stage(&format!("s{n}"))).collect()).await;
    let runner = world.runner("oak").await;
    let (a, b) = tokio::join!(runner.claim_as("c1", 2, 0), runner.claim_as("c1", 2, 0));
    assert_eq!(a, b);
}

async fn many_claimers_get_each_job_once(world: World) {
    for repo in 1..=4 {
        world.run(repo, (0..50).map(|n| stage(&format!("s{n}"))).collect()).await;
    }
    let mut claimers = vec![];
    for n in 0..16 {
        let runner = world.runner(&format!("r{n}")).await;
        claimers.push(tokio::spawn(async move {
            let mut mine = vec![];
            loop {
                let jobs = runner.claim(1 + n % 3).await;
                if jobs.is_empty() {
                    return mine;
                }
                mine.extend(jobs);
            }
        }));
    }
    let mut all = vec![];
    for claimer in claimers {
        all.extend(claimer.await.unwrap());
    }
    // A claim that finds everything locked by others may come back with nothing, so some may be left.
    let last = world.runner("last").await;
    loop {
        let rest = last.claim(64).await;
        if rest.is_empty() {
            break;
        }
        all.extend(rest);
    }
    assert_eq!(all.len(), 200);
    assert_eq!(all.iter().map(id).collect::<BTreeSet<_>>().len(), 200);
    assert!(all.iter().all(|job| job["epoch"] == 1));
}

async fn labels_must_be_had_and_granted(world: World) {
    world.run(1, vec![stage_with("gpu", json!({}), &["gpu=yes", "os=linux"])]).await;
    let mut runner = world.runner("oak").await;
    assert!(runner.claim(1).await.is_empty());
    runner.labels = json!([label("os=linux"), label("arch=x86_64"), label("executor=host"), label("gpu=yes")]);
    assert_eq!(
        runner.claim_answer("c1", 1, 0).await.text(),
        "403 runner.label: label 'gpu=yes' is not granted to this runner."
    );
    let mut able = world.runner_with("elm", &["gpu=yes"]).await;
    assert!(able.claim(1).await.is_empty(), "it does not say its system");
    able.labels = json!([label("gpu=yes"), label("os=linux")]);
    assert_eq!(names(&able.claim(1).await), ["gpu"]);
}

async fn containers_go_where_containers_run(world: World) {
    world.run(1, vec![stage_with("boxed", json!({"container": "rust:1"}), &[]), stage("free")]).await;
    let mut host = world.runner("oak").await;
    host.executors = json!(["host"]);
    assert_eq!(names(&host.claim(5).await), ["free"]);
    let mut cluster = world.runner("elm").await;
    cluster.executors = json!(["kubernetes"]);
    assert_eq!(names(&cluster.claim(5).await), ["boxed"]);
    world.run(1, vec![stage("free")]).await;
    host.executors = json!([]);
    assert!(host.claim(1).await.is_empty());
    host.executors = json!(["podman"]);
    assert_eq!(names(&host.claim(1).await), ["free"]);
}

async fn priority_then_fairness_then_age(world: World) {
    world.run(1, vec![stage("a1"), stage("a2"), stage("a3"), stage("a4")]).await;
    world.run(2, vec![stage("b1"), stage_with("b9", json!({"priority": 5}), &[])]).await;
    let runner = world.runner("oak").await;
    let mut order = vec![];
    for _ in 0..6 {
        order.push(runner.one().await["stage"].as_str().unwrap().to_owned());
    }
    // b9 has priority; then the repository with fewer live jobs, and of equals the oldest.
    assert_eq!(order, ["b9", "a1", "a2", "b1", "a3", "a4"]);
}

async fn a_claim_for_many_is_shared_between_repositories(world: World) {
    world.run(1, (0..8).map(|n| stage(&format!("one{n}"))).collect()).await;
    world.run(2, (0..2).map(|n| stage(&format!("two{n}"))).collect()).await;
    world.run(3, (0..8).map(|n| stage(&format!("three{n}"))).collect()).await;
    let runner = world.runner("oak").await;
    let of = |jobs: &[Value]| {
        let mut names: Vec<String> = names(jobs).iter().map(|name| (*name).to_owned()).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(of(&runner.claim(6).await), "one0 one1 three0 three1 two0 two1");
    // The second has nothing left; the others go on by turns.
    assert_eq!(of(&runner.claim(5).await), "one2 one3 one4 three2 three3");
    // What is under way counts: the first has five, the third four.
    assert_eq!(of(&runner.claim(1).await), "three4");
}

async fn a_waiting_claim_is_woken(world: World) {
    let runner = world.runner("oak").await;
    let waiting = tokio::spawn(async move { runner.claim_as("c1", 1, 20).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    world.run(1, vec![stage("a")]).await;
    assert_eq!(names(&waiting.await.unwrap()), ["a"]);
    assert!(begun.elapsed() < Duration::from_millis(900), "by the hint, not by polling");
}

async fn a_waiting_claim_sees_a_job_that_becomes_available(world: World) {
    world.run(1, vec![stage("a")]).await;
    let soon = Timestamp::now().plus_millis(300);
    world.sql(&format!("UPDATE job SET available_at = {}", soon.0)).await;
    let runner = world.runner("oak").await;
    assert!(runner.claim(1).await.is_empty(), "not yet");
    assert_eq!(names(&runner.claim_as("c1", 1, 20).await), ["a"]);
    let late = Timestamp::now().since(soon);
    assert!((0..600).contains(&late), "{late} ms after it was available");
}

async fn a_waiting_claim_ends_with_its_time_and_with_the_server(world: World) {
    let runner = world.runner("oak").await;
    let begun = Instant::now();
    assert!(runner.claim_as("c1", 1, 1).await.is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(990));
    let waiting = tokio::spawn(async move { runner.claim_as("c2", 1, 25).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.context.shutdown.cancel();
    assert!(tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().is_empty());
}

async fn what_is_over_or_cancelled_is_not_claimed(world: World) {
    let runner = world.runner("oak").await;
    for change in [
        "UPDATE run SET cancel_requested = TRUE",
        "UPDATE run SET finished_at = 1",
        "UPDATE job SET cancel_requested = TRUE",
        "UPDATE job SET state = 'finished'",
    ] {
        world.run(1, vec![stage("a")]).await;
        world.sql(change).await;
        assert!(runner.claim(1).await.is_empty(), "{change}");
    }
}

async fn a_commit_that_is_gone_ends_the_attempt(world: World) {
    let world = world.with_empty_forge();
    let run = world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    assert!(runner.claim(1).await.is_empty());
    let stage = world.tx().await.stages(&run).await.unwrap().remove(0);
    let error: Value = serde_json::to_value(stage.error.unwrap().0).unwrap();
    assert_eq!(error["class"], "infra_error");
    assert_eq!(stage.attempt, 2, "it is tried again, as whatever is the machinery's fault");
}
