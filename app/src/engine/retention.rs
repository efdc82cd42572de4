//! What is not needed for ever goes, a little at a time; and pushes that waited for a server are taken in.

use super::Progress;
use crate::context::Context;
use crate::model::time::Timestamp;
use crate::store::wake::Topic;

/// Deliveries, firings and what was decided about them are kept so long: the forge's own memory is shorter.
const DELIVERY_DAYS: i64 = 30;
/// What was missed is remembered a little longer than the forge remembers it.
const MISSED_DAYS: i64 = 7;
/// Rows of one transaction, so that nobody waits long for it.
const BATCH: i64 = 500;

/// Removes what is old enough.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    if let Some(local) = &context.forges.local
        && local.take_spool(now).await? > 0
    {
        context.store.wake.notify(Topic::Intake).await;
    }
    let before = now.plus_millis(-DELIVERY_DAYS * 24 * 3_600_000);
    let mut tx = context.store.begin().await?;
    let gone = tx.remove_old_deliveries(before, BATCH).await?
        + tx.remove_ended_sessions(now, BATCH).await?
        + tx.remove_old_firings(before, BATCH).await?;
    tx.forget_spending(now).await?;
    tx.forget_missed(now.plus_millis(-MISSED_DAYS * 24 * 3_600_000)).await?;
    tx.commit().await?;
    Ok(if gone > 0 { Progress::Worked } else { Progress::Idle })
}
