//! Starts a run: once for each trigger, however often it is delivered.

use crate::context::Context;
use crate::engine::advance::look;
use crate::model::ids::RunId;
use crate::model::run::NewRun;
use crate::model::time::Timestamp;
pub use crate::store::runs::Started;
use crate::store::{Result, Tx};

/// Stores the run and its stages. After the commit call [`began`].
pub async fn start_run(tx: &mut Tx, new: &NewRun, now: Timestamp) -> Result<Started> {
    let started = tx.insert_run(new, now).await?;
    if let Started::Created(id) = &started {
        tx.report_is_due(id, now).await?;
    }
    Ok(started)
}

/// Moves a run that was just committed. Should this fail or never happen, the scheduler's pass does it.
pub async fn began(context: &Context, run: &RunId, now: Timestamp) {
    if let Err(error) = look(context, run.clone(), now).await {
        tracing::warn!(run.id = %run, %error, "run {run} could not be moved on at once; the scheduler will: {error}");
    }
}
