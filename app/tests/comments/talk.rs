//! Conversations that go well, and those in the wrong place.

use crate::conversation::{Rivet, conversations};
use crate::scene::{audit, newest, pull, talk, waiting};

conversations!(
    a_stage_is_approved_in_a_comment,
    an_approval_is_taken_back,
    a_stage_is_rejected_with_a_reason,
    what_failed_is_tried_again,
    runs_are_cancelled,
    a_pipeline_is_run_with_inputs,
    a_pipelines_own_word_starts_it,
    a_readers_word_runs_nothing_by_itself,
    help_says_what_is_valid_here,
    two_pipelines_with_one_stage_are_told_apart,
    nobody_gives_more_than_ten_in_ten_minutes,
    a_rollback_says_what_there_is_to_go_back_to,
    a_rollback_by_comment_makes_the_deployment_before_the_last_one_again,
);

async fn a_stage_is_approved_in_a_comment(rivet: Rivet) {
    let (number, head) = waiting(&rivet).await;
    let (other, _) = rivet.open_pull("other", false, &[("src/b", "1")]).await;
    rivet.comment(number, "alice", &format!("/approve deploy {}", "0".repeat(12))).await;
    assert_eq!(rivet.work().await, ["build"], "of the other pull request");
    // On the other pull request this commit is not the head.
    rivet.comment(other, "alice", &format!("/approve {}", &head[..12])).await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    rivet.comment(number, "alice", &format!("Looks fine.\r\n\r\n/approve deploy {}\r\n", &head[..12])).await;
    assert_eq!(rivet.work().await, ["deploy"]);
    insta::assert_snapshot!(newest(&rivet).await.replace(&head[..12], "HEAD"), @"done: alice wrote '/approve deploy HEAD': done");
    insta::assert_snapshot!(talk(&rivet, number, &[(&head, "HEAD")]), @"
    alice: /approve deploy 000000000000 [eyes] [confused]
    rivet-test[bot]: <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/approve deploy 000000000000`

    `000000000000` is not the head of this pull request (it is `HEAD`). Review the new commits, then approve that one.
    alice: Looks fine.

    /approve deploy HEAD [eyes] [rocket]
    ");
    insta::assert_snapshot!(talk(&rivet, other, &[(&head, "HEAD")]).lines().last().unwrap_or_default(), @"`HEAD` is not the head of this pull request (it is `de8c29780983`). Review the new commits, then approve that one.");
    insta::assert_snapshot!(audit(&rivet, number).await.replace(&head[..12], "HEAD"), @"
    alice (github 12) command.refused: /approve deploy 000000000000
    alice (github 12) command.done: /approve deploy HEAD
    ");
    rivet.finish().await;
}

async fn an_approval_is_taken_back(rivet: Rivet) {
    let (number, head) = waiting(&rivet).await;
    rivet.comment(number, "alice", "/approve").await;
    rivet.comment(number, "ada", "/approve cancel").await;
    rivet.comment(number, "alice", "/approve cancel deploy").await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    insta::assert_snapshot!(talk(&rivet, number, &[(&head, "HEAD")]), @"
    alice: /approve [eyes] [rocket]
    ada: /approve cancel [eyes] [confused]
    rivet-test[bot]: <!-- -->

    **Answer to ada** ([comment](#issuecomment-N))

    `/approve cancel`

    There is nothing ada approved that could still be taken back.
    alice: /approve cancel deploy [eyes] [rocket]
    ");
    rivet.comment(number, "alice", "/approve").await;
    assert_eq!(rivet.work().await, ["deploy"]);
    rivet.finish().await;
}

async fn a_stage_is_rejected_with_a_reason(rivet: Rivet) {
    let (number, _) = waiting(&rivet).await;
    rivet.comment(number, "alice", "/reject build").await;
    rivet.comment(number, "alice", "/reject deploy die Größe stimmt nicht, @acme/ops <b>").await;
    insta::assert_snapshot!(talk(&rivet, number, &[]), @"
    alice: /reject build [eyes] [confused]
    rivet-test[bot]: <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/reject build`

    Stage 'build' does not wait for approval.
    alice: /reject deploy die Größe stimmt nicht, @acme/ops <b> [eyes] [rocket]
    ");
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci pull_request of pull request 1 failed: deploy failed.
      build succeeded: It succeeded.
      deploy failed: alice rejected it for 6bc7c8b91721.
    ");
    rivet.finish().await;
}

async fn what_failed_is_tried_again(rivet: Rivet) {
    let (number, head) = pull(&rivet, false).await;
    rivet.comment(number, "alice", "/retry").await;
    assert_eq!(rivet.work_with(|_| "failed").await, ["build"]);
    rivet.comment(number, "alice", "/retry deploy").await;
    assert_eq!(rivet.work_with(|_| "failed").await, Vec::<String>::new());
    rivet.comment(number, "alice", "/retry build").await;
    assert_eq!(rivet.work_with(|_| "failed").await, ["build"]);
    rivet.comment(number, "alice", "/retry 1").await;
    assert_eq!(rivet.work_with(|_| "failed").await, ["build"]);
    rivet.comment(number, "alice", "/retry").await;
    assert_eq!(rivet.work().await, ["build"]);
    insta::assert_snapshot!(talk(&rivet, number, &[(&head, "HEAD")]), @r#"
    alice: /retry [eyes] [confused]
    rivet-test[bot] (edited 1 times): <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/retry deploy`

    Stage 'deploy' of run \#1 did not fail.

    **Answer to alice** ([comment](#issuecomment-N))

    `/retry`

    Run 1 is still running.
    alice: /retry deploy [eyes] [confused]
    alice: /retry build [eyes] [rocket]
    alice: /retry 1 [eyes] [rocket]
    alice: /retry [eyes] [rocket]
    "#);
    insta::assert_snapshot!(rivet.checks(&head), @"
    ci / build: completed failure: command_failed: make ended with 2 [Retry]
    ci / deploy: completed skipped: Skipped: build failed
    ci / build: completed failure: command_failed: make ended with 2 [Retry]
    ci / deploy: queued: Waiting for somebody who may write: /approve deploy [Approve] [Reject] [Cancel]
    ci / build: completed failure: command_failed: make ended with 2 [Retry]
    ci / build: completed success: It succeeded
    rivet/ci: pending: Waiting for somebody who may write: /approve deploy
    ");
    rivet.finish().await;
}

async fn runs_are_cancelled(rivet: Rivet) {
    let (number, _) = waiting(&rivet).await;
    rivet.comment(number, "alice", "/run nightly").await;
    rivet.comment(number, "alice", "/cancel nightly").await;
    rivet.comment(number, "alice", "/cancel nightly").await;
    rivet.comment(number, "alice", "/cancel").await;
    rivet.comment(number, "alice", "/cancel").await;
    rivet.comment(number, "alice", "/cancel 1").await;
    insta::assert_snapshot!(talk(&rivet, number, &[]), @r#"
    alice: /run nightly [eyes] [rocket]
    alice: /cancel nightly [eyes] [rocket]
    alice: /cancel nightly [eyes] [confused]
    rivet-test[bot] (edited 2 times): <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/cancel 1`

    Run \#1 is cancelled already.

    **Answer to alice** ([comment](#issuecomment-N))

    `/cancel`

    Nothing of this pull request runs now.

    **Answer to alice** ([comment](#issuecomment-N))

    `/cancel nightly`

    No run of 'nightly' is under way.
    alice: /cancel [eyes] [rocket]
    alice: /cancel [eyes] [confused]
    alice: /cancel 1 [eyes] [confused]
    "#);
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci pull_request of pull request 1 cancelled: alice cancelled it in a comment.
      build succeeded: It succeeded.
      deploy cancelled: alice cancelled it in a comment.
    #2 nightly comment of pull request 1 cancelled: alice cancelled it in a comment.
      soak cancelled: alice cancelled it in a comment.
    ");
    rivet.finish().await;
}

async fn a_pipeline_is_run_with_inputs(rivet: Rivet) {
    // Nobody but a person would start it: the commit asks for no run, and nothing of its triggers matches.
    let (number, head) = pull(&rivet, false).await;
    rivet.comment(number, "alice", "/run nightly depth=many all=perhaps size=9").await;
    rivet.comment(number, "alice", "/run nightley").await;
    rivet.comment(number, "alice", "/run nightly depth=3 all=yes").await;
    insta::assert_snapshot!(newest(&rivet).await, @"run: alice wrote '/run nightly depth=3 all=yes': done");
    insta::assert_snapshot!(talk(&rivet, number, &[(&head, "HEAD")]), @"
    alice: /run nightly depth=many all=perhaps size=9 [eyes] [confused]
    rivet-test[bot] (edited 1 times): <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/run nightley`

    There is no pipeline 'nightley' at refs/pull/1/head; did you mean 'nightly'?.

    **Answer to alice** ([comment](#issuecomment-N))

    `/run nightly depth=many all=perhaps size=9`

    Pipeline 'nightly' was not started:

    - there is no input 'size'; there are all, depth
    - input 'all' must be true or false (yes/no, 1/0, on/off), got 'perhaps'
    - input 'depth' must be a number, got 'many'
    alice: /run nightley [eyes] [confused]
    alice: /run nightly depth=3 all=yes [eyes] [rocket]
    ");
    let runs = rivet.api("GET", "/api/v1/runs?pipeline=nightly", None).await.1;
    let run = rivet.api("GET", &format!("/api/v1/runs/{}", runs["items"][0]["id"].as_str().unwrap()), None).await.1;
    assert_eq!(run["inputs"], serde_json::json!({ "depth": 3, "all": true }));
    assert_eq!((run["sha"].as_str(), run["actor"].as_str()), (Some(head.as_str()), Some("alice")));
    insta::assert_snapshot!(rivet.why(&head).await, @"
    bench skip: on.pull_request is not set
    ci run: pull request 1 into 'main'; its test merge 1c1badc32acd is built
    nightly skip: on.pull_request is not set
    poll skip: on.pull_request is not set
    - refused: alice wrote '/run nightly depth=many all=perhaps size=9': Pipeline 'nightly' was not started: there is no input 'size'; there are all, depth input 'all' must be true or false (yes/no, 1/0, on/off), got 'perhaps' input 'depth' must be a number, got 'many'
    - refused: alice wrote '/run nightley': There is no pipeline 'nightley' at refs/pull/1/head; did you mean 'nightly'?.
    nightly run: alice wrote '/run nightly depth=3 all=yes': done
    ");
    rivet.finish().await;
}

async fn a_pipelines_own_word_starts_it(rivet: Rivet) {
    let (number, head) = pull(&rivet, false).await;
    rivet.work().await;
    rivet.comment(number, "bob", "/bench").await;
    rivet.comment(number, "alice", "/bench runs=99 speed=1").await;
    rivet.comment(number, "alice", "/branch runs=2").await;
    rivet.comment(number, "alice", "/bench runs=2 note=\"a b; $(rm)\" quick").await;
    assert_eq!(rivet.work().await, ["bench"]);
    insta::assert_snapshot!(talk(&rivet, number, &[(&head, "HEAD")]), @r#"
    bob: /bench [-1]
    alice: /bench runs=99 speed=1 [eyes] [confused]
    rivet-test[bot]: <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/bench runs=99 speed=1`

    Pipeline 'bench' was not started:

    - there is no input 'speed'; there are note, runs
    - input 'runs' must be at most 10, got 99
    alice: /branch runs=2
    alice: /bench runs=2 note="a b; $(rm)" quick [eyes] [rocket]
    "#);
    insta::assert_snapshot!(rivet.checks(&head), @"
    ci / build: completed success: It succeeded
    ci / deploy: queued: Waiting for somebody who may write: /approve deploy [Approve] [Reject] [Cancel]
    bench / bench: completed success: It succeeded
    rivet/bench: success: Every stage succeeded.
    rivet/ci: pending: Waiting for somebody who may write: /approve deploy
    ");
    rivet.finish().await;
}

/// The trust of what a comment starts is the lowest of all who have a hand in it.
async fn a_readers_word_runs_nothing_by_itself(rivet: Rivet) {
    let (number, head) = pull(&rivet, false).await;
    rivet.work().await;
    rivet.comment(number, "bob", "/poll").await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci pull_request of pull request 1 running: 1 of 2 stages have ended; deploy is waiting for approval.
      build succeeded: It succeeded.
      deploy awaiting_approval: Waiting for somebody who may write: /approve deploy
    #2 poll comment of pull request 1 running: 0 of 1 stages have ended; poll is waiting for approval.
      poll awaiting_approval: Waiting for somebody who may write to let this commit run: review it, then comment `/ok-to-test 6bc7c8b91721`.
    ");
    rivet.comment(number, "alice", &format!("/ok-to-test {head}")).await;
    assert_eq!(rivet.work().await, ["poll"]);
    // From a fork not even who may write is trusted by themselves.
    let (fork, head) = rivet.open_pull("theirs", true, &[("src/c", "1")]).await;
    rivet.comment(fork, "alice", "/run nightly").await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    insta::assert_snapshot!(talk(&rivet, fork, &[(&head, "HEAD")]), @"alice: /run nightly [eyes] [rocket]");
    rivet.finish().await;
}

async fn help_says_what_is_valid_here(rivet: Rivet) {
    let (number, head) = waiting(&rivet).await;
    rivet.comment(number, "alice", "/help").await;
    insta::assert_snapshot!(talk(&rivet, number, &[(&head, "HEAD")]), @"
    alice: /help [eyes] [rocket]
    rivet-test[bot]: <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/help`

    On this pull request, at `HEAD`:

    - `/approve deploy HEAD`: let `ci/deploy` run
    - `/reject deploy REASON`: do not
    - `/cancel ci`: end run 1
    - `/run bench`: run it on the head of this pull request; inputs follow as `NAME=VALUE`
    - `/run ci`: run it on the head of this pull request; inputs follow as `NAME=VALUE`
    - `/run nightly`: run it on the head of this pull request; inputs follow as `NAME=VALUE`
    - `/run poll`: run it on the head of this pull request; inputs follow as `NAME=VALUE`
    - `/bench`: start `bench`
    - `/poll`: start `poll`
    ");
    let (fork, head) = rivet.open_pull("theirs", true, &[("src/c", "1")]).await;
    rivet.comment(fork, "alice", "/help\n/help me").await;
    insta::assert_snapshot!(talk(&rivet, fork, &[(&head, "HEAD")]), @"
    alice: /help
    /help me [eyes] [confused]
    rivet-test[bot]: <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/help`

    On this pull request, at `HEAD`:

    - `/ok-to-test HEAD`: let exactly this commit run
    - `/cancel ci`: end run 2
    - `/run bench`: run it on the head of this pull request; inputs follow as `NAME=VALUE`
    - `/run ci`: run it on the head of this pull request; inputs follow as `NAME=VALUE`
    - `/run nightly`: run it on the head of this pull request; inputs follow as `NAME=VALUE`
    - `/run poll`: run it on the head of this pull request; inputs follow as `NAME=VALUE`
    - `/bench`: start `bench`
    - `/poll`: start `poll`

    `/help me`

    `/help` takes nothing; got 'me'.
    ");
    rivet.finish().await;
}

async fn two_pipelines_with_one_stage_are_told_apart(rivet: Rivet) {
    let lua = crate::scene::FILES[0].1;
    crate::scene::people(&rivet);
    rivet.push("main", &[(".rivet/ci.lua", lua), (".rivet/docs.lua", lua)]).await;
    let (number, head) = rivet.open_pull("topic", false, &[("src/a", "1")]).await;
    rivet.work().await;
    rivet.comment(number, "alice", "/approve deploy").await;
    rivet.comment(number, "alice", "/approve docs/deploy").await;
    assert_eq!(rivet.work().await, ["deploy"]);
    insta::assert_snapshot!(talk(&rivet, number, &[(&head, "HEAD")]), @"
    alice: /approve deploy [eyes] [confused]
    rivet-test[bot]: <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/approve deploy`

    Several stages wait. Say which: `/approve docs/deploy HEAD`, `/approve ci/deploy HEAD`.
    alice: /approve docs/deploy [eyes] [rocket]
    ");
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci pull_request of pull request 1 running: 1 of 2 stages have ended; deploy is waiting for approval.
      build succeeded: It succeeded.
      deploy awaiting_approval: Waiting for somebody who may write: /approve deploy
    #2 docs pull_request of pull request 1 completed: Every stage succeeded.
      build succeeded: It succeeded.
      deploy succeeded: It succeeded.
    ");
    rivet.finish().await;
}

async fn nobody_gives_more_than_ten_in_ten_minutes(rivet: Rivet) {
    let (number, _) = waiting(&rivet).await;
    for _ in 0..5 {
        rivet.comment(number, "alice", "/retry a\n/retry b").await;
    }
    rivet.comment(number, "alice", "/approve").await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    assert!(rivet.conversation(number).contains("At most 10 commands in 10 minutes are followed."));
    rivet.comment(number, "ada", "/approve").await;
    assert_eq!(rivet.work().await, ["deploy"]);
    rivet.finish().await;
}

async fn a_rollback_says_what_there_is_to_go_back_to(rivet: Rivet) {
    let lua = crate::scene::FILES[0].1.replace("pull_request = true", "push = true, pull_request = true");
    let lua = lua.replace("approval =", "environment = \"production\", approval =");
    crate::scene::people(&rivet);
    rivet.push("main", &[(".rivet/ci.lua", &lua)]).await;
    let (number, head) = rivet.open_pull("topic", false, &[("src/a", "1")]).await;
    rivet.work().await;
    rivet.comment(number, "alice", "/rollback production").await;
    rivet.comment(number, "alice", "/rollback staging to 2").await;
    rivet.comment(number, "bob", "/rollback production to 1").await;
    insta::assert_snapshot!(talk(&rivet, number, &[(&head, "HEAD")]), @"
    alice: /rollback production [eyes] [confused]
    rivet-test[bot] (edited 1 times): <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/rollback staging to 2`

    There is no environment 'staging' here: nothing was deployed to one of that name.

    **Answer to alice** ([comment](#issuecomment-N))

    `/rollback production`

    Nothing was ever deployed to production.
    alice: /rollback staging to 2 [eyes] [confused]
    bob: /rollback production to 1 [-1]
    ");
    rivet.finish().await;
}

async fn a_rollback_by_comment_makes_the_deployment_before_the_last_one_again(rivet: Rivet) {
    let lua = r#"
        return pipeline.define({
            on = { push = { branches = { "main" } } },
            stages = { { name = "deploy", environment = "production", approval = { required = false }, script = function() end } },
        })
    "#;
    crate::scene::people(&rivet);
    for version in ["1", "2"] {
        rivet.push("main", &[(".rivet/ci.lua", lua), ("version", version)]).await;
        assert_eq!(rivet.work().await, ["deploy"]);
    }
    let (number, head) = rivet.open_pull("topic", false, &[("src/a", "1")]).await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    // The wrong person first.
    rivet.comment(number, "bob", "/rollback production").await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    rivet.comment(number, "alice", "/rollback production").await;
    assert_eq!(rivet.work().await, ["deploy"]);
    let entries = rivet.tx().await.deployments(&rivet.repo.id(), "production", None, 10).await.unwrap();
    let entries: Vec<_> = entries.iter().map(|entry| (entry.number, entry.rollback_to, entry.actor.as_str())).collect();
    assert_eq!(entries, [(3, Some(1), "alice"), (2, None, "ada"), (1, None, "ada")]);
    insta::assert_snapshot!(talk(&rivet, number, &[(&head, "HEAD")]), @"
    bob: /rollback production [-1]
    alice: /rollback production [eyes] [rocket]
    ");
    rivet.finish().await;
}
