//! What a change of the definitions changes: stages, and above all what they gain (secrets, environments, other runners,
//! weaker approvals). Pure: from the pipelines before and after, whatever events they would run for.

use crate::plan::{Approval, Label, Pipeline, Stage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The pipeline.
    pub pipeline: String,
    /// The stage; `None`: the pipeline as a whole.
    pub stage: Option<String>,
    /// What, as a clause: `reads the secret DEPLOY_KEY`.
    pub what: String,
    /// Whether it may do more than before.
    pub gains: bool,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.gains { "gains: " } else { "" };
        match &self.stage {
            Some(stage) => write!(f, "{sign}{} / {stage} {}", self.pipeline, self.what),
            None => write!(f, "{sign}{} {}", self.pipeline, self.what),
        }
    }
}

/// Everything that differs, in the order of names; what is gained first within each stage.
pub fn changes(base: &[Pipeline], head: &[Pipeline]) -> Vec<Change> {
    let mut all = vec![];
    let names: BTreeSet<&str> = base.iter().chain(head).map(|pipeline| pipeline.stem.as_str()).collect();
    for name in names {
        let find = |list: &'_ [Pipeline]| list.iter().find(|pipeline| pipeline.stem == name).cloned();
        let mut of = Collector { pipeline: name.to_owned(), stage: None, changes: vec![] };
        match (find(base), find(head)) {
            (None, Some(new)) => {
                of.add(false, "is new");
                new.stages.iter().for_each(|stage| of.new_stage(&new, stage));
            }
            (Some(_), None) => of.add(false, "is removed"),
            (Some(old), Some(new)) => of.pipelines(&old, &new),
            (None, None) => {}
        }
        all.append(&mut of.changes);
    }
    all
}

struct Collector {
    pipeline: String,
    stage: Option<String>,
    changes: Vec<Change>,
}

impl Collector {
    fn add(&mut self, gains: bool, what: impl Into<String>) {
        let (pipeline, stage) = (self.pipeline.clone(), self.stage.clone());
        self.changes.push(Change { pipeline, stage, what: what.into(), gains });
    }

    fn pipelines(&mut self, old: &Pipeline, new: &Pipeline) {
        self.stage = None;
        if old.on != new.on {
            // What starts by itself where it did not before reaches everything its stages may.
            let holds = new.stages.iter().any(|stage| !stage.secrets.is_empty() || stage.environment.is_some());
            self.add(holds, "has other triggers");
        }
        if old.inputs != new.inputs {
            self.add(false, "has other inputs");
        }
        if old.concurrency != new.concurrency {
            self.add(false, "has another concurrency group");
        }
        if old.env != new.env {
            self.add(false, "has other variables");
        }
        for stage in &new.stages {
            match old.stages.iter().find(|before| before.name == stage.name) {
                Some(before) => self.stages((old, before), (new, stage)),
                None => self.new_stage(new, stage),
            }
        }
        for stage in old.stages.iter().filter(|stage| !new.stages.iter().any(|other| other.name == stage.name)) {
            self.stage = Some(stage.name.clone());
            self.add(false, "is removed");
        }
    }

    fn new_stage(&mut self, pipeline: &Pipeline, stage: &Stage) {
        self.stage = Some(stage.name.clone());
        self.add(false, "is new");
        let nothing = Stage { secrets: vec![], environment: None, approval: stage.approval.clone(), ..stage.clone() };
        self.privileges(&nothing, stage);
        let labels = labels(pipeline, stage);
        if !labels.is_empty() {
            self.add(false, format!("asks for a runner with {}", labels.join(", ")));
        }
    }

    fn stages(&mut self, (before, old): (&Pipeline, &Stage), (after, new): (&Pipeline, &Stage)) {
        self.stage = Some(new.name.clone());
        self.privileges(old, new);
        let (had, has) = (labels(before, old), labels(after, new));
        if had != has {
            self.add(true, format!("asks for a runner with {}, not {}", or_none(&has), or_none(&had)));
        }
        let image = |stage: &Stage| stage.container.clone();
        match (image(old), image(new)) {
            (Some(had), None) => self.add(true, format!("runs in no container any more, not in {had}")),
            (None, Some(has)) => self.add(false, format!("runs in {has}")),
            (Some(had), Some(has)) if had != has => self.add(false, format!("runs in {has}, not in {had}")),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if old.services != new.services {
            self.add(false, "has other services");
        }
        if old.rollback != new.rollback {
            self.add(false, "has another rollback");
        }
        if does(old) != does(new) {
            self.add(false, "does something else");
        }
    }

    fn privileges(&mut self, old: &Stage, new: &Stage) {
        for name in new.secrets.iter().filter(|name| !old.secrets.contains(name)) {
            self.add(true, format!("reads the secret {name}"));
        }
        match (&old.environment, &new.environment) {
            (Some(had), None) => self.add(false, format!("does not deploy to {had} any more")),
            (None, Some(has)) => self.add(true, format!("deploys to {has}")),
            (Some(had), Some(has)) if had != has => self.add(true, format!("deploys to {has}, not to {had}")),
            (Some(_), Some(_)) | (None, None) => {}
        }
        for what in weaker(old.approval.as_ref(), new.approval.as_ref()) {
            self.add(true, what);
        }
        for name in old.secrets.iter().filter(|name| !new.secrets.contains(name)) {
            self.add(false, format!("does not read the secret {name} any more"));
        }
        for what in weaker(new.approval.as_ref(), old.approval.as_ref()) {
            self.add(false, format!("is guarded more: before, it {what}"));
        }
    }
}

/// In which ways `new` guards less than `old`.
fn weaker(old: Option<&Approval>, new: Option<&Approval>) -> Vec<String> {
    let Some(old) = old.filter(|approval| approval.required) else { return vec![] };
    let Some(new) = new.filter(|approval| approval.required) else {
        return vec!["needs no approval".to_owned()];
    };
    let mut all = vec![];
    if new.count < old.count {
        all.push(format!("needs {} instead of {} approvals", new.count, old.count));
    }
    let more: Vec<&str> =
        new.reviewers.iter().filter(|name| !old.reviewers.contains(name)).map(String::as_str).collect();
    match (old.reviewers.is_empty(), new.reviewers.is_empty()) {
        (false, true) => all.push("may be approved by anyone who may write".to_owned()),
        (false, false) if !more.is_empty() => all.push(format!("may be approved by {} too", more.join(", "))),
        (true, _) | (false, false) => {}
    }
    if old.prevent_self && !new.prevent_self {
        all.push("may be approved by who caused the run".to_owned());
    }
    all
}

fn labels(pipeline: &Pipeline, stage: &Stage) -> Vec<String> {
    let all: BTreeSet<&Label> = pipeline.runner.iter().chain(&pipeline.tags).chain(&stage.runner).collect();
    all.into_iter().map(ToString::to_string).collect()
}

fn or_none(labels: &[String]) -> String {
    if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") }
}

/// What a stage does when it runs, without what is told apart above and without its place in the file.
fn does(stage: &Stage) -> Stage {
    // (A function's text is not in the model: its file's own difference shows it.)
    Stage {
        container: None,
        secrets: vec![],
        environment: None,
        approval: None,
        rollback: None,
        services: Default::default(),
        runner: vec![],
        at: None,
        ..stage.clone()
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
