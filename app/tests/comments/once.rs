//! What is delivered twice, cut off, or happens while the forge is away: done once, and told in the end.

use crate::conversation::{Rivet, conversations};
use crate::scene::{again, pull, talk, waiting};

conversations!(
    a_comment_that_is_worked_on_again_does_nothing_twice,
    a_command_that_was_cut_off_is_not_repeated,
    the_one_comment_is_found_again_and_never_doubled,
    a_forge_that_is_away_is_waited_for,
);

async fn a_comment_that_is_worked_on_again_does_nothing_twice(rivet: Rivet) {
    let (number, head) = pull(&rivet, false).await;
    rivet.work_with(|_| "failed").await;
    rivet.comment(number, "alice", "/retry\n/run nightly\n/cancel now").await;
    rivet.work_with(|_| "failed").await;
    let (before, said) = (rivet.runs().await, talk(&rivet, number, &[]));
    again(&rivet).await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    assert_eq!(rivet.runs().await, before);
    assert_eq!(talk(&rivet, number, &[]), said);
    insta::assert_snapshot!(rivet.checks(&head), @"
    ci / build: completed failure: command_failed: make ended with 2 [Retry]
    ci / deploy: completed skipped: Skipped: build failed
    ci / build: completed failure: command_failed: make ended with 2 [Retry]
    ci / deploy: queued: Waiting for build to end [Cancel]
    nightly / soak: completed failure: command_failed: make ended with 2 [Retry]
    rivet/ci: failure: build failed.
    rivet/nightly: failure: soak failed.
    ");
    rivet.finish().await;
}

/// As if the server was killed after the effect and before it was written down.
async fn a_command_that_was_cut_off_is_not_repeated(rivet: Rivet) {
    let (number, _) = pull(&rivet, false).await;
    rivet.work_with(|_| "failed").await;
    let cut_off = "UPDATE command SET outcome = NULL, answer = NULL, done_at = NULL";
    rivet.comment(number, "alice", "/retry\n/run nightly").await;
    rivet.work_with(|_| "failed").await;
    let before = rivet.runs().await;
    rivet.sql(cut_off).await;
    again(&rivet).await;
    assert_eq!(rivet.work().await, Vec::<String>::new(), "the second failure is nobody's wish to retry");
    assert_eq!(rivet.runs().await, before);

    rivet.comment(number, "alice", "/retry build").await;
    assert_eq!(rivet.work().await, ["build"]);
    rivet.comment(number, "alice", "/approve").await;
    rivet.sql(cut_off).await;
    again(&rivet).await;
    assert_eq!(rivet.work().await, ["deploy"]);
    rivet.comment(number, "alice", "/run nightly").await;
    rivet.comment(number, "alice", "/cancel").await;
    rivet.sql(cut_off).await;
    again(&rivet).await;
    // Everything that was said was done: nothing is refused afterwards.
    assert!(!rivet.conversation(number).contains("confused"), "{}", rivet.conversation(number));
    rivet.finish().await;
}

async fn the_one_comment_is_found_again_and_never_doubled(rivet: Rivet) {
    let (number, _) = waiting(&rivet).await;
    // The answer to the comment's creation is lost: it is there, and Rivet does not know.
    rivet.github.world().faults.lose_answers = 3;
    rivet.comment(number, "alice", "/retry x").await;
    // One report in a while asks whether the forge is back; the rest follows when it is.
    for _ in 0..3 {
        rivet.wait(600);
        rivet.settle().await;
    }
    rivet.comment(number, "alice", "/retry y").await;
    rivet.wait(600);
    rivet.settle().await;
    insta::assert_snapshot!(talk(&rivet, number, &[]), @"
    alice: /retry x [eyes] [confused]
    rivet-test[bot] (edited 3 times): <!-- -->

    **Answer to alice** ([comment](#issuecomment-N))

    `/retry y`

    Unknown stage 'y'.

    **Answer to alice** ([comment](#issuecomment-N))

    `/retry x`

    Unknown stage 'x'.
    alice: /retry y [eyes] [confused]
    ");
    // Somebody else quotes its beginning; a restored database does not know of it; somebody takes it away.
    rivet.github.write_comment(&rivet.repo, number, "helper[bot]", "<!-- rivet: answers to commands --> quoted");
    rivet.sql("UPDATE report SET forge_id = NULL WHERE kind = 'comment'").await;
    rivet.comment(number, "alice", "/retry z").await;
    let ours = |rivet: &Rivet| {
        rivet.github.world().comments.iter().filter(|c| c.author == crate::fake_github::comments::BOT).count()
    };
    assert_eq!(ours(&rivet), 1);
    rivet.github.world().comments.retain(|c| c.author != crate::fake_github::comments::BOT);
    rivet.comment(number, "alice", "/help").await;
    rivet.wait(600);
    rivet.settle().await;
    assert_eq!(ours(&rivet), 1);
    rivet.finish().await;
}

async fn a_forge_that_is_away_is_waited_for(rivet: Rivet) {
    let (number, _) = waiting(&rivet).await;
    rivet.github.world().faults.down = true;
    rivet.comment(number, "alice", "/approve").await;
    assert_eq!(rivet.work().await, Vec::<String>::new());
    rivet.github.world().faults.down = false;
    // Its time has come.
    rivet.sql("UPDATE delivery SET available_at = 0 WHERE state = 'pending'").await;
    assert_eq!(rivet.work().await, ["deploy"]);
    insta::assert_snapshot!(talk(&rivet, number, &[]), @"alice: /approve [eyes] [rocket]");
    rivet.wait(3600);
    rivet.finish().await;
}
