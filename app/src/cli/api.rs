//! `rivet api METHOD PATH`: a raw call of the REST API.

use super::client::{CallError, ServerArgs};
use super::{Exit, Failure, output};
use futures::StreamExt as _;
use reqwest::Method;
use std::io::{IsTerminal as _, Read as _, Write as _};

/// Arguments of `rivet api`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// GET, POST, PUT, PATCH or DELETE; may be left out for GET
    #[arg(value_name = "METHOD")]
    first: String,
    /// Such as /api/v1/runs; /api/v1 may be left out
    path: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    /// The body: a JSON text, @FILE, or - for standard input
    #[arg(long, short = 'd', value_name = "BODY")]
    data: Option<String>,
    /// Accepted and without effect: answers of the API are JSON already
    #[arg(long)]
    json: bool,
}

/// Runs the command: prints the answer's body, and says a refusal on stderr.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let client = args.server.client()?;
    let (method, path) = match &args.path {
        Some(path) => (args.first.as_str(), path.as_str()),
        None => ("GET", args.first.as_str()),
    };
    let method: Method = match method.to_uppercase().as_str() {
        known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD") => {
            known.parse().map_err(|_| Failure::usage("a method has letters only"))?
        }
        other => return Err(Failure::usage(format!("'{other}' is not a method; write `rivet api GET /api/v1/runs`"))),
    };
    let body = args.data.as_deref().map(body).transpose()?;
    let response = client.raw(method, &full(path), body).await?;
    let status = response.status();
    let json = response.headers().get("content-type").and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("json"));
    let mut stream = response.bytes_stream();
    let mut kept = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| Failure::new(Exit::Unreachable, format!("the answer broke off: {e}")))?;
        // JSON is shown as a whole; everything else (logs, events) as it comes.
        if json {
            kept.extend_from_slice(&chunk);
        } else if std::io::stdout().write_all(&chunk).is_err() {
            return Ok(Exit::Done);
        }
    }
    if json {
        show(&kept);
    }
    if status.is_success() {
        return Ok(Exit::Done);
    }
    let message = format!("the server answered {status}");
    Err(CallError { status: Some(status.as_u16()), code: String::new(), message }.into())
}

fn show(bytes: &[u8]) {
    match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(value) if std::io::stdout().is_terminal() => output::print_data(&format!("{value:#}\n")),
        Ok(value) => output::print_data(&format!("{value}\n")),
        Err(_) => output::print_data(&String::from_utf8_lossy(bytes)),
    }
}

fn full(path: &str) -> String {
    let path = path.trim_start_matches('/');
    if path.starts_with("api/") || matches!(path, "healthz" | "readyz" | "metrics") {
        return format!("/{path}");
    }
    format!("/api/v1/{path}")
}

fn body(data: &str) -> Result<Vec<u8>, Failure> {
    let read = match data.strip_prefix('@') {
        Some(path) => std::fs::read(path).map_err(|e| (path, e)),
        None if data == "-" => {
            let mut bytes = vec![];
            std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes).map_err(|e| ("standard input", e))
        }
        None => Ok(data.as_bytes().to_vec()),
    };
    let bytes = read.map_err(|(what, e)| Failure::usage(format!("{what} cannot be read: {e}")))?;
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::usage(format!("the body is not JSON: {error}"))),
    }
}
