//! Everything a runner needs of a job, and nothing more.

use super::ClaimError;
use crate::actions::finish_job::finish_job;
use crate::actions::held::HeldError;
use crate::context::Context;
use crate::engine::revoker;
use crate::forge::ForgeError;
use crate::model::ids::{RunId, RunnerId};
use crate::model::job::Job;
use crate::model::settle::needs;
use crate::model::stage::error;
use crate::model::time::Timestamp;
use crate::store::jobs::{Hold, JobParts};
use crate::store::repos::Repo;
use crate::store::standing::Silence;
use crate::store::{self, Tx};
use pipelines_spec::instantiate::secret_texts;
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::{self, Checkout, Conclusion, FinishRequest, JobKind, Outcome, RunInfo};
use serde_json::Map;
use std::collections::BTreeMap;

/// How long a job rests whose checkout could not be prepared.
const REST_SECONDS: u64 = 5;
/// How long one rests whose repository must not be asked about.
const SILENCE_SECONDS: u64 = 300;

/// A claimed job with everything that is stored of it.
pub(super) struct Claimed {
    job: Job,
    parts: JobParts,
}

/// Reads what is stored of claimed jobs, in the transaction that claims them.
pub(super) async fn load(tx: &mut Tx, jobs: Vec<Job>) -> store::Result<Vec<Claimed>> {
    let mut claimed = Vec::with_capacity(jobs.len());
    for job in jobs {
        let parts = tx.job_parts(&job).await?;
        claimed.push(Claimed { job, parts });
    }
    Ok(claimed)
}

/// The payloads of claimed jobs; one that cannot be prepared now goes back into the queue.
pub(super) async fn payloads(
    context: &Context,
    runner: &RunnerId,
    claimed: Vec<Claimed>,
    now: Timestamp,
) -> Result<Vec<protocol::Job>, ClaimError> {
    let mut payloads = Vec::with_capacity(claimed.len());
    for Claimed { job, parts } in claimed {
        // No transaction is open while the forge is asked, once for a run.
        let found = match parts.silence.as_ref().filter(|silence| !silence.readable) {
            Some(silence) => Err(refusal(silence, now)),
            None => checkout(context, &parts.repo, (&parts.run.id, parts.run.facts.0.build_sha()), now).await,
        };
        match found {
            Ok(checkout) => payloads.push(payload(context, job, parts, checkout)),
            Err(error) => refuse(context, runner, &job, &error, now).await?,
        }
    }
    Ok(payloads)
}

/// What nobody may fetch now is tried again later; what nobody will ever fetch again ends.
fn refusal(silence: &Silence, now: Timestamp) -> ForgeError {
    match silence.for_good {
        true => ForgeError::Refused(silence.why.clone()),
        // The forge tells when this ends; the job is free again then.
        false => ForgeError::RateLimited { until: now.plus_seconds(SILENCE_SECONDS) },
    }
}

async fn checkout(
    context: &Context,
    repo: &Repo,
    commit: (&RunId, &str),
    now: Timestamp,
) -> Result<Option<Checkout>, ForgeError> {
    match context.forges.of(repo.forge) {
        Ok(forge) => revoker::checkout(context, &forge, &repo.facts(), commit, now).await.map(Some),
        Err(ForgeError::NotConfigured(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A job whose commit cannot be had now goes back into the queue; one whose commit there is no more ends.
async fn refuse(
    context: &Context,
    runner: &RunnerId,
    job: &Job,
    error: &ForgeError,
    now: Timestamp,
) -> Result<(), ClaimError> {
    tracing::warn!(job.id = %job.id, %error, "the commit of a job cannot be fetched: {error}");
    let rest = now.plus_seconds(REST_SECONDS);
    let until = match error {
        ForgeError::RateLimited { until } => rest.max(*until),
        ForgeError::Unavailable(_) | ForgeError::NotConfigured(_) => rest,
        ForgeError::NotFound(_) | ForgeError::Refused(_) => {
            return end(
                context,
                runner,
                job,
                Conclusion::Failed,
                format!("The commit cannot be fetched: {error}."),
                now,
            )
            .await;
        }
    };
    let hold = Hold { job: &job.id, runner, epoch: job.epoch };
    let mut tx = context.store.begin().await?;
    let back = tx.give_job_back(&hold, until).await?;
    tx.commit().await?;
    if back {
        return Ok(());
    }
    // Its end was asked for meanwhile: nobody will run it, so nobody else would say that it ended.
    end(context, runner, job, Conclusion::Cancelled, "It was cancelled.".to_owned(), now).await
}

async fn end(
    context: &Context,
    runner: &RunnerId,
    job: &Job,
    conclusion: Conclusion,
    message: String,
    now: Timestamp,
) -> Result<(), ClaimError> {
    let outcome = Outcome {
        conclusion,
        error: Some(error(ErrorClass::InfraError, &message)),
        outputs: Map::new(),
        annotations: vec![],
    };
    let request = FinishRequest { epoch: job.epoch, outcome, log_bytes: 0 };
    match finish_job(context, runner, &job.id, request, now).await {
        Ok(()) => Ok(()),
        Err(HeldError::Store(error)) => Err(error.into()),
        // Somebody else ended it meanwhile, or will: its lease runs out.
        Err(
            error @ (HeldError::NotFound | HeldError::Stale { .. } | HeldError::Finished { .. } | HeldError::Run(_)),
        ) => {
            tracing::warn!(job.id = %job.id, %error, "a job that cannot run was not ended: {error}");
            Ok(())
        }
    }
}

fn payload(context: &Context, job: Job, parts: JobParts, checkout: Option<Checkout>) -> protocol::Job {
    let JobParts { run, plan, sources, stage, needed, repo, .. } = parts;
    let redact = secret_texts(&plan);
    let needs = needs(&stage.spec.0.stage.depends_on, &needed);
    let undoes = job.is_rollback();
    let outputs = stage.outputs.map(|outputs| outputs.0).filter(|_| undoes);
    let planned = stage.spec.0;
    let mut spec = planned.stage;
    let mut max_attempts = stage.max_attempts;
    if let Some(rollback) = spec.rollback.filter(|_| undoes) {
        spec.action = rollback.action;
        spec.timeout = rollback.timeout;
        max_attempts = rollback.retry.map_or(1, |retry| i64::from(retry.max_attempts));
    }
    protocol::Job {
        id: job.id.0,
        epoch: job.epoch,
        run: RunInfo {
            number: run.number,
            url: context.run_url(&run.id),
            id: run.id.0,
            repo: repo.full_name(),
            pipeline: run.pipeline,
        },
        stage: stage.name,
        base: stage.base,
        kind: if undoes { JobKind::Rollback } else { JobKind::Stage },
        attempt: u32::try_from(job.attempt).unwrap_or(u32::MAX),
        max_attempts: u32::try_from(max_attempts).unwrap_or(u32::MAX),
        action: spec.action,
        run_values: planned.run_values,
        container: spec.container,
        services: spec.services,
        env: spec.env,
        timeout_seconds: spec.timeout,
        file: run.file,
        sources,
        event: run.facts.0,
        inputs: run.inputs.0,
        matrix: planned.matrix,
        needs,
        outputs,
        checkout,
        secrets: BTreeMap::new(),
        redact,
        trust: run.trust.0,
    }
}
