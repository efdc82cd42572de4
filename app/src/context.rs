//! What every pass, request and verb is given.

use crate::config::Config;
use crate::evaluator::Evaluator;
use crate::forge::Forges;
use crate::metrics::Metrics;
use crate::store::Store;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The parts a running server is made of. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The database.
    pub store: Store,
    /// The forges.
    pub forges: Forges,
    /// Evaluates definitions in confined processes.
    pub evaluator: Evaluator,
    /// The settings.
    pub config: Arc<Config>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the server stops: streams and long polls end by it, so that a graceful stop does not wait for them.
    pub shutdown: CancellationToken,
}

impl Context {
    /// The parts together.
    pub fn new(store: Store, forges: Forges, evaluator: Evaluator, config: Config) -> Self {
        Self {
            store,
            forges,
            evaluator,
            config: Arc::new(config),
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
