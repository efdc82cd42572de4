//! A runner says how a job ended: retry, next stages, rollback and the run's end follow from it.

use super::held::{HeldError, finished, holds, owns};
use crate::context::Context;
use crate::engine::advance::advance_of_job;
use crate::model::ids::{JobId, RunnerId};
use crate::model::job::Job;
use crate::model::settle::finish_attempt;
use crate::model::state::JobState;
use crate::model::time::Timestamp;
use crate::store::Error;
use crate::store::jobs::Hold;
use pipelines_spec::protocol::FinishRequest;

/// Ends the job. The same result again is harmless, because its answer may have been lost; another one is refused.
pub async fn finish_job(
    context: &Context,
    runner: &RunnerId,
    job: &JobId,
    mut request: FinishRequest,
    now: Timestamp,
) -> Result<(), HeldError> {
    if let Some(error) = &mut request.outcome.error {
        // Postgres stores every character but this one.
        error.message = error.message.replace('\0', "\u{fffd}");
    }
    let result = serde_json::to_string(&request).map_err(|error| Error::Damaged(error.to_string()))?;
    let hold = Hold { job, runner, epoch: request.epoch };
    let ended = advance_of_job(context, job, now, |graph| {
        let Some(index) = graph.jobs.iter().position(|open| &open.id == job) else { return Ok(None) };
        let held = holds(&graph.jobs[index], &hold);
        if held.is_ok() {
            let row = &mut graph.jobs[index];
            row.result = Some(result.clone());
            row.log_complete = u64::try_from(row.log_bytes).is_ok_and(|stored| stored >= request.log_bytes);
            finish_attempt(graph, index, &request.outcome)?;
        }
        Ok(Some(held))
    });
    if let Some(held) = ended.await? {
        held?;
        context.metrics.finish(request.outcome.conclusion);
        return Ok(());
    }
    // It is not among the open ones.
    let stored = context.store.read().await?.job(job).await?;
    known(&stored, &hold, &result).unwrap_or(Err(HeldError::NotFound))
}

/// The answer, where the row alone gives it: the job is over, or not the runner's.
fn known(job: &Job, hold: &Hold<'_>, result: &str) -> Option<Result<(), HeldError>> {
    if let Err(error) = owns(job, hold) {
        return Some(Err(error));
    }
    if job.state != JobState::Finished {
        return holds(job, hold).err().map(Err);
    }
    let same = job.result.as_deref() == Some(result);
    Some(if same { Ok(()) } else { Err(finished(job)) })
}
