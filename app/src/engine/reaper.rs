//! Ends the leases of runners that were not heard of again.

use super::Progress;
use super::advance::{Error, advance};
use crate::context::Context;
use crate::model::ids::{JobId, RunId};
use crate::model::settle::lose_attempt;
use crate::model::state::JobState;
use crate::model::time::Timestamp;

const BATCH: i64 = 50;

/// Gives away jobs whose lease ended longer ago than the grace.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let before = now.plus_millis(-context.config.timers.takeover_grace);
    let lost = {
        let mut tx = context.store.read().await?;
        tx.lost_jobs(before, BATCH).await?
    };
    for (job, run) in &lost {
        match lose(context, job, run, before, now).await {
            Ok(()) | Err(Error::Refused(_)) => {}
            Err(error) => {
                tracing::error!(job.id = %job, %error, "the lease of job {job} could not be ended: {error}");
            }
        }
    }
    Ok(if lost.is_empty() { Progress::Idle } else { Progress::Worked })
}

async fn lose(context: &Context, job: &JobId, run: &RunId, before: Timestamp, now: Timestamp) -> Result<(), Error> {
    advance(context, run, now, |graph| {
        let held = |j: &crate::model::job::Job| {
            j.id == *job
                && matches!(j.state, JobState::Claimed | JobState::Running)
                && j.lease_until.is_some_and(|until| until < before)
        };
        // It may have been renewed or finished since it was listed.
        let Some(index) = graph.jobs.iter().position(held) else {
            return Err(Error::Refused("the job is held again, or over".to_owned()));
        };
        tracing::warn!(job.id = %job, "job {job} was lost: its runner was not heard of again");
        lose_attempt(graph, index)?;
        Ok(())
    })
    .await
}
