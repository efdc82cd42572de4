//! What the forge shows follows what is stored: through outages, lost answers, limits, kills and several instances.

#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;
#[path = "reporting/outages.rs"]
mod outages;
#[path = "reporting/rivet.rs"]
mod rivet_under_test;
#[path = "support/stores.rs"]
mod stores;

use pipelines_spec::problem::{Location, Problem};
use rivet::engine::reporter;
use rivet::forge::comments::Reaction;
use rivet::store::reports::{LivingComment, ReportKey, StatusState, Wanted, want_definitions_check, want_status};
use rivet_under_test::{TestRivet, TestRivet as World};
use std::time::Duration;

on_both_databases!(
    a_check_run_follows_its_stage_and_the_status_its_run,
    an_outage_is_caught_up_and_only_the_end_is_told,
    an_answer_that_was_lost_makes_no_second_check_run,
    a_pass_killed_between_creating_and_recording_makes_no_second_check_run,
    a_limit_is_obeyed_and_everything_is_told_afterwards,
    several_instances_never_open_a_completed_check_run_again,
    each_attempt_is_a_check_run_of_the_same_name,
    people_are_told_what_to_do_and_given_buttons,
    the_end_says_what_failed_and_nothing_in_it_is_acted_upon,
    a_cancelled_run_is_an_error_and_what_was_skipped_says_so,
    problems_of_definitions_stand_on_their_lines_until_they_are_mended,
    the_newest_run_speaks_for_a_context,
    a_refusal_is_kept_for_people_and_given_up_after_a_day,
    a_run_costs_at_most_four_calls_a_stage_and_three_more,
    the_one_comment_of_a_pull_request_is_changed_and_never_doubled,
    of_two_wants_of_one_thing_in_one_go_the_later_counts,
);

async fn a_check_run_follows_its_stage_and_the_status_its_run(rivet: TestRivet) {
    let run = rivet.run("ci", &["build", "test (db=sqlite, os=linux)"]).await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / build: queued: Waiting for its turn [Cancel]
    ci / test (db=sqlite, os=linux): queued: Waiting for its turn [Cancel]
    rivet/ci: pending: Run 1 has not ended yet
    ");
    rivet.stage(&run, "build", "queued", "Waiting for a runner with os=linux.", 1).await;
    rivet.report().await;
    rivet.stage(&run, "build", "running", "Running.", 1).await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / build: in_progress: Running [Cancel]
    ci / test (db=sqlite, os=linux): queued: Waiting for its turn [Cancel]
    rivet/ci: pending: Run 1 has not ended yet
    ");
    rivet.stage(&run, "build", "succeeded", "Done.", 1).await;
    rivet.stage(&run, "test (db=sqlite, os=linux)", "succeeded", "Done.", 1).await;
    rivet.ends(&run, "completed", "All 2 stages succeeded.").await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / build: completed success: Done
    ci / test (db=sqlite, os=linux): completed success: Done
    rivet/ci: success: All 2 stages succeeded.
    ");
    let summary = rivet.github.summary("ci / build").replace(run.as_str(), "RUN");
    insta::assert_snapshot!(summary, @"
    Done.

    Waited 3 s, ran 12 s.

    [Run 1 of ci](http://127.0.0.1:8080/runs/RUN)
    ");
    rivet.finish().await;
}

async fn an_outage_is_caught_up_and_only_the_end_is_told(rivet: TestRivet) {
    let run = rivet.run("ci", &["build"]).await;
    rivet.github.world().faults.down = true;
    rivet.report().await;
    rivet.stage(&run, "build", "running", "Running.", 1).await;
    rivet.report().await;
    rivet.stage(&run, "build", "failed", "make ended with 2.", 1).await;
    rivet.ends(&run, "failed", "build failed.").await;
    assert_eq!(rivet.report().await, "");

    rivet.github.world().faults.down = false;
    rivet.github.take_calls("");
    rivet.wait(7200);
    insta::assert_snapshot!(rivet.report().await, @"
    ci / build: completed failure: make ended with 2 [Retry]
    rivet/ci: failure: build failed.
    ");
    let calls = rivet.github.take_calls("");
    let writes: Vec<&String> =
        calls.iter().filter(|call| !call.starts_with("GET") && !call.contains("tokens")).collect();
    assert_eq!(writes.len(), 2, "{calls:?}");
    rivet.finish().await;
}

async fn an_answer_that_was_lost_makes_no_second_check_run(rivet: TestRivet) {
    let run = rivet.run("ci", &["build"]).await;
    rivet.github.world().faults.lose_answers = 2;
    rivet.report().await;
    rivet.stage(&run, "build", "succeeded", "Done.", 1).await;
    rivet.ends(&run, "completed", "Done.").await;
    rivet.github.world().faults.lose_answers = 1;
    rivet.wait(60);
    rivet.report().await;
    rivet.wait(60);
    insta::assert_snapshot!(rivet.report().await, @"
    ci / build: completed success: Done
    rivet/ci: success: Done.
    ");
    rivet.finish().await;
}

async fn a_pass_killed_between_creating_and_recording_makes_no_second_check_run(rivet: TestRivet) {
    let run = rivet.run("ci", &["build"]).await;
    for _ in 0..5 {
        // The answer comes after the pass was dropped: the check run exists, and nobody wrote down its id.
        rivet.github.world().faults.slow = Some(Duration::from_millis(20));
        rivet.wait(1);
        let pass = reporter::pass_at(&rivet.context, rivet.now());
        let killed = tokio::time::timeout(Duration::from_millis(50), pass).await;
        assert!(killed.is_err(), "the pass was to be killed");
        rivet.wait(200);
    }
    rivet.github.world().faults.slow = None;
    rivet.stage(&run, "build", "succeeded", "Done.", 1).await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / build: completed success: Done
    rivet/ci: pending: Run 1 has not ended yet
    ");
    rivet.finish().await;
}

async fn a_limit_is_obeyed_and_everything_is_told_afterwards(rivet: TestRivet) {
    rivet.run("ci", &["a", "b", "c", "d"]).await;
    // The token is minted first; the call after it is refused.
    rivet.run("warm", &[]).await;
    rivet.report().await;
    let run = rivet.run("more", &["a", "b", "c", "d"]).await;
    rivet.github.take_calls("");
    let headers = vec![("retry-after", "2".to_owned())];
    rivet.github.world().faults.refuse = Some((1, 403, headers, "You have exceeded a secondary rate limit"));
    let reported = rivet.report_once().await;
    assert_eq!((reported.told, reported.failed), (0, 5));
    assert_eq!(rivet.github.take_calls("").len(), 1, "after the refusal nobody asks");
    // The client's silence is by the machine's clock.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    rivet.wait(60);
    let page = rivet.report().await;
    assert_eq!(page.matches("more / ").count(), 4, "{page}");
    rivet.stage(&run, "a", "running", "Running.", 1).await;
    rivet.report().await;
    rivet.finish().await;
}

async fn several_instances_never_open_a_completed_check_run_again(rivet: TestRivet) {
    let run = rivet.run("ci", &["a", "b"]).await;
    for (state, reason) in [("queued", "Waiting."), ("running", "Running."), ("succeeded", "Done.")] {
        for stage in ["a", "b"] {
            rivet.stage(&run, stage, state, reason, 1).await;
        }
        rivet.wait(1);
        let passes = (0..4).map(|_| reporter::pass_at(&rivet.context, rivet.now()));
        for reported in futures::future::join_all(passes).await {
            reported.unwrap();
        }
    }
    rivet.ends(&run, "completed", "Done.").await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / a: completed success: Done
    ci / b: completed success: Done
    rivet/ci: success: Done.
    ");
    rivet.finish().await;
}

async fn each_attempt_is_a_check_run_of_the_same_name(rivet: TestRivet) {
    let run = rivet.run("ci", &["test"]).await;
    rivet.stage(&run, "test", "running", "Running, attempt 1 of 2.", 1).await;
    rivet.report().await;
    rivet.try_ended(&run, "test", 1, "failed").await;
    rivet.stage(&run, "test", "running", "Running, attempt 2 of 2.", 2).await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / test: completed failure: Attempt 1: It did not end by itself. It was tried again
    ci / test: in_progress: Running, attempt 2 of 2 [Cancel]
    rivet/ci: pending: Run 1 has not ended yet
    ");
    rivet.stage(&run, "test", "failed", "make test ended with 2.", 2).await;
    rivet.ends(&run, "failed", "test failed.").await;
    rivet.report().await;
    // Somebody presses Retry: until it is queued the stage has its old number.
    rivet.stage(&run, "test", "pending", "Waiting for its turn.", 2).await;
    rivet.ends(&run, "running", "Running.").await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / test: completed failure: Attempt 1: It did not end by itself. It was tried again
    ci / test: completed failure: make test ended with 2 [Retry]
    ci / test: queued: Waiting for its turn [Cancel]
    rivet/ci: pending: Run 1 has not ended yet
    ");
    rivet.stage(&run, "test", "succeeded", "Done.", 3).await;
    rivet.ends(&run, "completed", "Done.").await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / test: completed failure: Attempt 1: It did not end by itself. It was tried again
    ci / test: completed failure: make test ended with 2 [Retry]
    ci / test: completed success: Done
    rivet/ci: success: Done.
    ");
    rivet.finish().await;
}

async fn people_are_told_what_to_do_and_given_buttons(rivet: TestRivet) {
    let run = rivet.run("deploy", &["production"]).await;
    rivet.stage(&run, "production", "awaiting_approval", "Waiting for @devops: /approve production", 0).await;
    insta::assert_snapshot!(rivet.report().await, @"
    deploy / production: queued: Waiting for @devops: /approve production [Approve] [Reject] [Cancel]
    rivet/deploy: pending: Waiting for @devops: /approve production
    ");
    let summary = rivet.github.summary("deploy / production");
    assert!(!summary.contains("@devops"), "nobody is mentioned again and again: {summary}");
    rivet.finish().await;
}

async fn the_end_says_what_failed_and_nothing_in_it_is_acted_upon(rivet: TestRivet) {
    let run = rivet.run("ci", &["test"]).await;
    let tail = format!("{}ok 1\n````\n@acme/ops <img src=x>\n\u{1b}[31mFAILED\u{1b}[0m\n", "line\n".repeat(20_000));
    let error = serde_json::json!({ "class": "command_failed", "message": "make test ended with 2 @ada", "command": "make test", "exit_code": 2, "tail": tail });
    rivet.fails(&run, "test", &error).await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / test: completed failure: make test ended with 2 [Retry]
    rivet/ci: pending: Run 1 has not ended yet
    ");
    let summary = rivet.github.summary("ci / test").replace(run.as_str(), "RUN");
    assert!(summary.len() < 60_000);
    let lines: Vec<&str> = summary.lines().filter(|line| *line != "line").collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    make test ended with 2.

    Waited 3 s, ran 12 s.

    ```text
    make test ended with 2 @ada
    ```

    The command ended with 2:

    ```text
    make test
    ```

    The end of [its log](http://127.0.0.1:8080/runs/RUN/stages/test):

    `````text
    …
    ok 1
    ````
    @acme/ops <img src=x>
    FAILED
    `````

    [Run 1 of ci](http://127.0.0.1:8080/runs/RUN)
    ");
    rivet.finish().await;
}

async fn a_cancelled_run_is_an_error_and_what_was_skipped_says_so(rivet: TestRivet) {
    let run = rivet.run("ci", &["build", "test", "ship"]).await;
    rivet.stage(&run, "build", "cancelled", "Cancelled by ada.", 1).await;
    rivet.stage(&run, "test", "skipped", "build was cancelled.", 0).await;
    rivet.stage(&run, "ship", "rolled_back", "Undone.", 1).await;
    rivet.ends(&run, "cancelled", "Cancelled by ada.").await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / build: completed cancelled: Cancelled by ada [Retry]
    ci / test: completed skipped: build was cancelled
    ci / ship: completed failure: Undone
    rivet/ci: error: Cancelled by ada.
    ");
    rivet.finish().await;
}

async fn problems_of_definitions_stand_on_their_lines_until_they_are_mended(rivet: TestRivet) {
    let wrong =
        Problem::error("plan.unknown_key", "unknown key 'timout' in stage 'test'").hint("did you mean 'timeout'?");
    let mut problems = vec![
        wrong.at(Location::line(".rivet/ci.lua", 7)),
        Problem::error("config.case_collision", "ci.lua and CI.lua"),
    ];
    want(&rivet, &problems).await;
    insta::assert_snapshot!(rivet.report().await, @"
    rivet / definitions: completed failure: Configuration error: mend 2 problems in .rivet/
      .rivet/ci.lua:7: unknown key 'timout' in stage 'test'
    did you mean 'timeout'?
    ");
    rivet.github.take_calls("");
    want(&rivet, &problems).await;
    rivet.report().await;
    assert_eq!(rivet.github.take_calls(""), Vec::<String>::new(), "the same again is no news");

    problems
        .extend((1..=119).map(|line| Problem::error("plan.type", "wrong").at(Location::line(".rivet/x.lua", line))));
    want(&rivet, &problems).await;
    rivet.report().await;
    assert_eq!(rivet.github.world().checks[0].annotations.len(), 120);
    want(&rivet, &[]).await;
    let page = rivet.report().await;
    insta::assert_snapshot!(page.lines().next().unwrap_or_default(), @"rivet / definitions: completed success: The definitions load");
    rivet.finish().await;
}

async fn want(rivet: &TestRivet, problems: &[Problem]) {
    let mut tx = rivet.context.store.begin().await.unwrap();
    let url = rivet.context.link("/repos/acme/app");
    want_definitions_check(&mut tx, &rivet.repo.id(), &rivet.sha, problems, &url, rivet.now()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn the_newest_run_speaks_for_a_context(rivet: TestRivet) {
    let mut tx = rivet.context.store.begin().await.unwrap();
    let skipped = "No file it watches changed";
    let url = rivet.context.link("/");
    want_status(&mut tx, &rivet.repo.id(), &rivet.sha, "ci", StatusState::Success, skipped, &url, rivet.now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    insta::assert_snapshot!(rivet.report().await, @"rivet/ci: success: No file it watches changed");
    let old = rivet.run("ci", &[]).await;
    let new = rivet.run("ci", &[]).await;
    rivet.ends(&new, "completed", "Done.").await;
    rivet.report().await;
    rivet.ends(&old, "failed", "build failed.").await;
    insta::assert_snapshot!(rivet.report().await, @"rivet/ci: success: Done.");
    rivet.finish().await;
}

async fn a_refusal_is_kept_for_people_and_given_up_after_a_day(rivet: TestRivet) {
    let run = rivet.run("ci", &[]).await;
    rivet.github.world().faults.refuse = Some((99, 403, vec![], "Resource not accessible by integration"));
    rivet.report().await;
    rivet.wait(25 * 3600);
    rivet.report().await;
    let reports = rivet.context.store.read().await.unwrap().reports_of(&run).await.unwrap();
    let error = reports[0].last_error.clone().unwrap_or_default();
    insta::assert_snapshot!(error, @"not reported: the forge refused: Resource not accessible by integration (403 Forbidden)");
    // Something new is tried again.
    rivet.github.world().faults.refuse = None;
    rivet.ends(&run, "completed", "Done.").await;
    insta::assert_snapshot!(rivet.report().await, @"rivet/ci: success: Done.");
    rivet.finish().await;
}

async fn a_run_costs_at_most_four_calls_a_stage_and_three_more(rivet: TestRivet) {
    rivet.run("warm", &[]).await;
    rivet.report().await;
    rivet.github.take_calls("");
    let run = rivet.run("ci", &["a", "b"]).await;
    rivet.report().await;
    for stage in ["a", "b"] {
        for (state, reason, attempt) in [
            ("pending", "Waiting for others to end.", 0),
            ("queued", "Waiting for a runner.", 1),
            ("running", "Running.", 1),
            ("succeeded", "Done.", 1),
        ] {
            rivet.stage(&run, stage, state, reason, attempt).await;
            rivet.report().await;
        }
    }
    rivet.ends(&run, "completed", "Done.").await;
    rivet.report().await;
    let calls = rivet.github.take_calls("");
    assert!(calls.len() <= 4 * 2 + 3, "{} calls: {calls:#?}", calls.len());
    rivet.finish().await;
}

async fn the_one_comment_of_a_pull_request_is_changed_and_never_doubled(rivet: TestRivet) {
    let number = rivet.github.open_pull_request(&rivet.repo, "main", false).await;
    let asked = rivet.github.write_comment(&rivet.repo, number, "alice", "/help");
    let want = async |text: &str| {
        let key = ReportKey { repo_id: rivet.repo.id(), sha: String::new(), run_id: None, stage_id: None };
        let body = format!("{}\n\n{text}", LivingComment::MARKER);
        let mut tx = rivet.context.store.begin().await.unwrap();
        let comment = Wanted::Comment(LivingComment { pull_request: number, body });
        tx.want(&key, &comment, rivet.now()).await.unwrap();
        let receipt = Wanted::Receipt { comment: asked, reaction: Reaction::Rocket };
        tx.want(&key, &receipt, rivet.now()).await.unwrap();
        tx.commit().await.unwrap();
    };
    // It is written, and the answer to that is lost.
    rivet.github.world().faults.lose_answers = 2;
    want("one").await;
    rivet.report().await;
    // An answer that does not come is an outage: one thing at a time is tried until one does.
    for _ in 0..3 {
        rivet.wait(60);
        rivet.report().await;
    }
    want("two").await;
    rivet.report().await;
    insta::assert_snapshot!(rivet.github.conversation(&rivet.repo, number), @"
    alice: /help [rocket]
    rivet-test[bot] (edited 3 times): <!-- rivet: answers to commands -->

    two
    ");
    rivet.github.write_comment(&rivet.repo, number, "other[bot]", &format!("{} quoted", LivingComment::MARKER));
    // Somebody takes it away, and with it the comment that was answered.
    rivet.github.world().comments.retain(|comment| comment.author == "other[bot]");
    want("three").await;
    rivet.report().await;
    rivet.wait(120);
    rivet.report().await;
    insta::assert_snapshot!(rivet.github.conversation(&rivet.repo, number), @"
    other[bot]: <!-- rivet: answers to commands --> quoted
    rivet-test[bot]: <!-- rivet: answers to commands -->

    three
    ");
    rivet.finish().await;
}

async fn of_two_wants_of_one_thing_in_one_go_the_later_counts(rivet: TestRivet) {
    let number = rivet.github.open_pull_request(&rivet.repo, "main", false).await;
    let key = ReportKey { repo_id: rivet.repo.id(), sha: String::new(), run_id: None, stage_id: None };
    let want = |text: &str| {
        let body = format!("{}\n\n{text}", LivingComment::MARKER);
        (key.clone(), Wanted::Comment(LivingComment { pull_request: number, body }), None)
    };
    let mut tx = rivet.context.store.begin().await.unwrap();
    tx.want_all_after(&[want("one"), want("two")], rivet.now()).await.unwrap();
    tx.commit().await.unwrap();
    rivet.report().await;
    insta::assert_snapshot!(rivet.github.conversation(&rivet.repo, number), @"
    rivet-test[bot]: <!-- rivet: answers to commands -->

    two
    ");
    rivet.finish().await;
}
