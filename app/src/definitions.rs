//! What definition files come to: each is evaluated in a process of its own, looked at beside the others, and made
//! concrete for an event and its inputs. The server, the API and the command line all ask here, so that what `rivet check`
//! says on a desk is what a push will say.

mod cycles;

use crate::evaluator::Evaluator;
use cycles::cycle_from;
use futures::future::join_all;
use pipelines_spec::evaluate::{Answer, Question, Request};
use pipelines_spec::inputs::{self, InputError};
use pipelines_spec::instantiate::instantiate;
use pipelines_spec::plan::{Action, Pipeline, Plan, Stage};
use pipelines_spec::problem::{Location, Problem};
use pipelines_spec::protocol::Sources;
use pipelines_spec::suggest::nearest;
use pipelines_spec::trigger::EventFacts;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One file that defines a pipeline.
#[derive(Debug, Clone)]
pub struct Defined {
    /// Its path from the root.
    pub file: String,
    /// The name the pipeline is known by.
    pub stem: String,
    /// What it defines, where it can be read.
    pub pipeline: Option<Pipeline>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// A pipeline with its warnings, or everything that is wrong with it.
pub type Usable = Result<(Pipeline, Vec<Problem>), Vec<Problem>>;

impl Defined {
    /// The pipeline with its warnings, or everything that is wrong: never an empty list, because a failure without a
    /// reason would look like success.
    pub fn usable(self) -> Usable {
        match self.pipeline {
            Some(pipeline) if !self.problems.iter().any(Problem::is_error) => Ok((pipeline, self.problems)),
            Some(_) | None => Err(reasons(self.problems, &self.file)),
        }
    }
}

/// Whether a file defines a pipeline: directly under `.rivet/`. What lies deeper is a module.
pub fn is_pipeline(path: &str) -> bool {
    let name = path.strip_prefix(".rivet/").filter(|rest| !rest.contains('/'));
    let stem = name.and_then(|name| name.strip_suffix(".lua").or_else(|| name.strip_suffix(".toml")));
    stem.is_some_and(|stem| !stem.is_empty())
}

/// What a pipeline is called: its file's name without the ending.
pub fn stem_of(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The files that define pipelines, by stem. More than one of a stem is a mistake that [`evaluate_one`] tells.
pub fn pipeline_files(sources: &Sources) -> BTreeMap<&str, Vec<&str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in sources.keys().filter(|path| is_pipeline(path)) {
        found.entry(stem_of(path)).or_default().push(path);
    }
    found
}

/// Evaluates every file that defines a pipeline, side by side; the answers are in the order of their stems.
pub async fn evaluate(evaluator: &Evaluator, sources: &Sources, event: &EventFacts) -> Vec<Defined> {
    let files = pipeline_files(sources).into_values().flatten();
    let mut all = join_all(files.map(|file| evaluate_one(evaluator, sources, file, event))).await;
    let circles: Vec<Option<Problem>> = all.iter().map(|one| circle(&all, one)).collect();
    for (one, problem) in all.iter_mut().zip(circles) {
        one.problems.extend(problem);
    }
    all
}

/// The pipelines that a pipeline's stages run, with the stages.
fn children(pipeline: &Pipeline) -> impl Iterator<Item = (&str, &Stage)> {
    pipeline.stages.iter().filter_map(|stage| match &stage.action {
        Action::Pipeline { pipeline, .. } => Some((pipeline.as_str(), stage)),
        _ => None,
    })
}

/// A pipeline that would start itself, by way of others or not, would never end.
fn circle(all: &[Defined], one: &Defined) -> Option<Problem> {
    let named = |one: &Defined| one.pipeline.iter().flat_map(children).map(|(child, _)| child.to_owned()).collect();
    let names: Vec<(&str, Vec<String>)> = all.iter().map(|one| (one.stem.as_str(), named(one))).collect();
    let graph = names.iter().map(|(stem, named)| (*stem, named.iter().map(String::as_str).collect())).collect();
    let way = cycle_from(&one.stem, &graph)?;
    let first = way.get(1).copied().unwrap_or_default();
    let at = one.pipeline.iter().flat_map(children).find(|(child, _)| *child == first).and_then(|(_, s)| s.at.clone());
    let message = format!("pipeline '{}' starts itself: {}", one.stem, way.join(" → "));
    Some(Problem::error("plan.pipeline_cycle", message).at(at).hint("take one of these stages out"))
}

/// Evaluates one file, and checks what takes the names of the others to see.
pub async fn evaluate_one(evaluator: &Evaluator, sources: &Sources, file: &str, event: &EventFacts) -> Defined {
    let request =
        Request { sources: sources.clone(), file: file.to_owned(), event: event.clone(), question: Question::Pipeline };
    let response = evaluator.ask(&request).await;
    let pipeline = match response.answer {
        Some(Answer::Pipeline { pipeline }) => Some(*pipeline),
        Some(Answer::Condition { .. } | Answer::Axes { .. } | Answer::Validate { .. }) | None => None,
    };
    let files = pipeline_files(sources);
    let mut problems = response.problems;
    problems.extend(shared_name(&files, file));
    problems.extend(pipeline.iter().flat_map(|pipeline| unknown_children(&files, pipeline)));
    Defined { file: file.to_owned(), stem: stem_of(file).to_owned(), pipeline, problems }
}

/// Files of one stem cannot be told apart. All of them get the same problem, at the last one, so that it is shown once.
fn shared_name(files: &BTreeMap<&str, Vec<&str>>, file: &str) -> Option<Problem> {
    let same = files.get(stem_of(file)).filter(|same| same.len() > 1 && same.contains(&file))?;
    let message = format!("{} define the same pipeline '{}'", same.join(" and "), stem_of(file));
    let problem = Problem::error("config.duplicate_pipeline", message).hint("rename one of them");
    Some(problem.at(Location::line(*same.last()?, 1)))
}

/// Stages that are pipelines which do not exist. A name with an expression in it is known only when the stage starts.
fn unknown_children(files: &BTreeMap<&str, Vec<&str>>, pipeline: &Pipeline) -> Vec<Problem> {
    let mut problems = vec![];
    for stage in &pipeline.stages {
        let Action::Pipeline { pipeline: child, .. } = &stage.action else { continue };
        if child.contains("${") || files.contains_key(child.as_str()) {
            continue;
        }
        let message = format!("stage '{}' runs pipeline '{child}', which does not exist", stage.name);
        let problem = Problem::error("plan.unknown_pipeline", message).at(stage.at.clone());
        problems.push(match nearest(child, files.keys().copied()) {
            Some(near) => problem.hint(format!("did you mean '{near}'?")),
            None => problem,
        });
    }
    problems
}

/// Why a pipeline was not made concrete.
#[derive(Debug)]
pub enum Refused {
    /// By these inputs.
    Inputs(Vec<InputError>),
    /// By the definition.
    Definition(Vec<Problem>),
}

/// The plan for these inputs, all of whose errors are found before anything is recorded.
pub async fn concrete(
    evaluator: &Evaluator,
    sources: &Sources,
    pipeline: &Pipeline,
    event: &EventFacts,
    given: &Map<String, Value>,
) -> Result<Plan, Refused> {
    let typed = inputs::parse(&pipeline.inputs, given).map_err(Refused::Inputs)?;
    if pipeline.inputs.values().any(|spec| spec.validate) {
        validated(evaluator, sources, pipeline, event, &typed).await?;
    }
    instantiate(pipeline, event, typed).map_err(Refused::Definition)
}

/// Asks the file's own `validate` functions.
async fn validated(
    evaluator: &Evaluator,
    sources: &Sources,
    pipeline: &Pipeline,
    event: &EventFacts,
    typed: &Map<String, Value>,
) -> Result<(), Refused> {
    let request = Request {
        sources: sources.clone(),
        file: pipeline.file.clone(),
        event: event.clone(),
        question: Question::Validate { inputs: typed.clone() },
    };
    let response = evaluator.ask(&request).await;
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
            Err(Refused::Definition(reasons(response.problems, &pipeline.file)))
        }
    }
}

fn reasons(problems: Vec<Problem>, file: &str) -> Vec<Problem> {
    if problems.iter().any(Problem::is_error) {
        return problems;
    }
    vec![Problem::error("config.evaluator_crashed", "the evaluator gave no answer").at(Location::line(file, 1))]
}
