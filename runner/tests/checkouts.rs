//! The commit in the workspace, also out of repositories made to do harm.

mod support;

use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{Checkout, Conclusion, Job};
use support::{FakeServer, Repo, TestRunner, job};

async fn run(job: Job) -> (Result<(), (ErrorClass, String)>, String) {
    let server = FakeServer::start().await;
    server.queue(job);
    let runner = TestRunner::start(&server);
    let outcome = server.finished("j1").await.outcome;
    runner.end().await;
    let result = match outcome.error {
        None => Ok(()),
        Some(error) => Err((error.class, error.message)),
    };
    assert_eq!(result.is_ok(), outcome.conclusion == Conclusion::Succeeded);
    (result, server.log("j1"))
}

#[tokio::test]
async fn an_older_commit_is_checked_out_exactly() {
    let repo = Repo::new(&[("version", "one\n")]);
    let first = repo.sha.clone();
    repo.git(&["commit", "--quiet", "--allow-empty", "--message", "second"]);
    let checkout = Checkout { url: repo.url(), sha: first.clone(), token: None };
    let (result, log) = run(Job { checkout: Some(checkout), ..job("j1", &["git rev-parse HEAD"]) }).await;
    assert_eq!(result, Ok(()), "{log}");
    assert!(log.ends_with(&format!("{first}\n")), "{log}");
}

#[tokio::test]
async fn a_commit_only_an_odd_ref_names_is_found() {
    let repo = Repo::new(&[("a", "b")]);
    repo.git(&["checkout", "--quiet", "-b", "aside"]);
    repo.git(&["commit", "--quiet", "--allow-empty", "--message", "aside"]);
    let sha = repo.git(&["rev-parse", "HEAD"]).trim().to_owned();
    repo.git(&["update-ref", "refs/pull/5/head", &sha]);
    repo.git(&["checkout", "--quiet", "main"]);
    repo.git(&["branch", "--quiet", "-D", "aside"]);
    repo.git(&["commit", "--quiet", "--allow-empty", "--message", "on main"]);
    let checkout = Checkout { url: repo.url(), sha, token: None };
    let (result, log) = run(Job { checkout: Some(checkout), ..job("j1", &["git log --format=%s -1"]) }).await;
    assert_eq!(result, Ok(()), "{log}");
    assert!(log.ends_with("aside\n"), "{log}");
}

#[tokio::test]
async fn a_commit_that_is_nowhere_is_the_machinerys_failure() {
    let repo = Repo::new(&[("a", "b")]);
    let checkout = Checkout { url: repo.url(), sha: "0123456789".repeat(4), token: None };
    let (result, _) = run(Job { checkout: Some(checkout), ..job("j1", &["echo never"]) }).await;
    assert_eq!(result.expect_err("no such commit").0, ErrorClass::InfraError);
}

#[tokio::test]
async fn options_in_the_place_of_a_commit_or_an_address_are_refused() {
    let repo = Repo::new(&[("a", "b")]);
    for (url, sha) in [
        (repo.url(), "--upload-pack=touch /tmp/pwned".to_owned()),
        (repo.url(), "main".to_owned()),
        ("ext::sh -c 'touch pwned'".to_owned(), repo.sha.clone()),
        ("--upload-pack=id".to_owned(), repo.sha.clone()),
    ] {
        let checkout = Checkout { url, sha, token: None };
        let (result, _) = run(Job { checkout: Some(checkout), ..job("j1", &["true"]) }).await;
        assert!(result.expect_err("it is refused").1.starts_with("checkout refused"));
    }
}

#[tokio::test]
async fn what_a_repository_brings_along_is_not_run() {
    // A bare repository inside, whose settings name a program; a hook and a filter that would run on checkout.
    let repo = Repo::new(&[
        ("inner/HEAD", "ref: refs/heads/main\n"),
        ("inner/config", "[core]\n\tbare = true\n\tfsmonitor = \"touch ../../../../pwned\"\n"),
        ("inner/objects/x", ""),
        ("inner/refs/x", ""),
        (".gitattributes", "* filter=evil\n"),
        (".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = https://127.0.0.1:1/s\n"),
    ]);
    let job = Job { checkout: repo.checkout(), ..job("j1", &["ls inner", "test ! -e ../../../pwned"]) };
    let (result, log) = run(job).await;
    assert_eq!(result, Ok(()), "{log}");
}

#[tokio::test]
async fn objects_made_to_do_harm_are_refused() {
    let repo = Repo::new(&[(".gitmodules", "[submodule \"s\"]\n\tpath = s\n\turl = -u./pwned\n")]);
    let (result, _) = run(Job { checkout: repo.checkout(), ..job("j1", &["true"]) }).await;
    let (class, message) = result.expect_err("it is refused");
    assert_eq!(class, ErrorClass::InfraError);
    assert!(message.contains("disallowed submodule url"), "{message}");
}

#[tokio::test]
async fn names_from_outside_reach_the_shell_as_values() {
    let mut job = job("j1", &["printf '%s|%s\\n' \"$RIVET_BRANCH\" \"$RIVET_VALUE_1\""]);
    job.event.branch = Some("$(touch pwned);`id`".into());
    job.run_values = [("RIVET_VALUE_1".to_owned(), "a; rm -rf /".to_owned())].into();
    let (result, log) = run(job).await;
    assert_eq!(result, Ok(()));
    assert!(log.ends_with("$(touch pwned);`id`|a; rm -rf /\n"), "{log}");
}
