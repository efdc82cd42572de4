//! A runner says that it is there and which jobs it holds; their leases begin anew.

use crate::context::Context;
use crate::model::time::Timestamp;
use crate::store::Result;
use pipelines_spec::protocol::{HeartbeatRequest, HeartbeatResponse, JobCommand};
use std::collections::BTreeMap;

/// Renews the leases of the jobs that are the runner's whose token has this hash (none: `NotFound`), and says what each held job should do.
pub async fn heartbeat(
    context: &Context,
    token_hash: &str,
    request: &HeartbeatRequest,
    now: Timestamp,
) -> Result<HeartbeatResponse> {
    let lease_until = now.plus_millis(context.config.timers.lease);
    let mut tx = context.store.begin().await?;
    let runner = tx.see_runner_by_hash(token_hash, now).await?;
    let renewed = tx.renew_leases(&runner.id, &request.jobs, lease_until).await?;
    tx.commit().await?;
    let mut jobs: BTreeMap<String, JobCommand> =
        request.jobs.iter().map(|job| (job.id.clone(), JobCommand::Fenced)).collect();
    for (job, cancel) in renewed {
        jobs.insert(job.0, if cancel { JobCommand::Cancel } else { JobCommand::Continue });
    }
    Ok(HeartbeatResponse { jobs, command: runner.state.command() })
}
