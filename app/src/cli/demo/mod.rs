//! `rivet demo`: everything on this machine, with nothing installed but git.

mod repository;

use super::client::{Client, List, Run};
use super::server::{Server, hook_target, start_log, stop_signal};
use super::up::{EmbeddedRunner, give_tokens};
use super::{Exit, Failure, browser, follow, output};
use crate::config::Config;
use pipelines_spec::protocol::ExecutorKind;
use repository::Clone;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The port, where it is free.
const PORT: u16 = 8080;
/// How long the push may take to become a run.
const START_TIME: Duration = Duration::from_secs(20);
/// Between two looks for further runs.
const LOOK: Duration = Duration::from_millis(300);

/// Arguments of `rivet demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where everything is kept; a temporary folder that goes at the end where unsaid
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The port; 8080, or any that is free
    #[arg(long)]
    port: Option<u16>,
    /// End with the first run, and with its outcome as exit code
    #[arg(long)]
    exit: bool,
    /// Open the run's page in the browser
    #[arg(long)]
    open: bool,
}

/// Everything that runs.
struct Demo {
    server: Server,
    runner: EmbeddedRunner,
    client: Client,
    clone: Clone,
    token_file: PathBuf,
}

/// Runs until Ctrl-C, or with `--exit` until the first run ended.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    start_log(&std::env::var("RIVET_LOG").unwrap_or_else(|_| "warn".to_owned()), None);
    let temporary = match &args.dir {
        Some(_) => None,
        None => {
            Some(tempfile::Builder::new().prefix("rivet-demo-").tempdir().map_err(|e| Failure::failed(e.to_string()))?)
        }
    };
    let dir = match (&args.dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => PathBuf::from("."),
    };
    std::fs::create_dir_all(&dir).map_err(|e| Failure::failed(format!("{}: {e}", dir.display())))?;
    let dir = std::fs::canonicalize(&dir).map_err(|e| Failure::failed(format!("{}: {e}", dir.display())))?;
    let demo = Demo::start(&dir, args.port).await?;
    let outcome = tokio::select! {
        outcome = demo.show(&args) => outcome,
        stopped = stop_signal() => stopped,
    };
    output::note("stopping …");
    demo.stop().await;
    outcome
}

impl Demo {
    async fn start(dir: &Path, port: Option<u16>) -> Result<Self, Failure> {
        let mut config = Config::embedded(&dir.join("data"), listen(port));
        config.local_repositories = Some(dir.join("repositories"));
        let token_file = give_tokens(&mut config)?.unwrap_or_default();
        let server = Server::start(config).await?;
        let config = &server.context.config;
        let client = Client::new(config.local_url(), config.admin_token.clone())?;
        let runner = EmbeddedRunner::start(&server, 2, vec![ExecutorKind::Host])?;
        let local = server.context.forges.local.clone();
        let local = local.ok_or_else(|| Failure::failed("the local forge is not set up"))?;
        let repo = local
            .create_repository("demo", "hello", &hook_target(config)?)
            .await
            .map_err(|e| Failure::failed(format!("the repository cannot be made: {e}")))?;
        let clone = Clone::of(&local.folder(&repo), &dir.join("hello"))?;
        Ok(Self { server, runner, client, clone, token_file })
    }

    /// Pushes, follows the run, and then every further one.
    async fn show(&self, args: &Args) -> Result<Exit, Failure> {
        let known = self.runs().await?.into_iter().map(|run| run.id).collect::<BTreeSet<_>>();
        let pushed = Instant::now();
        self.addresses();
        self.clone.commit_and_push()?;
        let first = self.next(&known, Some(pushed)).await?;
        if args.open {
            browser::open(&first.url);
        }
        let outcome = self.follow(&first).await?;
        if args.exit || outcome == Exit::Interrupted {
            return Ok(outcome);
        }
        self.what_next();
        let mut known = known;
        known.insert(first.id);
        loop {
            let run = self.next(&known, None).await?;
            let outcome = self.follow(&run).await?;
            if outcome == Exit::Interrupted {
                return Ok(Exit::Done);
            }
            known.insert(run.id);
        }
    }

    async fn follow(&self, run: &Run) -> Result<Exit, Failure> {
        follow::run(&self.client, &run.id, &follow::Options::default()).await
    }

    async fn runs(&self) -> Result<Vec<Run>, Failure> {
        let list: List<Run> = self.client.get("/api/v1/runs?repo=demo%2Fhello&limit=20").await?;
        Ok(list.items)
    }

    /// The oldest run that is not known yet. The first one has to come: if it does not, what was decided says why.
    async fn next(&self, known: &BTreeSet<String>, since: Option<Instant>) -> Result<Run, Failure> {
        loop {
            // The list is newest first.
            let new = self.runs().await?.into_iter().rev().find(|run| !known.contains(&run.id));
            if let Some(run) = new {
                return Ok(run);
            }
            if since.is_some_and(|since| since.elapsed() > START_TIME) {
                return Err(Failure::failed(self.why().await));
            }
            if let Some(why) = self.refused().await.filter(|_| since.is_some()) {
                return Err(Failure::failed(why));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What was decided about the pushed commit.
    async fn decisions(&self) -> Vec<Value> {
        let Ok(sha) = self.clone.head() else { return vec![] };
        let path = format!("/api/v1/why?repo=demo%2Fhello&sha={sha}");
        let answer: Value = self.client.get(&path).await.unwrap_or_default();
        let items = answer.get("decisions").or_else(|| answer.get("items")).and_then(Value::as_array);
        items.cloned().unwrap_or_default()
    }

    /// Why the pushed commit starts nothing, once that is decided.
    async fn refused(&self) -> Option<String> {
        let decisions = self.decisions().await;
        let outcome = |d: &Value| d["outcome"].as_str().unwrap_or_default().to_owned();
        if decisions.is_empty() || decisions.iter().any(|d| outcome(d) == "run") {
            return None;
        }
        let lines = decisions.iter().map(|d| {
            format!("{}: {}", d["pipeline"].as_str().unwrap_or("the push"), d["reason"].as_str().unwrap_or_default())
        });
        Some(lines.collect::<Vec<_>>().join("\n"))
    }

    async fn why(&self) -> String {
        let seconds = START_TIME.as_secs();
        self.refused().await.unwrap_or_else(|| format!("the push did not become a run within {seconds} s"))
    }

    fn addresses(&self) {
        let url = self.server.context.config.public_url.as_str().trim_end_matches('/');
        output::note(&format!("Rivet is up at   {url}"));
        output::note(&format!("sign in with     {}", self.token_file.display()));
        output::note(&format!("repository       {}", self.clone.bare.display()));
        output::note(&format!("your clone       {}", self.clone.folder.display()));
        output::note("");
    }

    fn what_next(&self) {
        let folder = self.clone.folder.display();
        output::note("");
        output::note("Change something and push; the next run starts by itself:");
        output::note(&format!("  cd {folder}"));
        output::note("  $EDITOR .rivet/ci.lua");
        output::note("  git commit -am 'Try it' && git push        (git push -o wait follows the run)");
        output::note("Ctrl-C ends the demo.");
    }

    async fn stop(self) {
        self.runner.cancel().await;
        self.server.stop().await;
    }
}

/// The asked port, or the usual one where it is free, or any.
fn listen(port: Option<u16>) -> SocketAddr {
    let usual = SocketAddr::from(([127, 0, 0, 1], port.unwrap_or(PORT)));
    match port {
        None if std::net::TcpListener::bind(usual).is_err() => SocketAddr::from(([127, 0, 0, 1], 0)),
        _ => usual,
    }
}
