//! Runs nobody's push started: by hand, and as a stage of another run.

use crate::actions::start_run::{Started, began, start_run};
use crate::context::Context;
use crate::definitions::{self, Refused, concrete};
use crate::forge::ForgeError;
use crate::model::ids::{DeliveryId, RunId, StageId};
use crate::model::run::{NewRun, Run};
use crate::model::time::Timestamp;
use crate::store;
use crate::store::repos::Repo;
use crate::store::wake::Topic;
use pipelines_spec::inputs::InputError;
use pipelines_spec::plan::{Pipeline, Plan};
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::{Sources, Trust};
use pipelines_spec::suggest;
use pipelines_spec::trigger::{EventFacts, EventKind};
use serde_json::{Map, Value};

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The repository, the ref or the pipeline does not exist: which, and what is near.
    #[error("{0}")]
    NotFound(String),
    /// The pipeline does not let people start it.
    #[error("{0}")]
    NotAllowed(String),
    /// The definition cannot be used.
    #[error("the definition has {} problems", .0.len())]
    Definition(Vec<Problem>),
    /// The inputs, all that are wrong.
    #[error("{} inputs are wrong", .0.len())]
    Inputs(Vec<InputError>),
    /// The forge.
    #[error(transparent)]
    Forge(#[from] ForgeError),
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<Refused> for LaunchError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Inputs(errors) => Self::Inputs(errors),
            Refused::Definition(problems) => Self::Definition(problems),
        }
    }
}

/// Starts `pipeline` of `repo` at `git_ref` (the default branch where empty) by hand.
pub async fn launch(
    context: &Context,
    repo: &Repo,
    pipeline: &str,
    git_ref: &str,
    inputs: &Map<String, Value>,
    actor: &str,
) -> Result<RunId, LaunchError> {
    let now = Timestamp::now();
    let forge = context.forges.of(repo.forge)?;
    let git_ref = if git_ref.is_empty() { &repo.default_branch } else { git_ref };
    let commit = forge.resolve(&repo.facts(), git_ref).await?;
    let short = |prefix: &str| commit.git_ref.strip_prefix(prefix).map(str::to_owned);
    let facts = EventFacts {
        name: EventKind::Manual,
        action: None,
        repo: repo.full_name(),
        default_branch: repo.default_branch.clone(),
        branch: short("refs/heads/"),
        tag: short("refs/tags/"),
        git_ref: commit.git_ref,
        sha: commit.sha,
        before: None,
        forced: false,
        actor: actor.to_owned(),
        message: Some(commit.message),
        pull_request: None,
        dispatch_type: None,
        extra: std::collections::BTreeMap::new(),
    };
    let loaded = forge.sources(&repo.facts(), &facts.sha).await?;
    let found = definition(context, &loaded.sources, pipeline, &facts).await?;
    if !found.on.allows_manual() {
        let why = format!("pipeline '{pipeline}' is not started by hand: its 'on' does not say manual = true");
        return Err(LaunchError::NotAllowed(why));
    }
    let plan = concrete(&context.evaluator, &loaded.sources, &found, &facts, inputs).await?;
    let origin = Origin { source_key: format!("manual:{}", RunId::generate()), ..Origin::default() };
    record(context, repo, &loaded.sources, plan, facts, Trust::Trusted, origin, now).await
}

/// Starts `pipeline` as the child of a stage of `parent`, at the same commit and with the same trust.
pub async fn child_run(
    context: &Context,
    parent: &Run,
    stage: &StageId,
    sources: &Sources,
    pipeline: &str,
    inputs: &Map<String, Value>,
) -> Result<RunId, LaunchError> {
    let now = Timestamp::now();
    let mut tx = context.store.read().await?;
    let repo = tx.repo(&parent.repo_id).await?;
    drop(tx);
    let facts = EventFacts { name: EventKind::Pipeline, ..parent.facts.0.clone() };
    let found = definition(context, sources, pipeline, &facts).await?;
    let plan = concrete(&context.evaluator, sources, &found, &facts, inputs).await?;
    // One stage has one child, however often this is tried.
    let origin =
        Origin { source_key: format!("stage:{stage}"), parent_stage_id: Some(stage.clone()), delivery_id: None };
    record(context, &repo, sources, plan, facts, parent.trust.0, origin, now).await
}

#[derive(Default)]
struct Origin {
    source_key: String,
    parent_stage_id: Option<StageId>,
    delivery_id: Option<DeliveryId>,
}

async fn definition(
    context: &Context,
    sources: &Sources,
    pipeline: &str,
    facts: &EventFacts,
) -> Result<Pipeline, LaunchError> {
    let files = definitions::pipeline_files(sources);
    let Some(file) = files.get(pipeline).and_then(|files| files.first()) else {
        let near = suggest::nearest(pipeline, files.keys().copied());
        let hint = match near {
            Some(near) => format!("; did you mean '{near}'?"),
            None if files.is_empty() => "; .rivet/ defines none there".to_owned(),
            None => format!("; there are {}", files.keys().copied().collect::<Vec<_>>().join(", ")),
        };
        return Err(LaunchError::NotFound(format!("there is no pipeline '{pipeline}' at {}{hint}", facts.git_ref)));
    };
    match definitions::evaluate_one(&context.evaluator, sources, file, facts).await.usable() {
        Ok((pipeline, _warnings)) => Ok(pipeline),
        Err(problems) => Err(LaunchError::Definition(problems)),
    }
}

#[expect(clippy::too_many_arguments, reason = "everything a run is made of, once")]
async fn record(
    context: &Context,
    repo: &Repo,
    sources: &Sources,
    plan: Plan,
    facts: EventFacts,
    trust: Trust,
    origin: Origin,
    now: Timestamp,
) -> Result<RunId, LaunchError> {
    let mut new = NewRun {
        repo_id: repo.id.clone(),
        plan,
        bundle_digest: String::new(),
        facts,
        trust,
        source_key: origin.source_key,
        delivery_id: origin.delivery_id,
        parent_stage_id: origin.parent_stage_id,
        rerun_of: None,
    };
    let mut tx = context.store.begin().await?;
    new.bundle_digest = tx.save_bundle(sources, now).await?;
    let started = start_run(&mut tx, &new, now).await?;
    tx.commit().await?;
    match started {
        Started::Created(run) => {
            began(context, &run, now).await;
            context.store.wake.notify(Topic::Report).await;
            Ok(run)
        }
        Started::Existing(run) => Ok(run),
    }
}
