//! `.rivet/config/policy.toml` of the default branch: what the pipelines of pull requests may use, and environments no
//! pipeline gets to past their reviewers. It is not a pipeline, and no pull request changes what it is judged by.

use crate::glob::Globs;
use crate::plan::{Approval, Label, Plan, PlannedStage, Stage};
use crate::policy_file;
use crate::problem::{Location, Problem};
use crate::protocol::ExecutorKind;
use crate::suggest::nearest;
use crate::trigger::{EventFacts, EventKind};
use std::collections::BTreeMap;

/// Where it stands.
pub const FILE: &str = ".rivet/config/policy.toml";

/// What the file says; nothing said is nothing forbidden.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// What pipelines of pull requests and merge groups may use.
    pub pull_requests: Limits,
    /// Protected environments by name.
    pub environments: BTreeMap<String, Protected>,
}

/// What may be used. `None`: anything; an empty list: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Labels that may be asked of a runner.
    pub runners: Option<Vec<Label>>,
    /// Executors. A stage without a container or services may run on the machine itself.
    pub executors: Option<Vec<ExecutorKind>>,
    /// Names of secrets.
    pub secrets: Option<Vec<String>>,
    /// Names of environments.
    pub environments: Option<Vec<String>>,
}

/// What a pipeline cannot weaken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Protected {
    /// Logins, `@org/team`s, groups of the server's settings, of whom an approver must be one.
    pub reviewers: Vec<String>,
    /// How many different people must approve, at least.
    pub count: Option<u32>,
    /// Whether who caused the run may not approve it.
    pub prevent_self: Option<bool>,
    /// Globs of the branches that may be deployed; `None`: any commit.
    pub branches: Option<Vec<String>>,
}

impl Policy {
    /// Reads the file's text, or tells everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        policy_file::read(FILE, text)
    }

    /// Whether a plan has to be looked at for an event at all.
    pub fn is_about(plan: &Plan, facts: &EventFacts) -> bool {
        is_limited(facts) || plan.stages.iter().any(|planned| planned.stage.environment.is_some())
    }

    /// Makes the approvals of protected environments as strict as the policy says, and tells what the plan may not use.
    pub fn apply(&self, plan: &mut Plan, facts: &EventFacts) -> Vec<Problem> {
        let mut problems = vec![];
        for planned in &mut plan.stages {
            if is_limited(facts) {
                self.pull_requests.check(planned, &mut problems);
            }
            self.protect(planned, facts, &mut problems);
        }
        // Every leg of a stage says the same.
        problems.dedup();
        problems
    }

    fn protect(&self, planned: &mut PlannedStage, facts: &EventFacts, problems: &mut Vec<Problem>) {
        let at = planned.stage.at.clone();
        let Some(environment) = planned.stage.environment.clone() else { return };
        if environment.contains("${") && !self.environments.is_empty() {
            let text = format!(
                "environment '{environment}' of stage '{}' is known only when the stage starts, and some environments are \
                 protected.",
                planned.base
            );
            problems.push(Problem::error("policy.environment_forbidden", text).at(at).hint("write its name out"));
            return;
        }
        let Some(protected) = self.environments.get(&environment) else { return };
        if let Some(why) = protected.refuses(facts) {
            let text = format!("stage '{}' deploys to {environment}, {why}", planned.base);
            problems.push(Problem::error("policy.environment_forbidden", text).at(at));
        }
        protected.guard(&mut planned.stage);
    }
}

/// Whether an event's pipelines are those of a change that is not merged yet.
fn is_limited(facts: &EventFacts) -> bool {
    facts.pull_request.is_some() || matches!(facts.name, EventKind::PullRequest | EventKind::MergeGroup)
}

impl Limits {
    fn check(&self, planned: &PlannedStage, problems: &mut Vec<Problem>) {
        let (stage, base) = (&planned.stage, &planned.base);
        let mut forbid = |code: &str, what: String, allowed: &[String]| {
            let text = format!("stage '{base}' {what}, which pull requests may not use here.");
            let hint = match allowed {
                [] => format!("{FILE} of the default branch allows none"),
                names => format!("{FILE} of the default branch allows {}", names.join(", ")),
            };
            problems.push(Problem::error(code, text).at(stage.at.clone()).hint(hint));
        };
        let texts = |list: &[Label]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        if let Some(allowed) = &self.runners {
            for label in planned.labels.iter().filter(|label| !allowed.contains(label)) {
                forbid("policy.runner_forbidden", format!("asks for a runner with {label}"), &texts(allowed));
            }
        }
        if let Some(allowed) = &self.executors {
            let isolated = stage.container.is_some() || !stage.services.is_empty();
            let may = |kind: ExecutorKind| allowed.contains(&kind);
            let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            if !isolated && !may(ExecutorKind::Host) {
                let what = "names no container, so it may run on the machine itself";
                forbid("policy.executor_forbidden", what.to_owned(), &names);
            } else if isolated && !may(ExecutorKind::Podman) && !may(ExecutorKind::Kubernetes) {
                forbid("policy.executor_forbidden", "runs in a container".to_owned(), &names);
            }
        }
        if let Some(allowed) = &self.secrets {
            for name in stage.secrets.iter().filter(|name| !allowed.contains(name)) {
                forbid("policy.secret_forbidden", format!("reads the secret {name}"), allowed);
            }
        }
        if let (Some(allowed), Some(environment)) = (&self.environments, &stage.environment)
            && !allowed.contains(environment)
        {
            forbid("policy.environment_forbidden", format!("deploys to {environment}"), allowed);
        }
    }
}

impl Protected {
    /// Why this event's commit is not one that may be deployed.
    fn refuses(&self, facts: &EventFacts) -> Option<String> {
        let patterns = self.branches.as_ref()?;
        let allowed = patterns.join(", ");
        // A pull request's head may be called like any branch, and a tag may point anywhere.
        let branch = facts.git_ref.strip_prefix("refs/heads/").filter(|_| !is_limited(facts));
        match branch {
            Some(branch) if Globs::new(patterns).is_ok_and(|globs| globs.matches(branch)) => None,
            Some(branch) => Some(format!("which only branches {allowed} may; this is {branch}.")),
            None => Some(format!("which only branches {allowed} may; this is {}.", facts.git_ref)),
        }
    }

    /// Joins the stage's own rules with these: of each, the stricter one.
    fn guard(&self, stage: &mut Stage) {
        let own = stage.approval.take().filter(|approval| approval.required);
        if own.is_none() && self.reviewers.is_empty() && self.count.is_none() {
            return;
        }
        let own_prevents = own.as_ref().map(|own| own.prevent_self);
        // A gate the file did not have keeps who caused the run from opening it, unless the policy says otherwise.
        let prevent_self = match (own_prevents, self.prevent_self) {
            (Some(own), policy) => own || policy.unwrap_or(false),
            (None, policy) => policy.unwrap_or(true),
        };
        let (reviewers, count, expires) = own.map(|own| (own.reviewers, own.count, own.expires)).unwrap_or_default();
        stage.approval = Some(Approval {
            required: true,
            reviewers,
            policy_reviewers: self.reviewers.clone(),
            count: count.max(self.count.unwrap_or(1)).max(1),
            prevent_self,
            expires,
        });
    }
}

/// What is wrong with a key nobody knows.
pub(crate) fn unknown(key: &str, known: &[&str], owner: &str, at: &Location) -> Problem {
    let problem = Problem::error("policy.unknown_key", format!("unknown key '{key}' in {owner}.")).at(at.clone());
    match nearest(key, known.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean '{near}'?")),
        None => problem,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
