//! A closed pull request's runs have nothing left to say.

use crate::actions::cancel::cancel;
use crate::context::Context;
use crate::engine::advance::Error;
use crate::model::ids::RepoId;
use crate::model::time::Timestamp;

/// Cancels every run of the pull request that is not over.
pub async fn close_pull_request(
    context: &Context,
    repo: &RepoId,
    number: i64,
    merged: bool,
    now: Timestamp,
) -> Result<(), Error> {
    let open = {
        let mut tx = context.store.read().await?;
        tx.open_runs_of_pull_request(repo, number).await?
    };
    let reason = if merged { "The pull request was merged." } else { "The pull request was closed." };
    for run in open {
        match cancel(context, &run, reason, now).await {
            // One that ended a moment ago needs no end.
            Ok(()) | Err(Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
