//! Environments: what their ledger says, what a lock holds, and how one goes back.

#[path = "support/conversation.rs"]
mod conversation;
#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;

use conversation::{Rivet, conversations};
use rivet::actions::rollback::Wish;
use rivet::actions::{environment, rollback};
use rivet::engine::advance::Error;
use rivet::model::ids::RunId;
use serde_json::json;

conversations!(what_was_deployed_is_in_the_ledger_and_can_be_gone_back_to, a_lock_holds_what_deploys_and_lets_it_go,);

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
    rivet.start(&jobs[0]).await;
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
