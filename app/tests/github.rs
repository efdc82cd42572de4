//! The GitHub forge against a GitHub that checks every request it gets.

#[path = "support/fake_github/mod.rs"]
mod fake_github;

use fake_github::FakeGithub;
use pipelines_spec::protocol::{Annotation, AnnotationLevel};
use pipelines_spec::trigger::EventFacts;
use rivet::forge::comments::Reaction;
use rivet::forge::deployments::{Deployment, DeploymentStatus};
use rivet::forge::github::Github;
use rivet::forge::github::payload::event;
use rivet::forge::people::{Account, Permission};
use rivet::forge::{CheckButton, CheckRun, CommitStatus, Event, ForgeError, RepoFacts};
use rivet::model::time::Timestamp;

struct Scene {
    fake: FakeGithub,
    github: Github,
    repo: RepoFacts,
}

impl Scene {
    async fn new() -> Self {
        let fake = FakeGithub::start().await;
        let github = Github::new(&fake.config()).unwrap();
        let repo = fake.repo("acme/app");
        Self { fake, github, repo }
    }

    fn facts_of_push(&self, branch: &str, before: Option<&str>, after: &str) -> EventFacts {
        let payload = self.fake.push_payload(&self.repo, branch, before, after).to_string();
        match event("push", payload.as_bytes()).unwrap() {
            Event::Trigger(trigger) => trigger.facts,
            other => panic!("{other:?}"),
        }
    }

    async fn changed(&self, facts: &EventFacts) -> String {
        match self.github.changed_files(&self.repo, facts).await.unwrap() {
            Some(files) => files.join(" "),
            None => "unknown".to_owned(),
        }
    }
}

fn check(sha: &str) -> CheckRun {
    CheckRun {
        name: "ci / test".into(),
        head_sha: sha.into(),
        external_id: "01run:test:1".into(),
        details_url: "http://127.0.0.1/runs/01run".into(),
        status: "queued".into(),
        conclusion: None,
        started_at: None,
        completed_at: None,
        title: "Waiting for a runner".into(),
        summary: "…".into(),
        annotations: vec![],
        actions: vec![],
    }
}

#[tokio::test]
async fn definitions_are_read_at_the_commit_and_fetched_once() {
    let Scene { fake, github, repo } = Scene::new().await;
    let ci = "pipeline { }\n".repeat(20);
    let sha =
        fake.commit(&repo, "main", &[(".rivet/ci.lua", &ci), (".rivet/lib/x.lua", "return 1"), ("README.md", "")]);
    let loaded = github.sources(&repo, &sha).await.unwrap();
    assert_eq!(loaded.problems, vec![]);
    assert_eq!(loaded.sources.keys().collect::<Vec<_>>(), [".rivet/ci.lua", ".rivet/lib/x.lua"]);
    assert_eq!(loaded.sources[".rivet/ci.lua"], ci);
    assert_eq!(fake.take_calls("/git/").len(), 4, "two trees, two blobs");

    let next = fake.commit(&repo, "main", &[("README.md", "more")]);
    assert_eq!(github.sources(&repo, &next).await.unwrap(), loaded);
    assert_eq!(fake.take_calls("/git/").len(), 1, "the root tree; what it names is known");
    fake.finish();
}

#[tokio::test]
async fn what_is_wrong_with_the_folder_is_a_problem_and_not_an_error() {
    let Scene { fake, github, repo } = Scene::new().await;
    let say = async |sha: &str| {
        let loaded = github.sources(&repo, sha).await.unwrap();
        let problems: Vec<String> = loaded.problems.iter().map(|p| format!("{}: {}", p.code, p.message)).collect();
        format!("{} files; {}", loaded.sources.len(), problems.join("; "))
    };
    let none = fake.commit(&repo, "main", &[("README.md", "")]);
    insta::assert_snapshot!(say(&none).await, @"0 files; ");
    let file = fake.commit(&repo, "file", &[(".rivet", "x")]);
    insta::assert_snapshot!(say(&file).await, @"0 files; config.not_a_file: .rivet is a file; Rivet reads a folder of that name");
    let link = fake.commit_files(
        &repo,
        "link",
        &[(".rivet/ci.lua", "120000", b"/etc/passwd"), (".rivet/a.lua", "100644", b"ok")],
    );
    insta::assert_snapshot!(say(&link).await, @"1 files; config.not_a_file: .rivet/ci.lua is a symbolic link; Rivet reads regular files only");
    fake.world().faults.truncate_trees = true;
    let cut = fake.commit(&repo, "main", &[(".rivet/ci.lua", "pipeline {}")]);
    insta::assert_snapshot!(say(&cut).await, @"0 files; config.too_large: the forge does not list every file under .rivet/: there are too many");
    let gone = github.sources(&repo, &"9".repeat(40)).await;
    assert_eq!(gone, Err(ForgeError::NotFound(format!("commit {}", "9".repeat(40)))));
    fake.finish();
}

#[tokio::test]
async fn changed_files_are_complete_or_unknown() {
    let scene = Scene::new().await;
    let (fake, repo) = (&scene.fake, &scene.repo);
    let first = fake.commit(repo, "main", &[("a", "1\n2\n3\n4\n"), ("b", "1")]);
    let second = fake.commit(repo, "main", &[("b", "2")]);
    let push = scene.facts_of_push("main", Some(&first), &second);
    insta::assert_snapshot!(scene.changed(&push).await, @"b");

    let topic = fake.commit_files(repo, "topic", &[("a", "delete", b""), ("moved", "100644", b"1\n2\n3\n4\n")]);
    let new_branch = scene.facts_of_push("topic", None, &topic);
    insta::assert_snapshot!(scene.changed(&new_branch).await, @"a moved");

    // A rewritten branch: both what it lost and what it gained.
    let other = fake.git(repo).commit("rewritten", Some(&first), &[("c", "100644", b"1")], "Rewrite");
    let forced = scene.facts_of_push("topic", Some(&topic), &other);
    insta::assert_snapshot!(scene.changed(&forced).await, @"a b c moved");

    let lost = scene.facts_of_push("topic", Some(&"7".repeat(40)), &other);
    insta::assert_snapshot!(scene.changed(&lost).await, @"unknown");
    let born = scene.facts_of_push("main", None, &first);
    insta::assert_snapshot!(scene.changed(&born).await, @"unknown");

    let many: Vec<(String, String)> = (0..300).map(|i| (format!("many/{i}"), String::new())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let full = fake.commit(repo, "main", &many);
    let push = scene.facts_of_push("main", Some(&second), &full);
    // GitHub lists 300 files: both trees tell of all.
    let listed = scene.changed(&push).await;
    assert_eq!(listed.split(' ').filter(|path| path.starts_with("many/")).count(), 300);
    fake.finish();
}

#[tokio::test]
async fn refs_are_resolved_to_commits() {
    let Scene { fake, github, repo } = Scene::new().await;
    let sha = fake.commit(&repo, "main", &[("a", "1")]);
    fake.git(&repo).run(&["tag", "v1", &sha]).unwrap();
    let topic = fake.commit(&repo, "feature/odd#name", &[("a", "2")]);
    for (name, expected, full) in [
        ("main", &sha, "refs/heads/main"),
        ("v1", &sha, "refs/tags/v1"),
        ("refs/tags/v1", &sha, "refs/tags/v1"),
        ("feature/odd#name", &topic, "refs/heads/feature/odd#name"),
        (sha.as_str(), &sha, sha.as_str()),
    ] {
        let commit = github.resolve(&repo, name).await.unwrap();
        assert_eq!((&commit.sha, commit.git_ref.as_str(), commit.message.trim()), (expected, full, "Change a"));
    }
    assert_eq!(github.resolve(&repo, "nowhere").await, Err(ForgeError::NotFound("ref 'nowhere'".into())));
    assert!(github.resolve(&repo, "a\nb").await.is_err());
    fake.finish();
}

#[tokio::test]
async fn a_runner_fetches_with_a_token_for_this_repository_alone() {
    let Scene { fake, github, repo } = Scene::new().await;
    let other = fake.repo("acme/secret");
    let sha = fake.commit(&repo, "main", &[("a", "1")]);
    fake.commit(&other, "main", &[("a", "1")]);
    let checkout = github.checkout(&repo, &sha).await.unwrap();
    assert_eq!(checkout.url, format!("http://{}/acme/app.git", fake.address));
    let token = checkout.token.clone().unwrap();

    let fetch = async |url: &str| {
        let folder = tempfile::tempdir().unwrap();
        let git = fake_github::git::Git::init(folder.path().join("x.git"));
        let header = format!("http.extraHeader=Authorization: Bearer {token}");
        let (url, sha) = (url.to_owned(), sha.clone());
        tokio::task::spawn_blocking(move || git.run(&["-c", &header, "fetch", "--depth=1", &url, &sha]).is_some())
            .await
            .unwrap()
    };
    assert!(fetch(&checkout.url).await);
    assert!(!fetch(&format!("http://{}/acme/secret.git", fake.address)).await);
    assert!(matches!(github.checkout(&repo, "main").await, Err(ForgeError::Refused(_))));
    fake.finish();
}

#[tokio::test]
async fn a_check_run_is_created_found_again_and_updated_within_githubs_limits() {
    let Scene { fake, github, repo } = Scene::new().await;
    let sha = fake.commit(&repo, "main", &[("a", "1")]);
    let mut check = check(&sha);
    assert_eq!(github.find_check(&repo, &check).await, Ok(None));
    let note = |line| Annotation {
        path: "./a".into(),
        line,
        end_line: None,
        level: AnnotationLevel::Failure,
        title: Some("t".repeat(300)),
        message: String::new(),
    };
    check.annotations = (1..=60).map(note).collect();
    let id = github.create_check(&repo, &check).await.unwrap();
    for attempt in 2..=120 {
        let mut another = check.clone();
        another.external_id = format!("01run:test:{attempt}");
        another.annotations.clear();
        fake.world().checks.push(fake_github::Check {
            id: attempt,
            repo: repo.forge_id,
            annotations: vec![],
            updates: 0,
            body: serde_json::json!({ "name": another.name, "head_sha": sha, "external_id": another.external_id }),
        });
    }
    check.external_id = "01run:test:120".into();
    assert_eq!(github.find_check(&repo, &check).await, Ok(Some(120)), "on the second page");
    check.external_id = "01run:test:1".into();

    check.status = "completed".into();
    check.conclusion = Some("failure".into());
    check.started_at = Some(Timestamp(1_764_000_000_123));
    check.completed_at = Some(Timestamp(1_764_000_001_123));
    check.summary = "é".repeat(65_000);
    check.title = "x".repeat(1000);
    let button = CheckButton {
        label: "Retry the failed stages".into(),
        description: "d".repeat(60),
        identifier: "retry".into(),
    };
    check.actions = vec![button; 4];
    github.update_check(&repo, id, &check, &check.annotations[50..]).await.unwrap();
    let status = CommitStatus {
        context: "rivet/ci".into(),
        state: "failure".into(),
        description: "d".repeat(200),
        target_url: "http://127.0.0.1/".into(),
    };
    github.set_status(&repo, &sha, &status).await.unwrap();
    assert_eq!(fake.world().checks[0].annotations.len(), 60);
    fake.finish();
}

fn account(login: &str, id: i64) -> Account {
    Account { login: login.to_owned(), id, is_bot: false }
}

#[tokio::test]
async fn tokens_are_narrow_shared_and_renewed_when_revoked() {
    let Scene { fake, github, repo } = Scene::new().await;
    fake.permit(&repo, "ada", "write", 11);
    let all = futures::future::join_all((0..20).map(|_| github.permission(&repo, "ada"))).await;
    assert!(all.iter().all(|a| a == &Ok((Permission::Write, account("ada", 11)))));
    assert_eq!(fake.take_calls("access_tokens").len(), 1);
    fake.world().tokens.clear();
    assert_eq!(github.permission(&repo, "ada").await, Ok((Permission::Write, account("ada", 11))));
    assert_eq!(fake.take_calls("").len(), 3, "refused, a fresh token, answered");
    let nobody = |login: &str| Account { id: 0, ..account(login, 0) };
    assert_eq!(github.permission(&repo, "stranger").await, Ok((Permission::None, nobody("stranger"))));
    assert_eq!(github.permission(&repo, "../../x").await, Ok((Permission::None, nobody("../../x"))));
    let mut unknown = repo.clone();
    unknown.installation_id = None;
    assert_eq!(github.permission(&unknown, "ada").await, Ok((Permission::Write, account("ada", 11))));
    assert_eq!(github.verify().await.unwrap().slug, "rivet-test");
    assert_eq!(github.installations().await.unwrap()[0].account, "acme");
    fake.finish();
}

#[tokio::test]
async fn errors_say_whether_asking_again_helps() {
    let Scene { fake, github, repo } = Scene::new().await;
    fake.permit(&repo, "ada", "write", 11);
    github.permission(&repo, "ada").await.unwrap();
    let refuse = |status, headers: Vec<(&'static str, String)>, message| {
        fake.world().faults.refuse = Some((1, status, headers, message));
    };
    let ask = async || github.permission(&repo, "ada").await.map(|_| ());
    fake.world().faults.down = true;
    assert!(matches!(ask().await, Err(ForgeError::Unavailable(_))));
    fake.world().faults.down = false;
    refuse(403, vec![], "Resource not accessible by integration");
    assert!(matches!(ask().await, Err(ForgeError::Refused(_))));
    assert_eq!(ask().await, Ok(()));
    refuse(403, vec![("retry-after", "1".into())], "You have exceeded a secondary rate limit");
    let Err(ForgeError::RateLimited { until }) = ask().await else { panic!() };
    assert!(until.since(Timestamp::now()) <= 1000);
    fake.take_calls("");
    assert_eq!(ask().await, Err(ForgeError::RateLimited { until }), "silence without asking");
    assert_eq!(fake.take_calls("").len(), 0);
    fake.finish();
}

#[tokio::test]
async fn a_lost_answer_is_an_outage_and_never_a_second_call() {
    let Scene { fake, github, repo } = Scene::new().await;
    let sha = fake.commit(&repo, "main", &[("a", "1")]);
    fake.world().faults.lose_answers = 1;
    assert!(matches!(github.create_check(&repo, &check(&sha)).await, Err(ForgeError::Unavailable(_))));
    assert!(github.find_check(&repo, &check(&sha)).await.unwrap().is_some());
    assert_eq!(fake.take_calls("POST /repos/acme/app/check-runs").len(), 1);
    fake.finish();
}

#[tokio::test]
async fn a_pull_request_its_merge_its_comments_and_who_may_what() {
    let Scene { fake, github, repo } = Scene::new().await;
    let base = fake.commit(&repo, "main", &[("a", "1")]);
    let head = fake.commit(&repo, "topic", &[("b", "2")]);
    fake.world().hook = Some("http://127.0.0.1:9/".into());
    let number = fake.open_pull_request(&repo, "topic", false).await;
    assert_eq!(github.pull_request(&repo, number).await.unwrap().mergeable, None, "asked for, not worked out yet");
    let pull = github.pull_request(&repo, number).await.unwrap();
    assert_eq!((pull.facts.head_sha.as_str(), pull.facts.base_sha.as_str()), (head.as_str(), base.as_str()));
    assert_eq!((pull.author, pull.mergeable, pull.open), (account("ada", 11), Some(true), true));
    let merge = github.resolve(&repo, pull.merge_sha.as_deref().unwrap()).await.unwrap();
    assert!(merge.message.starts_with("Merge "), "{merge:?}");
    assert_eq!(github.open_pull_requests(&repo).await.unwrap().len(), 1);
    assert_eq!(github.pull_requests_of(&repo, &head).await.unwrap()[0].facts.number, number);
    assert_eq!(github.pull_requests_of(&repo, &"0".repeat(40)).await.unwrap(), vec![]);
    let refs = github.refs(&repo).await.unwrap();
    assert_eq!(refs, [("refs/heads/main".to_owned(), base.clone()), ("refs/heads/topic".to_owned(), head.clone())]);
    let between = github.commits_between(&repo, &base, &head).await.unwrap();
    assert_eq!((between.total, between.list[0].sha.as_str()), (1, head.as_str()));
    assert_eq!(between.files, Some(vec!["b".to_owned()]));

    let id = fake.write_comment(&repo, number, "ada", "/help");
    assert_eq!(github.comment(&repo, id).await.unwrap().author, account("ada", 11));
    github.react(&repo, id, Reaction::Eyes).await.unwrap();
    github.react(&repo, id, Reaction::Eyes).await.unwrap();
    let ours = github.post_comment(&repo, number, "Hello.").await.unwrap();
    github.edit_comment(&repo, ours, "Hello again.").await.unwrap();
    assert_eq!(github.comments(&repo, number).await.unwrap().len(), 2);
    insta::assert_snapshot!(fake.conversation(&repo, number), @r"
    ada: /help [eyes]
    rivet-test[bot] (edited 1 times): Hello again.
    ");

    fake.team("acme", "release", &["ada"]);
    assert_eq!(github.is_team_member(&repo, "acme", "release", "ada").await, Ok(true));
    assert_eq!(github.is_team_member(&repo, "acme", "release", "eve").await, Ok(false));
    assert_eq!(github.is_team_member(&repo, "acme", "../x", "ada").await, Ok(false));
    fake.finish();
}

#[tokio::test]
async fn a_deployment_is_found_again_and_a_delivery_asked_for_again() {
    let Scene { fake, github, repo } = Scene::new().await;
    let sha = fake.commit(&repo, "main", &[("a", "1")]);
    let wanted = Deployment {
        external_id: "01x:1".into(),
        environment: "production".into(),
        sha: sha.clone(),
        description: "Run 1".into(),
        production: true,
        task: "deploy".into(),
    };
    fake.world().faults.lose_answers = 1;
    assert!(github.create_deployment(&repo, &wanted).await.is_err());
    let id = github.find_deployment(&repo, &wanted).await.unwrap().unwrap();
    let status = DeploymentStatus {
        state: "in_progress".into(),
        description: "It runs.".into(),
        log_url: "http://127.0.0.1/runs/1".into(),
    };
    github.set_deployment_status(&repo, id, &status).await.unwrap();
    insta::assert_snapshot!(fake.deployments(&repo), @"production deploy Run 1: in_progress");

    for _ in 0..101 {
        fake.deliver("push", &fake.push_payload(&repo, "main", None, &sha)).await;
    }
    let (first, next) = github.deliveries(None).await.unwrap();
    assert_eq!((first.len(), first[0].status_code, first[0].event.as_str()), (100, 0, "push"));
    let (rest, end) = github.deliveries(next.as_deref()).await.unwrap();
    assert_eq!((rest.len(), end), (1, None));
    github.redeliver(rest[0].id).await.unwrap();
    assert_eq!(fake.world().wanted_again[0].guid, rest[0].guid);
    let payload = github.delivered_payload(rest[0].id).await.unwrap();
    assert_eq!(payload["after"], sha.as_str());
    fake.finish();
}
