//! Tells the forge once more what it should show of a run: it lost it, or what kept it from hearing was mended.

use crate::context::Context;
use crate::model::ids::RunId;
use crate::model::time::Timestamp;
use crate::store::Error;
use crate::store::wake::Topic;

/// Has every check run and status of a run told anew; answers how many.
pub async fn tell_again(context: &Context, run: &RunId, now: Timestamp) -> Result<u64, Error> {
    let mut tx = context.store.begin().await?;
    tx.report_is_due(run, now).await?;
    let count = tx.tell_again(run, now).await?;
    tx.commit().await?;
    context.store.wake.notify(Topic::Report).await;
    Ok(count)
}
