//! From deliveries to decisions: each is taken by one instance, read, decided about as a whole, and recorded in one
//! transaction with the runs it starts. Killed anywhere, it is done again with the same result: evaluation is pure, and a
//! trigger that was recorded is found again by its key.

use super::Progress;
use super::planner::{self, Outcome, Planned};
use crate::actions::close_pull_request::close_pull_request;
use crate::actions::start_run::{Started, began, start_run};
use crate::context::Context;
use crate::forge::github::payload;
use crate::forge::{Event, ForgeError, RepoFacts, Trigger};
use crate::model::ids::{EntryId, RunId};
use crate::model::run::NewRun;
use crate::model::time::Timestamp;
use crate::store::decisions::{Decision, DecisionOutcome};
use crate::store::deliveries::{Delivery, DeliveryState};
use crate::store::reports::{StatusState, want_definitions_check, want_status};
use crate::store::repos::Repo;
use crate::store::wake::Topic;
use crate::store::{self, Tx};
use pipelines_spec::plan::Plan;
use pipelines_spec::trigger::EventKind;
use std::time::Duration;

/// Deliveries one pass takes.
const BATCH: i64 = 8;
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
    #[error("it took more than {} s", PATIENCE.as_secs())]
    Slow,
}

/// Takes the deliveries that are due and decides about each.
pub async fn pass(context: &Context, now: Timestamp) -> anyhow::Result<Progress> {
    let mut tx = context.store.begin().await?;
    let taken = tx.claim_deliveries(now, BATCH).await?;
    tx.commit().await?;
    if taken.is_empty() {
        return Ok(Progress::Idle);
    }
    // One after the other, oldest first: of two pushes to a branch the first gets the smaller number.
    for delivery in taken {
        one(context, &delivery, now).await?;
    }
    Ok(Progress::Worked)
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
        Ok(Event::Trigger(trigger)) => triggered(context, delivery, &trigger, now).await,
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
        Event::Trigger(_) => None,
        Event::Repository(repo) => {
            known(&mut tx, &repo, now).await?;
            Some("the repository's facts were taken over".to_owned())
        }
        Event::Installation { id, account, suspended, removed, repositories, lost } => {
            tx.save_installation(id, &account, suspended, removed, now).await?;
            for repo in &repositories {
                let repo = known(&mut tx, repo, now).await?;
                tx.enable_repo(&repo.id, true, now).await?;
            }
            for repo in &lost {
                let repo = known(&mut tx, repo, now).await?;
                tx.enable_repo(&repo.id, false, now).await?;
            }
            Some(format!("{} repositories gained, {} lost", repositories.len(), lost.len()))
        }
        Event::PullRequestClosed { repo, number, merged } => {
            let repo = known(&mut tx, &repo, now).await?;
            tx.commit().await?;
            close_pull_request(context, &repo.id, number, merged, now).await?;
            let why = format!("pull request {number} was {}", if merged { "merged" } else { "closed" });
            return finish(context, delivery, DeliveryState::Done, Some(&why), now).await;
        }
        Event::CheckAction { .. } | Event::SuiteRerequested { .. } => {
            Some("re-runs from GitHub's page are not followed yet; use rivet run retry".to_owned())
        }
        Event::Comment(_) => Some("commands in comments are not followed yet".to_owned()),
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
    tx.commit().await?;
    if !repo.enabled {
        let why = format!(
            "{} is disabled; 'rivet repo enable {}' lets its events start pipelines",
            repo.full_name(),
            repo.full_name()
        );
        return finish(context, delivery, DeliveryState::Ignored, Some(&why), now).await;
    }
    let forge = context.forges.of(delivery.forge)?;
    // What the forge said before and does not repeat in every delivery is taken from the stored row.
    let trigger = Trigger { repo: repo.facts(), ..trigger.clone() };
    let planned = planner::plan(context, &forge, &trigger).await?;
    let started = record(context, delivery, &repo, &trigger, planned, now).await?;
    context.store.wake.notify(Topic::Report).await;
    for run in &started {
        began(context, run, now).await;
    }
    let (count, name, sha) = (started.len(), repo.full_name(), &trigger.facts.sha);
    tracing::info!(delivery.id = %delivery.id, repo = %name, started = count, "{name} at {sha}: {count} runs");
    Ok(())
}

/// Everything that was decided, its runs, and the end of the delivery, in one transaction.
async fn record(
    context: &Context,
    delivery: &Delivery,
    repo: &Repo,
    trigger: &Trigger,
    planned: Planned,
    now: Timestamp,
) -> Result<Vec<RunId>, Undecided> {
    let mut tx = context.store.begin().await?;
    let mut bundle_digest = String::new();
    if planned.verdicts.iter().any(|v| matches!(v.outcome, Outcome::Start(_))) {
        bundle_digest = tx.save_bundle(&planned.sources, now).await?;
    }
    let (mut decisions, mut started) = (vec![], vec![]);
    for verdict in &planned.verdicts {
        let mut run_id = None;
        let outcome = match &verdict.outcome {
            Outcome::Start(plan) => {
                let new = new_run(delivery, repo, trigger, plan, &bundle_digest);
                run_id = Some(match start_run(&mut tx, &new, now).await? {
                    Started::Created(run) => {
                        started.push(run.clone());
                        run
                    }
                    // The same trigger under another delivery, or this one on its second try.
                    Started::Existing(run) => run,
                });
                DecisionOutcome::Run
            }
            Outcome::Skip { .. } => DecisionOutcome::Skip,
            Outcome::Broken => DecisionOutcome::Error,
        };
        let pipeline = Some(verdict.pipeline.clone());
        let decided = decision(delivery, repo, trigger, outcome, verdict.because.clone(), now);
        decisions.push(Decision { pipeline, run_id, ..decided });
    }
    if let Some((outcome, reason)) = about_none(&planned) {
        decisions.push(decision(delivery, repo, trigger, outcome, reason.to_owned(), now));
    }
    report(context, &mut tx, repo, trigger, &planned, now).await?;
    tx.replace_decisions(&delivery.id, &decisions).await?;
    if trigger.facts.git_ref == format!("refs/heads/{}", repo.default_branch) {
        tx.definitions_changed(&repo.id).await?;
    }
    tx.finish_delivery(&delivery.id, DeliveryState::Done, None, now).await?;
    tx.commit().await?;
    Ok(started)
}

/// One sentence about a delivery; of no pipeline yet.
fn decision(
    delivery: &Delivery,
    repo: &Repo,
    trigger: &Trigger,
    outcome: DecisionOutcome,
    reason: String,
    now: Timestamp,
) -> Decision {
    Decision {
        id: EntryId::generate(),
        delivery_id: Some(delivery.id.clone()),
        repo_id: repo.id.clone(),
        pipeline: None,
        sha: Some(trigger.facts.sha.clone()),
        outcome,
        reason,
        run_id: None,
        created_at: now,
    }
}

/// What a pipeline that starts becomes.
fn new_run(delivery: &Delivery, repo: &Repo, trigger: &Trigger, plan: &Plan, bundle_digest: &str) -> NewRun {
    NewRun {
        repo_id: repo.id.clone(),
        plan: plan.clone(),
        bundle_digest: bundle_digest.to_owned(),
        facts: trigger.facts.clone(),
        trust: trigger.trust,
        source_key: trigger.source_key.clone(),
        delivery_id: Some(delivery.id.clone()),
        parent_stage_id: None,
        rerun_of: None,
    }
}

/// What is said where there is no pipeline to say something about.
fn about_none(planned: &Planned) -> Option<(DecisionOutcome, &'static str)> {
    match (planned.verdicts.is_empty(), planned.problems.is_empty()) {
        (false, _) => None,
        (true, true) => Some((DecisionOutcome::Skip, "there are no pipelines in .rivet/ at this commit")),
        (true, false) => Some((
            DecisionOutcome::Error,
            "no definition in .rivet/ can be read; the check 'rivet / definitions' says why",
        )),
    }
}

/// What the forge is to show beside the runs: the definitions' check where something is wrong with them (or was), and the
/// required status of every pipeline that is meant for this commit and has no run to speak for it.
async fn report(
    context: &Context,
    tx: &mut Tx,
    repo: &Repo,
    trigger: &Trigger,
    planned: &Planned,
    now: Timestamp,
) -> store::Result<()> {
    let sha = &trigger.facts.sha;
    let url = context.link(&format!("/{}/commits/{sha}", repo.full_name()));
    want_definitions_check(tx, &repo.id, sha, &planned.problems, &url, now).await?;
    for verdict in &planned.verdicts {
        let (state, description) = match &verdict.outcome {
            Outcome::Start(_) => continue,
            // Its own change to a filter must not let a pull request pass: only a push to a branch is taken at its word.
            Outcome::Skip { by_path: true, .. } if trigger.facts.name == EventKind::Push => {
                (StatusState::Success, format!("Skipped: {}", verdict.because))
            }
            Outcome::Skip { by_path: true, .. } => (StatusState::Pending, format!("Not run: {}", verdict.because)),
            Outcome::Skip { .. } => continue,
            Outcome::Broken => (StatusState::Error, verdict.because.clone()),
        };
        want_status(tx, &repo.id, sha, &verdict.pipeline, state, &description, &url, now).await?;
    }
    Ok(())
}
