//! What every pass, request and verb is given.

use crate::config::Config;
use crate::engine::reaper::Watch;
use crate::engine::revoker::Lendings;
use crate::evaluator::Evaluator;
use crate::forge::Forges;
use crate::metrics::Metrics;
use crate::model::ids::EntryId;
use crate::model::runner::Runner;
use crate::store::Store;
use moka::future::Cache;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a runner's credential is believed without being looked up again.
pub const RUNNER_MEMORY: Duration = Duration::from_secs(2);

/// The parts a running server is made of. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// This instance's own id, another one at each start.
    pub instance: EntryId,
    /// The database.
    pub store: Store,
    /// The forges.
    pub forges: Forges,
    /// Evaluates definitions in confined processes.
    pub evaluator: Evaluator,
    /// The settings.
    pub config: Arc<Config>,
    /// Runners that proved who they are a moment ago, by the hash of their token. Only who they are is taken from here: what
    /// they may do is asked where it is done, and a removed runner is forgotten within [`RUNNER_MEMORY`].
    pub known_runners: Cache<String, Runner>,
    /// The tokens runners fetch with, until they are revoked.
    pub lendings: Arc<Lendings>,
    /// How long the reaper has seen the database.
    pub watch: Arc<Watch>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the server stops: streams and long polls end by it, so that a graceful stop does not wait for them.
    pub shutdown: CancellationToken,
}

impl Context {
    /// The parts together.
    pub fn new(store: Store, forges: Forges, evaluator: Evaluator, config: Config) -> Self {
        Self {
            instance: EntryId::generate(),
            store,
            forges,
            evaluator,
            config: Arc::new(config),
            known_runners: Cache::builder().max_capacity(10_000).time_to_live(RUNNER_MEMORY).build(),
            lendings: Arc::default(),
            watch: Arc::default(),
            metrics: Arc::new(Metrics::new()),
            shutdown: CancellationToken::new(),
        }
    }

    /// A link: the public address and `path` (which begins with `/`).
    pub fn link(&self, path: &str) -> String {
        format!("{}{path}", self.config.public_url.as_str().trim_end_matches('/'))
    }

    /// The page of a run.
    pub fn run_url(&self, run: &crate::model::ids::RunId) -> String {
        self.link(&format!("/runs/{run}"))
    }
}
