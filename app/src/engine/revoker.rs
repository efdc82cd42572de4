//! Tokens runners fetch with end with the jobs they are for. One is minted for each run on each server that gives its jobs
//! away, serves the run's jobs that are under way, and is revoked a few seconds after the last of them ended: so a chain of
//! stages needs one, and none outlives its run.
//!
//! They are kept in memory only. A server that dies leaves its tokens to their own end, within the hour; nobody but the
//! runners that were given them has them then.

use super::Progress;
use crate::context::Context;
use crate::forge::{Forge, ForgeError, RepoFacts};
use crate::model::ids::RunId;
use crate::model::time::Timestamp;
use pipelines_spec::protocol::Checkout;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long after its run's last job a token may live on, for the next stage's job.
const LINGER_MILLIS: i64 = 2_000;
/// A token older than this is given to no further job: what it has left must be enough for a long queue of fetches.
const GIVEN_MILLIS: i64 = 30 * 60_000;
/// A token older than this has ended by itself.
const LIFE_MILLIS: i64 = 60 * 60_000;
/// The longest time between two tries to revoke.
const LONGEST_MILLIS: i64 = 60_000;

/// A token that was given to runners.
struct Lent {
    run: RunId,
    repo: RepoFacts,
    checkout: Checkout,
    minted: Timestamp,
    /// Since when no job of the run is under way.
    idle: Option<Timestamp>,
    /// It is being revoked: no further job gets it.
    ending: bool,
    attempts: u32,
    next_try: Timestamp,
}

/// The tokens this process has given to runners.
#[derive(Default)]
pub struct Lendings(Mutex<Vec<Lent>>);

impl Lendings {
    fn all(&self) -> MutexGuard<'_, Vec<Lent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, run: &RunId, now: Timestamp) -> Option<Checkout> {
        let mut all = self.all();
        let fresh = |lent: &&mut Lent| lent.run == *run && !lent.ending && now.since(lent.minted) < GIVEN_MILLIS;
        let lent = all.iter_mut().find(fresh)?;
        lent.idle = None;
        Some(lent.checkout.clone())
    }
}

/// What a job of `run`, which is claimed already, fetches its commit with.
pub async fn checkout(
    context: &Context,
    forge: &Forge,
    repo: &RepoFacts,
    (run, sha): (&RunId, &str),
    now: Timestamp,
) -> Result<Checkout, ForgeError> {
    if let Some(known) = context.lendings.of(run, now) {
        return Ok(known);
    }
    let checkout = forge.checkout(repo, sha).await?;
    if checkout.token.is_some() {
        context.lendings.all().push(Lent {
            run: run.clone(),
            repo: repo.clone(),
            checkout: checkout.clone(),
            minted: now,
            idle: None,
            ending: false,
            attempts: 0,
            next_try: now,
        });
    }
    Ok(checkout)
}

/// Revokes the tokens of runs none of whose jobs is under way any more.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let due = mark(context, now);
    if due.is_empty() {
        return Ok(Progress::Idle);
    }
    let live = context.store.read().await?.runs_under_way(&due).await?;
    for (run, repo, token) in settle(context, &live, now) {
        let revoked = match context.forges.of(repo.forge) {
            Ok(forge) => forge.revoke(&repo, &token).await,
            Err(error) => Err(error),
        };
        let mut all = context.lendings.all();
        match revoked {
            Ok(()) => all.retain(|lent| lent.checkout.token.as_deref() != Some(&*token)),
            Err(error) => {
                tracing::warn!(run.id = %run, %error, "the token of run {run} could not be revoked: {error}");
                for lent in all.iter_mut().filter(|lent| lent.checkout.token.as_deref() == Some(&*token)) {
                    lent.attempts += 1;
                    lent.next_try = now.plus_millis((1000 << lent.attempts.min(6)).min(LONGEST_MILLIS));
                }
            }
        }
    }
    Ok(Progress::Idle)
}

/// Marks what may have to end, before the database is asked: a job that is claimed after it was asked finds the mark and
/// gets another token.
fn mark(context: &Context, now: Timestamp) -> Vec<RunId> {
    let mut all = context.lendings.all();
    all.retain(|lent| now.since(lent.minted) < LIFE_MILLIS);
    let mut due = vec![];
    for lent in all.iter_mut().filter(|lent| lent.next_try <= now) {
        lent.ending |= lent.idle.is_some_and(|since| now.since(since) >= LINGER_MILLIS);
        due.push(lent.run.clone());
    }
    due
}

/// Takes back the marks of runs with jobs under way, and answers what has to be revoked.
fn settle(context: &Context, live: &[RunId], now: Timestamp) -> Vec<(RunId, RepoFacts, String)> {
    let mut ends = vec![];
    for lent in context.lendings.all().iter_mut().filter(|lent| lent.next_try <= now) {
        if live.contains(&lent.run) && lent.attempts == 0 {
            (lent.idle, lent.ending) = (None, false);
        } else if lent.ending {
            let token = lent.checkout.token.clone().unwrap_or_default();
            ends.push((lent.run.clone(), lent.repo.clone(), token));
        } else {
            lent.idle.get_or_insert(now);
        }
    }
    ends
}
