//! Repositories somebody made by hand in the local forge's folder become known without a restart.

use super::Progress;
use crate::context::Context;
use crate::model::time::Timestamp;

/// Registers what is new in the folder.
pub async fn pass(context: &Context, _now: Timestamp) -> anyhow::Result<Progress> {
    let Some(local) = &context.forges.local else { return Ok(Progress::Idle) };
    for repo in local.discover_new().await? {
        let name = repo.full_name();
        tracing::info!(repo = %name, "{name} is a new repository; pushes to it start pipelines from now on");
    }
    Ok(Progress::Idle)
}
