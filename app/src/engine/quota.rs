//! Keeps all servers together below a forge's limits: each says that it is up, takes its share of what may be spent, and
//! passes on what the forge told it about silence.

use super::Progress;
use crate::context::Context;
use crate::model::time::Timestamp;

/// A server that said nothing for this long is not counted.
const GONE_MILLIS: i64 = 60_000;

/// Takes this server's share, and exchanges silences with the others.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let Some(github) = context.forges.github.client() else { return Ok(Progress::Idle) };
    let mine = github.silences(now);
    let mut tx = context.store.begin().await?;
    let servers = tx.instance_is_up(context.instance.as_str(), GONE_MILLIS, now).await?;
    for (installation, until) in mine {
        tx.silence_writer(installation, until).await?;
    }
    let silent = tx.silent_writers(now).await?;
    tx.commit().await?;
    #[expect(clippy::cast_precision_loss, reason = "nobody runs 2^52 servers")]
    github.pace(context.config.points_a_minute / servers.max(1) as f64);
    for (installation, until) in silent {
        github.hush(installation, until);
    }
    Ok(Progress::Idle)
}
