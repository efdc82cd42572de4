//! The gate: a stranger's code, and what people must agree to, is claimed only with their yes to exactly this.

use crate::world::{World, names, on_both_databases, stage, stage_with};
use rivet::model::ids::RunId;
use serde_json::json;

on_both_databases!(
    a_strangers_run_needs_a_yes_to_exactly_its_commit_and_plan,
    a_strangers_run_never_touches_the_machine_itself,
    a_gated_stage_needs_its_own_yes,
    who_said_yes_must_have_been_asked_about_lately,
);

async fn approve(world: &World, run: &RunId, stage: &str, decision: &str, sha: &str, plan: &str, voided: &str) {
    world
        .sql(&format!(
            "INSERT INTO approval (id, run_id, stage_id, decision, actor, approver, sha, plan_digest, via, voided_at,
                                   created_at, expires_at)
             SELECT '{}', '{run}', {stage}, '{decision}', 'alice', 'id:{}', {sha}, {plan}, 'api', {voided}, 1, {far}
             FROM run WHERE id = '{run}'",
            ulid::Ulid::new(),
            ulid::Ulid::new(),
            far = i64::MAX
        ))
        .await;
}

/// A run whose jobs are queued, and which is then said to be a stranger's.
async fn strange_run(world: &World) -> RunId {
    let run = world.run(1, vec![stage("a")]).await;
    world.sql("UPDATE run SET trust = 'untrusted'").await;
    world.sql("UPDATE job SET trust = 'untrusted'").await;
    run
}

async fn a_strangers_run_needs_a_yes_to_exactly_its_commit_and_plan(world: World) {
    let run = strange_run(&world).await;
    let runner = world.runner("oak").await;
    assert!(runner.claim(1).await.is_empty(), "nobody said yes");
    approve(&world, &run, "NULL", "approve", "'another commit'", "plan_digest", "NULL").await;
    approve(&world, &run, "NULL", "approve", "sha", "'another plan'", "NULL").await;
    approve(&world, &run, "NULL", "approve", "sha", "plan_digest", "5").await;
    approve(&world, &run, "NULL", "reject", "sha", "plan_digest", "NULL").await;
    approve(&world, &run, "'a stage'", "approve", "sha", "plan_digest", "NULL").await;
    assert!(runner.claim(1).await.is_empty(), "nobody said yes to this");
    approve(&world, &run, "NULL", "approve", "sha", "plan_digest", "NULL").await;
    assert_eq!(names(&runner.claim(1).await), ["a"]);
}

async fn a_strangers_run_never_touches_the_machine_itself(world: World) {
    let run = strange_run(&world).await;
    approve(&world, &run, "NULL", "approve", "sha", "plan_digest", "NULL").await;
    let mut runner = world.runner("oak").await;
    runner.executors = json!(["host"]);
    assert!(runner.claim(1).await.is_empty());
    runner.executors = json!(["host", "podman"]);
    let job = runner.one().await;
    assert_eq!(job["trust"], "untrusted");
}

async fn a_gated_stage_needs_its_own_yes(world: World) {
    let run = world.run(1, vec![stage("deploy"), stage_with("free", json!({"priority": -1}), &[])]).await;
    world.sql("UPDATE job SET gated = TRUE WHERE stage_id IN (SELECT id FROM stage WHERE name = 'deploy')").await;
    let runner = world.runner("oak").await;
    assert_eq!(names(&runner.claim(5).await), ["free"]);
    world.sql("UPDATE stage SET approved = TRUE").await;
    assert!(runner.claim(5).await.is_empty(), "nobody said yes");
    let deploy = "(SELECT id FROM stage WHERE name = 'deploy')";
    approve(&world, &run, deploy, "approve", "'another commit'", "plan_digest", "NULL").await;
    approve(&world, &run, deploy, "approve", "sha", "'another plan'", "NULL").await;
    approve(&world, &run, deploy, "approve", "sha", "plan_digest", "5").await;
    approve(&world, &run, deploy, "reject", "sha", "plan_digest", "NULL").await;
    approve(&world, &run, "NULL", "approve", "sha", "plan_digest", "NULL").await;
    assert!(runner.claim(5).await.is_empty(), "nobody said yes to this");
    approve(&world, &run, deploy, "approve", "sha", "plan_digest", "NULL").await;
    world.sql("UPDATE stage SET approved = FALSE").await;
    assert!(runner.claim(5).await.is_empty(), "its gate is shut");
    world.sql("UPDATE stage SET approved = TRUE, approvals_needed = 2").await;
    assert!(runner.claim(5).await.is_empty(), "one yes of two");
    world.sql("UPDATE approval SET approver = 'id:1'").await;
    approve(&world, &run, deploy, "approve", "sha", "plan_digest", "NULL").await;
    world.sql("UPDATE approval SET approver = 'id:1'").await;
    assert!(runner.claim(5).await.is_empty(), "the same person twice is one");
    world.sql("UPDATE stage SET approvals_needed = 1").await;
    assert_eq!(names(&runner.claim(5).await), ["deploy"]);
}

async fn who_said_yes_must_have_been_asked_about_lately(world: World) {
    let run = world.run(1, vec![stage("deploy")]).await;
    world.sql("UPDATE job SET gated = TRUE").await;
    world.sql("UPDATE stage SET approved = TRUE").await;
    approve(&world, &run, "(SELECT id FROM stage)", "approve", "sha", "plan_digest", "NULL").await;
    let runner = world.runner("oak").await;
    let now = rivet::model::time::Timestamp::now();
    let asked = |millis: i64| format!("UPDATE approval SET asked_at = {}", now.plus_millis(millis).0);
    world.sql(&asked(-rivet::model::approval::FRESH_MILLIS - 1)).await;
    assert!(runner.claim(1).await.is_empty(), "the forge's word is too old");
    world.sql(&asked(0)).await;
    world.sql(&format!("UPDATE approval SET expires_at = {}", now.0)).await;
    assert!(runner.claim(1).await.is_empty(), "the approval is too old");
    world.sql(&format!("UPDATE approval SET expires_at = {}", i64::MAX)).await;
    world.sql(&asked(60_000 - rivet::model::approval::FRESH_MILLIS)).await;
    assert_eq!(names(&runner.claim(1).await), ["deploy"]);
}
