//! A new App from a manifest: the browser takes the manifest to GitHub and brings a code back, which is good once.

use super::{CLIENT_SECRET, PRIVATE_KEY, SetupError, WEBHOOK_SECRET, WEBHOOK_SECRET_BYTES, keep, revision};
use crate::config::{Config, GithubHosts, is_loopback, random_hex};
use crate::context::Context;
use crate::engine::app;
use crate::forge::ForgeError;
use crate::forge::github::{AppFacts, HookChange, NewApp, convert, needs};
use crate::http::auth::{hash, random_token};
use crate::model::time::Timestamp;
use crate::secrets::Keyring;
use crate::store::github_app::{SetupState, StoredApp};
use crate::store::wake::Topic;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// How long the way to GitHub and back may take: GitHub's own limit.
const STATE_SECONDS: u64 = 3600;
/// The most characters of an App's name.
const NAME_CHARACTERS: usize = 34;

/// What somebody asks for on the page.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The organisation the App shall belong to; empty: the person's own account.
    pub organization: String,
    /// What it shall be called; empty: made from the address.
    pub name: String,
    /// GitHub's host; empty: github.com.
    pub host: String,
}

/// A form that leaves for GitHub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Where it is posted to.
    pub action: String,
    /// The scheme and host of that: what the page may send forms to.
    pub origin: String,
    /// What it carries.
    pub manifest: String,
    /// What the App will be called.
    pub name: String,
    /// Whom it will belong to; empty: the person.
    pub organization: String,
}

/// Where GitHub is: what the settings say, else what `host` says.
pub fn hosts(config: &Config, host: &str) -> Result<GithubHosts, String> {
    if let Some(hosts) = &config.github_hosts {
        return Ok(hosts.clone());
    }
    let host = host.trim().trim_end_matches('/');
    if host.is_empty() || host == "github.com" {
        return Ok(GithubHosts::public());
    }
    let text = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
    let wrong = || {
        format!("'{}' is not the address of a GitHub Enterprise Server; for example github.example.org", short(host))
    };
    let url = Url::parse(&text).map_err(|_| wrong())?;
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !plain || url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong());
    }
    match url.scheme() {
        "https" => Ok(GithubHosts::of_server(url)),
        "http" if is_loopback(&url) => Ok(GithubHosts::of_server(url)),
        _ => Err(format!("'{}' must be reached by https", short(host))),
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What an App is called where nobody says: names are unique all over GitHub, so the host is in it.
pub fn usual_name(config: &Config) -> String {
    let host = config.public_url.host_str().unwrap_or("");
    let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name: String = format!("rivet-{host}").chars().take(NAME_CHARACTERS).collect();
    name.trim_end_matches('-').to_owned()
}

/// Notes that this session leaves for GitHub, and answers the form that takes it there.
pub async fn begin(
    context: &Context,
    session_hash: &str,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Departure, SetupError> {
    super::settings_decide(&context.config)?;
    // Without a key the App could not be kept, and GitHub tells its key once.
    Keyring::of(&context.config)?;
    let (organization, name, hosts) = checked(&context.config, wanted)?;
    let state = random_token("");
    let kept = SetupState {
        session_hash: session_hash.to_owned(),
        api_url: hosts.api_url.to_string(),
        server_url: hosts.server_url.to_string(),
        expires_at: now.plus_seconds(STATE_SECONDS),
    };
    let mut tx = context.store.begin().await?;
    if tx.github_app_revision().await?.is_some() {
        return Err(one_already());
    }
    tx.add_setup_state(&hash(&state), &kept, now).await?;
    tx.commit().await?;
    let server = hosts.server_url.as_str().trim_end_matches('/');
    let path = match organization.as_str() {
        "" => "/settings/apps/new".to_owned(),
        organization => format!("/organizations/{organization}/settings/apps/new"),
    };
    Ok(Departure {
        action: format!("{server}{path}?state={state}"),
        origin: hosts.server_url.origin().ascii_serialization(),
        manifest: needs::manifest(&name, context.link("").trim_end_matches('/')).to_string(),
        name,
        organization,
    })
}

/// Organisation, name and place of the App that is wanted; or everything that is wrong with them.
fn checked(config: &Config, wanted: &Wanted) -> Result<(String, String, GithubHosts), SetupError> {
    let mut problems = vec![];
    let organization = wanted.organization.trim();
    let login = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !organization.is_empty() && (organization.len() > 100 || !organization.chars().all(login)) {
        problems.push(format!("'{}' cannot be an organisation's login; for example acme.", short(organization)));
    }
    let name = match wanted.name.trim() {
        "" => usual_name(config),
        name => name.to_owned(),
    };
    if name.chars().count() > NAME_CHARACTERS || name.chars().any(char::is_control) {
        problems.push(format!("The name may have at most {NAME_CHARACTERS} characters."));
    }
    let hosts = hosts(config, &wanted.host).map_err(|problem| problems.push(format!("{problem}."))).ok();
    match hosts {
        Some(hosts) if problems.is_empty() => Ok((organization.to_owned(), name, hosts)),
        _ => Err(SetupError::Wrong(problems)),
    }
}

fn one_already() -> SetupError {
    SetupError::Refused(
        "There is an App already. Disconnect it first if another one shall take its place; an App that was just made \
         on GitHub for nothing can be deleted there."
            .to_owned(),
    )
}

/// Takes what the browser brought back: the state must be one this session left with, within the hour, for the first time.
pub async fn finish(
    context: &Context,
    session_hash: &str,
    (code, state): (&str, &str),
    actor: &str,
    now: Timestamp,
) -> Result<StoredApp, SetupError> {
    super::settings_decide(&context.config)?;
    let keys = Keyring::of(&context.config)?;
    let mut tx = context.store.begin().await?;
    let left = tx.take_setup_state(&hash(state), session_hash).await?;
    let other_app = tx.github_app_revision().await?.is_some();
    tx.commit().await?;
    let left = left.filter(|left| left.expires_at > now).ok_or_else(|| {
        SetupError::Refused(
            "This way back from GitHub was used before, took more than an hour, or was begun in another browser. \
             Begin again; an App that was already made on GitHub can be deleted there, or be named below with a new key."
                .to_owned(),
        )
    })?;
    if other_app {
        return Err(one_already());
    }
    let hosts = GithubHosts { api_url: parse(&left.api_url)?, server_url: parse(&left.server_url)? };
    let made = match convert(&hosts.api_url, code).await {
        Ok(made) => made,
        Err(error) => return Err(not_converted(context, state, &left, error, now).await?),
    };
    keep_new(context, &keys, made, &hosts, actor, now).await
}

fn parse(url: &str) -> Result<Url, SetupError> {
    Url::parse(url).map_err(|_| SetupError::Store(crate::store::Error::Damaged("setup_state's address".to_owned())))
}

/// Where GitHub only did not answer, the same address may be tried again.
async fn not_converted(
    context: &Context,
    state: &str,
    left: &SetupState,
    error: ForgeError,
    now: Timestamp,
) -> Result<SetupError, SetupError> {
    Ok(match error {
        ForgeError::NotFound(_) => SetupError::Refused(
            "GitHub does not know this code: it is good once and for an hour. Begin again; an App that was already \
             made on GitHub can be deleted there."
                .to_owned(),
        ),
        error @ (ForgeError::Unavailable(_) | ForgeError::RateLimited { .. }) => {
            let mut tx = context.store.begin().await?;
            tx.add_setup_state(&hash(state), left, now).await?;
            tx.commit().await?;
            SetupError::Refused(format!("{error}. Load this page again in a moment: the code is still good."))
        }
        error => SetupError::Forge(error),
    })
}

/// Keeps an App that was just made, and uses it.
async fn keep_new(
    context: &Context,
    keys: &Keyring,
    made: NewApp,
    hosts: &GithubHosts,
    actor: &str,
    now: Timestamp,
) -> Result<StoredApp, SetupError> {
    // GitHub makes a secret of its own; one that is missing or short is replaced and GitHub told.
    let sent = made.webhook_secret.filter(|secret| secret.expose_secret().len() >= WEBHOOK_SECRET_BYTES);
    let replaced = sent.is_none();
    let secret = sent.unwrap_or_else(|| SecretString::from(random_hex()));
    let secrets = [(PRIVATE_KEY, &made.pem), (WEBHOOK_SECRET, &secret), (CLIENT_SECRET, &made.client_secret)];
    let app = save(context, keys, &made.facts, hosts, &secrets, actor, now).await?;
    if replaced && let Some(client) = context.forges.github.client() {
        client.change_hook(HookChange { secret: Some(&secret), url: None }).await?;
    }
    Ok(app)
}

/// Keeps an App with its secrets, tells every instance, and uses it here at once.
pub(super) async fn save(
    context: &Context,
    keys: &Keyring,
    facts: &AppFacts,
    hosts: &GithubHosts,
    secrets: &[(&str, &SecretString)],
    actor: &str,
    now: Timestamp,
) -> Result<StoredApp, SetupError> {
    let app = StoredApp {
        app_id: facts.id,
        slug: facts.slug.clone(),
        name: facts.name.clone(),
        owner: facts.owner(),
        html_url: facts.html_url.clone(),
        api_url: hosts.api_url.to_string(),
        server_url: hosts.server_url.to_string(),
        client_id: facts.client_id.clone(),
        revision: revision(),
        next_secret_at: None,
        previous_secret_until: None,
        created_at: now,
    };
    let mut tx = context.store.begin().await?;
    match tx.add_github_app(&app).await {
        Err(crate::store::Error::Conflict) => return Err(one_already()),
        other => other?,
    }
    keep(&mut tx, keys, secrets, now).await?;
    let details = serde_json::json!({ "app_id": app.app_id, "slug": app.slug, "server_url": app.server_url });
    tx.audit(actor, "setup.app_connected", "instance", &details, now).await?;
    tx.commit().await?;
    context.store.wake.notify(Topic::Settings).await;
    app::load(context)
        .await
        .map_err(|error| SetupError::Refused(format!("The App is stored and cannot be used: {error:#}")))?;
    Ok(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_and_nothing_more() {
        let config = Config::embedded(std::path::Path::new("/d"), ([127, 0, 0, 1], 8080).into());
        let api = |host: &str| hosts(&config, host).map(|hosts| hosts.api_url.to_string());
        assert_eq!(api("").unwrap(), "https://api.github.com/");
        assert_eq!(api(" github.com/ ").unwrap(), "https://api.github.com/");
        assert_eq!(api("github.example.org").unwrap(), "https://github.example.org/api/v3");
        assert_eq!(api("https://github.example.org:8443").unwrap(), "https://github.example.org:8443/api/v3");
        assert_eq!(api("acme.ghe.com").unwrap(), "https://api.acme.ghe.com/");
        assert_eq!(api("http://127.0.0.1:3000").unwrap(), "http://127.0.0.1:3000/api/v3");
        for wrong in
            ["http://github.example.org", "a b", "u:p@h.example", "h.example/x", "h.example?x", "ftp://h.example"]
        {
            assert!(api(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_usual_name_is_short_and_plain() {
        let mut config = Config::embedded(std::path::Path::new("/d"), ([127, 0, 0, 1], 8080).into());
        assert_eq!(usual_name(&config), "rivet-127-0-0-1");
        config.public_url = "https://continuous-integration.engineering.example.org".parse().unwrap();
        assert_eq!(usual_name(&config), "rivet-continuous-integration-engin");
    }
}
