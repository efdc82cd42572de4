//! A real server on a real port, and clients that behave as well or as badly as a test wants.

use crate::stores::Database;
use axum::http::StatusCode;
use rivet::config::{Config, GithubConfig};
use rivet::context::Context;
use rivet::evaluator::Evaluator;
use rivet::forge::Forges;
use rivet::http::webhook::{self, sign};
use rivet::store::Store;
use rivet::store::deliveries::Delivery;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
pub const LOCAL_SECRET: &[u8] = b"another secret of thirty-two bytes or more";

/// A server with a database of its own.
pub struct Server {
    address: SocketAddr,
    database: Database,
    client: reqwest::Client,
}

impl Server {
    pub async fn new(database: Database) -> Self {
        Self::with(database, true).await
    }

    /// Another server on the same database that was given no secrets.
    pub async fn without_secrets(self) -> Self {
        Self::with(self.database, false).await
    }

    async fn with(database: Database, secrets: bool) -> Self {
        let config = config(database.folder.path(), secrets);
        let context = Context::new(database.store.clone(), Forges::default(), Evaluator::new("unused"), config);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = webhook::router().with_state(context);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, database, client: reqwest::Client::new() }
    }

    pub fn store(&self) -> &Store {
        &self.database.store
    }

    /// A request without a signature.
    pub fn request(&self, id: &str, event: &str) -> reqwest::RequestBuilder {
        self.to("/webhooks/github", id, event, &[])
    }

    fn to(&self, path: &str, id: &str, event: &str, instead: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let mut request = self.client.post(format!("http://{}{path}", self.address));
        let usual = [
            ("content-type", "application/json"),
            ("x-github-delivery", id),
            ("x-github-event", event),
            ("x-github-hook-id", "1"),
            ("user-agent", "GitHub-Hookshot/044aadd"),
        ];
        for (name, value) in usual {
            if !instead.iter().any(|(other, _)| *other == name) {
                request = request.header(name, value);
            }
        }
        for (name, value) in instead.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        request
    }

    /// A rightly signed request with some headers replaced (or, with an empty value, left out).
    pub fn signed(&self, id: &str, event: &str, body: &str, instead: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let request = self.to("/webhooks/github", id, event, instead);
        request.header("x-hub-signature-256", sign(SECRET, body.as_bytes())).body(body.to_owned())
    }

    /// A request to `path` signed with `secret`.
    pub fn signed_with(&self, secret: &[u8], path: &str, id: &str, event: &str, body: &str) -> reqwest::RequestBuilder {
        let request = self.to(path, id, event, &[]);
        request.header("x-hub-signature-256", sign(secret, body.as_bytes())).body(body.to_owned())
    }

    pub async fn deliver(&self, id: &str, event: &str, body: &str) -> (StatusCode, Value) {
        answer(self.signed(id, event, body, &[])).await
    }

    fn head(&self, id: &str, event: &str, signature: &str, length: &str) -> String {
        format!(
            "POST /webhooks/github HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nx-github-delivery: {id}\r\n\
             x-github-event: {event}\r\nx-hub-signature-256: {signature}\r\n{length}\r\n\r\n",
            self.address
        )
    }

    /// Sends the body byte by byte over a bare connection, with its length told or in chunks, and reads what comes back.
    pub async fn deliver_raw(&self, id: &str, event: &str, body: &[u8], chunked: bool) -> String {
        let length = match chunked {
            true => "transfer-encoding: chunked".to_owned(),
            false => format!("content-length: {}", body.len()),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut input, mut output) = stream.into_split();
        let head = self.head(id, event, &sign(SECRET, body), &length);
        let body = body.to_vec();
        let sending = tokio::spawn(async move {
            output.write_all(head.as_bytes()).await?;
            for piece in body.chunks(1 << 20) {
                match chunked {
                    true => {
                        output.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                        output.write_all(piece).await?;
                        output.write_all(b"\r\n").await?;
                    }
                    false => output.write_all(piece).await?,
                }
            }
            // The last chunk is not sent: the answer must come before it.
            Ok::<_, std::io::Error>(output)
        });
        let mut answer = vec![];
        // A reset after the answer is the close that was promised.
        let _ = input.read_to_end(&mut answer).await;
        let _ = sending.await;
        tell(&String::from_utf8_lossy(&answer))
    }

    /// Promises more than it sends and hangs up; answers the bytes that came back.
    pub async fn deliver_half(&self, id: &str) -> usize {
        let body = push().to_string();
        let head =
            self.head(id, "push", &sign(SECRET, body.as_bytes()), &format!("content-length: {}", body.len() + 10));
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        if text.starts_with("HTTP/1.1 400") { 0 } else { answer.len() }
    }

    pub async fn delivery(&self, id: &str) -> Delivery {
        self.database.store.read().await.unwrap().delivery(&id.into()).await.unwrap()
    }

    /// How many deliveries are stored.
    pub async fn stored(&self) -> usize {
        self.database.store.read().await.unwrap().deliveries(&Default::default(), None, 1000).await.unwrap().len()
    }

    pub async fn suspend_installation(&self, id: i64) {
        let mut tx = self.database.store.begin().await.unwrap();
        tx.save_installation(id, "acme", true, false, rivet::model::time::Timestamp(1)).await.unwrap();
        tx.commit().await.unwrap();
    }
}

fn config(folder: &std::path::Path, secrets: bool) -> Config {
    let secret = |bytes: &[u8]| SecretString::from(String::from_utf8(bytes.to_vec()).unwrap());
    let github = GithubConfig {
        app_id: 1,
        private_key: "unused".into(),
        webhook_secret: secret(SECRET),
        api_url: "http://127.0.0.1:9".parse().unwrap(),
        server_url: "http://127.0.0.1:9".parse().unwrap(),
    };
    Config {
        github: secrets.then_some(github),
        local_webhook_secret: secrets.then(|| secret(LOCAL_SECRET)),
        ..Config::embedded(folder, ([127, 0, 0, 1], 0).into())
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = StatusCode::from_u16(response.status().as_u16()).unwrap();
    (status, response.json().await.unwrap())
}

fn tell(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, "{}"));
    let status = head.split(' ').nth(1).unwrap_or("no answer");
    let body: Value = serde_json::from_str(body.trim()).unwrap_or_default();
    let close = if head.to_lowercase().contains("connection: close") { " (connection: close)" } else { "" };
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    format!("{status} {}: {}{close}", text("code"), text("detail"))
}

/// A fresh delivery id.
pub fn guid() -> String {
    let hex = format!("{:032x}", u128::from(ulid::Ulid::new()));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A push as GitHub sends it, cut to what is read.
pub fn push() -> Value {
    json!({
        "ref": "refs/heads/main",
        "before": "1".repeat(40),
        "after": "2".repeat(40),
        "created": false, "deleted": false, "forced": false,
        "head_commit": { "id": "2".repeat(40), "message": "Fix the thing" },
        "repository": {
            "id": 4711, "name": "app", "full_name": "acme/app", "private": true,
            "owner": { "login": "acme", "name": "acme" }, "default_branch": "main", "pushed_at": 1_764_000_000
        },
        "pusher": { "name": "ada" },
        "sender": { "login": "ada", "id": 1 }
    })
}

/// Every example payload, by file name.
pub fn examples() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/github/webhooks");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}
