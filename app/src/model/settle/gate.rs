//! Gates: which of them stand open by the decisions that were made, and the way back for what went through one that is
//! shut again. (A job is claimed by the query in `store/jobs.rs`, which looks at the same decisions itself.)

use super::Graph;
use crate::model::approval::{Approval, LIFE_MILLIS, Verdict};
use crate::model::ids::StageId;
use crate::model::state::{Illegal, JobState, StageEvent, StageState};
use pipelines_spec::protocol::Trust;
use std::collections::BTreeSet;

impl Graph {
    /// Whether a yes counts now: for exactly this commit and plan, and neither taken back nor too old.
    pub fn counts(&self, approval: &Approval) -> bool {
        approval.decision == Verdict::Approve
            && approval.voided_at.is_none()
            && approval.expires_at > self.now
            && approval.sha == self.run.sha
            && approval.plan_digest == self.run.plan_digest
    }

    /// The yeses that count for a stage, or (`None`) for the run as a whole.
    pub fn yeses<'a>(&'a self, stage: Option<&'a StageId>) -> impl Iterator<Item = &'a Approval> {
        self.approvals.iter().filter(move |a| a.stage_id.as_ref() == stage && self.counts(a))
    }

    /// Whether it may run at all, by the decisions as they stand now.
    pub fn admitted_now(&self) -> bool {
        self.run.trust.0 == Trust::Trusted || self.yeses(None).next().is_some()
    }

    /// How many different people said yes to a stage.
    pub fn yes_count(&self, stage: &StageId) -> usize {
        self.yeses(Some(stage)).map(|a| a.approver.as_str()).collect::<BTreeSet<_>>().len()
    }
}

/// Says of the run and of each stage that may still be claimed whether its gate stands open.
pub(super) fn judge(graph: &mut Graph) {
    graph.admitted = graph.admitted_now();
    for index in 0..graph.stages.len() {
        let stage = &graph.stages[index];
        let waits = matches!(stage.state, StageState::Pending | StageState::AwaitingApproval | StageState::Queued);
        if !waits || !stage.needs_approval() {
            continue;
        }
        let needed = usize::try_from(stage.approvals_needed).unwrap_or(usize::MAX);
        let approved = graph.yes_count(&stage.id) >= needed;
        let stage = &mut graph.stages[index];
        if stage.approved != approved {
            stage.approved = approved;
            stage.dirty = true;
        }
    }
}

/// Whether a stage may be claimed, as far as people are concerned.
pub(super) fn is_open(graph: &Graph, index: usize) -> bool {
    let stage = &graph.stages[index];
    graph.admitted && (!stage.needs_approval() || stage.approved)
}

/// Holds a stage at its gate.
pub(super) fn hold(graph: &mut Graph, index: usize, why: &str) -> Result<(), Illegal> {
    let now = graph.now;
    let expires = graph.stages[index].spec.0.stage.approval.as_ref().and_then(|approval| approval.expires);
    let stage = &mut graph.stages[index];
    stage.apply(StageEvent::Hold, "", now)?;
    // Nothing waits for ever: what says nothing else closes after two weeks.
    stage.expires_at = Some(match expires.filter(|_| graph.admitted) {
        Some(seconds) => now.plus_seconds(seconds),
        None => now.plus_millis(LIFE_MILLIS),
    });
    graph.note(Some(index), "awaiting_approval", why);
    Ok(())
}

/// Takes a queued stage back to its gate where that is shut and nobody has its job yet.
pub(super) fn hold_again(graph: &mut Graph, index: usize) -> Result<(), Illegal> {
    if is_open(graph, index) {
        return Ok(());
    }
    let Some(open) = graph.open_job(&graph.stages[index].id).filter(|&job| graph.jobs[job].state == JobState::Queued)
    else {
        return Ok(());
    };
    let job = graph.jobs.remove(open);
    if !job.fresh {
        graph.withdrawn.push(job.id);
    }
    // The attempt was never begun: it keeps its number, which is the next one's (`forward::queue` sees it by this). A number
    // less would be that of an attempt that ended, where this one was a retry.
    graph.stages[index].queued_at = None;
    graph.stages[index].dirty = true;
    let why = lost(graph, index).unwrap_or_else(|| "It waits for somebody to agree again.".to_owned());
    hold(graph, index, &why)
}

/// Why a yes that was given does not count any more.
pub(super) fn lost(graph: &Graph, index: usize) -> Option<String> {
    let stage = graph.admitted.then_some(&graph.stages[index].id);
    let mut given = graph.approvals.iter().rev().filter(|a| a.stage_id.as_ref() == stage);
    let last = given.find(|a| a.decision == Verdict::Approve && !graph.counts(a))?;
    let why = match &last.void_reason {
        Some(reason) => reason.clone(),
        None if last.expires_at <= graph.now => format!("the approval of {} was given too long ago", last.actor),
        None => return None,
    };
    let mut letters = why.chars();
    let first = letters.next()?;
    Some(format!("{}{}.", first.to_uppercase(), letters.as_str().trim_end_matches('.')))
}
