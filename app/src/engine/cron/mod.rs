//! Clock times. Three steps, each of which may be killed anywhere and done by any instance: the default branches' schedules
//! are taken over ([`takeover`]); what is due becomes a firing, keyed by schedule and due time; and each firing becomes a
//! run, or a sentence that says why not ([`fire`]).

pub mod fire;
mod takeover;

use super::Progress;
use crate::context::Context;
use crate::model::schedule::{Due, Firing, FiringState};
use crate::model::time::Timestamp;
use crate::store::schedules::Placed;
use crate::store::{self, Tx};

/// Schedules one pass moves on.
const BATCH: i64 = 100;
/// What was read so shortly before a start is not read again: of several instances that start together one asks.
const FRESH_MILLIS: i64 = 10 * 60_000;

/// A server starts: pushes may have been missed while none ran, so the default branches are looked at again.
pub async fn at_start(context: &Context, now: Timestamp) -> store::Result<()> {
    let mut tx = context.store.begin().await?;
    tx.all_definitions_changed(now.plus_millis(-FRESH_MILLIS)).await?;
    tx.commit().await
}

/// Takes schedules over, and fires what is due at `now`.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let read = takeover::some(context, now).await?;
    let due = become_firings(context, now).await?;
    let fired = fire::some(context, now).await?;
    Ok(if read || due || fired { Progress::Worked } else { Progress::Idle })
}

/// Writes a firing down for each schedule that is due, and moves the schedule on: one transaction for both, so that nothing
/// is lost or doubled by a kill between them.
async fn become_firings(context: &Context, now: Timestamp) -> store::Result<bool> {
    let mut tx = context.store.begin().await?;
    let due = tx.due_schedules(now, BATCH).await?;
    let mut ended = vec![];
    for placed in &due {
        ended.extend(move_on(&mut tx, placed, now).await?);
    }
    tx.commit().await?;
    ended.into_iter().for_each(|state| context.metrics.firing(state));
    Ok(!due.is_empty())
}

/// One schedule that is due. Answers how its firing ended, where it never begins.
async fn move_on(tx: &mut Tx, placed: &Placed, now: Timestamp) -> store::Result<Option<FiringState>> {
    let schedule = &placed.schedule;
    let Some(was_due) = schedule.next_due_at else { return Ok(None) };
    let clock = match schedule.clock() {
        Ok(clock) => clock,
        Err(why) => {
            // Only an older or newer version can have stored it; the next reading of its file stores it anew.
            let why = format!("its expression cannot be read: {why}");
            tx.schedule_problem(&schedule.id, &why, now).await?;
            tx.move_schedule(schedule, None, None, now).await?;
            return Ok(None);
        }
    };
    let (at, missed_since, fires) = match clock.due(was_due, now, schedule.catch_up) {
        Due::Fire { at, missed_since } => (at, missed_since, true),
        Due::Missed { at } => (at, None, false),
        Due::Nothing => {
            tx.move_schedule(schedule, None, clock.next_after(now), now).await?;
            return Ok(None);
        }
    };
    let (state, reason) = match placed.standing.blocked() {
        Some(why) => (FiringState::Skipped, why),
        None if fires => (FiringState::Pending, "It is due.".to_owned()),
        None => (FiringState::Skipped, "No server ran when it was due, and catch_up is false.".to_owned()),
    };
    if !tx.move_schedule(schedule, Some(at), clock.next_after(now), now).await? {
        return Ok(None);
    }
    let schedule_id = schedule.id.clone();
    let firing = Firing { schedule_id, due_at: at, state, reason, missed_since, run_id: None, attempts: 0 };
    tx.add_firing(&firing, now).await?;
    Ok(Some(state).filter(|state| *state != FiringState::Pending))
}
