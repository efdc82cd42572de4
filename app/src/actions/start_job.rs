//! A runner says that a job's code begins. From here on it may have run.

use super::held::{HeldError, holds};
use crate::context::Context;
use crate::engine::advance::advance_of_job;
use crate::model::settle::start_attempt;
use crate::model::time::Timestamp;
use crate::store::jobs::Hold;

/// Marks the job as running; again is harmless.
pub async fn start_job(context: &Context, hold: &Hold<'_>, now: Timestamp) -> Result<(), HeldError> {
    let begun = advance_of_job(context, hold.job, now, |graph| {
        let Some(index) = graph.jobs.iter().position(|job| &job.id == hold.job) else { return Ok(None) };
        let held = holds(&graph.jobs[index], hold);
        if held.is_ok() {
            start_attempt(graph, index)?;
        }
        Ok(Some(held))
    });
    if let Some(held) = begun.await? {
        return held;
    }
    // It is not among the open ones.
    let mut tx = context.store.read().await?;
    holds(&tx.job(hold.job).await?, hold)
}
