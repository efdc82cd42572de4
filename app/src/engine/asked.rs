//! Deliveries by which people ask for something: comments, buttons, re-runs. The verbs are in `actions`; here each delivery
//! gets its end, with one decision for each thing that was asked.

use crate::actions::buttons::{self, Press};
use crate::actions::comments::{Heard, Listen, Made, Trouble, listen};
use crate::context::Context;
use crate::forge::{Event, RepoFacts};
use crate::model::ids::EntryId;
use crate::model::time::Timestamp;
use crate::store::decisions::Decision;
use crate::store::deliveries::{Delivery, DeliveryState};
use crate::store::repos::Repo;
use crate::store::wake::Topic;

/// Follows what was asked, and records what came of it.
pub(super) async fn asked(
    context: &Context,
    delivery: &Delivery,
    event: &Event,
    now: Timestamp,
) -> Result<(), Trouble> {
    let (facts, event) = match event {
        Event::Comment(comment) => (&comment.repo, Asked::Comment(comment)),
        Event::CheckAction { repo, external_id, sha, action, actor } => {
            (repo, Asked::Button { external_id, sha: sha.as_deref(), action, actor })
        }
        Event::SuiteRerequested { repo, sha, app_id, actor } => (repo, Asked::Suite { sha, app_id: *app_id, actor }),
        Event::Trigger(_)
        | Event::PullRequestClosed { .. }
        | Event::Installation { .. }
        | Event::Repository(_)
        | Event::RepositoryStands { .. }
        | Event::RefDeleted { .. }
        | Event::MergeGroupDestroyed { .. }
        | Event::Ignored { .. } => return Ok(()),
    };
    let repo = known(context, facts, now).await?;
    if !repo.enabled {
        let why = format!("{} is disabled", repo.full_name());
        return finish(context, delivery, &repo, Err(why), now).await;
    }
    let press = |actor| Press { repo: &repo, delivery: &delivery.id, actor, now };
    let made = match event {
        Asked::Comment(event) => {
            let comment = Listen { repo: &repo, event, delivery: &delivery.id, now };
            match Box::pin(listen(context, &comment)).await? {
                Heard::Nothing(why) => Err(why),
                Heard::Commands(made) => Ok(made),
            }
        }
        Asked::Button { external_id, sha, action, actor } => {
            Ok(vec![Box::pin(buttons::press(context, &press(actor), external_id, sha, action)).await?])
        }
        Asked::Suite { sha, app_id, actor } => {
            let ours = context.forges.of(delivery.forge)?.app_id();
            Ok(buttons::rerun_suite(context, &press(actor), sha, (app_id, ours)).await?)
        }
    };
    finish(context, delivery, &repo, made, now).await
}

enum Asked<'a> {
    Comment(&'a crate::forge::comments::CommentEvent),
    Button { external_id: &'a str, sha: Option<&'a str>, action: &'a str, actor: &'a crate::forge::people::Account },
    Suite { sha: &'a str, app_id: Option<i64>, actor: &'a crate::forge::people::Account },
}

async fn known(context: &Context, facts: &RepoFacts, now: Timestamp) -> Result<Repo, Trouble> {
    let mut tx = context.store.begin().await?;
    let repo = tx.save_repo(facts, now).await?;
    tx.commit().await?;
    Ok(repo)
}

/// Everything that came of it, and the end of the delivery, in one transaction.
async fn finish(
    context: &Context,
    delivery: &Delivery,
    repo: &Repo,
    made: Result<Vec<Made>, String>,
    now: Timestamp,
) -> Result<(), Trouble> {
    let (state, reason) = match &made {
        Ok(_) => (DeliveryState::Done, None),
        Err(why) => (DeliveryState::Ignored, Some(why.as_str())),
    };
    let decisions: Vec<Decision> = made.iter().flatten().map(|made| decision(delivery, repo, made, now)).collect();
    let mut tx = context.store.begin().await?;
    tx.replace_decisions(&delivery.id, &decisions).await?;
    tx.finish_delivery(&delivery.id, state, reason, now).await?;
    tx.commit().await?;
    for topic in [Topic::Schedule, Topic::Report] {
        context.store.wake.notify(topic).await;
    }
    Ok(())
}

fn decision(delivery: &Delivery, repo: &Repo, made: &Made, now: Timestamp) -> Decision {
    Decision {
        id: EntryId::generate(),
        delivery_id: Some(delivery.id.clone()),
        repo_id: repo.id.clone(),
        pipeline: made.pipeline.clone(),
        sha: made.sha.clone(),
        outcome: made.outcome,
        reason: made.reason.clone(),
        run_id: made.run.clone(),
        created_at: now,
        git_ref: None,
        pull_request: None,
        file: None,
        trust: None,
    }
}
