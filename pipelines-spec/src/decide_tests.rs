//! Events against triggers: the sentences are what people read in `why`.

use super::*;
use crate::trigger::Schedule;
use insta::assert_snapshot;
use serde_json::{Map, json};

fn event(name: EventKind) -> EventFacts {
    EventFacts {
        name,
        action: None,
        repo: "acme/app".into(),
        default_branch: "main".into(),
        git_ref: "refs/heads/main".into(),
        branch: Some("main".into()),
        tag: None,
        sha: "a".repeat(40),
        before: None,
        forced: false,
        actor: "alice".into(),
        message: None,
        pull_request: None,
        dispatch_type: None,
        extra: Default::default(),
    }
}

fn push(branch: &str) -> EventFacts {
    EventFacts { git_ref: format!("refs/heads/{branch}"), branch: Some(branch.into()), ..event(EventKind::Push) }
}

fn tag(tag: &str) -> EventFacts {
    EventFacts { git_ref: format!("refs/tags/{tag}"), branch: None, tag: Some(tag.into()), ..event(EventKind::Push) }
}

fn pull(base: &str, action: &str) -> EventFacts {
    let facts =
        json!({ "number": 5, "base": base, "base_sha": "b", "head": "topic", "head_sha": "c", "labels": ["bench"] });
    EventFacts {
        action: Some(action.into()),
        git_ref: "refs/pull/5/head".into(),
        branch: Some("topic".into()),
        pull_request: serde_json::from_value(facts).unwrap(),
        ..event(EventKind::PullRequest)
    }
}

fn on(value: serde_json::Value) -> Triggers {
    serde_json::from_value(value).unwrap()
}

/// One line a case: what happens, and the sentence.
fn say(on: &Triggers, event: &EventFacts, changed: &[&str]) -> String {
    let files: Vec<String> = changed.iter().map(ToString::to_string).collect();
    match decide(on, event, Changed::Known(&files)) {
        Decision::Run { because } => format!("run: {because}"),
        Decision::Skip { because, by_path: true } => format!("skip by path: {because}"),
        Decision::Skip { because, by_path: false } => format!("skip: {because}"),
    }
}

#[test]
fn pushes_to_branches_and_tags() {
    let rules = on(json!({ "push": { "branches": ["main", "release/*"], "tags": ["v*"] } }));
    assert_snapshot!(say(&rules, &push("main"), &[]), @"run: branch 'main' matches on.push.branches [main, release/*]");
    assert_snapshot!(say(&rules, &push("x"), &[]), @"skip: no pipeline trigger matches branch 'x': on.push.branches is [main, release/*]");
    assert_snapshot!(say(&rules, &tag("v1"), &[]), @"run: tag 'v1' matches on.push.tags [v*]");
    assert_snapshot!(say(&rules, &tag("nightly"), &[]), @"skip: no pipeline trigger matches tag 'nightly': on.push.tags is [v*]");

    let branches_only = on(json!({ "push": { "branches": ["main"] } }));
    assert_snapshot!(say(&branches_only, &tag("v1"), &[]), @"skip: tag 'v1' was pushed, and on.push names branches only");
    let tags_only = on(json!({ "push": { "tags": ["v*"] } }));
    assert_snapshot!(say(&tags_only, &push("main"), &[]), @"skip: branch 'main' was pushed, and on.push names tags only");
    let every = on(json!({ "push": {} }));
    assert_snapshot!(say(&every, &push("x"), &[]), @"run: branch 'x' was pushed, and on.push takes every branch");
    assert_snapshot!(say(&every, &tag("v1"), &[]), @"run: tag 'v1' was pushed, and on.push takes every tag");
}

#[test]
fn changed_files_decide_where_paths_are_given() {
    let rules = on(json!({ "push": { "branches": ["main"], "paths": ["src/**", "!src/docs/**"] } }));
    assert_snapshot!(say(&rules, &push("main"), &["README.md", "src/lib.rs"]), @"run: branch 'main' matches on.push.branches [main], and changed file 'src/lib.rs' matches on.push.paths [src/**, !src/docs/**]");
    assert_snapshot!(say(&rules, &push("main"), &["src/docs/a.md"]), @"skip by path: the changed file 'src/docs/a.md' does not match on.push.paths [src/**, !src/docs/**]");
    assert_snapshot!(say(&rules, &push("main"), &["a", "b"]), @"skip by path: none of 2 changed files matches on.push.paths [src/**, !src/docs/**]");
    assert!(decide(&rules, &push("main"), Changed::Unknown).runs(), "unknown files let it run");
    assert!(!decide(&rules, &push("x"), Changed::Unknown).runs(), "but not on another branch");

    assert!(needs_paths(&rules, &push("main")));
    assert!(!needs_paths(&rules, &push("x")), "the branch already decides");
    assert!(!needs_paths(&rules, &tag("v1")));
    let tags_too = on(json!({ "push": { "paths": ["src/**"] } }));
    assert_snapshot!(say(&tags_too, &tag("v1"), &[]), @"run: tag 'v1' was pushed, and on.push takes every tag");
}

#[test]
fn pull_requests_by_base_action_label_and_draft() {
    let rules = on(json!({ "pull_request": { "branches": ["main"], "paths": ["src/**"] } }));
    assert_snapshot!(say(&rules, &pull("main", "opened"), &["src/a"]), @"run: base branch 'main' matches on.pull_request.branches [main], and changed file 'src/a' matches on.pull_request.paths [src/**]");
    assert_snapshot!(say(&rules, &pull("dev", "opened"), &["src/a"]), @"skip: no pipeline trigger matches base branch 'dev': on.pull_request.branches is [main]");
    assert_snapshot!(say(&rules, &pull("main", "closed"), &["src/a"]), @"skip: action 'closed' is not one of on.pull_request.types [opened, synchronize, reopened, ready_for_review]");
    assert!(needs_paths(&rules, &pull("main", "opened")));

    let labelled = on(json!({ "pull_request": { "labels": ["bench"] } }));
    let mut event = pull("main", "labeled");
    event.extra.insert("label".into(), json!("bench"));
    assert_snapshot!(say(&labelled, &event, &[]), @"run: pull request 5 into 'main'");
    event.extra.insert("label".into(), json!("other"));
    assert_snapshot!(say(&labelled, &event, &[]), @"skip: the label 'other' that was added is not one of on.pull_request.labels [bench]");
    event.pull_request.as_mut().unwrap().labels.clear();
    assert_snapshot!(say(&labelled, &event, &[]), @"skip: pull request 5 has none of the labels of on.pull_request.labels [bench]");

    let no_drafts = on(json!({ "pull_request": { "drafts": false } }));
    let mut draft = pull("main", "opened");
    draft.pull_request.as_mut().unwrap().draft = true;
    assert_snapshot!(say(&no_drafts, &draft, &[]), @"skip: pull request 5 is a draft, and on.pull_request.drafts is false");
}

#[test]
fn a_file_without_on_starts_on_pushes_pull_requests_and_by_hand() {
    let silent = Triggers::default();
    assert_snapshot!(say(&silent, &push("x"), &[]), @"run: the file has no 'on', so every push starts it");
    assert_snapshot!(say(&silent, &tag("v1"), &[]), @"run: the file has no 'on', so every push starts it");
    assert_snapshot!(say(&silent, &pull("dev", "synchronize"), &[]), @"run: pull request 5 into 'dev'");
    assert_snapshot!(say(&silent, &event(EventKind::Manual), &[]), @"run: the file has no 'on', so people may launch it");
    assert_snapshot!(say(&silent, &event(EventKind::Schedule), &[]), @"skip: on.schedule is not set");
    assert!(silent.allows_manual());
    assert!(!on(json!({ "push": {} })).allows_manual());
}

#[test]
fn the_other_kinds() {
    let rules = on(json!({
        "comment": [{ "command": "/bench", "permission": "write" }],
        "schedule": [{ "cron": "0 3 * * *", "timezone": "UTC" }],
        "merge_group": { "branches": ["main"] },
        "repository_dispatch": ["deploy"],
    }));
    let mut comment = event(EventKind::Comment);
    comment.extra.insert("command".into(), json!("/bench fast"));
    assert_snapshot!(say(&rules, &comment, &[]), @"run: on.comment has the command '/bench'");
    comment.extra.insert("command".into(), json!("/benchmark"));
    assert_snapshot!(say(&rules, &comment, &[]), @"skip: no command of on.comment is the comment's");

    let mut firing = event(EventKind::Schedule);
    assert_snapshot!(say(&rules, &firing, &[]), @"run: on.schedule has '0 3 * * *' (UTC)");
    firing.extra.insert("cron".into(), json!("0 4 * * *"));
    assert_snapshot!(say(&rules, &firing, &[]), @"skip: on.schedule no longer has '0 4 * * *'");

    let mut queue = event(EventKind::MergeGroup);
    queue.extra.insert("base_ref".into(), json!("refs/heads/dev"));
    assert_snapshot!(say(&rules, &queue, &[]), @"skip: no pipeline trigger matches base branch 'dev': on.merge_group.branches is [main]");

    let mut dispatch = event(EventKind::RepositoryDispatch);
    dispatch.dispatch_type = Some("deploy".into());
    assert_snapshot!(say(&rules, &dispatch, &[]), @"run: type 'deploy' is one of on.repository_dispatch [deploy]");
    assert_snapshot!(say(&rules, &event(EventKind::Manual), &[]), @"skip: on.manual is not set, so nobody may launch it by hand");
    assert_snapshot!(say(&rules, &event(EventKind::Pipeline), &[]), @"run: a stage of another run started it");
    assert_snapshot!(say(&rules, &push("main"), &[]), @"skip: on.push is not set");
}

#[test]
fn markers_in_the_head_commit_skip_pushes_and_pull_requests() {
    for marker in MARKERS {
        assert_eq!(skip_marker(&format!("fix: a thing {marker}\n\nmore")), Some(marker));
    }
    assert_eq!(skip_marker("Fix [Skip CI]"), Some("[Skip CI]"));
    assert_eq!(skip_marker("fix\n\n\nskip-checks: true"), Some("skip-checks: true"));
    assert_eq!(skip_marker("fix\n\nSigned-off-by: A\nskip-checks:true\n"), Some("skip-checks:true"));
    assert_eq!(skip_marker("skip-checks: true"), None, "a subject is no trailer");
    assert_eq!(skip_marker("fix\n\nskip-checks: true\n\nmore text"), None, "only the last paragraph has trailers");
    assert_eq!(skip_marker("fix\n\nskip-checks: false"), None);
    assert_eq!(skip_marker("skip ci"), None);
    assert_eq!(skip_marker("İ [skip ci] ü"), Some("[skip ci]"));

    let marked = |name| EventFacts { message: Some("wip [ci skip]".into()), ..event(name) };
    assert_eq!(marked_to_skip(&marked(EventKind::Push)), Some("[ci skip]"));
    assert_eq!(marked_to_skip(&marked(EventKind::PullRequest)), Some("[ci skip]"));
    assert_eq!(marked_to_skip(&marked(EventKind::Manual)), None);
    assert_eq!(marked_to_skip(&marked(EventKind::Schedule)), None);
}

#[test]
fn a_schedule_alone_is_not_silent() {
    let entry = Schedule { cron: "@daily".into(), timezone: "UTC".into(), inputs: Map::new(), catch_up: true };
    let rules = Triggers { schedule: vec![entry], ..Triggers::default() };
    assert_snapshot!(say(&rules, &push("main"), &[]), @"skip: on.push is not set");
}
