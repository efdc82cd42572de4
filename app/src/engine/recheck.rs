//! Asks the forge again about everybody who agreed to something that still waits for a runner: who lost the right since
//! takes the approval with them. Until there is an answer the claim query does not give the job out.

use super::Progress;
use super::advance::{Error, advance};
use crate::actions::people::{NotConfirmed, ask};
use crate::actions::reviewers::{Decider, Standing, standing};
use crate::context::Context;
use crate::forge::people::Account;
use crate::model::approval::{Approval, FRESH_MILLIS};
use crate::model::time::Timestamp;
use crate::store::wake::Topic;

/// Approvals asked about in one pass.
const BATCH: i64 = 16;
/// How long before the forge's word is too old it is asked for again.
const AHEAD_MILLIS: i64 = 180_000;
/// How long after a question it is not asked again, whatever came of it.
const REST_MILLIS: i64 = 30_000;

/// Asks about some of the approvals that are due.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let before = now.plus_millis(AHEAD_MILLIS - FRESH_MILLIS);
    let mut tx = context.store.begin().await?;
    let due = tx.take_stale_approvals(now, before, now.plus_millis(REST_MILLIS), BATCH).await?;
    tx.commit().await?;
    if due.is_empty() {
        return Ok(Progress::Idle);
    }
    for approval in &due {
        if let Err(error) = one(context, approval, now).await {
            tracing::error!(run.id = %approval.run_id, %error, "an approval could not be looked at again: {error}");
        }
    }
    context.store.wake.notify(Topic::Jobs).await;
    Ok(Progress::Worked)
}

async fn one(context: &Context, approval: &Approval, now: Timestamp) -> Result<(), Error> {
    let outcome = asked(context, approval).await?;
    let changed = advance(context, &approval.run_id, now, |graph| {
        let Some(stored) = graph.approvals.iter_mut().find(|a| a.id == approval.id && a.voided_at.is_none()) else {
            return Ok(());
        };
        let before = stored.unanswered.clone();
        match &outcome {
            Standing::Yes => {
                stored.asked_at = Some(now);
                stored.unanswered = None;
            }
            Standing::No(why) => {
                stored.void(format!("the approval of {} does not count any more: {why}", stored.actor.clone()), now);
            }
            Standing::Unanswered(what) => stored.unanswered = Some(what.clone()),
        }
        stored.dirty = true;
        // A line of history only where something changed for people.
        if stored.unanswered.is_some() && before.is_none() {
            let text =
                format!("The forge does not say whether {} still may: nothing is claimed meanwhile.", approval.actor);
            graph.note(None, "unanswered", text);
        }
        Ok(())
    });
    changed.await
}

async fn asked(context: &Context, approval: &Approval) -> Result<Standing, Error> {
    let (repo, stages) = {
        let mut tx = context.store.read().await?;
        (tx.repo(&approval.repo_id).await?, tx.stages(&approval.run_id).await?)
    };
    let repo_facts = repo.facts();
    let forge = match context.forges.of(repo.forge) {
        Ok(forge) => forge,
        Err(error) => return Ok(Standing::Unanswered(error.to_string())),
    };
    let claimed =
        Account { login: approval.actor.clone(), id: approval.actor_forge_id.unwrap_or_default(), is_bot: false };
    let person = match ask(&forge, &repo_facts, &claimed).await {
        Ok(person) => person,
        Err(NotConfirmed::Unanswered(error)) => return Ok(Standing::Unanswered(error.to_string())),
        Err(NotConfirmed::Another(login)) => {
            return Ok(Standing::No(format!("the name {login} belongs to somebody else now")));
        }
    };
    let stage = approval.stage_id.as_ref().and_then(|id| stages.iter().find(|stage| &stage.id == id));
    let rules = stage.and_then(|stage| stage.spec.0.stage.approval.as_ref());
    Ok(standing(context, Some(&forge), &repo_facts, &Decider::Person(person), rules).await)
}
