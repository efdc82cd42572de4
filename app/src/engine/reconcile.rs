//! Finds what GitHub could not deliver: its own list of deliveries is read, those that nobody took are asked for again, and
//! what still does not come is taken from the list itself. GitHub repeats nothing by itself, and forgets after three days.
//!
//! One instance at a time does it. What was found is written down before anything is asked for, so that a kill loses nothing,
//! and a delivery that comes twice is stored once, by its id.

use super::Progress;
use crate::context::Context;
use crate::forge::ForgeError;
use crate::forge::github::{Github, HookDelivery, payload};
use crate::http::webhook::fetched;
use crate::model::time::Timestamp;
use crate::store::Error;
use crate::store::missed::{Missed, MissedEnd};
use crate::store::wake::Topic;
use std::collections::HashMap;

/// How long GitHub keeps deliveries.
const WINDOW_MILLIS: i64 = 3 * 24 * 3_600_000;
/// How much of what was read is read again: deliveries are listed late now and then.
const OVERLAP_MILLIS: i64 = 15 * 60_000;
/// How often the list is read.
const LIST_MILLIS: i64 = 5 * 60_000;
/// How often what was found is seen to.
const TURN_MILLIS: i64 = 20_000;
/// How long a turn may take.
const HELD_MILLIS: i64 = 4 * 60_000;
/// How long a delivery that was asked for has to arrive, before its payload is fetched.
const ARRIVES_MILLIS: i64 = 60_000;
/// Pages of 100 that are read at most.
const PAGES: usize = 300;
/// Deliveries that are seen to in one turn.
const AT_ONCE: i64 = 100;
/// How often one is tried in all.
const TRIES: i64 = 6;
/// Up to which time the list was read whole, and when that was.
const SEEN_UNTIL: &str = "reconcile.seen_until";
const LISTED_AT: &str = "reconcile.listed_at";

/// What a turn could not do.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("GitHub's list of deliveries: {0}")]
    Forge(#[from] ForgeError),
    #[error(transparent)]
    Store(#[from] Error),
}

/// Reads the list if that is due, and sees to what is missed.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let Some(github) = context.forges.github.client() else { return Ok(Progress::Idle) };
    let mut tx = context.store.begin().await?;
    let lease = tx.take_lease("reconcile", HELD_MILLIS, now).await?;
    tx.commit().await?;
    let Some(lease) = lease else { return Ok(Progress::Idle) };
    let done = turn(context, &github, now).await;
    let mut tx = context.store.begin().await?;
    tx.release_lease(&lease, now.plus_millis(TURN_MILLIS)).await?;
    tx.commit().await?;
    match done {
        Ok(()) => Ok(Progress::Idle),
        // The next turn goes on; until then nothing can be done about it here.
        Err(Trouble::Forge(error @ (ForgeError::RateLimited { .. } | ForgeError::Unavailable(_)))) => {
            tracing::warn!(%error, "missed deliveries cannot be looked for: {error}");
            Ok(Progress::Idle)
        }
        Err(error) => Err(error.into()),
    }
}

async fn turn(context: &Context, github: &Github, now: Timestamp) -> Result<(), Trouble> {
    let (seen_until, listed_at) = marks(context).await?;
    if now.since(listed_at) >= LIST_MILLIS {
        list(context, github, seen_until, now).await?;
    }
    let mut tx = context.store.begin().await?;
    tx.close_arrived().await?;
    let open = tx.open_missed(now, AT_ONCE).await?;
    tx.commit().await?;
    for missed in &open {
        see_to(context, github, missed, now).await?;
    }
    Ok(())
}

async fn marks(context: &Context) -> Result<(Timestamp, Timestamp), Error> {
    let mut tx = context.store.read().await?;
    let time = |text: Option<String>| Timestamp(text.and_then(|text| text.parse().ok()).unwrap_or(0));
    let seen_until = time(tx.setting(SEEN_UNTIL).await?);
    Ok((seen_until, time(tx.setting(LISTED_AT).await?)))
}

/// Reads the list from its newest entry back to where it was read before, and writes down what was missed. The mark moves
/// only when all of that is done.
async fn list(context: &Context, github: &Github, seen_until: Timestamp, now: Timestamp) -> Result<(), Trouble> {
    let from = seen_until.plus_millis(-OVERLAP_MILLIS).max(now.plus_millis(-WINDOW_MILLIS));
    let mut tries = vec![];
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES {
        let (page, next) = github.deliveries(cursor.as_deref()).await?;
        let reached = page.iter().any(|delivery| delivery.delivered_at < from);
        tries.extend(page.into_iter().filter(|delivery| delivery.delivered_at >= from));
        cursor = next;
        if reached || cursor.is_none() {
            break;
        }
    }
    let newest = tries.iter().map(|delivery| delivery.delivered_at).max().unwrap_or(seen_until).max(seen_until);
    let mut tx = context.store.begin().await?;
    let mut found = 0;
    for (missed, delivered_at) in missed_of(&tries) {
        found += usize::from(tx.note_missed(&missed, delivered_at, now).await?);
    }
    tx.save_setting(SEEN_UNTIL, &newest.0.to_string(), now).await?;
    tx.save_setting(LISTED_AT, &now.0.to_string(), now).await?;
    tx.commit().await?;
    if found > 0 {
        tracing::warn!(found, "GitHub could not deliver {found} events; they are asked for again");
    }
    Ok(())
}

/// The deliveries none of whose tries was taken, in the order they were first made. What is not used is not missed.
fn missed_of(tries: &[HookDelivery]) -> Vec<(Missed, Timestamp)> {
    let mut by_guid: HashMap<String, Vec<&HookDelivery>> = HashMap::new();
    for delivery in tries.iter().filter(|delivery| payload::is_used(&delivery.event)) {
        by_guid.entry(delivery.guid.to_lowercase()).or_default().push(delivery);
    }
    let lost = |tries: &[&HookDelivery]| tries.iter().all(|delivery| !(200..300).contains(&delivery.status_code));
    let mut missed: Vec<(Missed, Timestamp)> = by_guid
        .into_iter()
        .filter(|(_, tries)| lost(tries))
        .filter_map(|(guid, tries)| {
            let newest = tries.iter().max_by_key(|delivery| (delivery.delivered_at, delivery.id))?;
            let first = tries.iter().map(|delivery| delivery.delivered_at).min()?;
            Some((Missed { guid, hook_id: newest.id, event: newest.event.clone(), asked: 0 }, first))
        })
        .collect();
    missed.sort_by_key(|(missed, first)| (*first, missed.hook_id));
    missed
}

/// Asks for one delivery; where that was done and it did not come, takes its payload from the list.
async fn see_to(context: &Context, github: &Github, missed: &Missed, now: Timestamp) -> Result<(), Trouble> {
    let outcome = match missed.asked {
        0 => github.redeliver(missed.hook_id).await.map(|()| false),
        _ => fetch(context, github, missed, now).await?,
    };
    let mut tx = context.store.begin().await?;
    let failed = match outcome {
        Ok(true) => {
            tx.missed_ended(&missed.guid, MissedEnd::Fetched, None).await?;
            None
        }
        Ok(false) => {
            tx.missed_asked(&missed.guid, None, now.plus_millis(ARRIVES_MILLIS)).await?;
            None
        }
        // A limit or an outage says nothing about this one: it is as if it had not been tried.
        Err(error @ (ForgeError::RateLimited { .. } | ForgeError::Unavailable(_))) => Some(error),
        Err(error) if missed.asked + 1 >= TRIES => {
            tracing::error!(delivery.id = %missed.guid, %error, "delivery {} was missed and cannot be had: {error}", missed.guid);
            tx.missed_ended(&missed.guid, MissedEnd::GivenUp, Some(&error.to_string())).await?;
            None
        }
        // It cannot be asked for: the next turn fetches it.
        Err(error) => {
            tx.missed_asked(&missed.guid, Some(&error.to_string()), now).await?;
            None
        }
    };
    tx.commit().await?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Stores a delivery with the payload GitHub keeps of it. It came over a connection of ours, opened with the App's key, so
/// it is as good as a signature.
async fn fetch(
    context: &Context,
    github: &Github,
    missed: &Missed,
    now: Timestamp,
) -> Result<Result<bool, ForgeError>, Error> {
    let kept = match github.delivered_payload(missed.hook_id).await {
        Ok(kept) => kept,
        Err(error) => return Ok(Err(error)),
    };
    let delivery = match fetched(&missed.guid, &missed.event, &kept, now) {
        Ok(delivery) => delivery,
        Err(problem) => return Ok(Err(ForgeError::Refused(problem.to_string()))),
    };
    context.store.record_deliveries(&[delivery]).await?;
    context.store.wake.notify(Topic::Intake).await;
    Ok(Ok(true))
}
