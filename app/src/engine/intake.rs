//! From deliveries to decisions: each is taken by one instance, read, decided about as a whole, and recorded in one
//! transaction with the runs it starts. Killed anywhere, it is done again with the same result: evaluation is pure, and a
//! trigger that was recorded is found again by its key.

use super::decide::decide;
use super::inquiry::Patience;
use super::prepare::NotDecided;
use super::{Progress, asked, standing, sweep};
use crate::actions::close_pull_request::close_pull_request;
use crate::actions::comments::Trouble;
use crate::context::Context;
use crate::forge::github::payload;
use crate::forge::{Event, ForgeError, RepoFacts, Trigger};
use crate::model::ids::RepoId;
use crate::model::time::Timestamp;
use crate::store::deliveries::{Delivery, DeliveryState};
use crate::store::repos::Repo;
use crate::store::wake::Topic;
use crate::store::{self, Tx};
use futures::{FutureExt as _, StreamExt as _};
use std::collections::BTreeMap;
use std::time::Duration;

/// Deliveries one pass takes.
const BATCH: i64 = 8;
/// Repositories whose deliveries are decided about at the same time.
const AT_ONCE: usize = 4;
/// The longest one delivery may take; it is taken again after that by whoever comes.
const PATIENCE: Duration = Duration::from_secs(50);

/// Why a delivery could not be decided about.
#[derive(Debug, thiserror::Error)]
enum Undecided {
    #[error(transparent)]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("{0}")]
    Advance(#[from] crate::engine::advance::Error),
    #[error("{0}")]
    NotYet(String),
    #[error("it took more than {} s", PATIENCE.as_secs())]
    Slow,
}

impl From<NotDecided> for Undecided {
    fn from(error: NotDecided) -> Self {
        match error {
            NotDecided::Forge(error) => Self::Forge(error),
            NotDecided::Store(error) => Self::Store(error),
            NotDecided::Advance(error) => Self::Advance(error),
            NotDecided::NotYet(what) => Self::NotYet(what),
        }
    }
}

impl From<Trouble> for Undecided {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Forge(error) => Self::Forge(error),
            Trouble::Store(error) => Self::Store(error),
            Trouble::Advance(error) => Self::Advance(error),
        }
    }
}

/// Takes the deliveries that are due and decides about each.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let mut tx = context.store.begin().await?;
    let taken = tx.claim_deliveries(now, BATCH).await?;
    tx.commit().await?;
    if taken.is_empty() {
        return Ok(Progress::Idle);
    }
    // Of one repository one after the other, oldest first: of two pushes to a branch the first gets the smaller number.
    // What is about no repository (an installation's coming and going) goes before the rest.
    let mut by_repo: BTreeMap<Option<RepoId>, Vec<Delivery>> = BTreeMap::new();
    for delivery in taken {
        by_repo.entry(delivery.repo_id.clone()).or_default().push(delivery);
    }
    one_by_one(context, by_repo.remove(&None).unwrap_or_default(), now).await?;
    let repos = by_repo.into_values().map(|deliveries| one_by_one(context, deliveries, now).boxed());
    let mut repos = futures::stream::iter(repos).buffer_unordered(AT_ONCE);
    while let Some(outcome) = repos.next().await {
        outcome?;
    }
    Ok(Progress::Worked)
}

async fn one_by_one(context: &Context, deliveries: Vec<Delivery>, now: Timestamp) -> store::Result<()> {
    for delivery in deliveries {
        one(context, &delivery, now).await?;
    }
    Ok(())
}

async fn one(context: &Context, delivery: &Delivery, now: Timestamp) -> store::Result<()> {
    let outcome = match tokio::time::timeout(PATIENCE, process(context, delivery, now)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Undecided::Slow),
    };
    let Err(error) = outcome else { return Ok(()) };
    let mut tx = context.store.begin().await?;
    match &error {
        Undecided::Forge(ForgeError::RateLimited { until }) => {
            tx.postpone_delivery(&delivery.id, &error.to_string(), *until).await?;
        }
        Undecided::Forge(ForgeError::Unavailable(_)) => {
            let wait = 1000 << delivery.attempts.clamp(0, 6);
            tx.postpone_delivery(&delivery.id, &error.to_string(), now.plus_millis(wait)).await?;
        }
        Undecided::NotYet(what) => {
            let wait = 1000 << delivery.waits.clamp(0, 6);
            tx.wait_delivery(&delivery.id, what, now.plus_millis(wait)).await?;
            return tx.commit().await;
        }
        Undecided::Forge(_) | Undecided::Store(_) | Undecided::Advance(_) | Undecided::Slow => {
            let wait = 1000 << delivery.attempts.clamp(0, 6);
            let state = tx.retry_delivery(delivery, &error.to_string(), now.plus_millis(wait), now).await?;
            if state == DeliveryState::Dead {
                tracing::error!(delivery.id = %delivery.id, "delivery {} is put aside after {} tries: {error}", delivery.id, delivery.attempts);
            }
        }
    }
    tx.commit().await?;
    tracing::warn!(delivery.id = %delivery.id, "delivery {} was not decided about: {error}", delivery.id);
    Ok(())
}

async fn process(context: &Context, delivery: &Delivery, now: Timestamp) -> Result<(), Undecided> {
    let event = payload::event_of(delivery.forge, &delivery.event, &delivery.payload, &delivery.guid);
    match event {
        Ok(Event::Trigger(trigger)) => Box::pin(triggered(context, delivery, &trigger, now)).await,
        Ok(event @ (Event::Comment(_) | Event::CheckAction { .. } | Event::SuiteRerequested { .. })) => {
            Ok(Box::pin(asked::asked(context, delivery, &event, now)).await?)
        }
        Ok(event) => other(context, delivery, event, now).await,
        // The receiver would have refused it; a spool or an older version may not have.
        Err(problem) => finish(context, delivery, DeliveryState::Dead, Some(&problem.to_string()), now).await,
    }
}

async fn finish(
    context: &Context,
    delivery: &Delivery,
    state: DeliveryState,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), Undecided> {
    let mut tx = context.store.begin().await?;
    tx.finish_delivery(&delivery.id, state, reason, now).await?;
    tx.commit().await?;
    Ok(())
}

/// What starts nothing by itself.
async fn other(context: &Context, delivery: &Delivery, event: Event, now: Timestamp) -> Result<(), Undecided> {
    let mut tx = context.store.begin().await?;
    let reason = match event {
        Event::Ignored { reason } => {
            tx.finish_delivery(&delivery.id, DeliveryState::Ignored, Some(&reason), now).await?;
            return Ok(tx.commit().await?);
        }
        Event::Trigger(_) | Event::Comment(_) | Event::CheckAction { .. } | Event::SuiteRerequested { .. } => None,
        Event::Repository(repo) => {
            known(&mut tx, &repo, now).await?;
            Some("the repository's facts were taken over".to_owned())
        }
        Event::RepositoryStands { repo, standing } => {
            tx.commit().await?;
            let why = standing::repository(context, &repo, standing, now).await?;
            return finish(context, delivery, DeliveryState::Done, Some(&why), now).await;
        }
        Event::RefDeleted { repo, git_ref } => {
            tx.commit().await?;
            let why = standing::ref_deleted(context, &repo, &git_ref, now).await?;
            return finish(context, delivery, DeliveryState::Done, Some(&why), now).await;
        }
        Event::MergeGroupDestroyed { repo, sha, reason } => {
            tx.commit().await?;
            let why = standing::merge_group_destroyed(context, &repo, &sha, &reason, now).await?;
            return finish(context, delivery, DeliveryState::Done, Some(&why), now).await;
        }
        Event::Installation(installation) => {
            tx.commit().await?;
            let why = standing::installation(context, &installation, now).await?;
            return finish(context, delivery, DeliveryState::Done, Some(&why), now).await;
        }
        Event::PullRequestClosed { repo, number, merged } => {
            let repo = known(&mut tx, &repo, now).await?;
            tx.commit().await?;
            close_pull_request(context, &repo.id, number, merged, now).await?;
            let why = format!("pull request {number} was {}", if merged { "merged" } else { "closed" });
            return finish(context, delivery, DeliveryState::Done, Some(&why), now).await;
        }
    };
    tx.finish_delivery(&delivery.id, DeliveryState::Done, reason.as_deref(), now).await?;
    tx.commit().await?;
    context.store.wake.notify(Topic::Schedule).await;
    Ok(())
}

async fn known(tx: &mut Tx, facts: &RepoFacts, now: Timestamp) -> store::Result<Repo> {
    tx.save_repo(facts, now).await
}

async fn triggered(context: &Context, delivery: &Delivery, trigger: &Trigger, now: Timestamp) -> Result<(), Undecided> {
    let mut tx = context.store.begin().await?;
    let repo = known(&mut tx, &trigger.repo, now).await?;
    let (_, silence) = tx.usable_repo(&repo.id).await?;
    let found_before = sweep::found_before(&mut tx, &repo, &delivery.guid, trigger).await?;
    tx.commit().await?;
    if let Some(why) = found_before {
        return finish(context, delivery, DeliveryState::Done, Some(&why), now).await;
    }
    let why_not = match silence {
        Some(silence) => Some(silence.why),
        None if repo.enabled => None,
        None => Some(format!(
            "{} is disabled; 'rivet repo enable {}' lets its events start pipelines",
            repo.full_name(),
            repo.full_name()
        )),
    };
    if let Some(why) = why_not {
        return finish(context, delivery, DeliveryState::Ignored, Some(&why), now).await;
    }
    // What the forge said before and does not repeat in every delivery is taken from the stored row.
    let trigger = Trigger { repo: repo.facts(), ..trigger.clone() };
    // Boxed: what all may be asked of a forge makes a large future, and this is awaited deep down.
    Box::pin(decide(context, &repo, &trigger, Some(&delivery.id), Patience::after(delivery.waits), now)).await?;
    Ok(())
}
