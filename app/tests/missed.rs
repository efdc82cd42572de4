//! What GitHub could not deliver is found, asked for, fetched or swept, and starts what it would have started: once.

#[path = "support/conversation.rs"]
mod conversation;
#[path = "support/databases.rs"]
mod databases;
#[path = "support/fake_github/mod.rs"]
mod fake_github;

use conversation::{Rivet, conversations};
use rivet::context::Context;
use rivet::engine::{Progress, intake, reconcile, sweep};
use rivet::model::ids::RepoId;
use rivet::store::deliveries::NewDelivery;
use std::collections::BTreeMap;

conversations!(
    two_hundred_deliveries_missed_in_two_hours_are_all_had_and_none_twice,
    what_cannot_reach_the_server_is_fetched,
    what_is_of_no_use_is_not_asked_for,
    two_instances_ask_once,
    an_outage_of_the_list_loses_nothing,
    tags_nobody_told_of_are_swept_and_a_late_delivery_starts_nothing_more,
    a_pull_request_nobody_told_of_is_swept_with_its_trust,
    what_stood_before_starts_nothing,
    a_flood_of_one_repository_holds_up_no_other,
    deliveries_are_listed_by_what_they_are_and_a_dead_one_is_tried_again,
);

const CI: &str = r#"
return pipeline.define({
    on = { push = { branches = { "*" }, tags = { "*" } }, pull_request = {} },
    stages = { { name = "build", script = function() process.run("make") end } },
})
"#;

/// Points come back by the machine's clock, which does not move in a test.
fn unhurried(rivet: &Rivet) {
    rivet.context.forges.github.client().unwrap().pace(1e9);
}

/// Turns of the pass, as often as they come within so many minutes; GitHub does what it is asked for in between.
async fn minutes(rivet: &Rivet, minutes: i64) {
    for _ in 0..minutes * 2 {
        rivet.wait(30);
        reconcile::pass(&rivet.context, rivet.now()).await.unwrap();
        rivet.github.deliver_again().await;
        while intake::pass(&rivet.context, rivet.now()).await.unwrap() == Progress::Worked {}
    }
}

async fn count(rivet: &Rivet) -> usize {
    let mut all = 0;
    let mut path = "/api/v1/runs?limit=100".to_owned();
    loop {
        let page = rivet.api("GET", &path, None).await.1;
        all += page["items"].as_array().unwrap().len();
        let Some(cursor) = page["next_cursor"].as_str() else { return all };
        path = format!("/api/v1/runs?limit=100&cursor={cursor}");
    }
}

async fn two_hundred_deliveries_missed_in_two_hours_are_all_had_and_none_twice(rivet: Rivet) {
    unhurried(&rivet);
    rivet.push("main", &[Rivet::pipeline(CI)]).await;
    minutes(&rivet, 1).await;
    rivet.github.world().faults.lose_deliveries = 200;
    for number in 0..200 {
        rivet.github.push(&rivet.repo, "main", &[("n", &number.to_string())]).await;
    }
    rivet.wait(7200);
    assert_eq!(count(&rivet).await, 1);
    minutes(&rivet, 10).await;
    assert_eq!(count(&rivet).await, 201);
    // Once more, and everything GitHub tried is delivered a second time: nothing more starts.
    let again: Vec<_> = rivet.github.world().delivered.iter().take(20).cloned().collect();
    for delivered in again {
        rivet.github.redeliver(&delivered.guid, &delivered.event, &delivered.payload).await;
    }
    minutes(&rivet, 6).await;
    assert_eq!(count(&rivet).await, 201);
    rivet.github.finish();
}

async fn what_cannot_reach_the_server_is_fetched(rivet: Rivet) {
    unhurried(&rivet);
    rivet.github.world().faults.lose_deliveries = usize::MAX;
    let sha = rivet.github.push(&rivet.repo, "main", &[Rivet::pipeline(CI)]).await;
    minutes(&rivet, 7).await;
    insta::assert_snapshot!(rivet.runs().await, @"
    #1 ci push running: 0 of 1 stages have ended; build is waiting for a runner.
      build queued: Waiting for a runner.
    ");
    assert_eq!(rivet.work().await, ["build"]);
    assert!(rivet.checks(&sha).contains("rivet/ci: success"));
    rivet.finish().await;
}

async fn what_is_of_no_use_is_not_asked_for(rivet: Rivet) {
    unhurried(&rivet);
    rivet.github.world().faults.lose_deliveries = 1;
    let payload = rivet.github.common(&rivet.repo);
    rivet.github.deliver("star", &payload).await;
    minutes(&rivet, 6).await;
    assert_eq!(rivet.github.take_calls("attempts"), Vec::<String>::new());
    rivet.finish().await;
}

async fn two_instances_ask_once(rivet: Rivet) {
    unhurried(&rivet);
    rivet.github.world().faults.lose_deliveries = 3;
    for number in 0..3 {
        rivet.github.push(&rivet.repo, "main", &[Rivet::pipeline(CI), ("n", &number.to_string())]).await;
    }
    rivet.wait(60);
    let other: Context = rivet.context.clone();
    let (one, two) =
        futures::future::join(reconcile::pass(&rivet.context, rivet.now()), reconcile::pass(&other, rivet.now())).await;
    one.unwrap();
    two.unwrap();
    assert_eq!(rivet.github.take_calls("attempts").len(), 3);
    rivet.github.deliver_again().await;
    rivet.settle().await;
    assert_eq!(count(&rivet).await, 3);
    rivet.github.finish();
}

async fn an_outage_of_the_list_loses_nothing(rivet: Rivet) {
    unhurried(&rivet);
    rivet.github.world().faults.lose_deliveries = 1;
    rivet.github.push(&rivet.repo, "main", &[Rivet::pipeline(CI)]).await;
    rivet.github.world().faults.down = true;
    minutes(&rivet, 12).await;
    assert_eq!(count(&rivet).await, 0);
    rivet.github.world().faults.down = false;
    minutes(&rivet, 7).await;
    assert_eq!(count(&rivet).await, 1);
    rivet.github.finish();
}

/// Looks at repositories for so many minutes.
async fn sweep_for(rivet: &Rivet, minutes: i64) {
    for _ in 0..minutes {
        rivet.wait(60);
        sweep::pass(&rivet.context, rivet.now()).await.unwrap();
        while intake::pass(&rivet.context, rivet.now()).await.unwrap() == Progress::Worked {}
    }
}

async fn tags_nobody_told_of_are_swept_and_a_late_delivery_starts_nothing_more(rivet: Rivet) {
    unhurried(&rivet);
    let sha = rivet.push("main", &[Rivet::pipeline(CI)]).await;
    sweep_for(&rivet, 1).await;
    // Five tags in one push: GitHub tells nobody.
    for number in 1..=5 {
        let name = format!("v{number}");
        // One of them an annotated one.
        let of: &[&str] = if number == 5 { &["tag", "-a", "-m", "Five", &name, &sha] } else { &["tag", &name, &sha] };
        rivet.github.git(&rivet.repo).run(of);
    }
    sweep_for(&rivet, 35).await;
    assert_eq!(count(&rivet).await, 1, "its delivery may be on its way");
    sweep_for(&rivet, 15).await;
    assert_eq!(count(&rivet).await, 6);
    sweep_for(&rivet, 90).await;
    assert_eq!(count(&rivet).await, 6, "each once");
    let mut late = rivet.github.push_payload(&rivet.repo, "main", None, &sha);
    late["ref"] = "refs/tags/v3".into();
    rivet.github.deliver("push", &late).await;
    rivet.settle().await;
    assert_eq!(count(&rivet).await, 6, "it came late");
    rivet.github.finish();
}

async fn a_pull_request_nobody_told_of_is_swept_with_its_trust(rivet: Rivet) {
    unhurried(&rivet);
    rivet.push("main", &[Rivet::pipeline(CI)]).await;
    sweep_for(&rivet, 1).await;
    rivet.github.world().faults.lose_deliveries = 1;
    rivet.github.commit(&rivet.repo, "evil", &[("a", "1")]);
    rivet.github.open_pull_request(&rivet.repo, "evil", true).await;
    // Its branch is the fork's, and not one of this repository.
    rivet.github.git(&rivet.repo).run(&["branch", "-D", "evil"]);
    sweep_for(&rivet, 60).await;
    let runs = rivet.api("GET", "/api/v1/runs?event=pull_request", None).await.1;
    assert_eq!(runs["items"].as_array().unwrap().len(), 1, "{runs}");
    assert_eq!(runs["items"][0]["trust"], "untrusted");
    let why = rivet.api("GET", "/api/v1/why?repo=acme/app&pull_request=1", None).await.1;
    let decision = &why["items"][0];
    assert_eq!(decision["file"], ".rivet/ci.lua");
    assert!(decision["trust"].as_str().unwrap().contains("fork"), "{decision}");
    assert!(decision["delivery"].as_str().unwrap().starts_with("sweep-"), "{decision}");
    rivet.github.finish();
}

async fn what_stood_before_starts_nothing(rivet: Rivet) {
    unhurried(&rivet);
    rivet.github.commit(&rivet.repo, "main", &[Rivet::pipeline(CI)]);
    let mut tx = rivet.tx().await;
    tx.save_repo(&rivet.repo, rivet.now()).await.unwrap();
    tx.commit().await.unwrap();
    sweep_for(&rivet, 70).await;
    assert_eq!(count(&rivet).await, 0);
    rivet.github.finish();
}

async fn a_flood_of_one_repository_holds_up_no_other(rivet: Rivet) {
    let small = rivet.github.repo("acme/small");
    let delivery = |repo: i64, number: i64| NewDelivery {
        forge: rivet.repo.forge,
        guid: format!("{repo}-{number}"),
        event: "push".into(),
        headers: BTreeMap::new(),
        payload: b"{}".to_vec(),
        repo_id: Some(RepoId::new(rivet.repo.forge, repo)),
        installation_id: None,
        ignored: None,
        received_at: rivet.now().plus_millis(number),
    };
    let flood: Vec<_> = (0..100).map(|number| delivery(rivet.repo.forge_id, number)).collect();
    rivet.context.store.record_deliveries(&flood).await.unwrap();
    rivet.context.store.record_deliveries(&[delivery(small.forge_id, 1000)]).await.unwrap();
    rivet.wait(10);
    let claim = async || {
        let mut tx = rivet.tx().await;
        let taken = tx.claim_deliveries(rivet.now(), 8).await.unwrap();
        tx.commit().await.unwrap();
        taken.into_iter().map(|taken| taken.guid).collect::<Vec<_>>()
    };
    let first = claim().await;
    assert!(first.contains(&format!("{}-1000", small.forge_id)), "{first:?}");
    let mine = |number: i64| format!("{}-{number}", rivet.repo.forge_id);
    assert_eq!(first[..7], (0..7).map(mine).collect::<Vec<_>>());
    assert_eq!(claim().await, (7..15).map(mine).collect::<Vec<_>>());
}

async fn deliveries_are_listed_by_what_they_are_and_a_dead_one_is_tried_again(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(CI)]).await;
    let payload = rivet.github.common(&rivet.repo);
    rivet.github.deliver("star", &payload).await;
    let ids = async |query: &str| -> Vec<String> {
        let (status, list) = rivet.api("GET", &format!("/api/v1/deliveries?{query}"), None).await;
        assert_eq!(status, 200, "{list}");
        list["items"].as_array().unwrap().iter().map(|item| item["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("repo=acme/app&event=push").await, ["push"]);
    assert_eq!(ids("state=ignored").await, ["star"]);
    assert_eq!(ids("state=dead").await, Vec::<String>::new());
    assert_eq!(rivet.api("GET", "/api/v1/deliveries?state=lost", None).await.0, 400);
    rivet.sql("UPDATE delivery SET state = 'dead', reason = 'the database failed' WHERE event = 'push'").await;
    let list = rivet.api("GET", "/api/v1/deliveries?state=dead", None).await.1;
    let id = list["items"][0]["id"].as_str().unwrap().to_owned();
    let (status, again) = rivet.api("POST", &format!("/api/v1/deliveries/{id}/redeliver"), None).await;
    assert_eq!((status, again["state"].as_str()), (202, Some("pending")));
    rivet.settle().await;
    let shown = rivet.api("GET", &format!("/api/v1/deliveries/{id}"), None).await.1;
    assert_eq!((shown["state"].as_str(), shown["repo"].as_str()), (Some("done"), Some("acme/app")));
    assert_eq!(shown["decisions"][0]["file"], ".rivet/ci.lua");
    assert_eq!(count(&rivet).await, 1, "the run it had started is found again");
    rivet.finish().await;
}
