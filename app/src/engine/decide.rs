//! One trigger, decided about as a whole: asked what is missing, planned, and recorded with the runs it starts. Deliveries
//! come here through intake, and what no delivery told of through a sweep.

use super::inquiry::Patience;
use super::planner::{self, Outcome, Planned};
use super::prepare::{NotDecided, Prepared, prepare};
use super::record::{Occasion, record, record_nothing};
use super::{policies, standing, trust};
use crate::actions::outdate;
use crate::actions::start_run::began;
use crate::context::Context;
use crate::forge::{Forge, Trigger};
use crate::model::ids::{DeliveryId, RunId};
use crate::model::time::Timestamp;
use crate::store::repos::Repo;
use crate::store::wake::Topic;
use pipelines_spec::trigger::EventKind;

/// Decides about a trigger, records it, and answers the runs that began by it. Done twice, it answers none the second time.
pub async fn decide(
    context: &Context,
    repo: &Repo,
    trigger: &Trigger,
    delivery: Option<&DeliveryId>,
    patience: Patience,
    now: Timestamp,
) -> Result<Vec<RunId>, NotDecided> {
    let forge = context.forges.of(repo.forge)?;
    let occasion = Occasion { context, repo, delivery, now };
    let trigger = &trust::judged(&forge, trigger.clone()).await?;
    Box::pin(moved_on(&occasion, &forge, trigger)).await?;
    let ready = match Box::pin(prepare(&forge, trigger, patience.merge)).await? {
        Prepared::Ready(ready) => ready,
        Prepared::Over(why) => {
            record_nothing(&occasion, trigger, &why).await?;
            return Ok(vec![]);
        }
    };
    let mut planned = Box::pin(planner::plan(context, &forge, &ready, patience)).await?;
    let trigger = &ready.trigger;
    let waiting = context.store.read().await?.count_strangers(&repo.id).await?;
    trust::hold_back(&mut planned, trigger, waiting);
    Box::pin(policies::judge(&forge, trigger, &mut planned)).await?;
    planned.changed = Box::pin(policies::changed(context, &forge, trigger, &planned.sources)).await?;
    // Before anything is recorded: killed in between, the delivery is decided about again and starts what is missing.
    Box::pin(void_other_bases(&occasion, trigger)).await?;
    Box::pin(take_over(&occasion, trigger, &planned)).await?;
    let started = Box::pin(record(&occasion, trigger, &planned)).await?;
    context.store.wake.notify(Topic::Report).await;
    for run in &started {
        began(context, run, now).await;
    }
    let (count, name, sha) = (started.len(), repo.full_name(), &trigger.facts.sha);
    tracing::info!(repo = %name, started = count, "{name} at {sha}: {count} runs");
    Ok(started)
}

/// What was agreed to about other commits of the pull request is void. Deliveries come in any order, so the forge says
/// which commit is its head.
async fn moved_on(occasion: &Occasion<'_>, forge: &Forge, trigger: &Trigger) -> Result<(), NotDecided> {
    let Some(facts) = &trigger.facts.pull_request else { return Ok(()) };
    let others = outdate::others(occasion.context, &occasion.repo.id, facts).await?;
    if others.is_empty() {
        return Ok(());
    }
    let pull = forge.pull_request(&trigger.repo, facts.number).await?;
    Ok(outdate::outdate(occasion.context, &others, &pull, occasion.now).await?)
}

/// A pull request that has another base branch now leaves its old runs behind, and with them every approval of what was to
/// be merged there.
async fn void_other_bases(occasion: &Occasion<'_>, trigger: &Trigger) -> Result<(), NotDecided> {
    let facts = &trigger.facts;
    let Some(pull) = facts.pull_request.as_ref().filter(|_| facts.action.as_deref() == Some("edited")) else {
        return Ok(());
    };
    let open = {
        let mut tx = occasion.context.store.read().await?;
        tx.open_runs_of_other_bases(&occasion.repo.id, pull.number, &pull.base).await?
    };
    end_all(occasion, &open, &format!("The pull request's base branch is '{}' now.", pull.base)).await
}

/// What a push started a moment before its pull request was opened, and no runner has begun, runs for the pull request.
async fn take_over(occasion: &Occasion<'_>, trigger: &Trigger, planned: &Planned) -> Result<(), NotDecided> {
    let facts = &trigger.facts;
    let own = facts.pull_request.as_ref().filter(|pull| facts.name == EventKind::PullRequest && !pull.fork);
    let Some(pull) = own.filter(|pull| pull.head != facts.default_branch) else { return Ok(()) };
    for verdict in &planned.verdicts {
        if !verdict.takes_over || !matches!(verdict.outcome, Outcome::Start(_)) {
            continue;
        }
        let open = {
            let mut tx = occasion.context.store.read().await?;
            tx.unbegun_push_runs(&occasion.repo.id, &verdict.pipeline, &facts.sha).await?
        };
        end_all(occasion, &open, &format!("It runs for pull request {}.", pull.number)).await?;
    }
    Ok(())
}

async fn end_all(occasion: &Occasion<'_>, runs: &[RunId], why: &str) -> Result<(), NotDecided> {
    Ok(standing::end_all(occasion.context, runs, why, occasion.now).await?)
}
