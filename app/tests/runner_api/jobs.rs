//! Heartbeats, starts and ends: every write by the runner that holds the job, under the number it holds it by.

use crate::world::{World, id, on_both_databases, stage, stage_with};
use rivet::actions::cancel::cancel;
use rivet::model::time::Timestamp;
use serde_json::{Value, json};

on_both_databases!(
    a_run_from_claim_to_end,
    a_heartbeat_renews_and_tells,
    a_heartbeat_without_a_database_says_hold,
    a_stale_number_is_refused_everywhere,
    another_runners_job_is_not_there,
    starting_twice_is_harmless,
    finishing_twice_is_harmless_and_differently_refused,
    a_result_that_cannot_be_is_refused,
    a_failed_attempt_is_tried_again,
    a_lost_jobs_runner_is_told_that_it_is_over,
    nothing_is_lost_before_every_runner_could_be_heard,
    a_cancelled_run_ends_when_its_runner_says_so,
    a_missing_piece_of_log_is_noted,
);

async fn a_run_from_claim_to_end(world: World) {
    let run = world.run(1, vec![stage("build"), stage_with("test", json!({"depends_on": ["build"]}), &[])]).await;
    let runner = world.runner("oak").await;
    for name in ["build", "test"] {
        let job = runner.one().await;
        assert_eq!(job["stage"], name);
        assert_eq!(runner.start(&job).await.status, 204);
        assert_eq!(world.job(id(&job)).await.state.to_string(), "running");
        assert_eq!(runner.finish(&job, "succeeded").await.status, 204);
    }
    assert_eq!(world.state_of(&run).await, "completed");
}

async fn a_heartbeat_renews_and_tells(world: World) {
    let run = world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    let held = runner.one().await;
    world.sql("UPDATE job SET lease_until = 5").await;
    let stale = json!({"id": id(&held), "epoch": 0});
    let nothing = json!({"id": "nothing", "epoch": 1});
    let answer = runner.heartbeat(&[&held, &nothing]).await;
    assert_eq!(answer.body, json!({"jobs": {id(&held): "continue", "nothing": "fenced"}, "command": "none"}));
    let left = world.job(id(&held)).await.lease_until.unwrap().since(Timestamp::now());
    assert!((25_000..=30_000).contains(&left), "{left}");
    assert_eq!(runner.heartbeat(&[&stale]).await.body["jobs"][id(&held)], "fenced");
    let other = world.runner("elm").await;
    assert_eq!(other.heartbeat(&[&held]).await.body["jobs"][id(&held)], "fenced");
    cancel(&world.context, &run, "Cancelled by alice.", Timestamp::now()).await.unwrap();
    assert_eq!(runner.heartbeat(&[&held]).await.body["jobs"][id(&held)], "cancel");
    runner.finish(&held, "cancelled").await;
    assert_eq!(runner.heartbeat(&[&held]).await.body["jobs"][id(&held)], "fenced");
}

async fn a_heartbeat_without_a_database_says_hold(world: World) {
    let runner = world.runner("oak").await;
    world.context.store.close().await;
    let answer = runner.heartbeat(&[]).await;
    assert_eq!(answer.code(), "503 hold");
}

async fn a_stale_number_is_refused_everywhere(world: World) {
    world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    let mut job = runner.one().await;
    world.sql("UPDATE job SET epoch = 4").await;
    let text = format!("409 lease.stale: Job {} is now at epoch 4; you hold 1. Stop the job.", id(&job));
    assert_eq!(runner.start(&job).await.text(), text);
    assert_eq!(runner.log(&job, 0, b"late").await.text(), text);
    assert_eq!(runner.finish(&job, "succeeded").await.text(), text);
    assert_eq!(world.job(id(&job)).await.log_bytes, 0);
    job["epoch"] = json!(4);
    assert_eq!(runner.start(&job).await.status, 204);
}

async fn another_runners_job_is_not_there(world: World) {
    world.run(1, vec![stage("a")]).await;
    let (runner, other) = (world.runner("oak").await, world.runner("elm").await);
    let job = runner.one().await;
    assert_eq!(other.start(&job).await.code(), "404 job.not_found");
    assert_eq!(other.log(&job, 0, b"mine").await.code(), "404 job.not_found");
    assert_eq!(other.finish(&job, "failed").await.code(), "404 job.not_found");
    let row = world.job(id(&job)).await;
    assert_eq!((row.state.to_string().as_str(), row.log_bytes), ("claimed", 0));
    let nothing = json!({"id": "01jd3c8v6x0000000000000000", "epoch": 1});
    assert_eq!(runner.start(&nothing).await.code(), "404 job.not_found");
}

async fn starting_twice_is_harmless(world: World) {
    let run = world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    let job = runner.one().await;
    assert_eq!(runner.start(&job).await.status, 204);
    let first = world.job(id(&job)).await.started_at;
    assert_eq!(runner.start(&job).await.status, 204);
    assert_eq!(world.job(id(&job)).await.started_at, first);
    assert_eq!(world.stages_of(&run).await, [("a".to_owned(), "running".to_owned())]);
}

async fn finishing_twice_is_harmless_and_differently_refused(world: World) {
    let run = world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    let job = runner.one().await;
    runner.start(&job).await;
    let (one, two) = tokio::join!(runner.finish(&job, "succeeded"), runner.finish(&job, "succeeded"));
    assert_eq!((one.status, two.status), (204, 204));
    assert_eq!(runner.finish(&job, "succeeded").await.status, 204);
    let refused = format!("409 job.finished: Job {} is over: already succeeded.", id(&job));
    assert_eq!(runner.finish(&job, "failed").await.text(), refused);
    assert_eq!(runner.start(&job).await.text(), refused);
    assert_eq!(runner.log(&job, 0, b"late").await.text(), refused);
    assert_eq!(world.state_of(&run).await, "completed");
}

async fn a_result_that_cannot_be_is_refused(world: World) {
    world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    let job = runner.one().await;
    let error = |exit: Value| json!({"class": "command_failed", "message": "no", "exit_code": exit});
    for outcome in [
        json!({"conclusion": "exploded"}),
        json!({"conclusion": "failed", "error": error(json!(2_147_483_648_i64))}),
        json!({"conclusion": "failed", "error": {"class": "bad_luck", "message": "no"}}),
        json!({"conclusion": "succeeded", "outputs": [1]}),
    ] {
        assert_eq!(runner.finish_with(&job, outcome.clone(), 0).await.status, 422, "{outcome}");
    }
    assert_eq!(world.job(id(&job)).await.state.to_string(), "claimed");
    // What a script prints may be anything; it is stored all the same.
    let odd = json!({"conclusion": "failed", "error": {"class": "script_error", "message": "a\u{0}b", "tail": "\u{0}"},
        "outputs": {"\u{0}": "\u{0}"}});
    assert_eq!(runner.finish_with(&job, odd, 0).await.status, 204);
}

async fn a_failed_attempt_is_tried_again(world: World) {
    let retry =
        json!({"retry": {"max_attempts": 2, "backoff": {"initial": 0.0, "factor": 1.0, "max": 0.0, "jitter": 0.0}}});
    let run = world.run(1, vec![stage_with("a", retry, &[])]).await;
    let runner = world.runner("oak").await;
    let failure =
        json!({"conclusion": "failed", "error": {"class": "command_failed", "message": "exit 1", "exit_code": 1}});
    let first = runner.one().await;
    runner.start(&first).await;
    runner.finish_with(&first, failure.clone(), 0).await;
    let second = runner.one().await;
    assert_eq!((&second["attempt"], &second["epoch"]), (&json!(2), &json!(1)));
    assert_ne!(id(&first), id(&second));
    runner.start(&second).await;
    runner.finish_with(&second, failure, 0).await;
    assert_eq!(world.state_of(&run).await, "failed");
}

async fn a_lost_jobs_runner_is_told_that_it_is_over(world: World) {
    world.run(1, vec![stage("a")]).await;
    let zombie = world.runner("oak").await;
    let job = zombie.one().await;
    zombie.start(&job).await;
    world.sql("UPDATE job SET lease_until = 1").await;
    rivet::engine::reaper::sweep(&world.context, Timestamp::now()).await.unwrap();
    let refused = format!("409 job.finished: Job {} is over: already lost.", id(&job));
    assert_eq!(zombie.log(&job, 0, b"late").await.text(), refused);
    assert_eq!(zombie.finish(&job, "succeeded").await.text(), refused);
    assert_eq!(zombie.heartbeat(&[&job]).await.body["jobs"][id(&job)], "fenced");
}

/// While the database is away runners are told to hold, and their leases run out: nothing is lost just after.
async fn nothing_is_lost_before_every_runner_could_be_heard(world: World) {
    let run = world.run(1, vec![stage("a")]).await;
    let runner = world.runner("oak").await;
    let job = runner.one().await;
    runner.start(&job).await;
    let start = Timestamp::now();
    let state_at = async |seconds: u64| {
        world.sql("UPDATE job SET lease_until = 1 WHERE lease_until IS NOT NULL").await;
        rivet::engine::reaper::pass(&world.context, start.plus_seconds(seconds)).await.unwrap();
        world.job(id(&job)).await.state.to_string()
    };
    for seconds in [0, 10, 20, 29] {
        assert_eq!(state_at(seconds).await, "running", "{seconds} s after the start");
    }
    // The database was away for more than half a lease.
    for seconds in [60, 70, 80, 89] {
        assert_eq!(state_at(seconds).await, "running", "{seconds} s after the start, 60 s after the break");
    }
    assert_eq!(state_at(90).await, "finished", "who has not renewed by now is gone");
    assert_eq!(world.state_of(&run).await, "running", "the stage is tried again");
}

async fn a_cancelled_run_ends_when_its_runner_says_so(world: World) {
    let run = world.run(1, vec![stage("a"), stage_with("b", json!({"depends_on": ["a"]}), &[])]).await;
    let runner = world.runner("oak").await;
    let job = runner.one().await;
    runner.start(&job).await;
    cancel(&world.context, &run, "Cancelled by alice.", Timestamp::now()).await.unwrap();
    assert_eq!(world.state_of(&run).await, "running");
    assert_eq!(runner.finish(&job, "cancelled").await.status, 204);
    assert_eq!(world.state_of(&run).await, "cancelled");
}

async fn a_missing_piece_of_log_is_noted(world: World) {
    world.run(1, vec![stage("a"), stage("b")]).await;
    let runner = world.runner("oak").await;
    let (whole, part) = (runner.one().await, runner.one().await);
    for job in [&whole, &part] {
        assert_eq!(runner.log(job, 0, b"hello\n").await.status, 200);
    }
    let outcome = json!({"conclusion": "succeeded"});
    runner.finish_with(&whole, outcome.clone(), 6).await;
    runner.finish_with(&part, outcome, 7).await;
    assert!(world.job(id(&whole)).await.log_complete);
    assert!(!world.job(id(&part)).await.log_complete);
}
