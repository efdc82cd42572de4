//! A firing becomes a run of the default branch's head, found when it fires. A forge that does not answer puts the firing
//! off; a definition that cannot be used is a decision people can read.

use crate::actions::start_run::{Started, began};
use crate::context::Context;
use crate::engine::launch::{self, LaunchError, Origin, Prepared, Wish};
use crate::forge::ForgeError;
use crate::model::ids::EntryId;
use crate::model::schedule::{Firing, FiringState, IN_TIME_MILLIS, Schedule};
use crate::model::time::Timestamp;
use crate::store::decisions::{Decision, DecisionOutcome};
use crate::store::repos::Repo;
use crate::store::schedules::Placed;
use crate::store::wake::Topic;
use crate::store::{self, Tx};
use futures::StreamExt as _;
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::Trust;
use pipelines_spec::trigger::EventKind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Firings one pass takes, and how many of them are worked on side by side.
const BATCH: i64 = 50;
const SIDE_BY_SIDE: usize = 8;
/// The longest one firing may take; it is taken again after that.
const PATIENCE: Duration = Duration::from_secs(50);
/// Tries of a firing that goes wrong for a reason that does not sound like it passes by itself.
const TRIES: i64 = 8;
/// How long the forge may be away before a firing of a schedule without `catch_up` is left out.
const LATE_MILLIS: i64 = 15 * 60_000;
/// Who is behind a firing.
const ACTOR: &str = "rivet";

/// Why a firing did not become a run at this try.
#[derive(Debug, thiserror::Error)]
enum Unfired {
    #[error("{0}")]
    Launch(#[from] LaunchError),
    #[error("{0}")]
    Store(#[from] store::Error),
    #[error("it took more than {} s", PATIENCE.as_secs())]
    Slow,
}

/// What is done about it.
enum Next {
    /// The firing ends, as a decision with its reason; the definitions are not what is stored, so they are read again.
    End(FiringState, String),
    /// It is tried again.
    Again(Timestamp),
}

/// Takes firings that are due and starts their runs.
pub async fn some(context: &Context, now: Timestamp) -> store::Result<bool> {
    let mut tx = context.store.begin().await?;
    let taken = tx.claim_firings(now, BATCH).await?;
    tx.commit().await?;
    let worked = !taken.is_empty();
    let all = taken.into_iter().map(|firing| async move { one(context, &firing, now).await });
    let mut ended = futures::stream::iter(all).buffer_unordered(SIDE_BY_SIDE);
    while let Some(outcome) = ended.next().await {
        outcome?;
    }
    Ok(worked)
}

async fn one(context: &Context, firing: &Firing, now: Timestamp) -> store::Result<()> {
    let found = async {
        let mut tx = context.store.read().await?;
        let placed = tx.schedule(&firing.schedule_id).await?;
        let repo = tx.repo(&placed.schedule.repo_id).await?;
        store::Result::Ok((placed, repo))
    };
    let (placed, repo) = match found.await {
        Ok(found) => found,
        // Its entry is gone, and it with it.
        Err(store::Error::NotFound) => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(why) = not_now(&placed) {
        return end(context, firing, FiringState::Skipped, &why, now).await;
    }
    let schedule = &placed.schedule;
    let outcome = match tokio::time::timeout(PATIENCE, start(context, firing, schedule, &repo, now)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Unfired::Slow),
    };
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => put_off(context, firing, schedule, &error, now).await,
    }
}

/// Why a schedule must not fire although it was due.
fn not_now(placed: &Placed) -> Option<String> {
    let paused = placed.schedule.paused_by.as_ref().map(|by| format!("{by} paused the schedule."));
    paused.or_else(|| placed.standing.blocked())
}

async fn start(
    context: &Context,
    firing: &Firing,
    schedule: &Schedule,
    repo: &Repo,
    now: Timestamp,
) -> Result<(), Unfired> {
    let prepared = prepare(context, schedule, repo, Some(firing.due_at), ACTOR).await?;
    let sha = prepared.facts.sha.clone();
    let source_key = format!("schedule:{}:{}", schedule.id, firing.due_at.0);
    let because = because(schedule, firing, now);
    let mut tx = context.store.begin().await?;
    let origin = Origin { source_key, ..Origin::default() };
    let started = launch::insert(&mut tx, repo, prepared, Trust::Trusted, origin, now).await?;
    let (Started::Created(run) | Started::Existing(run)) = &started;
    if !tx.finish_firing(firing, FiringState::Started, &because, Some(run), now).await? {
        // Somebody paused or removed the schedule, or another instance was faster: this run never was.
        return Ok(());
    }
    let decision = decision(schedule, DecisionOutcome::Run, because, now);
    tx.record_decision(&Decision { sha: Some(sha), run_id: Some(run.clone()), ..decision }).await?;
    tx.commit().await?;
    context.metrics.firing(FiringState::Started);
    let late = u64::try_from(now.since(firing.due_at)).unwrap_or(0);
    context.metrics.firing_late(Duration::from_millis(late));
    tracing::info!(run.id = %run, schedule.id = %schedule.id, "{} {} fired: run {run}", repo.full_name(), schedule.pipeline);
    began(context, run, now).await;
    context.store.wake.notify(Topic::Report).await;
    Ok(())
}

/// The run of a schedule at the head of its default branch. `due` is none where a person asks for it now.
pub(crate) async fn prepare(
    context: &Context,
    schedule: &Schedule,
    repo: &Repo,
    due: Option<Timestamp>,
    actor: &str,
) -> Result<Prepared, LaunchError> {
    let mut extra = BTreeMap::from([
        ("cron".to_owned(), Value::from(schedule.cron.clone())),
        ("timezone".to_owned(), Value::from(schedule.timezone.clone())),
    ]);
    if let Some(due) = due {
        extra.insert("due".to_owned(), due.rfc3339().into());
    }
    let git_ref = format!("refs/heads/{}", repo.default_branch);
    let (kind, pipeline, inputs) = (EventKind::Schedule, schedule.pipeline.as_str(), &schedule.inputs.0);
    let wish = Wish { kind, git_ref: &git_ref, pipeline, inputs, actor, extra };
    let entry = format!("'{}' ({})", schedule.cron, schedule.timezone);
    launch::prepare(context, repo, wish, |found| match found.on.schedule.iter().any(|entry| schedule.is(entry)) {
        true => Ok(()),
        false => Err(format!("on.schedule of pipeline '{pipeline}' no longer has {entry} with these inputs")),
    })
    .await
}

fn because(schedule: &Schedule, firing: &Firing, now: Timestamp) -> String {
    // As the clocks of its zone show it: that is how its author thinks of it.
    let clock = schedule.clock();
    let local = |time: Timestamp| clock.as_ref().map_or_else(|_| time.rfc3339(), |clock| clock.local(time));
    let mut said = format!("on.schedule '{}' ({}) was due at ", schedule.cron, schedule.timezone);
    said.push_str(&local(firing.due_at));
    if now.since(firing.due_at) >= IN_TIME_MILLIS {
        said.push_str(&format!(", and could not start before {}", local(now)));
    }
    if let Some(since) = firing.missed_since {
        said.push_str(&format!("; it stands for all that were missed since {}", local(since)));
    }
    said
}

/// One sentence about a schedule's pipeline, for `why`.
pub fn decision(schedule: &Schedule, outcome: DecisionOutcome, reason: String, now: Timestamp) -> Decision {
    Decision {
        id: EntryId::generate(),
        delivery_id: None,
        repo_id: schedule.repo_id.clone(),
        pipeline: Some(schedule.pipeline.clone()),
        sha: None,
        outcome,
        reason,
        run_id: None,
        created_at: now,
        git_ref: None,
        pull_request: None,
        file: None,
        trust: None,
    }
}

async fn end(context: &Context, firing: &Firing, state: FiringState, why: &str, now: Timestamp) -> store::Result<()> {
    let mut tx = context.store.begin().await?;
    let ended = tx.finish_firing(firing, state, why, None, now).await?;
    tx.commit().await?;
    if ended {
        context.metrics.firing(state);
    }
    Ok(())
}

async fn put_off(
    context: &Context,
    firing: &Firing,
    schedule: &Schedule,
    error: &Unfired,
    now: Timestamp,
) -> store::Result<()> {
    tracing::warn!(schedule.id = %schedule.id, "schedule {} could not fire: {error}", schedule.id);
    let mut tx = context.store.begin().await?;
    let ended = match next(firing, error, now) {
        Next::Again(at) if schedule.catch_up || at.since(firing.due_at) < LATE_MILLIS => {
            tx.postpone_firing(firing, &format!("It is tried again at {}: {error}.", at.rfc3339()), at).await?;
            None
        }
        Next::Again(_) => {
            let why = format!("It could not start in time, and catch_up is false: {error}.");
            give_up(&mut tx, firing, schedule, FiringState::Skipped, why, now).await?
        }
        Next::End(state, why) => {
            tx.definitions_changed(&schedule.repo_id).await?;
            give_up(&mut tx, firing, schedule, state, why, now).await?
        }
    };
    tx.commit().await?;
    ended.into_iter().for_each(|state| context.metrics.firing(state));
    Ok(())
}

async fn give_up(
    tx: &mut Tx,
    firing: &Firing,
    schedule: &Schedule,
    state: FiringState,
    why: String,
    now: Timestamp,
) -> store::Result<Option<FiringState>> {
    if !tx.finish_firing(firing, state, &why, None, now).await? {
        return Ok(None);
    }
    let outcome = if state == FiringState::Failed { DecisionOutcome::Error } else { DecisionOutcome::Skip };
    tx.record_decision(&decision(schedule, outcome, why, now)).await?;
    Ok(Some(state))
}

fn next(firing: &Firing, error: &Unfired, now: Timestamp) -> Next {
    let soon = now.plus_millis(1000 << firing.attempts.clamp(0, 6));
    let bounded =
        |why: String| if firing.attempts >= TRIES { Next::End(FiringState::Failed, why) } else { Next::Again(soon) };
    match error {
        Unfired::Launch(LaunchError::Forge(ForgeError::RateLimited { until })) => Next::Again((*until).max(soon)),
        // Away, or not set up yet: that passes.
        Unfired::Launch(LaunchError::Forge(ForgeError::Unavailable(_) | ForgeError::NotConfigured(_))) => {
            Next::Again(soon)
        }
        Unfired::Launch(LaunchError::Forge(_) | LaunchError::Store(_)) | Unfired::Store(_) | Unfired::Slow => {
            bounded(format!("After {} tries: {error}.", firing.attempts))
        }
        // It is gone since; reading the definitions again takes the schedule away.
        Unfired::Launch(LaunchError::NotFound(why) | LaunchError::NotAllowed(why)) => {
            Next::End(FiringState::Skipped, format!("{why}."))
        }
        Unfired::Launch(LaunchError::Definition(problems)) if machinery(problems) => {
            bounded(format!("{}.", told(problems)))
        }
        Unfired::Launch(LaunchError::Definition(problems)) => {
            Next::End(FiringState::Failed, format!("{}.", told(problems)))
        }
        Unfired::Launch(LaunchError::Inputs(errors)) => {
            let all: Vec<&str> = errors.iter().map(|error| error.detail.as_str()).collect();
            Next::End(FiringState::Failed, format!("the schedule's inputs are wrong: {}.", all.join("; ")))
        }
    }
}

/// Whether it is the evaluator that failed, and not what it evaluated.
pub(super) fn machinery(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.code == "config.evaluator_crashed")
}

/// What is wrong with a definition, in one sentence without its full stop.
pub(super) fn told(problems: &[Problem]) -> String {
    let errors: Vec<&Problem> = problems.iter().filter(|problem| problem.is_error()).collect();
    let said = match errors.as_slice() {
        [] => "the definition cannot be used".to_owned(),
        [one] => format!("the definition has an error: {one}"),
        [first, rest @ ..] => format!("the definition has {} errors, first: {first}", rest.len() + 1),
    };
    said.trim_end_matches('.').to_owned()
}
