//! How attempts begin and end: outcomes, lost runners, retries.

use super::{Graph, MAX_INFRA_FAULTS};
use crate::model::stage::{RollbackState, Stage, error};
use crate::model::state::{Illegal, JobState, StageEvent, StageState};
use crate::store::Json;
use pipelines_spec::plan::{Backoff, ErrorClass, Retry};
use pipelines_spec::protocol::{Conclusion, JobError, JobKind, Outcome};
use serde_json::Value;

/// The job's user code starts now.
pub fn start_attempt(graph: &mut Graph, job: usize) -> Result<(), Illegal> {
    let now = graph.now;
    if graph.jobs[job].state == JobState::Claimed {
        graph.jobs[job].state = JobState::Running;
        graph.jobs[job].started_at = Some(now);
        graph.jobs[job].dirty = true;
    }
    let Some(index) = graph.stage_index(&graph.jobs[job].stage_id.clone()) else { return Ok(()) };
    if graph.jobs[job].is_rollback() {
        graph.stages[index].explain("Its rollback is running.");
        return Ok(());
    }
    let stage = &mut graph.stages[index];
    if stage.state == StageState::Queued {
        stage.apply(StageEvent::Start, "", now)?;
        stage.started_at = Some(now);
        let message = format!("Attempt {} of {} began.", stage.attempt, stage.max_attempts);
        graph.note(Some(index), "started", message);
    }
    Ok(())
}

/// The job ended as its runner tells.
pub fn finish_attempt(graph: &mut Graph, job: usize, outcome: &Outcome) -> Result<(), Illegal> {
    let now = graph.now;
    graph.jobs[job].finish(&outcome.conclusion.to_string(), now);
    let Some(index) = graph.stage_index(&graph.jobs[job].stage_id.clone()) else { return Ok(()) };
    if graph.jobs[job].is_rollback() {
        return finish_rollback(graph, job, index, outcome);
    }
    let stage = &mut graph.stages[index];
    stage.annotations = (!outcome.annotations.is_empty()).then(|| Json(outcome.annotations.clone()));
    stage.dirty = true;
    let asked = graph.jobs[job].cancel_requested || graph.run.cancel_requested;
    match outcome.conclusion {
        Conclusion::Succeeded => succeed(graph, index, outcome),
        // What was told to stop and then failed was stopped. What stopped although nobody asked is the machinery's fault.
        Conclusion::Cancelled | Conclusion::Failed if asked => {
            let reason = graph.run.cancel_reason.clone().unwrap_or_else(|| "Cancelled.".to_owned());
            graph.stages[index].fail_with(StageEvent::Cancel, ErrorClass::Cancelled, &reason, now)?;
            graph.note(Some(index), "cancelled", reason);
            Ok(())
        }
        Conclusion::Cancelled => {
            let failure = error(ErrorClass::InfraError, "The runner stopped it although nobody had asked.");
            fail(graph, index, failure)
        }
        Conclusion::Failed => {
            let none = || error(ErrorClass::InfraError, "The runner gave no reason.");
            fail(graph, index, outcome.error.clone().unwrap_or_else(none))
        }
    }
}

fn succeed(graph: &mut Graph, index: usize, outcome: &Outcome) -> Result<(), Illegal> {
    let now = graph.now;
    let completion = graph.run.next_completion;
    graph.run.next_completion += 1;
    graph.run.dirty = true;
    let stage = &mut graph.stages[index];
    stage.apply(StageEvent::Succeed, "It succeeded.", now)?;
    stage.completion = Some(completion);
    stage.error = None;
    stage.outputs = Some(Json(Value::Object(outcome.outputs.clone())));
    graph.note(Some(index), "succeeded", "It succeeded.");
    Ok(())
}

/// A failed attempt is tried again where policy allows; faults of the machinery have a bound of their own.
fn fail(graph: &mut Graph, index: usize, failure: JobError) -> Result<(), Illegal> {
    let now = graph.now;
    let machinery = is_machinery(failure.class);
    if failure.class == ErrorClass::LostRunner && must_not_repeat(&graph.stages[index]) {
        return lost(graph, index);
    }
    let stage = &mut graph.stages[index];
    if machinery {
        stage.infra_faults += 1;
    } else {
        stage.user_failures += 1;
    }
    let retry = stage.spec.0.stage.retry.clone();
    let again = !graph.run.cancel_requested
        && if machinery {
            stage.infra_faults <= MAX_INFRA_FAULTS
        } else {
            stage.user_failures < stage.max_attempts && retryable(retry.as_ref(), failure.class)
        };
    let sentence = format!("{}: {}", failure.class, failure.message);
    stage.error = Some(Json(failure));
    if !again {
        stage.apply(StageEvent::Fail, sentence.clone(), now)?;
        graph.note(Some(index), "failed", sentence);
        return Ok(());
    }
    let tries = if machinery { stage.infra_faults } else { stage.user_failures };
    let backoff = retry.map(|retry| retry.backoff).filter(|_| !machinery).unwrap_or_default();
    let delay = delay_millis(&backoff, tries, graph.random);
    stage.apply(StageEvent::Retry, "", now)?;
    stage.attempt += 1;
    stage.retry_at = Some(now.plus_millis(delay));
    stage.queued_at = Some(now);
    let attempt = stage.attempt;
    graph.add_job(index, JobKind::Stage, attempt, delay);
    graph.note(Some(index), "retried", sentence);
    Ok(())
}

/// Whether a class of error is the machinery's fault, which never uses up the user's attempts.
fn is_machinery(class: ErrorClass) -> bool {
    match class {
        ErrorClass::InfraError | ErrorClass::LostRunner => true,
        ErrorClass::ScriptError
        | ErrorClass::CommandFailed
        | ErrorClass::Timeout
        | ErrorClass::Cancelled
        | ErrorClass::Rejected
        | ErrorClass::DefinitionError
        | ErrorClass::Limit => false,
    }
}

/// Whether policy allows another attempt after this class of error.
pub fn retryable(retry: Option<&Retry>, class: ErrorClass) -> bool {
    let Some(retry) = retry else { return false };
    if retry.on.is_empty() {
        return !matches!(class, ErrorClass::Cancelled | ErrorClass::Rejected | ErrorClass::DefinitionError);
    }
    retry.on.contains(&class)
}

/// `min(max, initial * factor^(n-2))` before attempt n, spread by jitter; `failures` is n-1.
pub(super) fn delay_millis(backoff: &Backoff, failures: i64, random: f64) -> i64 {
    let exponent = i32::try_from((failures - 1).clamp(0, 64)).unwrap_or(64);
    let seconds = (backoff.initial * backoff.factor.powi(exponent)).min(backoff.max).max(0.0);
    let spread = 1.0 + backoff.jitter * (2.0 * random - 1.0);
    // A float to integer cast saturates, and a year is more than any backoff allows.
    #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
    let millis = (seconds * spread * 1000.0).clamp(0.0, 31_536_000_000.0) as i64;
    millis
}

/// The runner was not heard of again: the job goes to another one where that is safe.
pub fn lose_attempt(graph: &mut Graph, job: usize) -> Result<(), Illegal> {
    let now = graph.now;
    let stopping = graph.jobs[job].cancel_requested;
    let rollback = graph.jobs[job].is_rollback();
    graph.jobs[job].finish("lost", now);
    let Some(index) = graph.stage_index(&graph.jobs[job].stage_id.clone()) else { return Ok(()) };
    let failure = error(ErrorClass::LostRunner, "The runner was not heard of again.");
    if rollback {
        let outcome = Outcome {
            conclusion: Conclusion::Failed,
            error: Some(failure),
            outputs: serde_json::Map::new(),
            annotations: vec![],
        };
        return finish_rollback(graph, job, index, &outcome);
    }
    if stopping {
        let reason = "Cancelled; its runner was not heard of again.";
        graph.stages[index].fail_with(StageEvent::Cancel, ErrorClass::Cancelled, reason, now)?;
        return Ok(());
    }
    fail(graph, index, failure)
}

/// Whether a stage's code, once started, must not be started again without a person's word: it may have touched the world.
fn must_not_repeat(stage: &Stage) -> bool {
    let spec = &stage.spec.0.stage;
    stage.state == StageState::Running && (spec.environment.is_some() || spec.approval.is_some())
}

fn lost(graph: &mut Graph, index: usize) -> Result<(), Illegal> {
    let message = "The runner was lost after the stage's code had started, and the stage deploys or was approved: look at \
                   what it did, then retry it.";
    let now = graph.now;
    graph.stages[index].infra_faults += 1;
    graph.stages[index].fail_with(StageEvent::Fail, ErrorClass::LostRunner, message, now)?;
    graph.note(Some(index), "lost_runner", message);
    Ok(())
}

/// Ends a stage whose runner is alive but did not keep the stage's timeout; its late answers are fenced.
pub(super) fn end_overtime(graph: &mut Graph, index: usize) -> Result<(), Illegal> {
    let now = graph.now;
    if graph.overtime(&graph.stages[index]).is_none_or(|due| due > now) {
        return Ok(());
    }
    if let Some(job) = graph.open_job(&graph.stages[index].id.clone()) {
        graph.jobs[job].finish("timed_out", now);
    }
    fail(
        graph,
        index,
        error(ErrorClass::Timeout, "The stage took longer than its timeout, and its runner did not stop it."),
    )
}

fn finish_rollback(graph: &mut Graph, job: usize, index: usize, outcome: &Outcome) -> Result<(), Illegal> {
    let now = graph.now;
    if outcome.conclusion == Conclusion::Succeeded {
        let stage = &mut graph.stages[index];
        stage.rollback_state = Some(RollbackState::Done);
        stage.apply(StageEvent::Undo, "What it did was undone.", now)?;
        graph.note(Some(index), "rolled_back", "What it did was undone.");
        return Ok(());
    }
    let failure = outcome.error.clone().unwrap_or_else(|| error(ErrorClass::InfraError, "The rollback ended early."));
    let attempt = graph.jobs[job].attempt;
    let retry = graph.stages[index].spec.0.stage.rollback.as_ref().and_then(|rollback| rollback.retry.clone());
    let most = retry.as_ref().map_or(1, |retry| i64::from(retry.max_attempts));
    let bound = if is_machinery(failure.class) { MAX_INFRA_FAULTS.max(most) } else { most };
    let sentence = format!("Its rollback failed: {}: {}", failure.class, failure.message);
    if attempt < bound && outcome.conclusion == Conclusion::Failed && !graph.run.cancel_requested {
        let backoff = retry.map(|retry| retry.backoff).unwrap_or_default();
        let delay = delay_millis(&backoff, attempt, graph.random);
        graph.add_job(index, JobKind::Rollback, attempt + 1, delay);
        graph.stages[index].explain(format!("{sentence} It is tried again."));
    } else {
        let stage = &mut graph.stages[index];
        stage.rollback_state = Some(RollbackState::Failed);
        stage.apply(StageEvent::GiveUp, sentence.clone(), now)?;
        stage.error = Some(Json(failure));
    }
    graph.note(Some(index), "rollback_failed", sentence);
    Ok(())
}
