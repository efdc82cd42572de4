//! Buttons on checks and re-runs from the forge's pages: with the wrong person, an old attempt, another commit.

use crate::conversation::{Rivet, conversations};
use crate::fake_github::APP_ID;
use crate::scene::{again, newest, pull, waiting};
use serde_json::json;

conversations!(
    a_button_approves_what_its_check_shows,
    buttons_of_the_wrong_person_attempt_and_commit_are_refused,
    a_check_is_run_again_in_its_run,
    a_suite_is_run_again_where_it_failed,
    buttons_do_nothing_twice,
    a_button_never_raises_trust,
);

async fn a_button_approves_what_its_check_shows(rivet: Rivet) {
    let (_, head) = waiting(&rivet).await;
    rivet.press("bob", "ci / deploy", "approve").await;
    insta::assert_snapshot!(newest(&rivet).await, @"refused: bob asked for 'approve' in run 1: bob may not write in acme/app");
    assert_eq!(rivet.work().await, Vec::<String>::new());
    rivet.press("alice", "ci / deploy", "approve").await;
    insta::assert_snapshot!(newest(&rivet).await, @"done: alice asked for 'approve' in run 1: done");
    assert_eq!(rivet.work().await, ["deploy"]);
    insta::assert_snapshot!(rivet.why(&head).await, @"
    bench skip: on.pull_request is not set
    ci run: pull request 1 into 'main'; its test merge 1c1badc32acd is built
    nightly skip: on.pull_request is not set
    poll skip: on.pull_request is not set
    ci refused: bob asked for 'approve' in run 1: bob may not write in acme/app
    ci done: alice asked for 'approve' in run 1: done
    ");

    let (_, head) = rivet.open_pull("other", false, &[("src/b", "1")]).await;
    rivet.work().await;
    rivet.press("alice", "ci / deploy", "reject").await;
    insta::assert_snapshot!(rivet.checks(&head), @"
    ci / build: completed success: It succeeded
    ci / deploy: completed failure: alice rejected it for de8c29780983 [Retry]
    rivet/ci: failure: deploy failed.
    ");
    rivet.finish().await;
}

/// Presses the newest check of this name with another external id, commit or sender.
async fn press_changed(rivet: &Rivet, check: &str, button: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let mut payload = rivet.github.common(&rivet.repo);
    {
        let world = rivet.github.world();
        let found = world.checks.iter().rev().find(|c| c.body["name"] == check).unwrap();
        payload["check_run"] = json!({
            "id": found.id, "name": check, "external_id": found.body["external_id"], "head_sha": found.body["head_sha"],
        });
        payload["sender"] = world.user("alice");
    }
    payload["action"] = "requested_action".into();
    payload["requested_action"] = json!({ "identifier": button });
    change(&mut payload);
    rivet.github.deliver("check_run", &payload).await;
    rivet.settle().await;
}

async fn buttons_of_the_wrong_person_attempt_and_commit_are_refused(rivet: Rivet) {
    let (_, _) = waiting(&rivet).await;
    let other = rivet.github.commit(&rivet.repo, "elsewhere", &[("src/z", "1")]);
    let mut said = vec![];
    press_changed(&rivet, "ci / deploy", "approve", |p| p["check_run"]["head_sha"] = other.as_str().into()).await;
    said.push(newest(&rivet).await);
    press_changed(&rivet, "ci / deploy", "approve", |p| p["sender"] = json!({ "login": "ghost", "id": 10137 })).await;
    said.push(newest(&rivet).await);
    press_changed(&rivet, "ci / deploy", "approve", |p| p["sender"] = json!(null)).await;
    said.push(newest(&rivet).await);
    press_changed(&rivet, "ci / deploy", "approve", |p| p["sender"]["login"] = "helper[bot]".into()).await;
    said.push(newest(&rivet).await);
    press_changed(&rivet, "ci / deploy", "approve", |p| p["sender"]["id"] = 99.into()).await;
    said.push(newest(&rivet).await);
    press_changed(&rivet, "ci / deploy", "approve", |p| p["check_run"]["external_id"] = "01x:deploy:1".into()).await;
    said.push(newest(&rivet).await);
    press_changed(&rivet, "ci / deploy", "approve", |p| p["check_run"]["external_id"] = "definitions".into()).await;
    said.push(newest(&rivet).await);
    press_changed(&rivet, "ci / deploy", "launch", |_| {}).await;
    said.push(newest(&rivet).await);
    rivet.github.world().faults.permissions = Some(502);
    press_changed(&rivet, "ci / deploy", "approve", |_| {}).await;
    rivet.github.world().faults.permissions = None;
    said.push(newest(&rivet).await);
    // Another repository's event with this run's id.
    let theirs = rivet.github.repo("acme/other");
    rivet.github.permit(&theirs, "alice", "write", 12);
    press_changed(&rivet, "ci / deploy", "approve", |p| {
        p["repository"]["id"] = theirs.forge_id.into();
        p["repository"]["name"] = "other".into();
        p["repository"]["full_name"] = "acme/other".into();
    })
    .await;
    said.push(newest(&rivet).await);
    insta::assert_snapshot!(said.join("\n"), @"
    refused: alice asked for 'approve': the button was on another commit than run 1's
    refused: ghost asked for 'approve' in run 1: ghost may not write in acme/app
    refused: ghost asked for 'approve' in run 1: ghost is nobody who may press a button
    refused: helper[bot] asked for 'approve' in run 1: helper[bot] is nobody who may press a button
    refused: alice asked for 'approve' in run 1: alice is not the account that asked.
    refused: alice asked for 'approve': there is no such run in this repository
    refused: alice asked for 'approve': this check stands for no stage; the next push looks at the definitions again
    refused: alice asked for 'launch' in run 1: there is no button 'launch'
    refused: alice asked for 'approve' in run 1: GitHub did not confirm your permission (the forge is not available: Server Error (502 Bad Gateway)). Nothing was done; try again.
    refused: alice asked for 'approve': there is no such run in this repository
    ");
    assert_eq!(rivet.work().await, Vec::<String>::new());
    rivet.finish().await;
}

async fn a_check_is_run_again_in_its_run(rivet: Rivet) {
    let (_, head) = pull(&rivet, false).await;
    rivet.press("alice", "ci / build", "rerequested").await;
    insta::assert_snapshot!(newest(&rivet).await, @"refused: alice asked for a re-run in run 1: it is still running");
    rivet.work_with(|_| "failed").await;
    rivet.press("bob", "ci / build", "rerequested").await;
    insta::assert_snapshot!(newest(&rivet).await, @"refused: bob asked for a re-run in run 1: bob may not write in acme/app");
    rivet.press("alice", "ci / build", "rerequested").await;
    assert_eq!(rivet.work_with(|_| "failed").await, ["build"]);
    // The first attempt's check is history.
    press_changed(&rivet, "ci / build", "retry", |p| {
        let old = p["check_run"]["external_id"].as_str().unwrap().replace(":2", ":1");
        p["check_run"]["external_id"] = old.into();
    })
    .await;
    insta::assert_snapshot!(newest(&rivet).await, @"refused: alice asked for 'retry': the button was of attempt 1 of stage 'build' in run 1, which is at attempt 2 by now");
    rivet.press("alice", "ci / build", "retry").await;
    assert_eq!(rivet.work().await, ["build"]);
    insta::assert_snapshot!(rivet.checks(&head), @"
    ci / build: completed failure: command_failed: make ended with 2 [Retry]
    ci / deploy: completed skipped: Skipped: build failed
    ci / build: completed failure: command_failed: make ended with 2 [Retry]
    ci / deploy: queued: Waiting for somebody who may write: /approve deploy [Approve] [Reject] [Cancel]
    ci / build: completed success: It succeeded
    rivet/ci: pending: Waiting for somebody who may write: /approve deploy
    ");
    // What succeeded stays as it is: everything runs again.
    rivet.press("alice", "ci / deploy", "cancel").await;
    rivet.press("alice", "ci / build", "rerequested").await;
    assert_eq!(rivet.work().await, ["build"]);
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci pull_request of pull request 1 cancelled: alice cancelled it with a button.
      build succeeded: It succeeded.
      deploy cancelled: alice cancelled it with a button.
    #2 ci pull_request of pull request 1 running: 1 of 2 stages have ended; deploy is waiting for approval.
      build succeeded: It succeeded.
      deploy awaiting_approval: Waiting for somebody who may write: /approve deploy
    ");
    rivet.finish().await;
}

async fn suite(rivet: &Rivet, sha: &str, login: &str, app: u64) -> String {
    let mut payload = rivet.github.common(&rivet.repo);
    payload["action"] = "rerequested".into();
    payload["check_suite"] = json!({ "id": 1, "head_sha": sha, "app": { "id": app } });
    payload["sender"] = rivet.github.world().user(login);
    rivet.github.deliver("check_suite", &payload).await;
    rivet.settle().await;
    newest(rivet).await
}

async fn a_suite_is_run_again_where_it_failed(rivet: Rivet) {
    let (number, head) = pull(&rivet, false).await;
    rivet.comment(number, "alice", "/run nightly\n/bench").await;
    rivet.work_with(|stage| if stage == "soak" { "succeeded" } else { "failed" }).await;
    let mut said = vec![suite(&rivet, &head, "alice", APP_ID + 1).await, suite(&rivet, &head, "bob", APP_ID).await];
    said.push(suite(&rivet, &"0".repeat(40), "alice", APP_ID).await);
    assert_eq!(rivet.work().await, Vec::<String>::new());
    said.push(suite(&rivet, &head, "alice", APP_ID).await);
    let mut done = rivet.work().await;
    done.sort();
    assert_eq!(done, ["bench", "build"]);
    again(&rivet).await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    insta::assert_snapshot!(said.join("\n"), @"
    skip: alice asked for a re-run: the check suite is another App's
    refused: bob asked for a re-run: bob may not write in acme/app
    skip: alice asked for a re-run: nothing of this commit failed: there is nothing to try again
    done: alice asked for a re-run in run 3: done
    done: alice asked for a re-run in run 1: done
    ");
    rivet.finish().await;
}

async fn buttons_do_nothing_twice(rivet: Rivet) {
    let (_, _) = pull(&rivet, false).await;
    rivet.work_with(|_| "failed").await;
    rivet.press("alice", "ci / build", "retry").await;
    rivet.work_with(|_| "failed").await;
    let before = rivet.runs().await;
    again(&rivet).await;
    rivet.sql("UPDATE command SET outcome = NULL, done_at = NULL").await;
    again(&rivet).await;
    insta::assert_snapshot!(newest(&rivet).await, @"done: alice asked for 'retry' in run 1: done");
    assert_eq!(rivet.work().await, Vec::<String>::new());
    assert_eq!(rivet.runs().await, before);
    rivet.finish().await;
}

async fn a_button_never_raises_trust(rivet: Rivet) {
    let (number, head) = pull(&rivet, true).await;
    rivet.press("alice", "ci / build", "rerequested").await;
    rivet.comment(number, "alice", "/cancel").await;
    rivet.press("alice", "ci / build", "rerequested").await;
    rivet.comment(number, "alice", "/retry").await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    rivet.comment(number, "alice", &format!("/ok-to-test {head}")).await;
    assert_eq!(rivet.work().await, ["build"]);
    rivet.finish().await;
}
