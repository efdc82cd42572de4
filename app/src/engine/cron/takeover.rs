//! The schedules of default branches: read when something says that they may have changed, compared with what is stored,
//! and stored. A file that cannot be read keeps the schedules it had, and they say so.

use super::fire::{machinery, told};
use crate::context::Context;
use crate::definitions;
use crate::engine::launch::facts_of;
use crate::forge::{ForgeError, Loaded};
use crate::model::schedule::{Clock, Entry, Schedule};
use crate::model::time::Timestamp;
use crate::store::schedules::{Read, Unread};
use crate::store::{self, Tx};
use futures::future::join_all;
use pipelines_spec::problem::Problem;
use pipelines_spec::trigger::EventKind;
use std::collections::BTreeMap;
use std::time::Duration;

/// Repositories one pass reads, side by side.
const BATCH: i64 = 8;
/// The longest one repository may take; it is read again after that.
const PATIENCE: Duration = Duration::from_secs(60);
/// A default branch nobody spoke of is looked at this often, in case all of its deliveries were lost.
const AGAIN_MILLIS: i64 = 24 * 3_600_000;
/// The wait after the first try in vain; each further one doubles it.
const RETRY_MILLIS: i64 = 5_000;

/// What each pipeline of a commit says of clock times, or why that cannot be read.
type Entries = BTreeMap<String, Result<Vec<Entry>, String>>;

/// What a default branch says.
enum Found {
    /// It stands where it stood.
    Unchanged,
    /// This commit, and whether some of it is to be read again because the machinery failed.
    At { sha: String, entries: Entries, again: bool },
}

/// Reads some of the default branches that are to be read.
pub(super) async fn some(context: &Context, now: Timestamp) -> store::Result<bool> {
    let mut tx = context.store.begin().await?;
    let unread = tx.claim_definitions(now, BATCH).await?;
    tx.commit().await?;
    for outcome in join_all(unread.iter().map(|unread| one(context, unread, now))).await {
        outcome?;
    }
    Ok(!unread.is_empty())
}

async fn one(context: &Context, unread: &Unread, now: Timestamp) -> store::Result<()> {
    let found = match tokio::time::timeout(PATIENCE, find(context, unread)).await {
        Ok(found) => found,
        Err(_) => Err(ForgeError::Unavailable(format!("it took more than {} s", PATIENCE.as_secs()))),
    };
    let attempts = unread.definitions_attempts + 1;
    let retry = now.plus_millis((RETRY_MILLIS << attempts.clamp(0, 20)).min(AGAIN_MILLIS));
    let daily = now.plus_millis(AGAIN_MILLIS);
    let kept = unread.definitions_sha.clone();
    let (read, entries) = match found {
        Ok(Found::Unchanged) => (Read { sha: kept, problem: None, next: daily, attempts: 0 }, None),
        Ok(Found::At { entries, again: true, .. }) => {
            (Read { sha: None, problem: None, next: retry, attempts }, Some(entries))
        }
        Ok(Found::At { sha, entries, again: false }) => {
            (Read { sha: Some(sha), problem: None, next: daily, attempts: 0 }, Some(entries))
        }
        Err(error) => {
            let next = if let ForgeError::RateLimited { until } = &error { (*until).max(retry) } else { retry };
            let name = unread.repo.full_name();
            tracing::warn!(repo = %name, "the schedules of {name} could not be read: {error}");
            (Read { sha: kept, problem: Some(error.to_string()), next, attempts }, None)
        }
    };
    let mut tx = context.store.begin().await?;
    // The repository's row first: see the order of locks.
    if tx.finish_definitions(unread, &read, now).await?
        && let Some(entries) = &entries
    {
        take_over(&mut tx, unread, entries, now).await?;
    }
    tx.commit().await
}

async fn find(context: &Context, unread: &Unread) -> Result<Found, ForgeError> {
    let repo = &unread.repo;
    let forge = context.forges.of(repo.forge)?;
    let commit = forge.resolve(&repo.facts(), &format!("refs/heads/{}", repo.default_branch)).await?;
    if unread.definitions_sha.as_ref() == Some(&commit.sha) {
        return Ok(Found::Unchanged);
    }
    let sha = commit.sha.clone();
    let loaded = forge.sources(&repo.facts(), &sha).await?;
    let facts = facts_of(repo, commit, EventKind::Schedule, "rivet", BTreeMap::new());
    let mut entries = Entries::new();
    let mut again = false;
    for defined in definitions::evaluate(&context.evaluator, &loaded.sources, &facts).await {
        let stem = defined.stem.clone();
        let said = match defined.usable() {
            Ok((pipeline, _warnings)) => Ok(Entry::all_of(&pipeline)),
            Err(problems) => {
                again |= machinery(&problems);
                Err(told(&problems))
            }
        };
        entries.insert(stem, said);
    }
    unreadable(&loaded, &mut entries);
    Ok(Found::At { sha, entries, again })
}

/// Files that are there and could not even be loaded are no reason to drop what they said before.
fn unreadable(loaded: &Loaded, entries: &mut Entries) {
    for problem in loaded.problems.iter().filter(|problem| problem.is_error()) {
        let stem = problem.at.as_ref().filter(|at| definitions::is_pipeline(&at.file));
        let stem = stem.map_or("", |at| definitions::stem_of(&at.file));
        entries.insert(stem.to_owned(), Err(told(std::slice::from_ref::<Problem>(problem))));
    }
}

/// Makes what is stored equal to what the commit says.
async fn take_over(tx: &mut Tx, unread: &Unread, entries: &Entries, now: Timestamp) -> store::Result<()> {
    let stored = tx.schedules_of(&unread.repo.id).await?;
    for schedule in &stored {
        // A problem of no file in particular, such as a `.rivet` that is no folder, is everybody's.
        match entries.get(&schedule.pipeline).or_else(|| entries.get("")) {
            Some(Err(problem)) => tx.schedule_problem(&schedule.id, problem, now).await?,
            Some(Ok(all)) => match all.iter().find(|entry| schedule.is(&entry.said)) {
                Some(entry) => tx.keep_schedule(&schedule.id, entry, now).await?,
                None => tx.remove_schedule(&schedule.id).await?,
            },
            None => tx.remove_schedule(&schedule.id).await?,
        }
    }
    for (pipeline, all) in entries {
        for entry in all.iter().flatten().filter(|entry| !is_stored(&stored, pipeline, entry)) {
            // Validation has read both; what it let pass and this does not would be stored without a next time.
            let next =
                Clock::parse(&entry.said.cron, &entry.said.timezone).ok().and_then(|clock| clock.next_after(now));
            tx.add_schedule(&unread.repo.id, pipeline, entry, next, now).await?;
        }
    }
    Ok(())
}

fn is_stored(stored: &[Schedule], pipeline: &str, entry: &Entry) -> bool {
    stored.iter().any(|schedule| schedule.pipeline == pipeline && schedule.is(&entry.said))
}
