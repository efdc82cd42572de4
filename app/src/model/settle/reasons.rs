//! The one place that says, for every state, why a run or a stage stands there and what moves it on.

use super::{Graph, forward, gate};
use crate::model::state::{JobState, RunState, StageState};
use pipelines_spec::plan::Approval;
use std::collections::BTreeSet;

/// Says why everything that is not over stands where it stands.
pub(super) fn explain(graph: &mut Graph) {
    for index in 0..graph.stages.len() {
        if let Some(reason) = stage_reason(graph, index) {
            graph.stages[index].explain(reason);
        }
    }
    if let Some(reason) = run_reason(graph) {
        graph.run.explain(reason);
    }
}

fn stage_reason(graph: &Graph, index: usize) -> Option<String> {
    let stage = &graph.stages[index];
    Some(match stage.state {
        StageState::Pending => pending(graph, index),
        StageState::AwaitingApproval => awaiting(graph, index),
        StageState::Queued => queued(graph, index),
        StageState::Running if stopping(graph, index) => "Cancelling: its runner was told to stop it.".to_owned(),
        StageState::Running if stage.max_attempts > 1 => {
            format!("Running, attempt {} of {}.", stage.attempt, stage.max_attempts)
        }
        StageState::Running => "Running.".to_owned(),
        StageState::Sleeping => "Sleeping until its timer or a message wakes it.".to_owned(),
        // These were given their sentence by what brought them there.
        StageState::Succeeded
        | StageState::Failed
        | StageState::Skipped
        | StageState::Cancelled
        | StageState::RollingBack
        | StageState::RolledBack => return None,
    })
}

fn stopping(graph: &Graph, index: usize) -> bool {
    graph.open_job(&graph.stages[index].id).is_some_and(|job| graph.jobs[job].cancel_requested)
}

fn pending(graph: &Graph, index: usize) -> String {
    if graph.run.state == RunState::Pending {
        return "Waiting for the run's turn.".to_owned();
    }
    let open: Vec<&str> =
        graph.needed(index).filter(|stage| !stage.state.is_over()).map(|stage| stage.name.as_str()).collect();
    if !open.is_empty() {
        return format!("Waiting for {} to end.", list(&open));
    }
    if forward::is_full(graph, index) {
        let most = graph.stages[index].spec.0.max_parallel.unwrap_or_default();
        return format!("Waiting for another leg to end: at most {most} run at once.");
    }
    "Its condition is being evaluated.".to_owned()
}

fn awaiting(graph: &Graph, index: usize) -> String {
    let stage = &graph.stages[index];
    if let Some(outdated) = &graph.run.outdated {
        return format!("{outdated} Nothing of this run can be approved any more.");
    }
    let lost = gate::lost(graph, index).map(|why| format!(" {why}")).unwrap_or_default();
    if !graph.admitted {
        let sha = graph.run.short_head();
        return format!(
            "Waiting for somebody who may write to let this commit run: review it, then comment `/ok-to-test {sha}`.{lost}"
        );
    }
    let who = stage.spec.0.stage.approval.as_ref().map_or_else(|| "somebody who may write".to_owned(), reviewers);
    let given: BTreeSet<&str> = graph.yeses(Some(&stage.id)).map(|yes| yes.actor.as_str()).collect();
    let given: Vec<&str> = given.into_iter().collect();
    let given =
        if given.is_empty() { String::new() } else { format!(", {} of them given by {}", given.len(), list(&given)) };
    let dot = if lost.is_empty() { "" } else { "." };
    format!("Waiting for {who}{given}: /approve {}{dot}{lost}", stage.base)
}

fn reviewers(approval: &Approval) -> String {
    let who = match approval.reviewers.as_slice() {
        [] => "somebody who may write".to_owned(),
        names => names.join(" or "),
    };
    let who = match approval.policy_reviewers.as_slice() {
        [] => who,
        names if approval.reviewers.is_empty() => names.join(" or "),
        names => format!("{who}, who must also be of {}", names.join(" or ")),
    };
    if approval.count > 1 { format!("{} approvals of {who}", approval.count) } else { who }
}

fn queued(graph: &Graph, index: usize) -> String {
    let stage = &graph.stages[index];
    let Some(job) = graph.open_job(&stage.id).map(|job| &graph.jobs[job]) else {
        return "Waiting for a runner.".to_owned();
    };
    if job.state == JobState::Claimed {
        return "A runner has it and prepares its workspace.".to_owned();
    }
    if let Some(lock) = graph.lock_of(index) {
        return lock;
    }
    if let Some(asked) = asked_again(graph, index) {
        return asked;
    }
    if job.available_at > graph.now {
        let why = stage.error.as_ref().map_or_else(String::new, |e| format!(" after {}: {}", e.0.class, e.0.message));
        let when = job.available_at.rfc3339();
        return format!("Attempt {} of {} starts at {when}{why}", stage.attempt, stage.max_attempts.max(stage.attempt));
    }
    let mut wants: Vec<String> = job.label_set.split(',').filter(|l| !l.is_empty()).map(str::to_owned).collect();
    wants.extend(job.executor.as_ref().map(|executor| format!("executor={executor}")));
    if wants.is_empty() {
        "Waiting for a runner.".to_owned()
    } else {
        format!("Waiting for a runner with {}.", wants.join(", "))
    }
}

/// What keeps an approved job from being claimed: the forge's word about who approved is too old, or it gives none.
fn asked_again(graph: &Graph, index: usize) -> Option<String> {
    let stage = &graph.stages[index].id;
    let own = graph.yeses(Some(stage)).chain(graph.yeses(None));
    let stale = own.into_iter().find(|yes| yes.is_stale(graph.now) || yes.unanswered.is_some())?;
    Some(match &stale.unanswered {
        Some(why) => format!(
            "Approved, but the forge does not say whether {} still may ({why}). It is asked again.",
            stale.actor
        ),
        None => format!("Approved; before a runner gets it, the forge is asked whether {} still may.", stale.actor),
    })
}

fn run_reason(graph: &Graph) -> Option<String> {
    Some(match graph.run.state {
        RunState::Pending => {
            let numbers: Vec<String> = graph.blocked_by.iter().map(|number| format!("#{number}")).collect();
            let group = graph.run.concurrency_group.as_deref().unwrap_or_default();
            format!("Waiting for run {} of group {group} to end.", numbers.join(", "))
        }
        RunState::Running if graph.run.cancel_requested => "Cancelling: runners were told to stop.".to_owned(),
        RunState::Running => running(graph),
        RunState::Sleeping => "Every stage that can go on sleeps or waits.".to_owned(),
        RunState::RollingBack
        | RunState::Completed
        | RunState::Failed
        | RunState::Cancelled
        | RunState::Diverged
        | RunState::Stuck => return None,
    })
}

fn running(graph: &Graph) -> String {
    let names = |state: StageState| -> Vec<&str> {
        graph.stages.iter().filter(|stage| stage.state == state).map(|stage| stage.name.as_str()).collect()
    };
    let over = graph.stages.iter().filter(|stage| stage.state.is_over()).count();
    let all = graph.stages.len();
    for (state, words) in [
        (StageState::Running, "running"),
        (StageState::AwaitingApproval, "waiting for approval"),
        (StageState::Queued, "waiting for a runner"),
    ] {
        let names = names(state);
        if !names.is_empty() {
            let verb = if names.len() == 1 { "is" } else { "are" };
            return format!("{over} of {all} stages have ended; {} {verb} {words}.", list(&names));
        }
    }
    format!("{over} of {all} stages have ended.")
}

/// `a`, `a and b`, `a, b and 3 more`.
fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} and {two}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
    }
}
