//! Locks an environment, so that nothing is deployed to it, and unlocks it. The claim query asks for the lock; what waits
//! says whose it is, and goes on by itself when it is gone.

use crate::context::Context;
use crate::engine::advance::{Error, advance};
use crate::forge::markdown::one_line;
use crate::model::deployment::{Environment, Freeze, environment_key};
use crate::model::ids::RepoId;
use crate::model::state::StageState;
use crate::model::time::Timestamp;
use crate::store::wake::Topic;

/// Characters of a lock's reason.
const REASON_CHARS: usize = 200;

/// Locks the environment of this name, for a reason people will read.
///
/// # Errors
/// [`Error::NotFound`] where the repository has no such environment; [`Error::Refused`] where it is locked already, or no
/// reason is given.
pub async fn lock(
    context: &Context,
    repo: &RepoId,
    name: &str,
    actor: &str,
    reason: &str,
    now: Timestamp,
) -> Result<Environment, Error> {
    let reason = one_line(reason.trim(), REASON_CHARS);
    if reason.is_empty() {
        return Err(Error::Refused("Say why, for those who will wait.".to_owned()));
    }
    let key = environment_key(name);
    let mut tx = context.store.begin().await?;
    let environment = tx.environment(repo, name).await?.ok_or(Error::NotFound)?;
    let freeze = Freeze { actor: actor.to_owned(), reason };
    if !tx.lock_environment(repo, &key, &freeze, None, now).await? {
        // Read again: somebody may have been faster.
        let environment = tx.environment(repo, name).await?.unwrap_or(environment);
        return Err(Error::Refused(environment.lock().unwrap_or_else(|| format!("{name} is locked already."))));
    }
    let environment = tx.environment(repo, name).await?.ok_or(Error::NotFound)?;
    tx.commit().await?;
    explain(context, &environment, "locked", &environment.lock().unwrap_or_default(), now).await?;
    Ok(environment)
}

/// Unlocks the environment of this name: what waits for it goes on.
///
/// # Errors
/// [`Error::NotFound`] where the repository has no such environment; [`Error::Refused`] where it is not locked.
pub async fn unlock(
    context: &Context,
    repo: &RepoId,
    name: &str,
    actor: &str,
    now: Timestamp,
) -> Result<Environment, Error> {
    let mut tx = context.store.begin().await?;
    if tx.environment(repo, name).await?.is_none() {
        return Err(Error::NotFound);
    }
    if !tx.unlock_environment(repo, &environment_key(name), actor, now).await? {
        return Err(Error::Refused(format!("Environment {name} is not locked.")));
    }
    let environment = tx.environment(repo, name).await?.ok_or(Error::NotFound)?;
    tx.commit().await?;
    let message = format!("{actor} unlocked environment {}.", environment.name);
    explain(context, &environment, "unlocked", &message, now).await?;
    context.store.wake.notify(Topic::Jobs).await;
    Ok(environment)
}

/// Says in every run that waits for the environment what changed. Should this be cut short, the runs say so when they are
/// next looked at; what may be claimed does not depend on it.
async fn explain(
    context: &Context,
    environment: &Environment,
    kind: &str,
    message: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let waiting = {
        let mut tx = context.store.read().await?;
        tx.runs_waiting_for_environment(&environment.repo_id, &environment.name_key).await?
    };
    for run in waiting {
        advance(context, &run, now, |graph| {
            for index in 0..graph.stages.len() {
                let stage = &graph.stages[index];
                if stage.state == StageState::Queued && stage.environment_key().as_ref() == Some(&environment.name_key)
                {
                    graph.note(Some(index), kind, message);
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}
