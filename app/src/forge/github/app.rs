//! The App itself: what GitHub says it is, where it is installed, where its deliveries go, and how one is made.

use super::Github;
use super::client::{PAGE, Said, unauthenticated};
use super::payload::{clean, title};
use crate::forge::ForgeError;
use http::Method;
use http_body_util::{BodyExt, Limited};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use url::Url;

/// How long the making of an App may take.
const CONVERSION_TIME: Duration = Duration::from_secs(30);
const CONVERSION_BYTES: usize = 1 << 20;

/// What GitHub says the App is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AppFacts {
    /// Its id.
    pub id: i64,
    /// The name in its address.
    #[serde(default)]
    pub slug: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its page.
    #[serde(default)]
    pub html_url: String,
    /// Its client id.
    #[serde(default)]
    pub client_id: String,
    /// Whom it belongs to.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// What it may do where it is installed.
    #[serde(default)]
    pub permissions: BTreeMap<String, String>,
    /// What it is told.
    #[serde(default)]
    pub events: Vec<String>,
}

/// Whom an App belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Owner {
    /// The login of a user or an organisation.
    #[serde(default)]
    pub login: String,
    /// `User` or `Organization`.
    #[serde(default, rename = "type")]
    pub kind: String,
}

impl AppFacts {
    /// The login of its owner; empty where GitHub does not tell.
    pub fn owner(&self) -> String {
        self.owner.as_ref().map(|owner| clean(&owner.login)).unwrap_or_default()
    }
}

/// One installation of the App.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallationFacts {
    /// Its id.
    pub id: i64,
    /// Its account's login.
    pub account: String,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Where its owner accepts new permissions.
    pub html_url: String,
    /// What the App may do here: new permissions of the App count once an owner accepted them.
    pub permissions: BTreeMap<String, String>,
    /// `all` or `selected`.
    pub selection: String,
}

#[derive(Deserialize)]
struct Installation {
    id: i64,
    account: Option<Owner>,
    suspended_at: Option<String>,
    #[serde(default)]
    html_url: String,
    #[serde(default)]
    permissions: BTreeMap<String, String>,
    #[serde(default)]
    repository_selection: String,
}

/// Where deliveries go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HookConfig {
    /// The address.
    #[serde(default)]
    pub url: String,
    /// `json`, or `form`, which Rivet refuses.
    #[serde(default)]
    pub content_type: String,
    /// Whether GitHub was told not to check the certificate: `1`, as text or number.
    #[serde(default)]
    insecure_ssl: Value,
}

impl HookConfig {
    /// Whether GitHub was told not to check the certificate.
    pub fn insecure(&self) -> bool {
        self.insecure_ssl == "1" || self.insecure_ssl == 1
    }
}

/// A change of where deliveries go; what is `None` stays.
#[derive(Default)]
pub struct HookChange<'a> {
    /// The address, with JSON as the content type.
    pub url: Option<&'a str>,
    /// What they are signed with.
    pub secret: Option<&'a SecretString>,
}

/// A new App, with everything secret about it. GitHub tells this once.
#[derive(Deserialize)]
pub struct NewApp {
    /// What it is.
    #[serde(flatten)]
    pub facts: AppFacts,
    /// Its private key, PEM.
    pub pem: SecretString,
    /// What its deliveries are signed with.
    pub webhook_secret: Option<SecretString>,
    /// What people would sign in through it with.
    pub client_secret: SecretString,
}

/// Turns the code a browser brought back from GitHub into the App that was made there. It works once, within the hour.
pub async fn convert(api_url: &Url, code: &str) -> Result<NewApp, ForgeError> {
    let client = unauthenticated(api_url).map_err(|error| ForgeError::Refused(format!("{error:#}")))?;
    // It becomes part of an address.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if code.is_empty() || code.len() > 200 || !code.bytes().all(plain) {
        return Err(ForgeError::NotFound("the App of this code".to_owned()));
    }
    let request = http::Request::builder().method(Method::POST).uri(format!("/app-manifests/{code}/conversions"));
    let unavailable = |why: String| ForgeError::Unavailable(title(&why));
    let request = client.build_request(request, None::<&()>).map_err(|e| unavailable(e.to_string()))?;
    let exchange = async {
        let response = client.execute(request).await.map_err(|e| unavailable(super::client::innermost(&e)))?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), CONVERSION_BYTES).collect().await;
        Ok::<_, ForgeError>((status, bytes.map_err(|e| unavailable(e.to_string()))?.to_bytes()))
    };
    let answer = tokio::time::timeout(CONVERSION_TIME, exchange).await;
    let (status, bytes) = answer.map_err(|_| unavailable("no answer within 30 seconds".to_owned()))??;
    match status.as_u16() {
        200..=299 => serde_json::from_slice(&bytes).map_err(|e| unavailable(format!("its answer cannot be read: {e}"))),
        404 | 410 | 422 => Err(ForgeError::NotFound("the App of this code".to_owned())),
        400..=499 => Err(ForgeError::Refused(format!("{} ({status})", Said::of(&bytes).text))),
        _ => Err(unavailable(format!("{} ({status})", Said::of(&bytes).text))),
    }
}

impl Github {
    /// Asks GitHub who we are: whether address, id and key fit together.
    pub async fn verify(&self) -> Result<AppFacts, ForgeError> {
        self.get_as_app("/app").await
    }

    /// Every installation of the App.
    pub async fn installations(&self) -> Result<Vec<InstallationFacts>, ForgeError> {
        let mut all = vec![];
        for page in 1.. {
            let listed: Vec<Installation> =
                self.get_as_app(&format!("/app/installations?per_page={PAGE}&page={page}")).await?;
            let count = listed.len();
            all.extend(listed.into_iter().map(|found| InstallationFacts {
                id: found.id,
                account: found.account.map(|account| clean(&account.login)).unwrap_or_default(),
                suspended: found.suspended_at.is_some(),
                html_url: found.html_url,
                permissions: found.permissions,
                selection: clean(&found.repository_selection),
            }));
            if count < PAGE {
                break;
            }
        }
        Ok(all)
    }

    /// Where GitHub sends deliveries.
    pub async fn hook_config(&self) -> Result<HookConfig, ForgeError> {
        self.get_as_app("/app/hook/config").await
    }

    /// Tells GitHub where to send deliveries, or what to sign them with.
    pub async fn change_hook(&self, change: HookChange<'_>) -> Result<HookConfig, ForgeError> {
        let mut body = json!({});
        if let Some(url) = change.url {
            body["url"] = url.into();
            body["content_type"] = "json".into();
            body["insecure_ssl"] = "0".into();
        }
        if let Some(secret) = change.secret {
            body["secret"] = secret.expose_secret().into();
        }
        self.call_as_app(Method::PATCH, "/app/hook/config", Some(&body)).await
    }
}
