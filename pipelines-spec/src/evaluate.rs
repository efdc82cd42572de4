//! The one door to the language: a request and an answer, both plain JSON, so that evaluation can happen in a confined
//! process of its own (`rivet evaluate-definition` reads one [`Request`] on stdin and writes one [`Response`] to stdout).

use crate::instantiate::unknown_names;
use crate::lua::failure::complete_columns;
use crate::lua::sandbox::TIME_LIMIT;
use crate::lua::{self, Definition, Evaluation, LuaLanguage};
use crate::plan::{Condition, Pipeline};
use crate::problem::{Location, Problem};
use crate::protocol::Sources;
use crate::raw::Node;
use crate::toml_front;
use crate::trigger::EventFacts;
use crate::validate::{self, Dialect};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is asked of the evaluator about one file of a commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// All definition files at the commit.
    pub sources: Sources,
    /// The file, a key of `sources`.
    pub file: String,
    /// What the file may read as `event`.
    pub event: EventFacts,
    /// The question.
    pub question: Question,
}

/// The question.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// What does the file define?
    Pipeline,
    /// Does the stage's condition hold?
    Condition {
        /// The stage's name in the file.
        stage: String,
        /// What it may look at.
        context: Context,
    },
    /// What are the values of the axes that are functions?
    Axes {
        /// The stage's name in the file.
        stage: String,
        /// What they may look at.
        context: Context,
    },
    /// What do the file's `validate` functions say of these typed inputs?
    Validate {
        /// The typed inputs.
        inputs: Map<String, Value>,
    },
}

/// What conditions and axis functions may look at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Context {
    /// Typed inputs.
    #[serde(default)]
    pub inputs: Map<String, Value>,
    /// As [`crate::protocol::Job::needs`].
    #[serde(default)]
    pub needs: Map<String, Value>,
    /// The leg's values.
    #[serde(default)]
    pub matrix: Map<String, Value>,
}

/// The answer. `problems` may hold warnings beside a value; errors mean there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Response {
    /// What was asked for.
    pub answer: Option<Answer>,
    /// What is wrong.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// The answer's value, of the question's kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The definition.
    Pipeline {
        /// It.
        pipeline: Box<Pipeline>,
    },
    /// Whether the condition holds.
    Condition {
        /// It.
        holds: bool,
    },
    /// Values of every function axis, by name.
    Axes {
        /// Them.
        axes: std::collections::BTreeMap<String, Vec<Value>>,
    },
    /// What is wrong with inputs, by input name; empty: nothing.
    Validate {
        /// Them.
        errors: std::collections::BTreeMap<String, String>,
    },
}

/// Answers a request. Pure: the same request always gets the same answer, unless its time or memory ran out.
pub fn evaluate(request: &Request) -> Response {
    evaluate_within(request, TIME_LIMIT)
}

/// [`evaluate`] with another limit on its time.
pub fn evaluate_within(request: &Request, limit: Duration) -> Response {
    let start = Instant::now();
    let (answer, mut problems) = match Evaluation::new(start, limit) {
        Ok(evaluation) => answer(request, &evaluation),
        Err(problem) => (None, vec![problem]),
    };
    for problem in problems.iter_mut().filter(|problem| problem.at.is_none()) {
        problem.at = Some(Location::line(&request.file, 1));
    }
    complete_columns(&mut problems, &request.sources);
    Response { answer, problems }
}

/// A definition file's text, or what is wrong with its bytes.
pub fn decode(file: &str, bytes: &[u8]) -> Result<String, Problem> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
        let offset = error.valid_up_to();
        let before = String::from_utf8_lossy(&bytes[..offset]);
        let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count());
        let at = Location { file: file.to_owned(), line: number(before.matches('\n').count()), column: number(column) };
        let byte = bytes.get(offset).copied().unwrap_or_default();
        Problem::error("config.encoding", format!("byte 0x{byte:02x} at offset {offset} is not UTF-8.")).at(at)
    })
}

/// A file as far as it has been understood.
enum Loaded {
    Lua(Definition),
    Toml(Node),
}

fn answer(request: &Request, evaluation: &Evaluation) -> (Option<Answer>, Vec<Problem>) {
    let loaded = match load(request, evaluation) {
        Ok(loaded) => loaded,
        Err(problem) => return (None, vec![problem]),
    };
    match &request.question {
        Question::Pipeline => match pipeline(request, evaluation, &loaded) {
            Ok((pipeline, problems)) => {
                (pipeline.map(|pipeline| Answer::Pipeline { pipeline: Box::new(pipeline) }), problems)
            }
            Err(problem) => (None, vec![problem]),
        },
        Question::Condition { stage, context } => condition(request, evaluation, &loaded, stage, context),
        Question::Axes { stage, context } => alone(
            match &loaded {
                Loaded::Lua(definition) => lua::axes(evaluation, definition, stage, &request.event, context),
                Loaded::Toml(_) => Ok(BTreeMap::new()),
            }
            .map(|axes| Answer::Axes { axes }),
        ),
        Question::Validate { inputs } => alone(
            match &loaded {
                Loaded::Lua(definition) => lua::validate(evaluation, definition, &request.event, inputs),
                Loaded::Toml(_) => Ok(BTreeMap::new()),
            }
            .map(|errors| Answer::Validate { errors }),
        ),
    }
}

fn alone(answer: Result<Answer, Problem>) -> (Option<Answer>, Vec<Problem>) {
    match answer {
        Ok(answer) => (Some(answer), Vec::new()),
        Err(problem) => (None, vec![problem]),
    }
}

fn load(request: &Request, evaluation: &Evaluation) -> Result<Loaded, Problem> {
    let Request { sources, file, event, .. } = request;
    let source = lua::check_sources(sources, file)?;
    if file.ends_with(".toml") {
        evaluation.prepare(sources, event)?;
        return toml_front::read(file, lua::without_mark(source)).map(Loaded::Toml);
    }
    evaluation.load(sources, file, event).map(Loaded::Lua)
}

fn pipeline(
    request: &Request,
    evaluation: &Evaluation,
    loaded: &Loaded,
) -> Result<(Option<Pipeline>, Vec<Problem>), Problem> {
    let language = LuaLanguage(evaluation);
    let (found, mut problems) = match loaded {
        Loaded::Lua(definition) => {
            validate::pipeline(&definition.node(&request.sources)?, Dialect::Lua, &language, &request.file)
        }
        Loaded::Toml(node) => validate::pipeline(node, Dialect::Toml, &language, &request.file),
    };
    let Some(found) = found else { return Ok((None, problems)) };
    let mut unknown = unknown_names(&found, &request.event);
    unknown.iter_mut().for_each(|problem| point_at_name(problem, &request.sources));
    // What stands in the pipeline's own strings is found again in every stage.
    unknown.sort_by(|a, b| (&a.at, &a.message).cmp(&(&b.at, &b.message)));
    unknown.dedup();
    let good = unknown.is_empty();
    problems.extend(unknown);
    Ok((good.then_some(found), problems))
}

/// Moves a problem with `${NAME}` from the stage to where the name is written, if it is written out below it.
fn point_at_name(problem: &mut Problem, sources: &Sources) {
    let Some(at) = &mut problem.at else { return };
    let name = problem.message.split_once("${").and_then(|(_, rest)| rest.split_once('}'));
    let (Some((name, _)), Some(source)) = (name, sources.get(&at.file)) else { return };
    let written = format!("${{{name}}}");
    let lines = || (1..).zip(source.lines());
    let below = lines().skip(at.line.saturating_sub(1) as usize);
    let found =
        below.chain(lines()).find_map(|(line, text)| Some((line, text[..text.find(&written)?].chars().count())));
    if let Some((line, before)) = found {
        at.line = line;
        at.column = u32::try_from(before + 1).unwrap_or(0);
    }
}

fn condition(
    request: &Request,
    evaluation: &Evaluation,
    loaded: &Loaded,
    stage: &str,
    context: &Context,
) -> (Option<Answer>, Vec<Problem>) {
    let found = match pipeline(request, evaluation, loaded) {
        Ok((Some(pipeline), _)) => pipeline.stages.into_iter().find(|found| found.name == stage),
        Ok((None, problems)) => return (None, problems),
        Err(problem) => return (None, vec![problem]),
    };
    let Some(found) = found else {
        let text = format!("{} has no stage '{stage}'.", request.file);
        return (None, vec![Problem::error("plan.unknown_stage", text)]);
    };
    let function = match (&found.condition, loaded) {
        (None, _) => return (Some(Answer::Condition { holds: true }), Vec::new()),
        (Some(Condition::Expression { expression }), _) => lua::expression(evaluation, expression),
        (Some(Condition::Function), Loaded::Lua(definition)) => lua::condition_function(definition, stage),
        (Some(Condition::Function), Loaded::Toml(_)) => {
            Err(Problem::error("plan.missing", "a TOML file has no functions."))
        }
    };
    let holds = function.and_then(|function| lua::condition(evaluation, &function, &request.event, context));
    alone(holds.map(|holds| Answer::Condition { holds }).map_err(|mut problem| {
        problem.at = problem.at.or(found.at);
        problem
    }))
}
