//! The default branch's policy, held against what an event would start: a change that is not merged yet is judged by the
//! rules that stand, not by those it brings along.

use super::planner::{Outcome, Planned};
use crate::context::Context;
use crate::definitions;
use crate::forge::{Forge, ForgeError, RepoFacts, Trigger};
use crate::store::reports::StatusState;
use pipelines_spec::diff::{Change, changes};
use pipelines_spec::plan::{Pipeline, Plan};
use pipelines_spec::policy::{self, Policy};
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::Sources;
use pipelines_spec::trigger::EventFacts;

/// What a pull request changes about `.rivet/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Everything that differs.
    pub changes: Vec<Change>,
    /// What else there is to say: files without a change of the model, a base that does not load.
    pub notes: Vec<String>,
}

impl Changed {
    /// Whether there is something to show.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.notes.is_empty()
    }

    /// What the check `rivet / definitions` shows of it: a title and a line for each thing. `None`: nothing changes.
    pub fn shown(&self) -> Option<(String, Vec<String>)> {
        let lines = self.changes.iter().map(ToString::to_string).chain(self.notes.iter().cloned());
        (!self.is_empty()).then(|| (self.title(), lines.collect()))
    }

    /// A title: how much changes, and first of all what is gained.
    pub fn title(&self) -> String {
        let gains: Vec<String> = self.changes.iter().filter(|change| change.gains).map(clause).collect();
        let count = match self.changes.len() {
            0 => "Scripts in .rivet/ change".to_owned(),
            1 => "1 change of .rivet/".to_owned(),
            many => format!("{many} changes of .rivet/"),
        };
        match gains.as_slice() {
            [] => count,
            [one] => format!("{count}, gained: {one}"),
            [one, rest @ ..] => format!("{count}, gained: {one} and {} more", rest.len()),
        }
    }
}

fn clause(change: &Change) -> String {
    let stage = change.stage.as_ref().unwrap_or(&change.pipeline);
    format!("{stage} {}", change.what)
}

/// Holds every plan against the policy of the default branch. What breaks it does not start, and says so in the check
/// `rivet / definitions`.
pub async fn judge(forge: &Forge, trigger: &Trigger, planned: &mut Planned) -> Result<(), ForgeError> {
    let about = |outcome: &Outcome| matches!(outcome, Outcome::Start(plan) if Policy::is_about(plan, &trigger.facts));
    if !planned.verdicts.iter().any(|verdict| about(&verdict.outcome)) {
        return Ok(());
    }
    let policy = of(forge, &trigger.repo, &trigger.facts).await?;
    let mut told = false;
    for verdict in &mut planned.verdicts {
        let Outcome::Start(plan) = &mut verdict.outcome else { continue };
        if !Policy::is_about(plan, &trigger.facts) {
            continue;
        }
        let problems = held_against(&policy, plan, &trigger.facts);
        let Some(first) = problems.first() else { continue };
        verdict.because = format!("the policy of {} stands against it: {first}", trigger.repo.default_branch);
        verdict.outcome = Outcome::Broken;
        verdict.required = Some((StatusState::Error, verdict.because.clone()));
        // A policy that cannot be read is one problem, however many plans it stops.
        if policy.is_ok() || !told {
            planned.problems.extend(problems);
        }
        told = true;
    }
    Ok(())
}

/// What stands against one plan.
pub fn held_against(policy: &Result<Policy, Vec<Problem>>, plan: &mut Plan, facts: &EventFacts) -> Vec<Problem> {
    match policy {
        Ok(policy) => policy.apply(plan, facts),
        Err(problems) => problems
            .iter()
            // The file is on another branch: what stands on that line here may be something else.
            .map(|problem| Problem {
                at: None,
                message: format!("on the default branch, {problem}"),
                ..problem.clone()
            })
            .collect(),
    }
}

/// The policy that counts for an event, or what is wrong with it.
pub async fn of(
    forge: &Forge,
    repo: &RepoFacts,
    facts: &EventFacts,
) -> Result<Result<Policy, Vec<Problem>>, ForgeError> {
    let Some(sha) = default_commit(forge, repo, facts).await? else { return Ok(Ok(Policy::default())) };
    let loaded = forge.sources(repo, &sha).await?;
    let own = |problem: &&Problem| problem.at.as_ref().is_some_and(|at| at.file == policy::FILE);
    let unreadable: Vec<Problem> = loaded.problems.iter().filter(own).cloned().collect();
    if !unreadable.is_empty() {
        return Ok(Err(unreadable));
    }
    Ok(loaded.sources.get(policy::FILE).map_or_else(|| Ok(Policy::default()), |text| Policy::parse(text)))
}

/// The default branch's commit: the one the event knows, where it knows one. `None`: there is no such branch yet.
async fn default_commit(forge: &Forge, repo: &RepoFacts, facts: &EventFacts) -> Result<Option<String>, ForgeError> {
    let default = &repo.default_branch;
    let whole = format!("refs/heads/{default}");
    if let Some(pull) = facts.pull_request.as_ref().filter(|pull| &pull.base == default) {
        return Ok(Some(pull.base_sha.clone()));
    }
    if facts.pull_request.is_none() && facts.git_ref == whole {
        return Ok(Some(facts.sha.clone()));
    }
    match forge.resolve(repo, &whole).await {
        Ok(commit) => Ok(Some(commit.sha)),
        Err(ForgeError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a pull request changes about `.rivet/` against its base.
pub async fn changed(
    context: &Context,
    forge: &Forge,
    trigger: &Trigger,
    head: &Sources,
) -> Result<Changed, ForgeError> {
    let Some(pull) = &trigger.facts.pull_request else { return Ok(Changed::default()) };
    let base = forge.sources(&trigger.repo, &pull.base_sha).await?;
    let differ: Vec<&String> =
        head.keys().chain(base.sources.keys()).filter(|f| head.get(*f) != base.sources.get(*f)).collect();
    if differ.is_empty() {
        return Ok(Changed::default());
    }
    let (old, mut notes) = pipelines(context, &base.sources, &trigger.facts, "the base's").await;
    let (new, more) = pipelines(context, head, &trigger.facts, "this change's").await;
    notes.extend(more);
    let changes = changes(&old, &new);
    let mut files: Vec<String> = differ.into_iter().cloned().collect();
    files.sort();
    files.dedup();
    notes.insert(0, format!("Files that differ: {}.", files.join(", ")));
    if files.iter().any(|file| file == policy::FILE) {
        notes.push("The policy changes. It counts once it is on the default branch, and not before.".to_owned());
    }
    Ok(Changed { changes, notes })
}

/// The pipelines that can be read, and a sentence about each that cannot.
pub(crate) async fn pipelines(
    context: &Context,
    sources: &Sources,
    facts: &EventFacts,
    whose: &str,
) -> (Vec<Pipeline>, Vec<String>) {
    let (mut read, mut notes) = (vec![], vec![]);
    for defined in definitions::evaluate(&context.evaluator, sources, facts).await {
        let file = defined.file.clone();
        match defined.usable() {
            Ok((pipeline, _)) => read.push(pipeline),
            Err(problems) => {
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                notes.push(format!("{whose} {file} cannot be read, so it is not compared: {first}"));
            }
        }
    }
    (read, notes)
}
