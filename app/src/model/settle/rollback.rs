//! Backward: what a failed run did is undone in reverse order of completion, one stage at a time.

use super::{Graph, end, stop_job};
use crate::model::stage::RollbackState;
use crate::model::state::{Illegal, RunEvent, StageEvent, StageState};
use pipelines_spec::protocol::JobKind;

/// The next stage to undo: those that failed half-way first, then those that succeeded, the last one first.
pub fn next(graph: &Graph) -> Option<usize> {
    let waits = |index: &usize| {
        let stage = &graph.stages[*index];
        let began = match stage.state {
            StageState::Succeeded => true,
            StageState::Failed | StageState::Cancelled => {
                stage.started_at.is_some() && stage.state == StageState::Failed
            }
            StageState::Pending
            | StageState::AwaitingApproval
            | StageState::Queued
            | StageState::Running
            | StageState::Sleeping
            | StageState::Skipped
            | StageState::RollingBack
            | StageState::RolledBack => false,
        };
        // What came from another run was not done by this one.
        began && !stage.set_aside && stage.rollback_state.is_none() && stage.spec.0.stage.rollback.is_some()
    };
    (0..graph.stages.len()).filter(waits).max_by_key(|&index| {
        let stage = &graph.stages[index];
        (stage.state == StageState::Failed, stage.completion.unwrap_or_default(), index)
    })
}

/// Starts the next rollback when none is under way; ends the run when none is left.
pub(super) fn go_on(graph: &mut Graph) -> Result<(), Illegal> {
    if graph.run.cancel_requested {
        return give_up(graph);
    }
    if graph.stages.iter().any(|stage| stage.state == StageState::RollingBack) {
        return Ok(());
    }
    let Some(index) = next(graph) else { return finish(graph) };
    let now = graph.now;
    let stage = &mut graph.stages[index];
    stage.apply(StageEvent::RollBack, "Its rollback waits for a runner.", now)?;
    stage.rollback_state = Some(RollbackState::Running);
    graph.add_job(index, JobKind::Rollback, 1, 0);
    graph.note(Some(index), "rolling_back", "Its rollback waits for a runner.");
    Ok(())
}

/// A person cancels a rollback: what is under way is stopped, what is left stays as it is, and the run says so.
fn give_up(graph: &mut Graph) -> Result<(), Illegal> {
    for index in 0..graph.stages.len() {
        if graph.stages[index].state != StageState::RollingBack {
            continue;
        }
        let job = graph.open_job(&graph.stages[index].id.clone());
        let now = graph.now;
        if job.is_none_or(|job| stop_job(&mut graph.jobs[job], now)) {
            let stage = &mut graph.stages[index];
            stage.rollback_state = Some(RollbackState::Failed);
            stage.apply(StageEvent::GiveUp, "Its rollback was cancelled.", now)?;
        }
    }
    if graph.stages.iter().any(|stage| stage.state == StageState::RollingBack) {
        return Ok(());
    }
    end(graph, RunEvent::Fail, "The run failed, and its rollback was cancelled before it was complete.")
}

fn finish(graph: &mut Graph) -> Result<(), Illegal> {
    let count = |state| graph.stages.iter().filter(|stage| stage.rollback_state == Some(state)).count();
    let (done, failed) = (count(RollbackState::Done), count(RollbackState::Failed));
    let first = graph.run.reason.split(" What").next().unwrap_or_default().to_owned();
    let why = first.split(" Rolling back").next().unwrap_or_default();
    let reason = if failed == 0 {
        format!("{why} Rolled back: {done} of {done}.")
    } else {
        format!("{why} Rolled back: {done} of {}; look at what is left.", done + failed)
    };
    end(graph, RunEvent::Fail, reason.trim())
}
