//! Pull requests: what is built, what is reported on, and what happens when they change.

use crate::conversation::{Rivet, conversations, text};
use crate::{ANY, built, started};
use serde_json::json;

conversations!(
    the_test_merge_is_built_and_the_head_reported_on,
    a_merge_that_is_left_over_from_an_older_head_is_waited_for,
    a_merge_that_never_comes_is_done_without,
    a_conflict_does_not_run_and_says_so,
    a_pipeline_may_build_the_head,
    a_fork_is_built_from_the_base_repositorys_merge,
    a_new_base_voids_what_was_made_for_the_old_one,
    a_pull_request_that_is_closed_by_now_starts_nothing,
    drafts_and_labels_start_what_asks_for_them,
    an_older_head_gives_way_only_where_the_group_says_so,
);

const AT_HEAD: &str = r#"
return pipeline.define({
    on = { pull_request = { merge = false } },
    stages = { { name = "build", script = function() process.run("make") end } },
})
"#;

/// The commit a run is reported on, and the merge it builds.
async fn merge_of(rivet: &Rivet, run: i64) -> (String, String) {
    let run = rivet.api("GET", &format!("/api/v1/runs/{}", rivet.run_id(run).await), None).await.1;
    (text(&run["sha"]), text(&run["merge_sha"]))
}

async fn the_test_merge_is_built_and_the_head_reported_on(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    let base = rivet.push("main", &[("a", "2")]).await;
    built(&rivet).await;
    rivet.github.git(&rivet.repo).commit("topic", Some(&format!("{base}~1")), &[("b", "100644", b"1")], "Add b");
    let number = rivet.github.open_pull_request(&rivet.repo, "topic", false).await;
    rivet.settle().await;
    let head = rivet.github.pull(&rivet.repo, number).head_sha;
    let merge = rivet.github.pull(&rivet.repo, number).merge_sha.unwrap();
    assert_eq!(built(&rivet).await, std::slice::from_ref(&merge), "the merge of head and base is what would land");
    insta::assert_snapshot!(rivet.checks(&head), @"
    ci / build: completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    ");
    assert_eq!(rivet.checks(&merge), "", "nobody looks at the merge");
    insta::assert_snapshot!(rivet.why(&head).await, @"ci run: pull request 1 into 'main'; its test merge cf1c77176bbb is built");
    assert_eq!(merge_of(&rivet, 3).await, (head, merge));
    rivet.finish().await;
}

async fn a_merge_that_is_left_over_from_an_older_head_is_waited_for(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    built(&rivet).await;
    let (number, _) = rivet.open_pull("topic", false, &[("b", "1")]).await;
    built(&rivet).await;
    let old = rivet.github.pull(&rivet.repo, number).merge_sha;
    // GitHub goes on saying that the merge of the head before stands, until it looks again.
    let head = rivet.github.commit(&rivet.repo, "topic", &[("b", "2")]);
    rivet.github.change_pull(&rivet.repo, number, |pull| pull.head_sha.clone_from(&head));
    rivet.github.deliver_pull(&rivet.repo, number, "synchronize").await;
    rivet.settle().await;
    assert_eq!(rivet.claim(1).await.len(), 0, "what would be built is not known yet");
    rivet.github.change_pull(&rivet.repo, number, |pull| (pull.mergeable, pull.merge_sha) = (None, None));
    rivet.wait(2);
    rivet.settle().await;
    let new = rivet.github.pull(&rivet.repo, number).merge_sha;
    assert_ne!(old, new);
    assert_eq!(merge_of(&rivet, 3).await, (head, new.unwrap()));
    rivet.finish().await;
}

async fn a_merge_that_never_comes_is_done_without(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    built(&rivet).await;
    let head = rivet.github.commit(&rivet.repo, "topic", &[("b", "1")]);
    rivet.github.world().faults.no_merges = true;
    rivet.github.open_pull_request(&rivet.repo, "topic", false).await;
    for _ in 0..7 {
        rivet.settle().await;
        rivet.wait(70);
    }
    assert_eq!(merge_of(&rivet, 2).await, (head.clone(), "-".to_owned()));
    insta::assert_snapshot!(rivet.why(&head).await, @"ci run: pull request 1 into 'main'; the head is built, because the forge did not work out a test merge in time");
    rivet.finish().await;
}

async fn a_conflict_does_not_run_and_says_so(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY), (".rivet/head.lua", AT_HEAD), ("a", "1")]).await;
    let old = rivet.github.commit(&rivet.repo, "topic", &[("a", "mine")]);
    rivet.push("main", &[("a", "theirs")]).await;
    built(&rivet).await;
    rivet.github.open_pull_request(&rivet.repo, "topic", false).await;
    assert_eq!(built(&rivet).await, std::slice::from_ref(&old), "what builds the head needs no merge");
    insta::assert_snapshot!(rivet.checks(&old), @"
    head / build: completed success: It succeeded
    rivet/ci: error: Not run: conflicts with base 'main'
    rivet/head: success: Every stage succeeded.
    ");
    insta::assert_snapshot!(rivet.why(&old).await, @"
    ci skip: conflicts with base 'main'
    head run: pull request 1 into 'main'; the head is built, as on.pull_request.merge is false
    ");
    // A push to the same branch is not lost to a pull request that cannot run.
    let new = rivet.github.push(&rivet.repo, "topic", &[("c", "1")]).await;
    rivet.github.synchronize(&rivet.repo, 1).await;
    rivet.settle().await;
    rivet.wait(5);
    rivet.settle().await;
    insta::assert_snapshot!(rivet.why(&new).await, @"
    ci run: the file has no 'on', so every push starts it
    head skip: on.push is not set
    ci skip: conflicts with base 'main'
    head run: pull request 1 into 'main'; the head is built, as on.pull_request.merge is false
    ");
    built(&rivet).await;
    insta::assert_snapshot!(rivet.checks(&new), @"
    ci / build: completed success: It succeeded
    head / build: completed success: It succeeded
    rivet/ci: error: Not run: conflicts with base 'main'
    rivet/head: success: Every stage succeeded.
    ");
    rivet.finish().await;
}

async fn a_pipeline_may_build_the_head(rivet: Rivet) {
    rivet.push("main", &[(".rivet/ci.lua", AT_HEAD)]).await;
    let (_, head) = rivet.open_pull("topic", false, &[("b", "1")]).await;
    assert_eq!(built(&rivet).await, std::slice::from_ref(&head));
    insta::assert_snapshot!(rivet.why(&head).await, @"ci run: pull request 1 into 'main'; the head is built, as on.pull_request.merge is false");
    rivet.finish().await;
}

async fn a_fork_is_built_from_the_base_repositorys_merge(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    built(&rivet).await;
    let (number, head) = rivet.open_pull("topic", true, &[("b", "1")]).await;
    assert_eq!(built(&rivet).await, Vec::<String>::new(), "a stranger's run waits");
    let merge = rivet.github.pull(&rivet.repo, number).merge_sha.unwrap();
    assert_eq!(merge_of(&rivet, 2).await, (head, merge));
    rivet.github.close_pull(&rivet.repo, number).await;
    rivet.finish().await;
}

async fn a_new_base_voids_what_was_made_for_the_old_one(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    rivet.push("release", &[("r", "1")]).await;
    built(&rivet).await;
    let (number, head) = rivet.open_pull("topic", false, &[("b", "1")]).await;
    rivet.github.change_pull(&rivet.repo, number, |pull| {
        pull.base = "release".into();
        (pull.mergeable, pull.merge_sha) = (None, None);
    });
    let mut payload = rivet.github.pull_request_payload(&rivet.repo, number, "edited");
    payload["changes"] = json!({ "base": { "ref": { "from": "main" }, "sha": { "from": head } } });
    rivet.github.deliver("pull_request", &payload).await;
    rivet.settle().await;
    let merge = rivet.github.pull(&rivet.repo, number).merge_sha.unwrap();
    assert_eq!(built(&rivet).await, [merge]);
    insta::assert_snapshot!(rivet.runs().await.lines().filter(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n"), @"
    #1 ci push completed: Every stage succeeded.
    #2 ci push completed: Every stage succeeded.
    #3 ci pull_request of pull request 1 cancelled: The pull request's base branch is 'release' now.
    #4 ci pull_request of pull request 1 completed: Every stage succeeded.
    ");
    rivet.finish().await;
}

async fn a_pull_request_that_is_closed_by_now_starts_nothing(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    built(&rivet).await;
    let head = rivet.github.commit(&rivet.repo, "topic", &[("b", "1")]);
    let number = rivet.github.open_pull_request(&rivet.repo, "topic", false).await;
    rivet.github.close_pull(&rivet.repo, number).await;
    rivet.settle().await;
    insta::assert_snapshot!(rivet.why(&head).await, @"- skip: pull request 1 is closed by now");
    // Reopened, it runs.
    rivet.github.change_pull(&rivet.repo, number, |pull| pull.open = true);
    rivet.github.deliver_pull(&rivet.repo, number, "reopened").await;
    assert_eq!(built(&rivet).await.len(), 1);
    // Closed while it runs, it ends.
    rivet.push_to_pull(number, &[("b", "2")]).await;
    rivet.github.close_pull(&rivet.repo, number).await;
    assert_eq!(built(&rivet).await.len(), 0);
    rivet.finish().await;
}

async fn drafts_and_labels_start_what_asks_for_them(rivet: Rivet) {
    let ready = ANY.replace("stages", r#"on = { pull_request = { drafts = false } }, stages"#);
    let labeled = ANY.replace("stages", r#"on = { pull_request = { labels = { "bench" } } }, stages"#);
    let back = ANY.replace("stages", r#"on = { pull_request = { types = { "converted_to_draft" } } }, stages"#);
    let files = [(".rivet/ready.lua", &*ready), (".rivet/bench.lua", &*labeled), (".rivet/back.lua", &*back)];
    rivet.push("main", &files).await;
    rivet.github.commit(&rivet.repo, "topic", &[("b", "1")]);
    let number = rivet.github.open_pull_request(&rivet.repo, "topic", false).await;
    rivet.settle().await;
    assert_eq!(started(&rivet).await.len(), 1, "not a draft yet: only 'ready' starts");
    rivet.github.change_pull(&rivet.repo, number, |pull| pull.draft = true);
    rivet.github.deliver_pull(&rivet.repo, number, "converted_to_draft").await;
    let head = rivet.push_to_pull(number, &[("b", "2")]).await;
    rivet.github.label(&rivet.repo, number, "bench", "ada").await;
    rivet.settle().await;
    rivet.github.change_pull(&rivet.repo, number, |pull| pull.draft = false);
    rivet.github.deliver_pull(&rivet.repo, number, "ready_for_review").await;
    rivet.settle().await;
    insta::assert_snapshot!(rivet.why(&head).await, @"
    back skip: action 'synchronize' is not one of on.pull_request.types [converted_to_draft]
    bench skip: pull request 1 has none of the labels of on.pull_request.labels [bench]
    ready skip: pull request 1 is a draft, and on.pull_request.drafts is false
    back skip: action 'labeled' is not one of on.pull_request.types [converted_to_draft]
    bench run: pull request 1 into 'main'; its test merge 0551c45ef46b is built
    ready skip: action 'labeled' is not one of on.pull_request.types [opened, synchronize, reopened, ready_for_review]
    back skip: action 'ready_for_review' is not one of on.pull_request.types [converted_to_draft]
    bench run: pull request 1 into 'main'; its test merge 0551c45ef46b is built
    ready run: pull request 1 into 'main'; its test merge 0551c45ef46b is built
    ");
    insta::assert_snapshot!(started(&rivet).await.join("\n"), @"
    back pull_request 9fe84ee7
    bench pull_request c06c3037
    bench pull_request c06c3037
    ready pull_request 9fe84ee7
    ready pull_request c06c3037
    ");
    built(&rivet).await;
    rivet.finish().await;
}

async fn an_older_head_gives_way_only_where_the_group_says_so(rivet: Rivet) {
    let newest = ANY.replace("stages", r#"concurrency = { group = "${branch}", cancel_in_progress = true }, stages"#);
    rivet.push("main", &[Rivet::pipeline(ANY), (".rivet/newest.lua", &newest)]).await;
    built(&rivet).await;
    let (number, first) = rivet.open_pull("topic", false, &[("b", "1")]).await;
    let second = rivet.push_to_pull(number, &[("b", "2")]).await;
    assert_eq!(built(&rivet).await.len(), 3, "'ci' builds both heads, 'newest' the second");
    insta::assert_snapshot!(rivet.checks(&first), @"
    ci / build: completed success: It succeeded
    newest / build: completed cancelled: Superseded by run #6 of group topic [Retry]
    rivet/ci: success: Every stage succeeded.
    rivet/newest: error: Superseded by run #6 of group topic.
    ");
    insta::assert_snapshot!(rivet.checks(&second), @"
    ci / build: completed success: It succeeded
    newest / build: completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    rivet/newest: success: Every stage succeeded.
    ");
    // What comes too late does not end what is newer.
    let late = rivet.github.pull_request_payload(&rivet.repo, number, "synchronize");
    let third = rivet.push_to_pull(number, &[("b", "3")]).await;
    let mut late = late;
    late["pull_request"]["updated_at"] = "2026-11-24T00:00:50Z".into();
    rivet.github.deliver("pull_request", &late).await;
    rivet.settle().await;
    insta::assert_snapshot!(rivet.why(&second).await, @"
    ci run: pull request 1 into 'main'; its test merge c558bb97fd52 is built
    newest run: pull request 1 into 'main'; its test merge c558bb97fd52 is built
    ci run: pull request 1 into 'main'; this head is built, because the pull request is at 1e5f3fea8ed3 by now
    newest skip: the pull request is at 1e5f3fea8ed3 by now, and group 'topic' keeps only the newest
    ");
    built(&rivet).await;
    insta::assert_snapshot!(rivet.checks(&third), @"
    ci / build: completed success: It succeeded
    newest / build: completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    rivet/newest: success: Every stage succeeded.
    ");
    rivet.finish().await;
}
