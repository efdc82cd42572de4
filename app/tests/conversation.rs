//! The harness of conversations, tried on the simplest one: a push is built, what it gated is approved, and GitHub shows it.

#[path = "support/conversation.rs"]
mod conversation;
#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;

use conversation::{Rivet, conversations};

conversations!(a_push_is_built_gated_approved_and_reported);

const DEPLOY: &str = r#"
return pipeline.define({
    on = { push = { branches = { "main" } } },
    stages = {
        { name = "build", script = function() process.run("make") end },
        { name = "deploy", approval = { required = true }, script = function() process.run("make deploy") end },
    },
})
"#;

async fn a_push_is_built_gated_approved_and_reported(rivet: Rivet) {
    let sha = rivet.push("main", &[Rivet::pipeline(DEPLOY)]).await;
    assert_eq!(rivet.work().await, ["build"]);
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci push running: 1 of 2 stages have ended; deploy is waiting for approval.
      build succeeded: It succeeded.
      deploy awaiting_approval: Waiting for somebody who may write: /approve deploy
    ");
    let run = rivet.run_id(1).await;
    let body = serde_json::json!({ "stage": "deploy", "decision": "approve", "sha": sha });
    let (status, answer) = rivet.api("POST", &format!("/api/v1/runs/{run}/approvals"), Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(rivet.work().await, ["deploy"]);
    insta::assert_snapshot!(rivet.checks(&sha), @"
    ci / build: completed success: It succeeded
    ci / deploy: completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    ");
    insta::assert_snapshot!(rivet.why(&sha).await, @"ci run: branch 'main' matches on.push.branches [main]");
    rivet.finish().await;
}
