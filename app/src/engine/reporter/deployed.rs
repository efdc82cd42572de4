//! Deployments as the forge shows them beside an environment: what is wanted follows from the ledger and the stages that
//! wait, and is told like everything else. The permission for it is optional, so a refusal is written down once, where
//! people look after the environment, and holds up nothing else.

use super::shown::{RunFacts, stage_url};
use crate::context::Context;
use crate::forge::deployments::{Deployment as Shown, DeploymentStatus};
use crate::forge::{Forge, ForgeError, RepoFacts};
use crate::model::deployment::{Deployment, DeploymentState, environment_key};
use crate::model::ids::RunId;
use crate::model::stage::Stage;
use crate::model::state::StageState;
use crate::model::time::Timestamp;
use crate::store::reports::{DeploymentReport, Report, ReportKey, Wanted};
use crate::store::{Error, Tx};
use std::collections::BTreeMap;

/// The external id of a stage's attempt as a deployment.
fn external_id(run: &RunId, stage: &Stage, attempt: i64) -> String {
    format!("deployment:{run}:{}:{attempt}", stage.name)
}

/// What should be shown of a stage: its attempts that are in the ledger, and the one that waits for its turn.
pub(super) fn wanted(
    run: &RunFacts,
    stage: &Stage,
    ledger: &[Deployment],
    earlier: &BTreeMap<String, Report>,
) -> Vec<DeploymentReport> {
    if stage.set_aside || stage.environment_key().is_none() {
        return vec![];
    }
    let entries: Vec<&Deployment> = ledger.iter().filter(|entry| entry.stage_id == stage.id).collect();
    let mut shown: Vec<DeploymentReport> =
        entries.iter().map(|entry| report(run, stage, entry.attempt, state_word(entry.state), &entry.reason)).collect();
    if stage.attempt > 0 && entries.iter().all(|entry| entry.attempt != stage.attempt) {
        let waits = stage.state == StageState::Queued;
        let was_shown = earlier.contains_key(&external_id(&run.id, stage, stage.attempt));
        if waits {
            // What exactly it waits for changes often, and its check run says it.
            shown.push(report(run, stage, stage.attempt, "queued", "It waits for a runner."));
        } else if was_shown {
            shown.push(report(run, stage, stage.attempt, "inactive", "It did not begin."));
        }
    }
    shown
}

fn state_word(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::InProgress => "in_progress",
        DeploymentState::Succeeded => "success",
        DeploymentState::Failed => "failure",
        DeploymentState::RolledBack | DeploymentState::Superseded => "inactive",
    }
}

fn report(run: &RunFacts, stage: &Stage, attempt: i64, state: &str, reason: &str) -> DeploymentReport {
    let environment = stage.spec.0.stage.environment.clone().unwrap_or_default();
    let task = if run.rollback { "deploy:rollback" } else { "deploy" };
    DeploymentReport {
        deployment: Shown {
            external_id: external_id(&run.id, stage, attempt),
            production: matches!(environment_key(&environment).as_str(), "production" | "prod" | "live"),
            environment,
            sha: run.sha.clone(),
            description: crate::forge::markdown::one_line(&format!("{} of run #{}", stage.name, run.number), 140),
            task: task.to_owned(),
        },
        status: DeploymentStatus {
            state: state.to_owned(),
            description: crate::forge::markdown::one_line(reason, 140),
            log_url: stage_url(run, stage),
        },
    }
}

/// Wants the forge to show what a run deployed.
pub(super) async fn want(
    tx: &mut Tx,
    key: &ReportKey,
    run: &RunFacts,
    stages: &[Stage],
    earlier: &BTreeMap<String, Report>,
    now: Timestamp,
) -> Result<(), Error> {
    if stages.iter().all(|stage| stage.environment_key().is_none()) {
        return Ok(());
    }
    let ledger = tx.deployments_of_run(&run.id).await?;
    for stage in stages {
        let key = ReportKey { stage_id: Some(stage.id.clone()), ..key.clone() };
        for report in wanted(run, stage, &ledger, earlier) {
            let known = earlier.get(&report.deployment.external_id);
            tx.want_after(&key, &Wanted::Deployment(report), known, now).await?;
        }
    }
    Ok(())
}

/// Tells the forge of one deployment: created once (one whose creation was not acknowledged is looked for), then its status.
pub(super) async fn tell(
    context: &Context,
    forge: &Forge,
    repo: &RepoFacts,
    report: &Report,
    wanted: &DeploymentReport,
) -> Result<(), super::tell::Trouble> {
    let mut id = report.forge_id;
    if id.is_none() && report.attempts > 1 {
        id = forge.find_deployment(repo, &wanted.deployment).await?;
    }
    // What the forge never heard of need not be said to be over.
    if id.is_none() && wanted.status.state == "inactive" {
        return Ok(());
    }
    let known = id == report.forge_id;
    let id = match id {
        Some(id) => id,
        None => forge.create_deployment(repo, &wanted.deployment).await?,
    };
    if !known || report.forge_id.is_none() {
        remember(context, report, Some(id)).await?;
    }
    match forge.set_deployment_status(repo, id, &wanted.status).await {
        Err(error @ ForgeError::NotFound(_)) => {
            // It is gone at the forge. The next try makes it anew.
            remember(context, report, None).await?;
            Err(error.into())
        }
        other => Ok(other?),
    }
}

async fn remember(context: &Context, report: &Report, id: Option<i64>) -> Result<(), Error> {
    let mut tx = context.store.begin().await?;
    tx.report_created(&report.id, id, 0).await?;
    tx.commit().await
}

/// Writes down, once, whether the forge lets itself be told of an environment's deployments.
pub(super) async fn note_refusal(
    context: &Context,
    report: &Report,
    wanted: &DeploymentReport,
    error: Option<&ForgeError>,
) -> Result<(), Error> {
    let name = &wanted.deployment.environment;
    let text = error.map(|error| {
        format!("The forge is not told of deployments: {error}. Grant the App the permission Deployments: write.")
    });
    let mut tx = context.store.begin().await?;
    let key = environment_key(name);
    let news = tx.environment_refused(&report.repo_id, &key, text.as_deref()).await?;
    tx.commit().await?;
    if news && let Some(text) = text {
        tracing::warn!(repo.id = %report.repo_id, environment = name, "environment {name}: {text}");
    }
    Ok(())
}
