//! A person's yes or no at a gate, bound to exactly the commit and the plan it was given for.

use crate::context::Context;
use crate::engine::advance::{Error, advance};
use crate::model::ids::{ApprovalId, RunId, StageId};
use crate::model::settle::Graph;
use crate::model::state::{StageEvent, StageState};
use crate::model::time::Timestamp;
use crate::store::approvals::Approval;
use pipelines_spec::plan::ErrorClass;
use std::collections::BTreeSet;

/// One decision. Whether the actor may decide is the caller's to check.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The stage, by its own name or its name in the file; `None`: the only one that waits.
    pub stage: Option<String>,
    /// Yes or no.
    pub approve: bool,
    /// Who.
    pub actor: String,
    /// The commit that was reviewed; `None`: the run's own, as it was shown.
    pub sha: Option<String>,
    /// Why.
    pub comment: Option<String>,
    /// `api`, `page`, `comment`, `check`.
    pub via: String,
}

/// Records a decision and lets it take effect. [`Error::Refused`] says what is wrong: nothing waits, another commit was
/// reviewed, the same person decided before.
pub async fn approve(context: &Context, run: &RunId, decision: &Decision, now: Timestamp) -> Result<(), Error> {
    let approvals = {
        let mut tx = context.store.read().await?;
        tx.approvals(run).await?
    };
    let row = advance(context, run, now, |graph| check(graph, decision, &approvals)).await?;
    // The decision is on record before it takes effect: what is lost by a crash in between is only the effect, and the
    // same person may say it again.
    let mut tx = context.store.begin().await?;
    tx.insert_approval(&row).await?;
    // Read after the insert: of two people who approve at the same moment, at least one counts both.
    let approvals = tx.approvals(run).await?;
    tx.commit().await?;
    advance(context, run, now, |graph| apply(graph, decision, &row, &approvals)).await
}

fn check(graph: &Graph, decision: &Decision, before: &[Approval]) -> Result<Approval, Error> {
    if let Some(sha) = &decision.sha
        && (sha.len() < 12 || !graph.run.sha.starts_with(sha.as_str()))
    {
        return Err(Error::Refused(format!("{sha} is not the commit of this run (it is {}).", graph.run.sha)));
    }
    let stage_id = if graph.admitted { Some(graph.stages[waiting(graph, decision)?].id.clone()) } else { None };
    if stage_id.is_none() && decision.sha.is_none() {
        return Err(Error::Refused(format!("Name the commit you reviewed: {}.", graph.run.sha)));
    }
    if let Some(earlier) =
        before.iter().find(|a| a.stage_id == stage_id && a.actor == decision.actor && a.decision == "approve")
    {
        return Err(Error::Refused(format!(
            "Already approved by {} at {}.",
            earlier.actor,
            earlier.created_at.rfc3339()
        )));
    }
    prevents_self(graph, stage_id.as_ref(), decision)?;
    Ok(Approval {
        id: ApprovalId::generate(),
        run_id: graph.run.id.clone(),
        stage_id,
        decision: if decision.approve { "approve" } else { "reject" }.to_owned(),
        actor: decision.actor.clone(),
        sha: graph.run.sha.clone(),
        plan_digest: graph.run.plan_digest.clone(),
        comment: decision.comment.clone(),
        via: decision.via.clone(),
        created_at: graph.now,
    })
}

fn waiting(graph: &Graph, decision: &Decision) -> Result<usize, Error> {
    let held: Vec<usize> =
        (0..graph.stages.len()).filter(|&i| graph.stages[i].state == StageState::AwaitingApproval).collect();
    let named: Vec<usize> = match &decision.stage {
        Some(name) => {
            held.iter().copied().filter(|&i| graph.stages[i].name == *name || graph.stages[i].base == *name).collect()
        }
        None => held.clone(),
    };
    match (named.as_slice(), &decision.stage) {
        ([one], _) => Ok(*one),
        ([], Some(name)) => Err(Error::Refused(format!("Stage '{name}' does not wait for approval."))),
        ([], None) => Err(Error::Refused("Nothing in this run waits for approval.".to_owned())),
        (many, _) => {
            let names: Vec<&str> = many.iter().map(|&i| graph.stages[i].name.as_str()).collect();
            Err(Error::Refused(format!("Several stages wait: name one of {}.", names.join(", "))))
        }
    }
}

fn prevents_self(graph: &Graph, stage: Option<&StageId>, decision: &Decision) -> Result<(), Error> {
    let approval =
        stage.and_then(|id| graph.stage_index(id)).and_then(|i| graph.stages[i].spec.0.stage.approval.as_ref());
    let own = graph.run.actor.eq_ignore_ascii_case(&decision.actor);
    if decision.approve && own && approval.is_some_and(|approval| approval.prevent_self) {
        return Err(Error::Refused("Who caused the run may not approve it (prevent_self).".to_owned()));
    }
    Ok(())
}

fn apply(graph: &mut Graph, decision: &Decision, row: &Approval, all: &[Approval]) -> Result<(), Error> {
    let now = graph.now;
    let word = if decision.approve { "approved" } else { "rejected" };
    let message = format!("{} {word} it for {}.", decision.actor, &row.sha.chars().take(12).collect::<String>());
    let Some(index) = row.stage_id.as_ref().and_then(|id| graph.stage_index(id)) else {
        graph.note(None, word, message);
        if !decision.approve {
            graph.run.cancel_requested = true;
            graph.run.cancel_reason = Some(format!("{} did not let this commit run.", decision.actor));
            graph.run.dirty = true;
        }
        return Ok(());
    };
    graph.note(Some(index), word, message.clone());
    if !decision.approve {
        graph.stages[index].fail_with(StageEvent::Reject, ErrorClass::Rejected, &message, now)?;
        return Ok(());
    }
    let needed = graph.stages[index].spec.0.stage.approval.as_ref().map_or(1, |approval| approval.count as usize);
    let valid = |a: &&Approval| {
        a.stage_id == row.stage_id
            && a.decision == "approve"
            && a.sha == graph.run.sha
            && a.plan_digest == graph.run.plan_digest
    };
    let given: BTreeSet<&str> = all.iter().filter(valid).map(|a| a.actor.as_str()).collect();
    if given.len() >= needed {
        graph.stages[index].approved = true;
        graph.stages[index].dirty = true;
    }
    Ok(())
}
