//! Forward: the run's turn, then each stage's, then the end.

use super::{Answer, Ask, AskWhat, Graph, attempt, end, gate, stop};
use crate::model::stage::Stage;
use crate::model::state::{Illegal, RunEvent, StageEvent, StageState};
use pipelines_spec::plan::{Action, ErrorClass};
use pipelines_spec::protocol::JobKind;

/// A pending run begins when its group is free.
pub(super) fn begin(graph: &mut Graph) -> Result<(), Illegal> {
    if graph.run.cancel_requested {
        return cancel(graph);
    }
    if !graph.blocked_by.is_empty() {
        return Ok(());
    }
    graph.run.apply(RunEvent::Start, "Its stages are under way.")?;
    graph.run.started_at = graph.run.started_at.or(Some(graph.now));
    let seconds = graph.run.timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    graph.run.deadline_at = seconds.map(|seconds| graph.now.plus_seconds(seconds));
    graph.note(None, "started", "The run began.");
    Ok(())
}

/// A running run: stop where it must stop, else let every stage go as far as it can, and end when all are over.
pub(super) fn go_on(graph: &mut Graph) -> Result<(), Illegal> {
    if graph.run.cancel_requested {
        return cancel(graph);
    }
    if graph.run.deadline_at.is_some_and(|deadline| deadline <= graph.now) {
        return time_out(graph);
    }
    for index in 0..graph.stages.len() {
        match graph.stages[index].state {
            StageState::Pending => consider(graph, index)?,
            StageState::AwaitingApproval => wait(graph, index)?,
            StageState::Queued => gate::hold_again(graph, index)?,
            StageState::Running => attempt::end_overtime(graph, index)?,
            StageState::Sleeping
            | StageState::Succeeded
            | StageState::Failed
            | StageState::Skipped
            | StageState::Cancelled
            | StageState::RollingBack
            | StageState::RolledBack => {}
        }
    }
    expand(graph);
    fail_fast(graph)?;
    if graph.all_over() { conclude(graph) } else { Ok(()) }
}

fn cancel(graph: &mut Graph) -> Result<(), Illegal> {
    let reason = graph.run.cancel_reason.clone().unwrap_or_else(|| "Cancelled.".to_owned());
    let all: Vec<usize> = (0..graph.stages.len()).collect();
    stop(graph, &all, &reason)?;
    if graph.all_over() { end(graph, RunEvent::Cancel, &reason) } else { Ok(()) }
}

fn time_out(graph: &mut Graph) -> Result<(), Illegal> {
    let seconds = graph.run.timeout_seconds.unwrap_or_default();
    let reason = format!("The run took longer than its timeout of {seconds} s.");
    let all: Vec<usize> = (0..graph.stages.len()).collect();
    stop(graph, &all, &reason)?;
    if !graph.all_over() {
        return Ok(());
    }
    if super::rollback::next(graph).is_some() {
        return graph.run.apply(RunEvent::RollBack, reason);
    }
    end(graph, RunEvent::Fail, &reason)
}

/// A pending stage whose dependencies are over runs, is skipped, or asks.
fn consider(graph: &mut Graph, index: usize) -> Result<(), Illegal> {
    if graph.needed(index).any(|stage| !stage.state.is_over()) {
        return Ok(());
    }
    let id = graph.stages[index].id.clone();
    let answer = graph.answers.get(&id).cloned();
    if let Some(Answer::Broken(problem)) = &answer {
        return broken(graph, index, problem);
    }
    if graph.stages[index].spec.0.stage.condition.is_some() {
        match answer {
            None => {
                graph.asks.push(Ask { stage: id, what: AskWhat::Condition });
                return Ok(());
            }
            Some(Answer::Condition(false)) => return skip(graph, index, "Skipped: its condition does not hold."),
            Some(Answer::Condition(true) | Answer::Legs(_) | Answer::Broken(_)) => {}
        }
    } else if let Some(reason) = unmet(graph, index) {
        return skip(graph, index, &reason);
    }
    if graph.stages[index].spec.0.dynamic.is_some() {
        // A condition was answered in an earlier round; the legs are asked for after it holds.
        if !matches!(graph.answers.get(&id), Some(Answer::Legs(_))) {
            graph.asks.push(Ask { stage: id, what: AskWhat::Legs });
        }
        return Ok(());
    }
    admit(graph, index)
}

fn broken(graph: &mut Graph, index: usize, problem: &str) -> Result<(), Illegal> {
    let now = graph.now;
    graph.stages[index].fail_with(StageEvent::Break, ErrorClass::DefinitionError, problem, now)?;
    graph.note(Some(index), "failed", problem);
    Ok(())
}

fn skip(graph: &mut Graph, index: usize, reason: &str) -> Result<(), Illegal> {
    let now = graph.now;
    graph.stages[index].apply(StageEvent::Skip, reason, now)?;
    graph.note(Some(index), "skipped", reason);
    Ok(())
}

/// Why a stage without a condition does not run.
fn unmet(graph: &Graph, index: usize) -> Option<String> {
    let unmet: Vec<String> = graph
        .needed(index)
        // What was set aside stands as it did when this stage was let run.
        .filter(|stage| stage.state != StageState::Succeeded && !stage.set_aside)
        .map(|stage| format!("{} {}", stage.name, past(stage.state)))
        .collect();
    (!unmet.is_empty()).then(|| format!("Skipped: {}.", unmet.join(", ")))
}

fn past(state: StageState) -> &'static str {
    match state {
        StageState::Failed => "failed",
        StageState::Skipped => "was skipped",
        StageState::Cancelled => "was cancelled",
        StageState::RolledBack | StageState::RollingBack => "was rolled back",
        StageState::Succeeded => "succeeded",
        StageState::Pending
        | StageState::AwaitingApproval
        | StageState::Queued
        | StageState::Running
        | StageState::Sleeping => "has not ended",
    }
}

/// Holds the stage at its gate, or queues it.
fn admit(graph: &mut Graph, index: usize) -> Result<(), Illegal> {
    if gate::is_open(graph, index) {
        return queue(graph, index);
    }
    gate::hold(graph, index, "It waits for somebody to agree.")
}

/// A held stage goes when its gate opens, and fails when it closes.
fn wait(graph: &mut Graph, index: usize) -> Result<(), Illegal> {
    if gate::is_open(graph, index) {
        return queue(graph, index);
    }
    if graph.stages[index].expires_at.is_some_and(|expires| expires <= graph.now) {
        let now = graph.now;
        let reason = "Nobody approved it before the gate closed.";
        graph.stages[index].fail_with(StageEvent::Reject, ErrorClass::Rejected, reason, now)?;
        graph.note(Some(index), "expired", reason);
    }
    Ok(())
}

/// Queues a stage, unless as many legs as may are under way.
fn queue(graph: &mut Graph, index: usize) -> Result<(), Illegal> {
    if let Action::Pipeline { pipeline, .. } = &graph.stages[index].spec.0.stage.action {
        let problem = format!("This version of Rivet cannot run pipeline '{pipeline}' as a stage.");
        return broken(graph, index, &problem);
    }
    if is_full(graph, index) {
        return Ok(());
    }
    let now = graph.now;
    let stage = &graph.stages[index];
    let unbegun = stage.attempt > 0 && stage.queued_at.is_none();
    let attempt = if unbegun { stage.attempt } else { stage.attempt + 1 };
    let stage = &mut graph.stages[index];
    stage.apply(StageEvent::Queue, "", now)?;
    stage.attempt = attempt;
    stage.queued_at = Some(now);
    graph.add_job(index, JobKind::Stage, attempt, 0);
    graph.note(Some(index), "queued", "It waits for a runner.");
    Ok(())
}

/// Whether `max_parallel` legs of the same stage are under way.
pub(super) fn is_full(graph: &Graph, index: usize) -> bool {
    let stage = &graph.stages[index];
    let Some(most) = stage.spec.0.max_parallel else { return false };
    let under_way = |other: &&Stage| {
        other.base == stage.base
            && matches!(other.state, StageState::Queued | StageState::Running | StageState::Sleeping)
    };
    graph.stages.iter().filter(under_way).count() >= most as usize
}

/// Puts the legs of dynamic stages in their place.
fn expand(graph: &mut Graph) {
    let mut index = 0;
    while index < graph.stages.len() {
        let stage = &graph.stages[index];
        let legs = match graph.answers.get(&stage.id) {
            Some(Answer::Legs(legs)) if stage.state == StageState::Pending && stage.spec.0.dynamic.is_some() => {
                legs.clone()
            }
            Some(Answer::Condition(_) | Answer::Broken(_) | Answer::Legs(_)) | None => {
                index += 1;
                continue;
            }
        };
        let place = graph.stages.remove(index);
        let made: Vec<Stage> =
            legs.into_iter().map(|leg| settled_condition(Stage::planned(&graph.run.id, place.position, leg))).collect();
        index += made.len();
        let at = index - made.len();
        graph.stages.splice(at..at, made);
        graph.replaced.push(place.id);
    }
}

/// The condition was answered for the stage as a whole, before it had legs.
fn settled_condition(mut leg: Stage) -> Stage {
    leg.spec.0.stage.condition = None;
    leg
}

/// The first failed leg ends the other legs.
fn fail_fast(graph: &mut Graph) -> Result<(), Illegal> {
    let failed: Vec<(String, String)> = graph
        .stages
        .iter()
        .filter(|stage| stage.state == StageState::Failed && stage.spec.0.fail_fast)
        .map(|stage| (stage.base.clone(), stage.name.clone()))
        .collect();
    for (base, name) in failed {
        let others: Vec<usize> = (0..graph.stages.len())
            .filter(|&index| graph.stages[index].base == base && !graph.stages[index].state.is_over())
            .collect();
        stop(graph, &others, &format!("Cancelled because {name} failed (fail_fast)."))?;
    }
    Ok(())
}

/// All stages are over: the run ends, or undoes.
fn conclude(graph: &mut Graph) -> Result<(), Illegal> {
    let own: Vec<&Stage> = graph.stages.iter().filter(|stage| !stage.set_aside).collect();
    let failed: Vec<String> = own
        .iter()
        .filter(|stage| matches!(stage.state, StageState::Failed | StageState::Cancelled | StageState::RolledBack))
        .map(|stage| stage.name.clone())
        .collect();
    if failed.is_empty() {
        let ran = own.iter().filter(|stage| stage.state == StageState::Succeeded).count();
        let skipped = own.len() - ran;
        let reason = match (ran, skipped) {
            (0, _) => "Every stage was skipped.".to_owned(),
            (_, 0) => "Every stage succeeded.".to_owned(),
            (ran, skipped) => format!("{ran} stages succeeded, {skipped} were skipped."),
        };
        return end(graph, RunEvent::Complete, &reason);
    }
    let reason = match failed.as_slice() {
        [one] => format!("{one} failed."),
        many => format!("{} failed.", many.join(", ")),
    };
    if super::rollback::next(graph).is_some() {
        graph.note(None, "rolling_back", format!("{reason} What was done is being undone."));
        return graph.run.apply(RunEvent::RollBack, reason);
    }
    end(graph, RunEvent::Fail, &reason)
}
