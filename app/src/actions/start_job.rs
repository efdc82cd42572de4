//! A runner says that a job's code begins. From here on it may have run.

use super::held::{HeldError, holds};
use crate::context::Context;
use crate::engine::advance::advance;
use crate::model::settle::start_attempt;
use crate::model::time::Timestamp;
use crate::store::jobs::Hold;

/// Marks the job as running; again is harmless.
pub async fn start_job(context: &Context, hold: &Hold<'_>, now: Timestamp) -> Result<(), HeldError> {
    let job = {
        let mut tx = context.store.read().await?;
        tx.job(hold.job).await?
    };
    holds(&job, hold)?;
    let begun = advance(context, &job.run_id, now, |graph| {
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
    // It ended between the two looks.
    let mut tx = context.store.read().await?;
    holds(&tx.job(hold.job).await?, hold)
}
