//! Clock times as a team meets them: taken over from the default branch, fired once whatever happens, made up for once after
//! an outage, paused and resumed, and always with a reason that people can read. Every pass is told the time.

#[path = "support/conversation.rs"]
mod conversation;
#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;

#[path = "schedules/shown.rs"]
mod shown;

use conversation::{Rivet, conversations, text};
use rivet::actions::schedules;
use rivet::engine::{Progress, cron};
use rivet::model::ids::ScheduleId;
use rivet::model::time::Timestamp;
use serde_json::Value;

conversations!(
    a_schedule_fires_at_its_time_on_the_head_of_the_default_branch,
    schedules_follow_the_default_branch_and_nothing_else,
    a_definition_that_breaks_keeps_its_schedules_and_says_so,
    any_number_of_instances_fires_once,
    a_kill_between_the_due_time_and_the_run_loses_nothing,
    an_outage_is_made_up_for_once,
    without_catch_up_what_was_missed_is_left_out,
    a_forge_that_is_away_puts_a_firing_off,
    a_firing_that_waits_too_long_without_catch_up_is_left_out,
    what_was_due_while_paused_is_not_made_up_for,
    the_clocks_of_a_zone_are_followed_through_a_gap_and_a_repetition,
    where_nothing_may_start_nothing_fires_and_it_says_why,
    a_definition_that_cannot_be_used_is_a_decision,
    another_default_branch_has_other_schedules,
    a_start_looks_at_what_was_missed,
    many_schedules_of_one_file_are_told_apart,
);

/// A pipeline with these entries of `on.schedule`.
fn nightly(entries: &str) -> String {
    format!(
        r#"return pipeline.define({{
            on = {{ schedule = {{ {entries} }} }},
            inputs = {{ depth = {{ type = "number", default = 1 }} }},
            stages = {{ {{ name = "build", script = function() process.run("make") end }} }},
        }})"#
    )
}

fn at(time: &str) -> Timestamp {
    Timestamp(chrono::DateTime::parse_from_rfc3339(time).unwrap().timestamp_millis())
}

/// Every cron pass there is to make at this time.
async fn tick(rivet: &Rivet, time: &str) {
    for _ in 0..100 {
        if Box::pin(cron::pass(&rivet.context, at(time))).await.unwrap() == Progress::Idle {
            return;
        }
    }
    panic!("the cron pass does not come to rest");
}

async fn push(rivet: &Rivet, entries: &str) -> String {
    rivet.push("main", &[(".rivet/nightly.lua", &nightly(entries))]).await
}

/// Pushes files as they are: with git's mode, or `delete`.
async fn push_files(rivet: &Rivet, files: &[fake_github::git::File<'_>]) -> String {
    let before = rivet.github.git(&rivet.repo).find("heads/main");
    let after = rivet.github.commit_files(&rivet.repo, "main", files);
    let payload = rivet.github.push_payload(&rivet.repo, "main", before.as_deref(), &after);
    rivet.github.deliver("push", &payload).await;
    rivet.settle().await;
    after
}

async fn schedule_ids(rivet: &Rivet) -> Vec<ScheduleId> {
    let mut tx = rivet.tx().await;
    let all = tx.schedules_of(&rivet.repo.id()).await.unwrap();
    all.into_iter().map(|schedule| schedule.id).collect()
}

/// The stored schedules: `nightly '0 3 * * *' (UTC) next 2026-01-02T03:00:00.000Z`, with what is wrong.
async fn stored(rivet: &Rivet) -> String {
    let mut tx = rivet.tx().await;
    let mut lines = vec![];
    for schedule in tx.schedules_of(&rivet.repo.id()).await.unwrap() {
        let next = schedule.next_due_at.map_or("never".to_owned(), Timestamp::rfc3339);
        let inputs = if schedule.inputs.0.is_empty() { String::new() } else { format!(" {:?}", schedule.inputs.0) };
        let problem = schedule.problem.map(|why| format!(": {why}")).unwrap_or_default();
        lines.push(format!(
            "{} '{}' ({}){inputs} next {next}{problem}",
            schedule.pipeline, schedule.cron, schedule.timezone
        ));
    }
    lines.join("\n")
}

/// The firings of every schedule, oldest first: when they were due, what became of them and why.
async fn firings(rivet: &Rivet) -> String {
    let mut all = vec![];
    for id in schedule_ids(rivet).await {
        let mut tx = rivet.tx().await;
        all.extend(tx.firings_of(&id, 100).await.unwrap());
    }
    all.sort_by_key(|firing| firing.due_at);
    let line = |f: &rivet::model::schedule::Firing| format!("{} {}: {}", f.due_at.rfc3339(), f.state, f.reason);
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The runs a clock started, with the commit's first digits where they matter.
async fn runs(rivet: &Rivet) -> Vec<Value> {
    let listed = rivet.api("GET", "/api/v1/runs?event=schedule&limit=100", None).await.1;
    let mut runs = listed["items"].as_array().unwrap().clone();
    runs.sort_by_key(|run| run["number"].as_i64());
    runs
}

async fn a_schedule_fires_at_its_time_on_the_head_of_the_default_branch(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 3 * * 1-5", timezone = "Europe/Berlin", inputs = { depth = 7 } }"#).await;
    tick(&rivet, "2026-01-02T00:00:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @r#"nightly '0 3 * * 1-5' (Europe/Berlin) {"depth": Number(7)} next 2026-01-02T02:00:00.000Z"#);
    tick(&rivet, "2026-01-02T01:59:59.999Z").await;
    assert_eq!(runs(&rivet).await.len(), 0, "not before its time");
    // A commit nobody told us of: what fires is the head of that moment.
    let head = rivet.github.commit(&rivet.repo, "main", &[("README.md", "Hello")]);
    tick(&rivet, "2026-01-02T02:00:00Z").await;
    tick(&rivet, "2026-01-02T02:00:59Z").await;
    let runs = runs(&rivet).await;
    assert_eq!(runs.len(), 1);
    let run = &runs[0];
    assert_eq!((text(&run["sha"]), text(&run["ref"])), (head.clone(), "refs/heads/main".to_owned()));
    assert_eq!((text(&run["event"]), text(&run["actor"])), ("schedule".to_owned(), "rivet".to_owned()));
    assert_eq!(run["inputs"]["depth"], 7.0, "the entry's own inputs: {run}");
    insta::assert_snapshot!(rivet.why(&head).await, @"nightly run: on.schedule '0 3 * * 1-5' (Europe/Berlin) was due at 2026-01-02T03:00:00+01:00");
    assert_eq!(rivet.work().await, ["build"]);
    insta::assert_snapshot!(rivet.checks(&head), @"
    nightly / build: completed success: It succeeded
    rivet/nightly: success: Every stage succeeded.
    ");
    // A Friday: the next is Monday's.
    insta::assert_snapshot!(stored(&rivet).await, @r#"nightly '0 3 * * 1-5' (Europe/Berlin) {"depth": Number(7)} next 2026-01-05T02:00:00.000Z"#);
    rivet.finish().await;
}

async fn schedules_follow_the_default_branch_and_nothing_else(rivet: Rivet) {
    push(&rivet, r#"{ cron = "@daily" }, { cron = "0 12 * * *" }"#).await;
    tick(&rivet, "2026-01-01T06:00:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @"
    nightly '@daily' (UTC) next 2026-01-02T00:00:00.000Z
    nightly '0 12 * * *' (UTC) next 2026-01-01T12:00:00.000Z
    ");
    let before = schedule_ids(&rivet).await;
    // Another branch has nothing to say.
    rivet.push("feature", &[(".rivet/nightly.lua", &nightly(r#"{ cron = "* * * * *" }"#))]).await;
    rivet.push("feature", &[(".rivet/more.lua", &nightly(r#"{ cron = "* * * * *" }"#))]).await;
    tick(&rivet, "2026-01-01T06:01:00Z").await;
    assert_eq!(schedule_ids(&rivet).await, before);
    // What stays the same stays the same schedule; what goes, goes; what comes, begins now.
    push(&rivet, r#"{ cron = "0 12 * * *", catch_up = false }, { cron = "30 12 * * *" }"#).await;
    tick(&rivet, "2026-01-01T06:02:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @"
    nightly '0 12 * * *' (UTC) next 2026-01-01T12:00:00.000Z
    nightly '30 12 * * *' (UTC) next 2026-01-01T12:30:00.000Z
    ");
    assert!(schedule_ids(&rivet).await.contains(&before[1]), "the entry that stayed");
    // The file goes, and with it its schedules.
    push_files(&rivet, &[(".rivet/nightly.lua", "delete", b"")]).await;
    tick(&rivet, "2026-01-01T06:03:00Z").await;
    assert_eq!(stored(&rivet).await, "");
    tick(&rivet, "2026-01-01T12:30:00Z").await;
    assert_eq!(runs(&rivet).await.len(), 0);
    rivet.finish().await;
}

async fn a_definition_that_breaks_keeps_its_schedules_and_says_so(rivet: Rivet) {
    push(&rivet, r#"{ cron = "@daily" }"#).await;
    tick(&rivet, "2026-01-01T06:00:00Z").await;
    rivet.push("main", &[(".rivet/nightly.lua", "return pipeline.define({ stages = ")]).await;
    tick(&rivet, "2026-01-01T06:01:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @"nightly '@daily' (UTC) next 2026-01-02T00:00:00.000Z: the definition has an error: .rivet/nightly.lua:1:1: config.syntax: expected identifier when parsing expression, got <eof>");
    tick(&rivet, "2026-01-02T00:00:00Z").await;
    insta::assert_snapshot!(firings(&rivet).await, @"2026-01-02T00:00:00.000Z failed: the definition has an error: .rivet/nightly.lua:1:1: config.syntax: expected identifier when parsing expression, got <eof>.");
    // Not even readable as text.
    push_files(&rivet, &[(".rivet/nightly.lua", "100644", b"\xff\xfe")]).await;
    tick(&rivet, "2026-01-02T00:01:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @"nightly '@daily' (UTC) next 2026-01-03T00:00:00.000Z: the definition has an error: .rivet/nightly.lua:1: config.encoding: byte 0xff at offset 0 is not UTF-8");
    push(&rivet, r#"{ cron = "@daily" }"#).await;
    tick(&rivet, "2026-01-02T00:02:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @"nightly '@daily' (UTC) next 2026-01-03T00:00:00.000Z");
    rivet.finish().await;
}

async fn any_number_of_instances_fires_once(rivet: Rivet) {
    let entries: Vec<String> =
        (0..20).map(|n| format!(r#"{{ cron = "*/5 * * * *", inputs = {{ depth = {n} }} }}"#)).collect();
    push(&rivet, &entries.join(", ")).await;
    tick(&rivet, "2026-01-01T06:00:30Z").await;
    // Eight instances, whose clocks differ by some seconds, look again and again.
    for minute in [5, 10] {
        let instances = (0..8).map(|instance| {
            let context = rivet.context.clone();
            tokio::spawn(async move {
                for look in 0..4 {
                    let now = at(&format!("2026-01-01T06:{minute:02}:{:02}Z", instance + look));
                    cron::pass(&context, now).await.unwrap();
                }
            })
        });
        for instance in instances.collect::<Vec<_>>() {
            instance.await.unwrap();
        }
        tick(&rivet, &format!("2026-01-01T06:{minute:02}:20Z")).await;
    }
    let runs = runs(&rivet).await;
    assert_eq!(runs.len(), 40, "twenty schedules, two times");
    let numbers: Vec<i64> = runs.iter().map(|run| run["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>(), "no number is lost");
    for depth in 0..20 {
        let of_entry = runs.iter().filter(|run| run["inputs"]["depth"] == f64::from(depth)).count();
        assert_eq!(of_entry, 2, "the schedule with depth {depth}");
    }
    rivet.finish().await;
}

async fn a_kill_between_the_due_time_and_the_run_loses_nothing(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 3 * * *" }"#).await;
    tick(&rivet, "2026-01-01T00:00:00Z").await;
    // The instance is gone while it asks the forge: its firing is written down and taken, its run is not there.
    rivet.github.world().faults.slow = Some(std::time::Duration::from_secs(60));
    let context = rivet.context.clone();
    let killed = tokio::spawn(async move { cron::pass(&context, at("2026-01-01T03:00:00Z")).await });
    while !firings(&rivet).await.contains("pending") {
        tokio::task::yield_now().await;
    }
    killed.abort();
    assert!(killed.await.unwrap_err().is_cancelled());
    rivet.github.world().faults.slow = None;
    assert_eq!(runs(&rivet).await.len(), 0);
    tick(&rivet, "2026-01-01T03:02:00Z").await;
    tick(&rivet, "2026-01-01T03:04:00Z").await;
    assert_eq!(runs(&rivet).await.len(), 1);
    insta::assert_snapshot!(firings(&rivet).await, @"2026-01-01T03:00:00.000Z started: on.schedule '0 3 * * *' (UTC) was due at 2026-01-01T03:00:00Z, and could not start before 2026-01-01T03:02:00Z");
    rivet.finish().await;
}

async fn an_outage_is_made_up_for_once(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 * * * *" }, { cron = "* * * * *" }, { cron = "0 0 1 1 *" }"#).await;
    tick(&rivet, "2026-01-01T06:30:30Z").await;
    // Nobody looks for ten days.
    tick(&rivet, "2026-01-11T12:34:40Z").await;
    tick(&rivet, "2026-01-11T12:34:50Z").await;
    insta::assert_snapshot!(firings(&rivet).await, @"
    2026-01-11T12:00:00.000Z started: on.schedule '0 * * * *' (UTC) was due at 2026-01-11T12:00:00Z, and could not start before 2026-01-11T12:34:40Z; it stands for all that were missed since 2026-01-01T07:00:00Z
    2026-01-11T12:34:00.000Z started: on.schedule '* * * * *' (UTC) was due at 2026-01-11T12:34:00Z; it stands for all that were missed since 2026-01-01T06:31:00Z
    ");
    insta::assert_snapshot!(stored(&rivet).await, @"
    nightly '0 * * * *' (UTC) next 2026-01-11T13:00:00.000Z
    nightly '* * * * *' (UTC) next 2026-01-11T12:35:00.000Z
    nightly '0 0 1 1 *' (UTC) next 2027-01-01T00:00:00.000Z
    ");
    assert_eq!(runs(&rivet).await.len(), 2);
    rivet.finish().await;
}

async fn without_catch_up_what_was_missed_is_left_out(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 * * * *", catch_up = false }"#).await;
    tick(&rivet, "2026-01-01T06:30:00Z").await;
    tick(&rivet, "2026-01-01T09:01:00Z").await;
    insta::assert_snapshot!(firings(&rivet).await, @"2026-01-01T09:00:00.000Z skipped: No server ran when it was due, and catch_up is false.");
    assert_eq!(runs(&rivet).await.len(), 0);
    // Within its own minute it is in time, whatever was missed before.
    tick(&rivet, "2026-01-01T12:00:59Z").await;
    assert_eq!(runs(&rivet).await.len(), 1);
    insta::assert_snapshot!(stored(&rivet).await, @"nightly '0 * * * *' (UTC) next 2026-01-01T13:00:00.000Z");
    rivet.finish().await;
}

async fn a_forge_that_is_away_puts_a_firing_off(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 * * * *" }"#).await;
    tick(&rivet, "2026-01-01T06:30:00Z").await;
    rivet.github.world().faults.down = true;
    for minute in 0..50 {
        tick(&rivet, &format!("2026-01-01T07:{minute:02}:00Z")).await;
    }
    assert!(firings(&rivet).await.contains("07:00:00.000Z pending: It is tried again at"), "{}", firings(&rivet).await);
    rivet.github.world().faults.down = false;
    tick(&rivet, "2026-01-01T07:55:00Z").await;
    assert_eq!(runs(&rivet).await.len(), 1);
    // Away for longer than until the next: of those that wait only the newest starts.
    rivet.github.world().faults.down = true;
    for hour in 8..11 {
        tick(&rivet, &format!("2026-01-01T{hour:02}:00:00Z")).await;
        tick(&rivet, &format!("2026-01-01T{hour:02}:30:00Z")).await;
    }
    rivet.github.world().faults.down = false;
    tick(&rivet, "2026-01-01T10:45:00Z").await;
    tick(&rivet, "2026-01-01T10:50:00Z").await;
    assert_eq!(runs(&rivet).await.len(), 2);
    insta::assert_snapshot!(firings(&rivet).await, @"
    2026-01-01T07:00:00.000Z started: on.schedule '0 * * * *' (UTC) was due at 2026-01-01T07:00:00Z, and could not start before 2026-01-01T07:55:00Z
    2026-01-01T08:00:00.000Z skipped: The schedule was due again before this firing could start a run. That one made up for it.
    2026-01-01T09:00:00.000Z skipped: The schedule was due again before this firing could start a run. That one made up for it.
    2026-01-01T10:00:00.000Z started: on.schedule '0 * * * *' (UTC) was due at 2026-01-01T10:00:00Z, and could not start before 2026-01-01T10:45:00Z
    ");
    rivet.finish().await;
}

async fn a_firing_that_waits_too_long_without_catch_up_is_left_out(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 3 * * *", catch_up = false }"#).await;
    tick(&rivet, "2026-01-01T00:00:00Z").await;
    rivet.github.world().faults.down = true;
    tick(&rivet, "2026-01-01T03:00:00Z").await;
    rivet.github.world().faults.down = false;
    tick(&rivet, "2026-01-01T03:05:00Z").await;
    assert_eq!(runs(&rivet).await.len(), 1, "a moment without the forge is nothing");
    rivet.github.world().faults.down = true;
    tick(&rivet, "2026-01-02T03:00:00Z").await;
    tick(&rivet, "2026-01-02T03:14:59Z").await;
    rivet.github.world().faults.down = false;
    tick(&rivet, "2026-01-02T05:00:00Z").await;
    insta::assert_snapshot!(firings(&rivet).await, @"
    2026-01-01T03:00:00.000Z started: on.schedule '0 3 * * *' (UTC) was due at 2026-01-01T03:00:00Z, and could not start before 2026-01-01T03:05:00Z
    2026-01-02T03:00:00.000Z skipped: It could not start in time, and catch_up is false: the forge is not available: no reason given (503 Service Unavailable).
    ");
    assert_eq!(runs(&rivet).await.len(), 1);
    rivet.finish().await;
}

async fn what_was_due_while_paused_is_not_made_up_for(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 * * * *" }"#).await;
    tick(&rivet, "2026-01-01T06:30:00Z").await;
    let id = schedule_ids(&rivet).await.remove(0);
    // One firing waits for the forge when it is paused: that one is left out too.
    rivet.github.world().faults.down = true;
    tick(&rivet, "2026-01-01T07:00:00Z").await;
    rivet.github.world().faults.down = false;
    schedules::pause(&rivet.context, &id, "alice", at("2026-01-01T07:00:10Z")).await.unwrap();
    schedules::pause(&rivet.context, &id, "bob", at("2026-01-01T07:00:11Z")).await.unwrap();
    tick(&rivet, "2026-01-01T09:00:00Z").await;
    // Its file changes elsewhere: paused it stays.
    push(&rivet, r#"{ cron = "0 * * * *" }, { cron = "0 0 1 1 *" }"#).await;
    tick(&rivet, "2026-01-01T11:00:00Z").await;
    assert_eq!(runs(&rivet).await.len(), 0);
    schedules::resume(&rivet.context, &id, at("2026-01-01T11:30:00Z")).await.unwrap();
    schedules::resume(&rivet.context, &id, at("2026-01-01T11:31:00Z")).await.unwrap();
    tick(&rivet, "2026-01-01T11:59:59Z").await;
    assert_eq!(runs(&rivet).await.len(), 0);
    tick(&rivet, "2026-01-01T12:00:00Z").await;
    assert_eq!(runs(&rivet).await.len(), 1);
    insta::assert_snapshot!(firings(&rivet).await, @"
    2026-01-01T07:00:00.000Z skipped: alice paused the schedule.
    2026-01-01T12:00:00.000Z started: on.schedule '0 * * * *' (UTC) was due at 2026-01-01T12:00:00Z
    ");
    // Run now: whether paused or not, and its due times stay.
    schedules::pause(&rivet.context, &id, "alice", at("2026-01-01T12:10:00Z")).await.unwrap();
    Box::pin(schedules::run_now(&rivet.context, &id, "carol", at("2026-01-01T12:20:00Z"))).await.unwrap();
    let runs = runs(&rivet).await;
    assert_eq!((runs.len(), text(&runs[1]["actor"])), (2, "carol".to_owned()));
    insta::assert_snapshot!(stored(&rivet).await, @"
    nightly '0 * * * *' (UTC) next never
    nightly '0 0 1 1 *' (UTC) next 2027-01-01T00:00:00.000Z
    ");
    let missing = ScheduleId::from("01jd3c8v6x0000000000000001");
    assert!(schedules::pause(&rivet.context, &missing, "alice", at("2026-01-01T12:30:00Z")).await.is_err());
    rivet.finish().await;
}

async fn the_clocks_of_a_zone_are_followed_through_a_gap_and_a_repetition(rivet: Rivet) {
    push(&rivet, r#"{ cron = "30 2 * * *", timezone = "Europe/Berlin" }"#).await;
    tick(&rivet, "2026-03-28T12:00:00Z").await;
    // On 29 March the clocks go from 02:00 to 03:00; on 25 October from 03:00 back to 02:00.
    for day in ["2026-03-29", "2026-03-30", "2026-10-25", "2026-10-26"] {
        for minute in 0..24 * 12 {
            let time = format!("{day}T{:02}:{:02}:00Z", minute / 12, minute % 12 * 5);
            Box::pin(cron::pass(&rivet.context, at(&time))).await.unwrap();
        }
        if day == "2026-03-30" {
            // The summer is not of interest.
            let id = schedule_ids(&rivet).await.remove(0);
            schedules::pause(&rivet.context, &id, "alice", at("2026-03-31T00:00:00Z")).await.unwrap();
            schedules::resume(&rivet.context, &id, at("2026-10-24T12:00:00Z")).await.unwrap();
        }
    }
    insta::assert_snapshot!(firings(&rivet).await, @"
    2026-03-29T01:00:00.000Z started: on.schedule '30 2 * * *' (Europe/Berlin) was due at 2026-03-29T03:00:00+02:00
    2026-03-30T00:30:00.000Z started: on.schedule '30 2 * * *' (Europe/Berlin) was due at 2026-03-30T02:30:00+02:00
    2026-10-25T00:30:00.000Z started: on.schedule '30 2 * * *' (Europe/Berlin) was due at 2026-10-25T02:30:00+02:00
    2026-10-26T01:30:00.000Z started: on.schedule '30 2 * * *' (Europe/Berlin) was due at 2026-10-26T02:30:00+01:00
    ");
    rivet.finish().await;
}

async fn where_nothing_may_start_nothing_fires_and_it_says_why(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 * * * *" }"#).await;
    tick(&rivet, "2026-01-01T06:30:00Z").await;
    let id = schedule_ids(&rivet).await.remove(0);
    rivet.sql("UPDATE repo SET enabled = FALSE").await;
    tick(&rivet, "2026-01-01T07:00:00Z").await;
    assert!(Box::pin(schedules::run_now(&rivet.context, &id, "carol", at("2026-01-01T07:10:00Z"))).await.is_err());
    rivet.sql("UPDATE repo SET enabled = TRUE").await;
    installation(&rivet, true, false).await;
    tick(&rivet, "2026-01-01T08:00:00Z").await;
    installation(&rivet, false, true).await;
    tick(&rivet, "2026-01-01T09:00:00Z").await;
    installation(&rivet, false, false).await;
    tick(&rivet, "2026-01-01T10:00:00Z").await;
    insta::assert_snapshot!(firings(&rivet).await, @"
    2026-01-01T07:00:00.000Z skipped: acme/app is disabled; 'rivet repo enable acme/app' lets its events start pipelines
    2026-01-01T08:00:00.000Z skipped: the GitHub App's installation for acme/app is suspended; acme can let it go on
    2026-01-01T09:00:00.000Z skipped: the GitHub App is no longer installed for acme/app; install it again
    2026-01-01T10:00:00.000Z started: on.schedule '0 * * * *' (UTC) was due at 2026-01-01T10:00:00Z
    ");
    assert_eq!(runs(&rivet).await.len(), 1);
    rivet.finish().await;
}

/// What the forge says of the installation.
async fn installation(rivet: &Rivet, suspended: bool, removed: bool) {
    let mut tx = rivet.tx().await;
    let id = fake_github::INSTALLATION;
    tx.save_installation(id, "acme", suspended, removed, Timestamp::now()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_definition_that_cannot_be_used_is_a_decision(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 * * * *", inputs = { depth = 3 } }"#).await;
    tick(&rivet, "2026-01-01T06:30:00Z").await;
    // Commits that nobody told us of. A broken file keeps its schedule, which says so; it is found out when it fires.
    rivet.github.commit(&rivet.repo, "main", &[(".rivet/nightly.lua", "return 5")]);
    tick(&rivet, "2026-01-01T07:00:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @r#"nightly '0 * * * *' (UTC) {"depth": Number(3)} next 2026-01-01T08:00:00.000Z: the definition has an error: .rivet/nightly.lua:1:1: plan.missing: the file returns no pipeline. End it with: return pipeline.define({ … })"#);
    insta::assert_snapshot!(firings(&rivet).await, @"2026-01-01T07:00:00.000Z failed: the definition has an error: .rivet/nightly.lua:1:1: plan.missing: the file returns no pipeline. End it with: return pipeline.define({ … }).");
    // Inputs of its own that the file itself refuses.
    let picky = nightly(r#"{ cron = "0 * * * *", inputs = { depth = 3 } }"#)
        .replace("default = 1", r#"default = 1, validate = function(n) return n < 3, "must be small" end"#);
    rivet.push("main", &[(".rivet/nightly.lua", &picky)]).await;
    tick(&rivet, "2026-01-01T08:00:00Z").await;
    insta::assert_snapshot!(firings(&rivet).await, @"
    2026-01-01T07:00:00.000Z failed: the definition has an error: .rivet/nightly.lua:1:1: plan.missing: the file returns no pipeline. End it with: return pipeline.define({ … }).
    2026-01-01T08:00:00.000Z failed: the schedule's inputs are wrong: input 'depth' must be small.
    ");
    // The entry is another one by now: this one goes, and that one begins.
    let another = nightly(r#"{ cron = "5 * * * *" }"#);
    rivet.github.commit(&rivet.repo, "main", &[(".rivet/nightly.lua", &another)]);
    tick(&rivet, "2026-01-01T09:00:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @"nightly '5 * * * *' (UTC) next 2026-01-01T09:05:00.000Z");
    // The file is gone.
    rivet.github.commit_files(&rivet.repo, "main", &[(".rivet/nightly.lua", "delete", b"")]);
    tick(&rivet, "2026-01-01T09:05:00Z").await;
    assert_eq!(stored(&rivet).await, "");
    assert_eq!(runs(&rivet).await.len(), 0);
    rivet.finish().await;
}

async fn another_default_branch_has_other_schedules(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 * * * *" }"#).await;
    rivet.push("trunk", &[(".rivet/nightly.lua", &nightly(r#"{ cron = "30 * * * *" }"#))]).await;
    tick(&rivet, "2026-01-01T06:10:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @"nightly '0 * * * *' (UTC) next 2026-01-01T07:00:00.000Z");
    let mut payload = rivet.github.common(&rivet.repo);
    payload["action"] = "edited".into();
    payload["changes"] = serde_json::json!({ "default_branch": { "from": "main" } });
    payload["repository"]["default_branch"] = "trunk".into();
    rivet.github.deliver("repository", &payload).await;
    rivet.settle().await;
    tick(&rivet, "2026-01-01T06:20:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @"nightly '30 * * * *' (UTC) next 2026-01-01T06:30:00.000Z");
    tick(&rivet, "2026-01-01T06:30:00Z").await;
    let runs = runs(&rivet).await;
    assert_eq!((runs.len(), text(&runs[0]["ref"])), (1, "refs/heads/trunk".to_owned()));
    rivet.finish().await;
}

async fn a_start_looks_at_what_was_missed(rivet: Rivet) {
    push(&rivet, r#"{ cron = "0 * * * *" }"#).await;
    tick(&rivet, "2026-01-01T06:10:00Z").await;
    rivet.github.take_calls("");
    // Nobody is told of this push.
    rivet.github.commit(&rivet.repo, "main", &[(".rivet/nightly.lua", &nightly(r#"{ cron = "30 * * * *" }"#))]);
    tick(&rivet, "2026-01-01T06:12:00Z").await;
    assert_eq!(rivet.github.take_calls(""), Vec::<String>::new(), "nothing is asked without a reason");
    cron::at_start(&rivet.context, at("2026-01-01T06:15:00Z")).await.unwrap();
    tick(&rivet, "2026-01-01T06:15:00Z").await;
    assert_eq!(rivet.github.take_calls(""), Vec::<String>::new(), "it was read just now");
    cron::at_start(&rivet.context, at("2026-01-01T06:25:00Z")).await.unwrap();
    tick(&rivet, "2026-01-01T06:25:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @"nightly '30 * * * *' (UTC) next 2026-01-01T06:30:00.000Z");
    rivet.github.take_calls("");
    // A second look at the same commit costs one question.
    cron::at_start(&rivet.context, at("2026-01-01T07:25:00Z")).await.unwrap();
    tick(&rivet, "2026-01-01T07:25:00Z").await;
    let calls = rivet.github.take_calls("/contents").len() + rivet.github.take_calls("/git/trees").len();
    assert_eq!(calls, 0);
    rivet.finish().await;
}

async fn many_schedules_of_one_file_are_told_apart(rivet: Rivet) {
    let entries = r#"{ cron = "0 3 * * *" }, { cron = "0 3 * * *", timezone = "Asia/Kolkata" },
        { cron = "0 3 * * *", inputs = { depth = 2 } }, { cron = "0 3 * * *" }"#;
    push(&rivet, entries).await;
    tick(&rivet, "2026-01-01T00:00:00Z").await;
    insta::assert_snapshot!(stored(&rivet).await, @r#"
    nightly '0 3 * * *' (UTC) next 2026-01-01T03:00:00.000Z
    nightly '0 3 * * *' (Asia/Kolkata) next 2026-01-01T21:30:00.000Z
    nightly '0 3 * * *' (UTC) {"depth": Number(2)} next 2026-01-01T03:00:00.000Z
    "#);
    tick(&rivet, "2026-01-01T03:00:00Z").await;
    let depths: Vec<f64> = runs(&rivet).await.iter().map(|run| run["inputs"]["depth"].as_f64().unwrap()).collect();
    let mut sorted = depths.clone();
    sorted.sort_by(f64::total_cmp);
    assert_eq!(sorted, [1.0, 2.0], "entries that are alike are one");
    rivet.finish().await;
}
