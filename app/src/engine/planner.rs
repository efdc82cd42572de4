//! From an event to runs: the definitions at the commit are read and evaluated, each pipeline is decided about in one
//! sentence, and what starts is made concrete. No transaction is open meanwhile; recording is the last step.

use crate::context::Context;
use crate::forge::{Forge, ForgeError, Loaded, Trigger};
use futures::future::join_all;
use pipelines_spec::evaluate::{Answer, Question, Request};
use pipelines_spec::inputs::{self, InputError};
use pipelines_spec::instantiate::instantiate;
use pipelines_spec::plan::{InputSpec, Pipeline, Plan};
use pipelines_spec::problem::{Location, Problem};
use pipelines_spec::protocol::Sources;
use pipelines_spec::trigger::{self, Changed, Decision, EventFacts, EventKind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What became of one file for one event.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The pipeline's stem.
    pub pipeline: String,
    /// What.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub because: String,
}

/// What became of one file.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It starts with this plan.
    Start(Box<Plan>),
    /// It does not start.
    Skip {
        /// Whether only its path filter stood against it: it is meant for this commit, so its status has to report.
        by_path: bool,
        /// Whether the commit's own message asked for it.
        by_marker: bool,
    },
    /// It could not be looked at.
    Broken,
}

/// What an event comes to.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// The definition files at the commit.
    pub sources: Sources,
    /// One for each pipeline.
    pub verdicts: Vec<Verdict>,
    /// What is wrong with the definitions.
    pub problems: Vec<Problem>,
}

/// Reads and evaluates the definitions at the event's commit and decides about each.
pub async fn plan(context: &Context, forge: &Forge, trigger: &Trigger) -> Result<Planned, ForgeError> {
    let loaded = forge.sources(&trigger.repo, &trigger.facts.sha).await?;
    let definitions = evaluate_all(context, &loaded, &trigger.facts).await;
    let mut planned = Planned { sources: loaded.sources, verdicts: vec![], problems: loaded.problems };
    let mut changed: Option<Option<Vec<String>>> = None;
    for (stem, definition) in definitions {
        let verdict = match definition {
            Ok((pipeline, warnings)) => {
                planned.problems.extend(warnings);
                if changed.is_none() && trigger::needs_paths(&pipeline.on, &trigger.facts) {
                    changed = Some(forge.changed_files(&trigger.repo, &trigger.facts).await?);
                }
                let files = match &changed {
                    Some(Some(files)) => Changed::Known(files),
                    Some(None) | None => Changed::Unknown,
                };
                about(context, &planned.sources, &pipeline, &trigger.facts, files, &mut planned.problems).await
            }
            Err(problems) => {
                let because = broken(&problems);
                planned.problems.extend(problems);
                Verdict { pipeline: stem, outcome: Outcome::Broken, because }
            }
        };
        planned.verdicts.push(verdict);
    }
    Ok(planned)
}

/// One pipeline and one event.
async fn about(
    context: &Context,
    sources: &Sources,
    pipeline: &Pipeline,
    facts: &EventFacts,
    changed: Changed<'_>,
    problems: &mut Vec<Problem>,
) -> Verdict {
    let verdict = |outcome, because: String| Verdict { pipeline: pipeline.stem.clone(), outcome, because };
    let because = match trigger::decide(&pipeline.on, facts, changed) {
        Decision::Run { because } => because,
        Decision::Skip { because, by_path } => return verdict(Outcome::Skip { by_path, by_marker: false }, because),
    };
    if let Some(marker) = trigger::marked_to_skip(facts) {
        let because = format!("the commit's message says '{marker}'");
        return verdict(Outcome::Skip { by_path: false, by_marker: true }, because);
    }
    match concrete(context, sources, pipeline, facts, &given_by(pipeline, facts)).await {
        Ok(plan) => verdict(Outcome::Start(Box::new(plan)), because),
        Err(Refused::Inputs(errors)) => {
            let at = Location::line(&pipeline.file, 1);
            let found = errors.iter().map(|e| Problem::error(&e.code, &e.detail).at(at.clone()));
            let found: Vec<Problem> = found.collect();
            let because = broken(&found);
            problems.extend(found);
            verdict(Outcome::Broken, because)
        }
        Err(Refused::Definition(found)) => {
            let because = broken(&found);
            problems.extend(found);
            verdict(Outcome::Broken, because)
        }
    }
}

/// The inputs an event brings along: a clock entry's own; everything else takes the defaults.
fn given_by(pipeline: &Pipeline, facts: &EventFacts) -> Map<String, Value> {
    let cron = facts.extra.get("cron").and_then(Value::as_str);
    let entry =
        pipeline.on.schedule.iter().find(|s| facts.name == EventKind::Schedule && Some(s.cron.as_str()) == cron);
    entry.map(|entry| entry.inputs.clone()).unwrap_or_default()
}

/// Why a pipeline was not made concrete.
pub(super) enum Refused {
    /// By these inputs.
    Inputs(Vec<InputError>),
    /// By the definition.
    Definition(Vec<Problem>),
}

/// The plan for these inputs, all of whose errors are found before anything is recorded.
pub(super) async fn concrete(
    context: &Context,
    sources: &Sources,
    pipeline: &Pipeline,
    facts: &EventFacts,
    given: &Map<String, Value>,
) -> Result<Plan, Refused> {
    let typed = inputs::parse(&pipeline.inputs, given).map_err(Refused::Inputs)?;
    let asks = |spec: &InputSpec| spec.validate;
    if pipeline.inputs.values().any(asks) {
        validated(context, sources, pipeline, facts, &typed).await?;
    }
    instantiate(pipeline, facts, typed).map_err(Refused::Definition)
}

/// Asks the file's own `validate` functions.
async fn validated(
    context: &Context,
    sources: &Sources,
    pipeline: &Pipeline,
    facts: &EventFacts,
    typed: &Map<String, Value>,
) -> Result<(), Refused> {
    let request = Request {
        sources: sources.clone(),
        file: pipeline.file.clone(),
        event: facts.clone(),
        question: Question::Validate { inputs: typed.clone() },
    };
    let response = context.evaluator.ask(&request).await;
    match response.answer {
        Some(Answer::Validate { errors }) if errors.is_empty() => Ok(()),
        Some(Answer::Validate { errors }) => {
            let error = |(field, what): (String, String)| InputError {
                detail: format!("input '{field}' {what}"),
                code: "input.validate".to_owned(),
                field,
            };
            Err(Refused::Inputs(errors.into_iter().map(error).collect()))
        }
        Some(Answer::Pipeline { .. } | Answer::Condition { .. } | Answer::Axes { .. }) | None => {
            Err(Refused::Definition(some(response.problems, &pipeline.file)))
        }
    }
}

pub(super) type Definition = Result<(Pipeline, Vec<Problem>), Vec<Problem>>;

/// Every pipeline file, evaluated side by side.
async fn evaluate_all(context: &Context, loaded: &Loaded, facts: &EventFacts) -> Vec<(String, Definition)> {
    let files = pipeline_files(&loaded.sources);
    let one = |(stem, files): (String, Vec<String>)| async move {
        let definition = match files.as_slice() {
            [file] => evaluate(context, &loaded.sources, file, facts).await,
            several => {
                let message = format!("{} define the same pipeline '{stem}'", several.join(" and "));
                let at = several.last().map(|file| Location::line(file, 1));
                Err(vec![Problem::error("config.duplicate_pipeline", message).at(at).hint("rename one of them")])
            }
        };
        (stem, definition)
    };
    join_all(files.into_iter().map(one)).await
}

/// What one file defines.
pub(super) async fn evaluate(context: &Context, sources: &Sources, file: &str, facts: &EventFacts) -> Definition {
    let request =
        Request { sources: sources.clone(), file: file.to_owned(), event: facts.clone(), question: Question::Pipeline };
    let response = context.evaluator.ask(&request).await;
    match response.answer {
        Some(Answer::Pipeline { pipeline }) if !response.problems.iter().any(Problem::is_error) => {
            Ok((*pipeline, response.problems))
        }
        Some(_) | None => Err(some(response.problems, file)),
    }
}

/// Never an empty list: a failure without a reason would look like success.
fn some(problems: Vec<Problem>, file: &str) -> Vec<Problem> {
    if problems.iter().any(Problem::is_error) {
        return problems;
    }
    vec![Problem::error("config.evaluator_crashed", "the evaluator gave no answer").at(Location::line(file, 1))]
}

/// The files directly below `.rivet/`, by stem. What lies deeper is a module.
pub fn pipeline_files(sources: &Sources) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in sources.keys() {
        let Some(name) = path.strip_prefix(".rivet/").filter(|name| !name.contains('/')) else { continue };
        let stem = name.strip_suffix(".lua").or_else(|| name.strip_suffix(".toml"));
        if let Some(stem) = stem.filter(|stem| !stem.is_empty()) {
            found.entry(stem.to_owned()).or_default().push(path.clone());
        }
    }
    found
}

fn broken(problems: &[Problem]) -> String {
    let errors: Vec<&Problem> = problems.iter().filter(|p| p.is_error()).collect();
    match errors.as_slice() {
        [] => "the definition could not be evaluated".to_owned(),
        [one] => format!("the definition has an error: {one}"),
        [first, rest @ ..] => format!("the definition has {} errors, first: {first}", rest.len() + 1),
    }
}
