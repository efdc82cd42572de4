//! What strangers wrote runs only where somebody who may write let exactly that in.

use crate::conversation::{Rivet, conversations};
use crate::people::{asked_minutes_ago, not_ok_to_test, ok_to_test, plain};
use serde_json::json;

conversations!(
    a_fork_waits_until_its_very_commit_is_let_in,
    a_push_takes_the_word_back,
    only_who_may_write_lets_in_and_only_while_the_forge_says_so,
    another_head_than_the_one_reviewed_never_runs,
    labels_by_an_admin_make_a_fork_no_more_trusted,
    whoever_may_not_write_is_a_stranger_in_our_own_repository_too,
    a_bot_counts_by_its_push_and_by_nothing_else,
    nothing_is_guessed_while_the_forge_does_not_answer,
    cancelling_and_repeating_open_no_gate,
    a_group_that_is_cancelled_opens_no_gate,
    a_word_that_is_taken_back_or_too_old_counts_no_more,
    no_more_than_a_hundred_strangers_wait,
);

const TESTED: &str = r#"
return pipeline.define({
    on = { push = { branches = { "main" } }, pull_request = { types = { "opened", "synchronize", "reopened", "labeled", "edited" } } },
    stages = {
        { name = "test", script = function() process.run("make test") end },
        { name = "lint", depends_on = { "test" }, script = function() process.run("make lint") end },
    },
})
"#;

/// `main` has the pipeline and was built.
async fn begin(rivet: &Rivet) {
    rivet.github.permit(&rivet.repo, "bob", "write", 12);
    rivet.github.permit(&rivet.repo, "ann", "admin", 13);
    rivet.github.permit(&rivet.repo, "rea", "read", 14);
    rivet.push("main", &[Rivet::pipeline(TESTED)]).await;
    assert_eq!(rivet.work().await, ["test", "lint"]);
}

async fn a_fork_waits_until_its_very_commit_is_let_in(rivet: Rivet) {
    begin(&rivet).await;
    let (pull, head) = rivet.open_pull("theirs", true, &[("a", "1")]).await;
    assert!(rivet.work().await.is_empty());
    insta::assert_snapshot!(plain(&rivet.runs().await, &[(&head, "HEAD")]), @"
    #1 ci push completed: Every stage succeeded.
      test succeeded: It succeeded.
      lint succeeded: It succeeded.
    #2 ci pull_request of pull request 1 running: 0 of 2 stages have ended; test is waiting for approval.
      test awaiting_approval: Waiting for somebody who may write to let this commit run: review it, then comment `/ok-to-test HEAD`.
      lint pending: Waiting for test to end.
    ");
    insta::assert_snapshot!(plain(&ok_to_test(&rivet, pull, "bob", None).await, &[(&head, "HEAD")]), @"This pull request comes from a fork. Name the commit you reviewed: `/ok-to-test HEAD`.");
    insta::assert_snapshot!(ok_to_test(&rivet, pull, "bob", Some(&head[..7])).await, @"Give at least 12 hex digits of the commit.");
    insta::assert_snapshot!(ok_to_test(&rivet, pull, "bob", Some("$(touch x)012")).await, @"Give at least 12 hex digits of the commit.");
    insta::assert_snapshot!(plain(&ok_to_test(&rivet, pull, "bob", Some(&"0".repeat(40))).await, &[(&head, "HEAD")]), @"`000000000000` is not the head of this pull request (it is `HEAD`). Review the new commits, then approve that one.");
    assert!(rivet.work().await.is_empty());
    assert_eq!(ok_to_test(&rivet, pull, "bob", Some(&head[..12])).await, "done");
    let jobs = rivet.claim(1).await;
    assert_eq!((&jobs[0]["trust"], &jobs[0]["secrets"]), (&json!("untrusted"), &json!({})));
    rivet.start(&jobs[0]).await;
    rivet.end(&jobs[0], "succeeded", json!({})).await;
    assert_eq!(rivet.work().await, ["lint"]);
    let (_, run) = rivet.api("GET", &format!("/api/v1/runs/{}", rivet.run_id(2).await), None).await;
    assert_eq!(run["trust"], "untrusted");
    assert_eq!(run["trust_reason"], "the head is in eve/app, a fork");
    rivet.finish().await;
}

async fn a_push_takes_the_word_back(rivet: Rivet) {
    begin(&rivet).await;
    let (pull, first) = rivet.open_pull("theirs", true, &[("a", "1")]).await;
    assert_eq!(ok_to_test(&rivet, pull, "bob", Some(&first)).await, "done");
    let second = rivet.push_to_pull(pull, &[("a", "2")]).await;
    assert!(rivet.claim(5).await.is_empty(), "neither the old commit nor the new one");
    insta::assert_snapshot!(plain(&rivet.runs().await, &[(&first, "FIRST"), (&second, "SECOND")]), @"
    #1 ci push completed: Every stage succeeded.
      test succeeded: It succeeded.
      lint succeeded: It succeeded.
    #2 ci pull_request of pull request 1 cancelled: Pull request 1 has the head SECOND now, not FIRST.
      test cancelled: Pull request 1 has the head SECOND now, not FIRST.
      lint cancelled: Pull request 1 has the head SECOND now, not FIRST.
    #3 ci pull_request of pull request 1 running: 0 of 2 stages have ended; test is waiting for approval.
      test awaiting_approval: Waiting for somebody who may write to let this commit run: review it, then comment `/ok-to-test SECOND`.
      lint pending: Waiting for test to end.
    ");
    // Back to the commit that was reviewed once: it has to be reviewed again.
    let git = rivet.github.git(&rivet.repo);
    git.set("heads/theirs", &first);
    rivet.github.synchronize(&rivet.repo, pull).await;
    rivet.settle().await;
    assert!(rivet.claim(5).await.is_empty());
    assert_eq!(ok_to_test(&rivet, pull, "bob", Some(&first)).await, "done");
    assert_eq!(rivet.work().await, ["test", "lint"]);
    rivet.finish().await;
}

async fn only_who_may_write_lets_in_and_only_while_the_forge_says_so(rivet: Rivet) {
    begin(&rivet).await;
    let (pull, head) = rivet.open_pull("theirs", true, &[("a", "1")]).await;
    let mut said = vec![];
    for login in ["eve", "rea", "nobody"] {
        said.push(ok_to_test(&rivet, pull, login, Some(&head)).await);
    }
    rivet.github.world().faults.permissions = Some(502);
    said.push(ok_to_test(&rivet, pull, "bob", Some(&head)).await);
    rivet.github.world().faults.permissions = None;
    insta::assert_snapshot!(said.join("\n"), @"
    eve may not write in acme/app.
    rea may not write in acme/app.
    nobody may not write in acme/app.
    GitHub did not confirm your permission (the forge is not available: Server Error (502 Bad Gateway)). Nothing was done; try again.
    ");
    assert!(rivet.work().await.is_empty());
    // He may no more between the word and the claim.
    assert_eq!(ok_to_test(&rivet, pull, "bob", Some(&head)).await, "done");
    rivet.github.permit(&rivet.repo, "bob", "read", 12);
    asked_minutes_ago(&rivet, 16).await;
    assert!(rivet.work().await.is_empty());
    insta::assert_snapshot!(plain(&rivet.runs().await, &[(&head, "HEAD")]), @"
    #1 ci push completed: Every stage succeeded.
      test succeeded: It succeeded.
      lint succeeded: It succeeded.
    #2 ci pull_request of pull request 1 running: 0 of 2 stages have ended; test is waiting for approval.
      test awaiting_approval: Waiting for somebody who may write to let this commit run: review it, then comment `/ok-to-test HEAD`. The approval of bob does not count any more: bob may not write in acme/app.
      lint pending: Waiting for test to end.
    ");
    rivet.finish().await;
}

async fn another_head_than_the_one_reviewed_never_runs(rivet: Rivet) {
    begin(&rivet).await;
    let (pull, first) = rivet.open_pull("theirs", true, &[("a", "1")]).await;
    // The push is at GitHub; its delivery has not come yet.
    let second = rivet.github.commit(&rivet.repo, "theirs", &[("a", "2")]);
    rivet.github.change_pull(&rivet.repo, pull, |pull| {
        pull.head_sha = second.clone();
        (pull.mergeable, pull.merge_sha) = (None, None);
    });
    let told = ok_to_test(&rivet, pull, "bob", Some(&first)).await;
    insta::assert_snapshot!(plain(&told, &[(&first, "FIRST"), (&second, "SECOND")]), @"`FIRST` is not the head of this pull request (it is `SECOND`). Review the new commits, then approve that one.");
    let told = ok_to_test(&rivet, pull, "bob", Some(&second)).await;
    insta::assert_snapshot!(told, @"Nothing of this commit waits to be let in.");
    assert!(rivet.work().await.is_empty());
    rivet.github.deliver_pull(&rivet.repo, pull, "synchronize").await;
    rivet.settle().await;
    assert!(rivet.work().await.is_empty());
    assert_eq!(ok_to_test(&rivet, pull, "bob", Some(&second)).await, "done");
    assert_eq!(rivet.work().await, ["test", "lint"]);
    rivet.github.close_pull(&rivet.repo, pull).await;
    rivet.settle().await;
    let told = ok_to_test(&rivet, pull, "bob", Some(&second)).await;
    assert_eq!(told, "This pull request is closed.");
    rivet.finish().await;
}

async fn labels_by_an_admin_make_a_fork_no_more_trusted(rivet: Rivet) {
    begin(&rivet).await;
    let (pull, _) = rivet.open_pull("theirs", true, &[("a", "1")]).await;
    rivet.github.label(&rivet.repo, pull, "safe to test", "ann").await;
    rivet.settle().await;
    for action in ["edited", "reopened", "ready_for_review"] {
        rivet.github.change_pull(&rivet.repo, pull, |_| {});
        let mut payload = rivet.github.pull_request_payload(&rivet.repo, pull, action);
        payload["changes"] = json!({ "base": { "ref": { "from": "other" } } });
        payload["sender"] = rivet.github.world().user("ann");
        rivet.github.deliver("pull_request", &payload).await;
    }
    // The fork is gone: nobody can tell whose it was.
    rivet.github.change_pull(&rivet.repo, pull, |pull| pull.head_gone = true);
    rivet.github.deliver_pull(&rivet.repo, pull, "reopened").await;
    assert!(rivet.work().await.is_empty());
    let (_, runs) = rivet.api("GET", "/api/v1/runs?event=pull_request", None).await;
    let trusts: Vec<&str> = runs["items"].as_array().unwrap().iter().map(|r| r["trust"].as_str().unwrap()).collect();
    assert!(trusts.len() >= 4 && trusts.iter().all(|trust| *trust == "untrusted"), "{runs:#}");
    rivet.finish().await;
}

async fn whoever_may_not_write_is_a_stranger_in_our_own_repository_too(rivet: Rivet) {
    begin(&rivet).await;
    // Her branch was pushed by somebody who may write; she opened the pull request.
    rivet.github.commit(&rivet.repo, "prepared", &[("a", "1")]);
    let pull = rivet.github.open_pull_request(&rivet.repo, "prepared", false).await;
    rivet.settle().await;
    assert_eq!(rivet.work().await, ["test", "lint"], "Ada may write");
    rivet.github.change_pull(&rivet.repo, pull, |pull| pull.author = "rea".to_owned());
    rivet.github.deliver_pull(&rivet.repo, pull, "reopened").await;
    // Somebody who may write, but labelled by somebody who may not.
    rivet.github.change_pull(&rivet.repo, pull, |pull| pull.author = "ada".to_owned());
    rivet.github.label(&rivet.repo, pull, "x", "rea").await;
    // The name is somebody else's at GitHub now.
    rivet.github.change_pull(&rivet.repo, pull, |_| {});
    let mut payload = rivet.github.pull_request_payload(&rivet.repo, pull, "reopened");
    payload["pull_request"]["user"]["id"] = 999.into();
    rivet.github.deliver("pull_request", &payload).await;
    assert!(rivet.work().await.is_empty());
    let mut reasons = vec![];
    for number in 3..=5 {
        let (_, run) = rivet.api("GET", &format!("/api/v1/runs/{}", rivet.run_id(number).await), None).await;
        reasons.push(run["trust_reason"].as_str().unwrap_or("trusted").to_owned());
    }
    insta::assert_snapshot!(reasons.join("\n"), @"
    rea, who opened the pull request, may not write in acme/app
    rea, who caused this, may not write in acme/app
    ada, who opened the pull request, is not the account of that name any more
    ");
    rivet.finish().await;
}

async fn a_bot_counts_by_its_push_and_by_nothing_else(rivet: Rivet) {
    begin(&rivet).await;
    rivet.github.commit(&rivet.repo, "bump", &[("a", "1")]);
    let pull = rivet.github.open_pull_request(&rivet.repo, "bump", false).await;
    rivet.settle().await;
    rivet.work().await;
    rivet.github.change_pull(&rivet.repo, pull, |pull| pull.author = "renovate[bot]".to_owned());
    rivet.push_to_pull(pull, &[("a", "2")]).await;
    assert_eq!(rivet.work().await, ["test", "lint"], "it pushed to this repository");
    // A commit on top of it, by somebody who may not write as far as GitHub tells.
    rivet.github.commit(&rivet.repo, "bump", &[("a", "3")]);
    rivet.github.change_pull(&rivet.repo, pull, |_| {});
    let head = rivet.github.git(&rivet.repo).find("heads/bump").unwrap();
    rivet.github.change_pull(&rivet.repo, pull, |pull| {
        pull.head_sha = head.clone();
        (pull.mergeable, pull.merge_sha) = (None, None);
    });
    let mut payload = rivet.github.pull_request_payload(&rivet.repo, pull, "synchronize");
    payload["sender"] = rivet.github.world().user("rea");
    rivet.github.deliver("pull_request", &payload).await;
    // A bot that labels has pushed nothing.
    rivet.github.label(&rivet.repo, pull, "x", "stale[bot]").await;
    assert!(rivet.work().await.is_empty());
    // A bot's fork is a fork.
    let (pull, _) = rivet.open_pull("bot-fork", true, &[("a", "9")]).await;
    rivet.github.change_pull(&rivet.repo, pull, |pull| pull.author = "dependabot[bot]".to_owned());
    rivet.github.deliver_pull(&rivet.repo, pull, "synchronize").await;
    assert!(rivet.work().await.is_empty());
    rivet.finish().await;
}

async fn nothing_is_guessed_while_the_forge_does_not_answer(rivet: Rivet) {
    begin(&rivet).await;
    rivet.github.world().faults.permissions = Some(502);
    rivet.github.commit(&rivet.repo, "mine", &[("a", "1")]);
    rivet.github.open_pull_request(&rivet.repo, "mine", false).await;
    rivet.settle().await;
    let (_, runs) = rivet.api("GET", "/api/v1/runs?event=pull_request", None).await;
    assert_eq!(runs["items"], json!([]), "neither trusted nor not");
    rivet.github.world().faults.permissions = None;
    rivet.sql("UPDATE delivery SET available_at = 0").await;
    rivet.settle().await;
    assert_eq!(rivet.work().await, ["test", "lint"]);
    rivet.finish().await;
}

async fn cancelling_and_repeating_open_no_gate(rivet: Rivet) {
    begin(&rivet).await;
    let (pull, head) = rivet.open_pull("theirs", true, &[("a", "1")]).await;
    let run = rivet.run_id(2).await;
    rivet.api("POST", &format!("/api/v1/runs/{run}/cancel"), Some(json!({}))).await;
    rivet.settle().await;
    let told = ok_to_test(&rivet, pull, "bob", Some(&head)).await;
    assert_eq!(told, "Nothing of this commit waits to be let in.", "a later word does not wake what was cancelled");
    rivet.api("POST", &format!("/api/v1/runs/{run}/retry"), Some(json!({}))).await;
    let (status, again) = rivet.api("POST", &format!("/api/v1/runs/{run}/rerun"), None).await;
    assert_eq!((status, &again["trust"]), (201, &json!("untrusted")), "{again}");
    assert!(rivet.work().await.is_empty());
    assert_eq!(ok_to_test(&rivet, pull, "bob", Some(&head)).await, "done");
    assert_eq!(rivet.work().await.len(), 4, "both were let in by one word, for both are of this commit");
    // What was let in once is repeated as a run of its own, which nobody let in.
    let (_, third) = rivet.api("POST", &format!("/api/v1/runs/{run}/rerun"), None).await;
    assert_eq!(third["trust"], "untrusted");
    assert!(rivet.work().await.is_empty());
    rivet.finish().await;
}

async fn a_group_that_is_cancelled_opens_no_gate(rivet: Rivet) {
    begin(&rivet).await;
    let grouped = TESTED.replace("stages =", "concurrency = { group = \"all\", cancel_in_progress = false }, stages =");
    let (_, _) = rivet.open_pull("one", true, &[(".rivet/ci.lua", &grouped)]).await;
    let (second, head) = rivet.open_pull("two", true, &[(".rivet/ci.lua", &grouped), ("b", "1")]).await;
    let first = rivet.run_id(2).await;
    rivet.api("POST", &format!("/api/v1/runs/{first}/cancel"), Some(json!({}))).await;
    rivet.settle().await;
    assert!(rivet.work().await.is_empty(), "the second one's turn has come, and it still waits to be let in");
    assert_eq!(ok_to_test(&rivet, second, "bob", Some(&head)).await, "done");
    assert_eq!(rivet.work().await, ["test", "lint"]);
    rivet.finish().await;
}

async fn a_word_that_is_taken_back_or_too_old_counts_no_more(rivet: Rivet) {
    begin(&rivet).await;
    let (pull, head) = rivet.open_pull("theirs", true, &[("a", "1")]).await;
    assert_eq!(ok_to_test(&rivet, pull, "bob", Some(&head)).await, "done");
    let told = ok_to_test(&rivet, pull, "ann", Some(&head)).await;
    assert!(told.starts_with("Already approved by bob at "), "{told}");
    assert_eq!(not_ok_to_test(&rivet, pull, "rea").await, "rea may not write in acme/app.");
    assert_eq!(not_ok_to_test(&rivet, pull, "ann").await, "done");
    assert!(rivet.work().await.is_empty());
    assert_eq!(not_ok_to_test(&rivet, pull, "ann").await, "Nothing of this pull request was let in.");
    assert_eq!(ok_to_test(&rivet, pull, "ann", Some(&head)).await, "done");
    // Two weeks later nobody knows any more what was reviewed.
    rivet.wait(15 * 86_400);
    rivet.settle().await;
    insta::assert_snapshot!(plain(&rivet.runs().await, &[(&head, "HEAD")]), @"
    #1 ci push completed: Every stage succeeded.
      test succeeded: It succeeded.
      lint succeeded: It succeeded.
    #2 ci pull_request of pull request 1 running: 0 of 2 stages have ended; test is waiting for approval.
      test awaiting_approval: Waiting for somebody who may write to let this commit run: review it, then comment `/ok-to-test HEAD`. The approval of ann was given too long ago.
      lint pending: Waiting for test to end.
    ");
    assert!(rivet.claim(5).await.is_empty());
    // And where nobody says anything, the gate closes.
    rivet.wait(15 * 86_400);
    rivet.settle().await;
    insta::assert_snapshot!(plain(&rivet.runs().await, &[(&head, "HEAD")]), @"
    #1 ci push completed: Every stage succeeded.
      test succeeded: It succeeded.
      lint succeeded: It succeeded.
    #2 ci pull_request of pull request 1 failed: test failed.
      test failed: Nobody approved it before the gate closed.
      lint skipped: Skipped: test failed.
    ");
    assert_eq!(ok_to_test(&rivet, pull, "bob", Some(&head)).await, "Nothing of this commit waits to be let in.");
    rivet.finish().await;
}

async fn no_more_than_a_hundred_strangers_wait(rivet: Rivet) {
    begin(&rivet).await;
    // Ninety-nine others.
    rivet.open_pull("theirs", true, &[("a", "1")]).await;
    rivet
        .sql(
            "INSERT INTO run (id, repo_id, number, pipeline, name, file, event, facts, git_ref, sha, actor, title, trust,
                              state, reason, plan, plan_digest, bundle_digest, inputs, source_key, created_at)
             SELECT 'copy' || n.number, repo_id, 1000 + n.number, pipeline, name, file, event, facts, git_ref, sha, actor,
                    title, trust, 'pending', reason, plan, plan_digest, bundle_digest, inputs, 'copy' || n.number, created_at
             FROM run, (SELECT a.n * 10 + b.n AS number FROM
                (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6
                 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) AS a,
                (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6
                 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) AS b) AS n
             WHERE run.trust = 'untrusted' AND n.number < 98",
        )
        .await;
    let (_, hundredth) = rivet.open_pull("hundredth", true, &[("b", "1")]).await;
    let (_, over) = rivet.open_pull("over", true, &[("b", "2")]).await;
    let why = format!("{}\n{}", rivet.why(&hundredth).await, rivet.why(&over).await);
    let why = why.split('\n').map(|line| line.split("; its test merge").next().unwrap_or(line)).collect::<Vec<_>>();
    assert_eq!(
        why,
        [
            "ci run: pull request 2 into 'main'",
            "ci skip: 100 runs of strangers wait to be let in already; the limit is 100",
        ]
    );
    let shown = rivet.checks(&over);
    insta::assert_snapshot!(shown, @"rivet/ci: pending: Not run: 100 runs of strangers wait to be let in already; the limit is 100");
}
