//! Changing the App that was set up on the page: another key, another webhook secret, the hook's address, or none at all.

use super::{
    PRIVATE_KEY, SetupError, WEBHOOK_SECRET, WEBHOOK_SECRET_NEXT, WEBHOOK_SECRET_PREVIOUS, client, connect, keep,
    place, revision,
};
use crate::config::{GithubHosts, random_hex};
use crate::context::Context;
use crate::engine::app;
use crate::forge::github::HookChange;
use crate::model::time::Timestamp;
use crate::secrets::Keyring;
use crate::store::Tx;
use crate::store::github_app::StoredApp;
use crate::store::wake::Topic;
use secrecy::SecretString;
use serde_json::json;
use url::Url;

async fn stored(context: &Context, tx: &mut Tx) -> Result<StoredApp, SetupError> {
    super::settings_decide(&context.config)?;
    tx.github_app().await?.ok_or_else(|| SetupError::Refused("There is no App to change.".to_owned()))
}

/// Every instance looks again; this one at once.
async fn tell(context: &Context) -> Result<(), SetupError> {
    context.store.wake.notify(Topic::Settings).await;
    let failed = |error: anyhow::Error| SetupError::Refused(format!("It is stored and cannot be used: {error:#}"));
    app::load(context).await.map_err(failed)
}

/// Another private key of the same App. The old one stays good at GitHub until somebody deletes it there, so instances
/// that have not noticed yet go on with it.
pub async fn replace_key(context: &Context, key: &SecretString, actor: &str, now: Timestamp) -> Result<(), SetupError> {
    let keys = Keyring::of(&context.config)?;
    let mut app = stored(context, &mut context.store.read().await?).await?;
    let hosts = GithubHosts { api_url: parsed(&app.api_url)?, server_url: parsed(&app.server_url)? };
    let app_id = app.app_id.unsigned_abs();
    let wrong = |problem: String| SetupError::Wrong(vec![problem]);
    let github = client(app_id, key, &hosts, &SecretString::default()).map_err(wrong)?;
    connect::known_as(&github, app_id).await.map_err(wrong)?;
    let mut tx = context.store.begin().await?;
    keep(&mut tx, &keys, &[(PRIVATE_KEY, key)], now).await?;
    tx.change_github_app(&mut app, revision(), now).await?;
    tx.audit(actor, "setup.key_replaced", "instance", &json!({ "app_id": app.app_id }), now).await?;
    tx.commit().await?;
    tell(context).await
}

fn parsed(url: &str) -> Result<Url, SetupError> {
    Url::parse(url).map_err(|_| SetupError::Store(crate::store::Error::Damaged("the App's address".to_owned())))
}

/// Makes a new webhook secret. It is accepted from now on; the engine tells GitHub when every instance knows it, and the
/// one before it is accepted for another day.
pub async fn new_webhook_secret(context: &Context, actor: &str, now: Timestamp) -> Result<(), SetupError> {
    let keys = Keyring::of(&context.config)?;
    let mut tx = context.store.begin().await?;
    let mut app = stored(context, &mut tx).await?;
    if app.next_secret_at.is_some() {
        return Err(SetupError::Refused(
            "A new secret is on its way to GitHub already; it takes a few seconds, or until GitHub answers.".to_owned(),
        ));
    }
    let secret = SecretString::from(random_hex());
    keep(&mut tx, &keys, &[(WEBHOOK_SECRET_NEXT, &secret)], now).await?;
    app.next_secret_at = Some(now);
    tx.change_github_app(&mut app, revision(), now).await?;
    tx.audit(actor, "setup.webhook_secret_new", "instance", &json!({ "app_id": app.app_id }), now).await?;
    tx.commit().await?;
    tell(context).await
}

/// Takes over a webhook secret that somebody set on GitHub; the one before it is accepted for a day.
pub async fn set_webhook_secret(
    context: &Context,
    secret: &SecretString,
    actor: &str,
    now: Timestamp,
) -> Result<(), SetupError> {
    if let Some(problem) = connect::webhook_secret_problem(secret) {
        return Err(SetupError::Wrong(vec![problem]));
    }
    let keys = Keyring::of(&context.config)?;
    let mut tx = context.store.begin().await?;
    let mut app = stored(context, &mut tx).await?;
    if let Some(current) = tx.sealed(&place(WEBHOOK_SECRET)).await? {
        let current = keys.open(&place(WEBHOOK_SECRET), &current)?;
        keep(&mut tx, &keys, &[(WEBHOOK_SECRET_PREVIOUS, &current)], now).await?;
        app.previous_secret_until = Some(now.plus_seconds(app::PREVIOUS_SECRET_SECONDS));
    }
    keep(&mut tx, &keys, &[(WEBHOOK_SECRET, &connect::trimmed(secret))], now).await?;
    tx.remove_sealed_at(&place(WEBHOOK_SECRET_NEXT)).await?;
    app.next_secret_at = None;
    tx.change_github_app(&mut app, revision(), now).await?;
    tx.audit(actor, "setup.webhook_secret_set", "instance", &json!({ "app_id": app.app_id }), now).await?;
    tx.commit().await?;
    tell(context).await
}

/// Sends deliveries to this instance: its own address, as JSON, with the certificate checked.
pub async fn point_hook_here(context: &Context, actor: &str, now: Timestamp) -> Result<(), SetupError> {
    let Some(github) = context.forges.github.client() else {
        return Err(SetupError::Refused("There is no App whose hook could be changed.".to_owned()));
    };
    let url = context.link("/webhooks/github");
    github.change_hook(HookChange { url: Some(&url), secret: None }).await?;
    let mut tx = context.store.begin().await?;
    tx.audit(actor, "setup.hook_pointed_here", "instance", &json!({ "url": url }), now).await?;
    tx.commit().await?;
    Ok(())
}

/// Forgets the App and everything secret about it. On GitHub it stays until somebody deletes it there.
pub async fn disconnect(context: &Context, actor: &str, now: Timestamp) -> Result<(), SetupError> {
    let mut tx = context.store.begin().await?;
    let app = stored(context, &mut tx).await?;
    tx.remove_github_app().await?;
    tx.audit(actor, "setup.app_disconnected", "instance", &json!({ "app_id": app.app_id }), now).await?;
    tx.commit().await?;
    tell(context).await
}
