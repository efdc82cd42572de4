//! The stored App in use: loaded when it changes, here and in every other instance, without a restart. A new webhook secret
//! is told to GitHub only when every instance has had the time to accept it.

use super::Progress;
use crate::actions::setup::{PRIVATE_KEY, WEBHOOK_SECRET, WEBHOOK_SECRET_NEXT, WEBHOOK_SECRET_PREVIOUS, place};
use crate::config::{Config, GithubConfig};
use crate::context::Context;
use crate::forge::github::slot::{Accepted, InUse, Origin};
use crate::forge::github::{Github, HookChange};
use crate::http::auth::hash;
use crate::model::time::Timestamp;
use crate::secrets::{Keyring, Sealed};
use crate::store::github_app::StoredApp;
use crate::store::settings::PREVIOUS_SECRET_SINCE;
use crate::store::wake::Topic;
use crate::store::{Store, Tx};
use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::Arc;
use url::Url;

/// How long a new webhook secret is only accepted before GitHub is told to sign with it: several looks of every instance.
const SETTLE_MILLIS: i64 = 5_000;
/// How long the webhook secret before the new one is accepted: deliveries that are sent again may still carry it.
pub const PREVIOUS_SECRET_SECONDS: u64 = 24 * 3600;

/// Loads what changed, and goes on with a change of the webhook secret.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    load(context).await?;
    change_secret(context, now).await
}

/// Makes the App in use the stored one, unless the settings name one.
pub async fn load(context: &Context) -> anyhow::Result<()> {
    let slot = &context.forges.github;
    let loaded = match slot.in_use().map(|app| app.origin.clone()) {
        Some(Origin::Settings) => return Ok(()),
        Some(Origin::Stored(revision)) => Some(revision),
        None => None,
    };
    let mut tx = context.store.read().await?;
    if tx.github_app_revision().await? == loaded {
        return Ok(());
    }
    drop(tx);
    let found = stored(&context.store, &context.config).await?;
    match &found {
        None => tracing::info!("the GitHub App was disconnected"),
        Some(app) => tracing::info!(origin = ?app.origin, "a GitHub App at {} is in use", app.client.api_url()),
    }
    slot.put(found);
    Ok(())
}

/// The stored App, ready to be used.
pub async fn stored(store: &Store, config: &Config) -> anyhow::Result<Option<InUse>> {
    let mut tx = store.read().await?;
    let Some(app) = tx.github_app().await? else { return Ok(None) };
    let secrets = Secrets::read(&mut tx).await?;
    drop(tx);
    secrets.open(config, &app).map(Some)
}

/// What is sealed about the App.
struct Secrets {
    key: Option<Sealed>,
    current: Option<Sealed>,
    next: Option<Sealed>,
    previous: Option<Sealed>,
}

impl Secrets {
    async fn read(tx: &mut Tx) -> crate::store::Result<Self> {
        Ok(Self {
            key: tx.sealed(&place(PRIVATE_KEY)).await?,
            current: tx.sealed(&place(WEBHOOK_SECRET)).await?,
            next: tx.sealed(&place(WEBHOOK_SECRET_NEXT)).await?,
            previous: tx.sealed(&place(WEBHOOK_SECRET_PREVIOUS)).await?,
        })
    }

    fn open(self, config: &Config, app: &StoredApp) -> anyhow::Result<InUse> {
        let keys = Keyring::of(config)?;
        let open = |name: &str, sealed: &Option<Sealed>| -> anyhow::Result<SecretString> {
            let sealed = sealed.as_ref().with_context(|| format!("the stored App has no {name}"))?;
            Ok(keys.open(&place(name), sealed)?)
        };
        let github = GithubConfig {
            app_id: app.app_id.unsigned_abs(),
            private_key: open(PRIVATE_KEY, &self.key)?,
            webhook_secret: open(WEBHOOK_SECRET, &self.current)?,
            api_url: Url::parse(&app.api_url).context("the stored App's API address")?,
            server_url: Url::parse(&app.server_url).context("the stored App's address")?,
        };
        let mut accepted = vec![Accepted { secret: github.webhook_secret.clone(), until: None }];
        if self.next.is_some() {
            accepted.push(Accepted { secret: open(WEBHOOK_SECRET_NEXT, &self.next)?, until: None });
        }
        if let (Some(_), until @ Some(_)) = (&self.previous, app.previous_secret_until) {
            accepted.push(Accepted { secret: open(WEBHOOK_SECRET_PREVIOUS, &self.previous)?, until });
        }
        let client = Arc::new(Github::new(&github)?);
        Ok(InUse { client, origin: Origin::Stored(app.revision.clone()), accepted })
    }
}

/// Tells GitHub the new secret, then makes it the current one. Killed in between, it tells GitHub the same once more.
async fn change_secret(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let Some(in_use) = context.forges.github.in_use() else { return Ok(Progress::Idle) };
    let Origin::Stored(_) = in_use.origin else { return Ok(Progress::Idle) };
    let mut tx = context.store.read().await?;
    let Some(app) = tx.github_app().await? else { return Ok(Progress::Idle) };
    if app.next_secret_at.is_none_or(|since| now.since(since) < SETTLE_MILLIS) {
        return Ok(Progress::Idle);
    }
    let next = tx.sealed(&place(WEBHOOK_SECRET_NEXT)).await?.context("the new webhook secret is not stored")?;
    drop(tx);
    let keys = Keyring::of(&context.config)?;
    let secret = keys.open(&place(WEBHOOK_SECRET_NEXT), &next)?;
    in_use.client.change_hook(HookChange { secret: Some(&secret), url: None }).await?;
    settle_secret(context, &keys, app, &secret, now).await?;
    context.store.wake.notify(Topic::Settings).await;
    load(context).await?;
    tracing::info!("GitHub signs with the new webhook secret; the one before it is accepted for a day");
    Ok(Progress::Worked)
}

/// The new secret is the current one from now on, and the current one the previous.
async fn settle_secret(
    context: &Context,
    keys: &Keyring,
    mut app: StoredApp,
    secret: &SecretString,
    now: Timestamp,
) -> anyhow::Result<()> {
    let mut tx = context.store.begin().await?;
    let current = tx.sealed(&place(WEBHOOK_SECRET)).await?.context("the webhook secret is not stored")?;
    let current = keys.open(&place(WEBHOOK_SECRET), &current)?;
    for (name, secret) in [(WEBHOOK_SECRET_PREVIOUS, &current), (WEBHOOK_SECRET, secret)] {
        tx.save_sealed(&place(name), &keys.seal(&place(name), secret)?, now).await?;
    }
    tx.remove_sealed_at(&place(WEBHOOK_SECRET_NEXT)).await?;
    app.next_secret_at = None;
    app.previous_secret_until = Some(now.plus_seconds(PREVIOUS_SECRET_SECONDS));
    tx.change_github_app(&mut app, crate::actions::setup::revision(), now).await?;
    tx.commit().await?;
    Ok(())
}

/// The webhook secret before the settings' one: accepted for a day from when it was first seen, whatever restarts.
pub async fn previous_of_settings(
    config: &Config,
    store: &Store,
    now: Timestamp,
) -> crate::store::Result<Option<Accepted>> {
    let Some(secret) = &config.previous_webhook_secret else { return Ok(None) };
    let hash = hash(secret.expose_secret());
    let mut tx = store.begin().await?;
    let known = tx.setting(PREVIOUS_SECRET_SINCE).await?;
    let since = known.as_deref().and_then(|known| known.strip_prefix(&hash)?.trim().parse().ok().map(Timestamp));
    if since.is_none() {
        tx.save_setting(PREVIOUS_SECRET_SINCE, &format!("{hash} {}", now.0), now).await?;
    }
    tx.commit().await?;
    let until = since.unwrap_or(now).plus_seconds(PREVIOUS_SECRET_SECONDS);
    if until <= now {
        tracing::warn!("RIVET_GITHUB_PREVIOUS_WEBHOOK_SECRET is older than a day and not accepted; remove it");
    }
    Ok(Some(Accepted { secret: secret.clone(), until: Some(until) }))
}
