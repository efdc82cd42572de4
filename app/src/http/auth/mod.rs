//! Who is calling. A bearer token speaks for programs, a session cookie for browsers; both come down to a [`Caller`],
//! and what a handler demands of it stands in its arguments ([`Viewer`], [`User`], [`Admin`]).

pub mod limit;
pub mod session;

use crate::context::Context;
use crate::http::error::ApiError;
use crate::model::role::Role;
use crate::model::time::Timestamp;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::ops::Deref;
use subtle::ConstantTimeEq;

/// Who is calling and what they may do. Made only from a credential that was checked.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What their acts are recorded under.
    pub actor: String,
    /// What they may do.
    pub role: Role,
    /// The repositories they are limited to, `owner/name` in lower case; `None`: no limit.
    repos: Option<BTreeSet<String>>,
    credential: Credential,
}

/// What proved it, kept so that a long stream can ask again whether it still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Credential {
    AdminToken,
    /// The hash of a token of the API.
    Token(String),
    /// The hash of a session's id, and the word its forms carry.
    Session {
        id_hash: String,
        csrf: String,
    },
}

impl Caller {
    /// Whether they may know of this repository at all.
    pub fn may_see(&self, full_name: &str) -> bool {
        self.repos.as_ref().is_none_or(|repos| repos.contains(&full_name.to_lowercase()))
    }

    /// The repositories they are limited to, in lower case.
    pub fn limited_to(&self) -> Option<&BTreeSet<String>> {
        self.repos.as_ref()
    }

    /// The word a form of this session must carry; `None` for tokens, which no form uses.
    pub fn csrf(&self) -> Option<&str> {
        match &self.credential {
            Credential::Session { csrf, .. } => Some(csrf),
            Credential::AdminToken | Credential::Token(_) => None,
        }
    }

    /// The hash of the session's id, where this is one.
    pub(crate) fn session_hash(&self) -> Option<&str> {
        match &self.credential {
            Credential::Session { id_hash, .. } => Some(id_hash),
            Credential::AdminToken | Credential::Token(_) => None,
        }
    }

    /// Refuses callers below `role`.
    pub fn require(self, role: Role) -> Result<Self, ApiError> {
        if self.role >= role {
            return Ok(self);
        }
        let detail = format!("This needs the {role} role.");
        Err(ApiError::new(StatusCode::FORBIDDEN, "auth.role", detail))
    }

    /// Refuses callers that are limited to some repositories: what they ask for belongs to all.
    pub fn require_unlimited(self) -> Result<Self, ApiError> {
        match self.repos {
            None => Ok(self),
            Some(_) => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "auth.scope",
                "This token is limited to some repositories, and this concerns the whole instance.",
            )),
        }
    }

    /// Whether the credential still works: streams ask once a minute, so that a revoked token stops reading.
    pub async fn still_valid(&self, context: &Context, now: Timestamp) -> Result<bool, ApiError> {
        let mut tx = context.store.read().await?;
        Ok(match &self.credential {
            Credential::AdminToken => true,
            Credential::Token(hash) => tx.api_token_by_hash(hash).await?.is_some_and(|token| works(&token, now)),
            Credential::Session { id_hash, .. } => {
                tx.session(id_hash).await?.is_some_and(|session| session::is_live(&session, now))
            }
        })
    }
}

fn works(token: &crate::store::tokens::ApiToken, now: Timestamp) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|end| end > now)
}

macro_rules! at_least {
    ($($(#[$doc:meta])* $name:ident($role:expr)),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(Caller);

        impl Deref for $name {
            type Target = Caller;
            fn deref(&self) -> &Caller {
                &self.0
            }
        }

        impl FromRequestParts<Context> for $name {
            type Rejection = ApiError;
            async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
                let caller = identify(context, &parts.method, &parts.uri, &parts.headers, Timestamp::now()).await?;
                caller.require($role).map(Self)
            }
        }
    )*};
}

at_least! {
    /// Proof that the caller may look.
    Viewer(Role::Viewer),
    /// Proof that the caller may start and stop things.
    User(Role::User),
    /// Proof that the caller may run the instance.
    Admin(Role::Admin),
}

impl Admin {
    /// Proof, too, that they are not limited to some repositories.
    pub fn of_everything(&self) -> Result<(), ApiError> {
        self.0.clone().require_unlimited().map(|_| ())
    }
}

/// The SHA-256 of a credential in hexadecimal: what is kept and compared.
pub fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// 256 random bits with a prefix that says what they open.
pub fn random_token(prefix: &str) -> String {
    use rand::RngCore as _;
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("{prefix}{}", hex::encode(bytes))
}

fn unauthorized(code: &str, detail: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, code, detail)
}

const URL_SECRETS: [&str; 7] = ["token", "access_token", "api_key", "apikey", "key", "auth", "authorization"];

/// Addresses end up in histories and logs, so a credential in one is refused even where it would work.
fn refuse_token_in_url(uri: &Uri) -> Result<(), ApiError> {
    let query = uri.query().unwrap_or("");
    let found = url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| {
        let name = name.to_ascii_lowercase();
        URL_SECRETS.contains(&name.as_str())
    });
    if found {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "auth.in_url", "Send the key in the Authorization header."));
    }
    Ok(())
}

/// The caller of a request. A session cookie counts for reading only: writing by cookie is the pages' business, whose
/// forms prove where they come from.
async fn identify(
    context: &Context,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Caller, ApiError> {
    refuse_token_in_url(uri)?;
    if let Some(token) = bearer(headers)? {
        return by_token(context, token, now).await;
    }
    if (method == Method::GET || method == Method::HEAD)
        && let Some(caller) = session::by_cookie(context, headers, now).await?
    {
        return Ok(caller);
    }
    Err(unauthorized("auth.required", "Send a token: Authorization: Bearer …"))
}

/// The bearer token of a request, where it has one.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "header.repeated",
            "Authorization was sent more than once.",
        ));
    }
    let text = value.to_str().unwrap_or("");
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(Some(token.trim()))
        }
        _ => Err(invalid()),
    }
}

fn invalid() -> ApiError {
    unauthorized("token.invalid", "The token is not valid.")
}

/// The caller a bearer token speaks for. Runner and registration tokens are in other tables, so they are nobody here.
pub async fn by_token(context: &Context, token: &str, now: Timestamp) -> Result<Caller, ApiError> {
    let hash = hash(token);
    if let Some(admin) = &context.config.admin_token {
        let expected = self::hash(admin.expose_secret());
        if bool::from(expected.as_bytes().ct_eq(hash.as_bytes())) {
            let actor = "admin".to_owned();
            return Ok(Caller { actor, role: Role::Admin, repos: None, credential: Credential::AdminToken });
        }
    }
    let mut tx = context.store.read().await?;
    let token = tx.api_token_by_hash(&hash).await?.ok_or_else(invalid)?;
    if token.revoked_at.is_some() {
        return Err(invalid());
    }
    if !works(&token, now) {
        return Err(unauthorized("token.expired", "The token has expired; make a new one."));
    }
    let repos: BTreeSet<String> = token.repos.0.iter().map(|name| name.to_lowercase()).collect();
    Ok(Caller {
        actor: token.name,
        role: token.role,
        repos: (!repos.is_empty()).then_some(repos),
        credential: Credential::Token(hash),
    })
}
