//! From nothing to an App in use: claimed once, made on GitHub from a manifest, brought back once.

use crate::browser::{Browser, Page};
use crate::databases::Kind;
use crate::world::{ADMIN, Instance, World, on_both_databases};
use rivet::actions::setup::token::{self, FirstStart, at_start};
use rivet::engine::app;
use rivet::model::role::Role;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

on_both_databases!(
    the_first_start_makes_one_token_for_everybody,
    only_the_token_claims_and_only_once,
    a_lost_token_is_made_again,
    an_app_is_made_on_github_and_used_without_a_restart,
    the_way_back_is_good_once_for_the_browser_that_left,
    an_answer_that_never_came_may_be_asked_for_again,
    a_webhook_secret_github_does_not_make_is_made_here,
    what_cannot_be_sent_to_github_is_said_at_once,
    the_page_is_the_admins,
);

async fn token_of(instance: &Instance) -> String {
    match at_start(&instance.context, rivet::model::time::Timestamp::now()).await.unwrap() {
        FirstStart::Token(token) => token,
        other => panic!("{other:?}"),
    }
}

/// Claims an instance as its first visitor.
async fn claimed(instance: &Instance) -> Browser {
    let mut browser = Browser::new();
    let page = browser.post(instance, "/setup/claim", &[("token", &token_of(instance).await)]).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/setup"), "{}", page.text);
    browser.keep(&page);
    browser
}

/// Fills in the form of a new App; the page that leaves for GitHub.
async fn leave(browser: &Browser, instance: &Instance, world: &World, organization: &str) -> Page {
    let (csrf, host) = (browser.csrf(instance).await, format!("http://{}", world.github.address));
    let fields = [("csrf", csrf.as_str()), ("organization", organization), ("host", &host)];
    let page = browser.post(instance, "/setup/app", &fields).await;
    assert_eq!(page.status, 200, "{}", page.text);
    page
}

/// Leaves for GitHub and confirms there; the path GitHub sends the browser back to.
async fn confirmed(browser: &Browser, instance: &Instance, world: &World) -> String {
    let page = leave(browser, instance, world, "acme").await;
    let (action, manifest) =
        (page.attribute("<form method=\"post\" action=\"http"), page.attribute("name=\"manifest\" value=\""));
    let back = browser.post_away(&format!("http{action}"), &[("manifest", &manifest)]).await;
    back.strip_prefix(&instance.url).unwrap_or_else(|| panic!("{back}")).to_owned()
}

async fn the_first_start_makes_one_token_for_everybody(world: World) {
    let one = world.instance("one").await;
    let token = token_of(&one).await;
    let file = token::file(&one.context.config.data_dir);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), token);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(token_of(&one).await, token, "the next start says the same");
    if world.kind == Kind::Postgres {
        let two = world.instance("two").await;
        let found = at_start(&two.context, world.now()).await.unwrap();
        assert_eq!(found, FirstStart::Elsewhere);
        assert!(!token::file(&two.context.config.data_dir).exists());
        let page = Browser::new().post(&two, "/setup/claim", &[("token", &token)]).await;
        assert_eq!(page.status, 303, "every instance takes it");
        assert_eq!(at_start(&one.context, world.now()).await.unwrap(), FirstStart::Nothing);
        assert!(!file.exists(), "what opens nothing is not left lying about");
    }
    // With an App of the settings there is nothing to set up.
    let config = world.github.config();
    let three = world.instance_with("three", |settings| settings.github = Some(config)).await;
    assert_eq!(at_start(&three.context, world.now()).await.unwrap(), FirstStart::Nothing);
}

async fn only_the_token_claims_and_only_once(world: World) {
    let one = world.instance("one").await;
    let token = token_of(&one).await;
    let (mut first, second) = (Browser::new(), Browser::new());
    // Looking uses nothing up.
    for path in ["/setup".to_owned(), format!("/setup?token={token}")] {
        assert_eq!(first.get(&one, &path).await.status, 200);
    }
    assert_eq!(
        first
            .get(&one, &format!("/setup?token={token}"))
            .await
            .attribute("type=\"password\" autocomplete=\"off\" required value=\""),
        token
    );
    for wrong in ["", "rvs_", &token[..token.len() - 1], &format!("{token}0"), ADMIN] {
        let page = second.post(&one, "/setup/claim", &[("token", wrong)]).await;
        assert_eq!((page.status, page.set_cookie.as_str()), (403, ""), "{wrong}");
        assert!(page.alert().starts_with("This is not the set-up token, or it was used already."), "{}", page.alert());
    }
    let page = second.post_from("https://evil.test", &one, "/setup/claim", &[("token", &token)]).await;
    assert_eq!(page.status, 403);

    let page = first.post(&one, "/setup/claim", &[("token", &token)]).await;
    assert_eq!(page.status, 303);
    assert!(page.set_cookie.contains("HttpOnly") && page.set_cookie.contains("SameSite=Lax"), "{}", page.set_cookie);
    first.keep(&page);
    assert_eq!(first.get(&one, "/setup").await.status, 200);
    assert_eq!(
        second.post(&one, "/setup/claim", &[("token", &token)]).await.status,
        403,
        "a second visitor is too late"
    );
    assert_eq!(second.get(&one, &format!("/setup?token={token}")).await.status, 403);
    let page = second.get(&one, "/setup").await;
    assert_eq!((page.status, page.location.as_str()), (303, "/sign-in?next=%2Fsetup"));
    assert_eq!(at_start(&one.context, world.now()).await.unwrap(), FirstStart::Nothing);
}

async fn a_lost_token_is_made_again(world: World) {
    let one = world.instance("one").await;
    let old = token_of(&one).await;
    let data_dir = one.context.config.data_dir.clone();
    let new = token::renew(world.store(), &data_dir, world.now()).await.unwrap();
    let browser = Browser::new();
    assert_eq!(browser.post(&one, "/setup/claim", &[("token", &old)]).await.status, 403);
    assert_eq!(browser.post(&one, "/setup/claim", &[("token", &new)]).await.status, 303);
    // After the claim, too: whoever has the data directory of an embedded instance is let in.
    let third = token::renew_in_file(&data_dir).unwrap();
    let expected = if world.kind == Kind::Sqlite { 303 } else { 403 };
    assert_eq!(browser.post(&one, "/setup/claim", &[("token", &third)]).await.status, expected);
    assert_eq!(browser.post(&one, "/setup/claim", &[("token", &third)]).await.status, 403);
}

fn it_says_what_it_asks_for(start: &Page) {
    let permissions = start.shown("Permissions it asks for", "</table>");
    insta::allow_duplicates! { insta::assert_snapshot!(permissions, @"
    PermissionAccessWhy
    Metadata read Names of repositories, and what a person may do there, asked whenever somebody approves.
    Contents read Reads .rivet/ at the commit; runners fetch the commit with a token for that one repository.
    Checks write Shows every stage as a check run, with its result, annotations and buttons.
    Commit statuses write Sets one status for each pipeline, which branch protection can require.
    Pull requests write Reads head, base and author of pull requests; answers comment commands there.
    Issues write Reads comments, where commands are written, and puts a receipt on them.
    Deployments write Shows what stages with an environment deployed.
    Members (organisation) read Tells who is in a team that is named as reviewer.
    Merge queues read Hears that a merge queue asks for checks.
    "); }
    let events = start.shown("Events it is told", "</table>");
    insta::allow_duplicates! { insta::assert_snapshot!(events, @"
    EventWhy
    push Commits and tags start pipelines.
    pull_request Pull requests start pipelines.
    check_run Buttons of check runs: Re-run, Approve, Cancel.
    check_suite Re-run all checks.
    issue_comment Comment commands such as /approve and /retry.
    merge_group Merge queues ask for checks.
    repository Renames and transfers are followed.
    repository_dispatch Other programs start pipelines through GitHub.
    "); }
}

/// Nothing of it is legible in the database, nor shown.
async fn nothing_is_legible(world: &World) {
    let mut tx = world.store().read().await.unwrap();
    for (_, sealed) in tx.sealed_otherwise("", 100).await.unwrap() {
        let text = String::from_utf8_lossy(&sealed.value).into_owned();
        assert!(!text.contains("PRIVATE KEY") && !text.contains(crate::fake_github::WEBHOOK_SECRET));
    }
    assert_eq!(tx.sealed_by_key().await.unwrap(), vec![(world.keys().id(), 3)]);
    let audited: Vec<String> = tx.audit_actions("instance").await.unwrap();
    assert_eq!(audited, ["setup.claim", "setup.app_connected"]);
    drop(tx);
}

async fn an_app_is_made_on_github_and_used_without_a_restart(world: World) {
    let one = world.instance("one").await;
    let two = world.instance("two").await;
    let browser = claimed(&one).await;
    let start = browser.get(&one, "/setup").await;
    it_says_what_it_asks_for(&start);
    assert!(start.text.contains("which GitHub cannot reach"), "the address is this machine's own");

    let page = leave(&browser, &one, &world, "acme").await;
    let github = format!("http://{}", world.github.address);
    let action = page.attribute("<form method=\"post\" action=\"http");
    assert!(format!("http{action}").starts_with(&format!("{github}/organizations/acme/settings/apps/new?state=")));
    assert!(page.policy.contains(&format!("form-action 'self' {github};")), "{}", page.policy);
    let own = leave(&browser, &one, &world, "").await.attribute("<form method=\"post\" action=\"http");
    assert!(format!("http{own}").starts_with(&format!("{github}/settings/apps/new?state=")), "{own}");
    assert!(!start.policy.contains(&github));

    assert!(page.text.contains("for the organisation <strong>acme</strong>"), "{}", page.text);
    let back = confirmed(&browser, &one, &world).await;
    assert!(back.starts_with("/setup/created?code="), "{back}");
    let (path, manifest) = world.github.world().app.manifest.clone().unwrap();
    assert_eq!(path, "/organizations/acme/settings/apps/new");
    assert_eq!(manifest["hook_attributes"]["url"], Value::from(format!("{}/webhooks/github", one.url)));
    assert_eq!(manifest["public"], false);
    let page = browser.get(&one, &back).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/setup?done=connected"), "{}", page.alert());

    // In use at once here, and elsewhere at the next look.
    assert_eq!(world.deliver(&one).await, 200);
    assert_eq!(world.deliver(&two).await, 404);
    app::pass(&two.context, world.now()).await.unwrap();
    assert_eq!(world.deliver(&two).await, 200);
    world.github.connect(&one.url);
    world.github.world().app.installed = false;
    let page = browser.get(&one, &page.location).await;
    assert!(page.text.contains("The App is in use, in every instance, without a restart."));
    assert!(page.text.contains(&format!("href=\"{github}/apps/rivet-test/installations/new\"")), "{}", page.text);
    assert!(page.text.contains("Nobody yet."));
    world.github.world().app.installed = true;
    let installed = browser.get(&one, "/setup").await.shown("Installed for", "</table>");
    insta::allow_duplicates! { insta::assert_snapshot!(installed, @"
    1
    acme selected repositories active Choose repositories
    "); }

    nothing_is_legible(&world).await;
    assert!(!page.text.contains("PRIVATE KEY-----\n") && !page.text.contains(crate::fake_github::WEBHOOK_SECRET));

    // A restart finds it.
    let three = world.instance("three").await;
    assert_eq!(world.deliver(&three).await, 200);
    world.github.finish();
}

async fn the_way_back_is_good_once_for_the_browser_that_left(world: World) {
    let one = world.instance("one").await;
    let browser = claimed(&one).await;
    let back = confirmed(&browser, &one, &world).await;
    let (code, state) = back.split_once("&state=").unwrap();
    let refused = |page: Page| {
        assert_eq!(page.status, 422, "{}", page.location);
        page.alert()
    };
    // Somebody else's session, or another state: nothing happens, and GitHub is not asked.
    world.github.take_calls("");
    let other = Browser::admin(&one).await;
    let said = refused(other.get(&one, &back).await);
    assert!(said.contains("used before, took more than an hour, or was begun in another browser"), "{said}");
    for wrong in ["", "0", &state[1..], &format!("{state}0")] {
        refused(browser.get(&one, &format!("{code}&state={wrong}")).await);
    }
    assert_eq!(Browser::new().get(&one, &back).await.location.split('?').next(), Some("/sign-in"));
    assert_eq!(world.github.take_calls("conversions"), Vec::<String>::new());

    // A code GitHub does not know uses the state up.
    let second = confirmed(&browser, &one, &world).await;
    let (_, second_state) = second.split_once("&state=").unwrap();
    let said = refused(browser.get(&one, &format!("/setup/created?code=expired&state={second_state}")).await);
    assert!(said.starts_with("GitHub does not know this code: it is good once and for an hour."), "{said}");
    refused(browser.get(&one, &second).await);
    let hostile = confirmed(&browser, &one, &world).await;
    let (_, hostile_state) = hostile.split_once("&state=").unwrap();
    world.github.take_calls("");
    refused(browser.get(&one, &format!("/setup/created?code=..%2F..%2Fapp&state={hostile_state}")).await);
    assert_eq!(world.github.take_calls("conversions"), Vec::<String>::new(), "it is not made part of an address");
    // An hour is the limit.
    let third = confirmed(&browser, &one, &world).await;
    world.sql("UPDATE setup_state SET expires_at = 1 WHERE expires_at > 1").await;
    refused(browser.get(&one, &third).await);
    assert_eq!(world.deliver(&one).await, 404, "nothing was kept");

    let fourth = confirmed(&browser, &one, &world).await;
    assert_eq!(browser.get(&one, &fourth).await.status, 303);
    let again = browser.get(&one, &fourth).await;
    assert!(refused(again).contains("was used before"));
    assert_eq!(world.deliver(&one).await, 200, "what is in use stays in use");
    // There is one App, so nobody leaves for another.
    let csrf = browser.csrf(&one).await;
    let page = browser.post(&one, "/setup/app", &[("csrf", &csrf)]).await;
    assert!(page.alert().starts_with("There is an App already."), "{}", page.alert());
    world.github.finish();
}

async fn an_answer_that_never_came_may_be_asked_for_again(world: World) {
    let one = world.instance("one").await;
    let browser = claimed(&one).await;
    let back = confirmed(&browser, &one, &world).await;
    world.github.world().faults.down = true;
    let page = browser.get(&one, &back).await;
    assert_eq!(page.status, 422);
    assert!(page.alert().ends_with("Load this page again in a moment: the code is still good."), "{}", page.alert());
    world.github.world().faults.down = false;
    assert_eq!(browser.get(&one, &back).await.location, "/setup?done=connected");
    world.github.finish();
}

async fn a_webhook_secret_github_does_not_make_is_made_here(world: World) {
    let one = world.instance("one").await;
    let browser = claimed(&one).await;
    world.github.world().app.made_with_secret = None;
    let back = confirmed(&browser, &one, &world).await;
    assert_eq!(browser.get(&one, &back).await.location, "/setup?done=connected");
    assert_ne!(world.github.world().app.secret, crate::fake_github::WEBHOOK_SECRET);
    assert_eq!(world.deliver(&one).await, 200);
    world.github.finish();
}

async fn what_cannot_be_sent_to_github_is_said_at_once(world: World) {
    let one = world.instance("one").await;
    let browser = claimed(&one).await;
    let csrf = browser.csrf(&one).await;
    let long = "n".repeat(35);
    let fields =
        [("csrf", csrf.as_str()), ("organization", "a/../b"), ("name", &long), ("host", "http://github.example.org")];
    let page = browser.post(&one, "/setup/app", &fields).await;
    assert_eq!(page.status, 422);
    insta::allow_duplicates! { insta::assert_snapshot!(page.alert(), @"
    'a/../b' cannot be an organisation's login; for example acme.
    The name may have at most 34 characters.
    'http://github.example.org' must be reached by https.
    "); }
    assert!(page.text.contains("value=\"http://github.example.org\""), "what was typed is still there");
    for (origin, csrf) in
        [("https://evil.test", csrf.as_str()), ("null", &csrf), (one.url.as_str(), ""), (&one.url, "0123")]
    {
        let page = browser.post_from(origin, &one, "/setup/app", &[("csrf", csrf)]).await;
        assert_eq!(page.status, 403, "{origin}");
    }
    // Without a key for secrets nobody is sent away for an App that could not be kept.
    let two = world.instance_with("two", |config| config.secret_key = None).await;
    let browser = Browser::admin(&two).await;
    let csrf = browser.csrf(&two).await;
    let page = browser.post(&two, "/setup/app", &[("csrf", &csrf)]).await;
    assert!(page.alert().starts_with("There is no key for secrets at rest; set RIVET_SECRET_KEY"), "{}", page.alert());
    // Where GitHub is may be the settings' business.
    let hosts = world.hosts();
    let three = world.instance_with("three", |config| config.github_hosts = Some(hosts)).await;
    let browser = Browser::admin(&three).await;
    let page = leave(&browser, &three, &world, "").await;
    assert!(page.policy.contains(&world.github.address.to_string()));
}

async fn the_page_is_the_admins(world: World) {
    let one = world.instance("one").await;
    let viewer = world.session(&one, Role::User).await;
    for path in ["/setup", "/setup/created?code=1&state=1"] {
        assert_eq!(viewer.get(&one, path).await.status, 403, "{path}");
    }
    let csrf = viewer.get(&one, "/").await.attribute("name=\"csrf\" value=\"");
    for path in ["app", "test", "hook", "webhook-secret", "disconnect"] {
        let page = viewer.post(&one, &format!("/setup/{path}"), &[("csrf", &csrf), ("sure", "yes")]).await;
        assert_eq!(page.status, 403, "{path}");
    }
    for path in ["connect", "key"] {
        assert_eq!(viewer.post_files(&one, &format!("/setup/{path}"), &[("csrf", &csrf)]).await.status, 403, "{path}");
    }
    // Another address than the settings' is said, and never believed.
    let two = world.instance_with("two", |config| config.public_url = "https://ci.example.org".parse().unwrap()).await;
    token_of(&two).await;
    let page = Browser::new().get(&two, "/setup").await;
    assert!(page.text.contains("the settings say <code>https://ci.example.org</code>"), "{}", page.text);
    let page = Browser::new().post(&two, "/setup/claim", &[("token", "x")]).await;
    assert!(page.text.contains("Set RIVET_PUBLIC_URL to the address people"), "{}", page.text);
}
