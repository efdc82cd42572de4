//! `rivet plan`: what would run, and why; what would not, and why not.

use super::definitions as files;
use super::event::{EventArgs, Pretended};
use super::git::WorkTree;
use super::inputs::{self, Given};
use super::{Exit, Failure, output};
use crate::definitions::{self, Defined, Refused, concrete};
use crate::evaluator::Evaluator;
use pipelines_spec::evaluate::{Answer, Context, Question, Request};
use pipelines_spec::plan::{Approval, Condition, Plan, PlannedStage};
use pipelines_spec::problem::Problem;
use pipelines_spec::protocol::Sources;
use pipelines_spec::trigger::{Changed, EventKind, decide};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Arguments of `rivet plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this pipeline
    pipeline: Option<String>,
    #[command(flatten)]
    event: EventArgs,
    /// A branch, tag or commit instead of the working tree as it is
    #[arg(long = "ref", value_name = "REF")]
    git_ref: Option<String>,
    #[command(flatten)]
    given: Given,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What would become of one pipeline.
#[derive(Debug, Serialize)]
struct Planned {
    pipeline: String,
    file: String,
    decision: Outcome,
    reason: String,
    /// Its stages, where it can be planned.
    stages: Vec<Stage>,
    problems: Vec<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_digest: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Run,
    Skip,
    Error,
}

#[derive(Debug, Serialize)]
struct Stage {
    name: String,
    depends_on: Vec<String>,
    container: Option<String>,
    labels: Vec<String>,
    /// Whether its condition holds, if the stages before it succeed; `null`: it has none, or it needs their outputs.
    holds: Option<bool>,
    condition: Option<&'static str>,
    max_attempts: u32,
    approval: Option<Approval>,
    dynamic: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> Result<Exit, Failure> {
    let tree = WorkTree::here()?;
    let event = args.event.pretend(&tree, args.git_ref.as_deref(), EventKind::Push)?;
    let loaded = match &args.git_ref {
        Some(_) => files::load_commit(&tree, &event.facts.sha)?,
        None => files::load(&tree.root)?,
    };
    if loaded.sources.is_empty() && loaded.problems.is_empty() {
        return Err(none_here(&tree));
    }
    let given = args.given.values()?;
    let evaluator = Evaluator::default();
    let mut all = definitions::evaluate(&evaluator, &loaded.sources, &event.facts).await;
    if let Some(name) = &args.pipeline {
        let stems: Vec<String> = all.iter().map(|d| d.stem.clone()).collect();
        all.retain(|d| d.stem == *name);
        if all.is_empty() {
            return Err(inputs::unknown_pipeline(name, &stems, "this repository"));
        }
    }
    let mut planned = vec![];
    for defined in all {
        planned.push(plan(&evaluator, &loaded.sources, defined, &event, &given).await);
    }
    let failed = !loaded.problems.is_empty() || planned.iter().any(|p| p.decision == Outcome::Error);
    if args.json {
        let changed = event.changed;
        output::print_json(
            &json!({ "event": event.facts, "changed_files": changed, "pipelines": planned, "problems": loaded.problems }),
        );
    } else {
        output::print_data(&shown(&event, &planned, &loaded.problems));
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// There is nothing to work with, and what to do about it.
pub fn none_here(tree: &WorkTree) -> Failure {
    let message = format!("{} has no pipelines under .rivet/\nmake one with `rivet init`", tree.root.display());
    Failure::new(Exit::NotFound, message)
}

async fn plan(
    evaluator: &Evaluator,
    sources: &Sources,
    defined: Defined,
    event: &Pretended,
    given: &Map<String, Value>,
) -> Planned {
    let mut planned = Planned {
        pipeline: defined.stem,
        file: defined.file,
        decision: Outcome::Error,
        reason: String::new(),
        stages: vec![],
        problems: defined.problems,
        plan_digest: None,
    };
    let Some(pipeline) = defined.pipeline.filter(|_| !planned.problems.iter().any(Problem::is_error)) else {
        planned.reason = "it cannot be read".to_owned();
        return planned;
    };
    let changed = event.changed.as_deref().map_or(Changed::Unknown, Changed::Known);
    let decision = decide(&pipeline.on, &event.facts, changed);
    let plan = match concrete(evaluator, sources, &pipeline, &event.facts, given).await {
        Ok(plan) => plan,
        Err(Refused::Inputs(errors)) => {
            let details: Vec<String> = errors.into_iter().map(|e| e.detail).collect();
            planned.reason = details.join("; ");
            return planned;
        }
        Err(Refused::Definition(problems)) => {
            planned.reason = "it cannot be made concrete for this event".to_owned();
            planned.problems.extend(problems);
            return planned;
        }
    };
    planned.decision = if decision.runs() { Outcome::Run } else { Outcome::Skip };
    planned.reason = decision.because().to_owned();
    planned.plan_digest = Some(plan.digest());
    for stage in &plan.stages {
        planned.stages.push(describe(evaluator, sources, &plan, stage, event).await);
    }
    planned
}

async fn describe(
    evaluator: &Evaluator,
    sources: &Sources,
    plan: &Plan,
    planned: &PlannedStage,
    event: &Pretended,
) -> Stage {
    let stage = &planned.stage;
    Stage {
        name: planned.name.clone(),
        depends_on: stage.depends_on.clone(),
        container: stage.container.clone(),
        labels: planned.labels.iter().map(ToString::to_string).collect(),
        holds: match stage.condition {
            Some(_) => holds(evaluator, sources, plan, planned, event).await,
            None => None,
        },
        condition: stage.condition.as_ref().map(|condition| match condition {
            Condition::Function => "function",
            Condition::Expression { .. } => "expression",
        }),
        max_attempts: stage.retry.as_ref().map_or(1, |r| r.max_attempts),
        approval: stage.approval.clone().filter(|a| a.required),
        dynamic: planned.dynamic.is_some(),
    }
}

/// Whether a stage's condition holds when everything before it succeeds; `None` where that takes their outputs.
async fn holds(
    evaluator: &Evaluator,
    sources: &Sources,
    plan: &Plan,
    planned: &PlannedStage,
    event: &Pretended,
) -> Option<bool> {
    let succeeded = |base: &String| (base.clone(), json!({ "state": "succeeded", "outputs": {}, "legs": [] }));
    let context = Context {
        inputs: plan.inputs.clone(),
        needs: planned.stage.depends_on.iter().map(succeeded).collect(),
        matrix: planned.matrix.clone(),
    };
    let request = Request {
        sources: sources.clone(),
        file: plan.file.clone(),
        event: event.facts.clone(),
        question: Question::Condition { stage: planned.base.clone(), context },
    };
    match evaluator.ask(&request).await.answer {
        Some(Answer::Condition { holds }) => Some(holds),
        Some(Answer::Pipeline { .. } | Answer::Axes { .. } | Answer::Validate { .. }) | None => None,
    }
}

fn shown(event: &Pretended, planned: &[Planned], problems: &[Problem]) -> String {
    let facts = &event.facts;
    let changed = match &event.changed {
        Some(files) => plural(u32::try_from(files.len()).unwrap_or(u32::MAX), "changed file"),
        None => "changed files unknown".to_owned(),
    };
    let sha = facts.sha.get(..8).unwrap_or(&facts.sha);
    let head = format!("{} on {} at {sha}, {changed}", facts.name, facts.git_ref);
    let mut text = format!("{}\n", output::clean(&head));
    for problem in problems {
        text.push_str(&format!("{} {}\n", mark("failed"), output::clean(&problem.to_string())));
    }
    for one in planned {
        text.push_str(&section(one));
    }
    text
}

fn mark(state: &str) -> String {
    output::colour(state).apply_to(output::sign(state)).to_string()
}

fn section(planned: &Planned) -> String {
    let name = output::clean(&planned.pipeline);
    let reason = output::clean(&planned.reason);
    let mut text = match planned.decision {
        Outcome::Run => format!("\n{} {name} runs: {reason}\n", mark("succeeded")),
        Outcome::Skip => format!("\n{} {name} does not run: {reason}\n", mark("skipped")),
        Outcome::Error => format!("\n{} {name} cannot run: {reason}\n", mark("failed")),
    };
    for problem in &planned.problems {
        text.push_str(&format!("    {}\n", output::clean(&problem.to_string())));
    }
    if planned.decision == Outcome::Run {
        let width = planned.stages.iter().map(|s| s.name.chars().count()).max().unwrap_or(0);
        for (i, stage) in planned.stages.iter().enumerate() {
            let facts = facts(stage).join("; ");
            let line = format!("  {:>3}. {:width$}  {}", i + 1, output::clean(&stage.name), output::clean(&facts));
            text.push_str(&format!("{}\n", line.trim_end()));
        }
    }
    text
}

/// What is worth saying of a stage before it runs.
fn facts(stage: &Stage) -> Vec<String> {
    let mut facts = vec![];
    if !stage.depends_on.is_empty() {
        facts.push(format!("after {}", stage.depends_on.join(", ")));
    }
    facts.extend(stage.condition.map(|_| match stage.holds {
        Some(true) => "its condition holds".to_owned(),
        Some(false) => "skipped: its condition does not hold".to_owned(),
        None => "its condition is decided when it is ready".to_owned(),
    }));
    if stage.dynamic {
        facts.push("its legs are decided when it is ready".to_owned());
    }
    if let Some(approval) = &stage.approval {
        let who = if approval.reviewers.is_empty() {
            "anyone who may write".to_owned()
        } else {
            approval.reviewers.join(", ")
        };
        facts.push(format!("waits for {} by {who}", plural(approval.count, "approval")));
    }
    if stage.max_attempts > 1 {
        facts.push(format!("up to {} attempts", stage.max_attempts));
    }
    facts.extend(stage.container.as_ref().map(|image| format!("in {image}")));
    if !stage.labels.is_empty() {
        facts.push(format!("on {}", stage.labels.join(", ")));
    }
    facts
}

fn plural(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
