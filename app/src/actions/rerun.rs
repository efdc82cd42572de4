//! Runs the same plan on the same commit again, as a new run.

use crate::actions::rollback;
use crate::actions::start_run::{Started, began, start_run};
use crate::context::Context;
use crate::engine::advance::Error;
use crate::forge::people::Account;
use crate::model::ids::{EntryId, RunId};
use crate::model::run::NewRun;
use crate::model::time::Timestamp;

/// Starts the repetition and answers its id. Trust is the old run's and never rises: a stranger's run waits at its gate
/// again.
pub async fn rerun(context: &Context, run: &RunId, actor: &str, now: Timestamp) -> Result<RunId, Error> {
    rerun_once(context, run, actor, &format!("rerun:{}", EntryId::generate()), now).await
}

/// The same for a wish that may be told several times: `key` tells it from others.
pub async fn rerun_once(
    context: &Context,
    run: &RunId,
    actor: &str,
    key: &str,
    now: Timestamp,
) -> Result<RunId, Error> {
    let mut tx = context.store.begin().await?;
    let old = tx.run(run).await?;
    if let Some(target) = &old.rollback_to {
        // The whole plan would deploy more than the rollback did.
        drop(tx);
        return rollback::repeat(context, target, actor, key, now).await;
    }
    let plan = tx.run_plan(run).await?;
    let mut facts = old.facts.0.clone();
    facts.actor = actor.to_owned();
    let mut caused_by = old.caused_by.0.clone();
    for login in [&old.actor, &facts.actor] {
        if !caused_by.iter().any(|cause| cause.login.eq_ignore_ascii_case(login)) {
            caused_by.push(Account { login: login.clone(), id: 0, is_bot: false });
        }
    }
    let new = NewRun {
        repo_id: old.repo_id.clone(),
        plan,
        bundle_digest: old.bundle_digest.clone(),
        facts,
        source_key: key.to_owned(),
        trust: old.trust.0,
        trust_reason: old.trust_reason.clone(),
        // Who asks for the repetition causes it, and so does still who caused the first one.
        caused_by,
        delivery_id: None,
        parent_stage_id: None,
        rerun_of: Some(old.id.clone()),
    };
    let (Started::Created(id) | Started::Existing(id)) = start_run(&mut tx, &new, now).await?;
    tx.commit().await?;
    began(context, &id, now).await;
    Ok(id)
}
