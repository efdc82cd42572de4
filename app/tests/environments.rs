//! Environments: what their ledger says, what a lock holds, and how one goes back.

#[path = "support/conversation.rs"]
mod conversation;
#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;

use conversation::{Rivet, conversations};
use pipelines_spec::protocol::FinishRequest;
use rivet::actions::finish_job::finish_job;
use rivet::actions::rollback::Wish;
use rivet::actions::start_job::start_job;
use rivet::actions::{environment, rollback};
use rivet::engine::advance::Error;
use rivet::model::ids::{JobId, RunId};
use rivet::store::environments::audited;
use rivet::store::jobs::Hold;
use serde_json::{Value, json};

conversations!(
    what_was_deployed_is_in_the_ledger_and_can_be_gone_back_to,
    a_lock_holds_what_deploys_and_lets_it_go,
    deployments_are_told_once_whatever_happens_to_the_forge,
    a_deployment_whose_creation_was_not_acknowledged_is_found_again,
    without_the_permission_people_are_told_once_and_nothing_is_held_up,
    every_leg_of_a_matrix_goes_back_and_legs_with_environments_of_their_own_alone,
    a_rollback_that_is_killed_again_and_again_is_one_rollback,
    an_attempt_whose_server_is_killed_is_one_entry,
    who_asked_for_a_rollback_does_not_approve_it,
    a_lock_is_gone_through_only_by_who_says_so,
    a_completed_run_is_undone_by_hand,
    stages_between_two_that_deploy_keep_their_order,
    the_command_line_shows_locks_and_goes_back,
);

/// Builds, deploys what the build gave out, and looks at it. The deploy is behind a gate.
const SHIP: &str = r#"
return pipeline.define({
    on = { push = { branches = { "main" } } },
    stages = {
        { name = "build", script = function() end },
        { name = "deploy", environment = "Production", approval = { required = true, prevent_self = false },
          script = function() end },
        { name = "look", script = function() end },
    },
})
"#;

/// Deploys with no gate.
const FREE: &str = r#"
return pipeline.define({
    on = { push = { branches = { "main" } } },
    stages = { { name = "deploy", environment = "staging", approval = { required = false }, script = function() end } },
})
"#;

impl Rivet {
    /// The ledger of an environment, newest first.
    async fn ledger(&self, name: &str) -> String {
        let mut tx = self.context.store.read().await.unwrap();
        let entries = tx.deployments(&self.repo.id(), name, None, 100).await.unwrap();
        let line = |e: &rivet::model::deployment::Deployment| {
            let again = e.rollback_to.map(|n| format!(" again {n}")).unwrap_or_default();
            let by = e.approvers.0.join("+");
            format!("{} {}{again} {} by {} [{by}]: {} {}", e.number, e.stage, e.attempt, e.actor, e.state, e.reason)
        };
        entries.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// A new token of the API.
    async fn token(&self, name: &str, role: &str) -> String {
        let (status, answer) = self.api("POST", "/api/v1/tokens", Some(json!({ "name": name, "role": role }))).await;
        assert_eq!(status, 201, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    /// What the command line prints and how it ends.
    async fn cli(&self, args: &[&str]) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rivet"));
        command.args(args).env("RIVET_URL", &self.url).env("RIVET_TOKEN", conversation::ADMIN).env("NO_COLOR", "1");
        let done = command.env("RIVET_REPO", "acme/app").output().await.unwrap();
        let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        format!("{text}= {}", done.status.code().unwrap_or(-1)).replace(&self.url, "URL")
    }

    /// Why the forge is not told of an environment's deployments.
    async fn forge_error(&self, name: &str) -> String {
        let mut tx = self.context.store.read().await.unwrap();
        let found = tx.environment(&self.repo.id(), name).await.unwrap().unwrap();
        found.forge_error.unwrap_or_default()
    }

    async fn approve(&self, number: i64) {
        let run = self.run_id(number).await;
        let body = json!({ "stage": "deploy", "decision": "approve" });
        let (status, answer) = self.api("POST", &format!("/api/v1/runs/{run}/approvals"), Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn roll_back(&self, environment: &str, to: Option<i64>, through_lock: bool) -> Result<RunId, String> {
        let wish = Wish {
            repo: self.repo.id(),
            environment: environment.to_owned(),
            to,
            through_lock,
            actor: "bob".to_owned(),
            key: None,
        };
        let done = rollback::environment(&self.context, &wish, self.now()).await;
        self.settle().await;
        done.map_err(|error| error.to_string())
    }
}

async fn what_was_deployed_is_in_the_ledger_and_can_be_gone_back_to(rivet: Rivet) {
    let mut commits = vec![];
    for (number, outcome) in [(1, "succeeded"), (2, "succeeded"), (3, "failed")] {
        let files = [Rivet::pipeline(SHIP), ("version", &number.to_string())];
        commits.push(rivet.push("main", &files).await);
        assert_eq!(rivet.work().await, ["build"]);
        rivet.approve(number).await;
        rivet.work_with(|stage| if stage == "deploy" { outcome } else { "succeeded" }).await;
    }
    insta::assert_snapshot!(rivet.ledger("production").await, @"
    3 deploy 1 by ada [admin]: failed command_failed: make ended with 2
    2 deploy 1 by ada [admin]: succeeded It succeeded.
    1 deploy 1 by ada [admin]: superseded Deployment 2 came after it.
    ");

    insta::assert_snapshot!(rivet.roll_back("nowhere", None, false).await.unwrap_err(), @"there is no such run, stage or job");
    insta::assert_snapshot!(rivet.roll_back("production", Some(3), false).await.unwrap_err(), @"Deployment 3 to Production failed: it is nothing to go back to. Those that succeeded: 2, 1.");
    insta::assert_snapshot!(rivet.roll_back("production", Some(9), false).await.unwrap_err(), @"Production has no deployment 9. Those that succeeded: 2, 1.");
    rivet.roll_back("production", Some(1), false).await.unwrap();
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci push completed: Every stage succeeded.
      build succeeded: It succeeded.
      deploy succeeded: It succeeded.
      look succeeded: It succeeded.
    #2 ci push completed: Every stage succeeded.
      build succeeded: It succeeded.
      deploy succeeded: It succeeded.
      look succeeded: It succeeded.
    #3 ci push failed: deploy failed.
      build succeeded: It succeeded.
      deploy failed: command_failed: make ended with 2
      look skipped: Skipped: deploy failed.
    #4 ci push running: 2 of 3 stages have ended; deploy is waiting for approval.
      build succeeded: Taken over from run #1, where it succeeded.
      deploy awaiting_approval: Waiting for somebody who may write: /approve deploy
      look skipped: It is no part of this rollback.
    ");
    assert!(rivet.work().await.is_empty(), "it has a gate of its own");
    rivet.approve(4).await;
    let jobs = rivet.claim(5).await;
    assert_eq!(jobs.len(), 1);
    insta::assert_snapshot!(jobs[0]["needs"], @r#"{"build":{"outputs":{"from":"build"},"state":"succeeded"}}"#);
    assert_eq!(jobs[0]["checkout"]["sha"], commits[0].as_str());
    rivet.settle().await;
    rivet.start(&jobs[0]).await;
    rivet.settle().await;
    rivet.end(&jobs[0], "succeeded", json!({})).await;
    assert!(rivet.work().await.is_empty());
    insta::assert_snapshot!(rivet.ledger("production").await, @"
    4 deploy again 1 1 by bob [admin]: succeeded It succeeded.
    3 deploy 1 by ada [admin]: failed command_failed: make ended with 2
    2 deploy 1 by ada [admin]: superseded Deployment 4 came after it.
    1 deploy 1 by ada [admin]: superseded Deployment 2 came after it.
    ");
    insta::assert_snapshot!(rivet.runs().await.lines().skip_while(|l| !l.starts_with("#4")).collect::<Vec<_>>().join("\n"), @"
    #4 ci push completed: Every stage succeeded.
      build succeeded: Taken over from run #1, where it succeeded.
      deploy succeeded: It succeeded.
      look skipped: It is no part of this rollback.
    ");
    insta::assert_snapshot!(rivet.github.deployments(&rivet.repo), @"
    Production deploy deploy of run #1: queued → success → inactive
    Production deploy deploy of run #2: queued → success → inactive
    Production deploy deploy of run #3: queued → failure
    Production deploy:rollback deploy of run #4: queued → in_progress → success
    ");
    insta::assert_snapshot!(rivet.checks(&commits[0]), @"
    ci / build: completed success: It succeeded
    ci / deploy: completed success: It succeeded
    ci / look: completed success: It succeeded
    ci / deploy (rollback): completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    ");
    // Forward again only when somebody says so.
    rivet.push("main", &[Rivet::pipeline(SHIP), ("version", "5")]).await;
    rivet.work().await;
    rivet.approve(5).await;
    assert!(rivet.work().await.is_empty());
    insta::assert_snapshot!(rivet.runs().await.lines().rev().nth(1).unwrap_or_default(), @"  deploy queued: Environment Production is locked by bob: rolled back to deployment 1 by run #4; unlock it to deploy forward again.");
    rivet.finish().await;
}

async fn a_lock_holds_what_deploys_and_lets_it_go(rivet: Rivet) {
    let repo = rivet.repo.id();
    let unknown = environment::lock(&rivet.context, &repo, "staging", "alice", "freeze", rivet.now()).await;
    assert!(matches!(unknown, Err(Error::NotFound)), "{unknown:?}");
    rivet.push("main", &[Rivet::pipeline(FREE)]).await;
    assert_eq!(rivet.work().await, ["deploy"]);
    environment::lock(&rivet.context, &repo, "Staging", "alice", " a\nfreeze ", rivet.now()).await.unwrap();
    let twice = environment::lock(&rivet.context, &repo, "staging", "bob", "me too", rivet.now()).await.unwrap_err();
    insta::assert_snapshot!(twice, @"Environment staging is locked by alice: a freeze.");
    rivet.push("main", &[Rivet::pipeline(FREE), ("a", "2")]).await;
    assert!(rivet.work().await.is_empty());
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci push completed: Every stage succeeded.
      deploy succeeded: It succeeded.
    #2 ci push running: 0 of 1 stages have ended; deploy is waiting for a runner.
      deploy queued: Environment staging is locked by alice: a freeze.
    ");
    environment::unlock(&rivet.context, &repo, "staging", "bob", rivet.now()).await.unwrap();
    insta::assert_snapshot!(rivet.runs().await.lines().last().unwrap_or_default(), @"  deploy queued: Waiting for a runner.");
    assert_eq!(rivet.work().await, ["deploy"]);
    let again = environment::unlock(&rivet.context, &repo, "staging", "bob", rivet.now()).await.unwrap_err();
    insta::assert_snapshot!(again, @"Environment staging is not locked.");
    rivet.finish().await;
}

async fn deployments_are_told_once_whatever_happens_to_the_forge(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(FREE)]).await;
    let job = rivet.claim(1).await.remove(0);
    rivet.github.world().faults.down = true;
    rivet.start(&job).await;
    rivet.settle().await;
    rivet.end(&job, "succeeded", json!({})).await;
    rivet.settle().await;
    rivet.github.world().faults.down = false;
    rivet.wait(7200);
    rivet.settle().await;
    insta::assert_snapshot!(rivet.github.deployments(&rivet.repo), @"staging deploy deploy of run #1: queued → success");
    rivet.finish().await;
}

async fn a_deployment_whose_creation_was_not_acknowledged_is_found_again(rivet: Rivet) {
    rivet.github.world().faults.lose_answers = 4;
    rivet.push("main", &[Rivet::pipeline(FREE)]).await;
    for _ in 0..5 {
        rivet.wait(120);
        rivet.settle().await;
    }
    assert_eq!(rivet.github.world().faults.lose_answers, 0);
    assert_eq!(rivet.work().await, ["deploy"]);
    // The fake forge takes a second creation for a fault.
    insta::assert_snapshot!(rivet.github.deployments(&rivet.repo), @"staging deploy deploy of run #1: queued → success");
    rivet.finish().await;
}

async fn without_the_permission_people_are_told_once_and_nothing_is_held_up(rivet: Rivet) {
    rivet.github.world().faults.no_deployments = true;
    let sha = rivet.push("main", &[Rivet::pipeline(FREE)]).await;
    assert_eq!(rivet.work().await, ["deploy"]);
    insta::assert_snapshot!(rivet.checks(&sha), @"
    ci / deploy: completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    ");
    assert_eq!(rivet.github.deployments(&rivet.repo), "");
    insta::assert_snapshot!(rivet.forge_error("staging").await, @"The forge is not told of deployments: the forge refused: The permissions requested are not granted to this installation. (422 Unprocessable Entity). Grant the App the permission Deployments: write.");
    let calls = rivet.github.take_calls("access_tokens").len();
    assert!(calls <= 8, "{calls} calls for nothing");
    // Granted meanwhile: what is deployed from then on is shown.
    rivet.github.world().faults.no_deployments = false;
    rivet.push("main", &[Rivet::pipeline(FREE), ("a", "2")]).await;
    assert_eq!(rivet.work().await, ["deploy"]);
    insta::assert_snapshot!(rivet.github.deployments(&rivet.repo), @"staging deploy deploy of run #2: queued → success");
    assert_eq!(rivet.forge_error("staging").await, "");
    rivet.finish().await;
}

const REGIONS: &str = r#"
return pipeline.define({
    on = { push = { branches = { "main" } } },
    stages = {
        { name = "build", script = function() end },
        { name = "deploy", environment = "production", approval = { required = false },
          matrix = { region = { "eu", "us" } }, script = function() end },
        { name = "cache", environment = "cache-${matrix.region}", approval = { required = false },
          matrix = { region = { "eu", "us" } }, script = function() end },
    },
})
"#;

async fn every_leg_of_a_matrix_goes_back_and_legs_with_environments_of_their_own_alone(rivet: Rivet) {
    for number in 1..=2 {
        rivet.push("main", &[Rivet::pipeline(REGIONS), ("version", &number.to_string())]).await;
        assert_eq!(rivet.work().await.len(), 5);
    }
    insta::assert_snapshot!(rivet.ledger("production").await, @"
    4 deploy (region=us) 1 by ada []: succeeded It succeeded.
    3 deploy (region=eu) 1 by ada []: succeeded It succeeded.
    2 deploy (region=us) 1 by ada []: superseded Deployment 3 came after it.
    1 deploy (region=eu) 1 by ada []: superseded Deployment 3 came after it.
    ");
    rivet.roll_back("production", None, false).await.unwrap();
    let jobs = rivet.claim(5).await;
    let needs: Vec<String> = jobs.iter().map(|job| format!("{} {}", job["stage"], job["needs"])).collect();
    insta::assert_snapshot!(needs.join("\n"), @r#"
    "deploy (region=eu)" {"build":{"outputs":{"from":"build"},"state":"succeeded"}}
    "deploy (region=us)" {"build":{"outputs":{"from":"build"},"state":"succeeded"}}
    "#);
    for job in &jobs {
        rivet.start(job).await;
        rivet.end(job, "succeeded", json!({})).await;
    }
    assert!(rivet.work().await.is_empty());
    rivet.roll_back("CACHE-eu", None, false).await.unwrap();
    assert_eq!(rivet.work().await, ["cache (region=eu)"]);
    insta::assert_snapshot!(rivet.ledger("production").await, @"
    6 deploy (region=us) again 2 1 by bob []: succeeded It succeeded.
    5 deploy (region=eu) again 2 1 by bob []: succeeded It succeeded.
    4 deploy (region=us) 1 by ada []: superseded Deployment 5 came after it.
    3 deploy (region=eu) 1 by ada []: superseded Deployment 5 came after it.
    2 deploy (region=us) 1 by ada []: superseded Deployment 3 came after it.
    1 deploy (region=eu) 1 by ada []: superseded Deployment 3 came after it.
    ");
    insta::assert_snapshot!(rivet.ledger("cache-eu").await, @"
    3 cache (region=eu) again 1 1 by bob []: succeeded It succeeded.
    2 cache (region=eu) 1 by ada []: superseded Deployment 3 came after it.
    1 cache (region=eu) 1 by ada []: superseded Deployment 2 came after it.
    ");
    insta::assert_snapshot!(rivet.ledger("cache-us").await, @"
    2 cache (region=us) 1 by ada []: succeeded It succeeded.
    1 cache (region=us) 1 by ada []: superseded Deployment 2 came after it.
    ");
    insta::assert_snapshot!(rivet.roll_back("production", None, true).await.unwrap_err(), @"Nothing that succeeded was deployed to production before deployment 2.");
    rivet.finish().await;
}

async fn a_rollback_that_is_killed_again_and_again_is_one_rollback(rivet: Rivet) {
    for number in 1..=2 {
        rivet.push("main", &[Rivet::pipeline(FREE), ("version", &number.to_string())]).await;
        assert_eq!(rivet.work().await, ["deploy"]);
    }
    let wish = Wish {
        repo: rivet.repo.id(),
        environment: "staging".to_owned(),
        to: None,
        through_lock: false,
        actor: "bob".to_owned(),
        key: Some("comment:7:0".to_owned()),
    };
    for micros in (0..60).map(|n| n * 150) {
        let asked = Box::pin(rollback::environment(&rivet.context, &wish, rivet.now()));
        let _ = tokio::time::timeout(std::time::Duration::from_micros(micros), asked).await;
    }
    let first = Box::pin(rollback::environment(&rivet.context, &wish, rivet.now())).await.unwrap();
    assert_eq!(rivet.work().await, ["deploy"]);
    assert_eq!(first.0, rivet.run_id(3).await);
    insta::assert_snapshot!(rivet.ledger("staging").await, @"
    3 deploy again 1 1 by bob []: succeeded It succeeded.
    2 deploy 1 by ada []: superseded Deployment 3 came after it.
    1 deploy 1 by ada []: superseded Deployment 2 came after it.
    ");
    rivet.finish().await;
}

async fn an_attempt_whose_server_is_killed_is_one_entry(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(FREE)]).await;
    let job = rivet.claim(1).await.remove(0);
    let (id, epoch) = (JobId(job["id"].as_str().unwrap().to_owned()), job["epoch"].as_i64().unwrap());
    let runner = rivet.tx().await.job(&id).await.unwrap().runner_id.unwrap();
    let hold = Hold { job: &id, runner: &runner, epoch };
    let outcome = json!({ "epoch": epoch, "outcome": { "conclusion": "succeeded", "outputs": {} }, "log_bytes": 0 });
    let outcome: FinishRequest = serde_json::from_value(outcome).unwrap();
    let pause = |n: u64| std::time::Duration::from_micros(n * 150);
    for n in 0..40 {
        let told = Box::pin(start_job(&rivet.context, &hold, rivet.now()));
        let _ = tokio::time::timeout(pause(n), told).await;
        let open = rivet.ledger("staging").await;
        assert!(open.lines().count() <= 1, "{open}");
    }
    rivet.start(&job).await;
    insta::assert_snapshot!(rivet.ledger("staging").await, @"1 deploy 1 by ada []: in_progress It is under way.");
    for n in 0..40 {
        let told = Box::pin(finish_job(&rivet.context, &runner, &id, outcome.clone(), rivet.now()));
        let _ = tokio::time::timeout(pause(n), told).await;
        // Stage and entry change together or not at all.
        let stage = rivet.runs().await.contains("deploy succeeded");
        assert_eq!(rivet.ledger("staging").await.contains("succeeded"), stage);
    }
    Box::pin(finish_job(&rivet.context, &runner, &id, outcome, rivet.now())).await.unwrap();
    insta::assert_snapshot!(rivet.ledger("staging").await, @"1 deploy 1 by ada []: succeeded It succeeded.");
    rivet.finish().await;
}

async fn who_asked_for_a_rollback_does_not_approve_it(rivet: Rivet) {
    let gated = SHIP.replace("prevent_self = false", "prevent_self = true");
    for number in 1..=2 {
        rivet.push("main", &[Rivet::pipeline(&gated), ("version", &number.to_string())]).await;
        rivet.work().await;
        rivet.approve(number).await;
        assert_eq!(rivet.work().await, ["deploy", "look"]);
    }
    let (bob, alice, eve) =
        (rivet.token("bob", "admin").await, rivet.token("alice", "admin").await, rivet.token("eve", "viewer").await);
    let path = "/api/v1/environments/production/rollback?repo=acme/app";
    assert_eq!(rivet.api_as(&eve, "POST", path, Some(json!({}))).await.0, 403, "a viewer rolls nothing back");
    let elsewhere = "/api/v1/environments/production/rollback?repo=acme/other";
    assert_eq!(rivet.api_as(&bob, "POST", elsewhere, Some(json!({}))).await.0, 404);
    let (status, run) = rivet.api_as(&bob, "POST", path, Some(json!({ "to": 1 }))).await;
    assert_eq!((status, run["number"].as_i64()), (201, Some(3)), "{run}");
    let approvals = format!("/api/v1/runs/{}/approvals", run["id"].as_str().unwrap());
    let yes = json!({ "stage": "deploy", "decision": "approve" });
    let (status, answer) = rivet.api_as(&bob, "POST", &approvals, Some(yes.clone())).await;
    assert_eq!(status, 409, "{answer}");
    let (status, answer) = rivet.api_as(&eve, "POST", &approvals, Some(yes.clone())).await;
    assert_eq!(status, 403, "{answer}");
    assert!(rivet.work().await.is_empty());
    let (status, answer) = rivet.api_as(&alice, "POST", &approvals, Some(yes)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(rivet.work().await, ["deploy"]);
    insta::assert_snapshot!(rivet.ledger("production").await, @"
    3 deploy again 1 1 by bob [alice]: succeeded It succeeded.
    2 deploy 1 by ada [admin]: superseded Deployment 3 came after it.
    1 deploy 1 by ada [admin]: superseded Deployment 2 came after it.
    ");
    // What was rolled back can be rolled back again as a whole: a re-run of it is a rollback, too.
    let (_, again) = rivet.api("POST", &format!("/api/v1/runs/{}/rerun", run["id"].as_str().unwrap()), None).await;
    insta::assert_snapshot!(again["detail"], @r#""Environment Production is locked by bob: rolled back to deployment 1 by run #3; unlock it to deploy forward again. Unlock it first, or say that the rollback goes through the lock.""#);
    rivet.finish().await;
}

async fn a_lock_is_gone_through_only_by_who_says_so(rivet: Rivet) {
    for number in 1..=3 {
        rivet.push("main", &[Rivet::pipeline(FREE), ("version", &number.to_string())]).await;
        assert_eq!(rivet.work().await, ["deploy"]);
    }
    let path = |verb: &str| format!("/api/v1/environments/staging/{verb}?repo=acme/app");
    let (status, locked) = rivet.api("POST", &path("lock"), Some(json!({ "reason": "audit" }))).await;
    assert_eq!((status, &locked["lock"]["reason"]), (200, &json!("audit")), "{locked}");
    let (status, refused) = rivet.api("POST", &path("rollback"), Some(json!({}))).await;
    assert_eq!(status, 409);
    insta::assert_snapshot!(refused["detail"], @r#""Environment staging is locked by admin: audit. Unlock it first, or say that the rollback goes through the lock.""#);
    // It goes through this lock, and not through one that comes later.
    let wish = json!({ "to": 1, "through_lock": true });
    assert_eq!(rivet.api("POST", &path("rollback"), Some(wish.clone())).await.0, 201);
    assert_eq!(rivet.api("POST", &path("unlock"), None).await.0, 200);
    rivet.wait(1);
    environment::lock(&rivet.context, &rivet.repo.id(), "staging", "carol", "really", rivet.now()).await.unwrap();
    assert!(rivet.work().await.is_empty());
    assert_eq!(rivet.api("POST", &path("unlock"), None).await.0, 200);
    assert_eq!(rivet.work().await, ["deploy"]);
    let (_, shown) = rivet.api("GET", "/api/v1/environments?repo=acme/app", None).await;
    insta::assert_snapshot!(shown["items"][0]["lock"]["reason"], @r#""rolled back to deployment 1 by run #4; unlock it to deploy forward again.""#);
    let entries = rivet.tx().await.audit_of(&audited(&rivet.repo.id(), "staging")).await.unwrap();
    let entries: Vec<String> = entries.iter().map(|entry| format!("{} {}", entry.actor, entry.action)).collect();
    insta::assert_snapshot!(entries.join("\n"), @"
    admin environment.lock
    admin environment.rollback
    admin environment.unlock
    carol environment.lock
    admin environment.unlock
    admin environment.lock
    ");
    insta::assert_snapshot!(rivet.ledger("staging").await, @"
    4 deploy again 1 1 by admin []: succeeded It succeeded.
    3 deploy 1 by ada []: superseded Deployment 4 came after it.
    2 deploy 1 by ada []: superseded Deployment 3 came after it.
    1 deploy 1 by ada []: superseded Deployment 2 came after it.
    ");
    rivet.finish().await;
}

const UNDOABLE: &str = r#"
return pipeline.define({
    on = { push = { branches = { "main" } } },
    stages = {
        { name = "migrate", script = function() end, rollback = function() end },
        { name = "deploy", environment = "staging", approval = { required = false }, script = function() end,
          rollback = function() end },
        { name = "look", script = function() end },
    },
})
"#;

async fn a_completed_run_is_undone_by_hand(rivet: Rivet) {
    for number in 1..=2 {
        rivet.push("main", &[Rivet::pipeline(UNDOABLE), ("version", &number.to_string())]).await;
        assert_eq!(rivet.work().await, ["migrate", "deploy", "look"]);
    }
    let run = rivet.run_id(2).await;
    let undo = format!("/api/v1/runs/{run}/rollback");
    environment::lock(&rivet.context, &rivet.repo.id(), "staging", "carol", "freeze", rivet.now()).await.unwrap();
    let (status, refused) = rivet.api("POST", &undo, None).await;
    assert_eq!(status, 409);
    insta::assert_snapshot!(refused["detail"], @r#""Environment staging is locked by carol: freeze. Unlock it first, or say that the rollback goes through the lock.""#);
    environment::unlock(&rivet.context, &rivet.repo.id(), "staging", "carol", rivet.now()).await.unwrap();
    let (status, answer) = rivet.api("POST", &undo, None).await;
    assert_eq!((status, &answer["state"]), (200, &json!("rolling_back")), "{answer}");
    let (status, again) = rivet.api("POST", &undo, None).await;
    assert_eq!(status, 409);
    insta::assert_snapshot!(again["detail"], @r#""Run #2 is rolling back: only a completed run is rolled back by hand.""#);
    assert_eq!(rivet.work().await, ["deploy", "migrate"], "the last one first");
    insta::assert_snapshot!(rivet.runs().await.lines().skip(4).collect::<Vec<_>>().join("\n"), @"
    #2 ci push failed: admin asked for a rollback. Rolled back: 2 of 2.
      migrate rolled_back: What it did was undone.
      deploy rolled_back: What it did was undone.
      look succeeded: It succeeded.
    ");
    insta::assert_snapshot!(rivet.ledger("staging").await, @"
    2 deploy 1 by ada []: rolled_back What it did was undone.
    1 deploy 1 by ada []: succeeded It stands again: deployment 2 was undone.
    ");
    insta::assert_snapshot!(rivet.github.deployments(&rivet.repo), @"
    staging deploy deploy of run #1: queued → success → inactive → success
    staging deploy deploy of run #2: queued → success → inactive
    ");
    // Nothing rolls forward before somebody says so.
    rivet.push("main", &[Rivet::pipeline(UNDOABLE), ("version", "3")]).await;
    assert_eq!(rivet.work().await, ["migrate"]);
    environment::unlock(&rivet.context, &rivet.repo.id(), "staging", "carol", rivet.now()).await.unwrap();
    assert_eq!(rivet.work().await, ["deploy", "look"]);
    // What has nothing to undo says so.
    rivet.push("main", &[Rivet::pipeline(FREE), ("version", "4")]).await;
    rivet.work().await;
    let run = rivet.run_id(4).await;
    let (_, refused) = rivet.api("POST", &format!("/api/v1/runs/{run}/rollback"), None).await;
    insta::assert_snapshot!(refused["detail"], @r#""Nothing in run #4 can be undone: no stage that succeeded has a rollback.""#);
    rivet.finish().await;
}

const BETWEEN: &str = r#"
return pipeline.define({
    on = { push = { branches = { "main" } } },
    stages = {
        { name = "db", environment = "staging", approval = { required = false }, script = function() end },
        { name = "smoke", script = function() end },
        { name = "web", environment = "staging", approval = { required = false }, script = function() end },
    },
})
"#;

async fn stages_between_two_that_deploy_keep_their_order(rivet: Rivet) {
    for number in 1..=2 {
        rivet.push("main", &[Rivet::pipeline(BETWEEN), ("version", &number.to_string())]).await;
        assert_eq!(rivet.work().await, ["db", "smoke", "web"]);
    }
    rivet.roll_back("staging", None, false).await.unwrap();
    assert_eq!(rivet.work_with(|_| "failed").await, ["db"], "web waits for db although smoke does not run");
    insta::assert_snapshot!(rivet.runs().await.lines().skip(8).collect::<Vec<_>>().join("\n"), @"
    #3 ci push failed: db failed.
      db failed: command_failed: make ended with 2
      smoke succeeded: Taken over from run #1, where it succeeded.
      web skipped: Skipped: db failed.
    ");
    // A retry tries again what failed and what waited for it, and nothing that was set aside.
    let run = rivet.run_id(3).await;
    assert_eq!(rivet.api("POST", &format!("/api/v1/runs/{run}/retry"), None).await.0, 200);
    assert_eq!(rivet.work().await, ["db", "web"]);
    insta::assert_snapshot!(rivet.ledger("staging").await, @"
    7 web again 2 1 by bob []: succeeded It succeeded.
    6 db again 2 2 by bob []: succeeded It succeeded.
    5 db again 2 1 by bob []: failed command_failed: make ended with 2
    4 web 1 by ada []: superseded Deployment 6 came after it.
    3 db 1 by ada []: superseded Deployment 6 came after it.
    2 web 1 by ada []: superseded Deployment 3 came after it.
    1 db 1 by ada []: superseded Deployment 3 came after it.
    ");
    rivet.finish().await;
}

async fn the_command_line_shows_locks_and_goes_back(rivet: Rivet) {
    insta::assert_snapshot!(rivet.cli(&["environment", "list"]).await, @"
    rivet: There is nothing here that you may see.
    = 5
    ");
    let mut shas = vec![];
    for number in 1..=2 {
        shas.push(rivet.push("main", &[Rivet::pipeline(FREE), ("version", &number.to_string())]).await);
        assert_eq!(rivet.work().await, ["deploy"]);
    }
    let named =
        |text: String| shas.iter().enumerate().fold(text, |t, (i, sha)| t.replace(&sha[..8], &format!("COMMIT-{i}")));
    insta::assert_snapshot!(rivet.cli(&["environment", "lock", "staging", "--reason", "freeze"]).await, @"
    URL/acme/app/environments/staging
    staging: locked by admin: freeze
    = 0
    ");
    insta::assert_snapshot!(named(rivet.cli(&["environment", "list"]).await), @"
    ENVIRONMENT  STANDS  COMMIT    LAST            LOCK                     URL
    staging      #2      COMMIT-1  #2 ✓ succeeded  locked by admin: freeze  URL/acme/app/environments/staging
    = 0
    ");
    insta::assert_snapshot!(rivet.cli(&["environment", "rollback", "staging"]).await, @"
    rivet: Environment staging is locked by admin: freeze. Unlock it first, or say that the rollback goes through the lock.
    = 1
    ");
    insta::assert_snapshot!(rivet.cli(&["environment", "unlock", "staging"]).await, @"
    URL/acme/app/environments/staging
    staging: open
    = 0
    ");
    let back: Value = json_of(&rivet.cli(&["environment", "rollback", "staging", "--to", "1", "--json"]).await);
    assert_eq!((&back["schema_version"], &back["number"]), (&json!(1), &json!(3)));
    assert_eq!(rivet.work().await, ["deploy"]);
    let shown = json_of(&rivet.cli(&["environment", "show", "Staging", "--json"]).await);
    assert_eq!(
        (&shown["deployments"][0]["rollback_to"], &shown["environment"]["lock"]["by"]),
        (&json!(1), &json!("admin"))
    );
    let shown = rivet.cli(&["environment", "show", "staging"]).await;
    assert!(shown.contains("deploy (#1 again)") && shown.contains("locked by admin: rolled back"), "{shown}");
    let nowhere = rivet.cli(&["environment", "show", "nowhere"]).await;
    assert!(nowhere.ends_with("= 5"), "{nowhere}");
    let run = rivet.run_id(1).await;
    insta::assert_snapshot!(rivet.cli(&["run", "rollback", &run]).await, @"
    rivet: Nothing in run #1 can be undone: no stage that succeeded has a rollback.
    = 1
    ");
    rivet.finish().await;
}

/// What `--json` printed.
fn json_of(printed: &str) -> Value {
    let text = printed.rsplit_once("= ").map_or(printed, |(text, _)| text);
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {printed}"))
}
