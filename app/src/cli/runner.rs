//! `rivet runner …`: this machine as a runner, and every runner of a server.

use super::client::{CallError, Client, List, ServerArgs, segment};
use super::server::start_log;
use super::{Exit, Failure, output};
use crate::model::time::Timestamp;
use ::runner::cli::{self, RunnerArgs, StartArgs};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::process::ExitCode;

/// Arguments of `rivet runner`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Register where needed, then run jobs until told to end (SIGTERM: finish first; twice: cancel)
    Start(StartArgs),
    /// Exchange a registration token for this machine's own credentials
    Register(RunnerArgs),
    /// Look whether this machine can be a runner
    Doctor(RunnerArgs),
    /// List the runners of a server
    #[command(alias = "ls")]
    List(Remote),
    /// Let a runner finish what it has and leave
    Drain(One),
    /// Give a runner no more jobs for now
    Pause(One),
    /// Give a paused runner jobs again
    Resume(One),
    /// Take a runner's credentials back
    #[command(alias = "rm")]
    Remove(One),
    /// Make, list and take back registration tokens
    Token(TokenArgs),
}

#[derive(Debug, clap::Args)]
struct Remote {
    #[command(flatten)]
    server: ServerArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct One {
    /// The runner's id or name
    runner: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    #[command(subcommand)]
    verb: TokenVerb,
}

#[derive(Debug, clap::Subcommand)]
enum TokenVerb {
    /// Make a registration token: used once, within an hour; it is shown now and never again
    Create {
        /// What it is for
        #[arg(long, default_value = "runner")]
        name: String,
        /// Labels it grants, as KEY=VALUE; none: whatever the runner asks for
        #[arg(long, value_delimiter = ',')]
        labels: Vec<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// List registration tokens
    #[command(alias = "ls")]
    List(Remote),
    /// Take a registration token back
    Revoke {
        /// Its id
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Runner {
    id: String,
    name: String,
    state: String,
    version: String,
    labels: Vec<Value>,
    executors: Vec<String>,
    last_seen_at: Option<Timestamp>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Token {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    expires_at: Option<Timestamp>,
    used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Runs `rivet runner`.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    match args.verb {
        Verb::Start(args) => {
            log();
            Ok(exit_of(cli::start(&args, job_command()?).await?))
        }
        Verb::Register(args) => {
            log();
            Ok(exit_of(cli::register(&args).await?))
        }
        Verb::Doctor(args) => {
            let config = args.config(job_command()?).await?;
            Ok(exit_of(::runner::doctor::report(&config).await))
        }
        Verb::List(remote) => list(&remote).await,
        Verb::Drain(one) => act(&one, "drain").await,
        Verb::Pause(one) => act(&one, "pause").await,
        Verb::Resume(one) => act(&one, "resume").await,
        Verb::Remove(one) => remove(&one).await,
        Verb::Token(args) => token(args.verb).await,
    }
}

/// A runner reads no settings file: its log follows the environment alone.
fn log() {
    let format = std::env::var("RIVET_LOG_FORMAT").ok().and_then(|format| format.parse().ok());
    start_log(&std::env::var("RIVET_LOG").unwrap_or_else(|_| "info".to_owned()), format);
}

fn job_command() -> Result<Vec<OsString>, Failure> {
    let program =
        runner::config::own_program().map_err(|e| Failure::failed(format!("this program's own path: {e}")))?;
    Ok(vec![program.into_os_string(), super::JOB_COMMAND.into()])
}

fn exit_of(code: ExitCode) -> Exit {
    if code == ExitCode::SUCCESS { Exit::Done } else { Exit::Failed }
}

async fn runners(client: &Client) -> Result<List<Runner>, CallError> {
    client.get("/api/v1/runners?limit=100").await
}

async fn list(remote: &Remote) -> Result<Exit, Failure> {
    let found = runners(&remote.server.client()?).await?;
    if remote.json {
        output::print_json(&found.items);
        return Ok(Exit::Done);
    }
    if found.items.is_empty() {
        output::note("no runner has registered; 'rivet runner token create' makes a token for one");
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = found
        .items
        .iter()
        .map(|r| {
            let labels: Vec<String> = r.labels.iter().map(label).collect();
            let seen = r.last_seen_at.map_or_else(String::new, |at| output::ago(at, now));
            vec![r.name.clone(), r.state.clone(), labels.join(" "), r.version.clone(), seen, r.id.clone()]
        })
        .collect();
    output::print_data(&output::table(&["NAME", "STATE", "LABELS", "VERSION", "SEEN", "ID"], &rows));
    Ok(Exit::Done)
}

/// A label as `key=value`, whether the server says it so or in parts.
fn label(value: &Value) -> String {
    match (value.as_str(), value["key"].as_str(), value["value"].as_str()) {
        (Some(text), _, _) => text.to_owned(),
        (None, Some(key), Some(value)) => format!("{key}={value}"),
        _ => value.to_string(),
    }
}

/// The id of the runner called `name`, which may be its id.
async fn id_of(client: &Client, name: &str) -> Result<String, Failure> {
    let found = runners(client).await?;
    match found.items.iter().find(|r| r.id == name || r.name == name) {
        Some(runner) => Ok(runner.id.clone()),
        None => {
            Err(Failure::new(Exit::NotFound, format!("there is no runner '{name}'; 'rivet runner list' shows all")))
        }
    }
}

async fn act(one: &One, verb: &str) -> Result<Exit, Failure> {
    let client = one.remote.server.client()?;
    let id = id_of(&client, &one.runner).await?;
    let answer: Value = client.post(&format!("/api/v1/runners/{}/{verb}", segment(&id)), &json!({})).await?;
    if one.remote.json {
        output::print_json(&answer);
    } else {
        output::note(&format!("{}: {verb}", one.runner));
    }
    Ok(Exit::Done)
}

async fn remove(one: &One) -> Result<Exit, Failure> {
    let client = one.remote.server.client()?;
    let id = id_of(&client, &one.runner).await?;
    client.raw(reqwest::Method::DELETE, &format!("/api/v1/runners/{}", segment(&id)), None).await?;
    output::note(&format!("{} was removed; its credentials are void", one.runner));
    Ok(Exit::Done)
}

async fn token(verb: TokenVerb) -> Result<Exit, Failure> {
    const PATH: &str = "/api/v1/runners/registration-tokens";
    match verb {
        TokenVerb::Create { name, labels, remote } => {
            let made: Token = remote.server.client()?.post(PATH, &json!({"name": name, "labels": labels})).await?;
            if remote.json {
                output::print_json(&made);
                return Ok(Exit::Done);
            }
            output::print_data(made.token.as_deref().unwrap_or_default());
            output::note("used once, within an hour: RIVET_RUNNER_TOKEN=… rivet runner start --url …");
        }
        TokenVerb::List(remote) => {
            let found: List<Token> = remote.server.client()?.get(PATH).await?;
            if remote.json {
                output::print_json(&found.items);
                return Ok(Exit::Done);
            }
            let state = |t: &Token| match (t.revoked_at, t.used_at) {
                (Some(_), _) => "revoked",
                (None, Some(_)) => "used",
                (None, None) => "open",
            };
            let row = |t: &Token| vec![t.name.clone(), state(t).to_owned(), t.id.clone()];
            output::print_data(&output::table(
                &["NAME", "STATE", "ID"],
                &found.items.iter().map(row).collect::<Vec<_>>(),
            ));
        }
        TokenVerb::Revoke { id, remote } => {
            let client = remote.server.client()?;
            client.raw(reqwest::Method::DELETE, &format!("{PATH}/{}", segment(&id)), None).await?;
            output::note(&format!("{id} was revoked"));
        }
    }
    Ok(Exit::Done)
}
