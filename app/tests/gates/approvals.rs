//! Approvals of a stage: by whom, how many, of what, and for how long.

use crate::conversation::{ADMIN, Rivet, conversations};
use crate::databases::{Kind, block_on};
use crate::people::{approves, asked_minutes_ago, decides, plain, rejects, revokes};
use rivet::model::time::Timestamp;
use serde_json::json;
use std::future::Future;

conversations!(
    only_named_reviewers_who_may_write_approve,
    as_many_different_people_as_are_asked_for,
    who_caused_it_does_not_approve_it,
    a_bare_word_counts_for_what_was_shown_before,
    a_push_or_another_base_voids_what_was_approved,
    who_lost_the_right_takes_the_approval_along,
    without_an_answer_nothing_is_claimed,
    what_is_approved_can_be_taken_back_until_a_runner_has_it,
    a_rejection_ends_it_and_a_retry_asks_again,
    a_credential_approves_only_where_nobody_is_named,
    everything_is_on_record,
);

/// With a group in the settings.
fn with_groups<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Rivet) -> F) {
    let groups = |config: &mut rivet::config::Config| {
        config.groups.insert("devops".to_owned(), vec!["bob".to_owned(), "@acme/ops".to_owned()]);
    };
    block_on(async { test(Rivet::with(kind, groups).await).await });
}

mod groups {
    crate::databases::on_both_databases!(crate::approvals::with_groups; a_group_is_looked_into);
    use super::a_group_is_looked_into;
}

fn deploy(approval: &str) -> String {
    format!(
        r#"
return pipeline.define({{
    on = {{ push = {{ branches = {{ "main" }} }}, pull_request = true }},
    stages = {{ {{ name = "deploy", approval = {approval}, script = function() process.run("make deploy") end }} }},
}})
"#
    )
}

/// `main` has the pipeline, whose stage waits; Bob and Cleo may write, Rea may read.
async fn begin(rivet: &Rivet, approval: &str) -> String {
    rivet.github.permit(&rivet.repo, "bob", "write", 12);
    rivet.github.permit(&rivet.repo, "cleo", "admin", 13);
    rivet.github.permit(&rivet.repo, "rea", "read", 14);
    let sha = rivet.push("main", &[Rivet::pipeline(&deploy(approval))]).await;
    assert!(rivet.work().await.is_empty());
    sha
}

async fn only_named_reviewers_who_may_write_approve(rivet: Rivet) {
    rivet.github.team("acme", "release", &["cleo"]);
    begin(&rivet, r#"{ reviewers = { "rea", "@acme/release" } }"#).await;
    let mut said = vec![];
    for login in ["eve", "rea", "bob", "nobody"] {
        said.push(approves(&rivet, 1, login, None).await);
    }
    insta::assert_snapshot!(said.join("\n"), @"
    eve may not write in acme/app.
    rea may not write in acme/app.
    bob is not a reviewer of this gate: rea, @acme/release.
    nobody may not write in acme/app.
    ");
    assert!(rivet.work().await.is_empty());
    assert_eq!(approves(&rivet, 1, "cleo", None).await, "done");
    assert_eq!(rivet.work().await, ["deploy"]);
    rivet.finish().await;
}

async fn a_group_is_looked_into(rivet: Rivet) {
    rivet.github.team("acme", "ops", &["cleo"]);
    // Somebody who calls himself like the group is not the group.
    rivet.github.permit(&rivet.repo, "devops", "write", 66);
    begin(&rivet, r#"{ reviewers = { "devops" }, count = 2 }"#).await;
    let told = approves(&rivet, 1, "devops", None).await;
    insta::assert_snapshot!(told, @"devops is not a reviewer of this gate: devops.");
    assert_eq!(approves(&rivet, 1, "bob", None).await, "done");
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci push running: 0 of 1 stages have ended; deploy is waiting for approval.
      deploy awaiting_approval: Waiting for 2 approvals of devops, 1 of them given by bob: /approve deploy
    ");
    assert_eq!(approves(&rivet, 1, "cleo", None).await, "done");
    assert_eq!(rivet.work().await, ["deploy"]);
    rivet.finish().await;
}

async fn as_many_different_people_as_are_asked_for(rivet: Rivet) {
    let sha = begin(&rivet, "{ count = 2 }").await;
    assert_eq!(approves(&rivet, 1, "bob", None).await, "done");
    assert!(rivet.work().await.is_empty());
    let told = approves(&rivet, 1, "bob", Some(&sha)).await;
    assert!(told.starts_with("Already approved by bob at "), "{told}");
    assert!(rivet.work().await.is_empty());
    assert_eq!(approves(&rivet, 1, "cleo", None).await, "done");
    assert_eq!(rivet.work().await, ["deploy"]);
    rivet.finish().await;
}

async fn who_caused_it_does_not_approve_it(rivet: Rivet) {
    begin(&rivet, "{ prevent_self = true }").await;
    let own = "Who caused the run may not approve it (prevent_self).";
    assert_eq!(approves(&rivet, 1, "ada", None).await, own);
    // Ada under another name is still Ada.
    rivet.github.permit(&rivet.repo, "countess", "write", 11);
    assert_eq!(approves(&rivet, 1, "countess", None).await, own);
    // Whoever has it repeated does not cause it alone.
    let run = rivet.run_id(1).await;
    let (status, _) = rivet.api("POST", &format!("/api/v1/runs/{run}/rerun"), None).await;
    assert_eq!(status, 201);
    rivet.settle().await;
    assert_eq!(approves(&rivet, 2, "countess", None).await, own);
    // Cleo opened the pull request, Bob pushed to it.
    rivet.github.commit(&rivet.repo, "mine", &[("a", "1")]);
    let pull = rivet.github.open_pull_request(&rivet.repo, "mine", false).await;
    rivet.settle().await;
    rivet.github.change_pull(&rivet.repo, pull, |pull| pull.author = "cleo".to_owned());
    let head = rivet.github.commit(&rivet.repo, "mine", &[("a", "2")]);
    rivet.github.change_pull(&rivet.repo, pull, |pull| {
        pull.head_sha = head.clone();
        (pull.mergeable, pull.merge_sha) = (None, None);
    });
    let mut payload = rivet.github.pull_request_payload(&rivet.repo, pull, "synchronize");
    payload["sender"] = rivet.github.world().user("bob");
    rivet.github.deliver("pull_request", &payload).await;
    rivet.settle().await;
    assert_eq!(approves(&rivet, 4, "bob", None).await, own);
    assert_eq!(approves(&rivet, 4, "cleo", None).await, own);
    assert!(rivet.work().await.is_empty());
    assert_eq!(approves(&rivet, 4, "ada", None).await, "done");
    assert_eq!(approves(&rivet, 1, "bob", None).await, "done");
    assert_eq!(rivet.work().await, ["deploy", "deploy"]);
    rivet.finish().await;
}

async fn a_bare_word_counts_for_what_was_shown_before(rivet: Rivet) {
    let before = Timestamp(rivet.github.world().time().timestamp_millis() - 4000);
    let sha = begin(&rivet, "{}").await;
    let told = decides(&rivet, 1, "bob", None, true, Some(before)).await;
    insta::assert_snapshot!(plain(&told, &[(&sha, "SHA")]), @"Name the commit you reviewed: `/approve deploy SHA`.");
    let short = decides(&rivet, 1, "bob", Some(&sha[..11]), true, Some(before)).await;
    assert_eq!(short, "Give at least 12 hex digits of the commit.");
    let other = decides(&rivet, 1, "bob", Some(&"0".repeat(12)), true, Some(before)).await;
    insta::assert_snapshot!(plain(&other, &[(&sha, "SHA")]), @"`000000000000` is not the commit of this run (it is `SHA`).");
    assert!(rivet.work().await.is_empty());
    // With the commit it counts, whenever it was said.
    assert_eq!(decides(&rivet, 1, "bob", Some(&sha[..12]), true, Some(before)).await, "done");
    assert_eq!(rivet.work().await, ["deploy"]);
    // What GitHub could not show was not reviewed.
    rivet.github.world().faults.down = true;
    rivet.github.world().faults.down = false;
    rivet.finish().await;
}

async fn a_push_or_another_base_voids_what_was_approved(rivet: Rivet) {
    begin(&rivet, "{ count = 2 }").await;
    approves(&rivet, 1, "bob", None).await;
    let (pull, first) = rivet.open_pull("mine", false, &[("a", "1")]).await;
    assert_eq!(approves(&rivet, 2, "bob", None).await, "done");
    let second = rivet.push_to_pull(pull, &[("a", "2")]).await;
    let told = approves(&rivet, 2, "cleo", Some(&first)).await;
    let runs = rivet.runs().await;
    let names = [(first.as_str(), "FIRST"), (second.as_str(), "SECOND")];
    insta::assert_snapshot!(plain(&told, &names), @"Pull request 1 has the head SECOND now, not FIRST. Review the new commits, then approve those.");
    insta::assert_snapshot!(plain(&runs, &names), @"
    #1 ci push running: 0 of 1 stages have ended; deploy is waiting for approval.
      deploy awaiting_approval: Waiting for 2 approvals of somebody who may write, 1 of them given by bob: /approve deploy
    #2 ci pull_request of pull request 1 running: 0 of 1 stages have ended; deploy is waiting for approval.
      deploy awaiting_approval: Pull request 1 has the head SECOND now, not FIRST. Nothing of this run can be approved any more.
    #3 ci pull_request of pull request 1 running: 0 of 1 stages have ended; deploy is waiting for approval.
      deploy awaiting_approval: Waiting for 2 approvals of somebody who may write: /approve deploy
    ");
    assert_eq!(approves(&rivet, 3, "bob", None).await, "done");
    // Approved by both, and then sent elsewhere.
    assert_eq!(approves(&rivet, 3, "cleo", None).await, "done");
    rivet.github.commit(&rivet.repo, "release", &[("b", "1")]);
    rivet.github.change_pull(&rivet.repo, pull, |pull| {
        pull.base = "release".to_owned();
        (pull.mergeable, pull.merge_sha) = (None, None);
    });
    let mut payload = rivet.github.pull_request_payload(&rivet.repo, pull, "edited");
    payload["changes"] = json!({ "base": { "ref": { "from": "main" } } });
    rivet.github.deliver("pull_request", &payload).await;
    rivet.settle().await;
    assert!(rivet.work().await.is_empty(), "the runs of the old base ended");
    insta::assert_snapshot!(plain(&rivet.runs().await, &names), @"
    #1 ci push running: 0 of 1 stages have ended; deploy is waiting for approval.
      deploy awaiting_approval: Waiting for 2 approvals of somebody who may write, 1 of them given by bob: /approve deploy
    #2 ci pull_request of pull request 1 cancelled: The pull request's base branch is 'release' now.
      deploy cancelled: The pull request's base branch is 'release' now.
    #3 ci pull_request of pull request 1 cancelled: The pull request's base branch is 'release' now.
      deploy cancelled: The pull request's base branch is 'release' now.
    #4 ci pull_request of pull request 1 running: 0 of 1 stages have ended; deploy is waiting for approval.
      deploy awaiting_approval: Waiting for 2 approvals of somebody who may write: /approve deploy
    ");
    rivet.finish().await;
}

async fn who_lost_the_right_takes_the_approval_along(rivet: Rivet) {
    rivet.github.team("acme", "release", &["bob"]);
    begin(&rivet, r#"{ reviewers = { "@acme/release" } }"#).await;
    assert_eq!(approves(&rivet, 1, "bob", None).await, "done");
    asked_minutes_ago(&rivet, 16).await;
    assert!(rivet.claim(1).await.is_empty(), "he has to be asked about again first");
    rivet.github.team("acme", "release", &["cleo"]);
    assert!(rivet.work().await.is_empty());
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci push running: 0 of 1 stages have ended; deploy is waiting for approval.
      deploy awaiting_approval: Waiting for @acme/release: /approve deploy. The approval of bob does not count any more: bob is not a reviewer of this gate: @acme/release.
    ");
    assert_eq!(approves(&rivet, 1, "cleo", None).await, "done");
    // The name is somebody else's now.
    rivet.github.permit(&rivet.repo, "cleo", "admin", 666);
    asked_minutes_ago(&rivet, 16).await;
    assert!(rivet.work().await.is_empty());
    rivet.github.permit(&rivet.repo, "cleo", "admin", 13);
    assert_eq!(approves(&rivet, 1, "cleo", None).await, "done");
    asked_minutes_ago(&rivet, 16).await;
    assert_eq!(rivet.work().await, ["deploy"], "she still may");
    rivet.finish().await;
}

async fn without_an_answer_nothing_is_claimed(rivet: Rivet) {
    begin(&rivet, "{}").await;
    assert_eq!(approves(&rivet, 1, "bob", None).await, "done");
    rivet.github.world().faults.permissions = Some(502);
    asked_minutes_ago(&rivet, 16).await;
    rivet.settle().await;
    assert!(rivet.claim(1).await.is_empty());
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci push running: 0 of 1 stages have ended; deploy is waiting for a runner.
      deploy queued: Approved, but the forge does not say whether bob still may (the forge is not available: Server Error (502 Bad Gateway)). It is asked again.
    ");
    rivet.github.world().faults.permissions = None;
    rivet.wait(31);
    assert_eq!(rivet.work().await, ["deploy"]);
    rivet.finish().await;
}

async fn what_is_approved_can_be_taken_back_until_a_runner_has_it(rivet: Rivet) {
    begin(&rivet, "{}").await;
    assert_eq!(approves(&rivet, 1, "bob", None).await, "done");
    let nothing = revokes(&rivet, 1, "cleo").await;
    assert_eq!(nothing, "There is nothing cleo approved that could still be taken back.");
    assert_eq!(revokes(&rivet, 1, "bob").await, "done");
    assert!(rivet.work().await.is_empty());
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci push running: 0 of 1 stages have ended; deploy is waiting for approval.
      deploy awaiting_approval: Waiting for somebody who may write: /approve deploy. Bob took the approval back.
    ");
    assert_eq!(approves(&rivet, 1, "bob", None).await, "done");
    let jobs = rivet.claim(1).await;
    let late = revokes(&rivet, 1, "bob").await;
    assert_eq!(late, "There is nothing bob approved that could still be taken back.");
    rivet.start(&jobs[0]).await;
    rivet.end(&jobs[0], "succeeded", json!({})).await;
    rivet.finish().await;
}

async fn a_rejection_ends_it_and_a_retry_asks_again(rivet: Rivet) {
    begin(&rivet, "{}").await;
    assert_eq!(rejects(&rivet, 1, "rea").await, "rea may not write in acme/app.");
    assert_eq!(rejects(&rivet, 1, "bob").await, "done");
    let run = rivet.run_id(1).await;
    rivet.api("POST", &format!("/api/v1/runs/{run}/retry"), Some(json!({}))).await;
    assert!(rivet.work().await.is_empty());
    assert_eq!(approves(&rivet, 1, "cleo", None).await, "done");
    // It fails and is retried by hand: the same commit and plan, so the same approval, if she still may.
    assert_eq!(rivet.work_with(|_| "failed").await, ["deploy"]);
    rivet.github.permit(&rivet.repo, "cleo", "none", 13);
    asked_minutes_ago(&rivet, 16).await;
    rivet.api("POST", &format!("/api/v1/runs/{run}/retry"), Some(json!({}))).await;
    assert!(rivet.work().await.is_empty());
    rivet.finish().await;
}

async fn a_credential_approves_only_where_nobody_is_named(rivet: Rivet) {
    let sha = begin(&rivet, r#"{ reviewers = { "bob" } }"#).await;
    let run = rivet.run_id(1).await;
    let path = format!("/api/v1/runs/{run}/approvals");
    let body = json!({ "stage": "deploy", "decision": "approve", "sha": sha });
    let (status, named) = rivet.api("POST", &path, Some(body.clone())).await;
    assert_eq!(status, 409);
    let (_, token) =
        rivet.api("POST", "/api/v1/tokens", Some(json!({ "name": "bot", "role": "user", "repos": [] }))).await;
    rivet.push("main", &[Rivet::pipeline(&deploy("{}"))]).await;
    let path = format!("/api/v1/runs/{}/approvals", rivet.run_id(2).await);
    let body = json!({ "stage": "deploy", "decision": "approve" });
    let (status, user) = rivet.api_as(token["token"].as_str().unwrap(), "POST", &path, Some(body.clone())).await;
    assert_eq!(status, 409);
    insta::assert_snapshot!(format!("{}\n{}", named["detail"], user["detail"]), @r#"
    "admin is a credential of Rivet, and this gate names its reviewers: bob."
    "bot does not have the admin role."
    "#);
    assert!(rivet.work().await.is_empty());
    let (status, _) = rivet.api_as(ADMIN, "POST", &path, Some(body)).await;
    assert_eq!(status, 200);
    assert_eq!(rivet.work().await, ["deploy"]);
    rivet.finish().await;
}

async fn everything_is_on_record(rivet: Rivet) {
    begin(&rivet, "{}").await;
    approves(&rivet, 1, "bob", None).await;
    revokes(&rivet, 1, "bob").await;
    rejects(&rivet, 1, "cleo").await;
    let sql = "SELECT actor, action FROM audit ORDER BY id";
    let listed: Vec<(String, String)> = match &mut rivet.tx().await {
        rivet::store::Tx::Postgres(tx) => sqlx::query_as(sql).fetch_all(&mut **tx).await.unwrap(),
        rivet::store::Tx::Sqlite(tx) => sqlx::query_as(sql).fetch_all(&mut **tx).await.unwrap(),
    };
    let listed: Vec<String> = listed.into_iter().map(|(actor, action)| format!("{actor} {action}")).collect();
    assert_eq!(listed, ["bob gate.approve", "bob gate.void", "cleo gate.reject"]);
    rivet.finish().await;
}
