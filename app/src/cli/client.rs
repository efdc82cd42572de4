//! Talks to a server: settings, calls, and what a refusal means to the person at the terminal.

use super::{Exit, Failure, credentials, output};
use futures::StreamExt as _;
use reqwest::{Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use url::Url;

pub use shapes::{List, Run, Stage};

#[path = "client/shapes.rs"]
pub mod shapes;

/// Where clients look when nothing else is said.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// How commands that need a server find it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// The server's address
    #[arg(long, global = true, env = "RIVET_URL", value_name = "URL")]
    pub url: Option<Url>,
    /// A token, for commands that have one of their own; everybody else's comes from the environment or `rivet auth login`
    #[arg(skip)]
    pub token: Option<String>,
}

/// A server and who we are there. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    url: Url,
    token: Option<SecretString>,
    http: reqwest::Client,
}

/// A refusal: `application/problem+json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    detail: String,
    code: String,
    request_id: String,
    errors: Vec<FieldProblem>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FieldProblem {
    field: String,
    detail: String,
}

/// A call that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// The answer's status; `None`: there was no answer.
    pub status: Option<u16>,
    /// The catalogue's code.
    pub code: String,
    /// What to say.
    pub message: String,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let exit = match error.status {
            None | Some(502..=504) => Exit::Unreachable,
            Some(401 | 403) => Exit::Forbidden,
            Some(404) => Exit::NotFound,
            Some(_) => Exit::Failed,
        };
        Self::new(exit, error.message)
    }
}

impl ServerArgs {
    /// The client for these settings: flag, then environment, then what `rivet auth login` kept, then the default.
    pub fn client(&self) -> Result<Client, Failure> {
        let kept = credentials::Kept::load()?;
        let url = self.url.clone().or_else(|| kept.url.clone());
        let url = match url {
            Some(url) => url,
            None => Url::parse(DEFAULT_URL).map_err(|e| Failure::usage(e.to_string()))?,
        };
        let token = match &self.token {
            Some(token) => Some(SecretString::from(token.clone())),
            None => credentials::from_environment()?.or_else(|| kept.token(&url)),
        };
        Client::new(url, token)
    }
}

impl Client {
    /// A client of the server at `url`.
    pub fn new(url: Url, token: Option<SecretString>) -> Result<Self, Failure> {
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(Failure::usage(format!("'{url}' is not the address of a server, such as {DEFAULT_URL}")));
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("rivet/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Failure::failed(format!("the HTTP client cannot be made: {e}")))?;
        Ok(Self { url, token, http })
    }

    /// The server's address, without a slash at the end.
    pub fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Whether there is a token to show.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// `GET path`; `path` begins with `/`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let response = self.send(self.request(Method::GET, path).timeout(Duration::from_secs(30))).await?;
        self.json(response).await
    }

    /// `POST path` with a JSON body.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, CallError> {
        let request = self.request(Method::POST, path).json(body).timeout(Duration::from_secs(60));
        let response = self.send(request).await?;
        self.json(response).await
    }

    /// A raw call: the answer as it comes, whatever its status.
    pub async fn raw(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<reqwest::Response, CallError> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        request.send().await.map_err(|e| self.unreachable(&e))
    }

    /// `GET path` as text.
    pub async fn text(&self, path: &str) -> Result<String, CallError> {
        let response = self.send(self.request(Method::GET, path).timeout(Duration::from_secs(60))).await?;
        response.text().await.map_err(|e| self.unreachable(&e))
    }

    /// A run by its id.
    pub async fn run(&self, id: &str) -> Result<Run, CallError> {
        self.get(&format!("/api/v1/runs/{}", segment(id))).await
    }

    /// Server-sent events of `path` from `last_id` on.
    pub async fn events(&self, path: &str, last_id: Option<&str>) -> Result<Events, CallError> {
        let mut request = self.request(Method::GET, path).header(header::ACCEPT, "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = self.send(request).await?;
        Ok(Events { bytes: response.bytes_stream().boxed(), buffer: vec![] })
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url()));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, CallError> {
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        Err(self.refused(status, &text))
    }

    async fn json<T: DeserializeOwned>(&self, response: reqwest::Response) -> Result<T, CallError> {
        let status = response.status();
        let bytes = response.bytes().await.map_err(|e| self.unreachable(&e))?;
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|error| CallError {
            status: Some(status.as_u16()),
            code: "answer".to_owned(),
            message: format!(
                "{} answered something this version does not understand ({error})\nis it a Rivet server? compare `rivet version` with the server's",
                self.url()
            ),
        })
    }

    fn refused(&self, status: StatusCode, text: &str) -> CallError {
        let problem: Problem = serde_json::from_str(text).unwrap_or_default();
        let mut message = match status.as_u16() {
            401 if self.token.is_none() => format!(
                "not signed in to {}\nsign in with `rivet auth login`, or set RIVET_TOKEN or RIVET_TOKEN_FILE",
                self.url()
            ),
            401 => format!(
                "{} does not accept this token: {}\nsign in again with `rivet auth login`; `rivet auth status` shows which token is used",
                self.url(),
                output::clean(&problem.detail)
            ),
            300..=399 => format!("{} answers with a redirect ({status}); give the address it really has", self.url()),
            _ if problem.detail.is_empty() => format!("{} answered {status}", self.url()),
            _ => output::clean(&problem.detail),
        };
        for error in &problem.errors {
            let line = format!("\n{}: {}", output::clean(&error.field), output::clean(&error.detail));
            message.push_str(&line);
        }
        if status.is_server_error() && !problem.request_id.is_empty() {
            message.push_str(&format!("\nthe server's log has the cause under {}", output::clean(&problem.request_id)));
        }
        CallError { status: Some(status.as_u16()), code: problem.code, message }
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let why = if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() };
        let message = format!(
            "{} cannot be reached ({why})\nstart one here with `rivet up`, or name another with --url or RIVET_URL",
            self.url()
        );
        CallError { status: None, code: "unreachable".to_owned(), message }
    }
}

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Its id, to resume after it.
    pub id: Option<String>,
    /// Its kind; empty where unsaid.
    pub event: String,
    /// Its data.
    pub data: String,
}

/// A stream of server-sent events.
pub struct Events {
    bytes: futures::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; `None` when the stream ended or broke off.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((event, length)) = parse_event(&self.buffer) {
                self.buffer.drain(..length);
                if let Some(event) = event {
                    return Some(event);
                }
            }
            self.buffer.extend_from_slice(&self.bytes.next().await?.ok()?);
        }
    }
}

/// The first complete block of `buffer` and its length; a block of comments alone is no event.
fn parse_event(buffer: &[u8]) -> Option<(Option<Event>, usize)> {
    let (end, length) = (0..buffer.len()).find_map(|i| match &buffer[i..] {
        [b'\n', b'\n', ..] => Some((i, i + 2)),
        [b'\r', b'\n', b'\r', b'\n', ..] => Some((i, i + 4)),
        _ => None,
    })?;
    let text = String::from_utf8_lossy(&buffer[..end]);
    let mut event = Event::default();
    let mut lines: Vec<&str> = vec![];
    let mut any = false;
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => event.id = Some(value.to_owned()),
            "event" => event.event = value.to_owned(),
            "data" => lines.push(value),
            _ => continue,
        }
        any = true;
    }
    event.data = lines.join("\n");
    Some((any.then_some(event), length))
}

/// One segment of a path, or one value of a query, with everything special encoded.
pub fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_at_blank_lines() {
        let text = b": ping\n\nid: 7\nevent: log\ndata: a\ndata:  b\n\nid: 8\nda";
        let (none, first) = parse_event(text).expect("a comment");
        assert_eq!(none, None);
        let (event, second) = parse_event(&text[first..]).expect("an event");
        let expected = Event { id: Some("7".to_owned()), event: "log".to_owned(), data: "a\n b".to_owned() };
        assert_eq!(event, Some(expected));
        assert_eq!(parse_event(&text[first + second..]), None);
    }
}
