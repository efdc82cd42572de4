//! What a command can be about: the runs people see on the pull request, and the stages in them.

use super::{Scene, Trouble};
use crate::model::approval::{Approval, Verdict};
use crate::model::run::Run;
use crate::model::stage::Stage;
use crate::model::state::StageState;
use crate::model::time::Timestamp;
use pipelines_spec::protocol::Trust;
use std::collections::BTreeSet;

/// A run with its stages.
pub(super) struct Target {
    pub(super) run: Run,
    pub(super) stages: Vec<Stage>,
    /// Whether it may run at all: a stranger's has to be let in.
    pub(super) admitted: bool,
}

/// A stage that waits for people.
pub(super) struct Gate<'a> {
    pub(super) run: &'a Run,
    pub(super) stage: &'a Stage,
}

impl Gate<'_> {
    /// `PIPELINE/STAGE`.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.run.pipeline, self.stage.name)
    }
}

/// Whether `name` is this stage's: its own, its name in the file, or either with the pipeline before it.
pub(super) fn is_named(run: &Run, stage: &Stage, name: &str) -> bool {
    let name = name.strip_prefix(run.pipeline.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name);
    stage.name == name || stage.base == name
}

/// Every run people see on the pull request, newest first.
pub(super) async fn all(scene: &Scene<'_>) -> Result<Vec<Run>, Trouble> {
    let mut tx = scene.context.store.read().await?;
    let mut runs = vec![];
    for id in tx.runs_on_pull_request(&scene.repo.id, scene.number(), scene.head_sha()).await? {
        runs.push(tx.run(&id).await?);
    }
    Ok(runs)
}

/// The newest run of each pipeline at the head as it stands now.
pub(super) async fn current(scene: &Scene<'_>) -> Result<Vec<Target>, Trouble> {
    let all = all(scene).await?;
    let mut seen = BTreeSet::new();
    let newest = all.into_iter().filter(|run| run.head() == scene.head_sha() && seen.insert(run.pipeline.clone()));
    let mut tx = scene.context.store.read().await?;
    let mut targets = vec![];
    for run in newest {
        let stages = tx.stages(&run.id).await?;
        let admitted = run.trust.0 == Trust::Trusted || is_let_in(&run, &tx.approvals(&run.id).await?, scene.now);
        targets.push(Target { run, stages, admitted });
    }
    Ok(targets)
}

/// The stages among them that wait for people.
pub(super) fn gates(targets: &[Target]) -> Vec<Gate<'_>> {
    targets
        .iter()
        .filter(|target| target.admitted && !target.run.state.is_over())
        .flat_map(|target| target.stages.iter().map(move |stage| Gate { run: &target.run, stage }))
        .filter(|gate| gate.stage.state == StageState::AwaitingApproval)
        .collect()
}

/// Whether any of the runs has a stage of this name.
pub(super) fn has_stage(targets: &[Target], name: &str) -> bool {
    targets.iter().any(|target| target.stages.iter().any(|stage| is_named(&target.run, stage, name)))
}

/// The names of all their stages.
pub(super) fn stage_names(targets: &[Target]) -> BTreeSet<&str> {
    targets.iter().flat_map(|target| target.stages.iter().map(|stage| stage.base.as_str())).collect()
}

/// The runs among them that a stranger's change waits with to be let in.
pub(super) fn not_let_in(targets: &[Target]) -> Vec<&Run> {
    let waits = targets.iter().filter(|target| !target.admitted && !target.run.state.is_over());
    waits.map(|target| &target.run).collect()
}

fn is_let_in(run: &Run, approvals: &[Approval], now: Timestamp) -> bool {
    approvals.iter().any(|a| {
        a.stage_id.is_none()
            && a.decision == Verdict::Approve
            && a.voided_at.is_none()
            && a.expires_at > now
            && (&a.sha, &a.plan_digest) == (&run.sha, &run.plan_digest)
    })
}

/// What was decided at a stage of this name (any, where none is named) and still stands.
pub(super) async fn decided(
    scene: &Scene<'_>,
    targets: &[Target],
    stage: Option<&str>,
    verdict: Verdict,
) -> Result<Vec<Approval>, Trouble> {
    let mut tx = scene.context.store.read().await?;
    let mut found = vec![];
    for target in targets {
        let meant = |a: &Approval| {
            let of = target.stages.iter().find(|s| Some(&s.id) == a.stage_id.as_ref());
            of.is_some_and(|of| stage.is_none_or(|name| is_named(&target.run, of, name)))
        };
        let all = tx.approvals(&target.run.id).await?.into_iter();
        found.extend(all.filter(|a| a.decision == verdict && a.voided_at.is_none() && meant(a)));
    }
    Ok(found)
}
