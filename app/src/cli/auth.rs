//! `rivet auth …`: who we are at a server.

use super::client::{Client, List, ServerArgs};
use super::credentials::{self, Kept};
use super::{Exit, Failure, output};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Read as _};
use url::Url;

/// Arguments of `rivet auth`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Keep a token, read from standard input, for a server
    Login {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget the token kept for a server
    Logout {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell which server and which token are used, and whether it is accepted
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Login { json } => login(&args.server, json).await,
        Verb::Logout { json } => logout(&args.server, json),
        Verb::Status { json } => status(&args.server, json).await,
    }
}

async fn login(server: &ServerArgs, json: bool) -> Result<Exit, Failure> {
    let url = address(server.client()?.url())?;
    if url.scheme() == "http" && !is_loopback(&url) {
        output::warn(&format!("{url} is not https: the token travels in the clear"));
    }
    let token = read_token(&url)?;
    let client = Client::new(url.clone(), Some(token.clone()))?;
    probe(&client).await?;
    let mut kept = Kept::load()?;
    kept.keep(&url, token);
    let path = kept.save()?;
    if json {
        output::print_json(&json!({ "url": url, "signed_in": true, "kept_in": path }));
    } else {
        output::note(&format!("signed in to {url}; the token is kept in {} (readable by you alone)", path.display()));
    }
    Ok(Exit::Done)
}

/// The token from standard input; a person is told to paste it, and it is not shown while they do.
fn read_token(url: &Url) -> Result<SecretString, Failure> {
    let text = if std::io::stdin().is_terminal() {
        output::note(&format!("paste a token for {url} and press Enter (it is not shown)"));
        let line = console::Term::stderr().read_secure_line();
        line.map_err(|e| Failure::new(Exit::Interrupted, format!("no token was read: {e}")))?
    } else {
        let mut text = String::new();
        let read = std::io::stdin().lock().take(64 << 10).read_to_string(&mut text);
        read.map_err(|e| Failure::usage(format!("standard input cannot be read: {e}")))?;
        text
    };
    let token = text.trim();
    if token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Failure::usage("a token is one word; give it on standard input: rivet auth login < token.txt"));
    }
    Ok(token.to_owned().into())
}

fn logout(server: &ServerArgs, json: bool) -> Result<Exit, Failure> {
    let url = address(server.client()?.url())?;
    let mut kept = Kept::load()?;
    let had = kept.forget(&url);
    if had {
        kept.save()?;
    }
    if json {
        output::print_json(&json!({ "url": url, "signed_in": false, "forgotten": had }));
    } else if had {
        output::note(&format!("the token for {url} is forgotten; it stays valid until it is revoked on the server"));
    } else {
        output::note(&format!("no token is kept for {url}"));
    }
    Ok(Exit::Done)
}

async fn status(server: &ServerArgs, json: bool) -> Result<Exit, Failure> {
    let client = server.client()?;
    let source = if credentials::from_environment()?.is_some() {
        "the environment (RIVET_TOKEN or RIVET_TOKEN_FILE)".to_owned()
    } else if client.has_token() {
        credentials::path()?.display().to_string()
    } else {
        "nowhere".to_owned()
    };
    let outcome = probe(&client).await;
    if json {
        let problem = outcome.as_ref().err().map(|f| f.message.clone());
        let fields =
            json!({ "url": client.url(), "token_from": source, "signed_in": outcome.is_ok(), "problem": problem });
        output::print_json(&fields);
        return Ok(outcome.err().map_or(Exit::Done, |failure| failure.exit));
    }
    output::print_data(&format!("server: {}\ntoken from: {source}\n", client.url()));
    outcome?;
    output::print_data("signed in: yes\n");
    Ok(Exit::Done)
}

/// Asks for something that only somebody who is signed in gets.
async fn probe(client: &Client) -> Result<(), Failure> {
    client.get::<List<Value>>("/api/v1/runs?limit=1").await.map(drop).map_err(Failure::from)
}

fn address(url: &str) -> Result<Url, Failure> {
    Url::parse(url).map_err(|e| Failure::usage(format!("{url}: {e}")))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
