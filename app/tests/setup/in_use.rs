//! The stored App in use: loaded by every instance when it changes, its webhook secret changed without losing a delivery,
//! everything sealed and bound to its place.

use crate::fake_github::app::OTHER_PRIVATE_KEY;
use crate::fake_github::{APP_ID, PRIVATE_KEY, WEBHOOK_SECRET};
use crate::world::{World, key, on_both_databases};
use rivet::actions::setup::connect::{Given, connect};
use rivet::actions::setup::master_key::{self, Resealed};
use rivet::actions::setup::{PRIVATE_KEY as KEY, SetupError, WEBHOOK_SECRET as SECRET, change, place};
use rivet::config::SecretKey;
use rivet::engine::{Progress, app};
use rivet::secrets::Keyring;
use rivet::store::settings::SECRET_KEY_ID;
use secrecy::ExposeSecret as _;

on_both_databases!(
    an_app_is_in_use_everywhere_a_moment_after_it_was_named,
    a_new_webhook_secret_loses_no_delivery,
    another_private_key_takes_over_when_github_takes_it,
    everything_wrong_about_an_app_is_said_at_once_and_nothing_is_kept,
    what_was_moved_does_not_open,
    the_master_key_is_changed_in_steps_that_may_be_repeated,
    the_settings_win,
);

fn given(world: &World) -> Given {
    Given {
        app_id: format!(" {APP_ID} "),
        private_key: PRIVATE_KEY.into(),
        webhook_secret: format!("{WEBHOOK_SECRET}\n").into(),
        host: format!("http://{}/", world.github.address),
    }
}

async fn an_app_is_in_use_everywhere_a_moment_after_it_was_named(world: World) {
    let (one, two) = (world.instance("one").await, world.instance("two").await);
    assert_eq!(world.deliver(&two).await, 404, "without an App there is nobody to deliver to");
    connect(&one.context, &given(&world), "admin", world.now()).await.unwrap();
    assert_eq!(world.deliver(&one).await, 200);
    assert_eq!(world.deliver(&two).await, 404);
    // What the supervisor does at every look, and at once when it is woken.
    app::pass(&two.context, world.now()).await.unwrap();
    assert_eq!(world.deliver(&two).await, 200);
    // After a restart it is there from the beginning.
    let three = world.instance("three").await;
    assert_eq!(world.deliver(&three).await, 200);
    assert_eq!(three.context.forges.github.client().unwrap().verify().await.unwrap().slug, "rivet-test");

    change::disconnect(&three.context, "admin", world.now()).await.unwrap();
    app::pass(&one.context, world.now()).await.unwrap();
    assert_eq!((world.deliver(&one).await, world.deliver(&three).await), (404, 404));
    assert_eq!(world.store().read().await.unwrap().sealed(&place(KEY)).await.unwrap(), None, "secrets go with it");
    world.github.finish();
}

async fn a_new_webhook_secret_loses_no_delivery(world: World) {
    let (one, two) = (world.instance("one").await, world.instance("two").await);
    connect(&one.context, &given(&world), "admin", world.now()).await.unwrap();
    app::pass(&two.context, world.now()).await.unwrap();

    change::new_webhook_secret(&one.context, "admin", world.now()).await.unwrap();
    let again = change::new_webhook_secret(&one.context, "admin", world.now()).await.unwrap_err();
    assert!(matches!(again, SetupError::Refused(_)), "{again}");
    assert_eq!(
        app::pass(&one.context, world.now()).await.unwrap(),
        Progress::Idle,
        "other instances get time to notice"
    );
    assert_eq!(world.github.world().app.secret, WEBHOOK_SECRET);
    app::pass(&two.context, world.now()).await.unwrap();

    // GitHub is told, and the answer is lost: it signs with the new secret already, and everybody accepts that.
    world.wait(6);
    world.github.world().faults.lose_answers = 1;
    app::pass(&one.context, world.now()).await.unwrap_err();
    let new = world.github.world().app.secret.clone();
    assert_ne!(new, WEBHOOK_SECRET);
    for instance in [&one, &two] {
        assert_eq!(world.deliver(instance).await, 200);
        assert_eq!(world.deliver_with(instance, WEBHOOK_SECRET).await, 200);
    }
    // Another instance goes on with it, with the same secret.
    assert_eq!(app::pass(&two.context, world.now()).await.unwrap(), Progress::Worked);
    assert_eq!(world.github.world().app.secret, new);
    app::pass(&one.context, world.now()).await.unwrap();
    for instance in [&one, &two] {
        assert_eq!(world.deliver(instance).await, 200);
        assert_eq!(world.deliver_with(instance, WEBHOOK_SECRET).await, 200, "the one before, for a day");
        assert_eq!(world.deliver_with(instance, "another secret of more than thirty-two bytes").await, 401);
        let slot = &instance.context.forges.github;
        assert_eq!(slot.secrets(world.now().plus_seconds(23 * 3600)).len(), 2);
        let left = slot.secrets(world.now().plus_seconds(24 * 3600 + 1));
        assert_eq!(left.iter().map(|s| s.expose_secret() == new).collect::<Vec<_>>(), [true], "and no longer");
    }
    world.github.finish();
}

async fn another_private_key_takes_over_when_github_takes_it(world: World) {
    let one = world.instance("one").await;
    connect(&one.context, &given(&world), "admin", world.now()).await.unwrap();
    let refused = change::replace_key(&one.context, &OTHER_PRIVATE_KEY.into(), "admin", world.now()).await.unwrap_err();
    assert!(refused.to_string().contains("does not accept App 99 with this key"), "{refused}");
    let refused = change::replace_key(&one.context, &"-----BEGIN".into(), "admin", world.now()).await.unwrap_err();
    assert!(refused.to_string().contains("BEGIN and END"), "{refused}");

    world.github.world().app.second_key = true;
    change::replace_key(&one.context, &OTHER_PRIVATE_KEY.into(), "admin", world.now()).await.unwrap();
    one.context.forges.github.client().unwrap().verify().await.unwrap();
    let sealed = world.store().read().await.unwrap().sealed(&place(KEY)).await.unwrap().unwrap();
    assert_eq!(world.keys().open(&place(KEY), &sealed).unwrap().expose_secret(), OTHER_PRIVATE_KEY);
    world.github.finish();
}

async fn everything_wrong_about_an_app_is_said_at_once_and_nothing_is_kept(world: World) {
    let one = world.instance("one").await;
    let all_wrong = Given {
        app_id: "-7".into(),
        private_key: "hello".into(),
        webhook_secret: "changeme".into(),
        host: "http://github.example.org".into(),
    };
    let said = connect(&one.context, &all_wrong, "admin", world.now()).await.unwrap_err();
    let SetupError::Wrong(problems) = said else { panic!("{said}") };
    insta::allow_duplicates! { insta::assert_snapshot!(problems.join("\n"), @"
    The App id must be a positive whole number; the App's page on GitHub shows it.
    The webhook secret needs at least 32 bytes, got 8. Set a new one in the App's settings on GitHub, for example the output of: openssl rand -hex 32
    'http://github.example.org' must be reached by https.
    The private key cannot be read (InvalidKeyFormat). Paste the whole file GitHub gave you, with its BEGIN and END lines, or choose the file.
    "); }

    let wrong_key = Given { private_key: OTHER_PRIVATE_KEY.into(), webhook_secret: "short".into(), ..given(&world) };
    let said = connect(&one.context, &wrong_key, "admin", world.now()).await.unwrap_err();
    let SetupError::Wrong(problems) = said else { panic!("{said}") };
    let problems = problems.join("\n").replace(&world.github.address.to_string(), "GITHUB");
    insta::allow_duplicates! { insta::assert_snapshot!(problems, @"
    The webhook secret needs at least 32 bytes, got 5. Set a new one in the App's settings on GitHub, for example the output of: openssl rand -hex 32
    http://GITHUB/api/v3 does not accept App 99 with this key (GitHub does not accept the App's credentials: A JSON web token could not be decoded: InvalidSignature). Is it the key of this very App, was it not deleted there, and does this machine's clock go right?
    "); }

    let nobody = Given { host: "http://127.0.0.1:1".into(), ..given(&world) };
    let said = connect(&one.context, &nobody, "admin", world.now()).await.unwrap_err();
    assert!(said.to_string().contains("could not be asked"), "{said}");
    assert_eq!(world.store().read().await.unwrap().github_app().await.unwrap(), None);
    assert_eq!(world.store().read().await.unwrap().sealed_by_key().await.unwrap(), vec![]);
    world.github.finish();
}

async fn what_was_moved_does_not_open(world: World) {
    let one = world.instance("one").await;
    connect(&one.context, &given(&world), "admin", world.now()).await.unwrap();
    let mut tx = world.store().begin().await.unwrap();
    let (key, secret) =
        (tx.sealed(&place(KEY)).await.unwrap().unwrap(), tx.sealed(&place(SECRET)).await.unwrap().unwrap());
    tx.save_sealed(&place(SECRET), &key, world.now()).await.unwrap();
    tx.save_sealed(&place(KEY), &secret, world.now()).await.unwrap();
    let mut app = tx.github_app().await.unwrap().unwrap();
    tx.change_github_app(&mut app, "moved".into(), world.now()).await.unwrap();
    tx.commit().await.unwrap();
    let said = app::pass(&one.context, world.now()).await.unwrap_err().to_string();
    assert_eq!(said, "the stored secret 'private_key' does not open: it was changed or moved (secret.decrypt_failed)");
    assert_eq!(world.deliver(&one).await, 200, "what is in use stays in use");
}

async fn the_master_key_is_changed_in_steps_that_may_be_repeated(world: World) {
    let one = world.instance("one").await;
    connect(&one.context, &given(&world), "admin", world.now()).await.unwrap();
    let parse = |n: u8| SecretKey::parse(&key(n).into()).unwrap();
    let ring = || Keyring::new(parse(2), Some(parse(1)));
    let found = master_key::look(world.store(), &ring()).await.unwrap();
    assert_eq!(found, Resealed { key_id: parse(2).id(), secrets: 2, already: 0 });
    let stranger = master_key::look(world.store(), &Keyring::new(parse(3), None)).await.unwrap_err();
    assert!(stranger.to_string().contains("which this server does not have"), "{stranger}");

    // Stopped after the first secret: the rest is done by the next run.
    let mut tx = world.store().begin().await.unwrap();
    let (place_of, old) = tx.sealed_otherwise(&parse(2).id(), 1).await.unwrap().remove(0);
    let plain = ring().open(&place_of, &old).unwrap();
    assert!(tx.reseal(&place_of, &old, &ring().seal(&place_of, &plain).unwrap(), world.now()).await.unwrap());
    assert!(!tx.reseal(&place_of, &old, &old, world.now()).await.unwrap(), "what was changed meanwhile stays");
    tx.commit().await.unwrap();
    let found = master_key::reseal(world.store(), &ring(), world.now()).await.unwrap();
    assert_eq!(found, Resealed { key_id: parse(2).id(), secrets: 1, already: 1 });
    let found = master_key::reseal(world.store(), &ring(), world.now()).await.unwrap();
    assert_eq!(found, Resealed { key_id: parse(2).id(), secrets: 0, already: 2 });
    let mut tx = world.store().read().await.unwrap();
    assert_eq!(tx.setting(SECRET_KEY_ID).await.unwrap(), Some(parse(2).id()));
    drop(tx);

    let two = world.instance_with("two", |config| config.secret_key = Some(key(2).into())).await;
    assert_eq!(world.deliver(&two).await, 200);
}

async fn the_settings_win(world: World) {
    let one = world.instance("one").await;
    connect(&one.context, &given(&world), "admin", world.now()).await.unwrap();
    let mut config = world.github.config();
    config.webhook_secret = "the settings' own secret of thirty-two bytes".into();
    let two = world.instance_with("two", |settings| settings.github = Some(config)).await;
    app::pass(&two.context, world.now()).await.unwrap();
    assert_eq!(world.deliver(&two).await, 401);
    assert_eq!(world.deliver_with(&two, "the settings' own secret of thirty-two bytes").await, 200);
    let refused = change::new_webhook_secret(&two.context, "admin", world.now()).await.unwrap_err();
    assert!(refused.to_string().starts_with("The settings name the App"), "{refused}");
}
