//! Outages, limits, several writers: what is told in the end is what is stored, and no limit was passed on the way.

use crate::on_both_databases;
use crate::rivet_under_test::TestRivet;
use rivet::actions::tell_again::tell_again;
use rivet::config::Config;
use rivet::engine::reporter;
use rivet::store::told::Told;
use rivet::store::writers::Rates;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

on_both_databases!(
    after_two_hours_without_the_forge_it_is_equal_within_five_minutes,
    an_outage_is_asked_about_by_one_report_in_a_while,
    no_hour_sees_more_creations_than_it_may_and_the_ends_go_first,
    a_flooding_repository_leaves_a_small_one_its_turn,
    a_limit_without_a_time_silences_every_instance,
    a_secondary_limit_silences_every_instance,
    one_instance_at_a_time_tells_an_installation,
    a_late_call_of_a_writer_that_was_taken_over_is_set_right,
    workers_in_any_order_end_with_the_end,
    of_many_notes_the_gravest_are_shown_and_the_rest_is_linked,
    a_lost_answer_doubles_no_notes,
    what_was_not_reported_for_a_day_is_seen_and_told_when_somebody_asks,
);

async fn after_two_hours_without_the_forge_it_is_equal_within_five_minutes(rivet: TestRivet) {
    let early = rivet.run("early", &["a", "b"]).await;
    rivet.report().await;
    rivet.github.world().faults.down = true;
    let mut late = vec![];
    for minute in 0..120 {
        if minute % 6 == 0 {
            late.push(rivet.run(&format!("p{minute}"), &["build"]).await);
        }
        rivet.wait(60);
        rivet.report_once().await;
    }
    for run in &late {
        rivet.stage(run, "build", "succeeded", "Done.", 1).await;
        rivet.ends(run, "completed", "Done.").await;
    }
    rivet.stage(&early, "a", "failed", "make ended with 2.", 1).await;
    rivet.ends(&early, "failed", "a failed.").await;
    rivet.report_once().await;
    assert!(!rivet.is_equal().await);

    rivet.github.world().faults.down = false;
    let back = rivet.now();
    while !rivet.is_equal().await {
        rivet.wait(5);
        rivet.report_once().await;
        assert!(rivet.now().since(back) <= 300_000, "five minutes have passed");
    }
    let page = rivet.github.checks(&rivet.sha);
    assert_eq!(page.matches("/ build: completed success").count(), 20, "{page}");
    assert!(page.contains("early / a: completed failure"), "{page}");
    assert_eq!(page.matches(": pending").count(), 0, "{page}");
    rivet.finish().await;
}

async fn an_outage_is_asked_about_by_one_report_in_a_while(rivet: TestRivet) {
    rivet.run("warm", &[]).await;
    rivet.report().await;
    rivet.github.world().faults.down = true;
    for number in 0..10 {
        rivet.run(&format!("p{number}"), &["a", "b"]).await;
    }
    rivet.github.take_calls("");
    for _ in 0..60 {
        rivet.wait(60);
        rivet.report_once().await;
    }
    let calls = rivet.github.take_calls("").len();
    assert!((30..=70).contains(&calls), "{calls} calls in an hour");
    rivet.github.world().faults.down = false;
    rivet.wait(60);
    for _ in 0..6 {
        rivet.wait(60);
        rivet.report().await;
    }
    rivet.finish().await;
}

async fn no_hour_sees_more_creations_than_it_may_and_the_ends_go_first(rivet: TestRivet) {
    // Far more than an hour allows: 30 runs of three check runs and a status each.
    let mut rivet = rivet;
    rivet.context.config = Arc::new(Config { rates: Rates::hourly(80), ..(*rivet.context.config).clone() });
    let rivet = rivet;
    let mut runs = vec![];
    for number in 0..30 {
        runs.push(rivet.run(&format!("p{number}"), &["a", "b", "c"]).await);
    }
    let mut made = vec![];
    let mut pass = async |seconds: u64| {
        rivet.wait(seconds);
        rivet.github.take_calls("");
        rivet.report_once().await;
        let created = rivet.github.take_calls("POST /repos").len();
        made.push((rivet.now(), created));
    };
    // Until half of it is spent everything is told; then what can wait has to stand for a while.
    pass(20).await;
    pass(61).await;
    pass(61).await;
    pass(61).await;
    let begun = {
        let world = rivet.github.world();
        world.checks.len() + world.statuses.len()
    };
    assert_eq!(begun, 48, "twelve a minute");
    // The last runs, which came to the forge last if at all, end first.
    for run in &runs[26..] {
        for stage in ["a", "b", "c"] {
            rivet.stage(run, stage, "succeeded", "Done.", 1).await;
        }
        rivet.ends(run, "completed", "Done.").await;
    }
    for _ in 0..3 {
        pass(61).await;
    }
    let page = rivet.github.checks(&rivet.sha);
    assert_eq!(page.matches("success: Done.").count(), 4, "{page}");
    for run in &runs[..26] {
        for stage in ["a", "b", "c"] {
            rivet.stage(run, stage, "succeeded", "Done.", 1).await;
        }
        rivet.ends(run, "completed", "Done.").await;
    }
    let mut passes = 0;
    while !rivet.is_equal().await {
        pass(300).await;
        passes += 1;
        assert!(passes < 200, "it never became equal");
    }
    for (start, _) in &made {
        let within = |seconds: i64| -> usize {
            made.iter().filter(|(at, _)| (0..seconds * 1000).contains(&at.since(*start))).map(|(_, n)| n).sum()
        };
        assert!(within(60) <= 12 && within(3600) <= 80, "{} in a minute, {} in an hour", within(60), within(3600));
    }
    rivet.finish().await;
}

async fn a_flooding_repository_leaves_a_small_one_its_turn(rivet: TestRivet) {
    for number in 0..200 {
        rivet.run(&format!("p{number}"), &["a"]).await;
    }
    let (small, sha) = rivet.another_repo("acme/small").await;
    rivet.run_in(&small, &sha, "ci", &["build"]).await;
    rivet.report_once().await;
    insta::assert_snapshot!(rivet.github.checks(&sha), @"
    ci / build: queued: Waiting for its turn [Cancel]
    rivet/ci: pending: Run 201 has not ended yet
    ");
    rivet.github.finish();
}

async fn a_limit_without_a_time_silences_every_instance(rivet: TestRivet) {
    silences(&rivet, 429, "Too many requests").await;
}

async fn a_secondary_limit_silences_every_instance(rivet: TestRivet) {
    silences(&rivet, 403, "You have exceeded a secondary rate limit.").await;
}

async fn silences(rivet: &TestRivet, status: u16, message: &'static str) {
    let other = rivet.another_instance();
    rivet.run("ci", &["a", "b"]).await;
    rivet.github.world().faults.refuse = Some((1, status, vec![], message));
    rivet.wait(1);
    let refused = reporter::pass_at(&rivet.context, rivet.now()).await.unwrap();
    assert_eq!((refused.told, refused.failed), (0, 3));
    rivet.wait(40);
    let silent = reporter::pass_at(&other, rivet.now()).await.unwrap();
    assert_eq!((silent.told, silent.failed), (0, 0), "the other one knows of it");
    assert_eq!(rivet.github.take_calls("").len(), 1);
    rivet.wait(30);
    while reporter::pass_at(&other, rivet.now()).await.unwrap().is_busy() {}
    assert!(rivet.is_equal().await, "a minute later it is told");
    rivet.finish().await;
}

async fn one_instance_at_a_time_tells_an_installation(rivet: TestRivet) {
    let (second, sha) = rivet.another_repo("acme/second").await;
    for number in 0..8 {
        rivet.run(&format!("p{number}"), &["a"]).await;
        rivet.run_in(&second, &sha, &format!("q{number}"), &["a"]).await;
    }
    rivet.wait(1);
    rivet.github.world().faults.slow = Some(Duration::from_millis(5));
    let instances: Vec<_> = (0..4).map(|_| rivet.another_instance()).collect();
    let passes = instances.iter().map(|context| reporter::pass_at(context, rivet.now()));
    let told: Vec<usize> =
        futures::future::join_all(passes).await.into_iter().map(|reported| reported.unwrap().told).collect();
    rivet.github.world().faults.slow = None;
    assert_eq!(told.iter().filter(|told| **told > 0).count(), 1, "{told:?}");
    rivet.report().await;
    rivet.finish().await;
}

async fn a_late_call_of_a_writer_that_was_taken_over_is_set_right(rivet: TestRivet) {
    let run = rivet.run("ci", &["a"]).await;
    rivet.report().await;
    rivet.stage(&run, "a", "running", "Running.", 1).await;
    rivet.wait(1);
    let (slow, quick) = (rivet.another_instance(), rivet.another_instance());
    let started = rivet.now();
    // The first one's word is on its way for so long that everybody thinks it dead.
    rivet.github.world().faults.slow = Some(Duration::from_millis(400));
    let late = reporter::pass_at(&slow, started);
    let rest = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        rivet.github.world().faults.slow = None;
        rivet.stage(&run, "a", "succeeded", "Done.", 1).await;
        rivet.ends(&run, "completed", "Done.").await;
        rivet.wait(120);
        reporter::pass_at(&quick, rivet.now()).await.unwrap()
    };
    let (late, quick) = futures::future::join(late, rest).await;
    assert!(quick.told > 0, "it was taken over");
    late.unwrap();
    rivet.wait(120);
    insta::assert_snapshot!(rivet.report().await, @"
    ci / a: completed success: Done
    rivet/ci: success: Done.
    ");
    // GitHub saw the late word after the end; what counts is what it shows now.
    rivet.github.world().violations.retain(|violation| !violation.contains("was completed and is not any more"));
    rivet.finish().await;
}

async fn workers_in_any_order_end_with_the_end(rivet: TestRivet) {
    let run = rivet.run("ci", &["a", "b", "c"]).await;
    let instances: Vec<_> = (0..4).map(|_| rivet.another_instance()).collect();
    let mut turn = 7_usize;
    for (state, reason) in [("queued", "Waiting."), ("running", "Running."), ("succeeded", "Done.")] {
        for stage in ["a", "b", "c"] {
            rivet.stage(&run, stage, state, reason, 1).await;
            turn = (turn * 31 + 11) % 97;
            let (one, two) = (&instances[turn % 4], &instances[(turn / 4) % 4]);
            rivet.wait(1);
            let (first, second) = futures::future::join(
                reporter::pass_at(one, rivet.now()),
                reporter::pass_at(two, rivet.now().plus_millis(300)),
            )
            .await;
            first.unwrap();
            second.unwrap();
        }
    }
    rivet.ends(&run, "completed", "Done.").await;
    insta::assert_snapshot!(rivet.report().await, @"
    ci / a: completed success: Done
    ci / b: completed success: Done
    ci / c: completed success: Done
    rivet/ci: success: Done.
    ");
    rivet.finish().await;
}

async fn of_many_notes_the_gravest_are_shown_and_the_rest_is_linked(rivet: TestRivet) {
    let run = rivet.run("ci", &["lint (os=linux)"]).await;
    let level = |number: usize| ["notice", "warning", "failure"][number % 3];
    let notes: Vec<_> = (0..780)
        .map(|n| json!({ "path": "src/a.rs", "line": n + 1, "level": level(n), "message": format!("note {n} é") }))
        .collect();
    rivet.notes(&run, "lint (os=linux)", &json!(notes)).await;
    let reason = "é".repeat(40_000);
    rivet.stage(&run, "lint (os=linux)", "failed", &reason, 1).await;
    rivet.report().await;
    let shown = rivet.github.world().checks[0].annotations.clone();
    assert_eq!(shown.len(), 500);
    let count = |level: &str| shown.iter().filter(|note| note["annotation_level"] == level).count();
    assert_eq!((count("failure"), count("warning"), count("notice")), (260, 240, 0));
    let summary = rivet.github.summary("ci / lint (os=linux)").replace(run.as_str(), "RUN");
    assert!(summary.len() < 10_000, "{}", summary.len());
    let end: Vec<&str> = summary.lines().filter(|line| !line.is_empty()).skip(1).collect();
    insta::assert_snapshot!(end.join("\n"), @"
    Waited 3 s, ran 12 s.
    500 of 780 notes are shown here, the gravest first; [the other 280 too](http://127.0.0.1:8080/runs/RUN/stages/lint%20%28os%3Dlinux%29).
    [Run 1 of ci](http://127.0.0.1:8080/runs/RUN)
    ");
    rivet.finish().await;
}

async fn a_lost_answer_doubles_no_notes(rivet: TestRivet) {
    let run = rivet.run("ci", &["lint"]).await;
    rivet.report().await;
    let notes: Vec<_> = (1..=120)
        .map(|line| json!({ "path": "a", "line": line, "level": "warning", "message": "long line" }))
        .collect();
    rivet.notes(&run, "lint", &json!(notes)).await;
    rivet.stage(&run, "lint", "succeeded", "Done.", 1).await;
    // The second batch arrives, and nobody hears of it.
    for lost in 1..=3 {
        rivet.github.world().faults.lose_answers = usize::from(lost == 2);
        rivet.wait(120);
        rivet.report_once().await;
    }
    rivet.wait(120);
    rivet.report().await;
    assert_eq!(rivet.github.world().checks[0].annotations.len(), 120);
    rivet.finish().await;
}

async fn what_was_not_reported_for_a_day_is_seen_and_told_when_somebody_asks(rivet: TestRivet) {
    let run = rivet.run("ci", &["a"]).await;
    rivet.github.world().faults.refuse = Some((usize::MAX, 403, vec![], "Resource not accessible by integration"));
    rivet.report_once().await;
    for _ in 0..26 {
        rivet.wait(3700);
        rivet.report_once().await;
    }
    let states = async |rivet: &TestRivet| -> Vec<String> {
        let mut tx = rivet.context.store.read().await.unwrap();
        let rows = tx.view_reports(&run).await.unwrap();
        rows.iter().map(|row| format!("{}: {}", row.name, row.told(rivet.now()))).collect()
    };
    assert_eq!(states(&rivet).await, ["ci / a: not_reported", "rivet/ci: not_reported"]);
    rivet.github.take_calls("");
    rivet.wait(7200);
    rivet.report_once().await;
    assert_eq!(rivet.github.take_calls("POST /repos"), Vec::<String>::new(), "nobody asks for ever");

    rivet.github.world().faults.refuse = None;
    assert_eq!(tell_again(&rivet.context, &run, rivet.now()).await.unwrap(), 2);
    insta::assert_snapshot!(rivet.report().await, @"
    ci / a: queued: Waiting for its turn [Cancel]
    rivet/ci: pending: Run 1 has not ended yet
    ");
    assert_eq!(states(&rivet).await, ["ci / a: told", "rivet/ci: told"]);
    assert_eq!(Told::NotReported.to_string(), "not_reported");
    rivet.finish().await;
}
