//! A person's yes or no at a gate, bound to exactly the commit and the plan it was given for. Comments, buttons, pages, the
//! command line and the API all come here.

use crate::actions::let_in;
pub use crate::actions::reviewers::Decider;
use crate::actions::reviewers::{Standing, standing};
use crate::context::Context;
use crate::engine::advance::{Error, advance};
use crate::forge::Forge;
use crate::model::approval::{Approval, LIFE_MILLIS, Verdict};
use crate::model::ids::{ApprovalId, RunId, StageId};
use crate::model::run::Run;
use crate::model::settle::Graph;
use crate::model::stage::Stage;
use crate::model::state::{JobState, StageEvent, StageState};
use crate::model::time::Timestamp;
use crate::store::repos::Repo;
use pipelines_spec::plan::ErrorClass;
use pipelines_spec::protocol::Trust;
use sha2::{Digest as _, Sha256};

/// The fewest digits that name a commit.
pub const LEAST_DIGITS: usize = 12;

/// One decision.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The stage, by its own name or its name in the file; `None`: the only one that waits.
    pub stage: Option<String>,
    /// Yes or no.
    pub approve: bool,
    /// Who says so.
    pub by: Decider,
    /// The commit that was reviewed, at least 12 digits; `None`: the run's own, as it was shown.
    pub sha: Option<String>,
    /// When it was said, where that was not just now and not on a page of the run: what the forge did not show before
    /// then was not meant.
    pub said_at: Option<Timestamp>,
    /// Why.
    pub comment: Option<String>,
    /// `api`, `page`, `comment`, `check`.
    pub via: String,
}

/// A run with what decides about its gates, as last read.
pub(crate) struct Seen {
    pub run: Run,
    pub repo: Repo,
    pub stages: Vec<Stage>,
    pub approvals: Vec<Approval>,
    pub forge: Option<Forge>,
}

impl Seen {
    pub(crate) async fn read(context: &Context, run: &RunId) -> Result<Self, Error> {
        let mut tx = context.store.read().await?;
        let run = tx.run(run).await?;
        let repo = tx.repo(&run.repo_id).await?;
        let stages = tx.stages(&run.id).await?;
        let approvals = tx.approvals(&run.id).await?;
        Ok(Self { forge: context.forges.of(repo.forge).ok(), run, repo, stages, approvals })
    }

    /// Whether it may run at all.
    pub(crate) fn is_admitted(&self, now: Timestamp) -> bool {
        let counts = |a: &Approval| {
            a.stage_id.is_none()
                && a.decision == Verdict::Approve
                && a.voided_at.is_none()
                && a.expires_at > now
                && a.sha == self.run.sha
                && a.plan_digest == self.run.plan_digest
        };
        self.run.trust.0 == Trust::Trusted || self.approvals.iter().any(counts)
    }
}

/// Records a decision and lets it take effect, in one transaction. [`Error::Refused`] says what is wrong: nothing waits,
/// another commit was reviewed, who says so may not, the same person said so before.
pub async fn approve(context: &Context, run: &RunId, decision: &Decision, now: Timestamp) -> Result<(), Error> {
    let seen = Seen::read(context, run).await?;
    if !seen.is_admitted(now) {
        return let_in::decide(context, &seen, decision, now).await;
    }
    is_of(&seen.run, decision.sha.as_deref())?;
    let stage = waiting(&seen.stages, decision.stage.as_deref())?;
    if decision.approve {
        was_shown(context, &seen.run, stage, decision).await?;
        still_stands(&seen).await?;
        let rules = stage.spec.0.stage.approval.as_ref();
        match standing(context, seen.forge.as_ref(), &seen.repo.facts(), &decision.by, rules).await {
            Standing::Yes => {}
            Standing::No(why) => return Err(Error::Refused(format!("{why}."))),
            Standing::Unanswered(what) => return Err(unanswered(&what)),
        }
    } else if !decision.by.may_stop() {
        return Err(Error::Refused(format!("{} may not write in {}.", decision.by.name(), seen.repo.full_name())));
    }
    advance(context, run, now, |graph| decide(graph, &stage.id, decision)).await
}

/// Takes back what `by` agreed to, as long as no runner has it: at one stage, or at every one of the run.
pub async fn revoke(
    context: &Context,
    run: &RunId,
    stage: Option<&str>,
    by: &Decider,
    now: Timestamp,
) -> Result<(), Error> {
    advance(context, run, now, |graph| {
        let key = by.key();
        let given = |a: &&mut Approval| {
            a.approver == key && a.decision == Verdict::Approve && a.voided_at.is_none() && a.stage_id.is_some()
        };
        let open: Vec<StageId> = graph
            .stages
            .iter()
            .filter(|s| stage.is_none_or(|name| s.name == name || s.base == name))
            .filter(|s| matches!(s.state, StageState::AwaitingApproval | StageState::Queued))
            .filter(|s| graph.open_job(&s.id).is_none_or(|job| graph.jobs[job].state == JobState::Queued))
            .map(|s| s.id.clone())
            .collect();
        let mut taken = 0;
        for approval in graph.approvals.iter_mut().filter(given) {
            if approval.stage_id.as_ref().is_some_and(|id| open.contains(id)) {
                approval.void(format!("{} took the approval back", by.name()), now);
                taken += 1;
            }
        }
        if taken == 0 {
            let why = format!("There is nothing {} approved that could still be taken back.", by.name());
            return Err(Error::Refused(why));
        }
        graph.note(None, "revoked", format!("{} took {taken} approvals back.", by.name()));
        Ok(())
    })
    .await
}

/// The stage that is meant.
fn waiting<'a>(stages: &'a [Stage], name: Option<&str>) -> Result<&'a Stage, Error> {
    let held = stages.iter().filter(|stage| stage.state == StageState::AwaitingApproval);
    let named: Vec<&Stage> =
        held.filter(|stage| name.is_none_or(|name| stage.name == name || stage.base == name)).collect();
    match (named.as_slice(), name) {
        ([one], _) => Ok(one),
        ([], Some(name)) => Err(Error::Refused(format!("Stage '{name}' does not wait for approval."))),
        ([], None) => Err(Error::Refused("Nothing in this run waits for approval.".to_owned())),
        (many, _) => {
            let names: Vec<&str> = many.iter().map(|stage| stage.name.as_str()).collect();
            Err(Error::Refused(format!("Several stages wait: name one of {}.", names.join(", "))))
        }
    }
}

/// Whether `sha` names the commit of the run: the one that is shown, or the one that is built.
pub(crate) fn is_of(run: &Run, sha: Option<&str>) -> Result<(), Error> {
    let Some(sha) = sha else { return Ok(()) };
    is_long_enough(sha)?;
    let sha = sha.to_ascii_lowercase();
    if run.head().starts_with(&sha) || run.sha.starts_with(&sha) {
        return Ok(());
    }
    Err(Error::Refused(match run.pull_request {
        Some(_) => not_the_head(&sha, run.head()),
        None => format!("`{sha}` is not the commit of this run (it is `{}`).", run.short_head()),
    }))
}

pub(crate) fn is_long_enough(sha: &str) -> Result<(), Error> {
    let digits = sha.bytes().all(|b| b.is_ascii_hexdigit());
    if digits && (LEAST_DIGITS..=64).contains(&sha.len()) {
        return Ok(());
    }
    Err(Error::Refused(format!("Give at least {LEAST_DIGITS} hex digits of the commit.")))
}

pub(crate) fn not_the_head(sha: &str, head: &str) -> String {
    let short = |sha: &str| sha.get(..LEAST_DIGITS).unwrap_or(sha).to_owned();
    format!(
        "`{}` is not the head of this pull request (it is `{}`). Review the new commits, then approve that one.",
        short(sha),
        short(head)
    )
}

pub(crate) fn unanswered(what: &str) -> Error {
    Error::Refused(format!("GitHub did not confirm {what}. Nothing was done; try again."))
}

/// A yes without a commit counts for what stood there when it was said: else the answer is what to type.
async fn was_shown(context: &Context, run: &Run, stage: &Stage, decision: &Decision) -> Result<(), Error> {
    let (None, Some(said_at)) = (&decision.sha, decision.said_at) else { return Ok(()) };
    if context.store.read().await?.gate_was_told(&stage.id, said_at).await? {
        return Ok(());
    }
    let head = run.short_head();
    Err(Error::Refused(format!("Name the commit you reviewed: `/approve {} {head}`.", stage.base)))
}

/// Whether the forge still has the pull request as the run was made from it: a push may be known there before it is here.
pub(crate) async fn still_stands(seen: &Seen) -> Result<(), Error> {
    if let Some(outdated) = &seen.run.outdated {
        return Err(Error::Refused(format!("{outdated} Review the new commits, then approve those.")));
    }
    let pull = seen.run.facts.0.pull_request.as_ref();
    // What goes back to an earlier deployment is not what a pull request has now.
    let pull = pull.filter(|_| seen.run.rollback_to.is_none());
    let (Some(facts), Some(forge)) = (pull, &seen.forge) else { return Ok(()) };
    let pull = forge.pull_request(&seen.repo.facts(), facts.number).await;
    let pull = pull.map_err(|error| unanswered(&format!("the head of pull request {} ({error})", facts.number)))?;
    if !pull.open {
        return Err(Error::Refused("This pull request is closed.".to_owned()));
    }
    if pull.facts.head_sha != facts.head_sha {
        return Err(Error::Refused(not_the_head(&facts.head_sha, &pull.facts.head_sha)));
    }
    if pull.facts.base != facts.base {
        let why = format!("This pull request now goes into {}; this run was made for {}.", pull.facts.base, facts.base);
        return Err(Error::Refused(why));
    }
    Ok(())
}

fn decide(graph: &mut Graph, stage: &StageId, decision: &Decision) -> Result<(), Error> {
    let now = graph.now;
    let index = graph.stage_index(stage).ok_or(Error::NotFound)?;
    if graph.stages[index].state != StageState::AwaitingApproval || !graph.admitted_now() {
        return Err(Error::Refused(format!("Stage '{}' does not wait for approval.", graph.stages[index].name)));
    }
    if decision.approve {
        is_free_to(graph, index, &decision.by)?;
    }
    let row = row(graph, Some(index), decision.approve, &decision.by, decision.comment.as_deref(), &decision.via);
    let word = if decision.approve { "approved" } else { "rejected" };
    let message = format!("{} {word} it for {}.", row.actor, graph.run.short_head());
    graph.approvals.push(row);
    graph.note(Some(index), word, message.clone());
    if !decision.approve {
        graph.stages[index].fail_with(StageEvent::Reject, ErrorClass::Rejected, &message, now)?;
    }
    Ok(())
}

/// Whether nothing in the run itself stands against their yes.
fn is_free_to(graph: &Graph, index: usize, by: &Decider) -> Result<(), Error> {
    let stage = &graph.stages[index];
    if let Some(outdated) = &graph.run.outdated {
        return Err(Error::Refused(format!("{outdated} Review the new commits, then approve those.")));
    }
    let key = by.key();
    if let Some(earlier) = graph.yeses(Some(&stage.id)).find(|yes| yes.approver == key) {
        return Err(already(earlier));
    }
    let prevents = stage.spec.0.stage.approval.as_ref().is_some_and(|approval| approval.prevent_self);
    if prevents && caused(&graph.run, by) {
        return Err(Error::Refused("Who caused the run may not approve it (prevent_self).".to_owned()));
    }
    Ok(())
}

pub(crate) fn already(earlier: &Approval) -> Error {
    Error::Refused(format!("Already approved by {} at {}.", earlier.actor, earlier.created_at.rfc3339()))
}

/// Whether they are one of those who caused the run. The number decides; a login alone is enough to be held back.
fn caused(run: &Run, by: &Decider) -> bool {
    let name = by.name();
    let by_number = match by {
        Decider::Person(person) => run.caused_by.0.iter().any(|cause| cause.is(person.account())),
        Decider::Credential { .. } => false,
    };
    let author = run.facts.0.pull_request.as_ref().map(|pull| pull.author.as_str());
    by_number
        || run.actor.eq_ignore_ascii_case(name)
        || author.is_some_and(|author| author.eq_ignore_ascii_case(name))
        || run.caused_by.0.iter().any(|cause| cause.login.eq_ignore_ascii_case(name))
}

/// The row of a decision: everything it is bound to.
pub(crate) fn row(
    graph: &Graph,
    stage: Option<usize>,
    approve: bool,
    by: &Decider,
    comment: Option<&str>,
    via: &str,
) -> Approval {
    let run = &graph.run;
    let (permission, id, asked_at) = match by {
        Decider::Person(person) => (Some(person.permission().to_string()), Some(person.account().id), Some(graph.now)),
        Decider::Credential { role, .. } => (Some(role.to_string()), None, None),
    };
    let stage = stage.map(|index| &graph.stages[index]);
    let inputs = serde_json::to_vec(&run.inputs.0).unwrap_or_default();
    Approval {
        id: ApprovalId::generate(),
        repo_id: run.repo_id.clone(),
        run_id: run.id.clone(),
        stage_id: stage.map(|stage| stage.id.clone()),
        decision: if approve { Verdict::Approve } else { Verdict::Reject },
        actor: by.name().to_owned(),
        approver: by.key(),
        actor_forge_id: id,
        permission,
        pull_request: run.pull_request,
        sha: run.sha.clone(),
        head_sha: run.head().to_owned(),
        base_sha: run.facts.0.pull_request.as_ref().map(|pull| pull.base_sha.clone()),
        plan_digest: run.plan_digest.clone(),
        environment: stage.and_then(|stage| stage.spec.0.stage.environment.clone()),
        inputs_digest: hex::encode(Sha256::digest(inputs)),
        comment: comment.map(str::to_owned),
        via: via.to_owned(),
        created_at: graph.now,
        expires_at: graph.now.plus_millis(LIFE_MILLIS),
        asked_at,
        unanswered: None,
        voided_at: None,
        void_reason: None,
        dirty: false,
        fresh: true,
    }
}
