//! Pushes, tags, dispatches and merge queues; and the push that belongs to a pull request.

use crate::conversation::{Rivet, conversations, text};
use crate::{ANY, built, started};
use serde_json::json;

conversations!(
    a_push_to_a_pull_request_runs_once_in_either_order,
    a_push_whose_pull_request_github_finds_late_runs_once,
    a_pipeline_may_run_for_both,
    what_only_a_push_starts_is_not_lost_to_a_pull_request,
    what_nobody_has_begun_runs_for_the_pull_request_that_is_opened,
    tags_and_annotated_tags_are_built_at_their_commit,
    a_deleted_branch_is_ignored_and_its_runs_say_so,
    paths_are_right_past_three_hundred_files_and_on_forced_pushes,
    a_late_push_does_not_end_a_newer_one,
    a_merge_group_is_built_and_given_up,
    a_dispatch_is_about_its_branch,
);

async fn a_push_to_a_pull_request_runs_once_in_either_order(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    let (number, _) = rivet.open_pull("topic", false, &[("b", "1")]).await;
    built(&rivet).await;
    let second = rivet.github.push(&rivet.repo, "topic", &[("b", "2")]).await;
    rivet.github.synchronize(&rivet.repo, number).await;
    rivet.settle().await;
    assert_eq!(built(&rivet).await.len(), 1);
    insta::assert_snapshot!(rivet.why(&second).await, @"
    ci skip: it runs for pull request 1, which has this branch
    ci run: pull request 1 into 'main'; its test merge 62fecb27e82d is built
    ");
    let before = rivet.github.git(&rivet.repo).find("heads/topic");
    let third = rivet.github.commit(&rivet.repo, "topic", &[("b", "3")]);
    rivet.github.synchronize(&rivet.repo, number).await;
    rivet.settle().await;
    rivet.github.deliver("push", &rivet.github.push_payload(&rivet.repo, "topic", before.as_deref(), &third)).await;
    assert_eq!(built(&rivet).await.len(), 1);
    insta::assert_snapshot!(rivet.checks(&third), @"
    ci / build: completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    ");
    rivet.finish().await;
}

async fn a_push_whose_pull_request_github_finds_late_runs_once(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    let (number, _) = rivet.open_pull("topic", false, &[("b", "1")]).await;
    built(&rivet).await;
    rivet.github.change_pull(&rivet.repo, number, |pull| pull.unindexed = true);
    let sha = rivet.github.push(&rivet.repo, "topic", &[("b", "2")]).await;
    rivet.settle().await;
    assert_eq!(rivet.why(&sha).await, "", "it is asked once more");
    rivet.github.change_pull(&rivet.repo, number, |pull| pull.unindexed = false);
    rivet.wait(2);
    rivet.settle().await;
    insta::assert_snapshot!(rivet.why(&sha).await, @"ci skip: it runs for pull request 1, which has this branch");
    rivet.github.synchronize(&rivet.repo, number).await;
    rivet.settle().await;
    insta::assert_snapshot!(started(&rivet).await.join("\n"), @"
    ci pull_request 393c6615
    ci pull_request 673db857
    ci push d8bf7b63
    ");
    rivet.finish().await;
}

async fn a_pipeline_may_run_for_both(rivet: Rivet) {
    let both = ANY.replace("stages", "on = { push = { with_pull_request = true }, pull_request = true }, stages");
    rivet.push("main", &[Rivet::pipeline(&both)]).await;
    let (number, _) = rivet.open_pull("topic", false, &[("b", "1")]).await;
    built(&rivet).await;
    rivet.github.push(&rivet.repo, "topic", &[("b", "2")]).await;
    rivet.github.synchronize(&rivet.repo, number).await;
    assert_eq!(built(&rivet).await.len(), 2);
    rivet.finish().await;
}

async fn what_only_a_push_starts_is_not_lost_to_a_pull_request(rivet: Rivet) {
    let pushes = ANY.replace("stages", "on = { push = true }, stages");
    let elsewhere =
        ANY.replace("stages", r#"on = { push = true, pull_request = { branches = { "release/*" } } }, stages"#);
    let opened = ANY.replace("stages", r#"on = { push = true, pull_request = { types = { "opened" } } }, stages"#);
    let files =
        [(".rivet/pushes.lua", &*pushes), (".rivet/elsewhere.lua", &*elsewhere), (".rivet/opened.lua", &*opened)];
    rivet.push("main", &files).await;
    let (number, _) = rivet.open_pull("topic", false, &[("b", "1")]).await;
    built(&rivet).await;
    let sha = rivet.github.push(&rivet.repo, "topic", &[("b", "2")]).await;
    rivet.github.synchronize(&rivet.repo, number).await;
    assert_eq!(built(&rivet).await.len(), 3, "every one runs once");
    insta::assert_snapshot!(rivet.why(&sha).await, @"
    elsewhere run: branch 'topic' was pushed, and on.push takes every branch
    opened run: branch 'topic' was pushed, and on.push takes every branch
    pushes run: branch 'topic' was pushed, and on.push takes every branch
    elsewhere skip: no pipeline trigger matches base branch 'main': on.pull_request.branches is [release/*]
    opened skip: action 'synchronize' is not one of on.pull_request.types [opened]
    pushes skip: on.pull_request is not set
    ");
    rivet.finish().await;
}

async fn what_nobody_has_begun_runs_for_the_pull_request_that_is_opened(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    built(&rivet).await;
    let sha = rivet.push("topic", &[("b", "1")]).await;
    let number = rivet.github.open_pull_request(&rivet.repo, "topic", false).await;
    rivet.settle().await;
    assert_eq!(built(&rivet).await, [rivet.github.pull(&rivet.repo, number).merge_sha.unwrap()]);
    insta::assert_snapshot!(rivet.runs().await.lines().filter(|l| l.starts_with('#')).collect::<Vec<_>>().join("\n"), @"
    #1 ci push completed: Every stage succeeded.
    #2 ci push cancelled: It runs for pull request 1.
    #3 ci pull_request of pull request 1 completed: Every stage succeeded.
    ");
    insta::assert_snapshot!(rivet.checks(&sha), @"
    ci / build: completed cancelled: It runs for pull request 1 [Retry]
    ci / build: completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    ");
    rivet.finish().await;
}

async fn tags_and_annotated_tags_are_built_at_their_commit(rivet: Rivet) {
    let tags = ANY.replace("stages", r#"on = { push = { tags = { "v*" } } }, stages"#);
    let sha = rivet.push("main", &[Rivet::pipeline(&tags)]).await;
    let git = rivet.github.git(&rivet.repo);
    git.run(&["tag", "-a", "-m", "Release 1", "v1", &sha]).unwrap();
    let object = git.run(&["rev-parse", "refs/tags/v1"]).unwrap();
    assert_ne!(object, sha);
    for (name, after) in [("v1", &object), ("v2", &sha), ("x", &sha)] {
        let mut payload = rivet.github.push_payload(&rivet.repo, "main", None, after);
        payload["ref"] = format!("refs/tags/{name}").into();
        payload["head_commit"]["id"] = sha.as_str().into();
        rivet.github.deliver("push", &payload).await;
    }
    assert_eq!(built(&rivet).await, [sha.clone(), sha.clone()]);
    insta::assert_snapshot!(rivet.why(&sha).await, @"
    ci skip: branch 'main' was pushed, and on.push names tags only
    ci run: tag 'v1' matches on.push.tags [v*]
    ci run: tag 'v2' matches on.push.tags [v*]
    ci skip: no pipeline trigger matches tag 'x': on.push.tags is [v*]
    ");
    rivet.finish().await;
}

async fn a_deleted_branch_is_ignored_and_its_runs_say_so(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    built(&rivet).await;
    let sha = rivet.push("topic", &[("b", "1")]).await;
    let run = rivet.run_id(2).await;
    let mut push = rivet.github.push_payload(&rivet.repo, "topic", Some(&sha), &"0".repeat(40));
    push["deleted"] = true.into();
    push["head_commit"] = serde_json::Value::Null;
    let (status, answer) = rivet.github.deliver("push", &push).await;
    assert_eq!((status, text(&answer["reason"])), (200, "branch deleted".to_owned()));
    let mut deleted = rivet.github.common(&rivet.repo);
    deleted["ref"] = "topic".into();
    deleted["ref_type"] = "branch".into();
    rivet.github.deliver("delete", &deleted).await;
    rivet.settle().await;
    let history = rivet.api("GET", &format!("/api/v1/runs/{run}/history"), None).await.1.to_string();
    assert!(history.contains("The branch 'topic' was deleted. The run goes on with its commit."), "{history}");
    assert_eq!(built(&rivet).await, [sha]);
    rivet.finish().await;
}

async fn paths_are_right_past_three_hundred_files_and_on_forced_pushes(rivet: Rivet) {
    let filtered = ANY.replace("stages", r#"on = { push = { paths = { "zz/**" } } }, stages"#);
    let first = rivet.push("main", &[Rivet::pipeline(&filtered)]).await;
    built(&rivet).await;
    let many: Vec<String> = (0..400).map(|n| format!("many/{n:03}")).collect();
    let mut files: Vec<(&str, &str)> = many.iter().map(|path| (path.as_str(), "1")).collect();
    let without = rivet.push("main", &files).await;
    insta::assert_snapshot!(rivet.why(&without).await, @"ci skip: none of 400 changed files matches on.push.paths [zz/**]");
    files.iter_mut().for_each(|file| file.1 = "2");
    files.push(("zz/last", "1"));
    let with = rivet.push("main", &files).await;
    insta::assert_snapshot!(rivet.why(&with).await, @"ci run: branch 'main' was pushed, and on.push takes every branch, and changed file 'zz/last' matches on.push.paths [zz/**]");
    // Forced back: what is taken away changed too.
    let git = rivet.github.git(&rivet.repo);
    git.run(&["update-ref", "refs/heads/main", &first]).unwrap();
    let mut forced = rivet.github.push_payload(&rivet.repo, "main", Some(&with), &first);
    forced["forced"] = true.into();
    rivet.github.deliver("push", &forced).await;
    rivet.settle().await;
    insta::assert_snapshot!(rivet.why(&first).await, @"
    ci run: branch 'main' was pushed, and on.push takes every branch; which files changed is not known, so on.push.paths is taken to match
    ci run: branch 'main' was pushed, and on.push takes every branch, and changed file 'zz/last' matches on.push.paths [zz/**]
    ");
    // A new branch counts from where it left the default branch.
    let branch = rivet.push("topic", &[("zz/new", "1")]).await;
    insta::assert_snapshot!(rivet.why(&branch).await, @"ci run: branch 'topic' was pushed, and on.push takes every branch, and changed file 'zz/new' matches on.push.paths [zz/**]");
    built(&rivet).await;
    rivet.finish().await;
}

async fn a_late_push_does_not_end_a_newer_one(rivet: Rivet) {
    let newest = ANY.replace("stages", r#"concurrency = { group = "${ref}", cancel_in_progress = true }, stages"#);
    let one = rivet.github.commit(&rivet.repo, "main", &[Rivet::pipeline(&newest)]);
    let two = rivet.github.commit(&rivet.repo, "main", &[("a", "2")]);
    rivet.github.deliver("push", &rivet.github.push_payload(&rivet.repo, "main", Some(&one), &two)).await;
    rivet.settle().await;
    rivet.github.deliver("push", &rivet.github.push_payload(&rivet.repo, "main", None, &one)).await;
    assert_eq!(built(&rivet).await, [two]);
    insta::assert_snapshot!(rivet.why(&one).await, @"ci skip: branch 'main' is at 604e8b464e0c by now, and group 'main' keeps only the newest");
    insta::assert_snapshot!(rivet.checks(&one), @"rivet/ci: error: Not run: branch 'main' is at 604e8b464e0c by now, and group 'main' keeps only the newest");
    rivet.finish().await;
}

async fn a_merge_group_is_built_and_given_up(rivet: Rivet) {
    let queue = ANY.replace("stages", "on = { push = true, merge_group = true }, stages");
    let base = rivet.push("main", &[Rivet::pipeline(&queue)]).await;
    built(&rivet).await;
    let branch = "gh-readonly-queue/main/pr-7-abc";
    let head = rivet.github.push(&rivet.repo, branch, &[("b", "1")]).await;
    let group = json!({ "head_sha": head, "head_ref": format!("refs/heads/{branch}"), "base_sha": base,
        "base_ref": "refs/heads/main", "head_commit": { "id": head, "message": "Merge 7" } });
    let mut payload = rivet.github.common(&rivet.repo);
    payload["action"] = "checks_requested".into();
    payload["merge_group"] = group;
    rivet.github.deliver("merge_group", &payload).await;
    rivet.settle().await;
    insta::assert_snapshot!(rivet.why(&head).await, @"
    ci skip: it runs for the merge queue, whose branch this is
    ci run: on.merge_group takes every branch
    ");
    payload["action"] = "destroyed".into();
    payload["reason"] = "dequeued".into();
    rivet.github.deliver("merge_group", &payload).await;
    assert_eq!(built(&rivet).await.len(), 0);
    insta::assert_snapshot!(rivet.checks(&head), @"
    ci / build: completed cancelled: The merge group is no more: dequeued [Retry]
    rivet/ci: error: The merge group is no more: dequeued.
    ");
    rivet.finish().await;
}

async fn a_dispatch_is_about_its_branch(rivet: Rivet) {
    let dispatch = ANY.replace("stages", r#"on = { repository_dispatch = { "deploy" } }, stages"#);
    let sha = rivet.push("main", &[Rivet::pipeline(&dispatch)]).await;
    let mut payload = rivet.github.common(&rivet.repo);
    payload["action"] = "deploy".into();
    payload["branch"] = "main".into();
    payload["client_payload"] = json!({ "to": "staging" });
    rivet.github.deliver("repository_dispatch", &payload).await;
    assert_eq!(built(&rivet).await, std::slice::from_ref(&sha));
    payload["branch"] = "gone".into();
    rivet.github.deliver("repository_dispatch", &payload).await;
    rivet.settle().await;
    insta::assert_snapshot!(rivet.why(&sha).await, @"
    ci skip: on.push is not set
    ci run: type 'deploy' is one of on.repository_dispatch [deploy]
    ");
    payload["client_payload"] = json!({ "to": "x".repeat(70_000) });
    let (status, answer) = rivet.github.deliver("repository_dispatch", &payload).await;
    assert_eq!((status, text(&answer["code"])), (422, "webhook.field".to_owned()));
    rivet.finish().await;
}
