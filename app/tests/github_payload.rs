//! What deliveries mean: GitHub's own examples, and the twists that matter for trust and for "is this the same trigger?".

use pipelines_spec::protocol::Trust;
use rivet::forge::github::payload::{event, event_of};
use rivet::forge::{Event, Trigger};
use rivet::model::ids::ForgeKind;
use serde_json::{Value, json};

fn example(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/github/webhooks/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn read(name: &str, payload: &Value) -> Event {
    event(name, payload.to_string().as_bytes()).unwrap()
}

fn trigger(name: &str, payload: &Value) -> Trigger {
    match read(name, payload) {
        Event::Trigger(trigger) => *trigger,
        other => panic!("{other:?}"),
    }
}

/// One line that tells all that matters of an event.
fn line(event: &Event) -> String {
    match event {
        Event::Trigger(t) => {
            let facts = serde_json::to_string(&t.facts).unwrap();
            format!("{} {:?} key={} {}", t.repo.full_name(), t.trust, t.source_key, facts)
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_push_is_read_fully() {
    let payload = example("push.4");
    insta::assert_json_snapshot!(trigger("push", &payload).facts, @r#"
    {
      "name": "push",
      "repo": "Codertocat/Hello-World",
      "default_branch": "master",
      "ref": "refs/heads/master",
      "branch": "master",
      "sha": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
      "actor": "Codertocat",
      "message": "Initial commit"
    }
    "#);
}

#[test]
fn a_pull_request_is_read_fully() {
    let read = trigger("pull_request", &example("pull_request.opened.0"));
    insta::assert_snapshot!(read.source_key, @"pull_request:2:opened:2019-05-15T15:20:33Z:ec26c3e57ca3a959ca5aad62de7213c562f8c821");
    insta::assert_json_snapshot!(read.facts, @r#"
    {
      "name": "pull_request",
      "action": "opened",
      "repo": "Codertocat/Hello-World",
      "default_branch": "master",
      "ref": "refs/pull/2/head",
      "branch": "changes",
      "sha": "ec26c3e57ca3a959ca5aad62de7213c562f8c821",
      "actor": "Codertocat",
      "pull_request": {
        "number": 2,
        "title": "Update the README with new information.",
        "author": "Codertocat",
        "base": "master",
        "base_sha": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
        "head": "changes",
        "head_sha": "ec26c3e57ca3a959ca5aad62de7213c562f8c821",
        "draft": false,
        "fork": false,
        "labels": []
      }
    }
    "#);
}

#[test]
fn the_other_events_are_read_fully() {
    let mut said = vec![];
    for name in [
        "merge_group.checks_requested.0",
        "repository_dispatch.on-demand-test.0",
        "check_suite.rerequested.7",
        "installation.created.1",
        "installation.deleted.0",
        "installation.suspend.5",
        "installation_repositories.removed.2",
        "repository.renamed.9",
    ] {
        said.push(line(&read(name.split('.').next().unwrap(), &example(name))));
    }
    insta::assert_snapshot!(said.join("\n"), @r#"
    octo-org/octo-repo Trusted key=merge_group:refs/heads/gh-readonly-queue/main/pr-104-929f8209d40f77f4abc622a499c93a83babdbe64:2ffea6db159f6b6c47a24e778fb9ef40cf6b1c7d {"name":"merge_group","action":"checks_requested","repo":"octo-org/octo-repo","default_branch":"main","ref":"refs/heads/gh-readonly-queue/main/pr-104-929f8209d40f77f4abc622a499c93a83babdbe64","branch":"gh-readonly-queue/main/pr-104-929f8209d40f77f4abc622a499c93a83babdbe64","sha":"2ffea6db159f6b6c47a24e778fb9ef40cf6b1c7d","before":"380387fbc80638b734a49e1be1c4dfec1c01b33c","actor":"Codertocat","message":"Merge pull request #2048 from octo-repo/update-readme\n\nUpdate README.md","extra":{"base_ref":"refs/heads/main","base_sha":"380387fbc80638b734a49e1be1c4dfec1c01b33c"}}
    octo-org/octo-repo Trusted key=repository_dispatch:on-demand-test:917979e3f7447badc8ee281cede87fcc1368ab2687e47ecb32c54de3e4c04895 {"name":"repository_dispatch","repo":"octo-org/octo-repo","default_branch":"master","ref":"refs/heads/master","branch":"master","sha":"","actor":"Codertocat","dispatch_type":"on-demand-test","extra":{"client_payload":{}}}
    SuiteRerequested { repo: RepoFacts { forge: Github, forge_id: 186853002, owner: "Codertocat", name: "Hello-World", default_branch: "master", private: false, installation_id: Some(957387) }, sha: "ec26c3e57ca3a959ca5aad62de7213c562f8c821", app_id: Some(29310), actor: Account { login: "octocoders-linter[bot]", id: 49795351, is_bot: true } }
    Installation(InstallationEvent { id: 957387, account: "Codertocat", suspended: false, removed: false, repositories: [RepoFacts { forge: Github, forge_id: 186853002, owner: "Codertocat", name: "Hello-World", default_branch: "", private: false, installation_id: Some(957387) }], lost: [] })
    Installation(InstallationEvent { id: 2, account: "octocat", suspended: false, removed: true, repositories: [], lost: [RepoFacts { forge: Github, forge_id: 1296269, owner: "octocat", name: "Hello-World", default_branch: "", private: false, installation_id: Some(2) }] })
    Installation(InstallationEvent { id: 16598467, account: "Codertocat", suspended: true, removed: false, repositories: [], lost: [] })
    Installation(InstallationEvent { id: 2, account: "octocat", suspended: false, removed: false, repositories: [], lost: [RepoFacts { forge: Github, forge_id: 1296269, owner: "octocat", name: "Hello-World", default_branch: "", private: false, installation_id: Some(2) }] })
    Repository(RepoFacts { forge: Github, forge_id: 186853261, owner: "Octocoders", name: "Hello-World", default_branch: "master", private: false, installation_id: Some(1) })
    "#);
}

#[test]
fn what_goes_away_is_read_too() {
    let mut group = example("merge_group.checks_requested.0");
    group["action"] = "destroyed".into();
    group["reason"] = "dequeued".into();
    let mut said = vec![line(&read("merge_group", &group)), line(&read("delete", &example("delete.0")))];
    let mut repository = example("repository.renamed.9");
    for action in ["archived", "unarchived", "deleted"] {
        repository["action"] = action.into();
        match read("repository", &repository) {
            Event::RepositoryStands { standing, .. } => said.push(format!("{action}: {standing}")),
            other => panic!("{other:?}"),
        }
    }
    let words: Vec<String> = said.iter().map(|s| s.split(", installation_id").last().unwrap().to_owned()).collect();
    insta::assert_snapshot!(words.join("\n"), @r#"
    : Some(1) }, sha: "2ffea6db159f6b6c47a24e778fb9ef40cf6b1c7d", reason: "dequeued" }
    : None }, git_ref: "refs/tags/simple-tag" }
    archived: archived
    unarchived: active
    deleted: deleted
    "#);
}

#[test]
fn a_dispatch_is_as_small_as_github_lets_it_be() {
    let mut dispatch = example("repository_dispatch.on-demand-test.0");
    let refused =
        |payload: &Value| event("repository_dispatch", payload.to_string().as_bytes()).unwrap_err().to_string();
    dispatch["client_payload"] = (0..11).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into();
    assert_eq!(refused(&dispatch), "client_payload must have at most 10 keys.");
    dispatch["client_payload"] = json!({ "text": "x".repeat(65_536) });
    assert_eq!(refused(&dispatch), "client_payload must be at most 65535 characters as JSON.");
}

#[test]
fn a_button_comes_back_with_our_id_and_its_name() {
    let mut payload = example("check_run.requested_action.6");
    payload["check_run"]["external_id"] = "01run:test:2".into();
    let Event::CheckAction { external_id, action, actor, .. } = read("check_run", &payload) else { panic!() };
    assert_eq!(
        (external_id.as_str(), action.as_str(), actor.login.as_str()),
        ("01run:test:2", "lgtm|26764", "codebytere")
    );
}

#[test]
fn trust_comes_from_the_head_repository_alone() {
    let own = example("pull_request.opened.0");
    let reason = |change: fn(&mut Value)| {
        let mut payload = own.clone();
        change(&mut payload);
        let trigger = trigger("pull_request", &payload);
        assert_eq!(trigger.trust == Trust::Untrusted, trigger.trust_reason.is_some());
        assert_eq!(trigger.facts.pull_request.unwrap().fork, trigger.trust_reason.is_some());
        trigger.trust_reason.unwrap_or("trusted".into())
    };
    assert_eq!(reason(|_| ()), "trusted");
    assert_eq!(reason(|p| p["pull_request"]["head"]["repo"] = Value::Null), "head repository is gone");
    assert_eq!(
        reason(|p| {
            p["pull_request"]["head"]["repo"]["id"] = json!(666);
            p["pull_request"]["head"]["repo"]["full_name"] = "eve/Hello-World".into();
        }),
        "the head is in eve/Hello-World, a fork"
    );
    // A fork whose payload claims the same repository on both sides is still another one than the delivery's.
    assert_ne!(
        reason(|p| {
            p["pull_request"]["head"]["repo"]["id"] = json!(666);
            p["pull_request"]["base"]["repo"]["id"] = json!(666);
        }),
        "trusted"
    );
    assert_ne!(reason(|p| p["pull_request"]["head"]["repo"] = json!({})), "trusted");
}

#[test]
fn the_key_tells_triggers_apart_and_repeats_together() {
    let push = example("push.4");
    let key = |payload: &Value| trigger("push", payload).source_key;
    assert_eq!(key(&push), key(&push));
    let mut back = push.clone();
    back["repository"]["pushed_at"] = json!(1_999_999_999);
    assert_ne!(key(&push), key(&back), "a forced push back to an earlier commit runs again");

    let dispatch = example("repository_dispatch.on-demand-test.0").to_string();
    let key = |guid: &str| match event_of(ForgeKind::Github, "repository_dispatch", dispatch.as_bytes(), guid).unwrap()
    {
        Event::Trigger(trigger) => trigger.source_key,
        other => panic!("{other:?}"),
    };
    assert_eq!(key("a"), key("a"));
    assert_ne!(key("a"), key("b"));
}

#[test]
fn tags_carry_the_commit_and_not_the_tag_object() {
    let mut push = example("push.4");
    push["ref"] = "refs/tags/v1".into();
    push["after"] = "9".repeat(40).into();
    push["head_commit"] = json!({ "id": "8".repeat(40), "message": "Release" });
    let facts = trigger("push", &push).facts;
    assert_eq!((facts.tag.as_deref(), facts.branch), (Some("v1"), None));
    assert_eq!(facts.sha, "8".repeat(40));
}

#[test]
fn text_is_tamed() {
    let mut payload = example("pull_request.opened.0");
    payload["pull_request"]["title"] = format!("a\u{0}b{}\nsecond line", "x".repeat(300)).into();
    let title = trigger("pull_request", &payload).facts.pull_request.unwrap().title;
    assert_eq!(title.chars().count(), 200);
    assert!(title.starts_with("a\u{fffd}bx") && title.ends_with("x…"));
}

#[test]
fn what_is_not_used_says_so() {
    let mut payload = example("pull_request.opened.0");
    payload["action"] = "edited".into();
    payload["changes"] = json!({ "title": { "from": "x" } });
    assert_eq!(line(&read("pull_request", &payload)), r#"Ignored { reason: "event pull_request.edited is not used" }"#);
    payload["changes"] = json!({ "base": { "ref": { "from": "dev" } } });
    assert_eq!(trigger("pull_request", &payload).facts.action.as_deref(), Some("edited"));
    payload["action"] = "invented_tomorrow".into();
    assert!(matches!(read("pull_request", &payload), Event::Ignored { .. }));
    payload["action"] = "closed".into();
    assert!(matches!(read("pull_request", &payload), Event::PullRequestClosed { number: 2, merged: false, .. }));
}
