//! What the default branch's policy lets a change do, and what a change of the definitions says of itself.

use crate::conversation::{Rivet, conversations};
use crate::people::approves;

conversations!(
    a_pull_request_uses_what_the_base_allows_and_cannot_change_that,
    a_protected_environment_is_guarded_whatever_a_pipeline_says,
    a_policy_that_cannot_be_read_lets_nothing_by,
    a_change_of_definitions_shows_what_it_gains,
    what_is_no_branch_of_ours_is_not_launched,
);

const POLICY: &str = r#"
[pull_requests]
executors = ["podman"]
secrets = []

[environments.production]
reviewers = ["bob"]
branches = ["main"]
"#;

const CI: &str = r#"
return pipeline.define({
    on = { pull_request = true, push = { branches = { "main" } }, manual = true },
    stages = { { name = "test", container = "rust:1", script = function() process.run("make test") end } },
})
"#;

async fn a_pull_request_uses_what_the_base_allows_and_cannot_change_that(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(CI), (".rivet/config/policy.toml", POLICY)]).await;
    assert_eq!(rivet.work().await, ["test"]);
    let greedy = CI.replace(r#"container = "rust:1""#, r#"secrets = { "KEY" }, environment = "production""#);
    let files = [Rivet::pipeline(&greedy), (".rivet/config/policy.toml", "")];
    let (_, head) = rivet.open_pull("greedy", false, &files).await;
    assert!(rivet.work().await.is_empty());
    insta::assert_snapshot!(rivet.checks(&head), @"
    rivet / definitions: completed failure: Configuration error: mend 3 problems in .rivet/
      .rivet/ci.lua:4: stage 'test' names no container, so it may run on the machine itself, which pull requests may not use here.
    .rivet/config/policy.toml of the default branch allows podman
      .rivet/ci.lua:4: stage 'test' reads the secret KEY, which pull requests may not use here.
    .rivet/config/policy.toml of the default branch allows none
      .rivet/ci.lua:4: stage 'test' deploys to production, which only branches main may; this is refs/pull/1/head.
    rivet/ci: error: the policy of main stands against it: .rivet/ci.lua:4:25: policy.executor_forbidden: stage 'test' names no container, so it may run on the …
    ");
    insta::assert_snapshot!(rivet.why(&head).await, @"ci error: the policy of main stands against it: .rivet/ci.lua:4:25: policy.executor_forbidden: stage 'test' names no container, so it may run on the machine itself, which pull requests may not use here. .rivet/config/policy.toml of the default branch allows podman");
    let (_, modest) = rivet.open_pull("modest", false, &[("a", "1")]).await;
    assert_eq!(rivet.work().await, ["test"]);
    insta::assert_snapshot!(rivet.checks(&modest), @"
    ci / test: completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    ");
    rivet.finish().await;
}

async fn a_protected_environment_is_guarded_whatever_a_pipeline_says(rivet: Rivet) {
    rivet.github.permit(&rivet.repo, "bob", "write", 12);
    rivet.github.permit(&rivet.repo, "cleo", "admin", 13);
    rivet.push("main", &[(".rivet/config/policy.toml", POLICY)]).await;
    let deploy = r#"
return pipeline.define({
    on = { push = { branches = { "*" } } },
    stages = { { name = "deploy", environment = "production", approval = { required = false }, script = function() end } },
})
"#;
    rivet.push("main", &[Rivet::pipeline(deploy)]).await;
    assert!(rivet.work().await.is_empty());
    assert_eq!(approves(&rivet, 1, "cleo", None).await, "cleo is not a reviewer of this gate: bob.");
    assert_eq!(approves(&rivet, 1, "bob", None).await, "done");
    assert_eq!(rivet.work().await, ["deploy"]);
    // Whoever may push a branch may write anything there, but not deploy it.
    let sha = rivet.push("mine", &[("a", "1"), (".rivet/config/policy.toml", "")]).await;
    assert!(rivet.work().await.is_empty());
    insta::assert_snapshot!(rivet.checks(&sha), @"
    rivet / definitions: completed failure: Configuration error: mend 1 problem in .rivet/
      .rivet/ci.lua:4: stage 'deploy' deploys to production, which only branches main may; this is mine.
    rivet/ci: error: the policy of main stands against it: .rivet/ci.lua:4:25: policy.environment_forbidden: stage 'deploy' deploys to production, which only br…
    ");
    rivet.finish().await;
}

async fn a_policy_that_cannot_be_read_lets_nothing_by(rivet: Rivet) {
    let broken = "[pull_request]\nrunners = 5\n";
    rivet.push("main", &[Rivet::pipeline(CI), (".rivet/config/policy.toml", broken)]).await;
    assert_eq!(rivet.work().await, ["test"], "what uses nothing that a policy is about still runs");
    let (_, head) = rivet.open_pull("mine", false, &[("a", "1")]).await;
    assert!(rivet.work().await.is_empty());
    insta::assert_snapshot!(rivet.checks(&head), @"
    rivet / definitions: completed failure: Configuration error: mend 1 problem in .rivet/
    rivet/ci: error: the policy of main stands against it: policy.unknown_key: on the default branch, .rivet/config/policy.toml:1:2: policy.unknown_key: unknown…
    ");
    rivet.finish().await;
}

async fn a_change_of_definitions_shows_what_it_gains(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(CI), (".rivet/broken.lua", "return 5")]).await;
    rivet.work().await;
    let more = CI.replace(r#"container = "rust:1""#, r#"container = "rust:2", secrets = { "DEPLOY_KEY" }"#);
    let (_, head) = rivet.open_pull("more", false, &[Rivet::pipeline(&more)]).await;
    rivet.work().await;
    let shown = rivet.checks(&head);
    insta::assert_snapshot!(shown, @"
    rivet / definitions: completed failure: Configuration error: mend 1 problem in .rivet/
      .rivet/broken.lua:1: the file returns no pipeline.
    End it with: return pipeline.define({ … }).
    ci / test: completed success: It succeeded
    rivet/broken: error: the definition has an error: .rivet/broken.lua:1:1: plan.missing: the file returns no pipeline. End it with: return pipeline.define({ … }).
    rivet/ci: success: Every stage succeeded.
    ");
    let summary = rivet.github.summary("rivet / definitions");
    insta::assert_snapshot!(summary, @"
    ```text
    .rivet/broken.lua:1:1: plan.missing: the file returns no pipeline. End it with: return pipeline.define({ … }).
    ```

    Other files' pipelines still run. `rivet check` says all of it on your machine.

    **2 changes of .rivet/, gained: test reads the secret DEPLOY_KEY**, compared with the base:

    ```text
    gains: ci / test reads the secret DEPLOY_KEY
    ci / test runs in rust:2, not in rust:1
    Files that differ: .rivet/ci.lua.
    the base's .rivet/broken.lua cannot be read, so it is not compared: .rivet/broken.lua:1:1: plan.missing: the file returns no pipeline. End it with: return pipeline.define({ … }).
    this change's .rivet/broken.lua cannot be read, so it is not compared: .rivet/broken.lua:1:1: plan.missing: the file returns no pipeline. End it with: return pipeline.define({ … }).
    ```
    ");
    // The base's own file is mended: then nothing stands before what is gained.
    let other = CI.replace("make test", "make all");
    let files = [(".rivet/broken.lua", CI), Rivet::pipeline(&more), (".rivet/other.lua", other.as_str())];
    let (_, head) = rivet.open_pull("mended", false, &files).await;
    rivet.work().await;
    insta::assert_snapshot!(rivet.checks(&head), @"
    rivet / definitions: completed success: 6 changes of .rivet/, gained: test reads the secret DEPLOY_KEY
    broken / test: completed success: It succeeded
    ci / test: completed success: It succeeded
    other / test: completed success: It succeeded
    rivet/broken: success: Every stage succeeded.
    rivet/ci: success: Every stage succeeded.
    rivet/other: success: Every stage succeeded.
    ");
    rivet.finish().await;
}

async fn what_is_no_branch_of_ours_is_not_launched(rivet: Rivet) {
    let ours = rivet.push("main", &[Rivet::pipeline(CI)]).await;
    rivet.push("main", &[("a", "1")]).await;
    rivet.work().await;
    let (pull, theirs) = rivet.open_pull("theirs", true, &[("a", "2")]).await;
    // A fork's branch is none of this repository; its commits are found by their ids even so.
    let git = rivet.github.git(&rivet.repo);
    git.set(&format!("pull/{pull}/head"), &theirs);
    git.run(&["update-ref", "-d", "refs/heads/theirs"]).unwrap();
    let mut said = vec![];
    for git_ref in [theirs.clone(), format!("refs/pull/{pull}/head"), ours, "refs/heads/main".to_owned()] {
        let body = serde_json::json!({ "repo": "acme/app", "pipeline": "ci", "ref": git_ref });
        let (status, answer) = rivet.api("POST", "/api/v1/runs", Some(body)).await;
        said.push(format!("{status} {}", answer["detail"].as_str().unwrap_or_default().replace(&theirs, "THEIRS")));
    }
    insta::assert_snapshot!(said.join("\n"), @"
    422 THEIRS is not run: it is no branch, no tag, and no commit of the default branch, so nobody vouches for it.
    422 Refs/pull/1/head is not run: it is no branch, no tag, and no commit of the default branch, so nobody vouches for it.
    201 
    201
    ");
}
