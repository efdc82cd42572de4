//! What people do to schedules: pause, resume, run now.

use crate::actions::start_run::{Started, began};
use crate::context::Context;
use crate::engine::cron::fire::{decision, prepare};
use crate::engine::launch::{LaunchError, Origin, insert};
use crate::model::ids::{EntryId, RunId, ScheduleId};
use crate::model::time::Timestamp;
use crate::store::decisions::{Decision, DecisionOutcome};
use crate::store::wake::Topic;
use crate::store::{Error, Result};
use pipelines_spec::protocol::Trust;

/// It fires no more until it is resumed; what was due and has not started a run is left out. Pausing it again changes nothing.
pub async fn pause(context: &Context, id: &ScheduleId, actor: &str, now: Timestamp) -> Result<()> {
    let mut tx = context.store.begin().await?;
    if tx.pause_schedule(id, actor, now).await? {
        tx.skip_firings(id, &format!("{actor} paused the schedule."), now).await?;
    } else {
        // It is paused already, or does not exist.
        tx.schedule(id).await?;
    }
    tx.commit().await
}

/// It fires again, from its next due time on: what it missed while it was paused is not made up for.
pub async fn resume(context: &Context, id: &ScheduleId, now: Timestamp) -> Result<()> {
    let mut tx = context.store.begin().await?;
    let placed = tx.schedule(id).await?;
    let clock = placed.schedule.clock().map_err(Error::Damaged)?;
    tx.resume_schedule(id, clock.next_after(now), now).await?;
    tx.commit().await
}

/// Starts a run as if it were due now, whether or not it is paused. Its due times stay what they are.
pub async fn run_now(
    context: &Context,
    id: &ScheduleId,
    actor: &str,
    now: Timestamp,
) -> std::result::Result<RunId, LaunchError> {
    let mut tx = context.store.read().await?;
    let placed = tx.schedule(id).await?;
    let repo = tx.repo(&placed.schedule.repo_id).await?;
    drop(tx);
    if let Some(why) = placed.standing.blocked() {
        return Err(LaunchError::NotAllowed(why));
    }
    let schedule = &placed.schedule;
    let prepared = prepare(context, schedule, &repo, None, actor).await?;
    let sha = prepared.facts.sha.clone();
    let origin = Origin { source_key: format!("schedule:{id}:{}", EntryId::generate()), ..Origin::default() };
    let mut tx = context.store.begin().await?;
    let started = insert(&mut tx, &repo, prepared, Trust::Trusted, origin, now).await?;
    let (Started::Created(run) | Started::Existing(run)) = started;
    let said = format!("{actor} ran on.schedule '{}' ({}) by hand", schedule.cron, schedule.timezone);
    let decided = decision(schedule, DecisionOutcome::Run, said, now);
    tx.record_decision(&Decision { sha: Some(sha), run_id: Some(run.clone()), ..decided }).await?;
    tx.commit().await?;
    began(context, &run, now).await;
    context.store.wake.notify(Topic::Report).await;
    Ok(run)
}
