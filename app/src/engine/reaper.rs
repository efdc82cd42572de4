//! Ends the leases of runners that were not heard of again, but not just after nobody could have been heard: while the
//! database is away heartbeats are answered "hold", runners go on, and their leases run out in the database.

use super::Progress;
use super::advance::{Error, advance};
use crate::context::Context;
use crate::model::ids::{JobId, RunId};
use crate::model::settle::lose_attempt;
use crate::model::state::JobState;
use crate::model::time::Timestamp;
use std::sync::{Mutex, PoisonError};

const BATCH: i64 = 50;

/// Since when this process has seen the database without a break.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Option<Seen>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    last: Timestamp,
    not_before: Timestamp,
}

impl Watch {
    /// Notes that the database answers at `now`; answers from when on an ended lease means something. After a break, and
    /// after the start, that is a whole lease later: by then every runner that lives has renewed.
    fn sees(&self, now: Timestamp, lease: i64) -> Timestamp {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Runners renew three times a lease, so half of one is a break they bridge and more may not be.
        let not_before = match *seen {
            Some(seen) if now.since(seen.last) <= lease / 2 => seen.not_before,
            Some(_) | None => now.plus_millis(lease),
        };
        *seen = Some(Seen { last: now, not_before });
        not_before
    }
}

/// [`sweep`], once the database was there long enough for every runner to be heard.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    // A database that is away fails here, and one that hangs keeps the next pass away: both are seen as a break then.
    context.store.read().await?.ping().await?;
    if now < context.watch.sees(now, context.config.timers.lease) {
        return Ok(Progress::Idle);
    }
    sweep(context, now).await
}

/// Gives away jobs whose lease ended longer ago than the grace.
pub async fn sweep(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
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
