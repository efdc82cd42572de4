//! A server put together: what `serve`, `up` and `demo` share.

use super::admin::setup_url;
use super::{Exit, Failure};
use crate::config::{Config, LogFormat, check_key_id, random_base64, random_hex, secret_file};
use crate::context::Context;
use crate::engine::{app, supervisor};
use crate::evaluator::Evaluator;
use crate::forge::Forges;
use crate::forge::github::Github;
use crate::forge::github::slot::{Accepted, InUse, Origin};
use crate::forge::local::HookTarget;
use crate::forge::local::LocalForge;
use crate::http;
use crate::model::time::Timestamp;
use crate::secrets::Keyring;
use crate::store::settings::SECRET_KEY_ID;
use crate::store::wake::Topic;
use crate::store::{DatabaseUrl, Store};
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

/// How long passes may take to end what they are at.
const PASSES_TIME: Duration = Duration::from_secs(10);

/// A running server.
pub struct Server {
    /// Its parts.
    pub context: Context,
    /// The address it listens on.
    pub address: SocketAddr,
    http: JoinHandle<()>,
    engine: JoinHandle<()>,
}

impl Server {
    /// Opens the database, the forges and the port, and starts everything.
    pub async fn start(mut config: Config) -> Result<Self, Failure> {
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|e| Failure::failed(format!("{} cannot be listened on: {e}", config.listen)))?;
        let address = listener.local_addr().map_err(|e| Failure::failed(e.to_string()))?;
        config.listens_on(address);
        prepare(&mut config)?;
        let store = Store::open(&config.database).await.map_err(|e| Failure::failed(e.to_string()))?;
        check_secret_key(&store, &config).await?;
        let forges = forges(&config, &store).await?;
        let context = Context::new(store, forges, Evaluator::default(), config);
        app::load(&context).await.map_err(|e| Failure::usage(format!("the stored GitHub App: {e:#}")))?;
        register_repositories(&context).await?;
        let http = tokio::spawn(http::server::serve(listener, http::router(context.clone()), context.shutdown.clone()));
        let engine = tokio::spawn(supervisor::run(context.clone()));
        tracing::info!(database = %context.config.database, "listening on {address}, {}", context.config.public_url);
        Ok(Self { context, address, http, engine })
    }

    /// Says on stderr where a fresh instance is set up, once its address is known. Nothing where that is done.
    pub async fn say_where_to_set_up(&self) -> Result<(), Failure> {
        use crate::actions::setup::token::{FirstStart, at_start};
        match at_start(&self.context, Timestamp::now()).await? {
            FirstStart::Nothing => {}
            FirstStart::Token(token) => {
                let address = setup_url::address(&self.context.config, &token);
                eprintln!("No GitHub App is set up yet. Open this address once to do so (or to claim the instance):");
                eprintln!("  {address}");
            }
            FirstStart::Elsewhere => {
                eprintln!("No GitHub App is set up yet. The instance that started first printed the address to do so;");
                eprintln!("`rivet admin setup-url` makes another.");
            }
        }
        Ok(())
    }

    /// Ends in order: no new connections, open requests and passes end, then the database closes.
    pub async fn stop(self) {
        self.context.shutdown.cancel();
        if self.http.await.is_err() {
            tracing::error!("the HTTP server ended by a panic");
        }
        if tokio::time::timeout(PASSES_TIME, self.engine).await.is_err() {
            tracing::warn!("a pass did not end within {} s; it is repeated at the next start", PASSES_TIME.as_secs());
        }
        self.context.store.close().await;
    }
}

/// Waits for SIGTERM or Ctrl-C.
pub async fn stop_signal() -> Result<Exit, Failure> {
    let failed = |e: std::io::Error| Failure::failed(format!("signals cannot be waited for: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(tokio::select! {
        _ = terminate.recv() => Exit::Done,
        _ = interrupt.recv() => Exit::Done,
    })
}

/// The log, as the settings want it, on stderr.
pub fn start_log(filter: &str, format: Option<LogFormat>) {
    let format = format.unwrap_or(match std::io::stderr().is_terminal() {
        true => LogFormat::Text,
        false => LogFormat::Json,
    });
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A log that was started already (by a test) stays.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// Makes the folders and the secrets a first start needs.
fn prepare(config: &mut Config) -> Result<(), Failure> {
    let failed = |what: &PathBuf, e: std::io::Error| Failure::failed(format!("{}: {e}", what.display()));
    use std::os::unix::fs::DirBuilderExt as _;
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true).mode(0o700).create(&config.data_dir).map_err(|e| failed(&config.data_dir, e))?;
    if config.secret_key.is_none() && matches!(config.database, DatabaseUrl::Sqlite(_)) {
        let file = config.data_dir.join("secret-key");
        config.secret_key = Some(secret_file(&file, random_base64).map_err(|e| failed(&file, e))?.0);
    }
    if let Some(root) = &config.local_repositories {
        std::fs::create_dir_all(root).map_err(|e| failed(root, e))?;
        let file = hook_secret(config);
        config.local_webhook_secret = Some(secret_file(&file, random_hex).map_err(|e| failed(&file, e))?.0);
    }
    Ok(())
}

/// The file hooks read the signing secret from.
fn hook_secret(config: &Config) -> PathBuf {
    config.data_dir.join("local-webhook-secret")
}

/// What stored secrets were encrypted with must be what this server has, be it as the key before the current one.
async fn check_secret_key(store: &Store, config: &Config) -> Result<(), Failure> {
    if config.secret_key.is_none() {
        return Ok(());
    }
    let keys = Keyring::of(config).map_err(|what| Failure::usage(what.to_string()))?;
    let failed = |e: crate::store::Error| Failure::failed(format!("the database: {e}"));
    let mut tx = store.begin().await.map_err(failed)?;
    let stored = tx.setting_or(SECRET_KEY_ID, &keys.id(), Timestamp::now()).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    if keys.knows(&stored) {
        return Ok(());
    }
    check_key_id(&keys.id(), &stored).map_err(Failure::usage)
}

async fn forges(config: &Config, store: &Store) -> Result<Forges, Failure> {
    let mut forges = Forges::default();
    if let Some(github) = &config.github {
        let client = Github::new(github).map_err(|e| Failure::usage(format!("RIVET_GITHUB_PRIVATE_KEY: {e:#}")))?;
        let failed = |e: crate::store::Error| Failure::failed(format!("the database: {e}"));
        let previous = app::previous_of_settings(config, store, Timestamp::now()).await.map_err(failed)?;
        let current = Accepted { secret: github.webhook_secret.clone(), until: None };
        let accepted = [Some(current), previous].into_iter().flatten().collect();
        forges.github.put(Some(InUse { client: Arc::new(client), origin: Origin::Settings, accepted }));
    }
    if let Some(root) = &config.local_repositories {
        forges.local = Some(Arc::new(LocalForge::new(root.clone(), store.clone())));
    }
    Ok(forges)
}

/// Where hooks reach this server: on this machine, whatever people call it.
pub fn hook_target(config: &Config) -> Result<HookTarget, Failure> {
    let program = std::env::current_exe().map_err(|e| Failure::failed(format!("this program's own path: {e}")))?;
    let secret_file = hook_secret(config);
    let secret_file = std::fs::canonicalize(&secret_file).unwrap_or(secret_file);
    Ok(HookTarget { url: config.local_url().to_string(), secret_file, program })
}

/// Repositories are looked for at every start: the program may have moved, and so may its port.
async fn register_repositories(context: &Context) -> Result<(), Failure> {
    let Some(local) = &context.forges.local else { return Ok(()) };
    let failed = |e: crate::forge::ForgeError| Failure::failed(format!("local repositories: {e}"));
    let found = local.discover(&hook_target(&context.config)?).await.map_err(failed)?;
    let waiting = local.take_spool(Timestamp::now()).await.map_err(failed)?;
    tracing::info!(waiting, "{} local repositories, {waiting} pushes were waiting", found.len());
    context.store.wake.notify(Topic::Intake).await;
    Ok(())
}
