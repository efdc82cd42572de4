//! What people do to runners, and what a runner does about itself: tokens to register with, pause, drain, remove, leave.

use crate::http::auth::{hash, random_token};
use crate::model::ids::{RunnerId, TokenId};
use crate::model::runner::{RegistrationToken, Runner, RunnerState};
use crate::model::time::Timestamp;
use crate::store::{Json, Result, Tx};
use pipelines_spec::plan::Label;

/// How long a token that works once waits for its machine.
const SINGLE_USE_SECONDS: u64 = 3600;

/// Makes a registration token and answers it, `rvg_…`, to be shown once. A single-use one works for an hour; `labels` are
/// what it may grant, empty: whichever are asked for.
pub async fn create_registration_token(
    tx: &mut Tx,
    name: &str,
    labels: Vec<Label>,
    single_use: bool,
    now: Timestamp,
) -> Result<(TokenId, String)> {
    let secret = random_token("rvg_");
    let token = RegistrationToken {
        id: TokenId::generate(),
        name: name.to_owned(),
        labels: Json(labels),
        single_use,
        created_at: now,
        expires_at: single_use.then(|| now.plus_seconds(SINGLE_USE_SECONDS)),
        used_at: None,
        revoked_at: None,
    };
    tx.add_registration_token(&token, &hash(&secret)).await?;
    Ok((token.id, secret))
}

/// Registration tokens that still work.
pub async fn list_registration_tokens(tx: &mut Tx, now: Timestamp) -> Result<Vec<RegistrationToken>> {
    tx.registration_tokens(now).await
}

/// Takes a registration token back; runners that registered with it stay. `false` where there is none.
pub async fn revoke_registration_token(tx: &mut Tx, id: &TokenId, now: Timestamp) -> Result<bool> {
    tx.revoke_registration_token(id, now).await
}

/// Every runner that was not removed.
pub async fn list(tx: &mut Tx) -> Result<Vec<Runner>> {
    tx.runners().await
}

/// It takes no more, finishes what it has and leaves.
pub async fn drain(tx: &mut Tx, id: &RunnerId) -> Result<Runner> {
    tx.set_runner_state(id, RunnerState::Draining).await
}

/// It takes no more until it is resumed.
pub async fn pause(tx: &mut Tx, id: &RunnerId) -> Result<Runner> {
    tx.set_runner_state(id, RunnerState::Paused).await
}

/// It takes jobs again.
pub async fn resume(tx: &mut Tx, id: &RunnerId) -> Result<Runner> {
    tx.set_runner_state(id, RunnerState::Active).await
}

/// Its token opens nothing from now on; the leases of its jobs run out.
pub async fn remove(tx: &mut Tx, id: &RunnerId) -> Result<Runner> {
    tx.set_runner_state(id, RunnerState::Removed).await
}

/// It says itself that it claims no more. One that a person paused stays paused.
pub async fn leave(tx: &mut Tx, runner: &Runner) -> Result<()> {
    // As it stands now, not as it stood when its credential was looked up.
    if tx.runner(&runner.id).await?.state != RunnerState::Paused {
        tx.set_runner_state(&runner.id, RunnerState::Left).await?;
    }
    Ok(())
}
