//! The catalogue of comments, C1 to C16: what is silent leaves nothing but a line of the audit log at most.

use crate::conversation::{Rivet, conversations};
use crate::fake_github::WEBHOOK_SECRET;
use crate::scene::{audit, newest, pull, talk, waiting};
use serde_json::json;

conversations!(
    what_is_no_command_is_silent,
    who_is_no_person_and_what_is_not_new_is_silent,
    five_are_read_and_the_rest_is_said,
    strangers_get_a_thumb_down_once_a_minute,
    forks_need_the_commit_that_was_reviewed,
    a_second_approval_and_wrong_runs_are_told_apart,
    a_closed_pull_request_is_closed,
    nobody_acts_without_the_forges_word,
);

/// C1 to C4 and C6.
const SILENT: &[&str] = &[
    "> /approve",
    "```\n/approve\n```",
    "~~~\n/approve\n~~~",
    "    /approve",
    "<!-- /approve -->",
    "<!--\n/approve\n-->",
    "<details>\n\n/approve\n\n</details>",
    "please /approve",
    "\u{a0}/approve",
    "\u{200b}/approve",
    "\u{feff}/approve",
    "\u{202e}/approve",
    "／approve",
    "/аpprove",
    "/approved",
    "/APPROVE",
];

async fn what_is_no_command_is_silent(rivet: Rivet) {
    let (number, _) = waiting(&rivet).await;
    let before = rivet.runs().await;
    for body in SILENT {
        let id = rivet.comment(number, "alice", body).await;
        {
            let world = rivet.github.world();
            let comment = world.comments.iter().find(|c| c.id == id).unwrap();
            assert_eq!(comment.reactions, vec![], "{body:?}");
            assert_eq!(world.comments.iter().filter(|c| c.author != "alice").count(), 0, "{body:?}");
        }
        let heard = newest(&rivet).await;
        assert!(heard.starts_with("ignored: "), "{body:?}: {heard}");
    }
    assert_eq!(rivet.runs().await, before);
    assert_eq!(audit(&rivet, number).await, "");
    // What was silent was so because of what it said, not because nobody listens.
    rivet.comment(number, "alice", "/approve").await;
    assert_eq!(rivet.work().await, ["deploy"]);
    rivet.finish().await;
}

/// C5, A9, A12.
async fn who_is_no_person_and_what_is_not_new_is_silent(rivet: Rivet) {
    let (number, _) = waiting(&rivet).await;
    let before = rivet.runs().await;
    rivet.github.permit(&rivet.repo, "helper[bot]", "write", 90);
    rivet.comment(number, "helper[bot]", "/approve").await;
    insta::assert_snapshot!(newest(&rivet).await, @"ignored: a bot wrote it; commands are people's");
    rivet.comment(number, crate::fake_github::comments::BOT, "/approve").await;
    insta::assert_snapshot!(newest(&rivet).await, @"ignored: a bot wrote it; commands are people's");

    // Edited into a command; the edit is delivered, or happens between the delivery and the look at it.
    let id = rivet.comment(number, "alice", "Fine.").await;
    rivet.github.edit_comment(id, "/approve");
    rivet.github.deliver_comment(&rivet.repo, id, "edited").await;
    rivet.github.deliver_comment(&rivet.repo, id, "deleted").await;
    rivet.settle().await;
    let id = rivet.github.write_comment(&rivet.repo, number, "alice", "/reject");
    let payload = rivet.github.comment_payload(&rivet.repo, id, "created");
    rivet.github.edit_comment(id, "/approve");
    rivet.github.deliver("issue_comment", &payload).await;
    rivet.settle().await;
    insta::assert_snapshot!(newest(&rivet).await, @"ignored: the comment was edited");
    // Another text in the delivery than at the forge, and somebody else's comment.
    let id = rivet.github.write_comment(&rivet.repo, number, "bob", "/help");
    let alice = rivet.github.world().user("alice");
    for (field, value) in [("body", json!("/approve")), ("user", alice)] {
        let mut payload = rivet.github.comment_payload(&rivet.repo, id, "created");
        payload["comment"][field] = value;
        rivet.github.deliver("issue_comment", &payload).await;
        rivet.settle().await;
    }
    insta::assert_snapshot!(newest(&rivet).await, @"ignored: the comment's author is not who the delivery named");
    // On an issue, and in somebody's name by an App.
    let id = rivet.github.write_comment(&rivet.repo, number, "alice", "/approve");
    let mut payload = rivet.github.comment_payload(&rivet.repo, id, "created");
    payload["issue"]["pull_request"] = serde_json::Value::Null;
    rivet.github.deliver("issue_comment", &payload).await;
    let mut payload = rivet.github.comment_payload(&rivet.repo, id, "created");
    payload["comment"]["performed_via_github_app"] = json!({ "id": 5 });
    rivet.github.deliver("issue_comment", &payload).await;
    rivet.settle().await;
    insta::assert_snapshot!(newest(&rivet).await, @"ignored: it was written by an App in somebody's name; commands are people's own");
    // Not signed by GitHub at all: nothing of it arrives.
    assert!(WEBHOOK_SECRET.len() >= 32);

    assert_eq!(rivet.runs().await, before);
    insta::assert_snapshot!(talk(&rivet, number, &[]), @"
    helper[bot]: /approve
    rivet-test[bot]: /approve
    alice (edited 1 times): /approve
    alice (edited 1 times): /approve
    bob: /help
    alice: /approve
    ");
    insta::assert_snapshot!(audit(&rivet, number).await, @"
    alice (github 12) command.ignored: the comment was edited
    bob (github 13) command.ignored: the comment is not what was delivered
    alice (github 12) command.ignored: the comment's author is not who the delivery named
    ");
    rivet.finish().await;
}

/// C7.
async fn five_are_read_and_the_rest_is_said(rivet: Rivet) {
    let (number, _) = waiting(&rivet).await;
    let body = "/retry\n".repeat(65_536 / 7);
    let id = rivet.comment(number, "alice", &body).await;
    let said = talk(&rivet, number, &[]).replace(body.trim(), "…");
    insta::assert_snapshot!(said, @"
    alice: … [eyes] [confused]
    rivet-test[bot]: <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/retry`

    Run 1 is still running.

    Only the first 5 commands in a comment are read.
    ");
    assert_eq!(rivet.github.world().comments.iter().filter(|c| c.id == id).count(), 1);
    rivet.comment(number, "alice", "/retry a\n/retry b\n/retry c\n/retry d\n/retry e\n/cancel").await;
    assert!(!rivet.runs().await.contains("cancelled"), "the sixth was not read");
    rivet.finish().await;
}

/// C8.
async fn strangers_get_a_thumb_down_once_a_minute(rivet: Rivet) {
    let (number, head) = waiting(&rivet).await;
    let before = rivet.runs().await;
    rivet.comment(number, "bob", &format!("/approve {}", &head[..12])).await;
    insta::assert_snapshot!(newest(&rivet).await.replace(&head[..12], "HEAD"), @"refused: bob wrote '/approve HEAD': who said so may not");
    rivet.comment(number, "mallory", "/cancel").await;
    rivet.comment(number, "bob", "/help").await;
    rivet.wait(61);
    rivet.comment(number, "bob", "/reject").await;
    insta::assert_snapshot!(talk(&rivet, number, &[(&head, "HEAD")]), @"
    bob: /approve HEAD [-1]
    mallory: /cancel
    bob: /help
    bob: /reject [-1]
    ");
    insta::assert_snapshot!(audit(&rivet, number).await.replace(&head[..12], "HEAD"), @"
    bob (github 13) command.stranger: /approve HEAD
    mallory (github 606898) command.stranger: /cancel
    bob (github 13) command.stranger: /help
    bob (github 13) command.stranger: /reject
    ");
    assert_eq!(rivet.runs().await, before);
    rivet.finish().await;
}

/// C9, C10, C11, A7.
async fn forks_need_the_commit_that_was_reviewed(rivet: Rivet) {
    let (number, head) = pull(&rivet, true).await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    for line in ["/ok-to-test", "/approve", &format!("/ok-to-test {}", &head[..7]), "/ok-to-test main"] {
        rivet.comment(number, "alice", line).await;
    }
    let newer = rivet.github.push_to_pull(&rivet.repo, number, &[("src/a", "2")]).await;
    rivet.settle().await;
    rivet.comment(number, "alice", &format!("/ok-to-test {}", &head[..12])).await;
    let commits = [(head.as_str(), "OLD"), (newer.as_str(), "NEW")];
    insta::assert_snapshot!(talk(&rivet, number, &commits).replace(&head[..7], "OLD7"), @"
    alice: /ok-to-test [eyes] [confused]
    rivet-test[bot] (edited 4 times): <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/ok-to-test OLD`

    `OLD` is not the head of this pull request (it is `NEW`). Review the new commits, then approve that one.

    **Answer to alice** ([comment](#issuecomment-N))

    `/ok-to-test main`

    Give at least 12 hex digits of the commit.

    **Answer to alice** ([comment](#issuecomment-N))

    `/ok-to-test OLD7`

    Give at least 12 hex digits of the commit.

    **Answer to alice** ([comment](#issuecomment-N))

    `/approve`

    This pull request comes from a fork. Name the commit you reviewed: `/ok-to-test OLD`.

    **Answer to alice** ([comment](#issuecomment-N))

    `/ok-to-test`

    This pull request comes from a fork. Name the commit you reviewed: `/ok-to-test OLD`.
    alice: /approve [eyes] [confused]
    alice: /ok-to-test OLD7 [eyes] [confused]
    alice: /ok-to-test main [eyes] [confused]
    alice: /ok-to-test OLD [eyes] [confused]
    ");
    assert_eq!(rivet.work().await, Vec::<String>::new());
    // The author themselves, from another place, and then who may.
    rivet.comment(number, "eve", &format!("/ok-to-test {newer}")).await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    rivet.comment(number, "alice", &format!("/ok-to-test {}", &newer[..12])).await;
    assert_eq!(rivet.work().await, ["build"]);
    rivet.comment(number, "alice", &format!("/ok-to-test {}", &newer[..12])).await;
    rivet.comment(number, "alice", "/ok-to-test cancel").await;
    rivet.comment(number, "alice", "/ok-to-test cancel").await;
    insta::assert_snapshot!(talk(&rivet, number, &commits).replace(&head[..7], "OLD7"), @"
    alice: /ok-to-test [eyes] [confused]
    rivet-test[bot] (edited 6 times): <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/ok-to-test cancel`

    Nothing of this pull request was let in.

    **Answer to alice** ([comment](#issuecomment-N))

    `/ok-to-test NEW`

    Already approved by alice at TIME.

    **Answer to alice** ([comment](#issuecomment-N))

    `/ok-to-test OLD`

    `OLD` is not the head of this pull request (it is `NEW`). Review the new commits, then approve that one.

    **Answer to alice** ([comment](#issuecomment-N))

    `/ok-to-test main`

    Give at least 12 hex digits of the commit.

    **Answer to alice** ([comment](#issuecomment-N))

    `/ok-to-test OLD7`

    Give at least 12 hex digits of the commit.
    alice: /approve [eyes] [confused]
    alice: /ok-to-test OLD7 [eyes] [confused]
    alice: /ok-to-test main [eyes] [confused]
    alice: /ok-to-test OLD [eyes] [confused]
    eve: /ok-to-test NEW [-1]
    alice: /ok-to-test NEW [eyes] [rocket]
    alice: /ok-to-test NEW [eyes] [confused]
    alice: /ok-to-test cancel [eyes] [rocket]
    alice: /ok-to-test cancel [eyes] [confused]
    ");
    rivet.finish().await;
}

/// C12, C13, C14.
async fn a_second_approval_and_wrong_runs_are_told_apart(rivet: Rivet) {
    let (number, head) = waiting(&rivet).await;
    let (other, _) = rivet.open_pull("other", false, &[("src/b", "1")]).await;
    rivet.comment(number, "alice", "/approve deploy").await;
    rivet.comment(number, "ada", "/approve").await;
    for line in ["/retry 2", "/retry 999", "/cancel 2", "/retry", "/retry deploy", "/retry 1", "/cancel now"] {
        rivet.comment(number, "ada", line).await;
    }
    let said = talk(&rivet, number, &[(&head, "HEAD")]);
    insta::assert_snapshot!(said, @"
    alice: /approve deploy [eyes] [rocket]
    ada: /approve [eyes] [confused]
    rivet-test[bot] (edited 7 times): <!-- -->

    **Answer to ada** ([comment](#issuecomment-N))

    `/cancel now`

    `/cancel` takes a run number or nothing; got 'now'.

    **Answer to ada** ([comment](#issuecomment-N))

    `/retry 1`

    Run 1 is still running.

    **Answer to ada** ([comment](#issuecomment-N))

    `/retry deploy`

    Run 1 is still running.

    **Answer to ada** ([comment](#issuecomment-N))

    `/retry`

    Run 1 is still running.

    **Answer to ada** ([comment](#issuecomment-N))

    `/cancel 2`

    Run 2 does not belong to this pull request.
    ada: /retry 2 [eyes] [confused]
    ada: /retry 999 [eyes] [confused]
    ada: /cancel 2 [eyes] [confused]
    ada: /retry [eyes] [confused]
    ada: /retry deploy [eyes] [confused]
    ada: /retry 1 [eyes] [confused]
    ada: /cancel now [eyes] [confused]
    ");
    rivet.comment(number, "ada", "/cancel a b @acme/ops").await;
    rivet.comment(number, "alice", "/retry $(curl http://evil.example)").await;
    rivet.comment(number, "alice", "/retry biuld").await;
    let said = talk(&rivet, number, &[(&head, "HEAD")]);
    insta::assert_snapshot!(said.split("<!-- -->").nth(1).unwrap_or_default(), @"
    **Answer to alice** ([comment](#issuecomment-N))

    `/retry biuld`

    Unknown stage 'biuld'. Did you mean `build`?

    **Answer to alice** ([comment](#issuecomment-N))

    `/retry $(curl http://evil.example)`

    Unknown stage `$(curl http://evil.example)`.

    **Answer to ada** ([comment](#issuecomment-N))

    `/cancel a b @acme/ops`

    `/cancel` takes a run number or nothing; got `a b @acme/ops`.

    **Answer to ada** ([comment](#issuecomment-N))

    `/cancel now`

    `/cancel` takes a run number or nothing; got 'now'.

    **Answer to ada** ([comment](#issuecomment-N))

    `/retry 1`

    Run 1 is still running.
    ada: /retry 2 [eyes] [confused]
    ada: /retry 999 [eyes] [confused]
    ada: /cancel 2 [eyes] [confused]
    ada: /retry [eyes] [confused]
    ada: /retry deploy [eyes] [confused]
    ada: /retry 1 [eyes] [confused]
    ada: /cancel now [eyes] [confused]
    ada: /cancel a b @acme/ops [eyes] [confused]
    alice: /retry $(curl http://evil.example) [eyes] [confused]
    alice: /retry biuld [eyes] [confused]
    ");
    assert!(!rivet.runs().await.contains("cancelled"));
    assert_eq!(rivet.conversation(other), "");
    rivet.finish().await;
}

/// C15.
async fn a_closed_pull_request_is_closed(rivet: Rivet) {
    let (number, _) = waiting(&rivet).await;
    rivet.github.close_pull(&rivet.repo, number).await;
    rivet.settle().await;
    rivet.comment(number, "alice", "/run nightly").await;
    rivet.comment(number, "bob", "/poll").await;
    insta::assert_snapshot!(talk(&rivet, number, &[]), @"
    alice: /run nightly [eyes] [confused]
    rivet-test[bot]: <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/run nightly`

    This pull request is closed.
    bob: /poll
    ");
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci pull_request of pull request 1 cancelled: The pull request was closed.
      build succeeded: It succeeded.
      deploy cancelled: The pull request was closed.
    ");
    rivet.finish().await;
}

/// C16, A13.
async fn nobody_acts_without_the_forges_word(rivet: Rivet) {
    let (number, _) = waiting(&rivet).await;
    let before = rivet.runs().await;
    for status in [502, 404] {
        rivet.github.world().faults.permissions = Some(status);
        rivet.comment(number, "alice", "/approve").await;
    }
    rivet.github.world().faults.permissions = None;
    // The login is somebody else's by now.
    let id = rivet.github.write_comment(&rivet.repo, number, "alice", "/approve");
    let payload = rivet.github.comment_payload(&rivet.repo, id, "created");
    rivet.github.world().faults.other_account = true;
    rivet.github.deliver("issue_comment", &payload).await;
    rivet.settle().await;
    insta::assert_snapshot!(newest(&rivet).await, @"ignored: alice is not the account that asked.");
    insta::assert_snapshot!(talk(&rivet, number, &[]), @"
    alice: /approve [confused]
    rivet-test[bot]: <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/approve`

    GitHub did not confirm your permission (HTTP 502). Nothing was done; try again.
    alice: /approve [-1]
    alice: /approve
    ");
    insta::assert_snapshot!(audit(&rivet, number).await, @"
    alice (github 12) command.unconfirmed: /approve
    alice (github 12) command.stranger: /approve
    alice (github 12) command.ignored: alice is not the account that asked.
    ");
    assert_eq!(rivet.runs().await, before);
    rivet.finish().await;
}
