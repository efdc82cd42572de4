//! Deliveries come in any order, some twice, some under another id: the same runs are there in the end.

use crate::conversation::Rivet;
use crate::databases::{self, Kind};
use crate::{ANY, started};
use serde_json::Value;

/// A small generator of numbers: the same seed gives the same orders.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

/// What happened at GitHub: two pushes to main, a branch, its pull request, two more pushes to it, a tag.
async fn history(rivet: &Rivet) -> Vec<(&'static str, Value)> {
    let (github, repo) = (&rivet.github, &rivet.repo);
    let newest = ANY.replace("stages", r#"concurrency = { group = "${branch}", cancel_in_progress = true }, stages"#);
    let pushes = ANY.replace("stages", "on = { push = true }, stages");
    let files = [Rivet::pipeline(ANY), (".rivet/newest.lua", &*newest), (".rivet/pushes.lua", &*pushes)];
    let mut told = vec![];
    let push =
        |branch: &str, before: Option<&str>, after: &str| ("push", github.push_payload(repo, branch, before, after));
    let first = github.commit(repo, "main", &files);
    told.push(push("main", None, &first));
    let second = github.commit(repo, "main", &[("a", "2")]);
    told.push(push("main", Some(&first), &second));
    let topic = github.commit(repo, "topic", &[("b", "1")]);
    told.push(push("topic", None, &topic));
    github.world().faults.lose_deliveries = 1;
    let number = github.open_pull_request(repo, "topic", false).await;
    told.push(("pull_request", github.pull_request_payload(repo, number, "opened")));
    let mut before = topic;
    for text in ["2", "3"] {
        let after = github.commit(repo, "topic", &[("b", text)]);
        github.change_pull(repo, number, |pull| pull.head_sha.clone_from(&after));
        told.push(push("topic", Some(&before), &after));
        told.push(("pull_request", github.pull_request_payload(repo, number, "synchronize")));
        before = after;
    }
    github.change_pull(repo, number, |pull| (pull.mergeable, pull.merge_sha) = (None, None));
    let mut tag = github.push_payload(repo, "main", None, &second);
    tag["ref"] = "refs/tags/v1".into();
    told.push(("push", tag));
    told
}

/// Delivers a history in some order and answers which runs there are.
async fn deliver(kind: Kind, seed: u64) -> Vec<String> {
    let rivet = Rivet::new(kind).await;
    let mut dice = Dice(seed);
    let mut told: Vec<(String, &str, Value)> = vec![];
    for (n, (event, payload)) in history(&rivet).await.into_iter().enumerate() {
        let guid = |n: usize| format!("{n:08x}-0000-4000-8000-000000000000");
        told.push((guid(n), event, payload.clone()));
        match dice.below(3) {
            0 => told.push((guid(n), event, payload)),
            1 => told.push((guid(n + 1000), event, payload)),
            _ => {}
        }
    }
    if seed > 0 {
        dice.shuffle(&mut told);
    }
    for (guid, event, payload) in &told {
        rivet.github.redeliver(guid, event, payload).await;
        // Sometimes it is decided about at once, sometimes with others.
        if dice.below(2) == 0 {
            rivet.settle().await;
        }
    }
    rivet.settle().await;
    let runs = started(&rivet).await;
    rivet.work().await;
    rivet.finish().await;
    runs
}

fn any_order(kind: Kind, seeds: std::ops::Range<u64>) {
    databases::block_on(async {
        let expected = deliver(kind, 0).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(expected.join("\n"), @"
            ci pull_request 40a94ea3
            ci pull_request ba7d6f75
            ci pull_request f206dee0
            ci push 5e487aab
            ci push 8f965478
            ci push 8f965478
            newest pull_request 40a94ea3
            newest push 8f965478
            pushes push 40a94ea3
            pushes push 5e487aab
            pushes push 8f965478
            pushes push 8f965478
            pushes push ba7d6f75
            pushes push f206dee0
            ");
        }
        for seed in seeds {
            assert_eq!(deliver(kind, seed).await, expected, "seed {seed}");
        }
    });
}

#[test]
fn any_order_gives_the_same_runs_on_sqlite() {
    any_order(Kind::Sqlite, 1..13);
}

#[test]
fn any_order_gives_the_same_runs_on_postgres() {
    any_order(Kind::Postgres, 101..107);
}
