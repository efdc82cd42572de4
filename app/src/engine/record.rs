//! What was decided, recorded in one transaction: the runs that start, a sentence for each pipeline, what the forge is to
//! show beside the runs, and the end of the delivery.

use super::inquiry::unmerged;
use super::planner::{Outcome, Planned, Verdict};
use crate::actions::start_run::{Started, start_run};
use crate::context::Context;
use crate::forge::Trigger;
use crate::model::ids::{DeliveryId, EntryId, RunId};
use crate::model::run::NewRun;
use crate::model::time::Timestamp;
use crate::store::decisions::{Decision, DecisionOutcome};
use crate::store::deliveries::DeliveryState;
use crate::store::reports::{ReportKey, Wanted, commit_status, want_definitions_and_changes};
use crate::store::repos::Repo;
use crate::store::{Result, Tx};
use pipelines_spec::plan::Plan;
use pipelines_spec::protocol::Sources;
use pipelines_spec::trigger::{EventFacts, EventKind};

/// By what a trigger came.
#[derive(Clone, Copy)]
pub(super) struct Occasion<'a> {
    pub(super) context: &'a Context,
    pub(super) repo: &'a Repo,
    /// None: a sweep found it.
    pub(super) delivery: Option<&'a DeliveryId>,
    pub(super) now: Timestamp,
}

/// Records everything that was decided and answers the runs that are new.
pub(super) async fn record(occasion: &Occasion<'_>, trigger: &Trigger, planned: &Planned) -> Result<Vec<RunId>> {
    let facts = &trigger.facts;
    let mut tx = occasion.context.store.begin().await?;
    if !note_ref(occasion, &mut tx, facts).await? {
        // Its delivery came after all, while the sweep was asking.
        return Ok(vec![]);
    }
    let (mut decisions, mut started) = (vec![], vec![]);
    let files = crate::definitions::pipeline_files(&planned.sources);
    for verdict in &planned.verdicts {
        let run = match &verdict.outcome {
            Outcome::Start(plan) => Some(run_of(occasion, &mut tx, trigger, planned, verdict, plan).await?),
            Outcome::Skip(_) | Outcome::Broken | Outcome::Removed => None,
        };
        let decided = decision(occasion, trigger, outcome_of(&verdict.outcome), verdict.because.clone());
        let run_id = run.as_ref().map(|run| run_of_started(run).clone());
        let file = files.get(verdict.pipeline.as_str()).and_then(|files| files.first()).map(ToString::to_string);
        decisions.push(Decision { pipeline: Some(verdict.pipeline.clone()), run_id, file, ..decided });
        if let Some(Started::Created(run)) = run {
            started.push(run);
        }
    }
    if let Some((outcome, reason)) = about_none(planned) {
        decisions.push(decision(occasion, trigger, outcome, reason.to_owned()));
    }
    show(occasion, &mut tx, trigger, planned).await?;
    if facts.git_ref == format!("refs/heads/{}", occasion.repo.default_branch) {
        tx.definitions_changed(&occasion.repo.id).await?;
    }
    end(occasion, &mut tx, &decisions).await?;
    tx.commit().await?;
    Ok(started)
}

/// Records that a trigger starts nothing any more.
pub(super) async fn record_nothing(occasion: &Occasion<'_>, trigger: &Trigger, why: &str) -> Result<()> {
    let mut tx = occasion.context.store.begin().await?;
    if note_ref(occasion, &mut tx, &trigger.facts).await? {
        let decided = decision(occasion, trigger, DecisionOutcome::Skip, why.to_owned());
        end(occasion, &mut tx, &[decided]).await?;
    }
    tx.commit().await
}

/// Remembers that the commit of a ref was decided about; answers whether there is something to record. It comes first: of a
/// sweep and a delivery that tell of the same commit at once, one waits here for what the other records.
async fn note_ref(occasion: &Occasion<'_>, tx: &mut Tx, facts: &EventFacts) -> Result<bool> {
    let (repo, now) = (&occasion.repo.id, occasion.now);
    match (facts.name, occasion.delivery) {
        (EventKind::Push | EventKind::PullRequest, Some(_)) => {
            tx.decided_about(repo, &facts.git_ref, &facts.sha, now).await?;
            Ok(true)
        }
        (EventKind::Push | EventKind::PullRequest, None) => {
            tx.first_decided_about(repo, &facts.git_ref, &facts.sha, now).await
        }
        _ => Ok(true),
    }
}

async fn end(occasion: &Occasion<'_>, tx: &mut Tx, decisions: &[Decision]) -> Result<()> {
    match occasion.delivery {
        Some(delivery) => {
            tx.replace_decisions(delivery, decisions).await?;
            tx.finish_delivery(delivery, DeliveryState::Done, None, occasion.now).await
        }
        None => {
            for decision in decisions {
                tx.record_decision(decision).await?;
            }
            Ok(())
        }
    }
}

fn run_of_started(started: &Started) -> &RunId {
    let (Started::Created(run) | Started::Existing(run)) = started;
    run
}

fn outcome_of(outcome: &Outcome) -> DecisionOutcome {
    match outcome {
        Outcome::Start(_) => DecisionOutcome::Run,
        Outcome::Skip(_) | Outcome::Removed => DecisionOutcome::Skip,
        Outcome::Broken => DecisionOutcome::Error,
    }
}

/// Starts a run, unless the same trigger has started it: under another delivery, or on this one's first try.
async fn run_of(
    occasion: &Occasion<'_>,
    tx: &mut Tx,
    trigger: &Trigger,
    planned: &Planned,
    verdict: &Verdict,
    plan: &Plan,
) -> Result<Started> {
    let facts = if verdict.at_head { unmerged(&trigger.facts) } else { trigger.facts.clone() };
    let own: &Sources = planned.head_sources.as_ref().filter(|_| verdict.at_head).unwrap_or(&planned.sources);
    let new = NewRun {
        repo_id: occasion.repo.id.clone(),
        plan: plan.clone(),
        bundle_digest: tx.save_bundle(own, occasion.now).await?,
        facts,
        trust: trigger.trust,
        trust_reason: trigger.trust_reason.clone(),
        caused_by: [Some(trigger.actor.clone()), trigger.author.clone()].into_iter().flatten().collect(),
        source_key: trigger.source_key.clone(),
        delivery_id: occasion.delivery.cloned(),
        parent_stage_id: None,
        rerun_of: None,
    };
    let started = start_run(tx, &new, occasion.now).await?;
    if let (Started::Created(run), true) = (&started, verdict.unproven) {
        tx.mark_unproven(run).await?;
    }
    Ok(started)
}

/// One sentence about a trigger; of no pipeline yet.
fn decision(occasion: &Occasion<'_>, trigger: &Trigger, outcome: DecisionOutcome, reason: String) -> Decision {
    Decision {
        id: EntryId::generate(),
        delivery_id: occasion.delivery.cloned(),
        repo_id: occasion.repo.id.clone(),
        pipeline: None,
        sha: Some(trigger.facts.sha.clone()),
        outcome,
        reason,
        run_id: None,
        created_at: occasion.now,
        git_ref: Some(trigger.facts.git_ref.clone()),
        pull_request: trigger.facts.pull_request.as_ref().map(|pull| pull.number),
        file: None,
        trust: Some(trigger.trust_reason.clone().unwrap_or_else(|| trigger.trust.to_string())),
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
async fn show(occasion: &Occasion<'_>, tx: &mut Tx, trigger: &Trigger, planned: &Planned) -> Result<()> {
    let (repo, sha, now) = (occasion.repo, &trigger.facts.sha, occasion.now);
    let url = occasion.context.link(&format!("/why/{}/{sha}", repo.full_name()));
    let changed = planned.changed.shown();
    want_definitions_and_changes(tx, &repo.id, sha, &planned.problems, changed, &url, now).await?;
    let for_pull = trigger.facts.pull_request.is_some();
    let key = ReportKey { repo_id: repo.id.clone(), sha: sha.clone(), run_id: None, stage_id: None };
    for verdict in &planned.verdicts {
        let Some((state, description)) = &verdict.required else { continue };
        let status = Wanted::Status(commit_status(&verdict.pipeline, *state, description, &url));
        tx.want_as(&key, &status, for_pull, now).await?;
    }
    Ok(())
}
