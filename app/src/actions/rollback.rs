//! Going back. [`undo`] runs the rollbacks of a completed run; [`environment`] makes an earlier deployment to an
//! environment again: the stages of that run which deployed there, with the same plan, commit and inputs, what they depended
//! on taken over from it and nothing else, under their own approval, as a run of its own.

use crate::actions::start_run::{Started, began};
use crate::context::Context;
use crate::engine::advance::{Error, advance, note};
use crate::forge::people::Account;
use crate::model::deployment::{Deployment, Environment, Freeze, environment_key, rollback_target};
use crate::model::ids::{DeploymentId, EntryId, RepoId, RunId, StageId};
use crate::model::run::NewRun;
use crate::model::settle::{Graph, next_rollback};
use crate::model::stage::Stage;
use crate::model::state::{RunEvent, RunState, StageState};
use crate::model::time::Timestamp;
use crate::store::Tx;
use crate::store::environments::audited;
use serde_json::json;
use std::collections::BTreeSet;

/// How far back a rollback looks by itself.
const ENTRIES: usize = 500;

/// Undoes what a completed run did: its stages' rollbacks, the last one first. Whether the actor may is the caller's to
/// check.
///
/// # Errors
/// [`Error::Refused`] where the run did not complete, nothing can be undone, or an environment is locked and the rollback
/// is not said to go through.
pub async fn undo(
    context: &Context,
    run: &RunId,
    actor: &str,
    through_lock: bool,
    now: Timestamp,
) -> Result<(), Error> {
    advance(context, run, now, |graph| {
        let number = graph.run.number;
        if graph.run.state != RunState::Completed {
            let state = graph.run.state.to_string().replace('_', " ");
            return Err(Error::Refused(format!(
                "Run #{number} is {state}: only a completed run is rolled back by hand."
            )));
        }
        if next_rollback(graph).is_none() {
            return Err(Error::Refused(format!(
                "Nothing in run #{number} can be undone: no stage that succeeded has a rollback."
            )));
        }
        if !through_lock && let Some(lock) = lock_on_undo(graph) {
            return Err(Error::Refused(held(&lock)));
        }
        let message = format!("{actor} asked for a rollback.");
        graph.run.apply(RunEvent::RollBack, message.clone())?;
        graph.run.finished_at = None;
        graph.run.dirty = true;
        graph.freeze = Some(Freeze {
            actor: actor.to_owned(),
            reason: format!("run #{number} was rolled back; unlock it to deploy forward again."),
        });
        graph.note(None, "rolling_back", message);
        Ok(())
    })
    .await
}

/// What the lock says of an environment whose deployment would be undone.
fn lock_on_undo(graph: &Graph) -> Option<String> {
    let undone = |index: &usize| {
        let stage = &graph.stages[*index];
        stage.state == StageState::Succeeded && !stage.set_aside && stage.spec.0.stage.rollback.is_some()
    };
    (0..graph.stages.len()).filter(undone).find_map(|index| graph.lock_of(index))
}

fn held(lock: &str) -> String {
    format!("{lock} Unlock it first, or say that the rollback goes through the lock.")
}

/// A wish to make an earlier deployment again.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where.
    pub repo: RepoId,
    /// The environment.
    pub environment: String,
    /// The number of the deployment to go back to; `None`: the one that stood before the last.
    pub to: Option<i64>,
    /// Whether it goes through a lock that is there now. Only for those who may write.
    pub through_lock: bool,
    /// Who asks. Whether they may is the caller's to check.
    pub actor: String,
    /// What makes it one wish however often it is told, such as a comment's id; `None`: each is one of its own.
    pub key: Option<String>,
}

/// What is made again, and from what.
struct Again {
    target: Deployment,
    stages: Vec<Stage>,
    /// The stages that run again.
    chosen: BTreeSet<StageId>,
}

/// Starts the rollback and answers its run. Trust is the old run's and never rises.
///
/// # Errors
/// [`Error::NotFound`] where the repository has no such environment; [`Error::Refused`] says why there is nothing to go back
/// to, or whose lock is in the way.
pub async fn environment(context: &Context, wish: &Wish, now: Timestamp) -> Result<RunId, Error> {
    let mut tx = context.store.begin().await?;
    let environment = tx.environment(&wish.repo, &wish.environment).await?.ok_or(Error::NotFound)?;
    if !wish.through_lock
        && let Some(lock) = environment.lock()
    {
        return Err(Error::Refused(held(&lock)));
    }
    let again = again(&mut tx, &environment, wish).await?;
    let id = match start(&mut tx, &environment, wish, &again, now).await? {
        Started::Created(id) => id,
        Started::Existing(id) => return Ok(id),
    };
    tx.commit().await?;
    began(context, &id, now).await;
    Ok(id)
}

/// Repeats a run that was itself a rollback.
pub async fn repeat(
    context: &Context,
    target: &DeploymentId,
    actor: &str,
    key: &str,
    now: Timestamp,
) -> Result<RunId, Error> {
    let target = {
        let mut tx = context.store.read().await?;
        tx.deployment(target).await?.ok_or(Error::NotFound)?
    };
    let wish = Wish {
        repo: target.repo_id,
        environment: target.environment,
        to: Some(target.number),
        through_lock: false,
        actor: actor.to_owned(),
        key: Some(key.to_owned()),
    };
    environment(context, &wish, now).await
}

async fn again(tx: &mut Tx, environment: &Environment, wish: &Wish) -> Result<Again, Error> {
    let (repo, key) = (&environment.repo_id, &environment.name_key);
    let mut entries = tx.deployments(repo, key, None, ENTRIES).await?;
    // Older ones only where they are named, and what those make again.
    let mut named = wish.to;
    while let Some(number) = named.take() {
        let found = match entries.iter().find(|entry| entry.number == number) {
            Some(entry) => Some(entry.clone()),
            None => tx.deployment_by_number(repo, key, number).await?,
        };
        if let Some(entry) = found {
            named = entry.rollback_to;
            if entries.iter().all(|known| known.number != number) {
                entries.push(entry);
            }
        }
    }
    let target = rollback_target(&environment.name, &entries, wish.to).map_err(Error::Refused)?.clone();
    let stages = tx.stages(&target.run_id).await?;
    let deployed = tx.deployments_of_run(&target.run_id).await?;
    let good = deployed.iter().filter(|entry| &entry.environment == key && entry.state.is_good());
    let chosen: BTreeSet<StageId> = good.map(|entry| entry.stage_id.clone()).collect();
    if !stages.iter().any(|stage| chosen.contains(&stage.id)) {
        return Err(Error::Refused(format!("The stages of deployment {} are no longer stored.", target.number)));
    }
    Ok(Again { target, stages, chosen })
}

async fn start(
    tx: &mut Tx,
    environment: &Environment,
    wish: &Wish,
    again: &Again,
    now: Timestamp,
) -> Result<Started, Error> {
    let old = tx.run(&again.target.run_id).await?;
    let mut facts = old.facts.0.clone();
    facts.actor.clone_from(&wish.actor);
    let key = wish.key.clone().unwrap_or_else(|| EntryId::generate().0);
    let new = NewRun {
        plan: tx.run_plan(&old.id).await?,
        repo_id: old.repo_id.clone(),
        bundle_digest: old.bundle_digest.clone(),
        facts,
        source_key: format!("rollback:{}:{key}", environment_key(&wish.environment)),
        trust: old.trust.0,
        trust_reason: old.trust_reason.clone(),
        caused_by: vec![Account { login: wish.actor.clone(), id: 0, is_bot: false }],
        delivery_id: None,
        parent_stage_id: None,
        rerun_of: Some(old.id.clone()),
    };
    let started = tx.insert_run_of(&new, |run| stages(run, again, old.number, now), now).await?;
    if let Started::Created(id) = &started {
        tx.mark_rollback(id, &again.target.id, wish.through_lock.then_some(now)).await?;
        let (who, name, number) = (&wish.actor, &environment.name, again.target.number);
        let through = if wish.through_lock && environment.locked_at.is_some() { ", through its lock" } else { "" };
        let said = format!("{who} rolls {name} back to deployment {number} of run #{}{through}.", old.number);
        tx.insert_notes(id, &[note("rollback", said)], now).await?;
        let details = json!({ "run_id": id, "to": number, "of_run": old.id, "through_lock": wish.through_lock });
        let subject = audited(&old.repo_id, &environment.name_key);
        tx.audit(who, "environment.rollback", &subject, &details, now).await?;
        tx.report_is_due(id, now).await?;
    }
    Ok(started)
}

/// The new run's stages: those that run again, those whose state and outputs they are given, and the rest set aside.
fn stages(run: &RunId, again: &Again, number: i64, now: Timestamp) -> Vec<Stage> {
    let runs = |stage: &Stage| again.chosen.contains(&stage.id);
    let bases: BTreeSet<&str> = again.stages.iter().filter(|s| runs(s)).map(|s| s.base.as_str()).collect();
    let needed: BTreeSet<&str> = again.stages.iter().filter(|s| runs(s)).flat_map(needs_of).collect();
    let made = again.stages.iter().map(|old| {
        if runs(old) {
            let mut spec = old.spec.0.clone();
            // It held when it ran, and nothing it was asked about has changed.
            spec.stage.condition = None;
            spec.stage.depends_on = order(&again.stages, old, &bases);
            Stage::planned(run, old.position, spec)
        } else if needed.contains(old.base.as_str()) && old.state.is_over() {
            let state = old.state.to_string().replace('_', " ");
            Stage::set_aside(run, old, true, format!("Taken over from run #{number}, where it {}.", past(&state)), now)
        } else {
            Stage::set_aside(run, old, false, "It is no part of this rollback.".to_owned(), now)
        }
    });
    made.collect()
}

fn needs_of(stage: &Stage) -> impl Iterator<Item = &str> {
    stage.spec.0.stage.depends_on.iter().map(String::as_str)
}

/// `succeeded`, `was skipped`.
fn past(state: &str) -> String {
    if state == "succeeded" || state == "failed" { state.to_owned() } else { format!("was {state}") }
}

/// What a stage waits for: what it did, and those that run again and came before it by way of what does not run again.
fn order(stages: &[Stage], of: &Stage, bases: &BTreeSet<&str>) -> Vec<String> {
    let mut before: BTreeSet<&str> = needs_of(of).collect();
    loop {
        let more: Vec<&str> = stages.iter().filter(|s| before.contains(s.base.as_str())).flat_map(needs_of).collect();
        let known = before.len();
        before.extend(more);
        if before.len() == known {
            break;
        }
    }
    let mut waits: Vec<String> = needs_of(of).map(str::to_owned).collect();
    let further = before.into_iter().filter(|base| bases.contains(base) && *base != of.base);
    for base in further {
        if !waits.iter().any(|known| known == base) {
            waits.push(base.to_owned());
        }
    }
    waits
}
