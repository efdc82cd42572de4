//! Installations and repositories come, go, rest and get other names.

use crate::conversation::{Rivet, conversations, text};
use crate::fake_github::INSTALLATION;
use crate::{ANY, built};
use serde_json::{Value, json};

conversations!(
    a_suspended_installation_is_left_alone_until_it_is_given_back,
    a_removed_installation_ends_what_was_to_be_told,
    a_renamed_repository_keeps_its_runs_and_its_old_name,
    an_archived_repository_starts_nothing_and_a_deleted_one_ends,
    every_example_that_github_publishes_is_kept_and_decided_about,
);

async fn tell_installation(rivet: &Rivet, action: &str) {
    let payload = json!({
        "action": action, "repositories": [],
        "installation": { "id": INSTALLATION, "account": { "login": "acme", "id": 1 } },
        "sender": { "login": "ada", "id": 11 },
    });
    rivet.github.deliver("installation", &payload).await;
    rivet.settle().await;
}

async fn last_errors(rivet: &Rivet, run: &str) -> Vec<String> {
    let run = rivet::model::ids::RunId(run.to_owned());
    let reports = rivet.context.store.read().await.unwrap().reports_of(&run).await.unwrap();
    reports.into_iter().filter_map(|report| report.last_error).collect()
}

async fn a_suspended_installation_is_left_alone_until_it_is_given_back(rivet: Rivet) {
    let two = r#"
return pipeline.define({ stages = {
    { name = "build", script = function() process.run("make") end },
    { name = "test", script = function() process.run("make test") end },
} })
"#;
    let sha = rivet.push("main", &[Rivet::pipeline(two)]).await;
    let job = rivet.claim(1).await.remove(0);
    rivet.start(&job).await;
    tell_installation(&rivet, "suspend").await;
    rivet.github.take_calls("");
    // What runs goes on and ends; nothing is asked and nothing is told.
    rivet.end(&job, "succeeded", json!({})).await;
    rivet.settle().await;
    assert_eq!(rivet.claim(1).await.len(), 0, "the next stage waits");
    assert_eq!(rivet.github.take_calls(""), Vec::<String>::new());
    let errors = last_errors(&rivet, &rivet.run_id(1).await).await;
    assert!(errors.iter().all(|e| e == "not told: installation 7 of the App is suspended"), "{errors:?}");
    assert!(!errors.is_empty());
    let (_, answer) = rivet.github.deliver("push", &rivet.github.push_payload(&rivet.repo, "main", None, &sha)).await;
    assert_eq!(text(&answer["reason"]), "installation 7 is not active");

    tell_installation(&rivet, "unsuspend").await;
    built(&rivet).await;
    insta::assert_snapshot!(rivet.checks(&sha), @"
    ci / build: completed success: It succeeded
    ci / test: completed success: It succeeded
    rivet/ci: success: Every stage succeeded.
    ");
    rivet.finish().await;
}

async fn a_removed_installation_ends_what_was_to_be_told(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    let run = rivet.run_id(1).await;
    tell_installation(&rivet, "deleted").await;
    assert_eq!(rivet.claim(1).await.len(), 0);
    let errors = last_errors(&rivet, &run).await;
    let run = rivet.api("GET", &format!("/api/v1/runs/{run}"), None).await.1;
    insta::assert_snapshot!(format!("{}: {}", text(&run["state"]), text(&run["reason"])), @"cancelled: The App's installation was removed.");
    assert!(errors.iter().all(|e| e == "not told: installation 7 of the App was removed"), "{errors:?}");
    assert!(!errors.is_empty());
    rivet.finish().await;
}

async fn a_renamed_repository_keeps_its_runs_and_its_old_name(rivet: Rivet) {
    rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    built(&rivet).await;
    let mut payload = rivet.github.common(&rivet.repo);
    payload["action"] = "renamed".into();
    payload["repository"]["name"] = "new".into();
    payload["repository"]["full_name"] = "acme/new".into();
    rivet.github.deliver("repository", &payload).await;
    rivet.settle().await;
    let (status, runs) = rivet.api("GET", "/api/v1/runs?repo=acme/app", None).await;
    assert_eq!((status, text(&runs["items"][0]["repo"])), (200, "acme/new".to_owned()));
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for path in ["/api/v1/repos/acme/app", "/api/v1/repos/acme/app/pipelines?ref=main"] {
        let request = client.get(format!("{}{path}", rivet.url)).bearer_auth(crate::conversation::ADMIN);
        let response = request.send().await.unwrap();
        let to = response.headers().get("location").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        assert_eq!((response.status().as_u16(), to), (308, path.replace("acme/app", "acme/new")), "{path}");
    }
    // Somebody else takes the old name: it is theirs.
    let mut payload = rivet.github.common(&rivet.repo);
    payload["action"] = "created".into();
    payload["repository"]["id"] = 99_999.into();
    rivet.github.deliver("repository", &payload).await;
    rivet.settle().await;
    let (status, found) = rivet.api("GET", "/api/v1/repos/acme/app", None).await;
    assert_eq!((status, text(&found["id"])), (200, "github:99999".to_owned()));
    rivet.finish().await;
}

async fn an_archived_repository_starts_nothing_and_a_deleted_one_ends(rivet: Rivet) {
    let sha = rivet.push("main", &[Rivet::pipeline(ANY)]).await;
    let tell = async |action: &str| {
        let mut payload = rivet.github.common(&rivet.repo);
        payload["action"] = action.into();
        rivet.github.deliver("repository", &payload).await;
        rivet.settle().await;
    };
    tell("archived").await;
    rivet.github.deliver("push", &rivet.github.push_payload(&rivet.repo, "main", None, &sha)).await;
    rivet.settle().await;
    let listed = rivet.api("GET", "/api/v1/deliveries?limit=1", None).await.1;
    assert_eq!(text(&listed["items"][0]["reason"]), "the repository is archived");
    tell("unarchived").await;
    rivet.github.deliver("push", &rivet.github.push_payload(&rivet.repo, "main", None, &sha)).await;
    rivet.settle().await;
    tell("deleted").await;
    insta::assert_snapshot!(rivet.runs().await.lines().filter(|l| l.starts_with('#')).collect::<Vec<_>>().join("\n"), @"
    #1 ci push cancelled: The repository was deleted.
    #2 ci push cancelled: The repository was deleted.
    ");
    rivet.wait(7200);
    rivet.finish().await;
}

async fn every_example_that_github_publishes_is_kept_and_decided_about(rivet: Rivet) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/github/webhooks");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() > 120);
    for path in &names {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let payload: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let (status, answer) = rivet.github.deliver(name.split('.').next().unwrap(), &payload).await;
        assert!(matches!(status, 200 | 202), "{name}: {status} {answer}");
    }
    rivet.settle().await;
    // Nothing is left to be looked at once more but what the forge was asked about and does not know.
    for _ in 0..8 {
        rivet.wait(120);
        rivet.settle().await;
    }
    let mut listed = vec![];
    let mut cursor = String::new();
    loop {
        let page = rivet.api("GET", &format!("/api/v1/deliveries?limit=100{cursor}"), None).await.1;
        listed.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(listed.len(), names.len(), "every one is kept");
    assert!(listed.iter().all(|delivery| delivery["state"] != "pending"), "{listed:?}");
    rivet.github.world().violations.clear();
}
