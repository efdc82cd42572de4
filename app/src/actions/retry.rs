//! Tries failed stages of a run again, in the same run: what succeeded stays.

use crate::context::Context;
use crate::engine::advance::{Error, advance};
use crate::model::ids::RunId;
use crate::model::settle::Graph;
use crate::model::stage::Stage;
use crate::model::state::{RunEvent, StageEvent, StageState};
use crate::model::time::Timestamp;
use std::collections::BTreeSet;

/// Tries all failed stages again, or the one named (by its own name, or by its name in the file for all its legs), with
/// everything behind them that did not run. [`Error::Refused`] where the run is not over or nothing failed.
pub async fn retry(
    context: &Context,
    run: &RunId,
    stage: Option<&str>,
    actor: &str,
    now: Timestamp,
) -> Result<(), Error> {
    advance(context, run, now, |graph| {
        if !graph.run.state.is_over() {
            return Err(Error::Refused(format!("Run #{} is still {}.", graph.run.number, graph.run.state)));
        }
        let again = chosen(graph, stage)?;
        for index in with_dependants(graph, again) {
            reopen(graph, index)?;
        }
        graph.run.cancel_requested = false;
        graph.run.cancel_reason = None;
        graph.run.finished_at = None;
        graph.run.deadline_at = None;
        graph.run.apply(RunEvent::Reopen, format!("{actor} asked for failed stages to be tried again."))?;
        graph.note(None, "retried", format!("{actor} asked for failed stages to be tried again."));
        Ok(())
    })
    .await
}

/// Whether a stage can be tried again once its run is over.
pub(crate) fn may_reopen(stage: &Stage) -> bool {
    let ended = matches!(stage.state, StageState::Failed | StageState::Cancelled | StageState::RolledBack);
    ended && !stage.set_aside
}

fn chosen(graph: &Graph, stage: Option<&str>) -> Result<Vec<usize>, Error> {
    let all = 0..graph.stages.len();
    let Some(name) = stage else {
        let failed: Vec<usize> = all.filter(|&index| may_reopen(&graph.stages[index])).collect();
        return if failed.is_empty() {
            Err(Error::Refused(format!("Nothing failed in run #{}: there is nothing to retry.", graph.run.number)))
        } else {
            Ok(failed)
        };
    };
    let named: Vec<usize> =
        all.filter(|&index| graph.stages[index].name == name || graph.stages[index].base == name).collect();
    if named.is_empty() {
        return Err(Error::Refused(format!("Run #{} has no stage '{name}'.", graph.run.number)));
    }
    let failed: Vec<usize> = named.into_iter().filter(|&index| may_reopen(&graph.stages[index])).collect();
    if failed.is_empty() {
        return Err(Error::Refused(format!("Stage '{name}' of run #{} did not fail.", graph.run.number)));
    }
    Ok(failed)
}

/// The chosen stages and everything that was skipped, cancelled or undone behind them.
fn with_dependants(graph: &Graph, chosen: Vec<usize>) -> BTreeSet<usize> {
    let mut again: BTreeSet<usize> = chosen.into_iter().collect();
    loop {
        let bases: BTreeSet<&str> = again.iter().map(|&index| graph.stages[index].base.as_str()).collect();
        let more: Vec<usize> = (0..graph.stages.len())
            .filter(|index| !again.contains(index))
            .filter(|&index| {
                let stage = &graph.stages[index];
                let behind = stage.spec.0.stage.depends_on.iter().any(|base| bases.contains(base.as_str()));
                behind && (may_reopen(stage) || (stage.state == StageState::Skipped && !stage.set_aside))
            })
            .collect();
        if more.is_empty() {
            return again;
        }
        again.extend(more);
    }
}

fn reopen(graph: &mut Graph, index: usize) -> Result<(), Error> {
    let now = graph.now;
    let stage = &mut graph.stages[index];
    stage.apply(StageEvent::Reopen, "", now)?;
    // It starts over but for its number of attempts, which names its checks and logs; what was approved stays approved,
    // for it is the same commit and plan.
    stage.user_failures = 0;
    stage.infra_faults = 0;
    stage.rollback_state = None;
    stage.completion = None;
    stage.error = None;
    stage.outputs = None;
    stage.annotations = None;
    stage.retry_at = None;
    // What was asked for again is another attempt, also where the last one went back to its gate and ended there.
    stage.queued_at = stage.queued_at.or(Some(now));
    stage.expires_at = None;
    stage.started_at = None;
    stage.finished_at = None;
    Ok(())
}
