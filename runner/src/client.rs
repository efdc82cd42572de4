//! The HTTP client of the runner protocol.

use bytes::Bytes;
use pipelines_spec::protocol::{
    ClaimRequest, ClaimResponse, FinishRequest, HeartbeatRequest, HeartbeatResponse, LogResponse, RegisterRequest,
    RegisterResponse, StartRequest, VERSION, VERSION_HEADER,
};
use reqwest::{RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use url::Url;

/// How long a call may take that answers at once.
const CALL: Duration = Duration::from_secs(15);
/// How long a heartbeat may take: a slow answer must not eat the time in which the next one could save the lease.
const HEARTBEAT: Duration = Duration::from_secs(8);

/// What the server says is wrong (RFC 9457).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The catalogue's code, such as `lease.stale`.
    pub code: String,
    /// One sentence.
    pub detail: String,
    /// The offset a log chunk should have had, where the server says so apart from its sentence.
    pub expected_offset: Option<u64>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The credential is not valid (any more).
    #[error("not authorized: {}", .0.detail)]
    Unauthorized(Problem),
    /// The credential does not allow this.
    #[error("forbidden: {}", .0.detail)]
    Forbidden(Problem),
    /// There is no such job for this runner.
    #[error("not found: {}", .0.detail)]
    NotFound(Problem),
    /// The job's state or epoch does not allow it.
    #[error("{}: {}", .0.code, .0.detail)]
    Conflict(Problem),
    /// The server does not speak this version.
    #[error("{}", .0.detail)]
    Upgrade(Problem),
    /// The server refuses the request as it is.
    #[error("refused ({0}): {detail}", detail = .1.detail)]
    Refused(StatusCode, Problem),
    /// The server cannot answer now.
    #[error("the server is unavailable ({0}): {detail}", detail = .1.detail)]
    Unavailable(StatusCode, Problem),
    /// Nothing came back, or nothing that can be read.
    #[error("the server cannot be reached: {0}")]
    Network(String),
}

impl ClientError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(..) | Self::Network(_) => true,
            Self::Unauthorized(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::Conflict(_)
            | Self::Upgrade(_)
            | Self::Refused(..) => false,
        }
    }

    /// Whether the server is there but cannot renew leases, so that nobody else can take the jobs either.
    pub fn is_hold(&self) -> bool {
        matches!(self, Self::Unavailable(_, problem) if problem.code == "hold")
    }
}

/// A runner's side of the protocol.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Arc<RwLock<SecretString>>,
}

impl Client {
    /// A client of the server at `url`, not signed in yet.
    pub fn new(url: &Url) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("rivet-runner/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let mut base = url.clone();
        base.set_path(&format!("{}/api/runner/v1/", base.path().trim_end_matches('/')));
        Ok(Self { http, base, token: Arc::new(RwLock::new(SecretString::from(String::new()))) })
    }

    /// Presents `token` from now on.
    pub fn sign_in(&self, token: SecretString) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Exchanges a registration token for the runner's own credentials.
    pub async fn register(
        &self,
        token: &SecretString,
        request: &RegisterRequest,
    ) -> Result<RegisterResponse, ClientError> {
        let call = self.http.post(self.url("register")).bearer_auth(token.expose_secret()).json(request);
        json(send(call, CALL).await?).await
    }

    /// Asks for work.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<ClaimResponse, ClientError> {
        let patience = Duration::from_secs(request.wait_seconds) + CALL;
        json(send(self.post("claim").json(request), patience).await?).await
    }

    /// Renews leases.
    pub async fn heartbeat(&self, request: &HeartbeatRequest) -> Result<HeartbeatResponse, ClientError> {
        json(send(self.post("heartbeat").json(request), HEARTBEAT).await?).await
    }

    /// Says that a job's own code begins.
    pub async fn start(&self, job: &str, epoch: i64) -> Result<(), ClientError> {
        let call = self.post(&format!("jobs/{job}/start")).json(&StartRequest { epoch });
        send(call, CALL).await.map(drop)
    }

    /// Sends a piece of a job's log; answers the offset the next one must have.
    pub async fn log(&self, job: &str, epoch: i64, offset: u64, bytes: Bytes) -> Result<u64, ClientError> {
        let call = self
            .post(&format!("jobs/{job}/logs"))
            .query(&[("epoch", epoch.to_string()), ("offset", offset.to_string())])
            .header(http_content_type(), "application/octet-stream")
            .body(bytes);
        let answer: LogResponse = json(send(call, CALL).await?).await?;
        Ok(answer.next_offset)
    }

    /// Ends a job.
    pub async fn finish(&self, job: &str, request: &FinishRequest) -> Result<(), ClientError> {
        send(self.post(&format!("jobs/{job}/finish")).json(request), CALL).await.map(drop)
    }

    /// Says that this runner claims no more.
    pub async fn leave(&self) -> Result<(), ClientError> {
        send(self.post("leave").json(&serde_json::json!({})), CALL).await.map(drop)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.http.post(self.url(path)).bearer_auth(token.expose_secret())
    }

    fn url(&self, path: &str) -> Url {
        // The base ends with a slash and `path` is a relative one of ours, so joining cannot fail.
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }
}

fn http_content_type() -> reqwest::header::HeaderName {
    reqwest::header::CONTENT_TYPE
}

async fn send(call: RequestBuilder, patience: Duration) -> Result<Response, ClientError> {
    let call = call.header(VERSION_HEADER, VERSION).timeout(patience);
    let response = call.send().await.map_err(network)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    let problem = serde_json::from_str(&text)
        .unwrap_or_else(|_| Problem { detail: format!("the answer was {status}"), ..Problem::default() });
    Err(match status {
        StatusCode::UNAUTHORIZED => ClientError::Unauthorized(problem),
        StatusCode::FORBIDDEN => ClientError::Forbidden(problem),
        StatusCode::NOT_FOUND => ClientError::NotFound(problem),
        StatusCode::CONFLICT => ClientError::Conflict(problem),
        StatusCode::UPGRADE_REQUIRED => ClientError::Upgrade(problem),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => ClientError::Unavailable(status, problem),
        status if status.is_server_error() => ClientError::Unavailable(status, problem),
        status => ClientError::Refused(status, problem),
    })
}

async fn json<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    response.json().await.map_err(network)
}

fn network(error: reqwest::Error) -> ClientError {
    // The chain says why; the address is left out, because it is in every message anyway.
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    ClientError::Network(text)
}

/// Delays between tries, growing and spread so that many runners do not come back at once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// Delays from `first` to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// The next delay.
    pub fn delay(&mut self) -> Duration {
        let delay = self.next.mul_f64(rand::random_range(0.5..1.5));
        self.next = (self.next * 2).min(self.most);
        delay
    }
}
