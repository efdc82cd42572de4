//! Looks at runs that are due: timers, and whatever a killed process left undone.

use super::Progress;
use super::advance::look;
use crate::context::Context;
use crate::model::time::Timestamp;
use futures::future::join_all;

/// Runs looked at together; each takes a connection while it is saved.
const BATCH: i64 = 8;
/// When a run that could not be moved is tried again.
const AGAIN_MILLIS: i64 = 30_000;

/// Looks at some of the runs that are due.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let due = {
        let mut tx = context.store.read().await?;
        tx.due_runs(now, BATCH).await?
    };
    if due.is_empty() {
        return Ok(Progress::Idle);
    }
    for (run, looked) in due.iter().zip(join_all(due.iter().map(|run| look(context, run.clone(), now))).await) {
        // One run that cannot be moved must not hold up the others; it is tried again later, and logged each time.
        if let Err(error) = looked {
            tracing::error!(run.id = %run, %error, "run {run} could not be moved on: {error}");
            let mut tx = context.store.begin().await?;
            tx.postpone_run(run, now.plus_millis(AGAIN_MILLIS)).await?;
            tx.commit().await?;
        }
    }
    Ok(if i64::try_from(due.len()).unwrap_or(BATCH) == BATCH { Progress::Worked } else { Progress::Idle })
}
