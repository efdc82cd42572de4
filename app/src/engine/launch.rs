//! Runs nobody's push started: by hand, and as a stage of another run.

use super::{policies, trust};
use crate::actions::start_run::{Started, began, start_run};
use crate::context::Context;
use crate::definitions::{self, Refused, concrete};
use crate::forge::people::Account;
use crate::forge::{Commit, Forge, ForgeError, Loaded, Trigger};
use crate::model::ids::{DeliveryId, RunId, StageId};
use crate::model::run::{NewRun, Run};
use crate::model::time::Timestamp;
use crate::store::repos::Repo;
use crate::store::wake::Topic;
use crate::store::{self, Tx};
use pipelines_spec::inputs::InputError;
use pipelines_spec::plan::{Pipeline, Plan};
use pipelines_spec::policy::Policy;
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::{Sources, Trust};
use pipelines_spec::suggest;
use pipelines_spec::trigger::{EventFacts, EventKind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

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
    let git_ref = if git_ref.is_empty() { &repo.default_branch } else { git_ref };
    let wish = Wish { kind: EventKind::Manual, git_ref, pipeline, inputs, actor, extra: BTreeMap::new() };
    let prepared = prepare(context, repo, wish, |found| match found.on.allows_manual() {
        true => Ok(()),
        false => Err(format!("pipeline '{pipeline}' is not started by hand: its 'on' does not say manual = true")),
    });
    let origin = Origin { source_key: format!("manual:{}", RunId::generate()), ..Origin::default() };
    record(context, repo, prepared.await?, Trust::Trusted, origin, now).await
}

/// A run of a ref as it is asked for.
pub(crate) struct Wish<'a> {
    /// What starts it.
    pub kind: EventKind,
    /// A branch, a tag, a full ref or a commit.
    pub git_ref: &'a str,
    /// Which pipeline.
    pub pipeline: &'a str,
    /// Its inputs.
    pub inputs: &'a Map<String, Value>,
    /// Who or what asks.
    pub actor: &'a str,
    /// What else the event tells.
    pub extra: BTreeMap<String, Value>,
}

/// A run that is made concrete and not yet stored.
pub(crate) struct Prepared {
    /// The definition files at its commit.
    pub sources: Sources,
    /// Its plan.
    pub plan: Plan,
    /// Its event.
    pub facts: EventFacts,
}

/// Finds the commit, reads and evaluates the definition there, asks `allows`, and makes the plan. Nothing is stored.
pub(crate) async fn prepare(
    context: &Context,
    repo: &Repo,
    wish: Wish<'_>,
    allows: impl FnOnce(&Pipeline) -> Result<(), String>,
) -> Result<Prepared, LaunchError> {
    let forge = context.forges.of(repo.forge)?;
    let commit = forge.resolve(&repo.facts(), wish.git_ref).await?;
    let facts = facts_of(repo, commit, wish.kind, wish.actor, wish.extra);
    let Loaded { sources, .. } = forge.sources(&repo.facts(), &facts.sha).await?;
    let found = definition(context, &sources, wish.pipeline, &facts).await?;
    allows(&found).map_err(LaunchError::NotAllowed)?;
    if !trust::is_ours(&forge, &repo.facts(), &facts).await? {
        let why = "it is no branch, no tag, and no commit of the default branch, so nobody vouches for it";
        return Err(LaunchError::NotAllowed(format!("{} is not run: {why}", wish.git_ref)));
    }
    let mut plan = concrete(&context.evaluator, &sources, &found, &facts, wish.inputs).await?;
    policed(&forge, repo, &mut plan, &facts).await?;
    Ok(Prepared { sources, plan, facts })
}

/// What a pipeline may know of an event that is nobody's push.
pub(crate) fn facts_of(
    repo: &Repo,
    commit: Commit,
    kind: EventKind,
    actor: &str,
    extra: BTreeMap<String, Value>,
) -> EventFacts {
    let short = |prefix: &str| commit.git_ref.strip_prefix(prefix).map(str::to_owned);
    EventFacts {
        name: kind,
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
        extra,
    }
}

/// Starts a pipeline that somebody named, for what `trigger` says: nothing of its `on` is asked, its inputs are. Once for
/// the trigger's key, however often this is tried.
pub(crate) async fn launch_named(
    context: &Context,
    repo: &Repo,
    (pipeline, sources): (&str, &Sources),
    trigger: &Trigger,
    inputs: &Map<String, Value>,
    delivery: &DeliveryId,
    now: Timestamp,
) -> Result<RunId, LaunchError> {
    let facts = trigger.facts.clone();
    let found = definition(context, sources, pipeline, &facts).await?;
    let plan = concrete(&context.evaluator, sources, &found, &facts, inputs).await?;
    let origin = Origin {
        source_key: trigger.source_key.clone(),
        parent_stage_id: None,
        delivery_id: Some(delivery.clone()),
        trust_reason: trigger.trust_reason.clone(),
        caused_by: [Some(trigger.actor.clone()), trigger.author.clone()].into_iter().flatten().collect(),
    };
    let prepared = Prepared { sources: sources.clone(), plan, facts };
    record(context, repo, prepared, trigger.trust, origin, now).await
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
    let mut plan = concrete(&context.evaluator, sources, &found, &facts, inputs).await?;
    policed(&context.forges.of(repo.forge)?, &repo, &mut plan, &facts).await?;
    // One stage has one child, however often this is tried.
    let origin = Origin {
        source_key: format!("stage:{stage}"),
        parent_stage_id: Some(stage.clone()),
        delivery_id: None,
        trust_reason: parent.trust_reason.clone(),
        caused_by: parent.caused_by.0.clone(),
    };
    let prepared = Prepared { sources: sources.clone(), plan, facts };
    record(context, &repo, prepared, parent.trust.0, origin, now).await
}

/// Holds the plan against the default branch's policy.
async fn policed(forge: &Forge, repo: &Repo, plan: &mut Plan, facts: &EventFacts) -> Result<(), LaunchError> {
    if !Policy::is_about(plan, facts) {
        return Ok(());
    }
    let policy = policies::of(forge, &repo.facts(), facts).await?;
    let problems = policies::held_against(&policy, plan, facts);
    if problems.is_empty() { Ok(()) } else { Err(LaunchError::Definition(problems)) }
}

/// Where a run comes from.
#[derive(Default)]
pub(crate) struct Origin {
    /// What makes its trigger one trigger.
    pub source_key: String,
    /// The stage that started it.
    pub parent_stage_id: Option<StageId>,
    /// The delivery that started it.
    pub delivery_id: Option<DeliveryId>,
    /// Why it is not trusted.
    pub trust_reason: Option<String>,
    /// Who caused it, where the forge named them.
    pub caused_by: Vec<Account>,
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

async fn record(
    context: &Context,
    repo: &Repo,
    prepared: Prepared,
    trust: Trust,
    origin: Origin,
    now: Timestamp,
) -> Result<RunId, LaunchError> {
    let mut tx = context.store.begin().await?;
    let started = insert(&mut tx, repo, prepared, trust, origin, now).await?;
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

/// Stores a run that was made concrete. After the commit call [`began`].
pub(crate) async fn insert(
    tx: &mut Tx,
    repo: &Repo,
    prepared: Prepared,
    trust: Trust,
    origin: Origin,
    now: Timestamp,
) -> store::Result<Started> {
    let new = NewRun {
        repo_id: repo.id.clone(),
        bundle_digest: tx.save_bundle(&prepared.sources, now).await?,
        plan: prepared.plan,
        facts: prepared.facts,
        trust,
        trust_reason: origin.trust_reason,
        caused_by: origin.caused_by,
        source_key: origin.source_key,
        delivery_id: origin.delivery_id,
        parent_stage_id: origin.parent_stage_id,
        rerun_of: None,
    };
    start_run(tx, &new, now).await
}
