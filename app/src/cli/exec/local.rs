//! A server without a port and a runner without a network, for one run.

use super::secrets::Secrets;
use crate::actions::start_run::{began, start_run};
use crate::cli::client::Run;
use crate::cli::{Failure, output};
use crate::config::{Config, Timers};
use crate::context::Context;
use crate::evaluator::Evaluator;
use crate::forge::{Forges, RepoFacts};
use crate::http::api::shapes;
use crate::model::ids::{ForgeKind, RunId};
use crate::model::run::NewRun;
use crate::model::runner::Runner;
use crate::model::time::Timestamp;
use crate::store::Store;
use crate::store::runs::Started;
use anyhow::Context as _;
use pipelines_spec::plan::{Label, Plan};
use pipelines_spec::protocol::{ExecutorKind, RegisterRequest, Sources, Trust};
use pipelines_spec::trigger::EventFacts;
use std::path::PathBuf;
use tempfile::TempDir;

/// A day: nobody else could take a job over, so leases need not end.
const LEASE: i64 = 86_400_000;
/// Stands for the hash of the one runner's token; nobody asks over a network.
pub const RUNNER: &str = "local";
/// How often is looked without a hint.
const POLL: i64 = 100;

/// What the person chose.
pub struct Setting {
    /// The executor for everything; `None`: each stage says.
    pub executor: Option<ExecutorKind>,
    /// Jobs at once.
    pub slots: u32,
    /// The working tree, which is the workspace.
    pub root: PathBuf,
    /// Secrets by the stage that may read them.
    pub secrets: Secrets,
}

/// The parts of one local run.
pub struct Local {
    pub context: Context,
    pub runner: Runner,
    pub labels: Vec<Label>,
    pub executors: Vec<ExecutorKind>,
    pub setting: Setting,
    folder: TempDir,
}

impl Local {
    /// Makes the store and the runner, which offers whatever the plan asks for: this machine stands for all.
    pub async fn open(evaluator: Evaluator, setting: Setting, plan: &Plan) -> Result<Self, Failure> {
        let executors = executors(setting.executor, plan)?;
        let folder = tempfile::Builder::new().prefix("rivet-exec-").tempdir().context("a temporary folder")?;
        let mut config = Config::embedded(folder.path(), ([127, 0, 0, 1], 0).into());
        config.timers = Timers { lease: LEASE, poll: POLL, ..Timers::default() };
        let store = Store::open(&config.database).await?;
        let context = Context::new(store, Forges::default(), evaluator, config);
        let labels = labels(plan, &executors);
        let request = RegisterRequest {
            name: runner::config::host_name(),
            labels: labels.clone(),
            executors: executors.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut tx = context.store.begin().await.map_err(fault)?;
        let runner = tx.save_runner(&request, RUNNER, Timestamp::now()).await.map_err(fault)?;
        tx.commit().await.map_err(fault)?;
        Ok(Self { context, runner, labels, executors, setting, folder })
    }

    /// Starts the run.
    pub async fn start(&self, plan: Plan, sources: &Sources, facts: EventFacts) -> Result<RunId, Failure> {
        let now = Timestamp::now();
        let (owner, name) = facts.repo.split_once('/').unwrap_or(("local", &facts.repo));
        let repo = RepoFacts {
            forge: ForgeKind::Local,
            forge_id: 1,
            owner: owner.to_owned(),
            name: name.to_owned(),
            default_branch: facts.default_branch.clone(),
            private: true,
            installation_id: None,
        };
        let mut tx = self.context.store.begin().await.map_err(fault)?;
        let repo = tx.save_repo(&repo, now).await.map_err(fault)?;
        let bundle_digest = tx.save_bundle(sources, now).await.map_err(fault)?;
        let new = NewRun {
            repo_id: repo.id,
            plan,
            bundle_digest,
            facts,
            source_key: "exec".to_owned(),
            trust: Trust::Trusted,
            trust_reason: None,
            caused_by: vec![],
            delivery_id: None,
            parent_stage_id: None,
            rerun_of: None,
        };
        let (Started::Created(id) | Started::Existing(id)) = start_run(&mut tx, &new, now).await.map_err(fault)?;
        tx.commit().await.map_err(fault)?;
        began(&self.context, &id, now).await;
        Ok(id)
    }

    /// The run as the API would tell it; it has no page.
    pub async fn run(&self, id: &RunId) -> Result<Run, Failure> {
        let mut tx = self.context.store.read().await.map_err(fault)?;
        let run = tx.view_run(id).await.map_err(fault)?.ok_or_else(|| Failure::failed("the run is gone"))?;
        let stages = tx.view_stages(id).await.map_err(fault)?;
        let shape = shapes::Run::new(&self.context, &run, &stages);
        let value = serde_json::to_value(shape).context("the run's shape")?;
        let mut run: Run = serde_json::from_value(value).context("the run's shape")?;
        run.url.clear();
        Ok(run)
    }

    /// A folder that lives as long as the run.
    pub fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// Ends it, and throws the records away unless they are to be kept.
    pub async fn close(self, keep: bool) {
        self.context.shutdown.cancel();
        self.context.store.close().await;
        if keep {
            output::note(&format!("the run's records are in {}", self.folder.keep().display()));
        }
    }
}

/// A fault of ours, in words.
pub fn fault(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("the local run's records: {error}"))
}

fn executors(chosen: Option<ExecutorKind>, plan: &Plan) -> Result<Vec<ExecutorKind>, Failure> {
    let has_podman = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join("podman").is_file())
    };
    let contained = plan.stages.iter().find_map(|s| s.stage.container.as_ref().map(|image| (&s.name, image)));
    match (chosen, contained) {
        (Some(ExecutorKind::Host), _) => Ok(vec![ExecutorKind::Host]),
        (Some(ExecutorKind::Podman), _) if has_podman() => Ok(vec![ExecutorKind::Podman]),
        (Some(_), _) => {
            Err(Failure::failed("podman is not installed; --executor host runs everything on this machine"))
        }
        (None, None) => Ok(vec![ExecutorKind::Host]),
        (None, Some(_)) if has_podman() => Ok(vec![ExecutorKind::Host, ExecutorKind::Podman]),
        (None, Some((stage, image))) => Err(Failure::failed(format!(
            "stage '{stage}' runs in the image {image}, and podman is not installed\ninstall it, or run everything on this machine with --executor host"
        ))),
    }
}

fn labels(plan: &Plan, executors: &[ExecutorKind]) -> Vec<Label> {
    let label = |key: &str, value: &str| Label { key: key.to_owned(), value: value.to_owned() };
    let mut labels: Vec<Label> = plan.stages.iter().flat_map(|s| s.labels.clone()).collect();
    labels.extend([label("os", std::env::consts::OS), label("arch", std::env::consts::ARCH)]);
    labels.extend(executors.iter().map(|kind| label("executor", &kind.to_string())));
    labels.sort();
    labels.dedup();
    labels
}
