//! The page of an App in use: what GitHub says about it, whether deliveries arrive, and every change.

use crate::browser::Browser;
use crate::fake_github::app::OTHER_PRIVATE_KEY;
use crate::fake_github::{APP_ID, PRIVATE_KEY, WEBHOOK_SECRET};
use crate::world::{Instance, World, on_both_databases};
use rivet::engine::app;

on_both_databases!(
    an_existing_app_is_tried_before_it_is_kept,
    what_the_app_lacks_is_said_with_what_does_not_work,
    a_test_delivery_tells_what_becomes_of_it,
    secrets_and_keys_are_changed_on_the_page,
    an_app_of_the_settings_is_shown_and_not_changed,
);

/// An admin at an instance that uses the App.
async fn connected(world: &World) -> (Instance, Browser) {
    let one = world.instance("one").await;
    let browser = Browser::admin(&one).await;
    let fields = form(world, &browser.csrf(&one).await, PRIVATE_KEY, WEBHOOK_SECRET);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let page = browser.post_files(&one, "/setup/connect", &fields).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/setup?done=connected"), "{}", page.alert());
    world.github.connect(&one.url);
    (one, browser)
}

fn form(world: &World, csrf: &str, key_file: &str, secret: &str) -> Vec<(&'static str, String)> {
    vec![
        ("csrf", csrf.to_owned()),
        ("app_id", APP_ID.to_string()),
        ("private_key_file", key_file.to_owned()),
        ("private_key", String::new()),
        ("webhook_secret", secret.to_owned()),
        ("host", format!("http://{}", world.github.address)),
    ]
}

async fn an_existing_app_is_tried_before_it_is_kept(world: World) {
    let one = world.instance("one").await;
    let browser = Browser::admin(&one).await;
    let csrf = browser.csrf(&one).await;
    let send = async |key: &str, secret: &str, csrf: &str| {
        let fields = form(&world, csrf, key, secret);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.post_files(&one, "/setup/connect", &fields).await
    };
    let wrong = send("not a key", "short", &csrf).await;
    assert_eq!(wrong.status, 422);
    insta::allow_duplicates! { insta::assert_snapshot!(wrong.alert(), @"
    The webhook secret needs at least 32 bytes, got 5. Set a new one in the App's settings on GitHub, for example the output of: openssl rand -hex 32
    The private key cannot be read (InvalidKeyFormat). Paste the whole file GitHub gave you, with its BEGIN and END lines, or choose the file.
    "); }
    assert!(wrong.text.contains(&format!("required value=\"{APP_ID}\"")) && !wrong.text.contains("not a key"));
    let wrong = send(OTHER_PRIVATE_KEY, WEBHOOK_SECRET, &csrf).await;
    assert!(wrong.alert().contains("does not accept App 99 with this key"), "{}", wrong.alert());
    assert_eq!(send(PRIVATE_KEY, WEBHOOK_SECRET, "0").await.status, 403);
    assert_eq!(send(&"x".repeat(40_000), WEBHOOK_SECRET, &csrf).await.status, 400);
    assert_eq!(world.deliver(&one).await, 404);
    assert_eq!(send(PRIVATE_KEY, WEBHOOK_SECRET, &csrf).await.location, "/setup?done=connected");
    assert_eq!(world.deliver(&one).await, 200);
    let again = send(PRIVATE_KEY, WEBHOOK_SECRET, &csrf).await;
    assert!(again.status == 422 && again.alert().starts_with("There is an App already"), "{}", again.alert());
    world.github.finish();
}

async fn what_the_app_lacks_is_said_with_what_does_not_work(world: World) {
    let (one, browser) = connected(&world).await;
    let shown = async || {
        let text = browser.get(&one, "/setup").await.shown("How GitHub sees it", "</ul>");
        text.replace(&world.github.address.to_string(), "GITHUB").replace(&one.url, "RIVET")
    };
    let text = shown().await;
    insta::allow_duplicates! { insta::assert_snapshot!(text, @"
    app http://GITHUB/api/v3 knows Rivet Test (App 99)
    permissions it has every permission Rivet uses
    events it is told everything Rivet uses
    webhook deliveries go to RIVET/webhooks/github
    "); }
    {
        let mut world = world.github.world();
        world.app.accepted = Some(world.app.permissions.clone());
        world.app.permissions.remove("checks");
        world.app.permissions.insert("issues".into(), "read".into());
        world.app.events.retain(|event| event != "merge_group");
        world.app.content_type = "form".into();
        world.app.accepted.as_mut().unwrap().remove("members");
    }
    let text = shown().await;
    insta::allow_duplicates! { insta::assert_snapshot!(text, @"
    app http://GITHUB/api/v3 knows Rivet Test (App 99)
    permissions missing: Checks: write (it has none), Issues: write (it has read)
    Checks: write (it has none): No check run is shown.
    Issues: write (it has read): Comment commands such as /approve are not answered.
    Change it on GitHub
    events missing: merge_group
    merge_group: Merge queues wait for checks that never come.
    Change it on GitHub
    webhook deliveries are sent as 'form', which is refused
    Set the content type to application/json in the App's settings.
    Change it on GitHub
    installations acme has not accepted the App's new permissions; missing: Members (organisation): read (it has none)
    Members (organisation): read (it has none): A team (@org/team) as reviewer approves nothing.
    An owner of acme accepts them.
    Accept them on GitHub
    "); }
    world.github.world().hook = Some("https://old.example.org/webhooks/github".into());
    world.github.world().app.content_type = "json".into();
    assert!(
        shown()
            .await
            .contains("deliveries go to https://old.example.org/webhooks/github, not to RIVET/webhooks/github")
    );
    let csrf = browser.csrf(&one).await;
    let page = browser.post(&one, "/setup/hook", &[("csrf", &csrf)]).await;
    assert_eq!(page.location, "/setup?done=hook");
    assert!(shown().await.contains("deliveries go to RIVET/webhooks/github"));
    world.github.world().faults.down = true;
    let down = shown().await;
    assert!(down.contains("the forge is not available"), "{down}");
    world.github.world().faults.down = false;
    world.github.finish();
}

async fn a_test_delivery_tells_what_becomes_of_it(world: World) {
    let (one, browser) = connected(&world).await;
    let csrf = browser.csrf(&one).await;
    let page = browser.post(&one, "/setup/test", &[("csrf", &csrf)]).await;
    assert_eq!(page.location, "/setup?asked=none");
    assert!(browser.get(&one, &page.location).await.text.contains("GitHub has not delivered anything yet."));
    world.deliver(&one).await;

    let test = async || {
        let asked = browser.post(&one, "/setup/test", &[("csrf", &csrf)]).await.location;
        let waiting = browser.get(&one, &asked).await.shown("Test delivery", "</ul>");
        assert_eq!(waiting, "GitHub was asked to deliver once more and has not done so yet");
        assert_eq!(world.github.deliver_again().await, 1);
        let shown = browser.get(&one, &asked).await.shown("Test delivery", "</ul>");
        shown.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(test().await, "received: GitHub delivered, the signature was right, and it is stored");
    world.github.world().app.secret = "what somebody set on GitHub by hand, long enough".into();
    assert_eq!(test().await, "bad signature: it arrived, signed with another webhook secret");
    world.github.world().app.secret = WEBHOOK_SECRET.into();
    world.github.world().hook = Some(format!("{}/hooks", one.url));
    assert_eq!(test().await, "wrong URL: the server there has nothing at that path (404)");
    world.github.world().hook = Some("http://127.0.0.1:1/webhooks/github".into());
    assert_eq!(test().await, "not received: nobody answered");
    // A delivery another Rivet took is none of ours.
    let stranger = other_rivet(&world).await;
    world.github.connect(&stranger.url);
    world.github.deliver("ping", &serde_json::json!({ "zen": "Speak like a human." })).await;
    assert_eq!(test().await, "wrong URL: another server than this one answered");
    world.github.finish();
}

/// A Rivet with a database of its own that has the same App.
async fn other_rivet(world: &World) -> Instance {
    let other = World::beside(world).await;
    let config = world.github.config();
    let instance = other.instance_with("stranger", |settings| settings.github = Some(config)).await;
    // It lives as long as the test's process.
    std::mem::forget(other);
    instance
}

async fn secrets_and_keys_are_changed_on_the_page(world: World) {
    let (one, browser) = connected(&world).await;
    let csrf = browser.csrf(&one).await;
    let page = browser.post(&one, "/setup/webhook-secret", &[("csrf", &csrf)]).await;
    assert_eq!(page.location, "/setup?done=secret-new");
    assert!(browser.get(&one, "/setup").await.text.contains("A new one is on its way to GitHub."));
    world.wait(6);
    app::pass(&one.context, world.now()).await.unwrap();
    assert_eq!(world.deliver(&one).await, 200);
    assert!(browser.get(&one, "/setup").await.text.contains("The previous one is accepted until"));

    let by_hand = "set on GitHub by hand: at least 32 bytes";
    let page = browser.post(&one, "/setup/webhook-secret", &[("csrf", &csrf), ("secret", "too short")]).await;
    assert!(page.alert().starts_with("The webhook secret needs at least 32 bytes, got 9."), "{}", page.alert());
    let page = browser.post(&one, "/setup/webhook-secret", &[("csrf", &csrf), ("secret", by_hand)]).await;
    assert_eq!(page.location, "/setup?done=secret-set");
    assert_eq!(world.deliver_with(&one, by_hand).await, 200);

    let page = browser.post_files(&one, "/setup/key", &[("csrf", &csrf), ("private_key", OTHER_PRIVATE_KEY)]).await;
    assert!(page.alert().contains("does not accept"), "{}", page.alert());
    world.github.world().app.second_key = true;
    let page = browser.post_files(&one, "/setup/key", &[("csrf", &csrf), ("private_key", OTHER_PRIVATE_KEY)]).await;
    assert_eq!(page.location, "/setup?done=key", "{}", page.alert());

    let page = browser.post(&one, "/setup/disconnect", &[("csrf", &csrf)]).await;
    assert_eq!(page.alert(), "Tick the box if the App shall really be disconnected.");
    let page = browser.post(&one, "/setup/disconnect", &[("csrf", &csrf), ("sure", "yes")]).await;
    assert_eq!(page.status, 303);
    assert!(browser.get(&one, "/setup").await.text.contains("Make a new App"));
    assert_eq!(world.deliver(&one).await, 404);
    world.github.finish();
}

async fn an_app_of_the_settings_is_shown_and_not_changed(world: World) {
    let config = world.github.config();
    let one = world.instance_with("one", |settings| settings.github = Some(config)).await;
    world.github.connect(&one.url);
    let browser = Browser::admin(&one).await;
    let page = browser.get(&one, "/setup").await;
    assert!(page.text.contains("This App is named by the settings") && !page.text.contains("Keys and secrets"));
    let csrf = browser.csrf(&one).await;
    for path in ["webhook-secret", "disconnect"] {
        let page = browser.post(&one, &format!("/setup/{path}"), &[("csrf", &csrf), ("sure", "yes")]).await;
        assert!(page.alert().starts_with("The settings name the App"), "{path}: {}", page.alert());
    }
    let page = browser.post_files(&one, "/setup/key", &[("csrf", &csrf), ("private_key", PRIVATE_KEY)]).await;
    assert!(page.alert().starts_with("The settings name the App"), "{}", page.alert());
    world.github.finish();
}
