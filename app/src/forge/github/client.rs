//! One call to GitHub: whose token, which limits, what an error means.

use super::limits::Limits;
use super::payload::title;
use crate::config::GithubConfig;
use crate::forge::tree::Entry;
use crate::forge::{ForgeError, Loaded, RepoFacts};
use crate::model::time::Timestamp;
use anyhow::Context as _;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use moka::future::Cache;
use octocrab::models::apps::CreateInstallationAccessToken;
use octocrab::models::{AppId, InstallationId, RepositoryId};
use octocrab::{DefaultOctocrabBuilderConfig, NoAuth, NoSvc, NotLayerReady, Octocrab, OctocrabBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How long one call may take.
const CALL_TIME: Duration = Duration::from_secs(30);
/// The most bytes of an answer: what a recursive tree may have, and then some.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// A token is minted anew when less than this is left of it.
const TOKEN_REST_MILLIS: i64 = 5 * 60 * 1000;
/// How many entries a page has.
pub(super) const PAGE: usize = 100;

/// What a token is minted for. It can do that, in one repository, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Definitions, commits, pull requests, permissions.
    Read,
    /// Check runs and commit statuses.
    Report,
    /// Handed to a runner.
    Checkout,
    /// Comments of pull requests and receipts on them.
    Comment,
    /// Deployments.
    Deploy,
    /// Who is in a team. GitHub answers questions about an organisation's members to no token without this.
    Members,
}

impl Purpose {
    fn permissions(self) -> HashMap<String, String> {
        let wanted: &[(&str, &str)] = match self {
            Self::Read => &[("contents", "read"), ("pull_requests", "read"), ("metadata", "read")],
            Self::Report => &[("checks", "write"), ("statuses", "write"), ("metadata", "read")],
            Self::Checkout => &[("contents", "read")],
            Self::Comment => &[("issues", "write"), ("pull_requests", "write"), ("metadata", "read")],
            Self::Deploy => &[("deployments", "write"), ("metadata", "read")],
            Self::Members => &[("members", "read"), ("metadata", "read")],
        };
        wanted.iter().map(|(what, how)| ((*what).to_owned(), (*how).to_owned())).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    installation: i64,
    repository: i64,
    purpose: Purpose,
}

#[derive(Clone)]
struct Token {
    text: SecretString,
    expires_at: Timestamp,
}

/// GitHub as one App sees it. Cheap to share; made inside a runtime.
pub struct Github {
    /// Which App we are.
    pub(crate) app_id: u64,
    app: Octocrab,
    api_url: Url,
    pub(super) server_url: Url,
    tokens: Cache<TokenKey, Token>,
    installations: Cache<String, i64>,
    pub(super) blobs: Cache<String, Arc<Vec<u8>>>,
    pub(super) folders: Cache<String, Arc<(Vec<Entry>, bool)>>,
    pub(super) loaded: Cache<String, Arc<Loaded>>,
    limits: Limits,
}

impl Github {
    /// A client for the App of `config`. Nothing is sent yet. (octocrab's own retries are a feature that is not compiled in:
    /// they would create a check run several times.)
    pub fn new(config: &GithubConfig) -> anyhow::Result<Self> {
        let key = jsonwebtoken::EncodingKey::from_rsa_pem(config.private_key.expose_secret().as_bytes());
        let key = key.context("the GitHub App's private key is not an RSA key in PEM")?;
        let app = builder(&config.api_url)?.app(AppId(config.app_id), key);
        let app = app.build().context("no client for GitHub can be made")?;
        let size = |_: &String, bytes: &Arc<Vec<u8>>| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Ok(Self {
            app_id: config.app_id,
            app,
            api_url: config.api_url.clone(),
            server_url: config.server_url.clone(),
            tokens: Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(55 * 60)).build(),
            installations: Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(3600)).build(),
            blobs: Cache::builder().max_capacity(64 << 20).weigher(size).build(),
            folders: Cache::builder().max_capacity(2_000).build(),
            loaded: Cache::builder().max_capacity(100).time_to_live(Duration::from_secs(600)).build(),
            limits: Limits::default(),
        })
    }

    /// Where its API is.
    pub fn api_url(&self) -> &Url {
        &self.api_url
    }

    /// Where people and git find it.
    pub fn server_url(&self) -> &Url {
        &self.server_url
    }

    /// From now on at most so many points a minute for each installation: this server's share of what all may spend.
    pub fn pace(&self, points_a_minute: f64) {
        self.limits.pace(points_a_minute);
    }

    /// Until when each installation (0: the App) has to be silent, as GitHub told this server.
    pub fn silences(&self, now: Timestamp) -> Vec<(i64, Timestamp)> {
        self.limits.silences(now)
    }

    /// GitHub told another server that an installation has to be silent.
    pub fn hush(&self, installation: i64, until: Timestamp) {
        self.limits.hush(installation, until);
    }

    /// Reads `route` of a repository.
    pub(super) async fn get<T: DeserializeOwned>(&self, repo: &RepoFacts, route: &str) -> Result<T, ForgeError> {
        self.call(repo, Purpose::Read, Method::GET, route, None::<&()>).await
    }

    /// Calls `route` of a repository once, with a token for `purpose`.
    pub(super) async fn call<T: DeserializeOwned, B: Serialize + ?Sized>(
        &self,
        repo: &RepoFacts,
        purpose: Purpose,
        method: Method,
        route: &str,
        body: Option<&B>,
    ) -> Result<T, ForgeError> {
        let route = format!("/repos/{}/{}/{route}", repo.owner, repo.name);
        self.call_at(repo, purpose, method, &route, body).await
    }

    /// Calls `route`, which need not be the repository's own, with a token of the repository for `purpose`.
    pub(super) async fn call_at<T: DeserializeOwned, B: Serialize + ?Sized>(
        &self,
        repo: &RepoFacts,
        purpose: Purpose,
        method: Method,
        route: &str,
        body: Option<&B>,
    ) -> Result<T, ForgeError> {
        let key = self.token_key(repo, purpose).await?;
        let token = self.token(&key).await?;
        match self.send(&self.as_installation(&token)?, key.installation, method.clone(), route, body).await {
            // The token was revoked before its time. Nothing was done, so a fresh one may try again.
            Err(Failure { status: Some(StatusCode::UNAUTHORIZED), .. }) => {
                self.tokens.invalidate(&key).await;
                let token = self.token(&key).await?;
                let again = self.send(&self.as_installation(&token)?, key.installation, method, route, body).await;
                Ok(again?.0)
            }
            other => Ok(other?.0),
        }
    }

    /// Reads `route` as the App itself.
    pub(super) async fn get_as_app<T: DeserializeOwned>(&self, route: &str) -> Result<T, ForgeError> {
        self.call_as_app(Method::GET, route, None::<&()>).await
    }

    /// Calls `route` as the App itself.
    pub(super) async fn call_as_app<T: DeserializeOwned, B: Serialize + ?Sized>(
        &self,
        method: Method,
        route: &str,
        body: Option<&B>,
    ) -> Result<T, ForgeError> {
        Ok(self.send(&self.app, 0, method, route, body).await?.0)
    }

    /// Reads one page of a list as the App itself, with the `Link` header that names the next one.
    pub(super) async fn page_as_app<T: DeserializeOwned>(
        &self,
        route: &str,
    ) -> Result<(T, Option<String>), ForgeError> {
        let (page, headers) = self.send(&self.app, 0, Method::GET, route, None::<&()>).await?;
        let link = headers.get(http::header::LINK).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((page, link))
    }

    /// A token that can do `purpose` in `repo` alone, minted for whoever asks: it may be revoked without harm to others.
    pub(super) async fn fresh_token(&self, repo: &RepoFacts, purpose: Purpose) -> Result<String, ForgeError> {
        let key = self.token_key(repo, purpose).await?;
        Ok(self.mint(&key).await?.text.expose_secret().to_owned())
    }

    /// See [`crate::forge::Forge::revoke`].
    pub async fn revoke(&self, repo: &RepoFacts, token: &str) -> Result<(), ForgeError> {
        let key = self.token_key(repo, Purpose::Checkout).await?;
        let client = self.app.user_access_token(token.to_owned());
        let client = client.map_err(|_| ForgeError::Unavailable("no client for the token can be made".into()))?;
        match self.send(&client, key.installation, Method::DELETE, "/installation/token", None::<&()>).await {
            Ok(((), _)) | Err(Failure { status: Some(StatusCode::UNAUTHORIZED), .. }) => Ok(()),
            Err(failure) => Err(failure.error),
        }
    }

    fn as_installation(&self, token: &Token) -> Result<Octocrab, ForgeError> {
        let client = self.app.user_access_token(token.text.expose_secret().to_owned());
        client.map_err(|_| ForgeError::Unavailable("no client for the token can be made".into()))
    }

    async fn token_key(&self, repo: &RepoFacts, purpose: Purpose) -> Result<TokenKey, ForgeError> {
        let installation = match repo.installation_id {
            Some(id) => id,
            None => self.installation_of(repo).await?,
        };
        Ok(TokenKey { installation, repository: repo.forge_id, purpose })
    }

    async fn installation_of(&self, repo: &RepoFacts) -> Result<i64, ForgeError> {
        #[derive(serde::Deserialize)]
        struct Installation {
            id: i64,
        }
        let name = repo.full_name();
        let look_up = async {
            let found: Installation = self.get_as_app(&format!("/repos/{name}/installation")).await?;
            Ok(found.id)
        };
        self.installations.try_get_with(name.clone(), look_up).await.map_err(|e: Arc<ForgeError>| (*e).clone())
    }

    /// The cached token, or one minted now; those who ask at the same moment share it.
    async fn token(&self, key: &TokenKey) -> Result<Token, ForgeError> {
        if let Some(token) = self.tokens.get(key).await
            && token.expires_at.since(Timestamp::now()) < TOKEN_REST_MILLIS
        {
            self.tokens.invalidate(key).await;
        }
        let minted = self.tokens.try_get_with(key.clone(), self.mint(key)).await;
        minted.map_err(|error: Arc<ForgeError>| (*error).clone())
    }

    async fn mint(&self, key: &TokenKey) -> Result<Token, ForgeError> {
        let _turn = self.limits.turn(0, 5.0).await?;
        let wanted = CreateInstallationAccessToken {
            repositories: None,
            repository_ids: Some(vec![RepositoryId(key.repository.unsigned_abs())]),
            permissions: Some(key.purpose.permissions()),
        };
        let installation = InstallationId(key.installation.unsigned_abs());
        let apps = self.app.apps();
        let minting = apps.create_installation_access_token(installation, &wanted);
        let minted = tokio::time::timeout(CALL_TIME, minting).await.map_err(|_| too_slow())?;
        let minted = minted.map_err(|error| self.explain(0, "a token for the installation", error))?;
        let expires_at = minted.expires_at.as_deref().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
        let hour = Timestamp::now().plus_seconds(3600);
        Ok(Token {
            text: minted.token.into(),
            expires_at: expires_at.map_or(hour, |time| Timestamp(time.timestamp_millis())),
        })
    }

    async fn send<T: DeserializeOwned, B: Serialize + ?Sized>(
        &self,
        client: &Octocrab,
        whose: i64,
        method: Method,
        route: &str,
        body: Option<&B>,
    ) -> Result<(T, HeaderMap), Failure> {
        let points = if method == Method::GET { 1.0 } else { 5.0 };
        let _turn = self.limits.turn(whose, points).await?;
        let request = http::Request::builder().method(method).uri(route);
        let request = client.build_request(request, body).map_err(|e| self.explain(whose, route, e))?;
        let exchange = async {
            let response = client.execute(request).await.map_err(|e| self.explain(whose, route, e))?;
            let (parts, body) = response.into_parts();
            let bytes = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let bytes = bytes.map_err(|e| ForgeError::Unavailable(format!("its answer broke off: {e}")))?.to_bytes();
            Ok::<_, ForgeError>((parts.status, parts.headers, bytes))
        };
        let (status, headers, bytes) = tokio::time::timeout(CALL_TIME, exchange).await.map_err(|_| too_slow())??;
        if !status.is_success() {
            let said = Said::of(&bytes);
            return Err(Failure { status: Some(status), error: self.refusal(whose, status, &headers, route, &said) });
        }
        self.limits.learn(whose, status, &headers, "", Timestamp::now());
        // Some answers have no body: `null` then stands for it.
        let body = serde_json::from_slice(if bytes.is_empty() { b"null" } else { &bytes });
        let body = body.map_err(|e| ForgeError::Unavailable(format!("its answer cannot be read: {e}")))?;
        Ok((body, headers))
    }

    /// What an error of octocrab's means.
    fn explain(&self, whose: i64, route: &str, error: octocrab::Error) -> ForgeError {
        match error {
            octocrab::Error::GitHub { source, .. } => {
                let said = Said { text: source.message.clone() };
                let headers = source.headers.clone().unwrap_or_default();
                self.refusal(whose, source.status_code, &headers, route, &said)
            }
            // Its own text ends with a backtrace; the innermost cause is what helps.
            other => ForgeError::Unavailable(innermost(&other)),
        }
    }

    fn refusal(&self, whose: i64, status: StatusCode, headers: &HeaderMap, route: &str, said: &Said) -> ForgeError {
        if let Some(until) = self.limits.learn(whose, status, headers, &said.text, Timestamp::now()) {
            return ForgeError::RateLimited { until };
        }
        match status.as_u16() {
            // 409 is what an empty repository answers, 410 and 451 what is gone for good.
            404 | 409 | 410 | 451 => ForgeError::NotFound(route.to_owned()),
            // Our credentials: an operator mends them, and then asking again helps.
            401 => ForgeError::Unavailable(format!("GitHub does not accept the App's credentials: {}", said.text)),
            400..=499 => ForgeError::Refused(format!("{} ({status})", said.text)),
            _ => ForgeError::Unavailable(format!("{} ({status})", said.text)),
        }
    }
}

/// What every client of the API at `api_url` begins as.
fn builder(
    api_url: &Url,
) -> anyhow::Result<OctocrabBuilder<NoSvc, DefaultOctocrabBuilderConfig, NoAuth, NotLayerReady>> {
    // Paths are joined to it, so a slash at its end would double.
    let base = api_url.as_str().trim_end_matches('/').to_owned();
    let builder = Octocrab::builder().base_uri(base).context("the GitHub API address cannot be used")?;
    Ok(builder
        .set_connect_timeout(Some(Duration::from_secs(10)))
        .set_read_timeout(Some(Duration::from_secs(20)))
        .set_write_timeout(Some(Duration::from_secs(20)))
        .add_header(http::header::USER_AGENT, format!("rivet/{}", env!("CARGO_PKG_VERSION"))))
}

/// A client that is nobody: for the one call that is made before there is an App.
pub(super) fn unauthenticated(api_url: &Url) -> anyhow::Result<Octocrab> {
    builder(api_url)?.build().context("no client for GitHub can be made")
}

/// What GitHub's error body says, made fit to be shown.
pub(super) struct Said {
    pub(super) text: String,
}

impl Said {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let body: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        let mut text = body["message"].as_str().unwrap_or("no reason given").to_owned();
        if !body["errors"].is_null() {
            text = format!("{text}: {}", body["errors"]);
        }
        Self { text: title(&text) }
    }
}

/// A failed call, and the status where there was an answer.
struct Failure {
    status: Option<StatusCode>,
    error: ForgeError,
}

impl From<ForgeError> for Failure {
    fn from(error: ForgeError) -> Self {
        Self { status: None, error }
    }
}

impl From<Failure> for ForgeError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

fn too_slow() -> ForgeError {
    ForgeError::Unavailable(format!("no answer within {} seconds", CALL_TIME.as_secs()))
}

pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    title(&cause.to_string())
}
